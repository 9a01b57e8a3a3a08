"""Run `python -m ricenet.<stage>` as its users do, without paying for its imports each time.

A process that has imported what the stages need waits for command lines and forks for each: the command is a process
of its own, with its own working folder, environment, output and exit code, and starts in milliseconds. Tests of
start-up itself, of signals and of what is imported start Python afresh with `subprocess`.
"""

import atexit
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import warnings
from functools import cache
from pathlib import Path
from typing import Any

PRELOADED = (
    "ants", "hydra", "jinja2", "lightning.pytorch", "matplotlib.figure", "monai.networks.nets", "nibabel", "nilearn",
    "omegaconf", "pydicom", "safetensors.torch", "scipy.ndimage", "sklearn.linear_model", "sklearn.model_selection",
    "statsmodels.stats.proportion", "torch", "torchmetrics.classification", "tqdm",
)  # fmt: skip


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
    assert line[:2] == [sys.executable, "-m"], "other programs are started with subprocess"
    assert capture_output
    request = {"module": line[2], "arguments": line[3:], "cwd": str(cwd or Path.cwd()), "env": env or dict(os.environ)}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, socket.socket(socket.AF_UNIX) as server:
        server.connect(_server(private))
        socket.send_fds(server, [b"?"], [out.fileno(), err.fileno()])
        server.sendall(json.dumps(request).encode())
        server.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: server.recv(64), b""))
        streams = []
        for stream in (out, err):
            stream.seek(0)
            content = stream.read()
            streams.append(content.decode() if text else content)
    done = subprocess.CompletedProcess(line, int(answer), *streams)
    if check:
        done.check_returncode()
    return done


@cache
def _server(private: tuple[tuple[str, str], ...]) -> str:
    """The address of this test process's server, which ends with it."""
    folder = tempfile.mkdtemp(prefix="rn")
    address = f"{folder}/s"
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | dict(private)
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
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        os._exit(_command(**request))
    _, status = os.waitpid(child, 0)
    guest.sendall(str(os.waitstatus_to_exitcode(status)).encode())
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
    # What the interpreter does at its end, and os._exit does not.
    atexit._run_exitfuncs()
    return int(code or 0)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
