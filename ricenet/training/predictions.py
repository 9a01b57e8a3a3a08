"""The answers of a trained model, as a run folder keeps them: a row per validation and test case, CSV.

predictions.csv of every run; predictions_by_set.csv also of a model that serves every modality set.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ricenet.command.atomic import replacing_text

PREDICTIONS, BY_SET = "predictions.csv", "predictions_by_set.csv"
COLUMNS = ("case_key", "patient_key", "split", "label", "logit_recurrence", "logit_rice", "prob_rice")


def write_predictions(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write predictions.csv: one row per validation and test case; numbers read back as they were."""
    _write_rows(folder / PREDICTIONS, COLUMNS, rows)


def write_predictions_by_set(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write predictions_by_set.csv: the rows of predictions.csv for every modality set, named in `modalities`."""
    _write_rows(folder / BY_SET, ("modalities", *COLUMNS), rows)


def read_predictions(folder: Path) -> list[dict[str, Any]]:
    """The rows of predictions.csv with label as int, logits and probability as float."""
    return _read_rows(folder / PREDICTIONS)


def read_predictions_by_set(folder: Path) -> list[dict[str, Any]]:
    """The rows of predictions_by_set.csv, as those of read_predictions; none where the run has no such file."""
    return _read_rows(folder / BY_SET) if (folder / BY_SET).is_file() else []


def _write_rows(path: Path, columns: Sequence[str], rows: list[dict[str, Any]]) -> None:
    with replacing_text(path) as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as stream:
        rows: list[dict[str, Any]] = list(csv.DictReader(stream))
    for row in rows:
        row["label"] = int(row["label"])
        for column in ("logit_recurrence", "logit_rice", "prob_rice"):
            row[column] = float(row[column])
    return rows
