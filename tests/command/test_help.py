"""The help of every stage: complete, in the words of its config files, and before anything heavy is loaded."""

import subprocess
import sys

import pytest
import yaml
from helpers import commands

from ricenet.__main__ import STAGES
from ricenet.command.help import usage
from ricenet.command.schemas import CONF_DIR

HEAVY = {"torch", "lightning", "monai", "hydra", "omegaconf", "pandas", "scipy", "matplotlib"}


def loaded(*arguments: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run Python with these arguments; the modules that it imported on the way."""
    line = [sys.executable, "-X", "importtime", *arguments]
    result = subprocess.run(line, capture_output=True, text=True, check=False)
    return result, {entry.rpartition("|")[2].strip() for entry in result.stderr.splitlines()}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_a_stage_loads_nothing_heavy(stage: str, flag: str) -> None:
    result, modules = loaded("-m", f"ricenet.{stage}", "no=such", flag)
    assert result.returncode == 0
    assert result.stdout.startswith(f"usage: python -m ricenet.{stage} key=value ...\n\n")
    assert "ricenet.command.help" in modules
    assert not HEAVY & modules


def test_console_script_passes_help_on() -> None:
    result, modules = loaded("-m", "ricenet", "train", "--help")
    assert result.stdout == loaded("-m", "ricenet.train", "--help")[0].stdout
    assert not HEAVY & modules


@pytest.mark.parametrize("stage", STAGES)
def test_every_key_and_choice_is_named(stage: str) -> None:
    text = usage(stage, "What it is for.")
    config = yaml.safe_load((CONF_DIR / f"{stage}.yaml").read_text())
    for key in config.keys() - {"defaults", "hydra"}:
        assert f"\n  {key}:" in text, key
    groups = [group for entry in config["defaults"] if isinstance(entry, dict) for group in entry if " " not in group]
    groups += [entry.split("/")[0] for entry in config["defaults"] if "/" in entry]
    for group in groups:
        choices = text[text.index(f"{group}=\n") :].split("\n\n")[0]
        for file in (CONF_DIR / group).glob("*.yaml"):
            assert f"{file.stem}  " in choices, file


def test_default_choice_is_marked_and_shows_its_keys() -> None:
    text = usage("train", "")
    assert "  * resnet18" in text
    assert "    narrow" in text
    assert "  +modalities=\n" in text
    for key in yaml.safe_load((CONF_DIR / "model" / "resnet18.yaml").read_text()):
        assert f"\n        {key}:" in text


def test_choice_is_told_by_its_first_sentence() -> None:
    text = usage("ingest", "")
    assert "\n  * dicom             which cases does a hospital's label table name?\n" in text
    assert "    lumiere           LUMIERE (91 patients, NIfTI, no dose) as a cohort of MRI alone?\n" in text


def test_grid_is_explained_where_there_is_one() -> None:
    assert "hydra/launcher=" in usage("train", "")
    assert "hydra/launcher=" not in usage("report", "")


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_hydras_own_is_left_out(stage: str) -> None:
    text = usage(stage, "")
    assert not [word for word in ("_self_", "override ", "_target_", "job_logging", "@package") if word in text]
    assert "Exit codes: 0 done" in text


def test_flags_of_hydra_stay_with_hydra() -> None:
    line = [sys.executable, "-m", "ricenet.report", "run=x", "--cfg", "job"]
    result = commands.run(line, check=True)
    assert yaml.safe_load(result.stdout)["run"] == "x"
