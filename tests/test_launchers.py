"""Whole grids by each launcher: killed again and again they end with the bits of a grid that nobody disturbed.

Two folds of the paper's seven sets, killed five times; of four sets, killed once, where joblib's workers start afresh
each time; for submitit's local launcher, which starts a process for each cell at once, three cells and one kill.
"""

import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import commands
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from ricenet.command.atomic import file_hash
from ricenet.paper import PAPER
from ricenet.training.grid_summary import GridSummary

CELLS = [f"{name}/fold{fold}" for name in PAPER for fold in range(2)]
SOME = [cell for cell in CELLS if cell.partition("/")[0] in ("rd", "post", "event", "rd_event")]
FEW = ["rd/fold1", "post/fold1", "event/fold1"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
SUBMITIT = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"]
QUICK = ["experiment=smoke", "epochs=3", "checkpoint_every=1"]
ENDLESS = "epochs=100000"
BROKEN = "rd/fold1"
PATIENCE_S = 120
# SLURM's commands, as far as submitit calls them: jobs of an array run at once, and again where scontrol says so.
SLURM = {
    "sbatch": """
count=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
job() {
  export SLURM_JOB_ID=77 SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=$1 SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0
  bash "$2"
  while rm "$0-requeue-77_$1" 2>/dev/null; do bash "$2"; done
}
for index in $(seq 0 "$count"); do job "$index" "$1" >/dev/null 2>&1 & done
cp "$1" "$0-script"
echo Submitted batch job 77
""",
    "srun": """
declare -A to
while [[ $1 == --* ]]; do
  case $1 in --output | --error) to[$1]=$(sed "s/%A/77/g; s/%a/$SLURM_ARRAY_TASK_ID/g; s/%t/0/g" <<<"$2"); shift ;; esac
  shift
done
exec "$@" >>"${to[--output]}" 2>>"${to[--error]}"
""",
    "scontrol": 'touch "$(dirname "$0")/sbatch-requeue-$2"',
    "sacct": "echo 'JobID|State|NodeList'; echo '77_0|RUNNING|'; echo '77_1|RUNNING|'",
}

pytestmark = pytest.mark.extended
started: list[int] = []


@pytest.fixture(autouse=True)
def nothing_lives_on() -> Iterator[None]:
    """What a test that failed has left behind would train for ever."""
    yield
    for pid in (pid for leader in started for pid in session(leader)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    started.clear()


@pytest.fixture(scope="module")
def undisturbed(phantom_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper's sets, by one process, from beginning to end."""
    run = tmp_path_factory.mktemp("undisturbed")
    code, output = finish(start(phantom_cases, run, CELLS))
    assert code == 0, output
    assert f"{len(CELLS)} runs: " in output
    assert done(run) == set(CELLS)
    return run


def start(cases: Path, run: Path, cells: list[str], *arguments: str, path: str = "") -> commands.Started:
    """The command of a grid, in a session of its own; `path`: a folder of programs that come first.

    Forked: the workers of the launchers, and the jobs of submitit, are started afresh.
    """
    rows, folds = (sorted(set(part)) for part in zip(*(cell.split("/fold") for cell in cells), strict=True))
    sweep = [f"+modalities={','.join(rows)}", f"fold={','.join(folds)}"]
    line = [sys.executable, "-m", "ricenet.train", "-m", f"cases={cases}", f"run={run}", *QUICK, *sweep, *arguments]
    environment = os.environ | {"PATH": os.pathsep.join(filter(None, [path, os.environ["PATH"]]))}
    process = commands.start(line, env=environment)
    started.append(process.pid)
    return process


def finish(process: commands.Started) -> tuple[int, str]:
    output = b"".join(process.streams(timeout=2 * PATIENCE_S)).decode()
    return process.wait(), output


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.02)


def session(leader: int) -> list[int]:
    """The processes that a grid's command has started, and itself, as far as they live."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = stat.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(number) == leader and state != "Z":
            alive.append(int(stat.parent.name))
    return alive


def done(run: Path) -> set[str]:
    return {str(path.parent.relative_to(run)) for path in run.glob("*/fold*/DONE")}


def results(run: Path, cells: list[str]) -> dict[str, str]:
    files = [f"{cell}/{name}" for cell in cells for name in ("predictions.csv", "weights.safetensors")]
    return {name: file_hash(run / name) for name in files}


def killed_in_the_middle(process: commands.Started, run: Path, seconds: float) -> bool:
    """Kill the grid's own process, and no other, some seconds after it has finished one more run."""
    before = done(run)
    wait_for(lambda: len(done(run)) > len(before) or process.poll() is not None, "a finished run")
    time.sleep(seconds)
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("launcher", "kills", "cells"),
    [([], 5, CELLS), (JOBLIB, 1, SOME), (SUBMITIT, 1, FEW)],
    ids=["basic", "joblib", "submitit_local"],
)
def test_killed_grid_ends_with_the_same_bits(
    launcher: list[str], kills: int, cells: list[str], phantom_cases: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """With one run that cannot be: the others finish all the same, and it is named; mended, it is made too."""
    (tmp_path / BROKEN).parent.mkdir()
    (tmp_path / BROKEN).write_text("a file where the run folder should be")
    moments, hits = random.Random(0), 0
    for _ in range(kills):
        process = start(phantom_cases, tmp_path, cells, *launcher)
        hits += killed_in_the_middle(process, tmp_path, moments.uniform(0, 1))
        if launcher == JOBLIB:
            wait_for(lambda leader=process.pid: not session(leader), "the workers' end")
    assert hits, "the machine is too fast for so small a grid"
    code, output = finish(start(phantom_cases, tmp_path, cells, *launcher))
    assert code == 4, output
    assert re.search(r"1 job\(s\) of the grid failed.*\n  \+modalities=rd,.*fold=1.*: rd fold1: ", output), output
    assert done(tmp_path) == set(cells) - {BROKEN}
    (tmp_path / BROKEN).unlink()
    code, output = finish(start(phantom_cases, tmp_path, cells, *launcher))
    assert code == 0, output
    assert done(tmp_path) == set(cells)
    assert results(tmp_path, cells) == results(undisturbed, cells)
    assert not (tmp_path / "multirun.yaml").exists()


@pytest.mark.parametrize(
    ("launcher", "number", "codes"),
    [
        ([], signal.SIGINT, {130}),
        ([], signal.SIGTERM, {143}),
        (JOBLIB, signal.SIGINT, {130}),
        (JOBLIB, signal.SIGTERM, {143, -signal.SIGTERM}),
    ],
    ids=["basic-INT", "basic-TERM", "joblib-INT", "joblib-TERM"],
)
def test_a_signal_ends_the_grid_and_its_workers(
    launcher: list[str], number: signal.Signals, codes: set[int], phantom_cases: Path, tmp_path: Path
) -> None:
    """Ctrl-C reaches the workers too, SIGTERM the grid's own process alone."""
    process = start(phantom_cases, tmp_path, ["rd/fold0", "rd/fold1", "post/fold0", "post/fold1"], *launcher, ENDLESS)
    training = 2 if launcher else 1
    wait_for(lambda: len(list(tmp_path.glob("*/*/last.ckpt"))) == training, "a first checkpoint")
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    code, output = finish(process)
    assert code in codes, output
    wait_for(lambda: not session(process.pid), "the workers' end")
    assert not done(tmp_path)


def test_a_worker_that_is_killed_ends_the_grid_with_4(phantom_cases: Path, tmp_path: Path) -> None:
    """As the kernel does it when memory runs out."""
    process = start(phantom_cases, tmp_path, ["rd/fold0", "rd/fold1"], *JOBLIB, ENDLESS)
    wait_for(lambda: len(list(tmp_path.glob("*/*/progress.json"))) == 2, "a first epoch")
    os.kill(max(session(process.pid)), signal.SIGKILL)
    code, output = finish(process)
    assert (code, "a job of the grid was killed" in output) == (4, True), output


def catches_usr2(process: int) -> bool:
    """Two minutes before its time is up a job has long begun to; one that still starts would be killed by it."""
    caught = next(
        line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("SigCgt")
    )
    return bool(int(caught.split()[1], 16) >> (signal.SIGUSR2 - 1) & 1)


def test_slurm_queues_a_job_again_that_runs_out_of_time(phantom_cases: Path, undisturbed: Path, tmp_path: Path) -> None:
    """conf/hydra/launcher/slurm.yaml through submitit to commands that stand for SLURM's."""
    run, programs = tmp_path / "run", tmp_path / "programs"
    programs.mkdir()
    for name, text in SLURM.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    keys = ["hydra/launcher=slurm", "hydra.launcher.partition=gpu"]
    process = start(phantom_cases, run, ["rd/fold0", "rd/fold1"], *keys, path=str(programs))
    wait_for(lambda: len(list(run.glob("*/*/last.ckpt"))) > 0, "a first checkpoint")
    for job in session(process.pid):
        if b"submitit.core._submit" in Path(f"/proc/{job}/cmdline").read_bytes() and catches_usr2(job):
            os.kill(job, signal.SIGUSR2)
    code, output = finish(process)
    assert code == 0, output
    assert results(run, ["rd/fold0", "rd/fold1"]) == results(undisturbed, ["rd/fold0", "rd/fold1"])
    logs = "".join(path.read_text() for path in run.glob(".submitit/*/*log.out"))
    assert "Requeued job 77_" in logs
    script = (programs / "sbatch-script").read_text()
    for flag in ("gpus-per-node=1", "requeue", "signal=USR2@120", "array=0-1%2", "partition=gpu", "open-mode=append"):
        assert f"#SBATCH --{flag}\n" in script
    kept = b"".join(path.read_bytes() for path in run.glob(".submitit/**/*") if path.is_file())
    assert str(phantom_cases).encode() not in kept


def test_a_failure_that_cannot_be_noted_ends_the_grid(tmp_path: Path) -> None:
    """Hydra makes a warning of a callback's exception; the grid would go on and end with 0."""
    (tmp_path / "run").write_text("a file, for root may write to every folder")
    summary = GridSummary()
    summary.failures = tmp_path / "run" / ".failed-0"
    config = OmegaConf.create({"hydra": {"job": {"num": 0, "override_dirname": "fold=0"}}})
    with pytest.raises(SystemExit) as stop:
        summary.on_job_end(config, JobReturn(status=JobStatus.COMPLETED, _return_value="no memory"))
    assert stop.value.code == 4
