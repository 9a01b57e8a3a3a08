"""Counts by hand, Fisher's p by hand, and no private text in either."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from ricenet.checks.confounding import check_class_sizes, check_tables, count_excluded, label_tables
from ricenet.cohort.table import Case

BASE = Case("c0", "p", 2, 0, "cv", {})


def cohort(*groups: tuple[int, int, str]) -> list[Case]:
    """(how many, label, site) one after the other."""
    wanted = [(label, site) for count, label, site in groups for _ in range(count)]
    return [
        replace(BASE, row=row, patient_key=f"p{row}", label=label, extra={"site": site})
        for row, (label, site) in enumerate(wanted, start=2)
    ]


def test_counts_and_p_of_a_perfectly_confounded_table() -> None:
    tables = label_tables(cohort((5, 0, "SECRET North"), (5, 1, "SECRET South")))
    assert [table.column for table in tables] == ["site"]
    levels = [(level.name, level.first_row, level.counts) for level in tables[0].levels]
    assert levels == [("A", 2, (5, 0)), ("B", 7, (0, 5))]
    assert tables[0].p == pytest.approx(2 / 252)  # two of the 10-choose-5 tables are as extreme
    assert [(found.code, found.severity) for found in check_tables(tables)] == [("table.confounded", "warning")]
    assert "SECRET" not in str(tables) + str(check_tables(tables)) + tables[0].as_json()


def test_a_balanced_table_and_a_single_level_say_nothing() -> None:
    balanced = label_tables(cohort((5, 0, "N"), (5, 1, "N"), (5, 0, "S"), (5, 1, "S")))
    assert balanced[0].p == pytest.approx(1)
    alone = label_tables(cohort((5, 0, "N"), (5, 1, "N"), (3, 1, "")))
    assert (alone[0].p, alone[0].not_given) == (None, 3)
    assert check_tables(balanced) == check_tables(alone) == []


def test_three_levels_take_chi_square() -> None:
    (table,) = label_tables(cohort((10, 0, "N"), (10, 1, "S"), (5, 0, "W"), (5, 1, "W")))
    assert table.p == pytest.approx(4.54e-5, rel=0.01)  # chi-square 20 with 2 degrees: exp(-10)


def test_prescriptions_are_told_as_numbers() -> None:
    cases = [replace(case, prescription_gy=40.05, extra={}) for case in cohort((2, 0, ""), (2, 1, ""))]
    (table,) = label_tables(cases)
    assert (table.column, table.levels[0].name, table.levels[0].counts) == ("prescription_gy", "40.05 Gy", (2, 2))


def test_a_channel_that_one_class_lacks_is_associated_with_the_label() -> None:
    """All have an event image; none of the recurrences has a dose."""
    cases = [
        replace(case, key=f"c{case.row}", images=dict.fromkeys(["event", "rd"][: 1 + case.label], Path()))
        for case in cohort((5, 0, ""), (5, 1, ""))
    ]
    (table,) = label_tables(cases)
    assert (table.column, [(level.name, level.counts) for level in table.levels]) == (
        "has_rd", [("missing", (5, 0)), ("given", (0, 5))],
    )  # fmt: skip
    assert table.p == pytest.approx(2 / 252)
    assert "associated with has_rd" in check_tables([table])[0].message


def test_small_classes_are_mentioned_by_patients() -> None:
    cases = [replace(case, patient_key="one") for case in cohort((9, 1, ""))] + cohort((5, 0, ""))
    (found,) = check_class_sizes(cases)
    assert (found.code, found.severity) == ("table.few_patients", "info")
    assert found.message == "expected at least 5 patients with label rice, got 1"


def test_free_reasons_are_counted_and_not_told(tmp_path: Path) -> None:
    reasons = ["", "ingest: series.gap", "Herr SECRET", "ingest: series.gap", "no consent", " "]  # a space excludes too
    with (tmp_path / "cohort.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([("patient_id", "excluded_because"), *((n, reason) for n, reason in enumerate(reasons))])
    assert count_excluded(tmp_path) == {"in words (see cohort.csv)": 3, "ingest: series.gap": 2}
