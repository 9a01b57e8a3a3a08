from datetime import date
from pathlib import Path

import pytest
from helpers.public_source import source

from ricenet.cohort.label_table import LabelRow, deal_test, further_patient_ids, read_labels, rows_like, split_keys
from ricenet.errors import InvalidInput, WrongUsage

KEY = bytes(32)


def table(folder: Path, *lines: str) -> Path:
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


def read(folder: Path, *lines: str, columns=None, label_map=None, keep=(), label_source="") -> list[LabelRow]:
    return read_labels(table(folder, *lines), columns or {}, label_map or {}, keep, label_source)


def refusal(folder: Path, *lines: str, **options) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        read(folder, *lines, **options)
    return refused.value


def patients(recurrences: int, rices: int, both: int = 0) -> list[LabelRow]:
    names = [("recurrence", f"a{n}") for n in range(recurrences)] + [("rice", f"b{n}") for n in range(rices)]
    names += [(label, f"c{n}") for n in range(both) for label in ("recurrence", "rice")]
    return [LabelRow(row, name, f"e{row}", label) for row, (label, name) in enumerate(names, start=2)]


def test_a_full_row(tmp_path):
    header = (
        "patient_id,event_id,label,split,event_date,post_date,radiotherapy_start,fractions,prescription_gy,"
        "label_source,event_series,site,name"
    )
    line = 'MUSTER,late,RICE,Test,2020-11-02,20200110,03.02.2020,30.0,"40,05",biopsy,s1234,B,Erika'
    assert read(tmp_path, header, line, keep=["site", "age"]) == [
        LabelRow(
            row=2,
            patient_id="MUSTER",
            event_id="late",
            label="rice",
            split="test",
            event_date=date(2020, 11, 2),
            post_date=date(2020, 1, 10),
            radiotherapy_start=date(2020, 2, 3),
            fractions=30,
            prescription_gy=40.05,
            label_source="biopsy",
            choice={"event": "s1234"},
            extra={"site": "B"},
        )
    ]


def test_least_row_and_the_sources_own_words(tmp_path):
    (row,) = read(
        tmp_path,
        "Fall;Diagnose lt. Board;Haus",
        "MUSTER; Radio nekrose;Nord",
        columns={"patient_id": "Fall", "label": "Diagnose*", "site": "Haus"},
        label_map={"RADIONEKROSE": "rice"},
        keep=["site"],
        label_source="board",
    )
    assert row == LabelRow(2, "MUSTER", "e1", "rice", label_source="board", extra={"site": "Nord"})


def test_excluded_rows_keep_their_reason(tmp_path):
    rows = read(
        tmp_path,
        "patient_id,event_id,label,excluded_because",
        "a,1,SD,",
        "a,2,what,no consent",
        "a,3,,",
        "a,4,rice,",
        "a,4,rice,second reader",
        label_map={"SD": "exclude: stable", "": "exclude: not rated"},
    )
    assert [row.excluded_because for row in rows] == ["stable", "no consent", "not rated", "", "second reader"]
    assert [row.label for row in rows] == ["", "", "", "rice", ""]


def test_events_without_a_name_are_ranked_by_date(tmp_path):
    lines = ["patient_id,event_date,label"]
    lines += ["a,2021-05-01,rice", "b,2020-01-01,rice", "a,2020-05-01,recurrence", "a,2022-05-01,rice"]
    assert [row.event_id for row in read(tmp_path, *lines)] == ["e2", "e1", "e1", "e3"]


def test_a_line_that_repeats_another_counts_once(tmp_path):
    rows = read(tmp_path, "patient_id,event_id,label", "a,1,rice", "b,1,rice", "a,1,rice ")
    assert [row.row for row in rows] == [2, 3]


