"""The ingest.json files that earlier runs left are read, and written again byte for byte."""

import json
from pathlib import Path

import pytest

from ricenet.cohort.ingest_record import CaseIngestRecord, CohortIngestRecord, SelectionRecord
from ricenet.command.records import Record
from ricenet.errors import InvalidInput

SERIES = {
    "series": "s1a7d8e881a5d",
    "number": 3,
    "modality": "MR",
    "day": -21,
    "shape": [118, 140, 76],
    "spacing_mm": [1.8, 1.8, 3.0],
    "contrast": True,
    "in_the_frame_of_the_dose": False,
    "problem": None,
}
USED = {"dose": 1, "plans": [1], "summation": "PLAN", "max_gy": 69.002, "factor": 1, "fractions": 30}
SELECTION = {
    "images": {"post": {"series": "s1a7d8e881a5d", "reason": "rule 2: before radiotherapy", "candidates": []}},
    "series": [SERIES],
    "dose": {
        "used": [USED],
        "rejected": [{"dose": 2, "plans": [], "summation": "absent", "max_gy": 20.0, "reason": "copy of dose 1"}],
        "flags": [],
        "max_gy": 69.002,
        "eqd2_alpha_beta_gy": None,
        "lies_in_the_frame_of": "planning",
    },
}
HEAD = {"version": 1, "case": "c0123456789ab", "digest": "00ff"}
DAYS = {"post_day": -21, "scanner_post": "m1", "event_day": 203, "scanner_event": "m2"}
DICOM = {
    **HEAD,
    **SELECTION,
    "columns": {"fractions": 30, "prescription_gy": 60.0, **DAYS},
    "sha256": {"rd.nii.gz": "a"},
}
NIFTI = {
    **HEAD,
    "images": {"post": {"reason": "layout of the cohort"}},
    "columns": {"fractions": None, "prescription_gy": None, "post_day": 0, "event_day": None},
    "sha256": {"post.nii.gz": "b"},
}
PROBLEM = {**HEAD, "series": [SERIES], "problem": {"code": "dose.missing", "message": "no dose", "hint": "deliver it"}}
COHORT = {"version": 1, "cases": 3, "ready": 2, "excluded": {"ingest: dose.missing": 1}, "flags": {}}
COHORT_DICOM = {**COHORT, "delivery": {"patients_without_a_label": 0, "files_not_used": {"damaged": 2}}}


@pytest.mark.parametrize(
    ("record", "content"),
    [
        (SelectionRecord, SELECTION),
        (CaseIngestRecord, DICOM),
        (CaseIngestRecord, NIFTI),
        (CaseIngestRecord, PROBLEM),
        (CohortIngestRecord, COHORT_DICOM),
        (CohortIngestRecord, {**COHORT, "delivery": {}}),
    ],
)
def test_what_was_written_is_read_and_written_the_same(tmp_path: Path, record: type[Record], content: dict) -> None:
    path = tmp_path / "ingest.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    assert record.read(path).as_json() == path.read_text()


def test_a_case_s_file_is_no_cohort_s(tmp_path: Path) -> None:
    (tmp_path / "ingest.json").write_text(json.dumps(DICOM))
    with pytest.raises(InvalidInput, match=r"ingest\.json cannot be read") as refused:
        CohortIngestRecord.read(tmp_path / "ingest.json")
    assert refused.value.code == "record.damaged"
