"""Write the table of results, the paper's numbers beside ours, as CSV and as terminal lines."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ricenet.evaluation.sentences import is_single, missing_cells, nothing_to_compare, partial_cohort
from ricenet.paper import PAPER

if TYPE_CHECKING:
    from ricenet.evaluation.summary import RowScores, SummaryRecord
    from ricenet.statistics.metrics import Interval

HEAD = ("", "folds", "n", "pooled [95%]", "fold mean ± SD", "paper", "test vote [95%]", "mean", "paper", "Bayes")


def as_text(summary: "SummaryRecord") -> str:
    """The summary as the lines that the terminal shows; every number is a macro F1 where no other is named."""
    lines: list[tuple[str, ...]] = [HEAD]
    for row in _rows(summary):
        lines.append(
            (
                row.modalities,
                f"{row.folds_finished}/{summary.n_folds}",
                str(row.n),
                _with_interval(row.oof_macro_f1, row.oof_low, row.oof_high),
                " ± ".join(filter(None, map(_number, (row.folds_mean, row.folds_sd)))),
                _number(row.paper_validation),
                _with_interval(row.test_vote_macro_f1, row.test_vote_low, row.test_vote_high),
                _number(row.test_mean_macro_f1),
                _number(row.paper_test),
                _number(row.bayes_macro_f1),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    missing = f"NOT FINISHED, {len(summary.missing)} of {summary.cells} cells missing: {missing_cells(summary)}"
    return "\n".join([
        *([missing, ""] if summary.missing else []), *table, "", *_contrast_lines(summary), *_seed_lines(summary),
        *_one_model_lines(summary), *_control_lines(summary), *partial_cohort(summary), *_cohort_lines(summary),
        *summary.notes,
    ])  # fmt: skip


def _contrast_lines(summary: "SummaryRecord") -> list[str]:
    if is_single(summary):
        return [nothing_to_compare(summary)]
    of_all = f"of {summary.cohort.validation.cases} " if summary.channel_cases else ""
    lines = [
        f"{pair}: {contrast.difference:+.2f} [{contrast.interval[0]:+.2f}, {contrast.interval[1]:+.2f}], {contrast.n} "
        f"{of_all}common cases, Holm {_p(contrast.p_holm)}{', passes' if contrast.passed else ''}"
        for pair, contrast in summary.contrasts.items()
    ]
    omnibus, power = summary.omnibus, summary.power
    if omnibus:
        lines.append(
            f"Cochran's Q over {len(omnibus.sets)} sets: {omnibus.q:.1f}, {_p(omnibus.p)}, {omnibus.n} {of_all}cases"
        )
    seen = "as observed" if power.discordance_observed else "assumed"
    smallest = power.smallest_detectable
    reach = "no difference at all" if smallest is None else f"a difference of {100 * smallest:.1f} points or more"
    shared = "" if power.cohort_patients is None else f" (of {power.cohort_patients}) that one declared pair shares"
    lines.append(
        f"{power.patients} patients{shared} can show {reach} (80% power, two models apart on {power.discordance:.0%} "
        f"of them, {seen})"
    )
    if summary.untestable:
        n, rows = len(summary.untestable), dict.fromkeys(row for of in summary.untestable.values() for row in of)
        lines.append(f"{n} of {n + len(summary.declared)} declared contrasts cannot be tested: no {', '.join(rows)}")
    return lines


def _seed_lines(summary: "SummaryRecord") -> list[str]:
    return [
        f"{name}, single seeds: pooled "
        + " ± ".join(filter(None, (_number(scores.seeds.oof_mean), _number(scores.seeds.oof_sd))))
        + f" over {len(scores.seeds.oof_macro_f1)} seeds"
        for name, scores in summary.sets.items()
        if scores.seeds
    ]


def _one_model_lines(summary: "SummaryRecord") -> list[str]:
    of_sets = [
        f"{name} {_estimate(scores.oof_macro_f1, scores.oof_interval)}"
        + (f" ({scores.n} cases)" if summary.channel_cases else "")
        for name, scores in summary.one_model.items()
    ]
    return [f"modality_dropout, shown these channels alone: {'; '.join(of_sets)}"] if of_sets else []


def _control_lines(summary: "SummaryRecord") -> list[str]:
    return [
        f"control {control.row} (seed {control.seed}): {_estimate(control.oof_macro_f1, control.oof_interval)}, "
        f"chance gives {control.chance.mean:.2f}, {_p(control.chance.p)}: "
        + ("ABOVE CHANCE, look for a leak" if control.above_chance else "at chance")
        for control in summary.controls
    ]


def _cohort_lines(summary: "SummaryRecord") -> list[str]:
    lines = []
    excluded, access = summary.cohort.excluded, summary.test_access
    if excluded:
        reasons = ", ".join(f"{count} {reason}" for reason, count in excluded.items())
        lines.append(f"excluded before preprocessing ended: {sum(excluded.values())} case(s): {reasons}")
    if access.looked:
        count = "not known, the cases folder is read-only" if access.count is None else f"{access.count} time(s)"
        lines.append(f"the test split was scored with different models so far: {count}")
    return lines


class TableRow(NamedTuple):
    """A row of table.csv, the paper's numbers beside ours; None where there is no number.

    Attributes:
        kind: `network` or `baseline`.
    """

    modalities: str
    kind: str
    folds_finished: int = 0
    n: int = 0
    oof_macro_f1: float | None = None
    oof_low: float | None = None
    oof_high: float | None = None
    folds_mean: float | None = None
    folds_sd: float | None = None
    paper_validation: float | None = None
    n_test: int = 0
    test_vote_macro_f1: float | None = None
    test_vote_low: float | None = None
    test_vote_high: float | None = None
    test_mean_macro_f1: float | None = None
    paper_test: float | None = None
    bayes_macro_f1: float | None = None


def set_names(summary: "SummaryRecord") -> list[str]:
    """The rows of the sets: the paper's in its order, of those that the cases can train, then further ones."""
    possible = PAPER if summary.possible is None else [*summary.possible, *summary.sets]
    return list(dict.fromkeys([*(name for name in PAPER if name in possible), *summary.sets]))


