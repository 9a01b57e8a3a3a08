import zipfile
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import pytest

from ricenet.cohort.spreadsheet import check_date_format, fits, parse_date, parse_number, read_table
from ricenet.errors import InvalidInput, WrongUsage

ROWS = {2: {"id": "7", "what, how": "a; b"}, 4: {"id": "8", "what, how": ""}}
WRITTEN = {
    "comma": 'id,"what, how"\n7,a; b\n,\n 8 \n',
    "semicolon": 'id;what, how\n7;"a; b"\n;\n8;\n',
    "tab": "id\twhat, how\r\n7\ta; b\r\n\t\r\n8\t\r\n",
    "byte order mark": '\ufeffid,"what, how"\n7,a; b\n,\n8,\n',
}


def written(folder: Path, text: str) -> Path:
    (folder / "table.csv").write_bytes(text.encode())
    return folder / "table.csv"


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_every_way_to_write_a_table_reads_the_same(tmp_path, text):
    table = read_table(written(tmp_path, text), "label table")
    assert table.headers == ["id", "what, how"]
    assert table.rows == ROWS


BAD = {
    "another encoding": ("id\nM\u00fcller\n".encode("latin-1"), "table.encoding"),
    "a damaged workbook": (b"PK\x03\x04\x14\x00\x06\x00\xff\xfe", "table.workbook"),
    "an old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000), "table.old_workbook"),
    "an encrypted workbook": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le") + bytes(600),
        "table.encrypted",
    ),
    "too many cells": (b"id,label\nMUSTER,rice\nMUSTER,rice,biopsy\n", "table.cells"),
}


@pytest.mark.parametrize(("content", "code"), BAD.values(), ids=BAD)
def test_what_is_no_table_is_refused_without_a_cell_or_a_path(tmp_path, content, code):
    path = tmp_path / "MUSTER.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidInput) as refused:
        read_table(path, "label table")
    assert refused.value.code == code
    assert "MUSTER" not in str(refused.value)


def test_missing_file_is_refused_without_its_path(tmp_path):
    with pytest.raises(InvalidInput, match="there is no label table") as refused:
        read_table(tmp_path / "MUSTER.csv", "label table")
    assert "MUSTER" not in str(refused.value)


def test_empty_file_is_a_table_of_nothing(tmp_path):
    table = read_table(written(tmp_path, ""), "label table")
    assert (table.headers, table.rows) == ([], {})


def test_header_by_name_or_wildcard(tmp_path):
    table = read_table(written(tmp_path, '"Rating (RANO, PD: x)",Rating rationale,Date,Date\n'), "rating table")
    assert table.header("Rating (*") == "Rating (RANO, PD: x)"
    assert table.header("ratingrationale") == "Rating rationale"
    assert not table.has("Patient")
    for wanted, count in (("Rating*", 2), ("Patient", 0), ("Date", 2)):
        with pytest.raises(InvalidInput, match=f"got {count}; its columns are 'Rating") as refused:
            table.header(wanted)
        assert refused.value.code == "table.columns"


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("Pseudo Progression ", "pseudoprogression", True),
        ("pseudoprogression", "progression", False),
        ("Progressive Disease (PD)", "*progressive disease*", True),
        ("Post-Op/PD", "Post-Op*", True),
        ("PD", "P.", False),
        ("", "", True),
        ("PD", "", False),
    ],
)
def test_fits(text, pattern, expected):
    assert fits(text, pattern) is expected


@pytest.mark.parametrize("text", ["2020-04-03", "2020-04-03 00:00:00", "20200403", "03.04.2020", "3.4.2020"])
def test_dates_with_one_reading(text):
    assert parse_date(text) == date(2020, 4, 3)


@pytest.mark.parametrize(
    "text",
    ["03/04/2020", "04-03-2020", "3.4.20", "2020-02-30", "31.04.2020", "43924", "2020-04", "2020-04-03 12:30", ""],
)
def test_other_dates_are_not_guessed(text):
    assert parse_date(text) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [("60", 60.0), ("40.05", 40.05), ("40,05", 40.05), ("6,000", None), ("60 Gy", None), ("-1", None)],
)
def test_numbers_with_one_reading(text, number):
    assert parse_number(text) == number


