"""Score, compare and calibrate predictions that lie in arrays: the estimators of the evaluation for notebooks.

Labels are (n,) of 0, recurrence, and 1, rice. Predictions are (n,) probabilities of rice, or decisions 0 and 1; above
one half they count as rice. Patients are (n,) of any values, who each case belongs to; without them each case is a
patient of its own. Arguments are checked here, and defaults are those of `ricenet.evaluate`.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ricenet.statistics.comparison import Pairs, mcnemar
from ricenet.statistics.metrics import Estimate, decide, macro_f1_difference, macro_f1_estimate
from ricenet.statistics.recalibration import RecalibrationCurve, fit_recalibration, recalibrate

DRAWS = 9999


@dataclass(frozen=True)
class Comparison:
    """Two models on the same cases.

    Attributes:
        difference: macro-F1 of the first less that of the second, with the 95% interval of the pairs.
        pairs: the cases that only one of them is right about, and the exact p of McNemar's test over patients.
    """

    difference: Estimate
    pairs: Pairs


@dataclass(frozen=True)
class CalibrationCurve:
    """Logistic recalibration: call it with a probability of rice.

    Attributes:
        intercept: 0 in a model that is calibrated.
        slope: 1 in a model that is calibrated, below 1 in an overconfident one.
    """

    intercept: float
    slope: float
    _curve: RecalibrationCurve = field(repr=False)

    def __call__(self, probability: float) -> Estimate:
        """The calibrated probability of rice, with the 95% interval of the curve there, not of the patient."""
        if not 0 <= probability <= 1:
            raise ValueError(f"probability: expected 0 to 1, got {probability:g}")
        value, (low, high) = recalibrate(self._curve, probability)
        return Estimate(value, (low, high), "bootstrap")


def macro_f1(
    labels: ArrayLike, predictions: ArrayLike, patients: ArrayLike | None = None, *, draws: int = DRAWS, seed: int = 0
) -> Estimate:
    """Macro-F1 with its 95% interval over patients: BCa bootstrap from 50 patients on, Jeffreys below.

    Args:
        labels: (n,) of 0 and 1.
        predictions: (n,) probabilities of rice, or decisions.
        patients: (n,); None: each case is a patient.
        draws: bootstrap resamples.
        seed: of the resamples.

    Raises:
        ValueError: an argument that is not as described.
    """
    truth, who = _checked_labels(labels, patients)
    return macro_f1_estimate(truth, _decisions("predictions", predictions, len(truth)), who, draws, seed)


def compare(
    labels: ArrayLike,
    ours: ArrayLike,
    theirs: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same cases: paired difference of macro-F1, and McNemar's exact test.

    Args:
        labels: (n,) of 0 and 1.
        ours: (n,) probabilities of rice, or decisions, of the first model.
        theirs: likewise of the second.
        patients: (n,); None: each case is a patient.
        draws: bootstrap resamples.
        seed: of the resamples.

    Raises:
        ValueError: an argument that is not as described.
    """
    truth, who = _checked_labels(labels, patients)
    first, second = (_decisions(*named, len(truth)) for named in (("ours", ours), ("theirs", theirs)))
    return Comparison(macro_f1_difference(truth, first, second, who, draws, seed), mcnemar(truth, first, second, who))


def calibrate(
    labels: ArrayLike, probabilities: ArrayLike, patients: ArrayLike | None = None, *, seed: int = 0
) -> CalibrationCurve:
    """Fit the curve that puts probabilities on the scale of what was observed (Cox 1958).

    Args:
        labels: (n,) of 0 and 1.
        probabilities: (n,) of rice, for cases that the model was not trained on.
        patients: (n,); None: each case is a patient.
        seed: of the 500 bootstrap resamples behind the intervals.

    Raises:
        ValueError: an argument that is not as described, or predictions that allow no curve.
    """
    truth, who = _checked_labels(labels, patients)
    fitted = fit_recalibration(truth, _in_unit_interval("probabilities", probabilities, len(truth)), who, seed)
    if fitted.curve is None:
        raise ValueError(fitted.reason)
    return CalibrationCurve(fitted.curve.intercept, fitted.curve.slope, fitted.curve)


def _checked_labels(labels: ArrayLike, patients: ArrayLike | None) -> tuple[NDArray[np.int64], NDArray]:
    truth = np.asarray(labels)
    if truth.ndim != 1 or not len(truth):
        raise ValueError(f"labels: expected (n,), one or more, got shape {truth.shape}")
    unknown = truth[~np.isin(truth, (0, 1))]
    if len(unknown):
        raise ValueError(f"labels: expected 0 (recurrence) and 1 (rice), got {unknown[0]}")
    who = np.arange(len(truth)) if patients is None else np.asarray(patients)
    if who.shape != truth.shape:
        raise ValueError(f"patients: expected one for each of {len(truth)} cases, got shape {who.shape}")
    return truth.astype(np.int64), who


def _decisions(name: str, predictions: ArrayLike, cases: int) -> NDArray[np.int64]:
    return decide(_in_unit_interval(name, predictions, cases))


def _in_unit_interval(name: str, values: ArrayLike, cases: int) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape != (cases,):
        raise ValueError(f"{name}: expected ({cases},) numbers, got shape {numbers.shape}")
    outside = numbers[~((numbers >= 0) & (numbers <= 1))]
    if len(outside):
        raise ValueError(f"{name}: expected numbers from 0 to 1, got {outside[0]:g}")
    return numbers
