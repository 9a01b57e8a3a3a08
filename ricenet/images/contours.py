"""Fill planar contours: closed polygons in mm in; how far each voxel of an image lies inside them out, 0 to 1.

In its plane a polygon is filled exactly (a voxel on its border counts by its area), by even and odd crossings, so that
holes, keyholes and XOR come out alike. Between two planes the shape is interpolated by signed distance, and the first
and the last plane reach half a step beyond themselves. A plane that lacks its contour between others is a gap.

Frame: RAS+, mm. Does not: read DICOM (ricenet.delivery.rtstruct), fill contours that do not lie in parallel planes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ricenet.errors import InvalidInput
from ricenet.images.volume import MAX_VOXELS, MIN_VOXELS_PER_AXIS, Affine, Volume, Voxels, resample

Points = NDArray[np.float64]  # (n, 3) or (n, 2)
SUB_ROWS = 16  # rows in a voxel along which areas are summed; along a row they are exact
FLAT_MM = 0.1  # a contour that leaves its plane by less lies in it; two planes that are nearer are one
FULL, EMPTY = 0.999, 0.001  # of a voxel
MAX_GAP = 1.5  # steps to the next plane that are still one shape
UNEVEN_GAP = 3.0  # the same where no other structure has a plane between either: an uneven stack
MARGIN = 2  # voxels around a shape


@dataclass(frozen=True)
class Filled:
    """What lies inside the contours of one structure.

    Attributes:
        mask: float32 from 0 to 1, the share of each voxel of the image that lies inside; cut to the shape's box.
        ml: volume of the shape, also of what lies outside the image.
        share_outside: of that volume.
        notes: what of the contours was not taken as it stands, in words that name nothing.
    """

    mask: Volume
    ml: float
    share_outside: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Plane:
    """The contours of one plane: `at_mm` along the normal, and how far they cover each voxel of the shape's box."""

    at_mm: float
    polygons: list[Points]
    cover: Voxels


@dataclass(frozen=True)
class _Grid:
    """The image's grid with the planes' axis last: `index` (4, 4) RAS+ mm -> voxel, `size` and `spacing_mm` (3,)."""

    index: Affine
    order: tuple[int, int, int]
    size: tuple[int, int, int]
    spacing_mm: NDArray[np.float64]


def fill_contours(
    contours: Sequence[Points], image: Volume, middles: Points | None = None, *, exclusive: bool = False
) -> Filled:
    """Fill the contours of one structure on the grid of `image`.

    Args:
        contours: each (n, 3) RAS+ mm, closed, in parallel planes.
        image: where the shape is drawn; its voxels are not looked at.
        middles: (n, 3) of all contours of the structure set, this structure's too: they tell where slices are.
        exclusive: what several contours of a plane overlap in lies outside (CLOSEDPLANAR_XOR). Otherwise contours that
            cross are joined; one inside another is a hole either way.

    Raises:
        InvalidInput: no contour with an area, or contours that do not lie in parallel planes.
    """
    kept = [points for points in contours if len(points) >= 3 and _area(points) > 0]
    notes = []
    if len(kept) < len(contours):
        notes.append(f"{len(contours) - len(kept)} contours without an area were left out")
    if not kept:
        raise InvalidInput(
            "expected closed contours, got none with an area", "export the structures again", code="contours.none"
        )
    axis = _axis_across(kept, image)
    if axis is None:
        return _fill_across(kept, image, middles, exclusive, notes)
    return _fill_along(axis, kept, image, middles, exclusive, notes)


def _fill_across(
    contours: Sequence[Points], image: Volume, middles: Points | None, exclusive: bool, notes: list[str]
) -> Filled:
    """Fill contours that do not lie in the image's slices on a grid of their own, and sample it in the image's."""
    filled = fill_contours(contours, _own_grid(contours, image), middles, exclusive=exclusive)
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(filled.mask.voxels.shape) - 1)
    index = np.linalg.inv(image.world_from_voxel) @ filled.mask.world_from_voxel
    places = corners @ index[:3, :3].T + index[:3, 3]
    start = np.clip(np.floor(places.min(0)).astype(int), 0, np.array(image.voxels.shape) - 1)
    end = np.clip(np.ceil(places.max(0)).astype(int) + 1, start + 1, image.voxels.shape)
    grid = _from(start, image.world_from_voxel)
    x, y, z = (end - start).tolist()
    mask = _at_least_readable(Volume(resample(filled.mask, (x, y, z), grid), grid))
    outside = max(0.0, 1 - _ml(mask) / filled.ml)
    outside = outside if outside > 0.01 else 0.0  # what sampling alone loses
    return Filled(mask, filled.ml, outside, (*notes, *filled.notes))


