"""The leakage control control=metadata_only: what is known of cases besides their images in, a run folder's files out.

No network and no image: a logistic regression on site, scanner and the like. A score above chance means that a network
may answer by the scanner or the hospital in place of the disease.
Run: python -m ricenet.train -m control=metadata_only 'fold=range(5)'
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ricenet.cases.case_record import read_case_record
from ricenet.cohort.channels import in_order
from ricenet.cohort.covariates import COVARIATES, PRESENCE, read_covariates
from ricenet.cohort.folds import Folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.command.atomic import file_hash, replace_file
from ricenet.command.row_names import METADATA_ONLY
from ricenet.errors import InvalidInput
from ricenet.training.predictions import PREDICTIONS, PredictionRow, write_predictions
from ricenet.training.run_folder import keep, writing

if TYPE_CHECKING:
    from sklearn.base import TransformerMixin
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline

# Of covariates.csv: where, on what and by whom a case was imaged, treated and labelled.
LEVELS = ("site", "scanner_post", "scanner_event", "label_source", "prescription_gy", "fractions")
# Of case.json: how the head lay from scan to scan, how far the scans and the dose reach, how much brain was found.
# `similarity` is left out, because a lesion that grows lowers it, and so are the doses, which are a channel themselves.
NUMBERS = (
    "rotation_degrees", "translation_mm", "planning_rotation_degrees", "planning_translation_mm", "event_coverage",
    "dose_coverage", "brain_ml",
)  # fmt: skip
NOT_GIVEN = "not given"
PACKAGES = ("numpy", "scikit-learn", "safetensors")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metadata:
    """What is known of cases besides their images; a value that is not given is absent.

    Attributes:
        levels: column -> case key -> level.
        numbers: column -> case key -> number.
    """

    levels: Mapping[str, Mapping[str, str]]
    numbers: Mapping[str, Mapping[str, float]]

    @property
    def columns(self) -> list[str]:
        return [*self.levels, *self.numbers]


def read_metadata(cases: Path, folds: Folds) -> Metadata:
    """The LEVELS and NUMBERS that the cases folder has, and which channels a case has where the cases differ.

    Raises:
        InvalidInput: it has none of them, or covariates.csv is of other cases.
    """
    covariates = read_covariates(cases, [case.case_key for case in folds.cases])
    subgroups = covariates.subgroups if covariates else {}
    channels = in_order(channel for case in folds.cases for channel in case.channels or ())
    columns = [*LEVELS, *(f"{PRESENCE}{channel}" for channel in channels)]
    levels = {column: subgroups[column] for column in columns if column in subgroups}
    qc = {case.case_key: read_case_record(cases, case).qc for case in folds.cases}
    numbers = {column: {key: values[column] for key, values in qc.items() if column in values} for column in NUMBERS}
    metadata = Metadata(levels, {column: of for column, of in numbers.items() if of})
    if not metadata.columns:
        raise InvalidInput(
            f"control={METADATA_ONLY}: no metadata columns are available: {COVARIATES} has none of "
            f"{', '.join(LEVELS)}, and no case.json has one of {', '.join(NUMBERS)} under qc",
            "name columns of cohort.csv in covariates= of ricenet.preprocess and run it again",
            code="metadata.missing",
        )
    return metadata


def inputs(cases: Path) -> dict[str, str]:
    """The hash of covariates.csv, which the hash of the cases does not cover; nothing where there is none."""
    path = cases / COVARIATES
    return {"covariates_hash": file_hash(path)} if path.is_file() else {}


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of a training's settings those that decide a regression on metadata: a grid of modality sets trains it once."""
    return {name: settings[name] for name in ("name", "fold", "seed", "control")}


@dataclass(frozen=True)
class Regression:
    """A fitted regression. features: (n,) names; log_odds: of rice, (cases,) for a list of cases."""

    features: list[str]
    pipeline: "Pipeline"
    log_odds: Callable[[Sequence[ReadyCase]], np.ndarray]


def fill_missing() -> "SimpleImputer":
    """A number that is not given (nan) becomes the mean of the training cases, and that it is not given a feature."""
    from sklearn.impute import SimpleImputer

    return SimpleImputer(add_indicator=True, keep_empty_features=True)


