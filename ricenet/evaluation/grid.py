"""The answers of a grid's models: finished runs in, probabilities by modality set and fold out.

Every run is checked against the cases folder as it is now: its folds, its cases, its labels. Several seeds of one fold
stand beside each other in its `Answers`. Runs of a leakage control are read apart (`read_controls`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ricenet import LABELS
from ricenet.cohort.folds import Folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.command.schemas import SHUFFLED_LABELS
from ricenet.errors import InvalidInput
from ricenet.paper import PAPER
from ricenet.training.predictions import read_predictions, read_predictions_by_set

if TYPE_CHECKING:  # it imports torch
    from ricenet.training.run_folder import FinishedRun


@dataclass(frozen=True)
class Answers:
    """The probabilities of rice by one fold's model, ordered as `folds.validation(fold)` and `folds.test()`.

    Attributes:
        validation: (seeds, cases).
        test: (seeds, test cases).
        seeds: of the trainings, ascending.
    """

    validation: np.ndarray
    test: np.ndarray
    seeds: tuple[int, ...] = (0,)


Grid = dict[str, dict[int, Answers]]  # row -> fold -> answers


@dataclass(frozen=True)
class Control:
    """A row of a leakage control with one seed: the folds with the labels it was trained and is scored on."""

    kind: str
    row: str
    seed: int
    folds: Folds
    answers: dict[int, Answers]


def read_grid(runs: "Sequence[FinishedRun]", cases: Path, folds: Folds) -> Grid:
    """The answers of all finished runs but controls, each checked against the folds it should have been trained in.

    Raises:
        InvalidInput: naming the run whose folds, cases, labels or numbers do not fit.
    """
    from ricenet.training.run_folder import require_same_inputs

    require_same_inputs(runs, cases, folds)
    grid: dict[str, list[FinishedRun]] = {}
    for run in runs:
        _require_place(run, folds)
        if run.control is None:
            grid.setdefault(run.modalities, []).append(run)
    return _ordered({row: _by_fold(found, folds) for row, found in grid.items()})


def read_controls(runs: "Sequence[FinishedRun]", folds: Folds) -> list[Control]:
    """The answers of all finished runs of leakage controls; each seed of a row by itself, as its labels are its own.

    Raises:
        InvalidInput: as read_grid.
    """
    from ricenet.cohort.shuffled_labels import shuffled

    rows: dict[tuple[str, str, int], list[FinishedRun]] = {}
    for run in runs:
        if run.control is not None:
            rows.setdefault((run.control, run.modalities, run.seed), []).append(run)
    controls = []
    for (kind, row, seed), found in sorted(rows.items()):
        labelled = shuffled(folds, seed) if kind == SHUFFLED_LABELS else folds
        controls.append(Control(kind, row, seed, labelled, _by_fold(found, labelled)))
    return controls


def read_one_model(runs: "Sequence[FinishedRun]", folds: Folds) -> Grid:
    """Of runs whose one model serves every modality set (model=modality_dropout): its answers by set.

    Raises:
        InvalidInput: as read_grid.
    """
    found: dict[str, dict[int, dict[int, tuple[np.ndarray, np.ndarray]]]] = {}
    for run in runs:
        if run.control is not None:
            continue
        by_set: dict[str, list[dict[str, Any]]] = {}
        for row in read_predictions_by_set(run.folder):
            by_set.setdefault(row["modalities"], []).append(row)
        for modalities, rows in by_set.items():
            name = f"{_name(run)}, shown {modalities}"
            found.setdefault(modalities, {}).setdefault(run.fold, {})[run.seed] = _split(name, rows, folds, run.fold)
    return _ordered({row: {fold: _stack(seeds) for fold, seeds in by.items()} for row, by in found.items()})


def _require_place(run: "FinishedRun", folds: Folds) -> None:
    """A run's folder says the row, fold and seed that its run.json says."""
    from ricenet.training.run_folder import parse_fold

    recorded = (run.modalities, run.fold)
    fold, seed = parse_fold(run.folder.name) or (None, None)
    if (run.folder.parent.name, fold) != recorded or seed not in (None, run.seed):
        raise InvalidInput(
            f"{_name(run)}: run.json says {run.modalities}/fold{run.fold}, seed {run.seed}; a copied folder? remove it"
        )
    if run.fold not in range(folds.n_folds):
        raise InvalidInput(f"{_name(run)}: the cases folder has folds 0 to {folds.n_folds - 1}; remove the run")


def _by_fold(runs: "Sequence[FinishedRun]", folds: Folds) -> dict[int, Answers]:
    seeds: dict[int, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
    for run in runs:
        mine = seeds.setdefault(run.fold, {})
        if run.seed in mine:
            raise InvalidInput(f"{_name(run)}: seed {run.seed} of this fold stands in two folders; remove one")
        mine[run.seed] = _split(_name(run), read_predictions(run.folder), folds, run.fold)
    return {fold: _stack(by_seed) for fold, by_seed in seeds.items()}


def _stack(by_seed: dict[int, tuple[np.ndarray, np.ndarray]]) -> Answers:
    seeds = tuple(sorted(by_seed))
    validation, test = (np.stack([by_seed[seed][part] for seed in seeds]) for part in (0, 1))
    return Answers(validation, test, seeds)


def _name(run: "FinishedRun") -> str:
    return f"run {run.folder.parent.name}/{run.folder.name}"


def _ordered(grid: Grid) -> Grid:
    order = [*PAPER, *sorted(grid.keys() - PAPER.keys())]
    return {row: dict(sorted(grid[row].items())) for row in order if row in grid}


def _split(name: str, rows: list[dict[str, Any]], folds: Folds, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities of one run for its validation and for the test cases."""
    val, test = ([row for row in rows if row["split"] == split] for split in ("val", "test"))
    return (
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
