"""How many patients does a recipe need? Phantom cohorts in; learning curves beside rows that need no network out.

    python benchmarks/learning.py                                          the table and the figure of docs/learning.md
    python benchmarks/learning.py recipes=paper,ricenet n=80,348 cohorts=37,38,39 seeds=0,1 difficulty=hard

Each training sees the first n patients of a phantom cohort and is scored on TEST others. A finished training is kept
under outputs/learning/ and not repeated: stop this at any time and run it again. A recipe chosen on some cohort seeds
has to be judged on others: 101 and 102 were used to choose experiment=ricenet, the default ones were not.

Keys: recipes (names of RECIPES), n, sets, cohorts (seeds of the phantom), seeds (of the training), difficulty, jobs,
against (the recipe or row that all are compared with, on the same patients).
"""

import csv
import hashlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from bench import machine, versions
from numpy.typing import NDArray
from tqdm import tqdm

from ricenet.cases.case_numbers import Group, names_of
from ricenet.statistics.metrics import macro_f1

OUT = Path("outputs/learning")
TRAINING, VALIDATION, TEST = 600, 8, 400  # patients of a cohort; validation decides nothing, but a fold has one
OURS = ("experiment=phantom_ricenet",)
RECIPES: dict[str, tuple[str, ...]] = {
    "paper": ("experiment=phantom_ablation", "batch_norm=running", "steps=1232", "model.width=12"),  # of the same size
    "ricenet": OURS,
    # The recipe's ablation: one part off at a time.
    "no crop": (*OURS, "crop=none"),
    "random crop": (*OURS, "crop=random"),
    "lesion crop in every set": (*OURS, "crop=lesion", "crop.everywhere=true"),
    "no isodoses": (*OURS, "inputs=difference"),
    "no difference": (*OURS, "inputs=isodoses"),
    "last stage pooled": (*OURS, "model.pool=last"),
    "running batch norm": (*OURS, "batch_norm=running"),
    "dose in Gy": (*OURS, "inputs.relative_dose=false"),
    "no dropout": (*OURS, "model.dropout=0"),
    "weight average": (*OURS, "averaging=ema"),
    "half of the steps": (*OURS, "steps=616"),
    "two thirds of the width": (*OURS, "model.width=8"),
    "shuffled labels": (*OURS, "control=shuffled_labels"),
    "doses fused": (*OURS, "model.numbers=[dose_volume,lesion_dose]"),
    "numbers fused": (*OURS, "model.numbers=[dose_volume,lesion_dose,lesion_image]"),
}
NUMBERS: dict[str, tuple[tuple[Group, ...], bool]] = {  # row -> its groups of numbers, whether at a random place
    "dose volume": (("dose_volume",), False),
    "dose volume and lesion": (("dose_volume", "lesion_dose"), False),
    "dose volume and a random place": (("dose_volume", "lesion_dose"), True),
}
BAYES = "Bayes"
ROWS = (*NUMBERS, BAYES)
DRAWS = 2000  # of the bootstrap over patients


@dataclass(frozen=True)
class Training:
    """One point of the curves."""

    recipe: str
    modalities: str
    n: int
    cohort: int
    seed: int
    difficulty: str


@dataclass(frozen=True)
class Scored:
    """P(rice) of the test patients of a cohort, or 0 and 1 where a row decides; and their labels."""

    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]

    @property
    def decisions(self) -> NDArray[np.bool_]:
        return self.probabilities > 0.5


def main(**keys: str) -> None:
    recipes = keys.pop("recipes", "paper,ricenet").split(",")
    sizes = numbers(keys.pop("n", "40,80,160,348,600"))
    sets = keys.pop("sets", "rd_post_event").split(",")
    cohorts = numbers(keys.pop("cohorts", "37,38,39"))
    seeds = numbers(keys.pop("seeds", "0,1"))
    difficulty = keys.pop("difficulty", "standard")
    jobs = int(keys.pop("jobs", "2"))
    against = keys.pop("against", ROWS[0])
    if against not in (*recipes, *NUMBERS):
        sys.exit(f"against={against}: expected one of {', '.join((*recipes, *NUMBERS))}")
    unknown = [*keys, *(recipe for recipe in recipes if recipe not in RECIPES)]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; recipes are {', '.join(RECIPES)}; keys: see --help")
    for cohort in cohorts:
        draw_cohort(cohort, difficulty, jobs)
    trainings = [Training(*point, difficulty) for point in product(recipes, sets, sizes, cohorts, seeds)]
    todo = [training for training in trainings if not (folder_of(training) / "predictions.csv").is_file()]
    with ProcessPoolExecutor(jobs) as pool:
        list(tqdm(pool.map(train, todo), total=len(todo), desc="trainings", disable=None))
    results: dict[tuple[str, str, int], dict[tuple[int, int], Scored]] = defaultdict(dict)
    for one in trainings:
        results[one.recipe, one.modalities, one.n][one.cohort, one.seed] = read_scored(one)
    for n, cohort in product(sizes, cohorts):
        for row, scored in rows(cohort, difficulty, n, sets):
            results[row, "", n][cohort, 0] = scored
    table = as_table(results, against)
    print(table)
    name = difficulty if recipes == ["paper", "ricenet"] else f"{difficulty}-{len(recipes)}-recipes"
    write_results(OUT / name, results, table)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def cohort_folder(cohort: int, difficulty: str) -> Path:
    return OUT / f"cohort-{difficulty}-{cohort}"


