"""Draw ROC curves, reliability diagrams and the decision curve of a summary.

One small panel a row of the results, in the paper's order, drawn for a page about 1100 pixels wide.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ricenet.display.figure_style import INTERVAL, STYLE, Look
from ricenet.display.words import PAPERS_ONLY, SHORT_NAMES, RowChannels, number, short_name, with_interval
from ricenet.evaluation.sentences import main_set
from ricenet.evaluation.summary import RowScores, SummaryRecord
from ricenet.paper import PAPER, PAPER_CHANNELS
from ricenet.statistics.calibration import Calibration

PAGE_INCHES = 7.33  # width of a page, 1100 pixels
COLUMNS = 4
SMALL = 7.5  # points, as the next two
LINE = 1.2 * SMALL
LABEL_WIDTH = 33  # of a panel's ticks and label on the left
WITHOUT_CURVE = ("majority_class",)  # its probabilities are all the same
GUIDE: Look = {"color": "#8a8a8a", "linewidth": 1.0, "linestyle": (0, (4, 3))}
OURS: Look = {"color": INTERVAL, "linewidth": 1.6}
CASES: Look = {"facecolor": "#c9c9c9", "edgecolor": "#8a8a8a", "linewidth": 0.5}
HISTOGRAM_FLOOR = -0.38
HISTOGRAM_HEIGHT = 0.28
SHARES = {0: "0", 0.5: "0.5", 1: "1"}
NET_BENEFIT_FLOOR = -0.15
OfSet = TypeVar("OfSet")
DECISION_LINES: dict[str, Look] = {
    "network": {"color": INTERVAL, "linewidth": 2.0, "linestyle": "-"},
    "dose_volume": {"color": "#3f86bd", "linewidth": 1.8, "linestyle": (0, (6, 2))},
    "all": {"color": "#444444", "linewidth": 1.3, "linestyle": (0, (5, 2, 1, 2))},
    "none": {"color": "#777777", "linewidth": 1.3, "linestyle": (0, (1, 1.5))},
}


def in_papers_order(sets: Mapping[str, OfSet]) -> dict[str, OfSet]:
    """The sets as the paper lists them, others behind."""
    return {name: sets[name] for name in dict.fromkeys([*PAPER, *sets]) if name in sets}


def roc_curves(summary: SummaryRecord, channels_of: RowChannels = PAPERS_ONLY) -> Figure:
    """ROC curves of the pooled out-of-fold probabilities, one panel a set and baseline, AUROC with its 95% interval."""
    handles: list[Artist] = [
        Line2D([], [], label="pooled out of fold", **OURS),
        Line2D([], [], label="chance", **GUIDE),
    ]
    return _small_multiples(summary, channels_of, _draw_roc, 1.6, handles)


def calibration_curves(summary: SummaryRecord, channels_of: RowChannels = PAPERS_ONLY) -> Figure:
    """Reliability diagrams of the pooled out-of-fold probabilities: share of rice in up to five bins, 95% intervals."""
    handles: list[Artist] = [
        Line2D([], [], marker="D", markersize=4, label="bin of cases, 95% interval", **OURS),
        Line2D([], [], label="perfect calibration", **GUIDE),
        Patch(label="where the cases lie", **CASES),
    ]
    return _small_multiples(summary, channels_of, _draw_calibration, 2.2, handles)


def _small_multiples(
    summary: SummaryRecord,
    channels_of: RowChannels,
    draw: Callable[[Axes, RowScores], str],
    height: float,
    handles: list[Artist],
) -> Figure:
    """A panel a row of the results. draw: fills the axes with a row's scores and returns the numbers to print above.

    Args:
        height: of a panel's axes and labels in inches, without the lines of text above.
    """
    panels = in_papers_order(summary.sets) | summary.baselines
    panels = {name: scores for name, scores in panels.items() if name not in WITHOUT_CURVE}
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with mpl.rc_context(STYLE | {"font.size": SMALL}):
        size = (max(PAGE_INCHES * columns / COLUMNS, 3.2), (height + 0.75) * rows + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        cells = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in cells[len(panels) :]:
            axes.remove()
        for axes, (name, scores) in zip(cells, panels.items(), strict=False):
            numbers = draw(axes, scores)
            add_heading(axes, name, numbers, channels_of)
        figure.legend(
            handles=handles, loc="outside lower center", ncols=len(handles) if columns > 2 else 1, frameon=False
        )
    return figure


def add_heading(axes: Axes, name: str, numbers: str, channels_of: RowChannels = PAPERS_ONLY) -> None:
    """Above the axes, from their label's edge on: the row's name in bold, in two lines if long, and its numbers."""
    lines = numbers.count("\n") + 1
    for text, up, weight in ((numbers, 4, "normal"), (_in_two_lines(name, channels_of), 7 + LINE * lines, "bold")):
        place: Look = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
        axes.annotate(text, (0, 1), (-LABEL_WIDTH, up), fontsize=SMALL, fontweight=weight, **place)


def _in_two_lines(name: str, channels_of: RowChannels) -> str:
    words = SHORT_NAMES.get(name) or short_name(name, channels_of)
    if "\n" in words or len(words) < 20 or " + " not in words:
        return words
    first, _, last = words.rpartition(" + ")
    return f"{first}\n+ {last}"


def _set_shares(axes: Axes, x_label: str, y_label: str) -> None:
    """Both axes are shares from 0 to 1."""
    axes.set_xticks(list(SHARES), list(SHARES.values()))
    axes.set_yticks(list(SHARES), list(SHARES.values()))
    axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), xlabel=x_label, ylabel=y_label)
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_roc(axes: Axes, scores: RowScores) -> str:
    axes.plot([0, 1], [0, 1], **GUIDE)
    axes.plot(scores.roc.fpr, scores.roc.tpr, **OURS)
    _set_shares(axes, "1 − specificity", "sensitivity for RICE")
    interval = scores.oof_intervals.auroc
    none = "" if interval else ", no interval"
    return f"AUROC {with_interval(scores.oof.auroc, interval)}{none}\nn = {scores.n}"


def _draw_calibration(axes: Axes, scores: RowScores) -> str:
    calibration = scores.calibration
    axes.plot([0, 1], [0, 1], **GUIDE)
    x, y, intervals = zip(
        *((group.mean_probability, group.observed, group.interval) for group in calibration.bins), strict=True
    )
    axes.vlines(x, *zip(*intervals, strict=True), **OURS)
    axes.plot(x, y, color=INTERVAL, linewidth=0.8, marker="D", markersize=3.5)
    counts = calibration.histogram
    heights = [HISTOGRAM_HEIGHT * count / max(counts) for count in counts]
    middles = [(step + 0.5) / len(counts) for step in range(len(counts))]
    axes.bar(middles, heights, 1 / len(counts), bottom=HISTOGRAM_FLOOR, **CASES)
    _set_shares(axes, "probability of RICE", "observed share of RICE")
    axes.set_ylim(HISTOGRAM_FLOOR, 1.04)
    return _calibration_text(calibration, scores.n)


def _calibration_text(calibration: Calibration, n: int) -> str:
    brier = f"Brier {number(calibration.brier)}, n = {n}"
    if calibration.slope is None or calibration.intercept is None:
        return f"{brier}\nslope, intercept:\nnot estimable"
    slope = with_interval(calibration.slope, calibration.slope_interval)
    intercept = with_interval(calibration.intercept, calibration.intercept_interval)
    return f"{brier}\nslope {slope}\nintercept {intercept}"


def _dose_volume_on_same_cases(summary: SummaryRecord, name: str) -> RowScores | None:
    """The baseline; None in a partial cohort where some of its cases, those with a dose, lack images of the set."""
    baseline = summary.baselines.get("dose_volume")
    if baseline is None or not summary.channel_cases:
        return baseline
    same = "rd" in PAPER_CHANNELS.get(name, ()) and baseline.n == summary.sets[name].n
    return baseline if same else None


def decision_curves(summary: SummaryRecord, channels_of: RowChannels = PAPERS_ONLY) -> Figure:
    """Net benefit over the threshold: all channels (or the last set there is), dose-volume baseline, treat all, none.

    In a partial cohort the baseline is left out where it is of other cases than the set.
    The set is chosen by its place in the paper's order, never by its result.
    """
    sets = in_papers_order(summary.sets)
    name = main_set(summary) or list(sets)[-1]
    scores = sets[name]
    baseline = _dose_volume_on_same_cases(summary, name)
    curve = scores.decision_curve
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PAGE_INCHES, 4.0), layout="constrained")
        axes = figure.subplots()
        axes.plot(curve.threshold, curve.all, label="treat all as RICE", **DECISION_LINES["all"])
        axes.axhline(0, label="treat none as RICE", **DECISION_LINES["none"])
        if baseline is not None:
            other, label = baseline.decision_curve, f"{short_name('dose_volume')}, n = {baseline.n}"
            axes.plot(other.threshold, other.model, label=label, **DECISION_LINES["dose_volume"])
        label = f"{short_name(name, channels_of)}, n = {scores.n}"
        axes.plot(curve.threshold, curve.model, label=label, **DECISION_LINES["network"])
        top = max([*curve.model, *curve.all, *(baseline.decision_curve.model if baseline else [])])
        axes.set(xlim=(0, 1), ylim=(NET_BENEFIT_FLOOR, 1.1 * max(top, 0.1)), yticks=np.arange(-0.1, top + 0.05, 0.1))
        axes.set_xlabel("threshold: probability of RICE from which on it is treated as RICE")
        axes.set_ylabel(f"net benefit in true RICE per case\n(not shown below {number(NET_BENEFIT_FLOOR)})")
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=2, frameon=False, handlelength=3.2)
    return figure
