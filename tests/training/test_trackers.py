"""The tracker of a run: grouped by its row of the grid, and told no path of the user's."""

from pathlib import Path

import pytest
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from ricenet.command.schemas import TrainConfig, compose
from ricenet.training.trackers import finish_tracking, tracker

ONE_MODEL = ["model=modality_dropout"]
SHUFFLED = ["control=shuffled_labels"]


def config(*overrides: str) -> TrainConfig:
    return compose("train", TrainConfig, ["cases=/secret/cases", "fold=2", *overrides])


def test_without_one_there_is_metrics_csv_alone(tmp_path: Path) -> None:
    cfg = config()
    assert tracker(cfg.logger, tmp_path, cfg, "fold2") is False


@pytest.mark.parametrize(
    ("overrides", "row"),
    [(["+modalities=rd"], "rd"), (ONE_MODEL, "modality_dropout"), (SHUFFLED, "rd_post_event-shuffled_labels")],
)
def test_tensorboard_has_a_folder_for_each_fold_of_each_row(tmp_path: Path, overrides: list[str], row: str) -> None:
    cfg = config("logger=tensorboard", *overrides)
    found = tracker(cfg.logger, tmp_path, cfg, "fold2")
    assert isinstance(found, TensorBoardLogger)
    assert Path(found.log_dir) == tmp_path / "tensorboard" / row / "fold2"


@pytest.mark.process
@pytest.mark.parametrize(
    ("overrides", "row"), [(["+modalities=rd"], "rd+medicalnet"), (ONE_MODEL, "modality_dropout+medicalnet")]
)
def test_wandb_groups_by_row_and_learns_no_path(tmp_path: Path, overrides: list[str], row: str) -> None:
    cfg = config("logger=wandb", "model.pretrained=/secret/weights.pth", *overrides)
    found = tracker(cfg.logger, tmp_path, cfg, "fold2-seed1")
    try:
        assert isinstance(found, WandbLogger)
        assert (found.experiment.group, found.experiment.name) == (row, f"{row}-fold2-seed1")
        assert {"fold2", "seed1"} <= set(found.experiment.tags)
        told = dict(found.experiment.config)
    finally:
        finish_tracking()
    assert told["optimizer"]["learning_rate"] == 1e-4
    assert "secret" not in str(told)
