"""Slices of one series come apart into whole volumes, and a half of one is never taken for the whole."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ricenet.dicom.frame_groups import (
    Slice,
    left_out_between,
    lost_ends,
    part_slices,
    pieces_of_one_stack,
    without_copies,
)
from ricenet.dicom.frames import Frame
from ricenet.dicom.slice_stack import Plane

SIZE, SPACING_MM, COUNT = (200, 220), (1.1, 0.9), 24


def oblique(degrees: float = 0.0) -> np.ndarray:
    """(3, 3) directions of columns, rows and slices; turned by so much about an axis within the slices."""
    return Rotation.from_euler("xyz", (12 + degrees, -7, 4), degrees=True).as_matrix()


def slices(
    places=range(COUNT), *, degrees: float = 0.0, step_mm: float = 1.2, decimals: int = 12, first: int = 1,
    size=SIZE, moved=0.0, uid="one", frames: int = 1, frame_of_reference="frame", **frame: object,
) -> list[Slice]:  # fmt: skip
    """Slices centred on one line; turned about their centres."""
    axes = oblique(degrees)
    centre = np.array([3.0, -20.5, 11.25])
    half = (np.array(size) - 1) / 2 * SPACING_MM @ axes[:, :2].T
    cosines = tuple(axes[:, :2].T.ravel().round(decimals))
    made = []
    for number, place in enumerate(places):
        position = centre + oblique()[:, 2] * place * step_mm - half + oblique()[:, 0] * moved
        plane = Plane(cosines, tuple(position.round(decimals)), SPACING_MM)
        made.append(
            Slice(
                Path(f"{uid} {number}"), number if frames > 1 else 0, frames, Frame(plane, **frame), size,
                frame_of_reference, uid if frames > 1 else f"{uid} {number}", 1 if frames > 1 else first + number,
            )
        )  # fmt: skip
    return made


def alternate(**differs: object) -> list[Slice]:
    """Each second slice differs."""
    return slices(range(0, COUNT, 2), uid="even") + slices(range(1, COUNT, 2), uid="odd", first=100, **differs)


@pytest.mark.parametrize("echoes", [(3.0, 3.01), (2.991, 3.009), (3.0, 2.96), (2.46, 2.5), (14.9, 15.0)])
def test_an_echo_time_that_is_written_in_two_ways_is_one(echoes):
    even, odd = (
        slices(range(start, COUNT, 2), uid=f"{start}", first=start + 1, echo_time_ms=echo)
        for start, echo in enumerate(echoes)
    )
    (whole,) = part_slices([*even, *odd])
    assert len(whole) == COUNT
    wobbling = [
        replace(each, frame=replace(each.frame, echo_time_ms=3 + 0.004 * (number % 5)))
        for number, each in enumerate(slices())
    ]
    assert [len(part) for part in part_slices(wobbling)] == [COUNT]


@pytest.mark.parametrize("echoes", [(3.0, 3.2), (1.23, 2.46), (3.0, None)])
def test_echoes_that_differ_more_are_no_rounding(echoes):
    """At the same places they are two images; as each second slice of a stack, pieces of one."""
    both = [slices(echo_time_ms=echo, uid=f"{echo}", first=first) for echo, first in zip(echoes, (1, 100), strict=True)]
    parts = part_slices([each for part in both for each in part])
    assert [len(part) for part in parts] == [COUNT, COUNT]
    assert pieces_of_one_stack(parts) == set()
    parts = part_slices([*both[0][::2], *both[1][1::2]])
    assert [len(part) for part in parts] == [COUNT // 2] * 2
    assert pieces_of_one_stack(parts) == {0, 1}


def test_two_echoes_so_near_at_the_same_places_stay_two():
    parts = part_slices(slices(echo_time_ms=0.03) + slices(echo_time_ms=0.06, uid="other"))
    assert [len(part) for part in parts] == [COUNT, COUNT]


def test_directions_as_rounded_are_one_and_tilted_halves_are_pieces():
    even = slices(range(0, COUNT, 2))
    rounded = [
        replace(each, frame=replace(each.frame, plane=replace(each.plane, cosines=tuple(np.round(cosines, 2)))))
        for each in slices()
        for cosines in [np.array(each.plane.cosines) + (0.003 if int(each.instance_number) % 2 else 0)]
    ]
    assert [len(part) for part in part_slices(rounded)] == [COUNT], "3 decimals, two of them shown"
    for degrees in (0.1, 0.2, 1.0):
        parts = part_slices(even + slices(range(1, COUNT, 2), degrees=degrees, uid="odd"))
        assert [len(part) for part in parts] == [COUNT // 2] * 2
        assert pieces_of_one_stack(parts) == {0, 1}


DIFFERENCES = [
    {"image_type": ("DERIVED",)},
    {"temporal": 2.0},
    {"contrasts": ("PHASE",)},
    {"size": (100, 110)},
    {"degrees": 0.2},
    {"frame_of_reference": "other"},
]


@pytest.mark.parametrize("differs", DIFFERENCES)
@pytest.mark.parametrize("pattern", ["halves", "thirds", "one after another", "an end"])
def test_pieces_of_a_stack_are_named(differs, pattern):
    numbers = {
        "halves": [range(0, COUNT, 2), range(1, COUNT, 2)],
        "thirds": [range(0, COUNT, 3), [each for each in range(COUNT) if each % 3]],
        "one after another": [range(14), range(14, COUNT)],
        "an end": [range(COUNT - 2), range(COUNT - 2, COUNT)],
    }[pattern]
    parts = part_slices(slices(numbers[0]) + slices(numbers[1], uid="other", first=100, **differs))
    assert len(parts) == 2
    assert pieces_of_one_stack(parts) == {0, 1}


def test_three_pieces():
    parts = part_slices(
        [each for start in range(3) for each in slices(range(start, COUNT, 3), uid=f"{start}", temporal=float(start))]
    )
    assert pieces_of_one_stack(parts) == {0, 1, 2}


def test_what_is_no_piece():
    volume = slices()
    others = {
        "phase image": slices(uid="p", image_type=("P",)),
        "localizer in the same direction": slices([2, 10.1, 17.3], uid="l", size=(128, 128), image_type=("L",)),
        "localizer in another": slices([0, 5, 10], degrees=60, uid="l"),
        "another region": slices(np.arange(COUNT) + 0.5, moved=300, uid="r", temporal=2.0),
        "far away": slices(np.arange(COUNT) + 200, uid="f", temporal=2.0),
        "one slice without a place": [
            replace(volume[0], frame=Frame(Plane(None, None, None)), instance_uid="x", instance_number=99)
        ],
    }
    for name, other in others.items():
        parts = part_slices(volume + other)
        assert sorted(map(len, parts)) == sorted([COUNT, len(other)]), name
        assert pieces_of_one_stack(parts) == set(), name


def test_parts_come_in_the_order_of_their_images():
    parts = part_slices(
        slices(first=50, temporal=1.0)
        + slices(first=1, temporal=2.0, uid="b")
        + slices(first=90, temporal=0.0, uid="c")
    )
    assert [part[0].instance_number for part in parts] == [1, 50, 90]
    assert all(a.instance_number < b.instance_number for part in parts for a, b in pairwise(part))


def test_objects_of_many_frames_join_where_they_are_one_stack():
    """Concatenations do; two time points that nothing else tells apart do not."""
    parts = part_slices(slices(range(12), frames=12) + slices(range(12, COUNT), frames=12, uid="other"))
    assert [len(part) for part in parts] == [COUNT]
    parts = part_slices(slices(frames=COUNT) + slices(frames=COUNT, uid="other"))
    assert [len(part) for part in parts] == [COUNT, COUNT]
    assert pieces_of_one_stack(parts) == set()


def test_flip_angles_may_vary_within_a_volume_and_tell_volumes_apart():
    parts = part_slices(slices(range(0, COUNT, 2), split_by=(9,)) + slices(range(1, COUNT, 2), split_by=(8,), uid="o"))
    assert [len(part) for part in parts] == [COUNT]
    parts = part_slices(slices(split_by=(2,)) + slices(split_by=(20,), uid="other"))
    assert [len(part) for part in parts] == [COUNT, COUNT]


def test_many_time_points_are_compared_in_no_time():
    """2,000 pairs of pairs a second would be an hour."""
    parts = part_slices([each for time in range(300) for each in slices(range(3), uid=f"{time}", temporal=float(time))])
    assert len(parts) == 300
    assert pieces_of_one_stack(parts) == set()
    halves = part_slices(slices(range(0, COUNT, 2), temporal=1.0) + slices(range(1, COUNT, 2), temporal=2.0, uid="o"))
    assert pieces_of_one_stack([*parts, *halves]) == {300, 301}


def test_copies_are_left_out_and_scans_at_one_place_are_not():
    volume, again = slices(), slices(uid="again", first=100)
    compared = []

    def same(one: Slice, other: Slice) -> bool:
        compared.append((one, other))
        return True

    kept = without_copies(volume + again[3:7], same)
    assert kept == volume
    assert len(compared) == 4
    assert without_copies(volume + again, lambda one, other: False) == volume + again
    other_echo = slices(uid="again", first=100, echo_time_ms=9.0)
    assert len(without_copies(volume + other_echo, same)) == 2 * COUNT
    nowhere = [replace(each, frame=Frame(Plane(None, None, None))) for each in volume]
    assert len(without_copies(nowhere, same)) == COUNT


@pytest.mark.parametrize(
    ("every", "headers", "expected"),
    [
        (2, {}, (1, False)),
        (2, {"spacing_between_mm": 1.2, "thickness_mm": 1.2}, (1, True)),
        (3, {"spacing_between_mm": 1.2, "thickness_mm": 1.2}, (2, True)),
        (2, {"spacing_between_mm": 2.4, "thickness_mm": 1.2}, (1, False)),
        (1, {"spacing_between_mm": 1.2, "thickness_mm": 2.4}, (0, True)),
        (1, {"spacing_between_mm": 0.6, "thickness_mm": 0.6}, (1, False)),
        (1, {"spacing_between_mm": 0.2, "thickness_mm": 1.0}, (0, True)),  # the gap, not the distance
        (1, {}, (0, True)),
    ],
)
def test_each_second_slice_alone_shows(every, headers, expected):
    part = slices(**headers)[::every]
    assert left_out_between(part, 1.2 * every) == expected
    assert left_out_between(part[::-1], 1.2 * every) == expected


def test_a_lost_end_shows():
    volume = slices()
    assert lost_ends(volume, [volume], 0)[0] == 0
    assert lost_ends(volume, [volume], COUNT)[0] == 0
    assert lost_ends(volume[:-2], [volume[:-2]], COUNT) == (2, "its header counts 24")
    assert lost_ends(volume[3:], [volume[3:]], 0) == (3, "its images are numbered from 4")
    from_1000 = slices(first=1001)
    assert lost_ends(from_1000, [from_1000], 0)[0] == 0, "another way to count"
    phase = slices(uid="p", first=100, image_type=("P",))
    assert lost_ends(volume[:-1], [volume[:-1], phase], 0) == (1, "another image of the series has 24")
    assert lost_ends(volume, [volume, phase], 0)[0] == 0
    in_stack = [
        replace(each, frames=22, frame=replace(each.frame, position_in_stack=number + 3))
        for number, each in enumerate(volume[2:])
    ]
    assert lost_ends(in_stack, [in_stack], 0) == (2, "numbers within the stack do not begin at 1")
