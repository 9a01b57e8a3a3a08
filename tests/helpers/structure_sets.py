"""RTSTRUCT files of shapes that are known from formulas, as planning systems write them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset, config

from helpers.dicom_objects import item, rtstruct, set_all, uid

Points = NDArray[np.float64]


@dataclass
class Drawn:
    """One structure: contours in LPS mm, as DICOM has them; `frame` None: the ROI does not say."""

    name: str
    contours: Sequence[Points]
    geometry: str = "CLOSED_PLANAR"
    roi_type: str = ""
    frame: str | None = "planning"


def ball_lps(radius: float, centre: Sequence[float], step: float = 1.0, first: float = -60.0) -> list[Points]:
    """Contours of a sphere on transverse planes at first + n * step."""
    x, y, z = centre
    planes = first + step * np.arange(int(200 / step))
    angles = np.linspace(0, 2 * np.pi, max(24, int(2 * np.pi * radius)), endpoint=False)
    contours = []
    for at in planes[abs(planes - z) < radius]:
        r = np.sqrt(radius**2 - (at - z) ** 2)
        contours.append(np.column_stack([x + r * np.cos(angles), y + r * np.sin(angles), np.full(len(angles), at)]))
    return contours


def _contour(geometry: str, points: Points) -> Dataset:
    """Its many numbers are not checked one by one, which takes longer than all else."""
    contour = item(ContourGeometricType=geometry, NumberOfContourPoints=len(points))
    numbers = [f"{value:.4f}" for value in np.ravel(points)]
    contour.add(DataElement("ContourData", "DS", numbers, validation_mode=config.IGNORE))
    return contour


def structure_set(
    drawn: Sequence[Drawn], *, name: str = "structures", frame: str = "planning", **attributes: Any
) -> Dataset:
    """An RTSTRUCT with the structures numbered from 1, `attributes` set last."""
    dataset = rtstruct(name, frame=frame)
    rois, contours, observations = [], [], []
    for number, each in enumerate(drawn, start=1):
        roi = item(ROINumber=number, ROIName=each.name, ROIGenerationAlgorithm="MANUAL")
        if each.frame is not None:
            roi.ReferencedFrameOfReferenceUID = uid(each.frame)
        rois.append(roi)
        items = [_contour(each.geometry, points) for points in each.contours]
        contours.append(item(ReferencedROINumber=number, ROIDisplayColor=[255, 0, 0], ContourSequence=items))
        observations.append(
            item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType=each.roi_type)
        )
    dataset.StructureSetROISequence = rois
    dataset.ROIContourSequence = contours
    dataset.RTROIObservationsSequence = observations
    return set_all(dataset, attributes)
