"""docs/findings.md lists every code of the source as it is now."""

import re
from pathlib import Path

import pytest
from helpers.finding_codes import PACKAGE, PAGE, Unresolved, entries, module_entries, page

LITERAL = re.compile(r'code="([a-z0-9_]+\.[a-z0-9_]+)"')


def test_the_page_is_that_of_the_source() -> None:
    assert PAGE.read_text() == page(), "run make findings"


def test_every_code_that_stands_in_the_source_has_a_row() -> None:
    """Read a second way, by the letters."""
    literals = {code for path in PACKAGE.rglob("*.py") for code in LITERAL.findall(path.read_text())}
    rows = set(re.findall(r"^\| `([^`]+)`", PAGE.read_text(), flags=re.MULTILINE))
    assert len(literals) > 100
    assert literals <= rows


def test_every_row_says_what_is_wrong() -> None:
    assert [entry for entry in entries() if not entry.message.strip(" {}")] == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            'raise InvalidInput(f"got {count:,} of {len(names)}", "do c", code="a.b")',
            "got {count} of {number of names}",
        ),
        ('LIMIT = 0.95\nraise InvalidInput(f"below {LIMIT:.0%}", code="a.b")', "below {limit}"),
        ('def f():\n    what = "x"\n    raise InvalidInput(what + "y", code="a.b")', "xy"),
    ],
)
def test_messages_are_readable(source: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(source)
    (entry,) = module_entries(tmp_path / "module.py")
    assert (entry.code, entry.severity, entry.message) == ("a.b", "refused", message)


def test_a_message_is_that_of_its_place(tmp_path: Path) -> None:
    """One local name that is set again and again has the text of the last assignment on the way to each call."""
    (tmp_path / "module.py").write_text(
        """
def check(x):
    text = "first"
    if x > 1:
        text = "left"
        return Finding("a.left", case, text)
    Finding("a.first", case, text)
    for _ in x:
        text = "loop"
        Finding("a.loop", case, text)
    if x:
        text = "yes"
    else:
        text = "no"
    Finding("a.both", case, text)
"""
    )
    assert {entry.code: entry.message for entry in module_entries(tmp_path / "module.py")} == {
        "a.left": "left", "a.first": "first", "a.loop": "loop", "a.both": "yes / no",
    }  # fmt: skip


def test_a_choice_of_codes_gives_both(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text('Finding("a.b" if x else "a.c", case, "wrong", "do", "warning")')
    assert [(entry.code, entry.severity) for entry in module_entries(tmp_path / "module.py")] == [
        ("a.b", "warning"), ("a.c", "warning"),
    ]  # fmt: skip


@pytest.mark.parametrize("code", ["table[key]", "function(x)", '"a"'])
def test_a_code_that_cannot_be_read_is_refused(code: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(f'InvalidInput("wrong", code={code})')
    with pytest.raises(Unresolved):
        list(module_entries(tmp_path / "module.py"))
