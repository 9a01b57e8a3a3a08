"""Sum the dose of a whole treatment: every RTDOSE and RTPLAN of a patient in, its cumulative dose in Gy out.

Treatment.used and .rejected number doses and plans in the order of their UIDs and contain no UID.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ricenet.cohort.ingest_record import RejectedDose, UsedDose
from ricenet.delivery.course_choice import MAX_DAYS_APART, SAME_PRESCRIPTION, choose_courses, require_nothing_missing
from ricenet.delivery.courses import Course, dose_numbers, find_courses, sum_if_known
from ricenet.delivery.patient_doses import CHOOSE, CaseContext, PatientDoses, number_objects
from ricenet.delivery.rtdose import DoseGrid
from ricenet.delivery.rtplan import RtPlan
from ricenet.errors import InvalidInput
from ricenet.images.dose_limits import DoseLimits, check_highest, dose_warnings, nearest_sum, without_noise
from ricenet.images.dose_sum import add, eqd2
from ricenet.images.volume import Volume


@dataclass(frozen=True)
class DosePart:
    """The sum of the doses of one frame of reference (a UID), in Gy, on a grid that covers them all."""

    frame_of_reference: str
    volume: Volume


@dataclass(frozen=True)
class Treatment:
    """The dose of the whole treatment.

    Attributes:
        parts: one for each frame of reference, highest maximum first; Gy, EQD2 if alpha_beta was given. Where there are
            several, their planning images have to be registered before they can be added.
        prescription_gy: in the same quantity as the parts.
        fractions: of the whole treatment, as delivered.
        plans: UIDs of the plans that count.
        used, rejected: every RTDOSE is in exactly one of them.
        flags: remarks for the reviewer.
    """

    parts: list[DosePart]
    plans: tuple[str, ...]
    prescription_gy: float | None
    fractions: int | None
    used: list[UsedDose]
    rejected: list[RejectedDose]
    flags: list[str]

    @property
    def volume(self) -> Volume:
        """The dose of the only frame of reference, or of the first."""
        return self.parts[0].volume

    @property
    def frame_of_reference(self) -> str:
        """UID of the only frame of reference, or of the first."""
        return self.parts[0].frame_of_reference


def combine_doses(
    doses: Sequence[DoseGrid],
    plans: Sequence[RtPlan] = (),
    *,
    fractions: int | None = None,
    prescription_gy: float | None = None,
    alpha_beta: float | None = None,
    limits: DoseLimits | None = None,
    context: CaseContext | None = None,
) -> Treatment:
    """Sum the doses that make up the whole treatment, each plan once.

    Args:
        doses: every RTDOSE of the patient.
        plans: every RTPLAN. A dose whose RTPLAN is missing is used only if its summation type already covers the
            whole plan, or if it is the only session of a plan whose number of fractions is known.
        fractions: of the whole treatment, from the label table; default: the plans'.
        prescription_gy: total prescribed physical dose in Gy, from the label table; default: sum over the plans.
        alpha_beta: Gy; each plan's dose D in n fractions becomes EQD2 = D (D/n + a/b) / (2 + a/b) before the sum.
            None: physical dose.
        limits: of the physical dose; None: the default preset.
        context: what else is known (dates, the user's choice); `fractions` and `prescription_gy` overrule its own.

    Raises:
        InvalidInput: as `sum_treatment`.
    """
    context = context or CaseContext()
    context = replace(
        context,
        fractions=fractions or context.fractions,
        prescription_gy=prescription_gy or context.prescription_gy,
        eqd2=alpha_beta is not None,
    )
    return sum_treatment(number_objects(doses, plans, context), alpha_beta, limits)


def sum_treatment(patient: PatientDoses, alpha_beta: float | None, limits: DoseLimits | None = None) -> Treatment:
    """The same, of objects that are numbered; where it is refused, `patient.rejected` tells what was decided.

    Raises:
        InvalidInput: as ricenet.delivery.courses.find_courses and ricenet.delivery.course_choice.choose_courses;
            fractions, a prescription or a start of radiotherapy that the plans contradict; EQD2 without each plan's
            dose and fractions; a physical sum that no treatment has (see ricenet.images.dose_limits.check_dose).
    """
    courses = choose_courses(patient, find_courses(patient))
    require_nothing_missing(patient, courses)
    _require_the_start(patient, courses)
    planned = _planned_fractions(patient, courses)
    share = _delivered_share(patient, courses, planned)
    fractions = planned if share == 1 else patient.context.delivered_fractions
    totals = [add([(dose.volume, course.factors[n] * share) for n, dose in course.doses.items()]) for course in courses]
    physical_gy = _prescribed(patient, courses, share)
    parts = _parts(courses, totals)
    with _named(patient, courses):
        parts = [replace(part, volume=without_noise(part.volume)) for part in parts]
        # Maxima in several frames may lie in different places: the sum is checked once more on the post-OP MRI's grid.
        highest_gy = nearest_sum([float(part.volume.voxels.max()) for part in parts], physical_gy)
        check_highest(highest_gy, physical_gy, fractions, limits)
    unusual = dose_warnings(highest_gy, physical_gy, fractions, limits)
    prescribed = physical_gy
    if alpha_beta is not None:
        of_course = [_fractions(patient, courses, course, share) for course in courses]
        parts = _parts(courses, [
            Volume(eqd2(total.voxels, number, alpha_beta), total.world_from_voxel)
            for total, number in zip(totals, of_course, strict=True)
        ])  # fmt: skip
        prescribed = _equivalent(patient, courses, of_course, alpha_beta, share)
    return Treatment(
        parts=parts,
        plans=tuple(uid for course in courses for uid in course.plans),
        prescription_gy=prescribed,
        fractions=fractions,
        used=[
            UsedDose(
                **dict(patient.describe(number)), factor=course.factors[number] * share, fractions=course.fractions
            )
            for course in courses
            for number in course.doses
        ],
        rejected=sorted(patient.rejected, key=lambda row: row.dose),
        flags=[*patient.flags, *_flags(patient, courses, alpha_beta), *(finding.message for finding in unusual)],
    )


@contextmanager
def _named(patient: PatientDoses, courses: Sequence[Course]) -> Iterator[None]:
    """Let what is wrong with a sum say of which doses it is."""
    try:
        yield
    except InvalidInput as problem:
        doses = patient.names(dose_numbers(courses))
        hint = f"{problem.hint}; or {CHOOSE}" if patient.rejected or len(courses) > 1 else problem.hint
        raise InvalidInput(f"dose {doses}: {problem.message}", hint, code=problem.code) from None


def _parts(courses: Sequence[Course], totals: Sequence[Volume]) -> list[DosePart]:
    """The courses' totals summed by frame of reference."""
    frames: dict[str, list[Volume]] = {}
    for course, total in zip(courses, totals, strict=True):
        frames.setdefault(next(iter(course.doses.values())).frame_of_reference, []).append(total)
    parts = [DosePart(frame, add([(volume, 1) for volume in volumes])) for frame, volumes in frames.items()]
    return sorted(parts, key=lambda part: -float(part.volume.voxels.max()))


def _planned_fractions(patient: PatientDoses, courses: Sequence[Course]) -> int | None:
    """Of all courses together.

    Raises:
        InvalidInput: the label table says another number than the plans.
    """
    given, planned = patient.context.fractions, sum_if_known(course.fractions for course in courses)
    delivered = patient.context.delivered_fractions
    if given is None or planned is None or given in (planned, delivered):
        return planned or given
    if len(courses) == 1 and given in _concurrent_fractions(patient, courses[0]):
        return given
    doses = patient.names(dose_numbers(courses))
    message = f"the label table says {given} fractions, the plan of dose {doses} has {planned}"
    if patient.context.is_chosen:
        patient.flags.append(message)
        return given
    hint = (
        "correct fractions; where the treatment was stopped early, give delivered_fractions: the dose is scaled by it"
    )
    raise patient.refusal("fractions_differ", message, _or_choose(patient, hint))


def _or_choose(patient: PatientDoses, hint: str) -> str:
    """With what was left out, which may be what is missing."""
    others = ", ".join(f"{row.key or row.dose} ({row.reason})" for row in patient.rejected)
    return f"{hint}; left out: dose {others}; {CHOOSE}" if others else f"{hint}; or {CHOOSE}"


def _require_the_start(patient: PatientDoses, courses: Sequence[Course]) -> None:
    """Refuse a treatment that was planned long before radiotherapy began.

    Raises:
        InvalidInput: so it is, and the user does not say that it is the one.
    """
    start = patient.context.radiotherapy_start
    if start is None or patient.context.is_chosen:
        return
    for number, dose in ((n, dose) for course in courses for n, dose in course.doses.items()):
        day = patient.plan_date(dose)
        if day is not None and (start - day).days > MAX_DAYS_APART:
            message = f"dose {patient.name(number)} was planned {(start - day).days} days before radiotherapy_start"
            raise patient.refusal("start_differs", message, f"correct radiotherapy_start, or {CHOOSE}")


def _concurrent_fractions(patient: PatientDoses, course: Course) -> set[int | None]:
    """What all fraction groups of the course's plan have: they may be given on the same days."""
    groups = [group for uid in course.plans if uid in patient.plans for group in patient.plans[uid].groups.values()]
    fractions = {group.fractions for group in groups}
    return fractions if len(groups) > 1 and len(fractions) == 1 else set()


def _delivered_share(patient: PatientDoses, courses: Sequence[Course], planned: int | None) -> float:
    """Of the planned dose, by fractions; 1 where the table does not say that the treatment was stopped early."""
    delivered = patient.context.delivered_fractions
    if delivered is None or delivered == planned:
        return 1
    if planned is None or delivered > planned or len(courses) > 1:
        what = f"{len(courses)} plans" if len(courses) > 1 else f"a plan of {planned or 'unknown'} fractions"
        doses = patient.names(dose_numbers(courses))
        message = f"cannot scale {what} to {delivered} delivered fractions: dose {doses}"
        hint = "give fractions (as planned), or name the doses that were delivered whole as doses and leave it empty"
        raise patient.refusal("delivered_fractions", message, hint)
    patient.flags.append(f"scaled to {delivered} of {planned} planned fractions")
    return delivered / planned


def _prescribed(patient: PatientDoses, courses: Sequence[Course], share: float) -> float | None:
    """Physical, Gy, as delivered; of the label table before the plans."""
    given, planned = patient.context.prescription_gy, sum_if_known(course.prescription_gy for course in courses)
    if given is None:
        return None if planned is None else planned * share
    opinions = {planned, sum_if_known(course.beams_gy for course in courses)} - {None}
    if opinions and all(abs(gy / given - 1) > SAME_PRESCRIPTION for gy in opinions if gy) and share == 1:
        doses = patient.names(dose_numbers(courses))
        message = f"the label table says {given:g} Gy, the plan of dose {doses} has {planned:g} Gy"
        if not patient.context.is_chosen:
            raise patient.refusal("prescription_differs", message, _or_choose(patient, "correct prescription_gy"))
        patient.flags.append(message)
    # A table that gives what was delivered beside what was planned may mean either with its prescription.
    as_delivered = planned is not None and abs(planned * share / given - 1) <= SAME_PRESCRIPTION
    return given if as_delivered else given * share


def _fractions(patient: PatientDoses, courses: Sequence[Course], course: Course, share: float) -> int:
    """Delivered fractions of one plan, for EQD2."""
    given = patient.context.fractions if len(courses) == 1 else None
    planned = given if given in _concurrent_fractions(patient, course) else course.fractions or given
    if planned is None or len(course.plans) > 1:
        doses = patient.names(course.doses)
        message = f"EQD2 needs the dose and the fractions of each plan, which are unknown for dose {doses}"
        hint = "deliver PLAN doses with their RTPLANs, or give fractions (of the whole treatment)"
        raise patient.refusal("eqd2", message, hint)
    return round(planned * share)


def _equivalent(
    patient: PatientDoses, courses: Sequence[Course], fractions: Sequence[int], alpha_beta: float, share: float
) -> float | None:
    """The prescription as EQD2."""
    if len(courses) == 1 and patient.context.prescription_gy is not None:
        physical_gy = _prescribed(patient, courses, share)
        return None if physical_gy is None else eqd2(physical_gy, fractions[0], alpha_beta)
    return sum_if_known(
        None if course.prescription_gy is None else eqd2(course.prescription_gy * share, number, alpha_beta)
        for course, number in zip(courses, fractions, strict=True)
    )


def _flags(patient: PatientDoses, courses: Sequence[Course], alpha_beta: float | None) -> list[str]:
    used = {number: dose for course in courses for number, dose in course.doses.items()}
    flags = [
        f"dose {patient.name(n)}: EFFECTIVE, weighted by biological effect"
        for n, dose in used.items()
        if dose.dose_type != "PHYSICAL"
    ]
    for uid in sorted({uid for dose in used.values() for uid in dose.plans} | patient.plans.keys()):
        flags += [f"plan {patient.plan_name(uid)}: {text}" for text in _plan_flags(patient, uid, used, alpha_beta)]
    return flags


def _plan_flags(patient: PatientDoses, uid: str, used: dict[int, DoseGrid], alpha_beta: float | None) -> list[str]:
    plan = patient.plans.get(uid)
    counted = any(uid in dose.plans for dose in used.values())
    if plan is None:
        return ["not delivered; its fractions, prescription and approval are unknown"]
    if plan.approval == "REJECTED":
        return ["REJECTED, not counted"]
    if not counted:
        dose_there = any(uid in dose.plans for dose in patient.doses.values())
        unapproved = ["UNAPPROVED, not counted"] if plan.approval == "UNAPPROVED" else []
        return unapproved if dose_there else ["without any dose, not counted"]
    flags = []
    if plan.date is not None and patient.date_of(plan) is None:
        flags.append("its date lies before every image and is not used")
    if plan.prescription_gy is None and plan.beam_dose_gy is not None:
        flags.append(f"its prescription of {plan.beam_dose_gy:.4g} Gy is that of its beams (BeamDose x fractions)")
    if alpha_beta is not None and len(plan.groups) > 1:
        flags.append(f"EQD2 takes its {len(plan.groups)} fraction groups for one schedule of equal fractions")
    return flags
