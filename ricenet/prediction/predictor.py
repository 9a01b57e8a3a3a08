"""Predict from Python: a model folder and one patient in; the prediction as an object out. For notebooks and scripts.

    from ricenet import load_model, predict_case

    model = load_model("outputs/model")
    prediction = predict_case(model, "outputs/demo-raw/001")
    prediction.probability, prediction.calibrated, prediction.votes, prediction.findings

The steps are those of `python -m ricenet.predict`: the same images give the same numbers.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ricenet.cases.case_folder import input_hashes
from ricenet.command.atomic import hold
from ricenet.command.schemas import defaults_of
from ricenet.images.volume import Volume, read_volume, write_volume
from ricenet.prediction.ensemble import (
    Ensemble,
    OcclusionSettings,
    PredictionSettings,
    load_ensemble,
    preprocessing_settings,
)
from ricenet.prediction.model_folder import read_model
from ricenet.prediction.new_case import PredictedCase, predict, unfit_record
from ricenet.prediction.new_patient import (
    Delivered,
    PatientDetails,
    Unusable,
    find_patient,
    from_files,
    rules_for,
)
from ricenet.prediction.patient_numbers import check_clinical
from ricenet.prediction.prediction_folder import MAP, write_prediction, write_unfit
from ricenet.prediction.prediction_record import CalibratedProbability, FindingRecord, PredictionRecord, UnfitRecord
from ricenet.prediction.suitability import as_finding

Image = str | Path | Volume


@dataclass(frozen=True)
class CasePrediction:
    """What a model says of one case. Where the case does not fit the model, everything but the findings is None.

    Attributes:
        record: all that prediction.json holds.
        occlusion: the occlusion map on the model's grid, world RAS+ mm; None where none was made.
    """

    record: PredictionRecord | UnfitRecord
    occlusion: Volume | None = None

    @property
    def fit(self) -> bool:
        """Whether the case fits the model, so that there is a prediction."""
        return self.record.fit

    @property
    def findings(self) -> list[FindingRecord]:
        """What was noticed about the case, errors first: code, severity, image, message and hint."""
        return self.record.findings

    @property
    def predicted(self) -> str | None:
        """`rice` or `recurrence`, whichever the mean of the folds prefers."""
        return self.record.predicted if self.record.fit else None

    @property
    def probability(self) -> float | None:
        """Mean of the folds' P(rice), not calibrated."""
        return self.record.probability if self.record.fit else None

    @property
    def calibrated(self) -> CalibratedProbability | None:
        """Calibrated P(rice) with its 95% interval; None too where the model has no calibration curve."""
        return self.record.calibrated if self.record.fit else None

    @property
    def folds(self) -> tuple[float, ...] | None:
        """P(rice) of each fold's network."""
        return self.record.folds if self.record.fit else None

    @property
    def votes(self) -> dict[str, int] | None:
        """By label, how many of the folds prefer it."""
        return self.record.votes if self.record.fit else None


def load_model(folder: str | Path, device: str = "cpu") -> Ensemble:
    """Verify a model folder (`python -m ricenet.predict export=...`) and load its networks.

    Args:
        device: where the networks run, as torch calls it: cpu, cuda, cuda:1.

    Returns:
        What `predict_case` takes; `.model.record` is model.json: channels, training cohort, evaluation, ranges.

    Raises:
        InvalidInput: a file is changed, missing or not what ricenet writes; code model.*.
    """
    return load_ensemble(read_model(Path(folder)), device)


