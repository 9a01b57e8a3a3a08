"""The estimators of the evaluation: labels and predictions in, numbers out. Nothing here knows of files or folds.

Labels and decisions are (n,) integer arrays, 0 recurrence, 1 rice; probabilities are of rice. The patient is the unit
of every interval: cases of one patient are drawn together, never apart. Two kinds of interval, both 95%:

- from 50 patients on: BCa bootstrap over patients (`bootstrap`);
- below, where a bootstrap has too few distinct resamples: Jeffreys-Beta draws of sensitivity and specificity,
  propagated to the metric at the observed class counts (`jeffreys`). Also where every resample gives the same value,
  as when no case is wrong: that is no certainty.

docs/statistics.md says which is used where, and how often each holds the true value (benchmarks/coverage.py).
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, matthews_corrcoef, roc_auc_score
from statsmodels.stats.proportion import proportion_confint

CONFIDENCE = 0.95
BOOTSTRAP_PATIENTS = 50
PROPAGATED_DRAWS = 100_000
AT_ONCE = 1_000_000  # patients over all draws; bounds the memory to about 100 MB
_PROPORTIONS = {"wilson": "wilson", "clopper_pearson": "beta"}  # ours: statsmodels' name

Interval = tuple[float, float]
Method = Literal["jeffreys", "bca", "percentile"]
Metric = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A value, its 95% interval and how that was found: `bootstrap` or `jeffreys`."""

    value: float
    interval: Interval
    method: str


@dataclass(frozen=True)
class Measures:
    """Further measures of a classifier, rice being the positive class."""

    balanced_accuracy: float
    mcc: float
    sensitivity: float
    specificity: float
    auroc: float


@dataclass(frozen=True)
class MeasureIntervals:
    """The 95% intervals of `Measures`; that of AUROC is None where it cannot be found."""

    balanced_accuracy: Interval
    mcc: Interval
    sensitivity: Interval
    specificity: Interval
    auroc: Interval | None


def macro_f1(labels: np.ndarray, decisions: np.ndarray) -> float:
    """Mean of the F1 of both classes; a class that neither occurs nor is named counts 0 (labels=[0, 1] of sklearn)."""
    return float(macro_f1_of(confusion(labels, decisions).sum(axis=0)))


def decide(probabilities: np.ndarray) -> np.ndarray:
    """1 (rice) where the probability of rice exceeds one half, like argmax over the two logits."""
    return (np.asarray(probabilities) > 0.5).astype(int)


def majority_vote(probabilities: np.ndarray) -> np.ndarray:
    """The paper's ensemble: each member of (members, n) probabilities casts one vote per case; the (n,) decisions.

    With an even number of members the votes can tie. A fixed class for ties would let one vote count double, so a tie
    goes to the side of the mean probability: every member can still change the vote.
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
    return _estimate(_Judged(labels, [decisions], patients), macro_f1_of, draws, seed)


def macro_f1_interval(
    labels: np.ndarray, decisions: np.ndarray, patients: np.ndarray, method: Method, draws: int, seed: int
) -> Interval | None:
    """One interval of macro-F1 by its name, whatever the number of patients; None where all resamples agree.

    `percentile` is here for the table of coverage alone: with few patients it is much too narrow.
    """
    judged = _Judged(labels, [decisions], patients)
    if method == "jeffreys":
        return _jeffreys(judged, macro_f1_of, seed)
    return _bootstrap_counts(judged, macro_f1_of, method, draws, seed)


def macro_f1_difference(
    labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray, patients: np.ndarray, draws: int, seed: int
) -> Estimate:
    """Macro-F1 of decisions `ours` minus that of `theirs` on the very same cases, with the interval of the pairs."""
    return _estimate(_Judged(labels, [ours, theirs], patients), macro_f1_of, draws, seed)


def proportion_interval(hits: float, trials: float, method: Literal["wilson", "clopper_pearson"]) -> Interval:
    """95% interval of a proportion; (0, 1) where there was no trial. Clopper-Pearson never covers less than it says."""
    if trials == 0:
        return 0.0, 1.0
    low, high = proportion_confint(hits, trials, alpha=1 - CONFIDENCE, method=_PROPORTIONS[method])
    return float(low), float(high)


def wilson(hits: float, trials: float) -> Interval:
    """Wilson's interval of a proportion, the one of every score."""
    return proportion_interval(hits, trials, "wilson")


