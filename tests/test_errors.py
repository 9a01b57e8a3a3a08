"""Errors say where they happened, in every process, and nobody has to read it out of their text."""

import pickle

import pytest

from ricenet.errors import Incomplete, InvalidInput, about


def raised(error: Exception, *places: tuple[str, str]) -> Exception:
    """`error` as it arrives outside of these blocks, the innermost first."""
    try:
        try:
            raise error
        except Exception:
            if not places:
                raise
            (case, role), *outer = places
            with about(case, role):
                raise
    except Exception as arrived:
        return raised(arrived, *outer) if places else arrived


def problem() -> InvalidInput:
    return InvalidInput("expected a, got b", "do c", code="test.rule")


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ([], "expected a, got b; do c"),
        ([("case x", "")], "case x: expected a, got b; do c"),
        ([("", "post")], "post image: expected a, got b; do c"),
        ([("case x", "post")], "case x: post image: expected a, got b; do c"),
        ([("", "post"), ("case x", "")], "case x: post image: expected a, got b; do c"),
        ([("case x", "post"), ("case y", "event")], "case x: post image: expected a, got b; do c"),
    ],
)
def test_the_innermost_block_that_knows_a_field_decides_it(places: list[tuple[str, str]], text: str) -> None:
    error = raised(problem(), *places)
    assert isinstance(error, InvalidInput)
    assert str(error) == text
    assert (error.message, error.hint, error.code) == ("expected a, got b", "do c", "test.rule")
    assert error.located + "; do c" == text


def test_without_a_hint_nothing_stands_behind_the_message() -> None:
    assert str(raised(InvalidInput("expected a", code="test.rule"), ("case x", "rd"))) == "case x: rd image: expected a"


@pytest.mark.parametrize("error", [problem(), Incomplete("expected a, got b", "do c")])
def test_it_crosses_process_borders_with_all_its_fields(error: Exception) -> None:
    error = raised(error, ("case x", "post"))
    error.add_note("seen by nobody")
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert vars(arrived) == vars(error)
    assert str(arrived) == "case x: post image: expected a, got b; do c"


def test_other_errors_pass_untouched() -> None:
    error = ValueError("x")
    assert raised(error, ("case x", "post")) is error
    assert str(error) == "x"
