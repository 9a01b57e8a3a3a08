"""Read every RT object of a patient, and describe what was done with each: RtFiles in; doses, plans and records out.

An object that cannot be read does not stop the others: it is listed with its reason.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TypeVar

from ricenet.cohort.ingest_record import RtObjectRecord
from ricenet.delivery.patient_doses import PatientDoses
from ricenet.delivery.roles import Timeline
from ricenet.delivery.rtdose import DoseGrid, read_dose
from ricenet.delivery.rtobject import rt_key
from ricenet.delivery.rtplan import RtPlan, RtStructure, read_plan, read_structure_references
from ricenet.delivery.series import PatientFiles
from ricenet.dicom.headers import RtFile
from ricenet.errors import InvalidInput

T = TypeVar("T")


@dataclass(frozen=True, repr=False)  # no repr: it would print a patient
class Unreadable:
    """An RT object that cannot be used, and why; `uid` is its SOP Instance UID."""

    kind: str
    uid: str
    problem: InvalidInput


@dataclass(frozen=True, repr=False)
class RtObjects:
    """The RT objects of one patient."""

    doses: list[DoseGrid] = field(default_factory=list)
    plans: list[RtPlan] = field(default_factory=list)
    structures: list[RtStructure] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)


def read_rt_objects(files: PatientFiles, doses: bool) -> RtObjects:
    """Read the plans and structure sets of a patient, and the doses where they are needed."""
    objects = RtObjects()

    def read_all(kind: str, rt_files: Sequence[RtFile], read: Callable[[Path], T]) -> Iterator[T]:
        for file in rt_files:
            try:
                yield read(file.path)
            except InvalidInput as problem:
                objects.unreadable.append(Unreadable(kind, file.instance_uid, problem))

    objects.plans.extend(read_all("RTPLAN", files.plans, read_plan))
    objects.structures.extend(read_all("RTSTRUCT", files.structures, read_structure_references))
    objects.doses.extend(read_all("RTDOSE", files.doses if doses else (), read_dose))
    return objects


def no_dose_problem(objects: RtObjects, files: Sequence[RtFile], key: bytes) -> InvalidInput | None:
    """Why a patient has no dose that can be read; None where he has one."""
    if objects.doses:
        return None
    if not files:
        return missing_dose()
    doses = [each for each in objects.unreadable if each.kind == "RTDOSE"]
    if len(doses) == 1:
        return doses[0].problem
    reasons = "; ".join(f"dose {rt_key('RTDOSE', each.uid, key)}: {each.problem.message}" for each in doses)
    return InvalidInput(
        f"expected a radiotherapy dose, got {len(doses)} that cannot be used: {reasons}",
        doses[0].problem.hint,
        code="treatment.nothing_usable",
    )


def missing_dose() -> InvalidInput:
    """The problem of a patient of whom no dose was delivered."""
    return InvalidInput(
        "expected a radiotherapy dose, got none",
        "deliver it, exclude the case (excluded_because), or make an MRI-only cohort with dose=false",
        code="dose.missing",
    )


def planning_series(objects: RtObjects, plans: Iterable[str]) -> tuple[str, ...]:
    """SeriesInstanceUIDs of the images that the structure sets of some plans (UIDs) were drawn on."""
    counted = set(plans)
    structure_sets = {plan.structure_set for plan in objects.plans if plan.sop_instance in counted}
    return tuple(uid for each in objects.structures if each.sop_instance in structure_sets for uid in each.series)


def describe_rt_objects(
    objects: RtObjects,
    files: PatientFiles,
    patient: PatientDoses | None,
    counted: Mapping[str, str],
    times: Timeline,
    key: bytes,
) -> list[RtObjectRecord]:
    """One record for each file of the patient: doses, plans, structure sets, each in the order of their pseudonyms.

    Args:
        objects: what could be read.
        files: what was delivered; where no dose is needed, doses were not read.
        patient: what was decided about the doses; None where nothing was.
        counted: status by SOP Instance UID, of what counts (used) or was refused before it was decided (undecided).
        times: of the case, for days.
        key: of the pseudonyms.
    """
    frames = _Frames(times.frames)
    rejected = {} if patient is None else {row.dose: row.reason for row in patient.rejected}
    records = []
    # Numbered as patient_doses.number_objects does: one UID may be there twice, and then one of the files is the copy.
    for number, dose in enumerate(sorted(objects.doses, key=lambda dose: dose.sop_instance), start=1):
        decision = _decision(dose.sop_instance, rejected.get(number, ""), counted)
        records.append(_dose(dose, frames, key).model_copy(update=decision))
    for plan in objects.plans:
        reason = "" if plan.sop_instance in counted else _why_not(plan, objects.doses, counted)
        decision = _decision(plan.sop_instance, reason, counted)
        records.append(_plan(plan, frames, times, key).model_copy(update=decision))
    for structure in objects.structures:
        record = RtObjectRecord(
            object=rt_key("RTSTRUCT", structure.sop_instance, key),
            kind="RTSTRUCT",
            status=counted.get(structure.sop_instance, "listed"),
            **frames.of(structure.frame_of_reference),
        )
        records.append(record)
    records += [
        RtObjectRecord(
            object=rt_key(each.kind, each.uid, key), kind=each.kind, status="unreadable", reason=each.problem.message
        )
        for each in objects.unreadable
    ]
    if not objects.doses and not any(each.kind == "RTDOSE" for each in objects.unreadable):
        records += [
            RtObjectRecord(object=rt_key("RTDOSE", file.instance_uid, key), kind="RTDOSE", status="listed")
            for file in files.doses
        ]
    return sorted(records, key=lambda record: (record.kind, record.object))


def left_out(records: Sequence[RtObjectRecord]) -> str:
    """One line for the terminal: which doses do not count and why; "" where all do."""
    doses = [each for each in records if each.kind == "RTDOSE" and each.status in ("left out", "unreadable")]
    return "; ".join(f"{each.object}: {each.reason}" for each in doses)


class _Frames:
    """Frames of reference by number, in the order in which they are asked for."""

    def __init__(self, with_images: Iterable[str]) -> None:
        self._with_images = set(with_images)
        self._numbers: dict[str, int] = {}

    def of(self, uid: str) -> dict:  # fields of RtObjectRecord
        if not uid:
            return {}
        number = self._numbers.setdefault(uid, len(self._numbers) + 1)
        return {"frame": number, "images_in_frame": uid in self._with_images}


def _decision(uid: str, reason: str, counted: Mapping[str, str]) -> dict[str, str]:
    if reason:
        return {"status": "left out", "reason": reason}
    return {"status": counted.get(uid, "listed")}


def _dose(dose: DoseGrid, frames: _Frames, key: bytes) -> RtObjectRecord:
    x_mm, y_mm, z_mm = (round(float(step), 3) for step in dose.volume.spacing_mm)
    x, y, z = dose.volume.voxels.shape
    return RtObjectRecord(
        object=rt_key("RTDOSE", dose.sop_instance, key),
        kind="RTDOSE",
        status="listed",
        summation=dose.summation or "absent",
        dose_type=dose.dose_type,
        max_gy=round(float(dose.volume.voxels.max()), 3),
        shape=(x, y, z),
        spacing_mm=(x_mm, y_mm, z_mm),
        plans=[rt_key("RTPLAN", uid, key) for uid in dose.plans],
        **frames.of(dose.frame_of_reference),
    )


def _plan(plan: RtPlan, frames: _Frames, times: Timeline, key: bytes) -> RtObjectRecord:
    return RtObjectRecord(
        object=rt_key("RTPLAN", plan.sop_instance, key),
        kind="RTPLAN",
        status="listed",
        day=_day(plan.date, times),
        fractions=plan.fractions,
        prescription_gy=plan.prescription_gy or plan.beam_dose_gy,
        approval=plan.approval or "absent",
        **frames.of(plan.frame_of_reference),
    )


def _day(day: date | None, times: Timeline) -> int | None:
    origin = times.origin
    return None if origin is None or day is None else (day - origin).days


def _why_not(plan: RtPlan, doses: Sequence[DoseGrid], counted: Mapping[str, str]) -> str:
    """Of a plan that does not count."""
    if plan.approval == "REJECTED":
        return "REJECTED"
    if plan.is_check and not any(counted.get(dose.sop_instance) for dose in doses if plan.sop_instance in dose.plans):
        return f"its intent is {plan.intent}"
    own = [dose for dose in doses if plan.sop_instance in dose.plans]
    if not own:
        return "no dose refers to it"
    return "its doses do not count"
