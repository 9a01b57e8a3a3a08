"""Draw every row of a summary in one forest plot, networks and rows without one; the network and its best row first."""

from typing import NamedTuple

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ricenet.display.figure_style import INTERVAL, STYLE, Look
from ricenet.display.words import PAPERS_ONLY, RowChannels, short_name, with_interval
from ricenet.evaluation.probability_curves import PAGE_INCHES, SMALL, in_papers_order
from ricenet.evaluation.sentences import networks_and_baselines
from ricenet.evaluation.summary import RowScores, SummaryRecord
from ricenet.paper import PAPER

NETWORK: Look = {"marker": "D", "markersize": 5, "color": INTERVAL}
WITHOUT_NETWORK: Look = {"marker": "s", "markersize": 4.5, "color": "#2f6f9f"}
PUBLISHED: Look = {"marker": "o", "markersize": 6, "markerfacecolor": "white", "markeredgecolor": "black"}
BAYES: Look = {"marker": "|", "markersize": 11, "markeredgewidth": 2, "color": "black"}
ROW_INCHES = 0.27
TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)
HEADING = 0.9  # what a heading takes, in rows
# Left ends of the columns of text, in widths of all of them.
CASES, MACRO_F1, TEST = 0.0, 0.16, 0.58


class Block(NamedTuple):
    """Rows under one heading, top down."""

    heading: str
    rows: dict[str, RowScores]


def rows(summary: SummaryRecord, channels_of: RowChannels = PAPERS_ONLY) -> Figure:
    """Forest plot of the pooled macro F1 of all rows, with 95% intervals, the paper's value and the Bayes-optimal one.

    First stands each main network with the best row that it was declared to be compared with; then the other networks
    in the paper's order, then the other rows without a network.
    """
    blocks = in_blocks(summary)
    places = _places(blocks)
    bottom = max(places.values()) + 0.6
    with mpl.rc_context(STYLE | {"font.size": SMALL}):
        figure = Figure(figsize=(PAGE_INCHES, ROW_INCHES * bottom + 1.4), layout="constrained")
        axes, text = figure.subplots(1, 2, width_ratios=(1.15, 1))
        for block in blocks:
            above = places[next(iter(block.rows))] - HEADING
            axes.annotate(block.heading, (0, above), fontweight="bold", va="center", annotation_clip=False)
            for name, scores in block.rows.items():
                _draw_row(axes, places[name], name, scores, name in summary.sets)
                _write_row(text, places[name], scores)
        axes.set_yticks(list(places.values()), [short_name(name, channels_of).replace(", ", ",\n") for name in places])
        axes.set_xticks(TICKS)
        axes.set(xlabel="pooled macro F1, 95% interval", xlim=(-0.02, 1.02), ylim=(bottom, 0))
        axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        _set_text_columns(text, bottom)
        figure.legend(handles=_legend(summary), loc="outside lower center", ncols=2, frameon=False)
        if summary.channel_cases:
            note = "Not every case has every image: rows are of different cases; contrasts compare the same ones."
            figure.suptitle(note, fontsize=SMALL + 0.5, x=0.01, ha="left")
    return figure


def _places(blocks: list[Block]) -> dict[str, float]:
    """Row -> its height in the figure, in rows from the top; each block has a heading above."""
    places: dict[str, float] = {}
    place = -0.4
    for block in blocks:
        place += 0.4 + HEADING
        for name in block.rows:
            places[name] = (place := place + 1) - 0.5
    return places


def in_blocks(summary: SummaryRecord) -> list[Block]:
    """All rows, each once, in the order of the figure; a block without rows is left out."""
    every = {**in_papers_order(summary.sets), **summary.baselines}
    first = list(dict.fromkeys(name for pair in networks_and_baselines(summary) for name in pair))
    networks = [name for name in every if name in summary.sets and name not in first]
    others = [name for name in summary.baselines if name not in first]
    blocks = {
        "network, and the best row it was declared against": first,
        "networks": networks,
        "rows without a network": others,
    }
    return [Block(heading, {name: every[name] for name in names}) for heading, names in blocks.items() if names]


def _draw_row(axes: Axes, place: float, name: str, scores: RowScores, is_network: bool) -> None:
    look = NETWORK if is_network else WITHOUT_NETWORK
    axes.hlines(place, *scores.oof_interval, color=look["color"], linewidth=1.6)
    published = PAPER[name]["validation"] if name in PAPER else None
    if published is not None:
        axes.plot(published, place, **PUBLISHED)
    if scores.bayes_macro_f1 is not None:
        axes.plot(scores.bayes_macro_f1, place, **BAYES)
    axes.plot(scores.oof_macro_f1, place, **look)


def _write_row(text: Axes, place: float, scores: RowScores) -> None:
    vote = scores.test_vote_macro_f1
    words = {
        CASES: str(scores.n),
        MACRO_F1: with_interval(scores.oof_macro_f1, scores.oof_interval),
        TEST: "–" if vote is None else with_interval(vote, scores.test_interval),
    }
    for x, word in words.items():
        text.text(x, place, word, va="center")


def _set_text_columns(text: Axes, bottom: float) -> None:
    text.set(xlim=(0, 1), ylim=(bottom, 0))
    text.axis("off")
    headings = {
        CASES: "cases",
        MACRO_F1: "macro F1\npooled [95%]",
        TEST: "macro F1\ntest vote [95%]",
    }
    for x, heading in headings.items():
        text.annotate(heading, (x, 1), (0, 4), "axes fraction", "offset points", va="bottom", fontweight="bold")


def _legend(summary: SummaryRecord) -> list[Artist]:
    handles: list[Artist] = [Line2D([], [], label="network", linewidth=1.6, **NETWORK)]
    if summary.baselines:
        handles.append(Line2D([], [], label="no network, same folds", linewidth=1.6, **WITHOUT_NETWORK))
    if any(PAPER[name]["validation"] is not None for name in summary.sets.keys() & PAPER.keys()):
        handles.append(Line2D([], [], label="the paper's value, other patients", linestyle="", **PUBLISHED))
    if any(scores.bayes_macro_f1 is not None for scores in summary.sets.values()):
        handles.append(Line2D([], [], label="Bayes-optimal decision, same cases", linestyle="", **BAYES))
    return handles
