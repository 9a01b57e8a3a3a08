"""What does preprocessing cost a patient, by step, and what does a second process bring? Two cores or more.

python -m ricenet.phantom out=outputs/bench-raw format=nifti patients=6 spacing_mm=1 seed=21
python benchmarks/preprocess.py outputs/bench-raw rounds=2      (about 20 minutes; other keys: of the stage)

Writes outputs/bench/preprocess.json: seconds of wall time per patient with jobs=2 (ours) and jobs=1, start of the
command included, rounds interleaved; `steps`: seconds by step and peak memory in the worker, from timings.csv.
"""

import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench import OUT, compare, spread


def main(cohort: Path, rounds: int, keys: list[str]) -> None:
    walls: dict[int, list[float]] = {1: [], 2: []}
    timings: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(rounds):
        for jobs in walls:
            wall_s, rows = preprocess(cohort, jobs, keys)
            walls[jobs].append(wall_s / len(rows))
            timings[jobs] += rows
    compare(
        "preprocess",
        walls[2],
        {"jobs=1": walls[1]},
        "s per patient",
        patients=len(timings[1]) // rounds,
        keys=keys,
        steps={f"jobs={jobs}": by_step(rows) for jobs, rows in timings.items()},
    )


def preprocess(cohort: Path, jobs: int, keys: list[str]) -> tuple[float, list[dict[str, float]]]:
    """One run into an empty folder: wall time in seconds, and the rows of timings.csv."""
    cases = OUT / f"preprocess-jobs{jobs}"
    shutil.rmtree(cases, ignore_errors=True)
    command = [sys.executable, "-m", "ricenet.preprocess", f"cohort={cohort}", f"cases={cases}", f"jobs={jobs}"]
    start = time.perf_counter()
    subprocess.run([*command, "folds=0", *keys], check=True)
    wall_s = time.perf_counter() - start
    with (cases / "timings.csv").open() as stream:
        rows = [
            {name: float(value) for name, value in row.items() if name != "case_key"} for row in csv.DictReader(stream)
        ]
    shutil.rmtree(cases)
    return wall_s, rows


def by_step(rows: list[dict[str, float]]) -> dict[str, dict[str, float | list[float]]]:
    """Seconds of each step, `total`, and `peak_gb`."""
    return {name: spread([row[name] for row in rows]) for name in rows[0]}


if __name__ == "__main__":
    options = dict(argument.split("=", 1) for argument in sys.argv[2:])
    main(Path(sys.argv[1]), int(options.pop("rounds", 2)), [f"{name}={value}" for name, value in options.items()])
