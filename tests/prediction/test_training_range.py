"""Measures by hand, ranges with their margin, and what a case of another kind shows."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.mni152 import mni152
from scipy import stats

from ricenet.cases.case_reader import load_case
from ricenet.cohort.ready_cases import ReadyCase, read_cases
from ricenet.prediction.model_content import measure_case
from ricenet.prediction.model_json import MeasureRange
from ricenet.prediction.training_range import compare, describe, measure, outside, ranges

QC = {"brain_ml": 1500.0, "similarity": 1.2, "rotation_degrees": 3.0, "translation_mm": 9.0, "event_coverage": 1.0}
CHANNELS = ["post", "event", "rd"]
RING_AT = (60, 150, 110)  # voxel, in the white matter of one side


def case() -> tuple[np.ndarray, np.ndarray]:
    """A volume with known values in a brain of 1,000 voxels, and others around it."""
    brain = np.zeros((12, 12, 12), bool)
    brain[1:11, 1:11, 1:11] = True
    volume = np.full((3, 12, 12, 12), 99, np.float32)
    volume[0][brain] = np.random.default_rng(0).permutation(1000) / 100 - 5  # -5.00 to 4.99
    volume[1][brain] = np.random.default_rng(0).exponential(size=1000)
    volume[2] = 0.5
    volume[2][brain] = 0.25
    volume[2, 0, 0, 0] = 1.2
    return volume, brain


def test_measures_by_hand() -> None:
    volume, brain = case()
    found = measure(volume, brain, CHANNELS, QC, 60.0)
    assert found["dose_max_gy"] == pytest.approx(72, abs=1e-3)  # also outside the brain
    assert found["dose_mean_gy"] == pytest.approx(15)
    assert {name: found[name] for name in ("brain_ml", "similarity", "rotation_degrees", "translation_mm")} == {
        "brain_ml": 1500, "similarity": 1.2, "rotation_degrees": 3, "translation_mm": 9,
    }  # fmt: skip
    assert found["post_p1"] == pytest.approx(-5 + 9.99 * 0.01, abs=1e-3)
    assert found["post_p99"] == pytest.approx(-5 + 9.99 * 0.99, abs=1e-3)
    assert found["post_skewness"] == pytest.approx(0, abs=1e-4)
    values = volume[1][brain].astype(float)
    third = ((values - values.mean()) ** 3).mean() / values.std() ** 3
    assert found["event_skewness"] == pytest.approx(third, abs=1e-4)
    assert len(found) == 14
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_only_what_the_model_looks_at() -> None:
    volume, brain = case()
    assert set(measure(volume[2:], brain, ["rd"], QC, 60.0)) == {"brain_ml", "dose_max_gy", "dose_mean_gy"}
    assert set(measure(volume[:1], brain, ["post"], QC, None)) == {
        "brain_ml", "post_rim", "post_skewness", "post_p1", "post_p99",
    }  # fmt: skip
    assert "dose_max_gy" not in measure(volume, brain, CHANNELS, QC, None)  # z-scored: no Gy
    assert set(measure(volume[1:2], brain, ["flair"], {}, None)) == {
        "flair_rim", "flair_skewness", "flair_p1", "flair_p99",
    }  # fmt: skip


def test_a_constant_image_has_numbers() -> None:
    brain = np.ones((4, 4, 4), bool)
    found = measure(np.zeros((1, 4, 4, 4), np.float32), brain, ["post"], {}, None)
    assert found == {"post_rim": 0, "post_skewness": 0, "post_p1": 0, "post_p99": 0}


@pytest.mark.parametrize("edge", [16, 100])
def test_rim_minus_core_of_a_ball(edge: int) -> None:
    """Half of a ball's volume is deeper than .206 of its radius. Bright outside of that, dark inside."""
    index = np.indices((edge,) * 3) - (edge - 1) / 2
    depth = 1 - np.sqrt((index**2).sum(axis=0)) / (edge / 2)
    brain, rim = depth > 0, (depth > 0) & (depth < 1 - 0.5 ** (1 / 3))
    image = np.where(rim, 2.0, np.where(brain, -1.0, 7.0)).astype(np.float32)
    found = measure(image[None], brain, ["post"], {}, None)["post_rim"]
    assert found == pytest.approx(3, abs=0.75 if edge == 16 else 0.35)
    assert measure(-image[None], brain, ["post"], {}, None)["post_rim"] == pytest.approx(-found)


