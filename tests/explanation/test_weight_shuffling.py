"""Shuffled networks keep their values and lose their arrangement; statistics against torch's own and plain ones."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from ricenet.explanation.weight_shuffling import shuffled
from ricenet.networks.computed_inputs import behind_inputs
from ricenet.networks.input_settings import InputSettings
from ricenet.networks.network import LeanResNet, build_network

TINY: dict[str, Any] = {
    "architecture": "resnet10", "width": 4, "conv1_size": 3, "conv1_stride": 1, "max_pool": True, "dropout": 0.5,
    "pretrained": None,
}  # fmt: skip
DENSE = TINY | {"architecture": "densenet121", "conv1_size": 7, "conv1_stride": 2}


INPUTS = InputSettings(isodoses_gy=(10.0, 60.0), isodose_edge_gy=20.0, difference=True)
RECIPE = TINY | {"pool": "multi", "inputs": INPUTS}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trained(settings: dict[str, Any]) -> nn.Module:
    """A network whose parameters all have distinct entries and whose statistics are those of other volumes."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = build_network(["event", "rd"], **settings)
        for parameter in network.parameters():
            nn.init.normal_(parameter, 0.2 if parameter.ndim == 1 else 0, 0.3)
    with torch.no_grad():
        network(noise(4, 2, 32, 32, 32, seed=9) * 5 + 2)
    return network.eval()


@pytest.fixture(scope="module")
def resnet() -> LeanResNet:
    return trained(TINY)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def densenet() -> nn.Module:
    return trained(DENSE)


@pytest.fixture(scope="module")
def recipe() -> nn.Module:
    return trained(RECIPE)


@pytest.fixture(params=["resnet", "densenet", "recipe"])
def network(request: pytest.FixtureRequest) -> nn.Module:
    return request.getfixturevalue(request.param)


def norms(network: nn.Module) -> list[nn.BatchNorm3d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]


VOLUMES = noise(5, 2, 32, 32, 32)


def test_every_tensor_keeps_its_entries_and_loses_their_order(network: nn.Module) -> None:
    other = shuffled(network, VOLUMES, seed=0)
    for (name, before), (_, after) in zip(network.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values), name
        # two entries stay where they are every other time, and four now and then
        assert before.numel() <= 4 or not torch.equal(before, after), name
        assert before.stride() == after.stride(), name
    assert not torch.allclose(other(VOLUMES[:2]), network(VOLUMES[:2]), atol=0.1)


def test_a_permutation_moves_every_entry_anywhere() -> None:
    """First and last of ten entries over 300 seeds: each of ten places about 30 times."""
    line = nn.Linear(10, 1, bias=False)
    with torch.no_grad():
        line.weight.copy_(torch.arange(10.0))
    drawn = torch.stack([shuffled(line, [], seed).weight[0].long() for seed in range(300)])  # type: ignore[union-attr, operator]
    for place in (0, 9):
        counts = torch.bincount(drawn[:, place], minlength=10)
        assert counts.min() > 12
        assert counts.max() < 55


def test_nothing_else_is_disturbed(network: nn.Module) -> None:
    before = copy.deepcopy(network.state_dict())
    momenta = [norm.momentum for norm in norms(network)]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    other = shuffled(network, VOLUMES, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert [norm.momentum for norm in norms(other)] == momenta
    assert not any(module.training for module in other.modules())
    assert [p.requires_grad for p in other.parameters()] == [p.requires_grad for p in network.parameters()]


def test_seed_decides(resnet: LeanResNet) -> None:
    first, again, other = (shuffled(resnet, VOLUMES, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_dropout_is_inactive_whatever_the_mode_was() -> None:
    network = nn.Sequential(nn.Dropout(0.5), nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4))
    state = torch.get_rng_state()
    training, evaluating = (shuffled(network.train(mode), iter(VOLUMES), seed=0) for mode in (True, False))
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in training.modules())
    for name, tensor in evaluating.state_dict().items():
        assert torch.equal(training.state_dict()[name], tensor), name


@pytest.mark.parametrize("architecture", [TINY, DENSE, RECIPE], ids=["resnet10", "densenet121", "recipe"])
def test_statistics_are_torchs_own(architecture: dict[str, Any]) -> None:
    """torch.optim.swa_utils.update_bn as the other implementation; it wants networks without dropout."""
    network = trained(architecture | {"dropout": 0.0})
    if isinstance(behind_inputs(network), LeanResNet):
        behind_inputs(network).pool_first = False  # update_bn's momentum is None, which the lean stem does not take
    other = shuffled(network, VOLUMES[:4], seed=0)
    theirs = copy.deepcopy(other)
    with torch.no_grad():
        update_bn([VOLUMES[:2], VOLUMES[2:4]], theirs)
    for ours, reference in zip(norms(other), norms(theirs), strict=True):
        torch.testing.assert_close(ours.running_mean, reference.running_mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.running_var, reference.running_var, rtol=1e-4, atol=1e-5)


def test_lean_stem_gives_the_statistics_of_the_plain_one(resnet: LeanResNet) -> None:
    plain = copy.deepcopy(resnet)
    plain.pool_first = False
    for ours, theirs in zip(*(norms(shuffled(one, VOLUMES, seed=0)) for one in (resnet, plain)), strict=True):
        torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-3, atol=1e-4)


def test_normalised_stem_has_mean_zero_and_variance_one_over_all_volumes(resnet: LeanResNet) -> None:
    """Five volumes, ever brighter: a batch of two and one of three, each weighing as many as it has."""
    volumes = VOLUMES * 3 + torch.arange(5).view(5, 1, 1, 1, 1) * 0.1
    other = shuffled(resnet, volumes, seed=0)
    norm: Any = other.bn1
    mapped = functional.conv3d(volumes, other.conv1.weight, None, 1, 1)  # type: ignore[arg-type, union-attr]
    normalised = functional.batch_norm(mapped, norm.running_mean, norm.running_var)
    torch.testing.assert_close(normalised.mean((0, 2, 3, 4)), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(normalised.var((0, 2, 3, 4)), torch.ones(4), rtol=0, atol=0.02)
    stale = functional.batch_norm(mapped, resnet.bn1.running_mean, resnet.bn1.running_var)
    assert (stale.var((0, 2, 3, 4)) - 1).abs().max() > 0.2, "the trained network's statistics would not have fitted"


def test_maps_of_a_single_voxel_take_two_volumes_at_least(resnet: LeanResNet) -> None:
    small = VOLUMES[:3, :, :8, :8, :8]
    other = shuffled(resnet, small, seed=0)
    assert all(torch.isfinite(tensor).all() for tensor in other.state_dict().values())
    assert torch.isfinite(other(small)).all()
    with pytest.raises(ValueError, match=r"expected at least 2 volumes .* got 1; give more cases"):
        shuffled(resnet, small[:1], seed=0)


def test_network_without_batchnorm_reads_no_volume() -> None:
    network = nn.Sequential(nn.Conv3d(2, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(4, 2))
    volumes = iter(VOLUMES)
    other = shuffled(network, volumes, seed=0)
    assert torch.equal(next(volumes), VOLUMES[0])
    assert not torch.equal(other[0].weight, network[0].weight)  # type: ignore[index]
    assert torch.equal(other[0].weight.flatten().sort().values, network[0].weight.flatten().sort().values)  # type: ignore[index]
