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
from dataclasses import dataclass

import torch
from torch import Tensor

from ricenet.cases.case_reader import cut
from ricenet.training.warp import Box, Part, Warp, control_points, moving, parts_of, sample_whole, size_of

_AT_ONCE = 2**22  # voxels of a batch, all channels counted: temporary tensors are no larger, or hold one sample
_FAR = 1e30  # beyond any value
_LOCKED = [0, 1, -2, -1]  # control points at rest, TorchIO's locked_borders=2


@dataclass(frozen=True)
class Draw:
    """The drawn augmentation of one sample; an augmentation that is not applied has its neutral value.

    Attributes:
        mirrored: left-right.
        scales, degrees: (3,) by and about x, y, z.
        displacements_mm: (3, G, G, G) of the control points.
        exponents, factors, deviations: of gamma, brightness and noise, one a channel.
        noise_seed: of the noise.
    """

    mirrored: bool
    scales: Tensor
    degrees: Tensor
    displacements_mm: Tensor
    exponents: list[float]
    factors: list[float]
    deviations: list[float]
    noise_seed: int

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
        draws = [self.draw(contents.shape[1], torch.Generator().manual_seed(seed)) for seed in seeds]
        result = torch.empty(*contents.shape[:2], *shape, device=contents.device)
        at_once = max(1, _AT_ONCE // contents[0].numel())
        for first in range(0, len(draws), at_once):
            some = slice(first, first + at_once)
            copies = contents[some].to(torch.float32, copy=True)
            _augment_together(copies, first_voxels[some], result[some], draws[some], spacing_mm, intensity)
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
    contents: Tensor,
    starts: Tensor,
    result: Tensor,
    draws: Sequence[Draw],
    spacing_mm: float,
    intensity: Sequence[bool],
) -> None:
    """Write the augmented volumes of contents (B, C, x, y, z) float32, which are changed, into (B, C, X, Y, Z)."""
    shape = result.shape[2:]
    mirrored = [index for index, draw in enumerate(draws) if draw.mirrored]
    if mirrored:
        contents[mirrored] = contents[mirrored].flip(2)
        starts = starts.clone()
        starts[mirrored, 0] = shape[0] - starts[mirrored, 0] - contents.shape[2]
    scales, degrees = (torch.stack([getattr(draw, name) for draw in draws]) for name in ("scales", "degrees"))
    displacements = torch.stack([draw.displacements_mm for draw in draws]).double() / spacing_mm
    moves = moving(scales, degrees, displacements)
    moved = moves.nonzero()[:, 0]
    if len(moved):
        points = control_points(scales[moved], degrees[moved], displacements[moved], shape)
        result[moved] = sample_whole(contents[moved], starts[moved], shape, points)
    for index in (~moves).nonzero()[:, 0].tolist():
        result[index] = cut(contents[index], (-starts[index]).tolist(), shape)
    _change_intensities_together(result.flatten(2), draws, intensity)


def _change_intensities_together(volumes: Tensor, draws: Sequence[Draw], intensity: Sequence[bool]) -> None:
    """Gamma, brightness and noise of (B, C, voxels) in place, where it is not 0."""
    changed = [
        (sample, channel)
        for sample, draw in enumerate(draws)
        for channel, applies in enumerate(intensity)
        if applies and (draw.exponents[channel], draw.factors[channel], draw.deviations[channel]) != (1, 1, 0)
    ]
    if not changed:
        return
    samples, channels = zip(*changed, strict=True)
    images = volumes[samples, channels]
    outside = torch.eq(images, 0, out=torch.empty_like(images))  # as numbers: several times faster than by a mask

    def column(name: str) -> Tensor:
        numbers = [getattr(draws[sample], name)[channel] for sample, channel in changed]
        return torch.tensor(numbers, device=images.device)[:, None]

    exponents = column("exponents")
    bent = (exponents != 1)[:, 0].nonzero()[:, 0]
    if len(bent):
        images[bent] = _with_gamma(images[bent], outside[bent], exponents[bent])
    images *= column("factors")
    images.addcmul_(_noise(images, draws, changed), column("deviations"))
    volumes[samples, channels] = images.mul_(1 - outside)


def _with_gamma(images: Tensor, outside: Tensor, exponents: Tensor) -> Tensor:
    """`images` (K, voxels), changed in place, with any value `outside`: (K, voxels) 1 there and 0 inside."""
    low = torch.add(images, outside, alpha=_FAR).amin(1, keepdim=True)
    high = torch.sub(images, outside, alpha=_FAR).amax(1, keepdim=True)
    span = (high - low).clamp(min=torch.finfo(images.dtype).tiny)
    return images.sub_(low).div_(span).clamp_(0, 1).pow_(exponents).mul_(span).add_(low)


def _noise(images: Tensor, draws: Sequence[Draw], changed: Sequence[tuple[int, int]]) -> Tensor:
    """Standard noise of the shape of `images`, each sample's by its own generator; 0 where a draw has none."""
    noise = torch.zeros_like(images)
    generators = {sample: torch.Generator(images.device).manual_seed(draws[sample].noise_seed) for sample, _ in changed}
    for of_image, (sample, channel) in zip(noise, changed, strict=True):
        if draws[sample].deviations[channel]:
            of_image.normal_(generator=generators[sample])
    return noise


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
    sizes = [size_of(box) for box in boxes]
    for box, size, changed in zip(boxes, sizes, flat.split([math.prod(size) for size in sizes]), strict=True):
        image[box] = changed.view(size)


def _apply_gamma(values: Tensor, exponent: float) -> None:
    low, high = values.aminmax()
    span = (high - low).clamp(min=torch.finfo(values.dtype).tiny)
    values.sub_(low).div_(span).pow_(exponent).mul_(span).add_(low)
