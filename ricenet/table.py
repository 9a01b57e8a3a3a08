"""The table of results, the paper's numbers beside ours: a summary in, CSV or terminal lines out."""

import csv
import io
from collections.abc import Sequence
from typing import Any

# Macro-F1 (validation: mean over 5 folds; test: majority vote) as published; also the order of tables and figures.
PAPER: dict[str, dict[str, float | None]] = {
    "event": {"validation": 0.58, "test": None},
    "post": {"validation": 0.70, "test": None},
    "rd": {"validation": 0.78, "test": None},
    "post_event": {"validation": 0.70, "test": None},
    "rd_post": {"validation": 0.828, "test": None},
    "rd_event": {"validation": 0.83, "test": None},
    "rd_post_event": {"validation": 0.804, "test": 0.916},
}
HEAD = ("", "folds", "n", "pooled [95%]", "fold mean ± SD", "paper", "test vote [95%]", "mean", "paper", "Bayes")


def as_text(summary: dict[str, Any]) -> str:
    """The summary as the lines that the terminal shows; every number is a macro F1."""
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
    text = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    for name, contrast in summary["contrasts"].items():
        low, high = contrast["interval"]
        text.append(f"{name}: {contrast['difference']:+.2f} [{low:+.2f}, {high:+.2f}], {contrast['n']} common cases")
    if summary.get("one_model"):
        of_sets = summary["one_model"].items()
        shown = [f"{name} {_estimate(found['oof_macro_f1'], found['oof_interval'])}" for name, found in of_sets]
        text.append(f"modality_dropout, shown these channels alone: {'; '.join(shown)}")
    if summary["missing"]:
        text.append(f"not finished: {_cells(summary)}")
    return "\n".join([*text, *summary["notes"]])


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
    rows = _rows(summary)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.4f}" if isinstance(value, float) else value for key, value in row.items()})
    return text.getvalue()


def _cells(summary: dict[str, Any]) -> str:
    """The missing cells, a whole row of the grid in one word: `post; rd fold 3, 4`."""
    folds_of: dict[str, list[str]] = {}
    for cell in summary["missing"]:
        modalities, fold = cell.split("/fold")
        folds_of.setdefault(modalities, []).append(fold)
    whole = summary["n_folds"]
    return "; ".join(n if len(f) == whole else f"{n} fold {', '.join(f)}" for n, f in folds_of.items())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _with_interval(row: dict[str, Any], what: str) -> str:
    if row[f"{what}_macro_f1"] is None:
        return ""
    return _estimate(row[f"{what}_macro_f1"], (row[f"{what}_low"], row[f"{what}_high"]))


def _estimate(value: float, interval: Sequence[float]) -> str:
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"
