import numpy as np
import pytest
from scipy import optimize, stats

from ricenet.statistics import comparison, power


def exact_power(patients: int, discordance: float, difference: float) -> float:
    """McNemar's exact test, over every number of discordant patients and every split of them."""
    one_way = min(1.0, (discordance + difference) / 2 / discordance)
    found = 0.0
    for discordant in range(patients + 1):
        splits = np.arange(discordant + 1)
        smaller = np.minimum(splits, discordant - splits)
        rejected = 2 * stats.binom.cdf(smaller, discordant, 0.5) <= 0.05
        share = stats.binom.pmf(splits, discordant, one_way)[rejected].sum()
        found += stats.binom.pmf(discordant, patients, discordance) * share
    return found


@pytest.mark.parametrize(("discordance", "patients"), [(0.10, 312), (0.15, 469), (0.20, 626)])
def test_83_against_78_per_cent(discordance, patients):
    assert power.required_patients(0.05, discordance) == patients
    # The exact test is a little weaker than the formula says.
    assert 0.76 < exact_power(patients, discordance, 0.05) < 0.8
    assert power.required_patients(0.05, discordance, power=0.9) > patients
    assert power.required_patients(0.05, discordance, alpha=0.01) > patients


@pytest.mark.parametrize(("discordance", "formula", "exact"), [(0.10, 8, 0.098), (0.15, 10, 0.122), (0.20, 12, 0.142)])
def test_eighty_patients_cannot_show_less(discordance, formula, exact):
    found = power.smallest_detectable_difference(80, discordance)
    assert found == formula / 80
    reached = optimize.brentq(lambda difference: exact_power(80, discordance, difference) - 0.8, 0.01, discordance)
    assert reached == pytest.approx(exact, abs=5e-4)
    assert (formula - 1) / 80 < reached <= found


def test_no_difference_can_be_shown():
    assert power.smallest_detectable_difference(80, 0.0) is None
    assert power.smallest_detectable_difference(80, 0.05) is None  # four patients
    assert power.smallest_detectable_difference(12, 0.25) is None  # three patients
    assert exact_power(80, 0.05, 0.05) < 0.8


def test_a_difference_needs_as_many_discordant_patients():
    with pytest.raises(ValueError, match=r"difference 0\.2, discordance 0\.1"):
        power.required_patients(0.2, 0.1)
    with pytest.raises(ValueError, match="difference 0,"):
        power.required_patients(0.0, 0.1)


def test_six_discordant_patients_at_least():
    assert power.fewest_discordant() == 6
    assert power.fewest_discordant(0.01) == 8
    for discordant, passes in ((5, False), (6, True)):
        right = np.arange(12) < discordant
        p = comparison.mcnemar(np.ones(12), right.astype(int), np.zeros(12), np.arange(12)).p
        assert (p < 0.05) == passes


def test_one_error_in_twelve_is_no_rarity():
    assert power.error_probability(1, 12, 0.78) == pytest.approx(0.78**12 + 12 * 0.22 * 0.78**11)
    assert power.error_probability(1, 12, 0.78) == pytest.approx(0.22, abs=0.005)
    assert power.error_probability(12, 12, 0.78) == 1


def test_the_best_of_seven_equal_sets():
    independent = power.best_of(7, 80, 0.78, correlation=0, draws=20_000, seed=0)
    exact = 1 - stats.binom.cdf(66, 80, 0.78) ** 7  # 67 of 80 is the first share of 0.83 or more
    assert exact == pytest.approx(0.63, abs=0.005)
    assert (independent >= 0.83).mean() == pytest.approx(exact, abs=0.011)  # three standard errors
    for correlation in (0.65, 0.7):
        together = power.best_of(7, 80, 0.78, correlation, draws=10_000, seed=0)
        assert (together >= 0.83).mean() == pytest.approx(0.45, abs=0.02)


def test_the_best_of_ten_checkpoints_reads_too_high():
    share_of_highest = stats.binom.cdf(np.arange(17), 16, 0.78) ** 10
    exact = np.arange(17) @ np.diff(share_of_highest, prepend=0) / 16
    assert exact == pytest.approx(0.925, abs=5e-4)
    assert power.best_of(10, 16, 0.78, correlation=0, draws=20_000, seed=1).mean() == pytest.approx(exact, abs=0.001)
    assert power.best_of(10, 16, 0.78, correlation=0.5, draws=20_000, seed=1).mean() == pytest.approx(0.90, abs=0.005)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.65, 0.9])
def test_two_models_hang_together_by_that_correlation(correlation):
    best = power.best_of(2, 1, 0.78, correlation, draws=100_000, seed=2)
    above = -stats.norm.ppf(0.78)
    both_wrong = stats.multivariate_normal(cov=[[1, correlation], [correlation, 1]]).cdf([above, above])
    assert best.mean() == pytest.approx(1 - both_wrong, abs=0.004)


def test_models_that_always_agree_are_one():
    together = power.best_of(7, 12, 0.78, correlation=1, draws=50_000, seed=3) * 12
    shares = np.bincount(np.rint(together).astype(int), minlength=13) / 50_000
    assert shares == pytest.approx(stats.binom(12, 0.78).pmf(np.arange(13)), abs=0.007)


def test_a_seed_repeats_the_draws_in_whatever_portions(monkeypatch):
    first = power.best_of(3, 20, 0.7, 0.4, draws=500, seed=4)
    assert first.shape == (500,)
    assert (power.best_of(3, 20, 0.7, 0.4, draws=500, seed=4) == first).all()
    assert (power.best_of(3, 20, 0.7, 0.4, draws=500, seed=5) != first).any()
    monkeypatch.setattr(power, "_NORMALS_AT_ONCE", 60 * 7)  # seven draws at a time, the last time three
    portions = power.best_of(3, 20, 0.7, 0.4, draws=500, seed=4)
    assert portions.shape == (500,)
    assert portions.mean() == pytest.approx(first.mean(), abs=0.02)
