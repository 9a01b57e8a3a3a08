"""Tables by hand: what is a number, what a letter, what is refused; the days that ingest keeps; and no private text."""

import csv
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import commands

from ricenet.checks.confounding import COLUMNS, label_tables
from ricenet.cohort.covariates import (
    Covariates,
    check_columns,
    excluded,
    letters,
    read_covariates,
    value_of,
    write_covariates,
    write_excluded,
)
from ricenet.cohort.table import Case, read_cohort
from ricenet.command.schemas import PreprocessConfig, compose
from ricenet.errors import InvalidInput, WrongUsage

BASE = Case("c0", "p", 2, 0, "cv", {})
DECLARED = compose("preprocess", PreprocessConfig, ["cohort=x", "cases=x"]).covariates


def cohort(**columns: list[str]) -> list[Case]:
    """Cases c3, c2, c1 ... in the order of their rows, with these further columns."""
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return [
        replace(BASE, key=f"c{len(rows) - number}", row=number + 2, label=number % 2, extra=row)
        for number, row in enumerate(rows)
    ]


def written(folder: Path, cases: list[Case], *columns: str) -> Covariates:
    write_covariates(folder, cases, columns)
    found = read_covariates(folder, [case.key for case in cases])
    assert found is not None
    return found


def test_numbers_stay_numbers_and_texts_become_letters(tmp_path: Path) -> None:
    cases = cohort(clinic=["SECRET South", "SECRET North", " SECRET South "], age_years=["61", "", "70,5"])
    cases = [replace(case, prescription_gy=gy) for case, gy in zip(cases, (60.0, 40.05, None), strict=True)]
    found = written(tmp_path, cases, "clinic", "age_years", "prescription_gy")
    assert found.subgroups == {
        "clinic": {"c3": "A", "c2": "B", "c1": "A"},
        "age_years": {"c3": "61", "c1": "70.5"},
        "prescription_gy": {"c3": "60", "c2": "40.05"},
    }
    assert found.numbers == {"age_years": {"c3": 61.0, "c1": 70.5}, "prescription_gy": {"c3": 60.0, "c2": 40.05}}
    expected = "case_key,clinic,age_years,prescription_gy\nc1,A,70.5,\nc2,B,,40.05\nc3,A,61,60\n"
    assert (tmp_path / "covariates.csv").read_text() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["covariates.csv"]


def test_the_letters_are_those_of_verify_also_for_a_part_of_the_cases(tmp_path: Path) -> None:
    sites = ["W", "N", "", "S", "N", "W"]
    cases = cohort(site=sites, scanner_post=["17", "4", "4", "17", "99", ""])
    tables = {table.column: table for table in label_tables(cases)}
    ready = [case.key for case in cases[1:]]  # the first W is not among them
    assert write_covariates(tmp_path, cases, COLUMNS, ready) == ["site", "scanner_post"]
    found = read_covariates(tmp_path, ready)
    assert found is not None
    assert found.numbers == {}, "a scanner's number is a name"
    for column, table in tables.items():
        of_row = {level.first_row: level.name for level in table.levels}
        for case in cases[1:]:
            value = case.extra[column]
            first = next(other.row for other in cases if other.extra[column] == value)
            assert found.subgroups[column].get(case.key) == (of_row[first] if value else None)


def test_letters_beyond_z_and_none_for_what_is_not_given(tmp_path: Path) -> None:
    named = letters(str(number) for number in range(26 * 27))
    assert [named[str(number)] for number in (0, 25, 26, 27, 701)] == ["A", "Z", "AA", "AB", "ZZ"]
    assert letters(["", "b", "", "a", "b"]) == {"b": "A", "a": "B"}


def test_letters_that_python_takes_for_numbers_are_no_numbers(tmp_path: Path) -> None:
    """NAN stands for the 9830th level of a column."""
    (tmp_path / "covariates.csv").write_text("case_key,clinic\nc1,NAN\nc2,INF\n")
    found = read_covariates(tmp_path, ["c1", "c2"])
    assert found == Covariates({"clinic": {"c1": "NAN", "c2": "INF"}}, {})


