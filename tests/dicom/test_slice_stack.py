"""A stack of slices is read back as the grid it was cut from, and anything else is refused by name."""

import numpy as np
import pytest
from helpers.slice_planes import SHAPE, grid, leaning, planes
from scipy.spatial.transform import Rotation

from ricenet.dicom.slice_stack import Plane, place, slice_order, stack
from ricenet.errors import InvalidInput
from ricenet.images.volume import Volume


@pytest.mark.parametrize("degrees", [(0, 0, 0), (90, 0, 0), (0, 90, 0), (20, -15, 30), (180, 3, 1)])
def test_shuffled_slices_give_the_grid_back(degrees):
    affine = grid(degrees)
    shuffled = [planes(affine)[i] for i in np.random.default_rng(0).permutation(12)]
    found = stack([shuffled[i] for i in slice_order(shuffled)])
    np.testing.assert_allclose(found.world_from_voxel, affine, atol=1e-9)
    assert found.step_mm == pytest.approx(1.7)
    assert found.scatter_mm < 1e-9


def test_rounded_positions_do_not_add_up():
    """Positions to .01 mm, as many scanners write them: the 150th slice is as well placed as the first."""
    affine = grid(spacing_mm=(1, 1, 0.8984375))
    exact = planes(affine, range(150))
    rounded = [Plane(p.cosines, tuple(np.round(p.position_mm, 2)), p.spacing_mm) for p in exact]
    found = stack(rounded)
    assert abs(found.world_from_voxel @ [0, 0, 149, 1] - affine @ [0, 0, 149, 1]).max() < 0.01
    assert found.scatter_mm < 0.01


def rounded_stack(seed: int, decimals: int, step_mm: float) -> tuple[np.ndarray, list[Plane]]:
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(rng=rng).as_matrix() @ np.diag((0.9, 0.8, step_mm))
    affine[:3, 3] = rng.uniform(-150, 150, 3)
    exact = planes(affine, range(int(rng.integers(20, 200))))
    return affine, [Plane(p.cosines, tuple(np.round(p.position_mm, decimals)), p.spacing_mm) for p in exact]


@pytest.mark.parametrize("step_mm", [0.5, 0.8, 1.0, 3.0])
@pytest.mark.parametrize("decimals", [1, 2, 3])
def test_oblique_stacks_with_rounded_positions_are_read_and_a_missing_slice_is_not(decimals, step_mm):
    for seed in range(15):
        affine, rounded = rounded_stack(seed, decimals, step_mm)
        found = stack(rounded)
        far_end = [0, 0, len(rounded) - 1, 1]
        assert abs(found.world_from_voxel @ far_end - affine @ far_end).max() < 0.6 * 10.0**-decimals
        for missing in (1, 7, len(rounded) - 2):
            with pytest.raises(InvalidInput) as caught:
                stack(rounded[:missing] + rounded[missing + 1 :])
            assert caught.value.code == "series.gap"
        doubled = [*rounded[:5], rounded[4], *rounded[5:]]
        with pytest.raises(InvalidInput) as caught:
            stack(doubled)
        assert caught.value.code == "series.repeated_positions"


def test_float32_of_rounded_positions_shows_the_rounding():
    for seed in range(5):
        _, rounded = rounded_stack(seed, 2, 0.5)
        noisy = [Plane(p.cosines, tuple(map(float, np.float32(p.position_mm))), p.spacing_mm) for p in rounded]
        assert stack(noisy).step_mm == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("decimals", [1, 2, 3, 8])
def test_no_rounding_excuses_steps_that_grow(decimals):
    """Each lies within what rounding may do to one step; together they bend away from any even grid."""
    affine = grid(spacing_mm=(1, 1, 0.5))
    places = np.cumsum(1 + np.linspace(-0.3, 0.3, 60))
    uneven = [Plane(p.cosines, tuple(np.round(p.position_mm, decimals)), p.spacing_mm) for p in planes(affine, places)]
    with pytest.raises(InvalidInput) as caught:
        stack(uneven)
    assert caught.value.code == "series.uneven"


@pytest.mark.parametrize("decimals", [2, 3])
def test_rounded_directions_are_put_at_right_angles(decimals):
    affine = grid()
    rounded = [
        Plane(tuple(np.round(p.cosines, decimals)), p.position_mm, p.spacing_mm) for p in planes(affine, range(40))
    ]
    found = stack(rounded).world_from_voxel
    axes = found[:3, :3] / np.linalg.norm(found[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(axes, affine[:3, :3] / (0.8, 0.9, 1.7), atol=10.0**-decimals)


TILTED = planes(grid(), range(6)) + planes(grid((20, -15, 40)), range(6, 12))
REFUSED = {
    "gap": (planes(grid(), [0, 1, 2, 4, 5, 6, 7]), "series.gap", "1 missing"),
    "three missing": (planes(grid(), [0, 1, 4, 5, 6, 8, 9, 10]), "series.gap", "3 missing"),
    "uneven": (planes(grid(), [0, 1, 2.03, 3, 4]), "series.uneven", "1.65-1.75 mm"),
    "repeated": (planes(grid(), [0, 1, 1, 2, 3]), "series.repeated_positions", "1 of 5"),
    "twice": (planes(grid(), np.repeat(range(6), 2)), "series.repeated_positions", "6 of 12"),
    "two": (planes(grid(), [0, 1]), "series.few_slices", "got 2"),
    "gantry": (leaning(grid(), 12), "series.tilt", "12.0 degrees"),
    "directions": (TILTED, "series.orientation", "several orientations"),
    "no place": ([Plane(None, None, (1, 1))] * 5, "series.orientation", "without position"),
    "not at right angles": (
        [Plane((1, 0, 0, 0.5, 1, 0), p.position_mm, (1, 1)) for p in planes(grid())],
        "series.orientation",
        "right angles",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_grid_is_refused_by_name(case):
    given, code, says = REFUSED[case]
    with pytest.raises(InvalidInput, match=says) as caught:
        stack(given)
    assert caught.value.code == code
    assert caught.value.hint


def test_small_steps_that_scanners_round_are_even():
    assert stack(planes(grid(), [0, 1.004, 2, 2.997, 4])).step_mm == pytest.approx(1.7)


def volume(affine: np.ndarray, shape=SHAPE) -> Volume:
    return Volume(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), affine)


def test_converted_volume_is_placed_by_all_headers():
    """A converter that goes on from the first step, .004 mm too long, is corrected at the far end."""
    affine = grid((0, 0, 0), (1, 1, 1.7))
    far_off = affine.copy()
    far_off[2, 2] += 0.004
    placed = place(volume(far_off), SHAPE, stack(planes(affine)))
    np.testing.assert_allclose(placed.world_from_voxel, affine, atol=1e-9)
    np.testing.assert_array_equal(placed.voxels, volume(affine).voxels)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a @ np.diag([1, 1, 1.1, 1]), "mm off"),
        (lambda a: a + np.eye(4, k=3) * 0.03, "mm off"),
        (lambda a: a @ np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "another size"),
    ],
    ids=["longer", "shifted", "turned"],
)
def test_converted_volume_that_lies_elsewhere_is_refused(change, says):
    affine = grid()
    with pytest.raises(InvalidInput, match=says) as caught:
        place(volume(change(affine)), SHAPE, stack(planes(affine)))
    assert caught.value.code == "series.conversion"
