"""Find the regular grid of a series' slices from position, orientation and spacing in their headers.

Converters only warn where a slice is missing; here a stack that is no regular grid is refused and the reason named.
They also space all slices like the first two: a converted volume is placed anew, by all of its headers. How far a
slice may lie from its place, the decimals that its headers show tell. Frame: DICOM's LPS mm for planes, RAS+ mm for
the grid.
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
SHOWN_EXACTLY = 2e-5  # float32 holds 300 mm to this
MAX_SHEAR = 1e-3  # a gantry tilt is degrees
MAX_STEP_SHARE = 0.4  # of the step, which no rounding may hide
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
        """Whether two slices have one orientation and spacing, as precisely as both headers give them."""
        return _close(self.cosines, other.cosines) and _close(self.spacing_mm, other.spacing_mm)

    @property
    def is_placed(self) -> bool:
        """Whether the header says where it lies."""
        return None not in (self.cosines, self.position_mm, self.spacing_mm)


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
    difference = max(abs(a - b) for a, b in zip(first, other, strict=True))
    if difference <= COSINE_TOLERANCE:
        return True
    return difference <= COSINE_TOLERANCE + sum(_cosine_rounding([numbers]) for numbers in (first, other))


def _shown_rounding(numbers: Sequence[Sequence[float]] | NDArray[np.float64], decimals: Sequence[int]) -> float:
    """Half a unit of the last decimal that the numbers show: by so much rounding may have moved each.

    Args:
        numbers: of headers, together; noise of float32 shows nothing.
        decimals: that are tried, in rising order.

    Returns:
        0 for whole numbers and for those with more decimals than that: they are taken as they are.
    """
    values = np.asarray(numbers, dtype=np.float64)
    for places in (0, *decimals):
        if abs(values - values.round(places)).max(initial=0) < SHOWN_EXACTLY:
            return 0.5 * 10.0**-places if places else 0.0
    return 0.0


def _cosine_rounding(cosines: Sequence[Sequence[float]] | NDArray[np.float64]) -> float:
    return _shown_rounding(cosines, (2, 3))


def _position_rounding_mm(positions: NDArray[np.float64]) -> float:
    return _shown_rounding(positions, (1, 2, 3))


def slice_order(planes: Sequence[Plane]) -> list[int]:
    """Indices of `planes` along the first one's normal; as they come where one of them has no place."""
    if any(plane.cosines is None or plane.position_mm is None for plane in planes):
        return list(range(len(planes)))
    return [int(index) for index in np.argsort(positions_of(planes) @ normal_of(planes), kind="stable")]


def stack(planes: Sequence[Plane]) -> Stack:
    """The grid of the slices, given in their order.

    Raises:
        InvalidInput: no place or several orientations (series.orientation), fewer than three (series.few_slices), two
            at one place (series.repeated_positions), one missing (series.gap), uneven steps (series.uneven), or a
            stack that does not rise along its normal (series.tilt).
    """
    check_orientation(planes)
    check_number(planes)
    normal = normal_of(planes)
    positions = positions_of(planes)
    along = positions @ normal
    check_steps(along, along_rounding_mm(planes))
    check_tilt(planes)
    step = (along[-1] - along[0]) / (len(planes) - 1)
    even = np.outer(np.arange(len(planes)) * step, normal)
    origin = (positions - even).mean(0)
    scatter = float(np.linalg.norm(positions - even - origin, axis=1).max())
    return Stack(grid_of(planes, normal * step, origin), float(step), scatter)


