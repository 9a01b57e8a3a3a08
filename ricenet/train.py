"""Train one fold of one modality set: a cases folder in, a run folder out.

Run: python -m ricenet.train cases=DIR +modalities=rd_event fold=0

A grid is a multirun: python -m ricenet.train -m '+modalities=glob(*)' 'fold=range(5)'. What is finished is skipped.
"""

import logging
import os
import signal
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ricenet.config import LoggerConfig, TrainConfig, WrongUsage
from ricenet.stage import EXIT_SIGTERM, stage

if TYPE_CHECKING:
    import lightning
    from lightning.pytorch.loggers import Logger

    from ricenet.datamodule import CasesDataModule
    from ricenet.folds import Folds
    from ricenet.model import RiceClassifier

log = logging.getLogger(__name__)


@stage("train", TrainConfig)
def main(cfg: TrainConfig) -> None:
    """Train the fold and modality set that the config names."""
    _check(cfg)
    train(cfg)


def train(cfg: TrainConfig) -> None:
    """Claim the run folder, train, predict the validation and test cases, mark the run finished."""
    from ricenet import runs
    from ricenet.folds import read_folds

    cases, run = Path(cfg.cases), Path(cfg.run)
    folds = read_folds(cases)
    folds.require_fold(cfg.fold)
    folder = runs.run_folder(run, cfg.modalities.name, cfg.fold)
    # A run is kept relative to its grid: no absolute path of the user's stands in any output.
    settings = asdict(cfg) | {"run": ".", "cases": os.path.relpath(cases, run)}
    hashes = {"folds_hash": folds.hash, "case_hash": runs.case_hash(cases, folds)}
    if not runs.claim(folder, settings, hashes):
        log.info("%s fold %d is finished already", cfg.modalities.name, cfg.fold)
        return
    started = time.monotonic()
    _train(cfg, cases, folds, folder)
    record = {
        "status": "done",
        "modalities": asdict(cfg.modalities),
        "fold": cfg.fold,
        "n_folds": folds.n_folds,
        "seed": cfg.seed,
        "epochs": cfg.epochs,
        "checkpoint": cfg.checkpoint,
        "model": asdict(cfg.model),
        "cases": settings["cases"],
        **hashes,
        "versions": runs.provenance(),
        "elapsed_s": round(time.monotonic() - started, 1),
    }
    runs.finish(folder, record)
    log.info("%s fold %d finished in %.0f s", cfg.modalities.name, cfg.fold, record["elapsed_s"])


def _check(cfg: TrainConfig) -> None:
    """Refuse values that no later step could make sense of, before anything heavy is loaded."""
    choices = {
        "checkpoint": (cfg.checkpoint, ("last", "best")),
        "optimizer.schedule": (cfg.optimizer.schedule, ("constant", "one_cycle")),
        "logger.name": (cfg.logger.name, ("csv", "tensorboard", "wandb")),
    }
    for key, (value, allowed) in choices.items():
        if value not in allowed:
            raise WrongUsage(f"{key} should be one of {', '.join(allowed)}, got {value!r}")
    for key, number in {
        "epochs": cfg.epochs,
        "data.batch_size": cfg.data.batch_size,
        "model.width": cfg.model.width,
    }.items():
        if number < 1:
            raise WrongUsage(f"{key} should be at least 1, got {number}")


def _train(cfg: TrainConfig, cases: Path, folds: "Folds", folder: Path) -> None:
    import lightning
    import torch
    from safetensors.torch import save_file

    from ricenet.augment import Augmentation
    from ricenet.datamodule import CasesDataModule
    from ricenet.model import RiceClassifier, build_network

    _quiet_lightning()
    if cfg.trainer.threads:
        torch.set_num_threads(cfg.trainer.threads)
    lightning.seed_everything(cfg.seed, verbose=False)
    strengths = {name: value for name, value in asdict(cfg.augmentation).items() if name != "name"}
    data = CasesDataModule(
        cases, folds, cfg.fold, cfg.modalities.channels,
        None if cfg.augmentation.name == "none" else Augmentation(**strengths),
        cfg.data.batch_size, cfg.data.workers, cfg.seed,
    )  # fmt: skip
    shape = {name: value for name, value in asdict(cfg.model).items() if name != "name"}
    network = build_network(len(cfg.modalities.channels), **shape)
    model = RiceClassifier(network, **asdict(cfg.optimizer), seed=cfg.seed)
    trainer = _trainer(cfg, folder)
    _fit(trainer, model, data, folder)
    if cfg.checkpoint == "best":
        best = torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)
        model.load_state_dict(best["state_dict"])
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.network.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    _predict(trainer, model, data, folder)


