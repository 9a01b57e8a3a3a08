"""The stem's windows against the whole of conv1, ReLU and pool, for volumes that really are blanked."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers.trained import COMPUTED
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from ricenet import MODALITIES
from ricenet.networks.computed_inputs import ComputedInputs
from ricenet.occlusion.folded_resnet import Convolution
from ricenet.occlusion.incremental_stem import IncrementalStem
from ricenet.occlusion.receptive_windows import find_changes

OUT = 5


@dataclass(frozen=True)
class Case:
    conv: Convolution
    pool: bool
    volume: Tensor
    reference: Tensor
    inputs: ComputedInputs | None = None

    def stem(self, dtype: torch.dtype = torch.float32) -> IncrementalStem:
        return IncrementalStem(self.conv, self.pool, self.volume, dtype, self.inputs)

    def whole(self, volume: Tensor) -> Tensor:
        """(1, C, X, Y, Z) of any volume, without the class under test."""
        seen = volume[None] if self.inputs is None else self.inputs(volume[None])
        features = functional.conv3d(seen, self.conv.weight, self.conv.bias, self.conv.step, self.conv.padding)
        return functional.max_pool3d(features.relu(), 3, 2, 1) if self.pool else features.relu()


def case(kernel: int, step: int, pool: bool, channels: int, size: tuple[int, int, int], seed: int = 0,
         computed: bool = False) -> Case:  # fmt: skip
    """Biases of both signs: outside of its map conv1 must not answer relu(bias)."""
    draw = torch.Generator().manual_seed(seed)
    inputs = ComputedInputs(MODALITIES[-channels:], COMPUTED) if computed else None
    weight = torch.randn(OUT, channels + (inputs.count if inputs else 0), *[kernel] * 3, generator=draw) / kernel**1.5
    conv = Convolution(weight, torch.randn(OUT, generator=draw), step)
    volume, reference = torch.randn(2, channels, *size, generator=draw)
    return Case(conv, pool, volume, reference, inputs)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    size = draw(st.tuples(*[st.integers(1, 17)] * 3))
    return case(draw(st.sampled_from([1, 3, 5, 7])), draw(st.integers(1, 3)), draw(st.booleans()),
                draw(st.integers(1, 3)), size, draw(st.integers(0, 99)), draw(st.booleans()))  # fmt: skip


def blanked(given: Case, corner: np.ndarray, edge: tuple[int, int, int], channels: list[int]) -> Tensor:
    volume, (x, y, z) = given.volume.clone(), corner.tolist()
    for channel in channels:
        part = (channel, slice(x, x + edge[0]), slice(y, y + edge[1]), slice(z, z + edge[2]))
        volume[part] = given.reference[part]
    return volume


@settings(deadline=None, max_examples=60)
@given(cases())
def test_whole_is_conv_relu_and_pool(given: Case) -> None:
    found = given.stem().whole(torch.float32)
    torch.testing.assert_close(found, given.whole(given.volume), rtol=1e-5, atol=1e-5)


@pytest.mark.heavy
@settings(deadline=None, max_examples=80)
@given(cases(), st.data())
def test_a_blanked_cube_changes_its_window_alone(given: Case, data: st.DataObject) -> None:
    """Inside of its window the answer for the blanked volume, outside of its box the untouched one's."""
    size = tuple(given.volume.shape[1:])
    edge = tuple(data.draw(st.integers(1, n)) for n in size)
    corner = np.array([[data.draw(st.integers(0, n - k)) for n, k in zip(size, edge, strict=True)] for _ in range(3)])
    channels = data.draw(st.lists(st.integers(0, len(given.volume) - 1), min_size=1, unique=True))
    same = torch.rand(size, generator=torch.Generator().manual_seed(1)) < data.draw(st.sampled_from([0, 0.5, 0.99]))
    given.reference[:, same] = given.volume[:, same]  # boxes of what changes are smaller than the cubes then
    cubes = find_changes(~same.numpy(), corner, edge)
    cubes = cubes[cubes.length[:, 0] > 0]
    if not len(cubes.corner):
        return
    filler = given.reference[channels].permute(1, 2, 3, 0)
    found, boxes = given.stem().occluded(cubes, filler, channels)
    untouched = given.whole(given.volume)[0]
    for row, low in enumerate(cubes.corner):
        expected = given.whole(blanked(given, low, edge, channels))[0]
        window = (slice(None), *boxes.window.slices(row))
        torch.testing.assert_close(found[row], expected[window], rtol=1e-5, atol=1e-5)
        box = zip(boxes.start[row].tolist(), boxes.length[row].tolist(), strict=True)
        inside = (slice(None), *(slice(start, start + length) for start, length in box))
        expected[inside] = untouched[inside]
        torch.testing.assert_close(expected, untouched, rtol=1e-5, atol=1e-5)


def test_volume_and_later_answers_are_left_alone() -> None:
    given = case(7, 1, True, 2, (16, 15, 14))
    stem, before = given.stem(), given.volume.clone()
    cubes = find_changes(np.ones((16, 15, 14), bool), np.array([[0, 0, 0], [9, 8, 7], [3, 3, 3]]), (7, 7, 7))
    filler = given.reference.permute(1, 2, 3, 0)
    once, again = (stem.occluded(cubes, filler, [0, 1])[0] for _ in range(2))
    assert torch.equal(once, again)
    assert torch.equal(given.volume, before)
    torch.testing.assert_close(stem.whole(torch.float32), given.whole(given.volume), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pool", [True, False])
def test_in_bfloat16_it_errs_by_that_precision(pool: bool) -> None:
    given = case(7, 1, pool, 2, (16, 15, 14))
    expected = given.whole(given.volume)
    found = given.stem().whole(torch.bfloat16)
    assert found.dtype == torch.bfloat16
    error = (found.float() - expected).abs().max() / expected.max()
    assert 1e-4 < error < 2**-6
    cubes = find_changes(np.ones((16, 15, 14), bool), np.array([[2, 4, 6]]), (5, 5, 5))
    part, boxes = given.stem(torch.bfloat16).occluded(cubes, given.reference.permute(1, 2, 3, 0), [0, 1])
    assert part.dtype == torch.bfloat16
    blank = given.whole(blanked(given, cubes.corner[0], cubes.edge, [0, 1]))[0][:, *boxes.window.slices(0)]
    assert (part[0].float() - blank).abs().max() / blank.max() < 2**-6
