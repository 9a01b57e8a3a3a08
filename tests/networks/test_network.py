"""Networks are MONAI's by default, each setting changes what it names, and weights come in without pickle."""

import copy
from itertools import product
from typing import Any

import pytest
import torch
from helpers.small_networks import DENSE, PAPER, TINY
from monai.networks.nets import densenet121, resnet10, resnet18, resnet34, resnet50
from torch import nn
from torch.nn import functional

from ricenet.errors import WrongUsage
from ricenet.networks.input_settings import InputSettings
from ricenet.networks.network import LeanResNet, build_network, network_settings, require_size

RESNETS = [resnet10, resnet18, resnet34, resnet50]


@pytest.mark.parametrize(
    ("monais", "width"),
    [*product(RESNETS, [16]), pytest.param(resnet18, 64, marks=pytest.mark.heavy)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_resnets_are_monais(monais: Any, width: int) -> None:
    """Same parameter names and shapes at full width; with the same weights the same logits (most of them narrower)."""
    setting = PAPER | {"architecture": monais.__name__}
    with torch.device("meta"):
        wide = [monais(spatial_dims=3, n_input_channels=3, num_classes=2), build_network(3, **setting)]
    theirs_at, ours_at = ({name: one.shape for name, one in network.state_dict().items()} for network in wide)
    assert ours_at == theirs_at
    theirs = monais(spatial_dims=3, n_input_channels=3, num_classes=2, widen_factor=width / 64).eval()
    ours = build_network(3, **(setting | {"width": width})).eval()
    ours.load_state_dict(theirs.state_dict())
    volume = torch.randn(1, 3, 16, 16, 16)
    torch.testing.assert_close(ours(volume), theirs(volume), rtol=1e-4, atol=1e-5)


def test_densenet_is_monais() -> None:
    theirs = densenet121(spatial_dims=3, in_channels=2, out_channels=2).eval()
    ours = build_network(2, **(PAPER | DENSE)).eval()
    ours.load_state_dict(theirs.state_dict())
    volume = torch.randn(1, 2, 32, 32, 32)
    assert torch.equal(ours(volume), theirs(volume))


def test_one_training_step_is_plain_monais() -> None:
    """The default network, narrower, against MONAI's in float64: loss, every gradient, every running statistic."""
    torch.manual_seed(0)
    theirs = resnet18(spatial_dims=3, n_input_channels=3, num_classes=2, widen_factor=0.125).double()
    nn.init.uniform_(theirs.bn1.weight, -1, 1)
    ours = build_network(3, **(PAPER | {"width": 8})).double()
    ours.load_state_dict(theirs.state_dict())
    ours = ours.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    volume, label = torch.randn(2, 3, 20, 18, 24, dtype=torch.double), torch.tensor([0, 1])
    losses = [functional.cross_entropy(network(volume), label) for network in (theirs, ours)]
    for loss in losses:
        loss.backward()
    assert (losses[0] - losses[1]).abs().item() < 1e-12
    for (name, p), (_, q) in zip(theirs.named_parameters(), ours.named_parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=0, atol=1e-12, msg=name)
    for (name, a), (_, b) in zip(theirs.named_buffers(), ours.named_buffers(), strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("pool", ["last", "multi"])
@pytest.mark.parametrize("setting", [{"pool_first": False}, {"recompute_stem": True}], ids=str)
def test_the_order_of_operations_does_not_change_the_function(setting: dict[str, bool], pool: str) -> None:
    plain = build_network(2, pool=pool, **TINY).double()
    other = copy.deepcopy(plain)
    for name, value in setting.items():
        setattr(other, name, value)
    volume = torch.randn(2, 2, 16, 16, 16, dtype=torch.double)
    torch.testing.assert_close(other(volume), plain(volume), rtol=0, atol=1e-12)


@pytest.mark.parametrize("architecture", ["resnet10", "resnet18", "resnet50"])
def test_pooling_all_stages_is_their_mean_and_maximum(architecture: str) -> None:
    """Against the maps of MONAI's stages, caught by hooks; parameters but the linear layer's have MONAI's names."""
    setting = TINY | {"architecture": architecture}
    network, plain = build_network(2, pool="multi", **setting).eval(), build_network(2, **setting).eval()
    assert network.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if k[:3] != "fc."}, strict=False)
    maps: list[torch.Tensor] = []
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        getattr(plain, stage).register_forward_hook(lambda _layer, _inputs, out: maps.append(out))
    volume = torch.randn(2, 2, 20, 16, 24)
    plain(volume)
    features = [part for x in maps for part in (x.flatten(2).mean(2), x.flatten(2).max(2).values)]
    expected = functional.linear(torch.cat(features, 1), network.fc.weight, network.fc.bias)  # type: ignore[arg-type, union-attr]
    torch.testing.assert_close(network(volume), expected)


def test_every_stage_gets_a_gradient_through_its_own_pools() -> None:
    network = build_network(1, pool="multi", **TINY)
    network.fc.weight.data[:, 8:] = 0  # type: ignore[union-attr,operator,index]  # only the first stage's 4 means and maxima
    network(torch.randn(2, 1, 16, 16, 16)).sum().backward()
    assert network.layer1[0].conv1.weight.grad.any()  # type: ignore[union-attr,index]
    assert not network.layer2[0].conv1.weight.grad.any()  # type: ignore[union-attr,index]


@pytest.mark.parametrize("channels", [["event"], ["post", "event", "rd"]])
def test_without_computed_channels_the_network_is_the_plain_one(channels: list[str]) -> None:
    none = InputSettings(isodoses_gy=(), isodose_edge_gy=2.0, difference=False)
    dose = InputSettings(isodoses_gy=(10.0,), isodose_edge_gy=2.0, difference=False)
    inputs = dose if "rd" not in channels else none
    networks = []
    for keys in ({}, {"inputs": inputs}):
        torch.manual_seed(0)
        networks.append(build_network(channels, **keys, **TINY))
    assert type(networks[1]) is LeanResNet
    volume = torch.randn(2, len(channels), 16, 16, 16)
    assert torch.equal(networks[0](volume), networks[1](volume))


def test_computed_inputs_need_the_names_of_the_channels() -> None:
    inputs = InputSettings(isodoses_gy=(10.0,), isodose_edge_gy=2.0, difference=False)
    with pytest.raises(ValueError, match="names of the channels"):
        build_network(3, inputs=inputs, **TINY)


@pytest.mark.parametrize(
    ("setting", "changed"),
    [({"width": 6}, True), ({"conv1_size": 5}, True), ({"architecture": "resnet10"}, True),
     ({"conv1_stride": 2}, False), ({"max_pool": False}, False)],
)  # fmt: skip
def test_each_setting_changes_what_it_names(setting: dict[str, Any], changed: bool) -> None:
    plain, other = build_network(2, **TINY), build_network(2, **(TINY | setting))
    shapes = [[p.shape for p in network.parameters()] for network in (plain, other)]
    assert (shapes[0] != shapes[1]) == changed
    if not changed:  # the same weights, another function
        other.load_state_dict(plain.state_dict())
        volume = torch.randn(1, 2, 16, 16, 16)
        assert not torch.allclose(plain.eval()(volume), other.eval()(volume))


@pytest.mark.parametrize("setting", [TINY, TINY | DENSE | {"conv1_size": 7}], ids=["resnet", "densenet"])
def test_dropout_acts_in_training_only(setting: dict[str, Any]) -> None:
    network = build_network(1, **(setting | {"dropout": 0.5}))
    volume = torch.randn(4, 1, 32, 32, 32)
    network.eval()
    assert torch.equal(network(volume), network(volume))
    network.train()
    assert not torch.equal(network(volume), network(volume))


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"architecture": "vgg"}, "resnet10, resnet18"),
        ({"architecture": "densenet121"}, "use model=densenet121"),
        ({"pool": "max"}, "model.pool should be one of last, multi, got 'max'"),
        (DENSE | {"pool": "multi"}, "model.pool=last, got multi"),
    ],
)
def test_what_an_architecture_does_not_have_is_refused(setting: dict[str, Any], says: str) -> None:
    with pytest.raises(WrongUsage, match=says):
        build_network(3, **(PAPER | setting))


def test_a_volume_too_small_for_a_densenet_is_refused() -> None:
    require_size("densenet121", (32, 40, 32))
    require_size("resnet18", (16, 16, 16))
    with pytest.raises(WrongUsage, match="needs 32 voxels a side, the cases have 40 x 31 x 40"):
        require_size("densenet121", (40, 31, 40))


def test_settings_of_the_network_are_those_it_is_built_from() -> None:
    model = {"name": "x", "channel_dropout": 0.5, **TINY}
    assert network_settings(model) == TINY
