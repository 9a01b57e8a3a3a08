"""For tests: a valid run.json, of which a test says what it is about; and the folder of a run that is not finished."""

from pathlib import Path
from typing import Any

from ricenet.training.run_record import EpochProgress, RunRecord


def run_record(row: str = "rd_event", channels: tuple[str, ...] = ("event", "rd"), **keys: Any) -> RunRecord:
    """Of fold 0 of two, with seed 0, over three epochs; `keys` are other keys of run.json."""
    content = {
        "modalities": {"name": row, "channels": list(channels)}, "fold": 0, "n_folds": 2, "seed": 0, "epochs": 3,
        "checkpoint": "last", "model": {"name": "resnet18"}, "cases": "../cases", "folds_hash": "f", "case_hash": "c",
        "versions": {},
    }  # fmt: skip
    return RunRecord.model_validate(content | keys)


def pretrained_start(**changes: Any) -> dict[str, Any]:
    """`pretrained` of run.json and model.json."""
    content = {
        "source": "medicalnet", "sha256": "ab" * 32, "licence": "MIT", "citation": "Chen S et al. Med3D",
        "dose": "averaged", "freeze": "none", "learning_rate_factor": 1.0,
    }  # fmt: skip
    return content | changes


def write_begun_run(run: Path, name: str, progress: dict[str, Any] | None = None, **record: Any) -> Path:
    """The folder of a run without DONE. record: keys of run.json, status first of all."""
    folder = run / name
    folder.mkdir(parents=True)
    (folder / ".lock").touch()
    run_record("rd", ("rd",), **{"n_folds": 5, "epochs": 800} | record).write(folder / "run.json")
    if progress:
        EpochProgress.model_validate({"epochs": 800} | progress).write(folder / "progress.json")
    return folder
