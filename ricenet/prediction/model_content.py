"""Describe a trained set for its model folder: finished runs, their cases and their evaluation in; model.json out.

It holds nothing of a single patient, no path and no name of a machine. The ranges hold the lowest and the highest value
of the training cohort, of no case that could be named.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ricenet import LABELS
from ricenet.cases.alignment import PreprocessingSettings
from ricenet.cases.case_reader import load_case
from ricenet.cases.case_record import read_case_record
from ricenet.cohort.folds import Folds, lacking, read_folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.command.schemas import defaults_of
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.evaluation.grid import FoldProbabilities, labels_of, out_of_fold, patients_of, read_grid
from ricenet.evaluation.summary import RowScores, read_summary
from ricenet.networks.network import network_settings
from ricenet.networks.number_inputs import NumberInputs
from ricenet.prediction.model_json import VERSION, ModelEvaluation, ModelRecord, NetworkSettings, TrainingCohort
from ricenet.prediction.training_range import measure, ranges
from ricenet.statistics.recalibration import Recalibration, fit_recalibration
from ricenet.training.run_folder import FinishedRun, cases_folder, finished_folds, finished_runs
from ricenet.training.run_record import RunRecord

PHANTOM_SOURCE = "ricenet.phantom"
SETTING_NAMES = tuple(field.name for field in fields(PreprocessingSettings))
PACKAGES = ("ricenet", "commit", "torch", "lightning", "monai", "numpy", "python")
NOT_OF_THE_MODEL = ("run", "cases", "logger", "name", "fold")
# A subgroup of fewer patients, and the ROC curve with its corner a patient, would speak of single ones.
MIN_SUBGROUP_PATIENTS = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """One set of a grid: its finished folds by number (of several seeds the lowest), and what they were trained on."""

    name: str
    run: Path
    cases: Path
    folds: Folds
    finished: dict[int, FinishedRun]
    probabilities: dict[int, FoldProbabilities]

    @property
    def first(self) -> FinishedRun:
        """The run that stands for what all folds have in common."""
        return next(iter(self.finished.values()))

    @property
    def seen(self) -> list[ReadyCase]:
        """The cases of the cross-validation that the set is trained and scored on."""
        return [case for case in self.folds.cases if case.split == "cv"]


def read_trained(run: Path, modalities: str) -> Trained:
    """Read the set `modalities` of the grid `run`; folds that are not finished are warned of.

    Raises:
        WrongUsage: the row is a control's.
        InvalidInput: no fold is finished, folds differ in the network, or as runs.finished_folds and grid.read_grid.
    """
    runs = finished_runs(run)
    if any(run.modalities == modalities and run.control is not None for run in runs):
        raise WrongUsage(
            f"modalities={modalities} is a leakage control: it is no model of a set; export a modality set"
        )
    if any(run.modalities == modalities and run.record.crop and run.record.crop.at == "random" for run in runs):
        raise WrongUsage(
            f"modalities={modalities} is a control: its networks look at a random place; export a set of crop=lesion"
        )
    cases = cases_folder(run, runs)
    folds = read_folds(cases)
    finished = dict(sorted(finished_folds(runs, modalities, cases, folds).items()))
    of_set = [run for run in runs if run.modalities == modalities]
    probabilities = read_grid(of_set, cases, folds)[modalities]
    _require_one_network(modalities, finished)
    missing = [str(fold) for fold in range(folds.n_folds) if fold not in finished]
    if missing:
        log.warning(
            "%s: fold %s is not finished; the model is made of the other %d",
            modalities, ", ".join(missing), len(finished),
        )  # fmt: skip
    usable = next(iter(finished.values())).record.usable(folds)
    return Trained(modalities, run, cases, usable, finished, probabilities)


def _require_one_network(name: str, finished: Mapping[int, FinishedRun]) -> None:
    settings = {
        json.dumps(
            describe_network(run.record).model_dump() | run.record.model_dump(include={"crop"}, exclude_none=True),
            sort_keys=True,
        )
        for run in finished.values()
    }
    if len(settings) > 1:
        raise InvalidInput(
            f"{name}: expected folds of one network, got {' and '.join(sorted(settings))}",
            "train the folds that differ again",
            code="model.networks",
        )


def describe_network(record: RunRecord) -> NetworkSettings:
    """What the network of a run is built from, besides its channels; `inputs` where they change what it sees."""
    settings: dict[str, Any] = network_settings(record.model)
    channels, inputs = record.modalities.channels, record.inputs
    if inputs is not None and (inputs.computed(channels) or inputs.has_relative_dose(channels)):
        settings["inputs"] = inputs
    return NetworkSettings(**settings)


def describe_model(trained: Trained, row: RowScores) -> ModelRecord:
    """Make model.json; `row`: of the set, as in evaluation/summary.json.

    Raises:
        InvalidInput: cases of different preprocessing.
    """
    preprocessing, by_phantom, made_by = read_preprocessing(trained.cases, trained.folds.cases)
    seen, record = trained.seen, trained.first.record
    without_post = sum("post" not in read_case_record(trained.cases, case).channels for case in seen)
    calibration = _calibration(trained)
    channels = trained.first.channels
    optional: dict[str, Any] = {
        name: value for name in ("crop", "pretrained") if (value := getattr(record, name)) is not None
    }
    if any(run.record.numbers is not None for run in trained.finished.values()):
        optional["numbers"] = _numbers(trained)
    complete = [case for case in seen if not lacking(case, channels)]  # not all, for one model of all sets
    return ModelRecord(
        version=VERSION,
        name=trained.name,
        channels=tuple(channels),
        labels=LABELS,
        network=describe_network(record),
        folds=tuple(trained.finished),
        n_folds=trained.folds.n_folds,
        preprocessing=preprocessing,
        preprocessing_source="phantom, drawn directly" if by_phantom else "case folders",
        calibration=calibration.curve,
        calibration_reason=calibration.reason,
        ranges=ranges(measure_case(trained.cases, case, channels) for case in complete),
        cohort=TrainingCohort(
            cases=len(seen),
            patients=len({case.patient_key for case in seen}),
            recurrence=sum(case.label == LABELS.index("recurrence") for case in seen),
            rice=sum(case.label == LABELS.index("rice") for case in seen),
            phantom=by_phantom or (trained.cases / "truth.csv").is_file(),
            **({"without_post": without_post} if without_post else {}),
        ),
        evaluation=ModelEvaluation(
            oof_macro_f1=row.oof_macro_f1,
            oof_interval=row.oof_interval,
            auroc=row.oof.auroc,
            auroc_interval=row.oof_intervals.auroc,
            n=row.n,
            seeds=max(len(fold.seeds) for fold in trained.probabilities.values()),
        ),
        versions={name: record.versions.get(name) for name in PACKAGES} | {"preprocessing": made_by},
        **optional,
    )


def _numbers(trained: Trained) -> tuple[NumberInputs, ...]:
    """How each fold's network scales its numbers."""
    of_folds = tuple(run.record.numbers for run in trained.finished.values() if run.record.numbers is not None)
    if len(of_folds) < len(trained.finished) or len({numbers.requested for numbers in of_folds}) > 1:
        raise InvalidInput(
            f"{trained.name}: expected folds that see the same numbers",
            "train the folds that differ again",
            code="run.numbers_differ",
        )
    return of_folds


