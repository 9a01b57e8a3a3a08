"""The tables of a cases folder beside cases.csv: qc.csv, doses.csv, timings.csv, failed.csv; one row per case key.

In: how the cases ended, and the records in their folders. Each table is replaced atomically. No path and no patient id
stands in them: failed.csv gives the row of cohort.csv.
"""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ricenet.cases.case_record import CASE_FILE, CHECKS_FILE, CaseChecks, CaseRecord
from ricenet.cohort.table import Case
from ricenet.command.atomic import replacing_text
from ricenet.command.processes import Ended

FAILED, DOSES = "failed.csv", "doses.csv"
LIKENESS_COLUMN = "likeness"  # of qc.csv
WORD_ENDING = "_brain"  # of the columns of qc.csv that say a word of an image, and no number
PLACE_COLUMN, CONTRAST_COLUMN = "lesion_place", "enhancement_contrast"  # of qc.csv
NOT_OF_QC = (LIKENESS_COLUMN, PLACE_COLUMN, CONTRAST_COLUMN)  # columns that are not in the `qc` of case.json


def write_tables(output: Path, folders: Mapping[str, str], ended: Mapping[str, Ended]) -> None:
    """Write qc.csv, and timings.csv: apart because no two runs agree on it.

    Args:
        output: the cases folder.
        folders: case key -> name of its finished folder, for every case of the tables.
        ended: what this run did; timings of earlier runs are kept.
    """
    write_csv(output / "qc.csv", {key: _qc_row(output / folder) for key, folder in folders.items()})
    timings: dict[str, Mapping[str, object]] = {}
    if (output / "timings.csv").is_file():
        with (output / "timings.csv").open(newline="") as stream:
            timings = {row.pop("case_key"): row for row in csv.DictReader(stream)}
    for key, end in ended.items():
        if end.kind == "done":
            timings[key] = {**end.value, "total": end.seconds, "peak_gb": end.peak_gb}
    write_csv(output / "timings.csv", {key: row for key, row in timings.items() if key in folders})


def _qc_row(folder: Path) -> dict[str, Any]:
    """The numbers of a case, how alike post and event are, what brain=auto says of its MRIs, where its lesion is."""
    record = CaseRecord.read(folder / CASE_FILE)
    checks = read_checks(folder)
    alike = {} if checks is None or checks.likeness is None else {LIKENESS_COLUMN: checks.likeness}
    brains = {f"{role}{WORD_ENDING}": word for role, word in record.brains.items()}
    return {**record.qc, **alike, **brains, **_lesion(record)}


def _lesion(record: CaseRecord) -> dict[str, Any]:
    """How a set of all images finds the lesion, and how far the brightest enhancement stands out."""
    if not record.lesion:
        return {}
    searched = record.lesion.get("difference") or record.lesion["event"]
    return {PLACE_COLUMN: (record.lesion.get("mask") or searched).source, CONTRAST_COLUMN: searched.contrast}


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
