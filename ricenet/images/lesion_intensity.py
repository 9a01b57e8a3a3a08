"""How bright a lesion is: MRIs in SD of the brain and a mask in; first-order statistics, and rim against core, out.

The statistics are those of the image biomarker standardisation initiative (IBSI, arXiv:1612.07003), chapter 3.3, of the
voxels as they are: no resampling, no bins.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ricenet.images.boxes import box_around

Mask = NDArray[np.bool_]
CORE_DEPTH = 0.5  # of the greatest depth in the lesion: from there on a voxel is core, before it rim


def first_order(values: NDArray) -> dict[str, float]:
    """Statistics of the intensities of a lesion, by name.

    Args:
        values: (n,), at least one.

    Returns:
        Skewness and excess kurtosis are 0 where all values are the same, as IBSI has it.
    """
    values = values.astype(np.float64)
    low, quarter, middle, three_quarters, high = np.percentile(values, (10, 25, 50, 75, 90))
    sd = values.std()
    standard = (values - values.mean()) / sd if sd > 0 else np.zeros_like(values)
    numbers = {
        "mean": values.mean(),
        "sd": sd,
        "min": values.min(),
        "p10": low,
        "median": middle,
        "p90": high,
        "max": values.max(),
        "iqr": three_quarters - quarter,
        "skewness": (standard**3).mean(),
        "kurtosis": (standard**4).mean() - 3 if sd > 0 else 0.0,
    }
    return {name: float(value) for name, value in numbers.items()}


def rim_minus_core(image: NDArray, mask: Mask) -> float | None:
    """Mean of an image in the rim of a lesion minus its mean in the core; above 0 where it enhances as a ring.

    The lesion's holes are filled first: a dark core often is not in its mask. A voxel's depth is its distance to the
    surface; the core lies more than half as deep as the deepest voxel, in a ball within half its radius.

    Args:
        image: (X, Y, Z).
        mask: (X, Y, Z), not empty.

    Returns:
        None where there is no rim: the mask is a few voxels across, and all as deep.
    """
    box = box_around(mask, 1)
    filled = ndimage.binary_fill_holes(mask[box])
    # To the surface, half a voxel before the centre of the voxel outside.
    depth = ndimage.distance_transform_edt(np.pad(filled, 1))[1:-1, 1:-1, 1:-1] - 0.5
    core = depth > CORE_DEPTH * depth.max()
    rim = filled & ~core
    return float(image[box][rim].mean() - image[box][core].mean()) if rim.any() else None
