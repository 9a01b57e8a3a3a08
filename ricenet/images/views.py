"""Planes, slices and isodoses through a volume."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))
ISODOSES = {"20%": "#2c7fb8", "50%": "#41b65c", "80%": "#fdae61", "95%": "#e31a1c"}
Isodoses = list[tuple[float, str]]  # Gy, from the lowest, and colour


def isodoses_gy(highest_gy: float) -> Isodoses:
    """ISODOSES as shares of `highest_gy`."""
    return [(float(name.rstrip("%")) / 100 * highest_gy, colour) for name, colour in ISODOSES.items()]


def radiological_slice(volume: NDArray, axis: int, at: Sequence[int]) -> NDArray:
    """The slice through voxel `at`, rows upwards; as radiologists look: the patient's right is on the left.

    Args:
        volume: (X, Y, Z), RAS+.
        axis: that the slice is normal to.
        at: voxel (x, y, z).
    """
    return upright(np.take(volume, at[axis], axis=axis), axis)


def upright(plane: NDArray, axis: int) -> NDArray:
    """A plane of an (X, Y, Z) volume without `axis`, turned as radiological_slice turns it."""
    return plane.T if axis == 0 else plane.T[:, ::-1]


def peak(drop: np.ndarray) -> tuple[int, ...]:
    """Voxel of the maximum of an (X, Y, Z) map; where several share it, the one nearest to the middle of them.

    A map is constant over blocks of the stride's size. The first voxel of the highest block is its corner: all maxima
    would be half a block too far to the left, the back and the bottom.
    """
    highest = float(drop.max())
    tied = np.argwhere(drop >= highest - TIED * abs(highest))
    distance = np.linalg.norm(tied - tied.mean(axis=0), axis=1)
    x, y, z = tied[distance.argmin()].tolist()
    return x, y, z


TIED = 1e-6  # relative; sums of the same drops in another order differ by less
