"""model.json by itself: what is written is read again, and a value beyond its bounds is named and not repeated."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from helpers import model_sample as sample

from ricenet.cases.case_record import Crop
from ricenet.errors import InvalidInput
from ricenet.networks.network import build_network
from ricenet.prediction.model_json import MeasureRange, ModelRecord, NetworkSettings
from ricenet.statistics.recalibration import RecalibrationCurve


def write(folder: Path, **changed: Any) -> Path:
    curve = RecalibrationCurve(0.5, 1.25, ((0.4, 1.0), (0.6, 1.5)), 0, 80, 79)
    record = sample.model_record(calibration=curve, ranges={"brain_ml": MeasureRange(low=900.0, high=1700.0, n=80)})
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(record.as_json()) | changed))
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    record = ModelRecord.read(write(tmp_path))
    record.write(tmp_path / "again.json")
    assert ModelRecord.read(tmp_path / "again.json") == record
    content = json.loads((tmp_path / "again.json").read_text())
    assert list(content)[:6] == ["version", "name", "channels", "labels", "network", "folds"]
    assert content["calibration"]["draws"] == [[0.4, 1.0], [0.6, 1.5]]
    assert content["evaluation"]["oof_interval"] is None


def test_the_network_has_all_arguments_of_build_network_and_no_other() -> None:
    arguments = inspect.signature(build_network).parameters.keys() - {"channels", "numbers"}
    assert NetworkSettings.model_fields.keys() == arguments


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"name": "<img src=x>"}, "name"),
        ({"folds": []}, "folds"),
        ({"folds": [0, 0]}, "folds"),
        ({"ranges": {"brain_ml": {"low": "a", "high": 1.0, "n": 1}}}, "ranges.brain_ml"),
        ({"ranges": {"<img src=x>": {"low": 0.0, "high": 1.0, "n": 1}}}, "ranges"),
        ({"cohort": {"cases": 1}}, "cohort.patients"),
        ({"evaluation": None}, "evaluation"),
        ({"<img src=x>": 1}, "a key"),
    ],
)
def test_the_key_that_does_not_fit_is_named_and_no_value_is_repeated(
    tmp_path: Path, changed: dict[str, Any], key: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        ModelRecord.read(write(tmp_path, **changed))
    assert refused.value.code == "model.content"
    assert f"model.json: {key}" in str(refused.value)
    assert "img" not in str(refused.value)
    assert refused.value.hint


def test_a_curve_of_enormous_numbers_is_refused(tmp_path: Path) -> None:
    curve = {"intercept": 0.0, "slope": 1e13, "draws": [[0.0, 1.0]], "left_out": 0, "n": 80, "n_patients": 79}
    with pytest.raises(InvalidInput, match="calibration"):
        ModelRecord.read(write(tmp_path, calibration=curve))


@pytest.mark.parametrize("version", [2, None, "1", [1]])
def test_another_version_is_refused_before_anything_else(tmp_path: Path, version: Any) -> None:
    with pytest.raises(InvalidInput, match="should have version 1") as refused:
        ModelRecord.read(write(tmp_path, version=version, name=3))
    assert refused.value.code == "model.version"


def test_a_crop_is_read_again_and_one_that_no_training_has_is_refused(tmp_path: Path) -> None:
    crop = {"at": "lesion", "size_mm": 96.0}
    record = ModelRecord.read(write(tmp_path, crop=crop, name="rd@lesion"))
    assert (record.crop, record.name) == (Crop(at="lesion", size_mm=96.0), "rd@lesion")
    assert json.loads(record.as_json())["crop"] == crop
    assert "crop" not in json.loads(ModelRecord.read(write(tmp_path)).as_json()), "an older model has none"
    for wrong in ({"at": "random"}, {"size_mm": 0.0}, {"size_mm": 1e9}, {"size_mm": "96"}, {"at": "hippocampus"}):
        with pytest.raises(InvalidInput, match=r"model\.json: crop"):
            ModelRecord.read(write(tmp_path, crop=crop | wrong))
