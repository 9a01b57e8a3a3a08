"""The console script lists the stages and passes on."""

import subprocess
import sys

from ricenet.__main__ import STAGES


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ricenet", *arguments], capture_output=True, text=True, check=False)


def test_help_lists_every_stage() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert all(stage in result.stdout for stage in STAGES)


def test_help_loads_nothing_heavy() -> None:
    probe = "import sys; from ricenet.__main__ import main; sys.argv = ['ricenet', '-h']; main(); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert not {"hydra", "numpy", "torch"} & set(result.stdout.splitlines()[-1].split())


def test_unknown_stage_names_the_known_ones() -> None:
    result = run("trian")
    assert result.returncode == 2
    assert "'trian'" in result.stderr
    assert "train" in result.stderr


def test_arguments_reach_the_stage() -> None:
    result = run("phantom", "out=x", "format=nothing")
    assert result.returncode == 2
    assert "format should be nifti | dicom | cases, got 'nothing'" in result.stderr
