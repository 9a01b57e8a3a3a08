"""The estimators of the evaluation: labels and answers in, numbers out. Nothing here knows of files or folds.

Labels and decisions are (n,) integer arrays, 0 recurrence, 1 rice; probabilities are of rice. The patient is the unit
of every interval: cases of one patient are drawn together, never apart. Two kinds of interval, both 95%:

- from 50 patients on: BCa bootstrap over patients (`bootstrap`);
- below, where a bootstrap has too few distinct resamples: Jeffreys-Beta draws of sensitivity and specificity,
  propagated to the metric at the observed class counts (`jeffreys`). Also where every resample gives the same value,
  as when no case is wrong: that is no certainty.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, matthews_corrcoef, roc_auc_score
from statsmodels.stats.proportion import proportion_confint

CONFIDENCE = 0.95
BOOTSTRAP_PATIENTS = 50
PROPAGATED_DRAWS = 100_000
_RESAMPLED_AT_ONCE = 1_000_000  # patients over all draws; bounds the memory to about 100 MB

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A value, its 95% interval and how that was found: `bootstrap` or `jeffreys`."""

    value: float
    interval: Interval
    method: str


def macro_f1(labels: np.ndarray, decisions: np.ndarray) -> float:
    """Mean of the F1 of both classes; a class that neither occurs nor is named counts 0 (labels=[0, 1] of sklearn)."""
    return float(_macro_f1_of(_confusion(labels, decisions).sum(axis=0)))


def decide(probabilities: np.ndarray) -> np.ndarray:
    """1 (rice) where the probability of rice exceeds one half, like argmax over the two logits."""
    return (np.asarray(probabilities) > 0.5).astype(int)


def majority_vote(probabilities: np.ndarray) -> np.ndarray:
    """The paper's ensemble: each member of (members, n) probabilities casts one vote per case; the (n,) decisions.

    With an even number of members the votes can tie. A fixed class for ties would let one vote count double, so a tie
    goes to the side of the mean probability: every member can still change the answer.
    """
    votes = decide(probabilities).sum(axis=0)
    members = len(probabilities)
    return np.where(2 * votes == members, mean_decision(probabilities), 2 * votes > members).astype(int)


def mean_decision(probabilities: np.ndarray) -> np.ndarray:
    """The other ensemble: (n,) decisions by the mean of (members, n) probabilities of rice."""
    return decide(np.mean(probabilities, axis=0))


def macro_f1_estimate(
    labels: np.ndarray, decisions: np.ndarray, patients: np.ndarray, draws: int, seed: int
) -> Estimate:
    """Macro-F1 with its interval. patients: (n,), who each case belongs to; `draws` bootstrap resamples from `seed`."""
    return _estimate(labels, np.stack([decisions]), patients, _macro_f1_of_first, draws, seed)


def macro_f1_difference(
    labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray, patients: np.ndarray, draws: int, seed: int
) -> Estimate:
    """Macro-F1 of decisions `ours` minus that of `theirs` on the very same cases, with the interval of the pairs."""
    return _estimate(labels, np.stack([ours, theirs]), patients, _macro_f1_difference_of, draws, seed)


def wilson(hits: float, trials: float) -> Interval:
    """Wilson's interval of a proportion; (0, 1) where there was no trial."""
    if trials == 0:
        return 0.0, 1.0
    low, high = proportion_confint(hits, trials, alpha=1 - CONFIDENCE, method="wilson")
    return float(low), float(high)


