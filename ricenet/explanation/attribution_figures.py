"""Charts of what occlusion maps say: the `sets` of explanation/summary.json in; attribution bars and curves out.

For a page 1100 pixels wide; lines and bars are told apart in grey, too.
"""

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ricenet.display.figure_style import INTERVAL, STYLE
from ricenet.display.words import CHANNEL_NAMES, PAPERS_ONLY, RowChannels, short_name
from ricenet.evaluation.paper_figures import VALIDATION
from ricenet.evaluation.probability_curves import (
    COLUMNS,
    PAGE_INCHES,
    SHARES,
    SMALL,
    add_heading,
    in_papers_order,
)
from ricenet.explanation.map_record import CurveSummary, PointingSummary, SetSummary

Look = dict[str, Any]  # keywords of a line
DrawCell = Callable[[Axes, int, Any], None]  # axes, row, what stands there
Rows = Mapping[str, Mapping[str, Any]]  # by set and by column, what stands there

COLUMN_NAMES = {
    "dose_0_20": "0–20 Gy",
    "dose_20_40": "20–40 Gy",
    "dose_40_54": "40–54 Gy",
    "dose_above_54": "> 54 Gy",
    "lesion": "lesion",
    "cavity": "cavity",
    "enhancement": "enhancement",
    "dose_edge": "dose edge",
    "lesion_or_dose_edge": "lesion or\ndose edge",
} | CHANNEL_NAMES
OF_THE_MAP = ("dose_0_20", "dose_20_40", "dose_40_54", "dose_above_54", "lesion", "cavity", "enhancement")
SHARE_TITLE = "Where the map is: share of the absolute map in each region"
POINTING_TITLE = "Pointing game: share of the cases with the map's maximum in the region or within half a cube of it"
CHANNEL_TITLE = "Which channel: share of its map, it alone blanked, in the sum of all channels' absolute maps"
SCALE_END = 0.63  # of a cell's width; behind it stands a number
EXPECTED: Look = {"color": "black", "marker": "|", "markeredgewidth": 2, "linestyle": ""}
TRAINED: Look = {"color": INTERVAL, "marker": "D", "markersize": 4.5, "linewidth": 1.6}
RANDOMISED: Look = TRAINED | {"color": "#666666", "marker": "o", "markerfacecolor": "white"}
ORDERS: dict[str, Look] = {
    "deletion": {"color": INTERVAL, "linewidth": 1.7, "marker": "v", "markersize": 4, "markevery": 4},
    "insertion": {"color": "#2f6fa3", "linewidth": 1.7, "marker": "^", "markersize": 4, "markevery": 4},
}
AT_RANDOM: Look = {"linestyle": (0, (4, 2)), "linewidth": 1.1, "markerfacecolor": "white"}


