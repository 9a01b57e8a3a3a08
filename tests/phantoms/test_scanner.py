"""Frames place the drawn head where they say."""

import numpy as np
import pytest

from ricenet.phantoms.anatomy import Grid
from ricenet.phantoms.scanner import HEAD_CENTRE_MM, Frame, random_pose, random_tilt, with_noise

DRAWN_ON = Grid((54, 64, 58), 4.0, HEAD_CENTRE_MM)


def test_a_point_of_the_head_appears_where_the_pose_puts_it() -> None:
    """A blob drawn at a known patient point is found at pose @ point in the scan's world."""
    rng = np.random.default_rng(0)
    frame = Frame(random_pose(rng), random_tilt(rng), (3.0, 3.5, 4.0))
    index = np.array([20, 40, 30])
    axes = np.indices(DRAWN_ON.shape)
    blob = np.exp(-sum((axis - at) ** 2 for axis, at in zip(axes, index, strict=True)) / 8)
    scan = frame.scan(blob, DRAWN_ON)
    weights = scan.voxels / scan.voxels.sum()
    found = [(weights * axis).sum() for axis in np.indices(scan.voxels.shape)]
    world = scan.world_from_voxel @ [*found, 1]
    expected = frame.world_from_patient @ DRAWN_ON.world_from_voxel @ [*index, 1]
    np.testing.assert_allclose(world, expected, atol=0.1)


def test_poses_are_rigid() -> None:
    rotation = random_pose(np.random.default_rng(1))[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_noise_has_the_stated_strength_where_there_is_no_signal() -> None:
    noisy = with_noise(np.random.default_rng(2), np.zeros((40, 40, 40), np.float32), 4.0)
    assert noisy.mean() == pytest.approx(0.02 * np.sqrt(np.pi / 2), rel=0.02)  # Rayleigh
