"""Evaluate a grid of runs: run folders in; evaluation/ (summary.json, tables, figures) and checklists/ out.
Run: python -m ricenet.evaluate run=DIR

Where this differs from the paper, whose numbers stand beside ours:
- the headline pools the out-of-fold predictions, each patient judged once by the model that never saw it, with an
  interval over patients; the paper's mean over folds and its standard deviation are given too;
- trivial baselines are scored in the same folds, and two sets are compared only over exactly the same patients, in
  contrasts that conf/evaluate.yaml declared before; where some cases lack channels, a set is scored on who has its own;
- how often the test split was looked at is counted.

An unfinished grid is evaluated for what it holds; `missing` lists the rest. docs/statistics.md explains the estimators.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ricenet import LABELS
from ricenet.cohort.channels import in_order
from ricenet.cohort.covariates import Covariates, excluded, read_covariates
from ricenet.cohort.folds import Folds, read_folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.command.atomic import replace_file
from ricenet.command.row_names import NUMBERS, RowName
from ricenet.command.schemas import EvaluateConfig
from ricenet.command.stage import stage
from ricenet.display.words import BASELINES
from ricenet.errors import WrongUsage
from ricenet.evaluation.grid import (
    Control,
    Grid,
    labels_of,
    one_model_folds,
    out_of_fold,
    read_controls,
    read_grid,
    read_one_model,
    row_folds,
)
from ricenet.evaluation.results_table import as_csv, as_text, rows_as_csv
from ricenet.evaluation.sentences import missing_cells
from ricenet.paper import PAPER
from ricenet.training.grid_state import possible_sets
from ricenet.training.predictions import PREDICTIONS

if TYPE_CHECKING:
    from ricenet.evaluation.scores import Resampling
    from ricenet.evaluation.summary import (
        CohortCounts,
        ControlScores,
        RowScores,
        SplitAccess,
        SplitCases,
        SplitCounts,
        SummaryRecord,
    )
    from ricenet.training.run_folder import FinishedRun

MIN_DRAWS = 99
ABOVE_CHANCE_P = 0.05
WITH_NUMBERS = [str(RowName(name, additions=(NUMBERS,))) for name in PAPER]  # may be declared before one is trained

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
    folds_of = row_folds(runs, folds)
    rows = [row for name, of in grid.items() for row in scores.predictions(name, folds_of[name], of, plan.test)]
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
    from ricenet.evaluation import contrasts, notes, scores
    from ricenet.evaluation.baselines import baseline_probabilities
    from ricenet.evaluation.summary import SUMMARY_VERSION, BootstrapSettings, SummaryRecord

    how = scores.Resampling(plan.bootstrap_draws, plan.seed)
    covariates = read_covariates(cases, [case.case_key for case in folds.cases])
    trivial = baseline_probabilities(cases, folds, covariates, plan.clinical)
    possible = possible_sets(cases, folds)
    rows = {**grid, **trivial.rows}
    folds_of = {**row_folds(runs, folds), **trivial.folds_of}
    declared = contrasts.parse(plan.contrasts, list(dict.fromkeys([*PAPER, *WITH_NUMBERS, *BASELINES, *grid])))
    declared += contrasts.against_scratch(grid, declared)
    untestable = contrasts.untestable(declared, {*possible, *rows})
    pairs = [(ours, theirs) for ours, theirs in declared if f"{ours} - {theirs}" not in untestable]
    compared = contrasts.compare(folds, rows, [name for name in grid if name in PAPER], pairs, how, folds_of)
    expected = possible if grid.keys() & PAPER.keys() else []  # a grid of other rows owes none of the paper's sets
    cells = [(name, fold) for name in dict.fromkeys([*expected, *grid]) for fold in range(folds.n_folds)]
    controls = read_controls(runs, folds)
    one_model, shown_to = read_one_model(runs, folds), one_model_folds(runs, folds)
    summary = SummaryRecord(
        version=SUMMARY_VERSION,
        cohort=_cohort(cases, folds),
        n_folds=folds.n_folds,
        folds_hash=folds.hash,
        bootstrap=BootstrapSettings(draws=plan.bootstrap_draws, seed=plan.seed, confidence=0.95),
        cells=len(cells),
        missing=[f"{name}/fold{fold}" for name, fold in cells if fold not in grid.get(name, {})],
        sets=_score_sets(cases, folds, grid, folds_of, covariates, plan),
        paper=PAPER,
        declared=compared.declared,
        contrasts=compared.contrasts,
        omnibus=compared.omnibus,
        power=compared.power,
        baselines=_score_rows(folds, trivial.rows, trivial.folds_of, plan),
        notes=[
            *notes.on_grid(grid, folds, plan.test),
            *notes.on_few_cases(rows, folds_of, folds, plan.test),
            *notes.on_controls(controls),
            *trivial.notes,
            *notes.on_runs([run for run in runs if run.control is None]),
        ],
        one_model=_score_rows(folds, one_model, shown_to, plan),
        controls=[
            _control(control, how) for control in controls if scores.has_both_classes(control.folds, control.by_fold)
        ],
        test_access=_test_access(cases, folds, runs, plan),
    )
    added: dict[str, object] = {"untestable": untestable} if untestable else {}
    if folds.is_partial:
        added["channel_cases"] = _channel_cases(folds)
    if folds.is_partial or len(possible) == 1:
        added["possible"] = possible
    return summary.model_copy(update=added)


def _channel_cases(folds: Folds) -> "dict[str, SplitCases]":
    """Channel -> the cases of each split that have it, of a partial cohort."""
    from ricenet.evaluation.summary import SplitCases

    channels = in_order(channel for case in folds.cases for channel in case.channels or ())
    return {
        channel: SplitCases(
            validation=len(out_of_fold(having := folds.having([channel]), range(folds.n_folds))),
            test=len(having.test()),
        )
        for channel in channels
    }


def _cohort(cases: Path, folds: Folds) -> "CohortCounts":
    from ricenet.evaluation.summary import CohortCounts

    cross_validated = out_of_fold(folds, range(folds.n_folds))
    return CohortCounts(validation=_count(cross_validated), test=_count(folds.test()), excluded=excluded(cases))


def _score_rows(
    folds: Folds, rows: Grid, folds_of: Mapping[str, Folds], plan: EvaluationPlan
) -> "dict[str, RowScores]":
    """Each row on the cases that it has; a row whose finished folds hold cases of one class has no scores yet."""
    from ricenet.evaluation import scores

    how = scores.Resampling(plan.bootstrap_draws, plan.seed)
    return {
        name: scores.score(own, by_fold, how, plan.test and scores.has_test(own, folds))
        for name, by_fold in rows.items()
        if scores.has_both_classes(own := folds_of.get(name, folds), by_fold)
    }


def _score_sets(
    cases: Path,
    folds: Folds,
    grid: Grid,
    folds_of: Mapping[str, Folds],
    covariates: Covariates | None,
    plan: EvaluationPlan,
) -> "dict[str, RowScores]":
    """Each row of the grid with its subgroups and, on a phantom, the score of the Bayes-optimal decision."""
    from ricenet.evaluation import baselines, scores

    how = scores.Resampling(plan.bootstrap_draws, plan.seed)
    levels = {c: covariates.subgroups[c] for c in plan.subgroups if c in covariates.subgroups} if covariates else {}
    bayes = baselines.read_bayes_decisions(cases, folds)
    sets = {}
    for name, row in _score_rows(folds, grid, folds_of, plan).items():
        own, by_fold = folds_of[name], grid[name]
        row = row.model_copy(update={"subgroups": tuple(scores.by_subgroup(own, by_fold, levels, how))})
        same_images = str(RowName.parse(name).from_scratch)
        if same_images in bayes:
            best = _bayes_macro_f1(out_of_fold(own, by_fold), bayes[same_images])
            row = row.model_copy(update={"bayes_macro_f1": best})
        sets[name] = row
    return sets


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
    from ricenet.evaluation import contrast_figures, fold_curves, paper_figures, probability_curves, row_figure
    from ricenet.training.run_record import channels_of_rows

    channels_of = channels_of_rows(run)

    rice_cases = [case for case in folds.cases if LABELS[case.label] == "rice"]
    rice_case = max(rice_cases, key=lambda case: len(case.channels or ()))  # the first of those with the most images
    drawn = {
        "figure1": paper_figures.patient(cases, rice_case),
        "rows": row_figure.rows(summary, channels_of),
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


if __name__ == "__main__":
    main()
