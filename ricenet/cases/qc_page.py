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
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

from ricenet import __version__
from ricenet.cases.case_record import CASE_FILE, CaseRecord
from ricenet.cases.case_tables import DOSES, NOT_OF_QC, WORD_ENDING
from ricenet.cases.qc_numbers import MIN_CASES, OUTLIER_SD, judge
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
PIXELS = 1200 * 960  # of a picture of post, event and dose; one with further MRIs is made smaller
WEBP = {"quality": 50, "method": 2}  # half of JPEG's bytes where thin contours stay as clear


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


def _folders(cases: Path, table: Iterable[Mapping[str, str]]) -> dict[str, tuple[Path, CaseRecord]]:
    """Case key -> its folder and record, which hold the numbers of its row.

    Folders of other parameters may stand beside it. Where two hold the same numbers it is that of cases.csv, else the
    newer one.
    """
    named = {row.get("folder") for row in _read(cases / "cases.csv") or ()}
    records = [(path.parent, _record(path)) for path in cases.glob(f"[!.]*/{CASE_FILE}")]
    records.sort(key=lambda case: (case[0].name in named, (case[0] / CASE_FILE).stat().st_mtime_ns))
    numbers = {
        row["case_key"]: {
            name: text
            for name, text in row.items()
            if text and name not in ("case_key", *NOT_OF_QC) and not name.endswith(WORD_ENDING)
        }
        for row in table
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
