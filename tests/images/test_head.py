import numpy as np
import pytest
from helpers.analytic_patient import grid, points

from ricenet.images.head import about_the_brain, coarse_head
from ricenet.images.volume import Volume

SHAPE = (60, 70, 80)
AFFINE = grid(SHAPE, (4, 4, 4))


def ball(radius_mm: float, at=(0.0, 0.0, 0.0)) -> np.ndarray:
    return np.linalg.norm(points(SHAPE, AFFINE, np.eye(4)) - at, axis=-1) < radius_mm


def noisy(head: np.ndarray, bright: float = 800, dark: float = 0) -> Volume:
    noise = np.random.default_rng(0).normal(0, 20, SHAPE)
    return Volume((np.where(head, bright, dark) + noise).astype(np.float32), AFFINE)


@pytest.mark.parametrize("dark", [0, -1000])
def test_the_head_is_the_largest_bright_piece_without_holes(dark) -> None:
    head, elsewhere = ball(80), ball(8, (0, 0, 130))
    hollow = head & ~ball(30)
    coarse, found = coarse_head(noisy(hollow | elsewhere, dark=dark))
    assert found.sum() * 64 == pytest.approx(head.sum() * 64, rel=0.02)
    centre = coarse.world_from_voxel @ [*np.argwhere(found).mean(axis=0), 1]
    np.testing.assert_allclose(centre[:3], 0, atol=1)
    assert max(found.shape) <= 160 / 4 + 5, "cropped to the head"


def test_the_brain_is_deep_and_near_the_top() -> None:
    coarse, head = coarse_head(noisy(ball(100)))
    brain = about_the_brain(head, coarse.world_from_voxel)
    at = points(head.shape, coarse.world_from_voxel, np.eye(4))
    expected = (np.linalg.norm(at, axis=-1) < 85) & (at[..., 2] > -40)
    assert (brain ^ expected).sum() < 0.1 * expected.sum()


def test_an_image_without_contrast_is_its_own_head() -> None:
    voxels = np.zeros(SHAPE, np.float32)
    voxels[3, 3, 3] = 1
    _, head = coarse_head(Volume(voxels, AFFINE))
    assert head.mean() > 0.85, "all but the faces that the opening takes off"
