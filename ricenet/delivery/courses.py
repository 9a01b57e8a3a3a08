"""Find out which doses deliver which plan: every RTDOSE and RTPLAN of a patient in, one course for each plan out.

By DoseSummationType (DICOM PS3.3 table C.8-39): PLAN and MULTI_PLAN are whole; FRACTION and BEAM are the whole delivery
of a fraction group or of some beams and count where together they make the plan whole; a *_SESSION is one session and
counts as often as its fraction group is planned. What is ambiguous or incomplete is refused by name, not guessed.
Which courses make up the treatment is decided in ricenet.delivery.course_choice.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import combinations
from typing import TypeVar

import numpy as np

from ricenet.delivery.ingest_record import DoseRecord, RejectedDose
from ricenet.delivery.rtdose import DoseGrid
from ricenet.delivery.rtobject import rt_key
from ricenet.delivery.rtplan import RtPlan
from ricenet.errors import InvalidInput
from ricenet.images.volume import Volume, resample

WHOLE = ("MULTI_PLAN", "PLAN")
READ = (*WHOLE, "FRACTION", "BEAM", "FRACTION_SESSION", "BEAM_SESSION")  # the first that makes a plan whole counts
SAME_GY, SAME_MM = 0.01, 0.01  # grids that agree to this are one dose, exported twice
SAME_SUM = 0.01  # of the maximum: a sum on a grid of its own differs from ours by its interpolation
MAX_PARTS = 6  # of a sum without references: 63 ways to add them
CHOOSE = (
    "name the doses that were delivered as doses, or leave others out as exclude_doses (columns of the label table, "
    "keys of ricenet.predict; several with a space between them); ingest.json lists every RT object"
)
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class CaseContext:
    """What is known of a treatment besides its RT objects; None or empty where it is not.

    Attributes:
        fractions, prescription_gy: of the whole treatment, planned, as the label table says; Gy.
        delivered_fractions: where the treatment was stopped early.
        event: date of the event MRI: what was planned on this day or later is no part of the treatment.
        radiotherapy_start: first day, as the label table says.
        image_dates: frame of reference -> dates of the images in it, earliest first.
        doses, plans, exclude_doses: keys of RT objects, the user's choice.
        eqd2: whether each plan's dose is needed apart from the others'.
        dose_type: PHYSICAL or EFFECTIVE, which counts where a plan has both.
        key: of the pseudonyms; None: messages number doses and plans in the order of their UIDs.
    """

    fractions: int | None = None
    prescription_gy: float | None = None
    delivered_fractions: int | None = None
    event: date | None = None
    radiotherapy_start: date | None = None
    image_dates: Mapping[str, Sequence[date]] = field(default_factory=dict)
    doses: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()
    exclude_doses: tuple[str, ...] = ()
    eqd2: bool = False
    dose_type: str = "PHYSICAL"
    key: bytes | None = None

    @property
    def first_image(self) -> date | None:
        """The date of the patient's earliest image."""
        return min((day for dates in self.image_dates.values() for day in dates), default=None)


@dataclass(frozen=True, repr=False)  # no repr: it would print a patient
class Course:
    """What delivers one plan (for MULTI_PLAN several): its doses by number, and how often each of them counts."""

    plans: tuple[str, ...]
    doses: dict[int, DoseGrid]
    factors: dict[int, int]
    fractions: int | None
    prescription_gy: float | None


