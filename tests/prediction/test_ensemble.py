"""An ensemble's prediction against networks whose probabilities are known, and a table made by hand."""

import math

import pytest
import torch
from torch import nn

from ricenet.errors import InvalidInput
from ricenet.prediction.ensemble import fold_logits, probabilities, summarise


class Fixed(nn.Module):
    """Predicts with the log odds `odds` of RICE, plus what the volume sums to; other numbers while it is trained."""

    def __init__(self, odds: float) -> None:
        super().__init__()
        self.odds = odds

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        odds = self.odds + volume.sum(dim=(1, 2, 3, 4))
        return torch.stack([torch.zeros_like(odds), odds + 100 * self.training], dim=1)


def test_probabilities_are_the_logistic_of_the_log_odds() -> None:
    volume = torch.zeros(2, 3, 3, 3)
    volume[1, 0, 0, 0] = 0.5
    found = probabilities(fold_logits([Fixed(odds).eval() for odds in (-1.0, 0.0, 2.0)], volume))
    assert found == pytest.approx([1 / (1 + math.exp(-odds - 0.5)) for odds in (-1.0, 0.0, 2.0)], abs=1e-6)


def test_a_probability_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not finite"):
        probabilities(fold_logits([Fixed(math.nan).eval()], torch.zeros(1, 2, 2, 2)))


@pytest.mark.parametrize(
    ("folds", "predicted", "votes", "vote", "spread"),
    [
        ([0.9, 0.8, 0.1], "rice", (1, 2), "rice", math.sqrt(0.19)),
        ([0.6, 0.6, 0.1], "recurrence", (1, 2), "rice", math.sqrt(0.25 / 3)),
        ([0.9, 0.3], "rice", (1, 1), "rice", math.sqrt(0.18)),  # a tie goes to the mean
        ([0.6, 0.1], "recurrence", (1, 1), "recurrence", math.sqrt(0.125)),
        ([0.2], "recurrence", (1, 0), "recurrence", None),
    ],
)
def test_folds_are_summed_up_as_by_hand(
    folds: list[float], predicted: str, votes: tuple[int, int], vote: str, spread: float | None
) -> None:
    found = summarise(folds, None)
    assert found.probability == pytest.approx(sum(folds) / len(folds))
    assert (found.predicted, found.vote) == (predicted, vote)
    assert found.votes == {"recurrence": votes[0], "rice": votes[1]}
    assert found.spread == (None if spread is None else pytest.approx(spread))
    assert found.calibrated is None
