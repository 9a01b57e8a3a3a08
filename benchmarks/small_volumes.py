"""What does it cost to augment a batch of 16 small volumes together, and one after the other?

OMP_NUM_THREADS=1 python benchmarks/small_volumes.py        (seconds, one thread)

Writes outputs/bench/small_volumes_28.json and _14.json: phantoms of 28^3 voxels, and their crops of 14^3. Three
channels, the third a dose that is 0 nowhere and keeps its values; strengths of experiment=phantom_ablation.
"""

from collections.abc import Iterator
from functools import partial
from itertools import count

import torch
from bench import measure
from torch import Tensor

from ricenet.training.augmentation import Augmentation

SAMPLES, SPACING_MM = 16, 7.0
INTENSITY = [True, True, False]
STRENGTHS = Augmentation(
    probability=0.8, rotation_degrees=25, scaling=0.15, elastic_mm=7.5, elastic_grid=7, flip=True, noise=0.1,
    brightness=0.1, gamma=0.2,
)  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    for size in (28, 14):
        batch, seeds = volumes(size), count()
        peers = {"one by one": partial(one_by_one, batch, seeds)}
        measure(f"small_volumes_{size}", partial(together, batch, seeds), peers, rounds=15, volume=list(batch.shape))


def together(batch: Tensor, seeds: Iterator[int]) -> Tensor:
    return STRENGTHS.batch(batch, SPACING_MM, INTENSITY, [next(seeds) for _ in batch])


def one_by_one(batch: Tensor, seeds: Iterator[int]) -> Tensor:
    x, y, z = batch.shape[2:]
    generators = [torch.Generator().manual_seed(next(seeds)) for _ in batch]
    augmented = [
        STRENGTHS(volume, (0, 0, 0), (x, y, z), SPACING_MM, INTENSITY, generator)
        for volume, generator in zip(batch, generators, strict=True)
    ]
    return torch.stack(augmented)


def volumes(size: int) -> Tensor:
    """(16, 3, size, size, size) float16: noise in a ball of a brain's share in MRI, everywhere in the dose."""
    offset = torch.arange(size) - (size - 1) / 2
    inside = offset[:, None, None] ** 2 + offset[:, None] ** 2 + offset**2 < (0.39 * size) ** 2
    batch = torch.randn(SAMPLES, 3, size, size, size, generator=torch.Generator().manual_seed(0))
    batch[:, :2] *= inside
    return batch.half()


if __name__ == "__main__":
    main()
