"""The functions for notebooks against scikit-learn, SciPy and a cohort of known calibration; arguments are checked."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from ricenet.statistics import recalibration
from ricenet.statistics.checked_arrays import calibrate, compare, macro_f1

RICE, RECURRENCE = 1, 0
TWELVE = np.array([RECURRENCE] * 7 + [RICE] * 5)
ONE_WRONG = np.array([RICE] + [RECURRENCE] * 6 + [RICE] * 5)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the recalibration, whose own tests are about their number."""
    monkeypatch.setattr(recalibration, "DRAWS", 60)


def test_macro_f1_is_that_of_scikit_learn_and_of_the_papers_test_split() -> None:
    score = macro_f1(TWELVE, ONE_WRONG)
    assert score.value == pytest.approx(f1_score(TWELVE, ONE_WRONG, average="macro"))
    assert score.method == "jeffreys"
    assert score.interval == pytest.approx((0.64, 0.98), abs=0.005)  # docs/statistics.md


def test_probabilities_and_their_decisions_score_alike(rng: np.random.Generator) -> None:
    labels = rng.integers(0, 2, 60)
    probabilities = np.clip(labels * 0.4 + rng.random(60) * 0.6, 0, 1)
    assert macro_f1(labels, probabilities, draws=99) == macro_f1(labels, probabilities > 0.5, draws=99)


def test_cases_of_one_patient_widen_the_interval(rng: np.random.Generator) -> None:
    labels = np.tile(rng.integers(0, 2, 60), 2)
    predictions = np.where(np.tile(rng.random(60) < 0.8, 2), labels, 1 - labels)
    alone, paired = (macro_f1(labels, predictions, who) for who in (None, np.tile(np.arange(60), 2)))
    assert np.ptp(paired.interval) > 1.2 * np.ptp(alone.interval)


def test_the_same_seed_gives_the_same_interval(rng: np.random.Generator) -> None:
    labels, predictions = rng.integers(0, 2, (2, 60)).tolist()
    first, again, other = (macro_f1(labels, predictions, draws=199, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.interval != other.interval


def test_compare_is_mcnemars_exact_test_beside_the_paired_difference() -> None:
    labels = np.zeros(80, dtype=int)
    labels[:30] = RICE
    ours, theirs = labels.copy(), labels.copy()
    ours[[0, 40, 41]] = 1 - ours[[0, 40, 41]]
    theirs[10:22] = 1 - theirs[10:22]
    result = compare(labels, ours, theirs, draws=499)
    assert (result.pairs.only_ours, result.pairs.only_theirs) == (12, 3)
    assert result.pairs.p == pytest.approx(binomtest(3, 15).pvalue)
    scores = [f1_score(labels, decisions, average="macro") for decisions in (ours, theirs)]
    assert result.difference.value == pytest.approx(scores[0] - scores[1])
    assert result.difference.interval[0] < result.difference.value < result.difference.interval[1]


@pytest.mark.usefixtures("few_resamples")
def test_calibrate_undoes_a_known_distortion(rng: np.random.Generator) -> None:
    true = rng.uniform(0.05, 0.95, 4000)
    labels = (rng.random(4000) < true).astype(int)
    curve = calibrate(labels, expit(2 * logit(true) + 1))  # too sure, and too often rice: slope 1/2, intercept -1/2
    assert (curve.slope, curve.intercept) == (pytest.approx(0.5, abs=0.05), pytest.approx(-0.5, abs=0.1))
    for share in (0.2, 0.5, 0.8):
        calibrated = curve(float(expit(2 * logit(share) + 1)))
        assert calibrated.value == pytest.approx(share, abs=0.04)
        assert calibrated.interval[0] < calibrated.value < calibrated.interval[1]


@pytest.mark.usefixtures("few_resamples")
def test_a_curve_that_cannot_be_fitted_says_why(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="one class"):
        calibrate([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    with pytest.raises(ValueError, match=r"expected 0 to 1, got 1\.2"):
        calibrate([0, 1] * 100, np.clip(rng.normal([0.4, 0.6] * 100, 0.2), 0, 1))(1.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1, 2], [0, 1, 1]), r"labels: expected 0 \(recurrence\) and 1 \(rice\), got 2"),
        ((["rice"], [1]), r"labels: expected 0 \(recurrence\) and 1 \(rice\), got rice"),
        (([], []), r"labels: expected \(n,\), one or more, got shape \(0,\)"),
        (([[0, 1]], [[0, 1]]), r"labels: .*got shape \(1, 2\)"),
        (([0, 1], [0.5, 1.5]), r"predictions: expected numbers from 0 to 1, got 1.5"),
        (([0, 1], [0, float("nan")]), r"predictions: expected numbers from 0 to 1, got nan"),
        (([0, 1], [0, 1, 1]), r"predictions: expected \(2,\) numbers, got shape \(3,\)"),
        (([0, 1], [0, 1], ["a"]), r"patients: expected one for each of 2 cases, got shape \(1,\)"),
    ],
)
def test_arguments_that_mean_something_else_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        macro_f1(*arguments)
