import itertools
from dataclasses import asdict
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, f1_score, matthews_corrcoef, roc_auc_score

from ricenet.statistics import metrics

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
    for method, expected in (("jeffreys", (0.64, 0.98)), ("bca", (0.66, 1.0)), ("percentile", (0.70, 1.0))):
        found = metrics.macro_f1_interval(LABELS, one_error(0), PATIENTS, method, draws=9999, seed=0)
        assert found == pytest.approx(expected, abs=0.005)
    assert metrics.wilson(11, 12) == pytest.approx((0.646, 0.985), abs=5e-4)
    assert metrics.proportion_interval(11, 12, "clopper_pearson") == pytest.approx((0.615, 0.998), abs=5e-4)


@pytest.mark.parametrize(("method", "peer"), [("wilson", "wilson"), ("clopper_pearson", "exact")])
@pytest.mark.parametrize("trials", [1, 12, 80])
def test_proportions_are_those_of_scipy(method, peer, trials):
    for hits in range(trials + 1):
        expected = tuple(stats.binomtest(hits, trials).proportion_ci(0.95, peer))
        assert metrics.proportion_interval(hits, trials, method) == pytest.approx(expected)
    assert metrics.proportion_interval(0, 0, method) == (0, 1)


@pytest.mark.parametrize(("patients", "method", "name"), [(49, "jeffreys", "jeffreys"), (50, "bca", "bootstrap")])
def test_fifty_patients_are_enough_for_a_bootstrap(patients, method, name):
    labels, ours, _ = random_answers(4, patients)
    found = metrics.macro_f1_estimate(labels, ours, np.arange(patients), draws=499, seed=1)
    assert found.method == name
    assert found.interval == metrics.macro_f1_interval(labels, ours, np.arange(patients), method, draws=499, seed=1)


def random_answers(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [n * 3 // 5, n - n * 3 // 5])
    return labels, *(np.where(rng.random(n) < right, labels, 1 - labels) for right in (0.85, 0.7))


@pytest.mark.heavy
def test_bootstrap_is_that_of_scipy_on_sklearns_score():
    labels, ours, theirs = random_answers(1)

    def score(index, of):
        return f1_score(labels[index], of[index], average="macro", labels=[0, 1], zero_division=0)

    def scipy_interval(statistic):
        options = {"n_resamples": 99, "method": "BCa", "vectorized": False, "rng": np.random.default_rng(5)}
        return tuple(stats.bootstrap((np.arange(60),), statistic, **options).confidence_interval)

    one = metrics.macro_f1_estimate(labels, ours, np.arange(60), draws=99, seed=5)
    assert one.interval == pytest.approx(scipy_interval(lambda i: score(i, ours)))
    pair = metrics.macro_f1_difference(labels, ours, theirs, np.arange(60), draws=99, seed=5)
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
    for answers in ([decisions], [decisions, one_error(1)], [decisions, decisions]):
        sample = metrics._propagate(metrics._Judged(LABELS, answers, PATIENTS), seed=3)
        assert np.allclose(sample.sum(axis=-1), 12)
        specificity = sample[:, 0, 3] / RECURRENCE
        levels = np.array([0.025, 0.25, 0.5, 0.75, 0.975])
        assert np.quantile(specificity, levels) == pytest.approx(stats.beta(6.5, 1.5).ppf(levels), abs=0.01)
        sensitivity = sample[:, 0, 0] / RICE
        assert np.quantile(sensitivity, levels) == pytest.approx(stats.beta(5.5, 0.5).ppf(levels), abs=0.01)


def test_many_cases_of_one_class_do_not_weaken_the_other():
    labels, who = np.repeat([0, 1], [30, 5]), np.concatenate([np.repeat(np.arange(10), 3), np.arange(10, 15)])
    sample = metrics._propagate(metrics._Judged(labels, [labels], who), seed=3)
    for column, cases, patients in ((3, 30, 10), (0, 5, 5)):
        expected = stats.beta(patients + 0.5, 0.5).ppf([0.025, 0.5])
        assert np.quantile(sample[:, 0, column] / cases, [0.025, 0.5]) == pytest.approx(expected, abs=0.01)


@cache  # an outcome's interval does not depend on the truth that it is rare or frequent under
def interval_of(interval, sizes: tuple[int, int], tn: int, tp: int) -> tuple[float, float]:
    """The interval where so many of each class are right."""
    recurrence, rice = sizes
    decisions = np.concatenate([np.arange(recurrence) >= tn, np.arange(rice) < tp]).astype(int)
    return interval(np.repeat([0, 1], sizes), decisions, np.arange(sum(sizes)))


def coverage(interval, sizes: tuple[int, int], truth: float, rarest: float = 0.0) -> float:
    """How often an interval of macro-F1 holds the true value: exact, over every outcome by its probability."""
    recurrence, rice = sizes
    f1_of = [2 * n * truth / (2 * n * truth + sum(sizes) * (1 - truth)) for n in sizes]
    held = seen = 0.0
    for tn, tp in itertools.product(range(recurrence + 1), range(rice + 1)):
        probability = stats.binom(recurrence, truth).pmf(tn) * stats.binom(rice, truth).pmf(tp)
        if probability > rarest:
            low, high = interval_of(interval, sizes, tn, tp)
            held += probability * (low <= sum(f1_of) / 2 <= high)
            seen += probability
    return held / seen


def estimated(labels, decisions, patients):
    return metrics.macro_f1_estimate(labels, decisions, patients, draws=1999, seed=0).interval


@pytest.mark.heavy
@pytest.mark.parametrize(("truth", "expected"), [(0.75, 0.945), (0.85, 0.961), (0.9, 0.9705)])
def test_coverage_with_twelve_patients(truth, expected):
    assert coverage(estimated, (RECURRENCE, RICE), truth) == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.75, 0.85, 0.9])
