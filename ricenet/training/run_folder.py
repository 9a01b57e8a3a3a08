"""Run folders: what one training leaves behind, and what a repeated or later command may reuse.

outputs/<name>/<row>/fold<k>/ holds config.yaml, run.json (from the start: how it stands and what it is made with),
last.ckpt, previous.ckpt, weights.safetensors, metrics.csv, predictions.csv and, last, DONE with the hash of every
result. A folder with DONE is finished; without, it is resumed at its last epoch border. The row is the modality set's
name, or the model's where one model serves all sets; a leakage control has a row of its own. Several seeds of a fold
lie side by side in fold<k>-seed<s>.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from ricenet.cohort.folds import Folds
from ricenet.command.atomic import file_hash, hold, replace_file
from ricenet.errors import Incomplete, InvalidInput, WrongUsage
from ricenet.training.predictions import BY_SET, PREDICTIONS
from ricenet.training.run_record import PROGRESS, RUN_JSON, EpochProgress, RunRecord, read_run, walk

RESULTS = ("weights.safetensors", PREDICTIONS, "metrics.csv", RUN_JSON)
# How a run is watched, and where it and its cases lie, does not change its result; the cases' hash is part of run.json.
WITHOUT_EFFECT = (
    "run", "cases", "logger", "trainer.progress", "data.workers", "data.cache", "checkpoint_every", "several_seeds",
    "pretrained.licence", "pretrained.citation",
)  # fmt: skip
# At these values a run is the one it was before the key was there.
ADDED_LATER: Mapping[str, object] = {
    "control": None, "steps": None, "optimizer.label_smoothing": 0.0, "batch_norm": "running", "mixup": 0.0,
    "averaging": "none", "ema_decay": 0.99, "model.pool": "last", "model.numbers": [], "validate_every": 1,
    "model.shortcuts": "monai",
    "inputs.name": "plain", "inputs.isodoses_gy": [], "inputs.isodose_edge_gy": 2.0, "inputs.difference": False,
    "inputs.relative_dose": False,
    "crop.name": "none", "crop.at": None, "crop.size_mm": 96, "crop.jitter_mm": 8, "crop.everywhere": False,
}  # fmt: skip
PATIENCE_S = 30  # for a process that was killed a moment ago and still holds the folder


@dataclass(frozen=True)
class FinishedRun:
    """A run folder with DONE, and its run.json."""

    folder: Path
    record: RunRecord

    @property
    def modalities(self) -> str:
        """The run's row of the grid."""
        return self.record.modalities.name

    @property
    def channels(self) -> list[str]:
        return self.record.modalities.channels

    @property
    def fold(self) -> int:
        return self.record.fold

    @property
    def seed(self) -> int:
        return self.record.seed

    @property
    def control(self) -> str | None:
        return self.record.control


def run_folder(run: Path, modalities: str, fold: int, seed: int | None = None) -> Path:
    """Where one fold of one row lives inside a grid's folder; with `seed`, where that one of its several seeds does."""
    return run / modalities / (f"fold{fold}" if seed is None else f"fold{fold}-seed{seed}")


def place(run: Path, row: str, fold: int, seed: int, several_seeds: bool) -> Path:
    """The folder that a training writes to: fold<k> or fold<k>-seed<s>, or the other one if this seed began there.

    So no seed of a fold is trained twice when more seeds are added to a grid later.
    """
    plain = run_folder(run, row, fold)
    with_seed = run_folder(run, row, fold, seed)
    if several_seeds:
        path = plain / "identity.json"
        return plain if path.is_file() and json.loads(path.read_text()).get("seed") == seed else with_seed
    return with_seed if (with_seed / "identity.json").is_file() else plain


def identity(config: Mapping[str, object], inputs: Mapping[str, str]) -> dict[str, object]:
    """What decides a run's result: its settings, and the hashes of what it reads."""
    flat = {**_flat(config), **inputs}
    as_before = {name for name, value in ADDED_LATER.items() if name in flat and flat[name] == value}
    return {
        name: value for name, value in flat.items() if not name.startswith(WITHOUT_EFFECT) and name not in as_before
    }


def owner(run_identity: Mapping[str, object]) -> str:
    """A digest of a run's identity, by which it knows its checkpoints."""
    return hashlib.sha256(json.dumps(run_identity, sort_keys=True).encode()).hexdigest()


def is_finished(folder: Path, run_identity: Mapping[str, object]) -> bool:
    """Resume check: whether the run folder is finished; if it is not, training with this identity may resume in it.

    Raises:
        WrongUsage: the folder was started with other settings, cases or folds; lists every difference.
    """
    path = folder / "identity.json"
    if path.is_file():
        before: dict[str, object] = json.loads(path.read_text())
        changed = [
            name for name in sorted(before.keys() | run_identity.keys()) if before.get(name) != run_identity.get(name)
        ]
        values = [[held.get(name, ADDED_LATER.get(name)) for held in (before, run_identity)] for name in changed]
        lines = [f"{name}: {old} before, {new} now" for name, (old, new) in zip(changed, values, strict=True)]
        if changed:
            beside = "add several_seeds=true to train this seed beside the other, " if changed == ["seed"] else ""
            raise WrongUsage(
                f"{folder.parent.name} {folder.name} was started with other settings:\n  " + "\n  ".join(lines)
                + f"\n{beside}give another name=, or remove that run folder"
            )  # fmt: skip
    return is_done(folder)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on `folder`; where the training does not finish, its run.json then says how it ended.

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
    path = folder / RUN_JSON
    if not path.is_file() or (folder / "DONE").is_file():
        return
    stopped = isinstance(error, (SystemExit, KeyboardInterrupt))
    lines = str(error).splitlines()
    message = "" if stopped or not lines else lines[0]
    end = {"status": "interrupted" if stopped else "failed", "message": message}
    read_run(folder).model_copy(update=end).write(path)


