"""One new case in memory: the numbers are those of the parts, and a doubt is no prediction."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.html_page import Page
from helpers.new_patient import coarse_pages, write_model  # noqa: F401  # a fixture

from ricenet.cases import one_person
from ricenet.cases.case_folder import Prepared, input_hashes, prepare
from ricenet.cases.case_record import Crop
from ricenet.cases.crop import Window
from ricenet.cohort.table import Case
from ricenet.images.volume import read_volume, write_volume
from ricenet.networks.input_settings import InputSettings
from ricenet.networks.late_fusion import for_case
from ricenet.prediction.ensemble import Ensemble, PredictionSettings, fold_logits, load_ensemble, probabilities
from ricenet.prediction.model_folder import read_model
from ricenet.prediction.new_case import PredictedCase, predict
from ricenet.prediction.new_patient import PatientDetails, find_patient
from ricenet.prediction.patient_page import write_page
from ricenet.prediction.prediction_record import UnfitRecord
from ricenet.statistics.recalibration import recalibrate

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("kept_registrations")]


@pytest.fixture(scope="module")
def case(patient: Path) -> Case:
    return find_patient(patient, PatientDetails(), None, patient).case  # type: ignore[arg-type]  # rules are for DICOM


@pytest.fixture(scope="module")
def predicted(case: Case, ensemble: Ensemble, settings: PredictionSettings) -> PredictedCase:
    prediction = predict(case, ensemble, settings, inputs=input_hashes(case), label="case")
    assert isinstance(prediction, PredictedCase)
    return prediction


@pytest.fixture(scope="module")
def prepared(case: Case, settings: PredictionSettings) -> Prepared:
    """As ricenet.preprocess makes a case of the same files."""
    return prepare(case, input_hashes(case), settings.preprocessing)


def test_the_numbers_are_those_of_the_parts(predicted: PredictedCase, ensemble: Ensemble, prepared: Prepared) -> None:
    record = predicted.record
    assert prepared.record.channels == ("post", "event", "rd")
    volume = torch.from_numpy(prepared.volume[1:].astype(np.float32))
    with torch.no_grad():
        folds = [float(network(volume[None]).double().softmax(1)[0, 1]) for network in ensemble.model.networks()]
    assert record.folds == pytest.approx(folds, abs=1e-9)
    assert record.probability == pytest.approx(np.mean(folds), abs=1e-9)
    value, interval = recalibrate(ensemble.model.record.calibration, np.mean(folds))  # type: ignore[arg-type]
    assert record.calibrated is not None
    assert record.calibrated.probability == pytest.approx(value)
    assert record.calibrated.interval == pytest.approx(interval)
    assert record.fit
    assert record.model.digest == ensemble.model.digest
    assert record.preprocessing == prepared.record.qc
    dose = prepared.view["rd"][prepared.brain.astype(bool)]
    measures = {measure.name: measure.value for measure in record.measures}
    assert measures["dose_max_gy"] == pytest.approx(dose.max(), rel=2e-3)  # the model's volume is float16


def test_map_is_the_drop_of_the_mean_probability(
    predicted: PredictedCase, ensemble: Ensemble, prepared: Prepared
) -> None:
    """One cube blanked by hand, in the middle of the grid, where no other cube of this stride reaches."""
    volume = torch.from_numpy(prepared.volume[1:].astype(np.float32))
    assert np.allclose(predicted.prepared.record.affine, prepared.record.affine)
    assert predicted.drop is not None
    assert predicted.record.occlusion is not None
    assert predicted.record.occlusion.cube_mm == 36
    cube = (slice(None), slice(18, 24), slice(18, 24), slice(18, 24))
    blanked = volume.clone()
    blanked[cube] = 0
    before, after = (np.mean(probabilities(fold_logits(ensemble.networks, x))) for x in (volume, blanked))
    sign = 1 if predicted.record.predicted == "rice" else -1
    assert np.allclose(predicted.drop[cube[1:]], sign * (before - after), atol=1e-5)
    assert predicted.record.occlusion.drop_max == pytest.approx(float(predicted.drop.max()), abs=1e-5)


def test_what_registration_reveals_is_no_prediction_either(
    case: Case, ensemble: Ensemble, settings: PredictionSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bound for one person out of reach, the same patient is refused after preprocessing."""
    monkeypatch.setattr(one_person, "SURELY_FROM", 1.0)
    monkeypatch.setattr(one_person, "ONE_PERSON_FROM", 1.0)
    record = predict(case, ensemble, settings, inputs=input_hashes(case), label="case")
    assert isinstance(record, UnfitRecord)
    assert [finding.code for finding in record.findings] == ["patient.two_people"]