def test_coverage_with_eighty_patients(truth):
    assert 0.93 < coverage(estimated, (48, 32), truth, rarest=1e-4) < 0.97


@pytest.mark.heavy
def test_the_percentile_bootstrap_holds_too_little_with_twelve_patients():
    def percentile(labels, decisions, patients):
        return metrics.macro_f1_interval(labels, decisions, patients, "percentile", draws=1999, seed=0) or (1.0, 1.0)

    assert coverage(percentile, (RECURRENCE, RICE), 0.85) < 0.85
    assert coverage(percentile, (RECURRENCE, RICE), 0.9) < 0.75


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


def test_the_border_is_where_so_many_right_answers_have_a_fortieth_of_chance():
    all_right = metrics.macro_f1_estimate(LABELS, LABELS, PATIENTS, draws=99, seed=0).interval
    x = 0.025 ** (1 / 12)
    assert stats.binom(12, x).pmf(12) == pytest.approx(0.025)
    # Expected counts of 7 and 5: right x, wrong 1 - x.
    f1_of = [2 * n * x / (2 * n * x + 12 * (1 - x)) for n in (7, 5)]
    assert all_right == pytest.approx((np.mean(f1_of), 1))
    all_wrong = metrics.macro_f1_estimate(LABELS, 1 - LABELS, PATIENTS, draws=99, seed=0).interval
    mirrored = [2 * n * (1 - x) / (2 * n * (1 - x) + 12 * x) for n in (7, 5)]
    assert all_wrong == pytest.approx((0, np.mean(mirrored)))


