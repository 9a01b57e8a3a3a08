"""verify.json is read as it was written, byte for byte; what could not be measured of a case is not in it."""

import json
from pathlib import Path

from ricenet.checks.verify_record import CaseFacts, VerifyRecord

IMAGE = {"shape": [52, 62, 44], "spacing_mm": [3.0, 3.0, 3.4], "minimum": 0.0, "maximum": 61.4}
MEASURED = {
    "images": {"post": IMAGE, "rd": IMAGE},
    "dose_coverage": {"share": 0.9987, "exact": False},
    "sides": {"straight": 1.1, "mirrored": 1.05, "event_coverage": 1.0},
}
FINDING = {
    "code": "dose.cgy",
    "case": "c1",
    "message": "got 6000",
    "hint": "divide",
    "severity": "error",
    "channel": "rd",
}
CONTENT = {
    "findings": [FINDING],
    "counts": {"error": 1, "warning": 0, "info": 0},
    "cases": [
        {"case_key": "c1", "row": 2, "label": "rice", "sha256": {"post": "ab"}, "facts": MEASURED},
        {"case_key": "c2", "row": 3, "label": None, "sha256": {}, "facts": {"images": {}}},
    ],
    "label_tables": [
        {
            "column": "site",
            "levels": [{"name": "A", "first_row": 2, "counts": [1, 0]}],
            "not_given": 1,
            "p": None,
            "labels": ["recurrence", "rice"],
        }
    ],
    "excluded": {"dose.cgy": 1},
    "versions": {"ricenet": "0.1.0"},
}


def test_what_was_written_is_read_and_written_the_same(tmp_path: Path) -> None:
    path = tmp_path / "verify.json"
    path.write_text(json.dumps(CONTENT, indent=1) + "\n")
    record = VerifyRecord.read(path)
    assert record.as_json() == path.read_text()
    assert str(record.findings[0]) == "[dose.cgy] c1: got 6000; divide"
    assert record.cases[1].facts == CaseFacts(images={})
