"""Computed channels are what their formula says, voxel by voxel, in the unit of the stored volumes."""

import math

import pytest
import torch
from helpers.small_networks import TINY
from torch import Tensor

from ricenet.networks.computed_inputs import ComputedInputs, InputNetwork, behind_inputs
from ricenet.networks.input_settings import InputSettings
from ricenet.networks.network import build_network

EVERY = ["post", "event", "rd"]
BOTH = InputSettings(isodoses_gy=(30.0, 57.0), isodose_edge_gy=3.0, difference=True)


def volume(channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, 5, 4, 6, generator=generator)


def test_channels_by_hand() -> None:
    """A dose of 60 Gy is stored as 1: one edge above the level 57, ten edges above 30."""
    stored = volume()
    stored[0, 2, 1, 2, 3] = 1.0
    out = ComputedInputs(EVERY, BOTH)(stored)
    assert out.shape == (2, 6, 5, 4, 6)
    assert torch.equal(out[:, :3], stored)
    here = out[0, :, 1, 2, 3]
    assert here[3].item() == pytest.approx(1 / (1 + math.exp(-10)), abs=1e-6)
    assert here[4].item() == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-6)
    assert torch.equal(out[:, 5], stored[:, 1] - stored[:, 0])


def test_the_dose_is_found_by_its_name() -> None:
    stored = volume(2)
    assert torch.equal(
        ComputedInputs(["event", "rd"], BOTH)(stored)[:, 2:],
        ComputedInputs(["rd", "event"], BOTH)(stored.flip(1))[:, 2:],
    )


def test_every_voxel_depends_on_itself_alone() -> None:
    layer, stored = ComputedInputs(EVERY, BOTH), volume()
    changed = stored.clone()
    changed[1, :, 2:4, 1:3, 0:2] = 0.25
    differs = (layer(stored) != layer(changed)).any(1)
    assert differs[1, 2:4, 1:3, 0:2].all()
    assert differs.sum() == 8


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_memory_layout_stays_and_changes_no_value(layout: torch.memory_format) -> None:
    layer, stored = ComputedInputs(EVERY, BOTH), volume()
    out = layer(stored.contiguous(memory_format=layout))
    assert out.is_contiguous(memory_format=layout)
    torch.testing.assert_close(out, layer(stored))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_gradients_reach_the_stored_channels(layout: torch.memory_format) -> None:
    stored = volume()[:1, :, :2, :2, :2].double().contiguous(memory_format=layout).requires_grad_()
    assert torch.autograd.gradcheck(ComputedInputs(EVERY, BOTH).double(), (stored,))


def test_there_is_nothing_to_train_and_nothing_to_store() -> None:
    layer = ComputedInputs(EVERY, BOTH)
    assert not list(layer.parameters())
    assert not layer.state_dict()


def test_buffers_follow_the_network_to_another_type() -> None:
    network = build_network(EVERY, inputs=BOTH, **TINY).double()
    assert network(volume().double().repeat(1, 1, 4, 4, 4)).dtype == torch.double


def test_the_network_sees_the_computed_channels_behind_the_stored_ones() -> None:
    network = build_network(EVERY, inputs=BOTH, **TINY).eval()
    assert isinstance(network, InputNetwork)
    stored = volume().repeat(1, 1, 4, 4, 4)
    assert torch.equal(network(stored), behind_inputs(network)(network.inputs(stored)))
    assert behind_inputs(network).conv1.weight.shape[1] == 6  # type: ignore[union-attr,index]
