"""choose.csv of a cohort folder: the series among which the user has to choose, a row each, and what he marked.

ingest writes it for every case and role that the rules leave open, and reads it in the next run. What somebody filled
in (`chosen`, and any column of his own) stays: rows of a case and role with a mark are kept as they are.

It holds pseudonyms, days and sizes; the series' own names only where the user asks for them, and then mode 0600.
"""

import csv
import io
import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ricenet.cohort.ingest_record import SeriesRecord
from ricenet.cohort.spreadsheet import Table, read_table
from ricenet.command.atomic import replacing_file
from ricenet.errors import InvalidInput

FILE = "choose.csv"
ROLES = ("post", "event", "planning")
KEYS = ("case", "role", "series", "chosen")  # without which no row can be read
COLUMNS = (
    "case", "row", "role", "series", "number", "day", "size", "spacing_mm", "acquisition", "plane", "contrast", "kind",
)  # fmt: skip
DESCRIPTION, CHOSEN = "description", "chosen"
MARKS = (
    "x", "xx", "1", "y", "yes", "j", "ja", "oui", "si", "sí", "sì", "sim", "tak", "ano", "evet", "да", "true", "ok",
    "✓", "✔", "☑", "\u0445", "\u00d7",  # a Cyrillic letter and a sign, which look like x
)  # fmt: skip
NO_SERIES = "none"  # the case has no post-OP MRI; of a partial cohort
MAX_LISTED = 20


@dataclass(frozen=True, repr=False)  # no repr: it would print a header
class Question:
    """A role of a case for which the user has to choose.

    Attributes:
        case: its key.
        role: post, event or planning.
        candidates: what is known of each series.
        descriptions: the name of each as the scanner wrote it; empty without the user's consent.
    """

    case: str
    role: str
    candidates: Sequence[SeriesRecord]
    descriptions: Sequence[str] = ()


def read_choices(cohort: Path) -> Table | None:
    """Read choose.csv; None where there is none.

    Raises:
        InvalidInput: it is no table, or lacks a column.
    """
    path = cohort / FILE
    if not path.exists():
        return None
    table = read_table(path, FILE)
    missing = [name for name in KEYS if name not in table.headers]
    if missing and table.headers:
        raise InvalidInput(
            f"{FILE} of the cohort folder lacks the columns {', '.join(missing)}",
            "restore them; or remove the file, and ingest writes it anew, without your marks",
            code="choices.columns",
        )
    return table


def marked_series(table: Table | None, series_of: Mapping[str, Collection[str]]) -> dict[str, dict[str, str]]:
    """What the user marked: case -> role -> series.

    Args:
        table: of read_choices.
        series_of: case -> keys of the series that the delivery holds of its patient.

    Raises:
        InvalidInput: an invalid mark; all are listed by row and column.
    """
    marks: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    problems = []
    for number, cells in table.rows.items() if table else ():
        if not cells[CHOSEN]:
            continue
        case, role, mark = cells["case"], cells["role"], cells[CHOSEN]
        series = cells["series"] if mark.lower() in MARKS else mark.lower()
        if case not in series_of:
            problems.append(f"row {number}, column case: the label table has no such case; delete the row")
        elif role not in ROLES:
            problems.append(f"row {number}, column role: expected {', '.join(ROLES)}")
        elif series in series_of[case] or (role == "post" and series.lower() == NO_SERIES):
            marks[case, role][series if series in series_of[case] else NO_SERIES].append(number)
        elif mark.lower() in MARKS:
            problems.append(f"row {number}, column series: the case has no such series, or not any more")
        else:
            problems.append(f"row {number}, column chosen: expected x, or the key of a series of this case")
    for series_rows in marks.values():
        if len(series_rows) > 1:
            rows = ", ".join(str(number) for rows in series_rows.values() for number in rows)
            problems.append(
                f"rows {rows}, column chosen: {len(series_rows)} series are marked for one role of one case"
            )
    if problems:
        listed = "\n  ".join(problems[:MAX_LISTED])
        more = f"\n  and {len(problems) - MAX_LISTED} more" if len(problems) > MAX_LISTED else ""
        raise InvalidInput(
            f"invalid marks in {FILE} of the cohort folder ({len(problems)}):\n  {listed}{more}",
            "correct these rows and run the same command again; nothing was done",
            code="choices.rows",
        )
    chosen: dict[str, dict[str, str]] = defaultdict(dict)
    for (case, role), series_rows in marks.items():
        (chosen[case][role],) = series_rows
    return dict(chosen)


