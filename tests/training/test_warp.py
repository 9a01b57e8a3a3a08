"""The one sampling is TorchIO's affine, elastic and joint sampling, voxel by voxel, and skips only what is 0."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchio
from helpers.warp_truth import SPACING_MM, by_torchio
from scipy import ndimage

from ricenet.training.augmentation import Augmentation, Draw, apply
from ricenet.training.warp import Warp, parts_of, size_of


@pytest.fixture(scope="module")
def anisotropic() -> torch.Tensor:
    """(1, 40, 36, 28): texture of SD 1 in an ellipsoid off the centre."""
    texture = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((40, 36, 28)), 1.5)
    x, y, z = np.indices(texture.shape)
    inside = (x - 18) ** 2 / 14**2 + (y - 17) ** 2 / 12**2 + (z - 13) ** 2 / 9**2 < 1
    return torch.from_numpy((texture / texture.std() * inside).astype(np.float32))[None]


def moves(seed: int) -> Draw:
    """Draw of rotation, scaling and elastic deformation without intensity operations."""
    strengths = Augmentation(
        probability=1, rotation_degrees=25, scaling=0.2, elastic_mm=6, elastic_grid=7, flip=False, noise=0,
        brightness=0, gamma=0,
    )  # fmt: skip
    return strengths.draw(1, torch.Generator().manual_seed(seed))


def affine_arguments(draw: Draw) -> dict:
    return {
        "scales": draw.scales.tolist(), "degrees": draw.degrees.tolist(), "translation": (0, 0, 0),
        "default_pad_value": 0,
    }  # fmt: skip


def elastic_arguments(draw: Draw) -> dict:
    """ITK's axes x and y run the other way: both the order of control points and the sign of displacements."""
    lps = draw.displacements_mm.flip(1, 2) * torch.tensor([-1.0, -1.0, 1.0]).view(3, 1, 1, 1)
    return {"control_points": lps.movedim(0, -1).numpy(), "max_displacement": (6.0, 6.0, 6.0)}


@pytest.mark.parametrize("seed", range(3))
def test_sampling_is_torchios_voxel_by_voxel(anisotropic: torch.Tensor, seed: int) -> None:
    draw = moves(seed)
    still = torch.zeros_like(draw.displacements_mm)
    pairs = {
        torchio.Affine(**affine_arguments(draw)): replace(draw, displacements_mm=still),
        torchio.ElasticDeformation(**elastic_arguments(draw)): replace(
            draw, scales=torch.ones(3), degrees=torch.zeros(3)
        ),
        torchio.AffineElasticDeformation(True, affine_arguments(draw), elastic_arguments(draw)): draw,
    }
    for transform, ours in pairs.items():
        result = apply(ours, anisotropic, (0, 0, 0), (40, 36, 28), SPACING_MM, [True])
        expected = by_torchio(transform, anisotropic)
        # ElasticDeformation fills in the minimum where a voxel is read from outside, and only there.
        expected[expected == anisotropic.min()] = 0
        torch.testing.assert_close(result, expected, rtol=0, atol=5e-5)
        assert (result - anisotropic).abs().max() > 1


def test_what_moves_nothing_says_so() -> None:
    still = Warp(torch.ones(3), torch.zeros(3), torch.zeros(3, 7, 7, 7), (20, 20, 20))
    assert not still.moves
    assert moves(0).warp(SPACING_MM, (20, 20, 20)).moves


@pytest.mark.parametrize("seed", range(5))
def test_content_lands_in_the_boxes_that_are_sampled(anisotropic: torch.Tensor, seed: int) -> None:
    """A small part of the volume, sampled everywhere, is 0 outside its boxes; and these are few."""
    small = torch.zeros_like(anisotropic)
    small[:, 16:22, 14:20, 10:16] = anisotropic[:, 16:22, 14:20, 10:16]
    warp = moves(seed).warp(SPACING_MM, (40, 36, 28))
    (part,) = parts_of(small, (0, 0, 0), [True], warp)
    everywhere = torch.zeros_like(small)
    whole = (slice(0, 40), slice(0, 36), slice(0, 28))
    warp.move(small, (0, 0, 0), replace(part, source=whole, targets=[whole]), everywhere)
    assert everywhere.abs().max() > 1
    for box in part.targets:
        everywhere[(slice(None), *box)] = 0
    assert not everywhere.any()
    assert sum(math.prod(size_of(box)) for box in part.targets) < 0.8 * small.numel()


def test_channels_treated_alike_share_their_boxes_and_a_dose_has_its_own(anisotropic: torch.Tensor) -> None:
    content = torch.cat([anisotropic, anisotropic, torch.ones_like(anisotropic)])
    parts = parts_of(content, (0, 0, 0), [True, True, False], moves(0).warp(SPACING_MM, (40, 36, 28)))
    assert [(part.channels, part.intensity) for part in parts] == [(slice(0, 2), True), (slice(2, 3), False)]
    assert parts[1].source == (slice(0, 40), slice(0, 36), slice(0, 28))
    assert parts[0].source != parts[1].source
