"""RTDOSE from an analytic dose, RTPLAN and RTSTRUCT, in every variant that is allowed; the real reader opens them.

Pixels are placed one by one with DICOM PS3.3 equation C.7.6.2.1-1, in LPS, independently of ricenet.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)
from pydicom.valuerep import DSfloat

DOSE, PLAN = "1.2.840.10008.5.1.4.1.1.481.2", "1.2.840.10008.5.1.4.1.1.481.5"
STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"
FORMS = ("bare", "meta alone", "no DICM", "preamble alone", "DICM first", "no meta")
SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "rle": RLELossless,
    "deflated": DeflatedExplicitVRLittleEndian,
}
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
Dose = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def uid(name: str) -> str:
    return generate_uid(entropy_srcs=[name])


def linear(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gy at (..., 3) RAS+ mm; every direction has its own slope. Linear, so exact under trilinear interpolation."""
    return 30 + points @ np.array([0.11, -0.17, 0.23])


def positions(dataset: Dataset, offsets: Sequence[float]) -> NDArray[np.float64]:
    """(frames, rows, columns, 3) RAS+ mm; offsets: of the planes from the first one along the normal."""
    along_row, along_column = np.array(dataset.ImageOrientationPatient, dtype=float).reshape(2, 3)
    between_rows, between_columns = (float(spacing) for spacing in dataset.PixelSpacing)
    frame, row, column = np.meshgrid(
        np.array(offsets, dtype=float), np.arange(dataset.Rows), np.arange(dataset.Columns), indexing="ij"
    )
    lps = (
        np.array(dataset.ImagePositionPatient, dtype=float)
        + column[..., None] * between_columns * along_row
        + row[..., None] * between_rows * along_column
        + frame[..., None] * np.cross(along_row, along_column)
    )
    return lps * (-1, -1, 1)


def rtdose(
    dose: Dose = linear,
    *,
    name: str = "dose",
    summation: str = "PLAN",
    plans: Sequence[str] = ("plan",),
    fraction_group: int | None = None,
    beams: Sequence[int] = (),
    frame: str = "planning",
    columns_rows: tuple[int, int] = (9, 8),
    spacing: tuple[float, float] = (2.5, 3.0),
    origin: tuple[float, float, float] = (-12.0, 7.0, -20.0),
    orientation: Sequence[float] = AXIAL,
    offsets: Sequence[float] = tuple(4.0 * plane for plane in range(10)),
    absolute: bool = False,
    bits: int = 32,
    **attributes: Any,
) -> Dataset:
    """An RTDOSE dataset; `spacing` between columns and between rows, `offsets` from the first plane, mm.

    `plans` are names of `rtplan`s. `attributes` are set last; None removes one.
    """
    dataset = _object(DOSE, name, "RTDOSE")
    dataset.FrameOfReferenceUID = uid(frame)
    dataset.Columns, dataset.Rows = columns_rows
    dataset.NumberOfFrames = len(offsets)
    dataset.ImagePositionPatient = [decimal(value) for value in origin]
    dataset.ImageOrientationPatient = [decimal(value) for value in orientation]
    dataset.PixelSpacing = [decimal(spacing[1]), decimal(spacing[0])]
    dataset.GridFrameOffsetVector = [decimal(offset + (origin[2] if absolute else 0)) for offset in offsets]
    dataset.FrameIncrementPointer = 0x3004000C
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.DoseUnits, dataset.DoseType, dataset.DoseSummationType = "GY", "PHYSICAL", summation
    scaling = {16: 1e-3, 32: 1e-5}[bits]
    dataset.DoseGridScaling = decimal(scaling)
    stored = np.round(dose(positions(dataset, offsets)) / scaling)
    assert stored.min() >= 0
    assert stored.max() < 2**bits
    dataset.PixelData = stored.astype(f"<u{bits // 8}").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.ReferencedRTPlanSequence = [_reference(plan, fraction_group, beams) for plan in plans]
    return set_all(dataset, attributes)


