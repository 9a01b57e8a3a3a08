"""Late fusion: numbers of a case joined to the pooled features of a network, in front of its linear layer.

A linear layer of both is the sum of one of each, so the network stays as it is and its logits get those of the numbers.
Whatever is true of the network (fast occlusion, MONAI's names) stays true, and the part of the numbers is exact: with
logits linear in them, weight * (value - mean) is their Shapley value (Lundberg and Lee, NeurIPS 2017, section 4.1).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ricenet import LABELS
from ricenet.networks.number_inputs import NumberInput


class LateFusion(nn.Module):
    """A network with numbers: (B, C, X, Y, Z) volumes and (B, N) numbers in, logits (B, 2) out.

    A number that is missing (nan) is 0 after standardising, the training cases' mean, and an indicator of its own says
    so. The numbers' weights begin at 0: one that never varies in training, such as the indicator of a number that no
    training case lacks, stays without effect.

    Args:
        network: logits of volumes alone.
        channels: of the volumes, in order.
        numbers: how each is standardised, and which channels it is measured on.

    Attributes:
        head: the numbers' part of the linear layer: weights (2, 2 N), of the values, then of the indicators.
    """

    means: Tensor
    scales: Tensor
    measured_on: Tensor

    def __init__(self, network: nn.Module, channels: Sequence[str], numbers: Sequence[NumberInput]) -> None:
        super().__init__()
        self.network = network
        self.numbers = tuple(numbers)
        self.head = nn.Linear(2 * len(numbers), len(LABELS), bias=False)
        nn.init.zeros_(self.head.weight)
        # Settings, not among the weights.
        self.register_buffer("means", torch.tensor([number.mean for number in numbers]), persistent=False)
        self.register_buffer("scales", torch.tensor([number.scale for number in numbers]), persistent=False)
        needed = [[channel in number.channels for channel in channels] for number in numbers]
        self.register_buffer("measured_on", torch.tensor(needed), persistent=False)

    def forward(self, volume: Tensor, numbers: Tensor) -> Tensor:
        return self.network(volume) + self.logits(numbers)

    def logits(self, numbers: Tensor) -> Tensor:
        """The numbers' part: (B, N), nan where missing -> (B, 2)."""
        return self.head(self.features(numbers))

    def features(self, numbers: Tensor) -> Tensor:
        """(B, N) -> (B, 2 N): standardised values, 0 where missing, then 1 where missing."""
        missing = numbers.isnan()
        values = ((numbers - self.means) / self.scales).masked_fill(missing, 0.0)
        return torch.cat([values, missing.to(values.dtype)], dim=1)

    def shown(self, numbers: Tensor, kept: Tensor) -> Tensor:
        """(B, N) with nan where a number is measured on a channel that `kept`, (B, C) or (1, C) bool, leaves out."""
        hidden = (~kept.to(numbers.device)[:, None] & self.measured_on[None]).any(2)
        return numbers.masked_fill(hidden, torch.nan)

    def row(self, values: Mapping[str, float]) -> Tensor:
        """(1, N) of a case's numbers by name; nan where one is not there."""
        numbers = [values.get(number.name, torch.nan) for number in self.numbers]
        return torch.tensor([numbers], dtype=torch.float32, device=self.means.device)

    @torch.no_grad()
    def log_odds(self, values: Mapping[str, float]) -> dict[str, float]:
        """By how much each number moves the log-odds of RICE, in a case with these values: exact Shapley values.

        Against the training cases' mean, of the value (0 after standardising) and of its indicator (their share
        without it); they add up to the log-odds of the case less those with every number at its mean.
        """
        rice = (self.head.weight[1] - self.head.weight[0]).double()
        missing = torch.tensor([number.missing for number in self.numbers], dtype=torch.float64)
        means = torch.cat([torch.zeros_like(missing), missing]).to(rice.device)
        parts = rice * (self.features(self.row(values))[0].double() - means)
        of_number = parts.view(2, -1).sum(0).tolist()
        return {number.name: part for number, part in zip(self.numbers, of_number, strict=True)}


class WithNumbers(nn.Module):
    """A network with numbers for one case: volumes (B, C, X, Y, Z) in, logits out, the case's numbers held fixed.

    Attributes:
        network: logits of volumes alone.
        offset: (2,) logits of the numbers.
    """

    offset: Tensor

    def __init__(self, fused: LateFusion, values: Mapping[str, float]) -> None:
        super().__init__()
        self.network = fused.network
        with torch.no_grad():
            self.register_buffer("offset", fused.logits(fused.row(values))[0], persistent=False)

    def forward(self, volume: Tensor) -> Tensor:
        return self.network(volume) + self.offset


def of_volumes(network: nn.Module) -> nn.Module:
    """The part of `network` that sees volumes: itself, or what its numbers are joined to."""
    return network.network if isinstance(network, LateFusion) else network


def for_case(network: nn.Module, values: Mapping[str, float]) -> nn.Module:
    """`network` as a function of volumes alone, with the case's numbers by name held fixed where it sees numbers."""
    if not isinstance(network, LateFusion):
        return network
    return WithNumbers(network, values).train(network.training)
