"""The paper's augmentations: affine and elastic as one trilinear sampling, then intensity operations in place.

In: the content of a case, the part of its volume that is not 0. Out: the whole volume (C, X, Y, Z) float32, augmented.
Distributions are those of TorchIO's RandomFlip, RandomAffine, RandomElasticDeformation, RandomGamma and RandomNoise
(augment_torchio runs these). Differences: gamma acts on values rescaled to [0, 1], because TorchIO's
sign(v) |v|^gamma would bend z-scores about their mean; what comes from outside the volume is 0, where TorchIO's
elastic deformation fills in the minimum, and content at the border fades over the first voxel outside.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Box = tuple[slice, slice, slice]

_CELL = 8  # voxels: where content is, and where it can land, is known by cells and slabs of this size
_LOCKED = [0, 1, -2, -1]  # control points at rest, TorchIO's locked_borders=2
_TURNS = torch.tensor(  # generators of the rotations about x, y, z
    [[[0, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [-1, 0, 0]], [[0, -1, 0], [1, 0, 0], [0, 0, 0]]]
)


@dataclass(frozen=True)
class Draw:
    """What happens to one sample; an augmentation that is not applied has its neutral value.

    mirrored: left-right; scales, degrees: (3,) by and about x, y, z; displacements_mm: (3, G, G, G) of the control
    points; exponents, factors, deviations: of gamma, brightness and noise, one a channel.
    """

    mirrored: bool
    scales: Tensor
    degrees: Tensor
    displacements_mm: Tensor
    exponents: list[float]
    factors: list[float]
    deviations: list[float]
    noise_seed: int

    @property
    def moves(self) -> bool:
        """Whether anything is sampled anew, which a mirror image is not."""
        return bool((self.scales != 1).any() or self.degrees.any() or self.displacements_mm.any())


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the augmentations; each is applied with `probability`, and 0 switches a strength off.

    rotation_degrees, scaling: uniform in [-a, a] and [1 - s, 1 + s] per axis; elastic_mm: largest displacement of a
    control point along an axis; elastic_grid: control points per axis; noise: largest SD in z-score units;
    brightness: factor in [1 - b, 1 + b]; gamma: exponent exp(u), u in [-g, g]; flip: mirror left-right half the time,
    which no paper states, off in the paper's preset.
    """

    probability: float
    rotation_degrees: float
    scaling: float
    elastic_mm: float
    elastic_grid: int
    flip: bool
    noise: float
    brightness: float
    gamma: float

    def __post_init__(self) -> None:
        if self.elastic_mm and self.elastic_grid < 5:
            raise ValueError(
                f"elastic_grid: at least 5 control points per axis expected (4 are locked), got {self.elastic_grid}"
            )

    def __call__(
        self,
        content: Tensor,
        start: tuple[int, int, int],
        shape: tuple[int, int, int],
        spacing_mm: float,
        intensity: Sequence[bool],
        generator: torch.Generator,
    ) -> Tensor:
        """Augment one case.

        Args:
            content: (C, x, y, z) float16 or float32, left as it is.
            start: voxel of the volume at which the content begins.
            shape: (X, Y, Z) of the volume, which is 0 around the content.
            spacing_mm: isotropic voxel size.
            intensity: per channel, whether gamma, brightness and noise apply (False for dose).
            generator: source of all randomness, on the CPU.

        Returns:
            (C, X, Y, Z) float32.
        """
        return apply(self.draw(len(content), generator), content, start, shape, spacing_mm, intensity)

    def batch(self, volumes: Tensor, spacing_mm: float, intensity: Sequence[bool], seeds: Sequence[int]) -> Tensor:
        """Augment whole volumes on their device, each as a call with a generator of its seed does, up to rounding.

        Args:
            volumes: (B, C, X, Y, Z) float16 or float32, left as it is.
            spacing_mm: isotropic voxel size.
            intensity: per channel, whether gamma, brightness and noise apply.
            seeds: one a sample.

        Returns:
            (B, C, X, Y, Z) float32.
        """
        draws = [self.draw(volumes.shape[1], torch.Generator().manual_seed(seed)) for seed in seeds]
        warps = [Warp(draw, spacing_mm, volumes.shape[2:]) for draw in draws]
        result = volumes.to(torch.float32, copy=True)
        for index, draw in enumerate(draws):
            if draw.mirrored:
                result[index] = result[index].flip(1)
        parts = [_parts(volume, (0, 0, 0), intensity, warp) for volume, warp in zip(result, warps, strict=True)]
        moving = [index for index, draw in enumerate(draws) if draw.moves]
        if moving:
            result[moving] = _sample_whole(result[moving], [warps[index] for index in moving])
        for index, draw in enumerate(draws):
            _change_intensities(result[index], parts[index], draw)
        return result

    def draw(self, channels: int, generator: torch.Generator) -> Draw:
        """Draw one sample's parameters; how many numbers that takes does not depend on the strengths."""

        def uniform(centre: float, radius: float, *shape: int) -> Tensor:
            return centre + radius * (2 * torch.rand(shape, generator=generator) - 1)

        affine, elastic, gamma, brightness, noise = (torch.rand(5, generator=generator) < self.probability).tolist()
        displacements = uniform(0, elastic * self.elastic_mm, 3, *(self.elastic_grid,) * 3)
        displacements[:, _LOCKED] = 0
        displacements[:, :, _LOCKED] = 0  # and not along z: TorchIO locks two of the three axes
        return Draw(
            mirrored=self.flip and bool(torch.rand((), generator=generator) < 0.5),
            scales=uniform(1, affine * self.scaling, 3),
            degrees=uniform(0, affine * self.rotation_degrees, 3),
            displacements_mm=displacements,
            exponents=uniform(0, gamma * self.gamma, channels).exp().tolist(),
            factors=uniform(1, brightness * self.brightness, channels).tolist(),
            deviations=(noise * self.noise * torch.rand(channels, generator=generator)).tolist(),
            noise_seed=int(torch.randint(2**63 - 1, (), generator=generator)),
        )


