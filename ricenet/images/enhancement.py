"""Where an MRI enhances: one or two images and the brain in, the mask or the place of what is brightest out.

`find_lesion` gives every case a lesion: the user's mask, else what is segmented around the brightest spot.

A guess at the lesion, not a segmentation: vessels, blood, misaligned scans and a shrunken cavity are bright as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy import ndimage

SMOOTHING_FWHM_MM = 3.0
SPOT_FWHM_MM = 6.0  # of what a place is looked for in; at 3 mm the noise of a fine grid stands out as much as a lesion
ENHANCED_SHARE = 0.01  # of the brain's voxels
FWHM_PER_SD = np.sqrt(8 * np.log(2))
LESION_SHARE = 0.5  # of the highest brightness: from there on a voxel belongs to the lesion
PEAK_REACH_MM, MAX_REACH_MM = 15.0, 30.0  # from a spot's centre to its highest brightness, and to the lesion's end

LesionSource = Literal["mask", "difference", "event", "none"]
MASK: Final = "mask"
DIFFERENCE: Final = "difference"
EVENT: Final = "event"
NONE: Final = "none"
# SD of the brain, below which nothing enhances: no lesion of 128 phantoms, 60 of them difficulty=hard, lies below (the
# faintest: 1.33 and 1.96), because a lesion that is passed over costs more than a bright spot that is looked at. Drawn
# without their lesion, 63 of 92 lie below in the difference and 56 in the event MRI.
MIN_CONTRAST = {DIFFERENCE: 1.3, EVENT: 1.9}


@dataclass(frozen=True)
class Lesion:
    """A case's lesion.

    Attributes:
        mask: (X, Y, Z) bool; empty where nothing enhances.
        source: `mask`, the user's; `difference`, segmented where the event MRI is brighter than the post-OP MRI;
            `event`, where it is bright, without a post-OP MRI; `none`, nothing is bright enough.
        contrast: of the brightest spot, in SD of the brain: how sure it is (docs/numbers.md); None where a mask was
            given, or the images show no spot.
    """

    mask: np.ndarray
    source: LesionSource
    contrast: float | None


@dataclass(frozen=True)
class Spot:
    """The brightest part of an image.

    Attributes:
        voxel: its centre, weighted by brightness, in fractions of voxels.
        contrast: mean of the smoothed image over it, in SD of the brain.
    """

    voxel: tuple[float, float, float]
    contrast: float


def find_lesion(
    images: Mapping[str, np.ndarray], brain: np.ndarray, spacing_mm: float, mask: np.ndarray | None = None
) -> Lesion:
    """Find the lesion of a case: the user's mask in the brain, else what enhances, where `find_places` looks as well.

    Args:
        images: the case's channels by name, (X, Y, Z) each: the difference of `event` and `post` is looked at, without
            a post-OP MRI the event MRI.
        brain: (X, Y, Z) bool.
        spacing_mm: edge length of a voxel.
        mask: the user's, (X, Y, Z) bool; one that has no voxel in the brain counts as none.
    """
    brain = brain.astype(bool)
    if mask is not None and (mask & brain).any():
        return Lesion(mask & brain, MASK, None)
    empty = np.zeros(brain.shape, dtype=bool)
    if "event" not in images:
        return Lesion(empty, NONE, None)
    source: LesionSource = EVENT
    bright = z_scored(images["event"].astype(np.float64), brain)
    if "post" in images:
        source = DIFFERENCE
        bright -= z_scored(images["post"].astype(np.float64), brain)
    edges_mm = np.full(3, spacing_mm)
    spot = brightest_spot(bright, brain, edges_mm)
    if spot is None or spot.contrast < MIN_CONTRAST[source]:
        return Lesion(empty, NONE, None if spot is None else round(spot.contrast, 3))
    return Lesion(segment_spot(bright, brain, edges_mm, spot), source, round(spot.contrast, 3))


def segment_spot(image: np.ndarray, brain: np.ndarray, spacing_mm: np.ndarray, spot: Spot) -> np.ndarray:
    """The lesion around a spot: the connected part above half of its highest brightness, holes filled.

    The image is smoothed by 3 mm FWHM or a voxel; the highest brightness is looked for within 15 mm of the spot's
    centre, and the part that is nearest to that centre is taken, as far as it lies within 30 mm of it: further out it
    is a vessel, a sulcus or the skull base that touches the lesion.

    Args:
        image, brain, spacing_mm: as of `brightest_spot`, which gave the spot.

    Returns:
        (X, Y, Z) bool, at least one voxel.
    """
    reach = MAX_REACH_MM + 4 * SMOOTHING_FWHM_MM
    sides = [
        slice(max(int(centre - reach / edge), 0), int(centre + reach / edge) + 2)
        for centre, edge in zip(spot.voxel, spacing_mm, strict=True)
    ]
    box = (sides[0], sides[1], sides[2])
    smooth = _smoothed(np.where(brain, image, 0)[box], spacing_mm, SMOOTHING_FWHM_MM, mode="constant")
    places = np.moveaxis(np.indices(smooth.shape), 0, -1) + [side.start for side in box]
    far_mm = np.linalg.norm((places - spot.voxel) * spacing_mm, axis=-1)
    inside = brain[box] & (far_mm <= MAX_REACH_MM)
    highest = smooth[inside & (far_mm <= max(PEAK_REACH_MM, far_mm[inside].min()))].max()
    parts, _ = ndimage.label(inside & (smooth >= LESION_SHARE * highest))
    nearest = parts.flat[np.where(parts > 0, far_mm, np.inf).argmin()]
    mask = np.zeros(brain.shape, dtype=bool)
    mask[box] = ndimage.binary_fill_holes(parts == nearest) & brain[box]
    return mask


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
