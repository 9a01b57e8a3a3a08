"""The committed W&B workspace builds without key or network; TensorBoard's files are read back with its own reader."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import commands
from helpers.metrics_tables import METRICS, write_grid, write_metrics
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.util import tensor_util

from ricenet.command.schemas import DashboardConfig, TrainConfig, compose
from ricenet.dashboard import CURVES, REQUIRED, SCORES, TENSORBOARD, build_workspace, write_tensorboard
from ricenet.errors import InvalidInput
from ricenet.training.trackers import tracker

ROWS = ["rd", "rd_event", "rd-shuffled_labels"]


def serialised(row: str | None = None) -> dict:
    return build_workspace("someone", "ricenet", row)._to_model().model_dump(mode="json", by_alias=True)["spec"]


def panels(spec: dict) -> list[dict]:
    return [panel for section in spec["section"]["panelBankConfig"]["sections"] for panel in section["panels"]]


def test_workspace_groups_by_row_and_shows_mean_and_band_of_every_curve() -> None:
    spec = serialised()
    settings = [panel["config"] for panel in panels(spec)]
    curves = [one for one in settings if "xAxis" in one]
    assert [one["metrics"] for one in curves] == [[name] for name in CURVES]
    assert len(settings) == len(CURVES) + len(SCORES)
    assert {(one["groupBy"], one["groupAgg"], one["groupArea"]) for one in settings} == {("group", "mean", "stddev")}
    assert min(one["limit"] for one in settings) >= 14  # seven sets and their controls; the default is ten
    (runs,) = spec["section"]["runSets"]
    assert [(key["section"], key["name"]) for key in runs["grouping"]] == [("run", "group")]


def test_view_of_one_row_shows_its_folds_alone() -> None:
    spec = serialised("rd_event-shuffled_labels")
    (runs,) = spec["section"]["runSets"]
    (kept,) = runs["filters"]["filters"]
    assert (kept["key"], kept["op"], kept["value"]) == (
        {"section": "run", "name": "group"}, "=", "rd_event-shuffled_labels",
    )  # fmt: skip
    assert runs["grouping"] == []
    assert [panel["config"]["metrics"] for panel in panels(spec)] == [[name] for name in CURVES]
    assert not any(panel["config"]["groupBy"] for panel in panels(spec))


@pytest.mark.parametrize(("keys", "row"), [([], "rd_event"), (["control=shuffled_labels"], "rd_event-shuffled_labels")])
def test_group_of_a_wandb_run_is_its_row(tmp_path: Path, keys: list[str], row: str) -> None:
    cfg = compose("train", TrainConfig, [f"cases={tmp_path}", "+modalities=rd_event", "logger=wandb", "name=x", *keys])
    logger = tracker(cfg.logger, tmp_path, cfg, "fold0")
    assert logger._wandb_init["group"] == row


def test_curves_are_logged_by_training() -> None:
    source = (Path(__file__).parent.parent / "ricenet" / "training" / "lightning_module.py").read_text()
    for metric in CURVES:
        assert metric.split("/")[1] in source


def read_events(folder: Path) -> EventAccumulator:
    assert len(list(folder.iterdir())) == 1
    return EventAccumulator(str(folder)).Reload()


def values(events: EventAccumulator, tag: str) -> tuple[list[int], list[float]]:
    found = events.Scalars(tag)
    return [one.step for one in found], [one.value for one in found]


def test_event_files_hold_mean_and_band_of_the_tables(tmp_path: Path) -> None:
    write_grid(tmp_path, ROWS, folds=3, epochs=4)
    target = write_tensorboard(tmp_path)
    assert {folder.name for folder in target.iterdir()} == set(ROWS)
    for row in ROWS:
        events = read_events(target / row)
        tables = pd.concat(pd.read_csv(path) for path in (tmp_path / row).glob("fold*/metrics.csv"))
        by_epoch = tables.groupby("epoch")
        for name in METRICS:
            mean, sd = by_epoch[name].mean(), by_epoch[name].std()
            for tag, expected in {"mean": mean, "mean_minus_sd": mean - sd, "mean_plus_sd": mean + sd}.items():
                steps, found = values(events, f"{name}/{tag}")
                assert steps == [0, 1, 2, 3]
                np.testing.assert_allclose(found, expected, rtol=1e-6)  # float32


def test_layout_draws_a_band_of_tags_that_are_there(tmp_path: Path) -> None:
    write_grid(tmp_path, ROWS, folds=2, epochs=2)
    events = read_events(write_tensorboard(tmp_path) / "rd")
    (event,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(tensor_util.make_ndarray(event.tensor_proto).item())
    (category,) = layout.category
    assert [chart.title for chart in category.chart] == list(CURVES.values())
    for chart, name in zip(category.chart, CURVES, strict=True):
        (series,) = chart.margin.series
        assert (series.value, series.lower, series.upper) == (
            f"{name}/mean", f"{name}/mean_minus_sd", f"{name}/mean_plus_sd",
        )  # fmt: skip
        assert {series.value, series.lower, series.upper} <= set(events.Tags()["scalars"])


def test_a_second_writing_replaces_the_first(tmp_path: Path) -> None:
    write_grid(tmp_path, ROWS, folds=2, epochs=6)
    target = write_tensorboard(tmp_path)
    (before,) = (target / "rd").iterdir()
    shutil.copy(before, tmp_path / before.name)
    for fold in range(2):
        write_metrics(tmp_path, "rd", f"fold{fold}", {"val/loss": [0.25, 0.5, 0.125, 0.75]})
    for path in (tmp_path / "rd_event").glob("fold*/metrics.csv"):
        path.unlink()
    write_tensorboard(tmp_path)
    expected = [0, 1, 2, 3], [0.25, 0.5, 0.125, 0.75]
    assert values(read_events(target / "rd"), "val/loss/mean") == expected
    assert {folder.name for folder in target.iterdir()} == {"rd", "rd-shuffled_labels"}
    (tmp_path / before.name).rename(target / "rd" / before.name)  # a TensorBoard that is open has read this one already
    assert values(EventAccumulator(str(target / "rd")).Reload(), "val/loss/mean") == expected
    assert not list(tmp_path.glob(".*"))  # nothing unfinished stays


def test_one_run_has_a_band_of_no_width_and_gaps_are_left_out(tmp_path: Path) -> None:
    write_metrics(tmp_path, "rd", "fold0", {"val/auroc": [0.5, "nan", 0.75]})
    events = read_events(write_tensorboard(tmp_path) / "rd")
    for part in ("mean", "mean_minus_sd", "mean_plus_sd"):
        assert values(events, f"val/auroc/{part}") == ([0, 2], [0.5, 0.75])


def test_event_files_do_not_name_the_machine(tmp_path: Path) -> None:
    write_grid(tmp_path, ["rd"], folds=1, epochs=1)
    (path,) = (write_tensorboard(tmp_path) / "rd").iterdir()
    assert path.name.removeprefix("events.out.tfevents.").isdigit()
    assert str(tmp_path).encode() not in path.read_bytes()


def test_a_grid_without_an_epoch_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no run in this folder has finished an epoch"):
        write_tensorboard(tmp_path)
    assert not list(tmp_path.iterdir())


def command(*keys: str, **environment: str) -> subprocess.CompletedProcess:
    return commands.run([sys.executable, "-m", "ricenet.dashboard", *keys], env={**os.environ, **environment})


def test_without_a_key_nothing_is_sent_and_the_next_step_is_named(tmp_path: Path) -> None:
    result = command("entity=someone", HOME=str(tmp_path), WANDB_API_KEY="", NETRC=str(tmp_path / "netrc"))
    assert result.returncode == 3
    assert "wandb login" in result.stderr


@pytest.mark.parametrize(
    ("keys", "said"),
    [([], "needs entity="), (["to=tensorboard"], "needs run="), (["to=csv"], "expected one of wandb, tensorboard")],
)
def test_what_is_missing_is_named(keys: list[str], said: str) -> None:
    result = command(*keys)
    assert result.returncode == 2
    assert said in result.stderr


def test_command_writes_where_the_config_says(tmp_path: Path) -> None:
    write_grid(tmp_path, ["rd"], folds=2, epochs=2)
    result = command("to=tensorboard", f"run={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert f"tensorboard --logdir {tmp_path / TENSORBOARD}" in result.stdout
    assert read_events(tmp_path / TENSORBOARD / "rd").Tags()["scalars"]


def test_a_missing_tensorboard_prints_the_pip_line(tmp_path: Path) -> None:
    write_grid(tmp_path, ["rd"], folds=1, epochs=1)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "tensorboard.py").write_text("raise ModuleNotFoundError('No module named tensorboard', name=__name__)\n")
    line = [sys.executable, "-m", "ricenet.dashboard", "to=tensorboard", f"run={tmp_path}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(hidden), str(Path.cwd())])}
    result = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 3, result.stderr
    assert "pip install tensorboard" in result.stderr
    assert not (tmp_path / TENSORBOARD).exists()


def test_what_a_target_requires_are_keys_of_the_config() -> None:
    known = vars(compose("dashboard", DashboardConfig, []))
    assert {key for keys in REQUIRED.values() for key in keys} <= known.keys()