@dataclass(repr=False)
class PatientDoses:
    """A patient's RT objects, numbered in the order of their UIDs; `rejected` and `flags` fill on the way."""

    plans: dict[str, RtPlan]
    plan_number: dict[str, int]
    doses: dict[int, DoseGrid]
    context: CaseContext
    rejected: list[RejectedDose] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)

    def name(self, number: int) -> str:
        """What messages and records call a dose."""
        key = self.context.key
        return str(number) if key is None else rt_key("RTDOSE", self.doses[number].sop_instance, key)

    def names(self, numbers: Iterable[int]) -> str:
        """The names of several doses in one text."""
        return ", ".join(self.name(number) for number in numbers)

    def plan_name(self, uid: str) -> str:
        """What messages and records call a plan."""
        key = self.context.key
        return str(self.plan_number[uid]) if key is None else rt_key("RTPLAN", uid, key)

    def describe(self, number: int) -> DoseRecord:
        """What the record says of a dose."""
        dose = self.doses[number]
        return DoseRecord(
            dose=number,
            key="" if self.context.key is None else self.name(number),
            plans=[self.plan_number[uid] for uid in dose.plans],
            summation=dose.summation or "absent",
            max_gy=round(float(dose.volume.voxels.max()), 3),
        )

    def approvals(self, dose: DoseGrid) -> set[str]:
        """The approval of the plans that a dose refers to; "" for one that is not there."""
        return {self.plans[uid].approval if uid in self.plans else "" for uid in dose.plans}

    def plan_date(self, dose: DoseGrid) -> date | None:
        """The latest date of the plans that a dose refers to."""
        dates = [self.plans[uid].date for uid in dose.plans if uid in self.plans]
        return max((day for day in dates if day is not None), default=None)

    def image_date(self, dose: DoseGrid) -> date | None:
        """The date of the earliest image in the dose's frame of reference: nothing was planned before it."""
        return min(self.context.image_dates.get(dose.frame_of_reference, ()), default=None)

    def refusal(self, code: str, message: str, hint: str = CHOOSE) -> InvalidInput:
        return InvalidInput(message, hint, code=f"treatment.{code}")

    def reject(self, reasons: Mapping[int, str]) -> None:
        """Note why doses do not count."""
        self.rejected += [
            RejectedDose(**dict(self.describe(number)), reason=reason) for number, reason in reasons.items() if reason
        ]


def number_objects(doses: Sequence[DoseGrid], plans: Sequence[RtPlan], context: CaseContext) -> PatientDoses:
    """Number doses and plans; a plan that doses refer to has a number also where it was not delivered.

    Raises:
        InvalidInput: two plans have one SOP Instance UID and differ.
    """
    by_uid: dict[str, RtPlan] = {}
    for plan in plans:
        if by_uid.setdefault(plan.sop_instance, plan) != plan:
            message = "two RTPLANs have the same SOP Instance UID but differ"
            raise InvalidInput(message, "remove the outdated file from the delivery", code="treatment.uid_conflict")
    uids = sorted({*by_uid, *(uid for dose in doses for uid in dose.plans)})
    return PatientDoses(
        by_uid,
        {uid: number for number, uid in enumerate(uids, start=1)},
        dict(enumerate(sorted(doses, key=lambda dose: dose.sop_instance), start=1)),
        context,
    )


def find_courses(patient: PatientDoses) -> list[Course]:
    """One course for each MULTI_PLAN dose and for each plan outside these; `patient.rejected` says why not the others.

    Raises:
        InvalidInput: ambiguous doses, a plan whose doses do not make it whole, sessions of unknown number, no dose, or
            no dose that was planned before the event; a key of the user's choice that no object has.
    """
    doses = _usable(patient)
    doses = _without_parts_of_sums(patient, doses)
    groups: dict[tuple, dict[int, DoseGrid]] = {}
    for number, dose in doses.items():  # a whole dose without a plan stands for itself
        group = dose.plans or ((number,) if dose.summation in WHOLE else ())
        groups.setdefault(group, {})[number] = dose
    attempts = [_course(patient, group, sole=len(groups) == 1) for group in groups.values()]
    courses = [course for course in attempts if course is not None]
    if not attempts or len(courses) < len(attempts):
        reasons = [f"dose {each.key or each.dose} ({each.summation}): {each.reason}" for each in patient.rejected]
        message = f"expected the whole dose of every plan, got {'; '.join(reasons) or 'no dose at all'}"
        raise patient.refusal("incomplete" if courses else "nothing_usable", message)
    return courses


def sum_if_known(numbers: Iterable[Number | None]) -> Number | None:
    """The sum, or None where one of the numbers is unknown or there is none."""
    terms = list(numbers)
    return sum(terms) if terms and None not in terms else None  # type: ignore[arg-type]


def _usable(patient: PatientDoses) -> dict[int, DoseGrid]:
    """The doses that the user's choice, their type, their plans, the event's date and copies leave."""
    doses = _without(patient, patient.doses, _not_chosen(patient))
    doses = _without(patient, doses, _copies(patient, doses))
    doses = _without(patient, doses, {number: _unread(dose) for number, dose in doses.items()})
    doses = _without(patient, doses, _empty(doses))
    doses = _without(
        patient, doses, {n: "its plan is REJECTED" for n, d in doses.items() if "REJECTED" in patient.approvals(d)}
    )
    if not (patient.context.doses or patient.context.plans):
        doses = _without(patient, doses, _of_checks(patient, doses))
    doses = _with_references(patient, doses)
    doses = _without(patient, doses, _after_the_event(patient, doses))
    if any(dose.planes > 1 for dose in doses.values()):
        reason = "a single plane beside doses of several"
        doses = _without(patient, doses, {n: reason for n, dose in doses.items() if dose.planes == 1})
    doses = _without(patient, doses, _of_another_frame(patient, doses))
    doses = _without(patient, doses, _of_the_other_type(patient, doses))
    return _without(patient, doses, _same_voxels(patient, doses))


