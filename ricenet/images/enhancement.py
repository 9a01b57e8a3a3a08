"""Where an MRI enhances: one or two images and the brain in, the mask or the place of what is brightest out.

A guess at the lesion, not a segmentation: vessels, blood, misaligned scans and a shrunken cavity are bright as well.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SMOOTHING_FWHM_MM = 3.0
SPOT_FWHM_MM = 6.0  # of what a place is looked for in; at 3 mm the noise of a fine grid stands out as much as a lesion
ENHANCED_SHARE = 0.01  # of the brain's voxels
FWHM_PER_SD = np.sqrt(8 * np.log(2))


@dataclass(frozen=True)
class Spot:
    """The brightest part of an image.

    Attributes:
        voxel: its centre, weighted by brightness, in fractions of voxels.
        contrast: mean of the smoothed image over it, in SD of the brain.
    """

    voxel: tuple[float, float, float]
    contrast: float


def enhancement(post: np.ndarray, event: np.ndarray, brain: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Where the event MRI became brightest since the post-OP MRI.

    The difference of both, each z-scored inside the brain, is smoothed (3 mm FWHM, or one voxel where that is more);
    the largest face-connected part of the brightest 1% of the brain's voxels is taken. That is about where contrast
    enhancement is new or has grown, but also where the scans are misaligned, where blood or a shrunken cavity shows, or
    where contrast or coil differed: it is found in every case, with a lesion or without, and never much larger than 1%
    of the brain.

    Args:
        post, event: (X, Y, Z) on one grid.
        brain: (X, Y, Z) bool.
        spacing_mm: (3,) edge lengths of a voxel.

    Returns:
        (X, Y, Z) bool; empty where the difference is the same everywhere.
    """
    smooth = _smoothed(brightening(post, event, brain), spacing_mm, SMOOTHING_FWHM_MM)
    return largest_part(brain & (smooth > np.quantile(smooth[brain], 1 - ENHANCED_SHARE)))


def largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest face-connected part of (X, Y, Z) bool; empty where the mask is."""
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0  # what is not in the mask
    return np.asarray(mask & (parts == sizes.argmax()))


def brightest_spot(image: np.ndarray, brain: np.ndarray, spacing_mm: np.ndarray) -> Spot | None:
    """The place in the brain where a smoothed image (6 mm FWHM, or one voxel) is brightest over a connected part.

    Of the face-connected parts of the brightest 1% of the brain's voxels it is the one with the largest sum of
    brightness above that limit: a lesion outweighs a vessel that is brighter but thin.

    Args:
        image: (X, Y, Z), of SD 1 in the brain and 0 outside, as of `z_scored` or `brightening`.
        brain: (X, Y, Z) bool.
        spacing_mm: (3,) edge lengths of a voxel.

    Returns:
        None where the image is the same everywhere in the brain, or there is no brain.
    """
    occupied = [np.flatnonzero(brain.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if not all(map(len, occupied)):
        return None
    box = tuple(slice(where[0], where[-1] + 1) for where in occupied)
    image, brain = np.where(brain, image, 0)[box], brain[box]
    smooth = _smoothed(image, spacing_mm, SPOT_FWHM_MM, mode="constant")
    limit = np.quantile(smooth[brain], 1 - ENHANCED_SHARE)
    excess = np.where(brain & (smooth > limit), smooth - limit, 0)
    parts, count = ndimage.label(excess > 0)
    if not count:
        return None
    heaviest = 1 + int(np.argmax(ndimage.sum_labels(excess, parts, range(1, count + 1))))
    mask = parts == heaviest
    x, y, z = (
        float(where[0] + centre) for where, centre in zip(occupied, ndimage.center_of_mass(excess * mask), strict=True)
    )
    return Spot((x, y, z), float(smooth[mask].mean()))


def brightening(post: np.ndarray, event: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """(X, Y, Z) float64: the event MRI minus the post-OP MRI, each z-scored inside the brain."""
    return z_scored(event, brain) - z_scored(post, brain)


def z_scored(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """(X, Y, Z) float64 of mean 0 and SD 1 inside the brain, 0 outside; all 0 where the brain is uniform."""
    values = image[brain].astype(np.float64)
    scored = np.zeros(image.shape)
    scored[brain] = (values - values.mean()) / max(values.std(), 1e-6)
    return scored


def _smoothed(image: np.ndarray, spacing_mm: np.ndarray, fwhm_mm: float, mode: str = "reflect") -> np.ndarray:
    return ndimage.gaussian_filter(image, np.maximum(fwhm_mm / spacing_mm, 1) / FWHM_PER_SD, mode=mode)
