"""What a model folder says of its training: no path of the machine, and the settings of its cases."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from helpers.run_records import run_record
from helpers.small_networks import TINY

from ricenet.cases.case_record import CASE_FILE, read_case_record
from ricenet.cohort.folds import read_folds
from ricenet.networks.input_settings import InputSettings
from ricenet.prediction.model_content import describe_network, measure_case, read_preprocessing, training_config


def test_a_training_config_keeps_no_path_and_nothing_of_the_grid(tmp_path: Path) -> None:
    config = {
        "run": "outputs/demo", "name": "demo", "fold": 1, "epochs": 3, "device": "cpu",
        "model": {"width": 4, "pretrained": "/home/someone/w.pth"}, "files": ["a/b", "plain", "c:\\d"],
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert training_config(tmp_path) == {"epochs": 3, "device": "cpu", "model": {"width": 4}, "files": ["plain"]}


def test_phantom_cases_say_that_they_were_drawn(phantom_cases: Path) -> None:
    settings, drawn, version = read_preprocessing(phantom_cases, read_folds(phantom_cases).cases)
    assert (settings.size, settings.spacing_mm, drawn, version) == (16, 12.0, True, None)


def test_without_any_post_image_the_frame_is_that_of_the_event(phantom_cases: Path, tmp_path: Path) -> None:
    """A record for each case; only that of the last may still have a post-OP MRI."""
    table = [replace(case, folder=case.case_key) for case in read_folds(phantom_cases).cases[:3]]
    for with_post, frame in ((False, ("event", "reference")), (True, ("post", "union"))):
        for case in table:
            record = read_case_record(phantom_cases, case)
            parameters = record.parameters | {"reference": "post", "brain_on": "union"}
            channels = record.channels if with_post and case == table[-1] else ("event", "rd")
            (tmp_path / case.folder).mkdir(exist_ok=True)
            changed = record.model_copy(update={"parameters": parameters, "channels": channels})
            changed.write(tmp_path / case.folder / CASE_FILE)
        settings, _, _ = read_preprocessing(tmp_path, table)
        assert (settings.reference, settings.brain_on) == frame


def test_measures_are_of_the_channels_that_the_model_sees(phantom_cases: Path) -> None:
    case = read_folds(phantom_cases).cases[0]
    assert set(measure_case(phantom_cases, case, ["rd"])) == {"brain_ml", "dose_max_gy", "dose_mean_gy"}


def test_a_run_of_before_pooling_had_a_key_has_the_same_network_as_one_of_after() -> None:
    plain = InputSettings(isodoses_gy=(), isodose_edge_gy=2.0, difference=False)
    old, new = run_record(model=TINY), run_record(model=TINY | {"pool": "last"}, inputs=plain)
    assert describe_network(old) == describe_network(new)


@pytest.mark.parametrize(("channels", "kept"), [(("event", "rd"), True), (("post",), False)])
def test_inputs_stand_in_the_model_where_its_set_has_any(channels: tuple[str, ...], kept: bool) -> None:
    inputs = InputSettings(isodoses_gy=(10.0,), isodose_edge_gy=2.0, difference=True)
    network = describe_network(run_record(channels=channels, model=TINY | {"pool": "multi"}, inputs=inputs))
    assert network.pool == "multi"
    assert network.inputs == (inputs if kept else None)


def test_a_relative_dose_stands_in_the_model_without_any_computed_channel() -> None:
    """Without it the exported model would see another dose than it was trained on."""
    inputs = InputSettings(isodoses_gy=(), isodose_edge_gy=2.0, difference=False, relative_dose=True)
    described = [describe_network(run_record(channels=(of,), model=TINY, inputs=inputs)) for of in ("rd", "post")]
    assert [network.inputs for network in described] == [inputs, None]
