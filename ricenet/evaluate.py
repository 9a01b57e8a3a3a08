"""Evaluate a grid of runs: run folders in; evaluation/ (summary.json, tables, figures) and checklists/ out.
Run: python -m ricenet.evaluate run=DIR

Where this differs from the paper, whose numbers stand beside ours:
- the headline pools the out-of-fold predictions, each patient judged once by the model that never saw it, with an
  interval over patients; the paper's mean over folds and its standard deviation are given too;
- trivial baselines are scored in the same folds, and two sets are compared only over exactly the same patients, in
  contrasts that conf/evaluate.yaml declared before;
- how often the test split was looked at is counted.

An unfinished grid is evaluated for what it holds; `missing` lists the rest. docs/statistics.md explains the estimators.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ricenet import LABELS
from ricenet.cohort.covariates import Covariates, excluded, read_covariates
from ricenet.cohort.folds import Folds, read_folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.command.atomic import replace_file
from ricenet.command.schemas import EvaluateConfig
from ricenet.command.stage import stage
from ricenet.errors import WrongUsage
from ricenet.evaluation.grid import Control, Grid, labels_of, out_of_fold, read_controls, read_grid, read_one_model
from ricenet.evaluation.results_table import as_csv, as_text, missing_cells, rows_as_csv
from ricenet.paper import PAPER, sets_of
from ricenet.training.predictions import PREDICTIONS

if TYPE_CHECKING:
    from ricenet.evaluation.scores import Resampling
    from ricenet.evaluation.summary import (
        CohortCounts,
        ControlScores,
        RowScores,
        SplitAccess,
        SplitCounts,
        SummaryRecord,
    )
    from ricenet.training.run_folder import FinishedRun

MIN_DRAWS = 99
BASELINES = ("majority_class", "dose_volume", "clinical")
ABOVE_CHANCE_P = 0.05

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationPlan:
    """What is evaluated, decided before any result is seen; the fields are the keys of conf/evaluate.yaml."""

    bootstrap_draws: int
    seed: int
    test: bool
    contrasts: Sequence[str]
    subgroups: Sequence[str]
    clinical: Sequence[str]


@stage("evaluate", EvaluateConfig)
def main(cfg: EvaluateConfig) -> None:
    run = Path(cfg.run)
    plan = EvaluationPlan(cfg.bootstrap_draws, cfg.seed, cfg.test, cfg.contrasts, cfg.subgroups, cfg.clinical)
    summary = evaluate(run, plan)
    if summary.missing:
        log.warning("the grid is not finished: %s", missing_cells(summary))
    print(as_text(summary))
    print(f"\nsummary.json, tables and figures (png, svg): {run / 'evaluation'}; for your paper: {run / 'checklists'}")


def evaluate(run: Path, plan: EvaluationPlan) -> "SummaryRecord":
    """Evaluate the finished runs of the grid `run`, write `run`/evaluation and /checklists and return the summary.

    Raises:
        WrongUsage: fewer draws than an interval needs, or a contrast of unknown rows.
        InvalidInput: no finished run, or a run that does not fit the folds of the cases folder.
    """
    if plan.bootstrap_draws < MIN_DRAWS:
        raise WrongUsage(
            f"bootstrap_draws={plan.bootstrap_draws}: too few for a 95% interval; "
            f"use at least {MIN_DRAWS} (default 9999)"
        )
    from ricenet.evaluation import scores
    from ricenet.evaluation.checklists import write_checklists
    from ricenet.evaluation.summary import SUMMARY
    from ricenet.training.run_folder import cases_folder, finished_runs

    runs = finished_runs(run)
    cases = cases_folder(run, runs)
    folds = read_folds(cases)
    grid = read_grid(runs, cases, folds)
    summary = summarise(cases, folds, grid, runs, plan)

    folder = run / "evaluation"
    folder.mkdir(exist_ok=True)
    rows = [row for name, by_fold in grid.items() for row in scores.predictions(name, folds, by_fold, plan.test)]
    replace_file(folder / "predictions.csv", rows_as_csv(rows))
    replace_file(folder / "subgroups.csv", rows_as_csv(_subgroup_rows(summary)))
    replace_file(folder / "table.csv", as_csv(summary))
    _draw(run, cases, folds, summary, folder)
    write_checklists(summary, [finished.record for finished in runs], run / "checklists")
    summary.write(run / SUMMARY)
    return summary


def summarise(
    cases: Path, folds: Folds, grid: Grid, runs: "Sequence[FinishedRun]", plan: EvaluationPlan
) -> "SummaryRecord":
    """All numbers of the finished `runs` of a grid.

    Args:
        grid: the probabilities of the runs that are no controls (ricenet.evaluation.grid.read_grid).
    """
    from ricenet.evaluation import contrasts, scores
    from ricenet.evaluation.summary import SUMMARY_VERSION, BootstrapSettings, SummaryRecord

    how = scores.Resampling(plan.bootstrap_draws, plan.seed)
    covariates = read_covariates(cases, [case.case_key for case in folds.cases])
    trivial, notes = baseline_probabilities(cases, folds, covariates, plan.clinical)
    possible = _possible_sets(cases, folds)
    rows = {**grid, **trivial}
    declared = contrasts.parse(plan.contrasts, list(dict.fromkeys([*PAPER, *BASELINES, *grid])))
    untestable = contrasts.untestable(declared, {*possible, *rows})
    pairs = [(ours, theirs) for ours, theirs in declared if f"{ours} - {theirs}" not in untestable]
    compared = contrasts.compare(folds, rows, [name for name in grid if name in PAPER], pairs, how)
    expected = possible if grid.keys() & PAPER.keys() else []  # a grid of other rows owes none of the paper's sets
    cells = [(name, fold) for name in dict.fromkeys([*expected, *grid]) for fold in range(folds.n_folds)]
    summary = SummaryRecord(
        version=SUMMARY_VERSION,
        cohort=_cohort(cases, folds),
        n_folds=folds.n_folds,
        folds_hash=folds.hash,
        bootstrap=BootstrapSettings(draws=plan.bootstrap_draws, seed=plan.seed, confidence=0.95),
        cells=len(cells),
        missing=[f"{name}/fold{fold}" for name, fold in cells if fold not in grid.get(name, {})],
        sets=_score_sets(cases, folds, grid, covariates, plan),
        paper=PAPER,
        declared=compared.declared,
        contrasts=compared.contrasts,
        omnibus=compared.omnibus,
        power=compared.power,
        baselines={name: scores.score(folds, by_fold, how, plan.test) for name, by_fold in trivial.items()},
        notes=[*_notes(grid, folds, plan), *notes, *_notes_on_runs([run for run in runs if run.control is None])],
        one_model={
            name: scores.score(folds, by_fold, how, plan.test) for name, by_fold in read_one_model(runs, folds).items()
        },
        controls=[_control(control, how) for control in read_controls(runs, folds)],
        test_access=_test_access(cases, folds, runs, plan),
    )
    return summary.model_copy(update={"untestable": untestable}) if untestable else summary


def _cohort(cases: Path, folds: Folds) -> "CohortCounts":
    from ricenet.evaluation.summary import CohortCounts

    cross_validated = out_of_fold(folds, range(folds.n_folds))
    return CohortCounts(validation=_count(cross_validated), test=_count(folds.test()), excluded=excluded(cases))


def _score_sets(
    cases: Path, folds: Folds, grid: Grid, covariates: Covariates | None, plan: EvaluationPlan
) -> "dict[str, RowScores]":
    """Each row of the grid with its subgroups and, on a phantom, the score of the Bayes-optimal decision."""
    from ricenet.evaluation import baselines, scores

    how = scores.Resampling(plan.bootstrap_draws, plan.seed)
    levels = {c: covariates.subgroups[c] for c in plan.subgroups if c in covariates.subgroups} if covariates else {}
    bayes = baselines.read_bayes_decisions(cases, folds)
    sets = {}
    for name, by_fold in grid.items():
        row = scores.score(folds, by_fold, how, plan.test)
        row = row.model_copy(update={"subgroups": tuple(scores.by_subgroup(folds, by_fold, levels, how))})
        if name in bayes:
            row = row.model_copy(update={"bayes_macro_f1": _bayes_macro_f1(out_of_fold(folds, by_fold), bayes[name])})
        sets[name] = row
    return sets


def baseline_probabilities(
    cases: Path, folds: Folds, covariates: Covariates | None, clinical: Sequence[str]
) -> tuple[Grid, list[str]]:
    """The baselines that this cohort allows, in the same folds; and a note on each that it does not."""
    from ricenet.evaluation import baselines

    trivial = {"majority_class": baselines.larger_class(folds)}
    notes = []
    numbers = baselines.dose_numbers(cases, folds.cases)
    if numbers is None:
        notes.append("no dose-volume baseline: the cases hold no dose in Gy")
    else:
        trivial["dose_volume"] = baselines.regression(folds, numbers)
    covariate_numbers = covariates.numbers if covariates else {}
    values, used = baselines.clinical_numbers(folds.cases, covariate_numbers, clinical)
    if used:
        trivial["clinical"] = baselines.regression(folds, values)
        notes.append(f"the clinical baseline reads {', '.join(used)}")
    else:
        notes.append(f"no clinical baseline: the cohort has no numbers in {', '.join(clinical) or 'clinical=[]'}")
    return trivial, notes


def _possible_sets(cases: Path, folds: Folds) -> list[str]:
    """The paper's sets that the channels of these cases allow."""
    from ricenet.cases.case_record import read_case_record

    return sets_of(read_case_record(cases, folds.cases[0]).channels)


