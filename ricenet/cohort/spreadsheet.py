"""Tables that people deliver: CSV, TSV or semicolons in; rows of text by header out, and cells read in one way only.

Messages give the table's name, its headers and row numbers (2 is the first below the header), never a cell or a path.
"""

import csv
import io
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ricenet.errors import InvalidInput

# 03.04.2020 is the third of April wherever dates have dots; 03/04/2020 depends on the country and is not read.
DATE_PATTERNS = (
    r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})([ T]00:00(:00)?)?",
    r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})",
    r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})",
)
NUMBER_PATTERN = r"\d+(\.\d+)?|\d+,\d{1,2}"  # 40,05 has a decimal comma; 6,000 may be six or six thousand


@dataclass(frozen=True)
class Table:
    """`rows`: row number -> cells by header, without the space around them; empty lines are left out."""

    name: str
    headers: list[str]
    rows: dict[int, dict[str, str]]

    def has(self, wanted: str) -> bool:
        """Whether any header fits `wanted`."""
        return any(fits(header, wanted) for header in self.headers)

    def header(self, wanted: str) -> str:
        """The one header that is `wanted`, or else fits it.

        Raises:
            InvalidInput: none or several do.
        """
        exact = [header for header in self.headers if header == wanted]
        matching = exact or [header for header in self.headers if fits(header, wanted)]
        if len(matching) == 1:
            return matching[0]
        raise InvalidInput(
            f"expected one column {wanted!r} in the {self.name}, got {len(matching)}; "
            f"its columns are {', '.join(map(repr, self.headers))}",
            "correct the table, or the names in source.columns",
            code="table.columns",
        )


def read_table(path: Path, name: str) -> Table:
    """Read a table with one header line, cut at tab, semicolon or comma: whichever gives the header most cells.

    Args:
        path: the file, UTF-8, with or without a byte order mark.
        name: how messages call it.

    Raises:
        InvalidInput: no such file, no such text, or a row with more cells than the header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        delimiter = max("\t;,", key=lambda mark: len(next(csv.reader(io.StringIO(text), delimiter=mark), [])))
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except FileNotFoundError:
        raise InvalidInput(f"there is no {name}", "correct its path", code="table.missing") from None
    except (UnicodeDecodeError, csv.Error, OSError):
        message, hint = f"the {name} is not a text table in UTF-8", "save it as CSV UTF-8; a workbook is not read"
        raise InvalidInput(message, hint, code="table.encoding") from None
    headers = [header.strip() for header in lines[0]] if lines else []
    cells = {number: [cell.strip() for cell in line] for number, line in enumerate(lines[1:], start=2)}
    long = [str(number) for number, line in cells.items() if any(line[len(headers) :])]
    if long:
        raise InvalidInput(
            f"the {name} has more cells than its header in row {', '.join(long[:20])}",
            "put a cell that holds the separator in quotes",
            code="table.cells",
        )
    rows = {
        number: dict(zip(headers, line + [""] * (len(headers) - len(line)), strict=False))
        for number, line in cells.items()
        if any(line)
    }
    return Table(name, headers, rows)


def fits(text: str, pattern: str) -> bool:
    """Whether `text` is `pattern`, in which * stands for any text; case and space do not count."""
    bare_text, bare_pattern = ("".join(words.split()).casefold() for words in (text, pattern))
    return re.fullmatch(".*".join(map(re.escape, bare_pattern.split("*"))), bare_text) is not None


def parse_date(text: str) -> date | None:
    """A day as YYYY-MM-DD, YYYYMMDD or DD.MM.YYYY; None where it is another form, or no day of the calendar."""
    matches = (re.fullmatch(pattern, text, re.ASCII) for pattern in DATE_PATTERNS)
    match = next(filter(None, matches), None)
    try:
        return None if match is None else date(int(match["year"]), int(match["month"]), int(match["day"]))
    except ValueError:
        return None


def parse_number(text: str) -> float | None:
    """A number with a decimal point or, where that cannot be a thousands separator, a decimal comma; else None."""
    return float(text.replace(",", ".")) if re.fullmatch(NUMBER_PATTERN, text, re.ASCII) else None
