"""What a training keeps while it runs: checkpoints that a kill cannot spoil, a table of its metrics, how far it is.

`last.ckpt` is the newest epoch border, `previous.ckpt` the one before. Both are read with `weights_only=True` alone.
"""

import csv
import io
import logging
import math
import os
import pickle
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO

from ricenet.command.atomic import unfinished
from ricenet.errors import Incomplete, InvalidInput
from ricenet.training.run_folder import keep, writing
from ricenet.training.run_record import PROGRESS, EpochProgress

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
HERE = "<run folder>"  # stands in a checkpoint for the path of its own folder
_OWNER = "ricenet_run"
WRITE_EVERY_S = 2.0  # of metrics.csv and progress.json

log = logging.getLogger(__name__)


class DamagedCheckpoint(Exception):
    """A checkpoint that is not what was written."""


class SafeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its final name, fsync, re-open, then replace; read without pickle.

    Lightning's ModelCheckpoint keeps the path of its folder in its state: a checkpoint is written without, so that a
    run that is handed on does not tell where it was made, and goes on where it is put.

    Lightning's own stages the file in $TMPDIR and moves it: across filesystems a kill in the move destroys the
    previous one, and a full disk leaves half a file under the final name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Replace `path`; the former last.ckpt stays as previous.ckpt.

        Raises:
            Incomplete: it cannot be written; what was there stays.
        """
        final = Path(path)
        checkpoint = checkpoint | {"callbacks": _moved(checkpoint.get("callbacks", {}), str(final.parent), HERE)}
        buffer = io.BytesIO()  # torch.save cannot tell what goes wrong with a file: on a full disk it may abort
        torch.save(checkpoint, buffer)
        temporary = unfinished(final)
        with writing(final.parent, final.name):
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as stream:
                    stream.write(buffer.getbuffer())
                    stream.flush()
                    os.fsync(stream.fileno())
                read_checkpoint(temporary, "meta")
                if final.name == LAST and final.exists():
                    final.replace(final.with_name(PREVIOUS))
                temporary.replace(final)
            finally:
                temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        checkpoint = read_checkpoint(Path(path), map_location or "cpu")
        folder = str(Path(path).parent.resolve())  # as ModelCheckpoint calls its own, or it forgets its best score
        return checkpoint | {"callbacks": _moved(checkpoint.get("callbacks", {}), HERE, folder)}


def _moved(state: Any, old: str, new: str) -> Any:
    """`state` with the folder `old`, wherever a text begins with it, called `new`."""
    if isinstance(state, dict):
        return {_moved(key, old, new): _moved(value, old, new) for key, value in state.items()}
    if isinstance(state, str) and (state == old or state.startswith(f"{old}/")):
        return new + state.removeprefix(old)
    return state


def read_checkpoint(path: Path, device: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint of tensors and plain values; device "meta" reads all but the tensors' values.

    Raises:
        DamagedCheckpoint: a byte of it is not what was written.
        InvalidInput: it holds other objects, which could run code when read: none of ours does.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch checks no checksum of what it does not load
            if archive.testzip() is not None:
                raise DamagedCheckpoint(f"{path.name} is damaged")
        return torch.load(path, map_location=device, weights_only=True)
    except (zipfile.BadZipFile, EOFError, RuntimeError) as error:
        raise DamagedCheckpoint(f"{path.name} is damaged") from error
    except pickle.UnpicklingError:
        raise InvalidInput(
            f"{path.parent.parent.name} {path.parent.name}: {path.name} holds more than tensors and plain values, "
            "which could run code when it is read: it is not ours",
            "delete this file, then run the same command again (it resumes at the previous checkpoint or starts anew)",
            code="checkpoint.pickle",
        ) from None


def resumable(folder: Path, owner: str) -> Path | None:
    """The newest undamaged checkpoint of a run folder, to resume from; None if the folder has no checkpoint.

    Raises:
        InvalidInput: every checkpoint is damaged, or the newest undamaged one does not belong to the run `owner`.
    """
    checkpoints = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    run = f"{folder.parent.name} {folder.name}"
    for path in checkpoints:
        try:
            written_by = read_checkpoint(path, "meta").get(_OWNER)
        except DamagedCheckpoint:
            if path != checkpoints[-1]:
                log.warning("%s: %s is damaged; falling back to the previous checkpoint", run, path.name)
            continue
        if written_by != owner:
            raise InvalidInput(
                f"{run}: {path.name} belongs to a run with other settings",
                "delete this file, then run the same command again",
                code="checkpoint.other_run",
            )
        return path
    if checkpoints:
        raise InvalidInput(
            f"{run}: every checkpoint is damaged", "remove the run folder and train again", code="checkpoint.damaged"
        )
    return None


class Ownership(Callback):
    """Write into every checkpoint which run it belongs to."""

    def __init__(self, owner: str) -> None:
        self.owner = owner

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[_OWNER] = self.owner


class Progress(Callback):
    """Keep progress.json: epochs done, epochs wanted, seconds an epoch takes (mean since this process began).

    Short epochs do not each write it: it is at most WRITE_EVERY_S old.
    """

    def __init__(self, folder: Path, epochs: int) -> None:
        self.folder, self.epochs = folder, epochs
        self.first_epoch, self.started = 0, 0.0
        self.written = -math.inf

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.first_epoch, self.started = trainer.current_epoch, time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        done = trainer.current_epoch + 1
        if time.monotonic() - self.written < WRITE_EVERY_S and done < self.epochs:
            return
        seconds = (time.monotonic() - self.started) / (done - self.first_epoch)
        progress = EpochProgress(epoch=done, epochs=self.epochs, seconds_per_epoch=round(seconds, 3))
        if trainer.is_global_zero:
            keep(self.folder, PROGRESS, progress.as_json())
            self.written = time.monotonic()


class LastValidation(Callback):
    """Validate the last epoch, however rare validations are: its weights are kept, their batch norm is made then."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1


class MetricsTable(Callback):
    """Keep metrics.csv: one row an epoch; a resumed run replaces the rows of the epochs it repeats.

    An epoch that is not validated has empty columns of the validation.

    Short epochs do not each write it: it is at most WRITE_EVERY_S old, and complete where a checkpoint is written,
    from which a killed run goes on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.validated = False  # this epoch; Lightning goes on holding the numbers of the last validation
        self.written = -math.inf

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.rows = [row for row in _read_rows(self.path) if int(row["epoch"]) < trainer.current_epoch]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = {
            name: f"{value.item():.6g}"
            for name, value in sorted(trainer.callback_metrics.items())
            if self.validated or not name.startswith("val/")
        }
        self.validated = False
        self.rows.append({"epoch": trainer.current_epoch, **metrics})
        if time.monotonic() - self.written >= WRITE_EVERY_S:
            self._write(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        with suppress(Incomplete):  # the exception is the one to report
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        if not self.rows or not trainer.is_global_zero:
            return
        text = io.StringIO()
        columns = dict.fromkeys(name for row in self.rows for name in row)
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        keep(self.path.parent, self.path.name, text.getvalue())
        self.written = time.monotonic()


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))
