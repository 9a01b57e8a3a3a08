"""What a training keeps while it runs: checkpoints that a kill cannot spoil, and a table of its metrics."""

import csv
import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO

from ricenet.runs import write_text


class SafeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its final name, fsync, re-open, then replace; read with `weights_only=True`.

    Lightning's own stages the file in $TMPDIR and moves it: across filesystems a kill in the move destroys the
    previous one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{final.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
            torch.load(temporary, map_location="meta", weights_only=True)
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)


class MetricsTable(Callback):
    """Keep metrics.csv: one row an epoch; a resumed run replaces the rows of the epochs it repeats."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = {name: f"{value.item():.6g}" for name, value in sorted(trainer.callback_metrics.items())}
        before = [row for row in _read_rows(self.path) if int(row["epoch"]) < trainer.current_epoch]
        rows = [*before, {"epoch": trainer.current_epoch, **metrics}]
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[-1].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path, text.getvalue())


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))
