"""The state of a grid, told from run folders in every state that a run can be in."""

import json
import re
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from helpers import commands
from helpers.make_grid import make_cases, write_cases_folder, write_grid
from helpers.run_records import run_record

from ricenet.command.atomic import hold, replace_file
from ricenet.paper import PAPER
from ricenet.training.grid_state import Cell, as_text, grid_table, read_cells
from ricenet.training.run_record import EpochProgress

RECORD = {"n_folds": 5, "epochs": 800}


def write_run(run: Path, name: str, progress: dict[str, Any] | None = None, **record: Any) -> Path:
    """The folder of a run without DONE. record: over RECORD, status first of all."""
    folder = run / name
    folder.mkdir(parents=True)
    (folder / ".lock").touch()
    run_record("rd", ("rd",), **RECORD | record).write(folder / "run.json")
    if progress:
        EpochProgress.model_validate({"epochs": 800} | progress).write(folder / "progress.json")
    return folder


def status(run: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "ricenet.status", f"run={run}"]
    return commands.run(line)


def cell(run: Path, row: str, fold: int) -> Cell:
    (found,) = [one for one in read_cells(run) if (one.row, one.fold) == (row, fold)]
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven sets, five folds, all done, three epochs in one second each."""
    root = tmp_path_factory.mktemp("finished")
    folds = write_cases_folder(root / "cases", make_cases({"cv": (5, 5), "test": (1, 1)}))
    write_grid(root / "run", root / "cases", folds, PAPER, lambda *_: 0.5)
    return root / "run"


def test_finished_grid_in_a_second_without_torch(finished: Path) -> None:
    started = time.monotonic()
    line = [sys.executable, "-m", "ricenet.status", f"run={finished}"]
    result = subprocess.run(line, capture_output=True, text=True, check=False)
    assert time.monotonic() - started < 5  # 0.6 s on an idle machine
    assert (result.returncode, result.stderr) == (0, "")
    lines = [re.split(r" {2,}", line.strip()) for line in result.stdout.splitlines()]
    assert lines[0] == [f"fold {fold}" for fold in range(5)]
    assert lines[1:8] == [[row, *["done"] * 5] for row in PAPER]
    assert lines[8:] == [["35 runs: 35 done"]]
    code = "import sys, ricenet.status; from ricenet.training.grid_state import *"
    probe = f"{code}; grid_table(Path({str(finished)!r})); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "hydra", "pandas"} & set(loaded)


def test_every_state_is_told(tmp_path: Path) -> None:
    running = write_run(tmp_path, "rd/fold0", {"epoch": 296, "seconds_per_epoch": 8.6}, status="running")
    write_run(tmp_path, "rd/fold1", {"epoch": 80, "seconds_per_epoch": 9.0}, status="running")
    write_run(tmp_path, "rd/fold2", status="failed", message="rd fold2: the disk is full")
    write_run(tmp_path, "rd/fold3", {"epoch": 400, "seconds_per_epoch": 8.0}, status="interrupted")
    with hold(running):
        result = status(tmp_path)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert re.split(" {2,}", lines[1]) == ["rd", "running 37%", "killed 10%", "failed 0%", "interrupted 50%", "waiting"]
    assert lines[2:] == [
        "5 runs: 1 running, 1 failed, 1 killed, 1 interrupted, 1 waiting",
        "rd fold 0: epoch 296 of 800, 1 h 12 min left",
        # 720 + 800 + 400 + 800 epochs
        "the other 4: about 6 h 30 min one after the other (8.6 s an epoch is the median of 3 run(s))",
        "failed:",
        "  rd fold 2: rd fold2: the disk is full",
        "To go on, give the same train command again: what is done is skipped, what was begun is resumed.",
    ]


def test_rest_at_the_rate_of_the_runs_that_go_on_now(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path, f"rd/fold{fold}", {"epoch": 1, "seconds_per_epoch": 1.0}, status="running", epochs=600)
        for fold in (0, 1)
    ]
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(hold(folder))
        assert "the other 3: about 30 min one after the other, 15 min with 2 at a time as now" in grid_table(tmp_path)


@pytest.mark.parametrize("status", ["running", "interrupted", "failed", "done"])
def test_who_holds_the_folder_is_running_whatever_run_json_still_says(tmp_path: Path, status: str) -> None:
    """A resumed run, before it writes run.json anew, and one that is about to write DONE."""
    folder = write_run(tmp_path, "rd/fold0", status=status)
    with hold(folder):
        assert cell(tmp_path, "rd", 0).state == "running"
    assert cell(tmp_path, "rd", 0).state == {"running": "killed", "done": "killed"}.get(status, status)


def test_a_run_in_its_first_epoch_has_no_time_yet(tmp_path: Path) -> None:
    with hold(write_run(tmp_path, "rd/fold0", status="running")):
        assert "rd fold 0: in its first epoch" in grid_table(tmp_path)
    assert "one after the other" not in grid_table(tmp_path)


def test_rows_are_those_that_the_cases_allow_and_those_that_are_there(tmp_path: Path) -> None:
    folds = write_cases_folder(
        tmp_path / "cases", make_cases({"cv": (2, 2), "test": (1, 1)}), 2, ("post", "event"), dose_scale_gy=None
    )
    write_grid(tmp_path / "run", tmp_path / "cases", folds, ["post"], lambda *_: 0.5, [0])
    assert [(one.row, one.fold) for one in read_cells(tmp_path / "run")] == [
        (row, fold) for row in ("event", "post", "post_event") for fold in (0, 1)
    ]
    write_run(tmp_path / "run", "modality_dropout/fold0", status="running", n_folds=2)
    write_run(tmp_path / "run", "rd/fold0", status="running", n_folds=2)
    assert list(dict.fromkeys(one.row for one in read_cells(tmp_path / "run"))) == [
        "event", "post", "rd", "post_event", "modality_dropout",
    ]  # fmt: skip


def test_one_model_for_all_sets_is_a_grid_of_one_row(tmp_path: Path) -> None:
    record = {"modalities": {"name": "modality_dropout", "channels": ["post", "event", "rd"]}}
    write_run(tmp_path, "modality_dropout/fold1", status="running", **record)
    assert {one.row for one in read_cells(tmp_path)} == {"modality_dropout"}


def seeds(run: Path) -> list[str]:
    return list(dict.fromkeys(one.name for one in read_cells(run)))


def test_each_seed_has_a_line(tmp_path: Path) -> None:
    for seed in (0, 10, 2):
        write_run(tmp_path, f"rd/fold0-seed{seed}", status="failed", message=f"disk {seed}", seed=seed, n_folds=2)
    (tmp_path / "rd" / "fold0-seed2" / "DONE").touch()
    lines = [re.split(" {2,}", line) for line in grid_table(tmp_path).splitlines()]
    assert lines[1:4] == [
        ["rd seed 0", "failed 0%", "waiting"], ["rd seed 2", "done", "waiting"], ["rd seed 10", "failed 0%", "waiting"],
    ]  # fmt: skip
    assert "  rd seed 10 fold 0: disk 10" in status(tmp_path).stdout


def test_seeds_that_were_added_to_one_set_are_not_expected_of_the_others(tmp_path: Path) -> None:
    """Where a name says a seed, a folder without one is called by the seed of its run.json."""
    record = {"modalities": {"name": "rd_post", "channels": ["post", "rd"]}, "status": "running"}
    for name, seed in (("post/fold0", 0), ("rd_post/fold0", 0), ("rd_post/fold0-seed1", 1)):
        write_run(tmp_path, name, seed=seed, **record)
    assert seeds(tmp_path) == ["post seed 0", "rd seed 0", "rd_post seed 0", "rd_post seed 1"]
    assert [one.state for one in read_cells(tmp_path) if one.fold == 0] == ["killed", "waiting", "killed", "killed"]


def test_of_a_grid_of_several_seeds_every_set_is_expected_with_each(tmp_path: Path) -> None:
    record = {"modalities": {"name": "rd_post", "channels": ["post", "rd"]}, "status": "running"}
    for seed in (0, 1):
        write_run(tmp_path, f"rd_post/fold0-seed{seed}", seed=seed, **record)
    assert seeds(tmp_path) == [f"{row} seed {seed}" for row in ("post", "rd", "rd_post") for seed in (0, 1)]


def test_controls_come_after_the_papers_sets_and_bring_no_sets_of_their_own(tmp_path: Path) -> None:
    for row in ("rd-shuffled_labels", "metadata_only"):
        write_run(tmp_path, f"{row}/fold0", status="running")
    assert seeds(tmp_path) == ["metadata_only", "rd-shuffled_labels"]
    write_run(tmp_path, "rd/fold0", status="running")
    assert seeds(tmp_path) == ["rd", "metadata_only", "rd-shuffled_labels"]


def test_other_folders_are_no_runs(finished: Path) -> None:
    for name in ("evaluation/folds", "explanation/rd/fold0", ".submitit/fold", "rd/fold0_backup"):
        (finished / name).mkdir(parents=True, exist_ok=True)
    assert len(read_cells(finished)) == 35


@pytest.mark.parametrize("name", ["run.json", "progress.json"])
def test_a_damaged_file_spoils_its_cell_alone(tmp_path: Path, name: str) -> None:
    write_run(tmp_path, "rd/fold0", {"epoch": 1, "seconds_per_epoch": 1.0}, status="failed", message="no memory")
    (write_run(tmp_path, "rd/fold1", status="failed", message="no disk") / name).write_text('{"epo')
    first, second = read_cells(tmp_path)[:2]
    assert (first.message, second.state) == ("no memory", "failed")
    assert second.message == ("run.json is damaged" if name == "run.json" else "no disk")


def test_a_file_where_a_run_folder_should_be(tmp_path: Path) -> None:
    write_run(tmp_path, "rd/fold0", status="running")
    (tmp_path / "rd" / "fold1").write_text("")
    assert cell(tmp_path, "rd", 1).state == "waiting"


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    for run in (tmp_path, tmp_path / "missing"):
        result = status(run)
        assert (result.returncode, result.stdout) == (3, "")
        assert "no run in this folder; run= is the folder of a whole grid" in result.stderr


def test_readable_while_it_is_being_written(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "rd/fold0", {"epoch": 0, "seconds_per_epoch": 1.0}, status="running")
    over = threading.Event()

    def train() -> None:
        epoch = 0
        while not over.is_set():
            epoch = epoch % 800 + 1
            replace_file(
                folder / "progress.json", json.dumps({"epoch": epoch, "epochs": 800, "seconds_per_epoch": 1.0})
            )
            run_record(**RECORD, status="running").write(folder / "run.json")
            if epoch % 100 == 0:
                (folder / "progress.json").unlink()

    with hold(folder):
        writer = threading.Thread(target=train)
        writer.start()
        try:
            assert {cell(tmp_path, "rd", 0).state for _ in range(300)} == {"running"}
        finally:
            over.set()
            writer.join()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (150, "2 min"), (3599, "1 h 0 min"), (4334, "1 h 12 min"), (273600, "3 d 4 h")],
)
def test_time_left_in_words(seconds: float, text: str) -> None:
    assert f", {text} left" in as_text([Cell("rd", 0, "running", 0, 1, seconds)])