def test_columns_for_every_event(tmp_path):
    columns = {
        "patient_id": "id",
        "label_t1": "first",
        "event_date_t1": "when 1",
        "label_t2": "second",
        "label_source_t2": "by",
    }
    lines = [
        "id,first,when 1,second,by,post_date",
        "a,rice,2020-05-01,recurrence,biopsy,2020-01-01",
        "b,,2020-06-01,,,",
    ]
    rows = read(tmp_path, *lines, columns=columns, label_map={"": "exclude: not rated"})
    assert [(row.row, row.event_id, row.label, row.label_source) for row in rows] == [
        (2, "t1", "rice", ""),
        (2, "t2", "recurrence", "biopsy"),
        (3, "t1", "", ""),
    ]
    assert [row.event_date for row in rows] == [date(2020, 5, 1), None, date(2020, 6, 1)]
    assert [row.post_date for row in rows] == [date(2020, 1, 1), date(2020, 1, 1), None]


def test_all_problems_are_named_at_once_by_row_and_without_a_cell(tmp_path):
    error = refusal(
        tmp_path,
        "patient_id,label,event_date,fractions,prescription_gy,split,event_id",
        "MUSTER,rice,03/04/2020,30,60,cv,",
        ",rice,2020-02-30,,,,",
        "CANARY,maybe,2020-01-02,29.5,6000,val,",
        "TWIN,rice,2020-01-02,,,cv,",
        "TWIN,recurrence,2020-01-02,,,test,",
        "DATELESS,rice,,,,,",
        "DATELESS,rice,2020-01-02,,,,",
    )
    assert error.code == "labels.rows"
    assert [line.strip() for line in error.message.splitlines()[1:]] == [
        "row 2: event_date is no date as YYYY-MM-DD, YYYYMMDD or DD.MM.YYYY",
        "row 3: no patient id",
        "row 3: event_date is no date as YYYY-MM-DD, YYYYMMDD or DD.MM.YYYY",
        "row 4: label 'maybe' is neither recurrence nor rice, nor does source.label_map say what it means",
        "row 4: split should be cv or test, got 'val'",
        "row 4: fractions should be a whole number from 1",
        "row 4: prescription_gy should be a number in 0-100 Gy; is it in cGy?",
        "row 7: the patient has several rows, and this one no event_date and no event_id",
        "row 5, 6: the same event of the same patient",
        "row 7, 8: the same event of the same patient",
        "row 5, 6: one patient in both splits",
    ]
    assert not any(secret in str(error) for secret in ("MUSTER", "CANARY", "TWIN", "DATELESS", "2020", "6000"))


def test_patient_ids_of_rt_objects(tmp_path):
    rows = read(
        tmp_path,
        "patient_id,label,event_date,rt_patient_id",
        "a,rice,2020-01-02,a_RT; a_boost",
        "a,rice,2020-03-02,a",
        "a,rice,2020-05-02,",
        "b,rice,2020-01-02,",
        "c,rice,2020-01-02,RT 7",
        "c,rice,2020-03-02,RT 7;RT 8",
    )
    ids = further_patient_ids(rows)
    assert {patient: ids[patient] for patient in "abc"} == {"a": ["a_RT", "a_boost"], "b": [], "c": ["RT 7", "RT 8"]}


def test_rt_objects_belong_to_one_patient(tmp_path):
    error = refusal(
        tmp_path,
        "patient_id,label,rt_patient_id",
        "MUSTER,rice,MUSTER_RT",
        "CANARY,rice,MUSTER_RT",
        "TWIN,rice,OTHER",
        "OTHER,rice,",
        "ALONE,rice,ALONE",
    )
    assert [line.strip() for line in error.message.splitlines()[1:]] == [
        "row 4, 5: rt_patient_id gives the RT objects of one PatientID to several patients",
        "row 2, 3: rt_patient_id gives the RT objects of one PatientID to several patients",
    ]
    assert not any(secret in str(error) for secret in ("MUSTER", "CANARY", "TWIN", "OTHER"))