def describe(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Balanced accuracy, MCC, sensitivity for rice, specificity and AUROC of (n,) probabilities; both classes present.

    Across folds the AUROC ranks probabilities of different models against each other and tends to be too low.
    """
    decisions = decide(probabilities)
    tp, fn, fp, tn = _confusion(labels, decisions).sum(axis=0)
    return {
        "balanced_accuracy": float(balanced_accuracy_score(labels, decisions)),
        "mcc": float(matthews_corrcoef(labels, decisions)),
        "sensitivity": float(tp / (tp + fn)),
        "specificity": float(tn / (tn + fp)),
        "auroc": float(roc_auc_score(labels, probabilities)),
    }


def _confusion(labels: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """(..., n, 4) of 0 and 1 for (..., n) decisions: true positive, false negative, false positive, true negative."""
    rice, called = np.asarray(labels) == 1, np.asarray(decisions) == 1
    return np.stack([rice & called, rice & ~called, ~rice & called, ~rice & ~called], axis=-1).astype(float)


def _macro_f1_of(counts: np.ndarray) -> np.ndarray:
    """Macro-F1 of (..., 4) confusion counts, whole or not."""
    tp, fn, fp, tn = np.moveaxis(counts, -1, 0)
    return (_ratio(2 * tp, 2 * tp + fn + fp) + _ratio(2 * tn, 2 * tn + fn + fp)) / 2


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _macro_f1_of_first(counts: np.ndarray) -> np.ndarray:
    return _macro_f1_of(counts[..., 0, :])


def _macro_f1_difference_of(counts: np.ndarray) -> np.ndarray:
    return _macro_f1_of(counts[..., 0, :]) - _macro_f1_of(counts[..., 1, :])


def _estimate(
    labels: np.ndarray,
    answers: np.ndarray,
    patients: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    draws: int,
    seed: int,
) -> Estimate:
    """`statistic` of the (..., answers, 4) confusion counts of (answers, n) decisions, and its interval."""
    rows = np.moveaxis(_confusion(labels, answers), 0, 1)  # (n, answers, 4)
    who, index = np.unique(patients, return_inverse=True)
    per_patient = np.zeros((len(who), *rows.shape[1:]))
    np.add.at(per_patient, index, rows)
    value = float(statistic(rows.sum(axis=0)))
    interval = _bootstrap(per_patient, statistic, draws, seed) if len(who) >= BOOTSTRAP_PATIENTS else None
    if interval is not None:
        return Estimate(value, interval, "bootstrap")
    # Several events of one patient are not independent: all counts together weigh as many as there are patients.
    sample = statistic(_propagate(np.asarray(labels), answers, len(who) / len(rows), seed))
    low, high = np.quantile(sample, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    # At 0 or n right answers the Jeffreys interval ends at the observed value (Brown, Cai and DasGupta 2001).
    return Estimate(value, (min(float(low), value), max(float(high), value)), "jeffreys")


def _bootstrap(
    per_patient: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], draws: int, seed: int
) -> Interval | None:
    """BCa interval of `statistic` of summed (patients, answers, 4) counts; None where all resamples agree."""
    flat = per_patient.reshape(len(per_patient), -1)

    def of_resamples(index: np.ndarray, axis: int = -1) -> np.ndarray:
        counts = flat[np.moveaxis(index, axis, -1)].sum(axis=-2)
        return statistic(counts.reshape(*counts.shape[:-1], *per_patient.shape[1:]))

    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # its nan is answered below
        low, high = stats.bootstrap(
            (np.arange(len(flat)),),
            of_resamples,
            n_resamples=draws,
            batch=max(1, _RESAMPLED_AT_ONCE // len(flat)),
            confidence_level=CONFIDENCE,
            method="BCa",
            vectorized=True,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return (float(low), float(high)) if np.isfinite([low, high]).all() else None


def _propagate(labels: np.ndarray, answers: np.ndarray, weight: float, seed: int) -> np.ndarray:
    """(draws, answers, 4) confusion counts that (answers, n) decisions make plausible, at the observed class sizes.

    Answers about one case belong together: in each class a Dirichlet over the 2^answers patterns of right and wrong,
    1 / 2^answers added to each, so that the share of right ones of each answer is Beta(right + 1/2, wrong + 1/2).
    """
    rng = np.random.default_rng(seed)
    patterns = 2 ** len(answers)
    is_right = (np.arange(patterns)[:, None] >> np.arange(len(answers))) & 1  # (patterns, answers)
    counts = np.empty((PROPAGATED_DRAWS, len(answers), 4))
    for label, (right_column, wrong_column) in ((1, (0, 1)), (0, (3, 2))):
        mine = labels == label
        pattern = (answers[:, mine] == label).T.astype(int) @ (1 << np.arange(len(answers)))
        seen = weight * np.bincount(pattern, minlength=patterns)
        right = rng.dirichlet(seen + 1 / patterns, PROPAGATED_DRAWS) @ is_right  # (draws, answers)
        counts[..., right_column], counts[..., wrong_column] = mine.sum() * right, mine.sum() * (1 - right)
    return counts
