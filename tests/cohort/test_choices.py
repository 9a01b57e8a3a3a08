"""choose.csv asks once; what was filled in stays; an invalid mark is refused by row and column."""

import csv
import stat
from pathlib import Path

import pytest

from ricenet.cohort.choices import FILE, Question, marked_series, read_choices, write_choices
from ricenet.cohort.ingest_record import SeriesRecord
from ricenet.errors import InvalidInput

ROWS = {"c1": 2, "c2": 3}
SERIES = {"c1": {"s1", "s2", "s3"}, "c2": {"s4", "s5"}}


def candidate(key: str, number: int) -> SeriesRecord:
    return SeriesRecord(
        series=key, number=number, modality="MR", day=-10, shape=(256, 256, 176), spacing_mm=(1.0, 1.0, 1.25),
        contrast=True, in_the_frame_of_the_dose=None, problem=None, acquisition="3D", plane="sagittal", kind="t1",
        contrast_by="its name says with contrast",
    )  # fmt: skip


POST = Question("c1", "post", [candidate("s1", 4), candidate("s2", 5)])
EVENT = Question("c2", "event", [candidate("s4", 7), candidate("s5", 8)])
NAMED = Question("c1", "post", POST.candidates, ["t1 GEHEIM", "=1+1"])


def ask(cohort: Path, *questions: Question, private: bool = False, rows: dict[str, int] = ROWS) -> int:
    return write_choices(cohort, questions, rows, private=private)


def rows(cohort: Path) -> list[dict[str, str]]:
    with (cohort / FILE).open(newline="", encoding="utf-8-sig") as stream:
        return list(csv.DictReader(stream))


def fill_in(cohort: Path, change, delimiter: str = ",") -> None:
    """As somebody's spreadsheet saves it."""
    table = rows(cohort)
    change(table)
    with (cohort / FILE).open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in table for name in row)), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(table)


def mark(*places: int, text: str = "x"):
    def change(table: list[dict[str, str]]) -> None:
        for place in places:
            table[place]["chosen"] = text

    return change


def marks(cohort: Path, series=SERIES) -> dict[str, dict[str, str]]:
    return marked_series(read_choices(cohort), series)


def test_each_candidate_has_a_row_and_a_mark_chooses_it(tmp_path):
    assert marks(tmp_path) == {}
    assert ask(tmp_path, EVENT, POST) == 2
    table = rows(tmp_path)
    assert [(row["case"], row["row"], row["role"], row["series"]) for row in table] == [
        ("c1", "2", "post", "s1"), ("c1", "2", "post", "s2"), ("c2", "3", "event", "s4"), ("c2", "3", "event", "s5"),
    ]  # fmt: skip
    assert table[0] | {"chosen": ""} == table[0]
    expected = {
        "number": "4",
        "day": "-10",
        "size": "256 x 256 x 176",
        "spacing_mm": "1 x 1 x 1.25",
        "plane": "sagittal",
    }
    assert table[0] | expected == table[0]
    assert "description" not in table[0]
    fill_in(tmp_path, mark(1))
    fill_in(tmp_path, mark(2, text="s5"))  # a key, whose row does not matter
    assert marks(tmp_path) == {"c1": {"post": "s2"}, "c2": {"event": "s5"}}


def test_a_case_may_be_marked_as_one_without_a_post_op_mri(tmp_path):
    ask(tmp_path, POST, EVENT)
    fill_in(tmp_path, mark(0, text="None"))
    assert marks(tmp_path) == {"c1": {"post": "none"}}
    fill_in(tmp_path, mark(2, text="none"))
    with pytest.raises(InvalidInput, match="row 4, column chosen"):
        marks(tmp_path)


def test_what_was_filled_in_stays(tmp_path):
    ask(tmp_path, POST, EVENT)

    def fill(table: list[dict[str, str]]) -> None:
        for row in table:
            row["note"] = ""
        table[1]["chosen"], table[2]["note"] = "X", "ask Dr. W"

    fill_in(tmp_path, fill)
    moved = {"c2": 5, "c1": 9}
    assert ask(tmp_path, EVENT, rows=moved) == 1, "the post-OP MRI is no question any more"
    table = rows(tmp_path)
    assert [(row["case"], row["row"], row["chosen"], row["note"]) for row in table] == [
        ("c2", "5", "", "ask Dr. W"), ("c2", "5", "", ""), ("c1", "9", "", ""), ("c1", "9", "X", ""),
    ]  # fmt: skip
    assert marks(tmp_path) == {"c1": {"post": "s2"}}
    assert ask(tmp_path, POST, rows=moved) == 0, "marked: not asked again"
    assert [row["note"] for row in rows(tmp_path)] == ["ask Dr. W", "", "", ""], "a note is kept, too"


