"""The work of one training: its config in, weights.safetensors and predictions.csv in the run folder out."""

import logging
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from safetensors.torch import save

from ricenet.cases.crop import SOURCE_WORDS
from ricenet.cohort.folds import Folds, lacking
from ricenet.command.atomic import replace_file
from ricenet.command.schemas import TrainConfig, TrainerConfig
from ricenet.errors import WrongUsage
from ricenet.networks.computed_inputs import behind_inputs
from ricenet.networks.input_settings import InputSettings
from ricenet.networks.late_fusion import of_volumes
from ricenet.networks.network import LeanResNet, build_network, network_settings, require_size
from ricenet.networks.pretrained import PretrainedPart, TensorNames, load_pretrained, pretrained_part
from ricenet.training import run_folder
from ricenet.training.augmentation import Augmentation
from ricenet.training.checkpoint import (
    BEST,
    LastValidation,
    MetricsTable,
    Ownership,
    Progress,
    SafeCheckpointIO,
    read_checkpoint,
    resumable,
)
from ricenet.training.datamodule import Augmenting, CasesDataModule, steps_per_epoch
from ricenet.training.fused_numbers import SeenNumbers
from ricenet.training.kept_weights import AveragedWeights, PreciseBatchNorm
from ricenet.training.lightning_module import RiceClassifier
from ricenet.training.predictions import (
    BY_SET,
    PREDICTIONS,
    PredictionRow,
    sets_shown,
    write_predictions,
    write_predictions_by_set,
)
from ricenet.training.run_record import crop_of
from ricenet.training.trackers import finish_tracking, tracker

log = logging.getLogger(__name__)


def fit(
    cfg: TrainConfig,
    cases: Path,
    folds: Folds,
    folder: Path,
    owner: str,
    number: int,
    numbers: SeenNumbers | None = None,
) -> None:
    """Train from the last epoch border, write the weights, and the predictions for the validation and test cases.

    Args:
        folder: the run folder, held by this process.
        owner: the run that its checkpoints belong to (runs.owner).
        number: of this run in its grid, by which it gets its GPU.
        numbers: of the cases that the network sees; None: none.
    """
    _quiet_lightning()
    if cfg.trainer.threads:
        torch.set_num_threads(cfg.trainer.threads)
    lightning.seed_everything(cfg.seed, verbose=False)
    data = build_data(cfg, cases, folds, numbers)
    _tell_places(data, folder)
    _tell_left_out(numbers, folder)
    model = build_model(cfg, numbers)
    require_size(cfg.model.architecture, data.volumes.shape)
    _run_epochs(_trainer(cfg, data, folder, owner, number), model, data, resumable(folder, owner))
    if cfg.checkpoint == "best":
        model.load_state_dict(read_checkpoint(folder / BEST)["state_dict"])
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.network.state_dict().items()}
    with run_folder.writing(folder, "weights.safetensors"):
        replace_file(folder / "weights.safetensors", save(weights))
    _predict(cfg, model, data, folder, number)


def _tell_places(data: CasesDataModule, folder: Path) -> None:
    """Log around what the cases are cropped."""
    counts = Counter(SOURCE_WORDS[place.source] for place in data.places)
    if counts:
        places = "; ".join(f"{words} ({n} cases)" for words, n in counts.most_common())
        log.info("%s %s: cropped around %s", folder.parent.name, folder.name, places)


def _tell_left_out(numbers: SeenNumbers | None, folder: Path) -> None:
    if numbers is not None and numbers.inputs.left_out:
        left_out = ", ".join(numbers.inputs.left_out)
        log.info("%s %s: left out, as no training case has it: %s", folder.parent.name, folder.name, left_out)