def place(converted: Volume, shape: tuple[int, int, int], grid: Stack) -> Volume:
    """The converted voxels on the grid of the headers, after a check that both mean the same.

    One end of the stack has to agree; the other may be off by the tolerance of a step for each slice, since converters
    go on from the first two (positions rounded to .01 mm put the 150th slice .8 mm off).

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


def grid_of(planes: Sequence[Plane], step: NDArray[np.float64], origin: NDArray[np.float64]) -> Affine:
    """Grid of slices.

    Args:
        planes: whose directions and spacing are alike.
        step: (3,) between slices.
        origin: (3,) of the first voxel.

    Returns:
        (4, 4) from (column, row, slice) to RAS+ mm.
    """
    assert planes[0].spacing_mm is not None
    x_mm, y_mm = planes[0].spacing_mm
    along_columns, along_rows = _axes(planes)
    affine = np.eye(4)
    columns = [along_columns * x_mm, along_rows * y_mm, step, origin]
    affine[:3] = RAS_FROM_LPS[:, None] * np.column_stack(columns)
    return affine


def check_orientation(planes: Sequence[Plane]) -> None:
    """Refuse slices without a place or in several directions (series.orientation)."""
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


def check_number(planes: Sequence[Plane]) -> None:
    """Refuse fewer slices than a volume has (series.few_slices)."""
    if len(planes) < MIN_SLICES:
        raise InvalidInput(f"expected {MIN_SLICES} slices or more, got {len(planes)}", EXPORT, code="series.few_slices")


def _orthonormal(plane: Plane) -> bool:
    axes = np.reshape(np.array(plane.cosines), (2, 3))
    return bool(abs(axes @ axes.T - np.eye(2)).max() <= COSINE_TOLERANCE + 4 * _cosine_rounding(axes))


def check_tilt(planes: Sequence[Plane]) -> None:
    """Refuse a stack that does not rise along its normal (series.tilt)."""
    positions, normal = positions_of(planes), normal_of(planes)
    along = positions @ normal
    aside = positions - np.outer(along, normal)
    off_mm = float(np.linalg.norm(aside - aside[0], axis=1).max())
    off_mm -= 2 * np.sqrt(3) * _position_rounding_mm(positions)
    shear = off_mm / (along[-1] - along[0]) - 2 * np.sqrt(3) * _cosine_rounding(
        [plane.cosines or () for plane in planes]
    )
    if shear > MAX_SHEAR:
        angle = np.degrees(np.arctan(shear))
        raise InvalidInput(
            f"expected slices stacked along their normal, got a stack that leans by {angle:.1f} degrees (gantry tilt)",
            "ask the scanner site for an untilted reconstruction, or choose another series",
            code="series.tilt",
        )


def along_rounding_mm(planes: Sequence[Plane]) -> float:
    """How far rounded positions may put a slice from its place along the normal."""
    return _position_rounding_mm(positions_of(planes)) * float(abs(normal_of(planes)).sum())


def check_steps(along_mm: NDArray[np.float64], rounding_mm: float) -> None:
    """Refuse slices at one place (series.repeated_positions), a gap (series.gap) or uneven steps (series.uneven).

    Args:
        along_mm: (slices,) places along the normal.
        rounding_mm: by which each of the slices may lie off there.
    """
    steps_mm = np.diff(along_mm)
    count = len(along_mm)
    usual = float(np.median(steps_mm))
    repeated = int((steps_mm < STEP_TOLERANCE_MM).sum())
    if repeated:
        raise InvalidInput(
            f"expected every slice at a place of its own, got {repeated} of {count} at the place of another",
            "several scans were stored as one series; split them where they come from, or choose another series",
            code="series.repeated_positions",
        )
    multiples = steps_mm / usual
    tolerance = max(MULTIPLE_TOLERANCE, min(4 * rounding_mm / usual, MAX_STEP_SHARE))
    gaps = (multiples > 1.5) & (abs(multiples - multiples.round()) <= tolerance)
    if gaps.any():
        missing = int((multiples[gaps].round() - 1).sum())
        raise InvalidInput(
            f"expected a slice every {usual:.3g} mm, got {count} slices with {missing} missing between them",
            EXPORT,
            code="series.gap",
        )
    if not _are_even(along_mm, usual, rounding_mm):
        raise InvalidInput(
            f"expected a slice every {usual:.3g} mm, got steps of {steps_mm.min():.3g}-{steps_mm.max():.3g} mm",
            "choose another series, or have this one resampled to even steps where it was scanned",
            code="series.uneven",
        )


def _are_even(along_mm: NDArray[np.float64], usual: float, rounding_mm: float) -> bool:
    """Whether each step is the usual one, or rounding explains where every slice lies on a grid of even steps."""
    steps_mm = np.diff(along_mm)
    if abs(steps_mm - usual).max() <= _step_tolerance_mm(usual):
        return True
    index = np.arange(len(along_mm))
    slope, first = np.polyfit(index, along_mm, 1)
    off_mm = float(abs(along_mm - first - slope * index).max())
    even = abs(steps_mm - slope).max() <= min(2 * rounding_mm + _step_tolerance_mm(usual), MAX_STEP_SHARE * usual)
    return bool(even and off_mm <= 2 * rounding_mm + STEP_TOLERANCE_MM)


def positions_of(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """(slices, 3) mm."""
    return np.array([plane.position_mm for plane in planes], dtype=np.float64)


def _axes(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """(2, 3) directions in which the column index, then the row index grows.

    The first slice's; where all are rounded coarsely their mean, at right angles.
    """
    axes = np.array([plane.cosines for plane in planes], dtype=np.float64).reshape(-1, 2, 3)
    if not _cosine_rounding(axes):
        return axes[0]
    left, _, right = np.linalg.svd(axes.mean(0), full_matrices=False)
    return left @ right


def normal_of(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """(3,) of length 1, along which slices rise."""
    normal = np.cross(*_axes(planes))
    return normal / max(float(np.linalg.norm(normal)), 1e-9)  # directions are checked elsewhere
