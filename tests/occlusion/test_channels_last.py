"""Boxes of feature maps against a loop over their voxels."""

from itertools import product

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from ricenet.occlusion.channels_last import add, boxed, channels_last, first, last, plain

EDGE = st.integers(1, 5)
EDGES = st.tuples(EDGE, EDGE, EDGE)


@st.composite
def parts(draw: st.DrawFn) -> tuple[Tensor, np.ndarray, tuple[int, int, int]]:
    """Parts, where they start in boxes that they touch at least (half of the time all alike), the boxes' edges."""
    batch, edges, box = draw(st.integers(1, 3)), draw(EDGES), draw(EDGES)
    corners = st.tuples(*(st.integers(-part, length) for part, length in zip(edges, box, strict=True)))
    some = [draw(corners)] * batch if draw(st.booleans()) else [draw(corners) for _ in range(batch)]
    values = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(batch, *edges, 2))
    return torch.from_numpy(values), np.array(some), box


def added(total: Tensor, part: Tensor, offset: np.ndarray) -> Tensor:
    expected = total.clone()
    for sample, x, y, z in product(*map(range, part.shape[:4])):
        at = (offset[sample] + (x, y, z)).tolist()
        if all(0 <= place < size for place, size in zip(at, total.shape[1:4], strict=True)):
            expected[(sample, *at)] += part[sample, x, y, z]
    return expected


@settings(deadline=None, max_examples=150)
@given(parts())
def test_add_meets_every_voxel_once(given: tuple[Tensor, np.ndarray, tuple[int, int, int]]) -> None:
    part, offset, length = given
    total = torch.rand(len(part), *length, 2, dtype=torch.double)
    expected = added(total, part, offset)
    add(total, part, offset)
    assert torch.equal(total, expected)


@settings(deadline=None, max_examples=150)
@given(parts())
def test_a_box_holds_the_part_and_zeros_around_it(given: tuple[Tensor, np.ndarray, tuple[int, int, int]]) -> None:
    part, offset, length = given
    nothing = part.new_zeros(len(part), *length, 2)
    assert torch.equal(boxed(part, offset, length), added(nothing, part, offset))


def test_a_box_inside_of_every_part_is_a_view() -> None:
    part = torch.rand(2, 5, 4, 3, 2)
    same = boxed(part, np.array([[-1, -1, 0]] * 2), (3, 2, 3))
    assert same.data_ptr() == part[:, 1:, 1:].data_ptr()
    apart = boxed(part, np.array([[-1, -1, 0], [0, -1, 0]]), (3, 2, 3))
    assert torch.equal(apart[1], part[1, 0:3, 1:3])


def test_layouts_are_each_others_inverse() -> None:
    x = torch.rand(2, 3, 4, 5, 6)
    assert last(x).shape == (2, 4, 5, 6, 3)
    assert torch.equal(first(last(x)), x)
    assert last(x)[1, 2, 3, 4, 0] == x[1, 0, 2, 3, 4]
    assert plain(x[:1]).is_contiguous()
    assert torch.equal(plain(x[:1]), last(x)[0])


def test_filters_of_another_layout_convolve_alike() -> None:
    x, weight = torch.rand(1, 3, 5, 6, 7).double(), torch.rand(4, 3, 3, 3, 3).double()
    assert channels_last(weight).stride(1) == 1
    torch.testing.assert_close(functional.conv3d(x, channels_last(weight)), functional.conv3d(x, weight))
