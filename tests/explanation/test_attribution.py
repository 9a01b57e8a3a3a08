"""Numbers of maps against hand-made ones; exact probabilities against enumeration; a summary counted by hand."""

import json
from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from helpers.occlusion_records import SETTINGS, occlusion_record
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats

from ricenet.explanation.attribution import (
    at_least,
    channel_shares,
    measure,
    number_parts,
    rank_agreement,
    summarise,
)
from ricenet.explanation.map_record import CurveSummary, MeanDose, OcclusionRecord, PairedHits, Pointing, SetSummary
from ricenet.images.views import peak
from ricenet.networks.late_fusion import LateFusion
from ricenet.networks.number_inputs import NumberInput

SHAPE = (12, 10, 8)
WORLD_FROM_VOXEL = np.array([[4.0, 0, 0, -20], [0, 4, 0, -16], [0, 0, 4, 8], [0, 0, 0, 1]])


def box(*axes: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(slice(low, high) for low, high in axes)] = True
    return mask


BRAIN = box((1, 11), (1, 9), (1, 7))  # 480 voxels
LESION = box((4, 6), (4, 6), (3, 5))  # 8 voxels


def test_shares_count_the_absolute_map_and_the_brain() -> None:
    drop = np.zeros(SHAPE)
    drop[4, 4, 3], drop[8, 8, 6], drop[0, 0, 0] = 0.5, -0.3, 0.2
    numbers = measure(drop, WORLD_FROM_VOXEL, (2, 2, 2), BRAIN, {"lesion": LESION, "dose_0_20": BRAIN & ~LESION}, None)
    assert (numbers.drop_max, numbers.drop_min) == (0.5, -0.3)
    assert numbers.drop_max_world_mm == [4 * 4 - 20, 4 * 4 - 16, 4 * 3 + 8]
    assert numbers.map_share == pytest.approx({"brain": 0.8, "lesion": 0.5, "dose_0_20": 0.3})
    assert numbers.brain_share == pytest.approx({"lesion": 8 / 480, "dose_0_20": 472 / 480})
    assert numbers.pointing.keys() == {"lesion"}, "nothing points at a dose band"
    assert "dose_gy" not in numbers.model_dump(exclude_unset=True)


