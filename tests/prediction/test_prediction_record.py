"""prediction.json: both kinds are read as they were written, each with its own keys, in a fixed order."""

import json
from pathlib import Path

import pytest
from helpers import prediction_sample as sample

from ricenet.errors import InvalidInput
from ricenet.prediction.prediction_record import PredictionRecord, UnfitRecord

KEYS = [
    "version", "case_key", "fit", "model", "predicted", "probability", "folds", "spread", "votes", "vote",
    "calibrated", "measures", "preprocessing", "occlusion", "findings", "delivery", "question", "versions", "seconds",
]  # fmt: skip


def test_keys_of_a_prediction_and_their_order(tmp_path: Path) -> None:
    record = sample.prediction(question="ab12", delivery=sample.delivery())
    record.write(tmp_path / "prediction.json")
    content = json.loads((tmp_path / "prediction.json").read_text())
    assert list(content) == KEYS
    assert content["delivery"] == sample.delivery()
    assert "dose_gy" not in content["occlusion"], "a key that was not given is not written"
    assert PredictionRecord.read(tmp_path / "prediction.json") == record


def test_a_case_that_does_not_fit_has_no_key_of_a_prediction(tmp_path: Path) -> None:
    sample.unfit().write(tmp_path / "prediction.json")
    content = json.loads((tmp_path / "prediction.json").read_text())
    assert list(content) == ["version", "case_key", "fit", "model", "findings", "delivery", "versions"]
    assert UnfitRecord.read(tmp_path / "prediction.json") == sample.unfit()
    with pytest.raises(InvalidInput) as refused:
        PredictionRecord.read(tmp_path / "prediction.json")
    assert refused.value.code == "record.damaged"


def test_a_prediction_is_finite(tmp_path: Path) -> None:
    path = tmp_path / "prediction.json"
    path.write_text(sample.prediction().as_json().replace('"probability": 0.7112', '"probability": NaN'))
    with pytest.raises(InvalidInput, match="probability"):
        PredictionRecord.read(path)
