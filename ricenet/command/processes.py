"""Run tasks in worker processes, one process per task, a few at a time; a task that fails does not end the others.

A worker that is killed, hangs past its time or wants more memory than it may have is one failed task with a message.
Each leads a process group of its own, and the kernel ends that group when the parent is gone, however it went (SIGKILL
too): no orphan goes on writing beside a second run.
"""

import fcntl
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any

from ricenet.command.exits import EXIT_SIGTERM, without_private_text
from ricenet.errors import Incomplete, InvalidInput, WrongUsage

MAX_TMPDIR = 75  # characters: the fork server's sockets lie in it, and their paths may have 107
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "Failed to allocate memory")  # torch, CUDA, ITK
KILL_TIMEOUT_S = 10


@dataclass(frozen=True)
class Limits:
    """What a run may take: `jobs` processes at a time, each with its minutes and its memory."""

    jobs: int
    limit_minutes: float
    memory_gb: float


@dataclass(frozen=True)
class Ended:
    """How a task ended.

    Attributes:
        kind: done, invalid (the input's fault) or failed (ours, or the process was killed).
        value: what the work returned, where it is done.
        code, message: what went wrong, where it is not; the message does not name the task.
        seconds: that the work took.
        peak_gb: resident memory of the process and the largest of its children, 0 where it could not say.
        name: of the task.
    """

    kind: str
    value: Any = None
    code: str = ""
    message: str = ""
    seconds: float = 0.0
    peak_gb: float = 0.0
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.message}" if self.name else self.message


def run_each(
    work: Callable[..., Any],
    tasks: Mapping[str, tuple[Any, ...]],
    *,
    jobs: int,
    limit_minutes: float,
    memory_gb: float,
    preload: list[str],
) -> Generator[tuple[str, Ended]]:
    """Call `work(*arguments)` for each task in a process of its own; yield name and end as they come.

    Args:
        work: a function of a module; processes are forked from a server that has no state of the caller.
        tasks: name, as messages call the task -> arguments, to be pickled.
        jobs: processes at a time.
        limit_minutes: after which a process is killed.
        memory_gb: that a process may allocate.
        preload: modules that the server imports once, so that not every process has to.

    Raises:
        WrongUsage: the path of the folder for temporary files is too long for sockets.

    SIGTERM ends the workers, and this process with exit code 143. So that an exception in the caller's loop ends them
    too, iterate inside contextlib.closing.
    """
    length = len(tempfile.gettempdir())
    if length > MAX_TMPDIR:
        raise WrongUsage(
            f"TMPDIR should have {MAX_TMPDIR} characters at most, got {length}; set it to a shorter folder"
        )
    # Inherited by the workers: one core for each, and sums in one order.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[name] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preload)
    waiting, running = list(tasks.items()), dict[Any, _Worker]()
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_SIGTERM))
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name, arguments = waiting.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_live, args=(work, name, arguments, memory_gb, theirs), daemon=True)
                process.start()
                theirs.close()  # the worker holds the only other end: its death is an end of file here
                running[ours] = _Worker(name, process, ours, time.monotonic() + 60 * limit_minutes)
            first = min(worker.deadline for worker in running.values())
            ready = wait(list(running), timeout=max(0.0, first - time.monotonic()))
            for results in ready:
                worker = running.pop(results)
                yield worker.name, replace(worker.end(), name=worker.name)
            for worker in [worker for worker in running.values() if worker.deadline <= time.monotonic()]:
                del running[worker.results]
                worker.kill()
                hint = "look at its images, or raise limit_minutes="
                message = f"its process was ended after limit_minutes={limit_minutes:g}; {hint}"
                seconds = 60 * limit_minutes
                yield (
                    worker.name,
                    Ended("failed", code="worker.time_limit", message=message, seconds=seconds, name=worker.name),
                )
    finally:
        for worker in running.values():
            worker.kill()
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class _Worker:
    name: str
    process: ForkServerProcess
    results: Connection
    deadline: float  # of time.monotonic()

    def end(self) -> Ended:
        try:
            ended = self.results.recv()
        except (EOFError, OSError):  # it died before, or in the middle of what it had to say
            ended = None
        self.process.join()
        code = self.process.exitcode or 0
        self.process.close()  # and with it the pipe whose end tells what the worker had started
        self.results.close()
        if ended is not None:
            return ended
        if code >= 0:
            return Ended("failed", code="worker.exit", message=f"its process ended with exit code {code}")
        hint = "out of memory? lower jobs=" if -code == signal.SIGKILL else "a library crashed; out of memory_gb=?"
        message = f"its process was killed by signal {-code}; {hint}"
        return Ended("failed", code="worker.killed", message=message)

    def kill(self) -> None:
        assert self.process.pid
        with suppress(ProcessLookupError):  # it leads no group yet, or it is gone
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join(timeout=KILL_TIMEOUT_S)
        with suppress(ValueError):  # it still waits for a disk that does not answer, and dies when that does
            self.process.close()
        self.results.close()


def _live(
    work: Callable[..., Any], name: str, arguments: tuple[Any, ...], memory_gb: float, results: Connection
) -> None:
    """The life of one worker process: one task, one end."""
    _end_with_parent()
    # Of what it may write to. Of its address space, torch and CUDA reserve far more than they ever touch.
    ceiling, hardest = int(memory_gb * 2**30), resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hardest == resource.RLIM_INFINITY or ceiling < hardest:
        resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hardest))
    start = time.perf_counter()
    try:
        ended = Ended("done", work(*arguments))
    except InvalidInput as error:
        ended = Ended("invalid", code=error.code, message=_without(name, error))
    except Incomplete as error:
        ended = Ended("failed", code="worker.tool", message=_without(name, error))
    except Exception as error:
        ended = _crashed(error, memory_gb)
    results.send(replace(ended, seconds=round(time.perf_counter() - start, 2), peak_gb=_peak_gb()))


def _without(name: str, error: InvalidInput | Incomplete) -> str:
    """What an error says, without the name of the task where that is the case it is about."""
    return error.details if error.case == name else str(error)


def _end_with_parent() -> None:
    """Have the kernel end this process and all it starts when the parent's end of their pipe closes.

    PR_SET_PDEATHSIG does not do it: the parent here is the fork server, and that lives as long as one of its workers.
    A thread that waits for the end of the pipe does not either, while a library holds the interpreter's lock.
    """
    os.setpgid(0, 0)
    parent = multiprocessing.parent_process()
    assert parent is not None
    alive = parent.sentinel
    fcntl.fcntl(alive, fcntl.F_SETOWN, -os.getpgrp())
    # The kernel sends SIGIO to the group, and nobody here handles it: it ends them.
    fcntl.fcntl(alive, fcntl.F_SETFL, fcntl.fcntl(alive, fcntl.F_GETFL) | os.O_ASYNC)
    if wait([alive], timeout=0):  # gone before the kernel was asked
        os._exit(1)


def _crashed(error: Exception, memory_gb: float) -> Ended:
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        hint = "raise memory_gb=, and lower jobs= where the machine has no more"
        message = f"its process ran out of memory with memory_gb={memory_gb:g}; {hint}"
        return Ended("failed", code="worker.memory", message=message)
    return Ended("failed", code="worker.error", message=without_private_text(error))


def _peak_gb() -> float:
    """Linux counts in KiB."""
    kib = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(kib / 2**20, 2)