def rtplan(
    name: str = "plan",
    *,
    groups: dict[int, tuple[int | None, Sequence[int]]] | None = None,
    targets_gy: Sequence[float] = (60.0,),
    approval: str = "APPROVED",
    setup_beams: Sequence[int] = (),
    target_types: Sequence[str | None] = (),
    linked: dict[int, dict[int, float | None]] | None = None,
    beam_doses_gy: dict[int, float] | None = None,
    **attributes: Any,
) -> Dataset:
    """An RTPLAN dataset.

    Args:
        name: of the object.
        groups: fraction group number -> (fractions planned, beam numbers).
        targets_gy: of the targets; their reference numbers count from 1.
        approval: as the standard writes it.
        setup_beams: in every group.
        target_types: DoseReferenceStructureType of each target; None: absent, as by default.
        linked: group number -> numbers of the targets it refers to -> Gy that the group gives itself, or None.
        beam_doses_gy: beam number -> BeamDose of one fraction.
        attributes: set last; None removes one.
    """
    dataset = _object(PLAN, name, "RTPLAN")
    dataset.RTPlanDate = "20200203"
    dataset.ApprovalStatus = approval
    dataset.DoseReferenceSequence = [
        item(DoseReferenceType=kind, **{keyword: decimal(dose)})
        for kind, keyword, dose in [
            *(("TARGET", "TargetPrescriptionDose", dose) for dose in targets_gy),
            ("ORGAN_AT_RISK", "OrganAtRiskMaximumDose", 75.0),
        ]
    ]
    dataset.FractionGroupSequence = [
        item(
            FractionGroupNumber=number,
            NumberOfFractionsPlanned=fractions,
            ReferencedBeamSequence=[_beam(beam, beam_doses_gy or {}) for beam in (*beams, *setup_beams)],
            **_links((linked or {}).get(number, {})),
        )
        for number, (fractions, beams) in (groups or {1: (30, (1, 2))}).items()
    ]
    dataset.BeamSequence = [item(BeamNumber=beam, TreatmentDeliveryType="SETUP") for beam in setup_beams]
    for number, reference in enumerate(dataset.DoseReferenceSequence, start=1):
        reference.DoseReferenceNumber = number
    for reference, kind in zip(dataset.DoseReferenceSequence, target_types, strict=False):
        if kind is not None:
            reference.DoseReferenceStructureType = kind
    return set_all(dataset, attributes)


def rtstruct(
    name: str = "structures", *, frame: str = "planning", series: Sequence[str] = ("planning CT",), **attributes: Any
) -> Dataset:
    """The header of an RTSTRUCT, and a contour that only its own reader needs."""
    dataset = _object(STRUCTURES, name, "RTSTRUCT")
    dataset.StructureSetLabel = "SECRET"
    study = item(ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1", ReferencedSOPInstanceUID=uid("study"))
    study.RTReferencedSeriesSequence = [item(SeriesInstanceUID=uid(each)) for each in series]
    dataset.ReferencedFrameOfReferenceSequence = [
        item(FrameOfReferenceUID=uid(frame), RTReferencedStudySequence=[study])
    ]
    dataset.StructureSetROISequence = [item(ROINumber=1, ReferencedFrameOfReferenceUID=uid(frame), ROIName="SECRET")]
    contour = item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=3, ContourData=[0, 0, 0] * 3)
    dataset.ROIContourSequence = [item(ReferencedROINumber=1, ContourSequence=[contour])]
    return set_all(dataset, attributes)


def enhanced_mr(frames: Sequence[tuple[Dataset, dict[str, Any]]], path: Path, number: int = 1) -> Path:
    """Write classic slices as the frames of one Enhanced MR image.

    Args:
        frames: a slice with its pixels, and what its frame says of itself: frame_type, component, echo, temporal,
            b_value, slope, stack, dimension (of a private pointer).
        path: of the file.
        number: of the object in its series, which makes its UID.
    """
    image = frames[0][0].copy()
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid(f"enhanced {number}")
    image.NumberOfFrames, image.InstanceNumber = len(frames), number
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE" if len(frames) == 1 else "MIXED"]
    orientation = item(ImageOrientationPatient=image.ImageOrientationPatient)
    measures = item(PixelSpacing=image.PixelSpacing, SliceThickness=image.SliceThickness)
    image.SharedFunctionalGroupsSequence = [
        item(PlaneOrientationSequence=[orientation], PixelMeasuresSequence=[measures])
    ]
    image.DimensionIndexSequence = [
        item(DimensionIndexPointer=pointer) for pointer in (0x00209056, 0x00209057, 0x2005100B)
    ]
    image.PerFrameFunctionalGroupsSequence = [_enhanced_frame(one, **says) for one, says in frames]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "EchoTime"):
        if keyword in image:
            delattr(image, keyword)
    image.PixelData = b"".join(one.PixelData for one, _ in frames)
    image.save_as(path)
    return path


