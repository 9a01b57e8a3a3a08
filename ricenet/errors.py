"""The errors that stages raise and what a check reports: a stable code, what is wrong, where, and what to do next."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial


class WrongUsage(Exception):
    """The command line or config is invalid: exit code 2."""


class _Located(Exception):
    """An error that says where it happened; `about` fills in the case and the role of its image.

    Attributes:
        message: what is wrong with which value, without the case.
        hint: what to do next, with what every caller has; may be empty.
        case: how messages call the case; empty where it is none, or not known yet.
        role: of the image concerned: post, event, rd ...; empty where it is none.
    """

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.case = ""
        self.role = ""

    @property
    def details(self) -> str:
        """All but the case."""
        image = f"{self.role} image: " if self.role else ""
        return f"{image}{self.message}{f'; {self.hint}' if self.hint else ''}"

    @property
    def located(self) -> str:
        """All but the hint."""
        image = f"{self.role} image: " if self.role else ""
        return f"{self.case}: {image}{self.message}" if self.case else f"{image}{self.message}"

    def __str__(self) -> str:
        return f"{self.case}: {self.details}" if self.case else self.details


class InvalidInput(_Located):
    """Input that cannot be used: exit code 3. What was finished stays; verify and predict write their page.

    Attributes:
        code: stable name of the rule that is broken, `group.rule`; what `verify` reports it under.
    """

    def __init__(self, message: str, hint: str = "", *, code: str):
        super().__init__(message, hint)
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:  # it crosses process borders with all its fields
        return partial(type(self), code=self.code), (self.message, self.hint), self.__dict__


class Incomplete(_Located):
    """Some cases or runs failed, the others are finished: exit code 4. The message lists all that failed."""

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.hint), self.__dict__


@contextmanager
def about(case: str = "", role: str = "") -> Iterator[None]:
    """Say which case, and which of its images, an InvalidInput or Incomplete raised in this block is about.

    For the place where a case or a file is entered, so that the functions below it need not be told its name:

        with about(case.name):
            with about(role="post"):
                post = read_volume(path)
            mask = extract(post, "none")

    raises "case c1: post image: expected a file, got none; ...". The innermost block that knows a field decides it.

    Args:
        case: how messages call the case, best the `name` of a Case or ReadyCase.
        role: post, event, rd, planning, brain_mask, or another MRI's.
    """
    try:
        yield
    except (InvalidInput, Incomplete) as error:
        error.case = error.case or case
        error.role = error.role or role
        raise


@dataclass(frozen=True)
class Finding:
    """One thing to know about one case, or about the cohort.

    Attributes:
        code: stable name of the rule, `group.rule`.
        case: how the report calls the case.
        message: what was expected and what was found.
        hint: what to do.
        severity: error (the case cannot be used as it is), warning (somebody should look) or info.
        channel: the role of the image concerned; empty where it is the whole case or the cohort.
    """

    code: str
    case: str
    message: str
    hint: str
    severity: str = "error"
    channel: str = ""

    def __str__(self) -> str:
        return f"[{self.code}] {self.case}: {self.message}; {self.hint}"
