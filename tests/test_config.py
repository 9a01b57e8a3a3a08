"""The stage wrapper: exit codes, re-merge, and what a multirun does with a broken job."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ricenet import config


@dataclass
class Inner:
    size: int


@dataclass
class Outer:
    name: str
    inner: Inner


def test_typed_config_gives_the_dataclass() -> None:
    typed = config.typed_config(Outer, OmegaConf.create({"name": "a", "inner": {"size": 3}}))
    assert typed == Outer("a", Inner(3))


@pytest.mark.parametrize(
    "raw",
    [
        {"name": "a", "inner": {"size": 3}, "extra": 1},
        {"name": "a", "inner": {"size": 3, "_target_": "builtins.open"}},
        {"name": "a", "inner": {"size": "three"}},
        {"name": "a", "inner": {}},
        {"name": "???", "inner": {"size": 3}},
    ],
)
def test_what_the_schema_does_not_hold_is_an_error(raw: dict) -> None:
    with pytest.raises(OmegaConfBaseException):
        config.typed_config(Outer, OmegaConf.create(raw))


STAGE = """
import sys
from ricenet import config
from ricenet.config import Incomplete, InvalidInput, ReportConfig, WrongUsage, stage

@stage("report", ReportConfig)
def main(cfg: ReportConfig) -> None:
    error = {"usage": WrongUsage, "input": InvalidInput, "incomplete": Incomplete, "bug": RuntimeError}.get(cfg.run)
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
    script.write_text(STAGE)
    result = subprocess.run([sys.executable, str(script), f"run={run}"], capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stderr
    if code in (2, 3, 4):
        assert result.stderr.strip() == "ricenet: case 17: expected this, got that; do so"


@pytest.mark.parametrize("argument", ["runn=x", "+runn=x", "run=[", "--nonsense", ""])
def test_wrong_command_lines_end_with_2(argument: str) -> None:
    line = [sys.executable, "-m", "ricenet.report", *filter(None, [argument])]
    assert subprocess.run(line, capture_output=True, check=False).returncode == 2


def test_stage_leaves_no_file_of_hydras(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "ricenet.report", "run=nothing"], cwd=tmp_path, capture_output=True, check=False
    )
    assert not list(tmp_path.iterdir())