def _from(start: Sequence[int] | NDArray[np.int_], world_from_voxel: Affine) -> Affine:
    """The grid that begins with another voxel."""
    moved = np.eye(4)
    moved[:3, 3] = start
    return world_from_voxel @ moved


def _at_least_readable(mask: Volume) -> Volume:
    """The mask with as many voxels along each axis as read_volume asks for."""
    lacking = [(0, max(0, MIN_VOXELS_PER_AXIS - size)) for size in mask.voxels.shape]
    return Volume(np.pad(mask.voxels, lacking), mask.world_from_voxel) if np.any(lacking) else mask


def join_masks(masks: Sequence[Volume]) -> Volume:
    """What lies in any of several masks that are cut from the voxels of one image."""
    from_first = np.linalg.inv(masks[0].world_from_voxel)
    starts = [np.rint(from_first @ mask.world_from_voxel[:, 3])[:3].astype(int) for mask in masks]
    low = np.min(starts, axis=0)
    high = np.max([start + mask.voxels.shape for start, mask in zip(starts, masks, strict=True)], axis=0)
    joined = np.zeros(high - low, dtype=np.float32)
    for start, mask in zip(starts, masks, strict=True):
        box = tuple(slice(at, at + size) for at, size in zip((start - low).tolist(), mask.voxels.shape, strict=True))
        np.maximum(joined[box], mask.voxels, out=joined[box])
    return Volume(joined, _from(low, masks[0].world_from_voxel))


def _area(points: Points) -> float:
    """mm2 of the polygon, as if its plane were known."""
    around = points - points.mean(0)
    return float(np.linalg.norm(np.cross(around, np.roll(around, -1, axis=0)).sum(0)) / 2)


def _ml(mask: Volume) -> float:
    return float(mask.voxels.sum(dtype=np.float64) * abs(np.linalg.det(mask.world_from_voxel[:3, :3])) / 1000)


def _axis_across(contours: Sequence[Points], image: Volume) -> int | None:
    """The voxel axis along which no contour extends; None where the contours' planes are not the image's."""
    index = np.linalg.inv(image.world_from_voxel)
    depth = [np.ptp(points @ index[:3, :3].T, axis=0) * image.spacing_mm for points in contours]
    flat = np.max(depth, axis=0)
    axis = int(np.argmin(flat))
    return axis if flat[axis] <= FLAT_MM else None


def _own_grid(contours: Sequence[Points], image: Volume) -> Volume:
    """An empty grid around the shape whose last axis is the contours' normal, as fine as the image's finest axis."""
    largest = max(contours, key=_area)
    along_u, along_v, normal = np.linalg.svd(largest - largest.mean(0), full_matrices=False)[2]
    if max(np.ptp(points @ normal) for points in contours) > FLAT_MM:
        raise InvalidInput(
            "expected contours in parallel planes, got others",
            "export the structures in the slices of one image",
            code="contours.planes",
        )
    axes = np.column_stack([along_u, along_v, normal])
    step = float(image.spacing_mm.min())
    places = np.concatenate(list(contours)) @ axes
    first, last = places.min(0) - MARGIN * step, places.max(0) + MARGIN * step
    at = _plane_positions([float((points @ normal).mean()) for points in contours])
    beyond = max([*np.diff(at), float(image.spacing_mm.max())])  # the last planes reach beyond themselves
    first[2] -= beyond
    last[2] += beyond
    shape = np.ceil((last - first) / step).astype(int) + 1
    _check_size(shape)
    affine = np.eye(4)
    affine[:3, :3] = axes * step
    affine[:3, 3] = axes @ first
    return Volume(np.zeros(shape, dtype=np.float32), affine)


def _check_size(shape: NDArray[np.int_]) -> None:
    if np.prod(shape.astype(float)) > MAX_VOXELS:
        raise InvalidInput(
            f"expected contours within {MAX_VOXELS:,} voxels of their image, got more",
            "are they those of this image?",
            code="contours.size",
        )


