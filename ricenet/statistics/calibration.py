"""Calibration of predicted probabilities: slope, intercept, expected error, reliability bins, ROC and decision curve.

Labels are (n,) integers, 0 recurrence, 1 rice. Results hold plain numbers, lists and None, as summary.json does. A
network that was trained on as many cases of one class as of the other is expected to show an intercept near the log
odds of rice in the cohort: its probabilities are those of an evenly mixed one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import statsmodels.api as sm
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import rankdata
from sklearn.metrics import brier_score_loss, log_loss, roc_curve

from ricenet.statistics import metrics

CLIP = 1e-6  # logits and log-loss see probabilities in [CLIP, 1 - CLIP]; a wrong probability of 0 or 1 costs 13.8 nats
MOST_BINS = 5
HISTOGRAM_BINS = 10
_LABELS_AT_ONCE = 1_000_000  # of the null's draws; bounds its memory to about 20 MB


@dataclass(frozen=True)
class Bin:
    """A bin of the reliability diagram; cases with the same probability are in the same one.

    Attributes:
        mean_probability: of its cases.
        observed: share of rice among them.
        interval: of that share, 95%, Wilson.
        n: number of cases.
    """

    mean_probability: float
    observed: float
    interval: metrics.Interval
    n: int


@dataclass(frozen=True)
class Calibration:
    """How well probabilities agree with the labels (Van Calster et al. 2019, BMC Medicine 17:230). Intervals are 95%.

    The slope, the intercept and their intervals are None where no maximum of the likelihood exists: one probability
    separates the classes, or all probabilities are the same.

    Attributes:
        brier: mean squared distance of probability and label.
        log_loss: in nats, of clipped probabilities.
        slope: of the labels' log odds on logit(probability); 1 is perfect, below 1 overconfident.
        intercept: calibration in the large, logit(probability) being the offset; 0 is perfect, below 0 the
            probabilities of rice are too high.
        ece: expected calibration error, mean distance of probability and share of rice over the bins.
        ece_null: its mean for a perfectly calibrated model with these very probabilities. Read `ece` beside it only.
        bins: at most MOST_BINS, with about the same number of cases.
        histogram: cases in HISTOGRAM_BINS steps of probability from 0 to 1.
    """

    brier: float
    log_loss: float
    slope: float | None
    slope_interval: metrics.Interval | None
    intercept: float | None
    intercept_interval: metrics.Interval | None
    ece: float
    ece_null: float
    bins: list[Bin]
    histogram: list[int]


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit over the threshold (Vickers and Elkin 2006, Medical Decision Making 26:565); none: always 0.

    Attributes:
        threshold: probability of rice from which on acting on it pays.
        model: of acting where the model's probability exceeds the threshold, in true positives per case.
        all: of acting on every case.
    """

    threshold: list[float]
    model: list[float]
    all: list[float]


@dataclass(frozen=True)
class RocCurve:
    """Corners of an ROC curve: false and true positive rates, ascending."""

    fpr: list[float]
    tpr: list[float]


@dataclass(frozen=True)
class _Coefficient:
    """Of a regression, with its interval; both None where it cannot be estimated."""

    value: float | None = None
    interval: metrics.Interval | None = None


