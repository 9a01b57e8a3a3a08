"""Tables that people deliver: CSV, TSV, semicolons or a workbook (.xlsx) in; rows of text by header out.

Cells are read in one way only. Of a workbook one sheet counts, with the values that its formulas had when it was saved;
what a reader of the sheet would see otherwise than a program (hidden rows, cells merged over columns) is refused.

Messages give the table's name, its headers and row numbers, as a spreadsheet counts them (2 is the first below a header
in the first line), never a cell or a path.
"""

import csv
import io
import re
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openpyxl.cell.cell import Cell, MergedCell
    from openpyxl.worksheet.worksheet import Worksheet

from ricenet.errors import InvalidInput, WrongUsage

# 03.04.2020 is the third of April wherever dates have dots; 03/04/2020 depends on the country and is not read.
DATE_PATTERNS = (
    r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})([ T]00:00(:00)?)?",
    r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})",
    r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})",
)
MIDNIGHT = r"([ T]0?0:00(:00)?)?"  # what spreadsheets append to a day
DATE_TOKENS = {
    "YYYY": r"(?P<year>\d{4})", "YY": r"(?P<year>\d{4}|\d{2})",
    "MM": r"(?P<month>\d{1,2})", "M": r"(?P<month>\d{1,2})", "DD": r"(?P<day>\d{1,2})", "D": r"(?P<day>\d{1,2})",
}  # fmt: skip
FIRST_TWO_DIGIT_YEAR = 1969  # as strptime: 68 is 2068, 69 is 1969; nobody had an MRI with contrast before
# Compound files: what Excel wrote until 2003, and what it writes with a password.
OLE, ENCRYPTED = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "EncryptedPackage".encode("utf-16-le")
MAX_WORKBOOK_BYTES = 2**29  # unpacked
MAX_DIGITS = 15  # of a number in a workbook; of a longer one Excel has lost the rest
MAX_LISTED = 20
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


def read_table(path: Path, name: str, sheet: str = "") -> Table:
    """Read a table with one header line; text is cut at tab, semicolon or comma: whichever gives it most cells.

    Args:
        path: the file: a workbook (.xlsx, told by its first bytes), or UTF-8 text with or without a byte order mark.
        name: how messages call it.
        sheet: of a workbook, in which * stands for any text; empty: its first that is not hidden.

    Raises:
        InvalidInput: no such file, no such text or sheet, or a row with more cells than the header.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(len(OLE))
        if start.startswith(b"PK") or start == OLE:
            lines = _workbook_lines(path, name, sheet)
        else:
            text = path.read_text(encoding="utf-8-sig")
            delimiter = max("\t;,", key=lambda mark: len(next(csv.reader(io.StringIO(text), delimiter=mark), [])))
            lines = dict(enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), start=1))
    except FileNotFoundError:
        raise InvalidInput(f"there is no {name}", "correct its path", code="table.missing") from None
    except (UnicodeDecodeError, csv.Error, OSError):
        message, hint = f"the {name} is not a text table in UTF-8", "save it as CSV UTF-8 or as a workbook (.xlsx)"
        raise InvalidInput(message, hint, code="table.encoding") from None
    first = min((number for number, line in lines.items() if any(cell.strip() for cell in line)), default=1)
    headers = [header.strip() for header in lines.get(first, [])]
    while start.startswith(b"PK") and headers and not headers[-1]:
        headers.pop()  # a sheet's width is that of its widest row
    cells = {number: [cell.strip() for cell in line] for number, line in lines.items() if number > first}
    long = [number for number, line in cells.items() if any(line[len(headers) :])]
    if long:
        raise InvalidInput(
            f"the {name} has more cells than its header in row {_list_rows(long)}",
            "put a cell that holds the separator in quotes",
            code="table.cells",
        )
    rows = {
        number: dict(zip(headers, line + [""] * (len(headers) - len(line)), strict=False))
        for number, line in cells.items()
        if any(line)
    }
    return Table(name, headers, rows)


def _workbook_lines(path: Path, name: str, sheet: str) -> dict[int, list[str]]:
    """The texts of a sheet's rows by row number, without empty ones; of formulas the values at the last saving."""
    from openpyxl import load_workbook

    _check_workbook(path, name)
    try:
        with warnings.catch_warnings(action="ignore"):  # of extensions that hold no values, such as drop-down lists
            values = load_workbook(path, data_only=True)
            formulas = load_workbook(path)
    except Exception:  # whatever a damaged archive makes of the reader
        raise _no_workbook(name) from None
    chosen = _choose_sheet(values.worksheets, name, sheet)
    _check_hidden(chosen, name)
    lines: dict[int, list[str]] = {}
    rows = zip(chosen.iter_rows(), formulas[chosen.title].iter_rows(), strict=True)
    for number, (row, as_written) in enumerate(rows, start=1):
        pairs = zip(row, as_written, strict=True)
        lines[number] = [_cell_text(cell, source.data_type == "f", name) for cell, source in pairs]
    _spread_merged(chosen, lines, name)
    return {number: texts for number, texts in lines.items() if any(text.strip() for text in texts)}


