"""Sum the dose of a whole treatment: every RTDOSE and RTPLAN of a patient in, one cumulative dose in Gy out.

Treatment.used and .rejected number doses and plans in the order of their UIDs and contain no UID.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ricenet.delivery.courses import Course, PatientDoses, find_courses, number_objects, sum_if_known
from ricenet.delivery.dose_sum import add, eqd2
from ricenet.delivery.ingest_record import RejectedDose, UsedDose
from ricenet.delivery.rtdose import DoseGrid
from ricenet.delivery.rtplan import RtPlan
from ricenet.images.dose_limits import DoseLimits, check_dose, dose_warnings
from ricenet.images.volume import Volume


@dataclass(frozen=True)
class Treatment:
    """The dose of the whole treatment, on a grid that covers all its doses, in their frame of reference.

    Attributes:
        volume: Gy; EQD2 if alpha_beta was given.
        frame_of_reference: UID.
        prescription_gy: in the same quantity as `volume`.
        fractions: of the whole treatment.
        used, rejected: every RTDOSE is in exactly one of them.
        flags: remarks for the reviewer.
    """

    volume: Volume
    frame_of_reference: str
    prescription_gy: float | None
    fractions: int | None
    used: list[UsedDose]
    rejected: list[RejectedDose]
    flags: list[str]


def combine_doses(
    doses: Sequence[DoseGrid],
    plans: Sequence[RtPlan] = (),
    *,
    fractions: int | None = None,
    prescription_gy: float | None = None,
    alpha_beta: float | None = None,
    limits: DoseLimits | None = None,
) -> Treatment:
    """Sum the doses that make up the whole treatment, each plan once.

    Args:
        doses: every RTDOSE of the patient.
        plans: every RTPLAN. A dose whose RTPLAN is missing is used only if its summation type already covers the
            whole plan, or if it is the only session of a plan whose number of fractions is known.
        fractions: of the whole treatment, from the label table; default: the plan's.
        prescription_gy: total prescribed physical dose in Gy, from the label table; default: sum over the plans.
        alpha_beta: Gy; each plan's dose D in n fractions becomes EQD2 = D (D/n + a/b) / (2 + a/b) before the sum.
            None: physical dose.
        limits: of the physical dose; None: the default preset.

    Raises:
        InvalidInput: as ricenet.delivery.courses.find_courses; two frames of reference; EQD2 without each plan's dose
            and fractions; a physical sum that no treatment has (see ricenet.images.dose_limits.check_dose).
    """
    patient = number_objects(doses, plans, fractions, prescription_gy)
    courses = find_courses(patient)
    frames = _doses_by_frame(courses)
    if len(frames) > 1:
        groups = " | ".join(", ".join(map(str, numbers)) for numbers in frames.values())
        message = f"doses in {len(frames)} frames of reference cannot be added: dose {groups}"
        raise patient.refusal("two_frames", message, "deliver doses that were planned on one planning image")
    totals = [add([(dose.volume, course.factors[n]) for n, dose in course.doses.items()]) for course in courses]
    planned = fractions or (courses[0].fractions if len(courses) == 1 else None)
    prescribed = prescription_gy or sum_if_known(course.prescription_gy for course in courses)
    volume = check_dose(add([(total, 1) for total in totals]), prescribed, planned, limits)
    unusual = dose_warnings(float(volume.voxels.max()), prescribed, planned, limits)
    if alpha_beta is not None:
        pairs = zip(courses, totals, strict=True)
        volume = add([(_equivalent(patient, course, total, alpha_beta), 1) for course, total in pairs])
        prescribed = sum_if_known(_equivalent_prescription(course, alpha_beta) for course in courses)
    return Treatment(
        volume=volume,
        frame_of_reference=next(iter(frames)),
        prescription_gy=prescribed,
        fractions=planned,
        used=[
            UsedDose(**dict(patient.describe(number)), factor=course.factors[number], fractions=course.fractions)
            for course in courses
            for number in course.doses
        ],
        rejected=sorted(patient.rejected, key=lambda row: row.dose),
        flags=[*_flags(patient, courses, alpha_beta), *(finding.message for finding in unusual)],
    )


def _doses_by_frame(courses: Sequence[Course]) -> dict[str, list[int]]:
    """Dose numbers by frame of reference."""
    frames: dict[str, list[int]] = {}
    for course in courses:
        for number, dose in course.doses.items():
            frames.setdefault(dose.frame_of_reference, []).append(number)
    return frames


def _equivalent(patient: PatientDoses, course: Course, total: Volume, alpha_beta: float) -> Volume:
    if course.fractions is None or len(course.plans) > 1:
        numbers = ", ".join(map(str, course.doses))
        message = f"EQD2 needs the dose and the fractions of each plan, which are unknown for dose {numbers}"
        hint = "deliver PLAN doses with their RTPLANs, or give fractions (of the whole treatment)"
        raise patient.refusal("eqd2", message, hint)
    return Volume(eqd2(total.voxels, course.fractions, alpha_beta), total.world_from_voxel)


def _equivalent_prescription(course: Course, alpha_beta: float) -> float | None:
    if course.prescription_gy is None or course.fractions is None:
        return None
    return eqd2(course.prescription_gy, course.fractions, alpha_beta)


def _flags(patient: PatientDoses, courses: Sequence[Course], alpha_beta: float | None) -> list[str]:
    used = {number: dose for course in courses for number, dose in course.doses.items()}
    flags = [
        f"dose {n}: EFFECTIVE, weighted by biological effect" for n, d in used.items() if d.dose_type != "PHYSICAL"
    ]
    for uid in sorted({uid for dose in used.values() for uid in dose.plans} | patient.plans.keys()):
        flags += [f"plan {patient.plan_number[uid]}: {text}" for text in _plan_flags(patient, uid, used, alpha_beta)]
    planned = sum_if_known(patient.plans[uid].fractions for uid in courses[0].plans if uid in patient.plans)
    if len(courses) == 1 and patient.fractions and planned not in (None, patient.fractions):
        flags.append(f"{patient.fractions} fractions were given, the plan has {planned}")
    return flags


def _plan_flags(patient: PatientDoses, uid: str, used: dict[int, DoseGrid], alpha_beta: float | None) -> list[str]:
    plan = patient.plans.get(uid)
    counted = any(uid in dose.plans for dose in used.values())
    if plan is None:
        return ["not delivered; its fractions, prescription and approval are unknown"]
    if plan.approval == "REJECTED":
        return ["REJECTED, not counted"]
    if not counted and not any(uid in dose.plans for dose in patient.doses.values()):
        return ["without any dose, not counted"]
    flags = [f"{plan.approval}, {'counted' if counted else 'not counted'}"] if plan.approval == "UNAPPROVED" else []
    if counted and alpha_beta is not None and len(plan.groups) > 1:
        flags.append(f"EQD2 takes its {len(plan.groups)} fraction groups for one schedule of equal fractions")
    return flags
