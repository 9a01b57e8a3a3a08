"""The paper's augmentations run by TorchIO, the reference for augment: the same distributions, many times slower.

In and out as of augment.Augmentation, which draws other numbers from the same seed. TorchIO samples twice, affine and
then elastic, so that its result is a little smoother.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ricenet.cases.case_reader import cut
from ricenet.training.augmentation import Augmentation


@dataclass(frozen=True)
class TorchioAugmentation:
    """TorchIO's transforms with the strengths of an Augmentation."""

    strengths: Augmentation

    def __call__(
        self,
        content: Tensor,
        start: tuple[int, int, int],
        shape: tuple[int, int, int],
        spacing_mm: float,
        intensity: Sequence[bool],
        generator: torch.Generator,
    ) -> Tensor:
        """Augment one case; arguments and result as of Augmentation.

        A crop is augmented with a margin around it, which is cut away again: the elastic grid spans both.
        """
        margin = self.margin(shape, spacing_mm) if _reaches_beyond(content, start, shape) else 0
        whole = [n + 2 * margin for n in shape]
        volume = cut(content, [-first - margin for first in start], whole).float()
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        # TorchIO draws from torch's global generator; torch.manual_seed would set those of every GPU as well.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            volume = self._move(volume, spacing_mm)
            applies = torch.tensor(intensity)
            x, y, z = (slice(margin, margin + n) for n in shape)
            volume = volume[:, x, y, z].contiguous()
            volume[applies] = self._change_intensities(volume[applies])
        return volume

    def margin(self, shape: Sequence[int], spacing_mm: float) -> int:
        """As of Augmentation."""
        return self.strengths.margin(shape, spacing_mm)

    def _move(self, volume: Tensor, spacing_mm: float) -> Tensor:
        import torchio

        transform = torchio.Compose(
            [
                torchio.RandomFlip(axes=0, flip_probability=0.5 if self.strengths.flip else 0),
                torchio.RandomAffine(
                    scales=self.strengths.scaling,
                    degrees=self.strengths.rotation_degrees,
                    default_pad_value=0,
                    # Resampling in place would leave 1e-16 around the brain, which is not 0.
                    p=self.strengths.probability if self.strengths.scaling or self.strengths.rotation_degrees else 0,
                ),
                torchio.RandomElasticDeformation(
                    num_control_points=self.strengths.elastic_grid,
                    max_displacement=self.strengths.elastic_mm,
                    locked_borders=2,
                    p=self.strengths.probability,
                ),
            ]
        )
        # RandomElasticDeformation fills in a channel's minimum, so both signs travel apart, each with minimum 0.
        signs = torch.cat([volume.clamp(min=0), (-volume).clamp(min=0)])
        affine = torch.diag(torch.tensor([spacing_mm] * 3 + [1.0], dtype=torch.float64))
        positive, negative = transform(torchio.ScalarImage(tensor=signs, affine=affine)).data.chunk(2)
        return positive - negative

    def _change_intensities(self, images: Tensor) -> Tensor:
        """Gamma, brightness and noise where (C, X, Y, Z) is not 0."""
        import torchio

        inside = images != 0
        low = images.where(inside, torch.inf).amin((1, 2, 3), keepdim=True)
        high = images.where(inside, -torch.inf).amax((1, 2, 3), keepdim=True)
        span = (high - low).clamp(min=torch.finfo(images.dtype).tiny)
        # On z-scores RandomGamma would be sign(v) |v|^gamma.
        unit = ((images - low) / span).where(inside, 0)
        bent = _one_by_one(
            torchio.RandomGamma(log_gamma=(-self.strengths.gamma, self.strengths.gamma), p=self.strengths.probability),
            unit,
        )
        transform = torchio.Compose(
            [
                torchio.Lambda(self._brighten, p=self.strengths.probability),
                torchio.RandomNoise(std=(0, self.strengths.noise), p=self.strengths.probability),
            ]
        )
        return _one_by_one(transform, bent * span + low).where(inside, 0)

    def _brighten(self, image: Tensor) -> Tensor:
        return image * (1 + self.strengths.brightness * (2 * torch.rand(()) - 1))


def _reaches_beyond(content: Tensor, start: Sequence[int], shape: Sequence[int]) -> bool:
    ends = (first + size for first, size in zip(start, content.shape[1:], strict=True))
    return min(start) < 0 or any(end > n for end, n in zip(ends, shape, strict=True))


def _one_by_one(transform: Any, images: Tensor) -> Tensor:
    """Change (C, X, Y, Z) as C images of one subject, which TorchIO gives a strength each."""
    import torchio

    if not len(images):
        return images
    subject = torchio.Subject(
        {f"channel{c}": torchio.ScalarImage(tensor=image[None]) for c, image in enumerate(images)}
    )
    return torch.cat([image.data for image in transform(subject).get_images()])
