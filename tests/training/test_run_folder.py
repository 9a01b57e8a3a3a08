"""Run folders: claimed once, finished once, refused when anything that matters changed."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from helpers.make_grid import make_cases, write_cases_folder, write_run
from helpers.run_records import run_record

from ricenet.command.schemas import TrainConfig, compose
from ricenet.errors import Incomplete, InvalidInput, WrongUsage
from ricenet.training import run_folder
from ricenet.training.predictions import BY_SET, write_predictions, write_predictions_by_set
from ricenet.training.run_record import parse_fold

CONFIG: dict[str, Any] = {"epochs": 3, "run": ".", "trainer": {"progress": True}, "model": {"width": 4}}
HASHES = {"folds_hash": "f", "case_hash": "c"}
ROW = {
    "case_key": "k", "patient_key": "p", "split": "val", "label": 1,
    "logit_recurrence": 0.1, "logit_rice": 1 / 3, "prob_rice": 0.1 + 0.2,
}  # fmt: skip
IDENTITY = run_folder.identity(CONFIG, HASHES)
RECORD = run_record(fold=1, cases="cases")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run."""
    folder = run_folder.run_folder(tmp_path, "rd_event", 1)
    assert not run_folder.is_finished(folder, IDENTITY)
    with run_folder.claimed(folder):
        run_folder.begin(folder, CONFIG, IDENTITY, RECORD)
        for name in ("weights.safetensors", "metrics.csv"):
            (folder / name).write_text(name)
        write_predictions(folder, [ROW])
        run_folder.finish(folder, RECORD)
    return folder


def status(folder: Path) -> tuple[str, str | None]:
    record = json.loads((folder / "run.json").read_text())
    return record["status"], record.get("message")


def test_finished_run_is_found(folder: Path) -> None:
    (found,) = run_folder.finished_runs(folder.parent.parent)
    assert (found.modalities, found.channels, found.fold, found.folder) == ("rd_event", ["event", "rd"], 1, folder)
    assert (found.seed, found.control) == (0, None)
    assert run_folder.is_finished(folder, IDENTITY)
    assert status(folder) == ("done", None)


def test_unfinished_run_is_to_be_trained(folder: Path) -> None:
    (folder / "DONE").unlink()
    assert not run_folder.is_finished(folder, IDENTITY)
    with pytest.raises(InvalidInput, match="no finished run"):
        run_folder.finished_runs(folder.parent.parent)


@pytest.mark.parametrize("changed", [{"epochs": 4}, {"model": {"width": 8}}])
def test_other_settings_are_refused_with_the_difference(folder: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(WrongUsage, match=r"(epochs: 3 before, 4 now|model.width: 4 before, 8 now)"):
        run_folder.is_finished(folder, run_folder.identity(CONFIG | changed, HASHES))


def test_other_folds_or_cases_are_refused(folder: Path) -> None:
    with pytest.raises(WrongUsage, match="folds_hash: f before, g now"):
        run_folder.is_finished(folder, run_folder.identity(CONFIG, HASHES | {"folds_hash": "g"}))


def test_what_cannot_change_the_result_may_change(folder: Path) -> None:
    watched_otherwise = CONFIG | {"run": "elsewhere", "trainer": {"progress": False}}
    assert run_folder.is_finished(folder, run_folder.identity(watched_otherwise, HASHES))


def test_a_key_that_came_later_does_not_change_what_was_begun_before(folder: Path) -> None:
    keys_of_now = asdict(compose("train", TrainConfig, ["cases=x", "experiment=paper"]))
    assert not [key for key in run_folder.identity(keys_of_now, HASHES) if key in run_folder.ADDED_LATER]
    now = run_folder.identity(CONFIG | {"control": None, "several_seeds": False}, HASHES)
    assert run_folder.is_finished(folder, now)
    assert run_folder.owner(now) == run_folder.owner(IDENTITY)  # its checkpoints are still its own
    with pytest.raises(WrongUsage, match="control: None before, shuffled_labels now"):
        run_folder.is_finished(folder, run_folder.identity(CONFIG | {"control": "shuffled_labels"}, HASHES))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("fold0", (0, None)), ("fold12", (12, None)), ("fold0-seed1", (0, 1)), ("fold3-seed20", (3, 20)),
        ("fold", None), ("folds", None), ("fold0_backup", None), ("fold0-seed", None), ("fold0-seed-1", None),
        ("fold-1", None), ("a-fold0", None), ("fold0 ", None),
    ],
)  # fmt: skip
def test_the_name_of_a_run_folder_says_fold_and_seed(name: str, found: tuple[int, int | None] | None) -> None:
    assert parse_fold(name) == found
    if found:
        assert run_folder.run_folder(Path("run"), "rd", *found) == Path("run/rd") / name


def test_only_another_seed_can_stand_beside(tmp_path: Path) -> None:
    folder = tmp_path / "rd" / "fold0"
    first = run_folder.identity(CONFIG | {"seed": 0}, HASHES)
    with run_folder.claimed(folder):
        run_folder.begin(folder, CONFIG, first, RECORD)
    with pytest.raises(WrongUsage, match=r"seed: 0 before, 1 now\nadd several_seeds=true"):
        run_folder.is_finished(folder, run_folder.identity(CONFIG | {"seed": 1}, HASHES))
    with pytest.raises(WrongUsage) as other:
        run_folder.is_finished(folder, run_folder.identity(CONFIG | {"seed": 1, "epochs": 4}, HASHES))
    assert "several_seeds" not in str(other.value)


