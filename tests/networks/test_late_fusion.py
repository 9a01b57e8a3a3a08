"""Late fusion: one linear layer of features and numbers, what is missing, and exact Shapley values."""

from itertools import chain, combinations
from math import factorial

import pytest
import torch
from helpers.small_networks import TINY
from torch import nn

from ricenet.networks.late_fusion import LateFusion, for_case, of_volumes
from ricenet.networks.network import build_network
from ricenet.networks.number_inputs import NumberInput

CHANNELS = ["post", "event", "rd"]
NUMBERS = (
    NumberInput(name="mean_gy", mean=20.0, scale=5.0, missing=0.0, channels=("rd",)),
    NumberInput(name="lesion_ml", mean=3.0, scale=2.0, missing=0.25, channels=("post", "event")),
    NumberInput(name="age", mean=60.0, scale=10.0, missing=0.5, channels=()),
)
CASE = {"mean_gy": 31.0, "age": 40.0}  # no lesion_ml
NAN = float("nan")


@pytest.fixture
def fused() -> LateFusion:
    """With weights of its own for every number and every indicator."""
    torch.manual_seed(0)
    network = build_network(CHANNELS, numbers=NUMBERS, **TINY)
    assert isinstance(network, LateFusion)
    nn.init.normal_(network.head.weight)
    return network.eval()


def test_a_linear_layer_of_pooled_features_and_standardised_numbers(fused: LateFusion) -> None:
    volume, numbers = torch.randn(2, 3, 16, 16, 16), torch.tensor([[31.0, NAN, 40.0], [20.0, 5.0, NAN]])
    pooled = []
    fused.network.fc.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    logits = fused(volume, numbers)

    by_hand = torch.tensor([[2.2, 0.0, -2.0, 0, 1, 0], [0.0, 1.0, 0.0, 0, 0, 1]])
    weight = torch.cat([fused.network.fc.weight, fused.head.weight], dim=1)
    joined = nn.functional.linear(torch.cat([pooled[0], by_hand], dim=1), weight, fused.network.fc.bias)
    assert torch.allclose(logits, joined, atol=1e-5)


def test_numbers_begin_without_effect_and_one_that_never_varies_stays_so() -> None:
    network = build_network(CHANNELS, numbers=NUMBERS, **TINY)
    plain = of_volumes(network).eval()
    volume, numbers = torch.randn(4, 3, 16, 16, 16), torch.tensor([[20.0, 5.0, 60.0]] * 4)
    assert torch.equal(network.eval()(volume, numbers), plain(volume))

    network(volume, numbers).square().sum().backward()
    gradient = network.head.weight.grad
    assert gradient[:, 1].abs().min() > 0  # lesion_ml is off its mean
    assert not gradient[:, [0, 2, 3, 4, 5]].any()  # at their means, and none is missing


def test_a_number_is_shown_with_all_channels_that_it_is_measured_on(fused: LateFusion) -> None:
    numbers = torch.tensor([[1.0, 2.0, 3.0]] * 3)
    kept = torch.tensor([[True, True, False], [True, False, True], [True, True, True]])
    expected = [[True, False, False], [False, True, False], [False, False, False]]
    assert fused.shown(numbers, kept).isnan().tolist() == expected


def test_log_odds_are_shapley_values_of_the_linear_layer(fused: LateFusion) -> None:
    rice = (fused.head.weight[1] - fused.head.weight[0]).detach().double()

    def log_odds(known: tuple[int, ...]) -> float:
        """With the case's value of the known numbers, and the training cases' mean of the others."""
        features = fused.features(fused.row(CASE))[0].double()
        means = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.25, 0.5], dtype=torch.float64)
        taken = [number in known for number in range(3)] * 2
        return float(rice @ torch.where(torch.tensor(taken), features, means))

    parts = fused.log_odds(CASE)
    for number, name in enumerate(parts):
        others = [other for other in range(3) if other != number]
        subsets = chain.from_iterable(combinations(others, size) for size in range(3))
        value = sum(
            factorial(len(subset)) * factorial(2 - len(subset)) / factorial(3)
            * (log_odds((*subset, number)) - log_odds(subset))
            for subset in subsets
        )  # fmt: skip
        assert parts[name] == pytest.approx(value, abs=1e-6)
    assert sum(parts.values()) == pytest.approx(log_odds((0, 1, 2)) - log_odds(()), abs=1e-6)


def test_with_a_cases_numbers_held_fixed_it_is_a_function_of_volumes(fused: LateFusion) -> None:
    volume = torch.randn(2, 3, 16, 16, 16)
    alone = for_case(fused, CASE)
    assert not alone.training
    assert torch.allclose(alone(volume), fused(volume, torch.tensor([[31.0, NAN, 40.0]] * 2)), atol=1e-6)
    assert for_case(fused.network, CASE) is fused.network


def test_its_weights_are_those_of_the_network_and_of_the_numbers(fused: LateFusion) -> None:
    names = fused.state_dict().keys()
    assert {name for name in names if not name.startswith("network.")} == {"head.weight"}
