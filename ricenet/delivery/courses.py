"""Find out which doses deliver which plan: every RTDOSE and RTPLAN of a patient in, one course for each plan out.

By DoseSummationType (DICOM PS3.3 table C.8-39): PLAN and MULTI_PLAN are whole; FRACTION and BEAM are the whole delivery
of a fraction group or of some beams and count where together they make the plan whole; a *_SESSION is one session and
counts as often as its fraction group is planned. What is ambiguous or incomplete is refused by name, not guessed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ricenet.delivery.ingest_record import DoseRecord, RejectedDose
from ricenet.delivery.rtdose import DoseGrid
from ricenet.delivery.rtplan import RtPlan
from ricenet.errors import InvalidInput

WHOLE = ("MULTI_PLAN", "PLAN")
READ = (*WHOLE, "FRACTION", "BEAM", "FRACTION_SESSION", "BEAM_SESSION")  # the first that makes a plan whole counts
DELIVER_WHOLE = "deliver the whole dose of every plan (DoseSummationType PLAN), and nothing of other plans"
Number = TypeVar("Number", int, float)


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
    """A patient's RT objects, numbered in the order of their UIDs; `rejected` fills while they are sorted out.

    fractions, prescription_gy: of the whole treatment, as the label table says; they stand in for a sole plan's.
    """

    plans: dict[str, RtPlan]
    plan_number: dict[str, int]
    doses: dict[int, DoseGrid]
    fractions: int | None
    prescription_gy: float | None
    rejected: list[RejectedDose] = field(default_factory=list)

    def describe(self, number: int) -> DoseRecord:
        """What the record says of a dose."""
        dose = self.doses[number]
        return DoseRecord(
            dose=number,
            plans=[self.plan_number[uid] for uid in dose.plans],
            summation=dose.summation or "absent",
            max_gy=round(float(dose.volume.voxels.max()), 3),
        )

    def approvals(self, number: int) -> set[str]:
        """The approval of the plans that a dose refers to; "" for one that is not there."""
        return {self.plans[uid].approval if uid in self.plans else "" for uid in self.doses[number].plans}

    def refusal(self, code: str, message: str, hint: str = DELIVER_WHOLE) -> InvalidInput:
        return InvalidInput(message, hint, code=f"treatment.{code}")


def number_objects(
    doses: Sequence[DoseGrid],
    plans: Sequence[RtPlan],
    fractions: int | None,
    prescription_gy: float | None,
) -> PatientDoses:
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
        fractions,
        prescription_gy,
    )


def find_courses(patient: PatientDoses) -> list[Course]:
    """One course for each MULTI_PLAN dose and for each plan outside these; `patient.rejected` says why not the others.

    Raises:
        InvalidInput: ambiguous doses, a plan whose doses do not make it whole, sessions of unknown number, no dose.
    """
    doses = _usable(patient)
    _require_clear_references(patient, doses)
    holder = {uid: n for n, dose in doses.items() if dose.summation == "MULTI_PLAN" for uid in dose.plans}
    held = {n: holder[dose.plans[0]] for n, dose in doses.items() if dose.plans and dose.plans[0] in holder}
    held = {n: by for n, by in held.items() if n != by}
    doses = _without(patient, doses, {n: f"MULTI_PLAN dose {by} holds its plan" for n, by in held.items()})
    by_plans = {dose.plans: {n: d for n, d in doses.items() if d.plans == dose.plans} for dose in doses.values()}
    attempts = [_course(patient, plans, group, sole=len(by_plans) == 1) for plans, group in by_plans.items()]
    courses = [course for course in attempts if course is not None]
    if not attempts or len(courses) < len(attempts):
        reasons = [f"dose {each.dose} ({each.summation}): {each.reason}" for each in patient.rejected]
        message = f"expected the whole dose of every plan, got {'; '.join(reasons) or 'no dose at all'}"
        raise patient.refusal("incomplete" if courses else "nothing_usable", message)
    return courses


def _require_clear_references(patient: PatientDoses, doses: dict[int, DoseGrid]) -> None:
    """Refuse MULTI_PLAN doses that share a plan, and doses without a plan beside doses with one."""
    multi_plan = {number: dose.plans for number, dose in doses.items() if dose.summation == "MULTI_PLAN"}
    references = Counter(uid for plans in multi_plan.values() for uid in plans)
    sharing = [number for number, plans in multi_plan.items() if any(references[uid] > 1 for uid in plans)]
    if sharing:
        message = f"ambiguous: MULTI_PLAN doses {', '.join(map(str, sharing))} refer to the same plan"
        raise patient.refusal("ambiguous", message)
    without_plan = [number for number, dose in doses.items() if not dose.plans]
    if 0 < len(without_plan) < len(doses):
        message = f"ambiguous: no reference to a plan in dose {', '.join(map(str, without_plan))}, but in the others"
        raise patient.refusal("ambiguous", message)


def sum_if_known(numbers: Iterable[Number | None]) -> Number | None:
    """The sum, or None where one of the numbers is unknown or there is none."""
    terms = list(numbers)
    return sum(terms) if terms and None not in terms else None  # type: ignore[arg-type]


def _usable(patient: PatientDoses) -> dict[int, DoseGrid]:
    """The doses without copies, other summation types, rejected plans, and unapproved plans beside approved ones."""
    doses = _without(patient, patient.doses, _copies(patient))
    doses = _without(patient, doses, {number: _unread(dose) for number, dose in doses.items()})
    doses = _without(patient, doses, {n: "its plan is REJECTED" for n in doses if "REJECTED" in patient.approvals(n)})
    if any(patient.approvals(number) == {"APPROVED"} for number in doses):
        reason = "its plan is UNAPPROVED and another is approved"
        doses = _without(patient, doses, {n: reason for n in doses if "UNAPPROVED" in patient.approvals(n)})
    return doses


def _without(patient: PatientDoses, doses: dict[int, DoseGrid], reasons: Mapping[int, str]) -> dict[int, DoseGrid]:
    patient.rejected += [
        RejectedDose(**dict(patient.describe(number)), reason=reason) for number, reason in reasons.items() if reason
    ]
    return {number: dose for number, dose in doses.items() if not reasons.get(number)}


def _copies(patient: PatientDoses) -> dict[int, str]:
    """Number -> reason, of each dose with the content of an earlier one."""
    first_with_uid: dict[str, int] = {}
    original: dict[str, int] = {}
    for number, dose in patient.doses.items():
        original.setdefault(dose.digest, number)
        first_with_uid.setdefault(dose.sop_instance, number)
        first = first_with_uid[dose.sop_instance]
        if patient.doses[first].digest != dose.digest:
            message = f"doses {first} and {number} have the same SOP Instance UID but differ"
            raise patient.refusal("uid_conflict", message, "remove the outdated file from the delivery")
    originals = {number: original[dose.digest] for number, dose in patient.doses.items()}
    return {number: f"copy of dose {same}" for number, same in originals.items() if same != number}


def _unread(dose: DoseGrid) -> str:
    if dose.summation not in READ:
        return f"DoseSummationType {dose.summation or 'absent'} is none of {', '.join(READ)}"
    if dose.summation != "MULTI_PLAN" and len(dose.plans) > 1:
        return f"refers to {len(dose.plans)} plans, a {dose.summation} dose belongs to one"
    return ""


def _course(patient: PatientDoses, plans: tuple[str, ...], doses: dict[int, DoseGrid], sole: bool) -> Course | None:
    """The first set of one plan's doses that is whole; `sole`: no other plan has doses."""
    delivered = [patient.plans.get(uid) for uid in plans]
    plan = delivered[0] if delivered else None
    for summation in READ:
        matching = {number: dose for number, dose in doses.items() if dose.summation == summation}
        missing = _missing(patient, summation, matching, plan) if matching else ""
        if missing:
            doses = _without(patient, doses, dict.fromkeys(matching, missing))
        elif matching:
            reason = f"its plan is whole with {summation} dose {', '.join(map(str, matching))}"
            _without(patient, doses, {number: reason for number in doses if number not in matching})
            fractions = sum_if_known(each.fractions if each else None for each in delivered)
            prescription_gy = sum_if_known(each.prescription_gy if each else None for each in delivered)
            return Course(
                plans,
                matching,
                {number: _times(patient, number, plan, sole) for number in matching},
                (sole and patient.fractions) or fractions,
                (sole and patient.prescription_gy) or prescription_gy,
            )
    return None


def _missing(patient: PatientDoses, summation: str, doses: dict[int, DoseGrid], plan: RtPlan | None) -> str:
    """Why doses of one plan and one summation type are not the plan's whole dose; "" where they are.

    Raises:
        InvalidInput: two of them hold the same.
    """
    parts = [_parts(dose, plan) for dose in doses.values()]
    held = Counter(part for of_dose in parts for part in of_dose)
    if max(held.values(), default=0) > 1:
        message = f"ambiguous: {summation} doses {', '.join(map(str, doses))} cover the same part of a plan but differ"
        raise patient.refusal("ambiguous", message, "deliver only the treated dose")
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
    if sole and len(groups) <= 1 and patient.fractions:
        return patient.fractions
    message = f"dose {number} is one session ({dose.summation}) of an unknown number"
    raise patient.refusal(
        "fractions_unknown", message, "deliver its RTPLAN, or give fractions (of the whole treatment)"
    )
