"""What is found is what became brighter, in mm, whatever the scanner's units; a spot is where most of it lies."""

import numpy as np
import pytest
from helpers.bright_lesion import BRAIN, CENTRE_MM, SHAPE, SPACING_MM, ball, mris

from ricenet.images.enhancement import brightening, brightest_spot, enhancement, z_scored


def test_enhancement_finds_what_became_brighter() -> None:
    post, event, lesion = mris()
    assert 0.01 < lesion.sum() / BRAIN.sum() < 0.03  # larger than what can be found, so all that is found lies in it
    mask = enhancement(post, event, BRAIN, SPACING_MM)
    assert mask.sum() == pytest.approx(0.01 * BRAIN.sum(), abs=2)
    assert lesion[mask].all()
    core = ball((8, -6, 4), 3.5)  # smaller than what is found, so all of it is
    assert enhancement(post, event - 4 * (lesion & ~core), BRAIN, SPACING_MM)[core].all()


def test_enhancement_does_not_hang_on_the_scanners_units() -> None:
    post, event, _ = mris()
    np.testing.assert_array_equal(
        enhancement(100 + 50 * post, 7 * event - 3, BRAIN, SPACING_MM), enhancement(post, event, BRAIN, SPACING_MM)
    )


def test_enhancement_is_as_long_as_wide_in_mm() -> None:
    """One brighter voxel of 1 x 1 x 3 mm: what is found is a ball of 1% of the brain, thus of 3.9 mm radius."""
    places_mm = (np.moveaxis(np.indices((41, 41, 15)), 0, -1) - (20, 20, 7)) * (1, 1, 3)
    brain = np.linalg.norm(places_mm, axis=-1) < 18
    event = brain.astype(float)
    event[20, 20, 7] += 5
    mask = enhancement(brain.astype(float), event, brain, np.array([1.0, 1.0, 3.0]))
    assert np.abs(places_mm[mask]).max(axis=0).tolist() == [3, 3, 3]


def off_mm(voxel: tuple[float, ...], beside_mm: tuple[float, float, float]) -> float:
    return float(np.linalg.norm(np.array(voxel) * SPACING_MM - CENTRE_MM - beside_mm))


@pytest.mark.parametrize("seed", range(3))
def test_the_brightest_spot_is_the_middle_of_the_lesion_to_a_fraction_of_a_voxel(seed: int) -> None:
    post, event, _ = mris(seed)
    spot = brightest_spot(brightening(post, event, BRAIN), BRAIN, SPACING_MM)
    assert spot is not None
    assert off_mm(spot.voxel, (8, -6, 4)) < 1
    assert spot.contrast > 1.5
    alone = brightest_spot(z_scored(event, BRAIN), BRAIN, SPACING_MM)
    assert alone is not None
    assert off_mm(alone.voxel, (8, -6, 4)) < 1
    assert brightest_spot(brightening(post, post, BRAIN), BRAIN, SPACING_MM) is None


def test_a_large_lesion_outweighs_a_brighter_vessel() -> None:
    """A vessel of one voxel across, half as bright again."""
    _, _, lesion = mris()
    vessel = np.zeros(SHAPE, dtype=bool)
    vessel[14:26, 8, 8] = True
    image = z_scored(np.where(BRAIN, 4.0 * lesion + 6.0 * vessel, 0), BRAIN)
    assert image[vessel].mean() > image[lesion].mean()
    spot = brightest_spot(image, BRAIN, SPACING_MM)
    assert spot is not None
    assert off_mm(spot.voxel, (8, -6, 4)) < 2


def test_a_spot_does_not_hang_on_the_grid_around_the_brain() -> None:
    post, event, _ = mris()
    image = brightening(post, event, BRAIN)
    spot = brightest_spot(image, BRAIN, SPACING_MM)
    wider = brightest_spot(np.pad(image, ((3, 9), (5, 2), (0, 4))), np.pad(BRAIN, ((3, 9), (5, 2), (0, 4))), SPACING_MM)
    assert spot is not None
    assert wider is not None
    assert wider.voxel == pytest.approx(np.array(spot.voxel) + np.array([3, 5, 0]))
    assert wider.contrast == pytest.approx(spot.contrast)
    assert brightest_spot(image, np.zeros_like(BRAIN), SPACING_MM) is None, "no brain"