# Half of an edge of 4 voxels is 2, of 3 voxels 2 too (rounded up), of 1 voxel 1. The lesion's last voxel is x = 5.
@pytest.mark.parametrize(
    ("edge", "distance", "hit"), [(4, 2, True), (4, 3, False), (3, 2, True), (3, 3, False), (1, 1, True), (1, 2, False)]
)
def test_a_maximum_hits_within_half_a_cube(edge: int, distance: int, hit: bool) -> None:
    drop = np.zeros(SHAPE)
    drop[5 + distance, 4, 3] = 0.1
    pointing = measure(drop, WORLD_FROM_VOXEL, (edge, 1, 1), BRAIN, {"lesion": LESION}, None).pointing
    assert pointing["lesion"].hit is hit
    half = -(-edge // 2)
    reach = box((4 - half, 6 + half), (3, 7), (2, 6)) & BRAIN
    assert pointing["lesion"].chance == pytest.approx(reach.sum() / 480)


def test_the_tolerance_is_a_box_and_a_region_at_the_border_does_not_wrap() -> None:
    region, cube = box((0, 2), (0, 1), (7, 8)) | box((9, 10), (5, 6), (2, 3)), (4, 2, 3)
    dilated = ndimage.binary_dilation(region, np.ones((5, 3, 5)))
    for place in product(*map(range, SHAPE)):
        drop = np.zeros(SHAPE)
        drop[place] = 1
        pointing = measure(drop, WORLD_FROM_VOXEL, cube, BRAIN, {"dose_edge": region}, None).pointing
        assert pointing["dose_edge"].hit == dilated[place]
    assert pointing["dose_edge"].chance == pytest.approx(dilated[BRAIN].sum() / 480)


def test_chance_is_the_rate_of_maxima_anywhere_in_the_brain() -> None:
    hits = 0
    for place in np.argwhere(BRAIN):
        drop = np.zeros(SHAPE)
        drop[tuple(place)] = 1
        pointing = measure(drop, WORLD_FROM_VOXEL, (3, 2, 5), BRAIN, {"cavity": LESION}, None).pointing["cavity"]
        hits += pointing.hit
    assert pointing.chance == pytest.approx(hits / 480)


def test_a_map_without_any_drop_points_nowhere() -> None:
    for drop in (np.zeros(SHAPE), np.full(SHAPE, -0.1)):
        numbers = measure(drop, WORLD_FROM_VOXEL, (2, 2, 2), BRAIN, {"lesion": BRAIN}, np.ones(SHAPE))
        assert numbers.drop_max_world_mm is None
        assert numbers.pointing["lesion"] == Pointing(hit=False, chance=1.0)
    nothing = measure(np.zeros(SHAPE), WORLD_FROM_VOXEL, (2, 2, 2), BRAIN, {"lesion": LESION}, np.ones(SHAPE))
    assert nothing.map_share == {"brain": None, "lesion": None}
    assert nothing.dose_gy == MeanDose(weighted_by_map=None, brain=1.0)
    assert measure(np.zeros(SHAPE), WORLD_FROM_VOXEL, (2, 2, 2), BRAIN, {}, None).pointing == {}


def test_dose_under_the_map_beside_the_brains() -> None:
    drop, dose_gy = np.zeros(SHAPE), np.zeros(SHAPE)
    drop[5, 5, 4], drop[2, 2, 2], drop[0, 0, 0] = 0.3, -0.1, 9.0
    dose_gy[5, 5, 4], dose_gy[2, 2, 2], dose_gy[0, 0, 0] = 60, 20, 99
    numbers = measure(drop, WORLD_FROM_VOXEL, (2, 2, 2), BRAIN, {}, dose_gy)
    assert numbers.dose_gy.weighted_by_map == pytest.approx((0.3 * 60 + 0.1 * 20) / 0.4)
    assert numbers.dose_gy.brain == pytest.approx(80 / 480)


def test_the_peak_of_a_block_is_its_middle() -> None:
    drop = np.zeros(SHAPE, dtype=np.float32)
    drop[box((3, 8), (2, 5), (1, 4))] = 0.4
    drop[4, 3, 2] *= 1 + 1e-7  # a sum of the same numbers in another order
    assert peak(drop) == (5, 3, 2)
    drop[9, 9, 7] = 0.41
    assert peak(drop) == (9, 9, 7)
    negative = -0.1 - drop
    assert negative[peak(negative)] == negative.max()
    two = np.zeros(SHAPE)
    two[2, 2, 2] = two[10, 8, 6] = 1
    assert two[peak(two)] == 1, "of two separate ones it is one"


def test_channel_shares_sum_absolute_maps() -> None:
    maps = {"event": np.array([[[0.2, -0.4]]]), "rd": np.array([[[0.0, 0.2]]])}
    assert channel_shares(maps) == pytest.approx({"event": 0.75, "rd": 0.25})
    assert channel_shares({name: 0 * drop for name, drop in maps.items()}) == {"event": None, "rd": None}


def test_rank_agreement_is_spearmans_inside_the_brain() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=SHAPE)
    maps = [(shared + rng.normal(size=SHAPE)).round(1) for _ in range(3)]  # rounded, so that there are ties
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = [stats.spearmanr(maps[one][BRAIN], maps[other][BRAIN]).statistic for one, other in pairs]
    assert rank_agreement(maps, BRAIN) == pytest.approx(np.mean(expected))
    assert rank_agreement([shared, np.exp(3 * shared)], BRAIN) == pytest.approx(1)
    assert rank_agreement([shared, np.where(BRAIN, -shared, 99)], BRAIN) == pytest.approx(-1)


def test_no_agreement_of_one_map_or_with_a_constant_one() -> None:
    shared = np.random.default_rng(0).normal(size=SHAPE)
    assert rank_agreement([shared], BRAIN) is None
    assert rank_agreement([], BRAIN) is None
    assert rank_agreement([shared, np.where(BRAIN, 0, shared)], BRAIN) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.integers(0, 8))
def test_probability_of_hits_is_that_of_all_their_combinations(chances: list[float], hits: int) -> None:
    expected = sum(
        prod(chance if hit else 1 - chance for hit, chance in zip(outcome, chances, strict=True))
        for outcome in product((0, 1), repeat=len(chances))
        if sum(outcome) >= hits
    )
    assert at_least(hits, chances) == pytest.approx(expected, abs=1e-14)
    assert 0 <= at_least(hits, chances) <= 1


def test_probability_of_hits_with_equal_and_with_many_chances() -> None:
    for hits in range(93):
        assert at_least(hits, [0.05] * 92) == pytest.approx(stats.binom(92, 0.05).sf(hits - 1), rel=1e-9)
    chances = np.random.default_rng(0).random(92) * 0.3
    for hits in (0, 5, 20, 40):
        pmf = stats.poisson_binom(chances).pmf(np.arange(hits, 93))
        assert at_least(hits, chances.tolist()) == pytest.approx(pmf.sum(), rel=1e-9)


