"""Training by command and by function: reproducible, resumable, private, and strict about what it is asked."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ricenet.config import TrainConfig, compose
from ricenet.runs import file_hash
from ricenet.train import train

QUICK = ["experiment=smoke", "epochs=2", "trainer.limit_batches=null", "data.batch_size=4"]


def config(cases: Path, run: Path, *overrides: str) -> TrainConfig:
    return compose("train", TrainConfig, [f"cases={cases}", f"run={run}", *QUICK, *overrides])


def results(run: Path, name: str = "rd_post_event/fold0") -> dict[str, str]:
    return {file: file_hash(run / name / file) for file in ("weights.safetensors", "predictions.csv", "metrics.csv")}


def command(cases: Path, run: Path, *arguments: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    flags = [argument for argument in arguments if argument == "-m"]
    keys = [argument for argument in arguments if argument != "-m"]
    line = [sys.executable, "-m", "ricenet.train", *flags, f"cases={cases}", f"run={run}", *QUICK, *keys]
    return subprocess.run(line, capture_output=True, text=True, check=False, **kwargs)


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
    with (folder / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert sorted({row["split"] for row in rows}) == ["test", "val"]
    assert all(0 < float(row["prob_rice"]) < 1 for row in rows)


@pytest.mark.parametrize("changed", [[], ["data.workers=2"], ["checkpoint_every=1"], ["logger=tensorboard"]])
def test_same_seed_gives_the_same_bits(finished: Path, phantom_cases: Path, tmp_path: Path, changed: list[str]) -> None:
    """Again, with two loader workers, with other checkpoints and with a tracker."""
    train(config(phantom_cases, tmp_path, *changed))
    assert results(tmp_path) == results(finished)


@pytest.mark.parametrize(
    "changed",
    [["seed=1"], ["fold=1"], ["epochs=3"], ["optimizer.learning_rate=0.01"], ["optimizer.weight_decay=0.5"],
     ["optimizer.schedule=one_cycle"], ["augmentation=none"], ["data.batch_size=8"], ["model.dropout=0.5"],
     ["trainer.limit_batches=1"]],
)  # fmt: skip
def test_each_setting_changes_the_weights(
    finished: Path, phantom_cases: Path, tmp_path: Path, changed: list[str]
) -> None:
    train(config(phantom_cases, tmp_path, *changed))
    weights = next(tmp_path.glob("*/*/weights.safetensors"))
    assert file_hash(weights) != results(finished)["weights.safetensors"]


def test_resumed_run_ends_with_the_same_bits(phantom_cases: Path, tmp_path: Path) -> None:
    """Stop after two of four epochs by taking away what came after them, then go on."""
    overrides = ["epochs=4", "checkpoint_every=2", "model.dropout=0.3", "optimizer.schedule=one_cycle"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(config(phantom_cases, whole, *overrides))
    process = subprocess.Popen(
        [sys.executable, "-m", "ricenet.train", f"cases={phantom_cases}", f"run={broken}", *QUICK, *overrides],
        stderr=subprocess.DEVNULL,
    )
    checkpoint = broken / "rd_post_event" / "fold0" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not checkpoint.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert checkpoint.is_file()
    assert not (checkpoint.parent / "DONE").exists()
    train(config(phantom_cases, broken, *overrides))
    assert results(broken) == results(whole)


def test_best_checkpoint_is_the_best_epochs_weights(phantom_cases: Path, tmp_path: Path) -> None:
    train(config(phantom_cases, tmp_path, "checkpoint=best", "epochs=4", "optimizer.learning_rate=0.02"))
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


@pytest.mark.slow
def test_terminated_run_says_so_and_can_go_on(phantom_cases: Path, tmp_path: Path) -> None:
    arguments = ["epochs=500", "checkpoint_every=1"]
    line = [sys.executable, "-m", "ricenet.train", f"cases={phantom_cases}", f"run={tmp_path}", *QUICK, *arguments]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "rd_post_event" / "fold0" / "last.ckpt"
    while not checkpoint.is_file():
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert not (checkpoint.parent / "DONE").exists()


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


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["+modalties=rd_event"], 2, "modalties"),
        (["+modalities=rd_evnt"], 2, "rd_evnt"),
        (["optimizer.lr=1"], 2, "lr"),
        (["+model._target_=builtins.open"], 2, "_target_"),
        (["checkpoint=first"], 2, "last, best"),
        (["optimizer.schedule=cosine"], 2, "constant, one_cycle"),
        (["fold=9"], 3, "0 to 1"),
        (["cases=/nowhere"], 3, "folds.json"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    phantom_cases: Path, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    result = command(phantom_cases, tmp_path / "run", *arguments)
    assert (result.returncode, says in result.stderr) == (code, True), result.stderr
    assert not list((tmp_path / "run").glob("**/weights.safetensors"))


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