def _without(patient: PatientDoses, doses: dict[int, DoseGrid], reasons: Mapping[int, str]) -> dict[int, DoseGrid]:
    patient.reject(reasons)
    return {number: dose for number, dose in doses.items() if not reasons.get(number)}


def _not_chosen(patient: PatientDoses) -> dict[int, str]:
    """Number -> reason, by the keys that the user gave.

    Raises:
        InvalidInput: nothing has one of the keys.
    """
    context = patient.context
    of_doses = {patient.name(number) for number in patient.doses}
    of_plans = {patient.plan_name(uid) for uid in patient.plan_number}
    for column, keys, there in (
        ("doses", context.doses, of_doses),
        ("plans", context.plans, of_plans),
        ("exclude_doses", context.exclude_doses, of_doses),
    ):
        unknown = sorted(set(keys) - there)
        if unknown:
            message = f"{column} names {', '.join(unknown)}, which this patient does not have or which cannot be read"
            raise patient.refusal("unknown_object", message, f"{column} may name {', '.join(sorted(there)) or 'none'}")
    reasons = {}
    for number, dose in patient.doses.items():
        if patient.name(number) in context.exclude_doses:
            reasons[number] = "named in exclude_doses"
        elif context.doses and patient.name(number) not in context.doses:
            reasons[number] = "not named in doses"
        elif context.plans and not {patient.plan_name(uid) for uid in dose.plans} & set(context.plans):
            reasons[number] = "belongs to none of the plans named in plans"
    return reasons


def _copies(patient: PatientDoses, doses: Mapping[int, DoseGrid]) -> dict[int, str]:
    """Number -> reason, of each dose with the content of an earlier one."""
    first_with_uid: dict[str, int] = {}
    original: dict[str, int] = {}
    for number, dose in doses.items():
        original.setdefault(dose.digest, number)
        first_with_uid.setdefault(dose.sop_instance, number)
        first = first_with_uid[dose.sop_instance]
        if patient.doses[first].digest != dose.digest:
            message = f"two files of dose {patient.name(number)} have the same SOP Instance UID but differ"
            raise patient.refusal("uid_conflict", message, "remove the outdated file from the delivery")
    originals = {number: original[dose.digest] for number, dose in doses.items()}
    return {number: f"copy of dose {patient.name(same)}" for number, same in originals.items() if same != number}


def _unread(dose: DoseGrid) -> str:
    if dose.summation not in READ:
        return f"DoseSummationType {dose.summation or 'absent'} is none of {', '.join(READ)}"
    if dose.summation != "MULTI_PLAN" and len(dose.plans) > 1:
        return f"refers to {len(dose.plans)} plans, a {dose.summation} dose belongs to one"
    return ""


def _empty(doses: Mapping[int, DoseGrid]) -> dict[int, str]:
    """Number -> reason, of all-zero doses; one of a beam beside others stays: the plan is whole with what it lacks."""
    zero = {number: dose for number, dose in doses.items() if not dose.volume.voxels.any()}
    others = [dose for number, dose in doses.items() if number not in zero and dose.summation.startswith("BEAM")]
    plans = {dose.plans for dose in others}
    held = {(dose.plans, beam) for dose in others for beam in dose.beams}
    return {
        number: "holds no dose but zeros"
        for number, dose in zero.items()
        if not (dose.summation.startswith("BEAM") and dose.beams and dose.plans in plans)
        or any((dose.plans, beam) in held for beam in dose.beams)
    }


def _of_checks(patient: PatientDoses, doses: Mapping[int, DoseGrid]) -> dict[int, str]:
    """Number -> reason, of doses whose plans say that they check a treatment or a machine."""
    plans = {n: [patient.plans[uid] for uid in dose.plans if uid in patient.plans] for n, dose in doses.items()}
    checks = {number: [plan.intent for plan in of_dose if plan.is_check] for number, of_dose in plans.items()}
    return {number: f"its plan's intent is {intents[0]}" for number, intents in checks.items() if intents}


