"""Volumes, surfaces and distances of solids that have formulas: a ball, an ellipsoid, two balls, a shell, a cube."""

import numpy as np
import pytest
from helpers.solids import ANYWHERE, SHAPE, SPACING_MM, ball, ellipsoid

from ricenet.images.lesion_shape import lesion_shape, outside_of, sphericity, surface_area


@pytest.mark.parametrize("radius_mm", [8.0, 12.0, 20.0])
@pytest.mark.parametrize("centre_mm", [(0.0, 0.0, 0.0), (0.4, -0.7, 1.1)])
def test_a_ball_has_its_volume_its_surface_and_a_sphericity_of_one(radius_mm: float, centre_mm) -> None:
    mask = ball(radius_mm, centre_mm)
    numbers = lesion_shape(mask, ANYWHERE, SPACING_MM)
    assert numbers["lesion_volume_ml"] == pytest.approx(4 / 3 * np.pi * radius_mm**3 / 1000, rel=0.03)
    assert surface_area(mask) * SPACING_MM**2 == pytest.approx(4 * np.pi * radius_mm**2, rel=0.03)
    assert numbers["lesion_sphericity"] == pytest.approx(1, abs=0.02)
    assert numbers["lesion_pieces"] == 1
    assert "lesion_mm_to_cavity" not in numbers


def test_an_ellipsoid_has_the_surface_of_its_integral() -> None:
    """A spheroid of half-axes a, a, c < a: 2 pi a^2 (1 + (1 - e^2) / e artanh e), e^2 = 1 - c^2 / a^2."""
    a, c = 24.0, 12.0
    e = np.sqrt(1 - (c / a) ** 2)
    area = 2 * np.pi * a**2 * (1 + (1 - e**2) / e * np.arctanh(e))
    for radii_mm in ((a, a, c), (a, c, a), (c, a, a)):
        mask = ellipsoid(radii_mm)
        assert surface_area(mask) * SPACING_MM**2 == pytest.approx(area, rel=0.03)
        assert sphericity(mask) == pytest.approx(4 * np.pi * (a * a * c) ** (2 / 3) / area, abs=0.03)


def test_two_balls_are_two_pieces_with_the_surface_of_both() -> None:
    both = ball(10, (-15, 0, 0)) | ball(10, (15, 0, 0))
    numbers = lesion_shape(both, ANYWHERE, SPACING_MM)
    assert numbers["lesion_pieces"] == 2
    assert numbers["lesion_sphericity"] == pytest.approx(2 ** (-1 / 3), abs=0.02)


def test_a_shell_has_an_inner_surface_too() -> None:
    shell = ball(20) & ~ball(12)
    area = 4 * np.pi * (20**2 + 12**2)
    assert surface_area(shell) * SPACING_MM**2 == pytest.approx(area, rel=0.03)
    volume = 4 / 3 * np.pi * (20**3 - 12**3)
    assert sphericity(shell) == pytest.approx(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area, abs=0.02)


def test_a_cube_comes_out_ten_per_cent_too_small() -> None:
    cube = np.pad(np.ones((20, 20, 20), dtype=bool), 2)
    assert surface_area(cube) == pytest.approx(0.90 * 6 * 20**2, rel=0.01)


def test_a_single_voxel_is_no_rounder_than_a_ball() -> None:
    voxel = np.zeros((3, 3, 3), dtype=bool)
    voxel[1, 1, 1] = True
    assert sphericity(voxel) == 1
    assert surface_area(np.ones((1, 1, 1), dtype=bool)) == surface_area(voxel), "a mask may touch the volume's end"


def test_distances_to_cavity_and_surface_are_those_between_the_surfaces() -> None:
    lesion, cavity, brain = ball(8, (-8, 0, 0)), ball(6, (14, 0, 0)), ball(27)
    numbers = lesion_shape(lesion, brain, SPACING_MM, cavity)
    assert numbers["lesion_mm_to_cavity"] == pytest.approx(22 - 8 - 6, abs=SPACING_MM)
    assert numbers["lesion_mm_to_surface"] == pytest.approx(27 - 8 - 8, abs=SPACING_MM)
    assert lesion_shape(lesion, brain, SPACING_MM, ball(6, (-8, 5, 0)))["lesion_mm_to_cavity"] == 0, "they overlap"
    assert "lesion_mm_to_cavity" not in lesion_shape(lesion, brain, SPACING_MM, np.zeros(SHAPE, dtype=bool))


def test_a_ventricle_is_not_outside_the_brain() -> None:
    brain = ball(27) & ~ball(5, (8, 0, 0))
    assert outside_of(brain)[0, 0, 0]
    assert not outside_of(brain)[ball(5, (8, 0, 0))].any()
    beside = lesion_shape(ball(3, (-1, 0, 0)), brain, SPACING_MM)["lesion_mm_to_surface"]
    assert beside == pytest.approx(27 - 1 - 3, abs=SPACING_MM)
    full = np.ones((5, 5, 5), dtype=bool)
    assert not outside_of(full).any()
