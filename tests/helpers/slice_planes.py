"""Planes of slices that are cut from a grid."""

import numpy as np
from scipy.spatial.transform import Rotation

from ricenet.dicom.slice_stack import Plane

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


SHAPE = (9, 8, 12)


def grid(degrees=(20, -15, 30), spacing_mm=(0.8, 0.9, 1.7)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(spacing_mm)
    affine[:3, 3] = 10.5, -20.25, 3.125
    return affine


def planes(affine: np.ndarray, places: np.ndarray | list[float] = tuple(range(12))) -> list[Plane]:
    """Slices cut from `affine`'s grid at these (also fractional) slice indices."""
    lps = LPS_FROM_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    cosines = tuple((lps[:3, :2] / spacing[:2]).T.ravel())
    return [Plane(cosines, tuple(lps[:3, 3] + place * lps[:3, 2]), tuple(spacing[:2])) for place in places]


def leaning(affine: np.ndarray, degrees: float) -> list[Plane]:
    """As a CT with a tilted gantry: every slice is shifted along its own rows."""
    shift = np.tan(np.radians(degrees)) * 1.7
    rows = np.array(planes(affine)[0].cosines[3:])
    return [
        Plane(p.cosines, tuple(p.position_mm + shift * k * rows), p.spacing_mm) for k, p in enumerate(planes(affine))
    ]
