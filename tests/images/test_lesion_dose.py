"""The dose at solids in a linear ramp and around the middle of a dose that falls off evenly in all directions."""

import numpy as np
import pytest
from helpers.solids import PLACES_MM, SPACING_MM, ball, ellipsoid, from_mm

from ricenet.images.lesion_dose import field_class, lesion_doses, mm_inside

PRESCRIPTION_GY = 60.0
SLOPE = 0.5  # Gy/mm
RAMP = 40 + SLOPE * PLACES_MM[..., 0]  # Gy; 30 Gy at x = -20 mm, 57 Gy at 34 mm, beyond the volume
CONE = 66 - from_mm()  # Gy, 1 Gy/mm; 57 Gy 9 mm from the middle, 30 Gy 36 mm


def test_a_ball_in_a_ramp_has_the_doses_of_its_middle_and_its_ends() -> None:
    radius_mm, x_mm = 9.0, 6.0
    numbers = lesion_doses(RAMP, ball(radius_mm, (x_mm, 0, 0)), SPACING_MM, PRESCRIPTION_GY)
    middle, end = 40 + SLOPE * x_mm, SLOPE * radius_mm
    voxel = SLOPE * SPACING_MM
    assert numbers["lesion_dose_mean_gy"] == pytest.approx(middle, abs=0.1 * voxel)
    assert numbers["lesion_dose_min_gy"] == pytest.approx(middle - end, abs=voxel)
    assert numbers["lesion_dose_max_gy"] == pytest.approx(middle + end, abs=voxel)
    # The cap of a ball beyond h radii of its middle holds (2 + h)(1 - h)^2 / 4 of it: 2% beyond h = .8320.
    assert numbers["lesion_dose_d2_gy"] == pytest.approx(middle + 0.8320 * end, abs=0.6 * voxel)
    assert numbers["lesion_dose_d98_gy"] == pytest.approx(middle - 0.8320 * end, abs=0.6 * voxel)
    assert numbers["lesion_dose_d50_gy"] == pytest.approx(middle, abs=voxel / 2)
    assert numbers["lesion_dose_gradient_gy_per_mm"] == pytest.approx(SLOPE)
    assert numbers["lesion_mm_inside_50"] == pytest.approx(x_mm + 20, abs=0.1)


def test_an_ellipsoid_in_a_ramp_lies_above_a_dose_with_the_share_of_its_cap() -> None:
    """80% of the prescription is 48 Gy, x = 16 mm; half-axis 24 mm: h = 2 / 3."""
    numbers = lesion_doses(RAMP, ellipsoid((24, 12, 9)), SPACING_MM, PRESCRIPTION_GY)
    h = 2 / 3
    assert numbers["lesion_share_above_80"] == pytest.approx((2 + h) * (1 - h) ** 2 / 4, abs=0.01)
    h = 20 / 24
    assert numbers["lesion_share_above_50"] == pytest.approx(1 - (2 + h) * (1 - h) ** 2 / 4, abs=0.01)
    assert numbers["lesion_share_above_95"] == 0
    assert numbers["lesion_share_above_20"] == 1


def test_in_a_cone_of_dose_distances_are_those_to_its_spheres() -> None:
    for centre_mm in ((0.0, 0.0, 0.0), (5.0, 4.0, -3.0), (18.0, 8.0, 5.0)):
        mask = ball(6, centre_mm)
        mean_mm = from_mm()[mask].mean()
        numbers = lesion_doses(CONE, mask, SPACING_MM, PRESCRIPTION_GY)
        assert numbers["lesion_mm_inside_95"] == pytest.approx(9 - mean_mm, abs=0.2 * SPACING_MM)
        assert numbers["lesion_dose_mean_gy"] == pytest.approx(66 - mean_mm)
    shell = ball(18) & ~ball(12)
    numbers = lesion_doses(CONE, shell, SPACING_MM, PRESCRIPTION_GY)
    mean_mm = 3 / 4 * (18**4 - 12**4) / (18**3 - 12**3)
    assert numbers["lesion_mm_inside_95"] == pytest.approx(9 - mean_mm, abs=0.2 * SPACING_MM)
    assert numbers["lesion_dose_gradient_gy_per_mm"] == pytest.approx(1, abs=0.02)


def test_voxels_on_both_sides_of_a_plane_isodose_have_their_exact_distance() -> None:
    mask = np.zeros(RAMP.shape, dtype=bool)
    mask[5:40:7, 20, 20] = True
    distances = mm_inside(RAMP, 30.0, np.argwhere(mask), SPACING_MM)
    np.testing.assert_allclose(distances, PLACES_MM[mask][:, 0] + 20, atol=1e-9)


def test_what_the_case_lacks_is_absent() -> None:
    mask = ball(6)
    without = lesion_doses(RAMP, mask, SPACING_MM, None)
    assert len(without) == 7
    assert all("gy" in name for name in without), "nothing relative to a prescription"
    nowhere = lesion_doses(np.full(RAMP.shape, 12.0), mask, SPACING_MM, PRESCRIPTION_GY)
    assert not {"lesion_mm_inside_95", "lesion_mm_inside_50"} & nowhere.keys(), "there is no such isodose"
    assert nowhere["lesion_share_above_20"] == 1
    assert nowhere["lesion_dose_gradient_gy_per_mm"] == 0


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 0), (0.199, 0), (0.2, 1), (0.799, 1), (0.8, 2), (1.0, 2)]
)  # fmt: skip
def test_the_field_follows_from_the_share_inside_the_95_isodose(share: float, expected: int) -> None:
    assert field_class(share) == expected