def point(hit: bool, chance: float) -> dict:
    return {"hit": hit, "chance": chance}


def test_summary_of_several_cases() -> None:
    unknown = occlusion_record("c", map_share={"brain": None}, brain_share={}, predicted="recurrence", pointing={})
    unknown = OcclusionRecord(**unknown.model_dump(exclude={"dose_gy"}))
    finer = SETTINGS | {"cube_mm": 8.0}
    other = occlusion_record(
        "b", map_share={"brain": 0.5, "lesion": 0.6}, settings=finer, method="incremental",
        channel_share={"event": 0.25, "rd": 0.75}, dose_gy={"weighted_by_map": None, "brain": 9.0}, fold_agreement=0.4,
    )  # fmt: skip
    summary = summarise([occlusion_record("a"), other, unknown])
    assert (summary.n, summary.n_correct) == (3, 2)
    assert summary.median_map_share == pytest.approx({"brain": 0.7, "lesion": 0.4})
    assert summary.median_brain_share == {"lesion": 0.02}
    assert summary.median_channel_share == {"event": 0.25, "rd": 0.75}
    assert summary.median_dose_gy == {"weighted_by_map": 40.0, "brain": 7.5}
    assert summary.median_fold_agreement == 0.4
    assert [one.cube_mm for one in summary.settings] == [16.0, 8.0]
    assert summary.methods == ["incremental, fp32", "incremental"]
    assert summary.cases == ["a", "b", "c"]
    assert summary.randomised is summary.curves is None
    assert SetSummary(**json.loads(json.dumps(summary.model_dump(), allow_nan=False))) == summary
    assert summarise([occlusion_record("a")]).median_fold_agreement is None


def test_pointing_by_hand() -> None:
    """2 of 3 with chances .1, .2, .5: p = .1*.2*.5 + .9*.2*.5 + .1*.8*.5 + .1*.2*.5 = .15; the interval is R's."""
    hits, chances = (True, True, False), (0.1, 0.2, 0.5)
    records = [occlusion_record("x", pointing={"lesion": point(*one)}) for one in zip(hits, chances, strict=True)]
    records.append(occlusion_record("y", pointing={"dose_edge": point(False, 0.3)}))
    pointing = {name: one.model_dump() for name, one in summarise(records).pointing.items()}
    assert pointing["lesion"] == {
        "n": 3, "hits": 2, "rate": pytest.approx(2 / 3), "interval": pytest.approx((0.0943, 0.9916), abs=1e-4),
        "expected": pytest.approx(0.8), "chance": pytest.approx(0.8 / 3), "p": pytest.approx(0.15),
    }  # fmt: skip
    one_miss = {
        "n": 1,
        "hits": 0,
        "rate": 0,
        "interval": pytest.approx((0, 0.975)),
        "expected": 0.3,
        "chance": 0.3,
    }
    assert pointing["dose_edge"] == {**one_miss, "p": 1}
    assert pointing.keys() == {"lesion", "dose_edge"}


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"), [(0, 10, 0, 0.3085), (10, 10, 0.6915, 1), (5, 10, 0.1871, 0.8129)]
)
def test_interval_is_clopper_and_pearsons(hits: int, n: int, low: float, high: float) -> None:
    records = [occlusion_record("x", pointing={"cavity": point(index < hits, 0.5)}) for index in range(n)]
    assert summarise(records).pointing["cavity"].interval == pytest.approx((low, high), abs=1e-4)


def test_randomised_networks_beside_the_trained_ones() -> None:
    def randomised(hit: bool, similarity: float | None) -> dict:
        return {"drop_max": 0.1, "pointing": {"lesion": point(hit, 0.1)}, "similarity": similarity}

    cases = [(True, 0.3), (False, -0.1), (False, None), (False, 0.1)]
    records = [occlusion_record("x", randomised=randomised(*one)) for one in cases] + [occlusion_record("y")]
    summary = summarise(records)
    found = summary.randomised
    assert (found.n, found.median_similarity, found.similarity_range) == (4, 0.1, (-0.1, 0.3))
    assert (found.pointing["lesion"].hits, found.pointing["lesion"].n) == (1, 4)
    assert found.pointing["lesion"].p == pytest.approx(1 - 0.9**4)
    assert (summary.pointing["lesion"].hits, summary.pointing["lesion"].n) == (5, 5)
    assert found.paired == {"lesion": PairedHits(only_trained=3, only_randomised=0, p=1 / 8)}
    unlike = summarise([occlusion_record("x", randomised=randomised(False, None))]).randomised
    assert unlike.median_similarity is unlike.similarity_range is None


