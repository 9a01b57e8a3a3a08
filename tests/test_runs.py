"""Run folders: claimed once, finished once, refused when anything that matters changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from ricenet import runs
from ricenet.config import InvalidInput, WrongUsage

CONFIG: dict[str, Any] = {"epochs": 3, "run": ".", "trainer": {"progress": True}, "model": {"width": 4}}
HASHES = {"folds_hash": "f", "case_hash": "c"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = runs.run_folder(tmp_path, "rd_event", 1)
    assert runs.claim(folder, CONFIG, HASHES)
    for name in ("weights.safetensors", "metrics.csv"):
        (folder / name).write_text(name)
    row = {"case_key": "k", "patient_key": "p", "split": "val", "label": 1, "logit_recurrence": 0.1}
    runs.write_predictions(folder, [row | {"logit_rice": 1 / 3, "prob_rice": 0.1 + 0.2}])
    record = {"modalities": {"name": "rd_event", "channels": ["event", "rd"]}, "fold": 1, "cases": "cases"}
    runs.finish(folder, record)
    return folder


def test_finished_run_is_found_and_not_claimed_again(folder: Path) -> None:
    (found,) = runs.finished_runs(folder.parent.parent)
    assert (found.modalities, found.channels, found.fold, found.folder) == ("rd_event", ["event", "rd"], 1, folder)
    assert not runs.claim(folder, CONFIG, HASHES)


def test_unfinished_run_is_claimed_again(folder: Path) -> None:
    (folder / "DONE").unlink()
    assert runs.claim(folder, CONFIG, HASHES)
    with pytest.raises(InvalidInput, match="no finished run"):
        runs.finished_runs(folder.parent.parent)


@pytest.mark.parametrize("changed", [{"epochs": 4}, {"model": {"width": 8}}])
def test_other_settings_are_refused_with_the_difference(folder: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(WrongUsage, match=r"(epochs: 3 before, 4 now|model.width: 4 before, 8 now)"):
        runs.claim(folder, CONFIG | changed, HASHES)


def test_other_folds_or_cases_are_refused(folder: Path) -> None:
    with pytest.raises(WrongUsage, match="folds_hash: f before, g now"):
        runs.claim(folder, CONFIG, HASHES | {"folds_hash": "g"})


def test_what_cannot_change_the_result_may_change(folder: Path) -> None:
    assert not runs.claim(folder, CONFIG | {"run": "elsewhere", "trainer": {"progress": False}}, HASHES)


@pytest.mark.parametrize("name", runs.RESULTS)
def test_a_changed_result_is_refused_by_name(folder: Path, name: str) -> None:
    with (folder / name).open("a") as stream:
        stream.write("x")
    with pytest.raises(InvalidInput, match=f"rd_event fold1: {name}"):
        runs.is_done(folder)


def test_numbers_of_predictions_read_back_exactly(folder: Path) -> None:
    (row,) = runs.read_predictions(folder)
    assert (row["label"], row["logit_rice"], row["prob_rice"]) == (1, 1 / 3, 0.1 + 0.2)


def test_cases_folder_is_relative_to_the_grid(folder: Path) -> None:
    run = folder.parent.parent
    with pytest.raises(InvalidInput, match="moved or removed"):
        runs.cases_folder(run, runs.finished_runs(run))
    (run / "cases").mkdir()
    (run / "cases" / "cases.csv").touch()
    assert runs.cases_folder(run, runs.finished_runs(run)) == run / "cases"


def test_provenance_names_no_host(folder: Path) -> None:
    import getpass
    import socket

    text = json.dumps(runs.provenance())
    assert socket.gethostname() not in text or len(socket.gethostname()) < 4
    assert getpass.getuser() not in text
