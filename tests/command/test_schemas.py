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


@pytest.mark.parametrize(
    ("overrides", "row", "cropped"),
    [
        ([], "rd_post_event", False),
        (["crop=lesion"], "rd_post_event", True),
        (["crop=lesion", "+modalities=event"], "event", True),
        (["crop=lesion", "+modalities=rd_post"], "rd_post", False),
        (["crop=lesion", "+modalities=rd", "crop.everywhere=true"], "rd@lesion", True),
        (["crop=lesion", "crop.everywhere=true"], "rd_post_event", True),
        (["crop=random", "+modalities=rd"], "rd@random", True),
        (["crop=random", "control=shuffled_labels"], "rd_post_event@random-shuffled_labels", True),
        (["crop=lesion", "control=metadata_only"], "metadata_only", False),
    ],
)
def test_a_row_says_where_a_set_is_cropped_that_does_not_tell_the_place(
    overrides: list[str], row: str, cropped: bool
) -> None:
    cfg = schemas.compose("train", schemas.TrainConfig, ["cases=x", *overrides])
    assert (cfg.row, cfg.cropped) == (row, cropped)
