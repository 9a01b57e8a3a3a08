"""The numbers of qc.csv against maps, masks and doses that are known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ricenet.cases.registration_numbers import further_dose_numbers, qc_numbers

SHAPE = (10, 12, 14)
GRID = np.array([[2.0, 0, 0, -10], [0, 2.0, 0, 5], [0, 0, 2.0, 30], [0, 0, 0, 1]])


def turned(degrees: float, shift_mm: float) -> np.ndarray:
    world_map = np.eye(4)
    world_map[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    world_map[2, 3] = shift_mm
    return world_map


@pytest.fixture
def brain() -> np.ndarray:
    inside = np.zeros(SHAPE, dtype=bool)
    inside[2:8, 3:9, 4:10] = True
    return inside


def view_of(*roles: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {role: rng.normal(size=SHAPE).astype(np.float32) for role in roles}


def test_numbers_are_those_of_the_maps_the_masks_and_the_dose(brain: np.ndarray) -> None:
    view = view_of("post", "event", "flair") | {"rd": np.where(brain, 30.0, 0.0).astype(np.float32)}
    view["rd"][0, 0, 0] = 66.0
    half = brain.copy()
    half[:5] = False
    seen = {"post": brain, "event": half, "rd": brain, "flair": brain}
    # Turns about the world's z axis, so that a shift along it is the same everywhere in the middle's column.
    anchor = turned(20, 7)
    maps = {"post": anchor, "event": turned(25, 10), "rd": anchor, "flair": turned(20, 3)}
    numbers = qc_numbers(view, brain, seen, maps, GRID, "post")
    assert numbers["rotation_degrees"] == pytest.approx(5, abs=1e-3)
    centre = np.append(GRID[:3, :3] @ [4.5, 5.5, 6.5] + GRID[:3, 3], 1)
    moved = maps["event"] @ np.linalg.inv(anchor) @ centre
    assert numbers["translation_mm"] == pytest.approx(np.linalg.norm((moved - centre)[:3]), abs=1e-3)
    assert numbers["brain_ml"] == pytest.approx(216 * 8 / 1000)
    assert numbers["event_coverage"] == pytest.approx(0.5)
    assert (numbers["dose_max_gy"], numbers["dose_mean_gy"], numbers["dose_coverage"]) == (66.0, 30.0, 1.0)
    assert (numbers["planning_rotation_degrees"], numbers["planning_translation_mm"]) == (0.0, 0.0)
    assert (numbers["flair_rotation_degrees"], numbers["flair_translation_mm"]) == pytest.approx((0, 4), abs=1e-3)


def test_without_a_post_image_nothing_is_said_of_event_and_post(brain: np.ndarray) -> None:
    numbers = qc_numbers(view_of("event"), brain, {"event": brain}, {"event": np.eye(4)}, GRID, "event")
    assert list(numbers) == ["brain_ml", "event_coverage"]


def test_a_further_dose_says_how_far_its_planning_image_was_moved_and_what_it_adds(brain: np.ndarray) -> None:
    sampled = {"post": np.zeros(SHAPE), "rd": np.ones(SHAPE), "rd_2": np.full(SHAPE, 12.0)}
    maps = {"post": np.eye(4), "rd": np.eye(4), "rd_2": turned(0, 6)}
    assert further_dose_numbers(sampled, brain, maps, GRID, "post") == {
        "planning_2_rotation_degrees": 0.0,
        "planning_2_translation_mm": 6.0,
        "rd_2_max_gy": 12.0,
    }
