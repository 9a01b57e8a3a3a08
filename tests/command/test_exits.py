"""Exit codes, and what is told of an exception without its text."""

from pathlib import Path

import pytest

from ricenet.command import exits


def test_codes_are_those_of_the_contract() -> None:
    codes = (exits.EXIT_DONE, exits.EXIT_CRASHED, exits.EXIT_USAGE, exits.EXIT_INVALID_INPUT, exits.EXIT_INCOMPLETE)
    assert codes == (0, 1, 2, 3, 4)
    assert exits.EXIT_SIGTERM == 128 + 15


def test_an_exception_is_told_by_type_and_place() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Path("/data/MUSTERMANN/post.nii.gz").read_bytes()
    text = exits.without_private_text(caught.value)
    assert text.startswith("FileNotFoundError (No such file or directory) in pathlib.py, line ")
    assert "MUSTERMANN" not in text
    assert exits.without_private_text(ValueError("MUSTERMANN")) == "ValueError"


def test_the_first_line_of_a_message_or_its_type() -> None:
    assert exits.first_line(ValueError("one\ntwo")) == "one"
    assert exits.first_line(KeyError()) == "KeyError"


def test_a_message_and_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        exits.stop_with(3, "case c1: expected this")
    assert stop.value.code == 3
    assert capsys.readouterr() == ("", "ricenet: case c1: expected this\n")
