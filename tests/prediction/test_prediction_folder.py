"""The folder of a predicted case: complete, kept while nothing that decides it changes, without a number in doubt."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.new_patient import coarse_pages, spoilt  # noqa: F401  # a fixture

from ricenet.cases.case_folder import input_hashes
from ricenet.cohort.table import Case
from ricenet.errors import Finding
from ricenet.images.volume import Volume, read_volume
from ricenet.prediction.ensemble import Ensemble, PredictionSettings
from ricenet.prediction.new_case import PredictedCase, predict
from ricenet.prediction.new_patient import PatientDetails, find_patient
from ricenet.prediction.patient_page import PAGE_BYTES
from ricenet.prediction.prediction_folder import write_prediction, write_unfit
from ricenet.prediction.prediction_record import PredictionRecord

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("kept_registrations")]
OF_A_PREDICTION = ("probability", "folds", "votes", "calibrated", "predicted", "spread")
Predicted = tuple[Path, PredictionRecord]


def case_of(folder: Path) -> Case:
    return find_patient(folder, PatientDetails(), None, folder).case  # type: ignore[arg-type]  # rules are for DICOM


@pytest.fixture(scope="module")
def predicted(
    ensemble: Ensemble, settings: PredictionSettings, patient: Path, tmp_path_factory: pytest.TempPathFactory
) -> Predicted:
    out = tmp_path_factory.mktemp("out")
    prediction = write_prediction(case_of(patient), ensemble, settings, out, label="case")
    assert isinstance(prediction, PredictionRecord)
    return out, prediction


def test_the_files_hold_what_was_predicted(
    predicted: Predicted, ensemble: Ensemble, settings: PredictionSettings, patient: Path
) -> None:
    out, prediction = predicted
    folder = out / prediction.case_key
    assert PredictionRecord.read(folder / "prediction.json") == prediction
    case = case_of(patient)
    in_memory = predict(case, ensemble, settings, inputs=input_hashes(case), label="case")
    assert isinstance(in_memory, PredictedCase)
    assert in_memory.record.folds == prediction.folds
    drop = read_volume(folder / "occlusion.nii.gz")
    assert np.allclose(drop.world_from_voxel, in_memory.prepared.record.affine, atol=1e-4)
    assert np.array_equal(drop.voxels, in_memory.drop)  # type: ignore[arg-type]


def test_page_holds_the_brain_alone_and_stays_small(predicted: Predicted, patient: Path) -> None:
    out, found = predicted
    page = out / found.case_key / "page.html"
    assert page.stat().st_size < PAGE_BYTES
    assert f"Case {found.case_key}" in page.read_text()
    assert {path.name for path in page.parent.iterdir()} == {"prediction.json", "page.html", "occlusion.nii.gz"}
    assert [path.name for path in out.iterdir()] == [found.case_key]


def test_a_prediction_is_kept_until_something_that_decides_it_changes(
    predicted: Predicted, ensemble: Ensemble, settings: PredictionSettings, patient: Path, tmp_path: Path
) -> None:
    found = predicted[1]
    out = shutil.copytree(predicted[0], tmp_path / "out")
    written = out / found.case_key / "prediction.json"
    before = written.stat().st_mtime_ns
    assert write_prediction(case_of(patient), ensemble, settings, out, label="case") == found
    assert written.stat().st_mtime_ns == before
    os.rename(written, written.with_name("away"))  # noqa: PTH104  # a folder without it is not complete
    again = write_prediction(case_of(patient), ensemble, replace(settings, occlusion=None), out, label="case")
    assert {path.name for path in written.parent.iterdir()} == {"prediction.json", "page.html"}
    assert isinstance(again, PredictionRecord)
    assert again.folds == found.folds
    assert again.occlusion is None
    assert again.question != found.question


def no_words_of_a_probability(folder: Path) -> None:
    prediction = json.loads((folder / "prediction.json").read_text())
    assert not prediction["fit"]
    assert not prediction.keys() & set(OF_A_PREDICTION)
    assert sorted(path.name for path in folder.iterdir()) == ["page.html", "prediction.json"]
    page = (folder / "page.html").read_text()
    assert "no prediction" in page
    assert "<svg" not in page


@pytest.mark.parametrize(
    ("role", "change", "code"),
    [
        ("event", lambda image: Volume(image.voxels[::-1].copy(), image.world_from_voxel), "geometry.flip"),
        ("rd", lambda dose: Volume(dose.voxels, shifted(dose.world_from_voxel, 90)), "dose.coverage_estimated"),
        ("rd", lambda dose: Volume(dose.voxels * 100, dose.world_from_voxel), "dose.cgy"),
        ("brain_mask", lambda mask: Volume(small(mask.voxels), mask.world_from_voxel), "brain.volume"),
    ],
    ids=["flipped", "wrong frame", "cGy", "no brain"],
)
def test_a_spoilt_patient_gets_findings_and_no_probability(
    ensemble: Ensemble,
    settings: PredictionSettings,
    patient: Path,
    tmp_path: Path,
    role: str,
    change: Callable[[Volume], Volume],
    code: str,
) -> None:
    folder = spoilt(patient, tmp_path / "spoilt", role, change)
    found = write_prediction(case_of(folder), ensemble, settings, tmp_path / "out", label="case")
    assert code in [one.code for one in found.findings if one.severity == "error"]
    no_words_of_a_probability(tmp_path / "out" / found.case_key)


def shifted(world_from_voxel: np.ndarray, up_mm: float) -> np.ndarray:
    moved = world_from_voxel.copy()
    moved[2, 3] += up_mm
    return moved


def small(mask: np.ndarray) -> np.ndarray:
    kept = np.zeros_like(mask)
    kept[20:24, 20:24, 20:24] = 1
    return kept


def test_an_older_prediction_does_not_outlive_a_refusal(
    predicted: Predicted, ensemble: Ensemble, tmp_path: Path
) -> None:
    key, out = predicted[1].case_key, shutil.copytree(predicted[0], tmp_path / "out")
    write_unfit(key, ensemble.model, [Finding("x.y", f"case {key}", "<b>wrong</b>", "mend it")], out)
    no_words_of_a_probability(out / key)
    assert "<b>wrong" not in (out / key / "page.html").read_text()
