"""The networks: settings of conf/model and conf/inputs in, a classifier of (B, C, X, Y, Z) volumes out; logits (B, 2).

The default is the paper's, MONAI's 3D ResNet-18; the others are its deeper and shallower kin and DenseNet-121. ResNets
here are MONAI's with the same parameter names and the same function; only the order of operations is ours (LeanResNet).
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from monai.networks.nets import DenseNet, ResNet
from torch import Tensor, nn

from ricenet import LABELS
from ricenet.errors import WrongUsage
from ricenet.networks.computed_inputs import ComputedInputs, InputNetwork
from ricenet.networks.input_settings import InputSettings
from ricenet.networks.late_fusion import LateFusion
from ricenet.networks.number_inputs import NumberInput
from ricenet.networks.pool_first_stem import pool_first
from ricenet.networks.single_voxel import lean_single_voxels

# Residual blocks of each of four stages, and their kind.
RESNETS = {
    "resnet10": ("basic", [1, 1, 1, 1]),
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
}
DENSENETS = {"densenet121": [6, 12, 24, 16]}
ARCHITECTURES = (*RESNETS, *DENSENETS)
POOLS = ("last", "multi")
SHORTCUTS = ("monai", "medicalnet")
DENSENET_SIDE = 32  # voxels: it halves the volume five times
# MedicalNet trained these with parameter-free shortcuts; its others have convolutions without a bias.
_PLAIN_SHORTCUTS = ("resnet18", "resnet34")
_NOT_OF_THE_NETWORK = ("name", "channel_dropout", "numbers")


class GlobalMean(nn.Module):
    """Mean over space, (B, C, X, Y, Z) -> (B, C): pooling to one voxel, with a deterministic backward pass on GPUs."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3, 4))


class StagesPooled(nn.Module):
    """Mean and maximum over space of every stage: maps (B, C_s, X, Y, Z) -> (B, 2 * sum of C_s), stage by stage."""

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        return torch.cat([pooled for x in stages for pooled in (x.mean((2, 3, 4)), x.amax((2, 3, 4)))], dim=1)


class LeanResNet(ResNet):
    """MONAI's 3D ResNet with the pool in front of the stem's normalisation (ricenet.networks.pool_first_stem).

    Attributes:
        multi: whether the linear layer sees the mean and the maximum of all stages, not the mean of the last.
        pool_first: whether to; False runs MONAI's own order.
        recompute_stem: in training keep nothing of full resolution for the backward pass; needs `pool_first`.
    """

    multi = False
    pool_first = True
    recompute_stem = False

    def forward(self, x: Tensor) -> Tensor:
        if self.pool_first and not self.no_max_pool:
            x = pool_first(x, self.conv1, self.bn1, self.maxpool, recompute=self.recompute_stem)  # type: ignore[arg-type]
        else:
            x = self.act(self.bn1(self.conv1(x)))
            x = x if self.no_max_pool else self.maxpool(x)
        layers = (self.layer1, self.layer2, self.layer3, self.layer4)
        if self.multi:
            stages = list(accumulate(layers, lambda activation, layer: layer(activation), initial=x))[1:]
            return self.fc(self.avgpool(stages))  # type: ignore[misc]  # it is there with feed_forward
        for layer in layers:
            x = layer(x)
        return self.fc(self.avgpool(x))  # type: ignore[misc]


def build_network(
    channels: Sequence[str] | int,
    architecture: str,
    width: int,
    conv1_size: int,
    conv1_stride: int,
    max_pool: bool,
    dropout: float,
    pretrained: str | None,
    pool: str = "last",
    inputs: InputSettings | None = None,
    numbers: Sequence[NumberInput] = (),
    shortcuts: str | None = None,
) -> nn.Module:
    """An untrained network for volumes of the stored `channels`, and for `numbers` of the case where there are any.

    Args:
        channels: their names in order, or how many there are; computed inputs need the names.
        architecture: one of ARCHITECTURES.
        width: feature maps of the first stage; the paper's 64.
        conv1_size, conv1_stride: edge in voxels and step of the first convolution; `max_pool`: whether a pool follows.
        dropout: in front of the linear layer.
        pretrained: file of the weights it starts from, or its hash (ricenet.networks.pretrained); only `shortcuts`
            may depend on it here.
        pool: what the linear layer of a ResNet sees: `last`, the mean over space of the last stage, or `multi`, mean
            and maximum of every stage.
        inputs: channels to compute from the stored ones; None: none.
        numbers: that are joined to the pooled features (ricenet.networks.late_fusion); they need the channels' names.
        shortcuts: of a ResNet where the number of maps changes: `monai`, a convolution with a bias, or `medicalnet`,
            what MedicalNet trained this depth with. None: medicalnet with `pretrained`, as before it was a key.

    Raises:
        WrongUsage: an unknown architecture, or a setting that it does not have.
    """
    shortcuts = shortcuts or ("monai" if pretrained is None else "medicalnet")
    plain = (architecture, width, conv1_size, conv1_stride, max_pool, dropout, pretrained, pool, shortcuts)
    if isinstance(channels, int):
        if inputs is not None or numbers:
            raise ValueError("computed inputs and numbers need the names of the channels, got how many there are")
        return _build(channels, *plain)
    network = _behind_inputs(channels, inputs, *plain)
    return LateFusion(network, channels, numbers) if numbers else network