def _with_references(patient: PatientDoses, doses: dict[int, DoseGrid]) -> dict[int, DoseGrid]:
    """Doses that say no plan, with the plans that they can only belong to; the flags say so.

    Raises:
        InvalidInput: such a dose may belong to a plan that was made after the event.
    """
    doses = dict(doses)
    for number, dose in list(doses.items()):
        plans = _summed_plans(dose, doses) if dose.summation in WHOLE else ()
        if plans:
            doses[number] = patient.doses[number] = replace(dose, plans=plans, summation="MULTI_PLAN")
            patient.flags.append(f"dose {patient.name(number)}: is the sum of other doses")
    nameless = [number for number, dose in doses.items() if not dose.plans]
    referred = {uid for dose in patient.doses.values() for uid in dose.plans}
    free = [uid for uid, plan in patient.plans.items() if uid not in referred and plan.may_be_delivered]
    if len(nameless) == 1 and len(free) == 1 and doses[nameless[0]].summation != "MULTI_PLAN":
        (number,) = nameless
        doses[number] = patient.doses[number] = replace(doses[number], plans=(free[0],))
        patient.flags.append(
            f"dose {patient.name(number)}: refers to no plan, taken for plan {patient.plan_name(free[0])}"
        )
    elif nameless and any(_is_late(patient, patient.plans[uid].date) for uid in free):
        late = ", ".join(patient.plan_name(uid) for uid in free)
        message = (
            f"dose {patient.names(nameless)} refers to no plan, and may belong to one made after the event: {late}"
        )
        if not patient.context.doses:
            raise patient.refusal("ambiguous", message)
    return doses


def _summed_plans(total: DoseGrid, doses: Mapping[int, DoseGrid]) -> tuple[str, ...]:
    """The plans of the PLAN doses whose sum `total` is, though it does not say so; () where it is no sum of theirs."""
    parts = [
        dose
        for dose in doses.values()
        if dose.summation == "PLAN"
        and dose.plans
        and not set(dose.plans) & set(total.plans)
        and (dose.dose_type, dose.frame_of_reference) == (total.dose_type, total.frame_of_reference)
    ][:MAX_PARTS]
    grid = total.volume
    on_grid = [resample(part.volume, grid.voxels.shape, grid.world_from_voxel) for part in parts]
    tolerance_gy = max(SAME_GY, SAME_SUM * float(grid.voxels.max()))
    for count in range(2, len(parts) + 1):
        for some in combinations(range(len(parts)), count):
            difference = abs(sum(on_grid[n] for n in some) - grid.voxels)
            if np.percentile(difference, 99) <= tolerance_gy:  # the outermost voxels lie outside some grid
                return tuple(sorted({uid for n in some for uid in parts[n].plans}))
    return ()


def _is_late(patient: PatientDoses, day: date | None) -> bool:
    return day is not None and patient.context.event is not None and day >= patient.context.event


def _after_the_event(patient: PatientDoses, doses: Mapping[int, DoseGrid]) -> dict[int, str]:
    """Number -> reason, of doses that were planned after the event or cannot have been delivered by its day.

    They would tell the label: only a recurrence is irradiated again.

    Raises:
        InvalidInput: every dose was, or one that the user named.
    """
    event = patient.context.event
    late: dict[int, str] = {}
    for number, dose in doses.items():
        day = patient.plan_date(dose) or patient.image_date(dose)
        if day is None or event is None:
            continue
        days = (day - event).days
        if days >= 0:
            what = "planned" if patient.plan_date(dose) else "the images in its frame of reference are of"
            late[number] = f"{what} {days} days after the event"
        elif days + _least_days(patient, dose) >= 0:
            late[number] = f"planned {-days} days before the event, which its fractions outlast"
    if not late or (len(late) < len(doses) and not patient.context.doses):
        return late
    imaged_late = any(_is_late(patient, patient.image_date(doses[number])) for number in late)
    start = patient.context.radiotherapy_start
    if len(late) == len(doses) and not imaged_late and _is_early(patient, start):
        patient.flags += [f"dose {patient.name(n)}: {late[n]}, but radiotherapy_start is before it" for n in late]
        return {}
    listed = "; ".join(f"dose {patient.name(number)}: {reason}" for number, reason in late.items())
    hint = "correct event_date, or deliver the treatment that came before the event"
    raise patient.refusal(
        "after_the_event",
        f"expected a dose that was delivered before the event, got {listed}",
        hint if imaged_late else f"{hint}; where the plan's date is wrong, give radiotherapy_start",
    )