def _no_workbook(name: str) -> InvalidInput:
    return InvalidInput(
        f"the {name} is a damaged workbook, or one of another program",
        "save it as Excel workbook (.xlsx) or as CSV UTF-8",
        code="table.workbook",
    )


def _check_workbook(path: Path, name: str) -> None:
    """Refuse what looks like a workbook and is none that can be read."""
    with path.open("rb") as stream:
        old = stream.read(len(OLE)) == OLE
    if old:
        if ENCRYPTED in path.read_bytes():
            raise InvalidInput(f"the {name} is encrypted", "save it without a password", code="table.encrypted")
        raise InvalidInput(
            f"the {name} is a workbook of Excel 97-2003 (.xls)",
            "save it as Excel workbook (.xlsx) or as CSV UTF-8",
            code="table.old_workbook",
        )
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError):
        raise _no_workbook(name) from None
    if "xl/workbook.xml" not in names:
        raise _no_workbook(name)
    if size > MAX_WORKBOOK_BYTES:
        raise InvalidInput(
            f"the {name} unpacks to {size / 1e6:,.0f} MB, at most {MAX_WORKBOOK_BYTES / 1e6:,.0f} expected",
            "keep the table alone in its workbook, or save it as CSV UTF-8",
            code="table.size",
        )


def _choose_sheet(sheets: "Sequence[Worksheet]", name: str, wanted: str) -> "Worksheet":
    exact = [sheet for sheet in sheets if sheet.title == wanted]
    chosen = exact or [sheet for sheet in sheets if fits(sheet.title, wanted)]
    if not wanted:
        chosen = [sheet for sheet in sheets if sheet.sheet_state == "visible"][:1]
    if len(chosen) != 1:
        raise InvalidInput(
            f"expected one sheet {wanted!r} in the {name}, got {len(chosen)} of {len(sheets)}",
            "name one with sheet=",
            code="table.sheet",
        )
    return chosen[0]


def _check_hidden(sheet: "Worksheet", name: str) -> None:
    """Refuse hidden rows: whoever filtered the table may mean that they are out, and may not."""
    hidden = [
        number
        for number, row in sheet.row_dimensions.items()
        if row.hidden and number <= sheet.max_row and any(cell.value is not None for cell in sheet[number])
    ]
    if hidden:
        raise InvalidInput(
            f"the {name} hides row {_list_rows(hidden)}",
            "show these rows or delete them: nobody can tell whether they count",
            code="table.hidden",
        )


def _cell_text(cell: "Cell | MergedCell", is_formula: bool, name: str) -> str:
    """The text of a cell; days as YYYY-MM-DD, numbers as short as they are exact, 7 that is shown as 007 as 007."""
    value: Any = cell.value
    if (is_formula and value is None) or cell.data_type == "e":
        what = "an error" if cell.data_type == "e" else "a formula without a stored value"
        raise InvalidInput(
            f"the {name} has {what} in cell {cell.coordinate}",
            "open it in a spreadsheet program, mend the cell, and save it again",
            code="table.formula",
        )
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == datetime.min.time() else value.isoformat(" ")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        if len(str(abs(value))) > MAX_DIGITS:
            raise InvalidInput(
                f"the {name} has more than {MAX_DIGITS} digits in cell {cell.coordinate}, where Excel loses the rest",
                "enter it as text",
                code="table.digits",
            )
        return _with_zeros(str(value), cell, name)
    return str(value)


