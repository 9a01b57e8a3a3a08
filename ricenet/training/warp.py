"""Where each voxel of an augmented volume is read: an affine map and a cubic B-spline in, one trilinear sampling out.

Coordinates are voxels, axes x, y, z. Only where content can land is anything sampled: which cells of 8^3 voxels are not
0 is carried forward through the map, and each slab of the result gets the box that they can reach. Content may lie
beyond the volume, before its first voxel too: of a crop, it is what the map can turn into it.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

Box = tuple[slice, slice, slice]

_SMALL = 32**3  # voxels of a volume that is sampled whole
_CELL = 8  # voxels: where content is, and where it can land, is known by cells and slabs of this size
_TURNS = torch.tensor(  # generators of the rotations about x, y, z
    [[[0, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [-1, 0, 0]], [[0, -1, 0], [1, 0, 0], [0, 0, 0]]],
    dtype=torch.float64,
)


@dataclass(frozen=True)
class Part:
    """Neighbouring channels that are treated alike, the box in which they are not 0, and boxes where they can land."""

    channels: slice
    intensity: bool
    source: Box
    targets: list[Box]


class Warp:
    """Where each voxel of the augmented volume is read: at A (p + d(p)), offsets p from the centre, d a cubic B-spline.

    This is TorchIO's one-step RandomAffineElasticDeformation, and its RandomAffine followed by its
    RandomElasticDeformation; A undoes the scaling, then the rotation.

    Args:
        scales, degrees: (3,) by and about x, y, z.
        displacements: (3, G, G, G) of the control points, voxels.
        shape: (X, Y, Z) of the volume.

    Attributes:
        moves: whether anything is sampled anew.
    """

    def __init__(self, scales: Tensor, degrees: Tensor, displacements: Tensor, shape: Sequence[int]) -> None:
        self.moves = bool(moving(scales, degrees, displacements))
        self.shape = shape
        displacements = displacements.double()
        self.centre = _centre(shape)
        self.output_from_content = scales.double()[:, None] * _rotation(degrees)
        # Half a cell with its trilinear rim, and the displacement, which keeps within that of the control points.
        self.reach = self.output_from_content.abs().sum(1) * (_CELL + 1) / 2 + displacements.abs().amax((1, 2, 3))
        self.control_points = control_points(scales, degrees, displacements, shape)

    def landings(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the largest coordinates (K, 3) that the content of the cells (K, 3) can reach."""
        centres = cells * _CELL + (_CELL - 1) / 2 - self.centre
        landed = centres @ self.output_from_content.T + self.centre
        return landed - self.reach, landed + self.reach

    def landing(self, cells: Tensor) -> Tensor:
        """Those of the cells (K, 3) whose content can reach the volume."""
        least, largest = self.landings(cells)
        return cells[((largest > -1) & (least < torch.tensor(self.shape))).all(1)]

    def targets(self, cells: Tensor) -> list[Box]:
        """Slab by slab along x, the voxels that the content of the cells (K, 3) can reach."""
        least, largest = self.landings(cells)
        boxes = []
        for first in range(0, self.shape[0], _CELL):
            near = (least[:, 0] < first + _CELL) & (largest[:, 0] > first)
            slab = slice(first, min(first + _CELL, self.shape[0]))
            boxes.append((slab, *_box(least[near], largest[near], self.shape)[1:]))
        return [box for box in boxes if all(size_of(box))]

    def move(self, content: Tensor, start: Sequence[int], part: Part, out: Tensor) -> None:
        """Write the moved content (C, x, y, z) of a part into `out` (C, X, Y, Z), which is 0."""
        x, y, z = (slice(s.start - first, s.stop - first) for s, first in zip(part.source, start, strict=True))
        content = content[:, x, y, z]
        if not self.moves:
            both = [
                slice(max(side.start, 0), max(min(side.stop, n), 0))
                for side, n in zip(part.source, self.shape, strict=True)
            ]
            within = (slice(b.start - s.start, b.stop - s.start) for b, s in zip(both, part.source, strict=True))
            out[(slice(None), *both)] = content[(slice(None), *within)]
            return
        first = torch.tensor([side.start for side in part.source])
        points = _normalised(self.control_points, first, size_of(part.source))
        weights = bspline_weights(self.shape, points.shape[0])
        for box in part.targets:
            grid = _spline(points, [of_axis[side] for of_axis, side in zip(weights, box, strict=True)])
            out[(slice(None), *box)] = _trilinear(content[None].float(), grid[None])[0]


