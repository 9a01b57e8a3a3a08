"""cases.csv is read back as it was written."""

from dataclasses import replace

import pytest

from ricenet.cohort.ready_cases import ReadyCase, read_cases, write_cases
from ricenet.errors import InvalidInput


def test_cases_table_there_and_back(tmp_path):
    cases = [ReadyCase("b", "p2", 1, "test", "b-1"), ReadyCase("a", "p1", 0, "cv", "a-1")]
    write_cases(tmp_path, cases)
    assert read_cases(tmp_path) == sorted(cases, key=lambda case: case.case_key)
    (tmp_path / "cases.csv").write_text((tmp_path / "cases.csv").read_text().replace("rice", "RICE"))
    with pytest.raises(InvalidInput, match="case b: label 'RICE'"):
        read_cases(tmp_path)


def test_channels_are_a_column_only_where_the_cases_differ(tmp_path):
    base = ReadyCase("a", "p1", 0, "cv", "a-1")
    same = [replace(base, channels=("event", "rd")), replace(base, case_key="b", channels=("event", "rd"))]
    write_cases(tmp_path, same)
    assert (tmp_path / "cases.csv").read_text() == (
        "case_key,patient_key,label,split,folder\na,p1,recurrence,cv,a-1\nb,p1,recurrence,cv,a-1\n"
    )
    assert [case.channels for case in read_cases(tmp_path)] == [None, None]
    partial = [same[0], replace(same[1], channels=("post", "event", "flair"))]
    write_cases(tmp_path, partial)
    assert read_cases(tmp_path) == partial
    assert (tmp_path / "cases.csv").read_text().splitlines()[2] == "b,p1,recurrence,cv,a-1,post event flair"


def test_without_a_table_the_next_step_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"no cases\.csv .* run python -m ricenet\.preprocess") as refused:
        read_cases(tmp_path)
    assert refused.value.code == "cases.missing"
