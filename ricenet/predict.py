"""Predict a new patient with a trained grid: DICOM or NIfTI in; probability, its uncertainty, a map and a page out.

python -m ricenet.predict export=DIR run=outputs/demo             once: the grid becomes a portable model folder
python -m ricenet.predict model=DIR patient=DIR out=DIR           <out>/<case_key>/page.html, prediction.json, maps
python -m ricenet.predict model=DIR cohort=DIR out=DIR            every row of a cohort.csv, and predictions.csv

A case that does not fit the model gets findings and no probability, exit code 3 (4 where others of a cohort fit).
Run the same command again after an interruption: a prediction of the same images, model and settings is kept.
Outputs carry pseudonyms: a patient is called by a digest of the images. Research use only.
"""

import csv
import io
import logging
import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ricenet.command.schemas import PredictConfig
from ricenet.command.stage import stage
from ricenet.errors import Incomplete, InvalidInput, WrongUsage

if TYPE_CHECKING:
    from ricenet.cohort.table import Case
    from ricenet.delivery.dicom_case import IntakeSettings
    from ricenet.images.dose_limits import DoseLimits
    from ricenet.prediction.ensemble import Ensemble, PredictionSettings
    from ricenet.prediction.model_folder import Model
    from ricenet.prediction.new_patient import PatientDetails
    from ricenet.prediction.prediction_record import FindingRecord, PredictionRecord, UnfitRecord

log = logging.getLogger(__name__)
NOT_NEEDED = ("label.unknown", "split.unknown", "split.leak", "modality.missing")  # of a table without labels
ONE_PATIENT = (
    "post_date", "event_date", "radiotherapy_start", "post_series", "event_series", "planning_series", "fractions",
    "prescription_gy",
)  # fmt: skip
POSITIVE = (
    "cube_mm",
    "stride_mm",
    "refine_mm",
    "batch_size",
    "threads",
    "fractions",
    "delivered_fractions",
    "prescription_gy",
)
CHOICES = {
    "accelerator": ("auto", "cpu", "gpu"),
    "precision": ("fp32", "bf16"),
    "brain": (None, "auto", "hdbet", "hdbet2", "mask", "none"),
}
COLUMNS = (
    "case_key",
    "fit",
    "predicted",
    "probability",
    "calibrated",
    "calibrated_low",
    "calibrated_high",
    "spread",
    "warnings",
    "errors",
)


@stage("predict", PredictConfig, private=True, typed={"model": "model_folder"})
def main(cfg: PredictConfig) -> None:
    """Turn the config into arguments."""
    _check(cfg)
    if cfg.export is not None:
        from ricenet.prediction.model_folder import export_model

        export_model(Path(cfg.run or ""), cfg.modalities.name, Path(cfg.export))
        print("written: the model folder; docs/README.md in it is its card")
        return
    from ricenet.command.atomic import hold
    from ricenet.prediction.model_folder import read_model
    from ricenet.prediction.new_patient import rules_for
    from ricenet.prediction.patient_numbers import check_clinical

    if cfg.dicom:
        from ricenet.prediction.dicom_map import require_highdicom

        require_highdicom()

    model = read_model(Path(cfg.model_folder or ""))
    out = Path(cfg.out or "")
    rules = rules_for(model.record, None if cfg.ingest is None else Path(cfg.ingest))
    check_clinical(model.record, cfg.clinical or {})
    ensemble, settings = _load(cfg, model, rules.dose_limits)
    out.mkdir(parents=True, exist_ok=True)
    with hold(out, name="the folder given as out="):
        if cfg.patient is not None:
            predict_patient(Path(cfg.patient), _details(cfg), rules, ensemble, settings, out)
        else:
            predict_cohort(Path(cfg.cohort or ""), ensemble, settings, out)


def _check(cfg: PredictConfig) -> None:
    """Validate the keys before anything heavy is loaded."""
    exporting = {"export": cfg.export, "run": cfg.run}
    predicting = {"model": cfg.model_folder, "out": cfg.out}
    of_patient = {name: getattr(cfg, name) for name in ONE_PATIENT} | {"clinical": cfg.clinical}
    if any(exporting.values()):
        required, excluded = (
            exporting,
            {**predicting, "patient": cfg.patient, "cohort": cfg.cohort, "ingest": cfg.ingest, **of_patient},
        )
    elif (cfg.patient is None) == (cfg.cohort is None):
        raise WrongUsage("expected export=DIR run=DIR, or model=DIR out=DIR and one of patient=DIR and cohort=DIR")
    else:
        required, excluded = predicting, of_patient if cfg.patient is None else {}
    missing, idle = _named(required, given=False), _named(excluded, given=True)
    if missing or idle:
        mode = exporting if required is exporting else {**predicting, "patient": cfg.patient, "cohort": cfg.cohort}
        advice = [f"also give {missing}"] if missing else []
        advice += [f"remove {idle}"] if idle else []
        raise WrongUsage(f"with {_named(mode, given=True)}, {'; '.join(advice)}")
    if cfg.dicom and not cfg.occlusion:
        raise WrongUsage("dicom=true writes the occlusion map as DICOM, and occlusion=false makes none; leave one out")
    if cfg.clinical is not None and not isinstance(cfg.clinical, dict):
        raise WrongUsage("clinical should be values by name, as in 'clinical={age: 61, MGMT: B}'")
    for name in POSITIVE:
        value = getattr(cfg, name)
        if value is not None and value <= 0:
            raise WrongUsage(f"{name} should be above 0, got {value:g}")
    for name, allowed in CHOICES.items():
        if getattr(cfg, name) not in allowed:
            listed = ", ".join("null" if choice is None else choice for choice in allowed)
            raise WrongUsage(f"{name} should be one of {listed}, got {getattr(cfg, name)!r}")


