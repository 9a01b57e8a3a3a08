"""Read the header of one file of a delivery: what delivery.series needs to sort it, or why it is of no use.

Pixels are not read. Nothing here prints; call it inside `with ricenet.images.part10.quiet_pydicom()`, since pydicom's
warnings quote headers.
"""

import datetime
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag

from ricenet.errors import InvalidInput
from ricenet.images.part10 import InflatedDicom, open_part10
from ricenet.images.slice_stack import Plane

KINDS = {
    uid.MRImageStorage: "MR",
    uid.EnhancedMRImageStorage: "MR",
    uid.LegacyConvertedEnhancedMRImageStorage: "MR",
    uid.CTImageStorage: "CT",
    uid.EnhancedCTImageStorage: "CT",
    uid.LegacyConvertedEnhancedCTImageStorage: "CT",
    uid.RTDoseStorage: "RTDOSE",
    uid.RTPlanStorage: "RTPLAN",
    uid.RTIonPlanStorage: "RTPLAN",
    uid.RTStructureSetStorage: "RTSTRUCT",
}
NOT_DICOM = "not DICOM"
DAMAGED = "damaged"
UNREADABLE = "looks like DICOM but cannot be read"
UNKNOWN = "DICOM of an unknown class"
ANONYMOUS = "DICOM without PatientID"
ANONYMOUS_RT = "RT objects without PatientID"
NOT_TO_OVERLOOK = (UNREADABLE, DAMAGED, ANONYMOUS, ANONYMOUS_RT)
SUFFIXES = {".dcm", ".dicom", ".ima"}
FIRST_YEAR = 1975  # of DICOM's images and plans; anonymisers write 1901
DATES = ("AcquisitionDate", "AcquisitionDateTime", "SeriesDate", "StudyDate")
TIMES = ("AcquisitionTime", "AcquisitionDateTime")
DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName")
CONTRAST = (
    "ContrastBolusAgent", "ContrastBolusAgentSequence", "ContrastBolusVolume", "ContrastBolusTotalDose",
)  # fmt: skip
SCANNER = ("Manufacturer", "ManufacturerModelName", "MagneticFieldStrength")
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
TIME = re.compile(r"(\d{2})(\d{2})?(\d{2})?(?:\.(\d{1,6}))?(?:[+-]\d{4})?$")
REFERENCES = ("ReferencedRTPlanSequence", "ReferencedStructureSetSequence", "ReferencedFrameOfReferenceSequence")
KEYWORDS = (
    *DATES, *TIMES, *DESCRIPTIONS, *CONTRAST, *SCANNER, *GROUPS, *REFERENCES,
    "SOPClassUID", "SOPInstanceUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber",
    "InstanceNumber", "FrameOfReferenceUID", "ImageType", "EchoTime", "TemporalPositionIdentifier",
    "MRAcquisitionType", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated",
    "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
)  # fmt: skip
TAGS: list[BaseTag | int] = [Tag(keyword) for keyword in KEYWORDS]
BULK = {Tag(name) for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "ROIContourSequence")}


@dataclass(frozen=True, slots=True, repr=False)  # no repr: it would print a patient
class Header:
    """One file: `kind` is a value of KINDS; `planes` holds one a slice, more in a multi-frame image.

    `damaged`: it ends too early, and only patient and series may be relied on. `links`: UIDs that it shares with other
    objects of its patient alone: study, frames of reference, and of an RT object its own and those it refers to. An RT
    object may have no `patient_id`. `description` joins series description, protocol and sequence name.
    `acquisition_time`: HHMMSS.ffffff or "". `contrast_usage`: whether an enhanced image says that the agent was
    administered, YES, NO or "". `contrast_amount`: the larger of the agent's volume and dose, None where neither is
    given. `acquisition_3d`: None where the header does not say.
    """

    path: Path
    kind: str
    patient_id: str
    instance_uid: str
    series_uid: str
    study_uid: str = ""
    frame_of_reference: str = ""
    series_number: int | None = None
    instance_number: int = 0
    description: str = ""
    date: datetime.date | None = None
    contrast_agent: str = ""
    scanner: tuple[str, ...] = ()
    image_type: tuple[str, ...] = ()
    echo_time_ms: float | None = None
    temporal_position: float | None = None
    columns: int = 0
    rows: int = 0
    planes: tuple[Plane, ...] = ()
    damaged: bool = False
    links: frozenset[str] = frozenset()
    series_description: str = ""
    protocol_name: str = ""
    sequence_name: str = ""
    acquisition_time: str = ""
    contrast_usage: str = ""
    contrast_amount: float | None = None
    acquisition_3d: bool | None = None


@dataclass(frozen=True, slots=True, repr=False)
class RtFile:
    """One RTDOSE, RTPLAN or RTSTRUCT, and its SOPInstanceUID."""

    path: Path
    instance_uid: str


