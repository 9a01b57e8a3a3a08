"""The cells of a grid, read from its run folders: which row, fold and seed is done, running, failed or waiting."""

import fcntl
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import TypeVar

from ricenet.cases.case_record import CASE_FILE, CaseRecord
from ricenet.command.records import Record
from ricenet.errors import InvalidInput
from ricenet.paper import PAPER
from ricenet.training.run_folder import parse_fold, run_folder
from ricenet.training.run_record import PROGRESS, RUN_JSON, EpochProgress, RunRecord

AnyRecord = TypeVar("AnyRecord", bound=Record)

STATES = ("done", "running", "failed", "killed", "interrupted", "waiting")


@dataclass(frozen=True)
class Cell:
    """One fold of one row of a grid, and one seed where the folders tell several apart.

    `epochs` is 0 and `seconds_per_epoch` None where they are not known.
    """

    row: str
    fold: int
    state: str
    epoch: int = 0
    epochs: int = 0
    seconds_per_epoch: float | None = None
    message: str = ""
    seed: int | None = None

    @property
    def name(self) -> str:
        """Of its line in the table: rd_event, or rd_event seed 1."""
        return self.row if self.seed is None else f"{self.row} seed {self.seed}"

    def __str__(self) -> str:
        begun = self.epochs and self.state not in ("done", "waiting")
        return f"{self.state} {self.epoch / self.epochs:.0%}" if begun else self.state


def grid_table(run: Path) -> str:
    """The table of a grid, its counts, and the time that is left."""
    return as_text(read_cells(run))


def read_cells(run: Path) -> list[Cell]:
    """Every fold of every row of a grid, the paper's sets first; empty where no run was ever begun.

    The rows are those that are there, and those of the paper that the channels of the cases allow. Where a folder's
    name says a seed, every seed has rows of its own.
    """
    begun = {path: place for path in run.glob("*/fold*") if (place := parse_fold(path.name))}
    records = {path: record for path in begun if (record := _read(RunRecord, path / RUN_JSON)[0])}
    n_folds = max([0, *(fold + 1 for fold, _ in begun.values()), *(record.n_folds for record in records.values())])
    several = any(seed is not None for _, seed in begun.values())
    folders: dict[tuple[str, int | None, int], Path] = {}
    plain = set()
    for path, (fold, named) in begun.items():
        seed = records[path].seed if several and named is None and path in records else named
        folders[path.parent.name, seed, fold] = path
        if named is None and path.parent.name in PAPER:
            plain.add(seed)
    rows = _rows({(row, seed) for row, seed, _ in folders}, plain, _channels(run, records.values()))
    return [
        _read_cell(folders.get((row, seed, fold), run_folder(run, row, fold, seed)), row, fold, seed)
        for row, seed in rows
        for fold in range(n_folds)
    ]


def _rows(
    begun: set[tuple[str, int | None]], plain: set[int | None], channels: set[str]
) -> list[tuple[str, int | None]]:
    """The paper's sets, each with the seeds that all of them should have, and with its own; then the other rows.

    Args:
        plain: seeds of the paper's sets in folders without a seed in their names. Where there are such, further seeds
            are an addition that nobody asked for in the other sets.
    """
    expected = plain or {seed for row, seed in begun if row in PAPER}
    paper = {(row, seed) for row in PAPER for seed in expected if channels.issuperset(row.split("_"))}
    order = [*PAPER, *sorted({row for row, _ in begun} - PAPER.keys())]
    return sorted(begun | paper, key=lambda one: (order.index(one[0]), -1 if one[1] is None else one[1]))


def _channels(run: Path, records: Collection[RunRecord]) -> set[str]:
    """The channels of the cases that a grid is trained on; of its runs, where the cases are gone."""
    folders = {record.cases for record in records}
    for path in chain.from_iterable((run / folder).glob(f"*/{CASE_FILE}") for folder in folders):
        with suppress(InvalidInput):  # one that is being written
            return set(CaseRecord.read(path).channels)  # all cases have the same
    return set(chain.from_iterable(record.modalities.channels for record in records))


def _read_cell(folder: Path, row: str, fold: int, seed: int | None) -> Cell:
    held = _is_held(folder)  # first: a run that lets go after this glance has said how it ended
    record, fault = _read(RunRecord, folder / RUN_JSON)
    progress, _ = _read(EpochProgress, folder / PROGRESS)
    if record is None:
        return Cell(row, fold, "running" if held else "failed" if fault else "waiting", message=fault, seed=seed)
    if (folder / "DONE").is_file():
        return Cell(row, fold, "done", record.epochs, record.epochs, record.seconds_per_epoch, seed=seed)
    epoch = progress.epoch if progress else 0
    pace = progress.seconds_per_epoch if progress else None
    return Cell(row, fold, _state(held, record.status), epoch, record.epochs, pace, record.message or "", seed)


def _state(held: bool, status: str) -> str:
    """The state of a run without DONE; `held` says whether a process has its folder."""
    if held:
        return "running"
    return status if status in ("failed", "interrupted") else "killed"  # it had no time to say so


def _is_held(folder: Path) -> bool:
    """Whether a process trains into the folder: it holds the lock as long as it lives."""
    try:
        with (folder / ".lock").open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    return False


def _read(kind: type[AnyRecord], path: Path) -> tuple[AnyRecord | None, str]:
    """A record and "", or None and what is wrong with its file; nothing is wrong where there is none (yet)."""
    try:
        return kind.read(path), ""
    except InvalidInput as error:
        return None, "" if error.code == "record.missing" else f"{path.name} is damaged"


def as_text(cells: Sequence[Cell]) -> str:
    """A line per row and a column per fold; the counts; how long the rest will take."""
    counts = Counter(cell.state for cell in cells)
    summary = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    running = [_running(cell) for cell in cells if cell.state == "running"]
    return "\n".join([*_table(cells), f"{len(cells)} runs: {summary or 'none was begun'}", *running, *_rest(cells)])


def _table(cells: Sequence[Cell]) -> list[str]:
    lines: dict[str, list[str]] = {"": [f"fold {fold}" for fold in sorted({cell.fold for cell in cells})]}
    for cell in cells:
        lines.setdefault(cell.name, []).append(str(cell))
    columns = zip(*([row, *texts] for row, texts in lines.items()), strict=True)
    padded = [[f"{text:<{max(map(len, column))}}" for text in column] for column in columns]
    return ["  ".join(line).rstrip() for line in zip(*padded, strict=True)]


def _running(cell: Cell) -> str:
    if not cell.seconds_per_epoch:
        return f"{cell.name} fold {cell.fold}: in its first epoch"
    left = (cell.epochs - cell.epoch) * cell.seconds_per_epoch
    return f"{cell.name} fold {cell.fold}: epoch {cell.epoch} of {cell.epochs}, {_duration(left)} left"


def _rest(cells: Sequence[Cell]) -> list[str]:
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
