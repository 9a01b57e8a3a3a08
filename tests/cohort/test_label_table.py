import csv
import logging
from datetime import date
from pathlib import Path

import pytest
from helpers.public_source import form, source

from ricenet.cohort.label_table import LabelRow, TableForm, further_patient_ids, read_labels, rows_like, split_keys
from ricenet.errors import InvalidInput, WrongUsage


def table(folder: Path, *lines: str) -> Path:
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


def read(folder: Path, *lines: str, columns=None, label_map=None, keep=(), label_source="", **given) -> list[LabelRow]:
    return read_labels(table(folder, *lines), columns or {}, label_map or {}, keep, label_source, TableForm(**given))


def refusal(folder: Path, *lines: str, **options) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        read(folder, *lines, **options)
    return refused.value


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
            event_named=True,
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
        "row 2: event_date is no date as YYYY-MM-DD, YYYYMMDD or DD.MM.YYYY; source.date_format reads another form",
        "row 3: no patient id",
        "row 3: event_date is no date as YYYY-MM-DD, YYYYMMDD or DD.MM.YYYY; source.date_format reads another form",
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


@pytest.mark.parametrize("name", ["dicom", "bids", "burdenko", "cfb_gbm", "lumiere", "ucsd_ptgbm"])
def test_source_files_hold_the_schema(name):
    assert source(name).name == name
    assert source(name).layout == {"burdenko": "dicom"}.get(name, name)


REAL_RESPONSES = {  # every text of the clinical table -> label, or how the reason of its exclusion begins
    "response": "response is no event",
    "stable": "stable disease is no event",
    "progression": "recurrence",
    "pseudo progression": "rice",
    "distant progression": "distant progression, outside the irradiated field",
    "stable, distant progression": "distant progression, outside the irradiated field",
    "response, distant progression": "distant progression, outside the irradiated field",
    "response, pseudo progression": "rice",
    " ": "not rated",
}


def burdenko(folder: Path, *patients: dict[str, str]) -> list[LabelRow]:
    """The clinical table in its real form: M/D/YY, one line a patient, one blank in every empty cell."""
    cfg = source("burdenko")
    ordinals = ["1st", "2nd", "3rd", *(f"{number}th" for number in range(4, 11))]
    headers = [
        "AnonymPatientID", "AnonymStudyDate", "Sex", "IDH1/2", "MGMT", *(f"Response_{each}_fup" for each in ordinals),
        "AnonymDate of surgery", "AnonymStart of RT", "AnonymEnd of RT", "AnonymDate of topometric MRI",
        *(f"Anonym{each}_fup" for each in ordinals), "AnonymDeath", "AgeAtStudyDate",
    ]  # fmt: skip
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, headers, restval=" ")
        writer.writeheader()
        writer.writerows(patients)
    path = folder / "labels.csv"
    return read_labels(path, cfg.columns, cfg.label_map, [], cfg.label_source, form(cfg))


def test_burdenkos_whole_vocabulary_in_its_real_form(tmp_path):
    responses = list(REAL_RESPONSES)
    first, second = (
        {
            "AnonymPatientID": name, "AnonymStudyDate": "4/28/04", "AnonymStart of RT": "5/6/04",
            **{f"Response_{ordinal}_fup": text for ordinal, text in zip(ordinals, texts, strict=False)},
            **{f"Anonym{ordinal}_fup": f"{month}/13/05" for month, ordinal in enumerate(ordinals, 1)},
        }
        for name, ordinals, texts in (
            ("Burdenko-GBM-001", ["1st", "2nd", "3rd", "4th", "5th"], responses[:5]),
            ("Burdenko-GBM-002", ["1st", "2nd", "3rd", "4th"], responses[5:]),
        )
    )  # fmt: skip
    rows = burdenko(tmp_path, first, second)
    assert [row.label or row.excluded_because.removesuffix(" of this study") for row in rows] == list(
        REAL_RESPONSES.values()
    )
    assert [row.event_date for row in rows[:5]] == [date(2005, month, 13) for month in range(1, 6)]
    assert {row.radiotherapy_start for row in rows} == {date(2004, 5, 6)}
    assert {row.label_source for row in rows} == {"follow-up"}


def test_burdenkos_other_combinations_are_asked_about(tmp_path):
    """`response, progression` is both: no pattern may take it for one of them."""
    with pytest.raises(InvalidInput, match=r"row 2 \(fup1\): label 'response, progression' is neither") as refused:
        burdenko(tmp_path, {"AnonymPatientID": "a", "Response_1st_fup": "response, progression"})
    assert refused.value.code == "labels.rows"


def test_a_table_with_words_for_nothing_and_one_column_of_two_ids(tmp_path):
    rows = read(
        tmp_path,
        "ID,Dx,age_years",
        "P-01_02,RN (pathology),61",
        "P-01_01,PsP (clinical),n/a",
        "P-02_01,N-A, N/A ",
        columns={"patient_id": "ID", "label": "Dx"},
        label_map={"RN*": "rice", "PsP*": "rice", "": "exclude: not rated"},
        keep=["age_years"],
        id_pattern=r"(?P<patient_id>P-\d+)_(?P<event_id>\d+)",
        empty_cells=("n/a", "N-A"),
        label_source_map={"*path*": "pathology", "*": "follow-up"},
    )
    assert [(row.patient_id, row.event_id, row.label, row.label_source, row.extra) for row in rows] == [
        ("P-01", "02", "rice", "pathology", {"age_years": "61"}),
        ("P-01", "01", "rice", "follow-up", {"age_years": ""}),
        ("P-02", "01", "", "follow-up", {"age_years": ""}),
    ]