def test_networks_of_relative_doses_see_shares_of_the_prescription(
    case: Case, ensemble: Ensemble, settings: PredictionSettings, prepared: Prepared
) -> None:
    inputs = InputSettings(isodoses_gy=(), isodose_edge_gy=2.0, difference=False, relative_dose=True)
    network = ensemble.model.record.network.model_copy(update={"inputs": inputs})
    record = ensemble.model.record.model_copy(update={"network": network})
    relative = replace(ensemble, model=replace(ensemble.model, record=record))
    refused = predict(replace(case, prescription_gy=None), relative, settings, inputs=input_hashes(case), label="case")
    assert isinstance(refused, UnfitRecord)
    assert [finding.code for finding in refused.findings] == ["dose.no_prescription"]
    plain = replace(settings, occlusion=None)
    other = predict(replace(case, prescription_gy=66.0), relative, plain, inputs=input_hashes(case), label="case")
    assert isinstance(other, PredictedCase)
    volume = prepared.volume[1:].astype(np.float32)
    volume[1] *= 60 / 66
    assert other.record.folds == pytest.approx(
        probabilities(fold_logits(ensemble.networks, torch.from_numpy(volume))), abs=1e-9
    )


@pytest.fixture(scope="module")
def cropped(ensemble: Ensemble) -> Ensemble:
    """The same networks, as if they had been trained on cubes of 96 mm."""
    record = ensemble.model.record.model_copy(update={"crop": Crop(at="lesion", size_mm=96)})
    return replace(ensemble, model=replace(ensemble.model, record=record))


def test_a_cropped_model_looks_at_the_lesion_that_it_finds_itself(
    case: Case, cropped: Ensemble, settings: PredictionSettings, prepared: Prepared
) -> None:
    prediction = predict(case, cropped, settings, inputs=input_hashes(case), label="case")
    assert isinstance(prediction, PredictedCase)
    record = prediction.record
    assert record.seen is not None
    assert record.seen.place == prepared.record.lesion["event"], "the model has no post-OP MRI among its channels"
    window = Window(record.seen.first_voxel, (16, 16, 16))
    cube = torch.from_numpy(window.cut(prepared.volume[1:].astype(np.float32)))
    assert record.folds == pytest.approx(probabilities(fold_logits(cropped.networks, cube)), abs=1e-9)
    assert prediction.drop is not None
    assert prediction.drop.shape == prepared.brain.shape
    outside = window.paste(np.ones(window.shape), prepared.brain.shape) == 0
    assert not prediction.drop[outside].any()
    assert prediction.drop.any()
    assert record.occlusion is not None
    bands = [share for name, share in record.occlusion.brain_share.items() if name.startswith("dose_")]
    assert sum(share for share in bands if share is not None) == pytest.approx(1), "of the brain inside"
    # The measures of the training range are those of the whole case, which registration and scanner decide.
    whole = {measure.name: measure.value for measure in record.measures}
    assert whole["dose_max_gy"] == pytest.approx(float(prepared.view["rd"][prepared.brain].max()), rel=2e-3)


