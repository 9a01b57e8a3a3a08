"""A name says with or without contrast, T1 or not: 105 real names and 1,800 others, each with its right answer."""

import csv
from pathlib import Path

import pytest

from ricenet.dicom.series_words import (
    names_agent,
    read_name,
    words_of,
)

DATA = Path(__file__).parents[1] / "data"
TABLES = ("series_names.csv", "more_series_names.csv", "hospital_series_names.csv")
UNSAID = "cannot be said"


def rows(table: str) -> list[dict[str, str]]:
    with (DATA / table).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("table", TABLES)
def test_precision_and_recall_of_post_contrast_t1_by_name(table):
    said = [row for row in rows(table) if row["right_answer"] != UNSAID]
    taken = {row["series_name"] for row in said if read_name(row["series_name"]).is_post_contrast_t1}
    right = {row["series_name"] for row in said if row["right_answer"] == "take"}
    assert len(said) > 100
    assert len(taken & right) / len(taken) >= 0.99, f"taken wrongly: {sorted(taken - right)}"
    assert len(taken & right) / len(right) >= 0.99, f"missed: {sorted(right - taken)}"


def test_what_is_no_original_t1_is_told_apart():
    kinds = {"derived": "derived", "reformat": "reformat"}
    for table in TABLES:
        for row in rows(table):
            if row["kind"] in kinds:
                assert read_name(row["series_name"]).kind == kinds[row["kind"]], row["series_name"]
            if row["kind"] == "pre":
                assert read_name(row["series_name"]).kind == "t1", row["series_name"]


@pytest.mark.parametrize(
    "name",
    [
        "t1 {} tra",
        "T1_{}",
        "{} T1",
        "MPRAGE-{}",
    ],
)
@pytest.mark.parametrize("no", ["ohne KM", "pre gd", "w/o contrast", "sans gado", "non-contrast", "nativ", "senza mdc"])
def test_no_beats_everything(name, no):
    text = name.format(no)
    assert read_name(text).contrast == "no"
    assert read_name(f"{text} post Gadovist").contrast == "no", "beside words that say yes"
    assert read_name(text, "T1 POST GAD").contrast == "no", "beside another text that says yes"
    assert read_name("T1 POST GAD", text).contrast == "no"


@pytest.mark.parametrize("name", ["T1", "T1 W/WO", "T1 vor und nach KM", "T1 post-op", "T1 preop", "t1 con y sin gd"])
def test_names_of_exams_and_operations_say_nothing(name):
    assert read_name(name).contrast == "silent"


BEFORE = [
    "T1 KM frei", "T1 prior to gad", "T1 previo a contraste", "T1 增强前", "T1 未增强", "T1 Gd前", "T1 C -",
    "T1 비조영", "T1 조영 전", "T1 безконтрастная", "T1 до КУ", "T1 χωρίς σκιαγραφικό", "T1 brez kontrasta",
    "T1 ennen tehostetta", "T1 kontrasztmentes", "T1 kontrastlos", "T1 smdc", "T1 trước tiêm",
    "T1 be kontrasto", "T1 kontraszt nélkül FS", "T1--C", "T1 predose",
    "T1 w o contrast", "T1 W.O.", "T1 IV-", "T1 gado non", "T1 s.m.d.c.", "T1 s gado", "T1 kontrast yok",
    "T1 преконтрастная", "Gd- T1", "T1 ohneKM", "T1 in bianco",
]  # fmt: skip
AFTER = [
    "T1 KA után", "T1 kontraszt utan", "T1 tehosteella", "T1 조영증강", "T1 s KU", "T1 с усилением", "T1 μετά Gd",
    "T1 nakon kontrasta", "T1 强化", "T1 po KL", "T1 avec PDC", "T1 sau tiêm", "T1 ivKM",
    "T1 ProHance", "T1 MultiHance 10 ml", "T1 postbolus", "T1 műtét előtt KM", "T1 PRE DBS C+", "T1 prima di RT mdc",
    "T1 POST STEREOTACTIC", "T1 POST MASK",
    "T1 s kontrastem", "T1 c.m.d.c.", "T1 с контр.", "T1 wgad", "Gd-T1",
]  # fmt: skip
EXAMS = [
    "T1 до и после контраста",
    "T1 조영전후",
    "T1 平扫+增强",
    "T1 造影前後",
    "T1 pred a po KL",
    "T1 после операции",
]


EXAMS += ["T1 műtét után", "T1 ameliyat sonrasi", "T1 pos QT", "T1 post trat", "T1 efter behandling", "T1 po zabiegu"]


@pytest.mark.parametrize(
    ("name", "said"), [(n, "no") for n in BEFORE] + [(n, "yes") for n in AFTER] + [(n, "silent") for n in EXAMS]
)
def test_languages_that_put_it_otherwise(name, said):
    assert read_name(name).contrast == said


def test_a_phase_of_a_dynamic_series_is_no_repeat():
    assert [read_name(name).kind for name in ("Ph1/5: Ax LAVA +C", "T1 phase 2 of 40 gd")] == ["other"] * 2
    assert read_name("T1 phase encoding RL gd").kind == "t1"


def test_the_sequence_tells_the_kind_where_the_name_does_not():
    assert read_name("sag 1mm Gd").kind == "unsaid"
    assert read_name("sag 1mm Gd", sequence="*tfl3d1_16ns").kind == "t1"
    assert read_name("T2 sag Gd", sequence="*tfl3d1_16ns").kind == "other"
    assert read_name("sag 1mm", sequence="*tfl3d1_16ns_gd").contrast == "silent"


def test_accents_case_and_separators_do_not_count():
    assert words_of("  T1_MPRAGE-Sag.PÓS ") == words_of("t1 mprage sag pos")


@pytest.mark.parametrize(
    "text",
    ["", "NONE", "N/A", "n.a.", "-", "--", "keine", "0 ml", "0.0 ml", "0", "UNKNOWN", "None given", "no contrast",
     "ohne", "Gadovist 0ml", "nein", "Not applicable", "sin contraste", "aucun"],
)  # fmt: skip
def test_how_a_form_says_that_there_was_no_agent(text):
    assert not names_agent(text)


@pytest.mark.parametrize(
    "text", ["Gadovist", "10 ml Gadovist", "0.5 ml", "yes", "GD", "CONTRAST", "15", "Magnevist i.v."]
)
def test_how_a_form_names_an_agent(text):
    assert names_agent(text)
