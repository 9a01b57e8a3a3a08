"""Similarity of two images on one grid: grey values, edges, and the folds of a brain, which are one person's."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ricenet.images.volume import Mask, Voxels

EDGE_SIGMA_MM = 3.0  # of the smoothing; noise has no direction then, skull and ventricles have
EDGE_PERCENTILE = 90.0  # steeper edges count no more than this: one metal clip must not outweigh a skull
# Of the folds of a cortex, which are no two people's: structures of about this width, this far from the brain's edge.
FINEST_MM, COARSEST_MM, RIM_MM = 1.5, 4.0, 6.0
MIN_RELATIVE_STRENGTH = 1e-3
CLIP_PERCENTILES = 2, 98  # of the brain: vessels, enhancement and cavity would outweigh all folds
# Correlation of these details after registration. One person: .93 and more in one contrast, .53 to .57 between T1 and
# T1c. Two people: .03 to .32 (10 pairs of phantoms, which share a template), .04 to .23 (15 of two real ones).
ONE_PERSON_FROM, SURELY_FROM = 0.42, 0.6


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


def likeness(post: NDArray, event: NDArray, brain: Mask, spacing_mm: float) -> float:
    """Correlation of the details of two registered (X, Y, Z) images well inside the brain, -1 to 1.

    Every detail counts as much as its neighbourhood has contrast; how bright an image is does not matter. 0 where there
    is nothing to compare: no brain beyond its rim, or an image without details.
    """
    box = ndimage.find_objects(brain.astype(np.uint8))
    if not box:
        return 0.0
    brain = brain[box[0]]
    inner = ndimage.binary_erosion(brain, iterations=max(1, round(RIM_MM / spacing_mm)))
    images = [image[box[0]] for image in (post, event)]
    if not inner.any() or any(np.ptp(image[brain]) == 0 for image in images):
        return 0.0
    weights = {mm: _blurred(brain.astype(np.float32), mm / spacing_mm) for mm in (FINEST_MM, COARSEST_MM)}
    details = [_details(image, brain, weights, spacing_mm)[inner] for image in images]
    return float(np.corrcoef(*details)[0, 1]) if all(np.ptp(each) > 0 for each in details) else 0.0


def _details(image: NDArray, brain: Mask, weights: Mapping[float, Voxels], spacing_mm: float) -> NDArray:
    """What is between FINEST_MM and COARSEST_MM wide, over its local standard deviation.

    Args:
        weights: by width, mm: the share of the brain about each voxel.
    """

    def mean_about(values: NDArray, width_mm: float) -> NDArray:
        """Gaussian mean, in which only the brain counts."""
        sums = _blurred(np.where(brain, values, 0).astype(np.float32), width_mm / spacing_mm)
        return sums / np.maximum(weights[width_mm], np.finfo(np.float32).tiny)

    clipped = np.clip(image, *np.percentile(image[brain], CLIP_PERCENTILES))
    band = mean_about(clipped, FINEST_MM) - mean_about(clipped, COARSEST_MM)
    strength = np.sqrt(mean_about(band**2, COARSEST_MM))
    return band / np.maximum(strength, MIN_RELATIVE_STRENGTH * strength[brain].max())


def _blurred(image: Voxels, sigma: float) -> Voxels:
    return ndimage.gaussian_filter(image, sigma, mode="constant")


def _gradient(image: Voxels, sigma: float) -> Voxels:
    """(3, X, Y, Z), of the smoothed image."""
    orders = np.eye(3, dtype=int).tolist()
    return np.stack([ndimage.gaussian_filter(image, sigma, order=order) for order in orders])