def workbook(folder: Path, rows: list[list], change: Callable | None = None) -> Path:
    """A workbook with one sheet of these rows; `change` gets the workbook before it is saved."""
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    if change:
        change(book)
    book.save(folder / "table.xlsx")
    return folder / "table.xlsx"


def test_a_workbook_reads_as_the_same_table_as_text(tmp_path):
    rows = [
        ["patient_id ", "event_date", "fractions", "dose\n(Gy)", "by", "ok"],
        ["001", datetime(2020, 4, 3), 30, 40.05],
    ]
    rows += [[None] * 6, [2, datetime(2020, 4, 3, 12, 30), 30.0, 60, " biopsy ", True]]
    table = read_table(workbook(tmp_path, rows), "label table")
    assert table.header("dose (Gy)") == "dose\n(Gy)"
    assert [list(cells.values()) for cells in table.rows.values()] == [
        ["001", "2020-04-03", "30", "40.05", "", ""],
        ["2", "2020-04-03 12:30:00", "30", "60", "biopsy", "TRUE"],
    ]
    assert list(table.rows) == [2, 4]


def test_numbers_keep_the_zeros_that_their_format_shows(tmp_path):
    def change(book):
        book.active["A2"].number_format = "000"

    table = read_table(workbook(tmp_path, [["id"], [7], [8]], change), "label table")
    assert [cells["id"] for cells in table.rows.values()] == ["007", "8"]


@pytest.mark.parametrize("shown", ["000-00", '"P"000', "00 00", "0-0"])
def test_a_number_that_is_shown_in_parts_is_refused(tmp_path, shown):
    """7 that is shown as P007 or 000-07 is not the patient 7."""

    def change(book):
        book.active["A2"].number_format = shown

    with pytest.raises(InvalidInput, match="in cell A2") as refused:
        read_table(workbook(tmp_path, [["id"], [7], [8]], change), "label table")
    assert refused.value.code == "table.format"


@pytest.mark.parametrize(
    "shown", ["General", "0", "0.00", "#,##0", "0,000", "0.00E+00", "0%", '0" Gy"', '0" of 100"', "000;-000"]
)
def test_usual_formats_of_numbers_are_read(tmp_path, shown):
    def change(book):
        book.active["A2"].number_format = shown

    (cells,) = read_table(workbook(tmp_path, [["gy"], [60]], change), "label table").rows.values()
    assert cells["gy"] == ("060" if shown.startswith("000") else "60")


def test_the_first_sheet_that_is_shown_or_the_one_that_is_named(tmp_path):
    def change(book):
        book.active.sheet_state = "hidden"
        book.create_sheet("notes").append(["note"])
        book.create_sheet("Cinical info").append(["ID"])

    path = workbook(tmp_path, [["old"]], change)
    assert read_table(path, "label table").headers == ["note"]
    assert read_table(path, "label table", "c*info").headers == ["ID"]
    assert read_table(path, "label table", "Sheet").headers == ["old"]
    for sheet, count in (("other", 0), ("*", 3)):
        with pytest.raises(InvalidInput, match=f"one sheet '[*a-z]+' in the label table, got {count} of 3") as refused:
            read_table(path, "label table", sheet)
        assert refused.value.code == "table.sheet"


def test_a_table_may_begin_below_empty_rows(tmp_path):
    table = read_table(workbook(tmp_path, [[None], [None], ["id", "label"], ["a", "rice"]]), "label table")
    assert (table.headers, table.rows) == (["id", "label"], {4: {"id": "a", "label": "rice"}})


def test_cells_merged_down_a_column_hold_their_value_in_every_row(tmp_path):
    rows = [["id", "label"], ["a", "rice"], [None, "recurrence"], ["b", "rice"]]
    table = read_table(workbook(tmp_path, rows, lambda book: book.active.merge_cells("A2:A3")), "label table")
    assert [cells["id"] for cells in table.rows.values()] == ["a", "a", "b"]


