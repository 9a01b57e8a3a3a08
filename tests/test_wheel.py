"""What is installed is all there is: the wheel alone, from any folder, and a model folder that travels with it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.new_patient import write_model, write_nifti

from ricenet.cases.case_folder import input_hashes, prepare
from ricenet.prediction.ensemble import fold_logits, probabilities, summarise
from ricenet.prediction.model_folder import read_model
from ricenet.prediction.new_patient import PatientDetails, find_patient

pytestmark = pytest.mark.extended
ROOT = Path(__file__).parents[1]
KEYS = ["occlusion=false", "threads=1", "accelerator=cpu"]
Run = Callable[..., str]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run `python -m ...` with the wheel's files in a folder far from the checkout."""
    folder, pip = tmp_path_factory.mktemp("wheel"), [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder / "dist", ROOT], check=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    away = folder / "elsewhere"
    away.mkdir()

    def run(*command: str, expect: int = 0) -> str:
        environment = os.environ | {"PYTHONPATH": str(folder / "site")}
        done = subprocess.run(
            [sys.executable, *command], cwd=away, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == expect, done.stderr[-3000:]
        return done.stdout

    assert run("-c", "import ricenet; print(ricenet.__file__)").startswith(str(folder / "site"))
    return run


def test_help_phantom_and_train_from_any_folder(installed: Run) -> None:
    assert "predict" in installed("-m", "ricenet", "--help")
    installed("-m", "ricenet", "phantom", "out=cases", "format=cases", "patients=12", "folds=2", "jobs=1")
    installed("-m", "ricenet", "train", "cases=cases", "experiment=smoke", "+modalities=rd", "fold=0", "epochs=1")
    assert "1 done" in installed("-m", "ricenet", "status", "run=outputs/smoke")


def test_type_checkers_find_the_types(installed: Run) -> None:
    installed("-c", "from importlib.resources import files; assert files('ricenet').joinpath('py.typed').is_file()")


def test_a_model_folder_that_was_moved_answers_the_same(installed: Run, phantom_cases: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "grid", phantom_cases)
    patient = write_nifti(tmp_path / "1", 0)
    model, case = read_model(folder), find_patient(patient, PatientDetails(), None, tmp_path).case  # type: ignore[arg-type]
    prepared = prepare(case, input_hashes(case), model.record.preprocessing)
    rows = [prepared.record.channels.index(name) for name in model.record.channels]
    volume = torch.from_numpy(prepared.volume[rows].astype(np.float32))
    here = summarise(probabilities(fold_logits(model.networks(), volume)), model.record.calibration)
    assert here.calibrated is not None
    moved = tmp_path / "another" / "place"
    shutil.move(folder, moved)
    shutil.rmtree(tmp_path / "grid")
    out = tmp_path / "out"
    said = installed("-m", "ricenet", "predict", f"model={moved}", f"patient={patient}", f"out={out}", *KEYS)
    there = json.loads((out / case.key / "prediction.json").read_text())
    assert there["folds"] == pytest.approx(here.folds, abs=1e-6)
    assert there["probability"] == pytest.approx(here.probability, abs=1e-6)
    assert there["calibrated"]["interval"] == pytest.approx(list(here.calibrated.interval), abs=1e-6)
    assert f"P(RICE) {here.probability:.2f}" in said
    assert str(tmp_path) not in said
    page = (out / case.key / "page.html").read_text()
    assert "niivue" in page.lower(), "the viewer's files are in the wheel"
