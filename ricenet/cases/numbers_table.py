"""The numbers of the cases of a folder: numbers.json in each case folder, numbers.csv and numbers_random.csv beside.

preprocess and phantom write them. numbers_random.csv is a control: the same numbers with the lesion's mask moved to a
place in the brain that is drawn for the case, where the dose at the lesion can say nothing about it.
"""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ricenet.cases.case_numbers import NUMBERS, numbers_of_case
from ricenet.cases.case_record import CASE_FILE, CaseRecord
from ricenet.cases.structures import load_masks
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.cohort.table import LESION
from ricenet.command.atomic import replacing_text
from ricenet.command.records import Record, read_version
from ricenet.errors import InvalidInput, about
from ricenet.images.enhancement import Lesion, find_lesion

NUMBERS_VERSION = 1  # raise it when the same case folder gives other numbers: they are computed anew then
NUMBERS_FILE = "numbers.json"
TABLE, RANDOM_TABLE = "numbers.csv", "numbers_random.csv"
AGAIN = (
    "run python -m ricenet.preprocess (for a phantom: ricenet.phantom) again with the same arguments: it writes the "
    "numbers and keeps the finished cases"
)
TRIES = 50  # random places, of which the first is taken that has room for the lesion
ROOM = 0.95  # of the moved mask, at least, in the brain

Mask = NDArray[np.bool_]


class CaseNumbers(Record):
    """numbers.json: the numbers of a case; apart from case.json, whose bytes runs know by their hash.

    Attributes:
        version: NUMBERS_VERSION.
        source: where the lesion came from (ricenet.images.enhancement.Lesion).
        contrast: how far it stands out, in SD of the brain.
        prescription_gy: that relative numbers refer to.
        numbers: by name, in the order of NUMBERS, as far as the case has their parts.
        random: the same at a random place.
    """

    version: int
    source: Literal["mask", "difference", "event", "none"]
    contrast: float | None
    prescription_gy: float | None
    numbers: dict[str, float]
    random: dict[str, float]


def measure(
    record: CaseRecord, volume: NDArray, brain: Mask, masks: Mapping[str, Mask], prescription_gy: float | None
) -> CaseNumbers:
    """The numbers of a case as it is stored.

    Args:
        record: of the case.
        volume: (C, X, Y, Z), in the record's order of channels.
        brain: (X, Y, Z).
        masks: (X, Y, Z) each, by name: `lesion` is the user's, one with `cavity` in its name the resection cavity.
        prescription_gy: of the whole treatment, if it is known.

    Raises:
        InvalidInput: as numbers_of_case.
    """
    channels = dict(zip(record.channels, volume, strict=True))
    images: dict[str, NDArray] = {
        role: channels[role].astype(np.float64) for role in ("post", "event") if role in channels
    }
    brain = brain.astype(bool)
    lesion = find_lesion(images, brain, record.spacing_mm, masks.get(LESION))
    if "rd" in channels and record.dose_scale_gy is not None:
        images["rd"] = channels["rd"].astype(np.float64) * record.dose_scale_gy
    moved = Lesion(at_random_place(lesion.mask, brain, record.case_key), lesion.source, lesion.contrast)
    cavity = next((mask for name, mask in sorted(masks.items()) if "cavity" in name.lower()), None)
    numbers, random = (
        numbers_of_case(images, brain, record.spacing_mm, each, prescription_gy, cavity) for each in (lesion, moved)
    )
    return CaseNumbers(
        version=NUMBERS_VERSION,
        source=lesion.source,
        contrast=lesion.contrast,
        prescription_gy=prescription_gy,
        numbers=numbers,
        random=random,
    )


def measure_folder(folder: Path, prescription_gy: float | None) -> None:
    """Write numbers.json of a finished case folder.

    Raises:
        InvalidInput: as measure; the folder's record is damaged.
    """
    record = CaseRecord.read(folder / CASE_FILE)
    with about(f"case {record.case_key}"):
        volume, brain = np.load(folder / "volume.npy", mmap_mode="r"), np.load(folder / "brain.npy")
        measure(record, volume, brain, load_masks(folder), prescription_gy).write(folder / NUMBERS_FILE)


