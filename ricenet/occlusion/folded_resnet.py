"""Fold the BatchNorms of a trained 3D ResNet into its convolutions, as evaluation mode allows.

Reads the ResNets of ricenet.networks.network and of MONAI: basic and bottleneck blocks, shortcuts of type A and B, a
first convolution of any size and stride, with or without the max-pool.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from monai.networks.nets import ResNet
from torch import Tensor, nn

from ricenet.networks.network import GlobalMean, LeanResNet

_PER_VOXEL = (
    *(nn.Conv3d, nn.BatchNorm3d, nn.ReLU, nn.MaxPool3d, nn.Dropout, nn.Linear),
    *(nn.AdaptiveAvgPool3d, GlobalMean),  # the mean over space at the very end
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
    """A residual block: relu(branch(x) + shortcut(x)), a relu after each convolution of the branch but the last."""

    branch: tuple[Convolution, ...]
    shortcut: Convolution | None  # None: x itself


@dataclass(frozen=True)
class FoldedResNet:
    """relu(stem), a 3^3 max-pool of stride 2 where `pool`, the blocks, the mean over space, the linear layer."""

    stem: Convolution
    pool: bool
    blocks: tuple[Block, ...]
    linear: nn.Linear


def fold(network: nn.Module) -> FoldedResNet | None:
    """`network` as convolutions; None where it is not a ResNet whose every normalisation is per voxel."""
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
    stages: Any = (network.layer1, network.layer2, network.layer3, network.layer4)
    blocks = tuple(_block(block) for stage in stages for block in stage)
    return FoldedResNet(_folded(network.conv1, network.bn1), not network.no_max_pool, blocks, network.fc)


def _is_cubic(conv: nn.Conv3d) -> bool:
    return len(set(conv.kernel_size)) == len(set(conv.stride)) == 1


def _block(block: Any) -> Block:
    names = ("1", "2", "3") if hasattr(block, "conv3") else ("1", "2")
    branch = tuple(_folded(getattr(block, f"conv{name}"), getattr(block, f"bn{name}")) for name in names)
    return Block(branch, _shortcut(block))


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
