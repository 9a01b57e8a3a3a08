"""For tests: a valid run.json, of which a test says what it is about."""

from typing import Any

from ricenet.training.run_record import RunRecord


def run_record(row: str = "rd_event", channels: tuple[str, ...] = ("event", "rd"), **keys: Any) -> RunRecord:
    """Of fold 0 of two, with seed 0, over three epochs; `keys` are other keys of run.json."""
    content = {
        "modalities": {"name": row, "channels": list(channels)}, "fold": 0, "n_folds": 2, "seed": 0, "epochs": 3,
        "checkpoint": "last", "model": {"name": "resnet18"}, "cases": "../cases", "folds_hash": "f", "case_hash": "c",
        "versions": {},
    }  # fmt: skip
    return RunRecord.model_validate(content | keys)
