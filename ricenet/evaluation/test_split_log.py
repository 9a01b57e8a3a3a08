"""Count how often the test split was looked at: the runs that are scored on it in, the count so far out.

test_access.csv of a cases folder has one row per different group of models that was ever scored on its test split, by
whatever grid: their digest and number. The same models again show nothing new and count once. Each look at a few test
patients makes the next choice a little less blind (Dwork et al. 2015), so the report prints the count.
"""

import csv
import fcntl
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

TABLE = "test_access.csv"


def count_access(cases: Path, predictions: Sequence[bytes]) -> int | None:
    """Log that models with these predictions are scored on the test split of `cases`, and count the groups so far.

    Args:
        predictions: the contents of every run's predictions.csv.

    Returns:
        None where the cases folder cannot be written to, so that nobody counts.
    """
    digests = sorted(hashlib.sha256(content).hexdigest() for content in predictions)
    digest = hashlib.sha256("".join(digests).encode()).hexdigest()
    try:
        with (cases / TABLE).open("a+", newline="") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # released with the file
            stream.seek(0)
            seen = {row[0] for row in csv.reader(stream) if len(row) == 2}
            if digest not in seen:
                csv.writer(stream, lineterminator="\n").writerow((digest, len(predictions)))
                stream.flush()
                os.fsync(stream.fileno())
    except OSError:
        return None
    return len(seen | {digest})
