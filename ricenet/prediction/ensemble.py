"""A model folder with its networks loaded, and what they say of one volume: probabilities, votes and spread."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ricenet import LABELS
from ricenet.cases.alignment import PreprocessingSettings
from ricenet.errors import InvalidInput
from ricenet.images.brain import check_backend
from ricenet.images.dose_limits import DoseLimits, preset
from ricenet.prediction.model_folder import Model
from ricenet.prediction.prediction_record import CalibratedProbability, FoldSummary
from ricenet.statistics.metrics import decide, majority_vote
from ricenet.statistics.recalibration import RecalibrationCurve, recalibrate

log = logging.getLogger(__name__)
RICE = LABELS.index("rice")


@dataclass(frozen=True)
class Ensemble:
    """A model folder ready to predict; `networks`: of the folds, in eval mode on `device`."""

    model: Model
    networks: Sequence[nn.Module]
    device: str


@dataclass(frozen=True)
class OcclusionSettings:
    """How the occlusion map is made; the keys of conf/predict.yaml. `dicom`: also write it as DICOM."""

    cube_mm: float
    stride_mm: float
    refine_mm: float | None
    precision: str
    batch_size: int
    memory_gb: float
    dicom: bool = False


@dataclass(frozen=True)
class PredictionSettings:
    """How a case is preprocessed and explained.

    Attributes:
        occlusion: None makes no occlusion map.
        dose_limits: of its dose.
    """

    preprocessing: PreprocessingSettings
    occlusion: OcclusionSettings | None
    dose_limits: DoseLimits = field(default_factory=preset)


def load_ensemble(model: Model, device: str) -> Ensemble:
    """Load the folds' networks on `device` (cpu, cuda, ...)."""
    return Ensemble(model, [network.to(device) for network in model.networks()], device)


def preprocessing_settings(
    model: Model, brain: str | None, device: str, hdbet2_env: Path | None = None
) -> PreprocessingSettings:
    """How the model's training cases were preprocessed, with this machine's device.

    Args:
        brain: another way to find the brain (ricenet.images.brain.BACKENDS); None: that of the training cases.
        device: of the brain extraction: auto, cpu or cuda.
        hdbet2_env: environment with hd-bet, for `hdbet2`.

    Raises:
        WrongUsage: the brain extraction is not installed here.
    """
    of_training = model.record.preprocessing
    backend = brain or of_training.brain
    if backend != of_training.brain:
        log.warning("brain=%s: the model's training cases had brain=%s", backend, of_training.brain)
    found_device, software = check_backend(backend, device, hdbet2_env)
    return replace(
        of_training,
        brain=backend,
        device=found_device,
        brain_software=software,
        hdbet2_env=None if hdbet2_env is None else str(hdbet2_env),
    )


@torch.inference_mode()
def fold_logits(networks: Iterable[nn.Module], volume: Tensor) -> list[Tensor]:
    """(2,) float64 logits of each network, in eval mode, for one (C, X, Y, Z) float32 volume."""
    return [network(volume[None]).double()[0] for network in networks]


def probabilities(logits: Iterable[Tensor]) -> list[float]:
    """P(rice) of each network, of their (2,) float64 logits.

    Raises:
        InvalidInput: a probability that is not finite.
    """
    folds = [float(pair.softmax(0)[RICE]) for pair in logits]
    if not np.isfinite(folds).all():
        raise InvalidInput(
            "the probability of a network is not finite",
            "check the images for damage, then the weights of the model",
            code="answer.finite",
        )
    return folds


def summarise(folds: Sequence[float], curve: RecalibrationCurve | None) -> FoldSummary:
    """Take the folds' P(rice) together; `curve`: of the model folder."""
    mean = float(np.mean(folds))
    votes = decide(np.array(folds))
    return FoldSummary(
        predicted=LABELS[int(decide(np.array([mean]))[0])],
        probability=mean,
        folds=tuple(folds),
        spread=float(np.std(folds, ddof=1)) if len(folds) > 1 else None,
        votes={name: int((votes == label).sum()) for label, name in enumerate(LABELS)},
        vote=LABELS[int(majority_vote(np.array(folds)[:, None])[0])],
        calibrated=None if curve is None else _calibrated(curve, mean),
    )


def _calibrated(curve: RecalibrationCurve, probability: float) -> CalibratedProbability:
    value, interval = recalibrate(curve, probability)
    return CalibratedProbability(probability=value, interval=interval, n=curve.n)
