"""The paper's six augmentations: affine + elastic in one trilinear sampling, then in-place intensity operations.

In: one case's volume (C, X, Y, Z) float32, background 0. Out: the same, new tensor. Distributions follow TorchIO's
transforms of the same name (RandomAffine, RandomElasticDeformation, RandomNoise, RandomGamma); dose channels are
moved, never re-scaled.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_LOCKED = 2  # outermost control points that stay at rest, as in TorchIO's RandomElasticDeformation


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the six augmentations; each is applied with `probability`, and 0 switches a strength off.

    rotation_degrees, scaling: uniform in [-a, a] and [1 - s, 1 + s] per axis; elastic_mm: largest displacement of a
    control point; elastic_grid: control points per axis; noise: largest SD in z-score units; brightness: factor in
    [1 - b, 1 + b]; gamma: exponent exp(u), u in [-g, g]; flip: mirror left-right, which no paper states, off in the
    paper's preset.
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

    def __call__(self, volume: Tensor, spacing_mm: float, intensity: list[bool], generator: torch.Generator) -> Tensor:
        """Augment one volume.

        Args:
            volume: (C, X, Y, Z) float32.
            spacing_mm: isotropic voxel size, which turns `elastic_mm` into voxels.
            intensity: per channel, whether noise, brightness and gamma apply (False for dose).
            generator: source of all randomness.
        """
        if self.flip and _uniform(generator, 0, 1) < 0.5:
            volume = volume.flip(1)
        affine = self._affine(generator) if self._drawn(generator) else torch.eye(3)
        elastic = self.elastic_mm / spacing_mm if self.elastic_mm and self._drawn(generator) else 0.0
        if elastic or not torch.equal(affine, torch.eye(3)):
            volume = _resample(volume, affine, self._displacement(elastic, volume.shape[1:], generator))
        else:
            volume = volume.clone()
        for channel, applies in zip(volume, intensity, strict=True):
            if applies:
                self._change_intensity(channel, generator)
        return volume

    def _drawn(self, generator: torch.Generator) -> bool:
        return _uniform(generator, 0, 1) < self.probability

    def _affine(self, generator: torch.Generator) -> Tensor:
        angles = [math.radians(_uniform(generator, -self.rotation_degrees, self.rotation_degrees)) for _ in range(3)]
        factors = [_uniform(generator, 1 - self.scaling, 1 + self.scaling) for _ in range(3)]
        return _rotation(*angles) @ torch.diag(1 / torch.tensor(factors))

    def _displacement(self, largest_voxels: float, shape: torch.Size, generator: torch.Generator) -> Tensor | None:
        """Coarse displacement field (3, G, G, G) in grid_sample's units, axes x, y, z last to first."""
        if not largest_voxels:
            return None
        field = 2 * torch.rand(3, *(self.elastic_grid,) * 3, generator=generator) - 1
        for axis in range(1, 4):
            field.narrow(axis, 0, _LOCKED).zero_()
            field.narrow(axis, self.elastic_grid - _LOCKED, _LOCKED).zero_()
        return field * largest_voxels * 2 / torch.tensor(shape[::-1]).view(3, 1, 1, 1)

    def _change_intensity(self, channel: Tensor, generator: torch.Generator) -> None:
        inside = channel != 0  # background stays 0: brightness or noise there would tell the brain's outline
        if self.gamma and self._drawn(generator):
            low, high = channel.aminmax()
            span = (high - low).clamp_min(1e-6)
            exponent = math.exp(_uniform(generator, -self.gamma, self.gamma))
            channel.sub_(low).div_(span).pow_(exponent).mul_(span).add_(low)
        if self.brightness and self._drawn(generator):
            channel.mul_(_uniform(generator, 1 - self.brightness, 1 + self.brightness))
        if self.noise and self._drawn(generator):
            deviation = _uniform(generator, 0, self.noise)
            channel.add_(torch.randn(channel.shape, generator=generator), alpha=deviation)
        channel.mul_(inside)


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def _rotation(about_z: float, about_y: float, about_x: float) -> Tensor:
    cz, sz, cy, sy, cx, sx = (f(a) for a in (about_z, about_y, about_x) for f in (math.cos, math.sin))
    z = torch.tensor([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1.0]])
    y = torch.tensor([[cy, 0, sy], [0, 1.0, 0], [-sy, 0, cy]])
    x = torch.tensor([[1.0, 0, 0], [0, cx, -sx], [0, sx, cx]])
    return z @ y @ x


def _resample(volume: Tensor, affine: Tensor, displacement: Tensor | None) -> Tensor:
    """Sample (C, X, Y, Z) once, trilinear, 0 outside; `affine` maps output to input offsets from the centre."""
    size = [1, 1, *volume.shape[1:]]
    # grid_sample's coordinates are relative to each axis' length: keep the rotation rigid where the lengths differ.
    lengths = torch.tensor(volume.shape[:0:-1], dtype=torch.float32)
    theta = torch.cat([affine * lengths / lengths[:, None], torch.zeros(3, 1)], 1)
    grid = functional.affine_grid(theta[None], size, align_corners=False)
    if displacement is not None:
        fine = functional.interpolate(displacement[None], volume.shape[1:], mode="trilinear", align_corners=True)
        grid = grid + fine.permute(0, 2, 3, 4, 1)
    return functional.grid_sample(volume[None], grid, "bilinear", "zeros", align_corners=False)[0]
