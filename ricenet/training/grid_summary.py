"""What a multirun shows at its end: the table of its grid, and which jobs failed."""

import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ricenet.command.atomic import replace_file
from ricenet.command.exits import (
    EXIT_INCOMPLETE,
    stop_with,
)

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from omegaconf import DictConfig


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
            stop_with(
                EXIT_INCOMPLETE, f"{failure}; the grid stops, for its folder cannot be written ({error.strerror})"
            )

    def on_multirun_end(self, config: "DictConfig", **kwargs: Any) -> None:
        from ricenet.training.grid_state import grid_table

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
            stop_with(EXIT_INCOMPLETE, f"{len(failed)} job(s) of the grid failed, the others are finished:\n{lines}")


def _forget_paths(job_return: "JobReturn") -> None:
    """Keep the paths that were typed out of the files that submitit leaves behind when a job has ended."""
    from submitit import JobEnvironment

    job_return.cfg = job_return.hydra_cfg = job_return.overrides = job_return.working_dir = None
    JobEnvironment().paths.submitted_pickle.unlink(missing_ok=True)