def test_one_patient_of_a_class_is_not_covered_up_by_many_of_the_other():
    labels = np.repeat([0, 1], [79, 1])
    found = metrics.describe_intervals(labels, labels * 0.8, np.arange(80), draws=999, seed=0)
    # A single right answer leaves a sensitivity of 0.15 possible.
    assert found.balanced_accuracy[0] == pytest.approx((1 + stats.beta(1.5, 0.5).ppf(0.025)) / 2, abs=0.01)


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
    assert found.sensitivity == 1.0
    assert found.specificity == pytest.approx(6 / 7)
    assert found.balanced_accuracy == pytest.approx((1 + 6 / 7) / 2)
    assert found.mcc == pytest.approx(matthews_corrcoef(LABELS, one_error(0)))
    # 35 pairs, of which 30 are ranked rightly and 5 tie.
    assert found.auroc == pytest.approx(32.5 / 35)


def scores(labels: np.ndarray, seed: int) -> np.ndarray:
    """Probabilities of rice with ties."""
    return np.clip(np.round(np.random.default_rng(seed).normal(0.3 + 0.35 * labels, 0.25), 1), 0, 1)


@pytest.mark.heavy
def test_intervals_of_the_other_values_are_those_of_scipy_on_sklearn():
    labels, n = np.repeat([0, 1], [40, 24]), 64
    probabilities = scores(labels, 1)
    found = metrics.describe_intervals(labels, probabilities, np.arange(n), draws=99, seed=5)
    assert asdict(found).keys() == asdict(metrics.describe(labels, probabilities)).keys()
    for name, score, of in (
        ("balanced_accuracy", balanced_accuracy_score, metrics.decide(probabilities)),
        ("mcc", matthews_corrcoef, metrics.decide(probabilities)),
        ("auroc", roc_auc_score, probabilities),
    ):
        expected = stats.bootstrap(
            (np.arange(n),),
            lambda index, score=score, of=of: score(labels[index], of[index]),
            n_resamples=99,
            vectorized=False,
            rng=np.random.default_rng(5),
        ).confidence_interval
        assert getattr(found, name) == pytest.approx(tuple(expected))
    for name, label in (("sensitivity", 1), ("specificity", 0)):
        mine = labels == label
        right = int((metrics.decide(probabilities)[mine] == label).sum())
        assert getattr(found, name) == pytest.approx(
            tuple(stats.binomtest(right, mine.sum()).proportion_ci(method="wilson"))
        )


@pytest.mark.parametrize("patients", [64, 30])
def test_every_case_twice_leaves_all_intervals_as_they_are(patients):
    labels, who = (np.arange(patients) % 8 < 3).astype(int), np.arange(patients)
    probabilities = scores(labels, 2)
    once = metrics.describe_intervals(labels, probabilities, who, draws=299, seed=0)
    order = np.random.default_rng(0).permutation(np.tile(who, 2))
    twice = metrics.describe_intervals(labels[order], probabilities[order], order, draws=299, seed=0)
    assert (once.auroc is None) == (twice.auroc is None) == (patients < 50)
    for name, interval in asdict(once).items():
        assert getattr(twice, name) == (None if interval is None else pytest.approx(interval))
        assert interval is None or interval[0] < getattr(metrics.describe(labels, probabilities), name) < interval[1]


def test_no_interval_of_auroc_where_a_resample_has_one_class_or_none_differs():
    few = np.repeat([0, 1], [58, 2])
    assert metrics.describe_intervals(few, scores(few, 3), np.arange(60), draws=999, seed=0).auroc is None
    ranked = np.repeat([0, 1], [30, 30])
    assert metrics.describe_intervals(ranked, ranked * 0.4, np.arange(60), draws=99, seed=0).auroc is None


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=30))
def test_values_of_counts_are_those_of_sklearn(pairs):
    labels, decisions = np.array(pairs).T
    counts = metrics.confusion(labels, decisions).sum(axis=0)
    assert metrics._mcc_of(counts) == pytest.approx(matthews_corrcoef(labels, decisions))
    if len(set(labels)) == 2:
        assert metrics._balanced_accuracy_of(counts) == pytest.approx(balanced_accuracy_score(labels, decisions))
    else:
        assert metrics._balanced_accuracy_of(counts) == pytest.approx((labels == decisions).mean())