def predict_case(
    model: Ensemble,
    patient: str | Path | Mapping[str, Image],
    *,
    details: PatientDetails | None = None,
    brain: str | None = None,
    occlusion: bool = False,
    out: str | Path | None = None,
) -> CasePrediction:
    """Predict one patient: recurrence or radiation-induced (RICE).

    Nothing is written unless `out` is given; temporary files are removed.

    Args:
        model: of load_model.
        patient: a folder with the DICOM of one patient in any layout, or with post.nii.gz, event.nii.gz and rd.nii.gz;
            or the images by role, each a path or a Volume: {"post": ..., "event": ..., "rd": ...} (rd: the dose of the
            whole treatment in Gy), and where there are any "planning", "brain_mask", "rd_2" with "planning_2", and
            "lesion", a mask around which a model of crop=lesion looks; to other models it is shown only.
        details: dates, fractions, prescription; which series to take where the rules leave a choice.
        brain: how the brain is found (auto, hdbet, hdbet2, mask or none); None: as in the model's training cases.
        occlusion: also make the occlusion map, with the settings of conf/predict.yaml; takes minutes.
        out: folder in which <case key>/ with prediction.json, page.html and the map is written, as by the command.

    Returns:
        The prediction; `fit` is False where a finding is an error.

    Raises:
        InvalidInput: there is no patient at `patient`, or several.
        WrongUsage: an unknown role; the brain extraction is not installed here (take brain="mask" or "none").
    """
    details = details or PatientDetails()
    check_clinical(model.model.record, details.clinical)
    device = "cpu" if model.device == "cpu" else "auto"
    settings = PredictionSettings(
        preprocessing_settings(model.model, brain, device), _occlusion_settings() if occlusion else None
    )
    with tempfile.TemporaryDirectory(prefix="ricenet-") as scratch:
        try:
            delivered = _find(model, patient, details, Path(scratch))
        except Unusable as problem:
            return _unusable(model, problem, out)
        if out is None:
            return _in_memory(model, delivered, settings, details)
        with hold(_made(out), name="the folder given as out="):
            return _in_folder(model, delivered, settings, details, Path(out))


def _unusable(model: Ensemble, problem: Unusable, out: str | Path | None) -> CasePrediction:
    case = problem.without_images
    findings = [as_finding(problem, case)]
    if out is None:
        return CasePrediction(unfit_record(case.key, model.model, findings, problem.record))
    with hold(_made(out), name="the folder given as out="):
        return CasePrediction(write_unfit(case.key, model.model, findings, Path(out), problem.record))


def _find(
    model: Ensemble, patient: str | Path | Mapping[str, Image], details: PatientDetails, scratch: Path
) -> Delivered:
    further = model.model.further
    if isinstance(patient, Mapping):
        paths = {role: _as_file(image, scratch / f"{role}.nii.gz") for role, image in patient.items()}
        return from_files(paths, details, further)
    return find_patient(Path(patient), details, rules_for(model.model.record), scratch, further)


def _as_file(image: Image, path: Path) -> Path:
    if not isinstance(image, Volume):
        return Path(image)
    write_volume(path, image.voxels, image.world_from_voxel)
    return path


def _in_memory(
    model: Ensemble, delivered: Delivered, settings: PredictionSettings, details: PatientDetails
) -> CasePrediction:
    case = delivered.case
    predicted = predict(
        case,
        model,
        settings,
        inputs=input_hashes(case),
        label=f"case {case.key}",
        delivery=delivered.record,
        clinical=details.clinical,
    )
    if not isinstance(predicted, PredictedCase):
        return CasePrediction(predicted)
    drop = predicted.drop
    occlusion = None if drop is None else Volume(drop, predicted.prepared.record.affine)
    return CasePrediction(predicted.record, occlusion)


def _in_folder(
    model: Ensemble, delivered: Delivered, settings: PredictionSettings, details: PatientDetails, out: Path
) -> CasePrediction:
    case = delivered.case
    record = write_prediction(
        case, model, settings, out, label=f"case {case.key}", delivery=delivered.record, clinical=details.clinical
    )
    if not record.fit or record.occlusion is None:
        return CasePrediction(record)
    return CasePrediction(record, read_volume(out / case.key / MAP))


def _made(out: str | Path) -> Path:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _occlusion_settings() -> OcclusionSettings:
    keys = defaults_of("predict")
    names = ("cube_mm", "stride_mm", "refine_mm", "precision", "batch_size", "memory_gb")
    return OcclusionSettings(**{name: keys[name] for name in names})
