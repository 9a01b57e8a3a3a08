"""Answers read back as they were written, to the last bit."""

from pathlib import Path

from ricenet.paper import PAPER_CHANNELS
from ricenet.training.predictions import (
    read_predictions,
    read_predictions_by_set,
    sets_shown,
    write_predictions,
    write_predictions_by_set,
)

ROWS = [
    {
        "case_key": f"c{label}", "patient_key": "p", "split": "val", "label": label,
        "logit_recurrence": 0.1, "logit_rice": 1 / 3, "prob_rice": 0.1 + 0.2,
    }
    for label in (0, 1)
]  # fmt: skip


def test_numbers_read_back_exactly(tmp_path: Path) -> None:
    write_predictions(tmp_path, ROWS)
    assert read_predictions(tmp_path) == ROWS


def test_answers_by_set_say_which_set(tmp_path: Path) -> None:
    assert read_predictions_by_set(tmp_path) == []  # most runs have none
    rows = [{"modalities": name, **row} for name in ("rd", "rd_event") for row in ROWS]
    write_predictions_by_set(tmp_path, rows)
    assert read_predictions_by_set(tmp_path) == rows


def test_sets_that_one_model_is_shown_have_the_papers_names() -> None:
    assert {name: tuple(channels) for name, channels in sets_shown(["post", "event", "rd"]).items()} == PAPER_CHANNELS
    assert list(sets_shown(["event"])) == ["event"]
