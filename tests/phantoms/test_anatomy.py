"""A drawn patient shows the quantities it was given, at the places it was given them."""

from functools import cache

import numpy as np
import pytest

from ricenet.phantoms.anatomy import Grid, Patient, draw_patient
from ricenet.phantoms.causal_model import QUANTITIES

GRID = Grid((44, 52, 47), 4.5)
MEANS = {name: mean for name, (mean, _, _) in QUANTITIES.items()}


@cache
def draw(seed: int = 1, **changed: float) -> Patient:
    """Read only."""
    return draw_patient(MEANS | changed, seed, GRID)


def test_same_seed_same_patient() -> None:
    first, second = draw(), draw.__wrapped__()
    for name in ("post", "event", "dose_gy", "brain", "lesion", "cavity"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_brain_and_lesion_have_human_sizes() -> None:
    patient = draw()
    ml = GRID.spacing_mm**3 / 1000
    assert 1300 < patient.brain.sum() * ml < 2200
    assert 3 < patient.lesion.sum() * ml < 12
    assert not (patient.lesion & ~patient.brain).any()


def test_new_lesion_is_in_the_event_scan_only() -> None:
    patient = draw()
    assert patient.event[patient.lesion].mean() > patient.post[patient.lesion].mean() + 0.2


@pytest.mark.parametrize("depth_mm", [-12.0, 0.0, 12.0])
def test_dose_at_the_lesion_follows_the_depth(depth_mm: float) -> None:
    patient = draw(depth_mm=depth_mm)
    centre = tuple(np.argwhere(patient.lesion).mean(0).round().astype(int))
    share = patient.dose_gy[centre] / patient.prescription_gy
    expected = 1 / (1 + np.exp(-depth_mm / 4.0))
    assert share == pytest.approx(expected, abs=0.25)


def test_hot_spot_grows_without_moving_anything_else() -> None:
    small, large = draw(hot_spot_mm=4.0), draw(hot_spot_mm=20.0)
    hot = [(p.dose_gy > 1.1 * p.prescription_gy).sum() for p in (small, large)]
    assert hot[1] > 5 * max(hot[0], 1)
    np.testing.assert_array_equal(small.event, large.event)


def test_residual_is_in_the_post_scan_only() -> None:
    without, with_residual = draw(residual_mm=0.0), draw(residual_mm=12.0)
    assert with_residual.post.sum() > without.post.sum() + 50
    np.testing.assert_array_equal(without.event, with_residual.event)
    np.testing.assert_array_equal(without.dose_gy, with_residual.dose_gy)
