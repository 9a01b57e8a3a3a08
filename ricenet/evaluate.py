"""What a grid of runs is worth: run folders in; evaluation/summary.json, table.csv and figures out.
Run: python -m ricenet.evaluate run=DIR

Where this differs from the paper, whose numbers stand beside ours:
- the headline pools the out-of-fold answers, each patient judged once by the model that never saw it, with an interval
  over patients; the paper's mean over folds and its standard deviation are given too;
- trivial baselines are scored in the same folds, and two sets are compared only over exactly the same patients.

An unfinished grid is evaluated for what it holds; `missing` lists the rest.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ricenet import LABELS
from ricenet.cohort import ReadyCase
from ricenet.config import EvaluateConfig, WrongUsage
from ricenet.folds import Folds, read_folds
from ricenet.grid import Answers, Grid, labels_of, out_of_fold, patients_of, read_grid, read_one_model
from ricenet.partial import replace_file
from ricenet.stage import stage
from ricenet.table import PAPER, as_csv, as_text

if TYPE_CHECKING:
    from ricenet.runs import FinishedRun

# Declared before any result was seen: what does the dose add?
CONTRASTS = (("rd_post", "post"), ("rd_event", "event"), ("rd_post_event", "post_event"))
FEWEST_DRAWS = 99


@stage("evaluate", EvaluateConfig)
def main(cfg: EvaluateConfig) -> None:
    run = Path(cfg.run)
    summary = evaluate(run, cfg.bootstrap_draws, cfg.seed)
    print(as_text(summary))
    print(f"\nsummary.json, table.csv, figure1 and figure2 (png, svg): {run / 'evaluation'}")


def evaluate(run: Path, draws: int, seed: int) -> dict[str, Any]:
    """Evaluate the finished runs of the grid `run`, write `run`/evaluation and return its summary.

    Args:
        draws: bootstrap resamples per interval.
        seed: of the resamples.

    Raises:
        WrongUsage: fewer draws than an interval needs.
        InvalidInput: no finished run, or a run that does not fit the folds of the cases folder.
    """
    if draws < FEWEST_DRAWS:
        raise WrongUsage(f"bootstrap_draws={draws}: a 95% interval needs at least {FEWEST_DRAWS}, better the default")
    from ricenet import figures
    from ricenet.runs import cases_folder, finished_runs

    runs = finished_runs(run)
    cases = cases_folder(run, runs)
    folds = read_folds(cases)
    summary = summarise(cases, folds, read_grid(runs, cases, folds), draws, seed)
    one_model = read_one_model(runs, folds)
    summary["one_model"] = {name: score(folds, answers, draws, seed) for name, answers in one_model.items()}
    summary["notes"] += _notes_on_runs(runs)

    folder = run / "evaluation"
    folder.mkdir(exist_ok=True)
    replace_file(folder / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    replace_file(folder / "table.csv", as_csv(summary))
    figures.save(figures.results(summary), folder / "figure2")
    shown = next(case for case in folds.cases if LABELS[case.label] == "rice")
    figures.save(figures.patient(cases, shown), folder / "figure1")
    return summary


def summarise(cases: Path, folds: Folds, grid: Grid, draws: int, seed: int) -> dict[str, Any]:
    """All numbers of the evaluation, as they stand in summary.json."""
    from ricenet import baselines

    trivial = {"majority_class": baselines.larger_class(folds)}
    numbers = baselines.dose_numbers(cases, folds.cases)
    if numbers is not None:
        trivial["dose_volume"] = baselines.dose_volume_regression(folds, numbers)
    sets = {name: score(folds, answers, draws, seed) for name, answers in grid.items()}
    bayes = baselines.read_bayes_decisions(cases, folds)
    for name in grid.keys() & bayes.keys():
        sets[name]["bayes_macro_f1"] = _bayes_macro_f1(out_of_fold(folds, grid[name]), bayes[name])
    return {
        "cohort": {"validation": _count(out_of_fold(folds, range(folds.n_folds))), "test": _count(folds.test())},
        "n_folds": folds.n_folds,
        "folds_hash": folds.hash,
        "bootstrap": {"draws": draws, "seed": seed, "confidence": 0.95},
        "sets": sets,
        "paper": PAPER,
        "contrasts": contrasts(folds, grid, draws, seed),
        "baselines": {name: score(folds, answers, draws, seed) for name, answers in trivial.items()},
        "missing": _missing(cases, folds, grid),
        "notes": _notes(grid, numbers is not None),
    }


def score(folds: Folds, answers: dict[int, Answers], draws: int, seed: int) -> dict[str, Any]:
    """The numbers of one modality set or baseline over the folds it has; test values are None without a test split."""
    from ricenet import metrics

    pooled_cases = out_of_fold(folds, answers)
    labels, patients = labels_of(pooled_cases), patients_of(pooled_cases)
    probabilities = np.concatenate([answers[fold].validation for fold in answers])
    pooled = metrics.macro_f1_estimate(labels, metrics.decide(probabilities), patients, draws, seed)
    by_fold = [_fold_macro_f1(folds, fold, answers) for fold in range(folds.n_folds)]
    finished = [value for value in by_fold if value is not None]
    scored = {
        "oof_macro_f1": pooled.value,
        "oof_interval": pooled.interval,
        "oof_interval_method": pooled.method,
        "oof": metrics.describe(labels, probabilities),
        "folds": by_fold,
        "folds_mean": float(np.mean(finished)),
        "folds_sd": float(np.std(finished, ddof=1)) if len(finished) > 1 else None,
        "n": len(labels),
        "n_patients": len(set(patients)),
        "n_test": len(folds.test()),
        "test_members": list(answers),
        "test_vote_macro_f1": None,
        "test_mean_macro_f1": None,
        "test_interval": None,
    }
    if folds.test():
        scored |= _score_test(folds, np.stack([answers[fold].test for fold in answers]), draws, seed)
    return scored


def _score_test(folds: Folds, members: np.ndarray, draws: int, seed: int) -> dict[str, Any]:
    """Both ensembles of the (members, cases) probabilities on the test split; the interval is the vote's."""
    from ricenet import metrics

    labels = labels_of(folds.test())
    vote = metrics.majority_vote(members)
    voted = metrics.macro_f1_estimate(labels, vote, patients_of(folds.test()), draws, seed)
    right = int((vote == labels).sum())
    return {
        "test_vote_macro_f1": voted.value,
        "test_mean_macro_f1": metrics.macro_f1(labels, metrics.mean_decision(members)),
        "test_interval": voted.interval,
        "test_interval_method": voted.method,
        "test_vote_right": right,
        "test_vote_right_interval": metrics.wilson(right, len(labels)),
    }


