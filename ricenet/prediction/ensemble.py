"""What a trained ensemble says of one volume: networks and a volume in; probabilities, votes and spread out."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ricenet import LABELS
from ricenet.errors import InvalidInput
from ricenet.prediction.prediction_record import CalibratedProbability, FoldSummary
from ricenet.statistics.metrics import decide, majority_vote
from ricenet.statistics.recalibration import RecalibrationCurve, recalibrate

RICE = LABELS.index("rice")


@torch.inference_mode()
def probabilities(networks: Iterable[nn.Module], volume: Tensor) -> list[float]:
    """P(rice) of each network, in eval mode, for one (C, X, Y, Z) float32 volume.

    Raises:
        InvalidInput: an answer that is not finite.
    """
    found = [float(network(volume[None]).double().softmax(1)[0, RICE]) for network in networks]
    if not np.isfinite(found).all():
        raise InvalidInput("a model's answer is not finite", "the volume or the weights are damaged", "answer.finite")
    return found


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
