"""One new patient through an ensemble: numbers are those of the parts, an answer stands, a doubt is no answer."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.new_patient import coarse_pages, spoilt, write_model, write_nifti  # noqa: F401  # a fixture

from ricenet.cases.case_folder import Prepared, input_hashes, prepare
from ricenet.cohort.table import Case
from ricenet.errors import Finding
from ricenet.images.volume import Volume, read_volume
from ricenet.prediction import suitability
from ricenet.prediction.ensemble import probabilities
from ricenet.prediction.model_folder import read_model
from ricenet.prediction.new_case import Ensemble, MapSettings, predict_case, write_unfit
from ricenet.prediction.new_patient import Known, find_patient
from ricenet.prediction.patient_page import PAGE_BYTES
from ricenet.prediction.prediction_record import PredictionRecord
from ricenet.statistics.recalibration import recalibrate

pytestmark = pytest.mark.slow
HOW = MapSettings(cube_mm=36, stride_mm=36, refine_mm=None, precision="fp32", batch_size=8, memory_gb=1)
ABOUT_AN_ANSWER = ("probability", "folds", "votes", "calibrated", "predicted", "spread")
Predicted = tuple[Path, PredictionRecord]


@pytest.fixture(scope="module")
def ensemble(phantom_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    model = read_model(write_model(tmp_path_factory.mktemp("grid"), phantom_cases))
    return Ensemble(model, list(model.networks()), "cpu", model.record.preprocessing, HOW)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nifti(tmp_path_factory.mktemp("patients") / "1", 0)


def case_of(folder: Path) -> Case:
    return find_patient(folder, Known(), None, folder).case  # type: ignore[arg-type]  # rules are for DICOM


@pytest.fixture(scope="module")
def answered(ensemble: Ensemble, patient: Path, tmp_path_factory: pytest.TempPathFactory) -> Predicted:
    out = tmp_path_factory.mktemp("out")
    prediction = predict_case(case_of(patient), ensemble, out, "case")
    assert isinstance(prediction, PredictionRecord)
    return out, prediction


@pytest.fixture(scope="module")
def prepared(ensemble: Ensemble, patient: Path) -> Prepared:
    """As ricenet.preprocess makes a case of the same files."""
    case = case_of(patient)
    return prepare(case, input_hashes(case), ensemble.settings)


def test_the_numbers_are_those_of_the_parts(answered: Predicted, ensemble: Ensemble, prepared: Prepared) -> None:
    out, found = answered
    assert prepared.record.channels == ("post", "event", "rd")
    volume = torch.from_numpy(prepared.volume[1:].astype(np.float32))
    with torch.no_grad():
        folds = [float(network(volume[None]).double().softmax(1)[0, 1]) for network in ensemble.model.networks()]
    assert found.folds == pytest.approx(folds, abs=1e-9)
    assert found.probability == pytest.approx(np.mean(folds), abs=1e-9)
    value, interval = recalibrate(ensemble.model.record.calibration, np.mean(folds))  # type: ignore[arg-type]
    assert found.calibrated is not None
    assert found.calibrated.probability == pytest.approx(value)
    assert list(found.calibrated.interval) == pytest.approx(list(interval))
    assert found.fit
    assert found.model.digest == ensemble.model.digest
    assert found.preprocessing == prepared.record.qc
    dose = prepared.view["rd"][prepared.brain.astype(bool)]
    told = {one.name: one.value for one in found.measures}
    assert told["dose_max_gy"] == pytest.approx(dose.max(), rel=2e-3)  # the model's volume is float16
    assert PredictionRecord.read(out / found.case_key / "prediction.json") == found


def test_map_is_the_drop_of_the_mean_probability(answered: Predicted, ensemble: Ensemble, prepared: Prepared) -> None:
    """One cube blanked by hand, in the middle of the grid, where no other cube of this stride reaches."""
    out, found = answered
    volume = torch.from_numpy(prepared.volume[1:].astype(np.float32))
    drop = read_volume(out / found.case_key / "occlusion.nii.gz")
    assert np.allclose(drop.world_from_voxel, prepared.record.affine, atol=1e-4)
    assert found.occlusion is not None
    assert found.occlusion.cube_mm == 36
    cube = (slice(None), slice(18, 24), slice(18, 24), slice(18, 24))
    blanked = volume.clone()
    blanked[cube] = 0
    before, after = (np.mean(probabilities(ensemble.networks, x)) for x in (volume, blanked))
    sign = 1 if found.predicted == "rice" else -1
    assert np.allclose(drop.voxels[cube[1:]], sign * (before - after), atol=1e-5)
    assert found.occlusion.drop_max == pytest.approx(float(drop.voxels.max()), abs=1e-5)


def test_page_holds_the_brain_alone_and_stays_small(answered: Predicted, patient: Path) -> None:
    out, found = answered
    page = out / found.case_key / "page.html"
    assert page.stat().st_size < PAGE_BYTES
    assert f"Case {found.case_key}" in page.read_text()
    assert {path.name for path in page.parent.iterdir()} == {"prediction.json", "page.html", "occlusion.nii.gz"}
    assert [path.name for path in out.iterdir()] == [found.case_key]


def test_an_answer_stands_until_something_that_decides_it_changes(
    answered: Predicted, ensemble: Ensemble, patient: Path, tmp_path: Path
) -> None:
    found = answered[1]
    out = shutil.copytree(answered[0], tmp_path / "out")
    written = out / found.case_key / "prediction.json"
    before = written.stat().st_mtime_ns
    assert predict_case(case_of(patient), ensemble, out, "case") == found
    assert written.stat().st_mtime_ns == before
    os.rename(written, written.with_name("away"))  # noqa: PTH104  # a folder without it is not complete
    again = predict_case(case_of(patient), replace(ensemble, map_settings=None), out, "case")
    assert {path.name for path in written.parent.iterdir()} == {"prediction.json", "page.html"}
    assert isinstance(again, PredictionRecord)
    assert again.folds == found.folds
    assert again.occlusion is None
    assert again.question != found.question


def no_words_of_a_probability(folder: Path) -> None:
    prediction = json.loads((folder / "prediction.json").read_text())
    assert not prediction["fit"]
    assert not prediction.keys() & set(ABOUT_AN_ANSWER)
    assert sorted(path.name for path in folder.iterdir()) == ["page.html", "prediction.json"]
    page = (folder / "page.html").read_text()
    assert "no answer" in page
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
    ensemble: Ensemble, patient: Path, tmp_path: Path, role: str, change: Callable[[Volume], Volume], code: str
) -> None:
    folder = spoilt(patient, tmp_path / "spoilt", role, change)
    found = predict_case(case_of(folder), ensemble, tmp_path / "out", "case")
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


def test_what_registration_reveals_is_no_answer_either(
    ensemble: Ensemble, patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bound for one person out of reach, the same patient is refused after preprocessing."""
    monkeypatch.setattr(suitability, "SURELY_FROM", 1.0)
    monkeypatch.setattr(suitability, "ONE_PERSON_FROM", 1.0)
    found = predict_case(case_of(patient), ensemble, tmp_path, "case")
    assert [one.code for one in found.findings] == ["patient.two_people"]
    no_words_of_a_probability(tmp_path / found.case_key)


def test_an_older_answer_does_not_outlive_a_refusal(answered: Predicted, ensemble: Ensemble, tmp_path: Path) -> None:
    key, out = answered[1].case_key, shutil.copytree(answered[0], tmp_path / "out")
    write_unfit(key, ensemble.model, [Finding("x.y", f"case {key}", "<b>wrong</b>", "mend it")], out)
    no_words_of_a_probability(out / key)
    assert "<b>wrong" not in (out / key / "page.html").read_text()
