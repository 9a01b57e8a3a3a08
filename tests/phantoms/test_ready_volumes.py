"""Model-ready volumes are what preprocessing would make of a patient: z-scored MRI, dose in its unit, masks."""

import numpy as np
import pytest

from ricenet.images.dose_limits import DOSE_SCALE_GY
from ricenet.phantoms.causal_model import draw_cohort
from ricenet.phantoms.ready_volumes import draw_ready_volumes


@pytest.mark.parametrize("difficulty", ["standard", "hard"])
def test_units_and_masks(difficulty: str) -> None:
    (draw, *_) = draw_cohort(4, 2, difficulty=difficulty)
    ready = draw_ready_volumes(draw, size=14, spacing_mm=14.0)
    for role in ("post", "event"):
        assert ready.images[role].shape == (14, 14, 14)
        assert ready.images[role][ready.brain].mean() == pytest.approx(0, abs=1e-3)
        assert ready.images[role][ready.brain].std() == pytest.approx(1, abs=1e-3)
        assert not ready.images[role][~ready.brain].any()
    average = ready.patient.dose_gy.reshape(14, 2, 14, 2, 14, 2).mean((1, 3, 5))
    np.testing.assert_allclose(ready.images["rd"] * DOSE_SCALE_GY, average, rtol=1e-5)
    assert ready.grid.spacing_mm == 14.0
    assert 1000 < ready.brain.sum() * 14**3 / 1000 < 2500
