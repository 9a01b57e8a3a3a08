"""Which events of a patient count, and which patients become the test set."""

from datetime import date

import pytest
from openpyxl import Workbook

from ricenet.cohort.label_events import choose_events, deal_test, source_rows
from ricenet.cohort.label_table import LabelRow
from ricenet.command.schemas import SourceConfig
from ricenet.errors import InvalidInput, WrongUsage

KEY = bytes(32)
DATED = {f"event_date_fup{number}": "" for number in range(1, 11)}


def patients(recurrences: int, rices: int, both: int = 0) -> list[LabelRow]:
    names = [("recurrence", f"a{n}") for n in range(recurrences)] + [("rice", f"b{n}") for n in range(rices)]
    names += [(label, f"c{n}") for n in range(both) for label in ("recurrence", "rice")]
    return [LabelRow(row, name, f"e{row}", label) for row, (label, name) in enumerate(names, start=2)]


def follow_up(number: int, label: str, day: date | None = None, **given) -> LabelRow:
    return LabelRow(2, "a", f"fup{number}", label, event_date=day, **given)


def counting(rows: list[LabelRow], which: str, columns=DATED) -> list[str]:
    return [row.event_id for row in choose_events(rows, which, columns) if not row.excluded_because]


def test_first_events_by_date_and_not_by_column():
    rows = [
        follow_up(1, "recurrence", date(2005, 6, 1)),
        follow_up(2, "rice", date(2005, 3, 1)),
        follow_up(3, "recurrence", date(2005, 4, 1)),
        follow_up(4, "rice", date(2005, 9, 1)),
        LabelRow(3, "b", "fup1", "recurrence", event_date=date(2005, 1, 1)),
    ]
    assert counting(rows, "all") == ["fup1", "fup2", "fup3", "fup4", "fup1"]
    assert counting(rows, "first") == ["fup2", "fup1"]
    assert counting(rows, "first_of_each_label") == ["fup2", "fup3", "fup1"]
    chosen = choose_events(rows, "first_of_each_label", DATED)
    assert {row.excluded_because for row in chosen} == {
        "", "a later event of the patient with this label (events=first_of_each_label)",
    }  # fmt: skip
    assert all(bool(row.label) != bool(row.excluded_because) for row in chosen)


def test_events_without_dates_are_ordered_as_people_count():
    rows = [LabelRow(2, "a", name, "rice") for name in ("week-110", "week-044", "week-9")]
    assert counting(rows, "first", {}) == ["week-9"]


def test_an_excluded_event_is_no_first_one():
    rows = [
        follow_up(1, "", date(2005, 1, 1), excluded_because="distant progression"),
        follow_up(2, "rice", date(2005, 2, 1)),
    ]
    assert counting(rows, "first") == ["fup2"]


def test_follow_ups_that_cannot_be_events_say_why():
    start, planned = {"radiotherapy_start": date(2005, 2, 1)}, {"post_date": date(2005, 5, 1)}
    rows = [
        follow_up(1, "recurrence", date(2005, 1, 15), **start),
        follow_up(2, "recurrence", date(2005, 4, 1), **start, **planned),
        follow_up(3, "recurrence", None, **start),
        follow_up(4, "recurrence", date(2005, 6, 1), **start, **planned),
    ]
    assert [row.excluded_because for row in choose_events(rows, "all", DATED)] == [
        "the follow-up does not lie after the start of radiotherapy",
        "the follow-up does not lie after the post-OP MRI",
        "the follow-up has no date",
        "",
    ]


def test_a_line_for_each_event_is_left_as_it_is():
    row = LabelRow(2, "a", "e1", "rice", event_date=date(2005, 1, 1), radiotherapy_start=date(2005, 2, 1))
    assert choose_events([row], "all", {"event_date": "Datum"}) == [row]


def test_an_unknown_choice_is_refused():
    with pytest.raises(WrongUsage, match=r"source.events: expected first | first_of_each_label | all, got 'last'"):
        choose_events([], "last", {})


