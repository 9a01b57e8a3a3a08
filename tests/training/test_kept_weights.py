"""What is kept of a training: the average of the weights, and batch-norm statistics of just these weights."""

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from helpers.small_networks import medicalnet
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ricenet.cohort.folds import read_folds
from ricenet.command.schemas import TrainConfig, compose
from ricenet.training.datamodule import CasesDataModule
from ricenet.training.fit import build_data, build_model
from ricenet.training.kept_weights import AveragedWeights, PreciseBatchNorm, reestimate
from ricenet.training.lightning_module import RiceClassifier

SMALL = ["cases=x", "experiment=smoke", "augmentation=paper", "data.batch_size=5"]


def setup(cases: Path, *overrides: str) -> tuple[lightning.Trainer, RiceClassifier, CasesDataModule]:
    """A trainer that validates, a model of random weights, and the batches."""
    cfg = compose("train", TrainConfig, [*SMALL, *overrides])
    torch.manual_seed(0)
    model, data = build_model(cfg), build_data(cfg, cases, read_folds(cases))
    trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", max_epochs=3)
    trainer.validating = True
    data.trainer = trainer
    return trainer, model.eval(), data


def norms(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    "overrides",
    [[], ["step.pool_first=false"], ["step.recompute_stem=true"], ["step.compile=true"], ["model.pool=multi"]],
)
def test_statistics_are_those_of_torchs_update_bn(phantom_cases: Path, overrides: list[str]) -> None:
    trainer, model, data = setup(phantom_cases, *overrides)
    before = state(model)
    reestimate(trainer, model, data, data.statistics_dataloader())
    assert not any(module.training for module in model.modules())
    assert {norm.momentum for norm in norms(model)} == {0.1}
    plainly = ["step.pool_first=false", "step.recompute_stem=false", "step.compile=false"]
    _, plain, _ = setup(phantom_cases, *overrides, *plainly)
    plain.load_state_dict(before)
    volumes = [data.on_after_batch_transfer(batch, 0)["volume"] for batch in data.statistics_dataloader()]
    torch.optim.swa_utils.update_bn(volumes, plain)
    for ours, theirs in zip(norms(model), norms(plain), strict=True):
        for name in ("running_mean", "running_var"):  # to the rounding of two orders of the stem
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-4, atol=1e-5)
        assert ours.num_batches_tracked == theirs.num_batches_tracked == len(volumes)
    after = state(model)
    assert all(torch.equal(after[name], before[name]) for name, _ in model.named_parameters())


def test_statistics_do_not_depend_on_those_of_before_nor_on_what_was_drawn(phantom_cases: Path) -> None:
    trainer, model, data = setup(phantom_cases, "model.channel_dropout=0.5")
    reestimate(trainer, model, data, data.statistics_dataloader())
    first = state(model)
    for norm in norms(model):
        norm.running_mean.fill_(torch.nan)
    torch.manual_seed(99)
    drawn = torch.rand(1)
    torch.manual_seed(99)
    reestimate(trainer, model, data, data.statistics_dataloader())
    assert torch.equal(torch.rand(1), drawn)  # training goes on with the draws that it would have had
    assert all(torch.equal(tensor, first[name]) for name, tensor in state(model).items())


def test_channels_are_blanked_as_in_training(phantom_cases: Path) -> None:
    """And what a model was trained to be dropped before its linear layer is not."""
    trainer, model, data = setup(phantom_cases, "model.channel_dropout=0.5", "model.dropout=0.9")
    seen: list[torch.Tensor] = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(2).any(2)))
    reestimate(trainer, model, data, data.statistics_dataloader())
    kept = torch.cat(seen).float().mean().item()
    assert 0.35 < kept < 0.8
    assert len(torch.cat(seen)) == sum(len(batch["case"]) for batch in data.statistics_dataloader())