def _control(control: Control, how: "Resampling") -> "ControlScores":
    """A leakage control's numbers; its test split is left alone."""
    from ricenet.evaluation import scores
    from ricenet.evaluation.summary import ControlScores

    row = scores.score(control.folds, control.by_fold, how, test=False)
    above = row.chance.p < ABOVE_CHANCE_P
    return ControlScores(
        kind=control.kind,
        row=control.row,
        seed=control.seed,
        above_chance=above,
        **row.model_dump(exclude_unset=True),
    )


def _test_access(cases: Path, folds: Folds, runs: "Sequence[FinishedRun]", plan: EvaluationPlan) -> "SplitAccess":
    from ricenet.evaluation.summary import SplitAccess
    from ricenet.evaluation.test_split_log import count_access

    if not plan.test or not folds.test():
        return SplitAccess(looked=False, count=None)
    contents = [(run.folder / PREDICTIONS).read_bytes() for run in runs if run.control is None]
    return SplitAccess(looked=True, count=count_access(cases, contents))


def _draw(run: Path, cases: Path, folds: Folds, summary: "SummaryRecord", folder: Path) -> None:
    """All figures; one that there is nothing for does not stay from an earlier evaluation."""
    from ricenet.display import figure_style
    from ricenet.evaluation import contrast_figures, fold_curves, paper_figures, probability_curves
    from ricenet.training.run_record import channels_of_rows

    channels_of = channels_of_rows(run)

    rice_case = next(case for case in folds.cases if LABELS[case.label] == "rice")
    drawn = {
        "figure1": paper_figures.patient(cases, rice_case),
        "figure2": paper_figures.results(summary, channels_of),
        "differences": contrast_figures.differences(summary, channels_of),
        "confusion": contrast_figures.confusion_matrices(summary, channels_of),
        "roc": probability_curves.roc_curves(summary, channels_of),
        "calibration": probability_curves.calibration_curves(summary, channels_of),
        "decision_curve": probability_curves.decision_curves(summary, channels_of),
        "fold_curves": fold_curves.figure(fold_curves.read_curves(run), channels_of),
    }
    for name, figure in drawn.items():
        if figure is None:
            for suffix in (".png", ".svg"):
                (folder / f"{name}{suffix}").unlink(missing_ok=True)
        else:
            figure_style.save(figure, folder / name)


