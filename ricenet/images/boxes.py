"""Boxes around masks, so that a number of a small region costs what the region does, not what the volume does."""

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, ...]


def box_around(mask: NDArray[np.bool_], margin: int = 0) -> Box:
    """The smallest box that holds a mask, and so many voxels around it, as far as the volume has them.

    Args:
        mask: (X, Y, Z), not empty.
        margin: in voxels.
    """
    box = []
    for axis, count in enumerate(mask.shape):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(max(int(occupied[0]) - margin, 0), min(int(occupied[-1]) + margin + 1, count)))
    return tuple(box)
