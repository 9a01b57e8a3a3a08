"""Find the regular grid of a series' slices from position, orientation and spacing in their headers.

Converters only warn where a slice is missing; here a stack that is no regular grid is refused and the reason named.
They also space all slices like the first two: a converted volume is placed anew, by all of its headers. Frame: DICOM's
LPS mm for planes, RAS+ mm for the grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ricenet.errors import InvalidInput
from ricenet.images.volume import Affine, Volume

MIN_SLICES = 3
STEP_TOLERANCE = 0.01  # of the step
STEP_TOLERANCE_MM = 0.01  # scanners round positions to .01 mm
COSINE_TOLERANCE = 1e-3
CORNER_TOLERANCE_MM = 0.01
MAX_SHEAR = 1e-3  # a gantry tilt is degrees, rounded directions stay below
MULTIPLE_TOLERANCE = 0.1  # a step this near to a multiple of the others is a gap of whole slices
RAS_FROM_LPS = np.array([-1.0, -1.0, 1.0])
EXPORT = "export the series again, all of its slices"


@dataclass(frozen=True, slots=True)
class Plane:
    """Where a header places one slice, LPS; each None where the header does not say, or not in numbers.

    cosines: directions in which the column index, then the row index grows; position_mm: centre of the first voxel;
    spacing_mm: between columns (x), between rows (y).
    """

    cosines: tuple[float, ...] | None
    position_mm: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None

    def lies_along(self, other: "Plane") -> bool:
        """Whether two slices have one orientation and spacing."""
        return _close(self.cosines, other.cosines) and _close(self.spacing_mm, other.spacing_mm)


@dataclass(frozen=True)
class Stack:
    """A regular grid of slices.

    world_from_voxel: (4, 4) from (column, row, slice) to RAS+ mm, slices along their normal; step_mm: between slices;
    scatter_mm: how far the farthest slice lies, by its own header, from its place on the grid.
    """

    world_from_voxel: Affine
    step_mm: float
    scatter_mm: float


def _close(first: tuple[float, ...] | None, other: tuple[float, ...] | None) -> bool:
    if first is None or other is None:
        return first is other
    return max(abs(a - b) for a, b in zip(first, other, strict=True)) <= COSINE_TOLERANCE


def slice_order(planes: Sequence[Plane]) -> list[int]:
    """Indices of `planes` along the first one's normal; as they come where one of them has no place."""
    if any(plane.cosines is None or plane.position_mm is None for plane in planes):
        return list(range(len(planes)))
    return [int(index) for index in np.argsort(_positions(planes) @ _normal(planes[0]), kind="stable")]


def stack(planes: Sequence[Plane]) -> Stack:
    """The grid of the slices, given in their order.

    Raises:
        InvalidInput: no place or several orientations (series.orientation), fewer than three (series.few_slices), two
            at one place (series.repeated_positions), one missing (series.gap), uneven steps (series.uneven), or a
            stack that does not rise along its normal (series.tilt).
    """
    _check_orientation(planes)
    if len(planes) < MIN_SLICES:
        raise InvalidInput(f"expected {MIN_SLICES} slices or more, got {len(planes)}", EXPORT, code="series.few_slices")
    normal = _normal(planes[0])
    positions = _positions(planes)
    along = positions @ normal
    _check_steps(np.diff(along))
    extent = along[-1] - along[0]
    aside = positions - np.outer(along, normal)
    shear = float(np.linalg.norm(aside - aside[0], axis=1).max() / extent)
    if shear > MAX_SHEAR:
        angle = np.degrees(np.arctan(shear))
        raise InvalidInput(
            f"expected slices stacked along their normal, got a stack that leans by {angle:.1f} degrees (gantry tilt)",
            "ask the scanner site for an untilted reconstruction, or choose another series",
            code="series.tilt",
        )
    step = extent / (len(planes) - 1)
    even = np.outer(np.arange(len(planes)) * step, normal)
    origin = (positions - even).mean(0)
    scatter = float(np.linalg.norm(positions - even - origin, axis=1).max())
    return Stack(_grid(planes[0], normal * step, origin), float(step), scatter)


