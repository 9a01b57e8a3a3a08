"""Run folders: what one training leaves behind, and what a repeated or later command may reuse.

outputs/<name>/<row>/fold<k>/ holds config.yaml, run.json (from the start: how it stands and what it is made with),
last.ckpt, previous.ckpt, weights.safetensors, metrics.csv, predictions.csv and, last, DONE with the hash of every
result. A folder with DONE is finished; without, it is resumed at its last epoch border. The row is the modality set's
name, or the model's where one model serves all sets.
"""

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from ricenet import __version__
from ricenet.cohort import file_hash
from ricenet.config import Incomplete, InvalidInput, WrongUsage
from ricenet.folds import Folds
from ricenet.partial import hold, replace_file
from ricenet.predictions import BY_SET, PREDICTIONS

RESULTS = ("weights.safetensors", PREDICTIONS, "metrics.csv", "run.json")
PROGRESS = "progress.json"
# How a run is watched, and where its cases lie, does not change its result; the cases' hash is part of run.json.
WITHOUT_EFFECT = ("run", "cases", "logger", "trainer.progress", "data.workers", "data.cache", "checkpoint_every")
PATIENCE_S = 30  # for a process that was killed a moment ago and still holds the folder


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


def identity(config: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, Any]:
    """What decides a run's result: its settings, and the hashes of what it reads."""
    flat = {**_flat(config), **inputs}
    return {name: value for name, value in flat.items() if not name.startswith(WITHOUT_EFFECT)}


def owner(run_identity: Mapping[str, Any]) -> str:
    """A digest of a run's identity, by which it knows its checkpoints."""
    return hashlib.sha256(json.dumps(run_identity, sort_keys=True).encode()).hexdigest()


def is_finished(folder: Path, run_identity: Mapping[str, Any]) -> bool:
    """Whether the run folder is finished, with just this identity.

    Raises:
        WrongUsage: it was started with another: other settings, cases or folds; says each difference.
    """
    path = folder / "identity.json"
    if path.is_file():
        before = json.loads(path.read_text())
        changed = [
            f"{name}: {before.get(name)} before, {run_identity.get(name)} now"
            for name in sorted(before | run_identity)
            if before.get(name) != run_identity.get(name)
        ]
        if changed:
            raise WrongUsage(
                f"{folder.parent.name} {folder.name} was started with other settings:\n  " + "\n  ".join(changed)
                + "\ngive another name=, or remove that run folder"
            )  # fmt: skip
    return is_done(folder)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Be the only process that trains into `folder`; its run.json then tells how that ended, if it did not finish.

    Raises:
        InvalidInput: another process does, and goes on doing so for PATIENCE_S.
        Incomplete: the folder cannot be written to.
    """
    with ExitStack() as stack:
        with writing(folder, "the run folder"):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold(folder, PATIENCE_S, f"{folder.parent.name} {folder.name}"))
        try:
            yield
        except BaseException as error:
            with suppress(OSError):  # what ended the run may be a full disk; that error is the one to report
                _note_end(folder, error)
            raise


def _note_end(folder: Path, error: BaseException) -> None:
    path = folder / "run.json"
    if not path.is_file() or (folder / "DONE").is_file():
        return
    stopped = isinstance(error, (SystemExit, KeyboardInterrupt))
    lines = str(error).splitlines()
    message = "" if stopped or not lines else lines[0]
    record = json.loads(path.read_text()) | {"status": "interrupted" if stopped else "failed", "message": message}
    replace_file(path, json.dumps(record, indent=1) + "\n")


def begin(folder: Path, config: Mapping[str, Any], run_identity: Mapping[str, Any], record: dict[str, Any]) -> None:
    """Write what the run is: identity.json, config.yaml and run.json with `status` running."""
    keep(folder, "identity.json", json.dumps(run_identity, indent=1) + "\n")
    keep(folder, "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
    keep(folder, "run.json", json.dumps({"status": "running", **record}, indent=1) + "\n")


@contextmanager
def writing(folder: Path, what: str) -> Iterator[None]:
    """Turn a disk that is full or read-only into a run that stopped, with what was there kept.

    Raises:
        Incomplete: naming the run and the system's reason.
    """
    try:
        yield
    except OSError as error:
        raise Incomplete(
            f"{folder.parent.name} {folder.name}: {what} cannot be written ({error.strerror}); what was there is kept: "
            "make room, or the folder writable, and give the same command again"
        ) from error


def keep(folder: Path, name: str, text: str) -> None:
    """Write one of a run's small files, old or new as a whole; raises as `writing`."""
    with writing(folder, name):
        replace_file(folder / name, text)


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
    if (folder / PROGRESS).is_file():
        record |= {"seconds_per_epoch": json.loads((folder / PROGRESS).read_text())["seconds_per_epoch"]}
    keep(folder, "run.json", json.dumps({"status": "done", **record}, indent=1) + "\n")
    results = [name for name in (*RESULTS, BY_SET) if name in RESULTS or (folder / name).is_file()]
    keep(folder, "DONE", json.dumps({name: file_hash(folder / name) for name in results}, indent=1) + "\n")
    (folder / PROGRESS).unlink(missing_ok=True)


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
    """What the result was made with: code, package versions and type of machine; neither its name nor the user."""
    import torch  # seconds to load, and only a training asks

    packages = ("torch", "lightning", "monai", "numpy", "torchmetrics")
    return {
        "ricenet": __version__,
        "commit": _commit(),
        **{package: version(package) for package in packages},
        "python": platform.python_version(),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "threads": torch.get_num_threads(),
    }


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, with `+` where it was changed since; None without one."""
    here = Path(__file__).resolve().parents[1]
    if not (here / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git on this machine, or a checkout of somebody else's
        return None
