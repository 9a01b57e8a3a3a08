"""Run folders: what one training leaves behind, and what a repeated or later command may reuse.

outputs/<name>/<modalities>/fold<k>/ holds config.yaml, run.json, last.ckpt, weights.safetensors, metrics.csv,
predictions.csv and, last, DONE with the hash of every other result. A folder with DONE is finished; without, it is
resumed at its last epoch border.
"""

import csv
import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from ricenet import __version__
from ricenet.config import InvalidInput, WrongUsage
from ricenet.folds import Folds

RESULTS = ("weights.safetensors", "predictions.csv", "metrics.csv", "run.json")
PREDICTION_COLUMNS = ("case_key", "patient_key", "split", "label", "logit_recurrence", "logit_rice", "prob_rice")
# How a run is watched, and where its cases lie, does not change its result; the cases' hash is part of run.json.
WITHOUT_EFFECT = ("run", "cases", "logger", "trainer.progress", "data.workers", "checkpoint_every")


@dataclass(frozen=True)
class FinishedRun:
    """A run folder with DONE; `record` is its run.json."""

    modalities: str
    channels: list[str]
    fold: int
    folder: Path
    record: dict[str, Any]


def run_folder(run: Path, modalities: str, fold: int) -> Path:
    """Where one fold of one modality set lives inside a grid's folder."""
    return run / modalities / f"fold{fold}"


def claim(folder: Path, config: Mapping[str, Any], inputs: Mapping[str, str]) -> bool:
    """Take `folder` for a training with this config and these input hashes; False where it is finished already.

    Raises:
        WrongUsage: the folder holds another config or was made from other cases or folds; says each difference.
    """
    identity = {**_flat(config), **inputs}
    for name in [name for name in identity if name.startswith(WITHOUT_EFFECT)]:
        del identity[name]
    path = folder / "identity.json"
    if path.is_file():
        before = json.loads(path.read_text())
        changed = [
            f"{k}: {before.get(k)} before, {identity.get(k)} now"
            for k in sorted(before | identity)
            if before.get(k) != identity.get(k)
        ]
        if changed:
            raise WrongUsage(
                f"{folder.parent.name} {folder.name} was started with other settings:\n  " + "\n  ".join(changed)
                + "\ngive another name=, or remove that run folder"
            )  # fmt: skip
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(identity, indent=1) + "\n")
        write_text(folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
    return not is_done(folder)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return flat


def is_done(folder: Path) -> bool:
    """Whether a run folder is finished and its results are still the ones that were written.

    Raises:
        InvalidInput: a result was changed or removed after DONE was written.
    """
    if not (folder / "DONE").is_file():
        return False
    for name, digest in json.loads((folder / "DONE").read_text()).items():
        if not (folder / name).is_file() or file_hash(folder / name) != digest:
            raise InvalidInput(
                f"run {folder.parent.name} {folder.name}: {name} is not what was written when it finished; "
                "remove the folder and train again"
            )
    return True


def finish(folder: Path, record: dict[str, Any]) -> None:
    """Write run.json, then DONE with the hashes of all results: from here on the run counts."""
    write_text(folder / "run.json", json.dumps(record, indent=1) + "\n")
    write_text(folder / "DONE", json.dumps({name: file_hash(folder / name) for name in RESULTS}, indent=1) + "\n")


def finished_runs(run: Path) -> list[FinishedRun]:
    """All finished runs of a grid, ordered by modality set and fold.

    Raises:
        InvalidInput: there is none, or one was changed after it finished.
    """
    folders = sorted(path.parent for path in run.glob("*/fold*/DONE"))
    records = [(folder, json.loads((folder / "run.json").read_text())) for folder in folders if is_done(folder)]
    if not records:
        raise InvalidInput("no finished run in this folder; train first: python -m ricenet.train cases=... name=...")
    return [
        FinishedRun(record["modalities"]["name"], record["modalities"]["channels"], record["fold"], folder, record)
        for folder, record in records
    ]


def cases_folder(run: Path, finished: Sequence[FinishedRun]) -> Path:
    """The cases folder that the `finished` runs of the grid `run` were trained on.

    Raises:
        InvalidInput: runs of one grid were trained on different cases folders, or it is gone.
    """
    relative = {one.record["cases"] for one in finished}
    if len(relative) > 1:
        raise InvalidInput(
            "runs of this grid were trained on different cases folders; keep one grid to one cases folder"
        )
    folder = run / relative.pop()
    if not (folder / "cases.csv").is_file():
        raise InvalidInput("the cases folder of this grid has been moved or removed; put it back where it was")
    return folder


def write_predictions(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write predictions.csv: one row per validation and test case; numbers read back as they were."""
    with (folder / "predictions.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, PREDICTION_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_predictions(folder: Path) -> list[dict[str, Any]]:
    """The rows of predictions.csv with label as int, logits and probability as float."""
    with (folder / "predictions.csv").open(newline="") as stream:
        rows: list[dict[str, Any]] = list(csv.DictReader(stream))
    for row in rows:
        row["label"] = int(row["label"])
        for column in PREDICTION_COLUMNS[4:]:
            row[column] = float(row[column])
    return rows


def case_hash(cases: Path, folds: Folds) -> str:
    """One hash over the case.json of every case: other images or other preprocessing give another hash."""
    digest = hashlib.sha256()
    for case in folds.cases:
        path = cases / case.folder / "case.json"
        if not path.is_file():
            raise InvalidInput(
                f"case {case.case_key}: its folder is missing or unfinished; run python -m ricenet.preprocess again"
            )
        digest.update(path.read_bytes())
    return digest.hexdigest()


def require_same_inputs(runs: Sequence[FinishedRun], cases: Path, folds: Folds) -> None:
    """Check that runs were trained on the folds and cases that are there now, so that unseen cases are unseen.

    Raises:
        InvalidInput: naming the run and what changed.
    """
    for key, now in {"folds_hash": folds.hash, "case_hash": case_hash(cases, folds)}.items():
        for run in runs:
            then = run.record[key]
            if then != now:
                raise InvalidInput(
                    f"run {run.modalities}/fold{run.fold}: trained on cases or folds with {key} {then[:12]}, the cases "
                    f"folder now has {now[:12]}; restore the cases folder as it was, or train the run again"
                )


def finished_folds(runs: Sequence[FinishedRun], modalities: str, cases: Path, folds: Folds) -> dict[int, FinishedRun]:
    """The finished folds of one modality set, by fold.

    Raises:
        InvalidInput: none is finished, or one was trained on other cases or folds than the cases folder holds now.
    """
    mine = {one.fold: one for one in runs if one.modalities == modalities}
    if not mine:
        have = ", ".join(sorted({one.modalities for one in runs}))
        raise InvalidInput(
            f"no finished fold of modalities={modalities} in the run folder (finished: {have}); "
            f"train it with python -m ricenet.train +modalities={modalities} fold=0"
        )
    require_same_inputs(list(mine.values()), cases, folds)
    return mine


def provenance() -> dict[str, Any]:
    """What the result was made with: package versions and type of machine; neither its name nor the user."""
    import torch  # seconds to load, and only a training asks

    packages = ("torch", "lightning", "monai", "numpy", "torchmetrics")
    return {
        "ricenet": __version__,
        **{package: version(package) for package in packages},
        "python": platform.python_version(),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "threads": torch.get_num_threads(),
    }


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a small file so that either the old or the new content is there, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
