"""Which channels a set gets, what a config may ask for, and what stands in a JSON file."""

from dataclasses import replace

import pytest
import yaml
from pydantic import ValidationError

from ricenet.command.schemas import CONF_DIR, InputsConfig
from ricenet.errors import WrongUsage
from ricenet.networks.input_settings import InputSettings

BOTH = InputsConfig("both", [10.0, 57.5], 2.0, True, False)


@pytest.mark.parametrize(
    ("channels", "computed"),
    [
        (["post", "event", "rd"], ["dose above 10 Gy", "dose above 57.5 Gy", "event minus post"]),
        (["event", "rd"], ["dose above 10 Gy", "dose above 57.5 Gy"]),
        (["post", "event"], ["event minus post"]),
        (["post"], []),
        (["post", "flair"], []),
    ],
)
def test_a_set_has_the_channels_whose_parts_it_has(channels: list[str], computed: list[str]) -> None:
    assert InputSettings.from_config(BOTH).computed(channels) == computed


def test_what_is_switched_off_is_not_computed() -> None:
    every = ["post", "event", "rd"]
    assert InputSettings.from_config(replace(BOTH, difference=False)).computed(every) == [
        "dose above 10 Gy", "dose above 57.5 Gy",
    ]  # fmt: skip
    assert InputSettings.from_config(replace(BOTH, isodoses_gy=[])).computed(every) == ["event minus post"]


def test_levels_of_a_relative_dose_are_called_shares_of_the_prescription() -> None:
    relative = InputSettings.from_config(replace(BOTH, relative_dose=True))
    assert relative.computed(["rd"]) == ["dose above 17% of the prescription", "dose above 96% of the prescription"]
    assert (relative.has_relative_dose(["event", "rd"]), relative.has_relative_dose(["event"])) == (True, False)
    assert not InputSettings.from_config(BOTH).has_relative_dose(["rd"])


def test_committed_files_compute_what_they_are_named_after() -> None:
    computed = {}
    for path in (CONF_DIR / "inputs").glob("*.yaml"):
        config = InputsConfig(**yaml.safe_load(path.read_text()))
        assert config.name == path.stem
        names = InputSettings.from_config(config).computed(["post", "event", "rd"])
        computed[config.name] = (sum(name.startswith("dose above") for name in names), "event minus post" in names)
    assert computed == {"plain": (0, False), "isodoses": (7, False), "difference": (0, True), "ricenet": (7, True)}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"isodoses_gy": [10.0, 0.0]}, "inputs.isodoses_gy should be above 0 and at most 500 Gy, got 0"),
        ({"isodoses_gy": [6000.0]}, "got 6000"),
        ({"isodoses_gy": [float("nan")]}, "got nan"),
        ({"isodose_edge_gy": -1.0}, "inputs.isodose_edge_gy should be above 0 and at most 500 Gy, got -1"),
        ({"isodoses_gy": [10.0] * 65}, "at most 64 levels, got 65"),
    ],
)
def test_what_is_no_dose_is_refused(changed: dict, says: str) -> None:
    with pytest.raises(WrongUsage, match=says):
        InputSettings.from_config(replace(BOTH, **changed))


def test_json_gives_back_the_same_settings() -> None:
    settings = InputSettings.from_config(BOTH)
    assert InputSettings.model_validate_json(settings.as_json()) == settings


@pytest.mark.parametrize("changed", ['"isodose_edge_gy": 0', '"isodoses_gy": ["10"]', '"code": 1', '"difference": 1'])
def test_json_of_others_is_checked(changed: str) -> None:
    text = '{"isodoses_gy": [10], "isodose_edge_gy": 2, "difference": true, ' + changed + "}"
    with pytest.raises(ValidationError):
        InputSettings.model_validate_json(text)