def test_a_seed_that_was_begun_stays_in_its_folder(tmp_path: Path) -> None:
    def begin(folder: Path, seed: int) -> None:
        folder.mkdir(parents=True)
        run_folder.begin(folder, CONFIG, run_folder.identity(CONFIG | {"seed": seed}, HASHES), RECORD)

    def place(seed: int, several_seeds: bool) -> str:
        return run_folder.place(tmp_path, "rd", 0, seed, several_seeds).name

    assert (place(0, False), place(0, True), place(1, True)) == ("fold0", "fold0-seed0", "fold0-seed1")
    begin(tmp_path / "rd" / "fold0", 0)
    assert (place(0, False), place(0, True), place(1, True)) == ("fold0", "fold0", "fold0-seed1")
    begin(tmp_path / "rd" / "fold0-seed1", 1)
    assert (place(1, False), place(1, True)) == ("fold0-seed1", "fold0-seed1")
    assert place(2, False) == "fold0"  # which is refused, and with a hint


def test_of_several_seeds_the_lowest_stands_for_a_fold_and_a_control_for_none(tmp_path: Path) -> None:
    run, cases = tmp_path / "run", tmp_path / "cases"
    folds = write_cases_folder(cases, make_cases({"cv": (2, 2), "test": (1, 1)}), 2, truth=False)
    for seed in (10, 2, 3):
        write_run(run, cases, folds, "rd", 0, lambda case: 0.5, seed=seed, beside=True)
    write_run(run, cases, folds, "rd", 1, lambda case: 0.5, seed=0)
    control = {"modalities": {"name": "rd-shuffled_labels", "channels": ["rd"]}, "control": "shuffled_labels"}
    write_run(run, cases, folds, "rd-shuffled_labels", 0, lambda case: 0.5, **control)
    found = run_folder.finished_runs(run)
    assert [(one.modalities, one.fold, one.seed, one.control) for one in found] == [
        ("rd", 0, 2, None), ("rd", 0, 3, None), ("rd", 0, 10, None), ("rd", 1, 0, None),
        ("rd-shuffled_labels", 0, 0, "shuffled_labels"),
    ]  # fmt: skip
    chosen = run_folder.finished_folds(found, "rd", cases, folds)
    assert {fold: one.folder.name for fold, one in chosen.items()} == {0: "fold0-seed2", 1: "fold1"}


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (SystemExit(143), ("interrupted", "")),
        (KeyboardInterrupt(), ("interrupted", "")),
        (
            InvalidInput("the loss is nan on the cases aa", code="loss.not_finite"),
            ("failed", "the loss is nan on the cases aa"),
        ),
        (ValueError("line one\nline two"), ("failed", "line one")),
    ],
)
def test_run_json_tells_how_a_run_ended(tmp_path: Path, error: BaseException, left: tuple[str, str]) -> None:
    folder = tmp_path / "rd" / "fold0"

    def run() -> None:
        with run_folder.claimed(folder):
            run_folder.begin(folder, CONFIG, IDENTITY, RECORD)
            assert status(folder) == ("running", None)
            raise error

    with pytest.raises(type(error)):
        run()
    assert status(folder) == left


def test_a_folder_has_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "PATIENCE_S", 0.3)
    folder = tmp_path / "rd" / "fold0"
    with (
        run_folder.claimed(folder),
        pytest.raises(InvalidInput, match="another run is writing to rd fold0"),
        run_folder.claimed(folder),
    ):
        pass
    with run_folder.claimed(folder):
        pass


def test_a_folder_that_cannot_be_written_is_incomplete(tmp_path: Path) -> None:
    (tmp_path / "rd").write_text("a file where the folder should be")
    with (
        pytest.raises(Incomplete, match=r"rd fold0: the run folder cannot be written .* what was there is kept"),
        run_folder.claimed(tmp_path / "rd" / "fold0"),
    ):
        pass


def test_answers_by_set_are_results_too(folder: Path) -> None:
    write_predictions_by_set(folder, [{"modalities": "rd", **ROW}])
    run_folder.finish(folder, RECORD)
    (folder / BY_SET).write_text("changed")
    with pytest.raises(InvalidInput, match=BY_SET):
        run_folder.is_done(folder)


@pytest.mark.parametrize("name", run_folder.RESULTS)
def test_a_changed_result_is_refused_by_name(folder: Path, name: str) -> None:
    with (folder / name).open("a") as stream:
        stream.write("x")
    with pytest.raises(InvalidInput, match=f"rd_event fold1: {name}"):
        run_folder.is_done(folder)


def test_cases_folder_is_relative_to_the_grid(folder: Path) -> None:
    run = folder.parent.parent
    with pytest.raises(InvalidInput, match="moved or removed"):
        run_folder.cases_folder(run, run_folder.finished_runs(run))
    (run / "cases").mkdir()
    (run / "cases" / "cases.csv").touch()
    assert run_folder.cases_folder(run, run_folder.finished_runs(run)) == run / "cases"