def _enhanced_frame(
    one: Dataset, frame_type: str = "M", component: str = "MAGNITUDE", echo: float = 3.0, temporal: int = 1,
    b_value: float | None = None, slope: float | None = None, stack: str = "1", dimension: int = 1,
) -> Dataset:  # fmt: skip
    content = item(
        InStackPositionNumber=int(one.InstanceNumber),
        StackID=stack,
        TemporalPositionIndex=temporal,
        DimensionIndexValues=[int(stack) + 1, int(one.InstanceNumber), dimension],
    )
    groups = {
        "PlanePosition": item(ImagePositionPatient=one.ImagePositionPatient),
        "FrameContent": content,
        "MRImageFrameType": item(FrameType=["ORIGINAL", "PRIMARY", "M", frame_type], ComplexImageComponent=component),
        "MREcho": item(EffectiveEchoTime=echo),
    }
    if b_value is not None:
        groups["MRDiffusion"] = item(DiffusionBValue=b_value)
    if slope is not None:
        groups["PixelValueTransformation"] = item(RescaleSlope=decimal(slope), RescaleIntercept=0)
    return item(**{f"{name}Sequence": [group] for name, group in groups.items()})


def save(dataset: Dataset, path: Path, syntax: str = "explicit") -> Path:
    """Write a real DICOM file, preamble and all; `dataset` is left as it is."""
    dataset = Dataset(dataset)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    if syntax in ("rle", "big-endian") and "PixelData" in dataset:
        width = dataset.BitsAllocated // 8
        dataset.PixelData = np.frombuffer(dataset.PixelData, f"<u{width}").astype(f">u{width}").tobytes()
    if syntax == "rle":
        frames = np.frombuffer(dataset.PixelData, np.uint8).reshape(-1, dataset.Rows, dataset.Columns, width)
        dataset.PixelData = encapsulate([_run_lengths(frame) for frame in frames])
        dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    return path


def without_part10(path: Path, form: str) -> Path:
    """Take from a file what PS3.10 puts before the data set, as `form` says; writers leave out any of it."""
    content = path.read_bytes()
    end = 144 + int.from_bytes(content[140:144], "little")
    meta, data = content[132:end], content[end:]
    forms = {
        "bare": data,  # Monaco, XiO
        "meta alone": meta + data,
        "no DICM": bytes(132) + meta + data,
        "preamble alone": bytes(128) + data,
        "DICM first": b"DICM" + meta + data,
        "no meta": bytes(128) + b"DICM" + data,
    }
    assert list(forms) == list(FORMS)
    path.write_bytes(forms[form])
    return path


def _run_lengths(frame: NDArray[np.uint8]) -> bytes:
    """PS3.5 annex G, literal runs alone (pydicom encodes no 32 bits): (rows, columns, bytes from the highest)."""
    segments = []
    for plane in np.moveaxis(frame, -1, 0):
        rows = [bytes([len(row) - 1]) + row.tobytes() for row in plane]
        segment = b"".join(rows)
        segments.append(segment + b"\0" * (len(segment) % 2))
    starts = 64 + np.cumsum([0, *map(len, segments)])[:-1]
    header = np.zeros(16, "<u4")
    header[: len(segments) + 1] = [len(segments), *starts]
    return header.tobytes() + b"".join(segments)


def decimal(value: float) -> DSfloat:
    """DICOM decimal strings have at most 16 characters."""
    return DSfloat(float(value), auto_format=True)


def _object(sop_class: str, name: str, modality: str) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uid(name)
    dataset.Modality, dataset.PatientID, dataset.PatientName = modality, "SECRET-ID", "SECRET^NAME"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("study"), uid(f"series of {name}")
    return dataset


def _beam(number: int, doses_gy: dict[int, float]) -> Dataset:
    dose = {"BeamDose": decimal(doses_gy[number])} if number in doses_gy else {}
    return item(ReferencedBeamNumber=number, **dose)


def _links(targets: dict[int, float | None]) -> dict[str, Any]:
    if not targets:
        return {}
    references = []
    for number, dose_gy in targets.items():
        own = {} if dose_gy is None else {"TargetPrescriptionDose": decimal(dose_gy)}
        references.append(item(ReferencedDoseReferenceNumber=number, **own))
    return {"ReferencedDoseReferenceSequence": references}


def set_all(dataset: Dataset, attributes: dict[str, Any]) -> Dataset:
    """Set attributes of a dataset; None removes one."""
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
        if value is None:
            delattr(dataset, keyword)
    return dataset


def _reference(plan: str, fraction_group: int | None, beams: Sequence[int]) -> Dataset:
    reference = item(ReferencedSOPClassUID=PLAN, ReferencedSOPInstanceUID=uid(plan))
    if fraction_group is not None:
        group = item(ReferencedFractionGroupNumber=fraction_group)
        group.ReferencedBeamSequence = [item(ReferencedBeamNumber=beam) for beam in beams]
        reference.ReferencedFractionGroupSequence = [group]
    return reference


def item(**elements: Any) -> Dataset:
    """A dataset of these elements."""
    return set_all(Dataset(), elements)
