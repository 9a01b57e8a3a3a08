"""Read the predictions of a grid's models: finished runs in, probabilities by modality set and fold out.

Every run is checked against the cases folder as it is now: its folds, its cases, its labels. Where some cases lack
channels, a row has predictions for those that have its own (`row_folds`). Several seeds of one fold stand beside each
other in `FoldProbabilities`. Runs of a leakage control are read apart (`read_controls`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ricenet import LABELS
from ricenet.cohort.folds import Folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.command.row_names import SHUFFLED_LABELS
from ricenet.errors import InvalidInput
from ricenet.paper import PAPER
from ricenet.training.predictions import read_predictions, read_predictions_by_set, sets_shown

if TYPE_CHECKING:  # it imports torch
    from ricenet.training.run_folder import FinishedRun


@dataclass(frozen=True)
class FoldProbabilities:
    """The probabilities of rice by one fold's model, ordered as `validation(fold)` and `test()` of the row's folds.

    Attributes:
        validation: (seeds, cases).
        test: (seeds, test cases).
        seeds: of the trainings, ascending.
    """

    validation: np.ndarray
    test: np.ndarray
    seeds: tuple[int, ...] = (0,)


Grid = dict[str, dict[int, FoldProbabilities]]  # row -> fold -> probabilities
BySeed = dict[int, tuple[np.ndarray, np.ndarray]]  # seed -> (cases,) of the validation split, of the test split


@dataclass(frozen=True)
class Control:
    """A row of a leakage control with one seed.

    Attributes:
        kind: shuffled_labels or metadata_only.
        folds: with the labels that it was trained on and is scored on.
        by_fold: its probabilities.
    """

    kind: str
    row: str
    seed: int
    folds: Folds
    by_fold: dict[int, FoldProbabilities]


def read_grid(runs: "Sequence[FinishedRun]", cases: Path, folds: Folds) -> Grid:
    """Read the probabilities of all finished runs but controls, each checked against the folds of its cases.

    Raises:
        InvalidInput: naming the run whose folds, cases, labels or numbers do not fit (`run.*`, `predictions.*`).
    """
    from ricenet.training.run_folder import require_same_inputs

    require_same_inputs(runs, cases, folds)
    grid: dict[str, list[FinishedRun]] = {}
    for run in runs:
        _require_place(run, folds)
        if run.control is None:
            grid.setdefault(run.modalities, []).append(run)
    folds_of = row_folds(runs, folds)
    return _ordered({row: _by_fold(of_row, folds_of[row]) for row, of_row in grid.items()})


def row_folds(runs: "Sequence[FinishedRun]", folds: Folds) -> dict[str, Folds]:
    """Row -> the cases that it is trained and scored on, of the runs that are no controls."""
    networks = [run for run in runs if run.control is None]
    return {run.modalities: run.record.usable(folds) for run in networks}


def only(by_fold: Mapping[int, FoldProbabilities], own: Folds, common: Folds) -> dict[int, FoldProbabilities]:
    """The probabilities for the cases of `common`, out of those for all that the row has; folds without any drop out.

    Args:
        own: the row's folds, whose order the probabilities have.
        common: the same folds with some of these cases.
    """
    if common is own:
        return dict(by_fold)
    keys = {case.case_key for case in common.cases}
    held = np.array([case.case_key in keys for case in own.test()], dtype=bool)
    chosen = {}
    for fold, probabilities in by_fold.items():
        kept = np.array([case.case_key in keys for case in own.validation(fold)], dtype=bool)
        if kept.any():
            chosen[fold] = replace(
                probabilities, validation=probabilities.validation[:, kept], test=probabilities.test[:, held]
            )
    return chosen


def read_controls(runs: "Sequence[FinishedRun]", folds: Folds) -> list[Control]:
    """Read the finished runs of leakage controls; each seed of a row by itself, as its labels are its own.

    Raises:
        InvalidInput: as read_grid.
    """
    from ricenet.cohort.shuffled_labels import shuffled

    rows: dict[tuple[str, str, int], list[FinishedRun]] = {}
    for run in runs:
        if run.control is not None:
            rows.setdefault((run.control, run.modalities, run.seed), []).append(run)
    controls = []
    for (kind, row, seed), of_row in sorted(rows.items()):
        usable = of_row[0].record.usable(folds)
        labelled = shuffled(usable, seed) if kind == SHUFFLED_LABELS else usable
        controls.append(Control(kind, row, seed, labelled, _by_fold(of_row, labelled)))
    return controls


def read_one_model(runs: "Sequence[FinishedRun]", folds: Folds) -> Grid:
    """Read runs whose one model serves every modality set (model=modality_dropout): its probabilities by set.

    Raises:
        InvalidInput: as read_grid.
    """
    by_set: dict[str, dict[int, BySeed]] = {}
    folds_of = one_model_folds(runs, folds)
    for run in runs:
        if run.control is not None:
            continue
        rows_of: dict[str, list[Mapping[str, Any]]] = {}
        for row in read_predictions_by_set(run.folder):
            rows_of.setdefault(row["modalities"], []).append(row)
        for modalities, rows in rows_of.items():
            name = f"{_name(run)}, shown {modalities}"
            having = folds_of.get(modalities, folds)
            by_set.setdefault(modalities, {}).setdefault(run.fold, {})[run.seed] = _split(name, rows, having, run.fold)
    return _ordered({name: {fold: _stack(seeds) for fold, seeds in of_set.items()} for name, of_set in by_set.items()})


def one_model_folds(runs: "Sequence[FinishedRun]", folds: Folds) -> dict[str, Folds]:
    """Set -> the cases that have its channels, of the sets that one model for all has predictions for."""
    models = [run for run in runs if run.control is None and run.record.model.get("channel_dropout")]
    return {name: folds.having(shown) for run in models for name, shown in sets_shown(run.channels).items()}


def _require_place(run: "FinishedRun", folds: Folds) -> None:
    """A run's folder says the row, fold and seed that its run.json says."""
    from ricenet.training.run_record import parse_fold

    fold, seed = parse_fold(run.folder.name) or (None, None)
    if (run.folder.parent.name, fold) != (run.modalities, run.fold) or seed not in (None, run.seed):
        raise InvalidInput(
            f"{_name(run)}: run.json says {run.modalities}/fold{run.fold}, seed {run.seed}",
            "is it a copied folder? remove it",
            code="run.place",
        )
    if run.fold not in range(folds.n_folds):
        raise InvalidInput(
            f"{_name(run)}: the cases folder has folds 0 to {folds.n_folds - 1}", "remove the run", code="run.fold"
        )


