from datetime import date
from pathlib import Path

import pytest

from ricenet.cohort.spreadsheet import fits, parse_date, parse_number, read_table
from ricenet.errors import InvalidInput

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
    "a workbook": (b"PK\x03\x04\x14\x00\x06\x00\xff\xfe", "table.encoding"),
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
