"""A small series with a value of its own in each voxel, written slice by slice, and what it must read back as."""

from pathlib import Path

import numpy as np
import pydicom
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from pydicom.uid import (
    generate_uid,
)
from scipy.spatial.transform import Rotation

from ricenet.delivery.series import index_delivery
from ricenet.dicom.image_series import Series, read_series
from ricenet.phantoms.hospital import write_series

SECRET = "SECRETMARKER"


SHAPE = (24, 20, 16)


HEADERS = {
    "PatientID": SECRET,
    "PatientName": f"{SECRET}^NAME",
    "StudyInstanceUID": generate_uid(entropy_srcs=["study"]),
    "SeriesInstanceUID": generate_uid(entropy_srcs=["series"]),
    "FrameOfReferenceUID": generate_uid(entropy_srcs=["frame"]),
    "SeriesNumber": 3,
    "SeriesDescription": f"{SECRET} t1",
    "ProtocolName": f"{SECRET} brain",
    "Manufacturer": f"{SECRET} Ltd",
    "StudyDate": "20190101",
    "AcquisitionDate": "20190203",
    "ContrastBolusAgent": "Gadobutrol",
}


AXES = {
    "axial": np.eye(3),
    "axial as CT stores it": np.diag([-1.0, -1, 1]),
    "sagittal": np.array([[0, 0, 1.0], [1, 0, 0], [0, -1, 0]]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, -1], [0, -1, 0]]),
    "oblique": Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix(),
}


def affine(axes: str = "oblique", spacing_mm=(0.9, 0.8, 1.7)) -> np.ndarray:
    world_from_voxel = np.eye(4)
    world_from_voxel[:3, :3] = AXES[axes] @ np.diag(spacing_mm)
    world_from_voxel[:3, 3] = 10.123, -33.3, 7.77
    return world_from_voxel


def voxels(shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)


def write(folder: Path, axes: str = "oblique", shape=SHAPE, modality: str = "MR", **headers) -> list[Path]:
    return write_series(folder / SECRET, voxels(shape), affine(axes), modality, HEADERS | headers)


def change(path: Path, **elements) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


def series_in(folder: Path) -> list[Series]:
    return index_delivery(folder).patients[SECRET].series


def assert_equal(series: Series, scratch: Path, expected: np.ndarray, world_from_voxel: np.ndarray) -> None:
    """`series` reads as these voxels, turned to canonical axes."""
    orientation = io_orientation(world_from_voxel)
    volume = read_series(series, scratch)
    np.testing.assert_array_equal(volume.voxels, apply_orientation(expected, orientation))
    canonical = world_from_voxel @ inv_ornt_aff(orientation, expected.shape)
    np.testing.assert_allclose(volume.world_from_voxel, canonical, atol=1e-3)
