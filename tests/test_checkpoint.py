"""Checkpoints are replaced whole or not at all, and are read without pickle; metrics.csv survives a resume."""

from pathlib import Path

import pytest
import torch

from ricenet.checkpoint import SafeCheckpointIO


def test_checkpoint_replaces_the_old_one_and_loads_without_pickle(tmp_path: Path) -> None:
    path, writer = tmp_path / "last.ckpt", SafeCheckpointIO()
    for value in (1.0, 2.0):
        writer.save_checkpoint({"state_dict": {"w": torch.tensor([value])}}, path)
    assert writer.load_checkpoint(path)["state_dict"]["w"].item() == 2.0
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


class NotPlain:
    """Something that weights_only=True must refuse."""


def test_checkpoint_that_could_not_be_read_safely_leaves_the_old_one(tmp_path: Path) -> None:
    path, writer = tmp_path / "last.ckpt", SafeCheckpointIO()
    writer.save_checkpoint({"epoch": 1}, path)
    with pytest.raises(Exception, match="NotPlain"):
        writer.save_checkpoint({"epoch": 2, "extra": NotPlain()}, path)
    assert writer.load_checkpoint(path) == {"epoch": 1}
