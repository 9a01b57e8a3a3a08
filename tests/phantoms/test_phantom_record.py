"""phantom.json and the truth of a patient are read as they were written, byte for byte."""

import json
from pathlib import Path

import pytest

from ricenet.errors import InvalidInput
from ricenet.phantoms.phantom_record import PhantomRecord, TruthRecord

PHANTOM = {
    "patients": 24,
    "format": "cases",
    "spacing_mm": 2.0,
    "size": 16,
    "case_spacing_mm": 12.0,
    "folds": 2,
    "seed": 0,
    "swap_label_effects": False,
}
TRUTH = {
    "label": "rice",
    "quantities": {"perfusion": -0.25, "dose": 1.5},
    "event_from_post": [[1.0, 0.0, 0.0, 2.5], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]],
    "brain": "truth/001_brain.nii.gz",
    "lesion": "truth/001_lesion.nii.gz",
    "cavity": "truth/001_cavity.nii.gz",
}


@pytest.mark.parametrize(("record", "content"), [(PhantomRecord, PHANTOM), (TruthRecord, TRUTH)])
def test_what_was_written_is_read_and_written_the_same(tmp_path: Path, record, content: dict) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    assert record.read(path).as_json() == path.read_text()


@pytest.mark.parametrize("name", PHANTOM)
def test_a_key_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "phantom.json"
    path.write_text(json.dumps({key: value for key, value in PHANTOM.items() if key != name}))
    with pytest.raises(InvalidInput, match=f"phantom.json cannot be read: {name}: Field required"):
        PhantomRecord.read(path)


def test_a_cohort_from_before_there_was_a_difficulty_is_a_standard_one(tmp_path: Path) -> None:
    path = tmp_path / "phantom.json"
    path.write_text(json.dumps(PHANTOM))
    assert PhantomRecord.read(path) == PhantomRecord(**PHANTOM, difficulty="standard")
    assert PhantomRecord.read(path) != PhantomRecord(**PHANTOM, difficulty="hard")
