"""One new case through a trained ensemble: a case in; a folder with prediction.json, page.html and maps out.

A case that is not fit gets a page with its findings, and no probability. An answer that stands, to the same question,
is not given again.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ricenet import __version__
from ricenet.cases.alignment import Aligned, Settings, align
from ricenet.cases.case_folder import Prepared, folder_name, input_hashes, sample
from ricenet.cohort.table import Case
from ricenet.command.atomic import partial_folder, publish, remove_folder
from ricenet.delivery.ingest_record import SelectionRecord
from ricenet.errors import Finding, InvalidInput
from ricenet.explanation.attribution import measure
from ricenet.explanation.case_map import SIGN
from ricenet.explanation.regions import dose_bands
from ricenet.images.volume import Volume, resample, write_volume
from ricenet.occlusion.sensitivity import Plan, drop_map, occlude
from ricenet.prediction import training_range
from ricenet.prediction.case_view import draw_picture, layers
from ricenet.prediction.ensemble import probabilities, summarise
from ricenet.prediction.model_folder import Model
from ricenet.prediction.model_json import CrossValidation
from ricenet.prediction.patient_page import write_page
from ricenet.prediction.prediction_record import (
    VERSION,
    CitedModel,
    FindingRecord,
    FoldSummary,
    MapNumbers,
    MeasureInRange,
    PredictionRecord,
    UnfitRecord,
)
from ricenet.prediction.suitability import as_finding, check_one_person, examine_patient, in_order, is_fit

log = logging.getLogger(__name__)
PREDICTION, PAGE, MAP, DICOM_MAP = "prediction.json", "page.html", "occlusion.nii.gz", "occlusion.dcm"
VIEW_SPACING_MM = 1.0  # of the volumes on the page, or the model's own where that is finer
PACKAGES = ("torch", "monai", "antspyx", "nibabel", "numpy")


@dataclass(frozen=True)
class MapSettings:
    """Of the occlusion map; the keys of conf/predict.yaml. `dicom`: whether it is written as DICOM, too."""

    cube_mm: float
    stride_mm: float
    refine_mm: float | None
    precision: str
    batch_size: int
    memory_gb: float
    dicom: bool = False


@dataclass(frozen=True)
class Ensemble:
    """A model folder ready to answer.

    Attributes:
        networks: of the folds, in eval mode on `device`.
        settings: how a case is preprocessed.
        map_settings: None: no occlusion map is made.
    """

    model: Model
    networks: Sequence[nn.Module]
    device: str
    settings: Settings
    map_settings: MapSettings | None


def predict_case(
    case: Case, ensemble: Ensemble, out: Path, label: str, delivery: SelectionRecord | None = None
) -> PredictionRecord | UnfitRecord:
    """Write `out`/<case key>/ and return its prediction.json; an older folder of that name is replaced.

    Args:
        label: of the progress bar.
        delivery: which of the delivered series and doses these images are; None where files were given by name.
    """
    started, inputs = time.monotonic(), input_hashes(case)
    question = _question(case, inputs, ensemble)
    standing = _standing(out / case.key, question)
    if standing is not None:
        log.info("case %s: the answer that is there stands: same images, model, settings and versions", case.key)
        return standing
    findings, answered = examine_patient(case, ensemble.model.record.channels), None
    if is_fit(findings):
        log.info("case %s: registering, and finding the brain", case.key)
        try:
            with _one_thread():  # flushing denormals, which HD-BET needs, holds for the calling thread alone
                aligned = align(case, inputs, ensemble.settings)
            prepared, shown = _sampled(aligned, ensemble.settings)
            findings += check_one_person(case, shown)
            if is_fit(findings):
                answered = _answer(case, ensemble, prepared, label)
        except InvalidInput as error:
            findings.append(as_finding(error, case))
    if answered is None:
        return write_unfit(case.key, ensemble.model, in_order(findings), out, delivery)
    prediction = PredictionRecord(
        version=VERSION,
        case_key=case.key,
        fit=True,
        model=_cited(ensemble.model),
        **dict(answered.summary),
        measures=answered.measures,
        preprocessing=prepared.record.qc,
        occlusion=answered.occlusion,
        findings=_told(in_order([*findings, *training_range.outside(answered.measures, case.name)])),
        delivery=delivery,
        question=question,
        versions=_versions(),
        seconds=round(time.monotonic() - started, 1),
    )
    with partial_folder(out, case.key) as folder:
        _write(folder, case, prepared, shown, prediction, answered.drop)
        if answered.drop is not None and ensemble.map_settings and ensemble.map_settings.dicom:
            _write_dicom(folder, answered.drop, prepared, prediction)
        _publish(folder, prediction, out)
    return prediction


def _question(case: Case, inputs: dict[str, str], ensemble: Ensemble) -> str:
    """A digest of all that decides the answer."""
    prepared = folder_name(case, inputs, ensemble.settings)
    how = ensemble.map_settings and asdict(ensemble.map_settings)
    asked = [VERSION, prepared, ensemble.model.digest, ensemble.device, how, _versions()]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _standing(folder: Path, question: str) -> PredictionRecord | None:
    """The prediction for `question` that `folder` holds, if it does: prediction.json is written last."""
    if not (folder / PAGE).is_file():
        return None
    try:
        prediction = PredictionRecord.read(folder / PREDICTION)
    except InvalidInput:  # none, one of an unfit case, or a damaged one: it is made again
        return None
    return prediction if prediction.question == question else None


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def write_unfit(
    case_key: str, model: Model, findings: Sequence[Finding], out: Path, delivery: SelectionRecord | None = None
) -> UnfitRecord:
    """The folder of a case that no answer is given for; `delivery` as in predict_case."""
    prediction = UnfitRecord(
        version=VERSION,
        case_key=case_key,
        fit=False,
        model=_cited(model),
        findings=_told(findings),
        delivery=delivery,
        versions=_versions(),
    )
    with partial_folder(out, case_key) as folder:
        write_page(folder / PAGE, prediction, None, np.eye(4), np.ones((1, 1, 1), bool), None)
        _publish(folder, prediction, out)
    return prediction


@dataclass(frozen=True)
class _Answered:
    """`drop`: the map on the model's grid."""

    summary: FoldSummary
    measures: list[MeasureInRange]
    occlusion: MapNumbers | None
    drop: np.ndarray | None


