"""The network is MONAI's ResNet-18 by default; each setting changes what it names; weights reload without pickle."""

import json
from pathlib import Path

import lightning
import pytest
import torch
from monai.networks.nets import resnet18
from safetensors.torch import save_file

from ricenet.config import InvalidInput
from ricenet.model import RiceClassifier, build_network, load_network

PAPER = {"width": 64, "conv1_size": 7, "conv1_stride": 1, "max_pool": True, "dropout": 0.0}
TINY = PAPER | {"width": 4, "conv1_size": 3}


def test_default_is_monais_resnet18() -> None:
    """Same parameter names and shapes, and the same logits with the same weights."""
    ours, theirs = build_network(3, **PAPER), resnet18(spatial_dims=3, n_input_channels=3, num_classes=2)
    ours.load_state_dict(theirs.state_dict())
    volume = torch.randn(1, 3, 16, 16, 16)
    assert torch.equal(ours.eval()(volume), theirs.eval()(volume))


@pytest.mark.parametrize(
    ("setting", "changed"),
    [({"width": 6}, True), ({"conv1_size": 5}, True), ({"conv1_stride": 2}, False), ({"max_pool": False}, False)],
)
def test_each_setting_changes_what_it_names(setting: dict[str, int], changed: bool) -> None:
    plain, other = build_network(2, **TINY), build_network(2, **(TINY | setting))
    shapes = [[p.shape for p in network.parameters()] for network in (plain, other)]
    assert (shapes[0] != shapes[1]) == changed
    if not changed:  # the same weights, another function
        other.load_state_dict(plain.state_dict())
        volume = torch.randn(1, 2, 16, 16, 16)
        assert not torch.allclose(plain.eval()(volume), other.eval()(volume))


def test_dropout_acts_in_training_only() -> None:
    network = build_network(1, **(TINY | {"dropout": 0.5}))
    volume = torch.randn(4, 1, 16, 16, 16)
    network.eval()
    assert torch.equal(network(volume), network(volume))
    network.train()
    assert not torch.equal(network(volume), network(volume))


def write_run(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    record = {
        "modalities": {"name": "rd_event", "channels": ["event", "rd"]},
        "fold": 1,
        "model": {"name": "x", **TINY},
    }
    (folder / "run.json").write_text(json.dumps(record))
    save_file(weights, folder / "weights.safetensors")


def test_weights_reload_to_the_same_answers(tmp_path: Path) -> None:
    network = build_network(2, **TINY).eval()
    write_run(tmp_path, network.state_dict())
    volume = torch.randn(1, 2, 16, 16, 16)
    assert torch.equal(load_network(tmp_path)(volume), network(volume))


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    write_run(tmp_path, build_network(3, **TINY).state_dict())
    with pytest.raises(InvalidInput, match=r"run rd_event fold 1: weights\.safetensors cannot be used"):
        load_network(tmp_path)


def test_non_finite_loss_names_the_cases() -> None:
    module = RiceClassifier(build_network(1, **TINY), 1e-3, 0.0, "constant", seed=0)
    batch = {"volume": torch.full((2, 1, 16, 16, 16), torch.nan), "label": torch.tensor([0, 1]), "case": ["aa", "bb"]}
    with pytest.raises(InvalidInput, match="aa, bb"):
        module.training_step(batch, 0)


@pytest.mark.parametrize(("schedule", "schedulers"), [("constant", 0), ("one_cycle", 1)])
def test_optimiser_is_adam_with_the_schedule_asked_for(schedule: str, schedulers: int) -> None:
    module = RiceClassifier(build_network(1, **TINY), 1e-3, 0.01, schedule, seed=0)
    data = [{"volume": torch.randn(2, 1, 8, 8, 8), "label": torch.tensor([0, 1]), "case": ["a", "b"]}] * 2
    trainer = lightning.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=None))
    assert isinstance(trainer.optimizers[0], torch.optim.Adam)
    assert trainer.optimizers[0].param_groups[0]["weight_decay"] == 0.01
    assert len(trainer.lr_scheduler_configs) == schedulers
