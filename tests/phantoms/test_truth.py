"""What is true of a cohort stands beside it: Bayes scores always, the look of difficulty=hard."""

import csv
from pathlib import Path

import pytest

from ricenet import LABELS
from ricenet.phantoms.causal_model import draw_cohort, modality_sets
from ricenet.phantoms.truth import write_cohort_truth, write_table


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("difficulty", ["standard", "hard"])
def test_scores_and_looks_stand_by_case(tmp_path: Path, difficulty: str) -> None:
    draws = draw_cohort(12, 3, difficulty=difficulty)
    keys = [f"case-{number}" for number in range(12)]
    write_cohort_truth(tmp_path, draws, keys)
    rows = rows_of(tmp_path / "truth.csv")
    assert [(row["case_key"], row["label"]) for row in rows] == [
        (k, LABELS[d.label]) for k, d in zip(keys, draws, strict=True)
    ]
    for row, draw in zip(rows, draws, strict=True):
        for name, channels in modality_sets().items():
            assert float(row[name]) == pytest.approx(draw.bayes_llr(channels), abs=1e-6)
    assert (tmp_path / "appearance.csv").exists() == (difficulty == "hard")
    if difficulty == "hard":
        assert [row["event_scanner"] for row in rows_of(tmp_path / "appearance.csv")] == [
            draw.appearance.scanner("event").name for draw in draws
        ]


def test_a_cell_that_a_row_lacks_is_empty(tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv", ("a", "b"), [{"a": 1}, {"a": 2, "b": 3}])
    assert (tmp_path / "table.csv").read_text() == "a,b\n1,\n2,3\n"