def _named(values: Mapping[str, Any], given: bool) -> str:
    return ", ".join(f"{name}=" for name, value in values.items() if (value is not None) == given)


def _details(cfg: PredictConfig) -> "PatientDetails":
    from ricenet.cohort.label_table import split_keys
    from ricenet.prediction.new_patient import PatientDetails

    series = {role: getattr(cfg, f"{role}_series") for role in ("post", "event", "planning")}
    return PatientDetails(
        post_date=_date("post_date", cfg.post_date),
        event_date=_date("event_date", cfg.event_date),
        radiotherapy_start=_date("radiotherapy_start", cfg.radiotherapy_start),
        fractions=cfg.fractions,
        prescription_gy=cfg.prescription_gy,
        choice={role: key for role, key in series.items() if key},
        doses=split_keys(cfg.doses or ""),
        plans=split_keys(cfg.plans or ""),
        exclude_doses=split_keys(cfg.exclude_doses or ""),
        delivered_fractions=cfg.delivered_fractions,
        clinical=cfg.clinical or {},
    )


def _date(name: str, text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise WrongUsage(
            f"{name} should be a date as YYYY-MM-DD, got another text (not shown, it may identify a patient)"
        ) from None


def _load(
    cfg: PredictConfig, model: "Model", limits: "DoseLimits | None" = None
) -> "tuple[Ensemble, PredictionSettings]":
    import torch

    from ricenet.images.dose_limits import preset
    from ricenet.occlusion.engines import find_device
    from ricenet.prediction.ensemble import OcclusionSettings, PredictionSettings, load_ensemble, preprocessing_settings

    device = find_device(cfg.accelerator)
    torch.set_num_threads(cfg.threads or len(os.sched_getaffinity(0)))
    hdbet2_env = None if cfg.hdbet2_env is None else Path(cfg.hdbet2_env).absolute()
    of_brain = "cpu" if cfg.accelerator == "cpu" else "auto"
    preprocessing = preprocessing_settings(model, cfg.brain, of_brain, hdbet2_env)
    occlusion_settings = OcclusionSettings(
        cfg.cube_mm, cfg.stride_mm, cfg.refine_mm, cfg.precision, cfg.batch_size, cfg.memory_gb, cfg.dicom
    )
    settings = PredictionSettings(preprocessing, occlusion_settings if cfg.occlusion else None, limits or preset())
    return load_ensemble(model, device), settings


def predict_patient(
    folder: Path,
    details: "PatientDetails",
    rules: "IntakeSettings",
    ensemble: "Ensemble",
    settings: "PredictionSettings",
    out: Path,
) -> None:
    """Find the patient's images in `folder`, predict, and write `out`/<case key>/.

    Args:
        rules: for DICOM.

    Raises:
        InvalidInput: the patient is refused; the page with the findings is written.
    """
    from ricenet.command.atomic import partial_folder
    from ricenet.prediction.new_patient import Unusable, find_patient
    from ricenet.prediction.prediction_folder import write_prediction, write_unfit
    from ricenet.prediction.suitability import as_finding

    prediction: PredictionRecord | UnfitRecord
    with partial_folder(out, "patient") as scratch:
        try:
            delivered = find_patient(folder, details, rules, scratch, ensemble.model.further)
        except Unusable as problem:
            finding = as_finding(problem, problem.without_images)
            prediction = write_unfit(problem.without_images.key, ensemble.model, [finding], out, problem.record)
        else:
            case = delivered.case
            prediction = write_prediction(
                case,
                ensemble,
                settings,
                out,
                label=f"case {case.key}",
                delivery=delivered.record,
                clinical=details.clinical,
            )
    print(in_words(prediction))
    if not prediction.fit:
        raise InvalidInput(_not_fit([prediction]), code="patient.unfit")


def predict_cohort(cohort: Path, ensemble: "Ensemble", settings: "PredictionSettings", out: Path) -> None:
    """Predict every row of `cohort`/cohort.csv that is not excluded, and write `out`/predictions.csv.

    Raises:
        InvalidInput: every case is refused.
        Incomplete: some cases are refused or failed.
    """
    from ricenet.prediction.prediction_folder import write_prediction

    cases = _cases(cohort, ensemble.model)
    predictions: dict[str, PredictionRecord | UnfitRecord] = {}
    failed: list[str] = []
    for number, case in enumerate(cases, start=1):
        try:
            label = f"case {case.key} ({number} of {len(cases)})"
            predictions[case.key] = write_prediction(case, ensemble, settings, out, label=label)
        except Incomplete as error:  # a program that we call, hd-bet, has failed; the next may work
            failed.append(f"  {error}")
            log.error("%d of %d: %s", number, len(cases), error)
            continue
        log.info("%d of %d: %s", number, len(cases), in_words(predictions[case.key]))
        _write_table(out / "predictions.csv", cases, predictions)
    unfit = [prediction for prediction in predictions.values() if not prediction.fit]
    if len(unfit) == len(cases):
        raise InvalidInput(_not_fit(unfit), code="patient.unfit")
    lines = [f"{len(unfit)} of {len(cases)} cases were refused", _not_fit(unfit)] if unfit else []
    lines += [f"{len(failed)} of {len(cases)} cases failed", *failed] if failed else []
    if lines:
        raise Incomplete("\n".join([*lines, "the others have a prediction"]))


def _cases(cohort: Path, model: "Model") -> "list[Case]":
    """The rows of cohort.csv, whatever their labels and splits."""
    from ricenet.cohort.table import inspect_cohort

    cases, findings = inspect_cohort(cohort, model.further, partial=True)
    problems = [str(finding) for finding in findings if finding.code not in NOT_NEEDED]
    if problems:
        raise InvalidInput("\n".join(problems), code="table.findings")
    return cases


def in_words(prediction: "PredictionRecord | UnfitRecord") -> str:
    """One line for the terminal."""
    key = prediction.case_key
    if prediction.fit is False:
        return f"case {key}: no prediction, see the findings: <out>/{key}/page.html"
    folds, calibrated = prediction.folds, prediction.calibrated
    text = f"case {key}: P(RICE) {prediction.probability:.2f}, folds {min(folds):.2f} to {max(folds):.2f}"
    if calibrated is not None:
        low, high = calibrated.interval
        text += f", calibrated {calibrated.probability:.2f} [{low:.2f}, {high:.2f}]"
    if prediction.numbers is not None and prediction.numbers.lesion_source is not None:
        from ricenet.prediction.patient_page import LESION_WORDS

        text += f", lesion: {LESION_WORDS[prediction.numbers.lesion_source]}"
    warnings = sum(finding.severity == "warning" for finding in prediction.findings)
    return f"{text}, {warnings} warnings: <out>/{key}/page.html"


def _not_fit(unfit: "Sequence[UnfitRecord]") -> str:
    lines = [
        f"  case {case.case_key}: {_with_code(finding)}"
        for case in unfit
        for finding in case.findings
        if finding.severity == "error"
    ]
    return "no prediction was made. Follow the advice next to each finding:\n" + "\n".join(lines)


def _with_code(finding: "FindingRecord") -> str:
    image = f" {finding.channel}" if finding.channel else ""
    return f"[{finding.code}]{image} {finding.message}; {finding.hint}"


def _write_table(
    path: Path, cases: Sequence["Case"], predictions: "Mapping[str, PredictionRecord | UnfitRecord]"
) -> None:
    from ricenet import LABELS
    from ricenet.command.atomic import replace_file

    table = io.StringIO()
    writer = csv.DictWriter(table, (*COLUMNS, "label"), restval="", lineterminator="\n")
    writer.writeheader()
    for case in cases:
        if case.key not in predictions:
            continue
        prediction = predictions[case.key]
        row: dict[str, str | float | None] = {"case_key": prediction.case_key, "fit": prediction.fit}
        for severity in ("warning", "error"):
            codes = [each.code for each in prediction.findings if each.severity == severity]
            row[f"{severity}s"] = " ".join(codes)
        if prediction.fit is True:
            row |= {
                "predicted": prediction.predicted,
                "probability": prediction.probability,
                "spread": prediction.spread,
            }
            if prediction.calibrated is not None:
                low, high = prediction.calibrated.interval
                row |= {"calibrated": prediction.calibrated.probability, "calibrated_low": low, "calibrated_high": high}
        writer.writerow(row | {"label": LABELS[case.label] if case.label >= 0 else ""})
    replace_file(path, table.getvalue())


if __name__ == "__main__":
    main()
