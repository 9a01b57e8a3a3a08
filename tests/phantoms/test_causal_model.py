"""The causal model: class shares, the exact Bayes score, and the planted order of the seven modality sets."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from ricenet.phantoms.causal_model import (
    QUANTITIES_OF,
    SHOWN_BY,
    bayes_sensitivity,
    draw_cohort,
    modality_sets,
)


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


@pytest.mark.parametrize("difficulty", QUANTITIES_OF)
@pytest.mark.parametrize("name", modality_sets())
def test_score_is_the_log_ratio_of_the_two_densities(name: str, difficulty: str) -> None:
    """Against scipy's Gaussian densities of what the set shows; without a core nothing shows its brightness."""
    channels, quantities = modality_sets()[name], QUANTITIES_OF[difficulty]
    means, sds, shifts = map(np.array, zip(*quantities.values(), strict=True))
    draws = draw_cohort(24, 1, difficulty=difficulty)
    assert {draw.appearance.has_core for draw in draws} == ({True} if difficulty == "standard" else {True, False})
    for draw in draws:
        functions = [f for channel in channels for f in SHOWN_BY[channel]]
        functions = [f for i, f in enumerate(functions) if f not in functions[:i]]  # cavity is shown twice
        if not draw.appearance.has_core:
            functions = [f for f in functions if "core_brightness" not in f]
        shown = np.array([[f.get(q, 0.0) for q in quantities] for f in functions])
        covariance = shown @ np.diag(sds**2) @ shown.T
        density = [multivariate_normal(shown @ (means + sign * shifts * sds / 2), covariance) for sign in (-1, 1)]
        x = shown @ np.array([draw.quantities[q] for q in quantities])
        expected = density[1].logpdf(x) - density[0].logpdf(x)
        assert draw.bayes_llr(channels) == pytest.approx(expected, abs=1e-9)


@pytest.mark.heavy
@pytest.mark.parametrize("difficulty", QUANTITIES_OF)
def test_simulated_sensitivity_agrees_with_the_closed_form(difficulty: str) -> None:
    draws = draw_cohort(20_000, 0, difficulty=difficulty)
    for channels in modality_sets().values():
        hits = np.mean([(draw.bayes_llr(channels) > 0) == draw.label for draw in draws if draw.appearance.has_core])
        assert hits == pytest.approx(bayes_sensitivity(channels, difficulty), abs=0.01)


def test_the_hard_scores_lie_where_the_docs_say() -> None:
    scores = {name: bayes_sensitivity(channels, "hard") for name, channels in modality_sets().items()}
    assert 0.88 < scores["rd_post_event"] < 0.93
    assert scores["rd"] < 0.80
    assert all(score < bayes_sensitivity(modality_sets()[name]) + 0.03 for name, score in scores.items())


@pytest.mark.parametrize("difficulty", QUANTITIES_OF)
def test_planted_order_is_the_papers(difficulty: str) -> None:
    """event < post < post + event < dose < dose + post < dose + event; all three cannot be worse than two."""
    order = ["event", "post", "post_event", "rd", "rd_post", "rd_event", "rd_post_event"]
    scores = [bayes_sensitivity(modality_sets()[name], difficulty) for name in order]
    assert scores == sorted(scores)
    assert scores[0] < 0.62
    assert 0.75 < scores[3] < 0.9
    assert scores[5] - scores[0] > 0.25


@pytest.mark.parametrize("difficulty", QUANTITIES_OF)
def test_swapped_effects_give_each_class_the_others_quantities(difficulty: str) -> None:
    cohorts = [draw_cohort(30, 5, swap_label_effects=swap, difficulty=difficulty) for swap in (False, True)]
    for plain, swapped in zip(*cohorts, strict=True):
        assert (plain.label, plain.split, plain.seed) == (swapped.label, swapped.split, swapped.seed)
        assert plain.appearance == swapped.appearance
        for name, (_, sd, shift) in QUANTITIES_OF[difficulty].items():
            sign = 1 if plain.label else -1
            assert plain.quantities[name] - swapped.quantities[name] == pytest.approx(sign * shift * sd)
