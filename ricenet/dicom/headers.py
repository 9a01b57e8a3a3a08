"""Read the header of one file of a delivery: what delivery.series needs to sort it, or why it is of no use.

Pixels are not read. Nothing here prints; call it inside `with ricenet.dicom.part10.quiet_pydicom()`, since pydicom's
warnings quote headers.
"""

import datetime
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag

from ricenet.dicom.frames import (
    FRAME_TAGS,
    PER_FRAME,
    Frame,
    functional_groups,
    number,
    read_frames,
    text,
    whole_number,
)
from ricenet.dicom.part10 import InflatedDicom, open_part10
from ricenet.errors import InvalidInput

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
TIME = re.compile(r"(\d{2})(\d{2})?(\d{2})?(?:\.(\d{1,6}))?(?:[+-]\d{4})?$")
COUNTS = ("ImagesInAcquisition", "NumberOfSlices")
# Private elements that count a stack's slices: Philips', GE's; and where their creators stand.
SLICE_COUNTS = {Tag(0x2001, 0x1018): Tag(0x2001, 0x0010), Tag(0x0021, 0x104F): Tag(0x0021, 0x0010)}
CREATORS = ("philips", "gems")
REFERENCES = ("ReferencedRTPlanSequence", "ReferencedStructureSetSequence", "ReferencedFrameOfReferenceSequence")
KEYWORDS = (
    *DATES, *TIMES, *DESCRIPTIONS, *CONTRAST, *SCANNER, *COUNTS, *REFERENCES,
    "SOPClassUID", "SOPInstanceUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber",
    "InstanceNumber", "FrameOfReferenceUID", "MRAcquisitionType", "Rows", "Columns", "SamplesPerPixel",
    "BitsAllocated", "PhotometricInterpretation",
)  # fmt: skip
TAGS: list[BaseTag | int] = [
    *(Tag(keyword) for keyword in KEYWORDS), *FRAME_TAGS, *SLICE_COUNTS, *SLICE_COUNTS.values(),
]  # fmt: skip
BULK = {Tag(name) for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "ROIContourSequence")}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)  # no repr: it would print a patient
class Acquisition:
    """What the header of an image says of how it was acquired; none of it is ever printed.

    Attributes:
        acquisition_time: HHMMSS.ffffff, or "" where unknown.
        contrast_usage: whether an enhanced image says that the agent was administered: YES, NO or "".
        contrast_amount: the larger of the agent's volume (ml) and dose; None where neither is given.
        acquisition_3d: None where the header does not say.
    """

    series_description: str = ""
    protocol_name: str = ""
    sequence_name: str = ""
    acquisition_time: str = ""
    contrast_usage: str = ""
    contrast_amount: float | None = None
    acquisition_3d: bool | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Header(Acquisition):
    """One file: `kind` is a value of KINDS; `frames` holds one a slice, more in a multi-frame image.

    `damaged`: it ends too early, and only patient and series may be relied on. `links`: UIDs that it shares with other
    objects of its patient alone: study, frames of reference, and of an RT object its own and those it refers to. An RT
    object may have no `patient_id`. `slices_expected`: of a whole stack, `images_expected`: of the acquisition; 0 where
    the header does not say. `is_grey`: not in colours; `is_inverted`: low values are bright. `copies`: files with the
    same pixels under the same UID that were left out. `dates`: all of its dates, as they are written.
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
    date: datetime.date | None = None
    contrast_agent: str = ""
    scanner: tuple[str, ...] = ()
    columns: int = 0
    rows: int = 0
    frames: tuple[Frame, ...] = ()
    damaged: bool = False
    links: frozenset[str] = frozenset()
    slices_expected: int = 0
    images_expected: int = 0
    is_grey: bool = True
    is_inverted: bool = False
    copies: int = 0
    dates: tuple[str, ...] = ()


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
    patient_id, instance_uid = text(dataset, "PatientID"), text(dataset, "SOPInstanceUID")
    series_uid = text(dataset, "SeriesInstanceUID")
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
        study_uid=sys.intern(text(dataset, "StudyInstanceUID")),
        frame_of_reference=sys.intern(text(dataset, "FrameOfReferenceUID")),
        series_number=whole_number(dataset, "SeriesNumber"),
        instance_number=whole_number(dataset, "InstanceNumber") or 0,
        date=_image_date(dataset),
        dates=tuple(text(dataset, keyword) for keyword in DATES),
        contrast_agent=_contrast_agent(dataset),
        scanner=tuple(text(dataset, keyword) for keyword in SCANNER),
        columns=int(dataset.Columns),
        rows=int(dataset.Rows),
        frames=read_frames(dataset),
        links=_links(dataset),
        series_description=text(dataset, "SeriesDescription"),
        protocol_name=text(dataset, "ProtocolName"),
        sequence_name=text(dataset, "SequenceName") or text(dataset, "PulseSequenceName"),
        acquisition_time=_acquisition_time(dataset),
        contrast_usage=_contrast_usage(dataset),
        contrast_amount=_contrast_amount(dataset),
        slices_expected=_slices_expected(dataset),
        images_expected=whole_number(dataset, "ImagesInAcquisition") or 0,
        is_grey=_is_grey(dataset),
        is_inverted=text(dataset, "PhotometricInterpretation") == "MONOCHROME1",
        acquisition_3d={"3D": True, "2D": False}.get(text(dataset, "MRAcquisitionType").upper()),
    )  # fmt: skip


def _is_grey(dataset: Dataset) -> bool:
    samples = whole_number(dataset, "SamplesPerPixel") or 1
    return samples == 1 and "PALETTE" not in text(dataset, "PhotometricInterpretation")


def _slices_expected(dataset: Dataset) -> int:
    """Of one stack: the standard's number, Philips' or GE's."""
    counts = [whole_number(dataset, "NumberOfSlices") or 0]
    for tag, creator_tag in SLICE_COUNTS.items():
        creator = dataset.get(creator_tag)
        if tag in dataset and creator is not None and str(creator.value).lower().startswith(CREATORS):
            value = dataset[tag].value
            counts.append(int.from_bytes(value, "little") if isinstance(value, bytes) else int(value or 0))
    return max(counts)