def test_dealing_is_stratified_by_patient_and_follows_the_key():
    rows = patients(recurrences=40, rices=20, both=10)
    dealt = deal_test(rows, 0.2, KEY)
    test = {row.patient_id for row in dealt if row.split == "test"}
    assert {letter: sum(name[0] == letter for name in test) for letter in "abc"} == {"a": 8, "b": 4, "c": 2}
    assert test.isdisjoint(row.patient_id for row in dealt if row.split == "cv")
    assert {row.patient_id for row in deal_test(rows[::-1], 0.2, KEY) if row.split == "test"} == test
    assert {row.patient_id for row in deal_test(rows, 0.2, b"x" * 32) if row.split == "test"} != test


def test_dealing_counts_no_excluded_row():
    rows = [*patients(10, 0), LabelRow(99, "z", "e1", "", excluded_because="stable")]
    dealt = deal_test(rows, 0.1, KEY)
    assert sum(row.split == "test" for row in dealt) == 1
    assert dealt[-1].split == "cv"


def test_no_share_is_all_cross_validation():
    assert {row.split for row in deal_test(patients(5, 5), 0.0, KEY)} == {"cv"}
    with pytest.raises(WrongUsage, match="test_share"):
        deal_test(patients(5, 5), 1.0, KEY)


def test_a_split_of_the_table_is_kept_and_half_a_split_refused():
    whole = [LabelRow(2, "a", "e1", "rice", split="test"), LabelRow(3, "b", "e1", "rice", split="cv")]
    assert deal_test(whole, 0.5, KEY) == whole
    with pytest.raises(InvalidInput, match="gives 2 rows a split and not row 4") as refused:
        deal_test([*whole, LabelRow(4, "MUSTER", "e1", "rice")], 0.5, KEY)
    assert refused.value.code == "labels.split"
    assert "MUSTER" not in str(refused.value)


def test_the_sheet_of_a_bids_datasets_label_table(tmp_path):
    book = Workbook()
    for title, label in (("Old", "recurrence"), ("New", "rice")):
        sheet = book.create_sheet(title)
        sheet.append(["participant_id", "label"])
        sheet.append(["sub-1", label])
    del book["Sheet"]
    book.save(tmp_path / "labels.xlsx")
    cfg = SourceConfig("x", "bids", {"patient_id": "participant_id"}, {}, "")
    for sheet, label in (("", "recurrence"), ("New", "rice")):
        (row,) = source_rows(cfg, tmp_path / "labels.xlsx", tmp_path, [], sheet)
        assert row.label == label


def test_a_source_reads_its_table_as_its_config_says(tmp_path):
    """Completed by a table of the delivery; two that could be it are refused."""
    (tmp_path / "clinical.csv").write_text("ID;Seen\nP1_01;5/6/04\nP1_02;5/7/04\n")
    (tmp_path / "negative_cases.csv").write_text("ID;Dx\nP1_02;RN\n")
    cfg = SourceConfig(
        name="x",
        layout="dicom",
        columns={"patient_id": "ID", "label": "Dx", "event_date": "Seen"},
        label_map={"RN": "rice", "not listed": "recurrence"},
        label_source="",
        date_format="M/D/YY",
        events="first",
        id_pattern=r"(?P<patient_id>P\d)_(?P<event_id>\d\d)",
        completed_by="*negative*",
    )
    first, second = source_rows(cfg, tmp_path / "clinical.csv", tmp_path, [])
    assert (first.patient_id, first.event_id, first.label, first.event_date) == (
        "P1",
        "01",
        "recurrence",
        date(2004, 5, 6),
    )
    assert second.excluded_because == "a later event of the patient (events=first)"
    (tmp_path / "negative_cases_v2.csv").touch()
    with pytest.raises(InvalidInput, match=r"one table \*negative\* in the delivery, got 2") as refused:
        source_rows(cfg, tmp_path / "clinical.csv", tmp_path, [])
    assert refused.value.code == "source.layout"
