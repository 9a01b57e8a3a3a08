"""Compare rows of the results: decisions about the same cases in, p-values out.

Labels, decisions and patients are (n,) arrays as in ricenet.statistics.metrics. The patient is the unit: several cases
of one patient never count as independent. Which contrasts are made at all is declared beforehand
(ricenet.evaluation.contrasts).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests


@dataclass(frozen=True)
class Pairs:
    """Cases that only one of two models is right about, and the exact two-sided p over patients."""

    only_ours: int
    only_theirs: int
    p: float


@dataclass(frozen=True)
class Omnibus:
    """Cochran's Q, its degrees of freedom and its p by chi-squared."""

    q: float
    df: int
    p: float


@dataclass(frozen=True)
class FoldTest:
    """The corrected t over folds; factor: what the variance of the folds is multiplied with."""

    t: float
    df: int
    p: float
    factor: float


def mcnemar(labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray, patients: np.ndarray) -> Pairs:
    """Are two models equally often right? The exact two-sided test of the patients' differences in the number right.

    If neither is better, each patient's difference is as likely with the other sign. With one case a patient that is
    McNemar's exact test.
    """
    right_ours, right_theirs = np.asarray(ours) == labels, np.asarray(theirs) == labels
    _, index = np.unique(patients, return_inverse=True)
    differences = np.bincount(index, right_ours) - np.bincount(index, right_theirs)
    return Pairs(
        int((right_ours & ~right_theirs).sum()),
        int((right_theirs & ~right_ours).sum()),
        _sign_flip_p(differences.astype(int)),
    )


def _sign_flip_p(differences: np.ndarray) -> float:
    """P(|sum| at least the observed one) where each of (patients,) whole numbers has either sign with one half."""
    total = int(np.abs(differences).sum())
    probability: np.ndarray = np.ones(1)  # of the sums -total, ..., total so far
    for size in np.abs(differences[differences != 0]):
        signs = np.zeros(2 * size + 1)
        signs[[0, -1]] = 0.5
        probability = np.convolve(probability, signs)
    extreme = np.abs(np.arange(-total, total + 1)) >= abs(differences.sum())
    return float(min(1.0, probability[extreme].sum()))


def cochrans_q(right: np.ndarray, patients: np.ndarray) -> Omnibus:
    """Are all sets equally often right?

    Q knows no clusters, so of several cases of a patient the first row is taken. Where every set is right about the
    same cases, nothing speaks against it: q 0, p 1.

    Args:
        right: (n, sets) bool, two sets or more.
    """
    _, first = np.unique(patients, return_index=True)
    of_patients = np.asarray(right)[first].astype(int)
    df = of_patients.shape[1] - 1
    if (of_patients == of_patients[:, :1]).all():
        return Omnibus(0.0, df, 1.0)
    test = contingency_tables.cochrans_q(of_patients)
    return Omnibus(float(test.statistic), df, float(test.pvalue))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values adjusted for their number by Holm 1979, in the order given; one p-value or more."""
    return multipletests(p_values, method="holm")[1]


def corrected_fold_t(differences: np.ndarray, n_train: float, n_test: float) -> FoldTest:
    """Two-sided t-test of the folds' differences, its variance corrected for training sets that overlap.

    Nadeau and Bengio 2003: the variance of the mean of k folds is taken as 1 / k + n_test / n_train times that of the
    folds. Where all folds differ by the same, that variance is not known. t would be infinite, a certainty that k folds
    cannot give, so t is 0 and p is 1 there, whether the mean is 0 or not.

    Args:
        differences: (k,) of a fold each, two or more.
        n_train: mean number of training cases.
        n_test: mean number of cases that a fold is scored on.
    """
    k = len(differences)
    factor = 1 / k + n_test / n_train
    if np.allclose(differences, differences[0], rtol=0, atol=1e-12):
        return FoldTest(0.0, k - 1, 1.0, factor)
    t = float(np.mean(differences) / np.sqrt(factor * np.var(differences, ddof=1)))
    return FoldTest(t, k - 1, float(2 * stats.t.sf(abs(t), k - 1)), factor)