def place(converted: Volume, shape: tuple[int, int, int], grid: Stack) -> Volume:
    """The converted voxels on the grid of the headers, after a check that both mean the same.

    One end of the stack has to agree; the other may be off by the tolerance of a step for each slice, since dcm2niix
    goes on from the first two (positions rounded to .01 mm put the 150th slice .8 mm off).

    Args:
        converted: canonical axes.
        shape: columns, rows, slices.
        grid: of the headers.

    Raises:
        InvalidInput: other axes, another size or another place (series.conversion).
    """
    axes = (np.linalg.inv(converted.world_from_voxel) @ grid.world_from_voxel)[:3, :3].round()
    sizes = np.array(shape) - 1
    if not np.array_equal(axes @ axes.T, np.eye(3)) or tuple(abs(axes) @ shape) != converted.voxels.shape:
        raise _contradiction("other axes or another size")
    index = np.eye(4)
    index[:3, :3] = axes
    index[:3, 3] = -np.minimum(axes * sizes, 0).sum(1)  # a flipped axis counts from its other end
    corners = np.array([(*corner, 1) for corner in product(*((0, size) for size in sizes))])
    off_mm = np.linalg.norm((converted.world_from_voxel @ index - grid.world_from_voxel)[:3] @ corners.T, axis=0)
    first_slice, last_slice = off_mm.reshape(4, 2).max(0)
    near, far = sorted((float(first_slice), float(last_slice)))
    tolerance_mm = CORNER_TOLERANCE_MM + grid.scatter_mm
    if near > tolerance_mm or far > tolerance_mm + sizes[2] * _step_tolerance_mm(grid.step_mm):
        raise _contradiction(f"corners {far:.3f} mm off")
    return Volume(converted.voxels, grid.world_from_voxel @ np.linalg.inv(index))


def _contradiction(got: str) -> InvalidInput:
    return InvalidInput(
        f"expected the volume that the slices' headers describe, got one with {got}",
        "the headers contradict one another: export the series again, or choose another",
        code="series.conversion",
    )


def _step_tolerance_mm(step_mm: float) -> float:
    return max(STEP_TOLERANCE * step_mm, STEP_TOLERANCE_MM)


def _grid(plane: Plane, step: NDArray[np.float64], origin: NDArray[np.float64]) -> Affine:
    assert plane.cosines is not None
    assert plane.spacing_mm is not None
    x_mm, y_mm = plane.spacing_mm
    affine = np.eye(4)
    columns = [np.array(plane.cosines[:3]) * x_mm, np.array(plane.cosines[3:]) * y_mm, step, origin]
    affine[:3] = RAS_FROM_LPS[:, None] * np.column_stack(columns)
    return affine


def _check_orientation(planes: Sequence[Plane]) -> None:
    first = planes[0]
    if any(None in (plane.cosines, plane.position_mm, plane.spacing_mm) for plane in planes):
        got = "slices without position, orientation or pixel spacing"
    elif not all(plane.lies_along(first) for plane in planes):
        got = "several orientations or pixel spacings in one image"
    elif not _orthonormal(first):
        got = "directions of rows and columns that are not at right angles"
    else:
        return
    raise InvalidInput(
        f"expected slices that their headers place in space, got {got}", EXPORT, code="series.orientation"
    )


def _orthonormal(plane: Plane) -> bool:
    axes = np.reshape(np.array(plane.cosines), (2, 3))
    return bool(abs(axes @ axes.T - np.eye(2)).max() <= COSINE_TOLERANCE)


def _check_steps(steps_mm: NDArray[np.float64]) -> None:
    count = len(steps_mm) + 1
    usual = float(np.median(steps_mm))
    repeated = int((steps_mm < STEP_TOLERANCE_MM).sum())
    if repeated:
        raise InvalidInput(
            f"expected every slice at a place of its own, got {repeated} of {count} at the place of another",
            "several scans were stored as one series; split them where they come from, or choose another series",
            code="series.repeated_positions",
        )
    multiples = steps_mm / usual
    gaps = (multiples > 1.5) & (abs(multiples - multiples.round()) <= MULTIPLE_TOLERANCE)
    if gaps.any():
        missing = int((multiples[gaps].round() - 1).sum())
        raise InvalidInput(
            f"expected a slice every {usual:.3g} mm, got {count} slices with {missing} missing between them",
            EXPORT,
            code="series.gap",
        )
    worst = float(abs(steps_mm - usual).max())
    if worst > _step_tolerance_mm(usual):
        raise InvalidInput(
            f"expected a slice every {usual:.3g} mm, got steps of {steps_mm.min():.3g}-{steps_mm.max():.3g} mm",
            "choose another series, or have this one resampled to even steps where it was scanned",
            code="series.uneven",
        )


def _positions(planes: Sequence[Plane]) -> NDArray[np.float64]:
    return np.array([plane.position_mm for plane in planes], dtype=np.float64)


def _normal(plane: Plane) -> NDArray[np.float64]:
    normal = np.cross(*np.reshape(np.array(plane.cosines, dtype=np.float64), (2, 3)))
    return normal / max(float(np.linalg.norm(normal)), 1e-9)  # directions are checked elsewhere