def draw_attribution(sets: Mapping[str, SetSummary], channels_of: RowChannels = PAPERS_ONLY) -> Figure | None:
    """Where the maps of each modality set lie: a row a set in the paper's order, a column a region or a channel.

    Three panels, each left out where no set has its numbers: the absolute map's share by region, beside an even map's;
    the pointing game, trained networks beside those with shuffled weights and chance; the shares of several channels.

    Args:
        sets: by modalities.

    Returns:
        None where no set has any of these numbers.
    """
    sets = in_papers_order(dict(sets))
    panels: list[tuple[str, Rows, DrawCell]] = [
        (SHARE_TITLE, {name: _map_shares(summary) for name, summary in sets.items()}, _draw_share),
        (POINTING_TITLE, {name: _pointing(summary) for name, summary in sets.items()}, _draw_pointing),
        (CHANNEL_TITLE, {name: _channel_shares(summary) for name, summary in sets.items()}, _draw_share),
    ]
    panels = [(title, {name: row for name, row in rows.items() if row}, draw) for title, rows, draw in panels]
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        return None
    labels = {name: _row_label(name, summary.n, channels_of) for name, summary in sets.items()}
    with mpl.rc_context(STYLE | {"font.size": SMALL}):
        heights = [0.36 * len(rows) + 0.9 for _, rows, _ in panels]
        figure = Figure(figsize=(PAGE_INCHES, sum(heights) + 0.5), layout="constrained")
        parts = figure.subfigures(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
        for part, (title, rows, draw) in zip(parts, panels, strict=True):
            part.suptitle(title, fontsize=SMALL + 0.5, x=0.01, ha="left")
            _draw_cells(part, {labels[name]: row for name, row in rows.items()}, draw)
        figure.legend(handles=_attribution_legend(sets), loc="outside lower center", ncols=2, frameon=False)
    return figure


def _row_label(name: str, n: int, channels_of: RowChannels) -> str:
    """In lines of at most 20 letters, broken between channels only."""
    words = f"{short_name(name, channels_of)}, n = {n}".replace(" MRI", "\xa0MRI").replace("n = ", "n\xa0=\xa0")
    return textwrap.fill(words, 20, break_on_hyphens=False)


def _map_shares(summary: SetSummary) -> dict[str, tuple[float, float]]:
    """Region -> the map's share, an even map's."""
    shares = summary.median_map_share
    return {name: (shares[name], summary.median_brain_share[name]) for name in OF_THE_MAP if name in shares}


def _channel_shares(summary: SetSummary) -> dict[str, tuple[float, float]]:
    """Channel -> its share, that of each if all had the same; of a single channel there is nothing to say."""
    shares = summary.median_channel_share
    return {name: (share, 1 / len(shares)) for name, share in shares.items() if len(shares) > 1}


def _pointing(summary: SetSummary) -> dict[str, tuple[PointingSummary, PointingSummary | None]]:
    """Region -> how the trained networks point, how those with shuffled weights do where there are any."""
    shuffled = {} if summary.randomised is None else summary.randomised.pointing
    return {name: (trained, shuffled.get(name)) for name, trained in summary.pointing.items()}


def _draw_cells(part: SubFigure, rows: Rows, draw: DrawCell) -> None:
    """One panel: a row a set, a column for all that any set has, by COLUMN_NAMES; further channels last."""
    present = dict.fromkeys(name for row in rows.values() for name in row)
    columns = [name for name in dict.fromkeys([*COLUMN_NAMES, *present]) if name in present]
    all_axes = part.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for name, axes in zip(columns, all_axes, strict=True):
        axes.set_title(COLUMN_NAMES.get(name, name), fontsize=SMALL)
        for place, row in enumerate(rows.values()):
            if name in row:
                draw(axes, place, row[name])
        axes.set(yticks=range(len(rows)), yticklabels=list(rows), ylim=(len(rows) - 0.5, -0.5))
        for between in range(1, len(rows)):
            axes.axhline(between - 0.5, color="#dddddd", linewidth=0.6)
        axes.tick_params(axis="y", length=0, pad=6)
        axes.spines[["top", "right"]].set_visible(False)
    for banded in (True, False):  # a dose band's shares are large, a lesion's small: each kind has its own scale
        alike = [one for name, one in zip(columns, all_axes, strict=True) if name.startswith("dose_") == banded]
        for axes in alike:
            _set_scale(axes, max(one.dataLim.x1 for one in alike))


def _set_scale(axes: Axes, highest: float) -> None:
    """From 0 to the highest, with room behind for a number in each row."""
    ticks = [tick for tick in MaxNLocator(2, steps=[1, 2, 5, 10]).tick_values(0, highest) if tick <= highest]
    axes.set_xticks(ticks, [f"{100 * tick:g}%" for tick in ticks])
    axes.set_xlim(0, highest / SCALE_END)


def _draw_share(axes: Axes, row: int, shares: tuple[float, float]) -> None:
    share, even_share = shares
    axes.barh(row, share, 0.6, **VALIDATION)
    axes.plot(even_share, row, markersize=15, **EXPECTED)
    _write(axes, row, f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}", "black")


def _draw_pointing(axes: Axes, row: int, pointing: tuple[PointingSummary, PointingSummary | None]) -> None:
    estimates = [(one, look) for one, look in zip(pointing, (TRAINED, RANDOMISED), strict=True) if one is not None]
    for place, (one, look) in enumerate(estimates):
        y = row + 0.4 * (place - (len(estimates) - 1) / 2)
        axes.plot(one.chance, y, markersize=9, **EXPECTED)
        axes.hlines(y, *one.interval, color=look["color"], linewidth=look["linewidth"])
        axes.plot(one.rate, y, clip_on=False, zorder=3, **look)
        _write(axes, y, f"{one.hits}/{one.n}", look["color"])
    axes.update_datalim([(1, row)])  # the scale ends at 1 whatever the rates are


def _write(axes: Axes, y: float, number: str, color: str) -> None:
    axes.text(SCALE_END + 0.07, y, number, color=color, va="center", transform=axes.get_yaxis_transform())


def _attribution_legend(sets: Mapping[str, SetSummary]) -> list[Any]:
    handles: list[Any] = [
        Patch(label="median over the cases", **VALIDATION),
        Line2D([], [], label="what an even map, or chance, would give", markersize=9, **EXPECTED),
    ]
    if any(summary.pointing for summary in sets.values()):
        handles.append(Line2D([], [], label="trained network, 95% interval; hits/cases", **TRAINED))
    if any(summary.randomised for summary in sets.values()):
        handles.append(Line2D([], [], label="the same with its weights shuffled", **RANDOMISED))
    return handles


def draw_curves(sets: Mapping[str, SetSummary], channels_of: RowChannels = PAPERS_ONLY) -> Figure | None:
    """Mean deletion and insertion curves, in the map's order and at random; a panel a set, in the paper's order.

    Args:
        sets: by modalities.

    Returns:
        None where no set has curves.
    """
    curves = {name: summary.curves for name, summary in in_papers_order(dict(sets)).items() if summary.curves}
    if not curves:
        return None
    columns = min(COLUMNS, len(curves))
    rows = -(-len(curves) // columns)
    with mpl.rc_context(STYLE | {"font.size": SMALL}):
        size = (max(PAGE_INCHES * columns / COLUMNS, 4.2), 2.8 * rows + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        cells = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in cells[len(curves) :]:
            axes.remove()
        for axes, (name, summary) in zip(cells, curves.items(), strict=False):
            _draw_orders(axes, name, summary, channels_of)
        ncols = 4 if columns == COLUMNS else 2
        labels = cells[0].get_legend_handles_labels()
        figure.legend(*labels, loc="outside lower center", ncols=ncols, handlelength=3, frameon=False)
    return figure


def _draw_orders(axes: Axes, name: str, summary: CurveSummary, channels_of: RowChannels) -> None:
    orders = {
        "deletion": (summary.deletion, summary.deletion_random),
        "insertion": (summary.insertion, summary.insertion_random),
    }
    for order, (by_map, at_random) in orders.items():
        look = ORDERS[order]
        axes.plot(summary.fraction, by_map, label=f"{order}, map's order", clip_on=False, **look)
        axes.plot(summary.fraction, at_random, label=f"{order}, at random", clip_on=False, **(look | AT_RANDOM))
    axes.set_xticks(list(SHARES), list(SHARES.values()))
    axes.set_yticks(list(SHARES), list(SHARES.values()))
    axes.set(xlim=(0, 1), ylim=(0, 1.03))
    axes.set(xlabel="share of the brain\nblanked or put back", ylabel="predicted class's probability")
    axes.spines[["top", "right"]].set_visible(False)
    better = f"deletion lower in {summary.n_deletion_better}\ninsertion higher in {summary.n_insertion_better}"
    add_heading(axes, name, f"against random order, n = {summary.n}:\n{better}", channels_of)
