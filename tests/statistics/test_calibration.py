import itertools
import json
from dataclasses import asdict, replace
from operator import attrgetter

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.metrics import auc, brier_score_loss, log_loss, roc_auc_score

from ricenet.statistics import metrics
from ricenet.statistics.calibration import CLIP, Calibration, calibration, net_benefit, roc


def overconfident(n: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of the true log odds x, and the probabilities of a model that believes 2 x + 1; a patient a case."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1.5, n)
    return (rng.random(n) < expit(x)).astype(int), expit(2 * x + 1), np.arange(n)


def calibrated(labels, probabilities, patients=None, draws=99, seed=0) -> Calibration:
    return calibration(labels, probabilities, np.arange(len(labels)) if patients is None else patients, draws, seed)


def test_scores_are_those_of_sklearn_and_all_is_json():
    labels, probabilities, _ = overconfident()
    found = calibrated(labels, probabilities)
    assert found.brier == pytest.approx(brier_score_loss(labels, probabilities))
    assert found.log_loss == pytest.approx(log_loss(labels, probabilities))
    json.dumps(asdict(found), allow_nan=False)


def test_slope_and_intercept_maximise_the_likelihood():
    labels, probabilities, _ = overconfident()
    found, x = calibrated(labels, probabilities), logit(probabilities)

    def loss(intercept, slope):
        return -np.log(expit((2 * labels - 1) * (intercept + slope * x))).sum()

    slope = minimize(lambda c: loss(*c), (0, 1), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).x[1]
    intercept = minimize(lambda c: loss(c[0], 1), 0, method="Nelder-Mead", options={"xatol": 1e-8}).x[0]
    assert found.slope == pytest.approx(slope, abs=1e-4)
    assert found.intercept == pytest.approx(intercept, abs=1e-4)
    # Wald by hand: the inverse of the information of one parameter.
    p = expit(x + intercept)
    half = 1.959964 / np.sqrt((p * (1 - p)).sum())
    assert found.intercept_interval == pytest.approx([intercept - half, intercept + half], abs=1e-4)


def test_many_cases_give_back_what_was_put_in():
    labels, probabilities, _ = overconfident(40_000)
    found = calibrated(labels, probabilities, draws=9)
    assert found.slope == pytest.approx(0.5, abs=0.03)
    assert found.slope_interval[0] < 0.5 < found.slope_interval[1]
    assert found.intercept < -0.5  # probabilities of rice are too high
    perfect = calibrated(labels, expit((logit(probabilities) - 1) / 2), draws=9)
    assert perfect.slope == pytest.approx(1, abs=0.06)
    assert perfect.intercept == pytest.approx(0, abs=0.06)
    assert perfect.ece < 0.02 < 0.05 < found.ece


def test_several_cases_of_one_patient_are_clusters():
    labels, probabilities, who = overconfident()
    once = calibrated(labels, probabilities)
    order = np.random.default_rng(0).permutation(np.tile(who, 2))
    names = np.array([f"patient-{one:03}" for one in who])
    twice = calibrated(labels[order], probabilities[order], names[order])
    naive = calibrated(labels[order], probabilities[order])
    for name in ("slope", "intercept"):
        interval_of = attrgetter(f"{name}_interval")
        assert getattr(twice, name) == pytest.approx(getattr(once, name))
        assert np.ptp(interval_of(naive)) < 0.75 * np.ptp(interval_of(once))
        assert np.ptp(interval_of(twice)) == pytest.approx(np.ptp(interval_of(once)), rel=0.2)
    # Every case twice holds no more information about a bin, nor about what a perfect model shows.
    assert np.array([one.interval for one in twice.bins]) == pytest.approx(
        np.array([one.interval for one in once.bins])
    )
    assert [one.n for one in twice.bins] == [2 * one.n for one in once.bins]
    assert twice.ece_null == pytest.approx(once.ece_null)
    assert naive.ece_null < 0.85 * once.ece_null


def test_clustered_interval_is_the_sandwich():
    labels, probabilities, _ = overconfident(60)
    patients = np.arange(60) // 3
    x = logit(probabilities)
    design = np.stack([np.ones(60), x], axis=1)
    fitted = sm.Logit(labels, design).fit(disp=0).params
    residual = labels - expit(design @ fitted)
    weights = expit(design @ fitted) * (1 - expit(design @ fitted))
    bread = np.linalg.inv(design.T @ (design * weights[:, None]))
    scores = np.array([(design * residual[:, None])[patients == one].sum(axis=0) for one in range(20)])
    few = 20 / 19 * 59 / 58  # the usual correction for few clusters
    half = 1.959964 * np.sqrt((few * bread @ scores.T @ scores @ bread)[1, 1])
    found = calibrated(labels, probabilities, patients)
    assert found.slope_interval == pytest.approx([fitted[1] - half, fitted[1] + half], rel=1e-3)


@pytest.mark.parametrize(
    "probabilities",
    [
        [0.1, 0.2, 0.3, 0.7, 0.8, 0.9],  # separated
        [0.9, 0.8, 0.7, 0.3, 0.2, 0.1],  # the wrong way round
        [0.1, 0.2, 0.5, 0.5, 0.8, 0.9],  # all but a tie
        [0.4] * 6,
        [0.0] * 6,  # the larger class
    ],
)
def test_what_has_no_maximum_is_not_estimated(probabilities):
    labels = np.array([0, 0, 0, 1, 1, 1])
    found = calibrated(labels, np.array(probabilities))
    assert {getattr(found, key) for key in ("slope", "slope_interval", "intercept", "intercept_interval")} == {None}
    assert found.brier == pytest.approx(brier_score_loss(labels, probabilities))
    json.dumps(asdict(found), allow_nan=False)


def test_one_class_is_described_but_not_fitted():
    found = calibrated(np.zeros(6, int), np.linspace(0.1, 0.6, 6))
    assert found.slope is found.intercept is None
    assert {one.observed for one in found.bins} == {0.0}


def test_certain_answers_cost_what_the_clip_says():
    labels = np.array([1, 0, 0, 1])
    found = calibrated(labels, np.array([0.0, 0.0, 1.0, 1.0]))
    assert found.log_loss == pytest.approx(-np.log(CLIP) / 2, rel=1e-3)
    assert found.brier == 0.5
    assert found.slope == pytest.approx(0, abs=1e-6)


def test_far_offsets_are_fitted_too():
    """With these logits Fisher scoring from its usual start runs away to -2e15 and says that it converged."""
    labels = (np.arange(12) % 5 < 2).astype(int)
    x = np.array([8, -4, 7, -5, 10, 8, 9, -3, -6, -3, 11, 9])
    with np.errstate(over="ignore"):
        unguarded = sm.GLM(labels, np.ones((12, 1)), family=sm.families.Binomial(), offset=x).fit()
    assert abs(unguarded.params[0]) > 1e10
    found = calibrated(labels, expit(x))
    assert expit(x + found.intercept).sum() == pytest.approx(labels.sum(), abs=1e-6)
    assert np.ptp(found.intercept_interval) < 10


def test_bins_are_equally_filled_and_ties_stay_together():
    labels, probabilities, _ = overconfident(12)
    bins = calibrated(labels, probabilities).bins
    assert [one.n for one in bins] == [2, 3, 2, 3, 2]
    ranked = np.split(np.argsort(probabilities), [2, 5, 7, 10])
    for one, mine in zip(bins, ranked, strict=True):
        assert one.mean_probability == pytest.approx(probabilities[mine].mean())
        assert one.observed == pytest.approx(labels[mine].mean())
        assert one.interval == pytest.approx(list(metrics.wilson(labels[mine].sum(), len(mine))))
    tied = calibrated(np.arange(20) % 2, np.array([0.0] * 12 + [0.35] * 3 + [1.0] * 5))
    assert [(one.mean_probability, one.n) for one in tied.bins] == [(0, 12), (pytest.approx(0.35), 3), (1, 5)]
    assert tied.histogram == [12, 0, 0, 3, 0, 0, 0, 0, 0, 5]
    assert [one.n for one in calibrated(np.arange(6) % 2, np.full(6, 0.5)).bins] == [6]


def error_by_hand(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error of twelve cases in bins of 2, 3, 2, 3, 2 neighbours."""
    parts = np.split(np.argsort(probabilities), [2, 5, 7, 10])
    return sum(len(mine) / 12 * abs(labels[mine].mean() - probabilities[mine].mean()) for mine in parts)


def test_a_perfect_model_shows_a_quarter_with_twelve_patients():
    """Exact, over all 4,096 sets of labels; and as our draws find it."""
    probabilities = np.random.default_rng(3).permutation(np.linspace(0.2, 0.8, 12))
    outcomes = np.array(list(itertools.product((0, 1), repeat=12)))
    weights = np.where(outcomes, probabilities, 1 - probabilities).prod(axis=1)
    exact = sum(weight * error_by_hand(row, probabilities) for weight, row in zip(weights, outcomes, strict=True))
    labels = (np.arange(12) < 5).astype(int)
    found = calibrated(labels, probabilities, draws=20_000)
    assert exact == pytest.approx(0.25, abs=0.02)
    assert found.ece_null == pytest.approx(exact, abs=0.003)
    assert found.ece == pytest.approx(error_by_hand(labels, probabilities))
    more = np.linspace(0.2, 0.8, 800)
    assert calibrated(np.arange(800) % 2, more, draws=999).ece_null < 0.04


def test_draws_and_seed_matter_for_the_null_only():
    labels, probabilities, _ = overconfident()
    first = calibrated(labels, probabilities)
    assert calibrated(labels, probabilities) == first
    for changed in ({"seed": 1}, {"draws": 199}):
        other = calibrated(labels, probabilities, **changed)
        assert other.ece_null != first.ece_null
        assert replace(other, ece_null=first.ece_null) == first


def test_net_benefit_by_hand():
    labels = np.array([1, 1, 0, 0, 0])
    probabilities = np.array([0.9, 0.2, 0.8, 0.5, 0.1])
    found = net_benefit(labels, probabilities, np.array([0.2, 0.5, 0.85]))
    assert found.threshold == [0.2, 0.5, 0.85]
    # Above 0.2, and not at it: 1 of 2 rice and 2 of 3 recurrences.
    assert found.model == pytest.approx([1 / 5 - 2 / 5 * 0.25, 1 / 5 - 1 / 5, 1 / 5])
    assert found.all == pytest.approx([2 / 5 - 3 / 5 * 0.25, 2 / 5 - 3 / 5, 2 / 5 - 3 / 5 * 0.85 / 0.15])
    json.dumps(asdict(found), allow_nan=False)


def test_net_benefit_at_one_half_is_that_of_the_decisions():
    labels, probabilities, _ = overconfident()
    probabilities[:20] = 0.5
    rice = metrics.decide(probabilities) == 1
    expected = (rice & (labels == 1)).mean() - (rice & (labels == 0)).mean()
    assert net_benefit(labels, probabilities, np.array([0.5])).model == pytest.approx([expected])


def test_area_under_the_corners_is_the_auroc():
    labels, probabilities, _ = overconfident()
    probabilities = np.round(probabilities, 1)  # ties
    found = roc(labels, probabilities)
    assert auc(found.fpr, found.tpr) == pytest.approx(roc_auc_score(labels, probabilities))
    assert (found.fpr[0], found.tpr[0], found.fpr[-1], found.tpr[-1]) == (0, 0, 1, 1)
    json.dumps(asdict(found), allow_nan=False)
