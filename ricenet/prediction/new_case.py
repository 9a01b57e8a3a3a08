"""Predict one new case with a trained ensemble: a case in; its prediction.json, and what its page shows, out.

A case that does not fit the model gets its findings and no probability. Nothing is written here.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from types import MappingProxyType

import numpy as np
import torch
from torch import nn

from ricenet import __version__
from ricenet.cases.alignment import Aligned, PreprocessingSettings, align
from ricenet.cases.case_folder import Prepared, sample
from ricenet.cases.case_record import LesionPlace
from ricenet.cases.crop import Window, choose
from ricenet.cases.one_person import judge_likeness, measure_likeness
from ricenet.cohort.ingest_record import SelectionRecord
from ricenet.cohort.table import Case
from ricenet.errors import Finding, InvalidInput
from ricenet.explanation.attribution import measure, number_parts
from ricenet.explanation.case_map import SIGN
from ricenet.explanation.map_record import SeenPart
from ricenet.explanation.regions import dose_bands
from ricenet.images.dose_limits import DOSE_SCALE_GY
from ricenet.images.volume import Voxels
from ricenet.networks.late_fusion import for_case
from ricenet.occlusion.sensitivity import OcclusionPlan, drop_map, occlude
from ricenet.prediction import training_range
from ricenet.prediction.ensemble import (
    Ensemble,
    OcclusionSettings,
    PredictionSettings,
    fold_logits,
    probabilities,
    summarise,
)
from ricenet.prediction.model_folder import Model
from ricenet.prediction.model_json import CrossValidation, ModelRecord
from ricenet.prediction.patient_numbers import Clinical, PatientNumbers, check_lesion_mask, patient_numbers
from ricenet.prediction.prediction_record import (
    VERSION,
    CaseMapNumbers,
    CitedModel,
    FindingRecord,
    FoldSummary,
    MeasureInRange,
    PredictionRecord,
    SeenNumbers,
    UnfitRecord,
)
from ricenet.prediction.suitability import (
    as_finding,
    check_delivery,
    check_frame,
    check_prescription,
    check_seen,
    examine_patient,
    in_order,
    is_fit,
)

log = logging.getLogger(__name__)
VIEW_SPACING_MM = 1.0  # of the volumes on the page, or the model's own where that is finer
PACKAGES = ("torch", "monai", "antspyx", "nibabel", "numpy")


@dataclass(frozen=True)
class PredictedCase:
    """A case that fits, and its prediction.

    Attributes:
        prepared: on the model's grid.
        view: the same field of view for the page, in voxels of a millimetre or the model's where those are finer.
        drop: (X, Y, Z) occlusion map on the model's grid; None where none was made.
        seen: what the networks see of the model's grid; None: all.
    """

    record: PredictionRecord
    prepared: Prepared
    view: Prepared
    drop: Voxels | None
    seen: Window | None = None


def predict(
    case: Case,
    ensemble: Ensemble,
    settings: PredictionSettings,
    *,
    inputs: dict[str, str],
    label: str,
    delivery: SelectionRecord | None = None,
    question: str = "",
    clinical: Clinical = MappingProxyType({}),
) -> PredictedCase | UnfitRecord:
    """Check the case, preprocess it and let every fold's network predict.

    Args:
        inputs: SHA-256 of the case's files by role.
        label: of the progress bar.
        delivery: which of the delivered series and doses these images are; None where files were given by name.
        question: digest of all that decides the prediction.
        clinical: of the model's numbers, those that no image tells, by name.

    Returns:
        An UnfitRecord where a finding is an error.
    """
    started = time.monotonic()
    model = ensemble.model.record
    findings = examine_patient(case, model.channels, settings.dose_limits)
    findings += check_prescription(case, model.sees_relative_dose)
    findings += check_frame(case, settings.preprocessing.reference, model.cohort.without_post)
    findings = in_order([*findings, *check_delivery(case, delivery, findings)])
    if not is_fit(findings):
        return unfit_record(case.key, ensemble.model, findings, delivery)
    log.info("case %s: registering, and finding the brain", case.key)
    try:
        with _one_thread():  # flushing denormals, which HD-BET needs, holds for the calling thread alone
            aligned = align(case, inputs, settings.preprocessing, settings.dose_limits)
        prepared, view = _sampled(aligned, settings.preprocessing)
        findings += judge_likeness(measure_likeness(aligned, prepared), case.name)
        if not is_fit(findings):
            return unfit_record(case.key, ensemble.model, findings, delivery)
        findings += check_lesion_mask(model, case, prepared)
        if not is_fit(findings):
            return unfit_record(case.key, ensemble.model, findings, delivery)
        beside = patient_numbers(model, case, prepared, clinical)
        findings += beside.findings
        seen = seen_part(model, prepared)
        findings += check_seen(case, seen, prepared.record)
        numbers = _numbers(case, ensemble, settings.occlusion, prepared, label, beside)
    except InvalidInput as error:
        return unfit_record(case.key, ensemble.model, [*findings, as_finding(error, case)], delivery)
    record = PredictionRecord(
        version=VERSION,
        case_key=case.key,
        fit=True,
        model=cite(ensemble.model),
        **dict(numbers.summary),
        measures=numbers.measures,
        preprocessing=prepared.record.qc,
        occlusion=numbers.occlusion,
        findings=_records([*findings, *training_range.outside(numbers.measures, case.name)]),
        delivery=delivery,
        question=question,
        versions=package_versions(),
        seconds=round(time.monotonic() - started, 1),
    )
    if prepared.record.structures:
        record = record.model_copy(update={"structures": prepared.record.structures})
    if seen is not None:
        record = record.model_copy(update={"seen": seen})
    if numbers.beside is not None:
        record = record.model_copy(update={"numbers": numbers.beside})
    return PredictedCase(record, prepared, view, numbers.drop, window_of_model(model, prepared))


def seen_part(model: ModelRecord, prepared: Prepared) -> SeenPart | None:
    """Where the model's networks look in a case, and around which place; None: at all of it."""
    window = window_of_model(model, prepared)
    if model.crop is None or window is None:
        return None
    place = _place(model, prepared)
    return SeenPart(at=model.crop.at, size_mm=model.crop.size_mm, place=place, first_voxel=window.start)


