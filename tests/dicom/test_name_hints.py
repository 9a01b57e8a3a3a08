"""Scouts, delayed series and those before an operation, by their names."""

import pytest

from ricenet.dicom.name_hints import is_before_operation, is_delayed, is_scout


@pytest.mark.parametrize(
    ("tells", "names", "others"),
    [
        (is_scout, ["AAHead_Scout", "3-plane Loc", "Survey", "Localizer"], ["T1 allocated", "t1_mprage"]),
        (is_delayed, ["T1 +C delayed", "T1 KM spät", "T1 GADO TARDIF", "T1 75min", "T1 延迟增强"],
         ["T1 KM", "T1 POST 5 MIN", "T1 plate"]),
        (is_before_operation, ["PREOP T1", "T1 pre-op +C", "T1 präop KM", "T1 PRE SURGICAL", "T1 pré-operatório"],
         ["T1 pre", "T1 pre optic gad", "T1 POSTOP", "T1 pre-RT"]),
    ],
)  # fmt: skip
def test_what_else_a_name_tells(tells, names, others):
    assert [tells(name) for name in (*names, *others)] == [True] * len(names) + [False] * len(others)