def _links(dataset: Dataset) -> frozenset[str]:
    """Study and frames of reference, and the RT objects that an RT object refers to."""
    uids = {text(dataset, "StudyInstanceUID"), text(dataset, "FrameOfReferenceUID")}
    for keyword in REFERENCES:
        for item in dataset.get(keyword) or []:
            uids |= {text(item, "ReferencedSOPInstanceUID"), text(item, "FrameOfReferenceUID")}
    return frozenset(uids - {""})


def _is_whole(dataset: Dataset, bytes_left: int) -> bool:
    """Whether the file is long enough for its pixels (compressed ones do not say), and describes all of its frames."""
    if not all(keyword in dataset for keyword in ("Rows", "Columns", "BitsAllocated")):
        return False
    frames = int(dataset.get("NumberOfFrames") or 1)
    if PER_FRAME in dataset and len(dataset[PER_FRAME].value) != frames:
        return False
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        return bytes_left > 0
    bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated)
    return bytes_left >= bits * int(dataset.get("SamplesPerPixel") or 1) * frames // 8


def _image_date(dataset: Dataset) -> datetime.date | None:
    """The first date that no anonymiser put in; if all are as old, the first, whose distance to others may be right."""
    days = [day for keyword in DATES if (day := read_date(text(dataset, keyword))) is not None]
    return next((day for day in days if day.year >= FIRST_YEAR), days[0] if days else None)


def read_date(text: str) -> datetime.date | None:
    """A date as DICOM writes it, today (20200131) or once (2020.01.31), or with dashes; None where there is none."""
    try:
        return datetime.datetime.strptime(text.replace(".", "").replace("-", "")[:8], "%Y%m%d").date()
    except ValueError:
        return None


def _acquisition_time(dataset: Dataset) -> str:
    """The first of the image's own times that is one; of an enhanced image, of its frames."""
    frames = [*functional_groups(dataset, "FrameContentSequence")]
    texts = [text(dataset, "AcquisitionTime"), text(dataset, "AcquisitionDateTime")[8:]]
    texts += [min((text(frame, "FrameAcquisitionDateTime") for frame in frames), default="")[8:]]
    return next((time for time in map(read_time, texts) if time), "")


def read_time(text: str) -> str:
    """A time as DICOM writes it (101112, 1011, 10:11:12, 101112.5+0100) as HHMMSS.ffffff; "" where there is none."""
    match = TIME.match(text.replace(":", "").strip())
    if match is None:
        return ""
    hours, minutes, seconds, fraction = (part or "" for part in match.groups())
    return f"{hours:0<2}{minutes:0<2}{seconds:0<2}.{fraction:0<6}"


def _contrast_usage(dataset: Dataset) -> str:
    """YES or NO where the frames say one of them alone."""
    said = set()
    for usages in functional_groups(dataset, "ContrastBolusUsageSequence"):
        said.add(text(usages, "ContrastBolusAgentAdministered").upper())
    said &= {"YES", "NO"}
    return said.pop() if len(said) == 1 else ""


def _contrast_amount(dataset: Dataset) -> float | None:
    """Of the image, and of the profiles of each agent of an enhanced image."""
    profiles = [
        profile
        for agent in dataset.get("ContrastBolusAgentSequence") or []
        for profile in agent.get("ContrastAdministrationProfileSequence") or []
    ]
    amounts = [number(each, name) for each in (dataset, *profiles) for name in CONTRAST[2:]]
    return max((amount for amount in amounts if amount is not None), default=None)


def _contrast_agent(dataset: Dataset) -> str:
    """Enhanced images name it in a sequence."""
    agents = dataset.get("ContrastBolusAgentSequence") or []
    return text(dataset, "ContrastBolusAgent") or " ".join(text(agent, "CodeMeaning") or "yes" for agent in agents)
