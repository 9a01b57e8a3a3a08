"""One new case in memory: the numbers are those of the parts, and a doubt is no prediction."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.new_patient import coarse_pages  # noqa: F401  # a fixture

from ricenet.cases import one_person
from ricenet.cases.case_folder import Prepared, input_hashes, prepare
from ricenet.cases.case_record import Crop
from ricenet.cases.crop import Window
from ricenet.cohort.table import Case
from ricenet.images.volume import read_volume, write_volume
from ricenet.networks.input_settings import InputSettings
from ricenet.prediction.ensemble import Ensemble, PredictionSettings, probabilities
from ricenet.prediction.new_case import PredictedCase, predict
from ricenet.prediction.new_patient import PatientDetails, find_patient
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
    before, after = (np.mean(probabilities(ensemble.networks, x)) for x in (volume, blanked))
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
    assert other.record.folds == pytest.approx(probabilities(ensemble.networks, torch.from_numpy(volume)), abs=1e-9)


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
    assert record.folds == pytest.approx(probabilities(cropped.networks, cube), abs=1e-9)
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
