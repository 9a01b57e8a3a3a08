"""The curve is the maximum of the likelihood, its interval covers what it should, and bad answers give none."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from ricenet.statistics import recalibration
from ricenet.statistics.recalibration import DRAWS, RecalibrationCurve, fit_recalibration, recalibrate

FEW = 60  # resamples, where a test is not about their number
INTERCEPT, SLOPE = -0.5, 0.6  # of the truth: log odds = INTERCEPT + SLOPE * logit(answer)


def cohort(n: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, the answers of an overconfident model that says too much rice, and a patient a case."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.3, 1.5, n)
    return (rng.random(n) < expit(INTERCEPT + SLOPE * x)).astype(int), expit(x), np.arange(n)


def test_it_maximises_the_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    """As scikit-learn without a penalty finds it, and as a general optimiser does."""
    monkeypatch.setattr(recalibration, "DRAWS", FEW)
    labels, answers, who = cohort()
    curve = fit_recalibration(labels, answers, who).curve
    assert curve is not None
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(answers)[:, None], labels)
    assert curve.slope == pytest.approx(theirs.coef_[0, 0], rel=1e-4)
    assert curve.intercept == pytest.approx(theirs.intercept_[0], rel=1e-4)

    def loss(pair: np.ndarray) -> float:
        return -np.log(expit((2 * labels - 1) * (pair[0] + pair[1] * logit(answers)))).sum()

    best = minimize(loss, (0.0, 1.0), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x
    assert [curve.intercept, curve.slope] == pytest.approx(best.tolist(), abs=1e-5)
    assert (curve.n, curve.n_patients) == (80, 80)
    written = json.loads(json.dumps(asdict(curve), allow_nan=False))
    assert written == asdict(curve) | {"draws": [list(pair) for pair in curve.draws]}


def test_a_resample_is_fitted_as_the_repeated_cases_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalibration, "DRAWS", FEW)
    labels, answers, who = cohort(30)
    curve = fit_recalibration(labels, answers, who, seed=3).curve
    assert curve is not None
    drawn = np.random.default_rng(3).integers(30, size=30)  # the first resample
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(answers[drawn])[:, None], labels[drawn])
    assert curve.draws[0] == pytest.approx([theirs.intercept_[0], theirs.coef_[0, 0]], rel=1e-3)


def test_many_cases_give_back_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalibration, "DRAWS", FEW)
    curve = fit_recalibration(*cohort(10_000)).curve
    assert curve is not None
    assert [curve.intercept, curve.slope] == pytest.approx([INTERCEPT, SLOPE], abs=0.05)
    for answer in (0.05, 0.5, 0.9):
        value, (low, high) = recalibrate(curve, answer)
        truth = expit(INTERCEPT + SLOPE * logit(answer))
        assert value == pytest.approx(truth, abs=0.02)
        assert low < truth < high < low + 0.06


def test_value_and_interval_by_hand() -> None:
    slopes = np.linspace(0.5, 1.5, 41)
    draws = tuple((0.1, float(slope)) for slope in slopes)
    curve = RecalibrationCurve(intercept=-1.0, slope=2.0, draws=draws, left_out=0, n=40, n_patients=40)
    value, (low, high) = recalibrate(curve, 0.75)
    assert value == pytest.approx(expit(-1 + 2 * np.log(3)))
    # 2.5% of 40 steps is one step from each end.
    assert [low, high] == pytest.approx(expit(0.1 + np.array([slopes[1], slopes[-2]]) * np.log(3)).tolist())


@pytest.mark.parametrize("certain", [0.0, 1.0])
def test_certain_answers_stay_finite(certain: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalibration, "DRAWS", FEW)
    labels, answers, who = cohort()
    answers[np.flatnonzero(labels == certain)[:4]] = certain
    curve = fit_recalibration(labels, answers, who).curve
    assert curve is not None
    value, interval = recalibrate(curve, certain)
    assert np.isfinite([value, *interval]).all()
    assert recalibrate(curve, certain) == recalibrate(curve, abs(certain - 1e-9))


def test_the_order_of_answers_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalibration, "DRAWS", FEW)
    curve = fit_recalibration(*cohort()).curve
    assert curve is not None
    values = [recalibrate(curve, answer)[0] for answer in np.linspace(0, 1, 21)]
    assert values == sorted(values)


@pytest.mark.heavy
def test_cases_of_one_patient_are_drawn_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every case twice holds no more information: the same draws, where each case was a patient's they are narrower."""
    monkeypatch.setattr(recalibration, "DRAWS", 3 * FEW)
    labels, answers, who = cohort(60)
    once = fit_recalibration(labels, answers, who).curve
    order = np.random.default_rng(1).permutation(np.tile(who, 2))
    names = np.array([f"patient-{one:02}" for one in who])
    twice = fit_recalibration(labels[order], answers[order], names[order]).curve
    naive = fit_recalibration(np.tile(labels, 2), np.tile(answers, 2), np.arange(120)).curve
    assert once is not None
    assert twice is not None
    assert naive is not None
    assert np.array(twice.draws) == pytest.approx(np.array(once.draws), abs=1e-5)
    assert (twice.n, twice.n_patients) == (120, 60)
    widths = [np.ptp(recalibrate(curve, 0.7)[1]) for curve in (once, naive)]
    assert widths[1] < 0.8 * widths[0]


@pytest.mark.slow  # 3,160 fits
def test_the_interval_covers_the_truth_in_about_95_of_100_cohorts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 80 patients, with fewer draws than ours: 2,000 cohorts with 500 draws gave what `recalibrate` says."""
    monkeypatch.setattr(recalibration, "DRAWS", 79)
    hits = []
    for seed in range(40):
        curve = fit_recalibration(*cohort(seed=seed)).curve
        assert curve is not None
        for answer in (0.3, 0.7):
            _, (low, high) = recalibrate(curve, answer)
            hits.append(low < expit(INTERCEPT + SLOPE * logit(answer)) < high)
    assert 0.87 <= np.mean(hits) <= 0.99


SIX = np.array([0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    ("labels", "answers", "why"),
    [
        (SIX, [0.1, 0.2, 0.3, 0.7, 0.8, 0.9], "allow no fit"),  # separated
        (SIX, [0.9, 0.8, 0.7, 0.3, 0.2, 0.1], "allow no fit"),  # the wrong way round
        (SIX, [0.1, 0.2, 0.5, 0.5, 0.8, 0.9], "allow no fit"),  # all but a tie
        (SIX, [0.4] * 6, "allow no fit"),
        (np.zeros(6, int), [0.1, 0.2, 0.3, 0.7, 0.8, 0.9], "allow no fit"),
        (np.tile(SIX, 9), np.tile([0.2, 0.7, 0.8, 0.1, 0.3, 0.75], 9), "no better than chance"),
        (SIX, [0.1, 0.2, 0.75, 0.7, 0.8, 0.9], "too few cases"),
    ],
)
def test_what_allows_no_curve(labels: np.ndarray, answers: list[float], why: str) -> None:
    found = fit_recalibration(labels, np.array(answers), np.arange(len(labels)))
    assert found.curve is None
    assert why in found.reason


@pytest.mark.heavy
def test_resamples_without_a_maximum_are_counted() -> None:
    labels, answers, who = cohort(16, seed=6)
    found = fit_recalibration(labels, answers, who)
    assert found.curve is not None
    assert 0 < found.curve.left_out == DRAWS - len(found.curve.draws) < 0.1 * DRAWS
