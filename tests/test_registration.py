import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ricenet.registration import SCHEDULES, rigid, rotation_degrees, translation_mm
from ricenet.volume import Volume

# Ellipsoids of an analytic head, world mm: centre, half axes, grey value that is added inside.
ELLIPSOIDS = (
    ((0, 0, 0), (72, 90, 66), 60.0),  # scalp
    ((0, 0, 0), (65, 82, 60), 50.0),
    ((-25, 10, 8), (14, 30, 12), -60.0),
    ((27, 15, 5), (11, 24, 14), -45.0),
    ((10, -45, 20), (18, 14, 10), 40.0),
    ((-20, 40, -25), (12, 9, 16), 55.0),
    ((35, -20, -20), (9, 16, 9), -35.0),
)


# Waves inside the skull stand for the cortex' detail: vectors in 1/mm, wavelengths of 12 to 30 mm.
WAVES = np.random.default_rng(5).normal(size=(12, 3))
WAVES *= (2 * np.pi / np.linspace(12, 30, 12) / np.linalg.norm(WAVES, axis=1))[:, None]


def pose(degrees, shift) -> np.ndarray:
    world_map = np.eye(4)
    world_map[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    world_map[:3, 3] = shift
    return world_map


def head(world_from_head: np.ndarray, shape, world_from_voxel, contrast: float = 1.0, seed: int = 0) -> Volume:
    """The analytic head, moved, seen on a grid; `contrast` bends the grey values as another sequence would."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    back = np.linalg.inv(world_from_head) @ world_from_voxel
    points = index @ back[:3, :3].T + back[:3, 3]
    image = np.zeros(shape)
    for centre, half_axes, value in ELLIPSOIDS:
        radius = np.linalg.norm((points - centre) / half_axes, axis=-1)
        image += value / (1 + np.exp((radius - 1) * min(half_axes) / 2))
    inside = 1 / (1 + np.exp((np.linalg.norm(points / (60, 77, 55), axis=-1) - 1) * 30))
    image += 8 * inside * sum(np.cos(points @ wave) for wave in WAVES)
    image = 150 * (image.clip(0) / 150) ** contrast + np.random.default_rng(seed).normal(0, 2, shape)
    return Volume(image.astype(np.float32), world_from_voxel)


def grid(shape, spacing_mm, axes=(1, 1, 1)) -> np.ndarray:
    world_from_voxel = np.diag([*np.multiply(spacing_mm, axes), 1.0])
    world_from_voxel[:3, 3] = -world_from_voxel[:3, :3] @ (np.array(shape) - 1) / 2
    return world_from_voxel


def error_mm(found: np.ndarray, fixed_pose: np.ndarray, moving_pose: np.ndarray) -> float:
    points = np.random.default_rng(0).uniform(-1, 1, (2000, 3))
    points = points[np.linalg.norm(points, axis=1) < 1] * (65, 82, 60)
    points = np.c_[points, np.ones(len(points))]
    apart = points @ fixed_pose.T @ found.T - points @ moving_pose.T
    return float(np.linalg.norm(apart[:, :3], axis=1).mean())


FIXED_POSE, MOVING_POSE = pose((4, -3, 6), (8, -5, 3)), pose((-5, 6, -8), (-10, 7, 12))
FIXED = head(FIXED_POSE, (84, 104, 62), grid((84, 104, 62), (2.1, 2.1, 2.8), axes=(-1, 1, 1)))
TILTED = pose((7, 0, 0), (0, 0, 0)) @ grid((90, 94, 88), (2.2, 2.2, 2.2))
MOVING = head(MOVING_POSE, (90, 94, 88), TILTED, contrast=1.4, seed=1)


@pytest.mark.parametrize(("schedule", "within_mm"), [("rigid", 0.3), ("quick", 0.6)])
def test_finds_a_known_transform_between_frames_grids_and_contrasts(schedule, within_mm):
    found = rigid(FIXED, MOVING, schedule)
    assert error_mm(np.eye(4), FIXED_POSE, MOVING_POSE) > 15
    assert error_mm(found, FIXED_POSE, MOVING_POSE) < within_mm
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(found), 1, atol=1e-5)


def test_same_bits_in_another_process_and_the_seed_counts():
    program = (
        "import numpy as np, sys; sys.path.insert(0, 'tests');"
        "from test_registration import FIXED, MOVING; from ricenet.registration import rigid;"
        "print(rigid(FIXED, MOVING, 'quick', int(sys.argv[1])).tobytes().hex())"
    )
    here = rigid(FIXED, MOVING, "quick", seed=3).tobytes().hex()
    runs = {
        seed: subprocess.run(
            [sys.executable, "-c", program, seed], capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("3", "4")
    }
    assert runs["3"] == here
    assert runs["4"] != here


def test_leaves_no_files_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    rigid(FIXED, MOVING, "quick")
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_a_rigid_map():
    world_map = pose((0, 0, 30), (3, 4, 0))
    assert rotation_degrees(world_map) == pytest.approx(30)
    assert translation_mm(world_map, np.zeros(3)) == pytest.approx(5)
    assert rotation_degrees(np.eye(4)) == 0


def test_schedules_are_those_of_the_config():
    assert {"rigid", "quick"} <= set(SCHEDULES)
