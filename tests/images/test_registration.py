import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.analytic_patient import EVENT_FROM_POST, EVENT_POSE, HALF_AXES_MM, POST_POSE, brain_of, grid, points, pose

from ricenet.images.registration import rigid, rotation_degrees, translation_mm
from ricenet.images.volume import Volume


def seen(world_from_head: np.ndarray, shape, world_from_voxel, contrast: float, seed: int) -> Volume:
    """The analytic brain, moved, on a grid; `contrast` bends the grey values as another sequence would."""
    image = brain_of(points(shape, world_from_voxel, world_from_head), 0, 1.0)
    image = 400 * (image.clip(0) / 400) ** contrast + np.random.default_rng(seed).normal(0, 4, shape)
    return Volume(image.astype(np.float32), world_from_voxel)


FIXED = seen(POST_POSE, (52, 62, 48), grid((52, 62, 48), (3, 3, 3), axes=(-1, 1, 1)), 1.0, 1)
TILTED = pose((7, 0, 0), (0, 0, 0)) @ grid((62, 64, 58), (3, 3, 3))
MOVING = seen(EVENT_POSE, (62, 64, 58), TILTED, 1.5, 2)
# An eighth of the voxels: for what does not depend on how many there are.
COARSE_FIXED = seen(POST_POSE, (26, 31, 24), grid((26, 31, 24), (6, 6, 6), axes=(-1, 1, 1)), 1.0, 1)
COARSE_MOVING = seen(EVENT_POSE, (31, 32, 29), pose((7, 0, 0), (0, 0, 0)) @ grid((31, 32, 29), (6, 6, 6)), 1.5, 2)


def error_mm(found: np.ndarray) -> float:
    """Mean distance in the brain between where `found` takes a point and where it is."""
    inside = np.random.default_rng(0).uniform(-1, 1, (4000, 3))
    inside = inside[np.linalg.norm(inside, axis=1) < 1] * HALF_AXES_MM
    world = np.c_[inside, np.ones(len(inside))] @ POST_POSE.T
    return float(np.linalg.norm((world @ found.T - world @ EVENT_FROM_POST.T)[:, :3], axis=1).mean())


@pytest.mark.parametrize("schedule", ["rigid", "quick"])
def test_finds_a_known_transform_between_frames_grids_and_contrasts(schedule):
    found = rigid(FIXED, MOVING, schedule)
    assert error_mm(np.eye(4)) > 15
    assert error_mm(found) < 0.3
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(found), 1, atol=1e-5)


def test_same_bits_in_another_process_and_the_seed_counts():
    program = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}];"
        "from test_registration import COARSE_FIXED, COARSE_MOVING, rigid;"
        "print(rigid(COARSE_FIXED, COARSE_MOVING, 'quick', int(sys.argv[1])).tobytes().hex())"
    )
    here = rigid(COARSE_FIXED, COARSE_MOVING, "quick", seed=3).tobytes().hex()
    there = subprocess.run([sys.executable, "-c", program, "3"], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here
    assert rigid(COARSE_FIXED, COARSE_MOVING, "quick", seed=4).tobytes().hex() != here


def test_leaves_no_files_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    rigid(COARSE_FIXED, COARSE_MOVING, "quick")
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_a_rigid_map():
    world_map = pose((0, 0, 30), (3, 4, 0))
    assert rotation_degrees(world_map) == pytest.approx(30)
    assert translation_mm(world_map, np.zeros(3)) == pytest.approx(5)
    assert rotation_degrees(np.eye(4)) == 0
