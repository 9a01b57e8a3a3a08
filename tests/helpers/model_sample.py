"""A made-up model.json, for the tests of what is made of one."""

from typing import Any

from ricenet import LABELS
from ricenet.cases.alignment import PreprocessingSettings
from ricenet.prediction.model_json import ModelEvaluation, ModelRecord, NetworkSettings, TrainingCohort

PREPROCESSING = PreprocessingSettings(
    brain="mask", hdbet_models=5, hdbet_tta=True, device="cpu", reference="post", brain_on="reference",
    registration="quick", spacing_mm=3.0, size=32, dose_scaling="fixed", seed=0,
)  # fmt: skip
NETWORK = {
    "architecture": "resnet18", "width": 4, "conv1_size": 5, "conv1_stride": 1, "max_pool": True, "dropout": 0.2,
    "pretrained": None,
}  # fmt: skip


def model_record(network: dict[str, Any] | None = None, **changed: Any) -> ModelRecord:
    """Two folds of a narrow network for event and dose; `network`: what differs from NETWORK."""
    fields = {
        "version": 1,
        "name": "rd_event",
        "channels": ("event", "rd"),
        "labels": LABELS,
        "network": NetworkSettings(**NETWORK | (network or {})),
        "folds": (0, 3),
        "n_folds": 4,
        "preprocessing": PREPROCESSING,
        "preprocessing_source": "case folders",
        "calibration": None,
        "calibration_reason": "too few cases",
        "ranges": {},
        "cohort": TrainingCohort(cases=80, patients=79, recurrence=48, rice=32, phantom=False),
        "evaluation": ModelEvaluation(
            oof_macro_f1=0.6, oof_interval=None, auroc=0.7, auroc_interval=None, n=80, seeds=1
        ),
        "versions": {},
    }
    return ModelRecord(**fields | changed)
