"""Incremental logits against a whole forward pass of the network itself for every cube."""

import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.trained import blanked_logits, trained
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ricenet.occlusion import incremental
from ricenet.occlusion.folded_resnet import fold
from ricenet.occlusion.incremental import IncrementalEngine
from ricenet.occlusion.receptive_windows import find_changes

EXACT = 1e-4  # of the range of the logits; a forward pass's own rounding is about 1e-6
PLENTY = 1 << 40


def engine_of(
    network: nn.Module, volume: Tensor, memory_bytes: int = PLENTY, dtype: torch.dtype = torch.float32
) -> IncrementalEngine:
    folded = fold(network)
    assert folded is not None
    return IncrementalEngine(folded, volume, dtype, memory_bytes)


def answers(
    engine: IncrementalEngine,
    corner: np.ndarray,
    edge: tuple[int, int, int],
    reference: Tensor,
    channels: list[int],
    batch_size: int = 5,
    changed: np.ndarray | None = None,
) -> Tensor:
    """(P, K), the rows put where they belong; each comes once."""
    changed = np.ones(reference.shape[1:], dtype=bool) if changed is None else changed
    found, times = torch.full((len(corner), len(engine.baseline)), torch.nan, dtype=torch.double), np.zeros(len(corner))
    for rows, logits in engine.logits(find_changes(changed, corner, edge), reference, channels, batch_size):
        assert len(rows) <= batch_size
        found[rows] = logits
        times[rows] += 1
    assert (times == 1).all()
    return found


def require_exact(found: Tensor, baseline: Tensor, expected: Tensor, untouched: Tensor) -> None:
    every = torch.cat([expected, untouched])
    spread = (every.max(dim=0).values - every.min(dim=0).values).max()
    assert spread > 1e-3 * every.abs().max(), "logits that hardly vary would prove nothing"
    assert (found - expected).abs().max() < EXACT * spread
    assert (baseline - untouched[0]).abs().max() < EXACT * spread


