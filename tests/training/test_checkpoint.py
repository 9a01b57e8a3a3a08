"""Checkpoints are replaced whole or not at all, checked when read, and never unpickled; the last two are kept."""

import subprocess
from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from ricenet.errors import Incomplete, InvalidInput
from ricenet.training import checkpoint
from ricenet.training.checkpoint import (
    LAST,
    PREVIOUS,
    DamagedCheckpoint,
    MetricsTable,
    Ownership,
    Progress,
    SafeCheckpointIO,
    read_checkpoint,
    resumable,
)
from ricenet.training.run_record import PROGRESS, EpochProgress


def save(folder: Path, value: float, owner: str = "me") -> None:
    content = {"state_dict": {"w": torch.full((1000,), value)}}
    Ownership(owner).on_save_checkpoint(lightning.Trainer(logger=False), lightning.LightningModule(), content)
    SafeCheckpointIO().save_checkpoint(content, folder / LAST)


def value(path: Path) -> float:
    return SafeCheckpointIO().load_checkpoint(path)["state_dict"]["w"][0].item()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder after two epochs."""
    folder = tmp_path / "rd" / "fold0"
    for epoch in (1.0, 2.0):
        save(folder, epoch)
    return folder


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_last_two_are_kept_and_nothing_else(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {LAST, PREVIOUS}
    assert (value(folder / LAST), value(folder / PREVIOUS)) == (2.0, 1.0)
    assert resumable(folder, "me") == folder / LAST


def test_a_checkpoint_does_not_hold_the_path_of_its_folder_and_moves_with_it(tmp_path: Path) -> None:
    """The state of Lightning's own ModelCheckpoint, with a best one among its paths."""
    folder, moved = tmp_path / "here", tmp_path / "there"
    state = {"dirpath": str(folder), "best_model_path": str(folder / "best.ckpt"), "monitor": "val/macro_f1"}
    state |= {"best_k_models": {str(folder / "best.ckpt"): torch.tensor(0.7)}, "elsewhere": f"{folder}-2/x"}
    SafeCheckpointIO().save_checkpoint({"callbacks": {"ModelCheckpoint": state}}, folder / LAST)
    written = read_checkpoint(folder / LAST)["callbacks"]["ModelCheckpoint"]
    assert [
        one for one in (written["dirpath"], written["best_model_path"], *written["best_k_models"]) if "here" in one
    ] == []
    assert SafeCheckpointIO().load_checkpoint(folder / LAST)["callbacks"]["ModelCheckpoint"] == state
    folder.rename(moved)
    found = SafeCheckpointIO().load_checkpoint(moved / LAST)["callbacks"]["ModelCheckpoint"]
    assert (found["dirpath"], found["best_model_path"]) == (str(moved), str(moved / "best.ckpt"))
    assert list(found["best_k_models"]) == [str(moved / "best.ckpt")]
    assert found["elsewhere"] == state["elsewhere"]


