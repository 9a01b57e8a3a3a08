"""From Python: a patient as a folder or as images gives the numbers of the command, and nothing is written."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.new_patient import SPACING_MM, coarse_pages  # noqa: F401  # a fixture

from ricenet.errors import InvalidInput, WrongUsage
from ricenet.images.volume import Volume, read_volume
from ricenet.phantoms.causal_model import draw_cohort
from ricenet.phantoms.scanner import scan_patient
from ricenet.prediction.ensemble import Ensemble
from ricenet.prediction.new_patient import PatientDetails
from ricenet.prediction.predictor import CasePrediction, load_model, predict_case

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("kept_registrations")]
ROLES = ("post", "event", "rd", "planning", "brain_mask")


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Ensemble:
    return load_model(str(model_folder))


@pytest.fixture(scope="module")
def prediction(model: Ensemble, patient: Path) -> CasePrediction:
    return predict_case(model, str(patient))


def test_a_changed_model_is_refused(model_folder: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(model_folder, tmp_path / "model")
    (changed / "LICENSE").write_text("mine")
    with pytest.raises(InvalidInput, match="not the file that was exported"):
        load_model(changed)


def test_a_folder_gives_probability_votes_and_findings(
    model: Ensemble, prediction: CasePrediction, patient: Path, tmp_path: Path
) -> None:
    assert prediction.fit
    assert prediction.folds is not None
    assert prediction.votes is not None
    assert prediction.calibrated is not None
    assert prediction.probability == pytest.approx(np.mean(prediction.folds))
    assert sum(prediction.votes.values()) == len(prediction.folds) == len(model.networks)
    low, high = prediction.calibrated.interval
    assert low < prediction.calibrated.probability < high
    assert prediction.predicted == ("rice" if prediction.probability > 0.5 else "recurrence")
    assert not [finding for finding in prediction.findings if finding.severity == "error"]
    assert prediction.occlusion is None
    assert {path.name.partition(".")[0] for path in patient.iterdir()} >= set(ROLES), "the patient's folder stays"


def test_images_by_role_give_the_same(model: Ensemble, prediction: CasePrediction, patient: Path) -> None:
    """Paths, and a Volume that is in memory alone."""
    paths = {role: patient / f"{role}.nii.gz" for role in ROLES}
    by_path = predict_case(model, paths)
    assert by_path.record.case_key == prediction.record.case_key
    assert by_path.folds == prediction.folds
    event = read_volume(paths["event"])
    in_memory = predict_case(model, {**paths, "event": event})
    assert in_memory.folds == pytest.approx(prediction.folds, abs=1e-6)


def test_with_out_the_folder_is_that_of_the_command(
    model: Ensemble, prediction: CasePrediction, patient: Path, tmp_path: Path
) -> None:
    written = predict_case(model, patient, out=tmp_path / "new" / "out")
    assert written.folds == prediction.folds
    (folder,) = (path for path in (tmp_path / "new" / "out").iterdir() if path.is_dir())
    assert folder.name == prediction.record.case_key
    assert {path.name for path in folder.iterdir()} == {"prediction.json", "page.html"}


def test_a_patient_who_does_not_fit_has_findings_alone(model: Ensemble, patient: Path) -> None:
    refused = predict_case(model, {role: patient / f"{role}.nii.gz" for role in ROLES if role != "rd"})
    assert not refused.fit
    assert (refused.probability, refused.calibrated, refused.folds, refused.votes, refused.predicted) == (None,) * 5
    assert refused.findings[0].code == "channel.missing"
    assert refused.findings[0].channel == "rd"


def test_a_model_without_post_takes_a_patient_without_it_and_says_that_the_frame_is_another(
    model: Ensemble, prediction: CasePrediction, patient: Path
) -> None:
    """The same patient as of `prediction`, with the true brain on the event MRI."""
    draw = draw_cohort(4, 3, swap_label_effects=False)[0]
    scans = scan_patient(draw.quantities, draw.seed, SPACING_MM)
    brain = scans.frames["event"].scan(scans.patient.brain, scans.patient.grid)
    mask = Volume((brain.voxels > 0.5).astype(np.float32), brain.world_from_voxel)
    paths = {role: patient / f"{role}.nii.gz" for role in ("event", "rd", "planning")}
    alone = predict_case(model, {**paths, "brain_mask": mask})
    assert [finding.code for finding in alone.findings if finding.severity != "info"][:1] == ["range.reference"]
    assert alone.probability == pytest.approx(prediction.probability, abs=0.2)
    assert alone.record.preprocessing.keys().isdisjoint({"similarity", "rotation_degrees"})


def test_what_makes_no_sense_is_refused(model: Ensemble, patient: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="patient folder does not exist"):
        predict_case(model, tmp_path / "none")
    with pytest.raises(WrongUsage, match="'t1c'; expected some of post, event, rd"):
        predict_case(model, {"t1c": patient / "post.nii.gz"})
    with pytest.raises(WrongUsage, match="for DICOM"):
        predict_case(model, patient, details=PatientDetails(choice={"post": "s0"}))
