"""Elastic-net logistic regression on the numbers of cases, its penalty chosen by cross-validation of training cases.

The learner of the rows that a network has to beat: few patients, many numbers that say nearly the same.
Imputation, scaling and penalty are fitted on what `fit` is given, so they never see the cases that are scored.
"""

import warnings
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ricenet.training.metadata_only import fill_missing

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

INNER_FOLDS = 5
# Inverse strengths of the penalty, strongest first: each fit starts from the weights of the one before.
STRENGTHS = (0.01, 0.032, 0.1, 0.32, 1.0, 3.2)
L1_RATIOS = (0.0, 0.5, 1.0)


class Effort(NamedTuple):
    """When scikit-learn's solver stops."""

    tol: float
    max_iter: int


CHOOSING, FITTING = Effort(1e-2, 500), Effort(1e-4, 10_000)  # the first is enough to rank penalties


class Penalty(NamedTuple):
    """As scikit-learn's LogisticRegression names it: `C` is the inverse strength, `l1_ratio` the share of the L1 norm.

    The defaults are taken where the training cases are too few to choose.
    """

    C: float = 0.1
    l1_ratio: float = 0.5


def fit(numbers: NDArray[np.float64], labels: NDArray[np.int_], patients: Sequence[str], seed: int) -> "Pipeline":
    """Fit imputation, scaling and the regression to training cases; both classes weigh the same.

    Args:
        numbers: (cases, columns), nan where a case has none.
        labels: (cases,) 0 recurrence, 1 rice; both have to be there.
        patients: (cases,) who stay together in the inner folds.
        seed: of the inner folds.

    Returns:
        A fitted pipeline, whose `predict_proba` takes (cases, columns).
    """
    pipeline = _features()
    pipeline.steps.append(("regression", _regression(choose_penalty(numbers, labels, patients, seed), FITTING)))
    return pipeline.fit(numbers, labels)


def choose_penalty(
    numbers: NDArray[np.float64], labels: NDArray[np.int_], patients: Sequence[str], seed: int
) -> Penalty:
    """The penalty with the smallest log-loss of the cases that the inner folds hold out; arguments as `fit`."""
    splits = _inner_splits(labels, np.asarray(patients), seed)
    if len(splits) < 2:
        return Penalty()
    penalties = [Penalty(strength, ratio) for ratio, strength in product(L1_RATIOS, STRENGTHS)]
    losses = sum(_losses(penalties, numbers, labels, training, held_out) for training, held_out in splits)
    return penalties[int(np.argmin(losses))]


def _losses(
    penalties: Sequence[Penalty],
    numbers: NDArray[np.float64],
    labels: NDArray[np.int_],
    training: NDArray[np.int_],
    held_out: NDArray[np.int_],
) -> NDArray[np.float64]:
    """(penalties,) log-loss summed over the cases held out, each class weighing as much as it does in training."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils.class_weight import compute_sample_weight

    features = _features().fit(numbers[training])
    seen, unseen = features.transform(numbers[training]), features.transform(numbers[held_out])
    weights = compute_sample_weight("balanced", labels[held_out])
    sign = np.where(labels[held_out] == 1, -1, 1)
    regression = _regression(penalties[0], CHOOSING, warm_start=True)
    losses = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of the weakest penalties, on their way to the worst loss
        for penalty in penalties:
            regression.set_params(**penalty._asdict()).fit(seen, labels[training])
            losses.append(weights @ np.logaddexp(0, sign * regression.decision_function(unseen)))
    return np.array(losses)


def _inner_splits(
    labels: NDArray[np.int_], patients: NDArray[np.str_], seed: int
) -> list[tuple[NDArray[np.int_], NDArray[np.int_]]]:
    """(training, held out) rows of each inner fold, grouped by patient; those with both classes on both sides."""
    from sklearn.model_selection import StratifiedGroupKFold

    fewest = min(len(set(patients[labels == label])) for label in (0, 1))
    if fewest < 2:
        return []
    inner = StratifiedGroupKFold(min(INNER_FOLDS, fewest), shuffle=True, random_state=seed)
    splits = inner.split(patients, labels, patients)
    return [split for split in splits if all(len(set(labels[part])) == 2 for part in split)]


def _features() -> "Pipeline":
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(fill_missing(), StandardScaler())


def _regression(penalty: Penalty, effort: Effort, warm_start: bool = False) -> "LogisticRegression":
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(
        **penalty._asdict(),
        **effort._asdict(),
        solver="saga",
        class_weight="balanced",
        warm_start=warm_start,
        random_state=0,
    )
