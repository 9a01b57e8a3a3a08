"""Winograd's convolution against torch's in double precision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from ricenet.occlusion.channels_last import first, last
from ricenet.occlusion.winograd import Scratch, Winograd

EDGE = st.integers(1, 7)
CHANNELS = st.sampled_from([1, 2, 5, 16])


def worst(difference: Tensor, weight: Tensor, found: Tensor) -> float:
    """The largest error as a share of the largest value, against every output that a padding of 2 reaches."""
    expected = last(functional.conv3d(first(difference).double(), weight.double(), padding=2))
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 3), EDGE, EDGE, EDGE, CHANNELS, CHANNELS, st.booleans())
def test_every_voxel_that_the_difference_reaches(
    batch: int, x: int, y: int, z: int, channels: int, out: int, strided: bool
) -> None:
    generator = torch.Generator().manual_seed(x + 7 * y + 49 * z)
    weight = torch.randn(out, channels, 3, 3, 3, generator=generator)
    difference = last(torch.randn(batch, channels, x, y, z, generator=generator))
    difference = difference if strided else difference.contiguous()
    before = difference.clone()
    assert worst(difference, weight, Winograd(weight, Scratch())(difference)) < 2e-6
    assert torch.equal(difference, before)


@pytest.mark.parametrize(("batch", "edges"), [(5, (13, 6, 7)), (2, (16, 14, 12)), (9, (5, 6, 6))])
def test_more_tiles_than_go_at_a_time(batch: int, edges: tuple[int, int, int]) -> None:
    """Batches that are cut in pieces, the last one shorter, and a sample of more tiles than a piece."""
    torch.manual_seed(0)
    weight, difference = torch.randn(8, 4, 3, 3, 3), torch.randn(batch, *edges, 4)
    assert worst(difference, weight, Winograd(weight, Scratch())(difference)) < 2e-6


def test_scratch_memory_carries_nothing_over() -> None:
    """Two convolutions of other widths that share it, larger and smaller maps in turn; answers stay as they were."""
    torch.manual_seed(0)
    scratch = Scratch()
    weights = [torch.randn(6, 3, 3, 3, 3), torch.randn(3, 6, 3, 3, 3)]
    layers = [Winograd(weight, scratch) for weight in weights]
    given = [torch.randn(1, edge, 4, 5, weights[turn % 2].shape[1]) for turn, edge in enumerate((2, 9, 3, 8, 1, 2))]
    found = [layers[turn % 2](x) for turn, x in enumerate(given)]
    assert max(worst(x, weights[turn % 2], found[turn]) for turn, x in enumerate(given)) < 2e-6
