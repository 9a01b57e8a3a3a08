"""What verify and qc say of a cohort's doses is what ingest recorded; a cohort without records stays as it is."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import rt_records as rt

from ricenet.checks.delivered_doses import check_deliveries, dose_lines, is_plain, read_deliveries
from ricenet.checks.verify_record import DeliveredCase
from ricenet.cohort.ingest_record import CaseIngestRecord
from ricenet.cohort.pseudonyms import case_key, read_key
from ricenet.cohort.table import Case
from ricenet.errors import Finding

LEFT_OUT = f"left out: {rt.LEFT_OUT}: planned 20 days after the event; {rt.UNREADABLE}: DoseUnits is RELATIVE"
PLAIN = [each for each in rt.rt_objects() if each["status"] in ("used", "listed")]


def case(cohort: Path, patient: str, row: int) -> Case:
    key = case_key(read_key(cohort / "cohort.key"), patient, "e1")
    return Case(key=key, patient_key="p", row=row, label=0, split="cv", images={}, planning=None, brain_mask=None)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Row 2 in, row 3 refused by ingest, row 4 excluded by the user though its record is still there."""
    reasons = {"one": "", "two": "ingest: treatment.ambiguous", "three": "consent withdrawn", "four": ""}
    with (tmp_path / "cohort.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["patient_id", "event_id", "excluded_because"])
        writer.writerows([patient, " e1", reason] for patient, reason in reasons.items())
    for row, patient in enumerate(reasons, start=2):
        rt.write_record(tmp_path, case(tmp_path, patient, row).key, refused=patient == "two")
    return tmp_path


def test_cases_and_refused_cases_are_read_with_their_objects(cohort: Path) -> None:
    cases = [case(cohort, "one", 2), case(cohort, "four", 5)]
    deliveries, findings = read_deliveries(cohort, cases)
    assert findings == []
    assert [(each.row, each.problem and each.problem.code) for each in deliveries] == [
        (3, "treatment.ambiguous"), (2, None), (5, None),
    ]  # fmt: skip
    assert [each.status for each in deliveries[0].rt_objects].count("undecided") == 2
    assert deliveries[1].name == cases[0].name


def test_a_case_gets_a_warning_of_what_was_left_out_and_one_of_its_flags(cohort: Path) -> None:
    deliveries, _ = read_deliveries(cohort, [case(cohort, "one", 2)])
    refused, came_in = deliveries
    left_out, flagged = check_deliveries(deliveries)
    assert (left_out.code, left_out.severity, left_out.case) == ("dose.left_out", "warning", came_in.name)
    assert left_out.message == LEFT_OUT, "not the plan, which is left out with its dose"
    assert (flagged.code, flagged.message.startswith(f"plan {rt.UNDELIVERED}: not delivered")) == ("dose.flagged", True)
    assert [is_plain(each) for each in (refused, came_in)] == [False, False]


def test_what_ingest_flagged_besides_the_dose_is_a_warning(cohort: Path) -> None:
    one = case(cohort, "one", 2)
    path = cohort / one.key / "ingest.json"
    record = CaseIngestRecord.read(path)
    record.model_copy(update={"flags": ["post: a reformat", "event: odd"]}).write(path)
    _, (finding,) = read_deliveries(cohort, [one])
    assert (finding.code, finding.severity, finding.case) == ("case.flagged", "warning", one.name)
    assert finding.message == "post: a reformat; event: odd"
    assert "post_series" in finding.hint


def test_a_flag_that_another_check_found_is_not_said_again(cohort: Path) -> None:
    deliveries, _ = read_deliveries(cohort, [case(cohort, "one", 2)])
    _, flagged = check_deliveries(deliveries)
    again = replace(flagged, code="dose.per_fraction", message=rt.treatment()["flags"][0])
    assert [found.code for found in check_deliveries(deliveries, [again])] == ["dose.left_out"]
    elsewhere: Finding = replace(again, case="case c9 (row 9 of cohort.csv)")
    assert len(check_deliveries(deliveries, [elsewhere])) == 2


def test_where_nothing_was_left_out_one_line_says_what_counted(cohort: Path) -> None:
    plain = case(cohort, "one", 2)
    rt.write_record(cohort, plain.key, rt_objects=PLAIN, dose=rt.treatment() | {"flags": [], "rejected": []})
    deliveries, _ = read_deliveries(cohort, [plain])
    (counted,) = check_deliveries(deliveries)
    assert (counted.code, counted.severity) == ("dose.counted", "info")
    assert counted.message == f"counted: {rt.USED} (FRACTION_SESSION, 2.304 Gy, 30 times); nothing was left out"
    assert is_plain(deliveries[1])


def test_a_record_of_version_1_numbers_its_doses(cohort: Path) -> None:
    old = case(cohort, "one", 2)
    dose = rt.treatment()
    for each in (*dose["used"], *dose["rejected"]):
        del each["key"]
    rt.write_record(cohort, old.key, version=1, rt_objects=[], dose=dose)
    deliveries, _ = read_deliveries(cohort, [old])
    assert dose_lines(deliveries) == {
        old.key: {
            "used": "dose 2 (FRACTION_SESSION, 2.304 Gy, 30 times)",
            "left_out": "dose 1: left out by its date",
            "flags": dose["flags"][0],
        }
    }


def test_qc_does_not_hear_of_a_treatment_after_the_event_which_tells_the_label(cohort: Path) -> None:
    deliveries, _ = read_deliveries(cohort, [case(cohort, "one", 2)])
    (line,) = dose_lines(deliveries).values()
    assert line["left_out"] == f"{rt.LEFT_OUT}: left out by its date; {rt.UNREADABLE}: DoseUnits is RELATIVE"


def test_a_cohort_without_records_has_nothing_to_say_and_a_damaged_record_is_a_warning(cohort: Path) -> None:
    one, four = case(cohort, "one", 2), case(cohort, "four", 5)
    (cohort / one.key / "ingest.json").unlink()
    (cohort / four.key / "ingest.json").write_text("{")
    deliveries, (damaged,) = read_deliveries(cohort, [one, four])
    assert [each.row for each in deliveries] == [3], "the refused one"
    assert (damaged.code, damaged.severity, damaged.case) == ("record.damaged", "warning", four.name)
    assert check_deliveries(deliveries) == []


def test_a_cohort_without_a_dose_says_nothing_of_it(cohort: Path) -> None:
    one = case(cohort, "one", 2)
    rt.write_record(cohort, one.key, rt_objects=[each | {"status": "listed"} for each in PLAIN], dose=None)
    deliveries, _ = read_deliveries(cohort, [one])
    assert (check_deliveries(deliveries), dose_lines(deliveries)) == ([], {})
    nothing = DeliveredCase(case_key="c1", row=2)
    assert is_plain(nothing)


def test_what_is_flagged_besides_the_dose_stands_with_it():
    """A cohort of NIfTI has no RT objects: its flags stand alone."""
    flagged = Finding(
        "case.flagged", "case c0123456789ab (row 3 of cohort.csv)", "lesion: the cohort's GTV", "", "warning"
    )
    other = Finding("record.damaged", "case c0123456789ff (row 4 of cohort.csv)", "cut off", "", "warning")
    assert dose_lines([], [flagged, other]) == {
        "c0123456789ab": {"used": "", "left_out": "", "flags": "lesion: the cohort's GTV"}
    }