def write_choices(cohort: Path, questions: Sequence[Question], rows: Mapping[str, int], *, private: bool) -> int:
    """Write choose.csv: the open questions, and what was filled in before. Without either it is removed.

    It is read again for this, because somebody may have filled it in meanwhile.

    Args:
        cohort: the folder.
        questions: that the rules leave open.
        rows: case -> row of the label table, in the order that choose.csv gets.
        private: whether it holds descriptions, and is to be readable by the user alone.

    Returns:
        How many questions are open.

    Raises:
        InvalidInput: what stands there cannot be read; it is left as it is.
    """
    path = cohort / FILE
    table = read_choices(cohort)
    old = _by_question(table)
    own = [] if table is None else [name for name in table.headers if name not in (*COLUMNS, DESCRIPTION, CHOSEN)]
    kept = {key: group for key, group in old.items() if any(_filled_in(row, own) for row in group)}
    marked = {key for key, group in kept.items() if any(row[CHOSEN] for row in group)}
    groups = {key: [_refreshed(row, rows, private) for row in group] for key, group in kept.items()}
    for question in questions:
        key = (question.case, question.role)
        if key not in marked:
            groups[key] = _with_own_cells(_question_rows(question, rows[question.case]), old.get(key, []), own)
    if not groups:
        path.unlink(missing_ok=True)
        return 0
    order = {case: place for place, case in enumerate(rows)}
    headers = [*COLUMNS, *([DESCRIPTION] if private else []), CHOSEN, *own]
    text = io.StringIO()
    writer = csv.DictWriter(
        text, headers, restval="", extrasaction="ignore", delimiter=_delimiter(path), lineterminator="\n"
    )
    writer.writeheader()
    for case, role in sorted(groups, key=lambda key: (order.get(key[0], len(order)), key[0], _place(key[1]))):
        writer.writerows(groups[case, role])
    content = text.getvalue().encode()
    with replacing_file(path) as stream:
        if private:
            os.fchmod(stream.fileno(), 0o600)
        stream.write(content)
    return len({(question.case, question.role) for question in questions} - marked)


def _by_question(table: Table | None) -> dict[tuple[str, str], list[dict[str, str]]]:
    groups: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for cells in table.rows.values() if table else ():
        groups[cells["case"], cells["role"]].append(cells)
    return groups


def _filled_in(row: Mapping[str, str], own: Sequence[str]) -> bool:
    return any(row[name] for name in (CHOSEN, *own))


def _refreshed(row: Mapping[str, str], rows: Mapping[str, int], private: bool) -> dict[str, str]:
    """A row that stays: rows of the label table move; a description stays only with consent."""
    number = {"row": str(rows[row["case"]])} if row["case"] in rows else {}
    return {**row, **number, **({} if private else {DESCRIPTION: ""})}


def _question_rows(question: Question, label_row: int) -> list[dict[str, str]]:
    descriptions = question.descriptions or [""] * len(question.candidates)
    written = []
    for series, description in zip(question.candidates, descriptions, strict=True):
        row = {
            "case": question.case,
            "row": str(label_row),
            "role": question.role,
            "series": series.series,
            "number": "" if series.number is None else str(series.number),
            "day": "" if series.day is None else str(series.day),
            "size": " x ".join(map(str, series.shape)),
            "spacing_mm": " x ".join(f"{step:g}" for step in series.spacing_mm),
            "acquisition": series.acquisition,
            "plane": series.plane,
            "contrast": series.contrast_by,
            "kind": series.kind,
            DESCRIPTION: _no_formula(description),
        }
        written.append(row)
    return written


def _no_formula(text: str) -> str:
    """A text that a spreadsheet shows and does not compute."""
    return f"'{text}" if text[:1] in tuple("=+-@") else text


def _with_own_cells(
    rows: list[dict[str, str]], old: Sequence[Mapping[str, str]], own: Sequence[str]
) -> list[dict[str, str]]:
    """Rows with what the user wrote beside the same series."""
    cells = {row["series"]: {name: row[name] for name in own} for row in old}
    gone = [dict(row) for row in old if _filled_in(row, own) and row["series"] not in {each["series"] for each in rows}]
    return [{**row, **cells.get(row["series"], {})} for row in rows] + gone


def _delimiter(path: Path) -> str:
    """As the user's spreadsheet wrote it; a comma at first."""
    try:
        first = path.read_text(encoding="utf-8-sig").partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return ","
    return max(",;\t", key=first.count)


def _place(role: str) -> int:
    return ROLES.index(role) if role in ROLES else len(ROLES)
