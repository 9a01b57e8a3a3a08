"""Similarity of two images on one grid."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ricenet.images.volume import Mask, Voxels

EDGE_SIGMA_MM = 3.0  # of the smoothing; noise has no direction then, skull and ventricles have
EDGE_PERCENTILE = 90.0  # steeper edges count no more than this: one metal clip must not outweigh a skull


def mutual_information(a: Voxels, b: Voxels, bins: int = 64) -> float:
    """Normalised mutual information (H(a) + H(b)) / H(a, b) of two lists of grey values: 1 unrelated, 2 equal."""

    def entropy(counts: NDArray) -> float:
        share = counts[counts > 0] / counts.sum()
        return float(-(share * np.log(share)).sum())

    limits = [np.percentile(values, (0.5, 99.5)) for values in (a, b)]
    joint, _, _ = np.histogram2d(np.clip(a, *limits[0]), np.clip(b, *limits[1]), bins=bins)
    return (entropy(joint.sum(axis=0)) + entropy(joint.sum(axis=1))) / entropy(joint)


def edge_agreement(a: Voxels, b: Voxels, where: Mask, spacing_mm: float) -> float:
    """How far edges of two images lie in the same place and direction: 1 all, 1/3 by chance.

    The mean squared cosine between the two gradients, weighted with both of their lengths (normalised gradient fields:
    Haber and Modersitzki, 2006). Contrasts may differ in any way, CT and MRI included.

    Args:
        a: (X, Y, Z) on cubic voxels of `spacing_mm`; `b` likewise.
        where: what counts; what is an edge of one image alone, such as its field of view's, has to be left out.

    Returns:
        0 where there is nothing to compare.
    """
    if not where.any():
        return 0.0
    gradients = [_gradient(image, EDGE_SIGMA_MM / spacing_mm)[:, where] for image in (a, b)]
    lengths = [np.linalg.norm(gradient, axis=0) for gradient in gradients]
    cosine = (gradients[0] * gradients[1]).sum(axis=0) / np.maximum(lengths[0] * lengths[1], np.finfo(np.float32).tiny)
    capped = [np.minimum(length, np.percentile(length, EDGE_PERCENTILE)) for length in lengths]
    weights = (capped[0] * capped[1]).astype(np.float64)
    return float((weights * cosine**2).sum() / weights.sum()) if weights.sum() > 0 else 0.0


def _gradient(image: Voxels, sigma: float) -> Voxels:
    """(3, X, Y, Z), of the smoothed image."""
    orders = np.eye(3, dtype=int).tolist()
    return np.stack([ndimage.gaussian_filter(image, sigma, order=order) for order in orders])
