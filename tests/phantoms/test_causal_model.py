"""The causal model: class shares, the exact Bayes score, and the planted order of the seven modality sets."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from ricenet.phantoms.causal_model import QUANTITIES, SHOWN_BY, bayes_llr, bayes_sensitivity, draw_cohort, modality_sets


def test_class_counts_are_the_papers() -> None:
    draws = draw_cohort(92, seed=0)
    counts = {split: np.bincount([d.label for d in draws if d.split == split]).tolist() for split in ("cv", "test")}
    assert counts == {"cv": [48, 32], "test": [7, 5]}


def test_same_seed_same_cohort_and_other_seed_another() -> None:
    assert draw_cohort(20, 3) == draw_cohort(20, 3)
    assert draw_cohort(20, 3) != draw_cohort(20, 4)


def test_sets_are_the_seven_of_the_paper() -> None:
    assert set(modality_sets()) == {"rd", "post", "event", "rd_post", "rd_event", "post_event", "rd_post_event"}
    assert modality_sets()["rd_post_event"] == ("post", "event", "rd")


@pytest.mark.parametrize("name", modality_sets())
def test_score_is_the_log_ratio_of_the_two_densities(name: str) -> None:
    """Against scipy's Gaussian densities of what the set shows."""
    channels = modality_sets()[name]
    functions = [f for channel in channels for f in SHOWN_BY[channel]]
    functions = [f for i, f in enumerate(functions) if f not in functions[:i]]  # cavity is shown twice
    shown = np.array([[f.get(q, 0.0) for q in QUANTITIES] for f in functions])
    means, sds, shifts = map(np.array, zip(*QUANTITIES.values(), strict=True))
    covariance = shown @ np.diag(sds**2) @ shown.T
    density = [multivariate_normal(shown @ (means + sign * shifts * sds / 2), covariance) for sign in (-1, 1)]
    for draw in draw_cohort(10, 1):
        x = shown @ np.array([draw.quantities[q] for q in QUANTITIES])
        expected = density[1].logpdf(x) - density[0].logpdf(x)
        assert bayes_llr(draw.quantities, channels) == pytest.approx(expected, abs=1e-9)


@pytest.mark.heavy
def test_simulated_sensitivity_agrees_with_the_closed_form() -> None:
    draws = draw_cohort(20_000, 0)
    for channels in modality_sets().values():
        hits = np.mean([(bayes_llr(d.quantities, channels) > 0) == d.label for d in draws])
        assert hits == pytest.approx(bayes_sensitivity(channels), abs=0.01)


def test_planted_order_is_the_papers() -> None:
    """event < post < post + event < dose < dose + post < dose + event; all three cannot be worse than two."""
    order = ["event", "post", "post_event", "rd", "rd_post", "rd_event", "rd_post_event"]
    scores = [bayes_sensitivity(modality_sets()[name]) for name in order]
    assert scores == sorted(scores)
    assert scores[0] < 0.62
    assert 0.75 < scores[3] < 0.9
    assert scores[5] - scores[0] > 0.25


def test_swapped_effects_give_each_class_the_others_quantities() -> None:
    for plain, swapped in zip(draw_cohort(30, 5), draw_cohort(30, 5, swap_label_effects=True), strict=True):
        assert (plain.label, plain.split, plain.seed) == (swapped.label, swapped.split, swapped.seed)
        for name, (_, sd, shift) in QUANTITIES.items():
            sign = 1 if plain.label else -1
            assert plain.quantities[name] - swapped.quantities[name] == pytest.approx(sign * shift * sd)
