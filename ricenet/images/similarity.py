"""Similarity of two images on one grid."""

import numpy as np
from numpy.typing import NDArray

from ricenet.images.volume import Voxels


def mutual_information(a: Voxels, b: Voxels, bins: int = 64) -> float:
    """Normalised mutual information (H(a) + H(b)) / H(a, b) of two lists of grey values: 1 unrelated, 2 equal."""

    def entropy(counts: NDArray) -> float:
        share = counts[counts > 0] / counts.sum()
        return float(-(share * np.log(share)).sum())

    limits = [np.percentile(values, (0.5, 99.5)) for values in (a, b)]
    joint, _, _ = np.histogram2d(np.clip(a, *limits[0]), np.clip(b, *limits[1]), bins=bins)
    return (entropy(joint.sum(axis=0)) + entropy(joint.sum(axis=1))) / entropy(joint)
