import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats import contingency_tables

from ricenet.statistics import comparison

LABELS = np.repeat([0, 1], [48, 32])
PATIENTS = np.arange(80)


def answers(right: np.ndarray) -> np.ndarray:
    return np.where(right, LABELS[: len(right)], 1 - LABELS[: len(right)])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_with_one_case_a_patient_it_is_mcnemars_exact_test(pairs):
    ours, theirs = np.array(pairs).T
    n = len(ours)
    found = comparison.mcnemar(LABELS[:n], answers(ours), answers(theirs), PATIENTS[:n])
    table = [[np.sum(a & b) for b in (theirs, ~theirs)] for a in (ours, ~ours)]
    assert (found.only_ours, found.only_theirs) == (table[0][1], table[1][0])
    assert found.p == pytest.approx(contingency_tables.mcnemar(table, exact=True).pvalue)


def test_twelve_patients_need_six_that_all_go_one_way():
    for discordant, p in ((5, 0.0625), (6, 0.03125)):
        right = np.arange(12) < discordant
        found = comparison.mcnemar(LABELS[:12], answers(right), answers(np.zeros(12, bool)), PATIENTS[:12])
        assert (found.only_ours, found.only_theirs, found.p) == (discordant, 0, p)


@pytest.mark.parametrize("seed", range(5))
def test_several_cases_of_a_patient_flip_together(seed):
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, 12, 40)
    ours, theirs = rng.random((2, 40)) < np.array([[0.8], [0.5]])
    found = comparison.mcnemar(LABELS[:40], answers(ours), answers(theirs), patients)
    net = np.array([(ours.astype(int) - theirs)[patients == who].sum() for who in range(12)])
    flipped = np.array(list(itertools.product([-1, 1], repeat=12))) @ net  # every combination of signs
    assert found.p == pytest.approx((abs(flipped) >= abs(net.sum())).mean())
    assert (found.only_ours, found.only_theirs) == ((ours & ~theirs).sum(), (theirs & ~ours).sum())


def test_every_case_twice_is_no_more_evidence():
    rng = np.random.default_rng(7)
    ours, theirs = rng.random((2, 80)) < np.array([[0.9], [0.75]])
    once = comparison.mcnemar(LABELS, answers(ours), answers(theirs), PATIENTS)
    twice = comparison.mcnemar(*(np.tile(a, 2) for a in (LABELS, answers(ours), answers(theirs), PATIENTS)))
    assert twice.p == pytest.approx(once.p)
    assert twice.only_ours == 2 * once.only_ours
    naive = comparison.mcnemar(*(np.tile(a, 2) for a in (LABELS, answers(ours), answers(theirs))), np.arange(160))
    assert naive.p < once.p / 2


def test_cochrans_q_of_two_sets_is_mcnemars_chi_squared():
    right = np.random.default_rng(1).random((80, 2)) < np.array([0.85, 0.7])
    found = comparison.cochrans_q(right, PATIENTS)
    b, c = (right[:, 0] & ~right[:, 1]).sum(), (right[:, 1] & ~right[:, 0]).sum()
    assert found.q == pytest.approx((b - c) ** 2 / (b + c))
    assert (found.df, found.p) == (1, pytest.approx(stats.chi2.sf(found.q, 1)))


def test_cochrans_q_of_seven_sets_by_its_formula():
    right = np.random.default_rng(2).random((80, 7)) < np.linspace(0.5, 0.9, 7)
    found = comparison.cochrans_q(right, PATIENTS)
    columns, rows = right.sum(axis=0), right.sum(axis=1)
    q = 6 * (7 * (columns**2).sum() - columns.sum() ** 2) / (7 * rows.sum() - (rows**2).sum())
    assert (found.q, found.df) == (pytest.approx(q), 6)
    assert found.p == pytest.approx(stats.chi2.sf(q, 6))


def test_cochrans_q_takes_the_first_case_of_each_patient():
    right = np.random.default_rng(3).random((80, 3)) < np.array([0.9, 0.7, 0.6])
    more = np.vstack([right, ~right])
    assert comparison.cochrans_q(more, np.tile(PATIENTS, 2)) == comparison.cochrans_q(right, PATIENTS)
    assert comparison.cochrans_q(more, np.arange(160)) != comparison.cochrans_q(right, PATIENTS)


def test_sets_that_are_right_about_the_same_cases():
    right = np.repeat(np.random.default_rng(4).random((80, 1)) < 0.7, 7, axis=1)
    assert comparison.cochrans_q(right, PATIENTS) == comparison.Omnibus(0.0, 6, 1.0)


def test_holm_by_hand():
    # Ordered .005, .02, .03, .9: times 4, 3, 2, 1, never falling, at most 1.
    assert comparison.holm([0.03, 0.005, 0.9, 0.02]) == pytest.approx([0.06, 0.02, 0.9, 0.06])
    assert comparison.holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])


def test_fold_t_without_overlap_is_the_one_sample_t():
    differences = np.array([0.1, 0.02, 0.13, -0.04, 0.06])
    found = comparison.corrected_fold_t(differences, n_train=64, n_test=0)
    expected = stats.ttest_1samp(differences, 0)
    assert (found.t, found.df, found.p) == (pytest.approx(expected.statistic), 4, pytest.approx(expected.pvalue))


def test_fold_t_is_widened_by_nadeau_and_bengio():
    differences = np.array([0.1, 0.02, 0.13, -0.04, 0.06])
    found = comparison.corrected_fold_t(differences, n_train=64, n_test=16)
    assert found.factor == pytest.approx(0.45)
    assert found.t == pytest.approx(stats.ttest_1samp(differences, 0).statistic * np.sqrt(0.2 / 0.45))
    assert found.p == pytest.approx(2 * stats.t(4).cdf(-found.t))


@pytest.mark.parametrize("same", [0.0, 0.1])
def test_folds_that_differ_by_the_same_show_nothing(same):
    found = comparison.corrected_fold_t(np.array([same, same + 1e-17, same]), n_train=64, n_test=16)
    assert (found.t, found.p) == (0.0, 1.0)