def begin(folder: Path, config: Mapping[str, object], run_identity: Mapping[str, object], record: RunRecord) -> None:
    """Write what the run is: identity.json, config.yaml and run.json with `status` running."""
    keep(folder, "identity.json", json.dumps(run_identity, indent=1) + "\n")
    keep(folder, "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
    keep(folder, RUN_JSON, record.model_copy(update={"status": "running"}).as_json())


@contextmanager
def writing(folder: Path, what: str) -> Iterator[None]:
    """Turn a full or read-only disk into an interrupted run, whose finished work is kept.

    Raises:
        Incomplete: naming the run and the system's reason.
    """
    try:
        yield
    except OSError as error:
        raise Incomplete(
            f"{folder.parent.name} {folder.name}: {what} cannot be written ({error.strerror}); what was there is kept: "
            "free disk space or fix the permissions, then run the same command again"
        ) from error


def keep(folder: Path, name: str, text: str) -> None:
    """Write one of a run's small files atomically; raises as `writing`."""
    with writing(folder, name):
        replace_file(folder / name, text)


def _flat(config: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
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
                f"run {folder.parent.name} {folder.name}: {name} was changed or removed after the run finished",
                "remove the run folder and train again",
                code="run.changed",
            )
    return True


def finish(folder: Path, record: RunRecord) -> None:
    """Write run.json, then DONE with the hashes of all results: from here on the run counts."""
    if (folder / PROGRESS).is_file():
        pace = EpochProgress.read(folder / PROGRESS).seconds_per_epoch
        record = record.model_copy(update={"seconds_per_epoch": pace})
    keep(folder, RUN_JSON, record.model_copy(update={"status": "done"}).as_json())
    results = [name for name in (*RESULTS, BY_SET) if name in RESULTS or (folder / name).is_file()]
    keep(folder, "DONE", json.dumps({name: file_hash(folder / name) for name in results}, indent=1) + "\n")
    (folder / PROGRESS).unlink(missing_ok=True)


def finished_runs(run: Path) -> list[FinishedRun]:
    """All finished runs of a grid, leakage controls too, ordered by row, fold and seed.

    Raises:
        InvalidInput: there is none, or one was changed after it finished.
    """
    finished = [FinishedRun(place.folder, read_run(place.folder)) for place in walk(run) if is_done(place.folder)]
    if not finished:
        raise InvalidInput(
            "no finished run in this folder",
            "train first: python -m ricenet.train cases=... name=...",
            code="run.missing",
        )
    return sorted(finished, key=lambda run: (run.modalities, run.fold, run.seed, run.folder.name))


def cases_folder(run: Path, finished: Sequence[FinishedRun]) -> Path:
    """The cases folder that the `finished` runs of the grid `run` were trained on.

    Raises:
        InvalidInput: runs of one grid were trained on different cases folders, or it is gone.
    """
    relative = {one.record.cases for one in finished}
    if len(relative) > 1:
        raise InvalidInput(
            "runs of this grid were trained on different cases folders",
            "use a separate name= for each cases folder",
            code="run.cases_differ",
        )
    folder = run / relative.pop()
    if not (folder / "cases.csv").is_file():
        raise InvalidInput(
            "the cases folder of this grid has been moved or removed",
            "put it back where it was",
            code="run.cases_missing",
        )
    return folder


def case_hash(cases: Path, folds: Folds) -> str:
    """One hash over the case.json of every case: other images or other preprocessing give another hash."""
    from ricenet.cases.case_record import record_path

    digest = hashlib.sha256()
    for case in folds.cases:
        digest.update(record_path(cases, case).read_bytes())
    return digest.hexdigest()


def require_same_inputs(runs: Sequence[FinishedRun], cases: Path, folds: Folds) -> None:
    """Check that runs were trained on the folds and cases that are there now, so that unseen cases are unseen.

    Raises:
        InvalidInput: naming the run and what changed.
    """
    changes = {
        "folds_hash": (folds.hash, "the cases, labels or folds"),
        "case_hash": (case_hash(cases, folds), "the images or their preprocessing"),
    }
    for key, (now, changed) in changes.items():
        for run in runs:
            then = run.record.input_hashes[key]
            if then != now:
                raise InvalidInput(
                    f"run {run.modalities}/{run.folder.name}: {changed} changed after training ({key} {then[:12]} "
                    f"then, {now[:12]} now)",
                    "restore the cases folder as it was, or train the run again",
                    code="run.cases_changed",
                )


def finished_folds(runs: Sequence[FinishedRun], modalities: str, cases: Path, folds: Folds) -> dict[int, FinishedRun]:
    """The finished folds of one modality set, by fold; of several seeds of a fold the one with the lowest seed.

    Raises:
        InvalidInput: none is finished, or one was trained on other cases or folds than the cases folder holds now.
    """
    by_seed = sorted((run for run in runs if run.modalities == modalities), key=lambda run: run.seed, reverse=True)
    finished = {run.fold: run for run in by_seed}  # the last one stays
    if not finished:
        have = ", ".join(sorted({run.modalities for run in runs}))
        raise InvalidInput(
            f"no finished fold of modalities={modalities} in the run folder (finished: {have})",
            f"train it with python -m ricenet.train +modalities={modalities} fold=0",
            code="run.missing",
        )
    require_same_inputs(list(finished.values()), cases, folds)
    return finished
