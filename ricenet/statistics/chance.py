"""The score that chance would give: macro-F1 of the same decisions with labels permuted between patients.

Arrays are (n,) as in ricenet.statistics.metrics.
"""

from dataclasses import dataclass

import numpy as np

from ricenet.statistics.metrics import AT_ONCE, confusion, macro_f1, macro_f1_of


@dataclass(frozen=True)
class Chance:
    """Macro-F1 where labels say nothing: mean and 95th percentile; p: how rarely it reaches the observed value."""

    mean: float
    p95: float
    p: float


def chance(labels: np.ndarray, decisions: np.ndarray, patients: np.ndarray, draws: int, seed: int) -> Chance:
    """Macro-F1 of the fixed decisions against `draws` sets of `shuffled_labels`.

    p is one-sided, (1 + draws that reach the observed value) / (draws + 1): never 0.
    """
    rng, batch = np.random.default_rng(seed), max(1, AT_ONCE // len(labels))
    parts = [min(batch, draws - start) for start in range(0, draws, batch)]
    shuffles = (_shuffles(labels, patients, part, rng) for part in parts)
    null = np.concatenate([macro_f1_of(confusion(shuffled, decisions).sum(axis=-2)) for shuffled in shuffles])
    reached = (null >= macro_f1(labels, decisions) - 1e-12).sum()
    p95 = np.quantile(null, 0.95, method="inverted_cdf")  # a value that occurs: there are few different ones
    return Chance(float(null.mean()), float(p95), float((1 + reached) / (draws + 1)))


def shuffled_labels(labels: np.ndarray, patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n,) labels permuted between patients with the same number of cases; those of one patient stay together."""
    return _shuffles(labels, patients, 1, rng)[0]


def _shuffles(labels: np.ndarray, patients: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, n) shuffled labels."""
    labels = np.asarray(labels)
    _, index, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    side_by_side, starts = np.argsort(index, kind="stable"), np.cumsum(sizes) - sizes
    shuffled = np.empty((draws, len(labels)), labels.dtype)
    for size in np.unique(sizes):
        rows = side_by_side[starts[sizes == size, None] + np.arange(size)]  # (patients of that size, size)
        order = rng.permuted(np.tile(np.arange(len(rows)), (draws, 1)), axis=1)
        shuffled[:, rows] = labels[rows][order]
    return shuffled
