"""What can be read off a phantom? Keys in, macro-F1 of the causal model and of regressions on numbers out.

    python benchmarks/phantom_truth.py difficulty=hard patients=5000 [seed=0] [jobs=2] [size=28] [spacing_mm=7]

Each patient is drawn once, and its numbers go to outputs/phantom_truth/: a run that was interrupted goes on where it
was. Printed are, with 95% intervals over the patients drawn,

- per modality set, the decision of the causal model (a bound: it reads the quantities themselves, without error),
- ten-fold cross-validated logistic regressions on dose-volume numbers, on numbers of the lesion that is found
  automatically (images.enhancement) or is given (the true mask), and on both kinds together
  (ricenet.cases.case_numbers has them all).
"""

import csv
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from ricenet.cases.case_numbers import names_of, numbers_of_case
from ricenet.images.dose_limits import DOSE_SCALE_GY
from ricenet.images.enhancement import Lesion, find_lesion
from ricenet.phantoms.causal_model import Draw, draw_cohort, modality_sets
from ricenet.phantoms.ready_volumes import draw_ready_volumes
from ricenet.statistics.metrics import decide, macro_f1_estimate
from ricenet.training.metadata_only import balanced_regression, fill_missing

OUT = Path("outputs/phantom_truth")
DOSE_NUMBERS = names_of("dose_volume")
LESION_NUMBERS = names_of("lesion_dose", "lesion_image")
COLUMNS = (
    *DOSE_NUMBERS,
    *(f"{mask}_{name}" for mask in ("found", "true") for name in LESION_NUMBERS),
    "found_within_15_mm",
)
FOLDS, RESAMPLES = 10, 2000
NEAR_MM = 15.0


@dataclass(frozen=True)
class Keys:
    difficulty: str = "standard"
    patients: int = 600
    seed: int = 0
    jobs: int = 2
    size: int = 28
    spacing_mm: float = 7.0


def main(keys: Keys) -> None:
    draws = draw_cohort(keys.patients, keys.seed, difficulty=keys.difficulty)
    table = read_or_draw(draws, keys)
    labels = np.array([draw.label for draw in draws])
    print(f"difficulty={keys.difficulty}, {keys.patients} patients, seed {keys.seed}; macro-F1 [95%]")
    for name, channels in modality_sets().items():
        decisions = np.array([int(draw.bayes_llr(channels) > 0) for draw in draws])
        print(f"causal model, {name:<24}{cell(labels, decisions)}")
    for name, columns in feature_sets().items():
        probabilities = cross_validated(table[:, [COLUMNS.index(column) for column in columns]], labels, keys.seed)
        print(f"regression, {name:<26}{cell(labels, decide(probabilities))}")
    print(f"the lesion found lies within {NEAR_MM:g} mm of the true one in {np.mean(table[:, -1]):.1%} of the patients")


def feature_sets() -> dict[str, tuple[str, ...]]:
    """Name of a regression -> its columns."""
    found, true = (tuple(f"{mask}_{name}" for name in names_of("lesion_dose")) for mask in ("found", "true"))
    looks = tuple(f"found_{name}" for name in names_of("lesion_image"))
    return {
        "dose-volume": DOSE_NUMBERS,
        "dose at the lesion found": found,
        "dose-volume and found": (*DOSE_NUMBERS, *found),
        "found, and how it looks": (*DOSE_NUMBERS, *found, *looks),
        "dose at the true lesion": true,
        "dose-volume and true": (*DOSE_NUMBERS, *true),
    }


def cross_validated(numbers: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Probability of rice of each patient, by the regression of the other nine folds."""
    splits = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    model = balanced_regression(fill_missing())
    return np.asarray(cross_val_predict(model, numbers, labels, cv=splits, method="predict_proba")[:, 1])


def cell(labels: np.ndarray, decisions: np.ndarray) -> str:
    estimate = macro_f1_estimate(labels, decisions, np.arange(len(labels)), RESAMPLES, seed=0)
    low, high = estimate.interval or (float("nan"), float("nan"))
    return f"{estimate.value:.3f} [{low:.3f}, {high:.3f}]"


def read_or_draw(draws: list[Draw], keys: Keys) -> np.ndarray:
    """(patients, COLUMNS), of the file where it has them."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{keys.difficulty}-{keys.patients}-seed{keys.seed}-{keys.size}x{keys.spacing_mm:g}mm.csv"
    rows = read_rows(path)
    draw_numbers = partial(numbers_of, size=keys.size, spacing_mm=keys.spacing_mm)
    with ProcessPoolExecutor(keys.jobs) as pool, path.open("a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        for row in pool.map(draw_numbers, draws[len(rows) :]):
            writer.writerow(row)
            stream.flush()
            rows.append(row)
            if len(rows) % 50 == 0:
                print(f"{len(rows)} of {len(draws)} patients", file=sys.stderr)
    return np.array(rows)


def read_rows(path: Path) -> list[list[float]]:
    """The patients of an interrupted run; the file is left without a line that was cut off, or new with its header."""
    header = ",".join(COLUMNS)
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    if lines[:1] != [header]:
        lines = [header]
    path.write_text("\n".join([*lines, ""]))
    return [[float(cell) for cell in line.split(",")] for line in lines[1:]]


def numbers_of(draw: Draw, size: int, spacing_mm: float) -> list[float]:
    """COLUMNS of one patient; nan where it has no such number."""
    ready = draw_ready_volumes(draw, size, spacing_mm)
    images = {**ready.images, "rd": ready.images["rd"] * DOSE_SCALE_GY}
    found = find_lesion(ready.images, ready.brain, spacing_mm)
    of_found, of_true = (
        numbers_of_case(images, ready.brain, spacing_mm, lesion, ready.patient.prescription_gy)
        for lesion in (found, Lesion(ready.lesion, "mask", None))
    )
    numbers = [
        *(of_found[name] for name in DOSE_NUMBERS),
        *(of_mask.get(name, np.nan) for of_mask in (of_found, of_true) for name in LESION_NUMBERS),
        middles_apart_mm(found.mask, ready.lesion, spacing_mm) <= NEAR_MM,
    ]
    return [float(number) for number in numbers]


def middles_apart_mm(mask: np.ndarray, other: np.ndarray, spacing_mm: float) -> float:
    """Infinite where one is empty."""
    if not (mask.any() and other.any()):
        return np.inf
    middles = [np.argwhere(each).mean(axis=0) for each in (mask, other)]
    return float(np.linalg.norm(middles[0] - middles[1]) * spacing_mm)


def read_keys(arguments: list[str]) -> Keys:
    types = {field.name: field.type for field in fields(Keys)}
    given = dict(argument.partition("=")[::2] for argument in arguments)
    if unknown := given.keys() - types.keys():
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; the keys are {', '.join(types)}")
    return Keys(**{name: types[name](value) for name, value in given.items()})  # type: ignore[operator, arg-type]


if __name__ == "__main__":
    main(read_keys(sys.argv[1:]))