def test_an_id_of_another_form_is_named_by_its_row(tmp_path):
    pattern = r"(?P<patient_id>P-\d+)_(?P<event_id>\d+)"
    error = refusal(tmp_path, "patient_id,label", "P-1_2,rice", "MUSTER,rice", id_pattern=pattern)
    assert "row 3: patient_id does not match the pattern" in str(error)
    assert "MUSTER" not in str(error)
    for wrong in ("(", "(?P<patient_id>.*)"):
        with pytest.raises(WrongUsage, match=r"source.id_pattern"):
            read(tmp_path, "patient_id,label", "a,rice", id_pattern=wrong)


def test_a_second_table_completes_the_rows(tmp_path):
    other = tmp_path / "negative.csv"
    other.write_text("ID,Dx\nb,RN\n")
    options = {"columns": {"patient_id": "ID", "label": "Dx"}, "label_map": {"RN": "rice", "not listed": "recurrence"}}
    rows = read(tmp_path, "ID,Age", "a,50", "b,60", completed_by=other, **options)
    assert [(row.patient_id, row.label) for row in rows] == [("a", "recurrence"), ("b", "rice")]
    other.write_text("ID,Dx\nb,RN\nb,PsP\n")
    error = refusal(tmp_path, "ID,Age", "a,50", completed_by=other, **options)
    assert (error.code, "row 3 twice" in str(error)) == ("table.twice", True)


@pytest.mark.parametrize("listed", ["p-1", "P1", "P 1", "Q-7"])
def test_ids_that_are_written_in_another_way_are_not_taken_for_not_listed(tmp_path, listed):
    """Not listed means recurrence in one public cohort."""
    other = tmp_path / "negative.csv"
    other.write_text(f"ID,Dx\n{listed},RN\n")
    options = {"columns": {"patient_id": "ID", "label": "Dx"}, "label_map": {"RN": "rice", "not listed": "recurrence"}}
    error = refusal(tmp_path, "ID,Age", "P-1,50", "P-2,60", completed_by=other, **options)
    assert error.code == "table.ids"
    assert "in row 2" in str(error)
    assert listed not in str(error)


def test_a_legend_and_events_that_one_left_out_complete_nothing(tmp_path):
    other = tmp_path / "negative.csv"
    other.write_text("ID,Dx\nP-1,RN\nP-9,RN\nRN: radiation necrosis,\n")
    options = {"columns": {"patient_id": "ID", "label": "Dx"}, "label_map": {"RN": "rice", "not listed": "recurrence"}}
    rows = read(tmp_path, "ID,Age", "P-1,50", "P-2,60", completed_by=other, **options)
    assert [row.label for row in rows] == ["rice", "recurrence"]


def test_a_further_column_of_the_source_that_is_not_there_is_told(tmp_path, caplog):
    columns = {"days_to_rt": "Days to RT", "sex": "Sex"}
    with caplog.at_level(logging.WARNING):
        read(tmp_path, "patient_id,label,Sex", "a,rice,F", columns=columns, keep=["days_to_rt", "sex", "site"])
    assert caplog.messages == ["the label table has no column 'Days to RT' (source.columns): nothing is known of it"]


def test_whether_the_table_names_an_event(tmp_path):
    rows = read(tmp_path, "patient_id,event_id,label", "a,,rice", "b,e1,rice", "c,fup1,rice")
    assert [row.event_is_numbered for row in rows] == [True, False, False]


def test_a_date_format_of_the_source(tmp_path):
    lines = ["patient_id,label,event_date", "a,rice,13/2/2020", "b,rice,2020-02-14"]
    assert [row.event_date for row in read(tmp_path, *lines, date_format="D/M/YYYY")] == [
        date(2020, 2, 13), date(2020, 2, 14),
    ]  # fmt: skip
    error = refusal(tmp_path, *lines, date_format="M/D/YYYY")
    assert "row 2: event_date is no date as M/D/YYYY (source.date_format)" in str(error)
    with pytest.raises(WrongUsage, match=r"source.date_format"):
        read(tmp_path, *lines, date_format="D/M")


@pytest.mark.parametrize("text", ["rd1 rd2", "rd1;rd2;", " ;RD1, rd2", "'rd1' | \"rd2\"", "[rd1, rd2]", "rd1\nrd2"])
def test_keys_are_letters_and_digits_whatever_parts_them(text):
    assert split_keys(text) == ("rd1", "rd2")
    assert split_keys(" ; ") == ()


def test_where_the_lesion_is_said_to_be_is_kept_as_written_and_must_be_three_numbers(tmp_path):
    (row,) = read(tmp_path, "patient_id,label,lesion_mm", "P1,rice,-31.5 12 40")
    assert row.lesion_mm == "-31.5 12 40"
    error = refusal(tmp_path, "patient_id,label,lesion_mm", "P1,rice,frontal left")
    assert "row 2: lesion_mm should be three numbers in mm, x y z" in error.message
    assert "frontal" not in str(error)