def borders(size: tuple[int, int, int], edge: tuple[int, int, int]) -> np.ndarray:
    """Cubes at every corner, edge and face of the volume, and in its middle."""
    axes = [sorted({0, (n - k) // 2, n - k}) for n, k in zip(size, edge, strict=True)]
    return np.array(list(product(*axes)))


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "channels": draw(st.integers(1, 3)),
        "architecture": draw(st.sampled_from(["resnet10", "resnet18", "resnet34", "resnet50"])),
        "conv1_size": draw(st.sampled_from([3, 7])),
        "conv1_stride": draw(st.integers(1, 2)),
        "max_pool": draw(st.booleans()),
        "shortcut": draw(st.sampled_from("AB")),
        "pool": draw(st.sampled_from(["last", "multi"])),
        "computed": draw(st.booleans()),
    }


def require_exact_anywhere(setting: dict[str, Any], data: st.DataObject, largest: int) -> None:
    """Draw a volume, cubes and channels; the cubes lie at every border and on a grid of the drawn stride."""
    network, draw = trained(**setting, steps=1), data.draw
    size = draw(st.tuples(*[st.integers(7, largest)] * 3), "size")
    edge = tuple(draw(st.integers(min(7, n), min(n, 40))) for n in size)
    stride = draw(st.tuples(*[st.integers(1, 20)] * 3), "stride")
    channels = draw(st.lists(st.integers(0, setting["channels"] - 1), min_size=1, unique=True), "channels")
    grid = [range(0, n - k + 1, step)[:3] for n, k, step in zip(size, edge, stride, strict=True)]
    corner = np.concatenate([borders(size, edge), np.array(list(product(*grid)))])[:40]
    torch.manual_seed(draw(st.integers(0, 99), "seed"))
    volume, reference = 2 * torch.randn(2, setting["channels"], *size) + 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(incremental, "WINOGRAD_CHANNELS", draw(st.sampled_from([1, 64]), "winograd from"))
        engine = engine_of(network, volume, draw(st.sampled_from([0, PLENTY]), "memory"))
    found = answers(engine, corner, edge, reference, channels, draw(st.sampled_from([1, 4, 7]), "batch size"))
    expected = blanked_logits(network, volume, corner, edge, reference, channels)
    untouched = blanked_logits(network, volume, corner[:1], edge, reference, [])
    require_exact(found, engine.baseline, expected, untouched)


@pytest.mark.process
@settings(deadline=None, max_examples=25)
@given(networks(), st.data())
def test_any_resnet_any_volume_any_cubes(setting: dict[str, Any], data: st.DataObject) -> None:
    require_exact_anywhere(setting, data, largest=19)


@pytest.mark.slow
@pytest.mark.process
@settings(deadline=None, max_examples=30)
@given(networks(), st.data())
def test_many_resnets_larger_volumes(setting: dict[str, Any], data: st.DataObject) -> None:
    require_exact_anywhere(setting, data, largest=45)


def pair(channels: int, size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """A volume, and a reference that is nowhere constant."""
    torch.manual_seed(1)
    volume, reference = 2 * torch.randn(2, channels, *size) + 0.5
    return volume, reference


def require_exact_at_the_borders(
    network: nn.Module, size: tuple[int, int, int], edge: tuple[int, int, int], channels: int = 2
) -> IncrementalEngine:
    volume, reference = pair(channels, size)
    engine, corner, every = engine_of(network, volume), borders(size, edge), list(range(channels))
    expected = blanked_logits(network, volume, corner, edge, reference, every)
    untouched = blanked_logits(network, volume, corner[:1], edge, reference, [])
    require_exact(answers(engine, corner, edge, reference, every), engine.baseline, expected, untouched)
    return engine


def winograds(engine: IncrementalEngine) -> int:
    return sum(layer._winograd is not None for block in engine._blocks for layer in block.branch)


@pytest.mark.parametrize("blanked", [[0], [1], [2], [0, 2], [0, 1, 2]], ids=str)
@pytest.mark.parametrize(
    "setting", [{"pool": "multi"}, {"computed": True}, {"pool": "multi", "computed": True}], ids=str
)
def test_our_recipe_is_exact_to_1e_5(setting: dict[str, Any], blanked: list[int]) -> None:
    """Logits in their own unit; which channels are blanked decides what their computed channels become."""
    network, size, edge = trained(3, "resnet18", 8, 5, 2, steps=2, **setting), (19, 18, 21), (7, 8, 6)
    volume, reference = pair(3, size)
    engine, corner = engine_of(network, volume), borders(size, edge)
    logits = answers(engine, corner, edge, reference, blanked)
    expected = blanked_logits(network, volume, corner, edge, reference, blanked)
    assert (logits - expected).abs().max() < 1e-5
    assert (logits - engine.baseline).abs().max() > 1e-3, "cubes that change nothing would prove nothing"


def test_a_maximum_inside_the_cube_gives_way_to_the_highest_outside() -> None:
    """One bright voxel holds the maxima of the early stages; blanked, they fall to what the rest of the map has."""
    network, size = trained(2, "resnet10", 4, 3, 1, steps=2, pool="multi"), (16, 17, 18)
    volume, _ = pair(2, size)
    volume[:, 8, 8, 8] += 40
    reference = torch.zeros_like(volume)
    corner, edge = np.array([[7, 7, 7], [0, 0, 0], [12, 13, 14]]), (3, 3, 3)
    logits = answers(engine_of(network, volume), corner, edge, reference, [0, 1])
    expected = blanked_logits(network, volume, corner, edge, reference, [0, 1])
    moved = (expected - network(volume[None]).detach()).abs().amax(1)
    assert moved[0] > 10 * moved[1:].max()
    assert (logits - expected).abs().max() < 1e-5 * max(1.0, expected.abs().max().item())


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("resnet10", 5),
        pytest.param("resnet18", 13, marks=pytest.mark.slow),
        pytest.param("resnet50", 13, marks=pytest.mark.slow),
    ],
)
def test_at_full_width_convolutions_are_winograds(architecture: str, expected: int) -> None:
    """All 3^3 ones of stride 1: two a basic block and one a bottleneck, but for three of stride 2."""
    network = trained(1, architecture, 64, 3, shortcut="A", steps=1)
    engine = require_exact_at_the_borders(network, (13, 12, 11), (7, 8, 9), 1)
    assert winograds(engine) == expected


def test_narrow_convolutions_are_not() -> None:
    """At width 32 of ResNet-10's five those of the first stage have too few channels."""
    assert winograds(engine_of(trained(1, "resnet10", 32, 3, steps=1), torch.randn(1, 9, 9, 9))) == 3


@pytest.mark.parametrize(
    ("size", "edge"),
    [
        pytest.param((12, 13, 14), (12, 13, 14), id="the whole volume"),
        pytest.param((13, 12, 14), (1, 1, 1), id="one voxel"),
        pytest.param((1, 9, 17), (1, 3, 4), id="one voxel deep"),
        pytest.param((3, 2, 4), (2, 2, 2), id="smaller than every kernel"),
        pytest.param((40, 8, 9), (40, 1, 1), id="a needle"),
    ],
)
def test_extreme_cubes_and_volumes(size: tuple[int, int, int], edge: tuple[int, int, int]) -> None:
    require_exact_at_the_borders(trained(architecture="resnet10"), size, edge)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "size", "edge", "winograd_from", "expected"),
    [
        ("resnet18", (41, 96, 45), (7, 7, 7), 8, 9),
        ("resnet18", (96, 45, 41), (40, 33, 25), 16, 6),
        ("resnet50", (45, 41, 96), (20, 20, 20), 16, 7),
    ],
)
def test_a_large_volume_of_odd_size(
    architecture: str,
    size: tuple[int, int, int],
    edge: tuple[int, int, int],
    winograd_from: int,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Along the long axis windows end before the border up to the third stage. Channels: as at width 32, 16 and 16."""
    monkeypatch.setattr(incremental, "WINOGRAD_CHANNELS", winograd_from)
    assert winograds(require_exact_at_the_borders(trained(3, architecture), size, edge, channels=3)) == expected


def test_batches_change_nothing() -> None:
    """Batches of unequal windows: cubes of the border and the middle, and boxes of what changes of many sizes."""
    network, size, edge = trained(architecture="resnet10"), (19, 18, 21), (8, 7, 9)
    volume, reference = pair(2, size)
    changed = torch.rand(size, generator=torch.Generator().manual_seed(0)) < 0.01
    reference[:, ~changed] = volume[:, ~changed]
    corner = borders(size, edge)
    corner = corner[find_changes(changed.numpy(), corner, edge).length[:, 0] > 0]
    lengths = find_changes(changed.numpy(), corner, edge).length
    assert len(np.unique(lengths, axis=0)) > 10
    assert (lengths < edge).all(axis=1).any()
    engine = engine_of(network, volume)
    found = [answers(engine, corner, edge, reference, [0, 1], size, changed.numpy()) for size in (1, 7, 64)]
    expected = blanked_logits(network, volume, corner, edge, reference, [0, 1])
    untouched = blanked_logits(network, volume, corner[:1], edge, reference, [])
    for one in found:
        require_exact(one, engine.baseline, expected, untouched)


def test_what_does_not_fit_in_memory_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    network, size, edge = trained(), (19, 18, 21), (7, 7, 7)
    volume, reference = pair(2, size)
    held = engine_of(network, volume)
    assert held.streamed_bytes == 0
    maps = [(4, 10 * 9 * 11)] * 5 + [(8, 5 * 5 * 6)] * 4 + [(16, 3 * 3 * 3)] * 4 + [(32, 2 * 2 * 2)] * 4
    assert held.cache_bytes == sum(4 * channels * voxels for channels, voxels in maps)  # one a ReLU, the first pooled
    expected = answers(held, borders(size, edge), edge, reference, [0, 1])
    for memory, streamed in ((0, held.cache_bytes), (held.cache_bytes // 2, None), (held.cache_bytes, 0)):
        engine = engine_of(network, volume, memory)
        assert engine.cache_bytes == held.cache_bytes
        assert engine.cache_bytes - engine.streamed_bytes <= memory
        assert streamed is None or engine.streamed_bytes == streamed
        assert torch.equal(answers(engine, borders(size, edge), edge, reference, [0, 1]), expected)
        assert torch.equal(engine.baseline, held.baseline)
        assert not list(tmp_path.iterdir())


def test_volume_reference_and_network_are_left_alone() -> None:
    network, size = trained(), (14, 13, 15)
    volume, reference = pair(2, size)
    held = [volume, reference, *network.state_dict().values()]
    before = [tensor.clone() for tensor in held]
    engine, corner = engine_of(network, volume), borders(size, (9, 8, 7))
    first = answers(engine, corner, (9, 8, 7), reference, [0])
    answers(engine, corner, (7, 7, 7), reference, [1])
    assert torch.equal(answers(engine, corner, (9, 8, 7), reference, [0]), first)
    assert all(torch.equal(*both) for both in zip(held, before, strict=True))


@pytest.mark.heavy
@pytest.mark.parametrize("pool", ["last", "multi"])
def test_bfloat16_errs_less_than_a_forward_pass_in_bfloat16(pool: str) -> None:
    network, size, edge = trained(width=8, pool=pool), (19, 18, 21), (7, 7, 7)
    volume, reference = pair(2, size)
    corner = borders(size, edge)
    exact, rounded = engine_of(network, volume), engine_of(network, volume, dtype=torch.bfloat16)
    assert torch.equal(exact.baseline, rounded.baseline)
    expected = answers(exact, corner, edge, reference, [0, 1])
    error = (answers(rounded, corner, edge, reference, [0, 1]) - expected).abs().max()
    with torch.autocast("cpu", torch.bfloat16):
        plain = blanked_logits(network, volume, corner, edge, reference, [0, 1])
    assert 0 < error < 0.05 * (expected - exact.baseline).abs().max()
    assert error < 0.6 * (plain - expected).abs().max()
    hardly = answers(rounded, corner, edge, volume + 1e-7 * (reference - volume), [0, 1])
    assert (hardly - rounded.baseline).abs().max() < error / 4, "what is not changed should not be rounded apart"


def test_threads_answer_alike_and_torch_gets_its_own_back() -> None:
    network, size, edge = trained(), (19, 18, 21), (7, 7, 7)
    volume, reference = pair(2, size)
    engine, corner = engine_of(network, volume), borders(size, edge)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(answers(engine, corner, edge, reference, [0, 1], batch_size=2))
            assert torch.get_num_threads() == threads
        torch.testing.assert_close(*found, rtol=0, atol=1e-6)
        cubes = find_changes(np.ones(size, dtype=bool), corner, edge)
        given_up = engine.logits(cubes, reference, [0, 1], 2)
        next(given_up)
        given_up.close()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