def hide(book):
    book.active.row_dimensions[3].hidden = True


WORKBOOKS = {
    "table.hidden": (hide, "hides row 3"),
    "table.merged": (lambda book: book.active.merge_cells("A2:B2"), "several columns in row 2"),
    "table.formula": (lambda book: book.active.__setitem__("B3", "=A3&1"), "without a stored value in cell B3"),
    "table.digits": (
        lambda book: book.active.__setitem__("A2", 1234567890123456),
        "more than 15 digits in cell A2",
    ),
    "table.cells": (lambda book: book.active.__setitem__("D3", "MUSTER"), "more cells than its header in row 3"),
}


@pytest.mark.parametrize(
    ("code", "change", "message"), [(code, *how) for code, how in WORKBOOKS.items()], ids=WORKBOOKS
)
def test_a_sheet_that_a_person_reads_otherwise_is_refused(tmp_path, code, change, message):
    with pytest.raises(InvalidInput, match=message) as refused:
        read_table(workbook(tmp_path, [["id", "label"], ["MUSTER", "rice"], ["MUSTER", "rice"]], change), "label table")
    assert refused.value.code == code
    assert "MUSTER" not in str(refused.value)


def test_an_error_in_a_cell_is_refused_and_the_value_of_a_formula_is_read(tmp_path):
    """As Excel stores them: a formula with its last value, #N/A as an error."""
    path = workbook(tmp_path, [["id", "sum"], ["a", "=1+1"]])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"

    def stored(value: str, kind: str) -> None:
        cell = f"{kind}><f>1+1</f><v>{value}</v></c>".encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(
                    name, content.replace(b"><f>1+1</f><v></v></c>", cell).replace(b"><f>1+1</f><v /></c>", cell)
                )

    assert b"<f>1+1</f>" in parts[sheet]
    stored("2", "")
    assert read_table(path, "label table").rows[2]["sum"] == "2"
    stored("#N/A", ' t="e"')
    with pytest.raises(InvalidInput, match="an error in cell B2"):
        read_table(path, "label table")


def test_a_zip_of_something_else_is_no_workbook(tmp_path):
    with zipfile.ZipFile(tmp_path / "table.xlsx", "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    with pytest.raises(InvalidInput) as refused:
        read_table(tmp_path / "table.xlsx", "label table")
    assert refused.value.code == "table.workbook"


@pytest.mark.parametrize(
    ("text", "date_format", "expected"),
    [
        ("5/6/04", "M/D/YY", date(2004, 5, 6)),
        ("12/31/2008", "M/D/YY", date(2008, 12, 31)),
        ("5/6/04 0:00", "M/D/YY", date(2004, 5, 6)),
        ("5/6/68", "M/D/YY", date(2068, 5, 6)),
        ("5/6/69", "M/D/YY", date(1969, 5, 6)),
        ("13/6/04", "M/D/YY", None),
        ("05.06.2004", "M/D/YY", None),
        ("2004-05-06", "M/D/YY", date(2004, 5, 6)),
        ("5/6/04", "D/M/YY", date(2004, 6, 5)),
        ("5/6/04", "D/M/YYYY", None),
        ("04.05.06", "YY.MM.DD", date(2004, 5, 6)),
        ("01122020", "DDMMYYYY", date(2020, 12, 1)),
        ("1122020", "DDMMYYYY", None),  # the 1st of December without its zero, or the 11th of February
        ("1/1220", "M/DDYY", None),
        ("01/1220", "M/DDYY", date(2020, 1, 12)),
    ],
)
def test_dates_of_a_format_that_the_source_names(text, date_format, expected):
    check_date_format(date_format)
    assert parse_date(text, date_format) == expected


@pytest.mark.parametrize("date_format", ["D/M", "D/M/YYY", "M/D/YY/YYYY", "mm/dd/yy", "DDD/M/YY"])
def test_a_format_without_day_month_and_year_is_refused(date_format):
    with pytest.raises(WrongUsage, match=r"source.date_format"):
        check_date_format(date_format)
