"""Find the head in an MRI or CT by threshold, as a coarse mask. For checks; brain.py extracts the brain.

Works on images with skull and on stripped ones, whose head is the brain.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ricenet.images.volume import Mask, Volume, isotropic

SPACING_MM = 4.0
BRAIN_DEPTH_MM, BRAIN_HEIGHT_MM = 15.0, 140.0  # of scalp and skull over the brain; of a brain from vertex to foramen
MARGIN = 2  # voxels


def coarse_head(image: Volume) -> tuple[Volume, Mask]:
    """The part of `image` that holds the head, on cubic voxels of SPACING_MM, and the head in it.

    The head is the largest piece above Otsu's threshold, filled. An image without one is its own head.
    """
    coarse = isotropic(image, SPACING_MM)
    head = _largest(ndimage.binary_opening(coarse.voxels > _otsu(coarse.voxels)))
    if not head.any():
        head[:] = True
    for axis in range(3):
        for plane in np.moveaxis(head, axis, 0):
            plane |= ndimage.binary_fill_holes(plane)
    box = tuple(slice(max(0, at.min() - MARGIN), at.max() + 1 + MARGIN) for at in np.nonzero(head))
    affine = coarse.world_from_voxel.copy()
    affine[:3, 3] += affine[:3, :3] @ [edge.start for edge in box]
    return Volume(np.ascontiguousarray(coarse.voxels[box]), affine), head[box]


def about_the_brain(head: Mask, world_from_voxel: NDArray[np.float64]) -> Mask:
    """A rough idea of where the brain is: what lies deep in `head`, and not far below the top of it.

    The same idea holds skull base and the upper face too, and misses the cortex; good for shares of a field of view.
    """
    deep = ndimage.distance_transform_edt(np.pad(head, 1), SPACING_MM)[1:-1, 1:-1, 1:-1] > BRAIN_DEPTH_MM
    x, y, z = np.ogrid[: head.shape[0], : head.shape[1], : head.shape[2]]
    height = world_from_voxel[2, 0] * x + world_from_voxel[2, 1] * y + world_from_voxel[2, 2] * z
    return deep & (height > height[head].max() - BRAIN_HEIGHT_MM)


def _otsu(voxels: NDArray[np.float32]) -> float:
    """The threshold that parts the values into the two classes furthest from each other."""
    # A few bright vessels must not stretch the histogram until everything else falls into one bin.
    counts, edges = np.histogram(np.minimum(voxels, np.percentile(voxels, 99.5)), 256)
    middle = (edges[1:] + edges[:-1]) / 2
    below, total = np.cumsum(counts)[:-1], counts.sum()
    mass = np.cumsum(counts * middle)
    apart = mass[:-1] / np.maximum(below, 1) - (mass[-1] - mass[:-1]) / np.maximum(total - below, 1)
    return float(edges[1 + np.argmax(apart**2 * below * (total - below))])


def _largest(mask: Mask) -> Mask:
    pieces, count = ndimage.label(mask)
    return pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:]) if count else mask