def draw_cohort(cohort: int, difficulty: str, jobs: int) -> None:
    from ricenet.command.schemas import PhantomConfig, compose
    from ricenet.phantom import MARKER, add_numbers, write_phantom

    folder = cohort_folder(cohort, difficulty)
    if (folder / MARKER).is_file():
        return add_numbers(folder, jobs)  # where an older version drew it
    overrides = [f"out={folder}", "format=cases", f"patients={TRAINING + VALIDATION + TEST}", f"seed={cohort}"]
    drawn = asdict(compose("phantom", PhantomConfig, [*overrides, f"difficulty={difficulty}"]))
    keys = {name: value for name, value in drawn.items() if value and name not in ("out", "jobs")}
    write_phantom(folder, jobs=jobs, **{"swap_label_effects": False, **keys})


def settings_of(training: Training) -> "tuple[object, str]":
    """The config of a training, and a hash of all in it that decides."""
    from ricenet.command.schemas import TrainConfig, compose

    overrides = [
        *RECIPES[training.recipe], f"+modalities={training.modalities}", f"seed={training.seed}",
        f"cases={cohort_folder(training.cohort, training.difficulty)}", f"run={OUT}", "logger=csv",
    ]  # fmt: skip
    cfg = compose("train", TrainConfig, overrides)
    deciding = asdict(cfg)
    if not cfg.model.numbers:  # as before there were any: what was trained then is found
        del deciding["model"]["numbers"]
    text = json.dumps(deciding, sort_keys=True)
    return cfg, hashlib.sha256(text.encode()).hexdigest()[:10]


def folder_of(training: Training) -> Path:
    _, digest = settings_of(training)
    place = f"{training.recipe.replace(' ', '_')}-{training.modalities}-n{training.n}-seed{training.seed}-{digest}"
    return OUT / "runs" / f"{training.difficulty}-{training.cohort}" / place


def train(training: Training) -> None:
    """Train with the code of ricenet.train, on the first n patients."""
    from ricenet.cohort.shuffled_labels import shuffled
    from ricenet.command.row_names import SHUFFLED_LABELS
    from ricenet.training.fit import epochs_of_steps, fit
    from ricenet.training.fused_numbers import read_fused_numbers

    cfg, _ = settings_of(training)
    if cfg.steps is not None:
        cfg = replace(cfg, epochs=epochs_of_steps(cfg, training.n, cfg.steps))
    folds = learning_folds(cohort_folder(training.cohort, training.difficulty), training.n)
    if cfg.control == SHUFFLED_LABELS:
        folds = shuffled(folds, cfg.seed)
    folder = folder_of(training)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.process_time()
    numbers = None
    if cfg.model.numbers:
        table = read_fused_numbers(Path(cfg.cases), folds.cases, cfg.model.numbers, cfg.modalities.channels, cfg.row)
        numbers = table.seen(folds.training(0))
    fit(cfg, Path(cfg.cases), folds, folder, owner="learning", number=0, numbers=numbers)
    (folder / "seconds.txt").write_text(f"{time.process_time() - started:.1f}\n")
    for checkpoint in folder.glob("*.ckpt"):
        checkpoint.unlink()


def learning_folds(cases: Path, n: int):
    """The first n patients to train on, TEST others as the test split."""
    from ricenet.cohort.folds import Folds
    from ricenet.cohort.ready_cases import read_cases

    ready = read_cases(cases)
    training = [replace(case, split="cv") for case in ready[:n]]
    validation = [replace(case, split="cv") for case in ready[TRAINING : TRAINING + VALIDATION]]
    test = [replace(case, split="test") for case in ready[-TEST:]]
    fold_of = {case.case_key: 1 for case in training} | {case.case_key: 0 for case in validation}
    return Folds(2, 0, [*training, *validation, *test], fold_of, f"first {n}")


def read_scored(training: Training) -> Scored:
    from ricenet.training.predictions import read_predictions

    rows = [row for row in read_predictions(folder_of(training)) if row["split"] == "test"]
    rows.sort(key=lambda row: row["case_key"])
    return Scored(np.array([row["prob_rice"] for row in rows]), np.array([row["label"] for row in rows]))


