"""The six augmentations: each does what its name says, alone, and all of them what TorchIO does."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torchio
from helpers.warp_truth import SPACING_MM, by_torchio
from scipy import ndimage, stats

from ricenet.training import augmentation as augmentation_module
from ricenet.training.augmentation import Augmentation, Draw, apply

OFF = {
    "probability": 1.0, "rotation_degrees": 0.0, "scaling": 0.0, "elastic_mm": 0.0, "elastic_grid": 7, "flip": False,
    "noise": 0.0, "brightness": 0.0, "gamma": 0.0,
}  # fmt: skip
ALL = {
    **OFF, "rotation_degrees": 20.0, "scaling": 0.2, "elastic_mm": 6.0, "flip": True, "noise": 0.3, "brightness": 0.3,
    "gamma": 0.4,
}  # fmt: skip


def augment(
    volume: torch.Tensor, seed: int = 0, intensity: list[bool] | None = None, **strengths: float
) -> torch.Tensor:
    """A whole volume, augmented as if all of it were content."""
    applies = intensity or [True] * len(volume)
    augmentation = Augmentation(**{**OFF, **strengths})  # type: ignore[arg-type]
    return augmentation(volume, (0, 0, 0), volume.shape[1:], SPACING_MM, applies, torch.Generator().manual_seed(seed))


def cut(volume: torch.Tensor, margin: int) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """The content of a volume with a margin of 0 around it, and where it begins."""
    occupied = (volume != 0).any(0).nonzero()
    first = (occupied.amin(0) - margin).clamp(min=0).tolist()
    x, y, z = (slice(a, b + 1 + margin) for a, b in zip(first, occupied.amax(0).tolist(), strict=True))
    return volume[:, x, y, z].clone(), tuple(first)


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
    assert 0.2 < shift.max() <= 6.0 / SPACING_MM + 1e-3


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


@pytest.mark.parametrize("seed", range(3))
def test_content_of_either_precision_is_left_as_it_is(head: torch.Tensor, seed: int) -> None:
    half = head.half()
    single = half.float()
    assert torch.equal(augment(half, seed, **ALL), augment(single, seed, **ALL))
    assert torch.equal(half, head.half())
    assert torch.equal(single, half.float())


@pytest.mark.parametrize("margin", [0, 1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_cropped_content_gives_the_whole_volumes_result(head: torch.Tensor, margin: int, seed: int) -> None:
    content, start = cut(head, margin)
    shape = tuple(head.shape[1:])
    augmentation = Augmentation(**ALL)  # type: ignore[arg-type]
    result = augmentation(content, start, shape, SPACING_MM, [True, True], torch.Generator().manual_seed(seed))
    torch.testing.assert_close(result, augment(head, seed, **ALL), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_a_dose_that_fills_the_volume_changes_nothing_for_the_other_channels(head: torch.Tensor, seed: int) -> None:
    shape = tuple(head.shape[1:])
    wide = torch.cat([head, torch.linspace(1, 2, head[0].numel()).view(1, *shape)])
    draw = Augmentation(**ALL).draw(3, torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
    result = apply(draw, wide, (0, 0, 0), shape, SPACING_MM, [True, True, False])
    assert torch.equal(result[:2], apply(draw, head, (0, 0, 0), shape, SPACING_MM, [True, True]))
    assert torch.equal(result[2:], apply(draw, wide[2:], (0, 0, 0), shape, SPACING_MM, [False]))
    assert 1 <= result[2, 6:-6, 6:-6, 6:-6].min() < result[2].max() <= 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_batch_is_each_sample_alone(head: torch.Tensor, dtype: torch.dtype) -> None:
    augmentation = Augmentation(**{**ALL, "probability": 0.6})  # type: ignore[arg-type]
    volumes = torch.stack([head, head.flip(1), 0.5 * head, head.roll(3, 2), head]).to(dtype)
    seeds, applies = [3, 1, 4, 15, 9], [True, False]
    together = augmentation.batch(volumes, SPACING_MM, applies, seeds)
    assert together.dtype == torch.float32
    for volume, seed, result in zip(volumes, seeds, together, strict=True):
        generator = torch.Generator().manual_seed(seed)
        alone = augmentation(volume, (0, 0, 0), tuple(head.shape[1:]), SPACING_MM, applies, generator)
        torch.testing.assert_close(result, alone, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            result, augmentation.batch(volume[None], SPACING_MM, applies, [seed])[0], rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("at_once", [1, 10**9])
def test_a_batch_of_large_volumes_is_each_sample_alone_but_for_the_noise(
    head: torch.Tensor, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """A call samples boxes of large volumes, a batch the whole of them, all at once or sample by sample."""
    monkeypatch.setattr(augmentation_module, "_AT_ONCE", at_once)
    volume = torch.nn.functional.interpolate(head[None], (40, 44, 36), mode="nearest")[0]
    strengths = Augmentation(**{**ALL, "probability": 0.7, "noise": 0.0})  # type: ignore[arg-type]
    seeds = [3, 1, 4, 15]
    together = strengths.batch(torch.stack([volume] * 4), SPACING_MM, [True, False], seeds)
    for seed, result in zip(seeds, together, strict=True):
        generator = torch.Generator().manual_seed(seed)
        alone = strengths(volume, (0, 0, 0), tuple(volume.shape[1:]), SPACING_MM, [True, False], generator)
        torch.testing.assert_close(result, alone, rtol=1e-4, atol=1e-4)


def test_noise_of_a_batch_has_the_drawn_deviation_inside_and_is_another_in_each_sample(head: torch.Tensor) -> None:
    strengths = Augmentation(**{**OFF, "noise": 0.3})  # type: ignore[arg-type]
    seeds = range(12)
    noise = strengths.batch(torch.stack([head] * 12), SPACING_MM, [True, True], seeds) - head
    assert not noise[:, head == 0].any()
    inside = noise[:, head != 0].view(12, 2, -1)
    drawn_sd = [strengths.draw(2, torch.Generator().manual_seed(seed)).deviations for seed in seeds]
    torch.testing.assert_close(inside.std(2), torch.stack(drawn_sd), rtol=0.15, atol=0)
    correlations = torch.corrcoef(inside.flatten(0, 1)).fill_diagonal_(0)
    assert correlations.abs().max() < 0.2


def test_an_empty_channel_of_a_batch_stays_empty(head: torch.Tensor) -> None:
    volumes = torch.stack([head] * 8)
    volumes[:, 1] = 0
    result = Augmentation(**ALL).batch(volumes, SPACING_MM, [True, True], range(8))  # type: ignore[arg-type]
    assert result[:, 0].any()
    assert not result[:, 1].any()


def test_content_that_leaves_the_volume_and_empty_channels_are_zero() -> None:
    corner = torch.zeros(2, 24, 24, 24)
    corner[0, :2, :2, :2] = 1
    results = [
        augment(
            corner,
            seed,
            **ALL,
        )
        for seed in range(20)
    ]
    assert not any(result[1].any() for result in results)
    assert any(not result.any() for result in results)


def test_too_few_control_points_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 5 control points per axis expected.*got 4"):
        Augmentation(**{**OFF, "elastic_mm": 5.0, "elastic_grid": 4})  # type: ignore[arg-type]


def drawn(n: int, **strengths: float) -> Iterator[Draw]:
    generator = torch.Generator().manual_seed(0)
    augmentation = Augmentation(**{**OFF, **strengths})  # type: ignore[arg-type]
    return (augmentation.draw(1, generator) for _ in range(n))


def assert_same_distribution(ours: object, theirs: object) -> None:
    assert stats.ks_2samp(np.ravel(ours), np.ravel(theirs)).pvalue > 0.01


@pytest.mark.heavy
def test_affine_parameters_are_distributed_as_torchios() -> None:
    torch.manual_seed(1)
    random = torchio.RandomAffine(scales=0.15, degrees=15)
    theirs = [random.get_params(random.scales, random.degrees, random.translation, False) for _ in range(1500)]
    ours = list(drawn(1500, scaling=0.15, rotation_degrees=15.0))
    for axis in range(3):
        assert_same_distribution([draw.scales[axis] for draw in ours], [scales[axis] for scales, _, _ in theirs])
        assert_same_distribution([draw.degrees[axis] for draw in ours], [degrees[axis] for _, degrees, _ in theirs])


def test_control_points_are_distributed_and_locked_as_torchios() -> None:
    torch.manual_seed(1)
    theirs = np.stack([torchio.RandomElasticDeformation.get_params((7, 7, 7), (7.5, 7.5, 7.5), 2) for _ in range(30)])
    ours = np.stack([draw.displacements_mm.movedim(0, -1).numpy() for draw in drawn(30, elastic_mm=7.5)])
    free = (theirs != 0).any(0)
    assert np.array_equal((ours != 0).any(0), free)
    assert free.mean() == pytest.approx((3 / 7) ** 2)
    for axis in range(3):
        assert_same_distribution(ours[:, free[..., axis], axis], theirs[:, free[..., axis], axis])


@pytest.mark.heavy
def test_intensity_parameters_are_distributed_as_torchios() -> None:
    torch.manual_seed(1)
    noise, gamma = torchio.RandomNoise(std=(0, 0.1)), torchio.RandomGamma(log_gamma=0.3)
    ours = list(drawn(3000, noise=0.1, gamma=0.3, brightness=0.25))
    deviations = [noise.get_params(noise.mean_range, noise.std_range)[1] for _ in ours]
    assert_same_distribution([draw.deviations[0] for draw in ours], deviations)
    assert_same_distribution([draw.exponents[0] for draw in ours], [gamma.get_params((-0.3, 0.3)) for _ in ours])
    assert stats.kstest([draw.factors[0] for draw in ours], stats.uniform(0.75, 0.5).cdf).pvalue > 0.01


@pytest.mark.heavy
def test_each_augmentation_is_applied_with_its_own_probability() -> None:
    strengths = {name: value for name, value in ALL.items() if name != "probability"}
    ours = list(drawn(2000, probability=0.3, **strengths))
    applied = np.array(
        [
            [
                bool(draw.degrees.any()), bool(draw.displacements_mm.any()), draw.exponents[0] != 1,
                draw.factors[0] != 1, draw.deviations[0] != 0,
            ]
            for draw in ours
        ]
    )  # fmt: skip
    assert applied.mean(0) == pytest.approx(0.3, abs=0.03)
    assert np.corrcoef(applied.T) == pytest.approx(np.eye(5), abs=0.08)


@pytest.mark.slow
def test_displacement_at_the_centre_spreads_as_torchios() -> None:
    """Three ramps tell the displacement along each axis."""
    ramps = 100 + torch.stack(torch.meshgrid(*[torch.arange(15.0)] * 3, indexing="ij"))
    strengths = {"max_displacement": 3.0, "num_control_points": 7}
    torch.manual_seed(1)
    theirs = [by_torchio(torchio.RandomElasticDeformation(**strengths), ramps) for _ in range(200)]
    ours = [augment(ramps, seed, [False] * 3, elastic_mm=3.0) for seed in range(200)]
    ours_at, theirs_at = ((torch.stack(many)[:, :, 7, 7, 7] - ramps[:, 7, 7, 7]).numpy() for many in (ours, theirs))
    assert ours_at.std(0) == pytest.approx(theirs_at.std(0), rel=0.15)
    for axis in range(3):
        assert_same_distribution(ours_at[:, axis], theirs_at[:, axis])


@pytest.fixture
def wide() -> torch.Tensor:
    """(2, 44, 40, 42): texture in a large ellipsoid, and everywhere."""
    texture = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((44, 40, 42)), 1.5)
    x, y, z = np.indices(texture.shape)
    inside = (x - 21) ** 2 / 20**2 + (y - 19) ** 2 / 18**2 + (z - 20) ** 2 / 17**2 < 1
    return torch.from_numpy(np.stack([texture * inside, 1 + np.abs(texture)]).astype(np.float32))


CROP, EDGE = (11, 6, 20), (12, 14, 10)  # a crop's first voxel, and its shape


@pytest.mark.parametrize("seed", range(6))
def test_a_crop_is_augmented_about_its_middle_with_what_lies_around_it(wide: torch.Tensor, seed: int) -> None:
    """As the volume that has the crop in its middle, whatever its size: no empty corner, every voxel the same."""
    draw = Augmentation(**{**ALL, "rotation_degrees": 40.0, "elastic_mm": 0.0}).draw(  # type: ignore[arg-type]
        2, torch.Generator().manual_seed(seed)
    )
    around = tuple(-first for first in CROP)
    result = apply(draw, wide, around, EDGE, SPACING_MM, [False, False])
    assert result.shape == (2, *EDGE)
    # The same map on a volume of which the crop is the middle: 60 voxels wide, so that it holds all that is turned in.
    margin = 24
    padded = torch.zeros(2, *(n + 2 * margin for n in EDGE))
    x, y, z = (slice(max(margin - a, 0), None) for a in CROP)
    source = wide[:, max(CROP[0] - margin, 0) :, max(CROP[1] - margin, 0) :, max(CROP[2] - margin, 0) :]
    target = padded[:, x, y, z]
    x, y, z = (slice(0, min(a, b)) for a, b in zip(source.shape[1:], target.shape[1:], strict=True))
    target[:, x, y, z] = source[:, x, y, z]
    whole = apply(draw, padded, (0, 0, 0), tuple(padded.shape[1:]), SPACING_MM, [False, False])
    middle = whole[:, margin:-margin, margin:-margin, margin:-margin]
    torch.testing.assert_close(result, middle, rtol=1e-4, atol=1e-4)
    assert (result[1] > 0.5).all(), "the second channel fills the volume, so it fills the crop"


@pytest.mark.parametrize("seed", range(8))
def test_nothing_beyond_the_margin_can_come_into_a_crop(wide: torch.Tensor, seed: int) -> None:
    strengths = {**ALL, "rotation_degrees": 15.0, "scaling": 0.1, "elastic_mm": 4.0}
    augmentation = Augmentation(**strengths)  # type: ignore[arg-type]
    margin = augmentation.margin(EDGE, SPACING_MM)
    assert margin < 12
    low = [max(first - margin, 0) for first in CROP]
    x, y, z = (slice(a, first + n + margin) for a, first, n in zip(low, CROP, EDGE, strict=True))
    near = wide[:, x, y, z]
    assert near.numel() < 0.7 * wide.numel()
    starts = [tuple(-first for first in CROP), tuple(a - first for a, first in zip(low, CROP, strict=True))]
    results = [
        augmentation(content, start, EDGE, SPACING_MM, [True, False], torch.Generator().manual_seed(seed))
        for content, start in zip((wide, near), starts, strict=True)
    ]
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)


def test_the_margin_holds_the_farthest_that_any_draw_reads() -> None:
    """A bright shell just beyond the margin never shows, one just beyond the crop does."""
    augmentation = Augmentation(**{**OFF, "rotation_degrees": 25.0, "scaling": 0.2})  # type: ignore[arg-type]
    margin = augmentation.margin((12, 12, 12), SPACING_MM)
    for beyond, shows in ((margin, False), (2, True)):
        content = torch.ones(1, *(3 * [12 + 2 * (beyond + 2)]))
        content[:, 2:-2, 2:-2, 2:-2] = 0
        brightest = max(
            augmentation(
                content, (-beyond - 2,) * 3, (12, 12, 12), SPACING_MM, [False], torch.Generator().manual_seed(seed)
            ).max()
            for seed in range(40)
        )
        assert bool(brightest > 0) == shows


@pytest.mark.parametrize("probability", [0.0, 0.6, 1.0])
def test_a_batch_of_crops_is_each_crop_alone(wide: torch.Tensor, probability: float) -> None:
    augmentation = Augmentation(**{**ALL, "probability": probability})  # type: ignore[arg-type]
    contents = torch.stack([wide, wide.flip(2), 0.5 * wide, wide])
    starts = [(-11, -6, -20), (-3, 0, -9), (-30, -30, 2), (5, -4, -33)]
    seeds, applies = [3, 1, 4, 15], [True, False]
    together = augmentation.batch(contents, SPACING_MM, applies, seeds, starts, EDGE)
    assert together.shape == (4, 2, *EDGE)
    for content, seed, start, result in zip(contents, seeds, starts, together, strict=True):
        alone = augmentation(content, start, EDGE, SPACING_MM, applies, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(result, alone, rtol=1e-3, atol=2e-4)
    if not probability and not torch.equal(together[0], wide.flip(1)[:, 21:33, 6:20, 20:30]):
        assert torch.equal(together[0], wide[:, 11:23, 6:20, 20:30])