def test_a_brain_of_one_layer_has_numbers() -> None:
    brain = np.zeros((4, 4, 4), bool)
    brain[1] = True
    found = measure(np.arange(64, dtype=np.float32).reshape(1, 4, 4, 4), brain, ["post"], {}, None)
    assert np.isfinite(list(found.values())).all()


def test_ranges_of_what_there_is() -> None:
    found = ranges([{"a": 3.0, "b": 1.0}, {"a": -1.0}, {"a": 2.0, "b": 5.0}])
    assert found == {"a": MeasureRange(low=-1.0, high=3.0, n=3), "b": MeasureRange(low=1.0, high=5.0, n=2)}
    assert ranges([]) == {}


@pytest.mark.parametrize(
    ("value", "inside"), [(49.5, True), (50, True), (60, True), (60.5, True), (49.49, False), (60.51, False)]
)
def test_a_twentieth_of_the_width_is_forgiven(value: float, inside: bool) -> None:
    """50 to 60 Gy: half a Gy on both sides."""
    (row,) = compare({"dose_max_gy": value}, {"dose_max_gy": MeasureRange(low=50.0, high=60.0, n=80)})
    assert row.model_dump() == {
        "name": "dose_max_gy", "title": "Dose maximum", "unit": "Gy", "value": value, "low": 50, "high": 60,
        "inside": inside,
    }  # fmt: skip
    assert bool(outside([row], "case c0")) is not inside


def test_what_the_training_did_not_measure_is_not_compared() -> None:
    assert compare({"flair_p1": 9.0}, {"dose_max_gy": MeasureRange(low=1.0, high=2.0, n=3)}) == []


def test_a_warning_says_value_range_and_what_next() -> None:
    rows = compare({"dose_max_gy": 1.2345, "brain_ml": 1500.0}, {
        "dose_max_gy": MeasureRange(low=40.06, high=72.0, n=80),
        "brain_ml": MeasureRange(low=1400.0, high=1600.0, n=80),
    })  # fmt: skip
    (found,) = outside(rows, "case c0123")
    assert (found.code, found.severity, found.channel, found.case) == (
        "range.dose_max_gy", "warning", "rd", "case c0123",
    )  # fmt: skip
    assert "Dose maximum is 1.234 Gy, in the training cohort it was 40.06 to 72 Gy" in found.message
    assert found.hint.endswith("?")


def test_every_measure_has_words() -> None:
    volume, brain = case()
    for name in measure(volume, brain, ["post", "event", "rd"], QC, 60.0) | {"flair_p99": 0.0}:
        meaning = describe(name)
        assert meaning.title[0].isupper()
        assert meaning.hint
    assert describe("event_p99").title == "Event MRI: 99th percentile"
    assert describe("post_skewness").title == "Post-OP MRI: skewness in the brain"
    assert (describe("flair_t2_p1").title, describe("flair_t2_p1").channel) == ("Flair_t2: 1st percentile", "flair_t2")


def test_false_alarms_are_as_rare_as_the_docstring_says() -> None:
    """Without the margin exactly 2 / (n + 1), whatever the distribution; with it fewer."""
    rng, n, outcomes = np.random.default_rng(0), 19, 4000
    values = rng.exponential(size=(outcomes, n + 1))
    low, high = values[:, :n].min(axis=1), values[:, :n].max(axis=1)
    alarms = (values[:, n] < low) | (values[:, n] > high)
    expected = 2 / (n + 1)
    assert abs(alarms.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / outcomes)
    told = [
        bool(outside(compare({"brain_ml": row[n]}, ranges({"brain_ml": value} for value in row[:n])), ""))
        for row in values
    ]
    assert 0 < np.mean(told) < alarms.mean()
    assert not (np.array(told) & ~alarms).any()