def _plane_positions(along_mm: Sequence[float]) -> NDArray[np.float64]:
    """The planes on which contours lie, in order, from where each contour lies along their normal."""
    at = np.sort(np.array(along_mm, dtype=np.float64))
    return at[np.concatenate([[True], np.diff(at) > FLAT_MM])]


def _fill_along(
    axis: int, contours: Sequence[Points], image: Volume, middles: Points | None, exclusive: bool, notes: list[str]
) -> Filled:
    grid = _grid(axis, image)
    places = [_in_voxels(points, grid) for points in contours]
    low, high = (
        np.floor([p[:, :2].min(0) for p in places]).min(0).astype(int) - MARGIN,
        np.ceil([p[:, :2].max(0) for p in places]).max(0).astype(int) + MARGIN,
    )
    box = (int(high[0] - low[0] + 1), int(high[1] - low[1] + 1))
    at = _plane_positions([float(p[:, 2].mean() * grid.spacing_mm[2]) for p in places])
    _check_size(np.array([*box, len(at)]))
    planes = []
    for at_mm in at:
        polygons = [p[:, :2] - low for p in places if abs(p[:, 2].mean() * grid.spacing_mm[2] - at_mm) <= FLAT_MM]
        planes.append(_Plane(float(at_mm), polygons, _cover(polygons, box, exclusive, notes)))
    runs, gaps = _runs(planes, _slices_mm(middles, grid))
    if gaps:
        notes.append(f"{gaps} gaps between its planes were left empty")
    first, shape = _stack(runs, grid)
    voxel_ml = float(np.prod(grid.spacing_mm)) / 1000
    whole_ml = float(shape.sum(dtype=np.float64)) * voxel_ml
    start, inside = _within(shape, (int(low[0]), int(low[1]), first), grid)
    outside = max(0.0, 1 - float(inside.sum(dtype=np.float64)) * voxel_ml / whole_ml)
    back = np.argsort(grid.order)
    voxels = np.ascontiguousarray(inside.transpose(back))
    mask = _at_least_readable(Volume(voxels, _from(np.array(start)[back], image.world_from_voxel)))
    return Filled(mask, whole_ml, outside if outside > 1e-6 else 0.0, tuple(_counted(notes)))


def _counted(notes: Sequence[str]) -> list[str]:
    """Each note once, with the number of planes it is true of."""
    return [note if notes.count(note) == 1 else f"{note} ({notes.count(note)} planes)" for note in dict.fromkeys(notes)]


def _grid(axis: int, image: Volume) -> _Grid:
    first, second = (other for other in range(3) if other != axis)
    order = (first, second, axis)
    index = np.asarray(np.linalg.inv(image.world_from_voxel)[[*order, 3]], dtype=np.float64)
    shape = image.voxels.shape
    return _Grid(index, order, (shape[first], shape[second], shape[axis]), image.spacing_mm[list(order)])


def _in_voxels(points: Points, grid: _Grid) -> Points:
    return points @ grid.index[:3, :3].T + grid.index[:3, 3]


def _cover(polygons: list[Points], box: tuple[int, int], exclusive: bool, notes: list[str]) -> Voxels:
    """(box) share of each voxel that lies inside the contours of one plane."""
    if len(polygons) == 1 or exclusive:
        return coverage(polygons, box)
    covers = [coverage([polygon], box) for polygon in polygons]
    kept: list[int] = []
    for number, cover in enumerate(covers):
        if any(abs(cover - covers[other]).max() < 0.05 for other in kept):
            notes.append("a contour that is drawn twice counts once")
        else:
            kept.append(number)
    crossing = {n for pair in combinations(kept, 2) if _cross(*(covers[k] for k in pair)) for n in pair}
    if not crossing:
        return coverage([polygons[number] for number in kept], box)
    notes.append("contours that cross each other were joined")
    joined = np.max([covers[number] for number in crossing], axis=0)
    rest = coverage([polygons[number] for number in kept if number not in crossing], box)
    return joined + rest - 2 * joined * rest


def _cross(first: Voxels, second: Voxels) -> bool:
    """Whether two regions share voxels, and neither lies inside the other."""
    shared = ((first > FULL) & (second > FULL)).any()
    return bool(shared and ((first > FULL) & (second < EMPTY)).any() and ((second > FULL) & (first < EMPTY)).any())


