"""The quality-control page of preprocessing, <cases>/qc.html: outliers first.

A number of qc.csv is marked where it lies far from the middle of the cohort, or beyond a fixed limit. Marks decide the
order and nothing else: a registration that failed in every case may mark none. No label is shown, because who decides
whether a case stays must not know its class. Pictures keep their resolution: about 0.11 MB a case, 57 MB for 500.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import inf, isfinite, sqrt
from pathlib import Path
from statistics import median
from typing import Any

from ricenet import __version__
from ricenet.cases.case_record import CASE_FILE, CaseRecord
from ricenet.cases.case_tables import DOSES
from ricenet.cases.structures import structure_words
from ricenet.cohort.covariates import excluded
from ricenet.command.atomic import replace_file
from ricenet.display.page import Picture, data_address, render
from ricenet.display.words import channel_name
from ricenet.errors import InvalidInput, about

PAGE = "qc.html"
SECTIONS = (
    ("summary", "What to look at"),
    ("left-out", "Left out"),
    ("numbers", "Numbers"),
    ("doses", "Doses"),
    ("pictures", "Pictures"),
    ("parameters", "Parameters"),
)
# Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993): |x - median| over 1.4826 MAD, the normal's SD.
OUTLIER_SD = 3.5
SD_PER_MAD = 1.4826
MIN_CASES = 10
PIXELS = 1200 * 960  # of a picture of post, event and dose; one with further MRIs is made smaller
WEBP = {"quality": 50, "method": 2}  # half of JPEG's bytes where thin contours stay as clear


@dataclass(frozen=True)
class Quantity:
    """What columns of qc.csv with one ending are.

    Attributes:
        says: how people read it.
        decimals: of its text; None for a share, shown in per cent.
        floor: a spread below it is no spread: where all cases agree, less than OUTLIER_SD times this is none.
        low, high: fixed limits, and `because` of what.
    """

    ending: str
    says: str
    decimals: int | None
    floor: float
    low: float = -inf
    high: float = inf
    because: str = ""


# Of two phantoms at 1 mm: 1.16 and 1.18; with the event MRI 10 mm off, or mirrored, below 1.02.
OF_EVENT = Quantity(
    "similarity", "normalised mutual information with the post-OP MRI in the brain: 1 unrelated, 2 equal", 3, 0.01,
    low=1.03, because="as of images that do not lie on each other",
)  # fmt: skip
QUANTITIES = (
    # Of another contrast, with which it is lower; in a case without a post-OP MRI with the event's.
    replace(OF_EVENT, low=-inf, says=OF_EVENT.says.replace("MRI", "MRI (without one: the event MRI)")),
    Quantity(
        "rotation_degrees", "how far registration turned the image", 1, 1.0,
        high=30.0, because="from there a registration can land wrong without an error",
    ),
    Quantity("translation_mm", "how far registration moved the middle of the brain", 1, 1.0),
    Quantity("brain_ml", "volume of the brain mask", 0, 10.0),
    Quantity(
        "coverage", "share of the brain that lies in the image; preprocessing refuses one below 95%", None, 0.005,
        low=0.99, because="part of the brain is not in the image",
    ),
    Quantity("max_gy", "highest dose anywhere", 1, 4.0),  # 60 Gy and 40.05 Gy may be one cohort
    Quantity("mean_gy", "mean dose to the brain", 1, 0.5),
)  # fmt: skip
UNKNOWN = Quantity("", "", 3, 0.0)
UNITS = {"degrees": "degrees", "mm": "mm", "ml": "ml", "gy": "Gy"}


@dataclass(frozen=True)
class Column:
    """A number of qc.csv over the cohort; `middle` and `spread` (median, and SD by the MAD) None for too few cases."""

    name: str
    quantity: Quantity
    n: int
    middle: float | None = None
    spread: float | None = None

    @property
    def title(self) -> str:
        return " ".join(word for word in self.name.split("_") if word not in UNITS)

    @property
    def unit(self) -> str:
        return UNITS.get(self.name.rpartition("_")[2], "")

    @property
    def expected(self) -> str:
        """What is not far from the middle, in words; empty where nothing can be said."""
        if self.middle is None or not self.spread:
            return ""
        low, high = self.middle - OUTLIER_SD * self.spread, self.middle + OUTLIER_SD * self.spread
        if self.quantity.decimals is None and high >= 1:
            return f"at least {self.text(low)}"
        if low <= 0 and self.quantity is not UNKNOWN:  # none of the others can be negative
            return f"at most {self.text(high)}"
        return f"{self.text(low)} to {self.text(high)}"

    @property
    def limit(self) -> str:
        """The fixed limit in words; empty where there is none."""
        if self.quantity.low > -inf:
            return f"at least {self.text(self.quantity.low)}"
        return f"at most {self.text(self.quantity.high)}" if self.quantity.high < inf else ""

    def spreads_off(self, value: float) -> float:
        """How far `value` is from the middle."""
        return 0.0 if self.middle is None or not self.spread else abs(value - self.middle) / self.spread

    def text(self, value: float) -> str:
        decimals = self.quantity.decimals
        return f"{value:.1%}" if decimals is None else f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Cell:
    """A number as it is shown; `mark`: in a word what is unusual about it, `why`: in a sentence; `weight`: how much."""

    text: str
    mark: str = ""
    why: str = ""
    weight: float = 0.0


@dataclass(frozen=True)
class Row:
    """A case: its cells in the order of the columns, and its picture, None where it is left out or not there."""

    case_key: str
    cells: tuple[Cell, ...]
    picture: Picture | None = None

    @property
    def reasons(self) -> list[str]:
        return [cell.why for cell in self.cells if cell.why]


def page(cases: Path, pictures: int | None = None) -> str:
    """The page of the cases folder `cases`.

    Args:
        pictures: at most so many, None: all; the others are counted in words.

    Raises:
        InvalidInput: as qc_view.
    """
    view = qc_view(cases, pictures)
    sections = [section for section in SECTIONS if section[0] != "doses" or view["doses"]]
    return render("qc.html.j2", filters={}, sections=sections, qc=view, version=__version__)


def write_page(cases: Path, content: str) -> Path:
    """Write `cases`/qc.html atomically and return its path; only for who holds the folder (atomic.hold)."""
    replace_file(cases / PAGE, content)
    return cases / PAGE


def qc_view(cases: Path, pictures: int | None) -> dict[str, Any]:
    """What the templates show of a cases folder: rows in the order in which to look, those that are marked first.

    Raises:
        InvalidInput: no qc.csv, or one without case keys.
    """
    table = _read(cases / "qc.csv")
    if table is None:
        raise InvalidInput(
            "no qc.csv in the folder given as qc=",
            "give a cases folder written by ricenet.preprocess",
            code="qc.missing",
        )
    if any(row.get("case_key") is None for row in table):
        raise InvalidInput(
            "qc.csv: expected the column case_key", "run ricenet.preprocess again, which writes it", code="qc.damaged"
        )
    folders = _folders(cases, table)
    columns, rows = judge(table)
    drawable = [
        row.case_key for row in rows if row.case_key in folders and (folders[row.case_key][0] / "qc.png").is_file()
    ]
    requested = drawable[:pictures]
    with ThreadPoolExecutor() as pool:  # the encoder leaves the interpreter's lock
        drawn = dict(zip(requested, pool.map(lambda key: _picture(*folders[key]), requested), strict=True))
    named = {row.get("folder") for row in _read(cases / "cases.csv") or ()}
    doses = {row.get("case_key"): row for row in _read(cases / DOSES) or ()}
    return {
        "doses": {row.case_key: doses[row.case_key] for row in rows if row.case_key in doses},
        "columns": columns,
        "rows": [replace(row, picture=drawn.get(row.case_key)) for row in rows],
        "n_marked": sum(bool(row.reasons) for row in rows),
        "n_pictures": len(drawable),
        "n_shown": len(requested),
        "n_ready": sum(folder.name in named for folder, _ in folders.values()),
        "failed": _read(cases / "failed.csv") or [],
        "excluded": excluded(cases),
        "far": OUTLIER_SD,
        "fewest": MIN_CASES,
        "parameters": parameters([folders[row.case_key][1] for row in rows if row.case_key in folders]),
    }


def judge(table: Sequence[Mapping[str, str]]) -> tuple[list[Column], list[Row]]:
    """The columns of qc.csv and its rows without pictures: most marks of fixed limits first, then the farthest outlier.

    Args:
        table: rows of qc.csv; what is no number is shown as it stands, and marked.
    """
    names = [name for name in (table[0] if table else ()) if name != "case_key"]
    columns = [_column(name, [value for row in table if (value := _number(row[name])) is not None]) for name in names]
    rows = [Row(row["case_key"], tuple(_cell(column, row[column.name] or "") for column in columns)) for row in table]
    return columns, sorted(rows, key=_urgency)


def _urgency(row: Row) -> tuple[int, float, str]:
    weights = [cell.weight for cell in row.cells]
    return -weights.count(inf), -max((weight for weight in weights if weight < inf), default=0.0), row.case_key


def _column(name: str, values: Sequence[float]) -> Column:
    quantity = (
        OF_EVENT if name == OF_EVENT.ending else next((q for q in QUANTITIES if name.endswith(q.ending)), UNKNOWN)
    )
    if len(values) < MIN_CASES:
        return Column(name, quantity, len(values))
    middle = median(values)
    spread = max(SD_PER_MAD * median(abs(value - middle) for value in values), quantity.floor)
    return Column(name, quantity, len(values), middle, spread)


def _cell(column: Column, text: str) -> Cell:
    """One number, and whether it deserves a look."""
    value, quantity = _number(text), column.quantity
    if value is None:
        return Cell(text, "no number", f"{column.title}: “{text}” is no number", inf) if text else Cell("–")
    number = column.text(value)
    said = f"{column.title} is {number} {column.unit}".rstrip()
    for beyond, limit, word, side in (
        (value < quantity.low, quantity.low, "low", "below"),
        (value > quantity.high, quantity.high, "high", "above"),
    ):
        if beyond:
            return Cell(number, word, f"{said}, {side} {column.text(limit)}: {quantity.because}", inf)
    off = column.spreads_off(value)
    if off <= OUTLIER_SD or column.middle is None:
        return Cell(number)
    word = "low" if value < column.middle else "high"
    usual = f"median {column.text(column.middle)}, expected {column.expected}"
    return Cell(number, word, f"{said}, {word} for this cohort: {usual}", off)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if isfinite(value) else None


def _folders(cases: Path, table: Iterable[Mapping[str, str]]) -> dict[str, tuple[Path, CaseRecord]]:
    """Case key -> its folder and record, which hold the numbers of its row.

    Folders of other parameters may stand beside it. Where two hold the same numbers it is that of cases.csv, else the
    newer one.
    """
    named = {row.get("folder") for row in _read(cases / "cases.csv") or ()}
    records = [(path.parent, _record(path)) for path in cases.glob(f"[!.]*/{CASE_FILE}")]
    records.sort(key=lambda case: (case[0].name in named, (case[0] / CASE_FILE).stat().st_mtime_ns))
    numbers = {
        row["case_key"]: {name: text for name, text in row.items() if text and name != "case_key"} for row in table
    }
    return {
        record.case_key: (folder, record)
        for folder, record in records
        if numbers.get(record.case_key) == {name: str(value) for name, value in record.qc.items()}
    }


def _record(path: Path) -> CaseRecord:
    with about(f"case folder {path.parent.name}"):
        return CaseRecord.read(path, "remove this folder and run python -m ricenet.preprocess again")


def _picture(folder: Path, record: CaseRecord) -> Picture:
    from PIL import Image

    further = [role for role in record.channels if role not in ("post", "event", "rd")]
    with_post = "post" in record.channels
    anchor = channel_name("post" if with_post else "event")
    alt = (
        f"Axial, coronal and sagittal slices of case {record.case_key}: the brain's outline on the "
        + ("post-OP MRI and the event MRI, both in tiles" if with_post else anchor)
        + (f", isodoses on the {anchor}" if "rd" in record.channels else "")
        + "".join(f", the outline on {role}, {role} and {anchor} in tiles" for role in further)
        + (f", outlines of {', '.join(record.structures)}" if record.structures else "")
    )
    with Image.open(folder / "qc.png") as original:
        small = original.convert("RGB")
    scale = min(1.0, sqrt(PIXELS / (small.width * small.height)))
    small.thumbnail((small.width * scale, small.height * scale))
    stream = io.BytesIO()
    small.save(stream, "WEBP", **WEBP)
    return Picture(data_address(stream.getvalue(), "image/webp"), alt, "; ".join(structure_words(record.structures)))


def parameters(records: Sequence[CaseRecord]) -> list[tuple[str, str]]:
    """What the cases were preprocessed with; where they differ, each value with the number of cases that have it."""
    made = [
        {
            "preprocessing version": record.version,
            "channels": ", ".join(record.channels),
            **{name.replace("_", " "): value for name, value in record.parameters.items()},
            **({"reference": "event"} if "reference" in record.parameters and "post" not in record.channels else {}),
        }
        for record in records
    ]
    names = dict.fromkeys(name for settings in made for name in settings)
    return [(name, agreed([settings.get(name, "not recorded") for settings in made], "cases")) for name in names]


def agreed(values: Iterable[Any], of: str) -> str:
    """The value that all have; else each with the number that have it."""
    counts = Counter(map(str, values))
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{value} ({count} {of})" for value, count in counts.items())


def _read(path: Path) -> list[dict[str, str]] | None:
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