@pytest.mark.parametrize(("every_epoch", "expected"), [(False, [2]), (True, [0, 1, 2])])
def test_the_weights_that_may_be_kept_are_measured_with_their_statistics(
    phantom_cases: Path, monkeypatch: pytest.MonkeyPatch, every_epoch: bool, expected: list[int]
) -> None:
    trainer, model, data = setup(phantom_cases)
    calls: list[int] = []
    monkeypatch.setattr("ricenet.training.kept_weights.reestimate", lambda *_: calls.append(trainer.current_epoch))
    callback = PreciseBatchNorm(data, every_epoch)
    for epoch in range(3):
        trainer.fit_loop.epoch_progress.current.completed = epoch
        trainer.fit_loop.epoch_progress.current.processed = epoch
        callback.on_validation_epoch_start(trainer, model)
    assert calls == expected


class Watching(lightning.Callback):
    """The weights after each step, and those that each epoch is validated with."""

    def __init__(self) -> None:
        self.stepped: list[dict[str, torch.Tensor]] = []
        self.validated: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step > len(self.stepped):
            self.stepped.append(weights(pl_module))

    def on_validation_batch_start(self, trainer: lightning.Trainer, pl_module: Any, *_: Any) -> None:
        if len(self.validated) == trainer.current_epoch:
            self.validated.append(weights(pl_module))


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_average_over_the_steps_is_validated_and_kept_with_its_own_statistics(
    phantom_cases: Path, accumulate: int
) -> None:
    """Against the average computed from the weights after each step; training itself goes on from its own weights."""
    watching = Watching()
    _, model, data = setup(phantom_cases, "optimizer.learning_rate=0.01")
    trainer = lightning.Trainer(
        max_epochs=2, accumulate_grad_batches=accumulate, num_sanity_val_steps=0, logger=False, accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[AveragedWeights(0.8), PreciseBatchNorm(data, every_epoch=False), watching],
    )  # fmt: skip
    trainer.fit(model.train(), datamodule=data)
    steps = len(watching.stepped) // 2
    average = watching.stepped[0]
    for number, stepped in enumerate(watching.stepped[1:], 2):
        if number == steps + 1:
            assert_equal(watching.validated[0], average)
        average = {name: 0.8 * tensor + 0.2 * stepped[name] for name, tensor in average.items()}
    assert_equal(watching.validated[1], average)
    assert_equal(weights(model), average)
    assert not torch.allclose(average["network.conv1.weight"], watching.stepped[-1]["network.conv1.weight"])
    kept = state(model)
    trainer.validating = True
    reestimate(trainer, model, data, data.statistics_dataloader())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in state(model).items())


def assert_equal(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor)


@pytest.mark.parametrize(("freeze", "learned"), [("stem", {"layer1", "layer4", "fc"}), ("all", {"fc"})])
def test_what_is_frozen_stays_bit_for_bit_with_its_statistics(
    phantom_cases: Path, tmp_path: Path, freeze: str, learned: set[str]
) -> None:
    """Through training, averaging of the weights and precise batch norm; everything else moves."""
    medicalnet(tmp_path / "weights.pth")
    keys = ["model=medicalnet", f"model.pretrained={tmp_path}/weights.pth", "model.width=4", "model.conv1_size=3"]
    _, model, data = setup(phantom_cases, *keys, f"pretrained.freeze={freeze}", "optimizer.learning_rate=0.01")
    before = state(model.network)
    trainer = lightning.Trainer(
        max_epochs=2, num_sanity_val_steps=0, logger=False, accelerator="cpu", enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[AveragedWeights(0.8), PreciseBatchNorm(data, every_epoch=True)],
    )  # fmt: skip
    trainer.fit(model.train(), datamodule=data)
    changed = {name for name, tensor in state(model.network).items() if not torch.equal(tensor, before[name])}
    parts = {name.split(".")[0] for name in changed}
    assert learned <= parts
    assert not parts & (
        {"conv1", "bn1"} if freeze == "stem" else {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}
    )
    if freeze == "stem":
        assert {"layer1.0.bn1.running_mean", "layer1.0.bn1.num_batches_tracked"} <= changed
