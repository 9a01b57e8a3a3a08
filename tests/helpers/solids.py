"""Solids whose numbers are known: voxels of 1.5 mm, places in mm from the middle of the volume."""

import numpy as np
from numpy.typing import NDArray

SPACING_MM = 1.5
SHAPE = (48, 44, 40)
PLACES_MM = np.moveaxis(np.indices(SHAPE), 0, -1) * SPACING_MM - SPACING_MM * (np.array(SHAPE) - 1) / 2
ANYWHERE = np.ones(SHAPE, dtype=bool)


def from_mm(centre_mm: tuple[float, float, float] = (0, 0, 0)) -> NDArray[np.float64]:
    """(X, Y, Z): distance of each voxel's centre to a place."""
    return np.asarray(np.linalg.norm(PLACES_MM - np.array(centre_mm), axis=-1))


def ball(radius_mm: float, centre_mm: tuple[float, float, float] = (0, 0, 0)) -> NDArray[np.bool_]:
    return from_mm(centre_mm) <= radius_mm


def ellipsoid(radii_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    return np.asarray(((PLACES_MM / np.array(radii_mm)) ** 2).sum(axis=-1) <= 1)
