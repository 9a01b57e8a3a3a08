"""Both engines against plain forward passes, and which networks each of them answers for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_networks import write_weights
from helpers.trained import blanked_logits, noise, normalised_by, require_exact, steep, train, trained
from monai.networks.nets import DenseNet
from torch import nn

from ricenet import MODALITIES
from ricenet.networks.late_fusion import LateFusion, for_case
from ricenet.networks.network import build_network
from ricenet.networks.number_inputs import NumberInput
from ricenet.networks.pretrained import MEDICALNET, TensorNames, load_pretrained
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


@pytest.mark.parametrize("numbers", [False, True], ids=["images", "and numbers"])
def test_both_engines_take_the_same_cubes_and_answer_the_same(numbers: bool) -> None:
    resnet = steep(trained())
    if numbers:
        age = NumberInput(name="age", mean=60.0, scale=10.0, missing=0.0, channels=())
        fused = LateFusion(resnet, MODALITIES[-2:], [age])
        nn.init.normal_(fused.head.weight, generator=torch.Generator().manual_seed(0))
        resnet = for_case(fused.eval(), {"age": 75.0})
        assert prepare(resnet, noise(2, 17, 16, 18)).method == "incremental"
    volume, reference = 3 * noise(2, 17, 16, 18), noise(2, 17, 16, 18, seed=1)
    cubes = find_changes(np.ones((17, 16, 18), bool), positions((17, 16, 18), (7, 7, 7), (5, 9, 6)), (7, 7, 7))
    found = []
    for engine in (PlainEngine(resnet, volume, torch.float32), prepare(resnet, volume)):
        logits = torch.zeros(len(cubes.corner), 2, dtype=torch.double)
        for rows, some in engine.logits(cubes, reference, [1], 5):
            logits[rows] = some
        found.append(logits)
    require_exact(found[1].numpy(), found[0].numpy())


STARTS = [
    ("neuro_simclr", "resnet18", 1, TensorNames("neuro_simclr", "model_state_dict", ("encoder.",))),
    ("brainiac", "resnet50", 2, TensorNames("brainiac", "state_dict", ("backbone.",))),
    ("medicalnet", "resnet18", 2, MEDICALNET),
    ("medicalnet", "resnet50", 2, MEDICALNET),
]


@pytest.mark.parametrize(
    ("source", "architecture", "stride", "names"), STARTS, ids=[f"{start[0]}-{start[1]}" for start in STARTS]
)
def test_networks_that_start_from_others_weights_have_the_exact_fast_maps(
    tmp_path: Path, source: str, architecture: str, stride: int, names: TensorNames
) -> None:
    """Against one plain forward pass for each cube: their shapes of stem, block and shortcut, after a training step."""
    torch.manual_seed(0)
    settings = {"conv1_size": 7, "conv1_stride": stride, "max_pool": True}
    write_weights(tmp_path / "weights.pth", source, architecture, **settings)
    shortcuts = "medicalnet" if source == "medicalnet" else "monai"
    network = build_network(
        ["event", "rd"], architecture, 4, dropout=0.0, pretrained="a hash", shortcuts=shortcuts, **settings
    )
    load_pretrained(network, tmp_path / "weights.pth", names)
    train(network, 2, steps=1)
    network = network.eval()
    volume, reference = 3 * noise(2, 17, 16, 18), noise(2, 17, 16, 18, seed=1)
    with torch.no_grad():  # to logits of about 1
        largest = network(volume[None]).abs().max()
        for parameter in network.fc.parameters():  # type: ignore[union-attr]
            parameter /= largest
    plan = OcclusionPlan((7, 7, 7), (5, 9, 6), batch_size=5)
    (ours,) = occlude([network], volume, reference, {"": [1]}, plan)[""]
    expected = blanked_logits(network, volume, ours.positions, plan.cube, reference, [1]).numpy()
    assert ours.method != "plain"
    require_exact(ours.logits, expected)
    np.testing.assert_allclose(ours.logits, expected, rtol=0, atol=1e-5)
