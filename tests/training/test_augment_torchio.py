"""TorchIO's augmentation: the contract of ours, no trace in global random state, and the same statistics."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from ricenet.training.augment_torchio import TorchioAugmentation
from ricenet.training.augmentation import Augmentation

OFF = {
    "probability": 1.0, "rotation_degrees": 0.0, "scaling": 0.0, "elastic_mm": 0.0, "elastic_grid": 7, "flip": False,
    "noise": 0.0, "brightness": 0.0, "gamma": 0.0,
}  # fmt: skip
ALL = {
    **OFF, "rotation_degrees": 15.0, "scaling": 0.15, "elastic_mm": 4.0, "flip": True, "noise": 0.2,
    "brightness": 0.25, "gamma": 0.3,
}  # fmt: skip
SHAPE = (26, 24, 20)
START = (4, 4, 3)
SPACING_MM = 2.0


@pytest.fixture(scope="module")
def content() -> torch.Tensor:
    """(2, 16, 15, 13): z-scores in an ellipsoid, and a positive dose."""
    texture = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((16, 15, 13)), 3)
    x, y, z = np.indices(texture.shape)
    inside = (x - 8) ** 2 / 8**2 + (y - 7) ** 2 / 7**2 + (z - 6) ** 2 / 6**2 < 1
    zscores = (texture - texture[inside].mean()) / texture[inside].std() * inside
    return torch.from_numpy(np.stack([zscores, 0.5 + 0.02 * (x + y + z)]).astype(np.float32))


def augment(content: torch.Tensor, seed: int = 0, plain: bool = False, **strengths: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    ours = Augmentation(**{**OFF, **strengths})  # type: ignore[arg-type]
    used = ours if plain else TorchioAugmentation(ours)
    return used(content, START, SHAPE, SPACING_MM, [True, False], generator)


def placed(content: torch.Tensor) -> torch.Tensor:
    volume = torch.zeros(len(content), *SHAPE)
    volume[:, 4:20, 4:19, 3:16] = content
    return volume


def test_off_and_probability_zero_change_nothing(content: torch.Tensor) -> None:
    torch.testing.assert_close(augment(content), placed(content), rtol=1e-5, atol=1e-5)
    unflipped = {**ALL, "probability": 0.0, "flip": False}
    torch.testing.assert_close(augment(content, **unflipped), placed(content), rtol=1e-6, atol=1e-6)


def test_same_seed_same_result_and_global_random_state_is_left_alone(content: torch.Tensor) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (augment(content, seed, **ALL) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_half_precision_content_is_read_and_left_as_it_is(content: torch.Tensor) -> None:
    half = content.half()
    before = half.clone()
    result = augment(half, **ALL)
    assert torch.equal(half, before)
    assert result.dtype == torch.float32
    assert torch.equal(result, augment(half.float(), **ALL))


def test_dose_is_moved_with_the_rest_and_keeps_its_values(content: torch.Tensor) -> None:
    twice = content[1:].repeat(2, 1, 1, 1)
    moving = {"rotation_degrees": 20.0, "elastic_mm": 4.0}
    moved = augment(twice, 1, **moving)
    assert not torch.equal(moved[1], placed(twice)[1])
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-5, atol=1e-5)
    changed = augment(twice, 1, **moving, brightness=0.5, gamma=0.5, noise=0.5)
    assert torch.equal(changed[1], moved[1])
    assert not torch.equal(changed[0], moved[0])


def test_intensity_and_elastic_leave_the_background_at_zero(content: torch.Tensor) -> None:
    still = augment(content, 2, noise=0.5, gamma=0.5, brightness=0.5)
    assert not still[placed(content) == 0].any()
    # TorchIO's elastic deformation would fill in the minimum at the borders that it does not lock.
    moved = augment(content, 2, elastic_mm=4.0)
    assert not moved[..., :1].any()
    assert not moved[..., -1:].any()


def statistics(content: torch.Tensor, plain: bool) -> np.ndarray:
    """(100, 4): mean and SD of the image within the brain, how far the dose moved in voxels, and its sum."""
    centre = np.array(ndimage.center_of_mass(placed(content)[1].numpy()))
    rows = []
    for seed in range(100):
        image, dose = augment(content, seed, plain, **{**ALL, "probability": 0.7}).numpy()
        within = image[9:15, 9:14, 7:12]
        moved = np.linalg.norm(np.array(ndimage.center_of_mass(dose)) - centre)
        rows.append([within.mean(), within.std(), moved, dose.sum()])
    return np.array(rows)


@pytest.mark.slow
def test_statistics_of_ours_and_torchios_are_alike(content: torch.Tensor) -> None:
    ours, theirs = statistics(content, plain=True), statistics(content, plain=False)
    for column in range(ours.shape[1]):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.01
    assert ours.mean(0) == pytest.approx(theirs.mean(0), rel=0.15, abs=0.05)
    assert ours.std(0) == pytest.approx(theirs.std(0), rel=0.3)
