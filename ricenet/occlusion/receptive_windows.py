"""Receptive-field arithmetic: which voxels of a feature map can change when a box of the input does."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

Voxels = tuple[int, int, int]


@dataclass(frozen=True)
class Cubes:
    """Cubes to blank in a volume, and what of each truly changes.

    Attributes:
        corner: (P, 3) int64 lower corners in voxels. edge: the cubes' edge lengths.
        start, length: (P, 3) int64 bounding boxes of the voxels that blanking changes; length 0 where none does.
    """

    corner: np.ndarray
    edge: Voxels
    start: np.ndarray
    length: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "Cubes":
        return Cubes(self.corner[rows], self.edge, self.start[rows], self.length[rows])

    def slices(self, row: int) -> tuple[slice, slice, slice]:
        return slices(self.corner[row], self.edge)


@dataclass(frozen=True)
class Window:
    """One box per sample of a batch, all of equal `length`, inside the map: (B, 3) int64 `start`."""

    start: np.ndarray
    length: Voxels

    def slices(self, sample: int) -> tuple[slice, slice, slice]:
        return slices(self.start[sample], self.length)


@dataclass(frozen=True)
class Boxes:
    """What can change in a feature map of `size`, per sample: (B, 3) int64 `start` and `length`."""

    start: np.ndarray
    length: np.ndarray
    size: Voxels

    @cached_property
    def window(self) -> Window:
        """The smallest boxes of equal lengths that hold these."""
        edges = self.length.max(axis=0)
        x, y, z = edges.tolist()
        return Window(np.minimum(self.start, np.array(self.size) - edges), (x, y, z))

    def spread(self, kernel: int, step: int, padding: int) -> "Boxes":
        """The voxels of a convolution's (or pool's) output that see any voxel of the boxes; at least one."""
        size = output_size(self.size, kernel, step, padding)
        first = np.maximum(0, -(-(self.start + padding - kernel + 1) // step))
        last = np.minimum(np.array(size) - 1, (self.start + self.length - 1 + padding) // step)
        first = np.minimum(first, np.array(size) - 1)
        return Boxes(first, np.maximum(last - first + 1, 1), size)


def output_size(size: Voxels, kernel: int, step: int, padding: int) -> Voxels:
    """Of a convolution or pool over a map of `size`."""
    x, y, z = ((n + 2 * padding - kernel) // step + 1 for n in size)
    return x, y, z


def slices(corner: np.ndarray, edge: Voxels) -> tuple[slice, slice, slice]:
    x, y, z = (slice(low, low + length) for low, length in zip(corner.tolist(), edge, strict=True))
    return x, y, z


def find_changes(changed: np.ndarray, corner: np.ndarray, edge: Voxels) -> Cubes:
    """The cubes with the bounding box of what changes in each.

    Args:
        changed: (X, Y, Z) bool, the voxels that differ from what they would be blanked with.
        corner: (P, 3) int64. edge: lengths in voxels.
    """
    start, length = corner.copy(), np.zeros_like(corner)
    for row, low in enumerate(corner):
        inside = changed[slices(low, edge)]
        if not inside.any():
            continue
        for axis, others in enumerate(((1, 2), (0, 2), (0, 1))):
            hit = np.flatnonzero(inside.any(axis=others))
            start[row, axis] += hit[0]
            length[row, axis] = hit[-1] - hit[0] + 1
    return Cubes(corner, edge, start, length)
