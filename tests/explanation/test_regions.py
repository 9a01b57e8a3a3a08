"""Regions against geometry that can be written down: a ball of dose, a planted lesion, a step."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.bright_lesion import BRAIN, CENTRE_MM, PLACES_MM, SHAPE, SPACING_MM, ball, mris
from scipy.spatial import cKDTree

from ricenet.cohort.ready_cases import ReadyCase
from ricenet.explanation.explained_case import Scene
from ricenet.explanation.regions import DOSE_BANDS, dose_bands, dose_edge, regions

RADIUS_MM, FALL_OFF_MM = 14.0, 4.0


def ball_dose() -> np.ndarray:
    """60 Gy in the middle, 30 Gy at RADIUS_MM."""
    distance_mm = np.linalg.norm(PLACES_MM - CENTRE_MM, axis=-1)
    return 60 / (1 + np.exp((distance_mm - RADIUS_MM) / FALL_OFF_MM))


def scene(**changed: object) -> Scene:
    nothing = np.zeros(SHAPE)
    bare = Scene(
        ReadyCase("c0", "p0", 0, "cv", "c0"), nothing[None], np.diag([*SPACING_MM, 1]), BRAIN, None, {}, nothing, "post"
    )
    return replace(bare, **changed)


@pytest.mark.parametrize(("prescription_gy", "radius_mm"), [(60.0, 14.0), (40.0, 14 + 4 * np.log(2))])
def test_dose_edge_is_a_shell_about_the_isodose(prescription_gy: float, radius_mm: float) -> None:
    edge = dose_edge(ball_dose(), prescription_gy, SPACING_MM)
    off_mm = np.abs(np.linalg.norm(PLACES_MM - CENTRE_MM, axis=-1) - radius_mm)
    assert off_mm[edge].max() <= 5
    assert edge[off_mm < 5 - np.linalg.norm(SPACING_MM)].all()  # a voxel's diagonal bounds what the grid can lose
    inside = ball_dose() >= prescription_gy / 2
    nearest_mm = np.empty(SHAPE)
    for side in (inside, ~inside):
        nearest_mm[side] = cKDTree(PLACES_MM[~side]).query(PLACES_MM[side])[0]
    np.testing.assert_array_equal(edge, nearest_mm <= 5 + 1e-9)


def test_the_maximum_stands_for_an_unknown_prescription() -> None:
    dose_gy = 1.3 * ball_dose()
    np.testing.assert_array_equal(
        dose_edge(dose_gy, None, SPACING_MM), dose_edge(dose_gy, float(dose_gy.max()), SPACING_MM)
    )
    assert dose_edge(dose_gy, None, SPACING_MM).sum() < dose_edge(dose_gy, 40.0, SPACING_MM).sum()


@pytest.mark.parametrize(("spacing_mm", "wide"), [((7, 7, 7), 1), ((3, 7, 7), 2), ((1, 1, 1), 5), ((0.1, 5, 5), 50)])
def test_edge_is_a_voxel_or_five_mm_wide(spacing_mm: tuple[float, ...], wide: int) -> None:
    """A step along x between two voxels: so many layers of either side lie within the longest edge, or 5 mm."""
    dose_gy = np.zeros((120, 3, 3))
    dose_gy[:60] = 60
    edge = dose_edge(dose_gy, 60.0, np.array(spacing_mm))
    assert np.flatnonzero(edge.any(axis=(1, 2))).tolist() == list(range(60 - wide, 60 + wide))


def test_no_edge_where_the_isodose_crosses_nothing() -> None:
    for dose_gy in (np.full(SHAPE, 60.0), np.full(SHAPE, 20.0)):
        assert not dose_edge(dose_gy, 60.0, SPACING_MM).any()
        assert regions(scene(dose_gy=dose_gy, prescription_gy=60.0)).keys() == set(DOSE_BANDS)


def test_dose_bands_part_the_brain_at_20_40_and_54() -> None:
    values = [0, 19.99, 20, 39.99, 40, 54, 54.01, 70]
    dose_gy, brain = np.array(values)[:, None, None], np.ones((8, 1, 1), dtype=bool)
    brain[-1] = False
    bands = dose_bands(dose_gy, brain)
    assert [np.flatnonzero(mask).tolist() for mask in bands.values()] == [[0, 1], [2, 3], [4, 5], [6]]
    assert list(bands) == ["dose_0_20", "dose_20_40", "dose_40_54", "dose_above_54"]


def test_regions_of_a_case_lie_in_its_brain() -> None:
    lesion = ball((18, 0, 0), 12)
    cavity = ball((0, 0, 0), 6)
    assert (lesion & ~BRAIN).any()
    found = regions(scene(dose_gy=ball_dose(), prescription_gy=60.0, truth={"lesion": lesion, "cavity": cavity}))
    assert list(found) == [*DOSE_BANDS, "lesion", "cavity", "dose_edge", "lesion_or_dose_edge"]
    np.testing.assert_array_equal(found["lesion"], lesion & BRAIN)
    np.testing.assert_array_equal(found["dose_edge"], dose_edge(ball_dose(), 60.0, SPACING_MM) & BRAIN)
    np.testing.assert_array_equal(found["lesion_or_dose_edge"], found["lesion"] | found["dose_edge"])
    np.testing.assert_array_equal(sum(found[name].astype(int) for name in DOSE_BANDS), BRAIN)


def test_what_is_not_known_is_absent() -> None:
    lesion = ball((0, 0, 0), 6)
    assert regions(scene()) == {}
    assert regions(scene(truth={"lesion": lesion})).keys() == {"lesion"}
    assert regions(scene(dose_gy=ball_dose())).keys() == {*DOSE_BANDS, "dose_edge"}
    beside = regions(scene(truth={"lesion": ~BRAIN, "cavity": lesion}, dose_gy=ball_dose()))
    assert beside.keys() == {*DOSE_BANDS, "cavity", "dose_edge"}


def test_enhancement_stands_in_for_an_unknown_lesion_only() -> None:
    post, event, lesion = mris()
    assert regions(scene(post=post, event=event)).keys() == {"enhancement"}
    assert regions(scene(post=post, event=event, truth={"lesion": lesion})).keys() == {"lesion"}
    assert regions(scene(event=event)) == {}
    assert regions(scene(post=post, event=2 * post)) == {}, "nothing changed between the scans"