def _with_zeros(digits: str, cell: "Cell | MergedCell", name: str) -> str:
    """A whole number with the leading zeros that its format shows."""
    style = (cell.number_format or "").partition(";")[0]
    if re.fullmatch("0+", style):
        return digits.zfill(len(style))
    if "," not in style and re.search("0[^.]*0", re.sub(r'"[^"]*"|[.E].*', "", style)):
        raise InvalidInput(
            f"the {name} shows zeros or parts of a number that it does not store in cell {cell.coordinate}",
            "enter it as text, as it is to be read",
            code="table.format",
        )
    return digits


def _spread_merged(sheet: "Worksheet", lines: dict[int, list[str]], name: str) -> None:
    """Give each row of cells that are merged down a column their one value; refuse those merged over columns."""
    wide = sorted({area.min_row for area in sheet.merged_cells.ranges if area.max_col > area.min_col})
    if wide:
        raise InvalidInput(
            f"the {name} has cells that are merged over several columns in row {_list_rows(wide)}",
            "split them: one cell for each column, and one line of headers",
            code="table.merged",
        )
    for area in sheet.merged_cells.ranges:
        for number in range(area.min_row + 1, area.max_row + 1):
            lines[number][area.min_col - 1] = lines[area.min_row][area.min_col - 1]


def _list_rows(rows: Sequence[int]) -> str:
    more = f" and {len(rows) - MAX_LISTED} more" if len(rows) > MAX_LISTED else ""
    return ", ".join(map(str, rows[:MAX_LISTED])) + more


def fits(text: str, pattern: str) -> bool:
    """Whether `text` is `pattern`, in which * stands for any text; case and space do not count."""
    bare_text, bare_pattern = ("".join(words.split()).casefold() for words in (text, pattern))
    return re.fullmatch(".*".join(map(re.escape, bare_pattern.split("*"))), bare_text) is not None


def parse_date(text: str, date_format: str = "") -> date | None:
    """A day as YYYY-MM-DD, YYYYMMDD or DD.MM.YYYY, or else as `date_format` says.

    Args:
        text: a cell.
        date_format: as of check_date_format; with it DD.MM.YYYY does not count, and a year of two digits lies in
            1969-2068.

    Returns:
        None where it has another form, or is no day of the calendar.
    """
    patterns = (_date_pattern(date_format), *DATE_PATTERNS[:2]) if date_format else DATE_PATTERNS
    matches = (re.fullmatch(pattern, text, re.ASCII) for pattern in patterns)
    match = next(filter(None, matches), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year += 100 * -((year - FIRST_TWO_DIGIT_YEAR) // 100)
    try:
        return date(year, int(match["month"]), int(match["day"]))
    except ValueError:
        return None


def check_date_format(date_format: str) -> None:
    """Check that each of day (D), month (M) and year (YY or YYYY) stands once in it, as in M/D/YY; empty is none.

    Raises:
        WrongUsage: it does not.
    """
    tokens = re.findall("Y+|M+|D+", date_format)
    known = all(token in DATE_TOKENS for token in tokens)
    if date_format and not (known and sorted(token[0] for token in tokens) == ["D", "M", "Y"]):
        raise WrongUsage(
            f"source.date_format: expected day, month and year as in D/M/YYYY or M/D/YY, got {date_format!r}"
        )


def _date_pattern(date_format: str) -> str:
    parts = re.split("(Y+|M+|D+)", date_format)
    pattern = "".join(DATE_TOKENS.get(part) or re.escape(part) for part in parts)
    if not all(parts[2:-2:2]):  # 1122020, which lost a zero, may be the 1st of December and the 11th of February
        pattern = pattern.replace("{1,2}", "{2}")
    return pattern + MIDNIGHT


def parse_number(text: str) -> float | None:
    """A number with a decimal point or, where that cannot be a thousands separator, a decimal comma; else None."""
    return float(text.replace(",", ".")) if re.fullmatch(NUMBER_PATTERN, text, re.ASCII) else None