def test_the_best_score_so_far_is_known_after_a_resume_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning compares the folder in a checkpoint with the absolute path of its own."""
    monkeypatch.chdir(tmp_path)
    before, after = (ModelCheckpoint(Path("run"), monitor="val/macro_f1", mode="max") for _ in range(2))
    before.best_model_score = torch.tensor(0.7)
    path = Path(before.dirpath) / LAST
    SafeCheckpointIO().save_checkpoint({"callbacks": {"best": before.state_dict()}}, path)
    after.load_state_dict(SafeCheckpointIO().load_checkpoint(Path("run") / LAST)["callbacks"]["best"])
    assert after.best_model_score == torch.tensor(0.7)


def test_one_flipped_bit_leads_to_the_checkpoint_before(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    damage(folder / LAST)
    with pytest.raises(DamagedCheckpoint):
        read_checkpoint(folder / LAST)
    assert resumable(folder, "me") == folder / PREVIOUS
    assert "rd fold0: last.ckpt is damaged; falling back to the previous checkpoint" in caplog.text


def test_half_a_file_leads_to_the_checkpoint_before(folder: Path) -> None:
    content = (folder / LAST).read_bytes()
    (folder / LAST).write_bytes(content[: len(content) // 2])
    assert resumable(folder, "me") == folder / PREVIOUS


def test_between_its_two_renames_the_checkpoint_before_is_found(folder: Path) -> None:
    (folder / LAST).unlink()
    assert resumable(folder, "me") == folder / PREVIOUS


def test_no_checkpoint_is_a_run_from_the_start_but_only_damaged_ones_are_an_error(folder: Path) -> None:
    assert resumable(folder.with_name("fold1"), "me") is None
    damage(folder / LAST)
    damage(folder / PREVIOUS)
    with pytest.raises(InvalidInput, match="rd fold0: every checkpoint is damaged"):
        resumable(folder, "me")


def test_the_checkpoint_of_another_run_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"rd fold0: last\.ckpt belongs to a run with other settings"):
        resumable(folder, "you")


class Payload:
    """What an attacker would put there."""

    def __reduce__(self) -> tuple:
        return (print, ("run by a checkpoint",))


def test_a_pickle_payload_is_refused_by_name_and_not_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {}, "extra": Payload()}, folder / LAST)
    with pytest.raises(InvalidInput, match=r"rd fold0: last\.ckpt holds more than tensors and plain values"):
        resumable(folder, "me")
    assert capsys.readouterr().out == ""


def test_a_checkpoint_that_could_not_be_read_again_is_not_kept(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="holds more than tensors"):
        SafeCheckpointIO().save_checkpoint({"extra": Payload()}, folder / LAST)
    assert {path.name for path in folder.iterdir()} == {LAST, PREVIOUS}
    assert value(folder / LAST) == 2.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A run folder on a file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    (disk / "rd" / "fold0").mkdir(parents=True)
    yield disk / "rd" / "fold0"
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_keeps_what_was_there(small_disk: Path) -> None:
    save(small_disk, 1.0)
    large = {"state_dict": {"w": torch.rand(100_000)}}
    with pytest.raises(Incomplete, match=r"rd fold0: last.ckpt cannot be written \(No space left on device\)"):
        SafeCheckpointIO().save_checkpoint(large, small_disk / LAST)
    assert [path.name for path in small_disk.iterdir()] == [LAST]
    assert value(small_disk / LAST) == 1.0


def test_a_read_only_folder_keeps_what_was_there(small_disk: Path) -> None:
    save(small_disk, 1.0)
    subprocess.run(["mount", "-o", "remount,ro", small_disk.parents[1]], check=True)
    with pytest.raises(Incomplete, match="Read-only file system"):
        save(small_disk, 2.0)
    assert value(small_disk / LAST) == 1.0


class Epochs:
    """What the callbacks look at in a trainer, over epochs whose metric is their number."""

    is_global_zero = True

    def __init__(self, first: int = 0) -> None:
        self.current_epoch = first

    @property
    def callback_metrics(self) -> dict[str, torch.Tensor]:
        return {"train/loss": torch.tensor(float(self.current_epoch))}

    def run(self, until: int, callback: Callback) -> None:
        callback.on_train_start(self, None)
        while self.current_epoch < until:
            callback.on_train_epoch_end(self, None)
            self.current_epoch += 1


def epochs_of(table: Path) -> list[int]:
    return [int(line.split(",")[0]) for line in table.read_text().splitlines()[1:]]


def test_short_epochs_share_a_write_of_the_metrics_and_a_checkpoint_has_them_all(tmp_path: Path) -> None:
    table, epochs = MetricsTable(tmp_path / "metrics.csv"), Epochs()
    epochs.run(3, table)
    assert epochs_of(table.path) == [0]
    table.on_save_checkpoint(epochs, None, {})
    assert epochs_of(table.path) == [0, 1, 2]


@pytest.mark.parametrize("end", ["on_train_end", "on_exception"])
def test_a_training_that_ends_leaves_all_its_metrics(tmp_path: Path, end: str) -> None:
    table, epochs = MetricsTable(tmp_path / "metrics.csv"), Epochs()
    epochs.run(3, table)
    getattr(table, end)(epochs, None, *([KeyboardInterrupt()] if end == "on_exception" else []))
    assert epochs_of(table.path) == [0, 1, 2]


def test_a_resumed_training_replaces_the_metrics_of_the_epochs_that_it_repeats(tmp_path: Path) -> None:
    before, after = (MetricsTable(tmp_path / "metrics.csv") for _ in range(2))
    epochs = Epochs()
    epochs.run(4, before)
    before.on_train_end(epochs, None)
    Epochs(2).run(3, after)
    assert epochs_of(after.path) == [0, 1, 2]


def test_progress_of_short_epochs_is_told_at_once_and_at_the_end(tmp_path: Path) -> None:
    told = []
    progress, epochs = Progress(tmp_path, epochs=5), Epochs()
    progress.on_train_start(epochs, None)
    for epoch in range(5):
        epochs.current_epoch = epoch
        progress.on_train_epoch_end(epochs, None)
        told.append(EpochProgress.read(tmp_path / PROGRESS).epoch)
    assert told == [1, 1, 1, 1, 5]


def test_progress_is_told_again_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "WRITE_EVERY_S", 0.0)
    progress, table, epochs = Progress(tmp_path, epochs=5), MetricsTable(tmp_path / "metrics.csv"), Epochs()
    epochs.run(2, progress)
    Epochs().run(2, table)
    assert EpochProgress.read(tmp_path / PROGRESS).epoch == 2
    assert epochs_of(table.path) == [0, 1]