def _answer(case: Case, ensemble: Ensemble, prepared: Prepared, label: str) -> _Answered:
    model, record = ensemble.model.record, prepared.record
    log.info("case %s: predicting with %d models", case.key, len(model.folds))
    rows = [record.channels.index(name) for name in model.channels]
    array = prepared.volume[rows].astype(np.float32)
    volume = torch.from_numpy(array).to(ensemble.device)
    summary = summarise(probabilities(ensemble.networks, volume), model.calibration)
    scale_gy = record.dose_scale_gy
    measured = training_range.measure(array, prepared.brain, model.channels, record.qc, scale_gy)
    measures = training_range.compare(measured, model.ranges)
    if ensemble.map_settings is None:
        return _Answered(summary, measures, None, None)
    drop, numbers = _occlusion(ensemble, ensemble.map_settings, prepared, volume, label)
    return _Answered(summary, measures, numbers, drop)


def _occlusion(
    ensemble: Ensemble, how: MapSettings, prepared: Prepared, volume: torch.Tensor, label: str
) -> tuple[np.ndarray, MapNumbers]:
    """The map of the mean probability with all channels blanked by 0 at once, and its numbers."""
    spacing_mm = prepared.record.spacing_mm
    edge, step = (max(1, round(length / spacing_mm)) for length in (how.cube_mm, how.stride_mm))
    finest = None if how.refine_mm is None else (max(1, round(how.refine_mm / spacing_mm)),) * 3
    plan = Plan((edge,) * 3, (step,) * 3, finest, how.batch_size, how.precision, how.memory_gb)
    blanked = {"all": range(len(volume))}
    found = occlude(ensemble.networks, volume, torch.zeros_like(volume), blanked, plan, f"{label} occlusion")["all"]
    drop, brain = drop_map(found), prepared.brain
    dose_gy = prepared.view.get("rd")
    bands = {} if dose_gy is None else dose_bands(dose_gy, brain)
    measured = measure(drop, prepared.record.affine, plan.cube, brain, bands, dose_gy)
    numbers = measured.model_dump(exclude={"pointing"}, exclude_unset=True)  # there is no known region to point at
    method = f"{found[0].method}, {how.precision}"
    return drop, MapNumbers(cube_mm=how.cube_mm, stride_mm=how.stride_mm, method=method, sign=SIGN, **numbers)


def _write(
    folder: Path,
    case: Case,
    prepared: Prepared,
    shown: Prepared,
    prediction: PredictionRecord,
    drop: np.ndarray | None,
) -> None:
    """Map and page."""
    world_from_voxel = prepared.record.affine
    if drop is not None:
        write_volume(folder / MAP, drop, world_from_voxel)
    view = shown.record.affine
    seen = None if drop is None else resample(Volume(drop, world_from_voxel), shown.brain.shape, view)
    picture = draw_picture(case, shown, seen, prediction)
    write_page(folder / PAGE, prediction, layers(shown, seen), view, shown.brain, picture)


def _write_dicom(folder: Path, drop: np.ndarray, prepared: Prepared, prediction: PredictionRecord) -> None:
    from ricenet.prediction.dicom_map import write_parametric_map

    place = prepared.record.affine
    write_parametric_map(
        folder / DICOM_MAP,
        drop,
        place,
        prediction.case_key,
        prediction.predicted,
        model_name=prediction.model.name,
        model_digest=prediction.model.digest,
    )


def _sampled(aligned: Aligned, settings: Settings) -> tuple[Prepared, Prepared]:
    """The case as the model sees it; and as the page shows it, the same field of view in voxels of a millimetre."""
    prepared = sample(aligned, settings)
    if settings.spacing_mm <= VIEW_SPACING_MM:
        return prepared, prepared
    size = round(settings.size * settings.spacing_mm / VIEW_SPACING_MM) + 2
    return prepared, sample(aligned, replace(settings, spacing_mm=VIEW_SPACING_MM, size=size))


def _cited(model: Model) -> CitedModel:
    record, evaluation = model.record, model.record.evaluation
    return CitedModel(
        name=record.name,
        channels=record.channels,
        folds=record.folds,
        digest=model.digest,
        cohort=record.cohort,
        evaluation=CrossValidation(
            oof_macro_f1=evaluation.oof_macro_f1,
            oof_interval=evaluation.oof_interval,
            auroc=evaluation.auroc,
            auroc_interval=evaluation.auroc_interval,
        ),
    )


def _told(findings: Sequence[Finding]) -> list[FindingRecord]:
    return [
        FindingRecord(code=one.code, message=one.message, hint=one.hint, severity=one.severity, channel=one.channel)
        for one in findings
    ]


def _versions() -> dict[str, str]:
    return {"ricenet": __version__, **{package: version(package) for package in PACKAGES}}


def _publish(folder: Path, prediction: PredictionRecord | UnfitRecord, out: Path) -> None:
    prediction.write(folder / PREDICTION)
    remove_folder(out / prediction.case_key)
    publish(folder, out / prediction.case_key, last=PREDICTION)
