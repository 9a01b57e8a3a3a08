"""Exit codes of the commands, and what may be said of an exception that nobody foresaw."""

import sys
import traceback
from pathlib import Path
from typing import NoReturn

EXIT_DONE, EXIT_CRASHED, EXIT_USAGE, EXIT_INVALID_INPUT, EXIT_INCOMPLETE, EXIT_SIGTERM = 0, 1, 2, 3, 4, 143


FAILURES = (EXIT_CRASHED, EXIT_USAGE, EXIT_INVALID_INPUT, EXIT_INCOMPLETE)


def without_private_text(error: BaseException) -> str:
    """The type and place of an exception, and the system's word for it; not its message, which may name a patient."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    what = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    return f"{type(error).__name__}{what}{where}"


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def stop_with(code: int, message: str) -> NoReturn:
    print(f"ricenet: {message}", file=sys.stderr, flush=True)
    sys.exit(code)
