"""A flipped MRI is an error, a right one is not; another patient's is doubtful."""

import numpy as np
import pytest
from helpers.phantom_scans import scans

from ricenet.checks.laterality import DOUBTFUL_BELOW, MIRRORED_BELOW, Sides, check_sides, compare_sides, mirror
from ricenet.images.volume import Volume
from ricenet.phantoms.scanner import with_noise

pytestmark = pytest.mark.usefixtures("kept_registrations")  # two of each three pairs meet the same images again
NAME = "case c0123456789ab (row 2 of cohort.csv)"


def codes(post: Volume, event: Volume) -> list[str]:
    return [found.code for found in check_sides(compare_sides(post, event), NAME)]


def test_mirroring_exchanges_left_and_right_alone() -> None:
    image = scans(0).volumes["event"]
    mirrored = mirror(image)
    np.testing.assert_array_equal(mirrored.voxels[0], image.voxels[-1])
    np.testing.assert_array_equal(mirror(mirrored).voxels, image.voxels)
    assert mirrored.world_from_voxel is image.world_from_voxel


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_a_flipped_event_or_post_is_found_with_a_margin(number) -> None:
    """The post of one patient alone: a flipped post before its event is the mirror image of a flipped event."""
    post, event = (scans(number).volumes[role] for role in ("post", "event"))
    straight = compare_sides(post, event)
    assert straight.margin > 1.5 * DOUBTFUL_BELOW
    assert check_sides(straight, NAME) == []
    for pair in [(post, mirror(event)), *([(mirror(post), event)] if number == 0 else [])]:
        flipped = compare_sides(*pair)
        assert flipped.margin < 1.5 * MIRRORED_BELOW
        assert [(found.code, found.severity) for found in check_sides(flipped, NAME)] == [("geometry.flip", "error")]


@pytest.mark.slow
def test_another_patients_event_is_no_error_but_doubtful() -> None:
    assert codes(scans(0).volumes["post"], scans(1).volumes["event"]) == ["geometry.flip_doubtful"]


@pytest.mark.slow
def test_t1_and_t1c_of_one_day_without_a_skull() -> None:
    patient, rng = scans(1).patient, np.random.default_rng(1)
    native, enhanced = (
        with_noise(rng, image, patient.grid.spacing_mm) * patient.brain
        for image in (patient.event.clip(0, 1), patient.event)  # without contrast agent nothing outshines white matter
    )
    t1, t1c = (Volume(np.round(800 * image), patient.grid.world_from_voxel) for image in (native, enhanced))
    assert codes(t1, t1c) == []
    assert codes(t1, mirror(t1c)) == ["geometry.flip"]


@pytest.mark.slow
def test_a_slab_that_shows_half_the_brain_is_told() -> None:
    post, event = (scans(2).volumes[role] for role in ("post", "event"))
    size = event.voxels.shape[2]
    slab = Volume(event.voxels[:, :, : size * 11 // 20].copy(), event.world_from_voxel)
    assert codes(post, slab) == ["geometry.event_coverage"]


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        (Sides(1.10, 1.03, 1.0), []),
        (Sides(1.03, 1.10, 1.0), ["geometry.flip"]),
        (Sides(1.040, 1.035, 1.0), ["geometry.flip_doubtful"]),
        (Sides(1.035, 1.045, 1.0), ["geometry.flip_doubtful"]),
        (Sides(1.10, 1.03, 0.6), ["geometry.event_coverage"]),
        (Sides(1.03, 1.10, 0.6), ["geometry.flip"]),
    ],
)
def test_what_follows_from_the_comparison(sides, expected) -> None:
    assert [found.code for found in check_sides(sides, NAME)] == expected
