"""Slices of one direction at uneven steps, interpolated to even ones where a volume serves a registration alone.

Frame: DICOM's LPS mm for planes, RAS+ mm for grids.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ricenet.dicom.slice_stack import (
    STEP_TOLERANCE_MM,
    Plane,
    Stack,
    along_rounding_mm,
    check_number,
    check_orientation,
    check_steps,
    check_tilt,
    grid_of,
    normal_of,
    positions_of,
)
from ricenet.images.volume import Volume

MAX_UNEVEN_STEP_MM = 10.0  # between it no head is left to register
MAX_UNEVEN_SLICES = 1000


@dataclass(frozen=True)
class UnevenStack:
    """Slices of one direction at uneven steps.

    even: a grid as if they lay at even steps, as long as the finest of theirs; offsets_mm: (slices,) where each lies,
    along the normal from the first.
    """

    even: Stack
    offsets_mm: NDArray[np.float64]

    @property
    def steps_mm(self) -> tuple[float, float]:
        """The finest and the widest."""
        steps = np.diff(self.offsets_mm)
        return float(steps.min()), float(steps.max())


def uneven_stack(planes: Sequence[Plane]) -> UnevenStack:
    """The slices, given in their order, where nothing but their steps is wrong.

    Raises:
        InvalidInput: as `stack`; series.uneven or series.gap only where steps are wider than MAX_UNEVEN_STEP_MM, or of
            sizes that differ too much.
    """
    check_orientation(planes)
    check_number(planes)
    along = positions_of(planes) @ normal_of(planes)
    steps_mm = np.diff(along)
    finest = float(steps_mm.min())
    extent = along[-1] - along[0]
    if finest < STEP_TOLERANCE_MM or steps_mm.max() > MAX_UNEVEN_STEP_MM or extent > MAX_UNEVEN_SLICES * finest:
        check_steps(along, along_rounding_mm(planes))
    check_tilt(planes)
    grid = grid_of(planes, normal_of(planes) * finest, positions_of(planes)[0])
    return UnevenStack(Stack(grid, finest, 0.0), along - along[0])


def even_steps(offsets: NDArray[np.float64]) -> int:
    """How many even steps lead from the first to the last of rising offsets, none wider than their finest."""
    return int(np.ceil(offsets[-1] / np.diff(offsets).min() - 1e-6))


def interpolate_planes(planes: NDArray[np.floating], offsets: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Planes interpolated linearly at even steps.

    Args:
        planes: (n, ...).
        offsets: (n,) rising from 0.
        steps: from the first plane to the last.

    Returns:
        (steps + 1, ...)
    """
    even = np.linspace(0, offsets[-1], steps + 1)
    below = np.clip(np.searchsorted(offsets, even, side="right") - 1, 0, len(offsets) - 2)
    weight = (even - offsets[below]) / (offsets[below + 1] - offsets[below])
    weight = weight.reshape(-1, *[1] * (planes.ndim - 1))
    return planes[below] * (1 - weight) + planes[below + 1] * weight


def even_out(volume: Volume, uneven: UnevenStack) -> Volume:
    """A volume that was placed on `uneven.even`, with its slices interpolated from where they lie to even steps."""
    index = np.linalg.inv(uneven.even.world_from_voxel) @ volume.world_from_voxel
    axis = int(abs(index[2, :3]).argmax())
    falling = index[2, axis] < 0
    slices = np.moveaxis(volume.voxels, axis, 0)
    steps = even_steps(uneven.offsets_mm)
    planes = interpolate_planes(slices[::-1] if falling else slices, uneven.offsets_mm, steps)
    step_mm = uneven.offsets_mm[-1] / steps
    world_from_voxel = volume.world_from_voxel.copy()
    along = world_from_voxel[:3, axis]
    last = len(uneven.offsets_mm) - 1
    first_slice = world_from_voxel[:3, 3] + (last * along if falling else 0)
    world_from_voxel[:3, axis] = along * step_mm / uneven.even.step_mm
    world_from_voxel[:3, 3] = first_slice - (steps * world_from_voxel[:3, axis] if falling else 0)
    voxels = np.moveaxis(planes[::-1] if falling else planes, 0, axis)
    return Volume(np.ascontiguousarray(voxels, np.float32), world_from_voxel)
