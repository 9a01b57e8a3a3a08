"""RT objects of a case as ingest.json lists them, one of every status, for the tests of pages."""

import json
from pathlib import Path
from typing import Any

from ricenet.cohort.ingest_record import CaseIngestRecord

USED, LEFT_OUT, UNREADABLE, UNDECIDED = (f"rd{digit * 12}" for digit in "abcd")
PLAN, UNDELIVERED, STRUCTURE_SET = "rp111111111111", "rp222222222222", "rs333333333333"
_GRID = {"summation": "PLAN", "dose_type": "PHYSICAL", "shape": [64, 56, 40], "spacing_mm": [3.0, 3.0, 2.5]}
_DOSE = {"kind": "RTDOSE", **_GRID, "frame": 1, "images_in_frame": True, "plans": [PLAN]}


def rt_objects(refused: bool = False) -> list[dict[str, Any]]:
    """In the order of the record, in which what counts does not come first; a refused case has undecided ones."""
    objects = [
        {"object": LEFT_OUT, **_DOSE, "status": "left out", "max_gy": 37.2, "plans": [UNDELIVERED],
         "reason": "planned 20 days after the event", "frame": 2, "images_in_frame": False},
        {"object": USED, **_DOSE, "status": "used", "max_gy": 2.304, "summation": "FRACTION_SESSION"},
        {"object": UNREADABLE, "kind": "RTDOSE", "status": "unreadable", "reason": "DoseUnits is RELATIVE"},
        {"object": PLAN, "kind": "RTPLAN", "status": "used", "day": -9, "frame": 1, "images_in_frame": True,
         "fractions": 30, "prescription_gy": 60.0, "approval": "UNAPPROVED"},
        {"object": STRUCTURE_SET, "kind": "RTSTRUCT", "status": "listed", "frame": 1, "images_in_frame": True},
    ]  # fmt: skip
    if not refused:
        return objects
    objects[1] |= {"status": "undecided"}
    objects.insert(2, {"object": UNDECIDED, **_DOSE, "status": "undecided", "max_gy": 2.1})
    return objects


def treatment() -> dict[str, Any]:
    """What ingest.json says of the dose that counts."""
    used = {"dose": 2, "key": USED, "plans": [1], "summation": "FRACTION_SESSION", "max_gy": 2.304}
    left_out = {"dose": 1, "key": LEFT_OUT, "plans": [2], "summation": "PLAN", "max_gy": 37.2}
    return {
        "used": [{**used, "factor": 30, "fractions": 30}],
        "rejected": [{**left_out, "reason": "planned 20 days after the event"}],
        "flags": [f"plan {UNDELIVERED}: not delivered; its fractions, prescription and approval are unknown"],
        "max_gy": 69.12,
        "eqd2_alpha_beta_gy": None,
        "lies_in_the_frame_of": "planning",
    }


def write_record(cohort: Path, case: str, refused: bool = False, **changed: Any) -> None:
    """Write <cohort>/<case>/ingest.json, of a case that came in or of one that was refused."""
    problem = {"code": "treatment.ambiguous", "message": f"ambiguous: dose {USED}, {UNDECIDED}", "hint": "name doses"}
    content = {
        "version": 2,
        "case": case,
        "digest": "ab",
        "rt_objects": rt_objects(refused),
        **({"problem": problem} if refused else {"dose": treatment()}),
    }
    (cohort / case).mkdir(exist_ok=True)
    CaseIngestRecord.model_validate_json(json.dumps(content | changed)).write(cohort / case / "ingest.json")
