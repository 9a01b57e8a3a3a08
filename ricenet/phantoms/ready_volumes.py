"""Draw model-ready volumes on a coarse grid: a patient's draw in; what preprocessing would make of its scans out."""

from typing import NamedTuple

import numpy as np

from ricenet.images.dose_limits import DOSE_SCALE_GY
from ricenet.phantoms.anatomy import Array, Grid, Mask, Patient, draw_patient
from ricenet.phantoms.causal_model import Draw
from ricenet.phantoms.scanner import with_noise


class ReadyVolumes(NamedTuple):
    """(X, Y, Z) arrays on `grid`.

    Attributes:
        images: by role (post, event, rd); MRI z-scored inside the brain and 0 outside, dose in Gy / DOSE_SCALE_GY.
        patient: as drawn, at half the voxel size.
    """

    grid: Grid
    images: dict[str, Array]
    brain: Mask
    lesion: Mask
    cavity: Mask
    patient: Patient


def draw_ready_volumes(draw: Draw, size: int, spacing_mm: float) -> ReadyVolumes:
    """Draw a patient at half the voxel size and average, so that thin rims are blurred as by a scanner, not aliased."""
    fine = draw_patient(draw.quantities, draw.seed, Grid((2 * size,) * 3, spacing_mm / 2), draw.appearance)
    rng = np.random.default_rng([draw.seed, 1])
    brain = _average(fine.brain.astype(np.float32)) > 0.5
    images = {
        role: _z_score(_average(with_noise(rng, image, spacing_mm / 2, draw.appearance.scanner(role))), brain)
        for role, image in (("post", fine.post), ("event", fine.event))
    }
    images["rd"] = _average(fine.dose_gy) / DOSE_SCALE_GY
    lesion, cavity = (_average(mask.astype(np.float32)) > 0.5 for mask in (fine.lesion, fine.cavity))
    return ReadyVolumes(Grid((size,) * 3, spacing_mm), images, brain, lesion, cavity, fine)


def _average(image: Array) -> Array:
    """Halve the resolution by averaging 2 x 2 x 2 voxels."""
    x, y, z = (n // 2 for n in image.shape)
    return image.reshape(x, 2, y, 2, z, 2).mean((1, 3, 5), dtype="float32")


def _z_score(image: Array, brain: Mask) -> Array:
    values = image[brain]
    return (image - values.mean()) / values.std() * brain