@pytest.mark.parametrize("text", ["20210401", "4711.4711.1", "1e3", "nan", "1_000", "12 days", "6,000"])
def test_what_may_be_a_date_an_id_or_a_text_is_never_copied(tmp_path: Path, text: str, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        found = written(tmp_path, cohort(visit=["-3", text]), "visit")
    assert (found.subgroups["visit"], found.numbers) == ({"c2": "A", "c1": "B"}, {})
    assert caplog.messages == ["covariates: visit is no number below 1e6 in row 3: all of it is kept as letters"]


def test_days_come_from_the_table_or_where_day_0_can_only_be_radiotherapy(tmp_path: Path) -> None:
    days = {"post_day": ["-21", "0", "7", "-40", "-5", "", "-9"], "event_day": ["200", "90", "300", "0", "", "80", "x"]}
    assert [value_of(case, "days_since_rt") for case in cohort(**days)] == ["200", "", "", "", "", "", ""]
    given = cohort(**days, days_since_rt=["", "1", "2", "3", "4", "5", "6"])
    assert [value_of(case, "days_since_rt") for case in given] == ["", "1", "2", "3", "4", "5", "6"]
    found = written(tmp_path, cohort(post_day=["-21"], event_day=["-2"]), "days_since_rt")
    assert found == Covariates({}, {}), "a column without any value is passed over"


@pytest.mark.parametrize("column", ["patient_id", "event_id", "post", "rd", "label", "event_date", "case_key"])
def test_what_tells_the_patient_the_place_or_the_answer_is_refused(tmp_path: Path, column: str) -> None:
    with pytest.raises(WrongUsage, match=f"covariates: {column} cannot be kept"):
        write_covariates(tmp_path, cohort(site=["N"]), ["site", column])
    assert not list(tmp_path.iterdir())
    check_columns(DECLARED)


def test_no_table_is_none_and_another_cohorts_is_refused(tmp_path: Path) -> None:
    assert read_covariates(tmp_path, ["c1"]) is None
    assert excluded(tmp_path) is None
    write_covariates(tmp_path, cohort(site=["N", "S"]), ["site"])
    with pytest.raises(InvalidInput, match=r"missing: c9; not in cases.csv, or twice: none.*preprocess again"):
        read_covariates(tmp_path, ["c1", "c2", "c9"])
    with pytest.raises(InvalidInput, match=r"missing: none; not in cases.csv, or twice: c2"):
        read_covariates(tmp_path, ["c1"])
    with (tmp_path / "covariates.csv").open("a") as stream:
        stream.write("c2,A\n")
    with pytest.raises(InvalidInput, match="twice: c2"):
        read_covariates(tmp_path, ["c1", "c2"])


def test_the_channels_that_some_cases_lack_are_columns(tmp_path: Path) -> None:
    """By hand: all have an event image, two a post-OP MRI, one a dose; of the first two cases both have post."""
    held = (["post", "event", "rd"], ["post", "event"], ["event"])
    cases = [
        replace(case, images=dict.fromkeys(roles, Path()))
        for case, roles in zip(cohort(site=["N", "", "S"]), held, strict=True)
    ]
    found = written(tmp_path, cases, "site")
    assert (tmp_path / "covariates.csv").read_text() == ("case_key,site,has_post,has_rd\nc1,B,0,0\nc2,,1,0\nc3,A,1,1\n")
    assert found.numbers["has_post"] == {"c1": 0.0, "c2": 1.0, "c3": 1.0}
    assert write_covariates(tmp_path, cases, ["site"], ["c3", "c2"]) == ["site", "has_rd"]
    assert write_covariates(tmp_path, cases, ["site"], ["c3"]) == ["site"]


def test_reasons_of_the_table_and_of_preprocess_are_counted_together(tmp_path: Path) -> None:
    write_excluded(tmp_path, {"ingest: series.gap": 2}, ["brain.volume", "dose.cgy", "brain.volume"])
    expected = {"ingest: series.gap": 2, "preprocess: brain.volume": 2, "preprocess: dose.cgy": 1}
    assert excluded(tmp_path) == expected
    write_excluded(tmp_path, {})
    assert excluded(tmp_path) == {}
    (tmp_path / "excluded.csv").write_text("reason,cases\nimage.same,many\n")
    with pytest.raises(InvalidInput, match="whole numbers"):
        excluded(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("keep", [["site"], ["site", "days_since_rt"]])
def test_a_phantoms_days_and_site_come_through_ingest(tmp_path: Path, keep: list[str]) -> None:
    """By the dates in the headers alone, and by the label table's own column."""
    from ricenet.phantom import write_phantom

    home, out = tmp_path / "hospital", tmp_path / "cohort"
    sizes = {"size": 0, "case_spacing_mm": 0, "folds": 0, "swap_label_effects": False}
    write_phantom(home, jobs=1, patients=3, format="dicom", spacing_mm=4.5, seed=7, **sizes)
    keys = [f"delivery={home / 'dicom'}", f"labels={home / 'labels.csv'}", f"out={out}", f"keep=[{','.join(keep)}]"]
    command = [sys.executable, "-m", "ricenet.ingest", *keys, "jobs=1"]
    result = commands.run(command)
    assert result.returncode == 0, result.stderr
    with (home / "labels.csv").open() as stream:
        rows = [(row["site"], row["days_since_rt"]) for row in csv.DictReader(stream)]
    cases = read_cohort(out)
    assert [(case.extra["site"], value_of(case, "days_since_rt")) for case in cases] == rows
    assert ("days_since_rt" in cases[0].extra) == ("days_since_rt" in keep)
    found = written(tmp_path, cases, *DECLARED)
    assert sorted(found.numbers["days_since_rt"].values()) == sorted(float(days) for _, days in rows)
    assert "north" not in (tmp_path / "covariates.csv").read_text()