def _calibration(trained: Trained) -> Recalibration:
    """Fitted to the predictions of the very weights that are exported, of several seeds those of the lowest."""
    cases = out_of_fold(trained.folds, trained.probabilities)
    probabilities = np.concatenate([fold.validation[0] for fold in trained.probabilities.values()])
    return fit_recalibration(labels_of(cases), probabilities, patients_of(cases))


def measure_case(cases: Path, case: ReadyCase, channels: Sequence[str]) -> dict[str, float]:
    """The measures of ricenet.prediction.training_range of one case folder."""
    record = read_case_record(cases, case)
    volume, brain = load_case(cases, case, channels), np.load(cases / case.folder / "brain.npy")
    return measure(volume, brain, channels, record.qc, record.dose_scale_gy)


def read_preprocessing(cases: Path, table: Sequence[ReadyCase]) -> tuple[PreprocessingSettings, bool, int | None]:
    """Find out how all cases were made.

    Settings that a case folder leaves out, because they decided nothing, are as in conf/preprocess.yaml. `device` and
    `brain_software` are those of the machine that made the cases.

    Returns:
        The settings; whether the phantom drew the cases; the version of the preprocessing, None with the phantom.

    Raises:
        InvalidInput: the cases were made in different ways, or it is not known how.
    """
    records = {case.case_key: read_case_record(cases, case) for case in table}
    made = {key: json.dumps([of.parameters, of.version], sort_keys=True) for key, of in records.items()}
    first = table[0].case_key
    differs = [key for key in made if made[key] != made[first]]
    if differs:
        raise InvalidInput(
            f"case {differs[0]}: expected the preprocessing of case {first}, {made[first]}, got {made[differs[0]]}",
            "preprocess all cases with one version and the same parameters, then train again",
            code="model.preprocessing",
        )
    parameters = dict(records[first].parameters)
    made_by = records[first].version
    if not parameters:
        raise InvalidInput(
            "the case folders do not say how they were made",
            "preprocess the cases again, then train",
            code="model.preprocessing",
        )
    drawn = parameters.pop("source", None) == PHANTOM_SOURCE
    # The defaults are read without Hydra, which composes no second config while a stage runs.
    defaults = {name: value for name, value in defaults_of("preprocess").items() if name in SETTING_NAMES}
    settings = PreprocessingSettings(**defaults | parameters)
    if all("post" not in record.channels for record in records.values()):
        # All lay in the frame of the event, whatever the settings prefer; a patient who has a post-OP MRI will, too.
        settings = replace(settings, reference="event", brain_on="reference")
    return settings, drawn, None if drawn else made_by


