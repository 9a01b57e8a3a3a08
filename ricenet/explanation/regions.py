"""Where a map can lie: one case's scene in, the masks of its dose bands, known structures and dose edge out."""

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from ricenet.images.enhancement import enhancement

if TYPE_CHECKING:
    from ricenet.explanation.explained_case import Scene

DOSE_BAND_ENDS_GY = (20.0, 40.0, 54.0)
DOSE_BANDS = ("dose_0_20", "dose_20_40", "dose_40_54", "dose_above_54")
POINTED = ("lesion", "cavity", "dose_edge", "lesion_or_dose_edge", "enhancement")  # what a maximum can point at
EDGE_MM = 5.0


def regions(scene: "Scene") -> dict[str, np.ndarray]:
    """Every region that is known of a case, (X, Y, Z) bool each, all inside its brain.

    Returns:
        The dose bands, where the dose is known in Gy: 0-20, 20-40, 40-54 (54 itself too) and above; a band may be
        empty. `lesion`, `cavity`: the scene's masks. `dose_edge`: see dose_edge. `lesion_or_dose_edge`: their union,
        where both are known. `enhancement`: see ricenet.images.enhancement; only where the scene has no lesion mask and
        has both MRIs. What has no voxel in the brain, a band excepted, is not known.
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
