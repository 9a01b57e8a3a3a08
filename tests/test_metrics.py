import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef

from ricenet import metrics

RECURRENCE, RICE = 7, 5
LABELS = np.repeat([0, 1], [RECURRENCE, RICE])
PATIENTS = np.arange(12)


def one_error(label: int) -> np.ndarray:
    """Decisions that are wrong for the first case of a class only."""
    decisions = LABELS.copy()
    decisions[np.flatnonzero(label == LABELS)[0]] = 1 - label
    return decisions


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_macro_f1_is_that_of_sklearn_also_where_a_class_is_absent(pairs):
    labels, decisions = np.array(pairs).T
    expected = f1_score(labels, decisions, average="macro", labels=[0, 1], zero_division=0)
    assert metrics.macro_f1(labels, decisions) == pytest.approx(expected)


def test_eleven_of_twelve_right():
    assert metrics.macro_f1(LABELS, one_error(0)) == pytest.approx(0.916, abs=5e-4)
    assert metrics.macro_f1(LABELS, one_error(1)) == pytest.approx(0.911, abs=5e-4)
    small = metrics.macro_f1_estimate(LABELS, one_error(0), PATIENTS, draws=9999, seed=0)
    assert small.method == "jeffreys"
    assert small.interval == pytest.approx((0.64, 0.98), abs=0.005)
    assert metrics.wilson(11, 12) == pytest.approx((0.646, 0.985), abs=5e-4)
    assert metrics.wilson(0, 0) == (0, 1)


def test_bca_of_eleven_of_twelve(monkeypatch):
    monkeypatch.setattr(metrics, "BOOTSTRAP_PATIENTS", 12)
    found = metrics.macro_f1_estimate(LABELS, one_error(0), PATIENTS, draws=9999, seed=0)
    assert found.method == "bootstrap"
    assert found.interval == pytest.approx((0.66, 1.0), abs=0.005)