def balanced_regression(features: "TransformerMixin") -> "Pipeline":
    """Logistic regression on standardised `features`, both classes weighing the same."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(features, StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))


def fit_regression(metadata: Metadata, training: Sequence[ReadyCase]) -> Regression:
    """Logistic regression on standardised metadata, both classes weighing the same.

    A level that no training case has counts as none. A number that is not given becomes the mean of the training
    cases, and that it is not given a feature of its own.
    """
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder

    def table(cases: Sequence[ReadyCase]) -> np.ndarray:
        rows = [
            [*(of.get(case.case_key, NOT_GIVEN) for of in metadata.levels.values()),
             *(of.get(case.case_key, np.nan) for of in metadata.numbers.values())]
            for case in cases
        ]  # fmt: skip
        return np.array(rows, dtype=object)

    n_levels, n = len(metadata.levels), len(metadata.columns)
    features = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), list(range(n_levels))),
        (fill_missing(), list(range(n_levels, n))),
        verbose_feature_names_out=False,
    )
    pipeline = balanced_regression(features)
    pipeline.fit(table(training), [case.label for case in training])
    names = features.get_feature_names_out(metadata.columns).tolist()
    return Regression(names, pipeline, lambda cases: pipeline.decision_function(table(cases)))


def train_regression(metadata: Metadata, folds: Folds, fold: int, folder: Path) -> None:
    """Fit the regression of one fold; write weights.safetensors, metrics.csv and predictions.csv into its run folder.

    The predictions are laid out as a network's, with 0 for the logit of recurrence.
    """
    training, validation, test = folds.training(fold), folds.validation(fold), folds.test()
    regression = fit_regression(metadata, training)
    log.info("%s %s: trained on columns %s", folder.parent.name, folder.name, ", ".join(metadata.columns))
    with writing(folder, "weights.safetensors"):
        replace_file(folder / "weights.safetensors", _weights(regression))
    keep(folder, "metrics.csv", _metrics(regression, training, validation))
    rows: list[PredictionRow] = []
    for split, cases in (("val", validation), ("test", test)):
        rows += _predictions(split, cases, regression.log_odds(cases) if cases else np.empty(0))
    with writing(folder, PREDICTIONS):
        write_predictions(folder, rows)


def _weights(regression: Regression) -> bytes:
    from safetensors.numpy import save

    scaler, classifier = regression.pipeline[1:]
    tensors = {
        "coefficients": classifier.coef_[0],  # of standardised features
        "intercept": classifier.intercept_,
        "mean": scaler.mean_,
        "scale": scaler.scale_,
    }
    return save(tensors, {"features": json.dumps(regression.features)})


def _metrics(regression: Regression, training: Sequence[ReadyCase], validation: Sequence[ReadyCase]) -> str:
    from scipy.special import expit
    from sklearn.metrics import log_loss
    from sklearn.utils.class_weight import compute_sample_weight

    from ricenet.statistics import metrics

    seen, labels = ([case.label for case in cases] for cases in (training, validation))
    fitted, predicted = (expit(regression.log_odds(cases)) for cases in (training, validation))
    row = {
        "epoch": 0,
        "train/loss": log_loss(seen, fitted, sample_weight=compute_sample_weight("balanced", seen)),
        "val/auroc": metrics.describe(np.array(labels), predicted).auroc,
        "val/loss": log_loss(labels, predicted, labels=[0, 1]),
        "val/macro_f1": metrics.macro_f1(np.array(labels), metrics.decide(predicted)),
    }
    return ",".join(row) + "\n" + ",".join(f"{value:.6g}" for value in row.values()) + "\n"


def _predictions(split: str, cases: Sequence[ReadyCase], log_odds: np.ndarray) -> list[PredictionRow]:
    from scipy.special import expit

    return [
        {
            "case_key": case.case_key,
            "patient_key": case.patient_key,
            "split": split,
            "label": case.label,
            "logit_recurrence": 0.0,
            "logit_rice": float(value),
            "prob_rice": float(expit(value)),
        }
        for case, value in zip(cases, log_odds, strict=True)
    ]
