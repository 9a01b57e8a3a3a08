"""Fold the BatchNorms of a trained 3D ResNet into its convolutions, as evaluation mode allows.

Reads the ResNets of ricenet.networks.network and of MONAI: basic and bottleneck blocks, shortcuts of type A and B, a
first convolution of any size and stride, with or without the max-pool, the mean of the last stage or mean and maximum
of all, computed inputs in front, and a case's numbers, held fixed, beside what is pooled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from monai.networks.nets import ResNet
from torch import Tensor, nn

from ricenet.networks.computed_inputs import ComputedInputs, InputNetwork
from ricenet.networks.late_fusion import WithNumbers
from ricenet.networks.network import GlobalMean, LeanResNet, StagesPooled

_PER_VOXEL = (
    *(nn.Conv3d, nn.BatchNorm3d, nn.ReLU, nn.MaxPool3d, nn.Dropout, nn.Linear),
    *(nn.AdaptiveAvgPool3d, GlobalMean, StagesPooled),  # over space, at the very end
)


@dataclass(frozen=True)
class Convolution:
    """A convolution with a cubic kernel, padded by half of it.

    Attributes:
        weight: (out, in, k, k, k) float32. bias: (out,) float32.
        step: its stride.
    """

    weight: Tensor
    bias: Tensor
    step: int

    @property
    def kernel(self) -> int:
        return self.weight.shape[-1]

    @property
    def padding(self) -> int:
        return self.kernel // 2


@dataclass(frozen=True)
class Block:
    """A residual block: relu(branch(x) + shortcut(x)), a relu after each convolution of the branch but the last.

    Attributes:
        shortcut: None: x itself.
        pooled: what the linear layer sees of the block's output, over space: "mean", or "mean and maximum"; None:
            nothing.
    """

    branch: tuple[Convolution, ...]
    shortcut: Convolution | None
    pooled: Literal["mean", "mean and maximum"] | None


@dataclass(frozen=True)
class FoldedResNet:
    """Computed inputs if any, relu(stem), a 3^3 max-pool of stride 2 where `pool`, the blocks, the linear layer.

    The linear layer sees what is pooled of the blocks' outputs, one after the other.
    """

    inputs: ComputedInputs | None
    stem: Convolution
    pool: bool
    blocks: tuple[Block, ...]
    linear: nn.Linear


def fold(model: nn.Module) -> FoldedResNet | None:
    """`model` as convolutions; None where it is not a ResNet whose every normalisation is per voxel."""
    offset = model.offset if type(model) is WithNumbers else None
    model = model.network if isinstance(model, WithNumbers) else model
    network: Any = model.network if type(model) is InputNetwork else model
    if type(network) not in (ResNet, LeanResNet):  # the forward pass of a subclass may be another
        return None
    if not isinstance(network.fc, nn.Linear) or network.fc.bias is None:
        return None
    layers = [layer for layer in network.modules() if not list(layer.children())]
    if not all(isinstance(layer, _PER_VOXEL) for layer in layers):
        return None  # an InstanceNorm or squeeze-excitation looks at the whole map: one changed voxel changes it all
    if any(isinstance(layer, nn.BatchNorm3d) and not (layer.affine and layer.track_running_stats) for layer in layers):
        return None  # the statistics of the batch itself, or nothing to fold
    if any(isinstance(layer, nn.Conv3d) and not _is_cubic(layer) for layer in layers):
        return None
    inputs = model.inputs if isinstance(model, InputNetwork) else None
    linear = network.fc if offset is None else _shifted(network.fc, offset)
    return FoldedResNet(
        inputs, _folded(network.conv1, network.bn1), not network.no_max_pool, tuple(_blocks(network)), linear
    )


@torch.no_grad()
def _shifted(linear: nn.Linear, offset: Tensor) -> nn.Linear:
    """`linear` + offset (K,), in double precision: a layer of its own with the same weights."""
    shifted = nn.Linear(linear.in_features, linear.out_features).to(linear.weight.device)
    shifted.weight = linear.weight
    shifted.bias = nn.Parameter(linear.bias.double() + offset.double())
    return shifted


def _blocks(network: ResNet) -> Iterator[Block]:
    multi = isinstance(network, LeanResNet) and network.multi
    stages: Any = (network.layer1, network.layer2, network.layer3, network.layer4)
    for stage in stages:
        for block in stage:
            pooled: Literal["mean", "mean and maximum"] | None = None
            if multi and block is stage[-1]:
                pooled = "mean and maximum"
            elif block is network.layer4[-1]:
                pooled = "mean"
            yield _block(block, pooled)


def _is_cubic(conv: nn.Conv3d) -> bool:
    return len(set(conv.kernel_size)) == len(set(conv.stride)) == 1


def _block(block: Any, pooled: Literal["mean", "mean and maximum"] | None) -> Block:
    names = ("1", "2", "3") if hasattr(block, "conv3") else ("1", "2")
    branch = tuple(_folded(getattr(block, f"conv{name}"), getattr(block, f"bn{name}")) for name in names)
    return Block(branch, _shortcut(block), pooled)


def _shortcut(block: Any) -> Convolution | None:
    if block.downsample is None:
        return None
    if isinstance(block.downsample, partial):  # kind A: every step-th voxel, zeros as further channels
        planes, step = block.downsample.keywords["planes"], block.downsample.keywords["stride"]
        weight = torch.eye(planes, block.conv1.in_channels).view(planes, -1, 1, 1, 1)
        return Convolution(weight.to(block.conv1.weight), torch.zeros(planes).to(block.conv1.weight), step)
    return _folded(*block.downsample)


@torch.no_grad()
def _folded(conv: Any, norm: Any) -> Convolution:
    """norm(conv(x)) in evaluation mode as one convolution, folded in double precision."""
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = norm.bias.double() - norm.running_mean.double() * scale
    if conv.bias is not None:
        bias += conv.bias.double() * scale
    weight = conv.weight.double() * scale.view(-1, 1, 1, 1, 1)
    return Convolution(weight.float(), bias.float(), conv.stride[0])
