"""Take one case out of a delivery: its label row and its files in; volumes, columns of cohort.csv and a record out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ricenet.cohort.choices import Question
from ricenet.cohort.ingest_record import CaseColumns, CaseIngestRecord, ImageRecord, SelectionRecord
from ricenet.cohort.label_table import LabelRow
from ricenet.cohort.layouts import NO_FRAME, Entry, LesionMask
from ricenet.cohort.pseudonyms import pseudonym
from ricenet.cohort.table import LESION
from ricenet.command.atomic import file_hash
from ricenet.delivery.dicom_case import NO_DOSE, DicomCase, IntakeSettings
from ricenet.delivery.roles import series_key
from ricenet.delivery.rt_objects import missing_dose
from ricenet.delivery.series import PatientFiles
from ricenet.delivery.treatment import Treatment
from ricenet.dicom.image_series import Series, read_series
from ricenet.errors import InvalidInput, about
from ricenet.images.dose_limits import check_dose
from ricenet.images.volume import Volume, read_volume, write_volume


@dataclass(frozen=True)
class Intake:
    """volumes by role (post, event, rd, planning, brain_mask); columns of cohort.csv; what the record says.

    `structures` are masks by name, in the frame of the planning image or, without one, of post.
    With a `problem` there are no volumes and no columns: the case cannot be used, the record says what there was.
    """

    volumes: dict[str, Volume] = field(default_factory=dict)
    columns: CaseColumns | None = None
    record: SelectionRecord = field(default_factory=SelectionRecord)
    problem: InvalidInput | None = None
    structures: dict[str, Volume] = field(default_factory=dict)


def from_nifti(entry: Entry, subject: str, settings: IntakeSettings) -> Intake:
    """Read the images that a cohort's layout names; a dose there is in Gy, in the frame of the post-OP MRI.

    A lesion that cannot be used refuses no case: it is left out, and a flag says so.

    Args:
        entry: the case, with absolute paths.
        subject: how messages call it.
        settings: `dose`, `post`, `partial` and `dose_limits` count here.
    """
    label = entry.label
    unused = () if settings.dose else ("rd", "planning")
    paths = {role: path for role, path in entry.images.items() if role not in unused}
    if entry.brain_mask is not None:
        paths["brain_mask"] = entry.brain_mask
    flags = list(entry.flags)
    try:
        with about(subject):
            _check_frames(paths, settings)
            volumes = {role: _read(path, role) for role, path in paths.items()}
            if "rd" in volumes:
                volumes["rd"] = check_dose(volumes["rd"], label.prescription_gy, label.fractions, settings.dose_limits)
            elif settings.dose and not settings.partial:
                raise missing_dose()
            elif settings.dose and NO_FRAME not in flags:
                flags.append(NO_DOSE)
    except InvalidInput as problem:
        return Intake(problem=problem)
    images = {role: ImageRecord(reason="layout of the cohort") for role in volumes}
    if entry.lesion is not None:
        try:
            volumes[LESION] = _lesion(entry.lesion, volumes["event"], flags)
        except InvalidInput as problem:
            flags.append(f"{LESION} left out: {problem.message}")
    columns = CaseColumns(
        fractions=label.fractions,
        prescription_gy=label.prescription_gy,
        post_day=entry.post_day,
        event_day=entry.event_day,
    )
    selection = SelectionRecord(images=images, flags=flags) if flags else SelectionRecord(images=images)
    return Intake(volumes, columns, selection)


def _check_frames(paths: Mapping[str, Path], settings: IntakeSettings) -> None:
    """Refuse a case without the post-OP MRI that its cohort should have, and a dose without any frame."""
    if "post" in paths:
        return
    if settings.post and not settings.partial:
        raise InvalidInput(
            "post: not in the delivery",
            "make an event-only cohort with post=false, or take such cases as they are with partial=true",
            code="role.missing",
        )
    if "rd" in paths and "planning" not in paths:
        raise InvalidInput(
            "rd lies in the frame of the post-OP MRI, which is not in the delivery",
            "give the image that it was planned on, take the cohort without doses (dose=false), or exclude the case",
            code="dose.no_frame",
        )


def _lesion(lesion: LesionMask, event: Volume, flags: list[str]) -> Volume:
    """The segmentation as a mask of 0 and 1; whether it may be off the event MRI is added to `flags`.

    Raises:
        InvalidInput: it cannot be read, is no label map, or has no voxel of the lesion.
    """
    try:
        volume = read_volume(lesion.path)
    except InvalidInput as problem:
        if problem.code != "image.constant":
            raise
        raise InvalidInput("the segmentation is the same everywhere", code="mask.empty") from None
    voxels = volume.voxels
    if lesion.labels and ((voxels != voxels.round()).any() or voxels.min() < 0):
        raise InvalidInput("expected a label map of whole numbers", code="mask.values")
    mask = np.isin(voxels, lesion.labels) if lesion.labels else voxels > 0.5
    if not mask.any():
        labels = f" of label {', '.join(map(str, lesion.labels))}" if lesion.labels else ""
        raise InvalidInput(f"the segmentation has no voxel{labels}", code="mask.empty")
    same = mask.shape == event.voxels.shape and np.allclose(volume.world_from_voxel, event.world_from_voxel, atol=1e-2)
    if lesion.frame_note and not same:
        flags.append(
            f"{LESION}: in the frame of {lesion.frame_note}; it is off by what the head moved until the event MRI"
        )
    return Volume(mask.astype(np.float32), volume.world_from_voxel)


def _read(path: Path, role: str) -> Volume:
    with about(role=role):
        return read_volume(path)


def from_dicom(
    label: LabelRow, files: PatientFiles, subject: str, settings: IntakeSettings, key: bytes, scratch: Path
) -> Intake:
    """Choose the roles' series, convert them, and sum the dose of the whole treatment.

    Args:
        label: the case.
        files: everything the delivery holds of the patient.
        subject: how messages call the case.
        settings: rules and options.
        key: of the pseudonyms.
        scratch: folder for temporary files; must exist.
    """
    case = DicomCase(label, files, settings, key)
    image_flags: list[str] = []
    try:
        with about(subject):
            case.choose()
            volumes = {
                role: _convert(choice.series, role, scratch, image_flags) for role, choice in case.chosen.items()
            }
    except InvalidInput as problem:
        return Intake(record=case.record(), problem=problem)
    schedule: LabelRow | Treatment = label
    if case.treatment is not None:
        schedule = case.treatment
        volumes |= {role: part.volume for role, part in zip(case.dose_roles, case.treatment.parts, strict=True)}
    structures = case.structures(volumes)
    post = case.chosen["post"].series if "post" in case.chosen else None
    event = case.chosen["event"].series
    columns = CaseColumns(
        fractions=schedule.fractions,
        prescription_gy=schedule.prescription_gy,
        post_day=None if post is None else case.times.day(post),
        scanner_post="" if post is None else _scanner(post, key),
        event_day=case.times.day(event),
        scanner_event=_scanner(event, key),
    )
    record = case.record()
    if image_flags:
        record = record.model_copy(update={"flags": [*record.flags, *image_flags]})
    return Intake(volumes, columns, record, structures=structures)


def open_questions(record: CaseIngestRecord, files: PatientFiles, key: bytes, descriptions: bool) -> list[Question]:
    """What choose.csv asks about a case that the rules leave open.

    Args:
        record: of the case.
        files: of the patient.
        key: of the pseudonyms.
        descriptions: whether the series' names go in.
    """
    names = {series_key(each, key): each.series_description or each.protocol_name for each in files.series}
    questions = []
    for role, candidates in record.undecided.items():
        series = [each for each in record.series if each.series in candidates]
        texts = [names.get(each.series, "") for each in series] if descriptions else []
        questions.append(Question(record.case, role, series, texts))
    return questions


def _convert(series: Series, role: str, scratch: Path, flags: list[str]) -> Volume:
    """The volume of a role; what is to be said of its slices and values is added to `flags`."""
    remarks = list(series.remarks)
    with about(role=role):
        volume = read_series(series, scratch, may_be_uneven=role.startswith("planning"), remarks=remarks)
    flags += [f"{role}: {remark}" for remark in remarks]
    return volume


def write_volumes(volumes: Mapping[str, Volume], folder: Path) -> dict[str, str]:
    """Write the volumes as <role>.nii.gz; returns the SHA-256 of each by file name."""
    hashes = {}
    for role, volume in volumes.items():
        path, whole = folder / f"{role}.nii.gz", volume.voxels.astype(np.int16)
        write_volume(path, whole if np.array_equal(whole, volume.voxels) else volume.voxels, volume.world_from_voxel)
        hashes[path.name] = file_hash(path)
    return hashes


def _scanner(series: Series, key: bytes) -> str:
    """Pseudonym of the scanner: enough to count labels by it."""
    return "m" + pseudonym(key, "\0".join(series.scanner))[1:] if any(series.scanner) else ""
