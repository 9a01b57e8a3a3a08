"""Power: which differences a cohort of given size can show, and how often chance shows one.

Accuracies and discordances are shares of patients, one case each; discordance: the share that two models predict
differently.
"""

from itertools import count

import numpy as np
from scipy import stats

_NORMALS_AT_ONCE = 2_000_000  # bounds the memory to about 50 MB


def required_patients(difference: float, discordance: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Patients that McNemar's two-sided test needs to show a difference in accuracy (Connor 1987, without correction).

    Args:
        difference: in accuracy, of the same patients, above 0.
        discordance: at least the difference.

    Raises:
        ValueError: no two models can differ so.
    """
    if not 0 < difference <= discordance <= 1:
        raise ValueError(
            f"expected 0 < difference <= discordance <= 1, got difference {difference:g}, discordance {discordance:g}"
        )
    z_alpha, z_power = stats.norm.isf(alpha / 2), stats.norm.ppf(power)
    root = z_alpha * np.sqrt(discordance) + z_power * np.sqrt(discordance - difference**2)
    return int(np.ceil((root / difference) ** 2))


def smallest_detectable_difference(
    patients: int, discordance: float, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """The smallest number of patients, as a share of all, that `required_patients` allows to show; None where none."""
    for more in range(1, patients + 1):
        difference = more / patients
        if difference > discordance:
            return None
        if required_patients(difference, discordance, power, alpha) <= patients:
            return difference
    return None


def fewest_discordant(alpha: float = 0.05) -> int:
    """With fewer patients predicted differently, McNemar's exact p cannot be alpha or less, even if all go one way."""
    return next(n for n in count(1) if stats.binomtest(n, n).pvalue <= alpha)


def error_probability(errors: int, patients: int, accuracy: float) -> float:
    """How often a model of that true accuracy makes at most so many errors."""
    return float(stats.binom.cdf(errors, patients, 1 - accuracy))


def best_of(models: int, patients: int, accuracy: float, correlation: float, draws: int, seed: int) -> np.ndarray:
    """(draws,) observed accuracies of the best of several models, all of the same true accuracy, on the same patients.

    A model is right about a patient where a normal number is below the quantile of the accuracy; for one patient, the
    numbers of two models are correlated by `correlation` (0: the models err independently; 1: all at once).
    """
    rng, below = np.random.default_rng(seed), stats.norm.ppf(accuracy)
    batch = max(1, _NORMALS_AT_ONCE // (models * patients))
    best = []
    for start in range(0, draws, batch):
        now = min(batch, draws - start)
        shared = np.sqrt(correlation) * rng.standard_normal((now, 1, patients))
        individual = np.sqrt(1 - correlation) * rng.standard_normal((now, models, patients))
        best.append((shared + individual < below).mean(axis=2).max(axis=1))
    return np.concatenate(best)