def is_measured(folder: Path) -> bool:
    """Whether a case folder has its numbers, as this version computes them."""
    return read_version(folder / NUMBERS_FILE) == NUMBERS_VERSION


def at_random_place(mask: Mask, brain: Mask, case_key: str) -> Mask:
    """A mask moved by whole voxels to a random place of the brain, the same for the case in every run.

    Of 50 places the first is taken at which 95% of the mask lie in the brain, else the one at which most does; what
    does not is left out.

    Args:
        mask: (X, Y, Z); may be empty.
        brain: (X, Y, Z), not empty.
    """
    moved = np.zeros(mask.shape, dtype=bool)
    voxels = np.argwhere(mask)
    if not len(voxels):
        return moved
    seed = int.from_bytes(hashlib.sha256(f"{case_key} numbers".encode()).digest()[:8], "big")
    inside = np.argwhere(brain)
    middle = np.round(voxels.mean(axis=0)).astype(int)
    places = [
        voxels - middle + place for place in inside[np.random.default_rng(seed).integers(len(inside), size=TRIES)]
    ]
    rooms = [_in_brain(place, brain) for place in places]
    shares = np.array([room.mean() for room in rooms])
    chosen = int(np.argmax(shares >= ROOM)) if (shares >= ROOM).any() else int(shares.argmax())
    moved[tuple(places[chosen][rooms[chosen]].T)] = True
    return moved


def _in_brain(voxels: NDArray[np.int64], brain: Mask) -> Mask:
    """(n,): whether each voxel lies in the volume and in the brain."""
    within = np.all((voxels >= 0) & (voxels < brain.shape), axis=1)
    at = np.where(np.expand_dims(within, 1), voxels, 0)
    return np.asarray(within & brain[tuple(at.T)])


def write_numbers(cases: Path, folders: Mapping[str, str]) -> None:
    """Write numbers.csv and numbers_random.csv atomically: case_key and every number; empty where a case has none.

    Args:
        cases: the cases folder.
        folders: case key -> name of its folder, which has numbers.json.
    """
    records = {key: CaseNumbers.read(cases / folder / NUMBERS_FILE, AGAIN) for key, folder in sorted(folders.items())}
    names = [number.name for number in NUMBERS]
    for file, at in ((TABLE, "numbers"), (RANDOM_TABLE, "random")):
        with replacing_text(cases / file) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["case_key", *names])
            writer.writerows(
                [key, *(getattr(record, at).get(name) for name in names)] for key, record in records.items()
            )


def read_numbers(
    cases: Path, table: Sequence[ReadyCase], names: Sequence[str], *, random_place: bool = False
) -> NDArray[np.float64]:
    """(cases, names) of numbers.csv, nan where a case has none.

    Args:
        cases: the cases folder.
        table: whose numbers, in the order of the rows.
        names: of NUMBERS.
        random_place: read numbers_random.csv, the control.

    Raises:
        InvalidInput: no such file, or no such column or case in it (`numbers.missing`).
    """
    file = RANDOM_TABLE if random_place else TABLE
    if not (cases / file).is_file():
        raise InvalidInput(f"no {file} in the cases folder", AGAIN, code="numbers.missing")
    with (cases / file).open(newline="") as stream:
        reader = csv.DictReader(stream)
        rows = {row["case_key"]: row for row in reader}
    missing = [name for name in names if name not in (reader.fieldnames or ())]
    if missing:
        raise InvalidInput(f"{file} has no column {', '.join(missing)}", AGAIN, code="numbers.missing")
    absent = [case.case_key for case in table if case.case_key not in rows]
    if absent:
        raise InvalidInput(f"{file} has no row of case {', '.join(absent)}", AGAIN, code="numbers.missing")
    cells = [[rows[case.case_key][name] for name in names] for case in table]
    return np.array([[float(cell or "nan") for cell in row] for row in cells]).reshape(len(table), len(names))