def test_without_open_questions_and_marks_there_is_no_file(tmp_path):
    assert ask(tmp_path) == 0
    assert not (tmp_path / FILE).exists()
    ask(tmp_path, POST)
    ask(tmp_path)
    assert not (tmp_path / FILE).exists()


def test_semicolons_stay_semicolons(tmp_path):
    ask(tmp_path, POST, EVENT)
    fill_in(tmp_path, mark(0), delimiter=";")
    ask(tmp_path, EVENT)
    assert (tmp_path / FILE).read_text().startswith("case;row;role;series;")
    assert marks(tmp_path) == {"c1": {"post": "s1"}}


def test_as_excel_saves_it_sorted_anew_with_rows_deleted_and_keys_typed(tmp_path):
    ask(tmp_path, POST, EVENT)
    table = rows(tmp_path)
    table[1]["chosen"], table[3]["chosen"] = "X ", " S5"
    headers = ["chosen", *reversed([name for name in table[0] if name != "chosen"])]
    lines = [
        ";".join(headers),
        *(";".join(row[name] for name in headers) for row in (table[3], table[1])),
        ";" * 12,
        "",
    ]
    (tmp_path / FILE).write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    assert marks(tmp_path) == {"c1": {"post": "s2"}, "c2": {"event": "s5"}}
    assert ask(tmp_path) == 0
    assert marks(tmp_path) == {"c1": {"post": "s2"}, "c2": {"event": "s5"}}, "as ricenet writes it again"
    with pytest.raises(InvalidInput, match="row 2, column series: the case has no such series"):
        marks(tmp_path, {"c1": {"s1"}, "c2": {"s4", "s5"}})  # a further delivery without it


@pytest.mark.parametrize("text", ["x", "X", "\u0445", "\u00d7", "TRUE", "Ja", "sí", "да", "1"])
def test_how_people_mark(tmp_path, text):
    ask(tmp_path, POST)
    fill_in(tmp_path, mark(0, text=text))
    assert marks(tmp_path) == {"c1": {"post": "s1"}}


def test_names_only_with_consent_and_for_the_user_alone(tmp_path):
    ask(tmp_path, NAMED, private=True)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [row["description"] for row in rows(tmp_path)] == ["t1 GEHEIM", "'=1+1"], "a formula is a text"
    fill_in(tmp_path, mark(0))
    ask(tmp_path, private=True)
    assert rows(tmp_path)[0]["description"] == "t1 GEHEIM"
    ask(tmp_path)
    assert "GEHEIM" not in (tmp_path / FILE).read_text(), "consent can be withdrawn"
    assert marks(tmp_path) == {"c1": {"post": "s1"}}
    assert "GEHEIM" not in repr(NAMED)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (mark(0, 1), "rows 2, 3, column chosen: 2 series are marked for one role of one case"),
        (mark(0, text="maybe"), "row 2, column chosen: expected x, or the key of a series of this case"),
        (mark(0, text="s4"), "row 2, column chosen: expected x, or the key"),
        (lambda table: table[0].update(series="s9", chosen="x"), "row 2, column series: the case has no such series"),
        (lambda table: table[3].update(case="c7", chosen="x"), "row 5, column case: the label table has no such case"),
        (lambda table: table[0].update(role="rd", chosen="x"), "row 2, column role: expected post, event, planning"),
    ],
)
def test_a_mark_that_cannot_be_meant_is_refused_by_row_and_column(tmp_path, change, says):
    ask(tmp_path, POST, EVENT)
    fill_in(tmp_path, change)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(InvalidInput, match=says) as caught:
        marks(tmp_path)
    assert caught.value.code == "choices.rows"
    assert (tmp_path / FILE).read_bytes() == before


def test_all_wrong_marks_are_listed_at_once(tmp_path):
    ask(tmp_path, POST, EVENT)
    fill_in(tmp_path, mark(0, 1, 2, 3))
    with pytest.raises(InvalidInput, match=r"\(2\)") as caught:
        marks(tmp_path)
    assert str(caught.value).count("one role of one case") == 2


def test_a_file_that_lacks_a_column_or_is_no_table(tmp_path):
    (tmp_path / FILE).write_text("case,role\nc1,post\n")
    with pytest.raises(InvalidInput, match="lacks the columns series, chosen") as caught:
        read_choices(tmp_path)
    assert caught.value.code == "choices.columns"
    (tmp_path / FILE).write_bytes(b"\xff\xfe\0x")
    with pytest.raises(InvalidInput):
        ask(tmp_path, POST)
    assert (tmp_path / FILE).read_bytes() == b"\xff\xfe\0x", "left as it is"
