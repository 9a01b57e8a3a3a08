"""The stage wrapper: exit codes, and what it says of a crash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import commands

from ricenet.__main__ import STAGES

STAGE = """
import sys; from functools import partial
from ricenet.command.schemas import ReportConfig
from ricenet.command.stage import stage
from ricenet.errors import Incomplete, InvalidInput, WrongUsage
refused = partial(InvalidInput, code="case.wrong")
@stage("report", ReportConfig, private=PRIVATE)
def main(cfg: ReportConfig) -> None:
    error = {"usage": WrongUsage, "input": refused, "incomplete": Incomplete, "bug": RuntimeError}.get(cfg.run)
    if cfg.run == "interrupt":
        raise KeyboardInterrupt
    if error:
        raise error("case 17: expected this, got that; do so")

main()
"""


@pytest.mark.parametrize(
    ("run", "code"),
    [("fine", 0), ("usage", 2), ("input", 3), ("incomplete", 4), ("bug", 1), ("interrupt", 130)],
)
def test_exit_codes(tmp_path: Path, run: str, code: int) -> None:
    script = tmp_path / "stage.py"
    script.write_text(STAGE.replace("PRIVATE", "False"))
    result = subprocess.run([sys.executable, str(script), f"run={run}"], capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stderr
    if code in (2, 3, 4):
        assert result.stderr.strip() == "ricenet: case 17: expected this, got that; do so"


@pytest.mark.parametrize("argument", ["runn=x", "+runn=x", "run=[", "--nonsense", ""])
def test_wrong_command_lines_end_with_2(argument: str) -> None:
    line = [sys.executable, "-m", "ricenet.report", *filter(None, [argument])]
    assert commands.run(line).returncode == 2


@pytest.mark.parametrize("stage", STAGES)
def test_a_wrong_key_is_refused_before_anything_heavy_is_loaded(stage: str) -> None:
    line = [sys.executable, "-X", "importtime", "-m", f"ricenet.{stage}", "no.such=key"]
    result = subprocess.run(line, capture_output=True, text=True, check=False)
    modules = {entry.rpartition("|")[2].strip() for entry in result.stderr.splitlines()}
    assert result.returncode == 2
    assert "hydra" in modules
    assert not {"torch", "lightning", "monai", "wandb", "pandas", "matplotlib"} & modules


def test_stage_leaves_no_file_of_hydras(tmp_path: Path) -> None:
    commands.run([sys.executable, "-m", "ricenet.report", "run=nothing"], cwd=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shown", [False, True])
def test_a_private_stage_tells_a_crash_by_its_place(tmp_path: Path, shown: bool) -> None:
    script = tmp_path / "script.py"
    script.write_text(STAGE.replace("PRIVATE", "True"))
    environment = os.environ | ({"RICENET_TRACEBACK": "1"} if shown else {})
    result = subprocess.run(
        [sys.executable, str(script), "run=bug"], capture_output=True, text=True, check=False, env=environment
    )
    assert result.returncode == 1
    assert ("case 17" in result.stderr) == shown
    if not shown:
        assert result.stderr.startswith(
            "ricenet: report crashed: RuntimeError in script.py, line 13; RICENET_TRACEBACK"
        )
