"""A ball in a head: where it is said to be, elsewhere, mirrored, outside, too large."""

import numpy as np
import pytest

from ricenet.checks.lesion_checks import check_lesion
from ricenet.images.volume import Volume

SPACING_MM = 4.0
SHAPE = (56, 56, 56)
AFFINE = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
AFFINE[:3, 3] = -SPACING_MM * (np.array(SHAPE) - 1) / 2
PLACES_MM = np.moveaxis(np.indices(SHAPE), 0, -1) * SPACING_MM + AFFINE[:3, 3]


def ball(radius_mm: float, centre_mm: tuple[float, float, float]) -> np.ndarray:
    return np.linalg.norm(PLACES_MM - np.array(centre_mm), axis=-1) <= radius_mm


def mask(radius_mm: float, centre_mm: tuple[float, float, float]) -> Volume:
    return Volume(ball(radius_mm, centre_mm).astype(np.float32), AFFINE)


EVENT = Volume(np.where(ball(80, (0, 0, 0)), 100.0, 0.0).astype(np.float32), AFFINE)
LESION = mask(12, (30, 20, 10))


def codes(lesion: Volume, place_mm: tuple[float, float, float] | None = None, event: Volume | None = EVENT):
    return [(finding.code, finding.severity) for finding in check_lesion(lesion, event, place_mm, "case c1")]


@pytest.mark.parametrize("place_mm", [None, (30, 20, 10), (30, 20, 30)])
def test_a_lesion_in_the_head_where_it_is_said_to_be_is_no_finding(place_mm) -> None:
    assert codes(LESION, place_mm) == []


def test_a_lesion_elsewhere_is_told_with_the_distance() -> None:
    (finding,) = check_lesion(LESION, EVENT, (30, 20, -40), "case c1")
    assert (finding.code, finding.severity, finding.channel) == ("lesion.elsewhere", "warning", "lesion")
    assert "42 mm away" in finding.message, "50 mm from the middle, the lesion begins 8 mm from it on this grid"
    assert "LPS" in finding.hint


def test_coordinates_with_two_wrong_signs_are_recognised() -> None:
    (finding,) = check_lesion(LESION, EVENT, (-30, -20, 10), "case c1")
    assert "it fits with the other sign of x and y" in finding.hint


def test_a_mask_outside_the_head_is_an_error_and_half_of_it_is_not() -> None:
    assert codes(mask(10, (85, 60, 20))) == [("lesion.outside_head", "error")]
    assert codes(mask(12, (76, 0, 0))) == []
    assert codes(mask(10, (85, 60, 20)), event=None) == [], "without the image nobody knows"


def test_a_mask_larger_than_150_ml_is_told() -> None:
    assert codes(mask(35, (10, 0, 0))) == [("lesion.large", "warning")]
    assert codes(mask(31, (10, 0, 0))) == [], "125 ml"
