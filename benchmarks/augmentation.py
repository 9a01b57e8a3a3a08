"""What does it cost to augment one case of 3 x 224^3 voxels: affine, elastic, noise, brightness and gamma, all applied?

pip install -c constraints.txt batchgeneratorsv2
python benchmarks/augmentation.py        (five minutes, one thread)

Writes outputs/bench/augmentation.json, and augmentation_gpu.json where there is a GPU. Each is given a case as it would
hold it, ours the float16 content, the peers the whole float32 volume, and returns a new whole float32 volume. The
peers' elastic deformations are other ones of about the same strength. Besides: peak memory beyond input and result, and
our seconds where the third channel is a dose that is 0 nowhere and keeps its values.
"""

import math
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bench import CPU, WALL, Work, compare, measure, seconds_per_call
from torch import Tensor

from ricenet.training.augmentation import Augmentation

SIZE = 224
BRAIN_MM = (140, 175, 140)
ROTATION = math.radians(15)
ALL = Augmentation(
    probability=1, rotation_degrees=15, scaling=0.15, elastic_mm=7.5, elastic_grid=7, flip=False, noise=0.1,
    brightness=0.25, gamma=0.3,
)  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    head = heads()
    with_dose = torch.cat([head[:2], torch.full((1, *head.shape[1:]), 0.5)])
    ours, ours_with_dose = by_ricenet(head, [True] * 3), by_ricenet(with_dose, [True, True, False])
    peers = {"torchio": by_torchio(head), "monai": by_monai(head), "batchgeneratorsv2": by_batchgenerators(head)}
    ours()
    works = {"ours": ours, **peers}
    measure(
        "augmentation",
        ours,
        peers,
        rounds=5,
        volume=list(head.shape),
        extra_memory_gb={who: extra_memory_gb(work, head.nbytes) for who, work in works.items()},
        ours_with_dose_s=seconds_per_call(ours_with_dose, CPU),
    )
    if torch.cuda.is_available():
        on_gpu(head)


def heads() -> Tensor:
    """(3, 224, 224, 224) float32: smooth z-scores in an ellipsoid of a brain's size, the same in each channel."""
    offsets = torch.meshgrid(*[torch.arange(SIZE) - (SIZE - 1) / 2] * 3, indexing="ij")
    inside = sum((2 * offset / length) ** 2 for offset, length in zip(offsets, BRAIN_MM, strict=True)) < 1
    texture = sum(torch.sin(0.1 * (axis + 1) * offset) for axis, offset in enumerate(offsets))
    return (texture * inside).repeat(3, 1, 1, 1)


def by_ricenet(volume: Tensor, intensity: list[bool]) -> Work:
    occupied = (volume != 0).any(0).nonzero()
    start, stop = occupied.amin(0).tolist(), (occupied.amax(0) + 1).tolist()
    x, y, z = (slice(*ends) for ends in zip(start, stop, strict=True))
    content, generator = volume[:, x, y, z].half(), torch.Generator().manual_seed(0)
    return lambda: ALL(content, tuple(start), tuple(volume.shape[1:]), 1.0, intensity, generator)


def by_torchio(volume: Tensor) -> Work:
    import torchio

    transform = torchio.Compose(
        [
            torchio.RandomAffine(scales=ALL.scaling, degrees=ALL.rotation_degrees, default_pad_value=0),
            torchio.RandomElasticDeformation(ALL.elastic_grid, ALL.elastic_mm, locked_borders=2),
            torchio.RandomGamma(log_gamma=ALL.gamma),
            torchio.Lambda(lambda image: image * (1 + ALL.brightness * (2 * torch.rand(()) - 1))),
            torchio.RandomNoise(std=(0, ALL.noise)),
        ]
    )
    subject = torchio.Subject(
        {f"channel{c}": torchio.ScalarImage(tensor=image[None]) for c, image in enumerate(volume)}
    )
    return lambda: transform(subject)


def by_monai(volume: Tensor) -> Work:
    from monai import transforms

    keys = ["image"]
    transform = transforms.Compose(
        [
            transforms.Rand3DElasticd(
                keys,
                sigma_range=(5, 8),
                magnitude_range=(300, 500),
                prob=1,
                rotate_range=(ROTATION,) * 3,
                scale_range=(ALL.scaling,) * 3,
                padding_mode="zeros",
            ),
            transforms.RandAdjustContrastd(keys, prob=1, gamma=(math.exp(-ALL.gamma), math.exp(ALL.gamma))),
            transforms.RandScaleIntensityd(keys, factors=ALL.brightness, prob=1),
            transforms.RandGaussianNoised(keys, prob=1, std=ALL.noise),
        ]
    ).set_random_state(0)
    return lambda: transform({"image": volume})


def by_batchgenerators(volume: Tensor) -> Work:
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

    np.random.seed(0)  # noqa: NPY002
    transform = ComposeTransforms(
        [
            SpatialTransform(
                volume.shape[1:],
                0,
                False,
                p_elastic_deform=1,
                elastic_deform_scale=(0.1, 0.1),
                elastic_deform_magnitude=(0, ALL.elastic_mm),
                p_rotation=1,
                rotation=(-ROTATION, ROTATION),
                p_scaling=1,
                scaling=(1 - ALL.scaling, 1 + ALL.scaling),
            ),
            GammaTransform(
                (math.exp(-ALL.gamma), math.exp(ALL.gamma)),
                0,
                synchronize_channels=False,
                p_per_channel=1,
                p_retain_stats=0,
            ),
            MultiplicativeBrightnessTransform((1 - ALL.brightness, 1 + ALL.brightness), synchronize_channels=False),
            GaussianNoiseTransform((0, ALL.noise)),
        ]
    )
    return lambda: transform(image=volume)


def extra_memory_gb(work: Work, result_bytes: int) -> float:
    """Peak of the process's memory in a call, beyond what was there and the result."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = resident_bytes("VmRSS")
    result = work()
    del result
    return round((resident_bytes("VmHWM") - before - result_bytes) / 1e9, 3)


def resident_bytes(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


def on_gpu(head: Tensor, samples: int = 4, rounds: int = 10) -> None:
    volumes = head.half().cuda().repeat(samples, 1, 1, 1, 1)
    batch = partial(ALL.batch, volumes, 1.0, [True] * 3, range(samples))
    batch()
    seconds = [seconds_per_call(batch, WALL) / samples for _ in range(rounds)]
    compare("augmentation_gpu", seconds, {}, "s a sample", samples=samples)


if __name__ == "__main__":
    main()
