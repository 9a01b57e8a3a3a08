"""The errors that stages raise and what a check reports: a stable code, expected and got, and what to do next."""

from dataclasses import dataclass


class WrongUsage(Exception):
    """A command that cannot be meant as given, against what is there: exit code 2."""


class InvalidInput(Exception):
    """Input that cannot be used: exit code 3, nothing written.

    Args:
        message: expected, got, which case.
        hint: what to do next.
        code: stable name of the rule that is broken, `group.rule`; what `verify` reports it under.
    """

    def __init__(self, message: str, hint: str = "", code: str = "input.invalid"):
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message, self.hint, self.code = message, hint, code

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:  # it crosses process borders with all three
        return type(self), (self.message, self.hint, self.code)


class Incomplete(Exception):
    """Some cases or runs failed, the others are finished: exit code 4. The message lists all that failed."""


@dataclass(frozen=True)
class Finding:
    """One thing to know about one case: a stable code, where, what was expected and got, and what to do.

    `severity`: error (the case cannot be used as it is), warning (somebody should look), info. `channel`: the role of
    the image concerned, empty where it is the whole case or the cohort.
    """

    code: str
    case: str
    message: str
    hint: str
    severity: str = "error"
    channel: str = ""

    def __str__(self) -> str:
        return f"[{self.code}] {self.case}: {self.message}; {self.hint}"
