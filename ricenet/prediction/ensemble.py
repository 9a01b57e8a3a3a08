"""What a trained ensemble says of one volume: networks and a volume in; probabilities, votes and spread out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ricenet import LABELS
from ricenet.errors import InvalidInput
from ricenet.statistics.metrics import decide, majority_vote
from ricenet.statistics.recalibration import recalibrate

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


def summarise(folds: Sequence[float], calibration: Mapping[str, Any] | None) -> dict[str, Any]:
    """The folds' P(rice) taken together, as it stands in prediction.json.

    Args:
        calibration: of the model folder (ricenet.statistics.recalibration); None where there is none.

    Returns:
        probability: their mean; predicted: the label that it prefers; spread: their standard deviation (n - 1; None
        for a single one); votes: how many prefer each label; vote: the label that most do (a tie goes to the mean);
        calibrated: probability and interval on the scale of the out-of-fold answers, None where there is none.
    """
    mean, votes = float(np.mean(folds)), decide(np.array(folds))
    return {
        "predicted": LABELS[int(decide(np.array([mean]))[0])],
        "probability": mean,
        "folds": list(folds),
        "spread": float(np.std(folds, ddof=1)) if len(folds) > 1 else None,
        "votes": {name: int((votes == label).sum()) for label, name in enumerate(LABELS)},
        "vote": LABELS[int(majority_vote(np.array(folds)[:, None])[0])],
        "calibrated": None if calibration is None else _calibrated(calibration, mean),
    }


def _calibrated(calibration: Mapping[str, Any], probability: float) -> dict[str, Any]:
    value, interval = recalibrate(calibration, probability)
    return {"probability": value, "interval": list(interval), "n": calibration["n"]}
