"""Means and maxima of changed maps, from the differences alone, against the pooled maps themselves."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ricenet.occlusion.incremental_pool import IncrementalPool
from ricenet.occlusion.receptive_windows import Window


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.integers(1, 7)] * 3), st.data())
def test_pooled_differences_are_the_pooled_map(size: tuple[int, int, int], data: st.DataObject) -> None:
    """Windows of every place and length, of all of the map too."""
    torch.manual_seed(data.draw(st.integers(0, 99)))
    clean = torch.randn(1, 3, *size).relu()
    length = tuple(data.draw(st.integers(1, n)) for n in size)
    start = np.array([[data.draw(st.integers(0, n - k)) for n, k in zip(size, length, strict=True)] for _ in range(4)])
    window = Window(start, length)
    changed = clean.repeat(4, 1, 1, 1, 1)
    for row in range(4):
        changed[row][:, *window.slices(row)] = torch.randn(3, *length).relu() * data.draw(st.sampled_from([0.5, 1, 3]))
    part = torch.stack([(changed[row] - clean[0])[:, *window.slices(row)] for row in range(4)])
    inside = torch.stack([changed[row][:, *window.slices(row)].amax((1, 2, 3)) for row in range(4)])
    pool = IncrementalPool(clean, torch.float32, maxima=True)
    expected = torch.cat([changed.double().mean((2, 3, 4)), changed.double().amax((2, 3, 4))], 1)
    torch.testing.assert_close(pool(part, window, inside), expected, rtol=1e-6, atol=1e-6)
    mean = IncrementalPool(clean, torch.float32, maxima=False)(part, window, None)
    torch.testing.assert_close(mean, expected[:, :3], rtol=1e-6, atol=1e-6)


def test_in_bfloat16_what_does_not_change_is_not_rounded() -> None:
    clean = torch.full((1, 1, 4, 4, 4), 1.003)
    pool = IncrementalPool(clean, torch.bfloat16, maxima=True)
    window = Window(np.array([[0, 0, 0]]), (4, 4, 4))
    inside = clean.to(torch.bfloat16).amax((2, 3, 4))
    nothing = torch.zeros(1, 1, 4, 4, 4, dtype=torch.bfloat16)
    assert inside.item() != pytest.approx(1.003, abs=1e-4)
    torch.testing.assert_close(pool(nothing, window, inside), pool.clean, rtol=0, atol=0)


def test_of_the_untouched_map() -> None:
    clean = torch.randn(1, 5, 3, 4, 2).relu()
    expected = torch.cat([clean.mean((2, 3, 4)), clean.amax((2, 3, 4))], 1).double()
    torch.testing.assert_close(IncrementalPool(clean, torch.float32, maxima=True).clean, expected)