def evaluated_row(trained: Trained) -> RowScores:
    """The set's row of evaluation/summary.json.

    Raises:
        InvalidInput: there is none, or not of the predictions that are there now (`model.evaluation`).
    """
    from ricenet.evaluation.scores import pool

    summary = read_summary(trained.run)
    row = summary.sets.get(trained.name) if summary else None
    pooled = pool(trained.folds, trained.probabilities)
    brier = float(np.mean((pooled.probabilities - pooled.labels) ** 2))
    if (
        summary is None
        or row is None
        or summary.folds_hash != trained.folds.hash
        or row.n != len(pooled.labels)
        or not isclose(row.calibration.brier, brier, rel_tol=1e-9)
    ):
        what = "no evaluation" if row is None else "an evaluation of other predictions than the runs hold now"
        raise InvalidInput(
            f"{trained.name}: expected the evaluation of this grid beside its runs, got {what}",
            "run python -m ricenet.evaluate run=..., then export again",
            code="model.evaluation",
        )
    return row


def public_row(row: RowScores) -> dict[str, Any]:
    """The content of evaluation.json: the row without what speaks of single patients."""
    subgroups = [level for level in row.subgroups if level.n_patients >= MIN_SUBGROUP_PATIENTS]
    public = row.model_copy(update={"subgroups": tuple(subgroups)})
    return public.model_dump(mode="json", exclude_unset=True, exclude={"roc"})


def training_config(folder: Path) -> dict[str, Any]:
    """Read a run's config.yaml without what depends on where it was trained: no path, grid, logger or fold."""
    config = yaml.safe_load((folder / "config.yaml").read_text()) or {}
    return _without_paths({name: value for name, value in config.items() if name not in NOT_OF_THE_MODEL})


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_paths(item) for name, item in value.items() if not _is_path(item)}
    return [_without_paths(item) for item in value if not _is_path(item)] if isinstance(value, list) else value


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and (os.sep in value or "\\" in value)