def build_model(cfg: TrainConfig, numbers: SeenNumbers | None = None) -> RiceClassifier:
    """The untrained model that the config describes, with its weights drawn from torch's global generator."""
    inputs = InputSettings.from_config(cfg.inputs)
    fused = () if numbers is None else numbers.inputs.numbers
    network = build_network(
        cfg.modalities.channels, inputs=inputs, numbers=fused, **network_settings(asdict(cfg.model))
    )
    trained = behind_inputs(of_volumes(network))
    start = _start(cfg, trained, inputs.of_the_dose(cfg.modalities.channels))
    if isinstance(trained, LeanResNet):
        trained.pool_first = cfg.step.pool_first
        trained.recompute_stem = cfg.step.recompute_stem
    if cfg.step.compile:
        network.compile()  # in place: the names of its weights stay
    return RiceClassifier(
        network,
        **asdict(cfg.optimizer),
        mixup=cfg.mixup,
        seed=cfg.seed,
        channels_last=cfg.step.channels_last,
        channel_dropout=cfg.model.channel_dropout,
        start=start,
    )


def _start(cfg: TrainConfig, network: torch.nn.Module, of_the_dose: Sequence[bool]) -> PretrainedPart | None:
    """Start `network` from the file that the config names; None where it names none."""
    if cfg.model.pretrained is None:
        return None
    chosen = cfg.pretrained
    from_scratch = of_the_dose if chosen.dose == "scratch" else ()
    load_pretrained(network, Path(cfg.model.pretrained), TensorNames.from_config(chosen), from_scratch)
    return pretrained_part(network, chosen.freeze, chosen.learning_rate_factor)


def build_data(cfg: TrainConfig, cases: Path, folds: Folds, numbers: SeenNumbers | None = None) -> CasesDataModule:
    """The batches that the config describes, of the cases in `folds`."""
    return CasesDataModule(
        cases, folds, cfg.fold, cfg.modalities.channels, _augmentation(cfg), cfg.data.batch_size, cfg.data.workers,
        cfg.seed, cfg.data.cache, cfg.data.augment_on, may_lack=bool(cfg.model.channel_dropout),
        crop=crop_of(cfg), jitter_mm=cfg.crop.jitter_mm,
        relative_dose=InputSettings.from_config(cfg.inputs).has_relative_dose(cfg.modalities.channels),
        numbers=None if numbers is None else numbers.of_case,
    )  # fmt: skip


def _augmentation(cfg: TrainConfig) -> Augmenting | None:
    strengths = {name: value for name, value in asdict(cfg.augmentation).items() if name != "name"}
    if cfg.augmentation.name == "none":
        return None
    if cfg.augmentation.name == "torchio":
        from ricenet.training.augment_torchio import TorchioAugmentation

        return TorchioAugmentation(Augmentation(**strengths))
    return Augmentation(**strengths)


