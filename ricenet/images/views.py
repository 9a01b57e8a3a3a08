"""Planes, slices and isodoses through a volume."""

import numpy as np

PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))


ISODOSES = {"20%": "#2c7fb8", "50%": "#41b65c", "80%": "#fdae61", "95%": "#e31a1c"}


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
