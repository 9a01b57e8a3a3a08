"""The table of a grid in text: a line a row, the time that is left."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.fewer_channels import keep_channels
from helpers.make_grid import make_cases, write_cases_folder
from helpers.run_records import write_begun_run
from hydra import compose, initialize_config_dir
from hydra.conf import ConfigSourceInfo
from omegaconf import OmegaConf, open_dict, read_write

from ricenet.command.atomic import hold
from ricenet.command.schemas import CONF_DIR
from ricenet.training.grid_state import Cell
from ricenet.training.grid_summary import as_text, grid_table, offer_possible_sets


def test_rest_at_the_rate_of_the_runs_that_go_on_now(tmp_path: Path) -> None:
    folders = [
        write_begun_run(
            tmp_path, f"rd/fold{fold}", {"epoch": 1, "seconds_per_epoch": 1.0}, status="running", epochs=600
        )
        for fold in (0, 1)
    ]
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(hold(folder))
        assert "the other 3: about 30 min one after the other, 15 min with 2 at a time as now" in grid_table(tmp_path)


def test_a_run_in_its_first_epoch_has_no_time_yet(tmp_path: Path) -> None:
    with hold(write_begun_run(tmp_path, "rd/fold0", status="running")):
        assert "rd fold 0: in its first epoch" in grid_table(tmp_path)
    assert "one after the other" not in grid_table(tmp_path)


def test_each_seed_has_a_line(tmp_path: Path) -> None:
    for seed in (0, 10, 2):
        write_begun_run(tmp_path, f"rd/fold0-seed{seed}", status="failed", message=f"disk {seed}", seed=seed, n_folds=2)
    (tmp_path / "rd" / "fold0-seed2" / "DONE").touch()
    lines = [re.split(" {2,}", line) for line in grid_table(tmp_path).splitlines()]
    assert lines[1:4] == [
        ["rd seed 0", "failed 0%", "waiting"], ["rd seed 2", "done", "waiting"], ["rd seed 10", "failed 0%", "waiting"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (150, "2 min"), (3599, "1 h 0 min"), (4334, "1 h 12 min"), (273600, "3 d 4 h")],
)
def test_time_left_in_words(seconds: float, text: str) -> None:
    assert f", {text} left" in as_text([Cell("rd", 0, "running", 0, 1, seconds)])


def offered(cases: Path, sets: str) -> list[str]:
    """The sweep of a multirun after the callback has seen it."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("train", [f"cases={cases}", "fold=0"], return_hydra_config=True)
        with read_write(cfg), open_dict(cfg):
            cfg.hydra.overrides.task = [f"+modalities={sets}", "fold=range(2)"]
            cfg.hydra.runtime.config_sources = [ConfigSourceInfo(str(CONF_DIR), "file", "main")]
        OmegaConf.set_readonly(cfg.hydra, True)
        offer_possible_sets(cfg)
        return list(cfg.hydra.overrides.task)


@pytest.mark.parametrize(
    ("channels", "asked", "sweep"),
    [
        (("event",), "glob(*)", "event"),
        (("post", "event"), "glob(*)", "event,post,post_event"),
        (("post", "event"), "glob(rd*)", "glob(rd*)"),  # none is left: the jobs say why
        (("post", "event", "rd"), "glob(*)", "glob(*)"),
        (("event",), "rd,event", "rd,event"),  # asked for by name: refused by name
    ],
)
def test_sets_that_the_cases_cannot_train_are_not_offered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], channels: tuple[str, ...], asked: str, sweep: str
) -> None:
    write_cases_folder(tmp_path / "cases", make_cases({"cv": (2, 2)}), 2, channels, None, truth=False)
    assert offered(tmp_path / "cases", asked) == [f"+modalities={sweep}", "fold=range(2)"]
    told = capsys.readouterr().out
    assert ("left out, which these cases cannot train" in told) == (sweep != asked)


def test_sets_of_a_partial_cohort_are_left_out_with_their_cases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cases_folder(tmp_path / "cases", make_cases({"cv": (4, 4)}), 2, truth=False)
    keep_channels(tmp_path / "cases", lambda place, _: ("event", "rd") if place % 4 else ("post", "event", "rd"))
    assert offered(tmp_path / "cases", "glob(*)")[0] == "+modalities=event,rd,rd_event"
    assert "rd_post (2 of 8 cases have its images)" in capsys.readouterr().out


def test_a_folder_without_cases_is_left_to_the_jobs(tmp_path: Path) -> None:
    assert offered(tmp_path, "glob(*)")[0] == "+modalities=glob(*)"
