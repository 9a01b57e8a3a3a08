"""The run folders of a grid and what run.json and progress.json say of each: how it is made, how it stands, how far."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ricenet.cases.case_record import Crop
from ricenet.cohort.folds import Folds
from ricenet.command.records import Record
from ricenet.command.row_names import METADATA_ONLY
from ricenet.command.schemas import TrainConfig
from ricenet.errors import InvalidInput
from ricenet.networks.input_settings import InputSettings
from ricenet.networks.number_inputs import NumberInputs

RUN_JSON = "run.json"
PROGRESS = "progress.json"
FOLD_FOLDER = re.compile(r"fold(\d+)(?:-seed(\d+))?")
Setting = str | int | float | bool | None
_SCHEDULES = {
    "constant": "constant learning rate",
    "one_cycle": "one-cycle learning rate",
    "cosine": "learning rate that falls to 0 along a cosine",
}
_STATISTICS = {
    "precise": "batch-norm statistics re-estimated over the training cases",
    "running": "running batch-norm statistics, as in the paper",
}


class Row(Record):
    """The row of a grid that a run belongs to: a modality set, the one model for all sets, or a leakage control.

    Attributes:
        name: of the row's folder.
        channels: that the network sees, in the order of its input; none for a control without images.
    """

    name: str
    channels: list[str]


class Optimisation(Record):
    """How a network was trained, besides its number of epochs.

    Attributes:
        steps: of the optimiser that were asked for, of which `epochs` of the run follow; None: epochs were.
        schedule: of the learning rate.
        label_smoothing: share of every label that was spread over both classes.
        mixup: alpha of the shares by which volumes were blended; 0: none were.
        ema_decay: of the average of the weights that was kept; None: the last step's were.
        batch_norm: statistics of the kept network: `precise` over the training cases, or `running` averages.
    """

    steps: int | None = None
    schedule: str
    label_smoothing: float = 0.0
    mixup: float = 0.0
    ema_decay: float | None = None
    batch_norm: str

    def in_words(self) -> str:
        """What was trained by, and what was kept: `constant learning rate; running batch-norm statistics, ...`."""
        trained = [_SCHEDULES.get(self.schedule, self.schedule)]
        if self.label_smoothing:
            trained.append(f"label smoothing {self.label_smoothing:g}")
        if self.mixup:
            trained.append(f"mixup (alpha {self.mixup:g})")
        kept = [] if self.ema_decay is None else [f"weights averaged (EMA {self.ema_decay:g})"]
        kept.append(_STATISTICS.get(self.batch_norm, self.batch_norm))
        return f"{', '.join(trained)}; {', '.join(kept)}"


class PretrainedStart(Record):
    """The weights of others that a network started from, and what was done with them.

    Attributes:
        source: whose they are, of conf/pretrained.
        sha256: of the file.
        licence, citation: as conf/pretrained says.
        dose: what the dose's part of the first convolution started from, `averaged` or `scratch`.
        freeze: what stayed as it was: `none`, `stem` or `all` but the linear layer.
        learning_rate_factor: of all that was trained but the linear layer.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    source: Annotated[str, Field(max_length=100)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    licence: Annotated[str, Field(max_length=1000)]
    citation: Annotated[str, Field(max_length=1000)]
    dose: Literal["averaged", "scratch"]
    freeze: Literal["none", "stem", "all"]
    learning_rate_factor: Annotated[float, Field(gt=0, le=1)]

    def in_words(self) -> str:
        """How it was trained: `all of it trained`, `its first convolution frozen`, ..."""
        frozen = {"none": "all of it trained", "stem": "its first convolution frozen"}
        words = frozen.get(self.freeze, "all but the linear layer frozen")
        factor = self.learning_rate_factor
        return words if factor == 1 else f"{words}, at {factor:g} times the learning rate of the linear layer"


class RunRecord(Record):
    """run.json.

    Attributes:
        status: `running` while it trains and where it was killed; the folder's DONE alone says that it is finished.
        modalities: the row of the grid.
        n_folds: of the grid.
        control: None for a training that is no leakage control.
        epochs: to be trained.
        checkpoint: `last` or `best`: the epoch whose weights are kept.
        optimisation: None for a regression, and in runs of before.
        model: the keys of conf/model; `pretrained` is the hash of its file.
        inputs: channels that the network computes from the stored ones; None: none.
        numbers: of the case that the network sees beside the volume, fitted on the fold's training cases; None: none.
        crop: what of each volume the network sees; None: all.
        pretrained: None where all weights were drawn at random, and in runs of before.
        cases: the cases folder, relative to the grid.
        folds_hash, case_hash, covariates_hash, numbers_hash: of what the training reads; covariates.csv by a control
            on metadata, where the dose is read relative to its prescription, and where a clinical column is among the
            numbers; numbers.csv where one of its numbers is.
        metadata: columns that a control on metadata reads.
        n_cases: that the row can use, those of the test split too, of the `n_cohort_cases` of the cases folder; only
            where some lack its channels.
        versions: of the code and its packages; commit, machine and threads.
        elapsed_s: of the process that finished it.
        seconds_per_epoch: mean over the epochs of that process.
        message: why it failed, empty where it was interrupted.
    """

    status: Literal["running", "done", "failed", "interrupted"] = "done"
    modalities: Row
    fold: int
    n_folds: int
    seed: int
    control: str | None = None
    epochs: int
    checkpoint: str
    optimisation: Optimisation | None = None
    model: Mapping[str, Setting]
    inputs: InputSettings | None = None
    numbers: NumberInputs | None = None
    crop: Crop | None = None
    pretrained: PretrainedStart | None = None
    cases: str
    folds_hash: str
    case_hash: str
    covariates_hash: str | None = None
    numbers_hash: str | None = None
    metadata: list[str] | None = None
    n_cases: int | None = None
    n_cohort_cases: int | None = None
    versions: Mapping[str, Setting]
    elapsed_s: float | None = None
    seconds_per_epoch: float | None = None
    message: str | None = None

    @property
    def sees_relative_dose(self) -> bool:
        """Whether the network sees the dose relative to each case's prescription."""
        return self.inputs is not None and self.inputs.has_relative_dose(self.modalities.channels)

    @property
    def input_hashes(self) -> dict[str, str]:
        """The hashes of the folds and the cases that the run was trained on."""
        return {"folds_hash": self.folds_hash, "case_hash": self.case_hash}

    def usable(self, folds: Folds) -> Folds:
        """The cases that the run's row is trained, validated and scored on.

        Those that have all of its channels; for one model for all sets, to which a missing channel is a dropped one,
        those that have any. A regression on metadata looks at no image.
        """
        if self.control == METADATA_ONLY:
            return folds
        any_of_them = bool(self.model.get("channel_dropout"))
        return usable_cases(folds, self.modalities.channels, any_of_them)


def usable_cases(folds: Folds, channels: Sequence[str], any_of_them: bool) -> Folds:
    """The cases that have all of `channels`, or any of them."""
    return folds.having_any(channels) if any_of_them else folds.having(channels)


class EpochProgress(Record):
    """progress.json of a run that is being trained.

    Attributes:
        epoch: epochs done.
        epochs: epochs to be trained.
        seconds_per_epoch: mean since this process began.
    """

    epoch: int
    epochs: int
    seconds_per_epoch: float

    def as_json(self) -> str:
        """In one line."""
        return json.dumps(self.model_dump(mode="json")) + "\n"


def crop_of(cfg: TrainConfig) -> Crop | None:
    """What of each volume the network of a training sees; None: all."""
    return Crop.model_validate({"at": cfg.crop.at, "size_mm": cfg.crop.size_mm}) if cfg.cropped else None


def read_run(folder: Path) -> RunRecord:
    """Read the run.json of a run folder.

    Raises:
        InvalidInput: `record.missing` or `record.damaged`.
    """
    return RunRecord.read(folder / RUN_JSON, f"remove {folder.parent.name}/{folder.name} and train it again")


@dataclass(frozen=True)
class RunPlace:
    """A run folder, begun or finished, and what its path says; `seed` is None in a name without one."""

    folder: Path
    row: str
    fold: int
    seed: int | None


def walk(run: Path) -> list[RunPlace]:
    """All run folders of the grid `run`, ordered by row, fold and seed."""
    places = [
        RunPlace(folder, folder.parent.name, *fold_and_seed)
        for folder in run.glob("*/fold*")
        if folder.is_dir() and (fold_and_seed := parse_fold(folder.name))
    ]
    return sorted(places, key=lambda place: (place.row, place.fold, -1 if place.seed is None else place.seed))


def parse_fold(name: str) -> tuple[int, int | None] | None:
    """Fold and seed of a run folder's name, the seed None where the name has none; None for any other name."""
    parts = FOLD_FOLDER.fullmatch(name)
    return (int(parts[1]), None if parts[2] is None else int(parts[2])) if parts else None


def channels_of_rows(run: Path) -> dict[str, list[str]]:
    """The channels that each row of the grid `run` is trained on; a damaged run.json is passed over."""
    channels: dict[str, list[str]] = {}
    for place in walk(run):
        with suppress(InvalidInput):
            channels[place.row] = RunRecord.read(place.folder / RUN_JSON).modalities.channels
    return channels
