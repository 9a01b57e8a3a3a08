"""Baselines that need no network, in the same folds: cases in, probabilities out.

From below: the training cases' larger class, logistic regressions on dose-volume numbers and on clinical ones, and the
rows of ricenet.evaluation.number_rows. From above, where the cohort is a phantom: the Bayes-optimal decision of each
modality set.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ricenet import LABELS
from ricenet.cases.case_numbers import dose_volume, names_of
from ricenet.cases.case_record import read_case_record
from ricenet.cohort.covariates import Covariates
from ricenet.cohort.folds import Folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.display.words import BASELINES
from ricenet.errors import InvalidInput, about
from ricenet.evaluation.grid import FoldProbabilities, Grid, labels_of
from ricenet.evaluation.number_rows import BaselineRow, Rows, fit_folds, number_rows
from ricenet.training.metadata_only import balanced_regression, fill_missing

DOSE = "rd"
DOSE_NUMBERS = names_of("dose_volume")


class Baselines(NamedTuple):
    """The baselines that a cohort allows, the cases that each has, and a note on each that it does not allow."""

    rows: Grid
    folds_of: dict[str, Folds]
    notes: list[str]


def baseline_probabilities(
    cases: Path, folds: Folds, covariates: Covariates | None, clinical: Sequence[str]
) -> Baselines:
    """The baselines that this cohort allows, in the same folds; each on the cases that have its images."""
    covariate_numbers = covariates.numbers if covariates else {}
    values, used = clinical_numbers(folds.cases, covariate_numbers, clinical)
    rows: Rows = {"majority_class": BaselineRow(folds, larger_class(folds))}
    notes = []
    with_dose = folds.having([DOSE])
    numbers = dose_numbers(cases, with_dose.cases) if with_dose.cases else None
    if numbers is None:
        notes.append("no dose-volume baseline: the cases hold no dose in Gy")
    elif not all(map(with_dose.is_trainable, range(with_dose.n_folds))):
        notes.append(
            f"no dose-volume baseline: the {len(with_dose.cases)} cases with a dose cannot be trained on in every fold"
        )
    else:
        rows["dose_volume"] = BaselineRow(with_dose, regression(with_dose, numbers))
    of_numbers, on_numbers = number_rows(cases, folds, values)
    rows |= of_numbers
    notes += on_numbers
    if used:
        rows["clinical"] = BaselineRow(folds, regression(folds, values))
        notes.append(f"the clinical baseline reads {', '.join(used)}")
    else:
        notes.append(f"no clinical baseline: the cohort has no numbers in {', '.join(clinical) or 'clinical=[]'}")
    ordered = {name: rows[name] for name in BASELINES if name in rows}
    return Baselines(
        {name: row.by_fold for name, row in ordered.items()},
        {name: row.folds for name, row in ordered.items()},
        notes,
    )


def larger_class(folds: Folds) -> dict[int, FoldProbabilities]:
    """Predict the larger class of each fold's training cases."""
    by_fold = {}
    for fold in range(folds.n_folds):
        rice = float(labels_of(folds.training(fold)).mean() > 0.5)
        validation, test = len(folds.validation(fold)), len(folds.test())
        by_fold[fold] = FoldProbabilities(np.full((1, validation), rice), np.full((1, test), rice))
    return by_fold


def regression(folds: Folds, numbers: np.ndarray) -> dict[int, FoldProbabilities]:
    """Logistic regression on standardised numbers, both classes weighing the same, one model per fold.

    A number that is not given (nan) becomes the mean of the training cases, and that it is not given a number itself.

    Args:
        numbers: (cases, columns), in the order of `folds.cases`.
    """
    return fit_folds(folds, numbers, lambda seen, labels, *_: balanced_regression(fill_missing()).fit(seen, labels))


def clinical_numbers(
    ready: Sequence[ReadyCase], numbers: Mapping[str, Mapping[str, float]], columns: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """(cases, used columns) of the declared clinical columns that the cohort has, nan where not given; and their names.

    Args:
        numbers: column -> case key -> number (ricenet.cohort.covariates).
    """
    used = [column for column in columns if numbers.get(column)]
    rows = [[numbers[column].get(case.case_key, np.nan) for column in used] for case in ready]
    return np.array(rows, dtype=float).reshape(len(ready), len(used)), used


def dose_numbers(cases: Path, ready: Sequence[ReadyCase]) -> np.ndarray | None:
    """The DOSE_NUMBERS of each case (ricenet.cases.case_numbers.dose_volume).

    Returns:
        (cases, DOSE_NUMBERS) float64, or None where the cases hold no dose, or none in Gy (dose_scaling=zscore).

    Raises:
        InvalidInput: a case with an empty brain mask, or with a dose that is not finite.
    """
    rows = []
    for case in ready:
        folder = cases / case.folder
        record = read_case_record(cases, case)
        if "rd" not in record.channels or record.dose_scale_gy is None:
            return None
        # Mapped, so that only this channel is read from disk; float16 holds 60 Gy to 0.03 Gy.
        channel = np.load(folder / "volume.npy", mmap_mode="r")[record.channels.index("rd")]
        with about(case.name):
            numbers = dose_volume(channel.astype(np.float64) * record.dose_scale_gy, np.load(folder / "brain.npy"))
        rows.append([numbers[name] for name in DOSE_NUMBERS])
    return np.array(rows)


def read_bayes_decisions(cases: Path, folds: Folds) -> dict[str, dict[str, int]]:
    """Modality set -> case key -> the Bayes-optimal decision, of truth.csv; empty where the cohort is no phantom.

    The decision is balanced, rice where log p(x | rice) / p(x | recurrence) > 0, like the training's sampler.

    Raises:
        InvalidInput: truth.csv does not hold a case, or with another label.
    """
    path = cases / "truth.csv"
    if not path.is_file():
        return {}
    with path.open(newline="") as stream:
        rows = {row["case_key"]: row for row in csv.DictReader(stream)}
    for case in folds.cases:
        drawn = rows.get(case.case_key, {}).get("label")
        if drawn != LABELS[case.label]:
            raise InvalidInput(
                f"case {case.case_key}: expected {LABELS[case.label]} in truth.csv, got {drawn}",
                "draw the phantom again",
                code="truth.label",
            )
    sets = next(iter(rows.values())).keys() - {"case_key", "label"}
    return {name: {key: int(float(row[name]) > 0) for key, row in rows.items()} for name in sets}