def contrasts(folds: Folds, grid: Grid, draws: int, seed: int) -> dict[str, dict[str, Any]]:
    """What the dose adds: paired differences in pooled macro-F1, over the folds that both sets of a pair finished."""
    from ricenet import metrics

    found = {}
    for with_dose, without in CONTRASTS:
        common = sorted(grid.get(with_dose, {}).keys() & grid.get(without, {}).keys())
        if not common:
            continue
        pair = [{fold: grid[name][fold] for fold in common} for name in (with_dose, without)]
        cases = out_of_fold(folds, common)
        labels, patients = labels_of(cases), patients_of(cases)
        ours, theirs = (metrics.decide(np.concatenate([a.validation for a in side.values()])) for side in pair)
        difference = metrics.macro_f1_difference(labels, ours, theirs, patients, draws, seed)
        found[f"{with_dose} - {without}"] = {
            "difference": difference.value,
            "interval": difference.interval,
            "interval_method": difference.method,
            "macro_f1": [metrics.macro_f1(labels, ours), metrics.macro_f1(labels, theirs)],
            "folds": common,
            "n": len(labels),
            "n_patients": len(set(patients)),
        }
    return found


def _fold_macro_f1(folds: Folds, fold: int, answers: dict[int, Answers]) -> float | None:
    from ricenet import metrics

    if fold not in answers:
        return None
    return metrics.macro_f1(labels_of(folds.validation(fold)), metrics.decide(answers[fold].validation))


def _count(cases: Sequence[ReadyCase]) -> dict[str, int]:
    counts = {name: sum(case.label == label for case in cases) for label, name in enumerate(LABELS)}
    return {"cases": len(cases), "patients": len({case.patient_key for case in cases}), **counts}


def _missing(cases: Path, folds: Folds, grid: Grid) -> list[str]:
    """`set/foldk` of every unfinished cell, of all sets that the channels of these cases allow."""
    channels = set(json.loads((cases / folds.cases[0].folder / "case.json").read_text())["channels"])
    wanted = [name for name in PAPER if channels.issuperset(name.split("_"))]
    cells = [(name, fold) for name in dict.fromkeys([*wanted, *grid]) for fold in range(folds.n_folds)]
    return [f"{name}/fold{fold}" for name, fold in cells if fold not in grid.get(name, {})]


def _bayes_macro_f1(cases: Sequence[ReadyCase], decisions: dict[str, int]) -> float:
    from ricenet import metrics

    return metrics.macro_f1(labels_of(cases), np.array([decisions[case.case_key] for case in cases]))


def _notes(grid: Grid, has_dose: bool) -> list[str]:
    notes = []
    if len({tuple(answers) for answers in grid.values()}) > 1:
        notes.append("the sets cover different patients: compare them through `contrasts`, over common patients, only")
    if not has_dose:
        notes.append("no dose-volume baseline: the cases hold no dose in Gy")
    return notes


def _notes_on_runs(runs: "Sequence[FinishedRun]") -> list[str]:
    notes = []
    of_one_set = [run for run in runs if not run.record["model"].get("channel_dropout")]  # the others differ on purpose
    for key in ("seed", "epochs", "checkpoint", "model"):
        values = {json.dumps(run.record[key], sort_keys=True) for run in (of_one_set if key == "model" else runs)}
        if len(values) > 1:
            notes.append(f"the runs differ in {key}: {', '.join(sorted(values))}")
    if any(run.record["checkpoint"] == "best" for run in runs):
        notes.append("checkpoint=best: chosen on the very fold it is scored on, so validation values are too high")
    return notes


if __name__ == "__main__":
    main()
