"""The cells of a grid, read from its run folders: which row, fold and seed is done, running, failed or waiting.

ricenet.status prints them and ricenet.report shows them, so both say the same of a grid.
"""

import fcntl
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

from ricenet.cases.case_record import CASE_FILE, CaseRecord, read_case_record
from ricenet.cohort.folds import Folds, read_folds
from ricenet.command.records import Record
from ricenet.command.row_names import METADATA_ONLY, RowName
from ricenet.errors import InvalidInput
from ricenet.paper import PAPER, PAPER_CHANNELS, sets_of
from ricenet.training.run_folder import run_folder
from ricenet.training.run_record import PROGRESS, RUN_JSON, EpochProgress, PretrainedStart, RunRecord, walk

AnyRecord = TypeVar("AnyRecord", bound=Record)

STATES = ("done", "running", "failed", "killed", "interrupted", "waiting")


@dataclass(frozen=True)
class Cell:
    """One fold of one row of a grid, and one seed where the folders tell several apart.

    Attributes:
        state: one of STATES.
        epoch: epochs done.
        epochs: epochs to be trained, 0 where they are not known.
        seconds_per_epoch: None where it is not known.
        message: why it failed.
        seed: None where the grid has one seed a fold.
        record: its run.json, None where there is none or it is damaged.
    """

    row: str
    fold: int
    state: str
    epoch: int = 0
    epochs: int = 0
    seconds_per_epoch: float | None = None
    message: str = ""
    seed: int | None = None
    record: RunRecord | None = None

    @property
    def name(self) -> str:
        """Of its line in the table: rd_event, or rd_event seed 1."""
        return self.row if self.seed is None else f"{self.row} seed {self.seed}"

    def __str__(self) -> str:
        begun = self.epochs and self.state not in ("done", "waiting")
        return f"{self.state} {self.epoch / self.epochs:.0%}" if begun else self.state


def read_cells(run: Path) -> list[Cell]:
    """Every fold of every row of a grid, the paper's sets first; empty where no run was ever begun.

    The rows are those that were begun, and those of the paper that the channels of the cases allow. Where a folder's
    name says a seed, every seed has rows of its own.
    """
    places = walk(run)
    records = {place.folder: _read(RunRecord, place.folder / RUN_JSON)[0] for place in places}
    readable = [record for record in records.values() if record]
    n_folds = max([0, *(place.fold + 1 for place in places), *(record.n_folds for record in readable)])
    several = any(place.seed is not None for place in places)
    folders: dict[tuple[str, int | None, int], Path] = {}
    plain = set()
    for place in places:
        record, seed = records[place.folder], place.seed
        if several and seed is None and record:
            seed = record.seed
        folders[place.row, seed, place.fold] = place.folder
        if place.seed is None and place.row in PAPER:
            plain.add(seed)
    rows = _rows({(row, seed) for row, seed, _ in folders}, plain, _possible(run, readable))
    return [
        _read_cell(folders.get((row, seed, fold), run_folder(run, row, fold, seed)), row, fold, seed)
        for row, seed in rows
        for fold in range(n_folds)
    ]


def _rows(
    begun: set[tuple[str, int | None]], plain: set[int | None], possible: Collection[str]
) -> list[tuple[str, int | None]]:
    """The paper's sets, each with the seeds that all of them should have, and with its own; then the other rows.

    Args:
        plain: seeds of the paper's sets in folders without a seed in their names. Where there are such, further seeds
            are an addition that nobody asked for in the other sets.
        possible: the paper's sets that these cases can train.
    """
    expected = plain or {seed for row, seed in begun if row in PAPER}
    paper = {(row, seed) for row in possible for seed in expected}
    order = [*PAPER, *sorted({row for row, _ in begun} - PAPER.keys())]
    return sorted(begun | paper, key=lambda line: (order.index(line[0]), -1 if line[1] is None else line[1]))


def possible_sets(cases: Path, folds: Folds, sets: Mapping[str, Collection[str]] = PAPER_CHANNELS) -> list[str]:
    """Which of `sets`, name -> channels, the cases of a cases folder can train, in every fold.

    Raises:
        InvalidInput: as read_case_record.
    """
    if folds.is_partial:
        having = {name: folds.having(channels) for name, channels in sets.items()}
        return [name for name, of in having.items() if all(map(of.is_trainable, range(of.n_folds)))]
    available = set(read_case_record(cases, folds.cases[0]).channels)
    return [name for name, channels in sets.items() if set(channels) <= available]


