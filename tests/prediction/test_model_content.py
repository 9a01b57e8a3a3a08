"""What a model folder says of its training: no path of the machine, and the settings of its cases."""

from pathlib import Path

import yaml

from ricenet.cohort.folds import read_folds
from ricenet.prediction.model_content import measure_case, read_preprocessing, training_config


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


def test_measures_are_of_the_channels_that_the_model_sees(phantom_cases: Path) -> None:
    case = read_folds(phantom_cases).cases[0]
    assert set(measure_case(phantom_cases, case, ["rd"])) == {"brain_ml", "dose_max_gy", "dose_mean_gy"}
