"""Compare folds over the epochs: the metrics.csv of a grid's runs in, mean and band per row of the grid out.

Read while the grid is being trained, too: a run counts from its first epoch on. Rows are modality sets, the one model
for all sets, and leakage controls; several seeds of a fold count as several runs.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ricenet.command.row_names import METADATA_ONLY, SHUFFLED_LABELS
from ricenet.display.figure_style import STYLE, Look
from ricenet.display.words import PAPERS_ONLY, RowChannels, row_name
from ricenet.errors import InvalidInput
from ricenet.paper import PAPER
from ricenet.training.run_record import walk

SCORE, LOSSES = "val/macro_f1", ("train/loss", "val/loss")
COLUMNS = 4
# Told apart by dashes and lightness, so safe in grey; blue and orange, so safe for the colour-blind.
LINES: dict[str, Look] = {
    SCORE: {"color": "#1f4e79", "linestyle": "-"},
    "val/loss": {"color": "#1f4e79", "linestyle": "-"},
    "train/loss": {"color": "#d98200", "linestyle": "--"},
}
BAND_OPACITY = 0.25
SINGLE_RUN: Look = {"color": "#888888", "linewidth": 0.6}
SHARE_OF_LOSSES_SHOWN = 0.95  # with their bands; one fold that diverges for an epoch would flatten every other curve


@dataclass(frozen=True)
class Curve:
    """One metric of one row of the grid over its epochs.

    Attributes:
        epochs: (E,), ascending, counted from 0 as in metrics.csv; only those that a run has a number for.
        runs: (R, E), a line per fold and seed; nan where that run has no finite number.
        n: (E,), runs with a number.
        mean: (E,), over those runs.
        low, high: (E,), mean -+ standard deviation over those runs (n - 1); nan where a single run is left.
    """

    epochs: np.ndarray
    runs: np.ndarray
    n: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def read_curves(run: Path) -> dict[str, dict[str, Curve]]:
    """row -> metric -> curve, the paper's sets first and controls last; empty where no run has finished an epoch.

    A number that is not finite, or missing, counts as none. A metric without any number is left out, and so is the
    control metadata_only, which is fitted and not trained over epochs.

    Args:
        run: folder of a grid, outputs/<name>.

    Raises:
        InvalidInput: a metrics.csv that is not a table of numbers; names the run.
    """
    runs_of: dict[str, list[dict[str, dict[int, float]]]] = {}
    for place in walk(run):
        path = place.folder / "metrics.csv"
        if path.is_file() and place.row != METADATA_ONLY:
            runs_of.setdefault(place.row, []).append(_read_metrics(path))
    curves = {row: _curves(runs_of[row]) for row in sorted(runs_of, key=_place)}
    return {row: by_metric for row, by_metric in curves.items() if by_metric}


def _place(row: str) -> tuple[bool, int, str]:
    name = row.removesuffix(f"-{SHUFFLED_LABELS}")
    sets = list(PAPER)
    return name != row, sets.index(name) if name in sets else len(sets), row


def _read_metrics(path: Path) -> dict[str, dict[int, float]]:
    """metric -> epoch -> value of one run, finite values only."""
    metrics: dict[str, dict[int, float]] = {}
    with path.open(newline="") as stream:
        table = csv.DictReader(stream)
        try:
            for line in table:
                epoch = int(line.pop("epoch"))
                for name, text in line.items():
                    value = float(text or "nan")
                    if np.isfinite(value):
                        metrics.setdefault(name, {})[epoch] = value
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise InvalidInput(
                f"run {path.parent.parent.name}/{path.parent.name}: metrics.csv, line {table.line_num}: expected an "
                f"epoch and numbers, got something else ({type(error).__name__})",
                "put the file back as it was, or train the run again",
                code="metrics.table",
            ) from None
    return metrics


def _curves(runs: list[dict[str, dict[int, float]]]) -> dict[str, Curve]:
    names = sorted({name for metrics in runs for name in metrics})
    return {name: _curve([metrics[name] for metrics in runs if name in metrics]) for name in names}


def _curve(runs: list[dict[int, float]]) -> Curve:
    epochs = sorted({epoch for values in runs for epoch in values})
    table = np.array([[values.get(epoch, np.nan) for epoch in epochs] for values in runs])
    n = np.isfinite(table).sum(axis=0)
    mean = np.nanmean(table, axis=0)
    squares = np.nansum((table - mean) ** 2, axis=0)
    sd = np.sqrt(np.divide(squares, n - 1, out=np.full(len(n), np.nan), where=n > 1))
    return Curve(np.array(epochs), table, n, mean, mean - sd, mean + sd)


def figure(curves: Mapping[str, Mapping[str, Curve]], channels_of: RowChannels = PAPERS_ONLY) -> Figure | None:
    """Two panels a row of the grid: validation macro F1 with its folds, and below it both losses; all on one scale.

    Small multiples, because seven bands on one pair of axes hide one another. None where there is no curve.
    """
    rows = [row for row, by_metric in curves.items() if {SCORE, *LOSSES} & by_metric.keys()]
    if not rows:
        return None
    columns = min(COLUMNS, len(rows))
    blocks = -(-len(rows) // columns)
    ceiling, is_cut = _loss_ceiling(curves.values())
    note: list[Artist] = [Line2D([], [], linestyle="", label=f"loss beyond {ceiling:.2g} is cut off")] if is_cut else []
    with mpl.rc_context(STYLE):
        page = Figure(figsize=(2.4 * max(columns, 2) + 0.4, 3.5 * blocks + 0.6), layout="constrained")
        panels = page.subplots(2 * blocks, columns, squeeze=False)
        for place, (upper, lower) in enumerate(zip(panels[::2].flat, panels[1::2].flat, strict=True)):
            if place >= len(rows):
                upper.remove()
                lower.remove()
                continue
            _draw_row(upper, lower, _in_words(rows[place], channels_of), curves[rows[place]])
            upper.set_ylim(0, 1)
            lower.set_ylim(0, ceiling)
            if place % columns == 0:
                upper.set_ylabel("macro F1")
                lower.set_ylabel("cross-entropy")
        page.legend(handles=[*_legend(), *note], loc="outside lower center", ncols=min(columns, 2), frameon=False)
    return page


def _draw_row(upper: Axes, lower: Axes, title: str, by_metric: Mapping[str, Curve]) -> None:
    runs = max(curve.n.max() for curve in by_metric.values())
    upper.sharex(lower)  # its epochs have no labels, and may begin later
    upper.set_title(f"{title}\n{runs} run{'s' if runs > 1 else ''}", fontsize=8)
    for axes, names in ((upper, (SCORE,)), (lower, LOSSES)):
        for name in names:
            if name in by_metric:
                _draw_curve(axes, name, by_metric[name])
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))  # one epoch has one whole number
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    upper.tick_params(labelbottom=False)
    lower.set_xlabel("epoch")


def _draw_curve(axes: Axes, name: str, curve: Curve) -> None:
    if name == SCORE:
        axes.plot(curve.epochs, curve.runs.T, **SINGLE_RUN)
    axes.fill_between(curve.epochs, curve.low, curve.high, color=LINES[name]["color"], alpha=BAND_OPACITY, linewidth=0)
    marker = "o" if len(curve.epochs) == 1 else ""  # one point makes no line
    axes.plot(curve.epochs, curve.mean, linewidth=1.6, marker=marker, markersize=4, **LINES[name])


def _loss_ceiling(curves: Iterable[Mapping[str, Curve]]) -> tuple[float, bool]:
    """Where the axis of all losses ends, and whether a mean or a band goes beyond."""
    losses = [by_metric[name] for by_metric in curves for name in LOSSES if name in by_metric]
    if not losses:
        return 1.0, False
    tops = np.concatenate([np.fmax(curve.mean, curve.high) for curve in losses])
    usual, highest = float(np.quantile(tops, SHARE_OF_LOSSES_SHOWN)), float(tops.max())
    return (1.05 * highest, False) if highest <= 1.5 * usual else (1.05 * usual, True)


def _legend() -> list[Artist]:
    return [
        Line2D([], [], linewidth=1.6, label="validation: mean of the folds", **LINES[SCORE]),
        Line2D([], [], linewidth=1.6, label="training loss: mean of the folds", **LINES["train/loss"]),
        Patch(color=LINES[SCORE]["color"], alpha=BAND_OPACITY, linewidth=0, label="mean ± standard deviation"),
        Line2D([], [], label="single folds (validation macro F1)", **SINGLE_RUN),
    ]


def _in_words(row: str, channels_of: RowChannels) -> str:
    """`rd_event-shuffled_labels` -> `dose + event MRI, control: shuffled labels`; on lines of their own."""
    return row_name(row, channels_of).replace(", control: ", "\ncontrol: ")
