"""The console script lists the stages and passes on."""

import subprocess
import sys

import pytest

import ricenet
from ricenet.__main__ import STAGES, main


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


@pytest.mark.parametrize(
    ("typed", "guess"),
    [
        ("trian", "; did you mean train?"),
        ("Predict", "; did you mean predict?"),
        ("evalute", "; did you mean evaluate?"),
        ("xyz", "."),
        ("--verbose", "."),
    ],
)
def test_an_unknown_stage_names_the_nearest_and_all(
    typed: str, guess: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ricenet", typed])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"ricenet: no stage named {typed!r}{guess} Available: {', '.join(STAGES)}\n")


def test_the_version_is_that_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ricenet", "--version"])
    main()
    assert capsys.readouterr().out == f"ricenet {ricenet.__version__}\n"


def test_arguments_reach_the_stage() -> None:
    result = run("phantom", "out=x", "format=nothing")
    assert result.returncode == 2
    assert "format should be nifti | dicom | cases, got 'nothing'" in result.stderr
