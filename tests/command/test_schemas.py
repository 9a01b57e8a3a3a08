"""Typed configs and the errors of stages."""

import pickle
from dataclasses import dataclass

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ricenet import errors
from ricenet.command import schemas


@dataclass
class Inner:
    size: int


@dataclass
class Outer:
    name: str
    inner: Inner


def test_typed_config_gives_the_dataclass() -> None:
    typed = schemas.typed_config(Outer, OmegaConf.create({"name": "a", "inner": {"size": 3}}))
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
        schemas.typed_config(Outer, OmegaConf.create(raw))


def test_an_error_keeps_its_parts_across_processes() -> None:
    error = pickle.loads(pickle.dumps(errors.InvalidInput("expected this, got that", "do so", code="group.rule")))
    assert (error.message, error.hint, error.code) == ("expected this, got that", "do so", "group.rule")
    assert str(error) == "expected this, got that; do so"