def window_of_model(model: ModelRecord, prepared: Prepared) -> Window | None:
    """What the model's networks see of a case; None: all."""
    if model.crop is None:
        return None
    return Window.around(_place(model, prepared), model.crop, prepared.record.spacing_mm)


def _place(model: ModelRecord, prepared: Prepared) -> LesionPlace:
    """As of the training cases."""
    return choose(prepared.record.lesion, model.channels, prepared.record.channels)


def unfit_record(
    case_key: str, model: Model, findings: Sequence[Finding], delivery: SelectionRecord | None = None
) -> UnfitRecord:
    """The record of a case for which no prediction is made; `delivery` as in `predict`."""
    return UnfitRecord(
        version=VERSION,
        case_key=case_key,
        fit=False,
        model=cite(model),
        findings=_records(findings),
        delivery=delivery,
        versions=package_versions(),
    )


def cite(model: Model) -> CitedModel:
    """What prediction.json says of the model folder."""
    record = model.record
    evaluation = record.evaluation
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


def package_versions() -> dict[str, str]:
    """Of the packages that a prediction depends on."""
    return {"ricenet": __version__, **{package: version(package) for package in PACKAGES}}


def _records(findings: Sequence[Finding]) -> list[FindingRecord]:
    """Errors first."""
    return [
        FindingRecord(
            code=finding.code,
            message=finding.message,
            hint=finding.hint,
            severity=finding.severity,
            channel=finding.channel,
        )
        for finding in in_order(findings)
    ]


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _sampled(aligned: Aligned, settings: PreprocessingSettings) -> tuple[Prepared, Prepared]:
    """The case as the model sees it; and as the page shows it, the same field of view in voxels of a millimetre."""
    prepared = sample(aligned, settings)
    if settings.spacing_mm <= VIEW_SPACING_MM:
        return prepared, prepared
    size = round(settings.size * settings.spacing_mm / VIEW_SPACING_MM) + 2
    return prepared, sample(aligned, replace(settings, spacing_mm=VIEW_SPACING_MM, size=size))


