"""Boxes around masks, so that a number of a small region costs what the region does, not what the volume does."""

from collections.abc import Iterator
from math import inf

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, ...]
FIRST_MARGIN = 16  # voxels


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


def growing_boxes(mask: NDArray[np.bool_]) -> Iterator[tuple[float, Box]]:
    """Boxes around a mask, for a search of what is near it: a margin in voxels, and the box that has it on all sides.

    The margin doubles from box to box; that of the last one, the whole volume, is infinite.
    """
    margin = FIRST_MARGIN
    whole = tuple(slice(0, count) for count in mask.shape)
    while (box := box_around(mask, margin)) != whole:
        yield float(margin), box
        margin *= 2
    yield inf, whole
