"""Part the slices that share a series UID into volumes: one for each echo, time point, kind of image and stack.

What differs by no more than headers are rounded, and together is one regular stack, is one volume. Parts that lie in
one another or continue one another as pieces of one stack do, and differ by more, are named: a half that is regular in
itself must not be taken for the whole. Frame: LPS mm.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ricenet.dicom.frames import Frame
from ricenet.dicom.slice_stack import Plane, slice_order, stack
from ricenet.errors import InvalidInput

# No two echoes lie so near; scanners write the same one so differently.
ECHO_TOLERANCE_MS, ECHO_TOLERANCE = 0.05, 0.01
MAX_ANGLE_COSINE = 0.996  # 5 degrees: farther apart nobody takes two parts for one stack
PIECE_STEPS = (0.5, 1.5)  # of the usual one: between slices of one stack whose halves are tilted a little
SAME_STEP = 0.1  # share by which the steps of two pieces may differ
MIN_SHARE_OF_STEP = 0.2  # of a piece's own: nearer slices lie at one place
MIN_PIECE = 3


@dataclass(frozen=True, slots=True, repr=False)  # no repr: it would print a path
class Slice:
    """One frame of one file.

    Attributes:
        index: of the frame in the file.
        frames: in the file.
        size: columns, rows.
    """

    path: Path
    index: int
    frames: int
    frame: Frame
    size: tuple[int, int]
    frame_of_reference: str
    instance_uid: str
    instance_number: int

    @property
    def plane(self) -> Plane:
        """Where it lies."""
        return self.frame.plane


def part_slices(slices: Sequence[Slice]) -> list[list[Slice]]:
    """The volumes, each in the order of its instance numbers, as they first come."""
    parts: dict[tuple, list[list[Slice]]] = defaultdict(list)
    ordered = sorted(slices, key=_number)
    for each in ordered:
        candidates = parts[(*_kind(each), each.frame.echo_time_ms, *_object(each))]
        for part in candidates:
            if part[0].plane.lies_along(each.plane):
                part.append(each)
                break
        else:
            candidates.append([each])
    return _joined([part for candidates in parts.values() for part in candidates])


def _kind(each: Slice) -> tuple:
    """What tells images apart, whatever else is alike."""
    frame = each.frame
    return each.frame_of_reference, each.size, frame.image_type, frame.temporal, frame.contrasts


def _object(each: Slice) -> tuple:
    """What may tell images apart, or split one volume."""
    return each.frame.split_by, each.instance_uid if each.frames > 1 else ""


def _joined(parts: list[list[Slice]]) -> list[list[Slice]]:
    """Parts of one kind whose echoes and directions are the same but for rounding, where they are one stack."""
    groups: dict[tuple, list[list[list[Slice]]]] = defaultdict(list)
    for part in sorted(parts, key=lambda part: part[0].frame.echo_time_ms or 0.0):
        alike = groups[_kind(part[0])]
        for group in alike:
            if _may_be_one(group[-1][0], part[0]):
                group.append(part)
                break
        else:
            alike.append([part])
    volumes = []
    for group in (group for alike in groups.values() for group in alike):
        whole = sorted((each for part in group for each in part), key=_number)
        volumes += [whole] if len(group) > 1 and _is_stack(whole) else group
    first = {id(part[0]): number for number, part in enumerate(parts)}
    return sorted(volumes, key=lambda volume: min(first.get(id(each), len(parts)) for each in volume))


def _number(each: Slice) -> tuple[int, str, int]:
    return each.instance_number, each.instance_uid, each.index


def _may_be_one(one: Slice, other: Slice) -> bool:
    return one.plane.lies_along(other.plane) and _same_echo(one, other)


def _same_echo(one: Slice, other: Slice) -> bool:
    first, second = one.frame.echo_time_ms, other.frame.echo_time_ms
    if first is None or second is None:
        return first is second
    return abs(first - second) <= max(ECHO_TOLERANCE_MS, ECHO_TOLERANCE * max(first, second)) + 1e-6


def _is_stack(slices: Sequence[Slice]) -> bool:
    planes = [each.plane for each in slices]
    try:
        stack([planes[index] for index in slice_order(planes)])
    except InvalidInput:
        return False
    return True


def without_copies(slices: Sequence[Slice], same_pixels: Callable[[Slice, Slice], bool]) -> list[Slice]:
    """Slices without those that were delivered twice under two UIDs: alike in all that headers say, and in pixels.

    Where two slices at one place differ no others are compared: it is no second delivery, but several scans.
    """
    kept: list[Slice] = []
    seen: dict[tuple, Slice] = {}
    for each in sorted(slices, key=_number):
        frame, plane = each.frame, each.plane
        key = (*_kind(each), frame.echo_time_ms, frame.split_by, plane) if plane.is_placed else (each.instance_uid,)
        first = seen.setdefault(key, each)
        if first is not each:
            if not same_pixels(first, each):
                return list(slices)
            continue
        kept.append(each)
    return kept


def lost_ends(part: Sequence[Slice], parts: Sequence[Sequence[Slice]], expected: int) -> tuple[int, str]:
    """How many slices of a stack are missing at its ends, and what shows it; 0 where nothing does.

    Args:
        part: slices of one volume.
        parts: all volumes of its series.
        expected: slices of the stack by a count in its headers; 0: none is given.
    """
    inside = [each.frame.position_in_stack for each in part if each.frame.position_in_stack]
    first_number = min(each.instance_number for each in part)
    # Numbers that begin far from 1 are counted otherwise: over the exam, or from 1000.
    from_one = len(parts) == 1 and all(each.frames == 1 for each in part) and first_number <= len(part) / 2
    longer = max((len(other) for other in parts if _covers(other, part)), default=0)
    shown = [
        (expected - len(part), f"its header counts {expected}"),
        (min(inside, default=1) - 1, "numbers within the stack do not begin at 1"),
        (longer - len(part), f"another image of the series has {longer}"),
        (first_number - 1 if from_one else 0, f"its images are numbered from {first_number}"),
    ]
    return next((each for each in shown if each[0] > 0), (0, ""))


def left_out_between(part: Sequence[Slice], step_mm: float) -> tuple[int, bool]:
    """How many slices seem to be missing between each two of an even stack, and whether all that shows it agrees.

    Args:
        part: in order.
        step_mm: between its slices.

    Returns:
        0 where nothing shows it; else by the images' numbers, or by the distance that headers give, or by both.
    """
    jumps = {abs(second.instance_number - first.instance_number) for first, second in pairwise(part)}
    by_number = jumps.pop() - 1 if len(jumps) == 1 and all(each.frames == 1 for each in part) else 0
    spacing_mm, thickness_mm = part[0].frame.spacing_between_mm, part[0].frame.thickness_mm
    steps = round(step_mm / spacing_mm) if spacing_mm else 1
    # Some write the gap between slices as their distance: it is as wide as a slice where none is missing.
    is_distance = abs(steps * spacing_mm - step_mm) < SAME_STEP * spacing_mm and thickness_mm < 1.5 * spacing_mm
    by_distance = steps - 1 if is_distance else 0
    return max(by_number, by_distance, 0), by_number == by_distance


def _covers(other: Sequence[Slice], part: Sequence[Slice]) -> bool:
    """Whether `other` has a slice at each place of `part`, and more."""
    if len(other) <= len(part) or other[0].size != part[0].size:
        return False
    places = {_place(each) for each in other}
    return all(_place(each) in places for each in part)


def _place(each: Slice) -> tuple:
    position = each.plane.position_mm
    return () if position is None else tuple(round(value, 2) for value in position)


def pieces_of_one_stack(parts: Sequence[Sequence[Slice]]) -> set[int]:
    """Indices of the parts that are pieces of one stack with another part: each second slice of it, or one end."""
    same_places: dict[tuple, list[int]] = defaultdict(list)  # time points of a series are many, and lie alike
    for index, part in enumerate(parts):
        if all(each.plane.is_placed for each in part):
            same_places[(part[0].frame_of_reference, part[0].size, *(each.plane for each in part))].append(index)
    groups = [(_Places(parts[indices[0]]), indices) for indices in same_places.values()]
    pieces: set[int] = set()
    for (one, indices), (other, others) in combinations(groups, 2):
        if one.are_pieces_with(other):
            pieces |= {*indices, *others}
    return pieces


class _Places:
    """Where the slices of one part lie.

    Attributes:
        normal: (3,)
        centres: (slices, 3)
        along: (slices,) mm, rising.
        step: the usual one; 0 of one slice.
        width: of the smaller side of a slice, mm.
    """

    def __init__(self, part: Sequence[Slice]) -> None:
        first = part[0]
        axes = np.array(first.plane.cosines, dtype=np.float64).reshape(2, 3)
        sides_mm = np.array(first.size) * np.array(first.plane.spacing_mm)
        normal = np.cross(*axes)
        self.normal = normal / max(float(np.linalg.norm(normal)), 1e-9)
        corners = np.array([each.plane.position_mm for each in part], dtype=np.float64)
        # Seen from a slice's centre a small tilt moves it least.
        self.centres = corners + (sides_mm - sides_mm / first.size) / 2 @ axes
        self.along = np.sort(self.centres @ self.normal)
        self.step = float(np.median(np.diff(self.along))) if len(part) > 1 else 0.0
        self.width = float(sides_mm.min())

    def are_pieces_with(self, other: "_Places") -> bool:
        if max(len(self.along), len(other.along)) < MIN_PIECE:
            return False
        if abs(self.normal @ other.normal) < MAX_ANGLE_COSINE:
            return False
        along = np.sort(other.centres @ self.normal)
        nearest = abs(self.along - along[0]).min()
        if nearest < MIN_SHARE_OF_STEP * max(self.step, other.step) or not self._lies_beside(other):
            return False
        steps = np.diff(np.sort(np.concatenate([self.along, along])))
        low, high = (share * float(np.median(steps)) for share in PIECE_STEPS)
        is_regular = 0 < low <= steps.min() and steps.max() <= high
        return bool(is_regular or self._alternates_with(along, other.step))

    def _lies_beside(self, other: "_Places") -> bool:
        """Whether both show the same region, seen along the slices."""
        apart = other.centres.mean(0) - self.centres.mean(0)
        aside = apart - (apart @ self.normal) * self.normal
        return float(np.linalg.norm(aside)) <= self.width / 2

    def _alternates_with(self, along: NDArray[np.float64], step: float) -> bool:
        """Whether stacks of the same step lie in one another, neither having a slice at a place of the other."""
        low, high = sorted((self.step, step))
        if min(len(self.along), len(along)) < MIN_PIECE or low <= 0 or high > (1 + SAME_STEP) * low:
            return False
        overlap = min(self.along[-1], along[-1]) - max(self.along[0], along[0])
        if overlap < min(np.ptp(self.along), np.ptp(along)) / 2:
            return False
        return bool(abs(self.along[:, None] - along).min() >= MIN_SHARE_OF_STEP * low)
