"""Whether a patient is fit: files that are missing or given twice, errors before warnings."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from helpers import rt_records

from ricenet.cases.case_record import CaseRecord, LesionPlace
from ricenet.cohort.ingest_record import SelectionRecord
from ricenet.cohort.table import Case
from ricenet.errors import Finding
from ricenet.explanation.map_record import SeenPart
from ricenet.images.volume import write_volume
from ricenet.prediction.suitability import (
    check_delivery,
    check_frame,
    check_prescription,
    check_seen,
    examine_patient,
    in_order,
    is_fit,
)

VOXELS = np.random.default_rng(1).normal(100, 20, (60, 64, 56)).astype(np.float32)


def test_a_file_given_twice_and_one_not_given_are_errors(tmp_path: Path) -> None:
    write_volume(tmp_path / "post.nii.gz", VOXELS, np.eye(4))
    images = {"post": tmp_path / "post.nii.gz", "event": tmp_path / "post.nii.gz"}
    found = examine_patient(Case("c0123456789ab", "c0123456789ab", 0, -1, "", images), ["post", "event", "rd"])
    errors = {one.code: one.message for one in found if one.severity == "error"}
    assert errors["image.same"] == "its post and event image are the same"
    assert "needs a rd image" in errors["channel.missing"]
    assert not is_fit(found)


def test_a_model_asks_for_its_channels_and_the_event_alone(tmp_path: Path) -> None:
    """Also of the dose alone the event is asked for; post only where it is a channel."""
    write_volume(tmp_path / "event.nii.gz", VOXELS, np.eye(4))
    event = Case("c0", "c0", 0, -1, "", {"event": tmp_path / "event.nii.gz"})
    nothing = replace(event, images={})
    for channels, case, missing in (
        (("event",), event, []),
        (("event", "rd"), event, ["rd"]),
        (("post", "event"), event, ["post"]),
        (("rd",), nothing, ["event", "rd"]),
    ):
        found = [each.channel for each in examine_patient(case, channels) if each.code == "channel.missing"]
        assert found == missing, channels


def test_a_model_of_relative_doses_asks_for_the_prescription() -> None:
    dosed = Case("c0", "c0", 0, -1, "", {"event": Path(), "rd": Path()})
    (refusal,) = check_prescription(dosed, relative_dose=True)
    assert (refusal.code, refusal.severity, refusal.channel) == ("dose.no_prescription", "error", "rd")
    assert check_prescription(dosed, relative_dose=False) == []
    assert check_prescription(replace(dosed, prescription_gy=60.0), relative_dose=True) == []
    assert check_prescription(replace(dosed, images={"event": Path()}), relative_dose=True) == []


def test_a_frame_that_no_training_case_had_is_a_warning() -> None:
    event = Case("c0", "c0", 0, -1, "", {"event": Path()})
    (warning,) = check_frame(event, "post", without_post=0)
    assert (warning.code, warning.severity) == ("range.reference", "warning")
    both = replace(event, images={"post": Path(), "event": Path()})
    assert check_frame(event, "event", 0) == check_frame(event, "post", 3) == check_frame(both, "post", 0) == []


def test_doses_that_were_left_out_are_a_warning_beside_the_prediction() -> None:
    case = Case("c0123456789ab", "c0123456789ab", 0, -1, "", {})
    delivery = SelectionRecord.model_validate_json(
        json.dumps({"rt_objects": rt_records.rt_objects(), "dose": rt_records.treatment()})
    )
    left_out, flagged = check_delivery(case, delivery)
    assert (left_out.code, left_out.severity, left_out.case) == ("dose.left_out", "warning", case.name)
    assert f"{rt_records.LEFT_OUT}: planned 20 days after the event" in left_out.message
    assert "exclude_doses=" in left_out.hint
    assert flagged.message == rt_records.treatment()["flags"][0]
    known = Finding("dose.per_fraction", case.name, flagged.message, "")
    assert check_delivery(case, delivery, [known]) == [left_out]
    assert check_delivery(case, None) == []


def test_errors_come_first() -> None:
    found = [Finding("b.b", "c", "", "", "warning"), Finding("z.z", "c", "", ""), Finding("a.a", "c", "", "", "info")]
    assert [one.code for one in in_order(found)] == ["z.z", "b.b", "a.a"]
    assert is_fit([found[0], found[2]])


def test_a_place_that_is_not_the_lesions_is_a_warning_of_a_cropped_model_alone() -> None:
    case = Case("c0", "c0", 0, -1, "", {"event": Path()})
    record = CaseRecord(
        version=3, case_key="c0", channels=("event",), world_from_voxel=np.eye(4).tolist(), spacing_mm=1.0,
        dose_scale_gy=None,
    )  # fmt: skip
    none = LesionPlace(source="none", voxel=(1.0, 1.0, 1.0), contrast=0.84)
    event = LesionPlace(source="event", voxel=(1.0, 1.0, 1.0), contrast=3.0)
    at_none, at_event = (SeenPart(at="lesion", size_mm=96, place=p, first_voxel=(0, 0, 0)) for p in (none, event))
    (warning,) = check_seen(case, at_none, record)
    assert (warning.code, warning.severity, warning.channel) == ("lesion.none", "warning", "event")
    assert "contrast 0.8 SD" in warning.message
    with_mask = replace(case, lesion=Path("lesion.nii.gz"))
    assert [each.code for each in check_seen(with_mask, at_event, record)] == ["lesion.outside"]
    taken = record.model_copy(update={"lesion": {"mask": LesionPlace(source="mask", voxel=(1.0, 1.0, 1.0))}})
    assert check_seen(with_mask, at_event, taken) == check_seen(case, at_event, record) == []
    assert check_seen(with_mask, None, record) == [], "a model of whole volumes misses nothing"
