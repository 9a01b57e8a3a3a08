"""The table of a grid in text: a line a row, the time that is left."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.run_records import write_begun_run

from ricenet.command.atomic import hold
from ricenet.training.grid_state import Cell
from ricenet.training.grid_summary import as_text, grid_table


def test_rest_at_the_rate_of_the_runs_that_go_on_now(tmp_path: Path) -> None:
    folders = [
        write_begun_run(
            tmp_path, f"rd/fold{fold}", {"epoch": 1, "seconds_per_epoch": 1.0}, status="running", epochs=600
        )
        for fold in (0, 1)
    ]
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(hold(folder))
        assert "the other 3: about 30 min one after the other, 15 min with 2 at a time as now" in grid_table(tmp_path)


def test_a_run_in_its_first_epoch_has_no_time_yet(tmp_path: Path) -> None:
    with hold(write_begun_run(tmp_path, "rd/fold0", status="running")):
        assert "rd fold 0: in its first epoch" in grid_table(tmp_path)
    assert "one after the other" not in grid_table(tmp_path)


def test_each_seed_has_a_line(tmp_path: Path) -> None:
    for seed in (0, 10, 2):
        write_begun_run(tmp_path, f"rd/fold0-seed{seed}", status="failed", message=f"disk {seed}", seed=seed, n_folds=2)
    (tmp_path / "rd" / "fold0-seed2" / "DONE").touch()
    lines = [re.split(" {2,}", line) for line in grid_table(tmp_path).splitlines()]
    assert lines[1:4] == [
        ["rd seed 0", "failed 0%", "waiting"], ["rd seed 2", "done", "waiting"], ["rd seed 10", "failed 0%", "waiting"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (150, "2 min"), (3599, "1 h 0 min"), (4334, "1 h 12 min"), (273600, "3 d 4 h")],
)
def test_time_left_in_words(seconds: float, text: str) -> None:
    assert f", {text} left" in as_text([Cell("rd", 0, "running", 0, 1, seconds)])
