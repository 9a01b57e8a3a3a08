"""Both engines against plain forward passes, and which networks each of them answers for."""

import numpy as np
import pytest
import torch
from helpers.trained import blanked_logits, noise, normalised_by, require_exact, steep, train, trained
from monai.networks.nets import DenseNet
from torch import nn

from ricenet.occlusion.engines import PlainEngine, prepare
from ricenet.occlusion.receptive_windows import find_changes
from ricenet.occlusion.sensitivity import OcclusionPlan, occlude, positions


def test_networks_that_look_at_the_whole_map_are_answered_plainly() -> None:
    torch.manual_seed(0)
    require_plain(normalised_by(nn.InstanceNorm3d(8, affine=True)), 5)


def test_normalisation_that_mixes_the_cubes_of_a_batch_is_refused() -> None:
    volume = noise(2, 17, 16, 18)
    with pytest.raises(ValueError, match="without running statistics"):
        prepare(normalised_by(nn.BatchNorm3d(8, track_running_stats=False)), volume)
    half_trained = normalised_by(nn.BatchNorm3d(8))
    half_trained.layer3.train()
    with pytest.raises(ValueError, match="training mode"):
        prepare(half_trained, volume)


def test_densenet_is_answered_plainly() -> None:
    torch.manual_seed(0)
    network = DenseNet(3, 2, 2, 8, 4, (2, 2))
    train(network, 2)
    require_plain(network.eval(), 5)


def require_plain(network: nn.Module, batch_size: int) -> None:
    volume, reference = 3 * noise(2, 17, 16, 18), noise(2, 17, 16, 18, seed=1)
    plan = OcclusionPlan((7, 7, 7), (5, 9, 6), batch_size=batch_size)
    (found,) = occlude([network], volume, reference, {"": [1]}, plan)[""]
    expected = blanked_logits(network, volume, found.positions, plan.cube, reference, [1]).numpy()
    assert found.method == "plain"
    require_exact(found.logits, expected)
    np.testing.assert_allclose(found.baseline, network(volume[None])[0].detach().numpy(), rtol=0, atol=1e-5)


def test_both_engines_take_the_same_cubes_and_answer_the_same() -> None:
    resnet = steep(trained())
    volume, reference = 3 * noise(2, 17, 16, 18), noise(2, 17, 16, 18, seed=1)
    cubes = find_changes(np.ones((17, 16, 18), bool), positions((17, 16, 18), (7, 7, 7), (5, 9, 6)), (7, 7, 7))
    found = []
    for engine in (PlainEngine(resnet, volume, torch.float32), prepare(resnet, volume)):
        logits = torch.zeros(len(cubes.corner), 2, dtype=torch.double)
        for rows, some in engine.logits(cubes, reference, [1], 5):
            logits[rows] = some
        found.append(logits)
    require_exact(found[1].numpy(), found[0].numpy())
