"""The answers of a grid's models: finished runs in, probabilities by modality set and fold out.

Every run is checked against the cases folder as it is now: its folds, its cases, its labels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ricenet import LABELS
from ricenet.cohort import ReadyCase
from ricenet.config import InvalidInput
from ricenet.folds import Folds
from ricenet.predictions import read_predictions, read_predictions_by_set
from ricenet.table import PAPER

if TYPE_CHECKING:  # it imports torch
    from ricenet.runs import FinishedRun


@dataclass(frozen=True)
class Answers:
    """The probabilities of rice by one fold's model, ordered as `folds.validation(fold)` and `folds.test()`."""

    validation: np.ndarray
    test: np.ndarray


Grid = dict[str, dict[int, Answers]]  # modality set -> fold -> answers


def read_grid(runs: "Sequence[FinishedRun]", cases: Path, folds: Folds) -> Grid:
    """The answers of all finished runs, each checked against the folds it should have been trained in.

    Raises:
        InvalidInput: naming the run whose folds, cases, labels or numbers do not fit.
    """
    from ricenet.runs import require_same_inputs

    require_same_inputs(runs, cases, folds)
    grid: Grid = {}
    for run in runs:
        name = f"run {run.folder.parent.name}/{run.folder.name}"
        if name != f"run {run.modalities}/fold{run.fold}":
            raise InvalidInput(f"{name}: run.json says {run.modalities}/fold{run.fold}; a copied folder? remove it")
        if run.fold not in range(folds.n_folds):
            raise InvalidInput(f"{name}: the cases folder has folds 0 to {folds.n_folds - 1}; remove the run")
        grid.setdefault(run.modalities, {})[run.fold] = _answers(name, read_predictions(run.folder), folds, run.fold)
    return _ordered(grid)


def read_one_model(runs: "Sequence[FinishedRun]", folds: Folds) -> Grid:
    """Of runs whose one model serves every modality set (model=modality_dropout): its answers by set.

    Raises:
        InvalidInput: as read_grid.
    """
    grid: Grid = {}
    for run in runs:
        by_set: dict[str, list[dict[str, Any]]] = {}
        for row in read_predictions_by_set(run.folder):
            by_set.setdefault(row["modalities"], []).append(row)
        for modalities, rows in by_set.items():
            name = f"run {run.modalities}/fold{run.fold}, shown {modalities}"
            grid.setdefault(modalities, {})[run.fold] = _answers(name, rows, folds, run.fold)
    return _ordered(grid)


def _ordered(grid: Grid) -> Grid:
    order = [*PAPER, *sorted(grid.keys() - PAPER.keys())]
    return {modalities: dict(sorted(grid[modalities].items())) for modalities in order if modalities in grid}


def _answers(name: str, rows: list[dict[str, Any]], folds: Folds, fold: int) -> Answers:
    val, test = ([row for row in rows if row["split"] == split] for split in ("val", "test"))
    return Answers(
        _probabilities(f"{name}, split val", val, folds.validation(fold)),
        _probabilities(f"{name}, split test", test, folds.test()),
    )


def _probabilities(name: str, rows: list[dict[str, Any]], cases: list[ReadyCase]) -> np.ndarray:
    found = {row["case_key"]: row for row in rows}
    wanted = {case.case_key for case in cases}
    if len(found) != len(rows) or found.keys() != wanted:
        raise InvalidInput(
            f"{name}: expected one prediction for each of {len(wanted)} cases, got {len(rows)} rows, "
            f"{len(wanted - found.keys())} case(s) missing, {len(found.keys() - wanted)} foreign; train the run again"
        )
    for case in cases:
        if found[case.case_key]["label"] != case.label:
            raise InvalidInput(f"{name}: case {case.case_key} is not {LABELS[case.label]} there; train the run again")
    logits = np.array([[found[c.case_key][f"logit_{label}"] for label in LABELS] for c in cases]).reshape(-1, 2)
    if not np.isfinite(logits).all():
        raise InvalidInput(f"{name}: {(~np.isfinite(logits)).sum()} logit(s) are not finite; the training diverged")
    probabilities = np.exp(-np.logaddexp(0, logits[:, 0] - logits[:, 1]))  # softmax, without overflow
    if not np.allclose(probabilities, [found[case.case_key]["prob_rice"] for case in cases], atol=1e-3):
        raise InvalidInput(f"{name}: prob_rice is not the softmax of the logits; are the columns exchanged?")
    return probabilities


def labels_of(cases: Sequence[ReadyCase]) -> np.ndarray:
    """(cases,) labels, 0 recurrence, 1 rice."""
    return np.array([case.label for case in cases])


def patients_of(cases: Sequence[ReadyCase]) -> np.ndarray:
    """(cases,) patient keys, the unit of every interval."""
    return np.array([case.patient_key for case in cases])


def out_of_fold(folds: Folds, finished: Iterable[int]) -> list[ReadyCase]:
    """The validation cases of the folds, in the order in which their answers are pooled."""
    return [case for fold in finished for case in folds.validation(fold)]
