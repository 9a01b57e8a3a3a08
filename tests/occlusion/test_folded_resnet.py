"""Folded networks, run plainly, against the networks themselves in evaluation mode; what cannot be folded is not."""

import copy
from typing import Any

import pytest
import torch
from helpers.trained import COMPUTED, train, trained
from monai.networks.nets import DenseNet, ResNet, resnet18
from torch import Tensor, nn
from torch.nn import functional

from ricenet import MODALITIES
from ricenet.networks.computed_inputs import ComputedInputs, InputNetwork
from ricenet.networks.late_fusion import LateFusion, for_case
from ricenet.networks.network import LeanResNet
from ricenet.networks.number_inputs import NumberInput
from ricenet.occlusion.folded_resnet import Convolution, FoldedResNet, fold


def answer(network: FoldedResNet, x: Tensor) -> Tensor:
    """(B, C, X, Y, Z) -> (B, K) in double precision."""

    def convolve(conv: Convolution, x: Tensor) -> Tensor:
        return functional.conv3d(x, conv.weight.double(), conv.bias.double(), conv.step, conv.padding)

    x = x.double() if network.inputs is None else network.inputs(x.double())
    x = convolve(network.stem, x).relu()
    x = functional.max_pool3d(x, 3, 2, 1) if network.pool else x
    features = []
    for block in network.blocks:
        inside = x
        for conv in block.branch[:-1]:
            inside = convolve(conv, inside).relu()
        shortcut = x if block.shortcut is None else convolve(block.shortcut, x)
        x = (convolve(block.branch[-1], inside) + shortcut).relu()
        features += [] if block.pooled is None else [x.mean((2, 3, 4))]
        features += [x.amax((2, 3, 4))] if block.pooled == "mean and maximum" else []
    return functional.linear(torch.cat(features, 1), network.linear.weight.double(), network.linear.bias.double())


def require_equal(network: nn.Module, channels: int) -> None:
    folded = fold(network)
    assert folded is not None
    volumes = torch.randn(4, channels, 13, 16, 15, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = copy.deepcopy(network).double()(volumes.double()), answer(folded, volumes)
    spread = expected.std(dim=0).min()
    assert spread > 1e-3 * expected.abs().max(), "logits that hardly vary would prove nothing"
    assert (found - expected).abs().max() < 1e-4 * spread


@pytest.mark.parametrize("stem", [(7, 1, True), (3, 2, False)], ids=str)
@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize(
    "architecture", ["resnet10", "resnet18", pytest.param("resnet34", marks=pytest.mark.heavy), "resnet50"]
)
def test_folded_network_is_the_network(architecture: str, shortcut: str, stem: tuple[int, int, bool]) -> None:
    size, stride, pool = stem
    network = trained(3, architecture, 4, size, stride, pool, shortcut, steps=1)
    before = copy.deepcopy(network.state_dict())
    require_equal(network, 3)
    assert all(torch.equal(held, before[name]) for name, held in network.state_dict().items())


@pytest.mark.parametrize("architecture", ["resnet10", "resnet18", "resnet50"])
@pytest.mark.parametrize("computed", [False, True])
def test_pooling_of_all_stages_and_computed_inputs_fold_too(architecture: str, computed: bool) -> None:
    require_equal(trained(3, architecture, 4, 3, 2, steps=1, pool="multi", computed=computed), 3)


@pytest.mark.parametrize("setting", [{}, {"shortcut_type": "A"}, {"bias_downsample": False}], ids=str)
def test_monais_own_resnets_fold_too(setting: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = resnet18(n_input_channels=1, num_classes=3, widen_factor=0.125, **setting)
    train(network, 1, steps=1)
    require_equal(network.eval(), 1)


def monais(**setting: Any) -> nn.Module:
    """MONAI's ResNet-10, narrow."""
    plain = {"n_input_channels": 1, "num_classes": 2, "widen_factor": 0.0625}
    return ResNet("basic", [1, 1, 1, 1], [64, 128, 256, 512], **(plain | setting)).eval()


class Doubled(LeanResNet):
    """Another function under the same layers."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class ComputedTwice(InputNetwork):
    """Another function in front of a network that could be folded."""

    def forward(self, volume: Tensor) -> Tensor:
        return super().forward(2 * volume)


def with_head(head: nn.Module) -> nn.Module:
    network = monais()
    network.fc = head  # type: ignore[assignment]
    return network


def with_normalisation(norm: nn.Module) -> nn.Module:
    network = monais()
    network.layer3[0].bn2 = norm  # type: ignore[index,assignment]
    return network


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(DenseNet(3, 1, 2, 8, 4, (2, 2)), id="DenseNet"),
        pytest.param(monais(norm=("instance", {"affine": True})), id="InstanceNorm"),
        pytest.param(with_normalisation(nn.GroupNorm(4, 16)), id="one GroupNorm"),
        pytest.param(with_normalisation(nn.BatchNorm3d(16, track_running_stats=False)), id="statistics of the batch"),
        pytest.param(with_normalisation(nn.BatchNorm3d(16, affine=False)), id="nothing to fold"),
        pytest.param(monais(act="leakyrelu"), id="another activation"),
        pytest.param(monais(feed_forward=False), id="no linear layer"),
        pytest.param(with_head(nn.Sequential(nn.Linear(32, 4), nn.ReLU(), nn.Linear(4, 2))), id="two linear layers"),
        pytest.param(with_head(nn.Linear(32, 2, bias=False)), id="no bias"),
        pytest.param(monais(spatial_dims=2), id="2D"),
        pytest.param(monais(conv1_t_size=(7, 7, 3)), id="flat kernel"),
        pytest.param(monais(conv1_t_stride=(2, 2, 1)), id="unequal strides"),
        pytest.param(ComputedTwice(ComputedInputs(["rd"], COMPUTED), monais(n_input_channels=3)), id="other inputs"),
        pytest.param(Doubled("basic", [1] * 4, [4, 8, 16, 32], num_classes=2), id="another forward"),
    ],
)
def test_what_is_no_such_resnet_is_not_folded(network: nn.Module) -> None:
    assert fold(network.eval()) is None


def test_numbers_of_a_case_are_part_of_the_linear_layer() -> None:
    number = NumberInput(name="age", mean=60.0, scale=10.0, missing=0.0, channels=())
    fused = LateFusion(trained(2), MODALITIES[-2:], [number])
    nn.init.normal_(fused.head.weight, generator=torch.Generator().manual_seed(0))
    require_equal(for_case(fused.eval(), {"age": 75.0}), 2)
    assert fold(fused) is None  # it is no function of volumes alone