def read_header(path: Path) -> Header | str:
    """Read the header of `path`, whatever it is called; a text is the reason why it is of no use.

    Raises:
        InvalidInput: the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            stream = open_part10(file)
            if stream is None:
                return UNREADABLE if SUFFIXES & {suffix.lower() for suffix in path.suffixes} else NOT_DICOM
            header = _read_stream(path, stream)
            is_added = stream is not file and not isinstance(stream, InflatedDicom)
            return UNREADABLE if header == DAMAGED and is_added else header
    except OSError as error:
        raise unreadable("file", error) from None


def _read_stream(path: Path, stream: BinaryIO) -> Header | str:
    try:
        dataset = read_partial(stream, stop_when=lambda tag, _vr, _length: tag in BULK, specific_tags=TAGS)
        position = stream.tell()
        is_cut_off = isinstance(stream, InflatedDicom) and stream.cut_off
        return _header(path, dataset, sys.maxsize if is_cut_off else stream.seek(0, os.SEEK_END) - position)
    except OSError:
        raise
    except Exception:  # pydicom raises whatever its parser stumbles over in a damaged file
        return DAMAGED


def describe_unused(skipped: Mapping[str, int]) -> str:
    """What nobody may overlook of the files that have no use, by reason; "" where there is none."""
    counts = [f"{skipped[reason]} ({reason})" for reason in NOT_TO_OVERLOOK if reason in skipped]
    return f"files of the delivery that could not be used: {', '.join(counts)}" if counts else ""


def unreadable(what: str, error: OSError) -> InvalidInput:
    """The problem of a file or folder that is there and cannot be opened."""
    return InvalidInput(
        f"a {what} of the delivery cannot be opened ({type(error).__name__})",
        "correct its permissions, or copy the delivery again",
        code="delivery.unreadable",
    )


def _header(path: Path, dataset: Dataset, bytes_left: int) -> Header | str:
    class_uid = uid.UID(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or "")
    kind = KINDS.get(class_uid)
    if not class_uid:
        return DAMAGED
    if kind is None:
        # The name is the standard's; a UID that it does not know may say who made it.
        return class_uid.name if class_uid in uid.UID_dictionary else UNKNOWN
    patient_id, instance_uid = _text(dataset, "PatientID"), _text(dataset, "SOPInstanceUID")
    series_uid = _text(dataset, "SeriesInstanceUID")
    if not instance_uid or (not series_uid and kind in ("MR", "CT")):
        return DAMAGED
    if kind.startswith("RT"):
        links = _links(dataset) | {instance_uid}
        return Header(path, kind, patient_id, instance_uid, series_uid, links=links)
    if not patient_id:
        return ANONYMOUS
    if not _is_whole(dataset, bytes_left):
        return Header(path, kind, patient_id, instance_uid, series_uid, damaged=True)
    return Header(
        path, kind, patient_id, instance_uid, series_uid,
        study_uid=_text(dataset, "StudyInstanceUID"),
        frame_of_reference=_text(dataset, "FrameOfReferenceUID"),
        series_number=_whole_number(dataset, "SeriesNumber"),
        instance_number=_whole_number(dataset, "InstanceNumber") or 0,
        description=" ".join(filter(None, (_text(dataset, keyword) for keyword in DESCRIPTIONS))),
        date=_image_date(dataset),
        contrast_agent=_contrast_agent(dataset),
        scanner=tuple(_text(dataset, keyword) for keyword in SCANNER),
        image_type=tuple(_text(dataset, "ImageType").split("\\")),
        echo_time_ms=_number(dataset, "EchoTime"),
        temporal_position=_number(dataset, "TemporalPositionIdentifier"),
        columns=int(dataset.Columns),
        rows=int(dataset.Rows),
        planes=_planes(dataset),
        links=_links(dataset),
        series_description=_text(dataset, "SeriesDescription"),
        protocol_name=_text(dataset, "ProtocolName"),
        sequence_name=_text(dataset, "SequenceName") or _text(dataset, "PulseSequenceName"),
        acquisition_time=_acquisition_time(dataset),
        contrast_usage=_contrast_usage(dataset),
        contrast_amount=_contrast_amount(dataset),
        acquisition_3d={"3D": True, "2D": False}.get(_text(dataset, "MRAcquisitionType").upper()),
    )  # fmt: skip


def _links(dataset: Dataset) -> frozenset[str]:
    """Study and frames of reference, and the RT objects that an RT object refers to."""
    uids = {_text(dataset, "StudyInstanceUID"), _text(dataset, "FrameOfReferenceUID")}
    for keyword in REFERENCES:
        for item in dataset.get(keyword) or []:
            uids |= {_text(item, "ReferencedSOPInstanceUID"), _text(item, "FrameOfReferenceUID")}
    return frozenset(uids - {""})


def _is_whole(dataset: Dataset, bytes_left: int) -> bool:
    """Whether the file is long enough for its pixels; compressed ones do not say."""
    if not all(keyword in dataset for keyword in ("Rows", "Columns", "BitsAllocated")):
        return False
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        return bytes_left > 0
    bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated)
    frames = int(dataset.get("NumberOfFrames") or 1)
    return bytes_left >= bits * int(dataset.get("SamplesPerPixel") or 1) * frames // 8


def _planes(dataset: Dataset) -> tuple[Plane, ...]:
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        position, cosines = (
            _numbers(dataset, "ImagePositionPatient", 3),
            _numbers(dataset, "ImageOrientationPatient", 6),
        )
        frames = int(dataset.get("NumberOfFrames") or 1)
        return (Plane(cosines, position, _spacing(dataset)),) * frames
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    return tuple(_frame_plane(frame, shared) for frame in dataset.PerFrameFunctionalGroupsSequence)


def _frame_plane(frame: Dataset, shared: Dataset) -> Plane:
    """Of one frame of a multi-frame image; what all frames share stands apart."""
    position, orientation, measures = (
        (frame.get(group) or shared.get(group) or [Dataset()])[0]
        for group in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
    )
    return Plane(
        _numbers(orientation, "ImageOrientationPatient", 6),
        _numbers(position, "ImagePositionPatient", 3),
        _spacing(measures),
    )


def _spacing(dataset: Dataset) -> tuple[float, ...] | None:
    """DICOM gives the step between rows (y) first."""
    rows_columns = _numbers(dataset, "PixelSpacing", 2)
    return None if rows_columns is None or min(rows_columns) <= 0 else rows_columns[::-1]


def _numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(value) for value in dataset[keyword].value)
    except (KeyError, TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(abs(number) < 1e6 for number in numbers) else None


def _number(dataset: Dataset, keyword: str) -> float | None:
    """One number, where there is one: free text in a field that is not needed spoils no image."""
    try:
        number = float(dataset[keyword].value)
    except (KeyError, TypeError, ValueError):
        return None
    return number if abs(number) < 1e9 else None


def _whole_number(dataset: Dataset, keyword: str) -> int | None:
    number = _number(dataset, keyword)
    return None if number is None else int(number)


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    if value is None:
        return ""
    parts = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else value
    return "\\".join(str(part) for part in parts).strip()


def _image_date(dataset: Dataset) -> datetime.date | None:
    """The first date that no anonymiser put in; if all are as old, the first, whose distance to others may be right."""
    days = [day for keyword in DATES if (day := read_date(_text(dataset, keyword))) is not None]
    return next((day for day in days if day.year >= FIRST_YEAR), days[0] if days else None)


def read_date(text: str) -> datetime.date | None:
    """A date as DICOM writes it, today (20200131) or once (2020.01.31), or with dashes; None where there is none."""
    try:
        return datetime.datetime.strptime(text.replace(".", "").replace("-", "")[:8], "%Y%m%d").date()
    except ValueError:
        return None


def _acquisition_time(dataset: Dataset) -> str:
    """The first of the image's own times that is one; of an enhanced image, of its frames."""
    frames = [*_groups(dataset, "FrameContentSequence")]
    texts = [_text(dataset, "AcquisitionTime"), _text(dataset, "AcquisitionDateTime")[8:]]
    texts += [min((_text(frame, "FrameAcquisitionDateTime") for frame in frames), default="")[8:]]
    return next((time for time in map(read_time, texts) if time), "")