def describe(labels: np.ndarray, probabilities: np.ndarray) -> Measures:
    """Balanced accuracy, MCC, sensitivity for rice, specificity and AUROC of (n,) probabilities; both classes present.

    Across folds the AUROC ranks probabilities of different models against each other and tends to be too low.
    """
    decisions = decide(probabilities)
    tp, fn, fp, tn = confusion(labels, decisions).sum(axis=0)
    return Measures(
        balanced_accuracy=float(balanced_accuracy_score(labels, decisions)),
        mcc=float(matthews_corrcoef(labels, decisions)),
        sensitivity=float(tp / (tp + fn)),
        specificity=float(tn / (tn + fp)),
        auroc=float(roc_auc_score(labels, probabilities)),
    )


def describe_intervals(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, draws: int, seed: int
) -> MeasureIntervals:
    """The intervals of `describe`: sensitivity and specificity by Wilson, the others as that of macro-F1 is found.

    That of AUROC is None below 50 patients, and where a resample has one class only or all resamples agree.
    """
    decisions = decide(probabilities)
    judged = _Judged(labels, [decisions], patients)
    enough_patients = judged.n_patients() >= BOOTSTRAP_PATIENTS
    return MeasureIntervals(
        balanced_accuracy=_estimate(judged, _balanced_accuracy_of, draws, seed).interval,
        mcc=_estimate(judged, _mcc_of, draws, seed).interval,
        sensitivity=_share_right(judged, decisions, 1),
        specificity=_share_right(judged, decisions, 0),
        auroc=_auroc_interval(labels, probabilities, patients, draws, seed) if enough_patients else None,
    )


