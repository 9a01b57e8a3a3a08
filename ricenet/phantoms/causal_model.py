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

`difficulty=hard` has the same quantities with smaller shifts, so that lesions of both classes lie inside and outside
the high dose, and hides them behind what ricenet.phantoms.appearance draws apart from the label. In a lesion without a
core nothing shows the core's brightness: there the score leaves it out. The rest of the appearance only makes the
quantities harder to read off the images, so that the score stays the exact one of who reads them without error, and an
upper bound of every classifier of images.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ricenet import MODALITIES
from ricenet.phantoms.appearance import STANDARD_APPEARANCE, Appearance, deal_scanners, draw_appearance

# name: (mean, SD, shift of RICE against recurrence in SD); mm, core brightness in units of white matter
QUANTITIES = {
    "depth_mm": (0.0, 4.0, 2.6),
    "hot_spot_mm": (13.0, 4.0, 1.9),
    "residual_mm": (7.0, 2.5, -1.1),
    "core_brightness": (0.9, 0.25, -0.5),
    "cavity_mm": (14.0, 2.5, 0.0),
    "distance_mm": (22.0, 5.0, 0.0),
}
HARD_QUANTITIES = {
    "depth_mm": (0.0, 4.0, 2.1),
    "hot_spot_mm": (13.0, 4.0, 1.0),
    "residual_mm": (7.0, 2.5, -0.9),
    "core_brightness": (0.9, 0.25, -0.6),
    "cavity_mm": (14.0, 2.5, 0.0),
    "distance_mm": (22.0, 6.0, 0.0),
}
QUANTITIES_OF = {"standard": QUANTITIES, "hard": HARD_QUANTITIES}  # by difficulty
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
SCANNER_STREAM = 7


@dataclass(frozen=True)
class Draw:
    """One patient's label (0 recurrence, 1 rice), split, physical quantities and look; `seed` fixes everything else."""

    label: int
    split: str
    seed: int
    quantities: dict[str, float]
    appearance: Appearance = STANDARD_APPEARANCE
    difficulty: str = "standard"

    def bayes_llr(self, modalities: tuple[str, ...]) -> float:
        """The score of what `modalities` show of this patient; see bayes_llr."""
        hidden = () if self.appearance.has_core else ("core_brightness",)
        return bayes_llr(self.quantities, modalities, self.difficulty, hidden)


def draw_cohort(patients: int, seed: int, swap_label_effects: bool = False, difficulty: str = "standard") -> list[Draw]:
    """Draw `patients` patients; class counts per split are exact shares, not random.

    With `swap_label_effects` the labels stay and each class gets the other's quantities: a classifier that reads only
    what the causal model states must then predict the other way round.
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
            for column, (name, (mean, sd, shift)) in enumerate(QUANTITIES_OF[difficulty].items())
        }
        draws.append(Draw(label, splits[source], int(seed * 100_003 + patient), quantities, difficulty=difficulty))
    return draws if difficulty == "standard" else _with_appearance(draws, seed)


def _with_appearance(draws: list[Draw], seed: int) -> list[Draw]:
    pairs = deal_scanners([draw.label for draw in draws], np.random.default_rng([seed, len(draws), SCANNER_STREAM]))
    return [
        replace(draw, appearance=draw_appearance(draw.seed, scanners))
        for draw, scanners in zip(draws, pairs, strict=True)
    ]


def _shares(n: int, rice_share: float) -> list[int]:
    n_rice = round(rice_share * n)
    return [0] * (n - n_rice) + [1] * n_rice


def bayes_llr(
    quantities: dict[str, float],
    modalities: tuple[str, ...],
    difficulty: str = "standard",
    hidden: tuple[str, ...] = (),
) -> float:
    """log p(what `modalities` show | rice) - log p(... | recurrence), without prior: above 0 means rice.

    Linear discriminant of two Gaussians with one covariance, in the space of the shown linear functions. What shows
    nothing but a quantity of `hidden` is left out.
    """
    centred = np.array([quantities[name] - mean for name, (mean, _, _) in QUANTITIES_OF[difficulty].items()])
    return float(_discriminant(modalities, difficulty, hidden) @ centred)


@cache
def _discriminant(modalities: tuple[str, ...], difficulty: str, hidden: tuple[str, ...]) -> NDArray[np.float64]:
    """Weights of the centred quantities in the log-likelihood ratio."""
    of_set = [function for modality in modalities for function in SHOWN_BY[modality]]
    visible = [function for function in of_set if not function.keys() <= {*hidden}]
    functions = np.array([_row(function) for function in visible])
    _, sds, shifts = map(np.array, zip(*QUANTITIES_OF[difficulty].values(), strict=True))
    covariance = functions @ np.diag(sds**2) @ functions.T
    return np.asarray((functions @ (shifts * sds)) @ np.linalg.pinv(covariance) @ functions, dtype=np.float64)


def bayes_sensitivity(modalities: tuple[str, ...], difficulty: str = "standard", hidden: tuple[str, ...] = ()) -> float:
    """Sensitivity (= specificity) of the Bayes rule at equal priors: Phi(Mahalanobis distance / 2)."""
    from scipy.stats import norm

    step = {name: mean + sd * shift for name, (mean, sd, shift) in QUANTITIES_OF[difficulty].items()}
    return float(norm.cdf(np.sqrt(bayes_llr(step, modalities, difficulty, hidden)) / 2))


def _row(function: dict[str, float]) -> NDArray[np.float64]:
    return np.array([function.get(name, 0.0) for name in QUANTITIES])


def modality_sets() -> dict[str, tuple[str, ...]]:
    """The paper's seven combinations, {"rd_event": ("event", "rd"), ...}: rd first in names, last in channels."""
    sets = {}
    for code in range(1, 2 ** len(MODALITIES)):
        channels = tuple(name for bit, name in enumerate(MODALITIES) if code >> bit & 1)
        sets["_".join(sorted(channels, key=lambda name: (name != "rd", MODALITIES.index(name))))] = channels
    return sets
