"""Where a map can lie: one case's scene in, the masks of its dose bands, known structures and dose edge out."""

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from ricenet.explanation.explained_case import Scene

DOSE_BAND_ENDS_GY = (20.0, 40.0, 54.0)
DOSE_BANDS = ("dose_0_20", "dose_20_40", "dose_40_54", "dose_above_54")
POINTED = ("lesion", "cavity", "dose_edge", "lesion_or_dose_edge", "enhancement")  # what a maximum can point at
EDGE_MM = 5.0
SMOOTHING_FWHM_MM = 3.0
ENHANCED_SHARE = 0.01  # of the brain's voxels
FWHM_PER_SD = np.sqrt(8 * np.log(2))


def regions(scene: "Scene") -> dict[str, np.ndarray]:
    """Every region that is known of a case, (X, Y, Z) bool each, all inside its brain.

    Returns:
        The dose bands, where the dose is known in Gy: 0-20, 20-40, 40-54 (54 itself too) and above; a band may be
        empty. `lesion`, `cavity`: the scene's masks. `dose_edge`: see dose_edge. `lesion_or_dose_edge`: their union,
        where both are known. `enhancement`: see enhancement; only where the scene has no lesion mask and has both MRIs.
        What has no voxel in the brain, a band excepted, is not known.
    """
    brain = scene.brain.astype(bool)
    candidates = {name: mask.astype(bool) & brain for name, mask in scene.truth.items()}
    if scene.dose_gy is not None:
        candidates["dose_edge"] = dose_edge(scene.dose_gy, scene.prescription_gy, scene.spacing_mm) & brain
    if "lesion" not in candidates and scene.post is not None and scene.event is not None:
        candidates["enhancement"] = enhancement(scene.post, scene.event, brain, scene.spacing_mm)
    masks = {name: mask for name, mask in candidates.items() if mask.any()}
    if {"lesion", "dose_edge"} <= masks.keys():
        masks["lesion_or_dose_edge"] = masks["lesion"] | masks["dose_edge"]
    bands = {} if scene.dose_gy is None else dose_bands(scene.dose_gy, brain)
    return bands | masks


def dose_bands(dose_gy: np.ndarray, brain: np.ndarray) -> dict[str, np.ndarray]:
    """The brain by dose: [0, 20), [20, 40), [40, 54] and above 54 Gy; no two overlap, together the whole brain."""
    low, middle, high = DOSE_BAND_ENDS_GY
    band = np.select([dose_gy < low, dose_gy < middle, dose_gy <= high], [0, 1, 2], 3)
    return {name: (band == index) & brain for index, name in enumerate(DOSE_BANDS)}


def dose_edge(dose_gy: np.ndarray, prescription_gy: float | None, spacing_mm: np.ndarray) -> np.ndarray:
    """The neighbourhood of the 50% isodose. In the phantom the label follows from which side of it the lesion lies on.

    Args:
        dose_gy: (X, Y, Z) in Gy.
        prescription_gy: of the whole treatment; None: half of the case's maximum dose stands for the 50% isodose.
        spacing_mm: (3,) edge lengths of a voxel.

    Returns:
        (X, Y, Z) bool: the voxels that have one on the other side of the isodose within 5 mm, or within the longest
        edge of a voxel where that is more, from centre to centre. Empty where the isodose does not cross the volume.
    """
    half = (float(dose_gy.max()) if prescription_gy is None else prescription_gy) / 2
    inside = dose_gy >= half
    if inside.all() or not inside.any():  # scipy gives no error, but some distance to what is not there
        return np.zeros(dose_gy.shape, dtype=bool)
    distances = [ndimage.distance_transform_edt(side, sampling=spacing_mm) for side in (inside, ~inside)]
    reach_mm = max(EDGE_MM, float(spacing_mm.max()))
    # One of the two is 0 everywhere; rounding must not decide about a neighbour at the very distance.
    return np.maximum(*distances) <= reach_mm * (1 + 1e-6)


def enhancement(post: np.ndarray, event: np.ndarray, brain: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Where the event MRI became brightest since the post-OP MRI: a guess at the new lesion, not a segmentation.

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
    difference = _z_scored(event, brain) - _z_scored(post, brain)
    smooth = ndimage.gaussian_filter(difference, np.maximum(SMOOTHING_FWHM_MM / spacing_mm, 1) / FWHM_PER_SD)
    brightest = brain & (smooth > np.quantile(smooth[brain], 1 - ENHANCED_SHARE))
    parts, _ = ndimage.label(brightest)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0  # what is not among the brightest
    return brightest & (parts == sizes.argmax())


def _z_scored(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """(X, Y, Z) float64 of mean 0 and SD 1 inside the brain, 0 outside; all 0 where the brain is uniform."""
    values = image[brain].astype(np.float64)
    scored = np.zeros(image.shape)
    scored[brain] = (values - values.mean()) / max(values.std(), 1e-6)
    return scored