def _quiet_lightning() -> None:
    """Leave warnings that a user can act on; Lightning prints each of its own lines twice under Hydra's logging."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.WARNING)
    for harmless in (
        ".*LeafSpec.*",
        "Checkpoint directory .* exists",
        ".*does not have many workers.*",
        ".*sync_dist.*",
        ".*in eval mode at the start of training.*",  # what is frozen
    ):
        warnings.filterwarnings("ignore", message=harmless)


def _run_epochs(trainer: lightning.Trainer, model: RiceClassifier, data: CasesDataModule, last: Path | None) -> None:
    """Fit; resume from the checkpoint `last` if there is one."""
    if last is not None:
        log.info("%s %s: resuming from %s", last.parent.parent.name, last.parent.name, last.name)
    try:
        trainer.fit(model, datamodule=data, ckpt_path=last, weights_only=True)
    finally:
        for logger in trainer.loggers:
            logger.finalize("success")
        finish_tracking()


def _trainer(cfg: TrainConfig, data: CasesDataModule, folder: Path, owner: str, number: int) -> lightning.Trainer:
    return lightning.Trainer(
        **_where(cfg.trainer, number),
        strategy=cfg.trainer.strategy,
        max_epochs=cfg.epochs,
        check_val_every_n_epoch=cfg.validate_every,
        accumulate_grad_batches=cfg.step.accumulate,
        limit_train_batches=cfg.trainer.limit_batches,
        enable_progress_bar=cfg.trainer.progress,
        enable_model_summary=False,
        deterministic="warn",
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=False,  # BalancedOrder deals out its own places
        default_root_dir=folder,
        callbacks=_callbacks(cfg, data, folder, owner),
        plugins=[SafeCheckpointIO(), LightningEnvironment()],  # under SLURM too: one process a run, no requeueing
        logger=tracker(cfg.logger, Path(cfg.run), cfg, folder.name),
    )


def _callbacks(cfg: TrainConfig, data: CasesDataModule, folder: Path, owner: str) -> list[Callback]:
    callbacks: list[Callback] = [
        Ownership(owner), MetricsTable(folder / "metrics.csv"), Progress(folder, cfg.epochs), LastValidation(),
    ]  # fmt: skip
    if cfg.averaging == "ema":
        callbacks.append(AveragedWeights(cfg.ema_decay))
    if cfg.batch_norm == "precise":  # behind the average: of its weights
        callbacks.append(PreciseBatchNorm(data, cfg.checkpoint == "best", cfg.trainer.limit_batches))
    if cfg.checkpoint == "best":  # before the last one, which says what the best score so far is
        callbacks.append(
            ModelCheckpoint(folder, filename="best", monitor="val/macro_f1", mode="max", enable_version_counter=False)
        )
    callbacks.append(
        ModelCheckpoint(
            folder,
            filename="last",
            every_n_epochs=cfg.checkpoint_every,
            save_on_train_epoch_end=True,
            save_top_k=1,
            enable_version_counter=False,
        )
    )
    return callbacks


def epochs_of_steps(cfg: TrainConfig, cases: int, steps: int) -> int:
    """The fewest whole epochs over `cases` training cases in which the optimiser takes at least `steps` steps.

    Raises:
        WrongUsage: an epoch has no step.
    """
    trainer = cfg.trainer
    world = torch.cuda.device_count() if trainer.devices == -1 else trainer.devices
    in_epoch = steps_per_epoch(cases, cfg.data.batch_size, max(1, world), cfg.step.accumulate, trainer.limit_batches)
    if not in_epoch:
        raise WrongUsage(
            f"steps={steps}: an epoch over {cases} training case(s) has no batch; lower data.batch_size, or set "
            "trainer.limit_batches=null"
        )
    return math.ceil(steps / in_epoch)


def _where(trainer: TrainerConfig, number: int) -> dict[str, Any]:
    """Lightning's arguments for hardware and precision; one run of a grid takes the GPU of its number."""
    devices: int | Sequence[int] = trainer.devices
    on_gpu = trainer.accelerator == "gpu" or (trainer.accelerator == "auto" and torch.cuda.is_available())
    if trainer.devices == 1 and on_gpu and torch.cuda.device_count():
        devices = [number % torch.cuda.device_count()]
    return {"accelerator": trainer.accelerator, "devices": devices, "precision": trainer.precision}


def _predict(cfg: TrainConfig, model: RiceClassifier, data: CasesDataModule, folder: Path, number: int) -> None:
    """Write the predictions for the validation and test cases, of a model for all sets also those for each set."""
    predictions = _predictions(cfg, model, data, number)
    with run_folder.writing(folder, PREDICTIONS):
        write_predictions(folder, predictions)
    if not cfg.model.channel_dropout:
        return
    channels = cfg.modalities.channels
    rows: list[PredictionRow] = []
    for name, shown in sets_shown(channels).items():
        having = {case.case_key for case in data.table if not lacking(case, shown)}
        model.present = [channels.index(channel) for channel in shown]
        predictions = _predictions(cfg, model, data, number) if having else []
        rows += [{**row, "modalities": name} for row in predictions if row["case_key"] in having]
    with run_folder.writing(folder, BY_SET):
        write_predictions_by_set(folder, rows)


def _predictions(cfg: TrainConfig, model: RiceClassifier, data: CasesDataModule, number: int) -> list[PredictionRow]:
    trainer = lightning.Trainer(
        **_where(replace(cfg.trainer, devices=1), number), logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, deterministic="warn", plugins=[LightningEnvironment()],
    )  # fmt: skip
    batches: Any = trainer.predict(model, datamodule=data)
    logits = [pair for _, batch_logits in batches for pair in batch_logits.cpu()]
    table = [(case, "val") for case in data.validation] + [(case, "test") for case in data.held_out]
    return [
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