def _other_contrast(volume: np.ndarray, brain: np.ndarray) -> None:
    volume[1] *= -1


def _skull_left_in(volume: np.ndarray, brain: np.ndarray) -> None:
    """A twentieth of the mask is fat, five standard deviations above the brain."""
    inside = np.flatnonzero(brain)
    values = volume[1].ravel()
    values[inside[::20]] += 5
    mean, deviation = values[inside].mean(), values[inside].std()
    volume[1] = np.where(brain, (values.reshape(brain.shape) - mean) / deviation, 0)


def _in_cgy(volume: np.ndarray, brain: np.ndarray) -> None:
    volume[2] *= 100


def _one_fraction(volume: np.ndarray, brain: np.ndarray) -> None:
    volume[2] /= 30


def _whole_brain(volume: np.ndarray, brain: np.ndarray) -> None:
    volume[2][brain] = np.maximum(volume[2][brain], 0.9)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_other_contrast, "range.event_rim"),
        (_skull_left_in, "range.event_"),
        (_in_cgy, "range.dose_max_gy"),
        (_one_fraction, "range.dose_max_gy"),
        (_whole_brain, "range.dose_mean_gy"),
    ],
)
def test_a_case_of_another_kind_is_pointed_out(
    phantom_cases: Path, change: Callable[[np.ndarray, np.ndarray], None], code: str
) -> None:
    """Phantom patients of the test split against the ranges of the others; then changed in one way."""
    table = read_cases(phantom_cases)
    trained = ranges(_measured(phantom_cases, case) for case in table if case.split == "cv")
    for unseen in (case for case in table if case.split == "test"):
        volume = load_case(phantom_cases, unseen, CHANNELS)
        brain = np.load(phantom_cases / unseen.folder / "brain.npy").astype(bool)
        plain = {one.code for one in outside(compare(_measured(phantom_cases, unseen), trained), "")}
        change(volume, brain)
        found = {one.code for one in outside(compare(measure(volume, brain, CHANNELS, {}, 60.0), trained), "")}
        assert any(one.startswith(code) for one in found - plain), (found, plain)


def _measured(cases: Path, case: ReadyCase) -> dict[str, float]:
    return measure_case(cases, case, CHANNELS)


@pytest.mark.heavy
def test_a_brain_with_and_without_contrast_agent() -> None:
    """The MNI152 as it is and with a ring that enhances: both are T1w by their rim, the skewness tells the agent."""
    image = mni152().voxels
    brain = image > 0
    distance_mm = np.linalg.norm(np.indices(image.shape) - np.array(RING_AT)[:, None, None, None], axis=0)
    ring = brain & (distance_mm > 10) & (distance_mm < 22)
    native = _measured_scan(image, brain)
    enhanced = _measured_scan(np.where(ring, 2.5 * np.percentile(image[brain], 95), image), brain)
    assert native["event_skewness"] < 0
    assert enhanced["event_skewness"] > 2
    assert -0.7 < native["event_rim"] < -0.2
    assert -0.7 < enhanced["event_rim"] < -0.2
    inverted = _measured_scan((image[brain].max() - image) * brain, brain)  # bright fluid, as in a T2w image
    assert inverted["event_rim"] > 0.2


def _measured_scan(image: np.ndarray, brain: np.ndarray) -> dict[str, float]:
    scored = (image - image[brain].mean()) / image[brain].std() * brain
    return measure(scored[None], brain, ["event"], {}, None)


def test_skewness_is_scipys(phantom_cases: Path) -> None:
    first = read_cases(phantom_cases)[0]
    brain = np.load(phantom_cases / first.folder / "brain.npy").astype(bool)
    values = load_case(phantom_cases, first, ["post"])[0][brain].astype(float)
    assert _measured(phantom_cases, first)["post_skewness"] == pytest.approx(stats.skew(values), abs=1e-4)
