"""The public names: found lazily, seen by type checkers, and documented with the signature that they have."""

import ast
import inspect
import tomllib
from pathlib import Path

import pytest
import yaml

import ricenet

ROOT = Path(__file__).parents[1]
API = (ROOT / "docs" / "api.md").read_text()
SOURCE = ast.parse((ROOT / "ricenet" / "__init__.py").read_text())
FUNCTIONS = [name for name in ricenet.__all__ if not inspect.isclass(getattr(ricenet, name))]


def imports(body: list[ast.stmt]) -> dict[str, str]:
    """Name -> module of the `from module import name` statements of a block."""
    statements = [statement for statement in body if isinstance(statement, ast.ImportFrom)]
    return {alias.name: statement.module or "" for statement in statements for alias in statement.names}


def test_importing_ricenet_imports_nothing_of_it() -> None:
    assert set(imports(SOURCE.body).values()) == {"importlib", "typing"}
    assert not [statement for statement in SOURCE.body if isinstance(statement, ast.Import)]


def test_type_checkers_see_every_name_where_it_lives() -> None:
    (checked, _) = (block for block in SOURCE.body if isinstance(block, ast.If))
    assert imports(checked.body) == ricenet._MODULES
    assert sorted(ricenet._MODULES) == sorted(ricenet.__all__)


@pytest.mark.parametrize("name", ricenet.__all__)
def test_a_name_is_its_modules(name: str) -> None:
    assert getattr(ricenet, name).__module__ == ricenet._MODULES[name]
    assert getattr(ricenet, name).__name__ == name
    assert name in dir(ricenet)


def test_any_other_name_is_none_of_ricenets() -> None:
    assert not hasattr(ricenet, "read_dosis")
    with pytest.raises(ImportError, match="cannot import name 'read_dosis' from 'ricenet'"):
        exec("from ricenet import read_dosis")


@pytest.mark.parametrize("name", ricenet.__all__)
def test_every_name_has_a_section(name: str) -> None:
    assert f"\n## {name}\n" in API


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_documented_signature_is_the_real_one(name: str) -> None:
    parameters = inspect.signature(getattr(ricenet, name)).parameters.values()
    plain = inspect.Signature([parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters])
    section = API.split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert f"ricenet.{name}{plain}".replace("'", '"') in " ".join(section.split()).replace("( ", "(").replace(
        ", )", ")"
    )


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["version"] == citation["version"] == ricenet.__version__
    assert project["license"] == citation["license"]
