"""DICOM SEG files written by highdicom on MR slices that are written here, in any orientation."""

from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from helpers.dicom_objects import uid


def mr_slices(shape: tuple[int, int, int], spacing: tuple[float, float, float], origin, cosines) -> list[Dataset]:
    """(columns, rows, slices) of an MR series; `spacing` between columns, rows and slices; LPS mm."""
    normal = np.cross(cosines[:3], cosines[3:])
    slices = []
    for number in range(shape[2]):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = MRImageStorage
        dataset.SOPInstanceUID = uid(f"slice {number}")
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("study"), uid("event series")
        dataset.FrameOfReferenceUID = uid("event")
        dataset.PatientID, dataset.PatientName = "SECRET", "SECRET^NAME"
        dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyDate = dataset.StudyTime = ""
        dataset.AccessionNumber = dataset.StudyID = dataset.ReferringPhysicianName = ""
        dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "MR", 1, number + 1
        dataset.Columns, dataset.Rows = shape[:2]
        dataset.PixelSpacing = [spacing[1], spacing[0]]
        dataset.SliceThickness = dataset.SpacingBetweenSlices = spacing[2]
        dataset.ImageOrientationPatient = [float(f"{cosine:.8f}") for cosine in cosines]
        dataset.ImagePositionPatient = [float(f"{value:.6f}") for value in origin + normal * spacing[2] * number]
        slices.append(dataset)
    return slices


def write_seg(path: Path, slices: list[Dataset], pixels: np.ndarray, kind: str = "BINARY", labels=("lesion",)) -> Path:
    """`pixels`: (slices, rows, columns), or one more axis of segments; empty frames are left out, as writers do."""
    descriptions = [
        hd.seg.SegmentDescription(
            number,
            f"SECRET {label}",
            codes.SCT.MorphologicallyAbnormalStructure,
            codes.SCT.MorphologicallyAbnormalStructure,
            "MANUAL",
        )
        for number, label in enumerate(labels, start=1)
    ]
    segmentation = hd.seg.Segmentation(
        slices, pixels, kind, descriptions, uid("seg series"), 2, uid("seg"), 1, "maker", "model", "1", "0",
        fractional_type="OCCUPANCY",
    )  # fmt: skip
    segmentation.save_as(path)
    return path


def places_ras(shape, spacing, origin, cosines) -> np.ndarray:
    """(slices, rows, columns, 3) RAS+ mm of the voxels, by DICOM's equation, independently of ricenet."""
    number, row, column = np.meshgrid(*(np.arange(size) for size in shape[::-1]), indexing="ij")
    normal = np.cross(cosines[:3], cosines[3:])
    lps = (
        np.asarray(origin, dtype=float)
        + column[..., None] * spacing[0] * np.asarray(cosines[:3])
        + row[..., None] * spacing[1] * np.asarray(cosines[3:])
        + number[..., None] * spacing[2] * normal
    )
    return lps * (-1, -1, 1)
