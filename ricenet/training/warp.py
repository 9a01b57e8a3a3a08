"""Where each voxel of an augmented volume is read: an affine map and a cubic B-spline in, one trilinear sampling out.

Coordinates are voxels, axes x, y, z. Only where content can land is anything sampled: which cells of 8^3 voxels are not
0 is carried forward through the map, and each slab of the result gets the box that they can reach.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Box = tuple[slice, slice, slice]

_CELL = 8  # voxels: where content is, and where it can land, is known by cells and slabs of this size
_TURNS = torch.tensor(  # generators of the rotations about x, y, z
    [[[0, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [-1, 0, 0]], [[0, -1, 0], [1, 0, 0], [0, 0, 0]]]
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
        self.moves = bool((scales != 1).any() or degrees.any() or displacements.any())
        self.shape = shape
        grid = displacements.shape[1]
        displacements = displacements.double()
        self.centre = (torch.tensor(shape, dtype=torch.float64) - 1) / 2
        self.output_from_content = scales.double()[:, None] * _rotation(degrees)
        # Half a cell with its trilinear rim, and the displacement, which keeps within that of the control points.
        self.reach = self.output_from_content.abs().sum(1) * (_CELL + 1) / 2 + displacements.abs().amax((1, 2, 3))
        self.weights = [_bspline_weights(length, grid) for length in shape]
        # A cubic B-spline reproduces linear functions, so the affine map rides in the control points.
        at_rest = torch.stack(torch.meshgrid(*(_control_positions(length, grid) for length in shape), indexing="ij"))
        offsets = at_rest + displacements - self.centre.view(3, 1, 1, 1)
        moved = torch.linalg.solve(self.output_from_content, offsets.flatten(1)).view_as(offsets)
        self.control_points = moved + self.centre.view(3, 1, 1, 1)

    def targets(self, cells: Tensor) -> list[Box]:
        """Slab by slab along x, the voxels that the content of the cells (K, 3) can reach."""
        centres = cells * _CELL + (_CELL - 1) / 2 - self.centre
        landed = centres @ self.output_from_content.T + self.centre
        least, largest = landed - self.reach, landed + self.reach
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
            out[(slice(None), *part.source)] = content
            return
        content = content.float()
        control_points = self.normalised(part.source)
        for box in part.targets:
            grid = _spline(control_points, [weights[s] for weights, s in zip(self.weights, box, strict=True)])
            out[(slice(None), *box)] = _trilinear(content[None], grid[None])[0]

    def normalised(self, source: Box) -> Tensor:
        """Control points in grid_sample's coordinates of a part of the volume, its axes last to first."""
        first = torch.tensor([side.start for side in source], dtype=torch.float64).view(3, 1, 1, 1)
        size = torch.tensor(size_of(source)).view(3, 1, 1, 1)
        return ((2 * (self.control_points - first) + 1) / size - 1).flip(0)


def parts_of(content: Tensor, start: Sequence[int], intensity: Sequence[bool], warp: Warp) -> list[Part]:
    """Split channels by `intensity`: a dose reaches beyond the brain, and must not cost the rest their small boxes."""
    parts = []
    channel = 0
    first = torch.tensor(start)
    last = first + torch.tensor(content.shape[1:]) - 1
    for applies, run in itertools.groupby(intensity):
        channels = slice(channel, channel + len(list(run)))
        cells = _occupied_cells(content[channels], start)
        source = _box((cells * _CELL).clamp(min=first), (cells * _CELL + _CELL - 1).clamp(max=last), warp.shape)
        parts.append(Part(channels, applies, source, warp.targets(cells)))
        channel = channels.stop
    return [part for part in parts if part.targets]


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
    if not len(least):
        return (slice(0, 0),) * 3
    first = least.amin(0).floor().int().tolist()
    last = largest.amax(0).ceil().int().tolist()
    x, y, z = (slice(max(min(a, n), 0), max(min(b + 1, n), 0)) for a, b, n in zip(first, last, shape, strict=True))
    return x, y, z


def size_of(box: Box) -> tuple[int, int, int]:
    x, y, z = (side.stop - side.start for side in box)
    return x, y, z


def sample_whole(volumes: Tensor, warps: list[Warp]) -> Tensor:
    """Sample (B, C, X, Y, Z), each by its own warp."""
    whole = (slice(0, volumes.shape[2]), slice(0, volumes.shape[3]), slice(0, volumes.shape[4]))
    control_points = torch.stack([warp.normalised(whole) for warp in warps]).to(volumes.device)
    x, y, z = (weights.to(volumes.device) for weights in warps[0].weights)
    grid = torch.cat([_spline(control_points, [slab, y, z]) for slab in x.split(_CELL)], 2)
    return _trilinear(volumes, grid)


def _spline(control_points: Tensor, weights: list[Tensor]) -> Tensor:
    """Evaluate a B-spline: control points (..., G, G, G) and weights (x, G), (y, G), (z, G) to (..., x, y, z) float32.

    In float64 until then: neither TF32 nor autocast may touch coordinates.
    """
    return torch.einsum("...ijk,xi,yj,zk->...xyz", control_points, *weights).float()


def _trilinear(volumes: Tensor, grid: Tensor) -> Tensor:
    """Sample (B, C, ...) at grid (B, 3, x, y, z), 0 outside."""
    return functional.grid_sample(volumes, grid.movedim(1, -1), "bilinear", "zeros", align_corners=False)


def _control_positions(length: int, grid: int) -> Tensor:
    """Voxel coordinates (G,) of an axis' control points, one beyond either end of the mesh of G - 3 cells.

    ITK's mesh spans the image's outline and 1/8 voxel more at either end.
    """
    return (length + 0.25) / (grid - 3) * (torch.arange(grid, dtype=torch.float64) - 1) - 0.625


def _bspline_weights(length: int, grid: int) -> Tensor:
    """Weight (length, G) of each control point at each voxel of an axis."""
    positions = _control_positions(length, grid)
    voxels = torch.arange(length, dtype=torch.float64)
    distance = (voxels[:, None] - positions).abs() / (positions[1] - positions[0])
    return torch.where(distance < 1, 2 / 3 - distance**2 + distance**3 / 2, (2 - distance).clamp(min=0) ** 3 / 6)


def _rotation(degrees: Tensor) -> Tensor:
    """Rotation (3, 3) about y, then x, then z: ITK's Euler angles."""
    x, y, z = torch.linalg.matrix_exp(degrees.double().deg2rad().view(3, 1, 1) * _TURNS)
    return z @ x @ y
