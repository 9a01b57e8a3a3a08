"""The tracker of a run besides metrics.csv: a training's config in, a Lightning logger out (TensorBoard, W&B)."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from ricenet.command.schemas import LoggerConfig, TrainConfig


def tracker(choice: LoggerConfig, run: Path, cfg: TrainConfig, fold: str) -> Logger | bool:
    """The tracker chosen besides metrics.csv, which is always written.

    Args:
        fold: name of the run folder, fold<k> or fold<k>-seed<s>.
    """
    if choice.name == "tensorboard":
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(run / "tensorboard", name=cfg.row, version=fold)
    if choice.name == "wandb":
        return _wandb_logger(choice, run, cfg, fold)
    return False


def _wandb_logger(choice: LoggerConfig, run: Path, cfg: TrainConfig, fold: str) -> Logger:
    """One W&B run per run folder, group = row of the grid; nothing of machine, user or the code's place is recorded."""
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    settings = wandb.Settings(
        x_disable_meta=True, x_disable_machine_info=True, x_disable_stats=True, x_save_requirements=False,
        disable_git=True, disable_code=True, console="off", host="anon", silent=True,
    )  # fmt: skip
    private = ("run", "cases", "logger")
    config: dict[str, Any] = {key: value for key, value in asdict(cfg).items() if key not in private}
    del config["model"]["pretrained"]  # a path; run.json has the file's hash
    return WandbLogger(
        name=f"{cfg.row}-{fold}", save_dir=run, offline=not choice.online, project=choice.project, group=cfg.row,
        job_type="train", tags=[cfg.name, cfg.row, *fold.split("-")], config=config, settings=settings,
    )  # fmt: skip


def finish_tracking() -> None:
    """Close the tracker's run: without it, the runs of a grid in one process collapse into one."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()
