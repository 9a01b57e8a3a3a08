"""Windows against what a convolution and a loop over voxels find."""

from itertools import product

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from ricenet.occlusion.receptive_windows import Boxes, find_changes, output_size

AXIS = st.integers(1, 12)
SIZES = st.tuples(AXIS, AXIS, AXIS)


@st.composite
def boxes(draw: st.DrawFn, samples: int = 3) -> Boxes:
    """Boxes inside of a map, of unequal lengths."""
    size = draw(SIZES)
    start = np.array([[draw(st.integers(0, n - 1)) for n in size] for _ in range(samples)])
    length = np.array([[draw(st.integers(1, n)) for n in left] for left in (size - start).tolist()])
    return Boxes(start, length, size)


def bounding_box(mask: np.ndarray) -> tuple[list[int], list[int]] | None:
    """Start and length of the smallest box around the True voxels."""
    voxels = np.argwhere(mask)
    if not len(voxels):
        return None
    return voxels.min(axis=0).tolist(), (np.ptp(voxels, axis=0) + 1).tolist()


def marked(given: Boxes, sample: int) -> np.ndarray:
    mask = np.zeros(given.size, dtype=bool)
    inside = zip(given.start[sample].tolist(), given.length[sample].tolist(), strict=True)
    mask[tuple(slice(low, low + length) for low, length in inside)] = True
    return mask


@settings(deadline=None, max_examples=200)
@given(boxes(), st.integers(1, 7), st.integers(1, 4))
def test_spread_is_what_a_convolution_with_positive_weights_sees(given: Boxes, kernel: int, step: int) -> None:
    found = given.spread(kernel, step, kernel // 2)
    for sample, (start, length) in enumerate(zip(found.start.tolist(), found.length.tolist(), strict=True)):
        mask = torch.from_numpy(marked(given, sample)).double()[None, None]
        seen = functional.conv3d(mask, torch.ones(1, 1, *[kernel] * 3).double(), None, step, kernel // 2)[0, 0]
        assert tuple(seen.shape) == found.size == output_size(given.size, kernel, step, kernel // 2)
        expected = bounding_box(seen.numpy() > 0)
        if expected:
            assert (start, length) == expected
        else:  # steps can pass voxels by
            assert step > 1
            assert all(low >= 0 and low + n <= size for low, n, size in zip(start, length, found.size, strict=True))


def test_a_1x1_convolution_of_stride_2_passes_voxels_by() -> None:
    """By hand, along X: 7 voxels, 0, 2, 4 and 6 are seen."""
    start, length = np.array([[1, 0, 0], [2, 0, 0], [3, 0, 0], [6, 0, 0]]), np.array([[1], [1], [3], [1]])
    found = Boxes(start, np.hstack([length, np.ones((4, 2), dtype=int)]), (7, 1, 1)).spread(1, 2, 0)
    assert found.size == (4, 1, 1)
    assert found.start[:, 0].tolist() == [1, 1, 2, 3]
    assert found.length[:, 0].tolist() == [1, 1, 1, 1]  # the first sees nothing, yet a window has a voxel at least


@settings(deadline=None, max_examples=100)
@given(boxes())
def test_window_holds_every_box_inside_the_map_and_is_no_longer_than_the_longest(given: Boxes) -> None:
    assert given.window.length == tuple(given.length.max(axis=0).tolist())
    for sample in range(len(given.start)):
        window = given.window.slices(sample)
        for axis, part in enumerate(window):
            assert 0 <= part.start < part.stop <= given.size[axis]
            assert part.stop - part.start == given.window.length[axis]
        outside = marked(given, sample)
        outside[window] = False
        assert not outside.any()


@settings(deadline=None, max_examples=100)
@given(SIZES, SIZES, st.sampled_from([0.0, 0.01, 0.1, 1.0]), st.integers(0, 2**32 - 1))
def test_changes_are_the_bounding_boxes_inside_each_cube(
    size: tuple[int, int, int], edge: tuple[int, int, int], share: float, seed: int
) -> None:
    x, y, z = map(min, size, edge)
    changed = np.random.default_rng(seed).random(size) < share
    everywhere = product(*(range(n - k + 1) for n, k in zip(size, (x, y, z), strict=True)))
    corner = np.array(list(everywhere))[:50]
    found = find_changes(changed, corner, (x, y, z))
    assert found.edge == (x, y, z)
    for row, low in enumerate(corner.tolist()):
        box = bounding_box(changed[low[0] : low[0] + x, low[1] : low[1] + y, low[2] : low[2] + z])
        if box is None:
            assert found.length[row].tolist() == [0, 0, 0]
        else:
            assert (found.start[row] - low).tolist() == box[0]
            assert found.length[row].tolist() == box[1]


def test_no_cubes_have_no_changes() -> None:
    found = find_changes(np.ones((4, 4, 4), dtype=bool), np.zeros((0, 3), dtype=np.int64), (2, 2, 2))
    assert found.start.shape == found.length.shape == (0, 3)


def test_rows_of_cubes_keep_what_belongs_together() -> None:
    changed = np.zeros((6, 5, 4), dtype=bool)
    changed[3, 2, 1] = True
    some = find_changes(changed, np.array([[0, 0, 0], [2, 1, 0], [3, 2, 1]]), (3, 3, 3))[np.array([2, 1])]
    assert (some.corner.tolist(), some.edge) == ([[3, 2, 1], [2, 1, 0]], (3, 3, 3))
    assert (some.start.tolist(), some.length.tolist()) == ([[3, 2, 1]] * 2, [[1, 1, 1]] * 2)
    assert some.slices(0) == (slice(3, 6), slice(2, 5), slice(1, 4))
