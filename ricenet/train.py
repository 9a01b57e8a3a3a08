"""Train one fold of one modality set: a cases folder in, a run folder out.

Run: python -m ricenet.train cases=DIR +modalities=rd_event fold=0

A grid is a multirun: python -m ricenet.train -m '+modalities=glob(*)' 'fold=range(5)'. What is finished is skipped.
With 'seed=range(3)' several_seeds=true each fold is trained with several seeds; with control= what is trained must
score at chance (ricenet.cohort.shuffled_labels, ricenet.training.metadata_only).
"""

import logging
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ricenet.command.exits import EXIT_SIGTERM
from ricenet.command.row_names import CONTROLS, METADATA_ONLY, NUMBERS, SHUFFLED_LABELS
from ricenet.command.schemas import MAX_CROP_MM, TrainConfig
from ricenet.command.stage import stage
from ricenet.errors import WrongUsage

if TYPE_CHECKING:
    from ricenet.cohort.folds import Folds
    from ricenet.training.run_record import Optimisation, PretrainedStart, RunRecord, Setting

log = logging.getLogger(__name__)


@stage("train", TrainConfig)
def main(cfg: TrainConfig) -> None:
    """Train the fold and modality set that the config names."""
    _check(cfg)
    train(cfg, _number_in_grid())