@pytest.mark.parametrize(
    ("patient_id", "expected"),
    [
        ("17_RT", [2]),
        ("RT17", [2]),
        ("170", []),
        ("117", []),
        ("mueller", [3]),
        ("Mueller-17", [3]),  # the longest of two
        ("Muellerova", []),
        ("PAT", [4]),
        ("0815", []),
        ("x.y", [5]),
        ("xzy", []),
    ],
)
def test_rows_of_a_similar_patient_id(patient_id, expected):
    rows = [
        LabelRow(number, each, "e1", "rice") for number, each in enumerate(("17", "MUELLER", "PAT_MR", "x.y_MR"), 2)
    ]
    assert rows_like(patient_id, rows) == expected


def test_one_event_under_two_names_is_found_by_its_date(tmp_path):
    lines = ["patient_id,event_id,event_date,label", "a,x,2020-01-02,rice", "a,y,02.01.2020,rice"]
    assert "row 2, 3: the same event" in str(refusal(tmp_path, *lines))


def test_missing_columns_list_what_there_is(tmp_path):
    assert "'patient_id' in the label table, got 0; its columns are 'id', 'label'" in str(
        refusal(tmp_path, "id,label", "a,rice")
    )
    error = refusal(tmp_path, "patient_id,label", "a,rice", columns={"event_date": "Datum"})
    assert (error.code, "'Datum'" in str(error)) == ("table.columns", True)
    assert refusal(tmp_path, "patient_id,label").code == "labels.empty"


def test_config_that_cannot_be_meant(tmp_path):
    with pytest.raises(WrongUsage, match=r"source.columns: expected patient_id .* got labels"):
        read(tmp_path, "patient_id,label", "a,rice", columns={"labels": "x"})
    for meaning in ("RICE", "exclude", "exclude: "):
        with pytest.raises(WrongUsage, match=r"source.label_map\['x'\]"):
            read(tmp_path, "patient_id,label", "a,rice", label_map={"x": meaning})


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


@pytest.mark.parametrize("name", ["dicom", "burdenko", "cfb_gbm", "lumiere"])
def test_source_files_hold_the_schema(name):
    assert source(name).name == name
    assert source(name).layout == {"burdenko": "dicom"}.get(name, name)


def test_burdenkos_clinical_table(tmp_path):
    """One line a patient, follow-ups beside each other; a small copy of its form."""
    cfg = source("burdenko")
    headers = list(cfg.columns.values())
    followed = [
        ("2020-06-01", "pseudoprogression"),
        ("2020-09-01", "Stable"),
        ("2020-12-01", "progression"),
        ("2021-03-01", ""),
    ]
    cells = dict.fromkeys(headers, "") | {"AnonymPatientID": "Burdenko-GBM-001", "AnonymStart of RT": "2020-01-20"}
    for ordinal, (day, response) in zip(("1st", "2nd", "3rd", "4th"), followed, strict=True):
        cells |= {f"Anonym{ordinal}_fup": day, f"Response_{ordinal}_fup": response}
    lines = [",".join(["Sex", *headers]), ",".join(["F", *cells.values()])]
    rows = read(tmp_path, *lines, columns=cfg.columns, label_map=cfg.label_map, label_source=cfg.label_source)
    assert [(row.event_id, row.label, row.event_date) for row in rows] == [
        ("fup1", "rice", date(2020, 6, 1)),
        ("fup2", "", date(2020, 9, 1)),
        ("fup3", "recurrence", date(2020, 12, 1)),
        ("fup4", "", date(2021, 3, 1)),
    ]
    assert {row.patient_id for row in rows} == {"Burdenko-GBM-001"}
    assert {row.radiotherapy_start for row in rows} == {date(2020, 1, 20)}
    assert [row.excluded_because for row in rows][1::2] == ["stable disease is no event of this study", "not rated"]


@pytest.mark.parametrize("text", ["rd1 rd2", "rd1;rd2;", " ;RD1, rd2", "'rd1' | \"rd2\"", "[rd1, rd2]", "rd1\nrd2"])
def test_keys_are_letters_and_digits_whatever_parts_them(text):
    assert split_keys(text) == ("rd1", "rd2")
    assert split_keys(" ; ") == ()