def _rows(summary: "SummaryRecord") -> list[TableRow]:
    """The paper's sets in its order, further sets, then the baselines."""
    networks = [_row("network", name, summary.sets.get(name)) for name in set_names(summary)]
    return [*networks, *(_row("baseline", name, scores) for name, scores in summary.baselines.items())]


def _row(kind: str, name: str, scores: "RowScores | None") -> TableRow:
    paper = PAPER.get(name, {"validation": None, "test": None})
    if scores is None:
        return TableRow(name, kind, paper_validation=paper["validation"], paper_test=paper["test"])
    low, high = scores.oof_interval
    test_low, test_high = scores.test_interval or (None, None)
    return TableRow(
        modalities=name,
        kind=kind,
        folds_finished=scores.folds_finished,
        n=scores.n,
        oof_macro_f1=scores.oof_macro_f1,
        oof_low=low,
        oof_high=high,
        folds_mean=scores.folds_mean,
        folds_sd=scores.folds_sd,
        paper_validation=paper["validation"],
        n_test=scores.n_test,
        test_vote_macro_f1=scores.test_vote_macro_f1,
        test_vote_low=test_low,
        test_vote_high=test_high,
        test_mean_macro_f1=scores.test_mean_macro_f1,
        paper_test=paper["test"],
        bayes_macro_f1=scores.bayes_macro_f1,
    )


def as_csv(summary: "SummaryRecord") -> str:
    """The rows as table.csv holds them, four decimals."""
    return rows_as_csv(
        {key: f"{value:.4f}" if isinstance(value, float) else value for key, value in row._asdict().items()}
        for row in _rows(summary)
    )


def rows_as_csv(rows: Iterable[Mapping[str, object]]) -> str:
    """Rows with the same keys as CSV; without any, only the column `row`."""
    rows, text = list(rows), io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else ["row"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _with_interval(value: float | None, low: float | None, high: float | None) -> str:
    return "" if value is None or low is None or high is None else _estimate(value, (low, high))


def _estimate(value: float, interval: "Interval") -> str:
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"