def rows(cohort: int, difficulty: str, n: int, sets: Sequence[str]) -> Iterator[tuple[str, Scored]]:
    """The rows beside the networks, on the same patients."""
    from ricenet.cases.numbers_table import read_numbers
    from ricenet.evaluation.baselines import read_bayes_decisions, regression

    cases = cohort_folder(cohort, difficulty)
    folds = learning_folds(cases, n)
    test = sorted(folds.test(), key=lambda case: case.case_key)
    place = {case.case_key: index for index, case in enumerate(folds.test())}
    labels = np.array([case.label for case in test])
    for name, (groups, random_place) in NUMBERS.items():
        table = read_numbers(cases, folds.cases, names_of(*groups), random_place=random_place)
        rice = regression(replace(folds, n_folds=1), table)[0].test[0]
        yield name, Scored(np.array([rice[place[case.case_key]] for case in test]), labels)
    decisions = read_bayes_decisions(cases, replace(folds, cases=test))
    for name in sets:
        if name in decisions:
            yield (
                f"{BAYES} ({name})",
                Scored(np.array([float(decisions[name][case.case_key]) for case in test]), labels),
            )


Results = Mapping[tuple[str, str, int], Mapping[tuple[int, int], Scored]]


def mean_score(runs: Mapping[tuple[int, int], Scored]) -> float:
    return float(np.mean([macro_f1(run.labels, run.decisions) for run in runs.values()]))


def interval(runs: Mapping[tuple[int, int], Scored], others: Mapping[tuple[int, int], Scored] | None = None):
    """95% of the mean score, or of the difference to `others`, over resampled test patients of each cohort."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(DRAWS):
        chosen = {cohort: rng.integers(TEST, size=TEST) for cohort in sorted({cohort for cohort, _ in runs})}
        values.append(_resampled(runs, chosen) - (_resampled(others, chosen) if others else 0.0))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _resampled(runs: Mapping[tuple[int, int], Scored], chosen: Mapping[int, NDArray[np.int64]]) -> float:
    scores = [macro_f1(run.labels[chosen[cohort]], run.decisions[chosen[cohort]]) for (cohort, _), run in runs.items()]
    return float(np.mean(scores))


def as_table(results: Results, against: str) -> str:
    """One line for each curve and n: mean macro-F1 with its interval, the cohorts' means, the difference to another."""
    lines = [
        f"| recipe or row | set | n | macro-F1 [95%] | by cohort | against {against} |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (name, modalities, n), runs in sorted(results.items(), key=lambda item: (item[0][1], item[0][2], item[0][0])):
        low, high = interval(runs)
        cohorts = sorted({cohort for cohort, _ in runs})
        by_cohort = [mean_score({key: run for key, run in runs.items() if key[0] == cohort}) for cohort in cohorts]
        difference = ""
        other = results.get((against, "" if against in ROWS else modalities, n))
        if other and name != against:
            least, most = interval(runs, other)
            difference = f"{mean_score(runs) - mean_score(other):+.3f} [{least:+.3f}, {most:+.3f}]"
        named = " ".join(f"{score:.3f}" for score in by_cohort)
        lines.append(
            f"| {name} | {modalities} | {n} | {mean_score(runs):.3f} [{low:.3f}, {high:.3f}] | {named} | {difference} |"
        )
    return "\n".join(lines)


def write_results(path: Path, results: Results, table: str) -> None:
    """<path>.md, <path>.csv (a line for each training) and <path>.png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = f"{machine()['cpu']}, torch {versions()['torch']}"
    path.with_suffix(".md").write_text(f"{table}\n\n{TEST} test patients a cohort; {facts}\n")
    with path.with_suffix(".csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("recipe", "set", "n", "cohort", "seed", "macro_f1"))
        for (name, modalities, n), runs in results.items():
            for (cohort, seed), run in runs.items():
                writer.writerow((name, modalities, n, cohort, seed, f"{macro_f1(run.labels, run.decisions):.4f}"))
    draw(path.with_suffix(".png"), results)


def draw(path: Path, results: Results) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    curves: dict[str, dict[int, Mapping[tuple[int, int], Scored]]] = defaultdict(dict)
    for (name, modalities, n), runs in results.items():
        curves[f"{name}, {modalities}" if modalities else name][n] = runs
    for name, points in curves.items():
        sizes = sorted(points)
        scores = [mean_score(points[n]) for n in sizes]
        is_row = name.startswith(ROWS)
        line = axes.plot(sizes, scores, "--" if is_row else "-o", lw=1.2 if is_row else 2, label=name)[0]
        if not is_row:
            low, high = zip(*(interval(points[n]) for n in sizes), strict=True)
            axes.fill_between(sizes, low, high, color=line.get_color(), alpha=0.15, lw=0)
    every_n = sorted({n for _, _, n in results})
    axes.set_xscale("log")
    axes.set_xticks(every_n, [str(n) for n in every_n])
    axes.minorticks_off()
    axes.set_xlabel("training patients (phantoms)")
    axes.set_ylabel("macro-F1")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    if {"--help", "-h"} & set(sys.argv):
        sys.exit(__doc__)
    main(**dict(argument.split("=", 1) for argument in sys.argv[1:]))
