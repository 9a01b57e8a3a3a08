"""The phantom's causal model: a class label in, the physical quantities of a patient out; and the Bayes-optimal score.

The label acts on four of six Gaussian quantities, by shifting their means; given the label all six are independent.
What a modality shows is a linear function of them, so log p(x | RICE) / p(x | recurrence) is exact for every modality
set, as far as images show nothing but these quantities (the pixels add noise, so a classifier can only do worse).

| quantity | shown by | shift (SD) | reading |
| --- | --- | --- | --- |
| depth: lesion centre inside (+) or outside (-) the 50% isodose | rd with event | rice deeper | lesion meets dose |
| hot spot radius | rd | rice larger | dose alone is informative |
| residual enhancement at the cavity, before radiotherapy | post | recurrence larger | unresected tumour |
| core brightness of the new lesion | event | recurrence brighter | solid against necrotic, weak |
| cavity radius, distance lesion to cavity | post + event, event | none | nuisance |

The high dose reaches `cavity radius + distance + depth` from the cavity's centre, which the dose map shows: dose alone
sees the depth blurred by both nuisances, the post-OP MRI takes away one, the event MRI both.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ricenet import MODALITIES

# name: (mean, SD, shift of RICE against recurrence in SD); mm, core brightness in units of white matter
QUANTITIES = {
    "depth_mm": (0.0, 4.0, 2.6),
    "hot_spot_mm": (13.0, 4.0, 1.9),
    "residual_mm": (7.0, 2.5, -1.1),
    "core_brightness": (0.9, 0.25, -0.5),
    "cavity_mm": (14.0, 2.5, 0.0),
    "distance_mm": (22.0, 5.0, 0.0),
}
_REACH = {"cavity_mm": 1.0, "distance_mm": 1.0, "depth_mm": 1.0}
SHOWN_BY = {
    "post": ({"residual_mm": 1.0}, {"cavity_mm": 1.0}),
    "event": ({"core_brightness": 1.0}, {"cavity_mm": 1.0}, {"distance_mm": 1.0}),
    "rd": ({"hot_spot_mm": 1.0}, _REACH),
}
# Class counts of the paper: 48 + 32 for cross-validation, 7 + 5 held out; other cohort sizes keep these shares.
CV_SHARE = 80 / 92
RICE_SHARE = 32 / 80
RICE_SHARE_TEST = 5 / 12


@dataclass(frozen=True)
class Draw:
    """One patient's label (0 recurrence, 1 rice), split and physical quantities; `seed` fixes everything else."""

    label: int
    split: str
    seed: int
    quantities: dict[str, float]


def draw_cohort(patients: int, seed: int, swap_label_effects: bool = False) -> list[Draw]:
    """Draw `patients` patients; class counts per split are exact shares, not random.

    With `swap_label_effects` the labels stay and each class gets the other's quantities: a classifier that reads only
    what the causal model states must then answer the other way round.
    """
    rng = np.random.default_rng([seed, patients])
    n_cv = round(CV_SHARE * patients)
    labels = _shares(n_cv, RICE_SHARE) + _shares(patients - n_cv, RICE_SHARE_TEST)
    splits = ["cv"] * n_cv + ["test"] * (patients - n_cv)
    noise = rng.standard_normal((patients, len(QUANTITIES)))
    order = rng.permutation(patients)
    draws = []
    for patient, source in enumerate(order):
        label = labels[source]
        sign = 1 if label != swap_label_effects else -1
        quantities = {
            name: float(mean + sd * (noise[source, column] + sign * shift / 2))
            for column, (name, (mean, sd, shift)) in enumerate(QUANTITIES.items())
        }
        draws.append(Draw(label, splits[source], int(seed * 100_003 + patient), quantities))
    return draws


def _shares(n: int, rice_share: float) -> list[int]:
    n_rice = round(rice_share * n)
    return [0] * (n - n_rice) + [1] * n_rice


def bayes_llr(quantities: dict[str, float], modalities: tuple[str, ...]) -> float:
    """log p(what `modalities` show | rice) - log p(... | recurrence), without prior: above 0 means rice.

    Linear discriminant of two Gaussians with one covariance, in the space of the shown linear functions.
    """
    centred = np.array([quantities[name] - mean for name, (mean, _, _) in QUANTITIES.items()])
    return float(_discriminant(modalities) @ centred)


@cache
def _discriminant(modalities: tuple[str, ...]) -> NDArray[np.float64]:
    """Weights of the centred quantities in the log-likelihood ratio."""
    functions = np.array([_row(function) for modality in modalities for function in SHOWN_BY[modality]])
    _, sds, shifts = map(np.array, zip(*QUANTITIES.values(), strict=True))
    covariance = functions @ np.diag(sds**2) @ functions.T
    return (functions @ (shifts * sds)) @ np.linalg.pinv(covariance) @ functions


def bayes_sensitivity(modalities: tuple[str, ...]) -> float:
    """Sensitivity (= specificity) of the Bayes rule at equal priors: Phi(Mahalanobis distance / 2)."""
    from scipy.stats import norm

    step = {name: mean + sd * shift for name, (mean, sd, shift) in QUANTITIES.items()}
    return float(norm.cdf(np.sqrt(bayes_llr(step, modalities)) / 2))


def _row(function: dict[str, float]) -> NDArray[np.float64]:
    return np.array([function.get(name, 0.0) for name in QUANTITIES])


def modality_sets() -> dict[str, tuple[str, ...]]:
    """The paper's seven combinations, {"rd_event": ("event", "rd"), ...}: rd first in names, last in channels."""
    sets = {}
    for code in range(1, 2 ** len(MODALITIES)):
        channels = tuple(name for bit, name in enumerate(MODALITIES) if code >> bit & 1)
        sets["_".join(sorted(channels, key=lambda name: (name != "rd", MODALITIES.index(name))))] = channels
    return sets