def test_trained_and_randomised_are_paired_by_case() -> None:
    pairs = [(True, True)] * 2 + [(True, False)] * 4 + [(False, True)] * 1 + [(False, False)] * 3
    records = [
        occlusion_record(
            "x",
            pointing={"lesion": point(ours, 0.1)},
            randomised={"drop_max": 0.1, "pointing": {"lesion": point(theirs, 0.1)}, "similarity": 0.0},
        )
        for ours, theirs in pairs
    ]
    found = summarise(records).randomised.paired["lesion"]
    assert (found.only_trained, found.only_randomised) == (4, 1)
    assert found.p == pytest.approx(6 / 32)  # 4 or 5 heads of 5
    same = summarise(records[:2]).randomised.paired["lesion"]
    assert (same.only_trained, same.only_randomised, same.p) == (0, 0, 1.0)


def curves(fraction: list[float], deletion: float, insertion: float, random: float) -> dict:
    """Curves that are flat, so that their area is their height."""
    heights = {
        "deletion": deletion,
        "insertion": insertion,
        "deletion_random": random,
        "insertion_random": 1 - random,
    }
    flat = {name: [height] * len(fraction) for name, height in heights.items()}
    return {"fraction": fraction, **flat, **{f"{name}_area": height for name, height in heights.items()}}


def test_curves_are_means_over_the_cases_with_the_most_common_fractions() -> None:
    three, two = [0, 0.5, 1], [0, 1]
    records = [
        occlusion_record("a", curves=curves(two, 0.9, 0.9, 0.9)),
        occlusion_record("b", curves=curves(three, 0.2, 0.7, 0.4)),
        occlusion_record("c", curves=curves(three, 0.4, 0.5, 0.4)),
        occlusion_record("d", curves=curves(three, 0.3, 0.9, 0.5)),
        occlusion_record("e"),
    ]
    found = summarise(records).curves
    assert (found.n, found.fraction) == (3, three)
    assert found.deletion == pytest.approx([0.3] * 3)
    assert found.insertion == pytest.approx([0.7] * 3)
    assert found.deletion_random == pytest.approx([1.3 / 3] * 3)
    assert (found.median_deletion_area, found.median_insertion_area) == (0.3, 0.7)
    assert (found.median_deletion_random_area, found.median_insertion_random_area) == (0.4, 0.6)
    assert (found.n_deletion_better, found.n_insertion_better) == (2, 2), "equal is not better"
    assert CurveSummary(**json.loads(json.dumps(found.model_dump(), allow_nan=False))) == found


def fused(**weights: float) -> LateFusion:
    """With these weights of the numbers in the log-odds of RICE, each of mean 10 and SD 2."""
    numbers = [NumberInput(name=name, mean=10.0, scale=2.0, missing=0.0, channels=()) for name in weights]
    network = LateFusion(torch.nn.Identity(), ["rd"], numbers)
    with torch.no_grad():
        network.head.weight[1, : len(weights)] = torch.tensor(list(weights.values()))
    return network


def test_parts_of_numbers_are_means_over_the_networks_and_one_that_a_fold_lacks_counts_as_0() -> None:
    parts = number_parts([fused(a=1.0, b=-3.0), fused(a=2.0)], {"a": 12.0, "b": 14.0}, [0.5, 1.5])
    assert parts is not None
    assert {name: (part.value, part.log_odds) for name, part in parts.parts.items()} == {
        "b": (14.0, -3.0), "a": (12.0, 1.5)
    }  # fmt: skip
    assert list(parts.parts) == ["b", "a"]
    assert (parts.log_odds, parts.image_log_odds) == (1.0, 2.5)
    assert number_parts([torch.nn.Identity()], {}, [0.5]) is None


def test_summary_of_numbers_is_of_medians_of_absolute_values() -> None:
    cases = [
        {"log_odds": total, "image_log_odds": image, "parts": {"a": {"value": 1.0, "log_odds": total - image}}}
        for total, image in ((1.0, 0.5), (-2.0, 1.0), (0.0, -4.0))
    ]
    records = [occlusion_record(f"c{index}", numbers=case) for index, case in enumerate(cases)]
    numbers = summarise(records).numbers
    assert numbers is not None
    assert (numbers.image_log_odds, numbers.numbers_log_odds, numbers.parts) == (1.0, 3.0, {"a": 3.0})
    assert "numbers" not in summarise([occlusion_record("c")]).model_dump(exclude_unset=True)
