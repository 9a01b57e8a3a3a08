"""Read and write the predictions of a trained model in its run folder: CSV, a row per validation and test case.

predictions.csv of every run; predictions_by_set.csv also of a model that serves every modality set.
"""

import csv
from collections.abc import Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import NotRequired, TypedDict

from ricenet.command.atomic import replacing_text

PREDICTIONS, BY_SET = "predictions.csv", "predictions_by_set.csv"
COLUMNS = ("case_key", "patient_key", "split", "label", "logit_recurrence", "logit_rice", "prob_rice")


class PredictionRow(TypedDict):
    """One case: `split` is val or test, `label` 0 recurrence or 1 rice; `modalities` is of predictions_by_set.csv."""

    case_key: str
    patient_key: str
    split: str
    label: int
    logit_recurrence: float
    logit_rice: float
    prob_rice: float
    modalities: NotRequired[str]


def set_name(channels: Sequence[str]) -> str:
    """What `modalities` calls a set of channels, the dose first: rd_post_event."""
    return "_".join(sorted(channels, key=lambda channel: channel != "rd"))


def sets_shown(channels: Sequence[str]) -> dict[str, list[str]]:
    """The sets that a model of these channels has predictions for: name -> channels, the single ones first."""
    kept = chain.from_iterable(combinations(channels, size) for size in range(1, len(channels) + 1))
    return {set_name(shown): list(shown) for shown in kept}


def write_predictions(folder: Path, rows: list[PredictionRow]) -> None:
    """Write predictions.csv: one row per validation and test case; numbers read back as they were."""
    _write_rows(folder / PREDICTIONS, COLUMNS, rows)


def write_predictions_by_set(folder: Path, rows: list[PredictionRow]) -> None:
    """Write predictions_by_set.csv: the rows of predictions.csv for every modality set, named in `modalities`."""
    _write_rows(folder / BY_SET, ("modalities", *COLUMNS), rows)


def read_predictions(folder: Path) -> list[PredictionRow]:
    """The rows of predictions.csv with label as int, logits and probability as float."""
    return _read_rows(folder / PREDICTIONS)


def read_predictions_by_set(folder: Path) -> list[PredictionRow]:
    """The rows of predictions_by_set.csv, as those of read_predictions; none where the run has no such file."""
    return _read_rows(folder / BY_SET) if (folder / BY_SET).is_file() else []


def _write_rows(path: Path, columns: Sequence[str], rows: list[PredictionRow]) -> None:
    with replacing_text(path) as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _read_rows(path: Path) -> list[PredictionRow]:
    with path.open(newline="") as stream:
        return [_row(line) for line in csv.DictReader(stream)]


def _row(line: dict[str, str]) -> PredictionRow:
    row = PredictionRow(
        case_key=line["case_key"],
        patient_key=line["patient_key"],
        split=line["split"],
        label=int(line["label"]),
        logit_recurrence=float(line["logit_recurrence"]),
        logit_rice=float(line["logit_rice"]),
        prob_rice=float(line["prob_rice"]),
    )
    if "modalities" in line:
        row["modalities"] = line["modalities"]
    return row