def _possible(run: Path, records: Collection[RunRecord]) -> list[str]:
    """The paper's sets that the cases of a grid can train; of its runs' channels, where the cases are gone."""
    folders = {record.cases for record in records}
    for folder in folders:
        with suppress(InvalidInput):
            folds = read_folds(run / folder)
            if folds.is_partial:
                return possible_sets(run / folder, folds)
    return sets_of(_channels(run, records, folders))


def _channels(run: Path, records: Collection[RunRecord], folders: Collection[str]) -> set[str]:
    for path in chain.from_iterable((run / folder).glob(f"*/{CASE_FILE}") for folder in folders):
        with suppress(InvalidInput):  # one that is being written
            return set(CaseRecord.read(path).channels)  # all cases have the same
    return set(chain.from_iterable(record.modalities.channels for record in records))


def _read_cell(folder: Path, row: str, fold: int, seed: int | None) -> Cell:
    held = _is_held(folder)  # first: a run that lets go after this glance has said how it ended
    record, fault = _read(RunRecord, folder / RUN_JSON)
    if record is None:
        state = "running" if held else "failed" if fault else "waiting"
        return Cell(row, fold, state, message=fault, seed=seed)
    if (folder / "DONE").is_file():
        return Cell(row, fold, "done", record.epochs, record.epochs, record.seconds_per_epoch, "", seed, record)
    progress, _ = _read(EpochProgress, folder / PROGRESS)
    epoch = progress.epoch if progress else 0
    pace = progress.seconds_per_epoch if progress else None
    state = _state(held, record.status)
    return Cell(row, fold, state, epoch, record.epochs, pace, record.message or "", seed, record)


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


def train_commands(cells: Sequence[Cell]) -> list[str]:
    """The commands that train what is not done: one for the modality sets, one for each other kind of row."""
    n_folds = len({cell.fold for cell in cells})
    sets: dict[tuple[str, ...], list[str]] = {}  # the other keys of a command -> its modality sets
    for row in dict.fromkeys(cell.row for cell in cells if cell.state != "done"):
        modalities, *keys = _keys(row, [cell for cell in cells if cell.row == row])
        sets.setdefault((*keys, *_seeds(row, cells)), []).append(modalities)
    return [
        " ".join(["python -m ricenet.train -m", *_choice(names), f"'fold=range({n_folds})'", *keys])
        for keys, names in sets.items()
    ]


def _choice(names: Sequence[str]) -> list[str]:
    given = ",".join(filter(None, names))
    return [f"'+modalities={given}'"] if given else []


def _keys(row: str, cells: Sequence[Cell]) -> list[str]:
    """The modality set of a row, empty where it has no effect or no name is known; then the other keys it needs."""
    record = next((cell.record for cell in cells if cell.record), None)
    if record is None:
        return _of_set(row)
    if record.control == METADATA_ONLY:
        return ["", f"control={METADATA_ONLY}"]
    control = [*_start(record.pretrained), *([f"control={record.control}"] if record.control else [])]
    if record.numbers is not None:
        control = [f"'model.numbers=[{','.join(record.numbers.requested)}]'", *control]
    if record.model.get("channel_dropout"):
        channels = tuple(record.modalities.channels)
        names = [name for name, of_set in PAPER_CHANNELS.items() if of_set == channels]
        return [*names, *([] if names else [""]), f"model={record.model['name']}", *control]
    return [*_of_set(row), *control]


def _start(start: PretrainedStart | None) -> list[str]:
    """The keys by which a network starts from a file; where that lies, nobody wrote down."""
    if start is None:
        return []
    changed = {"dose": "averaged", "freeze": "none", "learning_rate_factor": 1.0}
    keys = [
        f"pretrained.{name}={getattr(start, name)}" for name, plain in changed.items() if getattr(start, name) != plain
    ]
    return [f"pretrained={start.source}", "model.pretrained=FILE", *keys]


def _of_set(row: str) -> list[str]:
    """The modality set of a row, and the keys by which it is cropped at a place that it does not tell."""
    name = RowName.parse(row)
    crops = {"lesion": ["crop=lesion", "crop.everywhere=true"], "random": ["crop=random"]}
    return [name.of_set, *crops.get(name.place, [])]


def _seeds(row: str, cells: Sequence[Cell]) -> list[str]:
    """The keys of the seeds that a row should have; none for the default, seed 0."""
    named = sorted({cell.seed for cell in cells if cell.row == row and cell.seed is not None})
    if named:
        return [f"seed={','.join(map(str, named))}", "several_seeds=true"]
    used = {cell.record.seed for cell in cells if cell.record}
    return [f"seed={used.pop()}"] if len(used) == 1 and used != {0} else []
