"""Training by command and by function: reproducible, resumable, private, and strict about what it is asked."""

import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import lightning
import pytest
import torch
import yaml
from helpers import commands
from helpers.fewer_channels import keep_channels
from helpers.small_networks import medicalnet
from helpers.train_command import QUICK, command, config

from ricenet.cases.case_reader import load_case
from ricenet.cases.case_record import CASE_FILE, CaseRecord
from ricenet.cohort.folds import read_folds
from ricenet.command.atomic import file_hash
from ricenet.command.schemas import TrainConfig
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.networks.input_settings import InputSettings
from ricenet.networks.late_fusion import LateFusion
from ricenet.train import train
from ricenet.training.checkpoint import Progress, read_checkpoint, resumable
from ricenet.training.datamodule import steps_per_epoch
from ricenet.training.fused_numbers import read_fused_numbers
from ricenet.training.predictions import read_predictions, read_predictions_by_set
from ricenet.training.run_folder import finished_runs, owner
from ricenet.training.run_record import Optimisation, read_run
from ricenet.training.trained_network import load_network


def results(run: Path, name: str = "rd_post_event/fold0") -> dict[str, str]:
    return {file: file_hash(run / name / file) for file in ("weights.safetensors", "predictions.csv", "metrics.csv")}


@pytest.fixture(scope="module")
def finished(phantom_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid's folder with one finished run."""
    run = tmp_path_factory.mktemp("grid")
    train(config(phantom_cases, run))
    return run


def test_run_folder_holds_what_design_promises(finished: Path) -> None:
    folder = finished / "rd_post_event" / "fold0"
    wanted = {"config.yaml", "run.json", "weights.safetensors", "metrics.csv", "predictions.csv", "DONE"}
    assert wanted <= {path.name for path in folder.iterdir()}
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], record["fold"], record["epochs"]) == ("done", 0, 2)
    assert (record["seed"], record["control"]) == (0, None)
    with (folder / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert sorted({row["split"] for row in rows}) == ["test", "val"]
    assert all(0 < float(row["prob_rice"]) < 1 for row in rows)


@pytest.mark.parametrize(
    "changed",
    [[], ["data.workers=2", "data.cache=ram"], ["checkpoint_every=1"], ["logger=tensorboard"], ["data.cache=none"]],
)
def test_same_seed_gives_the_same_bits(finished: Path, phantom_cases: Path, tmp_path: Path, changed: list[str]) -> None:
    """Again, with two loader workers, with other checkpoints, with a tracker, and read from the files each time."""
    train(config(phantom_cases, tmp_path, *changed))
    assert results(tmp_path) == results(finished)


@pytest.mark.parametrize(
    "changed",
    [["seed=1"], ["fold=1"], ["epochs=3"], ["optimizer.learning_rate=0.01"], ["optimizer.weight_decay=0.5"],
     ["optimizer.schedule=one_cycle"], ["optimizer.schedule=cosine"], ["optimizer.label_smoothing=0.1"],
     ["batch_norm=running"], ["averaging=ema"], ["mixup=0.4"], ["steps=7"],
     ["augmentation=none"], ["data.batch_size=8"], ["model.dropout=0.5"],
     ["trainer.limit_batches=1"], ["step.accumulate=2"], ["crop=lesion"], ["crop=random"],
     ["augmentation=torchio", "data.augment_on=worker", "data.cache=ram"], ["model.channel_dropout=0.5"]],
)  # fmt: skip
def test_each_setting_changes_the_weights(
    finished: Path, phantom_cases: Path, tmp_path: Path, changed: list[str]
) -> None:
    train(config(phantom_cases, tmp_path, *changed))
    weights = next(tmp_path.glob("*/*/weights.safetensors"))
    assert file_hash(weights) != results(finished)["weights.safetensors"]


def test_bfloat16_changes_the_weights_and_little_of_the_answers(phantom_cases: Path, tmp_path: Path) -> None:
    # With stride 2 the last stage would be a single voxel, where oneDNN's bfloat16 gradients are garbage (torch 2.13);
    # and precise statistics of so few voxels would magnify any rounding.
    for precision in ("32-true", "bf16-mixed"):
        overrides = ["model.conv1_stride=1", "batch_norm=running", f"trainer.precision={precision}"]
        train(config(phantom_cases, tmp_path / precision, *overrides))
    whole, half = (results(tmp_path / precision) for precision in ("32-true", "bf16-mixed"))
    assert whole["weights.safetensors"] != half["weights.safetensors"]
    folders = [tmp_path / precision / "rd_post_event" / "fold0" for precision in ("32-true", "bf16-mixed")]
    pairs = zip(*map(read_predictions, folders), strict=True)
    assert max(abs(one["prob_rice"] - other["prob_rice"]) for one, other in pairs) < 0.1


RECIPE = ["crop=lesion", "inputs=ricenet", "model.pool=multi", "averaging=ema", "mixup=0.4", "augmentation.flip=true"]
START = ["model=medicalnet", "model.pretrained=/nowhere.pth"]
HARD_TO_RESUME = [
    "checkpoint_every=1",
    "model.dropout=0.3",
    "model.channel_dropout=0.3",
    "optimizer.schedule=one_cycle",
    "optimizer.label_smoothing=0.1",
    "averaging=ema",
    "ema_decay=0.9",
    "mixup=0.4",
]


def test_steps_are_trained_in_whole_epochs_whatever_epochs_says(
    phantom_cases: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The epochs that follow from them stand wherever a run says how far it is."""
    train(config(phantom_cases, tmp_path, "steps=6", "epochs=1"))
    folder = tmp_path / "rd_post_event" / "fold0"
    record = read_run(folder)
    n_cases = len(read_folds(phantom_cases).training(0))
    in_epoch = steps_per_epoch(n_cases, 4)
    assert (record.epochs - 1) * in_epoch < 6 <= record.epochs * in_epoch
    assert record.epochs > 1
    with (folder / "metrics.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == record.epochs
    assert record.optimisation == Optimisation(
        steps=6, schedule="constant", label_smoothing=0, mixup=0, ema_decay=None, batch_norm="precise"
    )
    config_yaml = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config_yaml["steps"], config_yaml["epochs"]) == (6, record.epochs)
    caplog.set_level("INFO")
    train(config(phantom_cases, tmp_path, "steps=6", "epochs=800"))
    assert "is finished already" in caplog.text


def test_rare_validations_leave_the_weights_and_look_at_the_last_epoch(phantom_cases: Path, tmp_path: Path) -> None:
    train(config(phantom_cases, tmp_path / "each", "epochs=5"))
    train(config(phantom_cases, tmp_path / "rare", "epochs=5", "validate_every=3"))
    each, rare = (
        list(csv.DictReader((tmp_path / name / "rd_post_event" / "fold0" / "metrics.csv").read_text().splitlines()))
        for name in ("each", "rare")
    )
    validation = ("val/auroc", "val/loss", "val/macro_f1")
    unseen = dict.fromkeys(validation, "")
    assert rare == [row if row["epoch"] in ("2", "4") else row | unseen for row in each]
    for name in ("weights.safetensors", "predictions.csv"):
        assert results(tmp_path / "rare")[name] == results(tmp_path / "each")[name]


@pytest.fixture(
    scope="module",
    params=[["averaging=ema"], ["averaging=ema", "batch_norm=running", "checkpoint=best"], ["checkpoint=best"],
            [*HARD_TO_RESUME, "step.accumulate=2", "checkpoint=best"], [*HARD_TO_RESUME, "steps=20"],
            [*RECIPE, "validate_every=3"],
            ["averaging=ema", "mixup=0.4", "model.channel_dropout=0.3", "model.numbers=[lesion_dose,days_since_rt]"]],
    ids=["average", "best of averages", "best", "best of all together", "all together in steps", "our recipe",
         "numbers"],
)  # fmt: skip
def undisturbed(
    phantom_cases: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[list[str], Path]:
    """Settings, and the folder of a run with them that nothing stopped: one for all moments."""
    settings = ["checkpoint_every=1", "epochs=4", "optimizer.learning_rate=0.01", *request.param]
    run = tmp_path_factory.mktemp("whole")
    train(config(phantom_cases, run, *settings))
    return settings, run


@pytest.mark.parametrize("moment", ["in an epoch", "before the weights are written"])
def test_a_run_that_was_stopped_ends_with_the_bits_of_one_that_was_not(
    undisturbed: tuple[list[str], Path],
    phantom_cases: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    """With the run folder given as a relative path, as by default."""
    monkeypatch.chdir(tmp_path)
    settings, whole = undisturbed
    stopped = config(phantom_cases, Path("stopped"), *settings)
    with monkeypatch.context() as patch:
        if moment == "in an epoch":
            patch.setattr(Progress, "on_train_epoch_end", exit_in_epoch(2))
        else:
            patch.setattr("ricenet.training.fit.save", lambda _: sys.exit(143))
        with pytest.raises(SystemExit):
            train(stopped)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The dirpath has changed")
        train(stopped)
    (done,) = whole.glob("*/fold0/DONE")
    row = str(done.parent.relative_to(whole))
    assert results(Path("stopped"), row) == results(whole, row)


def exit_in_epoch(epoch: int) -> Callable[..., None]:
    """A callback's method that ends the process there."""

    def method(_: object, trainer: lightning.Trainer, __: object) -> None:
        if trainer.current_epoch == epoch:
            sys.exit(143)

    return method


def killed_while_writing(cfg: TrainConfig, folder: Path, delay_s: float) -> bool:
    """Train in a process, SIGKILL it a moment after it began to write a checkpoint; False where it was done before."""
    return killed_once_there_is(cfg, folder, ".ricenet-*-last.ckpt", delay_s)


def killed_once_there_is(cfg: TrainConfig, folder: Path, pattern: str, delay_s: float) -> bool:
    """Train in a process, SIGKILL it a moment after such a file came; False where it was done before."""
    process = multiprocessing.get_context("fork").Process(target=train, args=(cfg,))
    process.start()
    while process.is_alive() and not list(folder.glob(pattern)):
        time.sleep(0.0005)
    time.sleep(delay_s)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.extended
@pytest.mark.parametrize("workers", [0, 2])
def test_kills_while_checkpoints_are_written_lose_nothing(
    phantom_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """SIGKILL at twenty random moments, $TMPDIR on another file system: in the end the bits of an undisturbed run."""
    monkeypatch.setenv("TMPDIR", "/dev/shm")
    monkeypatch.setattr(tempfile, "tempdir", None)
    kills = 20 if workers == 0 else 4
    overrides = [*HARD_TO_RESUME, f"epochs={kills + 10}"]
    whole, broken = (
        tmp_path / "whole",
        config(phantom_cases, tmp_path / "broken", *overrides, f"data.workers={workers}"),
    )
    train(config(phantom_cases, whole, *overrides))
    row = "modality_dropout/fold0"
    folder, moments = tmp_path / "broken" / row, random.Random(0)
    for _ in range(kills):
        assert killed_while_writing(broken, folder, moments.uniform(0, 0.03))
        assert not (folder / "DONE").exists()
        last = resumable(folder, owner(json.loads((folder / "identity.json").read_text())))
        assert last is None or read_checkpoint(last)["epoch"] >= 0
    train(broken)
    assert results(tmp_path / "broken", row) == results(whole, row)
    assert not [path for path in folder.iterdir() if path.name.startswith(".last")]


@pytest.mark.extended
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    phantom_cases: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = [*HARD_TO_RESUME, "epochs=5"]
    train(config(phantom_cases, tmp_path / "whole", *overrides))
    cfg, row = config(phantom_cases, tmp_path / "broken", *overrides), "modality_dropout/fold0"
    assert killed_once_there_is(cfg, tmp_path / "broken" / row, "previous.ckpt", 0)
    last = tmp_path / "broken" / row / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    train(cfg)
    assert "last.ckpt is damaged" in caplog.text
    assert results(tmp_path / "broken", row) == results(tmp_path / "whole", row)


@pytest.mark.extended
def test_a_checkpoint_with_a_pickle_payload_is_refused_and_kept(phantom_cases: Path, tmp_path: Path) -> None:
    cfg = config(phantom_cases, tmp_path, "checkpoint_every=1", "epochs=9")
    folder = tmp_path / "rd_post_event" / "fold0"
    assert killed_while_writing(cfg, folder, 0.05)
    torch.save({"state_dict": Path("a class that torch does not know")}, folder / "last.ckpt")
    result = command(phantom_cases, tmp_path, "checkpoint_every=1", "epochs=9")
    assert result.returncode == 3
    assert "rd_post_event fold0: last.ckpt holds more than tensors and plain values" in result.stderr
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 4 MB, less than a checkpoint, or of the size asked for."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = getattr(request, "param", "4m")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_stops_the_run_at_its_first_checkpoint(phantom_cases: Path, small_disk: Path) -> None:
    result = command(phantom_cases, small_disk / "run", "checkpoint_every=1", "epochs=3")
    assert result.returncode == 4, result.stderr
    assert "rd_post_event fold0: last.ckpt cannot be written (No space left on device)" in result.stderr
    folder = small_disk / "run" / "rd_post_event" / "fold0"
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"
    assert len((folder / "metrics.csv").read_text().splitlines()) == 2
    assert not list(folder.glob(".last*"))


@pytest.mark.extended
@pytest.mark.parametrize("small_disk", ["40m"], indirect=True)
def test_a_disk_that_fills_up_stops_the_run_which_goes_on_when_there_is_room(
    phantom_cases: Path, small_disk: Path
) -> None:
    overrides = ["checkpoint_every=1", "epochs=400"]
    keys = [f"cases={phantom_cases}", f"run={small_disk}/run", *QUICK, *overrides]
    process = commands.start([sys.executable, "-m", "ricenet.train", *keys])
    folder = small_disk / "run" / "rd_post_event" / "fold0"
    while not (folder / "previous.ckpt").is_file():
        time.sleep(0.05)
    with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while process.poll() is None:
            filler.write(bytes(4096))
    said = process.streams(timeout=60)[1].decode()
    assert (process.wait(), "No space left on device" in said) == (4, True), said
    assert resumable(folder, owner(json.loads((folder / "identity.json").read_text()))) is not None
    (small_disk / "filler").unlink()
    assert killed_while_writing(config(phantom_cases, small_disk / "run", *overrides), folder, 0)


def test_a_read_only_folder_stops_the_run_and_stays_as_it_was(phantom_cases: Path, small_disk: Path) -> None:
    command(phantom_cases, small_disk / "run", "checkpoint_every=1", "epochs=3")
    before = {path: path.read_bytes() for path in (small_disk / "run").rglob("*") if path.is_file()}
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    result = command(phantom_cases, small_disk / "run", "checkpoint_every=1", "epochs=3")
    assert result.returncode == 4, result.stderr
    assert "the run folder cannot be written (Read-only file system); what was there is kept" in result.stderr
    assert before == {path: path.read_bytes() for path in (small_disk / "run").rglob("*") if path.is_file()}


@pytest.mark.extended
def test_a_resume_with_another_learning_rate_is_refused_with_the_difference(
    phantom_cases: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "rd_post_event" / "fold0"
    assert killed_while_writing(config(phantom_cases, tmp_path, "checkpoint_every=1", "epochs=9"), folder, 0.02)
    result = command(phantom_cases, tmp_path, "checkpoint_every=1", "epochs=9", "optimizer.learning_rate=0.5")
    assert result.returncode == 2
    assert "rd_post_event fold0 was started with other settings" in result.stderr
    assert "optimizer.learning_rate: 0.0001 before, 0.5 now" in result.stderr


def test_an_edited_folds_json_is_refused(phantom_cases: Path, tmp_path: Path) -> None:
    cases = shutil.copytree(phantom_cases, tmp_path / "cases")
    content = json.loads((cases / "folds.json").read_text())
    key = next(iter(content["fold_of"]))
    content["fold_of"][key] = 1 - content["fold_of"][key]
    (cases / "folds.json").write_text(json.dumps(content))
    result = command(cases, tmp_path / "run")
    assert (result.returncode, "folds.json does not fit cases.csv" in result.stderr) == (3, True)


def test_one_model_for_all_sets_answers_for_each(phantom_cases: Path, tmp_path: Path) -> None:
    train(config(phantom_cases, tmp_path, "model.channel_dropout=0.5"))
    folder = tmp_path / "modality_dropout" / "fold0"
    record = json.loads((folder / "run.json").read_text())
    assert record["modalities"] == {"name": "modality_dropout", "channels": ["post", "event", "rd"]}
    rows = read_predictions_by_set(folder)
    by_set = {name: [row for row in rows if row["modalities"] == name] for name in {row["modalities"] for row in rows}}
    assert set(by_set) == {"rd", "post", "event", "rd_post", "rd_event", "post_event", "rd_post_event"}
    whole = [{name: row[name] for name in row if name != "modalities"} for row in by_set["rd_post_event"]]
    assert whole == read_predictions(folder)
    assert len({tuple(row["logit_rice"] for row in answers) for answers in by_set.values()}) == 7


def test_best_checkpoint_is_the_best_epochs_weights(phantom_cases: Path, tmp_path: Path) -> None:
    settings = ["checkpoint=best", "epochs=4", "optimizer.learning_rate=0.02", "checkpoint_every=1"]
    train(config(phantom_cases, tmp_path, *settings))
    folder = tmp_path / "rd_post_event" / "fold0"
    with (folder / "metrics.csv").open() as stream:
        scores = [float(row["val/macro_f1"]) for row in csv.DictReader(stream)]
    with (folder / "predictions.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "val"]
    from sklearn.metrics import f1_score

    labels, answers = [int(row["label"]) for row in rows], [float(row["prob_rice"]) > 0.5 for row in rows]
    assert f1_score(labels, answers, average="macro", labels=[0, 1], zero_division=0) == pytest.approx(
        max(scores), abs=1e-5
    )
    for name in ("last.ckpt", "previous.ckpt"):  # what a resume knows
        checkpoint = read_checkpoint(folder / name)
        (best,) = (state for key, state in checkpoint["callbacks"].items() if "val/macro_f1" in key)
        assert best["best_model_score"].item() == pytest.approx(max(scores[: checkpoint["epoch"] + 1]), abs=1e-5)


@pytest.mark.extended
def test_terminated_run_says_so_and_can_go_on(phantom_cases: Path, tmp_path: Path) -> None:
    arguments = ["epochs=500", "checkpoint_every=1"]
    line = [sys.executable, "-m", "ricenet.train", f"cases={phantom_cases}", f"run={tmp_path}", *QUICK, *arguments]
    process = commands.start(line)
    checkpoint = tmp_path / "rd_post_event" / "fold0" / "last.ckpt"
    while not checkpoint.is_file():
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60) == 143
    assert json.loads((checkpoint.parent / "run.json").read_text())["status"] == "interrupted"
    assert json.loads((checkpoint.parent / "progress.json").read_text())["epochs"] == 500
    assert not (checkpoint.parent / "DONE").exists()


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (("post", "event"), "has no channel rd, only post, event"),
        (None, r"rd_event fold 0: expected both classes among the training cases .* got \d+ recurrence, 0 rice"),
    ],
)
def test_a_set_that_the_cases_cannot_train_leaves_no_folder(
    phantom_cases: Path, tmp_path: Path, kept: tuple[str, ...] | None, message: str
) -> None:
    """In a cohort without a dose; and in one where the recurrences alone have it."""
    cases = shutil.copytree(phantom_cases, tmp_path / "cases")
    keep_channels(cases, lambda _, case: kept or (("event",) if case.label else ("event", "rd")))
    with pytest.raises(InvalidInput, match=message):
        train(config(cases, tmp_path / "run", "+modalities=rd_event"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_grid_skips_what_is_finished_and_lists_what_failed(phantom_cases: Path, tmp_path: Path) -> None:
    grid = ["-m", "+modalities=rd,event", "fold=0,1,7"]
    first = command(phantom_cases, tmp_path, *grid)
    assert first.returncode == 4, first.stderr
    assert "2 job(s) of the grid failed" in first.stderr
    assert len(list(tmp_path.glob("*/fold*/DONE"))) == 4
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/fold*/weights.safetensors")}
    second = command(phantom_cases, tmp_path, "-m", "+modalities=rd,event", "fold=0,1")
    assert second.returncode == 0, second.stderr
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/fold*/weights.safetensors")}


def test_seeds_of_a_fold_lie_side_by_side(finished: Path, phantom_cases: Path, tmp_path: Path) -> None:
    """Added to a run that is finished already: its seed is not trained again."""
    run = shutil.copytree(finished, tmp_path / "grid")
    before = (run / "rd_post_event" / "fold0" / "DONE").stat().st_mtime_ns
    refused = command(phantom_cases, run, "seed=1")
    assert (refused.returncode, "several_seeds=true" in refused.stderr) == (2, True), refused.stderr
    result = command(phantom_cases, run, "-m", "seed=range(3)", "several_seeds=true")
    assert result.returncode == 0, result.stderr
    folders = [one.folder for one in finished_runs(run)]
    assert [folder.name for folder in folders] == ["fold0", "fold0-seed1", "fold0-seed2"]
    assert [json.loads((folder / "run.json").read_text())["seed"] for folder in folders] == [0, 1, 2]
    assert (folders[0] / "DONE").stat().st_mtime_ns == before
    assert len({file_hash(folder / "weights.safetensors") for folder in folders}) == 3
    train(config(phantom_cases, tmp_path / "alone", "seed=2"))
    assert results(tmp_path / "alone") == results(run, "rd_post_event/fold0-seed2")


@pytest.mark.extended
def test_a_control_is_a_grid_of_its_own_that_is_resumed_and_skipped(phantom_cases: Path, tmp_path: Path) -> None:
    grid = ["-m", "control=shuffled_labels", "+modalities=rd_event", "fold=range(2)", "epochs=20", "checkpoint_every=1"]
    folder = tmp_path / "rd_event-shuffled_labels" / "fold0"
    cfg = config(phantom_cases, tmp_path, "+modalities=rd_event", *grid[1:2], *grid[4:])
    process = multiprocessing.get_context("fork").Process(target=train, args=(cfg,))
    process.start()
    while not (folder / "last.ckpt").is_file():
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    first = command(phantom_cases, tmp_path, *grid)
    assert first.returncode == 0, first.stderr
    assert "rd_event-shuffled_labels fold0: resuming from last.ckpt" in first.stdout
    assert [path.parent.parent.name for path in tmp_path.glob("*/fold*/DONE")] == ["rd_event-shuffled_labels"] * 2
    record = json.loads((folder / "run.json").read_text())
    assert record["modalities"] == {"name": "rd_event-shuffled_labels", "channels": ["event", "rd"]}
    assert record["control"] == "shuffled_labels"
    second = command(phantom_cases, tmp_path, *grid)
    assert (second.returncode, second.stdout.count("is finished already")) == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["+modalties=rd_event"], 2, "modalties"),
        (["+modalities=rd_evnt"], 2, "rd_evnt"),
        (["optimizer.lr=1"], 2, "lr"),
        (["+model._target_=builtins.open"], 2, "_target_"),
        (["+augmentation.noise._target_=builtins.open"], 2, "noise"),
        (["+optimizer._partial_=true"], 2, "_partial_"),
        (["trainer.devices=2"], 2, "trainer=ddp"),
        (["augmentation.elastic_grid=4"], 2, "at least 5"),
        (["data.augment_on=worker"], 2, "requires data.augment_on=device"),
        (["data.cache=gpu"], 2, "none, ram, device"),
        (["step.recompute_stem=true", "model.max_pool=false"], 2, "model.max_pool=true"),
        (["model.channel_dropout=1"], 2, "[0, 1)"),
        (["model.architecture=vit"], 2, "model.architecture should be one of"),
        (["model=densenet121", "model.conv1_stride=1"], 2, "use model=densenet121"),
        (["model.pool=mean"], 2, "last, multi"),
        (["inputs.isodoses_gy=[-5]"], 2, "inputs.isodoses_gy should be above 0"),
        (["model=medicalnet", "model.pretrained=/nowhere.pth"], 3, "no such file"),
        (
            ["model=resnet18", "model.pretrained=/x"],
            2,
            "pretrained=medicalnet has model.conv1_stride=2, got 1; model.shor",
        ),
        (["model=medicalnet", "model.pretrained=/x", "pretrained=brainiac"], 2, "model.architecture=resnet50, got"),
        ([*START, "pretrained.name=numbers"], 2, "pretrained.name becomes part of the row's name"),
        ([*START, "pretrained.dose=zero"], 2, "pretrained.dose should be one of averaged, scratch, got 'zero'"),
        ([*START, "pretrained.freeze=half"], 2, "pretrained.freeze should be one of none, stem, all, got 'half'"),
        ([*START, "pretrained.learning_rate_factor=2"], 2, "above 0 and at most 1, got 2"),
        (
            [*START, "pretrained.learning_rate_factor=0.1", "pretrained.freeze=all"],
            2,
            "no effect with pretrained.freeze",
        ),
        ([*START, "pretrained.dose=scratch", "pretrained.freeze=stem"], 2, "random filters of pretrained.dose=scratch"),
        (["model.shortcuts=c"], 2, "model.shortcuts should be one of monai, medicalnet, got 'c'"),
        (["modalities.name=rd+x"], 2, "modalities.name should have no +"),
        (["checkpoint=first"], 2, "last, best"),
        (["checkpoint=best", "validate_every=2"], 2, "checkpoint=best needs validate_every=1, got 2"),
        (["validate_every=0"], 2, "validate_every should be at least 1"),
        (["optimizer.schedule=linear"], 2, "constant, one_cycle, cosine"),
        (["optimizer.label_smoothing=1"], 2, "optimizer.label_smoothing should lie in [0, 1), got 1"),
        (["averaging=swa"], 2, "averaging should be one of none, ema"),
        (["ema_decay=1"], 2, "ema_decay should lie in [0, 1), got 1"),
        (["mixup=-0.1"], 2, "mixup should be at least 0, got -0.1"),
        (["mixup=nan"], 2, "mixup should be at least 0, got nan"),
        (["batch_norm=exact"], 2, "precise, running"),
        (["crop=lesion", "crop.at=cavity"], 2, "crop.at should be null, lesion or random, got 'cavity'"),
        (["crop=lesion", "crop.size_mm=300"], 2, "crop.size_mm should be above 0 and at most 256, got 300"),
        (["crop=lesion", "crop.jitter_mm=60"], 2, "between 0 and half of crop.size_mm, got 60 of 96"),
        (["crop=lesion", "model.channel_dropout=0.5"], 2, "a place that not all of them know; use crop=none"),
        (["crop=random", "model.numbers=[dose_volume]"], 2, "crop.at=random is a control that does not know where"),
        (["model.numbers=[doses]"], 2, "expected a group (dose_volume, lesion_dose, lesion_image)"),
        (["steps=0"], 2, "steps should be at least 1"),
        (["control=shuffled"], 2, "control should be null, shuffled_labels or metadata_only, got 'shuffled'"),
        (["seed=-1"], 2, "seed should be at least 0"),
        (["fold=9"], 3, "0 to 1"),
        (["cases=/nowhere"], 3, "folds.json"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    phantom_cases: Path, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    result = command(phantom_cases, tmp_path / "run", *arguments)
    assert (result.returncode, says in result.stderr) == (code, True), result.stderr
    assert not list((tmp_path / "run").glob("*/fold*")), (
        "a corrected command would be refused in a folder that was begun"
    )


SMALL_MEDICALNET = ["model=medicalnet", "model.width=4", "model.conv1_size=3"]


def test_a_file_that_does_not_fit_is_refused_before_there_is_a_folder(phantom_cases: Path, tmp_path: Path) -> None:
    """So that the command with the right file is not refused in a run that was begun with the wrong one."""
    medicalnet(tmp_path / "w.pth", "resnet10")
    cfg = config(phantom_cases, tmp_path / "run", *SMALL_MEDICALNET, f"model.pretrained={tmp_path}/w.pth")
    with pytest.raises(InvalidInput, match=r"lacks \d+ of \d+ tensors"):
        train(cfg)
    assert not list((tmp_path / "run").glob("*/fold*"))


def test_a_training_from_others_weights_lies_beside_its_twin_from_scratch(phantom_cases: Path, tmp_path: Path) -> None:
    medicalnet(tmp_path / "w.pth")
    digest = file_hash(tmp_path / "w.pth")
    keys = ["epochs=1", *SMALL_MEDICALNET, "+modalities=rd_event"]
    for chosen in ("null", f"{tmp_path}/w.pth"):
        train(config(phantom_cases, tmp_path / "run", *keys, f"model.pretrained={chosen}"))
    rows = ("rd_event", "rd_event+medicalnet")
    scratch, started = (read_run(tmp_path / "run" / row / "fold0") for row in rows)
    assert [run.modalities.name for run in (scratch, started)] == [*rows]
    assert scratch.pretrained is None
    assert started.pretrained is not None
    assert (started.pretrained.source, started.pretrained.sha256) == ("medicalnet", digest)
    assert (started.pretrained.licence, started.pretrained.freeze) == ("MIT", "none")
    assert "arXiv 1904.00625" in started.pretrained.citation
    assert {**scratch.model, "pretrained": digest} == started.model
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "run").rglob("*.[jy]*"))
    # What is said of a file that is not there does not matter: the twin is finished.
    before = (tmp_path / "run" / "rd_event" / "fold0" / "DONE").stat().st_mtime_ns
    train(config(phantom_cases, tmp_path / "run", *keys, "model.pretrained=null", "pretrained.freeze=all"))
    assert (tmp_path / "run" / "rd_event" / "fold0" / "DONE").stat().st_mtime_ns == before


@pytest.mark.extended
def test_a_killed_training_from_others_weights_goes_on_to_the_same_bits(phantom_cases: Path, tmp_path: Path) -> None:
    medicalnet(tmp_path / "w.pth")
    start = [f"model.pretrained={tmp_path}/w.pth", "pretrained.freeze=stem", "pretrained.learning_rate_factor=0.3"]
    overrides = [*HARD_TO_RESUME, "epochs=5", *SMALL_MEDICALNET, "model.channel_dropout=0.3", *start]
    train(config(phantom_cases, tmp_path / "whole", *overrides))
    cfg, row = config(phantom_cases, tmp_path / "broken", *overrides), "modality_dropout+medicalnet_stem/fold0"
    assert killed_once_there_is(cfg, tmp_path / "broken" / row, "previous.ckpt", 0)
    train(cfg)
    assert results(tmp_path / "broken", row) == results(tmp_path / "whole", row)


def test_isodose_levels_of_a_dose_without_its_unit_are_refused(phantom_cases: Path, tmp_path: Path) -> None:
    cases = copy_with_zscored_dose(phantom_cases, tmp_path / "cases")
    with pytest.raises(InvalidInput, match=r"need the dose in units of 60 Gy, got z-scores") as refused:
        train(config(cases, tmp_path / "run", "inputs=isodoses"))
    assert refused.value.code == "inputs.dose_unit"
    assert not list((tmp_path / "run").glob("*/fold*"))
    train(config(cases, tmp_path / "run", "inputs=isodoses", "+modalities=post_event", "epochs=1"))


def copy_with_zscored_dose(cases: Path, out: Path) -> Path:
    shutil.copytree(cases, out)
    for path in out.glob(f"*/{CASE_FILE}"):
        CaseRecord.read(path).model_copy(update={"dose_scale_gy": None}).write(path)
    return out


@pytest.mark.parametrize("cache", ["none", "ram", "device"])
def test_a_crop_stands_in_run_json_and_trains_the_same_from_every_cache(
    phantom_cases: Path, tmp_path: Path, cache: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    sets = {
        "rd@lesion": ["+modalities=rd", "crop=lesion", "crop.everywhere=true"],
        "rd": ["+modalities=rd", "crop=lesion"],
        "event": ["+modalities=event", "crop=lesion", "crop.jitter_mm=24"],
    }
    for row, keys in sets.items():
        keys = ["epochs=1", f"data.cache={cache}", *keys]
        train(config(phantom_cases, tmp_path / cache, *keys))
        train(config(phantom_cases, tmp_path / "plain", *keys, "data.cache=none"))
        folder = tmp_path / cache / row / "fold0"
        crop = read_run(folder).crop
        assert (crop is None) == (row == "rd"), "a set without the event MRI knows of no lesion"
        weights = (folder / "weights.safetensors").read_bytes()
        assert weights == (tmp_path / "plain" / row / "fold0" / "weights.safetensors").read_bytes()
    assert "event fold0: cropped around where the event MRI is brightest (" in caplog.text


def test_inputs_and_pooling_stand_in_run_json_and_decide_what_a_run_is(phantom_cases: Path, tmp_path: Path) -> None:
    train(config(phantom_cases, tmp_path, "inputs=ricenet", "model.pool=multi", "epochs=1"))
    record = read_run(tmp_path / "rd_post_event" / "fold0")
    assert record.inputs == InputSettings.from_config(config(phantom_cases, tmp_path, "inputs=ricenet").inputs)
    assert record.model["pool"] == "multi"
    with pytest.raises(WrongUsage, match=r"inputs\.difference: True before, False now"):
        train(config(phantom_cases, tmp_path, "model.pool=multi", "epochs=1"))


NUMBERS = ["model.numbers=[dose_volume,lesion_dose,days_since_rt]", "epochs=2", "optimizer.learning_rate=0.01"]


def test_numbers_stand_in_run_json_are_learnt_and_decide_what_a_run_is(phantom_cases: Path, tmp_path: Path) -> None:
    train(config(phantom_cases, tmp_path, *NUMBERS))
    folder = tmp_path / "rd_post_event+numbers" / "fold0"
    record = read_run(folder)
    assert record.numbers is not None
    assert record.numbers.requested == ("dose_volume", "lesion_dose", "days_since_rt")
    assert {"mean_gy", "lesion_dose_mean_gy", "days_since_rt"} <= set(record.numbers.names)
    assert record.numbers_hash == file_hash(phantom_cases / "numbers.csv")
    assert record.covariates_hash == file_hash(phantom_cases / "covariates.csv")
    assert "numbers" not in record.model

    folds = read_folds(phantom_cases)
    table = read_fused_numbers(
        phantom_cases, folds.cases, record.numbers.requested, record.modalities.channels, record.modalities.name
    )
    network = load_network(folder)
    assert isinstance(network, LateFusion)
    assert network.head.weight.abs().sum() > 0
    for row in read_predictions(folder)[:3]:
        case = next(case for case in folds.cases if case.case_key == row["case_key"])
        volume = torch.from_numpy(load_case(phantom_cases, case, ["post", "event", "rd"]))[None]
        with torch.inference_mode():
            logits = network(volume, network.row(table.named(case.case_key)))[0]
            of_images = network.network(volume)[0]
        assert logits[1].item() == pytest.approx(row["logit_rice"], abs=1e-4)
        assert of_images[1].item() != pytest.approx(row["logit_rice"], abs=1e-3)
    with pytest.raises(WrongUsage, match=r"model\.numbers: \['dose_volume', 'lesion_dose', 'days_since_rt'\] before"):
        train(config(phantom_cases, tmp_path, *NUMBERS, "model.numbers=[dose_volume]"))


def test_numbers_that_a_set_does_not_know_leave_no_folder(phantom_cases: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match=r"post_event\+numbers: model.numbers has max_gy, .* does not contain \(rd\)"):
        train(config(phantom_cases, tmp_path, "model.numbers=[dose_volume]", "+modalities=post_event"))
    assert not list(tmp_path.glob("*/fold*"))


def test_help_and_errors_load_neither_torch_nor_lightning(phantom_cases: Path) -> None:
    probe = (
        "import sys; sys.argv = ['train', '+modalties=rd']\n"
        "from ricenet.train import main\n"
        "try: main()\nexcept SystemExit as stop: code = stop.code\n"
        "heavy = {'torch', 'lightning', 'monai', 'matplotlib', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "print(code, sorted(heavy))"
    )
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "2 []"


@pytest.mark.slow
def test_wandb_is_offline_one_run_a_fold_and_private(phantom_cases: Path, tmp_path: Path) -> None:
    """The files that `wandb sync` would send hold the config and the metrics, not the machine, the user or a path."""
    result = command(phantom_cases, tmp_path, "-m", "logger=wandb", "+modalities=rd", "fold=0,1", "seed=4")
    assert result.returncode == 0, result.stderr
    folders = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.parent.name != "logs"]
    sent = b"".join(path.read_bytes() for path in files)
    assert b"learning_rate" in sent
    host = os.uname().nodename
    for private in (str(phantom_cases), str(tmp_path), "site-packages", "antspyx", *([host] if len(host) > 5 else [])):
        assert private.encode() not in sent, private
