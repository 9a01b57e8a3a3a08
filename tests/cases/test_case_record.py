"""case.json: the bytes on disk, older files, and files that cannot be used."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ricenet.cases.case_record import read_case_record, require_channels
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.errors import InvalidInput

CASE = ReadyCase("c0", "p0", 0, "cv", "c0-0")
TEXT = """{
 "version": 3,
 "case_key": "c0",
 "channels": [
  "post",
  "event"
 ],
 "world_from_voxel": [[2.0, 0.0, 0.0, -60.5], [0.0, 2.0, 0.0, -70.0], [0.0, 0.0, 2.0, 8.25], [0.0, 0.0, 0.0, 1.0]],
 "spacing_mm": 2.0,
 "dose_scale_gy": null,
 "inputs": {
  "post": "ab12"
 },
 "parameters": {
  "brain": "hdbet",
  "hdbet_tta": true,
  "size": 112,
  "spacing_mm": 2.0,
  "seed": 0
 },
 "transforms": {},
 "qc": {
  "brain_ml": 1400.5,
  "event_coverage": 1.0
 }
}
"""


def write(cases: Path, text: str) -> None:
    (cases / CASE.folder).mkdir(exist_ok=True)
    (cases / CASE.folder / "case.json").write_text(text)


def test_what_is_read_is_written_again_with_the_same_types_and_in_the_same_order(tmp_path: Path) -> None:
    write(tmp_path, TEXT)
    record = read_case_record(tmp_path, CASE)
    record.write(tmp_path / "again.json")
    content = json.loads(TEXT)
    assert (tmp_path / "again.json").read_text() == json.dumps(content, indent=1) + "\n"
    assert {name: type(value) for name, value in record.parameters.items()} == {
        name: type(value) for name, value in content["parameters"].items()
    }


def test_the_affine_places_the_first_voxel(tmp_path: Path) -> None:
    write(tmp_path, TEXT)
    np.testing.assert_array_equal(read_case_record(tmp_path, CASE).affine @ [0, 0, 0, 1], [-60.5, -70, 8.25, 1])


def test_an_older_record_says_less(tmp_path: Path) -> None:
    content = json.loads(TEXT)
    for name in ("inputs", "parameters", "transforms", "qc"):
        del content[name]
    write(tmp_path, json.dumps(content))
    record = read_case_record(tmp_path, CASE)
    assert (record.inputs, record.parameters, record.transforms, record.qc) == ({}, {}, {}, {})


def test_a_case_without_its_record_is_unfinished(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"^case c0: its folder is missing .*; run python") as refused:
        read_case_record(tmp_path, CASE)
    assert refused.value.code == "case.unfinished"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [('"case_key": "c0",', "", "case_key: "), ("1.0]]", "1.0, 5.0]]", "world_from_voxel.3"), ("\n}", "", "JSON")],
)
def test_a_damaged_record_names_the_case_and_the_key(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in TEXT
    write(tmp_path, TEXT.replace(old, new, 1) if fault != "JSON" else TEXT.rstrip().removesuffix("}"))
    with pytest.raises(InvalidInput, match=rf"^case c0: case\.json cannot be read: .*{fault}") as refused:
        read_case_record(tmp_path, CASE)
    assert refused.value.code == "record.damaged"


def test_a_table_that_says_other_channels_than_the_volume_has_is_refused(tmp_path: Path) -> None:
    write(tmp_path, TEXT)
    require_channels(tmp_path, [CASE, replace(CASE, channels=("event", "post"))])
    for channels in (("event",), ("post", "event", "rd")):
        with pytest.raises(InvalidInput, match=r"case c0: cases.csv says channels .*, its volume has post event"):
            require_channels(tmp_path, [replace(CASE, channels=channels)])
