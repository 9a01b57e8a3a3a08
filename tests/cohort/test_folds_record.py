"""folds.json on disk: sorted keys, read back equal, refused where a key is missing."""

import json
from pathlib import Path

import pytest

from ricenet.cohort.folds_record import FoldsRecord
from ricenet.errors import InvalidInput


def test_there_and_back_in_the_order_of_the_alphabet(tmp_path: Path) -> None:
    record = FoldsRecord(fold_of={"c1": 0, "c2": 1}, hash="ab", n_folds=2, seed=0)
    record.write(tmp_path / "folds.json")
    text = (tmp_path / "folds.json").read_text()
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"
    assert FoldsRecord.read(tmp_path / "folds.json") == record


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "folds.json").write_text('{"fold_of": {}, "hash": "ab", "n_folds": 2}')
    with pytest.raises(InvalidInput, match=r"folds\.json cannot be read: seed: Field required"):
        FoldsRecord.read(tmp_path / "folds.json")