def calibration(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, draws: int, seed: int
) -> Calibration:
    """Measure how well (n,) probabilities agree with the labels.

    Args:
        patients: (n,), who each case belongs to. Several cases of one patient count as clusters in the intervals of
            slope and intercept, and weigh no more than the patient in those of the bins.
        draws: sets of labels behind `ece_null`.
        seed: of these draws.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=float)
    patients = np.unique(patients, return_inverse=True)[1]
    clipped = np.clip(probabilities, CLIP, 1 - CLIP)
    index = _bin_index(probabilities)
    slope, intercept = _slope_and_intercept(labels, logit(clipped), patients)
    return Calibration(
        brier=float(brier_score_loss(labels, probabilities)),
        log_loss=float(log_loss(labels, clipped, labels=[0, 1])),
        slope=slope.value,
        slope_interval=slope.interval,
        intercept=intercept.value,
        intercept_interval=intercept.interval,
        ece=float(_calibration_error(labels[None], probabilities, index)[0]),
        ece_null=_null_calibration_error(probabilities, patients, index, draws, seed),
        bins=[_describe_bin(labels, probabilities, patients, index == number) for number in range(index.max() + 1)],
        histogram=np.histogram(probabilities, HISTOGRAM_BINS, (0, 1))[0].tolist(),
    )


def net_benefit(labels: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray) -> DecisionCurve:
    """Decision curve: what acting on rice is worth, in true positives per case, where probability > threshold.

    Args:
        thresholds: (t,) inside (0, 1): the probability of rice from which on acting on it pays.
    """
    thresholds = np.asarray(thresholds, dtype=float)
    rice = np.asarray(labels) == 1
    harm = thresholds / (1 - thresholds)
    acted = np.asarray(probabilities) > thresholds[:, None]  # (t, n)
    model = (acted & rice).mean(axis=1) - (acted & ~rice).mean(axis=1) * harm
    everyone = rice.mean() - (~rice).mean() * harm
    return DecisionCurve(thresholds.tolist(), model.tolist(), everyone.tolist())


def roc(labels: np.ndarray, probabilities: np.ndarray) -> RocCurve:
    """The corners of the ROC curve of (n,) probabilities, rice being the positive class; both classes present."""
    fpr, tpr, _ = roc_curve(labels, probabilities)
    return RocCurve(fpr.tolist(), tpr.tolist())


def _slope_and_intercept(
    labels: np.ndarray, logits: np.ndarray, patients: np.ndarray
) -> tuple[_Coefficient, _Coefficient]:
    if not overlap(labels, logits):
        return _Coefficient(), _Coefficient()
    slope = _last_coefficient(labels, np.stack([np.ones_like(logits), logits], axis=1), patients)
    # Fisher scoring takes full steps and can run away from a far start, so it starts at the solution.
    far = np.abs(logits).max() + np.log(len(labels)) + 1
    start = brentq(lambda shift: (labels - expit(logits + shift)).sum(), -far, far)
    intercept = _last_coefficient(labels, np.ones((len(labels), 1)), patients, offset=logits, start=start)
    return slope, intercept


def overlap(labels: np.ndarray, logits: np.ndarray) -> bool:
    """Whether a logistic regression of labels on logits has a finite maximum (Albert and Anderson 1984)."""
    rice, recurrence = logits[labels == 1], logits[labels == 0]
    if not (len(rice) and len(recurrence)):
        return False
    return bool(recurrence.max() > rice.min() and rice.max() > recurrence.min())


def fit_logistic(labels: np.ndarray, columns: np.ndarray, start: Sequence[float] | None = None, **data: Any) -> Any:
    """Logistic regression of (n,) labels on (n, k) columns by maximum likelihood; None where it does not settle.

    Args:
        start: (k,) coefficients that the search starts at.
        data: `offset` or `freq_weights`, (n,), as in statsmodels; `groups`, (n,), whose cases are not independent.

    Returns:
        The fit, as statsmodels gives it.
    """
    groups = data.pop("groups", None)
    clustered = {} if groups is None else {"cov_type": "cluster", "cov_kwds": {"groups": groups}}
    with np.errstate(over="ignore"):  # exp of a far logit: a probability of 0
        fitted = sm.GLM(labels, columns, family=sm.families.Binomial(), **data).fit(start_params=start, **clustered)
    return fitted if fitted.converged and np.isfinite(fitted.params).all() else None


def _last_coefficient(
    labels: np.ndarray,
    columns: np.ndarray,
    patients: np.ndarray,
    offset: np.ndarray | None = None,
    start: float | None = None,
) -> _Coefficient:
    """The last coefficient of a logistic regression and its Wald interval; None where the fit does not settle."""
    groups = patients if patients.max() + 1 < len(labels) else None
    fitted = fit_logistic(labels, columns, None if start is None else [start], offset=offset, groups=groups)
    if fitted is None:
        return _Coefficient()
    low, high = fitted.conf_int(alpha=1 - metrics.CONFIDENCE)[-1]
    return (
        _Coefficient(float(fitted.params[-1]), (float(low), float(high)))
        if np.isfinite([low, high]).all()
        else _Coefficient()
    )


def _bin_index(probabilities: np.ndarray) -> np.ndarray:
    """(n,) number of each case's bin, from 0 on, ascending in probability, none empty.

    By the mean rank of equal probabilities, so that they stay together and do not swallow their neighbours.
    """
    ranks = rankdata(probabilities) - 0.5
    return np.unique(ranks * MOST_BINS // len(probabilities), return_inverse=True)[1]


def _calibration_error(labels: np.ndarray, probabilities: np.ndarray, index: np.ndarray) -> np.ndarray:
    """(draws,) expected calibration error of (draws, n) labels."""
    in_bin = np.eye(index.max() + 1)[index]  # (n, bins)
    return np.abs((labels - probabilities) @ in_bin).sum(axis=1) / len(probabilities)


def _null_calibration_error(
    probabilities: np.ndarray, patients: np.ndarray, index: np.ndarray, draws: int, seed: int
) -> float:
    """Mean error where every probability is right. One random number a patient: their cases are not independent."""
    rng = np.random.default_rng(seed)
    total, at_once = 0.0, max(1, _LABELS_AT_ONCE // len(probabilities))
    for first in range(0, draws, at_once):
        level = rng.random((min(at_once, draws - first), patients.max() + 1))[:, patients]
        total += _calibration_error(level < probabilities, probabilities, index).sum()
    return float(total / draws)


def _describe_bin(labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, in_bin: np.ndarray) -> Bin:
    observed = float(labels[in_bin].mean())
    n_patients = len(np.unique(patients[in_bin]))
    return Bin(
        mean_probability=float(probabilities[in_bin].mean()),
        observed=observed,
        interval=metrics.wilson(observed * n_patients, n_patients),
        n=int(in_bin.sum()),
    )
