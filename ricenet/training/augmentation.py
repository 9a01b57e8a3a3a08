"""The paper's augmentations: affine and elastic as one trilinear sampling, then intensity operations in place.

In: the content of a case, the part of its volume that is not 0, and where the volume is a crop also what is around it.
Out: the whole volume (C, X, Y, Z) float32, augmented about its middle.
Distributions are those of TorchIO's RandomFlip, RandomAffine, RandomElasticDeformation, RandomGamma and RandomNoise
(augment_torchio runs these). Differences: gamma acts on values rescaled to [0, 1], because TorchIO's
sign(v) |v|^gamma would bend z-scores about their mean; what comes from outside the volume is 0, where TorchIO's
elastic deformation fills in the minimum, and content at the border fades over the first voxel outside.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ricenet.cases.case_reader import cut
from ricenet.training.warp import Box, Part, Warp, control_points, moving, parts_of, sample_whole, size_of

_AT_ONCE = 2**22  # voxels of a batch, all channels counted: temporary tensors are no larger, or hold one sample
_FAR = 1e30  # beyond any value
_LOCKED = [0, 1, -2, -1]  # control points at rest, TorchIO's locked_borders=2


@dataclass(frozen=True)
class Draw:
    """The drawn augmentation of a sample, or of all samples of a batch along a first axis.

    An augmentation that is not applied has its neutral value.

    Attributes:
        mirrored: (...) bool, left-right.
        scales, degrees: (..., 3) by and about x, y, z.
        displacements_mm: (..., 3, G, G, G) of the control points.
        exponents, factors, deviations: (..., C) of gamma, brightness and noise.
        noise_seed: (...) int64, of the noise.
    """

    mirrored: Tensor
    scales: Tensor
    degrees: Tensor
    displacements_mm: Tensor
    exponents: Tensor
    factors: Tensor
    deviations: Tensor
    noise_seed: Tensor

    def __getitem__(self, some: int | slice) -> "Draw":
        """One sample of a batch, or some."""
        return Draw(*(getattr(self, field.name)[some] for field in fields(self)))

    def warp(self, spacing_mm: float, shape: Sequence[int]) -> Warp:
        """Where the voxels of a volume (X, Y, Z) come from, mirroring apart."""
        return Warp(self.scales, self.degrees, self.displacements_mm.double() / spacing_mm, shape)


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
            start: voxel of the volume at which the content begins; of a crop, it may be negative.
            shape: (X, Y, Z) of the volume, which is 0 around the content.
            spacing_mm: isotropic voxel size.
            intensity: per channel, whether gamma, brightness and noise apply (False for dose).
            generator: source of all randomness, on the CPU.

        Returns:
            (C, X, Y, Z) float32.
        """
        return apply(self.draw(len(content), generator), content, start, shape, spacing_mm, intensity)

    def batch(
        self,
        contents: Tensor,
        spacing_mm: float,
        intensity: Sequence[bool],
        seeds: Sequence[int],
        starts: Sequence[Sequence[int]] | None = None,
        shape: Sequence[int] | None = None,
    ) -> Tensor:
        """Augment volumes on their device, each as a call with a generator of its seed does, up to rounding.

        The noise of large volumes, and on a GPU of all, has other values of the same distribution: a call draws it
        where content can land, a batch everywhere.

        Args:
            contents: (B, C, x, y, z) float16 or float32, left as it is.
            spacing_mm: isotropic voxel size.
            intensity: per channel, whether gamma, brightness and noise apply.
            seeds: one a sample.
            starts: of each sample, the voxel of its volume at which its content begins; None: the first.
            shape: (X, Y, Z) of the volumes; None: that of the contents.

        Returns:
            (B, C, X, Y, Z) float32.
        """
        shape = contents.shape[2:] if shape is None else tuple(shape)
        first_voxels = torch.zeros(len(seeds), 3, dtype=torch.int64) if starts is None else torch.tensor(starts)
        draws = self.draw_batch(contents.shape[1], [torch.Generator().manual_seed(seed) for seed in seeds])
        result = torch.empty(*contents.shape[:2], *shape, device=contents.device)
        at_once = max(1, _AT_ONCE // contents[0].numel())
        for first in range(0, len(seeds), at_once):
            some = slice(first, first + at_once)
            _augment_together(contents[some], first_voxels[some], result[some], draws[some], spacing_mm, intensity)
        return result

    def margin(self, shape: Sequence[int], spacing_mm: float) -> int:
        """How many voxels beyond a volume of `shape` the content can lie that some draw brings into it.

        Of a rotation by at most a about each axis, no row's absolute values sum up to more than (cos a + sin a)^3, or
        the root of 3.
        """
        half = (max(shape) - 1) / 2
        radians = math.radians(min(self.rotation_degrees, 45))
        turned = min((math.cos(radians) + math.sin(radians)) ** 3, math.sqrt(3))
        farthest = turned * (half + self.elastic_mm / spacing_mm) / max(1 - self.scaling, 1e-3)
        return max(0, math.ceil(farthest - half)) + 1  # and the voxel that the last one is interpolated with

    def draw(self, channels: int, generator: torch.Generator) -> Draw:
        """Draw one sample's parameters; how many numbers that takes does not depend on the strengths."""
        return self.draw_batch(channels, [generator])[0]

    def draw_batch(self, channels: int, generators: Sequence[torch.Generator]) -> Draw:
        """Draw each sample's parameters from its own generator, as `draw`."""
        sizes = {"applied": 5, "displacements": 3 * self.elastic_grid**3, "mirrored": int(self.flip), "scales": 3,
                 "degrees": 3, "exponents": channels, "factors": channels, "deviations": channels}  # fmt: skip
        total = sum(sizes.values())
        uniform = torch.stack([torch.rand(total, generator=generator) for generator in generators])
        seeds = torch.stack([torch.randint(2**63 - 1, (), generator=generator) for generator in generators])
        unit = dict(zip(sizes, uniform.split(list(sizes.values()), -1), strict=True))
        affine, elastic, gamma, brightness, noise = (unit["applied"] < self.probability).split(1, -1)

        def around(centre: float, radius: Tensor, name: str) -> Tensor:
            return centre + radius * (2 * unit[name] - 1)

        grid = (3, *(self.elastic_grid,) * 3)
        displacements = around(0, elastic * self.elastic_mm, "displacements").unflatten(-1, grid)
        displacements[..., _LOCKED, :, :] = 0
        displacements[..., _LOCKED, :] = 0  # and not along z: TorchIO locks two of the three axes
        return Draw(
            mirrored=(unit["mirrored"] < 0.5).any(-1),
            scales=around(1, affine * self.scaling, "scales"),
            degrees=around(0, affine * self.rotation_degrees, "degrees"),
            displacements_mm=displacements,
            exponents=around(0, gamma * self.gamma, "exponents").exp(),
            factors=around(1, brightness * self.brightness, "factors"),
            deviations=noise * self.noise * unit["deviations"],
            noise_seed=seeds,
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
        content = content.flip(1)
        start = (shape[0] - start[0] - content.shape[1], *start[1:])
    warp = draw.warp(spacing_mm, shape)
    parts = parts_of(content, start, intensity, warp)
    volume = torch.zeros(len(content), *shape)
    for part in parts:
        warp.move(content[part.channels], start, part, volume[part.channels])
    _change_intensities(volume, parts, draw)
    return volume


def _augment_together(
    contents: Tensor, starts: Tensor, result: Tensor, draws: Draw, spacing_mm: float, intensity: Sequence[bool]
) -> None:
    """Write the augmented volumes of contents (B, C, x, y, z) into `result` (B, C, X, Y, Z) float32."""
    shape = result.shape[2:]
    displacements = draws.displacements_mm.double() / spacing_mm
    moves = moving(draws.scales, draws.degrees, displacements)
    if moves.any():
        points = control_points(draws.scales, draws.degrees, displacements, shape)
        points[draws.mirrored, ..., 0] = shape[0] - 1 - points[draws.mirrored, ..., 0]
        result.copy_(sample_whole(contents.float(), starts, shape, points))
    for index in (~moves).nonzero()[:, 0].tolist():
        whole = cut(contents[index], (-starts[index]).tolist(), shape)
        result[index] = whole.flip(1) if draws.mirrored[index] else whole
    _change_intensities_together(result.flatten(2), draws, torch.tensor(intensity))


def _change_intensities_together(volumes: Tensor, draws: Draw, intensity: Tensor) -> None:
    """Gamma, brightness and noise of (B, C, voxels) in place, where it is not 0; `intensity`: (C,) bool."""
    changes = (draws.exponents != 1) | (draws.factors != 1) | (draws.deviations != 0)
    samples, channels = (changes & intensity).nonzero(as_tuple=True)
    if not len(samples):
        return
    images = volumes[samples, channels]
    outside = torch.eq(images, 0, out=torch.empty_like(images))  # as numbers: several times faster than by a mask
    exponents, factors, deviations = (
        of_batch[samples, channels].unsqueeze(1) for of_batch in (draws.exponents, draws.factors, draws.deviations)
    )
    bent = (exponents != 1)[:, 0].nonzero()[:, 0]
    if len(bent):
        images[bent] = _with_gamma(images[bent], outside[bent], exponents[bent].to(images.device))
    images *= factors.to(images.device)
    if deviations.any():
        images.addcmul_(_noise(images, draws.noise_seed, samples, deviations), deviations.to(images.device))
    volumes[samples, channels] = images.mul_(1 - outside)


def _with_gamma(images: Tensor, outside: Tensor, exponents: Tensor) -> Tensor:
    """`images` (K, voxels), changed in place, with any value `outside`: (K, voxels) 1 there and 0 inside."""
    low = torch.add(images, outside, alpha=_FAR).amin(1, keepdim=True)
    high = torch.sub(images, outside, alpha=_FAR).amax(1, keepdim=True)
    span = (high - low).clamp(min=torch.finfo(images.dtype).tiny)
    return images.sub_(low).div_(span).clamp_(0, 1).pow_(exponents).mul_(span).add_(low)


def _noise(images: Tensor, seeds: Tensor, samples: Tensor, deviations: Tensor) -> Tensor:
    """Standard noise of the shape of `images`, each sample's by a generator of its seed; 0 where there is none."""
    noise = torch.zeros_like(images)
    generators: dict[int, torch.Generator] = {}
    for row in deviations[:, 0].nonzero()[:, 0].tolist():
        sample = int(samples[row])
        if sample not in generators:
            generators[sample] = torch.Generator(images.device).manual_seed(int(seeds[sample]))
        noise[row].normal_(generator=generators[sample])
    return noise


def _change_intensities(volume: Tensor, parts: list[Part], draw: Draw) -> None:
    noise = torch.Generator(volume.device).manual_seed(int(draw.noise_seed))
    strengths = torch.stack([draw.exponents, draw.factors, draw.deviations], 1).tolist()
    for part in parts:
        if part.intensity:
            for channel in range(part.channels.start, part.channels.stop):
                exponent, factor, deviation = strengths[channel]
                _change_intensity(volume[channel], part.targets, exponent, factor, deviation, noise)


def _change_intensity(
    image: Tensor, boxes: list[Box], exponent: float, factor: float, deviation: float, noise: torch.Generator
) -> None:
    """Gamma, brightness and noise where (X, Y, Z) is not 0: noise in the background would tell the brain's outline."""
    flat = torch.cat([image[box].flatten() for box in boxes])
    inside = flat.nonzero().squeeze(1)
    values = flat[inside]
    if exponent != 1 and len(values):
        _apply_gamma(values, exponent)
    values *= factor
    if deviation:
        # Drawn for all voxels of the boxes: one more or less inside, by rounding, must not shift the others' noise.
        standard = torch.randn(len(flat), generator=noise, device=flat.device)
        values.add_(standard[inside], alpha=deviation)
    flat[inside] = values
    sizes = [size_of(box) for box in boxes]
    for box, size, changed in zip(boxes, sizes, flat.split([math.prod(size) for size in sizes]), strict=True):
        image[box] = changed.view(size)


def _apply_gamma(values: Tensor, exponent: float) -> None:
    low, high = values.aminmax()
    span = (high - low).clamp(min=torch.finfo(values.dtype).tiny)
    values.sub_(low).div_(span).pow_(exponent).mul_(span).add_(low)
