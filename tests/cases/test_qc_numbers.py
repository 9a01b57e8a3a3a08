"""Which numbers of qc.csv are odd."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation

from ricenet.cases.qc_numbers import OUTLIER_SD, judge


@given(st.lists(st.floats(0, 100), min_size=10, max_size=30))
def test_outliers_are_those_of_the_scaled_mad(values: list[float]) -> None:
    rows = [{"case_key": f"c{place:02}", "further_number": str(value)} for place, value in enumerate(values)]
    _, judged = judge(rows)
    spread = median_abs_deviation(values, scale=1 / 1.4826)
    marked = {row.case_key for row in judged if row.reasons}
    for place, value in enumerate(values):
        off = abs(value - np.median(values))
        if spread > 0 and abs(off - OUTLIER_SD * spread) > 1e-9 * (1 + off):
            assert (f"c{place:02}" in marked) == (off > OUTLIER_SD * spread)
        elif spread == 0:
            assert f"c{place:02}" not in marked


def test_a_head_and_its_partner_whose_brain_is_not_used_are_no_mixed_pair() -> None:
    row = {"case_key": "c0", "post_brain": "hdbet", "event_brain": "head"}
    stripped = {"case_key": "c1", "post_brain": "stripped", "event_brain": "stripped"}
    columns, rows = judge([row, stripped, {"case_key": "c2", "post_brain": "", "event_brain": ""}])
    assert [(column.title, column.n) for column in columns] == [("post brain", 2), ("event brain", 2)]
    assert not any(row.reasons for row in rows)
    assert [cell.text for cell in rows[2].cells] == ["\N{EN DASH}", "\N{EN DASH}"]


def test_a_case_in_which_nothing_enhances_is_the_first_to_look_at() -> None:
    sources = ["difference"] * 11 + ["none", ""]
    rows = [
        {"case_key": f"c{place:02}", "lesion_place": source, "enhancement_contrast": "0.7" if source == "none" else "3"}
        for place, source in enumerate(sources)
    ]
    columns, judged = judge(rows)
    assert [column.title for column in columns] == ["lesion place", "enhancement contrast"]
    assert judged[0].case_key == "c11"
    assert "give a lesion mask" in judged[0].reasons[0]
    assert [row.reasons for row in judged[1:]] == [[]] * 12