def _number_in_grid() -> int:
    """The place of this job in a multirun, by which the runs of a grid are dealt out to the GPUs."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    return int(hydra.job.num) if hydra.mode == RunMode.MULTIRUN else 0


def train(cfg: TrainConfig, number: int = 0) -> None:
    """Claim the run folder, train, predict the validation and test cases, mark the run finished.

    Args:
        number: of this run in its grid.
    """
    from ricenet.cohort.folds import read_folds
    from ricenet.training import metadata_only, run_folder

    cases, run = Path(cfg.cases), Path(cfg.run)
    folds = read_folds(cases)
    folds.require_fold(cfg.fold)
    usable = _usable(cfg, folds)
    if cfg.steps is not None and cfg.control != METADATA_ONLY:
        from ricenet.training.fit import epochs_of_steps

        cfg = replace(cfg, epochs=epochs_of_steps(cfg, len(usable.training(cfg.fold)), cfg.steps))
    folder = run_folder.place(run, cfg.row, cfg.fold, cfg.seed, cfg.several_seeds)
    # A run is kept relative to its grid, and weights by their hash: no path of the user's stands in any output.
    settings = asdict(cfg) | {"run": ".", "cases": os.path.relpath(cases, run)}
    settings["model"] |= {"pretrained": _hash_of(cfg.model.pretrained)}
    hashes = {"folds_hash": folds.hash, "case_hash": run_folder.case_hash(cases, folds)}
    deciding = settings
    if cfg.model.pretrained is None:
        deciding = {name: value for name, value in settings.items() if name != "pretrained"}
    if cfg.control == METADATA_ONLY:
        deciding = metadata_only.deciding(settings)
    if cfg.control == METADATA_ONLY or (cfg.inputs.relative_dose and "rd" in cfg.modalities.channels):
        hashes |= metadata_only.inputs(cases)  # covariates.csv: what the control reads, or the prescriptions
    if cfg.model.numbers and cfg.control != METADATA_ONLY:
        from ricenet.training import fused_numbers

        hashes |= fused_numbers.hashes(cases, cfg.model.numbers)
    identity = run_folder.identity(deciding, hashes)
    if run_folder.is_finished(folder, identity):
        log.info("%s %s is finished already", cfg.row, folder.name)
        return
    prepare = _on_metadata if cfg.control == METADATA_ONLY else _on_images
    record = _record(cfg, folds, hashes, settings["cases"], settings["model"])
    _require_images(cfg, cases, folds)
    if len(usable.cases) < len(folds.cases):
        log.info("%s: %d of %d cases have its images", cfg.row, len(usable.cases), len(folds.cases))
        record = record.model_copy(update={"n_cases": len(usable.cases), "n_cohort_cases": len(folds.cases)})
    work = prepare(cfg, cases, usable, record, run_folder.owner(identity), number)

    with _sigterm_ends_this(), run_folder.claimed(folder):
        if run_folder.is_finished(folder, identity):  # by the process that held it until now
            return
        started = time.monotonic()
        run_folder.begin(folder, settings, identity, work.record)
        work.do(folder)
        elapsed = {"elapsed_s": round(time.monotonic() - started, 1)}
        run_folder.finish(folder, work.record.model_copy(update=elapsed))
    log.info("%s %s finished in %.0f s", cfg.row, folder.name, time.monotonic() - started)


def _record(
    cfg: TrainConfig, folds: "Folds", hashes: Mapping[str, str], cases: str, model: "Mapping[str, Setting]"
) -> "RunRecord":
    """run.json without the versions of the packages that the work needs."""
    from ricenet.training.run_record import Row, RunRecord, crop_of

    record = RunRecord(
        modalities=Row(name=cfg.row, channels=cfg.modalities.channels),
        fold=cfg.fold,
        n_folds=folds.n_folds,
        seed=cfg.seed,
        control=cfg.control,
        epochs=cfg.epochs,
        checkpoint=cfg.checkpoint,
        model={name: value for name, value in model.items() if name != "numbers"},
        cases=cases,
        folds_hash=hashes["folds_hash"],
        case_hash=hashes["case_hash"],
        versions={},
    )
    crop = crop_of(cfg)
    return record.model_copy(update={**hashes, **({"crop": crop} if crop else {})})


def _optimisation(cfg: TrainConfig) -> "Optimisation":
    from ricenet.training.run_record import Optimisation

    return Optimisation(
        steps=cfg.steps,
        schedule=cfg.optimizer.schedule,
        label_smoothing=cfg.optimizer.label_smoothing,
        mixup=cfg.mixup,
        ema_decay=cfg.ema_decay if cfg.averaging == "ema" else None,
        batch_norm=cfg.batch_norm,
    )


def _start(cfg: TrainConfig, record: "RunRecord") -> "dict[str, PretrainedStart]":
    """`pretrained` of run.json; nothing where the weights are drawn at random."""
    from ricenet.training.run_record import PretrainedStart

    if cfg.model.pretrained is None:
        return {}
    chosen = cfg.pretrained
    start = PretrainedStart.model_validate({
        "source": chosen.name, "sha256": record.model["pretrained"], "licence": chosen.licence,
        "citation": chosen.citation, "dose": chosen.dose, "freeze": chosen.freeze,
        "learning_rate_factor": chosen.learning_rate_factor,
    })  # fmt: skip
    return {"pretrained": start}


def _usable(cfg: TrainConfig, folds: "Folds") -> "Folds":
    """The cases that have the images of this row; refused where this fold cannot be trained and validated on them.

    Before the run folder has its settings: a set that this cohort cannot have is no row of the grid.
    """
    if cfg.control == METADATA_ONLY:
        return folds
    from ricenet.training.run_record import usable_cases

    usable = usable_cases(folds, cfg.modalities.channels, any_of_them=bool(cfg.model.channel_dropout))
    folds.require_channels(cfg.modalities.channels, cfg.row)
    usable.require_trainable(cfg.fold, cfg.row)
    return usable


def _require_images(cfg: TrainConfig, cases: Path, folds: "Folds") -> None:
    """Check, before the run folder has its settings, that the case folders have the channels that they should."""
    if cfg.control == METADATA_ONLY:  # which loads no torch
        return
    from ricenet.cases.case_reader import find_case
    from ricenet.cases.case_record import require_channels

    if folds.is_partial:
        require_channels(cases, folds.cases)
    else:
        find_case(cases, folds.cases[0], cfg.modalities.channels)


@dataclass(frozen=True)
class _Work:
    """What to do in a run folder that is claimed, and its run.json."""

    do: Callable[[Path], None]
    record: "RunRecord"


def _on_images(cfg: TrainConfig, cases: Path, folds: "Folds", record: "RunRecord", owner: str, number: int) -> _Work:
    import torch

    from ricenet.cases.case_reader import dose_factors
    from ricenet.cohort.shuffled_labels import shuffled
    from ricenet.command.provenance import provenance
    from ricenet.networks.computed_inputs import behind_inputs
    from ricenet.networks.input_settings import InputSettings
    from ricenet.networks.late_fusion import of_volumes
    from ricenet.networks.network import build_network, network_settings
    from ricenet.networks.pretrained import TensorNames, read_pretrained
    from ricenet.training.fit import fit
    from ricenet.training.fused_numbers import read_fused_numbers

    inputs = InputSettings.from_config(cfg.inputs)
    with torch.device("meta"):  # a model that cannot be built is refused before the run folder has its settings
        network = build_network(cfg.modalities.channels, inputs=inputs, **network_settings(asdict(cfg.model)))
    if cfg.model.pretrained is not None:
        read_pretrained(
            behind_inputs(of_volumes(network)), Path(cfg.model.pretrained), TensorNames.from_config(cfg.pretrained)
        )
    if inputs.levels_gy(cfg.modalities.channels) or inputs.has_relative_dose(cfg.modalities.channels):
        _require_gray(cases, folds)
    if inputs.has_relative_dose(cfg.modalities.channels):
        dose_factors(cases, folds.cases)

    described = {
        "optimisation": _optimisation(cfg), "inputs": inputs, "versions": provenance(), **_start(cfg, record)
    }  # fmt: skip
    numbers = None
    if cfg.model.numbers:
        table = read_fused_numbers(cases, folds.cases, cfg.model.numbers, cfg.modalities.channels, cfg.row)
        numbers = table.seen(folds.training(cfg.fold))
        described |= {"numbers": numbers.inputs}

    # Before anything else sees them; the hash stays that of the real folds.
    labelled = shuffled(folds, cfg.seed) if cfg.control == SHUFFLED_LABELS else folds
    return _Work(
        lambda folder: fit(cfg, cases, labelled, folder, owner, number, numbers), record.model_copy(update=described)
    )


def _require_gray(cases: Path, folds: "Folds") -> None:
    """Refuse isodose levels of a dose that is not in Gy."""
    from ricenet.cases.case_record import read_case_record
    from ricenet.errors import InvalidInput
    from ricenet.images.dose_limits import DOSE_SCALE_GY

    for case in folds.cases:
        record = read_case_record(cases, case)
        if "rd" in record.channels and record.dose_scale_gy != DOSE_SCALE_GY:
            raise InvalidInput(
                f"case {case.case_key}: isodose levels and a relative dose need the dose in units of "
                f"{DOSE_SCALE_GY:g} Gy, got "
                + ("z-scores" if record.dose_scale_gy is None else f"units of {record.dose_scale_gy:g} Gy"),
                "preprocess with dose_scaling=fixed, or choose inputs=plain or inputs=difference",
                code="inputs.dose_unit",
            )


def _on_metadata(cfg: TrainConfig, cases: Path, folds: "Folds", record: "RunRecord", owner: str, number: int) -> _Work:
    from ricenet.command.provenance import provenance
    from ricenet.training.metadata_only import PACKAGES, read_metadata, train_regression
    from ricenet.training.run_record import Row

    columns = read_metadata(cases, folds)
    described = {
        "modalities": Row(name=cfg.row, channels=[]),
        "epochs": 1,
        "model": {"name": "logistic_regression"},
        "metadata": columns.columns,
        "versions": provenance(PACKAGES),
    }
    return _Work(lambda folder: train_regression(columns, folds, cfg.fold, folder), record.model_copy(update=described))


def _hash_of(weights: str | None) -> str | None:
    from ricenet.command.atomic import file_hash
    from ricenet.errors import InvalidInput

    if weights is None:
        return None
    if not Path(weights).is_file():
        raise InvalidInput(
            "model.pretrained: there is no such file",
            "download the weights from their authors and name the file",
            code="pretrained.missing",
        )
    return file_hash(Path(weights))


@contextmanager
def _sigterm_ends_this() -> Iterator[None]:
    """SIGTERM (SLURM's preemption too) ends this process at once with 143: the last epoch border is on disk."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check(cfg: TrainConfig) -> None:
    """Refuse values that no later step could make sense of, before anything heavy is loaded."""
    choices = {
        "checkpoint": (cfg.checkpoint, ("last", "best")),
        "averaging": (cfg.averaging, ("none", "ema")),
        "batch_norm": (cfg.batch_norm, ("precise", "running")),
        "optimizer.schedule": (cfg.optimizer.schedule, ("constant", "one_cycle", "cosine")),
        "logger.name": (cfg.logger.name, ("csv", "tensorboard", "wandb")),
        "data.cache": (cfg.data.cache, ("none", "ram", "device")),
        "data.augment_on": (cfg.data.augment_on, ("worker", "device")),
        "trainer.strategy": (cfg.trainer.strategy, ("auto", "ddp_spawn")),
    }
    for key, (value, allowed) in choices.items():
        if value not in allowed:
            raise WrongUsage(f"{key} should be one of {', '.join(allowed)}, got {value!r}")
    if cfg.crop.at not in (None, "lesion", "random"):
        raise WrongUsage(f"crop.at should be null, lesion or random, got {cfg.crop.at!r}")
    if not 0 < cfg.crop.size_mm <= MAX_CROP_MM:
        raise WrongUsage(f"crop.size_mm should be above 0 and at most {MAX_CROP_MM:g}, got {cfg.crop.size_mm:g}")
    if not 0 <= cfg.crop.jitter_mm <= cfg.crop.size_mm / 2:
        raise WrongUsage(
            f"crop.jitter_mm should lie between 0 and half of crop.size_mm, got {cfg.crop.jitter_mm:g} of "
            f"{cfg.crop.size_mm:g}"
        )
    if cfg.control not in (None, *CONTROLS):
        raise WrongUsage(f"control should be null, {' or '.join(CONTROLS)}, got {cfg.control!r}")
    if cfg.seed < 0:
        raise WrongUsage(f"seed should be at least 0, got {cfg.seed}")
    for key, number in {
        "epochs": cfg.epochs,
        **({} if cfg.steps is None else {"steps": cfg.steps}),
        "data.batch_size": cfg.data.batch_size,
        "model.width": cfg.model.width,
        "step.accumulate": cfg.step.accumulate,
        "checkpoint_every": cfg.checkpoint_every,
        "validate_every": cfg.validate_every,
    }.items():
        if number < 1:
            raise WrongUsage(f"{key} should be at least 1, got {number}")
    if cfg.augmentation.elastic_mm and cfg.augmentation.elastic_grid < 5:
        raise WrongUsage(f"augmentation.elastic_grid should be at least 5, got {cfg.augmentation.elastic_grid}")
    for key, share in {
        "model.channel_dropout": cfg.model.channel_dropout,
        "optimizer.label_smoothing": cfg.optimizer.label_smoothing,
        "ema_decay": cfg.ema_decay,
    }.items():
        if not 0 <= share < 1:
            raise WrongUsage(f"{key} should lie in [0, 1), got {share:g}")
    if not 0 <= cfg.mixup < math.inf:
        raise WrongUsage(f"mixup should be at least 0, got {cfg.mixup:g}")
    _check_together(cfg)


def _check_pretrained(cfg: TrainConfig) -> None:
    """Refuse what does not fit together where a network starts from the weights of others."""
    chosen = cfg.pretrained
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", chosen.name) or chosen.name == NUMBERS:
        raise WrongUsage(
            f"pretrained.name becomes part of the row's name: it should be small letters, digits and _, and not "
            f"{NUMBERS}, got {chosen.name!r}"
        )
    for key, value, allowed in (
        ("dose", chosen.dose, ("averaged", "scratch")),
        ("freeze", chosen.freeze, ("none", "stem", "all")),
    ):
        if value not in allowed:
            raise WrongUsage(f"pretrained.{key} should be one of {', '.join(allowed)}, got {value!r}")
    if not 0 < chosen.learning_rate_factor <= 1:
        raise WrongUsage(
            f"pretrained.learning_rate_factor should be above 0 and at most 1, got {chosen.learning_rate_factor:g}"
        )
    if chosen.freeze == "all" and chosen.learning_rate_factor != 1:
        raise WrongUsage("pretrained.learning_rate_factor has no effect with pretrained.freeze=all; leave it at 1")
    if chosen.freeze != "none" and chosen.dose == "scratch" and "rd" in cfg.modalities.channels:
        raise WrongUsage(
            f"pretrained.freeze={chosen.freeze} would keep the random filters of pretrained.dose=scratch as they are; "
            "use pretrained.dose=averaged"
        )
    model = asdict(cfg.model)
    differences = [
        f"model.{key}={str(value).lower()}, got {str(model.get(key)).lower()}"
        for key, value in chosen.requires.items()
        if model.get(key) != value
    ]
    if differences:
        raise WrongUsage(
            f"the network of pretrained={chosen.name} has {'; '.join(differences)}; if the file is another's, say "
            "pretrained= whose it is"
        )


def _check_together(cfg: TrainConfig) -> None:
    if "+" in cfg.modalities.name:
        raise WrongUsage(
            f"modalities.name should have no +, which row names have before a start, got {cfg.modalities.name!r}"
        )
    if cfg.model.pretrained is not None and cfg.control != METADATA_ONLY:
        _check_pretrained(cfg)
    if cfg.checkpoint == "best" and cfg.validate_every != 1:
        raise WrongUsage(f"checkpoint=best needs validate_every=1, got {cfg.validate_every}")
    augmented = cfg.augmentation.name != "none"
    if augmented and cfg.data.cache == "device" and cfg.data.augment_on == "worker":
        raise WrongUsage("data.cache=device with augmentation requires data.augment_on=device; or set data.cache=ram")
    if cfg.augmentation.name == "torchio" and cfg.data.augment_on == "device":
        raise WrongUsage(
            "augmentation=torchio works only with data.augment_on=worker, which needs data.cache=ram or none; "
            "set both, or use augmentation=paper"
        )
    if cfg.crop.at is not None and cfg.model.channel_dropout:
        raise WrongUsage(
            "model.channel_dropout trains one model for all sets, and crop.at=... would show it a place that not all "
            "of them know; use crop=none, or train each set by itself"
        )
    if cfg.crop.at == "random" and cfg.model.numbers:
        raise WrongUsage(
            "crop.at=random is a control that does not know where the lesion is, and model.numbers may tell; leave one "
            "of them out"
        )
    if cfg.step.recompute_stem and not (cfg.step.pool_first and cfg.model.max_pool):
        raise WrongUsage("step.recompute_stem needs step.pool_first=true and model.max_pool=true")
    if cfg.trainer.devices != 1 and cfg.trainer.strategy == "auto":
        raise WrongUsage(f"trainer.devices={cfg.trainer.devices} for one run needs trainer=ddp")


if __name__ == "__main__":
    main()
