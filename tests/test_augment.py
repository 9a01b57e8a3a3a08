"""The six augmentations: each does what its name says, alone; dose is moved and never re-scaled."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from ricenet.augment import Augmentation

OFF = {
    "probability": 1.0, "rotation_degrees": 0.0, "scaling": 0.0, "elastic_mm": 0.0, "elastic_grid": 7, "flip": False,
    "noise": 0.0, "brightness": 0.0, "gamma": 0.0,
}  # fmt: skip


def augment(
    volume: torch.Tensor, seed: int = 0, intensity: list[bool] | None = None, **strengths: float
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    applies = intensity or [True] * len(volume)
    return Augmentation(**{**OFF, **strengths})(volume, 2.0, applies, generator)  # type: ignore[arg-type]


@pytest.fixture
def head() -> torch.Tensor:
    """(2, 24, 28, 20): a smooth blob off the centre on a background of 0, twice."""
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.standard_normal((24, 28, 20)), 2) + 0.5
    x, y, z = np.indices(image.shape)
    inside = (x - 13) ** 2 + (y - 12) ** 2 + (z - 9) ** 2 < 36
    return torch.from_numpy((image * inside).astype(np.float32)).repeat(2, 1, 1, 1)


def test_everything_off_changes_nothing_and_copies(head: torch.Tensor) -> None:
    result = augment(head)
    assert torch.equal(result, head)
    assert result.data_ptr() != head.data_ptr()


def test_probability_zero_switches_all_off(head: torch.Tensor) -> None:
    strengths = {
        "rotation_degrees": 30.0,
        "scaling": 0.3,
        "elastic_mm": 6.0,
        "noise": 1.0,
        "brightness": 0.5,
        "gamma": 1.0,
    }
    assert torch.equal(augment(head, probability=0.0, **strengths), head)
    assert not torch.equal(augment(head, **strengths), head)


def test_same_seed_same_result(head: torch.Tensor) -> None:
    strengths = {"rotation_degrees": 30.0, "elastic_mm": 6.0, "noise": 0.5, "gamma": 0.3}
    assert torch.equal(augment(head, 5, **strengths), augment(head, 5, **strengths))
    assert not torch.equal(augment(head, 5, **strengths), augment(head, 6, **strengths))


def test_rotation_keeps_distances_on_unequal_axes() -> None:
    """Two points a known distance apart stay that far apart, also where the grid's sides differ."""
    volume = torch.zeros(2, 40, 30, 20)
    volume[0, 14, 14, 9] = volume[1, 26, 18, 11] = 1
    smooth = torch.from_numpy(ndimage.gaussian_filter(volume.numpy(), (0, 1.5, 1.5, 1.5)))
    for seed in range(5):
        moved = augment(smooth, seed, rotation_degrees=25.0).double().numpy()
        centres = [np.array(ndimage.center_of_mass(channel)) for channel in moved]
        assert np.linalg.norm(centres[0] - centres[1]) == pytest.approx(np.sqrt(144 + 16 + 4), rel=0.01)


def test_scaling_changes_sizes_within_its_bounds() -> None:
    """The mass of a blob grows by the product of three factors in [0.8, 1.2]."""
    blob = torch.zeros(1, 32, 32, 32)
    blob[0, 16, 16, 16] = 1
    blob = torch.from_numpy(ndimage.gaussian_filter(blob.numpy(), (0, 3, 3, 3)))
    ratios = [float(augment(blob, seed, scaling=0.2).sum()) for seed in range(30)]
    assert 0.8**3 < min(ratios) < 0.85
    assert 1.15 < max(ratios) < 1.2**3


def test_elastic_moves_less_than_its_largest_displacement() -> None:
    """A linear ramp tells the displacement at every voxel."""
    ramp = torch.arange(1.0, 41.0).view(40, 1, 1).expand(1, 40, 40, 40).contiguous()
    moved = augment(ramp, 3, elastic_mm=6.0)
    shift = (moved - ramp)[:, 8:-8, 8:-8, 8:-8].abs()
    assert 0.2 < shift.max() <= 6.0 / 2.0 + 1e-3  # 2 mm voxels


def test_channels_move_together_and_dose_keeps_its_values(head: torch.Tensor) -> None:
    strengths = {"rotation_degrees": 20.0, "elastic_mm": 5.0}
    with_intensity = augment(head, 1, [True, False], **strengths, brightness=0.5, gamma=0.5, noise=0.5)
    moved_only = augment(head, 1, [False, False], **strengths)
    assert torch.equal(with_intensity[1], moved_only[1])
    assert not torch.equal(with_intensity[0], moved_only[0])
    assert torch.equal(moved_only[0], moved_only[1])


@pytest.mark.parametrize("strength", [{"brightness": 0.5}, {"gamma": 0.5}, {"noise": 0.5}])
def test_intensity_leaves_the_background_at_zero(head: torch.Tensor, strength: dict[str, float]) -> None:
    result = augment(head, 2, **strength)
    assert not torch.equal(result, head)
    assert not result[head == 0].any()


def test_brightness_is_one_factor_in_its_range(head: torch.Tensor) -> None:
    inside = head[0] != 0
    for seed in range(10):
        factors = (augment(head, seed, brightness=0.25)[0] / head[0])[inside]
        assert factors.std() < 1e-5
        assert 0.75 <= factors.mean() <= 1.25


def test_gamma_keeps_range_and_order(head: torch.Tensor) -> None:
    result = augment(head, 4, gamma=0.5)[0]
    assert torch.allclose(result.amax(), head[0].amax(), atol=1e-5)
    values, changed = head[0].flatten().sort()[0], result.flatten()[head[0].flatten().sort()[1]]
    inside = values != 0
    assert (changed[inside].diff() >= -1e-6).all()


def test_flip_mirrors_left_right_only_half_the_time(head: torch.Tensor) -> None:
    flipped = [torch.equal(augment(head, seed, flip=True), head.flip(1)) for seed in range(40)]
    assert 10 < sum(flipped) < 30
