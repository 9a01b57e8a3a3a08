"""Covariates: what the cohort table says of a case besides its images; covariates.csv and excluded.csv.

Both tables stand in the cases folder beside cases.csv; no case's hash and no fold depends on them. Numbers are kept as
numbers. Any other value may be a hospital's or a header's text, so it is called A, B, ... in the order of the first
row that has it, which is what `verify` calls it. Reasons of exclusion that are not ours are only counted.
"""

import csv
import io
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from ricenet import MODALITIES
from ricenet.cohort import table
from ricenet.cohort.spreadsheet import parse_number
from ricenet.cohort.table import DATES, Case
from ricenet.command.atomic import replace_file
from ricenet.errors import InvalidInput, WrongUsage

COVARIATES, EXCLUDED = "covariates.csv", "excluded.csv"
OWN_COLUMNS = ("fractions", "prescription_gy", "label_source")  # of cohort.COLUMNS; the others name, place or answer
REFUSED = {*table.COLUMNS, table.LESION_MM, *DATES, "case_key", "patient_key"} - {*OWN_COLUMNS}
NAMES = ("site", "scanner_post", "scanner_event", "label_source")  # a hospital's code may be a number
DAYS = "days_since_rt"
PRESENCE = "has_"  # before the name of a channel that some cases lack
TOO_LARGE = 1e6  # no day, dose or age; an id or a date such as 20210401 may be
AGAIN = "run ricenet.preprocess again, which writes it together with cases.csv"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Covariates:
    """What covariates.csv says; a value that is not given is absent, and so is a column without any.

    Attributes:
        subgroups: column -> case key -> level, of every column; a number's level is its shortest text (60, 40.05).
        numbers: column -> case key -> number, of the columns that hold nothing else.
    """

    subgroups: dict[str, dict[str, str]]
    numbers: dict[str, dict[str, float]]


def read_covariates(folder: Path, case_keys: Sequence[str]) -> Covariates | None:
    """Read covariates.csv of the cases folder `folder`, or None where an earlier version of ricenet made it.

    Args:
        folder: holds cases.csv.
        case_keys: of all its cases, in any order.

    Raises:
        InvalidInput: the table's cases are not these.
    """
    if not (folder / COVARIATES).is_file():
        return None
    with (folder / COVARIATES).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    listed = Counter(row.pop("case_key", None) or "no key" for row in rows)
    expected = Counter(case_keys)
    if listed != expected:
        raise InvalidInput(
            f"covariates.csv: expected one row for each of the {len(case_keys)} cases; missing: "
            f"{', '.join(expected - listed) or 'none'}; not in cases.csv, or twice: "
            f"{', '.join(listed - expected) or 'none'}",
            AGAIN,
            code="covariates.cases",
        )
    levels: dict[str, dict[str, str]] = {}
    for key, row in zip(listed, rows, strict=True):
        for column, text in row.items():
            if text:
                levels.setdefault(column, {})[key] = text
    numbers = {column: as_numbers for column, of in levels.items() if (as_numbers := _all_numbers(of)) is not None}
    return Covariates(levels, numbers)


def write_covariates(
    folder: Path, cases: Sequence[Case], columns: Sequence[str], ready: Collection[str] | None = None
) -> list[str]:
    """Write covariates.csv, atomically, rows ordered by case key.

    Where the cases have different channels, has_<channel> (1 or 0) tells for each that some of them lack.

    Args:
        folder: the cases folder.
        cases: the whole cohort in the order of its rows, which decides the letters.
        columns: what to keep; one that no case has a value for is passed over.
        ready: keys of the cases that get a row; None: all.

    Returns:
        The columns that are kept.

    Raises:
        WrongUsage: as check_columns.
    """
    check_columns(columns)
    listed = [case for case in cases if ready is None or case.key in ready]
    levels_of = {name: kept for name in dict.fromkeys(columns) if any((kept := _kept(name, cases)).values())}
    levels_of |= presence(listed)
    keys = sorted(case.key for case in listed)
    rows = ([key, *(levels[key] for levels in levels_of.values())] for key in keys)
    replace_file(folder / COVARIATES, _as_csv([("case_key", *levels_of), *rows]))
    return list(levels_of)


def check_columns(columns: Sequence[str]) -> None:
    """Raise WrongUsage where a column would tell who a case is, where its files lie, when it was, or the label."""
    refused = [name for name in columns if name in REFUSED]
    if refused:
        raise WrongUsage(
            f"covariates: {', '.join(refused)} cannot be kept (ids, dates, paths and the label stay in the cohort "
            f"folder); name {', '.join(OWN_COLUMNS)}, or further columns of cohort.csv"
        )


