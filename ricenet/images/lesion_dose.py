"""The dose at a lesion: a dose grid, a mask and the prescription in; doses, shares, distances and the gradient out.

Near-minimum and near-maximum doses are those of ICRU report 83: D98, D50 and D2 are the doses that 98%, 50% and 2% of
the volume receive at least. In-field, marginal and out-of-field are defined by the share of the lesion inside the 95%
isodose, as in Lee et al., Int J Radiat Oncol Biol Phys 43:79 (1999), and Chan et al., J Clin Oncol 20:1635 (2002);
their "central" (at least 95%) counts as in-field.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ricenet.images.boxes import box_around

SHARES = (95, 80, 50, 20)  # per cent of the prescription
EDGES = (95, 50)  # isodoses, in per cent of the prescription, to which distances are taken
MAX_VOXELS = 4000  # whose distances are averaged
IN_FIELD, MARGINAL = 0.8, 0.2  # least shares of the lesion inside the 95% isodose


def lesion_doses(
    dose_gy: NDArray, mask: NDArray[np.bool_], spacing_mm: float, prescription_gy: float | None
) -> dict[str, float]:
    """Numbers of the dose in a mask.

    Args:
        dose_gy: (X, Y, Z) in Gy.
        mask: (X, Y, Z), not empty.
        spacing_mm: edge length of a voxel.
        prescription_gy: of the whole treatment; without one, the numbers relative to it are absent.

    Returns:
        By name; `lesion_mm_inside_95` and `_50` are absent, too, where there is no such isodose.
    """
    doses = dose_gy[mask].astype(np.float64)
    numbers = {
        "lesion_dose_mean_gy": doses.mean(),
        "lesion_dose_min_gy": doses.min(),
        "lesion_dose_max_gy": doses.max(),
        **{f"lesion_dose_d{percent}_gy": np.percentile(doses, 100 - percent) for percent in (2, 50, 98)},
        "lesion_dose_gradient_gy_per_mm": _gradient(dose_gy, mask, spacing_mm).mean(),
    }
    if prescription_gy is not None:
        levels = {percent: percent / 100 * prescription_gy for percent in SHARES}
        shares = {percent: (doses >= level).mean() for percent, level in levels.items()}
        numbers |= {f"lesion_share_above_{percent}": share for percent, share in shares.items()}
        numbers["lesion_field"] = field_class(shares[95])
        voxels = np.argwhere(mask)
        voxels = voxels[:: -(-len(voxels) // MAX_VOXELS)]  # spread over the lesion; a search of all takes seconds
        for percent in EDGES:
            distances_mm = mm_inside(dose_gy, levels[percent], voxels, spacing_mm)
            if distances_mm is not None:
                numbers[f"lesion_mm_inside_{percent}"] = distances_mm.mean()
    return {name: float(value) for name, value in numbers.items()}


def field_class(share: float) -> int:
    """0 out-of-field, 1 marginal, 2 in-field, by the share of the lesion inside the 95% isodose."""
    return int(share >= MARGINAL) + int(share >= IN_FIELD)


def mm_inside(
    dose_gy: NDArray, level_gy: float, voxels: NDArray[np.int64], spacing_mm: float
) -> NDArray[np.float64] | None:
    """Distance of voxels to an isodose surface in mm, positive where the dose is higher.

    The surface is known where it crosses the lines between neighbouring voxel centres, by linear interpolation; the
    distance is the one to the nearest crossing.

    Args:
        dose_gy: (X, Y, Z) in Gy.
        level_gy: of the isodose.
        voxels: (n, 3).
        spacing_mm: edge length of a voxel.

    Returns:
        (n,); None where the volume has no such isodose.
    """
    surface = np.concatenate([_crossings(dose_gy, level_gy, axis) for axis in range(3)])
    if not len(surface):
        return None
    distances, _ = cKDTree(surface).query(voxels)
    return np.asarray(np.where(dose_gy[tuple(voxels.T)] >= level_gy, distances, -distances) * spacing_mm)


def _crossings(dose_gy: NDArray, level_gy: float, axis: int) -> NDArray[np.float64]:
    """(n, 3): where a level lies between neighbours along an axis, in fractions of voxels."""
    count = dose_gy.shape[axis]
    above = dose_gy >= level_gy
    first = np.argwhere(above.take(range(count - 1), axis) != above.take(range(1, count), axis))
    second = first + np.eye(3, dtype=int)[axis]
    before, after = (dose_gy[tuple(place.T)].astype(np.float64) for place in (first, second))
    places = first.astype(np.float64)
    places[:, axis] += (level_gy - before) / (after - before)
    return places


def _gradient(dose_gy: NDArray, mask: NDArray[np.bool_], spacing_mm: float) -> NDArray[np.float64]:
    """The length of the dose's gradient in each voxel of a mask, in Gy/mm; central differences."""
    box = box_around(mask, 1)
    components = np.gradient(dose_gy[box].astype(np.float64), spacing_mm)
    return np.asarray(np.linalg.norm([component[mask[box]] for component in components], axis=0))
