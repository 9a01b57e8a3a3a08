"""Run folders: claimed once, finished once, refused when anything that matters changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from ricenet import runs
from ricenet.config import Incomplete, InvalidInput, WrongUsage
from ricenet.predictions import BY_SET, write_predictions, write_predictions_by_set

CONFIG: dict[str, Any] = {"epochs": 3, "run": ".", "trainer": {"progress": True}, "model": {"width": 4}}
HASHES = {"folds_hash": "f", "case_hash": "c"}
ROW = {
    "case_key": "k", "patient_key": "p", "split": "val", "label": 1,
    "logit_recurrence": 0.1, "logit_rice": 1 / 3, "prob_rice": 0.1 + 0.2,
}  # fmt: skip
IDENTITY = runs.identity(CONFIG, HASHES)
RECORD = {"modalities": {"name": "rd_event", "channels": ["event", "rd"]}, "fold": 1, "cases": "cases"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run."""
    folder = runs.run_folder(tmp_path, "rd_event", 1)
    assert not runs.is_finished(folder, IDENTITY)
    with runs.claimed(folder):
        runs.begin(folder, CONFIG, IDENTITY, RECORD)
        for name in ("weights.safetensors", "metrics.csv"):
            (folder / name).write_text(name)
        write_predictions(folder, [ROW])
        runs.finish(folder, RECORD)
    return folder


def status(folder: Path) -> tuple[str, str | None]:
    record = json.loads((folder / "run.json").read_text())
    return record["status"], record.get("message")


def test_finished_run_is_found(folder: Path) -> None:
    (found,) = runs.finished_runs(folder.parent.parent)
    assert (found.modalities, found.channels, found.fold, found.folder) == ("rd_event", ["event", "rd"], 1, folder)
    assert runs.is_finished(folder, IDENTITY)
    assert status(folder) == ("done", None)


def test_unfinished_run_is_to_be_trained(folder: Path) -> None:
    (folder / "DONE").unlink()
    assert not runs.is_finished(folder, IDENTITY)
    with pytest.raises(InvalidInput, match="no finished run"):
        runs.finished_runs(folder.parent.parent)


@pytest.mark.parametrize("changed", [{"epochs": 4}, {"model": {"width": 8}}])
def test_other_settings_are_refused_with_the_difference(folder: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(WrongUsage, match=r"(epochs: 3 before, 4 now|model.width: 4 before, 8 now)"):
        runs.is_finished(folder, runs.identity(CONFIG | changed, HASHES))


def test_other_folds_or_cases_are_refused(folder: Path) -> None:
    with pytest.raises(WrongUsage, match="folds_hash: f before, g now"):
        runs.is_finished(folder, runs.identity(CONFIG, HASHES | {"folds_hash": "g"}))


def test_what_cannot_change_the_result_may_change(folder: Path) -> None:
    watched_otherwise = CONFIG | {"run": "elsewhere", "trainer": {"progress": False}}
    assert runs.is_finished(folder, runs.identity(watched_otherwise, HASHES))


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (SystemExit(143), ("interrupted", "")),
        (KeyboardInterrupt(), ("interrupted", "")),
        (InvalidInput("the loss is nan on the cases aa"), ("failed", "the loss is nan on the cases aa")),
        (ValueError("line one\nline two"), ("failed", "line one")),
    ],
)
def test_run_json_tells_how_a_run_ended(tmp_path: Path, error: BaseException, left: tuple[str, str]) -> None:
    folder = tmp_path / "rd" / "fold0"

    def run() -> None:
        with runs.claimed(folder):
            runs.begin(folder, CONFIG, IDENTITY, RECORD)
            assert status(folder) == ("running", None)
            raise error

    with pytest.raises(type(error)):
        run()
    assert status(folder) == left


def test_a_folder_has_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "PATIENCE_S", 0.3)
    folder = tmp_path / "rd" / "fold0"
    with (
        runs.claimed(folder),
        pytest.raises(InvalidInput, match="another run is writing to rd fold0"),
        runs.claimed(folder),
    ):
        pass
    with runs.claimed(folder):
        pass


def test_a_folder_that_cannot_be_written_is_incomplete(tmp_path: Path) -> None:
    (tmp_path / "rd").write_text("a file where the folder should be")
    with (
        pytest.raises(Incomplete, match=r"rd fold0: the run folder cannot be written .* what was there is kept"),
        runs.claimed(tmp_path / "rd" / "fold0"),
    ):
        pass


def test_answers_by_set_are_results_too(folder: Path) -> None:
    write_predictions_by_set(folder, [{"modalities": "rd", **ROW}])
    runs.finish(folder, RECORD)
    (folder / BY_SET).write_text("changed")
    with pytest.raises(InvalidInput, match=BY_SET):
        runs.is_done(folder)


@pytest.mark.parametrize("name", runs.RESULTS)
def test_a_changed_result_is_refused_by_name(folder: Path, name: str) -> None:
    with (folder / name).open("a") as stream:
        stream.write("x")
    with pytest.raises(InvalidInput, match=f"rd_event fold1: {name}"):
        runs.is_done(folder)


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
