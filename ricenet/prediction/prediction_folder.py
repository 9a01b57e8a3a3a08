"""Write the folder of one predicted case: a case in; prediction.json, page.html and the occlusion map out.

A folder is complete or not there. A prediction of the same images, model and settings is kept, not made again.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ricenet.cases.case_folder import folder_name, input_hashes
from ricenet.cohort.covariates import value_of
from ricenet.cohort.ingest_record import SelectionRecord
from ricenet.cohort.table import Case
from ricenet.command.atomic import partial_folder, publish, remove_folder
from ricenet.errors import Finding, InvalidInput
from ricenet.images.volume import Volume, resample, write_volume
from ricenet.prediction.case_view import draw_picture, layers, on_view
from ricenet.prediction.ensemble import Ensemble, PredictionSettings
from ricenet.prediction.model_folder import Model
from ricenet.prediction.new_case import PredictedCase, package_versions, predict, unfit_record
from ricenet.prediction.patient_numbers import Clinical
from ricenet.prediction.patient_page import write_page
from ricenet.prediction.prediction_record import VERSION, PredictionRecord, UnfitRecord

log = logging.getLogger(__name__)
PREDICTION = "prediction.json"
PAGE = "page.html"
MAP = "occlusion.nii.gz"
DICOM_MAP = "occlusion.dcm"


def write_prediction(
    case: Case,
    ensemble: Ensemble,
    settings: PredictionSettings,
    out: Path,
    *,
    label: str,
    delivery: SelectionRecord | None = None,
    clinical: Clinical = MappingProxyType({}),
) -> PredictionRecord | UnfitRecord:
    """Write `out`/<case key>/ and return its prediction.json; an older folder of that name is replaced.

    Args:
        label, delivery, clinical: as in ricenet.prediction.new_case.predict.
    """
    inputs = input_hashes(case)
    question = _question(case, inputs, ensemble, settings, clinical)
    kept = _kept(out / case.key, question)
    if kept is not None:
        log.info("case %s: the prediction is kept: same images, model, settings and versions", case.key)
        return kept
    predicted = predict(
        case, ensemble, settings, inputs=inputs, label=label, delivery=delivery, question=question, clinical=clinical
    )
    if isinstance(predicted, UnfitRecord):
        _write_unfit(predicted, out)
        return predicted
    with partial_folder(out, case.key) as folder:
        _write_map_and_page(folder, case, predicted)
        if settings.occlusion is not None and settings.occlusion.dicom:
            _write_dicom(folder, predicted)
        _publish(folder, predicted.record, out)
    return predicted.record


def write_unfit(
    case_key: str, model: Model, findings: Sequence[Finding], out: Path, delivery: SelectionRecord | None = None
) -> UnfitRecord:
    """Write the folder of a case for which no prediction is made; arguments as of new_case.unfit_record."""
    record = unfit_record(case_key, model, findings, delivery)
    _write_unfit(record, out)
    return record


def _question(
    case: Case, inputs: dict[str, str], ensemble: Ensemble, settings: PredictionSettings, clinical: Clinical
) -> str:
    """A digest of all that decides the prediction."""
    prepared = folder_name(case, inputs, settings.preprocessing)
    occlusion_settings = settings.occlusion and asdict(settings.occlusion)
    limits = asdict(settings.dose_limits)
    versions = package_versions()
    deciding = [VERSION, prepared, ensemble.model.digest, ensemble.device, occlusion_settings, limits, versions]
    seen = ensemble.model.record.seen_numbers
    if seen:
        deciding.append({name: str(clinical.get(name, value_of(case, name))) for name in seen})
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def _kept(folder: Path, question: str) -> PredictionRecord | None:
    """The prediction for `question` that `folder` holds, if it does: prediction.json is written last."""
    if not (folder / PAGE).is_file():
        return None
    try:
        prediction = PredictionRecord.read(folder / PREDICTION)
    except InvalidInput:  # none, one of an unfit case, or a damaged one: it is made again
        return None
    return prediction if prediction.question == question else None


def _write_unfit(record: UnfitRecord, out: Path) -> None:
    with partial_folder(out, record.case_key) as folder:
        write_page(folder / PAGE, record, None, np.eye(4), np.ones((1, 1, 1), bool), None)
        _publish(folder, record, out)


def _write_map_and_page(folder: Path, case: Case, predicted: PredictedCase) -> None:
    drop = predicted.drop
    view = predicted.view
    world_from_view = view.record.affine
    drop_on_view = None
    if drop is not None:
        world_from_voxel = predicted.prepared.record.affine
        write_volume(folder / MAP, drop, world_from_voxel)
        drop_on_view = resample(Volume(drop, world_from_voxel), view.brain.shape, world_from_view)
    seen = on_view(predicted.seen, predicted.prepared, view)
    picture = draw_picture(case, view, drop_on_view, predicted.record, seen)
    write_page(folder / PAGE, predicted.record, layers(view, drop_on_view), world_from_view, view.brain, picture)


def _write_dicom(folder: Path, predicted: PredictedCase) -> None:
    from ricenet.prediction.dicom_map import write_parametric_map

    if predicted.drop is None:
        return
    write_parametric_map(
        folder / DICOM_MAP,
        predicted.drop,
        predicted.prepared.record.affine,
        predicted.record.case_key,
        predicted.record.predicted,
        model_name=predicted.record.model.name,
        model_digest=predicted.record.model.digest,
    )


def _publish(folder: Path, prediction: PredictionRecord | UnfitRecord, out: Path) -> None:
    prediction.write(folder / PREDICTION)
    remove_folder(out / prediction.case_key)
    publish(folder, out / prediction.case_key, last=PREDICTION)
