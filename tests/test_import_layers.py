"""The import contract of pyproject.toml holds, and an import that breaks it is found."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINTER = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", LINTER, "--no-cache"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package's Python files and the contract, to be broken."""
    shutil.copytree(ROOT / "ricenet", tmp_path / "ricenet", ignore=shutil.ignore_patterns("niivue", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contract_holds(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout
    assert "1 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("statistics/chance.py", "from ricenet.errors import InvalidInput"),  # one layer: these do not know each other
        ("images/head.py", "from ricenet.cohort.table import Case"),
        ("training/fit.py", "from ricenet.evaluation.grid import read_grid"),
        ("prediction/ensemble.py", "from ricenet.predict import main"),
        ("predict.py", "from ricenet.explain import main as explain"),  # stages meet at files
    ],
)
def test_an_import_upwards_or_sideways_is_found(copy: Path, module: str, line: str) -> None:
    path = copy / "ricenet" / module
    path.write_text(f"{path.read_text()}\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1, done.stdout
    assert line.split()[1] in done.stdout


def test_a_package_that_the_contract_does_not_know_is_found(copy: Path) -> None:
    (copy / "ricenet" / "attic").mkdir()
    (copy / "ricenet" / "attic" / "__init__.py").touch()
    assert lint(copy).returncode == 1