def coverage(polygons: Sequence[Points], shape: tuple[int, int]) -> Voxels:
    """The share of each pixel that lies inside polygons by the even-odd rule: areas, not points.

    Args:
        polygons: each (n, 2) in pixels, the centre of the first pixel at (0, 0); closed by themselves.
        shape: of the picture.

    Returns:
        `shape` float32, 0 to 1; what lies outside the picture is lost.
    """
    rows, at = _crossings(polygons, shape[1])
    order = np.lexsort((at, rows))
    rows, at = rows[order], at[order]
    sign = np.where(np.arange(len(at)) % 2, 1.0, -1.0)  # every row is crossed an even number of times
    at = np.clip(at + 0.5, 0, shape[0])
    pixel = np.minimum(at.astype(int), shape[0] - 1)
    size = shape[1] * shape[0]
    cell = rows // SUB_ROWS * shape[0] + pixel
    # Left of an end everything is inside, left of a beginning nothing: what lies between the two remains.
    part = np.bincount(cell, sign * (at - pixel), size).reshape(shape[1], shape[0])
    left = np.bincount(cell, sign, size).reshape(shape[1], shape[0])
    before = np.cumsum(left[:, ::-1], axis=1)[:, ::-1] - left
    return np.clip((part + before).T / SUB_ROWS, 0, 1).astype(np.float32)


def _crossings(polygons: Sequence[Points], n_rows: int) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
    """Where edges cross the middle of sub-rows: the number of the sub-row, and the place along it in pixels."""
    starts = np.concatenate([*polygons, np.empty((0, 2))])
    ends = np.concatenate([*(np.roll(polygon, -1, axis=0) for polygon in polygons), np.empty((0, 2))])
    ends_row, starts_row = ((points[:, 1] + 0.5) * SUB_ROWS - 0.5 for points in (ends, starts))
    # Half open: a vertex on a sub-row belongs to one of its two edges.
    low = np.ceil(np.minimum(starts_row, ends_row)).clip(0, n_rows * SUB_ROWS).astype(int)
    high = np.ceil(np.maximum(starts_row, ends_row)).clip(0, n_rows * SUB_ROWS).astype(int)
    edge = np.repeat(np.arange(len(starts)), high - low)
    first = np.repeat(np.cumsum(high - low) - (high - low), high - low)
    rows = low[edge] + np.arange(len(edge)) - first
    along = (rows - starts_row[edge]) / (ends_row - starts_row)[edge]
    return rows, starts[edge, 0] + along * (ends - starts)[edge, 0]


def _slices_mm(middles: Points | None, grid: _Grid) -> NDArray[np.float64]:
    """mm along the normal at which any structure has a contour."""
    if middles is None or not len(middles):
        return np.empty(0)
    return _plane_positions(list(_in_voxels(middles, grid)[:, 2] * grid.spacing_mm[2]))


def _runs(planes: list[_Plane], slices_mm: NDArray[np.float64]) -> tuple[list[list[_Plane]], int]:
    """The planes in pieces between which nothing is filled; and the number of gaps."""
    steps = np.diff([plane.at_mm for plane in planes])
    usual = float(np.median(steps)) if len(steps) else 0.0
    runs = [[planes[0]]]
    for below, above in pairwise(planes):
        step = above.at_mm - below.at_mm
        near = step <= MAX_GAP * usual
        both = all((abs(slices_mm - at) <= FLAT_MM).any() for at in (below.at_mm, above.at_mm))
        between = ((slices_mm > below.at_mm + FLAT_MM) & (slices_mm < above.at_mm - FLAT_MM)).any()
        if near or (both and not between and step <= UNEVEN_GAP * usual):
            runs[-1].append(above)
        else:
            runs.append([above])
    return runs, len(runs) - 1


