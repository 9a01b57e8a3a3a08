"""The tables of a cases folder beside cases.csv: qc.csv, doses.csv, timings.csv, failed.csv; one row per case key.

In: how the cases ended, and the records in their folders. Each table is replaced atomically. No path and no patient id
stands in them: failed.csv gives the row of cohort.csv.
"""

import csv
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ricenet.cases.case_record import CASE_FILE, CHECKS_FILE, CaseChecks, CaseRecord, LesionPlace
from ricenet.cohort.table import Case, Place
from ricenet.command.atomic import replacing_text
from ricenet.command.processes import Ended

FAILED, DOSES = "failed.csv", "doses.csv"
LIKENESS_COLUMN = "likeness"  # of qc.csv
WORD_ENDING = "_brain"  # of the columns of qc.csv that say a word of an image, and no number
PLACE_COLUMN, CONTRAST_COLUMN = "lesion_place", "enhancement_contrast"  # of qc.csv
OFF_COLUMN = "lesion_off_mm"
# Columns that are not in the `qc` of case.json.
NOT_OF_QC = (LIKENESS_COLUMN, PLACE_COLUMN, CONTRAST_COLUMN, OFF_COLUMN)


def write_tables(
    output: Path, folders: Mapping[str, str], ended: Mapping[str, Ended], places_mm: Mapping[str, Place] | None = None
) -> None:
    """Write qc.csv, and timings.csv: apart because no two runs agree on it.

    Args:
        output: the cases folder.
        folders: case key -> name of its finished folder, for every case of the tables.
        ended: what this run did; timings of earlier runs are kept.
        places_mm: case key -> where the user says that the lesion is (Case.lesion_mm), as far as they do.
    """
    given = places_mm or {}
    write_csv(output / "qc.csv", {key: _qc_row(output / folder, given.get(key)) for key, folder in folders.items()})
    timings: dict[str, Mapping[str, object]] = {}
    if (output / "timings.csv").is_file():
        with (output / "timings.csv").open(newline="") as stream:
            timings = {row.pop("case_key"): row for row in csv.DictReader(stream)}
    for key, end in ended.items():
        if end.kind == "done":
            timings[key] = {**end.value, "total": end.seconds, "peak_gb": end.peak_gb}
    write_csv(output / "timings.csv", {key: row for key, row in timings.items() if key in folders})


def _qc_row(folder: Path, place_mm: Place | None) -> dict[str, Any]:
    """The numbers of a case, how alike post and event are, what brain=auto says of its MRIs, where its lesion is."""
    record = CaseRecord.read(folder / CASE_FILE)
    checks = read_checks(folder)
    alike = {} if checks is None or checks.likeness is None else {LIKENESS_COLUMN: checks.likeness}
    brains = {f"{role}{WORD_ENDING}": word for role, word in record.brains.items()}
    return {**record.qc, **alike, **brains, **_lesion(record, place_mm)}


def _lesion(record: CaseRecord, place_mm: Place | None) -> dict[str, Any]:
    """How a set of all images finds the lesion, how far the brightest enhancement stands out, how far off it is."""
    if not record.lesion:
        return {}
    searched = record.lesion.get("difference") or record.lesion["event"]
    used = record.lesion.get("mask") or searched
    row = {PLACE_COLUMN: used.source, CONTRAST_COLUMN: searched.contrast}
    if place_mm is None or used.source == "none":
        return row
    return row | {OFF_COLUMN: round(float(np.linalg.norm(_in_event_mm(record, used) - place_mm)), 1)}


def _in_event_mm(record: CaseRecord, place: LesionPlace) -> NDArray[np.float64]:
    """(3,): a place on the grid in the world of the event MRI, RAS+ mm."""
    event_from_reference = next(
        (np.array(world_map) for name, world_map in record.transforms.items() if name.startswith("event_from_")),
        np.eye(4),
    )
    return np.asarray((event_from_reference @ record.affine @ [*place.voxel, 1.0])[:3])


def lesions_elsewhere(output: Path, limit_mm: float) -> list[str]:
    """Keys of the cases of qc.csv whose lesion is further than so many mm from where the user says that it is."""
    with (output / "qc.csv").open(newline="") as stream:
        return [row["case_key"] for row in csv.DictReader(stream) if float(row.get(OFF_COLUMN) or 0) > limit_mm]


def masks_not_used(output: Path, keys: Collection[str]) -> list[str]:
    """Those of some cases of qc.csv, which have a lesion mask, whose lesion comes from elsewhere."""
    with (output / "qc.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [
        row["case_key"] for row in rows if row["case_key"] in keys and row.get(PLACE_COLUMN, "") not in ("", "mask")
    ]


def read_checks(folder: Path) -> CaseChecks | None:
    """checks.json of a finished case folder; None where an older version made the folder."""
    path = folder / CHECKS_FILE
    return CaseChecks.read(path, "remove the case's folder and preprocess again") if path.is_file() else None


def write_failures(output: Path, cases: Iterable[Case], failed: Mapping[str, Ended]) -> None:
    """Write failed.csv: row of cohort.csv, kind (invalid or failed), code, message; no file where nothing failed."""
    rows = {
        case.key: {"row": case.row, "kind": end.kind, "code": end.code, "message": str(end)}
        for case in cases
        if (end := failed.get(case.key))
    }
    if rows:
        write_csv(output / FAILED, rows)
    else:
        (output / FAILED).unlink(missing_ok=True)


def write_doses(output: Path, rows: Mapping[str, Mapping[str, str]]) -> None:
    """Write doses.csv: what was used of a delivery's doses, what was left out, what to know; no file without rows.

    Args:
        output: the cases folder.
        rows: by case key, of ricenet.checks.delivered_doses.dose_lines.
    """
    if rows:
        write_csv(output / DOSES, rows)
    else:
        (output / DOSES).unlink(missing_ok=True)


def write_csv(path: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Write `path` atomically: case_key and the columns of any row, ordered by case key."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    with replacing_text(path) as stream:
        writer = csv.DictWriter(stream, ["case_key", *columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"case_key": key, **row} for key, row in sorted(rows.items()))