def test_a_cropped_model_looks_at_the_lesion_mask_where_there_is_one(
    case: Case, cropped: Ensemble, settings: PredictionSettings, tmp_path: Path
) -> None:
    event = read_volume(case.images["event"])
    mask = np.zeros(event.voxels.shape, dtype=np.float32)
    x, y, z = (n // 2 for n in mask.shape)
    mask[x : x + 4, y : y + 4, z : z + 4] = 1
    write_volume(tmp_path / "lesion.nii.gz", mask, event.world_from_voxel)
    with_mask = replace(case, lesion=tmp_path / "lesion.nii.gz")
    plain = replace(settings, occlusion=None)
    prediction = predict(with_mask, cropped, plain, inputs=input_hashes(with_mask), label="case")
    automatic = predict(case, cropped, plain, inputs=input_hashes(case), label="case")
    assert isinstance(prediction, PredictedCase)
    assert isinstance(automatic, PredictedCase)
    assert prediction.record.seen is not None
    assert prediction.record.seen.place.source == "mask"
    middle = np.argwhere(prediction.prepared.structures["lesion"]).mean(axis=0)
    assert prediction.record.seen.place.voxel == pytest.approx(middle, abs=1e-3)
    assert prediction.record.folds != automatic.record.folds
    assert prediction.seen != automatic.seen


@pytest.fixture(scope="module")
def with_numbers(phantom_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    """Networks that see the dose at the lesion and the days since radiotherapy beside the images."""
    root, numbers = tmp_path_factory.mktemp("numbers"), ("dose_volume", "lesion_dose", "days_since_rt")
    keys = {"name": "rd_post_event+numbers", "channels": ["post", "event", "rd"], "numbers": numbers}
    return load_ensemble(read_model(write_model(root, phantom_cases, **keys)), "cpu")


def test_numbers_are_measured_on_the_lesion_that_is_found_or_given(
    case: Case, with_numbers: Ensemble, settings: PredictionSettings, prepared: Prepared, tmp_path: Path
) -> None:
    """And a mask outside of the brain is no lesion: no prediction is made."""
    clinical = {"days_since_rt": 300}
    alone = predict(case, with_numbers, settings, inputs=input_hashes(case), label="case", clinical=clinical)
    assert isinstance(alone, PredictedCase)
    numbers = alone.record.numbers
    assert numbers is not None
    assert (numbers.lesion_source, numbers.parts["days_since_rt"].value) == ("difference", 300.0)
    assert numbers.log_odds == pytest.approx(
        numbers.image_log_odds + sum(part.log_odds for part in numbers.parts.values())
    )
    values = {name: part.value for name, part in numbers.parts.items() if part.value is not None}
    networks = [for_case(network, values) for network in with_numbers.networks]
    volume = torch.from_numpy(prepared.volume.astype(np.float32))
    assert alone.record.folds == pytest.approx(probabilities(fold_logits(networks, volume)), abs=1e-9)
    plain = [network.network for network in with_numbers.networks]
    assert alone.record.folds != pytest.approx(probabilities(fold_logits(plain, volume)), abs=1e-3)

    event = read_volume(case.images["event"])
    mask = np.zeros(event.voxels.shape, dtype=np.float32)
    x, y, z = (n // 2 for n in mask.shape)
    mask[x - 4 : x + 4, y - 4 : y + 4, z + 2 : z + 8] = 1
    other = predict_with_mask(case, with_numbers, settings, mask, tmp_path)
    assert isinstance(other, PredictedCase)
    given = other.record.numbers
    assert given is not None
    assert (given.lesion_source, given.lesion_contrast) == ("mask", None)
    dose_gy = other.prepared.view["rd"][other.prepared.structures["lesion"]]
    assert given.parts["lesion_dose_mean_gy"].value == pytest.approx(float(dose_gy.mean()), abs=0.1)
    assert given.parts["mean_gy"].value == numbers.parts["mean_gy"].value
    assert given.parts["days_since_rt"].value is None
    assert "range.number_missing" in [finding.code for finding in other.record.findings]
    write_page(tmp_path / "page.html", other.record, None, other.view.record.affine, other.view.brain, None)
    text = Page(tmp_path / "page.html").text
    assert "those of the lesion measured on the given mask" in text
    assert "Numbers beside the images" in text

    corner = np.zeros(event.voxels.shape, dtype=np.float32)
    corner[:3, :3, :3] = 1
    refused = predict_with_mask(case, with_numbers, settings, corner, tmp_path)
    assert isinstance(refused, UnfitRecord)
    outside = next(finding for finding in refused.findings if finding.severity == "error")
    assert outside.code == "lesion.outside_head"
    assert "0% of the lesion mask lies in the head" in outside.message


def predict_with_mask(
    case: Case, ensemble: Ensemble, settings: PredictionSettings, mask: np.ndarray, folder: Path
) -> PredictedCase | UnfitRecord:
    """Without an occlusion map; `mask`: of the event MRI's grid."""
    path = folder / "lesion.nii.gz"
    write_volume(path, mask, read_volume(case.images["event"]).world_from_voxel)
    masked = replace(case, lesion=path)
    plain = replace(settings, occlusion=None)
    return predict(masked, ensemble, plain, inputs=input_hashes(masked), label="case")