def excluded(folder: Path) -> dict[str, int] | None:
    """How many cases were left out by reason, of excluded.csv; None where an earlier version of ricenet made `folder`.

    Raises:
        InvalidInput: a count is no number.
    """
    if not (folder / EXCLUDED).is_file():
        return None
    with (folder / EXCLUDED).open(encoding="utf-8", newline="") as stream:
        try:
            return {row["reason"]: int(row["cases"]) for row in csv.DictReader(stream)}
        except (KeyError, TypeError, ValueError):
            raise InvalidInput(
                "excluded.csv: expected reason,cases with whole numbers of cases", AGAIN, code="excluded.damaged"
            ) from None


def write_excluded(folder: Path, reasons: Mapping[str, int], failed: Iterable[str] = ()) -> None:
    """Write excluded.csv, atomically, ordered by reason.

    Args:
        folder: the cases folder.
        reasons: of cohort.csv -> cases (ricenet.checks.confounding.count_excluded).
        failed: the code of each case that preprocess left out.
    """
    counts = Counter(dict(reasons)) + Counter(f"preprocess: {code}" for code in failed)
    replace_file(folder / EXCLUDED, _as_csv([("reason", "cases"), *sorted(counts.items())]))


def value_of(case: Case, column: str) -> str:
    """The text that cohort.csv has for `case` in `column`, without the space around it; empty where it has none."""
    if column in ("prescription_gy", "fractions"):
        number = getattr(case, column)
        return "" if number is None else f"{number:g}"
    if column == DAYS and DAYS not in case.extra:
        return _days_since_radiotherapy(case)
    return (case.label_source if column == "label_source" else case.extra.get(column) or "").strip()


def letters(values: Iterable[str]) -> dict[str, str]:
    """Value -> A ... Z, AA, AB ... in the order of first appearance; an empty value has none."""
    return {value: _letter(number) for number, value in enumerate(dict.fromkeys(filter(None, values)))}


def presence(cases: Sequence[Case]) -> dict[str, dict[str, str]]:
    """has_<channel> -> case key -> 1 or 0, of each channel that some of the cases lack."""
    channels = dict.fromkeys((*MODALITIES, *(channel for case in cases for channel in case.channels)))
    return {
        f"{PRESENCE}{channel}": {case.key: str(int(channel in case.channels)) for case in cases}
        for channel in channels
        if len({channel in case.channels for case in cases}) > 1
    }


def _days_since_radiotherapy(case: Case) -> str:
    """The event's day, where day 0 can only be the start of radiotherapy.

    ingest counts from there where it knows it, else from the post-OP MRI or the first scan (LUMIERE: from the
    operation, CFB-GBM: from the MRI before radiotherapy), and cohort.csv does not say which. Only the first puts the
    post-OP MRI before day 0.
    """
    post, event = (_number(value_of(case, f"{role}_day")) for role in ("post", "event"))
    return f"{event:g}" if post is not None and event is not None and post < 0 < event else ""


def _kept(column: str, cases: Sequence[Case]) -> dict[str, str]:
    """Case key -> what covariates.csv says of it."""
    values = {case.key: value_of(case, column) for case in cases}
    texts = [case.row for case in cases if values[case.key] and _number(values[case.key]) is None]
    if column not in NAMES and not texts:
        return {key: "" if not value else f"{_number(value):g}" for key, value in values.items()}
    if column not in NAMES and len(texts) < sum(map(bool, values.values())):
        rows = ", ".join(map(str, texts[:20]))
        log.warning("covariates: %s is no number below 1e6 in row %s: all of it is kept as letters", column, rows)
    named = letters(values.values())
    return {key: named.get(value, "") for key, value in values.items()}


def _number(text: str) -> float | None:
    size = parse_number(text.removeprefix("-"))
    if size is None or size >= TOO_LARGE:
        return None
    return -size if text.startswith("-") else size


def _all_numbers(levels: Mapping[str, str]) -> dict[str, float] | None:
    try:
        numbers = {key: float(text) for key, text in levels.items()}
    except ValueError:
        return None
    return numbers if all(map(isfinite, numbers.values())) else None  # NAN and INF are letters too


def _letter(number: int) -> str:
    """As spreadsheets call their columns."""
    return (_letter(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def _as_csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