def _subgroup_rows(summary: "SummaryRecord") -> list[dict[str, object]]:
    rows = []
    for name, scores in summary.sets.items():
        for level in scores.subgroups:
            low, high = level.interval or (None, None)
            rows.append({"row": name, **level.model_dump(exclude={"interval"}), "low": low, "high": high})
    return rows


def _count(cases: Sequence[ReadyCase]) -> "SplitCounts":
    from ricenet.evaluation.summary import SplitCounts

    counts = {name: sum(case.label == label for case in cases) for label, name in enumerate(LABELS)}
    return SplitCounts(cases=len(cases), patients=len({case.patient_key for case in cases}), **counts)


def _bayes_macro_f1(cases: Sequence[ReadyCase], decisions: dict[str, int]) -> float:
    from ricenet.statistics import metrics

    return metrics.macro_f1(labels_of(cases), np.array([decisions[case.case_key] for case in cases]))


def _notes(grid: Grid, folds: Folds, plan: EvaluationPlan) -> list[str]:
    notes = []
    if len({tuple(by_fold) for by_fold in grid.values()}) > 1:
        notes.append("the sets cover different patients: compare them through `contrasts`, over common patients, only")
    if len({tuple(fold.seeds for fold in by_fold.values()) for by_fold in grid.values()}) > 1:
        notes.append("the sets were trained with different seeds: a mean of more seeds has an advantage of its own")
    if not plan.test and folds.test():
        notes.append("test=false: the test split was not looked at")
    return notes


def _notes_on_runs(runs: "Sequence[FinishedRun]") -> list[str]:
    notes = []
    of_one_set = [run for run in runs if not run.record.model.get("channel_dropout")]  # the others differ on purpose
    for key in ("epochs", "checkpoint", "model"):
        values = {
            json.dumps(getattr(run.record, key), sort_keys=True) for run in (of_one_set if key == "model" else runs)
        }
        if len(values) > 1:
            notes.append(f"the runs differ in {key}: {', '.join(sorted(values))}")
    if any(run.record.checkpoint == "best" for run in runs):
        notes.append("checkpoint=best: chosen on the very fold it is scored on, so validation values are too high")
    return notes


if __name__ == "__main__":
    main()