def _behind_inputs(channels: Sequence[str], inputs: InputSettings | None, *plain: Any) -> nn.Module:
    computed = None if inputs is None else ComputedInputs(channels, inputs)
    if computed is None or not computed.count:
        return _build(len(channels), *plain)
    return InputNetwork(computed, _build(len(channels) + computed.count, *plain))


def _build(
    channels: int, architecture: str, width: int, conv1_size: int, conv1_stride: int, max_pool: bool, dropout: float,
    pretrained: str | None, pool: str, shortcuts: str,
) -> nn.Module:  # fmt: skip
    for key, value, allowed in (("pool", pool, POOLS), ("shortcuts", shortcuts, SHORTCUTS)):
        if value not in allowed:
            raise WrongUsage(f"model.{key} should be one of {', '.join(allowed)}, got {value!r}")
    if architecture in DENSENETS:
        _require_densenets(architecture, conv1_size, conv1_stride, max_pool, pretrained, pool, shortcuts)
        return DenseNet(
            3, channels, len(LABELS), width, width // 2, tuple(DENSENETS[architecture]), dropout_prob=dropout
        )
    if architecture not in RESNETS:
        raise WrongUsage(f"model.architecture should be one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
    block, layers = RESNETS[architecture]
    network = LeanResNet(
        block=block,
        layers=layers,
        block_inplanes=[width * 2**stage for stage in range(len(layers))],
        spatial_dims=3,
        n_input_channels=channels,
        conv1_t_size=conv1_size,
        conv1_t_stride=conv1_stride,
        no_max_pool=not max_pool,
        num_classes=len(LABELS),
        shortcut_type="A" if shortcuts == "medicalnet" and architecture in _PLAIN_SHORTCUTS else "B",
        bias_downsample=shortcuts == "monai",
    )
    lean_single_voxels(network)
    network.avgpool = nn.Sequential(GlobalMean(), nn.Dropout(dropout))  # type: ignore[assignment]
    if pool == "multi":
        _pool_all_stages(network, dropout)
    return network


def _pool_all_stages(network: LeanResNet, dropout: float) -> None:
    network.multi = True
    network.avgpool = nn.Sequential(StagesPooled(), nn.Dropout(dropout))  # type: ignore[assignment]
    assert network.fc is not None
    last = network.fc.in_features  # of four stages, each twice as wide as the one before
    network.fc = nn.Linear(2 * sum(last // 2**stage for stage in range(4)), len(LABELS))
    nn.init.zeros_(network.fc.bias)


def _require_densenets(
    architecture: str, size: int, stride: int, max_pool: bool, pretrained: str | None, pool: str, shortcuts: str
) -> None:
    differences = []
    if size != 7:
        differences.append(f"model.conv1_size=7, got {size}")
    if stride != 2:
        differences.append(f"model.conv1_stride=2, got {stride}")
    if not max_pool:
        differences.append("model.max_pool=true, got false")
    if pretrained is not None:
        differences.append("model.pretrained=null, got a file")
    if pool != "last":
        differences.append(f"model.pool=last, got {pool}")
    if shortcuts != "monai" and pretrained is None:
        differences.append(f"model.shortcuts=monai, got {shortcuts}")
    if differences:
        raise WrongUsage(
            f"model.architecture={architecture} requires {', '.join(differences)}; use model={architecture}"
        )


def require_size(architecture: str, shape: Sequence[int]) -> None:
    """Refuse volumes of (X, Y, Z) that are smaller than the architecture can halve.

    Raises:
        WrongUsage: saying both sizes.
    """
    if architecture in DENSENETS and min(shape) < DENSENET_SIDE:
        size = " x ".join(map(str, shape))
        raise WrongUsage(
            f"model.architecture={architecture} needs {DENSENET_SIDE} voxels a side, the cases have {size}; "
            "preprocess with a finer spacing_mm, or choose a ResNet"
        )


def network_settings(model: Mapping[str, Any]) -> dict[str, Any]:
    """Of the settings of conf/model those that build_network takes."""
    return {name: value for name, value in model.items() if name not in _NOT_OF_THE_NETWORK}