def random_answers(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [n * 3 // 5, n - n * 3 // 5])
    return labels, *(np.where(rng.random(n) < right, labels, 1 - labels) for right in (0.85, 0.7))


def test_bootstrap_is_that_of_scipy_on_sklearns_score():
    labels, ours, theirs = random_answers(1)

    def score(index, of):
        return f1_score(labels[index], of[index], average="macro", labels=[0, 1], zero_division=0)

    def scipy_interval(statistic):
        options = {"n_resamples": 299, "method": "BCa", "vectorized": False, "rng": np.random.default_rng(5)}
        return tuple(stats.bootstrap((np.arange(60),), statistic, **options).confidence_interval)

    one = metrics.macro_f1_estimate(labels, ours, np.arange(60), draws=299, seed=5)
    assert one.interval == pytest.approx(scipy_interval(lambda i: score(i, ours)))
    pair = metrics.macro_f1_difference(labels, ours, theirs, np.arange(60), draws=299, seed=5)
    assert pair.interval == pytest.approx(scipy_interval(lambda i: score(i, ours) - score(i, theirs)))
    assert pair.value == pytest.approx(metrics.macro_f1(labels, ours) - metrics.macro_f1(labels, theirs))


@pytest.mark.parametrize("patients", [60, 24])
def test_a_patients_cases_count_together(patients):
    labels, ours, theirs = random_answers(2, patients)
    who = np.arange(patients)
    for estimate, answers in ((metrics.macro_f1_estimate, (ours,)), (metrics.macro_f1_difference, (ours, theirs))):
        once = estimate(labels, *answers, who, draws=999, seed=0)
        # Every case twice holds no more information, in whatever order the rows come.
        shuffled = np.random.default_rng(0).permutation(np.tile(who, 2))
        twice = estimate(labels[shuffled], *(a[shuffled] for a in answers), who[shuffled], draws=999, seed=0)
        assert twice == once
        naive = estimate(labels[shuffled], *(a[shuffled] for a in answers), np.arange(2 * patients), draws=999, seed=0)
        assert np.ptp(naive.interval) < 0.85 * np.ptp(once.interval)


def test_propagated_shares_are_jeffreys_beta_alone_and_in_a_pair():
    decisions = one_error(0)
    for answers in (np.stack([decisions]), np.stack([decisions, one_error(1)]), np.stack([decisions, decisions])):
        sample = metrics._propagate(LABELS, answers, 1.0, seed=3)
        assert np.allclose(sample.sum(axis=-1), 12)
        specificity = sample[:, 0, 3] / RECURRENCE
        levels = np.array([0.025, 0.25, 0.5, 0.75, 0.975])
        assert np.quantile(specificity, levels) == pytest.approx(stats.beta(6.5, 1.5).ppf(levels), abs=0.01)
        sensitivity = sample[:, 0, 0] / RICE
        assert np.quantile(sensitivity, levels) == pytest.approx(stats.beta(5.5, 0.5).ppf(levels), abs=0.01)


@pytest.mark.parametrize("truth", [0.6, 0.78, 0.9])
def test_jeffreys_interval_covers_what_it_says_with_twelve_patients(truth, monkeypatch):
    """Exact: over every possible outcome of seven and five patients, weighted by its probability."""
    monkeypatch.setattr(metrics, "PROPAGATED_DRAWS", 20_000)
    target = float(
        metrics._macro_f1_of(np.array([RICE * truth, RICE * (1 - truth), RECURRENCE * (1 - truth), RECURRENCE * truth]))
    )
    coverage = 0.0
    for tn, tp in itertools.product(range(RECURRENCE + 1), range(RICE + 1)):
        decisions = np.concatenate([np.arange(RECURRENCE) >= tn, np.arange(RICE) < tp]).astype(int)
        low, high = metrics.macro_f1_estimate(LABELS, decisions, PATIENTS, draws=9, seed=0).interval
        probability = stats.binom(RECURRENCE, truth).pmf(tn) * stats.binom(RICE, truth).pmf(tp)
        coverage += probability * (low <= target <= high)
    assert 0.92 < coverage < 0.99


def test_a_perfect_answer_is_no_certainty():
    labels = np.repeat([0, 1], [48, 32])
    found = metrics.macro_f1_estimate(labels, labels, np.arange(80), draws=999, seed=0)
    assert (found.value, found.method) == (1.0, "jeffreys")
    assert 0.9 < found.interval[0] < 0.98
    assert found.interval[1] == 1.0
    same = metrics.macro_f1_difference(labels, labels, labels, np.arange(80), draws=999, seed=0)
    assert same.value == 0
    assert same.interval[0] < -0.01
    assert same.interval[1] > 0.01


def test_draws_and_seed_matter():
    labels, ours, _ = random_answers(3)
    first = metrics.macro_f1_estimate(labels, ours, np.arange(60), draws=299, seed=0)
    assert metrics.macro_f1_estimate(labels, ours, np.arange(60), draws=299, seed=0) == first
    assert metrics.macro_f1_estimate(labels, ours, np.arange(60), draws=299, seed=1) != first
    assert metrics.macro_f1_estimate(labels, ours, np.arange(60), draws=999, seed=0) != first


def test_one_half_is_recurrence_like_argmax():
    assert metrics.decide(np.array([0.4, 0.5, 0.500001])).tolist() == [0, 0, 1]


@pytest.mark.parametrize("members", [1, 2, 3, 4, 5])
def test_every_member_can_change_the_vote(members):
    levels = np.array([0.1, 0.45, 0.6, 0.95])
    patterns = np.array(list(itertools.product(levels, repeat=members))).T  # (members, patterns)
    decided = metrics.majority_vote(patterns)
    votes = (patterns > 0.5).sum(axis=0)
    assert (decided[2 * votes > members] == 1).all()
    assert (decided[2 * votes < members] == 0).all()
    tied = 2 * votes == members
    assert (decided[tied] == (patterns[:, tied].mean(axis=0) > 0.5)).all()
    assert tied.any() == (members % 2 == 0)
    for ensemble in (metrics.majority_vote, metrics.mean_decision):
        for member in range(members):
            other = patterns.copy()
            other[member] = 1 - other[member]
            assert (ensemble(other) != ensemble(patterns)).any()


def test_vote_and_mean_differ_where_they_should():
    members = np.array([[0.51], [0.51], [0.51], [0.05], [0.05]])
    assert metrics.majority_vote(members).tolist() == [1]
    assert metrics.mean_decision(members).tolist() == [0]


def test_described_by_hand():
    probabilities = np.where(one_error(0) == 1, 0.9, 0.2)
    found = metrics.describe(LABELS, probabilities)
    assert found["sensitivity"] == 1.0
    assert found["specificity"] == pytest.approx(6 / 7)
    assert found["balanced_accuracy"] == pytest.approx((1 + 6 / 7) / 2)
    assert found["mcc"] == pytest.approx(matthews_corrcoef(LABELS, one_error(0)))
    # 35 pairs, of which 30 are ranked rightly and 5 tie.
    assert found["auroc"] == pytest.approx(32.5 / 35)
