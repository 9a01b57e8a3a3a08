"""The command line of a stage: `work(config)` in; `python -m ricenet.<stage>` with its exit codes out.

A stage is a function `work(cfg: <Stage>Config) -> None` under `@stage`; below it there is no DictConfig and no default.
"""

import logging
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ricenet.config import CONF_DIR, Config, Incomplete, InvalidInput, WrongUsage, typed_config

EXIT_DONE, EXIT_CRASHED, EXIT_USAGE, EXIT_INVALID_INPUT, EXIT_INCOMPLETE, EXIT_SIGTERM = 0, 1, 2, 3, 4, 143

log = logging.getLogger(__name__)


def stage(
    name: str, schema: type[Config], *, private: bool = False
) -> Callable[[Callable[[Config], None]], Callable[[], NoReturn]]:
    """Turn `work(config)` into the command line `python -m ricenet.<name>`.

    A `private` stage reads patients' files: an exception that nobody foresaw is told by its place alone, because its
    text may hold a path, an id or a header. RICENET_TRACEBACK=1 shows all of it.

    In a single run the process ends with the exit codes above. In a multirun every job is tried: a failed one leaves
    its traceback in the log, and the process ends with 4 when all are through (conf/grid.yaml, GridSummary).
    """

    def decorate(work: Callable[[Config], None]) -> Callable[[], NoReturn]:
        entered = False

        def job(raw: DictConfig) -> None:
            nonlocal entered
            entered = True
            try:
                config = typed_config(schema, raw)
            except OmegaConfBaseException as error:
                _stop(
                    EXIT_USAGE, f"config of ricenet.{name}: {_first_line(error)} (see python -m ricenet.{name} --help)"
                )
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
            try:
                hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=name)(_tolerant(job))()
            except SystemExit as stop:
                # Hydra ends with 1 for what it finds wrong in overrides and config files, before any job starts.
                sys.exit(EXIT_USAGE if stop.code == 1 and not entered else stop.code)
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


def _tolerant(job: Callable[[DictConfig], None]) -> Callable[[DictConfig], str]:
    """In a multirun one broken job must not end the others; its failure is kept beside the grid for GridSummary."""

    def guarded(raw: DictConfig) -> str:
        hydra_config = HydraConfig.get()
        if hydra_config.mode != RunMode.MULTIRUN:
            job(raw)
            return "done"
        mark = _failure_mark(hydra_config.sweep.dir, hydra_config.job.override_dirname)
        try:
            job(raw)
        except SystemExit as stop:
            if stop.code == EXIT_SIGTERM:
                raise
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.write_text(f"exit {stop.code}")
            return "failed"
        except Exception as error:
            log.exception("%s failed", hydra_config.job.override_dirname)
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.write_text(f"{type(error).__name__}: {_first_line(error)}")
            return "failed"
        return "done"

    return guarded


class GridSummary(Callback):
    """Hydra callback: when the last job of a multirun is through, list those that failed and end with exit code 4."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        shutil.rmtree(_failure_mark(config.hydra.sweep.dir, "x").parent, ignore_errors=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        # Hydra's copy of the sweep holds the paths as they were typed; every run folder has its own config.yaml.
        (Path(config.hydra.sweep.dir) / "multirun.yaml").unlink(missing_ok=True)
        marks = sorted(_failure_mark(config.hydra.sweep.dir, "x").parent.glob("*.txt"))
        if marks:
            lines = "\n".join(f"  {mark.stem}: {mark.read_text()}" for mark in marks)
            _stop(EXIT_INCOMPLETE, f"{len(marks)} job(s) of the grid failed, the others are finished:\n{lines}")


def _failure_mark(sweep_dir: str, overrides: str) -> Path:
    return Path(sweep_dir) / "failed" / f"{overrides.replace('/', '_')}.txt"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _stop(code: int, message: str) -> NoReturn:
    print(f"ricenet: {message}", file=sys.stderr, flush=True)
    sys.exit(code)
