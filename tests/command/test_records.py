"""Records are written as declared, read back equal, and refused by name where they do not fit."""

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from ricenet.command.records import Record
from ricenet.errors import InvalidInput


class Shoe(Record):
    size: int
    colour: str = "black"
    lengths_mm: dict[str, float] = Field(default_factory=dict)


def test_what_was_given_is_written_in_the_order_of_the_declaration(tmp_path: Path) -> None:
    shoe = Shoe(lengths_mm={"left": 270.5}, size=42)
    shoe.write(tmp_path / "shoe.json")
    text = '{\n "size": 42,\n "lengths_mm": {\n  "left": 270.5\n }\n}\n'
    assert (tmp_path / "shoe.json").read_text() == text
    assert Shoe.read(tmp_path / "shoe.json") == shoe
    assert [path.name for path in tmp_path.iterdir()] == ["shoe.json"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "Invalid JSON"),
        ('{"size": 42', "Invalid JSON"),
        ("[]", "should be an object"),
        ("{}", "size: Field required"),
        ('{"size": "Mustermann"}', "size: Input should be a valid integer"),
        ('{"size": 1, "Mustermann": 2}', "not permitted"),
    ],
)
def test_another_content_is_refused_by_name_and_not_quoted(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "shoe.json").write_text(text)
    with pytest.raises(InvalidInput, match=rf"^shoe\.json cannot be read: .*{fault}.*; make new shoes$") as refused:
        Shoe.read(tmp_path / "shoe.json", hint="make new shoes")
    assert refused.value.code == "record.damaged"
    assert str(tmp_path) not in str(refused.value)
    assert "Mustermann" not in str(refused.value)


@pytest.mark.parametrize("path", ["shoe.json", "file/shoe.json"])
def test_a_missing_file_is_refused_by_name(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=r"^shoe\.json is missing; ") as refused:
        Shoe.read(tmp_path / path)
    assert refused.value.code == "record.missing"


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Shoe(size=42).size = 43  # type: ignore[misc]
