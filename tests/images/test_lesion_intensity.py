"""First-order statistics against distributions that are known, and a ring against a ball."""

import numpy as np
import pytest
from helpers.solids import ball, from_mm

from ricenet.images.lesion_intensity import first_order, rim_minus_core


def test_statistics_of_ten_numbers_are_those_by_hand() -> None:
    """0 to 9 and one 20: mean 65 / 11; moments by the sums of powers."""
    values = np.array([*range(10), 20.0])
    numbers = first_order(values)
    mean = 65 / 11
    moments = [sum((value - mean) ** power for value in values) / 11 for power in (2, 3, 4)]
    assert numbers == pytest.approx(
        {
            "mean": mean,
            "sd": moments[0] ** 0.5,
            "min": 0,
            "p10": 1,
            "median": 5,
            "p90": 9,
            "max": 20,
            "iqr": 7.5 - 2.5,
            "skewness": moments[1] / moments[0] ** 1.5,
            "kurtosis": moments[2] / moments[0] ** 2 - 3,
        }
    )


def test_radii_in_a_ball_have_the_moments_of_their_density() -> None:
    """Density 3 r^2 / R^3: mean 3/4 R, variance 3/80 R^2, median R / 2^(1/3), skewness -.8607, kurtosis .0952."""
    radius_mm = 20.0
    numbers = first_order(from_mm()[ball(radius_mm)])
    assert numbers["mean"] == pytest.approx(0.75 * radius_mm, rel=0.01)
    assert numbers["sd"] == pytest.approx(np.sqrt(3 / 80) * radius_mm, rel=0.02)
    assert numbers["median"] == pytest.approx(radius_mm / 2 ** (1 / 3), rel=0.01)
    assert numbers["p10"] == pytest.approx(radius_mm * 0.1 ** (1 / 3), rel=0.02)
    assert numbers["skewness"] == pytest.approx(-0.8607, abs=0.03)
    assert numbers["kurtosis"] == pytest.approx(0.0952, abs=0.05)


def test_of_one_brightness_there_is_no_spread() -> None:
    numbers = first_order(np.full(7, 3.0, dtype=np.float16))
    assert (numbers["mean"], numbers["sd"], numbers["skewness"], numbers["kurtosis"]) == (3, 0, 0, 0)


def test_a_ring_is_brighter_in_its_rim_with_and_without_its_core_in_the_mask() -> None:
    image = np.where(ball(18) & ~ball(9), 5.0, 1.0)
    assert rim_minus_core(image, ball(18)) == pytest.approx(4, abs=0.5)
    assert rim_minus_core(image, ball(18) & ~ball(9)) == pytest.approx(4, abs=0.5)
    assert rim_minus_core(-image, ball(18)) == pytest.approx(-4, abs=0.5)
    assert rim_minus_core(np.ones_like(image), ball(18)) == 0


def test_a_voxel_has_no_rim() -> None:
    voxel = np.zeros((4, 4, 4), dtype=bool)
    voxel[0, 0, 0] = True
    assert rim_minus_core(np.ones((4, 4, 4)), voxel) is None