@dataclass(frozen=True)
class _Numbers:
    """`drop`: the occlusion map on the model's grid; `beside`: what the networks see beside the volume."""

    summary: FoldSummary
    measures: list[MeasureInRange]
    beside: SeenNumbers | None
    occlusion: CaseMapNumbers | None = None
    drop: Voxels | None = None


def _numbers(
    case: Case,
    ensemble: Ensemble,
    occlusion_settings: OcclusionSettings | None,
    prepared: Prepared,
    label: str,
    numbers: PatientNumbers,
) -> _Numbers:
    model = ensemble.model.record
    log.info("case %s: predicting with %d networks", case.key, len(model.folds))
    rows = [prepared.record.channels.index(name) for name in model.channels]
    array = prepared.volume[rows].astype(np.float32)
    window = window_of_model(model, prepared)
    seen = array.copy() if window is None else window.cut(array)
    if model.sees_relative_dose:
        assert case.prescription_gy is not None  # check_prescription
        seen[model.channels.index("rd")] *= DOSE_SCALE_GY / case.prescription_gy
    volume = torch.from_numpy(seen).to(ensemble.device)
    networks = [for_case(network, numbers.values) for network in ensemble.networks]
    logits = fold_logits(networks, volume)
    summary = summarise(probabilities(logits), model.calibration)
    beside = _beside(ensemble, numbers, [float(rice - recurrence) for recurrence, rice in logits])
    measured = training_range.measure(
        array, prepared.brain, model.channels, prepared.record.qc, prepared.record.dose_scale_gy
    )
    measures = training_range.compare(measured, model.ranges)
    if occlusion_settings is None:
        return _Numbers(summary, measures, beside)
    drop, occlusion = _occlusion(networks, occlusion_settings, prepared, volume, window, label)
    return _Numbers(summary, measures, beside, occlusion, drop)


def _beside(ensemble: Ensemble, numbers: PatientNumbers, log_odds: Sequence[float]) -> SeenNumbers | None:
    """What the numbers do, beside the folds' log-odds of RICE; None where the networks see none."""
    parts = number_parts(ensemble.networks, numbers.values, log_odds)
    if parts is None:
        return None
    return SeenNumbers(**dict(parts), lesion_source=numbers.source, lesion_contrast=numbers.contrast)


def _occlusion(
    networks: Sequence[nn.Module],
    settings: OcclusionSettings,
    prepared: Prepared,
    volume: torch.Tensor,
    window: Window | None,
    label: str,
) -> tuple[Voxels, CaseMapNumbers]:
    """The map of the mean probability with all channels blanked by 0 at once, and its numbers.

    Args:
        networks: as functions of the volume alone.
        volume: what they see.
        window: where that lies on the model's grid; None: it is all of it.
    """
    spacing_mm = prepared.record.spacing_mm
    edge, step = (max(1, round(length / spacing_mm)) for length in (settings.cube_mm, settings.stride_mm))
    finest = None if settings.refine_mm is None else (max(1, round(settings.refine_mm / spacing_mm)),) * 3
    plan = OcclusionPlan((edge,) * 3, (step,) * 3, finest, settings.batch_size, settings.precision, settings.memory_gb)
    blanked = {"all": range(len(volume))}
    maps = occlude(networks, volume, torch.zeros_like(volume), blanked, plan, f"{label} occlusion")["all"]
    drop = drop_map(maps)
    brain = prepared.brain
    if window is not None:
        drop = window.paste(drop, brain.shape)
        brain = window.paste(window.cut(brain), brain.shape)
    dose_gy = prepared.view.get("rd")
    bands = {} if dose_gy is None else dose_bands(dose_gy, prepared.brain)
    measured = measure(drop, prepared.record.affine, plan.cube, brain, bands, dose_gy)
    numbers = measured.model_dump(exclude={"pointing"}, exclude_unset=True)  # no region is known to point at
    return drop, CaseMapNumbers(
        cube_mm=settings.cube_mm,
        stride_mm=settings.stride_mm,
        method=f"{maps[0].method}, {settings.precision}",
        sign=SIGN,
        **numbers,
    )