def _by_fold(runs: "Sequence[FinishedRun]", folds: Folds) -> dict[int, FoldProbabilities]:
    by_fold: dict[int, BySeed] = {}
    for run in runs:
        by_seed = by_fold.setdefault(run.fold, {})
        if run.seed in by_seed:
            raise InvalidInput(
                f"{_name(run)}: seed {run.seed} of this fold stands in two folders", "remove one", code="run.seed"
            )
        by_seed[run.seed] = _split(_name(run), read_predictions(run.folder), folds, run.fold)
    return {fold: _stack(by_seed) for fold, by_seed in by_fold.items()}


def _stack(by_seed: BySeed) -> FoldProbabilities:
    seeds = tuple(sorted(by_seed))
    validation, test = (np.stack([by_seed[seed][part] for seed in seeds]) for part in (0, 1))
    return FoldProbabilities(validation, test, seeds)


def _name(run: "FinishedRun") -> str:
    return f"run {run.folder.parent.name}/{run.folder.name}"


def _ordered(grid: Grid) -> Grid:
    order = [*PAPER, *sorted(grid.keys() - PAPER.keys())]
    return {row: dict(sorted(grid[row].items())) for row in order if row in grid}


def _split(name: str, rows: Sequence[Mapping[str, Any]], folds: Folds, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities of one run for its validation and for the test cases."""
    val, test = ([row for row in rows if row["split"] == split] for split in ("val", "test"))
    return (
        _probabilities(f"{name}, split val", val, folds.validation(fold)),
        _probabilities(f"{name}, split test", test, folds.test()),
    )


def _probabilities(name: str, rows: Sequence[Mapping[str, Any]], cases: Sequence[ReadyCase]) -> np.ndarray:
    """(cases,) probabilities of rice, checked against the cases, their labels and the logits beside them."""
    by_key = {row["case_key"]: row for row in rows}
    keys = {case.case_key for case in cases}
    again = "train the run again"
    if len(by_key) != len(rows) or by_key.keys() != keys:
        raise InvalidInput(
            f"{name}: expected one prediction for each of {len(keys)} cases, got {len(rows)} rows, "
            f"{len(keys - by_key.keys())} case(s) missing, {len(by_key.keys() - keys)} unknown",
            again,
            code="predictions.cases",
        )
    for case in cases:
        if by_key[case.case_key]["label"] != case.label:
            raise InvalidInput(
                f"{name}: case {case.case_key} is not {LABELS[case.label]} there", again, code="predictions.label"
            )
    logits = np.array([[by_key[c.case_key][f"logit_{label}"] for label in LABELS] for c in cases]).reshape(-1, 2)
    if not np.isfinite(logits).all():
        raise InvalidInput(
            f"{name}: {(~np.isfinite(logits)).sum()} logit(s) are not finite; the training diverged",
            again,
            code="predictions.not_finite",
        )
    probabilities = np.exp(-np.logaddexp(0, logits[:, 0] - logits[:, 1]))  # softmax, without overflow
    if not np.allclose(probabilities, [by_key[case.case_key]["prob_rice"] for case in cases], atol=1e-3):
        raise InvalidInput(
            f"{name}: prob_rice is not the softmax of the logits; are the columns exchanged?",
            again,
            code="predictions.softmax",
        )
    return probabilities


def labels_of(cases: Sequence[ReadyCase]) -> np.ndarray:
    """(cases,) labels, 0 recurrence, 1 rice."""
    return np.array([case.label for case in cases])


def patients_of(cases: Sequence[ReadyCase]) -> np.ndarray:
    """(cases,) patient keys, the unit of every interval."""
    return np.array([case.patient_key for case in cases])


def out_of_fold(folds: Folds, finished: Iterable[int]) -> list[ReadyCase]:
    """The validation cases of the folds, in the order in which their predictions are pooled."""
    return [case for fold in finished for case in folds.validation(fold)]
