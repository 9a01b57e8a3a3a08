"""Find out which doses deliver which plan: every RTDOSE and RTPLAN of a patient in, one course for each plan out.

By DoseSummationType (DICOM PS3.3 table C.8-39): PLAN and MULTI_PLAN are whole; FRACTION and BEAM are the whole delivery
of a fraction group or of some beams and count where together they make the plan whole; a *_SESSION is one session and
counts as often as its fraction group is planned. What is ambiguous or incomplete is refused by name, not guessed.
Which courses make up the treatment is decided in ricenet.delivery.course_choice.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from ricenet.delivery.patient_doses import READ, WHOLE, PatientDoses
from ricenet.delivery.rtdose import DoseGrid
from ricenet.delivery.rtplan import RtPlan
from ricenet.delivery.usable_doses import usable_doses

# Hot spots on the one hand, a boost elsewhere on the other.
MAXIMUM_OVER_PRESCRIPTION = (0.8, 1.25)
Number = TypeVar("Number", int, float)


@dataclass(frozen=True, repr=False)  # no repr: it would print a patient
class Course:
    """What delivers one plan (for MULTI_PLAN several): its doses by number, and how often each of them counts.

    `beams_gy`: what the plans' beams say in place of the prescription, a second opinion; None where they do not.
    """

    plans: tuple[str, ...]
    doses: dict[int, DoseGrid]
    factors: dict[int, int]
    fractions: int | None
    prescription_gy: float | None
    beams_gy: float | None = None


def find_courses(patient: PatientDoses) -> list[Course]:
    """One course for each MULTI_PLAN dose and for each plan outside these; `patient.rejected` says why not the others.

    Raises:
        InvalidInput: ambiguous doses, a plan whose doses do not make it whole, sessions of unknown number, no dose, or
            no dose that was planned before the event; a key of the user's choice that no object has.
    """
    doses = usable_doses(patient)
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


def dose_numbers(courses: Iterable[Course]) -> list[int]:
    """The numbers of all doses that make up courses."""
    return [number for course in courses for number in course.doses]


def highest_gy(doses: Mapping[int, DoseGrid], factors: Mapping[int, float]) -> float:
    """At most this much lies in any voxel of the sum of doses, each times its factor."""
    return sum(factors[number] * float(dose.volume.voxels.max()) for number, dose in doses.items())


def sum_if_known(numbers: Iterable[Number | None]) -> Number | None:
    """The sum, or None where one of the numbers is unknown or there is none."""
    terms = list(numbers)
    return sum(terms) if terms and None not in terms else None  # type: ignore[arg-type]


def _course(patient: PatientDoses, doses: dict[int, DoseGrid], sole: bool) -> Course | None:
    """The first set of one plan's doses that is whole; `sole`: no other plan has doses.

    Raises:
        InvalidInput: they lie in several frames of reference, or two of them hold the same.
    """
    if len({dose.frame_of_reference for dose in doses.values()}) > 1:
        message = f"ambiguous: doses {patient.names(doses)} of one plan lie in several frames of reference"
        raise patient.refusal("ambiguous", message)
    plans = next(iter(doses.values())).plans
    delivered = [patient.plans.get(uid) for uid in plans]
    plan = delivered[0] if delivered else None
    for summation in READ:
        matching = {number: dose for number, dose in doses.items() if dose.summation == summation}
        missing = _missing(patient, summation, matching, plan) if matching else ""
        if missing:
            doses = patient.without(doses, dict.fromkeys(matching, missing))
        elif matching:
            reason = f"its plan is whole with {summation} dose {patient.names(matching)}"
            patient.without(doses, {number: reason for number in doses if number not in matching})
            factors = {number: _times(patient, number, plan, sole) for number in matching}
            targets_gy = sum_if_known(each.prescription_gy if each else None for each in delivered)
            beams_gy = sum_if_known(each.beam_dose_gy if each else None for each in delivered)
            beams_gy = _plausible(beams_gy, highest_gy(matching, factors))
            fractions = sum_if_known(each.fractions if each else None for each in delivered)
            return Course(plans, matching, factors, fractions, targets_gy or beams_gy, beams_gy)
    return None


def _plausible(beams_gy: float | None, maximum_gy: float) -> float | None:
    """The beams' doses, which are those at points that may lie anywhere, where the dose can be of such a prescription.

    Rounded: they are sums of many decimals.
    """
    low, high = MAXIMUM_OVER_PRESCRIPTION
    return round(beams_gy, 2) if beams_gy and low <= maximum_gy / beams_gy <= high else None


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
