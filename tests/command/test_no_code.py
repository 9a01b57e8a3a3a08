"""Configs hold values: whatever Hydra would call on their behalf is refused by name, before Hydra reads them."""

import sys
from pathlib import Path

import pytest
from helpers import commands

from ricenet.command.no_code import refuse_calls
from ricenet.errors import WrongUsage

CALLBACK = "hydra: {callbacks: {evil: {_target_: builtins.print}}}"
NESTED = "a: [{b: {_target_: builtins.open, _partial_: true}}]"
# The key with an escape in it: only a parser sees what it is.
ESCAPED = 'hydra: {callbacks: {evil: {"\\x5ftarget_": builtins.print}}}'
HANDLER = 'hydra: {job_logging: {handlers: {evil: {"()": os.getcwd}}}}'


def test_our_own_configs_are_fine() -> None:
    refuse_calls(["cases=x", "+modalities=rd", "-m", "model=narrow", "fold=range(5)", "'+modalities=glob(*)'"])


@pytest.mark.parametrize(
    "argument",
    ["+model._target_=builtins.open", "hydra.callbacks.summary._target_=os.system", "+x={_target_: builtins.open}",
     "+hydra.job_logging.handlers.x.()=os.getcwd", "hydra.searchpath=[file:///tmp]", "+x={a: {_target_: open}}"],
)  # fmt: skip
def test_calls_on_the_command_line_are_refused(argument: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        refuse_calls(["cases=x", argument])
    assert str(refused.value).startswith(argument)


@pytest.mark.parametrize("flag", ["--config-dir", "-cd", "--config-dir=", "--config-path="])
@pytest.mark.parametrize("content", [CALLBACK, NESTED, ESCAPED, HANDLER, "hydra: {searchpath: [file:///tmp]}"])
def test_calls_in_a_users_config_are_refused_by_file(tmp_path: Path, flag: str, content: str) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{content}\n")
    arguments = [f"{flag}{tmp_path}"] if flag.endswith("=") else [flag, str(tmp_path)]
    with pytest.raises(WrongUsage, match=r"config file mine\.yaml: (_target_|\(\)|searchpath) would call"):
        refuse_calls(arguments)


def test_a_file_that_is_no_yaml_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: [")
    with pytest.raises(WrongUsage, match=r"mine\.yaml is not YAML"):
        refuse_calls(["--config-dir", str(tmp_path)])


def test_the_stage_refuses_before_hydra_calls(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{CALLBACK}\n")
    line = [sys.executable, "-m", "ricenet.report", "--config-dir", str(tmp_path), "+experiment=mine", "run=x"]
    result = commands.run(line)
    assert result.returncode == 2
    assert result.stderr.strip() == (
        "ricenet: config file mine.yaml: _target_ would call 'builtins.print'; a config holds values, remove it"
    )
    assert result.stdout == ""
