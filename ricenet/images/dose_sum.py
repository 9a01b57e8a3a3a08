"""Sum dose grids of one frame of reference: volumes in Gy in, one volume on a grid that covers all out."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ricenet.images.volume import Affine, Volume, Voxels, covered, resample

SAME_VOXEL = 1e-4  # of a voxel; grids that agree to this are added voxel by voxel
Dose = TypeVar("Dose", float, NDArray[np.floating])


def eqd2(dose_gy: Dose, fractions: int, alpha_beta: float) -> Dose:
    """The dose in fractions of 2 Gy that has the effect of `dose_gy` in `fractions` equal ones; a number or an array.

    Args:
        dose_gy: Gy, all fractions together.
        fractions: at least 1.
        alpha_beta: Gy.
    """
    return dose_gy * (dose_gy / fractions + alpha_beta) / (2 + alpha_beta)


def add(terms: Sequence[tuple[Volume, float]]) -> Volume:
    """The sum of volumes, each times its factor, on their common_grid.

    Volumes on its lattice are added voxel by voxel, others sampled trilinearly; each counts as 0 outside the outer
    edges of its voxels.
    """
    shape, world_from_voxel = common_grid([volume for volume, _ in terms])
    total = np.zeros(shape, dtype=np.float32)
    for volume, factor in terms:
        total += factor * _on_grid(volume, shape, world_from_voxel)
    return Volume(total, world_from_voxel)


def common_grid(volumes: Sequence[Volume]) -> tuple[tuple[int, int, int], Affine]:
    """Shape and (4, 4) RAS+ affine of a grid over every voxel centre: the finest volume's axes, the finest steps."""
    finest = min(volumes, key=lambda volume: volume.spacing_mm.prod())
    spacing_mm = np.min([volume.spacing_mm for volume in volumes], axis=0)
    lattice = finest.world_from_voxel @ np.diag([*(spacing_mm / finest.spacing_mm), 1])
    corners = np.hstack([np.linalg.inv(lattice) @ _corners(volume) for volume in volumes])[:3]
    low, high = np.floor(corners.min(axis=1) + SAME_VOXEL), np.ceil(corners.max(axis=1) - SAME_VOXEL)
    x, y, z = (int(size) for size in high - low + 1)
    origin = np.eye(4)
    origin[:3, 3] = low
    return (x, y, z), lattice @ origin


def _corners(volume: Volume) -> Affine:
    """(4, 8) world positions of the outermost voxel centres."""
    index = np.indices((2, 2, 2)).reshape(3, 8) * (np.array(volume.voxels.shape)[:, None] - 1)
    return volume.world_from_voxel @ np.vstack([index, np.ones(8)])


def _on_grid(volume: Volume, shape: tuple[int, int, int], world_from_voxel: Affine) -> Voxels:
    index = np.linalg.inv(volume.world_from_voxel) @ world_from_voxel
    low = -index[:3, 3].round().astype(int)
    on_lattice = np.allclose(index[:3, :3], np.eye(3), rtol=0, atol=SAME_VOXEL / max(shape))
    if on_lattice and abs(index[:3, 3] + low).max() <= SAME_VOXEL:
        sizes = zip(low, volume.voxels.shape, shape, strict=True)
        return np.pad(volume.voxels, [(first, size - first - count) for first, count, size in sizes])
    # Rounding puts a face of the grid just outside it, where sampling gives 0: a border keeps the face's own dose.
    border = np.eye(4)
    border[:3, 3] = -1
    bordered = Volume(np.pad(volume.voxels, 1, mode="edge"), volume.world_from_voxel @ border)
    return resample(bordered, shape, world_from_voxel) * covered(volume, shape, world_from_voxel)
