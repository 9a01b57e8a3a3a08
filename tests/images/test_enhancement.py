"""What is found is what became brighter, in mm, whatever the scanner's units; a spot is where most of it lies."""

import numpy as np
import pytest
from helpers import solids
from helpers.bright_lesion import BRAIN, CENTRE_MM, SHAPE, SPACING_MM, ball, mris

from ricenet.cases.crop import find_places
from ricenet.images.enhancement import (
    Spot,
    brightening,
    brightest_spot,
    enhancement,
    find_lesion,
    segment_spot,
    z_scored,
)


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


LESION = solids.ball(10, (6, -8, 4))
BALL = solids.ball(28)


def case(seed: int = 0, brightness: float = 3.0) -> dict[str, np.ndarray]:
    """MRIs of noise in a ball of a brain; a smaller ball is brighter in the event MRI."""
    rng = np.random.default_rng(seed)
    post, event = rng.normal(size=(2, *solids.SHAPE))
    return {"post": np.where(BALL, post, 0), "event": np.where(BALL, event + brightness * LESION, 0)}


def dice(mask: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (mask & other).sum() / (mask.sum() + other.sum()))


@pytest.mark.parametrize(("roles", "source"), [(("post", "event"), "difference"), (("event",), "event")])
def test_the_lesion_is_what_became_bright_or_is(roles: tuple[str, ...], source: str) -> None:
    images = {role: image for role, image in case().items() if role in roles}
    lesion = find_lesion(images, BALL, solids.SPACING_MM)
    assert lesion.source == source
    assert dice(lesion.mask, LESION) > 0.9
    place = find_places(images, BALL, solids.SPACING_MM)[source]
    assert (place.source, place.contrast) == (source, lesion.contrast)
    assert lesion.mask[tuple(round(part) for part in place.voxel)]


def test_a_given_mask_is_taken_as_far_as_it_lies_in_the_brain() -> None:
    given = solids.ball(8, (24, 0, 0))
    lesion = find_lesion(case(), BALL, solids.SPACING_MM, given)
    assert (lesion.source, lesion.contrast) == ("mask", None)
    np.testing.assert_array_equal(lesion.mask, given & BALL)
    outside = np.zeros(solids.SHAPE, dtype=bool)
    outside[0, 0, 0] = True
    assert find_lesion(case(), BALL, solids.SPACING_MM, outside).source == "difference", "no voxel in the brain"


@pytest.mark.parametrize("images", [case(brightness=0), {"rd": np.ones(solids.SHAPE)}])
def test_where_nothing_enhances_there_is_no_lesion(images: dict[str, np.ndarray]) -> None:
    lesion = find_lesion(images, BALL, solids.SPACING_MM)
    assert lesion.source == "none"
    assert not lesion.mask.any()


def test_a_ring_is_filled_and_what_reaches_further_than_30_mm_is_cut() -> None:
    ring = solids.ball(12, (6, 0, 0)) & ~solids.ball(7, (6, 0, 0))
    spot = Spot(tuple((np.array(solids.SHAPE) - 1) / 2 + (4, 0, 0)), 3.0)
    edges_mm = np.full(3, solids.SPACING_MM)
    mask = segment_spot(3.0 * ring, solids.ANYWHERE, edges_mm, spot)
    assert dice(mask, solids.ball(12, (6, 0, 0))) > 0.95
    vessel = (np.abs(solids.PLACES_MM[..., 1:]) < 3).all(axis=-1)
    longer = segment_spot(3.0 * (ring | vessel), solids.ANYWHERE, edges_mm, spot)
    reach_mm = solids.from_mm((6, 0, 0))[longer].max()
    assert 28 < reach_mm <= 30, "the vessel is 36 mm long on each side"


def test_of_two_bright_parts_the_one_at_the_spot_is_taken() -> None:
    near, far = solids.ball(6, (10, 0, 0)), solids.ball(6, (-12, 0, 0))
    spot = Spot(tuple((np.array(solids.SHAPE) - 1) / 2 + (10 / solids.SPACING_MM, 0, 0)), 3.0)
    mask = segment_spot(3.0 * near + 3.5 * far, solids.ANYWHERE, np.full(3, solids.SPACING_MM), spot)
    assert dice(mask, near) > 0.9
    assert not (mask & far).any()
