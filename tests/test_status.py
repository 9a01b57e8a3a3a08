"""The command that tells how a grid stands."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import commands
from helpers.make_grid import make_cases, write_cases_folder, write_grid
from helpers.run_records import write_begun_run

from ricenet.command.atomic import hold
from ricenet.paper import PAPER
from ricenet.training.grid_state import read_cells


def status(run: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "ricenet.status", f"run={run}"]
    return commands.run(line)


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
    code = "import sys, ricenet.status; from ricenet.training.grid_summary import *"
    probe = f"{code}; grid_table(Path({str(finished)!r})); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "hydra", "pandas"} & set(loaded)


def test_every_state_is_told(tmp_path: Path) -> None:
    running = write_begun_run(tmp_path, "rd/fold0", {"epoch": 296, "seconds_per_epoch": 8.6}, status="running")
    write_begun_run(tmp_path, "rd/fold1", {"epoch": 80, "seconds_per_epoch": 9.0}, status="running")
    write_begun_run(tmp_path, "rd/fold2", status="failed", message="rd fold2: the disk is full")
    write_begun_run(tmp_path, "rd/fold3", {"epoch": 400, "seconds_per_epoch": 8.0}, status="interrupted")
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
        "To continue, run the same train command again: finished runs are skipped, interrupted ones are resumed.",
    ]


def test_a_failed_seed_is_named(tmp_path: Path) -> None:
    for seed in (0, 10):
        write_begun_run(tmp_path, f"rd/fold0-seed{seed}", status="failed", message=f"disk {seed}", seed=seed)
    assert "  rd seed 10 fold 0: disk 10" in status(tmp_path).stdout


def test_other_folders_are_no_runs(finished: Path) -> None:
    for name in ("evaluation/folds", "explanation/rd/fold0", ".submitit/fold", "rd/fold0_backup"):
        (finished / name).mkdir(parents=True, exist_ok=True)
    assert len(read_cells(finished)) == 35


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    for run in (tmp_path, tmp_path / "missing"):
        result = status(run)
        assert (result.returncode, result.stdout) == (3, "")
        assert "no run in this folder; run= is the folder of a whole grid" in result.stderr
