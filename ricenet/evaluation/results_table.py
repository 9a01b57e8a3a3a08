"""The table of results, the paper's numbers beside ours: a summary in, CSV or terminal lines out."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ricenet.paper import PAPER

SUMMARY_VERSION = 2  # of summary.json
HEAD = ("", "folds", "n", "pooled [95%]", "fold mean ± SD", "paper", "test vote [95%]", "mean", "paper", "Bayes")


def as_text(summary: dict[str, Any]) -> str:
    """The summary as the lines that the terminal shows; every number is a macro F1 where no other is named."""
    lines: list[tuple[str, ...]] = [HEAD]
    for row in _rows(summary):
        lines.append(
            (
                row["modalities"],
                f"{row['folds_finished']}/{summary['n_folds']}",
                str(row["n"]),
                _with_interval(row, "oof"),
                " ± ".join(filter(None, map(_number, (row["folds_mean"], row["folds_sd"])))),
                _number(row["paper_validation"]),
                _with_interval(row, "test_vote"),
                _number(row["test_mean_macro_f1"]),
                _number(row["paper_test"]),
                _number(row["bayes_macro_f1"]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    missing = f"NOT FINISHED, {len(summary['missing'])} of {summary['cells']} cells missing: {missing_cells(summary)}"
    return "\n".join([
        *([missing, ""] if summary["missing"] else []), *table, "", *_contrast_lines(summary), *_seed_lines(summary),
        *_one_model_lines(summary), *_control_lines(summary), *_cohort_lines(summary), *summary["notes"],
    ])  # fmt: skip


def _contrast_lines(summary: dict[str, Any]) -> list[str]:
    lines = [
        f"{name}: {one['difference']:+.2f} [{one['interval'][0]:+.2f}, {one['interval'][1]:+.2f}], {one['n']} common "
        f"cases, Holm {_p(one['p_holm'])}{', passes' if one['passed'] else ''}"
        for name, one in summary["contrasts"].items()
    ]
    if summary["omnibus"]:
        one = summary["omnibus"]
        lines.append(f"Cochran's Q over {len(one['sets'])} sets: {one['q']:.1f}, {_p(one['p'])}, {one['n']} cases")
    found = summary["power"]
    smallest, discordance = found["smallest_detectable"], f"{found['discordance']:.0%}"
    seen = "as observed" if found["discordance_observed"] else "assumed"
    reach = "no difference at all" if smallest is None else f"a difference of {100 * smallest:.1f} points or more"
    lines.append(
        f"{found['patients']} patients can show {reach} (80% power, two models apart on {discordance} of them, {seen})"
    )
    return lines


def _seed_lines(summary: dict[str, Any]) -> list[str]:
    return [
        f"{name}, single seeds: pooled "
        + " ± ".join(filter(None, (_number(found["seeds"]["oof_mean"]), _number(found["seeds"]["oof_sd"]))))
        + f" over {len(found['seeds']['oof_macro_f1'])} seeds"
        for name, found in summary["sets"].items()
        if found.get("seeds")
    ]


def _one_model_lines(summary: dict[str, Any]) -> list[str]:
    of_sets = summary.get("one_model", {}).items()
    shown = [f"{name} {_estimate(found['oof_macro_f1'], found['oof_interval'])}" for name, found in of_sets]
    return [f"modality_dropout, shown these channels alone: {'; '.join(shown)}"] if shown else []


def _control_lines(summary: dict[str, Any]) -> list[str]:
    return [
        f"control {one['row']} (seed {one['seed']}): {_estimate(one['oof_macro_f1'], one['oof_interval'])}, "
        f"chance gives {one['chance']['mean']:.2f}, {_p(one['chance']['p'])}: "
        + ("ABOVE CHANCE, look for a leak" if one["above_chance"] else "at chance")
        for one in summary.get("controls", [])
    ]


def _cohort_lines(summary: dict[str, Any]) -> list[str]:
    lines = []
    excluded = summary["cohort"]["excluded"]
    if excluded:
        reasons = ", ".join(f"{count} {reason}" for reason, count in excluded.items())
        lines.append(f"excluded before preprocessing ended: {sum(excluded.values())} case(s): {reasons}")
    access = summary.get("test_access", {"looked": False})
    if access["looked"]:
        count = "not known, the cases folder is read-only" if access["count"] is None else f"{access['count']} time(s)"
        lines.append(f"the test split was scored with different models so far: {count}")
    return lines


def _rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One flat row per modality set, the paper's beside ours, then the baselines; None where there is no number."""
    rows = []
    networks = {name: {} for name in PAPER} | summary["sets"]
    for kind, name, found in [
        *(("network", name, found) for name, found in networks.items()),
        *(("baseline", name, found) for name, found in summary["baselines"].items()),
    ]:
        low, high = found.get("oof_interval") or (None, None)
        test_low, test_high = found.get("test_interval") or (None, None)
        rows.append(
            {
                "modalities": name,
                "kind": kind,
                "folds_finished": sum(value is not None for value in found.get("folds", [])),
                "n": found.get("n", 0),
                "oof_macro_f1": found.get("oof_macro_f1"),
                "oof_low": low,
                "oof_high": high,
                "folds_mean": found.get("folds_mean"),
                "folds_sd": found.get("folds_sd"),
                "paper_validation": PAPER.get(name, {}).get("validation"),
                "n_test": found.get("n_test", 0),
                "test_vote_macro_f1": found.get("test_vote_macro_f1"),
                "test_vote_low": test_low,
                "test_vote_high": test_high,
                "test_mean_macro_f1": found.get("test_mean_macro_f1"),
                "paper_test": PAPER.get(name, {}).get("test"),
                "bayes_macro_f1": found.get("bayes_macro_f1"),
            }
        )
    return rows


def as_csv(summary: dict[str, Any]) -> str:
    """The rows as table.csv holds them, four decimals."""
    return rows_as_csv(
        {key: f"{value:.4f}" if isinstance(value, float) else value for key, value in row.items()}
        for row in _rows(summary)
    )


def rows_as_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows with the same keys as CSV; without any, only the column `row`."""
    rows, text = list(rows), io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else ["row"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def missing_cells(summary: dict[str, Any]) -> str:
    """The missing cells, a whole row of the grid in one word: `post; rd fold 3, 4`."""
    folds_of: dict[str, list[str]] = {}
    for cell in summary["missing"]:
        modalities, fold = cell.split("/fold")
        folds_of.setdefault(modalities, []).append(fold)
    whole = summary["n_folds"]
    return "; ".join(n if len(f) == whole else f"{n} fold {', '.join(f)}" for n, f in folds_of.items())


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _with_interval(row: dict[str, Any], what: str) -> str:
    if row[f"{what}_macro_f1"] is None:
        return ""
    return _estimate(row[f"{what}_macro_f1"], (row[f"{what}_low"], row[f"{what}_high"]))


def _estimate(value: float, interval: Sequence[float]) -> str:
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"
