"""The command line of a stage: `work(config)` in; `python -m ricenet.<stage>` with its exit codes out.

A stage is a function `work(cfg: <Stage>Config) -> None` under `@stage`; below it there is no DictConfig and no default.
"""

import logging
import multiprocessing
import os
import re
import secrets
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ricenet.command.atomic import replace_file
from ricenet.command.help import usage
from ricenet.command.no_code import refuse_calls
from ricenet.command.schemas import CONF_DIR, Config, Incomplete, InvalidInput, WrongUsage, typed_config

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from omegaconf import DictConfig

EXIT_DONE, EXIT_CRASHED, EXIT_USAGE, EXIT_INVALID_INPUT, EXIT_INCOMPLETE, EXIT_SIGTERM = 0, 1, 2, 3, 4, 143
FAILURES = (EXIT_CRASHED, EXIT_USAGE, EXIT_INVALID_INPUT, EXIT_INCOMPLETE)
POLL_S, ORPHAN_PATIENCE_S = 0.5, 10.0

log = logging.getLogger(__name__)


def stage(
    name: str, schema: type[Config], *, private: bool = False, typed: Mapping[str, str] | None = None
) -> Callable[[Callable[[Config], None]], Callable[[], NoReturn]]:
    """Turn `work(config)` into the command line `python -m ricenet.<name>`.

    A `private` stage reads patients' files: an exception that nobody foresaw is told by its place alone, because its
    text may hold a path, an id or a header. RICENET_TRACEBACK=1 shows all of it.

    `typed` holds keys that people type otherwise, {typed: key}: Hydra would take model=DIR for a choice of conf/model.

    `--help` is answered from the config files, before Hydra is loaded (ricenet.command.help). In a single run the
    process ends with the exit codes above. In a multirun every job is tried: a failed one leaves its traceback in the
    log, and the process ends with 4 when all are through (conf/train.yaml, GridSummary).
    """

    def decorate(work: Callable[[Config], None]) -> Callable[[], NoReturn]:
        entered = False

        def job(raw: "DictConfig") -> None:
            from omegaconf.errors import OmegaConfBaseException

            nonlocal entered
            entered = True
            try:
                config = typed_config(schema, raw)
            except OmegaConfBaseException as error:
                where = f"{error.full_key}: " if getattr(error, "full_key", None) else ""
                hint = f"(see python -m ricenet.{name} --help)"
                _stop(EXIT_USAGE, f"config of ricenet.{name}: {where}{_first_line(error)} {hint}")
            try:
                work(config)
            except WrongUsage as error:
                _stop(EXIT_USAGE, str(error))
            except InvalidInput as error:
                _stop(EXIT_INVALID_INPUT, str(error))
            except Incomplete as error:
                _stop(EXIT_INCOMPLETE, str(error))
            except Exception as error:
                if not private or "RICENET_TRACEBACK" in os.environ:
                    raise
                _stop(
                    EXIT_CRASHED, f"{name} crashed: {without_private_text(error)}; RICENET_TRACEBACK=1 shows the rest"
                )

        def main() -> NoReturn:
            if {"-h", "--help"} & set(sys.argv[1:]):
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--help | head` is no error
                print(usage(name, (sys.modules[work.__module__].__doc__ or "").split("\n")[0]))
                sys.exit(EXIT_DONE)
            try:
                refuse_calls(sys.argv[1:])
            except WrongUsage as error:
                _stop(EXIT_USAGE, str(error))
            for word, key in (typed or {}).items():
                sys.argv[1:] = [re.sub(f"^{word}=", f"{key}=", argument) for argument in sys.argv[1:]]
            import hydra

            try:
                hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=name)(_tolerant(job))()
            except SystemExit as stop:
                sys.exit(_exit_code(stop, entered))
            except KeyboardInterrupt:
                sys.exit(128 + signal.SIGINT)
            sys.exit(EXIT_DONE)

        return main

    return decorate


def without_private_text(error: BaseException) -> str:
    """The type and place of an exception, and the system's word for it; not its message, which may name a patient."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    what = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    return f"{type(error).__name__}{what}{where}"


def _tolerant(job: Callable[["DictConfig"], None]) -> Callable[["DictConfig"], str]:
    """In a multirun one broken job must not end the others: it returns why it failed, and "" where it did not.

    A signal does end them, whatever code submitit or Lightning have for it.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    def guarded(raw: "DictConfig") -> str:
        _end_with_parent()
        alone = HydraConfig.get().mode != RunMode.MULTIRUN
        try:
            job(raw)
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's end after Ctrl-C is exit code 1
                raise KeyboardInterrupt from stop
            if alone or stop.code not in FAILURES:
                raise
            return _first_line(stop.__context__ or stop)
        except Exception as error:
            if alone:
                raise
            log.exception("%s failed", HydraConfig.get().job.override_dirname)
            return f"{type(error).__name__}: {_first_line(error)}"
        finally:
            _end_with_parent()  # joblib's worker would take up the next job
        return ""

    return guarded


def _end_with_parent() -> None:
    """Have this process, where it is one of joblib's workers, end as soon as its parent is gone, killed or not.

    Not for SLURM's jobs: they live on when the process that submitted them ends.
    """
    parent = multiprocessing.parent_process()
    if parent and os.getppid() != parent.pid:
        os._exit(EXIT_SIGTERM)
    if parent:
        _watch(parent.pid)


@cache
def _watch(parent: int | None) -> None:
    threading.Thread(target=_terminate_orphan, args=(parent,), daemon=True).start()


def _terminate_orphan(parent: int | None) -> NoReturn:
    while os.getppid() == parent:
        time.sleep(POLL_S)
    while True:  # again, should the first be lost in a callback that drops exceptions
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_PATIENCE_S)


class GridSummary:
    """Hydra callback: when the last job of a multirun is through, show the grid; exit code 4 where a job failed.

    No subclass of Hydra's Callback, whose import every --help would wait for; Hydra calls all six hooks. The object
    travels to the jobs' processes, and their failures come back as files: Hydra drops what jobs return.
    """

    def __init__(self) -> None:
        self.failures: Path | None = None  # None in a single run, which tells its own failure

    def on_run_start(self, **kwargs: Any) -> None:
        """Nothing to do."""

    on_run_end = on_run_start

    def on_multirun_start(self, config: "DictConfig", **kwargs: Any) -> None:
        # Its own name for every multirun: two of them may fill one grid.
        self.failures = Path(config.hydra.sweep.dir) / f".failed-{secrets.token_hex(4)}"

    def on_job_start(self, config: "DictConfig", **kwargs: Any) -> None:
        if self.failures:
            # Hydra's copy of the sweep holds the paths as they were typed; every run folder has its own config.yaml.
            (self.failures.parent / "multirun.yaml").unlink(missing_ok=True)

    def on_job_end(self, config: "DictConfig", job_return: "JobReturn", **kwargs: Any) -> None:
        if not self.failures:
            return
        if job_return.return_value:
            self._note(config.hydra.job.num, f"{config.hydra.job.override_dirname}: {job_return.return_value}")
        if "SUBMITIT_FOLDER" in os.environ:
            _forget_paths(job_return)

    def _note(self, number: int, failure: str) -> None:
        assert self.failures
        try:
            self.failures.mkdir(parents=True, exist_ok=True)
            replace_file(self.failures / f"{number:06}.txt", failure)
        except OSError as error:  # Hydra makes a warning of a callback's exception, and the grid would end with 0
            _stop(EXIT_INCOMPLETE, f"{failure}; the grid stops, for its folder cannot be written ({error.strerror})")

    def on_multirun_end(self, config: "DictConfig", **kwargs: Any) -> None:
        from ricenet.status import grid_table

        try:
            print(grid_table(Path(config.hydra.sweep.dir)), flush=True)
        finally:
            self._tell_failures()

    def _tell_failures(self) -> None:
        assert self.failures
        failed = [note.read_text(encoding="utf-8") for note in sorted(self.failures.glob("*.txt"))]
        if failed:
            shutil.rmtree(self.failures)
            lines = "\n".join(f"  {failure}" for failure in failed)
            _stop(EXIT_INCOMPLETE, f"{len(failed)} job(s) of the grid failed, the others are finished:\n{lines}")


def _forget_paths(job_return: "JobReturn") -> None:
    """Keep the paths that were typed out of the files that submitit leaves behind when a job has ended."""
    from submitit import JobEnvironment

    job_return.cfg = job_return.hydra_cfg = job_return.overrides = job_return.working_dir = None
    JobEnvironment().paths.submitted_pickle.unlink(missing_ok=True)


def _exit_code(stop: SystemExit, entered: bool) -> Any:
    """The exit code of a process that Hydra ended, which makes 1 of every exception."""
    lost = isinstance(stop.__context__, BrokenExecutor) or type(stop.__context__).__name__ == "UncompletedJobError"
    if stop.code == EXIT_CRASHED and lost:  # by joblib, by submitit
        print("ricenet: a job of the grid was killed (out of memory?); what is done is kept", file=sys.stderr)
        return EXIT_INCOMPLETE
    # Hydra ends with 1 for what it finds wrong in overrides and config files, before any job starts.
    return EXIT_USAGE if stop.code == EXIT_CRASHED and not entered else stop.code


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _stop(code: int, message: str) -> NoReturn:
    print(f"ricenet: {message}", file=sys.stderr, flush=True)
    sys.exit(code)