def read_time(text: str) -> str:
    """A time as DICOM writes it (101112, 1011, 10:11:12, 101112.5+0100) as HHMMSS.ffffff; "" where there is none."""
    match = TIME.match(text.replace(":", "").strip())
    if match is None:
        return ""
    hours, minutes, seconds, fraction = (part or "" for part in match.groups())
    return f"{hours:0<2}{minutes:0<2}{seconds:0<2}.{fraction:0<6}"


def _groups(dataset: Dataset, keyword: str) -> Iterator[Dataset]:
    """A functional group of an enhanced image: what all its frames share, then each frame's own."""
    for sequence in GROUPS:
        for item in dataset.get(sequence) or []:
            yield from item.get(keyword) or []


def _contrast_usage(dataset: Dataset) -> str:
    """YES or NO where the frames say one of them alone."""
    said = set()
    for usages in _groups(dataset, "ContrastBolusUsageSequence"):
        said.add(_text(usages, "ContrastBolusAgentAdministered").upper())
    said &= {"YES", "NO"}
    return said.pop() if len(said) == 1 else ""


def _contrast_amount(dataset: Dataset) -> float | None:
    """Of the image, and of the profiles of each agent of an enhanced image."""
    profiles = [
        profile
        for agent in dataset.get("ContrastBolusAgentSequence") or []
        for profile in agent.get("ContrastAdministrationProfileSequence") or []
    ]
    amounts = [_number(each, name) for each in (dataset, *profiles) for name in CONTRAST[2:]]
    return max((amount for amount in amounts if amount is not None), default=None)


def _contrast_agent(dataset: Dataset) -> str:
    """Enhanced images name it in a sequence."""
    agents = dataset.get("ContrastBolusAgentSequence") or []
    return _text(dataset, "ContrastBolusAgent") or " ".join(_text(agent, "CodeMeaning") or "yes" for agent in agents)
