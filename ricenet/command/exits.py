"""Exit codes of the commands, and the text of an unforeseen exception without private data."""

import sys
import traceback
from pathlib import Path
from typing import NoReturn

EXIT_DONE = 0
EXIT_CRASHED = 1
EXIT_USAGE = 2
EXIT_INVALID_INPUT = 3
EXIT_INCOMPLETE = 4
EXIT_SIGTERM = 143

FAILURES = (EXIT_CRASHED, EXIT_USAGE, EXIT_INVALID_INPUT, EXIT_INCOMPLETE)


def without_private_text(error: BaseException) -> str:
    """The type and place of an exception, and the system's word for it; not its message, which may name a patient."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    what = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    return f"{type(error).__name__}{what}{where}"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def stop_with(code: int, message: str) -> NoReturn:
    """Print `message` to standard error and exit with `code`."""
    print(f"ricenet: {message}", file=sys.stderr, flush=True)
    sys.exit(code)
