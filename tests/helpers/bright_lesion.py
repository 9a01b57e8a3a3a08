"""A brain of voxels that are no cubes, balls in it, and two MRIs between which one ball became brighter."""

import numpy as np

SHAPE, SPACING_MM = (40, 28, 22), np.array([1.5, 2.0, 2.5])
CENTRE_MM = SPACING_MM * (np.array(SHAPE) - 1) / 2
PLACES_MM = np.moveaxis(np.indices(SHAPE), 0, -1) * SPACING_MM
BRAIN = (((PLACES_MM - CENTRE_MM) / (0.45 * SPACING_MM * SHAPE)) ** 2).sum(axis=-1) < 1


def ball(beside_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    """(X, Y, Z) bool; its centre so far from the volume's."""
    return np.linalg.norm(PLACES_MM - CENTRE_MM - np.array(beside_mm), axis=-1) < radius_mm


def mris(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A noisy post-OP MRI, the event MRI with a bright ball of about 1% of the brain, and that ball."""
    rng = np.random.default_rng(seed)
    lesion = ball((8, -6, 4), 6)
    anatomy = rng.normal(size=SHAPE)
    post, event = (anatomy + 0.3 * rng.normal(size=SHAPE) for _ in range(2))
    return np.where(BRAIN, post, 0), np.where(BRAIN, event + 4 * lesion, 0), lesion