def _least_days(patient: PatientDoses, dose: DoseGrid) -> int:
    """How long after it was planned the last fraction of a dose is given at the earliest: with two of them a day."""
    fractions = [plan.fractions or 1 for uid, plan in patient.plans.items() if uid in dose.plans]
    return (max(fractions, default=1) - 1) // 2


def _is_early(patient: PatientDoses, day: date | None) -> bool:
    return day is not None and patient.context.event is not None and day < patient.context.event


def _of_another_frame(patient: PatientDoses, doses: Mapping[int, DoseGrid]) -> dict[int, str]:
    """Number -> reason, of doses that lie elsewhere than their plan, beside those that lie where it does."""

    def at_home(dose: DoseGrid) -> bool:
        return any(
            uid in patient.plans and patient.plans[uid].frame_of_reference == dose.frame_of_reference
            for uid in dose.plans
        )

    there = {uid for dose in doses.values() if at_home(dose) for uid in dose.plans}
    reason = "lies in another frame of reference than its plan, which has a dose in its own"
    return {n: reason for n, dose in doses.items() if not at_home(dose) and there & set(dose.plans)}


def _of_the_other_type(patient: PatientDoses, doses: Mapping[int, DoseGrid]) -> dict[int, str]:
    """Number -> reason, of EFFECTIVE doses beside PHYSICAL ones of the same plan (or the other way round)."""
    preferred = patient.context.dose_type
    there = {uid for dose in doses.values() if dose.dose_type == preferred for uid in dose.plans}
    reason = f"its plan has a {preferred} dose, too (dose_type)"
    return {n: reason for n, dose in doses.items() if dose.dose_type != preferred and there & set(dose.plans)}


def _same_voxels(patient: PatientDoses, doses: Mapping[int, DoseGrid]) -> dict[int, str]:
    """Number -> reason, of whole doses with the grid and the voxels of another: one dose, exported twice.

    Of such doses the one counts that an image and a plan belong to; doses that the user names all count.
    """
    reasons: dict[int, str] = {}
    if patient.context.doses:
        return reasons
    whole = [number for number, dose in doses.items() if dose.summation in WHOLE]
    whole.sort(
        key=lambda n: (
            doses[n].frame_of_reference not in patient.context.image_dates,
            -_approved(patient, doses[n]),
            n,
        )
    )
    for rank, number in enumerate(whole):
        for other in whole[:rank]:
            if other not in reasons and _alike(doses[number].volume, doses[other].volume):
                reasons[number] = f"has the voxels and the grid of dose {patient.name(other)}"
                break
    return reasons


def _approved(patient: PatientDoses, dose: DoseGrid) -> int:
    """2 where all its plans are approved, 1 where they are delivered, else 0."""
    if not all(uid in patient.plans for uid in dose.plans):
        return 0
    return 2 if patient.approvals(dose) == {"APPROVED"} else 1


def _alike(one: Volume, other: Volume) -> bool:
    return (
        one.voxels.shape == other.voxels.shape
        and bool(np.allclose(one.world_from_voxel, other.world_from_voxel, rtol=0, atol=SAME_MM))
        and float(abs(one.voxels - other.voxels).max()) <= SAME_GY
    )


def _without_parts_of_sums(patient: PatientDoses, doses: dict[int, DoseGrid]) -> dict[int, DoseGrid]:
    """MULTI_PLAN doses without the doses of their plans; the other way round where each plan is needed by itself.

    Raises:
        InvalidInput: MULTI_PLAN doses that share a plan.
    """
    sums = {number: set(dose.plans) for number, dose in doses.items() if dose.summation == "MULTI_PLAN"}
    if patient.context.eqd2:
        whole = {uid for dose in doses.values() if dose.summation == "PLAN" for uid in dose.plans}
        replaced = {
            n: "EQD2 needs the dose of each plan, and all are there"
            for n, uids in sums.items()
            if uids and uids <= whole
        }
        doses = _without(patient, doses, replaced)
        sums = {number: uids for number, uids in sums.items() if number not in replaced}
    references = Counter(uid for uids in sums.values() for uid in uids)
    sharing = [number for number, uids in sums.items() if any(references[uid] > 1 for uid in uids)]
    if sharing:
        message = f"ambiguous: MULTI_PLAN doses {patient.names(sharing)} refer to the same plan"
        raise patient.refusal("ambiguous", message)
    holder = {uid: number for number, uids in sums.items() for uid in uids}
    held = {n: holder[dose.plans[0]] for n, dose in doses.items() if dose.plans and dose.plans[0] in holder}
    reasons = {n: f"MULTI_PLAN dose {patient.name(by)} holds its plan" for n, by in held.items() if n != by}
    return _without(patient, doses, reasons)


