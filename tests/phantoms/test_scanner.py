"""Frames place the drawn head where they say."""

from dataclasses import replace

import numpy as np
import pytest

from ricenet.phantoms.anatomy import Grid, draw_patient
from ricenet.phantoms.appearance import SCANNERS
from ricenet.phantoms.causal_model import draw_cohort
from ricenet.phantoms.scanner import HEAD_CENTRE_MM, Frame, random_pose, random_tilt, scan_patient, with_noise

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


def test_the_second_scanner_shows_less_contrast_and_more_noise() -> None:
    brightness = np.repeat(np.array([0.0, 0.5, 1.0], np.float32), 40**3).reshape(3, 40, 40, 40)
    standard, second = (
        [with_noise(np.random.default_rng(2), image, 4.0, one) for image in brightness] for one in SCANNERS
    )
    contrast = [(np.median(images[2]) - np.median(images[1])) / np.median(images[2]) for images in (standard, second)]
    assert contrast[0] > contrast[1] + 0.05
    assert second[0].mean() == pytest.approx(2.5 * standard[0].mean(), rel=0.02)


def test_a_core_below_0_stays_a_number_on_both_scanners() -> None:
    """Patient 511 of the hard cohort of seed 37 used to be NaN in every voxel."""
    image = np.full((4, 4, 4), -0.01)
    for scanner in SCANNERS:
        assert np.isfinite(with_noise(np.random.default_rng(0), image, 2.0, scanner)).all()


def test_raw_scans_have_no_registration_error_but_the_one_of_their_poses() -> None:
    (draw, *_) = draw_cohort(2, 3, difficulty="hard")
    assert any(draw.appearance.event_shift_mm)
    scans = scan_patient(draw.quantities, draw.seed, 6.0, draw.appearance)
    still = replace(draw.appearance, event_shift_mm=(0.0, 0.0, 0.0))
    drawn = draw_patient(draw.quantities, draw.seed, scans.patient.grid, still)
    np.testing.assert_array_equal(scans.patient.event, drawn.event)
    assert scans.appearance == still
