"""Stripped images beside others, and HD-BET on stripped ones."""

import pytest
from helpers.cases_folder import write_case

from ricenet.cases.case_record import CaseRecord
from ricenet.checks.skull_checks import check_extraction, check_skulls
from ricenet.images.stripped import HEAD, STRIPPED, UNCLEAR, Look

BRAIN, SKULL = Look(STRIPPED, 0.8, 1500.0), Look(HEAD, 0.1, 3500.0)


def test_a_stripped_image_beside_one_with_a_skull_is_a_warning() -> None:
    assert (
        check_skulls({"post": BRAIN, "event": BRAIN}, "c") == check_skulls({"post": SKULL, "event": SKULL}, "c") == []
    )
    (mixed,) = check_skulls({"post": SKULL, "event": BRAIN, "flair": BRAIN}, "c")
    assert (mixed.code, mixed.severity) == ("brain.mixed", "warning")
    assert mixed.message == "its event and flair image looks stripped, its post image has a skull"


def test_what_may_be_either_is_a_warning() -> None:
    (unclear,) = check_skulls({"post": SKULL, "event": Look(UNCLEAR, 0.6, 1800.0)}, "c")
    assert (unclear.code, unclear.severity, unclear.channel) == ("brain.unclear", "warning", "event")
    assert "1,800 ml" in unclear.message


@pytest.mark.parametrize(
    ("parameters", "channels", "roles"),
    [
        ({"brain": "hdbet", "reference": "post", "brain_on": "reference"}, ["post", "event"], ["post"]),
        ({"brain": "hdbet2", "reference": "event", "brain_on": "reference"}, ["post", "event"], ["event"]),
        ({"brain": "hdbet", "reference": "post", "brain_on": "union"}, ["post", "event"], ["post", "event"]),
        ({"brain": "hdbet", "reference": "post", "brain_on": "reference"}, ["event"], ["event"]),
        ({"brain": "auto", "reference": "post", "brain_on": "reference"}, ["post", "event"], []),
        ({"brain": "none", "reference": "post", "brain_on": "reference"}, ["post", "event"], []),
    ],
)
def test_a_folder_that_hdbet_made_of_a_stripped_image_is_an_error(tmp_path, parameters, channels, roles) -> None:
    write_case(tmp_path / "c0", "c0", {"brain_ml": 900.0}, parameters=parameters, channels=channels)
    record = CaseRecord.read(tmp_path / "c0" / "case.json")
    found = check_extraction({"post": BRAIN, "event": BRAIN}, record, "c")
    assert [each.channel for each in found] == roles
    assert {(each.code, each.severity) for each in found} <= {("brain.stripped", "error")}
    assert check_extraction({"post": SKULL, "event": SKULL}, record, "c") == []
