"""The rows that a network has to beat: elastic-net regressions on numbers of the lesion and of the dose, no network.

A cases folder with numbers.csv in, probabilities of the same folds out. One more row is a control: the dose at the
lesion, read at a random place of the brain. It must fall to what the dose alone says.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ricenet.cases.case_numbers import Group, names_of
from ricenet.cases.numbers_table import read_numbers
from ricenet.cohort.folds import Folds
from ricenet.errors import InvalidInput
from ricenet.evaluation import elastic_net
from ricenet.evaluation.grid import FoldProbabilities, labels_of

CHANNELS_OF: Mapping[Group, tuple[str, ...]] = {
    "dose_volume": ("rd",),
    "lesion_dose": ("rd", "event"),
    "lesion_image": ("event",),
}
EVERY_GROUP: tuple[Group, ...] = ("dose_volume", "lesion_dose", "lesion_image")


class NumbersRow(NamedTuple):
    """What a row reads: groups of numbers, the lesion moved to a random place, the clinical columns beside them."""

    groups: tuple[Group, ...]
    random_place: bool = False
    with_clinical: bool = False


NUMBER_ROWS = {
    "lesion_dose": NumbersRow(("lesion_dose",)),
    "lesion_image": NumbersRow(("lesion_image",)),
    "all_numbers": NumbersRow(EVERY_GROUP),
    "all_numbers_clinical": NumbersRow(EVERY_GROUP, with_clinical=True),
    "lesion_dose@random": NumbersRow(("lesion_dose",), random_place=True),
}


class BaselineRow(NamedTuple):
    """A row that needs no network: the cases that it has, and its probabilities for them."""

    folds: Folds
    by_fold: dict[int, FoldProbabilities]


Rows = dict[str, BaselineRow]


class Model(Protocol):
    """A fitted scikit-learn classifier."""

    def predict_proba(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """(cases, 2) probabilities of recurrence and rice, of (cases, columns)."""
        ...


# (cases, columns) of training cases, their labels, their patients and a seed -> a model.
Fit = Callable[[NDArray[np.float64], NDArray[np.int_], Sequence[str], int], Model]


def number_rows(cases: Path, folds: Folds, clinical: NDArray[np.float64]) -> tuple[Rows, list[str]]:
    """The rows of NUMBER_ROWS that this cohort allows, and a note on each that it does not allow.

    Args:
        clinical: (cases, columns) in the order of `folds.cases`, nan where not given.
    """
    rows: Rows = {}
    notes = []
    for name, row in NUMBER_ROWS.items():
        try:
            own, numbers = _numbers(cases, folds, row, clinical)
        except InvalidInput as error:
            if error.code != "numbers.missing":
                raise
            return {}, [f"no row of {', '.join(NUMBER_ROWS)}: {error.details}"]
        if lack := _lack(row, own, numbers):
            notes.append(f"no row {name}: {lack}")
        else:
            rows[name] = BaselineRow(own, fit_folds(own, np.hstack(numbers), elastic_net.fit))
    return rows, notes


def _numbers(
    cases: Path, folds: Folds, row: NumbersRow, clinical: NDArray[np.float64]
) -> tuple[Folds, list[NDArray[np.float64]]]:
    """The cases that have the images of a row, and its parts of (cases, columns): a group each, then the clinical ones.

    Raises:
        InvalidInput: as read_numbers.
    """
    own = folds.having({channel for group in row.groups for channel in CHANNELS_OF[group]})
    parts = [read_numbers(cases, own.cases, names_of(group), random_place=row.random_place) for group in row.groups]
    if row.with_clinical:
        keys = {case.case_key for case in own.cases}
        parts.append(clinical[[case.case_key in keys for case in folds.cases]])
    return own, parts


def _lack(row: NumbersRow, own: Folds, parts: Sequence[NDArray[np.float64]]) -> str:
    """Why there is no such row; empty where there is."""
    names = [*row.groups, "clinical"]
    absent = [name for name, part in zip(names, parts, strict=False) if not np.isfinite(part).any()]
    if absent:
        return f"the cases hold no number of {', '.join(absent)}"
    if not all(map(own.is_trainable, range(own.n_folds))):
        return f"the {len(own.cases)} cases with its images cannot be trained on in every fold"
    return ""


def fit_folds(folds: Folds, numbers: NDArray[np.float64], fit: Fit) -> dict[int, FoldProbabilities]:
    """One model per fold, fitted to its training cases alone.

    Args:
        numbers: (cases, columns), in the order of `folds.cases`; nan where a case has none.
        fit: as ricenet.evaluation.elastic_net.fit.
    """
    row = {case.case_key: numbers[index] for index, case in enumerate(folds.cases)}
    by_fold = {}
    for fold in range(folds.n_folds):
        training, validation = folds.training(fold), folds.validation(fold)
        patients = [case.patient_key for case in training]
        model = fit(np.array([row[case.case_key] for case in training]), labels_of(training), patients, folds.seed)
        unseen = [row[case.case_key] for case in [*validation, *folds.test()]]
        rice = model.predict_proba(np.array(unseen))[None, :, 1]
        by_fold[fold] = FoldProbabilities(rice[:, : len(validation)], rice[:, len(validation) :])
    return by_fold