def _course(patient: PatientDoses, doses: dict[int, DoseGrid], sole: bool) -> Course | None:
    """The first set of one plan's doses that is whole; `sole`: no other plan has doses."""
    plans = next(iter(doses.values())).plans
    delivered = [patient.plans.get(uid) for uid in plans]
    plan = delivered[0] if delivered else None
    for summation in READ:
        matching = {number: dose for number, dose in doses.items() if dose.summation == summation}
        missing = _missing(patient, summation, matching, plan) if matching else ""
        if missing:
            doses = _without(patient, doses, dict.fromkeys(matching, missing))
        elif matching:
            reason = f"its plan is whole with {summation} dose {patient.names(matching)}"
            _without(patient, doses, {number: reason for number in doses if number not in matching})
            return Course(
                plans,
                matching,
                {number: _times(patient, number, plan, sole) for number in matching},
                sum_if_known(each.fractions if each else None for each in delivered),
                sum_if_known(_prescription_gy(each) for each in delivered),
            )
    return None


def _prescription_gy(plan: RtPlan | None) -> float | None:
    """Of its targets, else of its beams; rounded, as beams' doses are sums of many decimals."""
    if plan is None or (plan.prescription_gy is None and plan.beam_dose_gy is None):
        return None
    return plan.prescription_gy or round(plan.beam_dose_gy or 0, 2) or None


def _missing(patient: PatientDoses, summation: str, doses: dict[int, DoseGrid], plan: RtPlan | None) -> str:
    """Why doses of one plan and one summation type are not the plan's whole dose; "" where they are.

    Raises:
        InvalidInput: two of them hold the same.
    """
    parts = [_parts(dose, plan) for dose in doses.values()]
    held = Counter(part for of_dose in parts for part in of_dose)
    if max(held.values(), default=0) > 1:
        message = f"ambiguous: {summation} doses {patient.names(doses)} cover the same part of a plan but differ"
        raise patient.refusal("ambiguous", message)
    if summation in WHOLE:
        return ""
    if plan is None:
        alone = summation == "FRACTION_SESSION" and len(doses) == 1
        return "" if alone else "without its RTPLAN it is unknown whether it is the whole dose"
    planned: set[tuple[int, ...]] = {(number,) for number in plan.groups}
    if summation.startswith("BEAM"):
        planned = {(number, beam) for number, group in plan.groups.items() for beam in group.beams}
    what = "beams" if summation.startswith("BEAM") else "fraction groups"
    if not all(parts):
        return f"a {summation} dose of its plan does not say which {what} it holds"
    if not planned or held.keys() - planned:
        return f"its RTPLAN does not list the {what} that {summation} doses refer to"
    absent = planned - held.keys()
    return f"{len(absent)} of its plan's {len(planned)} {what} have no {summation} dose" if absent else ""


def _parts(dose: DoseGrid, plan: RtPlan | None) -> set[tuple[int, ...]]:
    """What of its plan a dose holds: (fraction group, beam)s, (fraction group,)s, or () for all of it."""
    if dose.summation in WHOLE:
        return {()}
    if dose.summation.startswith("BEAM"):
        return set(dose.beams)
    sole_group = plan.groups if plan is not None and len(plan.groups) == 1 else ()
    return {(group,) for group in dose.fraction_groups or sole_group}


def _times(patient: PatientDoses, number: int, plan: RtPlan | None, sole: bool) -> int:
    """How often a dose counts: the planned sessions of its fraction group for a *_SESSION, else once."""
    dose = patient.doses[number]
    if not dose.summation.endswith("_SESSION"):
        return 1
    groups = plan.groups if plan is not None else {}
    planned = {groups[part[0]].fractions for part in _parts(dose, plan) if part[0] in groups}
    if len(planned) == 1 and (sessions := planned.pop()) is not None:
        return sessions
    if sole and len(groups) <= 1 and patient.context.fractions:
        return patient.context.fractions
    message = f"dose {patient.name(number)} is one session ({dose.summation}) of an unknown number"
    hint = "deliver its RTPLAN, or give fractions (of the whole treatment)"
    raise patient.refusal("fractions_unknown", message, hint)