def apply(
    draw: Draw,
    content: Tensor,
    start: tuple[int, int, int],
    shape: tuple[int, int, int],
    spacing_mm: float,
    intensity: Sequence[bool],
) -> Tensor:
    """Augment one case as drawn; arguments and result as of Augmentation."""
    if draw.mirrored:
        content, start = content.flip(1), (shape[0] - start[0] - content.shape[1], *start[1:])
    warp = Warp(draw, spacing_mm, shape)
    parts = _parts(content, start, intensity, warp)
    volume = torch.zeros(len(content), *shape)
    for part in parts:
        warp.move(content[part.channels], start, part, volume[part.channels])
    _change_intensities(volume, parts, draw)
    return volume


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
    """

    def __init__(self, draw: Draw, spacing_mm: float, shape: Sequence[int]) -> None:
        self.moves, self.shape = draw.moves, shape
        grid = draw.displacements_mm.shape[1]
        displacements = draw.displacements_mm.double() / spacing_mm
        self.centre = (torch.tensor(shape, dtype=torch.float64) - 1) / 2
        self.output_from_content = draw.scales.double()[:, None] * _rotation(draw.degrees)
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
        return [box for box in boxes if all(_size(box))]

    def move(self, content: Tensor, start: Sequence[int], part: Part, out: Tensor) -> None:
        """Write the moved content (C, x, y, z) of a part into `out` (C, X, Y, Z), which is 0."""
        x, y, z = (slice(s.start - first, s.stop - first) for s, first in zip(part.source, start, strict=True))
        content = content[:, x, y, z]
        if not self.moves:
            out[(slice(None), *part.source)] = content
            return
        content, control_points = content.float(), self.normalised(part.source)
        for box in part.targets:
            grid = _spline(control_points, [weights[s] for weights, s in zip(self.weights, box, strict=True)])
            out[(slice(None), *box)] = _trilinear(content[None], grid[None])[0]

    def normalised(self, source: Box) -> Tensor:
        """Control points in grid_sample's coordinates of a part of the volume, its axes last to first."""
        first = torch.tensor([side.start for side in source], dtype=torch.float64).view(3, 1, 1, 1)
        size = torch.tensor(_size(source)).view(3, 1, 1, 1)
        return ((2 * (self.control_points - first) + 1) / size - 1).flip(0)


def _parts(content: Tensor, start: Sequence[int], intensity: Sequence[bool], warp: Warp) -> list[Part]:
    """Split channels by `intensity`: a dose reaches beyond the brain, and must not cost the rest their small boxes."""
    parts, channel = [], 0
    first, last = torch.tensor(start), torch.tensor(start) + torch.tensor(content.shape[1:]) - 1
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


def _size(box: Box) -> tuple[int, int, int]:
    x, y, z = (side.stop - side.start for side in box)
    return x, y, z


def _sample_whole(volumes: Tensor, warps: list[Warp]) -> Tensor:
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


def _change_intensities(volume: Tensor, parts: list[Part], draw: Draw) -> None:
    noise = torch.Generator(volume.device).manual_seed(draw.noise_seed)
    for part in parts:
        if part.intensity:
            for channel in range(part.channels.start, part.channels.stop):
                _change_intensity(volume[channel], part.targets, draw, channel, noise)


def _change_intensity(image: Tensor, boxes: list[Box], draw: Draw, channel: int, noise: torch.Generator) -> None:
    """Gamma, brightness and noise where (X, Y, Z) is not 0: noise in the background would tell the brain's outline."""
    flat = torch.cat([image[box].flatten() for box in boxes])
    inside = flat.nonzero().squeeze(1)
    values = flat[inside]
    if draw.exponents[channel] != 1 and len(values):
        _apply_gamma(values, draw.exponents[channel])
    values *= draw.factors[channel]
    if draw.deviations[channel]:
        # Drawn for all voxels of the boxes: one more or less inside, by rounding, must not shift the others' noise.
        standard = torch.randn(len(flat), generator=noise, device=flat.device)
        values.add_(standard[inside], alpha=draw.deviations[channel])
    flat[inside] = values
    sizes = [_size(box) for box in boxes]
    for box, size, changed in zip(boxes, sizes, flat.split([math.prod(size) for size in sizes]), strict=True):
        image[box] = changed.view(size)


def _apply_gamma(values: Tensor, exponent: float) -> None:
    low, high = values.aminmax()
    span = (high - low).clamp(min=torch.finfo(values.dtype).tiny)
    values.sub_(low).div_(span).pow_(exponent).mul_(span).add_(low)
