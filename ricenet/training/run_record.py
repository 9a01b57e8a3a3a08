"""run.json and progress.json of a run folder: what a training is made with, how it stands, how far it is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ricenet.command.records import Record

RUN_JSON = "run.json"
PROGRESS = "progress.json"
Setting = str | int | float | bool | None


class Row(Record):
    """The row of a grid that a run belongs to: a modality set, the one model for all sets, or a leakage control.

    Attributes:
        name: of the row's folder.
        channels: that the network sees, in the order of its input; none for a control without images.
    """

    name: str
    channels: list[str]


class RunRecord(Record):
    """run.json.

    Attributes:
        status: `running` while it trains and where it was killed; the folder's DONE alone says that it is finished.
        modalities: the row of the grid.
        n_folds: of the grid.
        control: None for a training that is no leakage control.
        epochs: to be trained.
        checkpoint: `last` or `best`: the epoch whose weights are kept.
        model: the keys of conf/model; `pretrained` is the hash of its file.
        cases: the cases folder, relative to the grid.
        folds_hash, case_hash, covariates_hash: of what the training reads; covariates.csv by a control on metadata.
        metadata: columns that a control on metadata reads.
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
    model: Mapping[str, Setting]
    cases: str
    folds_hash: str
    case_hash: str
    covariates_hash: str | None = None
    metadata: list[str] | None = None
    versions: Mapping[str, Setting]
    elapsed_s: float | None = None
    seconds_per_epoch: float | None = None
    message: str | None = None

    @property
    def input_hashes(self) -> dict[str, str]:
        """The hashes of the folds and the cases that the run was trained on."""
        return {"folds_hash": self.folds_hash, "case_hash": self.case_hash}


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


def read_run(folder: Path) -> RunRecord:
    """Read the run.json of a run folder.

    Raises:
        InvalidInput: `record.missing` or `record.damaged`.
    """
    return RunRecord.read(folder / RUN_JSON, f"remove {folder.parent.name}/{folder.name} and train it again")
