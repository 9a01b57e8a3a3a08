"""For tests: narrow networks as training leaves them, and what they answer for cubes blanked one by one."""

import copy
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from monai.networks.nets import ResNet
from torch import Tensor, nn
from torch.nn import functional

from ricenet import MODALITIES
from ricenet.networks.computed_inputs import behind_inputs
from ricenet.networks.input_settings import InputSettings
from ricenet.networks.network import build_network

COMPUTED = InputSettings(isodoses_gy=(10.0, 60.0), isodose_edge_gy=20.0, difference=True)


@cache
def trained(
    channels: int = 2,
    architecture: str = "resnet18",
    width: int = 4,
    conv1_size: int = 7,
    conv1_stride: int = 1,
    max_pool: bool = True,
    shortcut: str = "B",
    steps: int = 4,
    pool: str = "last",
    computed: bool = False,
) -> nn.Module:
    """A few real training steps, BatchNorm scales of both signs, then eval mode. Shared: copy it before changing it.

    One step is enough where only equality counts: it moves the weights, and the statistics half of the way.

    Args:
        channels: up to three are called after their number: [rd], [event, rd], [post, event, rd].
        computed: whether the network has every computed channel that these can have.
    """
    weights = "MedicalNet's" if shortcut == "A" else None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(
            MODALITIES[-channels:], architecture, width, conv1_size, conv1_stride, max_pool, 0.1, weights, pool,
            COMPUTED if computed else None,
        )  # fmt: skip
        train(network, channels, steps)
    return network.eval()


def train(network: nn.Module, channels: int, steps: int = 4) -> None:
    """In place, from scales and shifts of BatchNorm at random."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm3d):
            layer.momentum = 0.5  # so that a few steps move the statistics
            nn.init.uniform_(layer.weight, -1.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.3)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        volumes = 2 * torch.randn(4, channels, 20, 18, 16) + 0.5
        functional.cross_entropy(network(volumes), torch.tensor([0, 1, 0, 1])).backward()
        optimiser.step()


@torch.inference_mode()
def blanked_logits(
    network: nn.Module,
    volume: Tensor,
    corners: np.ndarray,
    edge: Sequence[int],
    reference: Tensor,
    channels: Sequence[int],
) -> Tensor:
    """(P, K) float64: `network`'s own forward pass for each copy of the volume with one cube blanked, 8 at a time."""
    answers = []
    for lows in np.array_split(corners, range(8, len(corners), 8)):
        blanked = torch.stack([volume] * len(lows))
        for copied, low in zip(blanked, lows.tolist(), strict=True):
            for channel in channels:
                part = (channel, *(slice(start, start + length) for start, length in zip(low, edge, strict=True)))
                copied[part] = reference[part]
        answers.append(network(blanked).double())
    return torch.cat(answers)


def normalised_by(layer: nn.Module) -> nn.Module:
    """A ResNet with `layer` in the place of one of its BatchNorms."""
    network = ResNet("basic", [1, 1, 1, 1], [4, 8, 16, 32], n_input_channels=2, num_classes=2)
    train(network, 2)
    network.layer2[0].bn2 = layer  # type: ignore[index,assignment]
    return network.eval()


def steep(network: nn.Module) -> nn.Module:
    """A copy with probabilities that vary."""
    network = copy.deepcopy(network)
    with torch.no_grad():
        behind_inputs(network).fc.weight.mul_(4)  # type: ignore[union-attr,operator]
    return network


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def require_exact(found: np.ndarray, expected: np.ndarray) -> None:
    """To 1e-4 of the range of the logits."""
    spread = np.ptp(expected, axis=0).max()
    assert spread > 1e-3 * np.abs(expected).max(), "logits that hardly vary would prove nothing"
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * spread)