def _quiet_lightning() -> None:
    """Leave warnings that a user can act on; Lightning prints each of its own lines twice under Hydra's logging."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.WARNING)
    for harmless in (".*LeafSpec.*", "Checkpoint directory .* exists", ".*does not have many workers.*"):
        warnings.filterwarnings("ignore", message=harmless)


def _fit(trainer: "lightning.Trainer", model: "RiceClassifier", data: "CasesDataModule", folder: Path) -> None:
    """Fit from the last epoch border, and turn Lightning's quiet ends after a signal into the shell's exit codes."""
    last = folder / "last.ckpt"
    if last.is_file():
        log.info("%s %s: going on from its last checkpoint", folder.parent.name, folder.name)
    try:
        trainer.fit(model, datamodule=data, ckpt_path=last if last.is_file() else None, weights_only=True)
    except SystemExit:  # Lightning's answer to a signal
        sys.exit(EXIT_SIGTERM if trainer.received_sigterm else 128 + signal.SIGINT)
    finally:
        for logger in trainer.loggers:
            logger.finalize("success")
        _finish_wandb()
    if trainer.received_sigterm:
        sys.exit(EXIT_SIGTERM)


def _finish_wandb() -> None:
    """Close the tracker's run: without it, the runs of a grid in one process collapse into one."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()


def _trainer(cfg: TrainConfig, folder: Path) -> "lightning.Trainer":
    import lightning
    from lightning.pytorch.callbacks import Callback, ModelCheckpoint

    from ricenet.checkpoint import MetricsTable, SafeCheckpointIO

    callbacks: list[Callback] = [
        ModelCheckpoint(
            folder, filename="last", every_n_epochs=cfg.checkpoint_every, save_top_k=1, enable_version_counter=False
        ),
        MetricsTable(folder / "metrics.csv"),
    ]
    if cfg.checkpoint == "best":
        callbacks.append(
            ModelCheckpoint(folder, filename="best", monitor="val/macro_f1", mode="max", enable_version_counter=False)
        )
    return lightning.Trainer(
        accelerator=cfg.trainer.accelerator,
        devices=cfg.trainer.devices,
        precision=cfg.trainer.precision,  # type: ignore[arg-type]  # Lightning checks it
        max_epochs=cfg.epochs,
        limit_train_batches=cfg.trainer.limit_batches,
        enable_progress_bar=cfg.trainer.progress,
        enable_model_summary=False,
        deterministic="warn",
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        callbacks=callbacks,
        plugins=[SafeCheckpointIO()],
        logger=_logger(cfg.logger, Path(cfg.run), cfg),
    )


def _logger(choice: LoggerConfig, run: Path, cfg: TrainConfig) -> "Logger | bool":
    """The tracker chosen besides metrics.csv, which is always written."""
    name = f"{cfg.modalities.name}-fold{cfg.fold}"
    if choice.name == "tensorboard":
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(run / "tensorboard", name=cfg.modalities.name, version=f"fold{cfg.fold}")
    if choice.name == "wandb":
        return _wandb_logger(choice, run, cfg, name)
    return False


def _wandb_logger(choice: LoggerConfig, run: Path, cfg: TrainConfig, name: str) -> "Logger":
    """One W&B run per fold, group = modality set; nothing about machine, user or the code's place is recorded."""
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    settings = wandb.Settings(
        x_disable_meta=True, x_disable_machine_info=True, x_disable_stats=True, x_save_requirements=False,
        disable_git=True, disable_code=True, console="off", host="anon", silent=True,
    )  # fmt: skip
    private = ("run", "cases", "logger")
    config: dict[str, Any] = {key: value for key, value in asdict(cfg).items() if key not in private}
    return WandbLogger(
        name=name, save_dir=run, offline=not choice.online, project=choice.project, group=cfg.modalities.name,
        job_type="train", tags=[cfg.name, cfg.modalities.name, f"fold{cfg.fold}"], config=config, settings=settings,
    )  # fmt: skip


def _predict(trainer: "lightning.Trainer", model: "RiceClassifier", data: "CasesDataModule", folder: Path) -> None:
    import torch

    from ricenet import runs

    batches: Any = trainer.predict(model, dataloaders=data.predict_dataloader())
    logits = torch.cat([batch_logits for _, batch_logits in batches]).cpu()
    table = [(case, "val") for case in data.validation] + [(case, "test") for case in data.held_out]
    rows = [
        {
            "case_key": case.case_key,
            "patient_key": case.patient_key,
            "split": split,
            "label": case.label,
            "logit_recurrence": pair[0].item(),
            "logit_rice": pair[1].item(),
            "prob_rice": pair.softmax(0)[1].item(),
        }
        for (case, split), pair in zip(table, logits, strict=True)
    ]
    runs.write_predictions(folder, rows)


if __name__ == "__main__":
    main()