def parts_of(content: Tensor, start: Sequence[int], intensity: Sequence[bool], warp: Warp) -> list[Part]:
    """Split channels by `intensity`: a dose reaches beyond the brain, and must not cost the rest their small boxes.

    A small volume is sampled whole: to look for its boxes takes longer.
    """
    small = math.prod(warp.shape) <= _SMALL
    held = _box_at(start, content.shape[1:])
    parts = []
    channel = 0
    for applies, run in itertools.groupby(intensity):
        channels = slice(channel, channel + len(list(run)))
        boxes = (held, [_box_at((0, 0, 0), warp.shape)]) if small else _boxes(content[channels], start, warp)
        parts.append(Part(channels, applies, *boxes))
        channel = channels.stop
    return [part for part in parts if part.targets]


def _boxes(content: Tensor, start: Sequence[int], warp: Warp) -> tuple[Box, list[Box]]:
    """Source and targets of a Part: the box of what is not 0, and where it can land."""
    cells = warp.landing(_occupied_cells(content, start))
    first = torch.tensor(start)
    last = first + torch.tensor(content.shape[1:]) - 1
    source = _box_around((cells * _CELL).clamp(min=first), (cells * _CELL + _CELL - 1).clamp(max=last))
    return source, warp.targets(cells)


def _box_at(start: Sequence[int], size: Sequence[int]) -> Box:
    x, y, z = (slice(first, first + length) for first, length in zip(start, size, strict=True))
    return x, y, z


def _occupied_cells(content: Tensor, start: Sequence[int]) -> Tensor:
    """Cells (K, 3) of the whole volume in which any channel of its content is not 0."""
    occupied = (content != 0).any(0)
    for axis, first in enumerate(start):
        before, after = first % _CELL, -(first + occupied.shape[axis]) % _CELL
        padding = [0, 0] * (2 - axis) + [before, after]
        occupied = functional.pad(occupied, padding).unflatten(axis, (-1, _CELL)).any(axis + 1)
    return occupied.nonzero().cpu() + torch.tensor(start) // _CELL


def _box(least: Tensor, largest: Tensor, shape: Sequence[int]) -> Box:
    """The voxels of a volume of `shape` between the least and the largest of (K, 3) coordinates; none for none."""
    box = zip(_box_around(least, largest), shape, strict=True)
    x, y, z = (slice(max(min(side.start, n), 0), max(min(side.stop, n), 0)) for side, n in box)
    return x, y, z


def _box_around(least: Tensor, largest: Tensor) -> Box:
    """The box between the least and the largest of (K, 3) coordinates; none for none."""
    if not len(least):
        return (slice(0, 0),) * 3
    first = least.amin(0).floor().int().tolist()
    last = largest.amax(0).ceil().int().tolist()
    x, y, z = (slice(a, b + 1) for a, b in zip(first, last, strict=True))
    return x, y, z


def size_of(box: Box) -> tuple[int, int, int]:
    x, y, z = (side.stop - side.start for side in box)
    return x, y, z


def moving(scales: Tensor, degrees: Tensor, displacements: Tensor) -> Tensor:
    """Whether anything is sampled anew: of scales and degrees (..., 3), displacements (..., 3, G, G, G); (...)."""
    return (scales != 1).any(-1) | degrees.any(-1) | displacements.flatten(-4).any(-1)


def control_points(scales: Tensor, degrees: Tensor, displacements: Tensor, shape: Sequence[int]) -> Tensor:
    """Control points of the B-spline that is the whole map; a cubic B-spline reproduces linear functions.

    Args:
        scales, degrees: (..., 3) by and about x, y, z.
        displacements: (..., 3, G, G, G) of the control points, voxels.
        shape: (X, Y, Z) of the volume.

    Returns:
        (..., G, G, G, 3) float64: voxel coordinates x, y, z.
    """
    grid = displacements.shape[-1]
    at_rest = torch.stack(torch.meshgrid(*(_control_positions(length, grid) for length in shape), indexing="ij"), -1)
    centre = _centre(shape)
    offsets = at_rest - centre + displacements.double().movedim(-4, -1)
    # A row vector times the rotation is the rotation undone.
    moved = (offsets / scales.double()[..., None, None, None, :]).flatten(-4, -2) @ _rotation(degrees)
    return moved.view_as(offsets) + centre


