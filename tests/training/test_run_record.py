"""run.json and progress.json: read as they were written by every version so far, written byte for byte the same."""

import json
from pathlib import Path

import pytest
from helpers.run_records import run_record, write_begun_run

from ricenet.errors import InvalidInput
from ricenet.training.run_record import EpochProgress, Optimisation, RunRecord, channels_of_rows, read_run, walk

NETWORK = """\
{
 "status": "done",
 "modalities": {
  "name": "rd_event",
  "channels": [
   "event",
   "rd"
  ]
 },
 "fold": 3,
 "n_folds": 5,
 "seed": 0,
 "control": null,
 "epochs": 800,
 "checkpoint": "last",
 "model": {
  "name": "resnet18",
  "architecture": "resnet18",
  "width": 64,
  "conv1_size": 7,
  "conv1_stride": 1,
  "max_pool": true,
  "dropout": 0.0,
  "channel_dropout": 0.5,
  "pretrained": null
 },
 "cases": "../../cases",
 "folds_hash": "0f",
 "case_hash": "1e",
 "versions": {
  "ricenet": "0.1.0",
  "commit": null,
  "torch": "2.13.0",
  "threads": 1
 },
 "elapsed_s": 25.0,
 "seconds_per_epoch": 0.031
}
"""
REGRESSION = {
    "status": "failed", "modalities": {"name": "metadata_only", "channels": []}, "fold": 0, "n_folds": 2, "seed": 1,
    "control": "metadata_only", "epochs": 1, "checkpoint": "last", "model": {"name": "logistic_regression"},
    "cases": "../cases", "folds_hash": "f", "case_hash": "c", "covariates_hash": "v", "metadata": ["site"],
    "versions": {"numpy": "2.3.5"}, "message": "no disk",
}  # fmt: skip


@pytest.mark.parametrize("text", [NETWORK, json.dumps(REGRESSION, indent=1) + "\n"])
def test_what_is_read_is_written_byte_for_byte(text: str) -> None:
    record = RunRecord.model_validate_json(text)
    assert record.as_json() == text
    again = record.model_copy(update={"message": "x", "status": "failed"}).as_json()
    assert list(json.loads(again)) == list(dict.fromkeys([*json.loads(text), "message"]))  # each key in its place


def test_a_run_from_before_controls_and_paces_is_read() -> None:
    content = json.loads(NETWORK)
    for key in ("status", "control", "seconds_per_epoch"):
        del content[key]
    record = RunRecord.model_validate(content)
    assert (record.status, record.control, record.seconds_per_epoch) == ("done", None, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (NETWORK[:-9], "run.json cannot be read"),
        (NETWORK.replace('"fold": 3', '"fold": "three"'), "run.json cannot be read: fold"),
        (NETWORK.replace(' "case_hash": "1e",\n', ""), "run.json cannot be read: case_hash"),
        (NETWORK.replace('"done"', '"finished"'), "run.json cannot be read: status"),
    ],
)
def test_a_damaged_record_is_refused_with_what_to_do(tmp_path: Path, text: str, says: str) -> None:
    folder = tmp_path / "rd" / "fold0"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(text)
    with pytest.raises(InvalidInput, match=f"{says}.*; remove rd/fold0 and train it again") as refused:
        read_run(folder)
    assert refused.value.code == "record.damaged"


def test_a_run_is_known_by_the_hashes_of_its_inputs() -> None:
    assert run_record(folds_hash="a", case_hash="b").input_hashes == {"folds_hash": "a", "case_hash": "b"}


def test_progress_stays_one_line() -> None:
    progress = EpochProgress(epoch=3, epochs=800, seconds_per_epoch=1.25)
    assert progress.as_json() == '{"epoch": 3, "epochs": 800, "seconds_per_epoch": 1.25}\n'


def test_run_folders_are_walked_in_the_order_of_row_fold_and_seed(tmp_path: Path) -> None:
    names = ["rd/fold0", "rd/fold0-seed10", "rd/fold0-seed2", "rd/fold2", "rd/fold10", "post/fold1"]
    for name in [*names, "rd/fold0_backup", "evaluation/folds", "explanation/rd/fold0", "rd/notes"]:
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "rd" / "fold3").touch()  # a file
    places = walk(tmp_path)
    assert [f"{place.row}/{place.folder.name}" for place in places] == [
        "post/fold1", "rd/fold0", "rd/fold0-seed2", "rd/fold0-seed10", "rd/fold2", "rd/fold10",
    ]  # fmt: skip
    assert [(place.fold, place.seed) for place in places] == [
        (1, None),
        (0, None),
        (0, 2),
        (0, 10),
        (2, None),
        (10, None),
    ]
    assert walk(tmp_path / "missing") == []


def test_the_channels_of_a_row_stand_in_its_runs(tmp_path: Path) -> None:
    write_begun_run(tmp_path, "mine/fold0", modalities={"name": "mine", "channels": ["post", "t2_flair"]})
    (write_begun_run(tmp_path, "mine/fold1") / "run.json").write_text("{")
    write_begun_run(tmp_path, "rd/fold0")
    assert channels_of_rows(tmp_path) == {"mine": ["post", "t2_flair"], "rd": ["rd"]}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"schedule": "constant", "batch_norm": "running"},
            "constant learning rate; running batch-norm statistics, as in the paper",
        ),
        (
            {"steps": 300, "schedule": "one_cycle", "label_smoothing": 0.1, "mixup": 0.4, "ema_decay": 0.99,
             "batch_norm": "precise"},
            "one-cycle learning rate, label smoothing 0.1, mixup (alpha 0.4); weights averaged (EMA 0.99), batch-norm "
            "statistics re-estimated over the training cases",
        ),
    ],
)  # fmt: skip
def test_how_a_network_was_trained_in_words(settings: dict[str, object], words: str) -> None:
    assert Optimisation.model_validate(settings).in_words() == words
