import mmap
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from ricenet.command.processes import MAX_TMPDIR, Ended, run_each
from ricenet.errors import Incomplete, InvalidInput, WrongUsage, about

MACHINE_GB = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def square(number: float) -> float:
    return number**2


def killed(number: int) -> None:
    os.kill(os.getpid(), number)


def hang() -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")  # holds the interpreter's lock for hours


def touch(gigabytes: float, reserve: bool) -> float:
    if reserve:  # as torch and CUDA do: an address that nothing can be written to costs nothing
        mmap.mmap(-1, int(gigabytes * 2**30), prot=mmap.PROT_READ).close()
        return 0.0
    return float(np.ones(int(gigabytes * 2**27)).sum())


def refuse() -> None:
    with about("case x"):
        raise InvalidInput("expected a, got b", "do c", code="test.rule")


def tool_failed() -> None:
    with about("case x"):
        raise Incomplete("the tool failed")


def leak() -> None:
    raise ValueError("/data/MUSTERMANN/post.nii.gz")


def absent() -> None:
    Path("/data/MUSTERMANN/post.nii.gz").read_bytes()


def start_child(pids: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pids.write_text(f"{os.getpid()} {child.pid}")
    hang()


def run(work, tasks, jobs=2, limit_minutes=1.0, memory_gb=2.0) -> dict[str, Ended]:
    limits = {"jobs": jobs, "limit_minutes": limit_minutes, "memory_gb": memory_gb}
    with closing(run_each(work, tasks, **limits, preload=[])) as ends:
        return dict(ends)


def test_every_task_is_done_in_a_process_of_its_own():
    ended = run(square, {f"task {number}": (number,) for number in range(6)})
    assert {name: end.value for name, end in ended.items()} == {f"task {number}": number**2 for number in range(6)}
    assert {end.kind for end in ended.values()} == {"done"}
    assert all(0.01 < end.peak_gb < MACHINE_GB for end in ended.values())
    assert run(square, {}) == {}


FAILURES = {
    killed: (
        (signal.SIGKILL,),
        "failed",
        "worker.killed",
        "case x: its process was killed by signal 9; out of memory?",
    ),
    refuse: ((), "invalid", "test.rule", "case x: expected a, got b; do c"),
    tool_failed: ((), "failed", "worker.tool", "case x: the tool failed"),
    leak: ((), "failed", "worker.error", r"case x: ValueError in test_processes.py, line \d+"),
    absent: ((), "failed", "worker.error", r"case x: FileNotFoundError \(No such file or directory\) in pathlib.py"),
    os._exit: ((3,), "failed", "worker.exit", "case x: its process ended with exit code 3"),
    touch: ((3.0, False), "failed", "worker.memory", r"case x: .* out of memory with memory_gb=2; raise memory_gb="),
}


@pytest.mark.parametrize("work", FAILURES, ids=lambda work: work.__name__)
def test_what_goes_wrong_is_told_without_paths(work):
    arguments, kind, code, message = FAILURES[work]
    end = run(work, {"case x": arguments})["case x"]
    assert (end.kind, end.code, end.value) == (kind, code, None)
    assert re.match(message, str(end))
    assert "MUSTERMANN" not in str(end)


def test_ceiling_counts_what_is_allocated_and_not_what_is_reserved():
    below, reserved = {"below": (1.0, False)}, {"reserved": (20.0, True)}
    assert run(touch, below | reserved)["below"].kind == "done"
    assert run(touch, reserved)["reserved"].kind == "done"


def test_a_hanging_task_is_ended_and_the_others_finish():
    start = time.monotonic()
    ended = run(sleep_or_hang, {"a": (0.0,), "b": (None,), "c": (0.1,), "d": (0.1,)}, limit_minutes=0.05)
    assert time.monotonic() - start < 20
    assert {name: end.kind for name, end in ended.items()} == {"a": "done", "b": "failed", "c": "done", "d": "done"}
    assert ended["b"].code == "worker.time_limit"
    assert str(ended["b"]).startswith("b: its process was ended after limit_minutes=0.05")


def sleep_or_hang(seconds: float | None) -> None:
    hang() if seconds is None else time.sleep(seconds)


def alive(pid: int) -> bool:
    """Neither gone nor a zombie that nobody has asked about."""
    try:
        return not re.search(r"\) [ZX] ", Path(f"/proc/{pid}/stat").read_text())
    except FileNotFoundError:
        return False


def wait_for_pids(path: Path) -> list[int]:
    deadline = time.monotonic() + 30
    while not (path.is_file() and path.read_text().count(" ")) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [int(pid) for pid in path.read_text().split()]


def assert_dead(pids: list[int]) -> None:
    deadline = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, pids))


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="asks /proc who is alive")


@needs_proc
def test_time_limit_ends_what_the_worker_started_too(tmp_path):
    ended = run(start_child, {"x": (tmp_path / "pids",)}, limit_minutes=0.05)
    assert ended["x"].code == "worker.time_limit"
    assert_dead(wait_for_pids(tmp_path / "pids"))


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_orphan_however_the_parent_ends(tmp_path, number):
    """Two workers in C code that never returns, each with a child: all are gone when the parent is."""
    places = [tmp_path / "a", tmp_path / "b"]
    process = multiprocessing.get_context("spawn").Process(target=parent, args=(places,))
    process.start()
    pids = [pid for place in places for pid in wait_for_pids(place)]
    assert all(map(alive, pids))
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 1}[number]
    assert_dead(pids)


def parent(places: list[Path]) -> None:
    run(start_child, {place.name: (place,) for place in places})


def test_a_tmpdir_too_long_for_sockets_is_a_usage_error(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * MAX_TMPDIR)))
    with pytest.raises(WrongUsage, match="TMPDIR should have 75 characters at most"):
        next(run_each(print, {"a": ()}, jobs=1, limit_minutes=1, memory_gb=4, preload=[]))
