"""The command line of a stage: `work(config)` in; `python -m ricenet.<stage>` with its exit codes out.

A stage is a function `work(cfg: <Stage>Config) -> None` under `@stage`; below it there is no DictConfig and no default.
"""

import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from ricenet.command.exits import (
    EXIT_CRASHED,
    EXIT_DONE,
    EXIT_INCOMPLETE,
    EXIT_INVALID_INPUT,
    EXIT_SIGTERM,
    EXIT_USAGE,
    FAILURES,
    first_line,
    stop_with,
    without_private_text,
)
from ricenet.command.help import usage
from ricenet.command.no_code import refuse_calls
from ricenet.command.schemas import CONF_DIR, Config, typed_config
from ricenet.errors import Incomplete, InvalidInput, WrongUsage

if TYPE_CHECKING:
    from omegaconf import DictConfig

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
                stop_with(EXIT_USAGE, f"config of ricenet.{name}: {where}{first_line(error)} {hint}")
            try:
                work(config)
            except WrongUsage as error:
                stop_with(EXIT_USAGE, str(error))
            except InvalidInput as error:
                stop_with(EXIT_INVALID_INPUT, str(error))
            except Incomplete as error:
                stop_with(EXIT_INCOMPLETE, str(error))
            except Exception as error:
                if not private or "RICENET_TRACEBACK" in os.environ:
                    raise
                stop_with(
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
                stop_with(EXIT_USAGE, str(error))
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
            return first_line(stop.__context__ or stop)
        except Exception as error:
            if alone:
                raise
            log.exception("%s failed", HydraConfig.get().job.override_dirname)
            return f"{type(error).__name__}: {first_line(error)}"
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


def _exit_code(stop: SystemExit, entered: bool) -> Any:
    """The exit code of a process that Hydra ended, which makes 1 of every exception."""
    lost = isinstance(stop.__context__, BrokenExecutor) or type(stop.__context__).__name__ == "UncompletedJobError"
    if stop.code == EXIT_CRASHED and lost:  # by joblib, by submitit
        print("ricenet: a job of the grid was killed (out of memory?); what is done is kept", file=sys.stderr)
        return EXIT_INCOMPLETE
    # Hydra ends with 1 for what it finds wrong in overrides and config files, before any job starts.
    return EXIT_USAGE if stop.code == EXIT_CRASHED and not entered else stop.code