def _stack(runs: list[list[_Plane]], grid: _Grid) -> tuple[int, Voxels]:
    """The first slice and (box x, box y, slices): each voxel's share inside, slices of the image in thickness."""
    step = float(grid.spacing_mm[2])
    inner = np.concatenate([np.diff([plane.at_mm for plane in run]) for run in runs])
    usual = float(np.median(inner)) if len(inner) else step
    reach = [_reach(run, usual) for run in runs]
    first = int(np.floor(min(low for low, _ in reach) / step))
    last = int(np.ceil(max(high for _, high in reach) / step))
    parts = max(1, round(step / usual))  # of a slice thicker than the planes' step
    box = runs[0][0].cover.shape
    _check_size(np.array([*box, last - first + 1]))
    shape = np.zeros((*box, last - first + 1), dtype=np.float32)
    for run, (low, high) in zip(runs, reach, strict=True):
        for number in range(first, last + 1):
            for part in range(parts):
                middle = (number - 0.5 + (part + 0.5) / parts) * step
                half = step / parts / 2
                share = (min(middle + half, high) - max(middle - half, low)) / (2 * half)
                if share > EMPTY:
                    cut = _cut(run, middle, grid)
                    shape[:, :, number - first] += np.float32(min(share, 1.0) / parts) * cut
    return first, np.clip(shape, 0, 1)


def _reach(run: list[_Plane], usual: float) -> tuple[float, float]:
    """From where to where along the normal a run of planes is a solid."""
    steps = np.diff([plane.at_mm for plane in run])
    below, above = (steps[0], steps[-1]) if len(steps) else (usual, usual)
    return run[0].at_mm - below / 2, run[-1].at_mm + above / 2


def _cut(run: list[_Plane], at_mm: float, grid: _Grid) -> Voxels:
    """The shape of a run in a plane at `at_mm`, which may lie between two of its own."""
    places = np.array([plane.at_mm for plane in run])
    nearest = int(np.argmin(abs(places - at_mm)))
    if abs(places[nearest] - at_mm) <= FLAT_MM / 2 or not places[0] < at_mm < places[-1]:
        return run[nearest].cover
    above = int(np.searchsorted(places, at_mm))
    first, second = run[above - 1], run[above]
    return _between(first, second, (at_mm - first.at_mm) / (second.at_mm - first.at_mm), grid.spacing_mm[:2])


def _between(first: _Plane, second: _Plane, weight: float, spacing_mm: NDArray[np.floating]) -> Voxels:
    """The shape between two planes: their signed distances, mixed, are 0 on its outline."""
    cut = first.cover.copy()
    unclear = np.argwhere((abs(first.cover - second.cover) > EMPTY) | ((cut > EMPTY) & (cut < FULL)))
    if len(unclear):
        distances = [_signed_distance(plane, unclear, spacing_mm) for plane in (first, second)]
        mixed = (1 - weight) * distances[0] + weight * distances[1]
        cut[tuple(unclear.T)] = np.clip(0.5 + mixed / spacing_mm.mean(), 0, 1)
    return cut


def _signed_distance(plane: _Plane, pixels: NDArray[np.int_], spacing_mm: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n,) mm of `pixels` (n, 2) to the outline; positive inside."""
    outline = np.concatenate([_dense(polygon) for polygon in plane.polygons]) * spacing_mm
    distance, _ = cKDTree(outline).query(pixels * spacing_mm)
    return np.where(plane.cover[tuple(pixels.T)] >= 0.5, distance, -distance)


def _dense(polygon: Points) -> Points:
    """Points along the polygon, at most a tenth of a pixel apart."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    count = np.ceil(np.linalg.norm(edges, axis=1) * 10).astype(int).clip(1)
    first = np.repeat(np.cumsum(count) - count, count)
    share = (np.arange(count.sum()) - first) / np.repeat(count, count)
    return np.repeat(polygon, count, axis=0) + share[:, None] * np.repeat(edges, count, axis=0)


def _within(shape: Voxels, start: tuple[int, int, int], grid: _Grid) -> tuple[tuple[int, int, int], Voxels]:
    """The part of a shape that lies in the image, and its first voxel there; one empty voxel where none does."""
    ends = [first + size for first, size in zip(start, shape.shape, strict=True)]
    low = [max(0, first) for first in start]
    high = [min(end, size) for end, size in zip(ends, grid.size, strict=True)]
    if any(first >= last for first, last in zip(low, high, strict=True)):
        return (0, 0, 0), np.zeros((1, 1, 1), dtype=np.float32)
    box = tuple(slice(first - at, last - at) for first, last, at in zip(low, high, start, strict=True))
    return (low[0], low[1], low[2]), shape[box]
