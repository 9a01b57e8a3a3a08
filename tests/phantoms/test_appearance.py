"""What difficulty=hard draws beside the label: as often and as strong as its table says, and apart from the label."""

import numpy as np
import pytest

from ricenet.phantoms.appearance import RIM_BRIGHTNESS, STANDARD_APPEARANCE, deal_scanners
from ricenet.phantoms.causal_model import draw_cohort

DRAWS = draw_cohort(2000, 5, difficulty="hard")
LOOKS = [draw.appearance for draw in DRAWS]


@pytest.mark.parametrize(("effect", "share"), [("faint", 0.30), ("has_core", 0.75), ("steroids", 0.40)])
def test_shares(effect: str, share: float) -> None:
    assert np.mean([getattr(look, effect) for look in LOOKS]) == pytest.approx(share, abs=0.04)


def test_a_rim_is_less_bright_only_where_faint_or_under_steroids() -> None:
    for look in LOOKS:
        low = (0.45 if look.faint else 1) * (0.65 if look.steroids else 1)
        high = (0.70 if look.faint else 1) * (0.90 if look.steroids else 1)
        assert low <= look.lesion_rim / RIM_BRIGHTNESS <= high


def test_the_rim_of_the_surgery_shrinks_and_fades() -> None:
    for look in LOOKS:
        assert 0.2 <= look.cavity_rim[1] / look.cavity_rim[0] <= 0.6
        assert look.cavity_rim_mm[1] < look.cavity_rim_mm[0]


def test_the_registration_error_has_a_root_mean_square_of_1_mm() -> None:
    squares = [np.square(look.event_shift_mm).sum() for look in LOOKS]
    assert np.sqrt(np.mean(squares)) == pytest.approx(1, abs=0.03)


def test_each_pair_of_scanners_has_the_same_number_of_patients_of_a_class() -> None:
    for label in (0, 1):
        names = [tuple(one.name for one in draw.appearance.scanners) for draw in DRAWS if draw.label == label]
        counts = [names.count(pair) for pair in (("A", "A"), ("A", "B"), ("B", "A"), ("B", "B"))]
        assert sum(counts) == len(names)
        assert max(counts) - min(counts) <= 1
    few = deal_scanners([0, 1, 1], np.random.default_rng(0))
    assert len(few) == 3


def test_the_label_does_not_reach_the_look() -> None:
    """With each class given the other's quantities, every patient looks the same; and labels cannot be told from it."""
    assert [draw.appearance for draw in draw_cohort(2000, 5, swap_label_effects=True, difficulty="hard")] == LOOKS
    labels = np.array([draw.label for draw in DRAWS])
    table = [look.row() for look in LOOKS]
    for name in table[0]:
        if name.endswith("_scanner"):
            continue
        values = np.array([float(row[name]) for row in table])
        if values.std():
            assert abs(np.corrcoef(values, labels)[0, 1]) < 0.07, name  # 3 SD of no correlation


def test_of_standard_difficulty_all_look_alike() -> None:
    assert {draw.appearance for draw in draw_cohort(20, 5)} == {STANDARD_APPEARANCE}
