"""Vessels and choroid plexus of the template head: its grid in; where contrast agent enhances without a lesion out.

Paths are polylines in MNI space (RAS+ mm), laid by hand through the large arteries, the inner veins, the dural sinuses
and the choroid plexus of the lateral ventricles: about where they run, not a segmentation. Those with an x other than 0
exist on both sides.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

STEP_MM = 0.5  # between the points that a path is made of
EDGE_SD_MM = 0.8
Path = tuple[tuple[float, float, float], ...]

# Radius in mm: paths.
PATHS: dict[float, tuple[Path, ...]] = {
    2.5: (  # choroid plexus, from the foramen of Monro over the trigone into the temporal horn
        ((5, -6, 12), (9, -16, 20), (15, -28, 17), (22, -38, 9), (27, -35, 0), (31, -24, -12)),
    ),
    1.8: (
        ((10, 2, -16), (20, 3, -15), (34, 4, -14), (42, 0, -3), (41, -14, 9), (40, -30, 18)),  # middle cerebral artery
        ((3, 4, -15), (2, 28, -10), (2, 40, 6), (2, 28, 26), (2, 6, 36)),  # anterior cerebral artery
        ((4, -17, -18), (12, -22, -14), (19, -34, -8), (14, -58, 0), (10, -78, 4)),  # posterior cerebral artery
        ((0, -20, -44), (0, -16, -20)),  # basilar artery
        ((2, -8, 12), (1, -30, 11), (1, -40, 5)),  # internal cerebral vein
    ),
    3.0: (
        ((0, -40, 5), (0, -60, 6), (0, -80, -4), (0, -96, -10)),  # straight sinus
        ((0, 62, 8), (0, 58, 34), (0, 30, 60), (0, 0, 74), (0, -40, 76), (0, -76, 54), (0, -100, 18), (0, -96, -10)),
        ((0, -96, -10), (28, -90, -18), (54, -62, -28), (50, -44, -40)),  # transverse sinus
    ),
}


def enhancing_vessels(world_from_voxel: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Share of vessel or choroid plexus, 0 to 1, on an MNI grid of cubic voxels.

    Args:
        world_from_voxel: (4, 4) RAS+ mm.
        shape: (X, Y, Z).

    Returns:
        (X, Y, Z), 1 on the paths, one half about a radius from them.
    """
    spacing_mm = float(np.linalg.norm(world_from_voxel[:3, 0]))
    vessels = np.zeros(shape, np.float32)
    for radius_mm, paths in PATHS.items():
        free = np.ones(shape, dtype=bool)
        points = np.concatenate([_points(side) for path in paths for side in _both_sides(path)])
        voxels = np.round(_voxels_of(points, world_from_voxel)).astype(int)
        inside = ((voxels >= 0) & (voxels < shape)).all(1)
        free[tuple(voxels[inside].T)] = False
        distance_mm = ndimage.distance_transform_edt(free) * spacing_mm
        vessels = np.maximum(vessels, distance_mm <= radius_mm)
    return np.asarray(ndimage.gaussian_filter(vessels, EDGE_SD_MM / spacing_mm), dtype=np.float32)


def _voxels_of(points_mm: NDArray[np.float64], world_from_voxel: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) points in mm as fractional voxels."""
    voxel_from_world = np.linalg.inv(world_from_voxel)
    return np.asarray(points_mm @ voxel_from_world[:3, :3].T + voxel_from_world[:3, 3], dtype=np.float64)


def _points(path: Path) -> NDArray[np.float64]:
    """Points along a path, at most STEP_MM apart."""
    corners = np.array(path, dtype=np.float64)
    pieces = []
    for start, end in pairwise(corners):
        steps = int(np.ceil(np.linalg.norm(end - start) / STEP_MM))
        pieces.append(start + np.linspace(0, 1, steps + 1)[:, None] * (end - start))
    return np.concatenate(pieces)


def _both_sides(path: Path) -> list[Path]:
    mirrored = tuple((-x, y, z) for x, y, z in path)
    return [path] if mirrored == path else [path, mirrored]
