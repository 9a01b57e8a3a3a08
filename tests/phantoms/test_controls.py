"""Site, days, scanners and missing images say nothing of the label."""

import numpy as np
import pytest
from scipy import stats

from ricenet.phantoms.causal_model import draw_cohort
from ricenet.phantoms.controls import control_names, controls, existing_channels


def test_site_and_days_are_independent_of_the_label() -> None:
    draws = draw_cohort(2000, seed=3)
    labels = np.array([draw.label for draw in draws])
    rows = [controls(draw) for draw in draws]
    north = np.array([row["site"] == "north" for row in rows])
    days = np.array([int(row["days_since_rt"]) for row in rows])
    assert north.mean() == pytest.approx(0.5, abs=0.03)
    assert stats.fisher_exact([[sum(north[labels == y]), sum(~north[labels == y])] for y in (0, 1)]).pvalue > 0.05
    assert stats.mannwhitneyu(days[labels == 0], days[labels == 1]).pvalue > 0.05
    assert [controls(draw) for draw in draw_cohort(2000, seed=3, swap_label_effects=True)] == rows


def test_missing_images_are_independent_of_the_label() -> None:
    draws = draw_cohort(2000, seed=3)
    labels = np.array([draw.label for draw in draws])
    channels = [existing_channels(draw, without_post=0.3, without_rd=0.2) for draw in draws]
    for role, share in (("post", 0.3), ("rd", 0.2)):
        missing = np.array([role not in existing for existing in channels])
        assert missing.mean() == pytest.approx(share, abs=0.03)
        assert stats.fisher_exact(np.histogram2d(missing, labels, bins=2)[0]).pvalue > 0.05


@pytest.mark.parametrize("difficulty", ["standard", "hard"])
def test_the_scanners_are_columns_where_there_are_two(difficulty: str) -> None:
    (draw, *_) = draw_cohort(4, 1, difficulty=difficulty)
    row = controls(draw)
    assert tuple(row) == control_names(difficulty)
    assert ("event_scanner" in row) == (difficulty == "hard")
    for role in ("post", "event"):
        assert row.get(f"{role}_scanner", "A") == draw.appearance.scanner(role).name