def confusion(labels: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """(..., n, 4) of 0 and 1 for (..., n) decisions: true positive, false negative, false positive, true negative."""
    rice, called = np.asarray(labels) == 1, np.asarray(decisions) == 1
    return np.stack([rice & called, rice & ~called, ~rice & called, ~rice & ~called], axis=-1).astype(float)


def macro_f1_of(counts: np.ndarray) -> np.ndarray:
    """Macro-F1 of (..., 4) confusion counts, whole or not."""
    tp, fn, fp, tn = np.moveaxis(counts, -1, 0)
    return (_ratio(2 * tp, 2 * tp + fn + fp) + _ratio(2 * tn, 2 * tn + fn + fp)) / 2


def _balanced_accuracy_of(counts: np.ndarray) -> np.ndarray:
    """Of (..., 4) counts; as in sklearn, a class that does not occur does not count."""
    tp, fn, fp, tn = np.moveaxis(counts, -1, 0)
    present = (tp + fn > 0).astype(float) + (fp + tn > 0)
    return _ratio(_ratio(tp, tp + fn) + _ratio(tn, fp + tn), present)


def _mcc_of(counts: np.ndarray) -> np.ndarray:
    """Matthews' correlation of (..., 4) counts; as in sklearn, 0 where it is not defined."""
    tp, fn, fp, tn = np.moveaxis(counts, -1, 0)
    return _ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


class _Judged:
    """What an interval is computed from: (n,) labels, patients, and decisions of one model, or of two to compare."""

    def __init__(self, labels: np.ndarray, decisions: Sequence[np.ndarray], patients: np.ndarray) -> None:
        self.labels = np.asarray(labels)
        self.decisions = np.stack(decisions)  # (models, n)
        self.patients = np.asarray(patients)
        self.confusion = np.moveaxis(confusion(labels, self.decisions), 0, 1)  # (n, models, 4)

    def n_patients(self, cases: np.ndarray | slice = slice(None)) -> int:
        """Number of patients that `cases` are of: several cases of one weigh together as one."""
        return len(np.unique(self.patients[cases]))


def _first_less_second(values: np.ndarray) -> np.ndarray:
    return values[..., 0] - values[..., 1] if values.shape[-1] == 2 else values[..., 0]


def _share_right(judged: _Judged, decisions: np.ndarray, label: int) -> Interval:
    """Wilson's interval of the share of the patients of one class whose decision is right."""
    of_class = judged.labels == label
    trials = judged.n_patients(of_class)
    return wilson((decisions[of_class] == label).mean() * trials, trials)


def _estimate(judged: _Judged, metric: Metric, draws: int, seed: int) -> Estimate:
    value = float(_first_less_second(metric(judged.confusion.sum(axis=0))))
    if judged.n_patients() >= BOOTSTRAP_PATIENTS:
        interval = _bootstrap_counts(judged, metric, "bca", draws, seed)
        if interval is not None:
            return Estimate(value, interval, "bootstrap")
    return Estimate(value, _jeffreys(judged, metric, seed), "jeffreys")


def _bootstrap_counts(judged: _Judged, metric: Metric, method: Method, draws: int, seed: int) -> Interval | None:
    who, index = np.unique(judged.patients, return_inverse=True)
    per_patient = np.zeros((len(who), *judged.confusion.shape[1:]))
    np.add.at(per_patient, index, judged.confusion)

    def statistic(times: np.ndarray) -> np.ndarray:
        return _first_less_second(metric(np.tensordot(times, per_patient, axes=1)))

    return _bootstrap(len(who), statistic, method, draws, seed)


def _auroc_interval(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, draws: int, seed: int
) -> Interval | None:
    """BCa interval of the share of (rice, recurrence) pairs that are ranked rightly; ties count one half."""
    who, index = np.unique(patients, return_inverse=True)
    rice, belongs = np.asarray(labels) == 1, np.eye(len(who))[index]  # (n, patients)
    above = np.asarray(probabilities)[rice, None] - np.asarray(probabilities)[~rice]
    right = belongs[rice].T @ np.heaviside(above, 0.5) @ belongs[~rice]  # (patients, patients)
    of_rice, of_recurrence = belongs[rice].sum(axis=0), belongs[~rice].sum(axis=0)

    def auroc(times: np.ndarray) -> np.ndarray:
        return ((times @ right) * times).sum(axis=-1) / ((times @ of_rice) * (times @ of_recurrence))

    return _bootstrap(len(who), auroc, "bca", draws, seed)


def _bootstrap(n_patients: int, statistic: Metric, method: str, draws: int, seed: int) -> Interval | None:
    """Interval of a statistic of (..., patients) numbers of times that each is drawn; None where it has none."""

    def of_resamples(index: np.ndarray, axis: int = -1) -> np.ndarray:
        drawn = np.moveaxis(index, axis, -1)
        offsets = n_patients * np.arange(drawn[..., 0].size).reshape(*drawn.shape[:-1], 1)
        times = np.bincount((drawn + offsets).ravel(), minlength=n_patients * offsets.size)
        return statistic(times.reshape(*drawn.shape[:-1], n_patients).astype(float))

    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # its nan is handled below
        low, high = stats.bootstrap(
            (np.arange(n_patients),),
            of_resamples,
            n_resamples=draws,
            batch=max(1, AT_ONCE // n_patients),
            confidence_level=CONFIDENCE,
            method=method,
            vectorized=True,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return (float(low), float(high)) if np.isfinite([low, high]).all() else None


def _jeffreys(judged: _Judged, metric: Metric, seed: int) -> Interval:
    """Quantiles of the propagated metric, widened at the border as in Brown, Cai and DasGupta 2001.

    The interval holds the observed value. Where a model is right about every case, it reaches down to the metric at
    sensitivity = specificity = x, with which all n patients are right with probability alpha / 2 (x^n); where it is
    wrong about every case, up to that at 1 - x.
    """
    tail = (1 - CONFIDENCE) / 2
    sample = _first_less_second(metric(_propagate(judged, seed)))
    ends = [*np.quantile(sample, [tail, 1 - tail]), _first_less_second(metric(judged.confusion.sum(axis=0)))]
    right = (judged.decisions == judged.labels).mean()
    if len(judged.decisions) == 1 and right in (0, 1):
        x = tail ** (1 / judged.n_patients()) if right == 1 else 1 - tail ** (1 / judged.n_patients())
        recurrence, rice = np.bincount(judged.labels, minlength=2)
        ends.append(metric(np.array([rice * x, rice * (1 - x), recurrence * (1 - x), recurrence * x])))
    return float(min(ends)), float(max(ends))


def _propagate(judged: _Judged, seed: int) -> np.ndarray:
    """(draws, models, 4) confusion counts that the decisions make plausible, at the observed class sizes.

    Decisions about one case belong together: in each class a Dirichlet over the 2^models patterns of right and wrong,
    1 / 2^models added to each, so that the share of right ones of each model is Beta(right + 1/2, wrong + 1/2).
    """
    rng = np.random.default_rng(seed)
    models = len(judged.decisions)
    patterns = 2**models
    is_right = (np.arange(patterns)[:, None] >> np.arange(models)) & 1  # (patterns, models)
    counts = np.empty((PROPAGATED_DRAWS, models, 4))
    for label, (right_column, wrong_column) in ((1, (0, 1)), (0, (3, 2))):
        of_class = judged.labels == label
        pattern = (judged.decisions[:, of_class] == label).T.astype(int) @ (1 << np.arange(models))
        weight = judged.n_patients(of_class) / max(1, of_class.sum())
        seen = weight * np.bincount(pattern, minlength=patterns)
        right = rng.dirichlet(seen + 1 / patterns, PROPAGATED_DRAWS) @ is_right  # (draws, models)
        counts[..., right_column], counts[..., wrong_column] = of_class.sum() * right, of_class.sum() * (1 - right)
    return counts
