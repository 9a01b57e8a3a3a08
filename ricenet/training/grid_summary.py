"""The table of a grid in text, which ricenet.status prints; and what a multirun says: sets left out, it, failures."""

import os
import secrets
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ricenet.command.atomic import replace_file
from ricenet.command.exits import EXIT_INCOMPLETE, stop_with

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from omegaconf import DictConfig

    from ricenet.cohort.folds import Folds
    from ricenet.training.grid_state import Cell


def grid_table(run: Path) -> str:
    """The table of a grid, its counts, and the time that is left."""
    from ricenet.training.grid_state import read_cells

    return as_text(read_cells(run))


def as_text(cells: "Sequence[Cell]") -> str:
    """A line per row and a column per fold; the counts; how long the rest will take."""
    from ricenet.training.grid_state import STATES

    counts = Counter(cell.state for cell in cells)
    summary = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    running = [_running(cell) for cell in cells if cell.state == "running"]
    counted = f"{len(cells)} runs: {summary or 'none was begun'}"
    return "\n".join([*_table(cells), counted, *_fewer_cases(cells), *running, *_rest(cells)])


def _table(cells: "Sequence[Cell]") -> list[str]:
    lines: dict[str, list[str]] = {"": [f"fold {fold}" for fold in sorted({cell.fold for cell in cells})]}
    for cell in cells:
        lines.setdefault(cell.name, []).append(str(cell))
    columns = zip(*([row, *texts] for row, texts in lines.items()), strict=True)
    padded = [[f"{text:<{max(map(len, column))}}" for text in column] for column in columns]
    return ["  ".join(line).rstrip() for line in zip(*padded, strict=True)]


def _fewer_cases(cells: "Sequence[Cell]") -> list[str]:
    """The rows that are trained on some of the cases."""
    records = {cell.row: cell.record for cell in cells if cell.record and cell.record.n_cases is not None}
    fewer = [f"{row} {record.n_cases} of {record.n_cohort_cases}" for row, record in records.items()]
    return [f"cases that have the images: {', '.join(fewer)}"] if fewer else []


def _running(cell: "Cell") -> str:
    if not cell.seconds_per_epoch:
        return f"{cell.name} fold {cell.fold}: in its first epoch"
    left = (cell.epochs - cell.epoch) * cell.seconds_per_epoch
    return f"{cell.name} fold {cell.fold}: epoch {cell.epoch} of {cell.epochs}, {_duration(left)} left"


def _rest(cells: "Sequence[Cell]") -> list[str]:
    """How long the runs will take that no process works at now, by the pace that this grid has shown."""
    rest = [cell for cell in cells if cell.state not in ("done", "running")]
    paces = [cell.seconds_per_epoch for cell in cells if cell.seconds_per_epoch]
    if not rest or not paces:
        return []
    pace, epochs = median(paces), max(cell.epochs for cell in cells)
    seconds = sum((epochs - cell.epoch) * pace for cell in rest)
    at_once = sum(cell.state == "running" for cell in cells)
    together = f", {_duration(seconds / at_once)} with {at_once} at a time as now" if at_once > 1 else ""
    basis = f"{pace:.2g} s an epoch is the median of {len(paces)} run(s)"
    return [f"the other {len(rest)}: about {_duration(seconds)} one after the other{together} ({basis})"]


def _duration(seconds: float) -> str:
    """In two units at most: 40 s, 12 min, 1 h 12 min, 3 d 4 h."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 60 // 24} d {minutes // 60 % 24} h"


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
        offer_possible_sets(config)

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


def offer_possible_sets(config: "DictConfig") -> None:
    """Take the sets that these cases cannot train out of +modalities=glob(...), and say which.

    Sets that are named one by one stay: a job says of each why it is refused.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob
    from omegaconf import open_dict, read_write
    from omegaconf.errors import OmegaConfBaseException

    from ricenet.cohort.channels import GROUP, read_sets
    from ricenet.cohort.folds import read_folds
    from ricenet.errors import InvalidInput, WrongUsage
    from ricenet.training.grid_state import possible_sets

    overrides = list(config.hydra.overrides.task)
    choices: dict[int, Any] = {
        place: parsed.value()
        for place, parsed in enumerate(OverridesParser.create().parse_overrides(overrides))
        if parsed.key_or_group == GROUP
    }
    globs = {place: choice for place, choice in choices.items() if isinstance(choice, Glob)}
    if not globs:
        return
    try:
        cases = Path(config.cases)
        folds = read_folds(cases)
        sets = read_sets(Path(one.path) for one in config.hydra.runtime.config_sources if one.schema == "file")
        possible = possible_sets(cases, folds, sets)
    except (InvalidInput, WrongUsage, OmegaConfBaseException):  # the jobs say what is wrong
        return
    for place, glob in globs.items():
        asked = glob.filter(GlobalHydra.instance().config_loader().get_group_options(GROUP))
        names = [name for name in asked if name in possible]
        if not names or names == asked:
            continue
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.overrides.task[place] = f"+{GROUP}={','.join(names)}"
        print(f"left out, which these cases cannot train: {_left_out(folds, sets, asked, names)}", flush=True)


def _left_out(folds: "Folds", sets: "Mapping[str, Collection[str]]", asked: Sequence[str], names: Sequence[str]) -> str:
    absent = [name for name in asked if name not in names]
    if not folds.is_partial:
        return ", ".join(absent)
    counts = {name: len(folds.having(sets[name]).cases) for name in absent}
    return ", ".join(f"{name} ({count} of {len(folds.cases)} cases have its images)" for name, count in counts.items())


def _forget_paths(job_return: "JobReturn") -> None:
    """Keep the paths that were typed out of the files that submitit leaves behind when a job has ended."""
    from submitit import JobEnvironment

    job_return.cfg = job_return.hydra_cfg = job_return.overrides = job_return.working_dir = None
    JobEnvironment().paths.submitted_pickle.unlink(missing_ok=True)