def sample_whole(contents: Tensor, starts: Tensor, shape: Sequence[int], points: Tensor) -> Tensor:
    """Sample all voxels of volumes (B, C, *shape), each by its own control points, 0 outside of its content.

    Args:
        contents: (B, C, x, y, z) float32.
        starts: (B, 3), the voxel of the volume at which each content begins.
        points: (B, G, G, G, 3), of `shape`.
    """
    points = _normalised(points, starts[:, None, None, None], contents.shape[2:]).to(contents.device)
    x, y, z = (of_axis.to(contents.device) for of_axis in bspline_weights(shape, points.shape[1]))
    lines = _spline_lines(points, y, z)
    grid = torch.empty(len(contents), *shape, 3, device=contents.device)
    for slab, weights in zip(grid.split(_CELL, 1), x.split(_CELL), strict=True):  # float64 takes twice the room
        slab.flatten(2).copy_(weights @ lines)
    return _trilinear(contents, grid)


def _normalised(points: Tensor, first: Tensor, size: Sequence[int]) -> Tensor:
    """Control points (..., 3) in grid_sample's coordinates of a box of the volume, its axes last to first.

    Args:
        first, size: the box's first voxel (..., 3), and its shape.
    """
    return ((2 * (points - first) + 1) / torch.tensor(size) - 1).flip(-1)


def _spline(points: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Evaluate a B-spline: control points (..., G, G, G, 3) and weights (x, G), (y, G), (z, G); (..., x, y, z, 3).

    In float64, and float32 at the end: neither TF32 nor autocast may touch coordinates.
    """
    x, y, z = weights
    return (x @ _spline_lines(points, y, z)).float().unflatten(-1, (len(y), len(z), 3))


def _spline_lines(points: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """The B-spline evaluated along y and z only: control points (..., G, G, G, 3) to (..., G, y z 3)."""
    return (y @ (z @ points).flatten(-2)).flatten(-2)


def _trilinear(volumes: Tensor, grid: Tensor) -> Tensor:
    """Sample (B, C, ...) at grid (B, x, y, z, 3), 0 outside."""
    return functional.grid_sample(volumes, grid, "bilinear", "zeros", align_corners=False)


def _centre(shape: Sequence[int]) -> Tensor:
    return (torch.tensor(shape, dtype=torch.float64) - 1) / 2


def _control_positions(length: int, grid: int) -> Tensor:
    """Voxel coordinates (G,) of an axis' control points, one beyond either end of the mesh of G - 3 cells.

    ITK's mesh spans the image's outline and 1/8 voxel more at either end.
    """
    return (length + 0.25) / (grid - 3) * (torch.arange(grid, dtype=torch.float64) - 1) - 0.625


def bspline_weights(shape: Sequence[int], grid: int) -> list[Tensor]:
    """Weight (length, G) of each of an axis' control points at each of its voxels, axis by axis."""
    return [_axis_weights(length, grid) for length in shape]


@cache
def _axis_weights(length: int, grid: int) -> Tensor:
    positions = _control_positions(length, grid)
    voxels = torch.arange(length, dtype=torch.float64)
    distance = (voxels[:, None] - positions).abs() / (positions[1] - positions[0])
    return torch.where(distance < 1, 2 / 3 - distance**2 + distance**3 / 2, (2 - distance).clamp(min=0) ** 3 / 6)


def _rotation(degrees: Tensor) -> Tensor:
    """Rotations (..., 3, 3) by degrees (..., 3) about y, then x, then z: ITK's Euler angles."""
    angles = degrees.double().deg2rad()[..., None, None]
    turns = torch.eye(3, dtype=torch.float64) + angles.sin() * _TURNS + (1 - angles.cos()) * (_TURNS @ _TURNS)
    x, y, z = turns.unbind(-3)
    return z @ x @ y
