import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score
from test_metrics import LABELS, PATIENTS, random_answers

from ricenet.statistics import chance, metrics


def test_chance_is_the_exact_hypergeometric():
    labels, ours, _ = random_answers(5)
    n, rice, called = 60, labels.sum(), ours.sum()
    tp = np.arange(max(0, rice + called - n), min(rice, called) + 1)
    values = (2 * tp / (rice + called) + 2 * (n - rice - called + tp) / (2 * n - rice - called)) / 2  # rises with tp
    null = stats.hypergeom(n, rice, called)
    found = chance.chance(labels, ours, np.arange(n), draws=20_000, seed=0)
    assert found.mean == pytest.approx(values @ null.pmf(tp), abs=0.002)
    assert found.p95 == pytest.approx(values[tp == null.ppf(0.95)][0])
    assert found.p == pytest.approx(1 / 20_001)  # nothing so good among the draws
    weak = np.where(np.arange(n) % 7 < 4, labels, 1 - labels)
    observed = ((labels == 1) & (weak == 1)).sum()
    exact = stats.hypergeom(n, rice, weak.sum()).sf(observed - 1)
    assert 0.05 < exact < 0.5
    assert chance.chance(labels, weak, np.arange(n), draws=20_000, seed=0).p == pytest.approx(exact, abs=0.01)


def test_chance_is_that_of_scipys_permutation_test():
    labels, _, theirs = random_answers(6, 30)
    theirs[:14] = 1 - theirs[:14]
    score_of: dict[int, float] = {}  # by true positives: a permutation leaves the numbers of labels and decisions

    def score(permuted):
        tp = int((permuted & theirs).sum())
        if tp not in score_of:
            score_of[tp] = f1_score(permuted, theirs, average="macro", labels=[0, 1], zero_division=0)
        return score_of[tp]

    expected = stats.permutation_test(
        (labels,),
        score,
        permutation_type="pairings",
        n_resamples=999,
        alternative="greater",
        rng=np.random.default_rng(1),
    )
    found = chance.chance(labels, theirs, np.arange(30), draws=2999, seed=0)
    assert found.p == pytest.approx(expected.pvalue, abs=0.03)
    assert found.mean == pytest.approx(expected.null_distribution.mean(), abs=0.005)
    assert found.p95 == pytest.approx(np.quantile(expected.null_distribution, 0.95), abs=0.035)


def test_chance_permutes_patients_not_cases():
    """Four patients of two cases and three of one: every exchange of labels between equals, counted by hand."""
    patients = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6])
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 1, 0, 1, 0])
    decisions = np.array([1, 1, 1, 0, 0, 0, 0, 1, 0, 1, 1])
    pairs, singles = labels[:8].reshape(4, 2), labels[8:]
    exact = np.array([
        metrics.macro_f1(np.concatenate([pairs[list(a)].ravel(), singles[list(b)]]), decisions)
        for a in itertools.permutations(range(4))
        for b in itertools.permutations(range(3))
    ])  # fmt: skip
    order = np.random.default_rng(0).permutation(11)  # rows in any order
    found = chance.chance(labels, decisions, patients, draws=20_000, seed=0)
    assert found.p == pytest.approx((exact >= metrics.macro_f1(labels, decisions) - 1e-12).mean(), abs=0.01)
    assert found.mean == pytest.approx(exact.mean(), abs=0.005)
    mixed = chance.chance(labels[order], decisions[order], patients[order], draws=20_000, seed=0)
    assert mixed.p == pytest.approx(found.p, abs=0.01)
    assert chance.chance(labels, decisions, np.arange(11), draws=20_000, seed=0).mean > found.mean + 0.01


def test_an_answer_that_is_always_the_same_is_chance():
    assert chance.chance(LABELS, np.zeros(12, int), PATIENTS, draws=99, seed=0).p == 1


def test_chance_in_portions_is_the_same_distribution(monkeypatch):
    labels, ours, _ = random_answers(1)
    whole = chance.chance(labels, ours, np.arange(60), draws=3000, seed=0)
    monkeypatch.setattr(chance, "AT_ONCE", 60 * 7)  # seven draws at a time, the last time four
    portions = chance.chance(labels, ours, np.arange(60), draws=3000, seed=0)
    assert portions.p == whole.p
    assert portions.mean == pytest.approx(whole.mean, abs=0.005)


def test_shuffled_labels_keep_patients_and_counts():
    rng = np.random.default_rng(0)
    patients = np.array(["b", "a", "c", "a", "b", "d", "e", "f", "f", "f"])
    labels = np.array([0, 1, 1, 0, 0, 0, 1, 1, 0, 1])
    draws = np.array([chance.shuffled_labels(labels, patients, rng) for _ in range(4000)])
    assert (draws[:, patients == "f"] == [1, 0, 1]).all()  # the only one with three cases
    pair = {tuple(found) for found in np.hstack([draws[:, patients == "a"], draws[:, patients == "b"]])}
    assert pair == {(1, 0, 0, 0), (0, 0, 1, 0)}  # a patient's labels, in their order, stay together
    singles, how_often = np.unique(draws[:, [2, 5, 6]], axis=0, return_counts=True)
    assert singles.tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    assert how_often / 4000 == pytest.approx(np.full(3, 1 / 3), abs=0.03)
    assert labels.tolist() == [0, 1, 1, 0, 0, 0, 1, 1, 0, 1]  # those given are left alone
