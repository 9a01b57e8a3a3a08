"""Series of a glioma patient as index_delivery gives them, for rules that choose among them; nothing is read."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np

from ricenet.delivery.roles import Timeline
from ricenet.dicom.image_series import Series
from ricenet.dicom.slice_stack import Stack

KEY = b"k" * 32
START = date(2020, 3, 1)
EVENT_DAY = 200
TIMES = Timeline(None, START + timedelta(days=EVENT_DAY), START, None, 3)
VOLUME = {"shape": (256, 256, 176), "spacing_mm": (1.0, 1.0, 1.0), "acquisition_3d": True}
THICK = {"shape": (512, 512, 24), "spacing_mm": (0.45, 0.45, 6.0), "acquisition_3d": False}
AXES = {"axial": (0, 1, 2), "sagittal": (1, 2, 0), "coronal": (0, 2, 1)}  # world axis of columns, rows, slices
T1C = Series(
    uid="1.2.3", study_uid="1.2", patient_id="MUSTERMANN", modality="MR", frame_of_reference="F1", number=4,
    date=START - timedelta(days=10), contrast_agent="", scanner=("SIEMENS", "B", "3"),
    image_type=("ORIGINAL", "PRIMARY", "M"), files=(), shape=(256, 256, 176), spacing_mm=(1.0, 1.0, 1.0), problem=None,
    series_description="t1_mprage_sag_KM GEHEIM",
)  # fmt: skip


def mr(number: int, name: str = T1C.series_description, days: int = -10, plane: str = "", **changes) -> Series:
    """One series; `days` from the start of radiotherapy, `plane` gives it a grid."""
    series = replace(
        T1C, uid=f"1.2.{number}", number=number, date=START + timedelta(days=days), series_description=name, **changes
    )
    return replace(series, grid=_grid(series, plane)) if plane else series


def _grid(series: Series, plane: str) -> Stack:
    world_from_voxel = np.eye(4)
    world_from_voxel[:3, :3] = np.eye(3)[:, list(AXES[plane])] * series.spacing_mm
    return Stack(world_from_voxel, series.spacing_mm[2], 0.0)
