"""Run `python -m ricenet.<stage>` as its users do, without paying for its imports each time.

A process that has imported what the stages need waits for command lines and forks for each: the command is a process
of its own, with its own working folder, environment, output and exit code, and starts in milliseconds. `run` waits for
it, `start` gives one that can be signalled and killed. Tests of start-up itself and of what is imported start Python
afresh with `subprocess`.
"""

import atexit
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from functools import cache, cached_property
from pathlib import Path
from typing import Any

PRELOADED = (
    "ants", "hydra", "jinja2", "lightning.pytorch", "matplotlib.figure", "monai.networks.nets", "nibabel", "nilearn",
    "omegaconf", "pydantic.main", "pydicom", "safetensors.torch", "scipy.ndimage", "sklearn.linear_model",
    "sklearn.model_selection", "statsmodels.stats.proportion", "torch", "torchmetrics.classification", "tqdm",
)  # fmt: skip
ONE_THREAD = ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def run(
    line: list[str],
    *,
    cwd: Path | str | None = None,
    env: dict[str, str] | None = None,
    check: bool = False,
    text: bool = True,
    capture_output: bool = True,
    private: tuple[tuple[str, str], ...] = (),
) -> subprocess.CompletedProcess[Any]:
    """What subprocess.run does for `[sys.executable, "-m", module, *arguments]`, its output captured.

    `private`: of the environment, what the imports may look at too, such as HOME; each has a server of its own.
    """
    assert capture_output
    command = start(line, cwd=cwd, env=env, private=private)
    streams: list[Any] = list(command.streams())
    if text:
        streams = [content.decode() for content in streams]
    done = subprocess.CompletedProcess(line, command.wait(), *streams)
    if check:
        done.check_returncode()
    return done


class Started:
    """A command that runs as the leader of a session of its own, as with start_new_session of subprocess.Popen."""

    def __init__(self, line: list[str], private: tuple[tuple[str, str], ...], request: dict[str, Any]) -> None:
        self.line = line
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115  # streams() closes them
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(_server(private))
        socket.send_fds(self._server, [b"?"], [self._out.fileno(), self._err.fileno()])
        self._server.sendall(json.dumps(request).encode())
        self._server.shutdown(socket.SHUT_WR)
        self.pid = int.from_bytes(self._server.recv(4, socket.MSG_WAITALL), "big")

    @cached_property
    def _returncode(self) -> int:
        answer = b"".join(iter(lambda: self._server.recv(64), b""))
        self._server.close()
        return int(answer)

    def poll(self) -> int | None:
        """The exit code, or None while it runs; a negative number is a signal's."""
        return self.wait() if "_returncode" in vars(self) or select.select([self._server], [], [], 0)[0] else None

    def wait(self, timeout: float | None = None) -> int:
        if "_returncode" not in vars(self) and not select.select([self._server], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.line, timeout or 0)
        return self._returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def streams(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Its output and its errors, once it has ended."""
        self.wait(timeout)
        contents = []
        for stream in (self._out, self._err):
            stream.seek(0)
            contents.append(stream.read())
            stream.close()
        return contents[0], contents[1]


def start(
    line: list[str],
    *,
    cwd: Path | str | None = None,
    env: dict[str, str] | None = None,
    private: tuple[tuple[str, str], ...] = (),
) -> Started:
    """What subprocess.Popen does for `[sys.executable, "-m", module, *arguments]`; the other arguments as of `run`."""
    assert line[:2] == [sys.executable, "-m"], "other programs are started with subprocess"
    request = {"module": line[2], "arguments": line[3:], "cwd": str(cwd or Path.cwd()), "env": env or dict(os.environ)}
    return Started(line, private, request)


@cache
def _server(private: tuple[tuple[str, str], ...]) -> str:
    """The address of this test process's server, which ends with it."""
    folder = tempfile.mkdtemp(prefix="rn")
    address = f"{folder}/s"
    environment = os.environ | dict.fromkeys(ONE_THREAD, "1") | dict(private)
    ready, tell = os.pipe()
    command = [sys.executable, str(Path(__file__).absolute()), address, str(tell)]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, pass_fds=[tell])
    os.close(tell)
    if os.read(ready, 1) != b"!":
        raise RuntimeError("the server of commands did not start")
    os.close(ready)

    def end() -> None:
        process.kill()
        process.wait()
        Path(address).unlink(missing_ok=True)
        Path(folder).rmdir()

    atexit.register(end)
    return address


def serve(address: str, ready: int) -> None:
    """Fork for every connection until the tests end."""
    for module in PRELOADED:
        __import__(module)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        os.write(ready, b"!")
        os.close(ready)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        while True:
            guest, _ = door.accept()
            if os.fork() == 0:  # it waits for the command, so that the next guest need not
                door.close()
                _attend(guest)
            guest.close()
            _bury()


def _bury() -> None:
    """Take note of children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _attend(guest: socket.socket) -> None:
    _, (out, err), *_ = socket.recv_fds(guest, 1, 2)
    request = json.loads(b"".join(iter(lambda: guest.recv(65536), b"")))
    child = os.fork()
    if child == 0:
        guest.close()
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell started in the background
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        os._exit(_command(**request))
    try:
        guest.sendall(child.to_bytes(4, "big"))
        _, status = os.waitpid(child, 0)
        guest.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    finally:  # also where the tests have gone
        os._exit(0)


def _command(module: str, arguments: list[str], cwd: str, env: dict[str, str]) -> int:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None
    sys.argv = [module, *arguments]
    sys.path[0] = cwd
    for path in reversed(env.get("PYTHONPATH", "").split(os.pathsep)):
        if path and path not in sys.path:
            sys.path.insert(1, path)
    warnings.filterwarnings("ignore", module="runpy")
    code: Any = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # What the interpreter does at its end, and os._exit does not; joblib's workers end so.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    return int(code or 0)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
