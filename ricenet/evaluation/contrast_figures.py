"""Draw the forest plot of the declared contrasts and the confusion matrices of a summary."""

from collections.abc import Iterable

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ricenet.display.figure_style import INTERVAL, LABEL_TEXT, STYLE, Look
from ricenet.display.words import PAPERS_ONLY, RowChannels, in_lines, p_in_words, short_name, with_interval
from ricenet.evaluation.probability_curves import (
    COLUMNS,
    PAGE_INCHES,
    SMALL,
    add_heading,
    in_papers_order,
)
from ricenet.evaluation.summary import Confusion, Contrast, OmnibusTest, PowerStatement, SummaryRecord

BAND: Look = {"color": "#e0e0e0", "linewidth": 0}
# Left ends of the columns of text, in widths of all of them.
DIFFERENCE = 0.0
PAIRS = 0.42
HOLM_P = 0.705
VERDICT = 0.87
HEADINGS = {
    DIFFERENCE: "difference\n[95% interval]",
    PAIRS: "only one right\nfirst : second",
    HOLM_P: "Holm p",
    VERDICT: "passed",
}
FULL_SHADE = 2.2  # on the grey map's scale a share of 1 is less than half, so that black text stays readable


def differences(summary: SummaryRecord, channels_of: RowChannels = PAPERS_ONLY) -> Figure | None:
    """Forest plot of the declared contrasts, top down as declared; None where there is none.

    The band is what this cohort could not have shown; a marker is filled where the contrast passed.
    """
    contrasts = summary.contrasts
    if not contrasts:
        return None
    smallest = summary.power.smallest_detectable
    with mpl.rc_context(STYLE | {"font.size": SMALL}):
        names = [_contrast_in_words(name, channels_of) for name in contrasts]
        row_inches = 0.15 * max(name.count("\n") + 1 for name in names) + 0.1
        figure = Figure(figsize=(PAGE_INCHES, row_inches * len(contrasts) + 1.6), layout="constrained")
        axes, text = figure.subplots(1, 2, width_ratios=(1, 1.45))
        if smallest is not None:
            axes.axvspan(-smallest, smallest, **BAND)
        axes.axvline(0, color="black", linewidth=0.8)
        all_cases = summary.cohort.validation.cases if summary.channel_cases else None
        for row, contrast in enumerate(contrasts.values()):
            _draw_difference(axes, row, contrast)
            _write_difference(text, row, contrast, all_cases)
        axes.set_yticks(range(len(contrasts)), names)
        axes.set(xlabel="difference in macro F1, first minus second", ylim=(len(contrasts) - 0.5, -0.5))
        axes.set_xlim(_symmetric_limits(contrasts.values(), smallest))
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        _set_text_column(text, len(contrasts))
        figure.legend(handles=_legend(summary.power), loc="outside lower center", ncols=2, frameon=False)
        figure.suptitle(_title(summary), fontsize=SMALL + 0.5, x=0.01, ha="left")
    return figure


def _contrast_in_words(name: str, channels_of: RowChannels) -> str:
    ours, _, theirs = name.partition(" - ")
    return f"{in_lines(short_name(ours, channels_of))}\nminus {short_name(theirs, channels_of)}"


def _draw_difference(axes: Axes, row: int, contrast: Contrast) -> None:
    value = contrast.difference
    axes.hlines(row, *contrast.interval, color=INTERVAL, linewidth=1.6)
    axes.plot(value, row, **_marker(contrast.passed))


def _marker(passed: bool) -> Look:
    face = INTERVAL if passed else "white"
    return {"marker": "D", "markersize": 6, "markeredgecolor": INTERVAL, "markerfacecolor": face, "color": INTERVAL}


def _write_difference(text: Axes, row: int, contrast: Contrast, all_cases: int | None) -> None:
    """all_cases: of a partial cohort, whose rows have different ones in common."""
    share = "" if all_cases is None else f"\n({contrast.n} of {all_cases} cases)"
    pairs, p = contrast.mcnemar, contrast.p_holm
    words = {
        DIFFERENCE: with_interval(contrast.difference, contrast.interval, "+"),
        PAIRS: f"{pairs.only_ours} : {pairs.only_theirs} of {contrast.n}{share}",
        HOLM_P: "<0.001" if p < 0.001 else f"{p:.3f}",
        VERDICT: "yes" if contrast.passed else "no",
    }
    for x, word in words.items():
        text.text(x, row, word, va="center")


def _set_text_column(text: Axes, rows: int) -> None:
    """The columns of text share the rows of the plot; their headings stand above it."""
    text.set(xlim=(0, 1), ylim=(rows - 0.5, -0.5))
    text.axis("off")
    for x, heading in HEADINGS.items():
        text.annotate(heading, (x, 1), (0, 4), "axes fraction", "offset points", va="bottom", fontweight="bold")


def _symmetric_limits(contrasts: Iterable[Contrast], smallest: float | None) -> tuple[float, float]:
    ends = [abs(end) for contrast in contrasts for end in (contrast.difference, *contrast.interval)]
    reach = 1.08 * max(*ends, smallest or 0.0, 0.05)
    return -reach, reach


def _legend(power: PowerStatement) -> list[Artist]:
    handles: list[Artist] = [
        Line2D([], [], label="passed", linewidth=1.6, **_marker(True)),
        Line2D([], [], label="not passed; bar: 95% interval", linewidth=1.6, **_marker(False)),
    ]
    smallest = power.smallest_detectable
    if smallest is None:
        return [*handles, Patch(alpha=0, label="so few cases can show no difference of any size")]
    who = "this cohort shows"
    if power.cohort_patients is not None:
        who = f"the {power.patients} patients of the smallest contrast show"
    return [*handles, Patch(label=f"less than {who} with 80% power (±{smallest:.3f} of accuracy)", **BAND)]


def _title(summary: SummaryRecord) -> str:
    common = "\nNot every case has every image: each contrast is over the cases that have those of both sets."
    return _omnibus_text(summary.omnibus) + common * bool(summary.channel_cases)


def _omnibus_text(omnibus: OmnibusTest | None) -> str:
    if omnibus is None:
        return "Passed: Holm p below 0.05. Cochran's Q over all sets cannot be computed."
    q = f"Q = {omnibus.q:.1f}, {omnibus.df} degrees of freedom, {p_in_words(omnibus.p)}, n = {omnibus.n}"
    return f"Passed: Holm p and the p of Cochran's Q over all sets below 0.05 ({q})."


def confusion_matrices(summary: SummaryRecord, channels_of: RowChannels = PAPERS_ONLY) -> Figure:
    """Truth against prediction for every set: pooled out of fold, and the majority vote on the test split.

    Shade and percentage are shares of the row, that is of the cases with that truth.
    """
    sets = in_papers_order(summary.sets)
    blocks = {
        "Cross-validation: every case predicted once, out of fold": {
            name: scores.oof_confusion for name, scores in sets.items()
        },
        "Test split: majority vote of the fold models": {
            name: scores.test_confusion for name, scores in sets.items() if scores.test_confusion is not None
        },
    }
    blocks = {title: matrices for title, matrices in blocks.items() if matrices}
    rows = [-(-len(matrices) // COLUMNS) for matrices in blocks.values()]
    columns = min(COLUMNS, len(sets))
    with mpl.rc_context(STYLE | {"font.size": SMALL}):
        width = max(PAGE_INCHES * columns / COLUMNS, 4.2)
        figure = Figure(figsize=(width, 2.2 * sum(rows) + 0.4 * len(blocks)), layout="constrained")
        parts = figure.subfigures(len(blocks), 1, height_ratios=rows, squeeze=False)[:, 0]
        for part, n_rows, (title, matrices) in zip(parts, rows, blocks.items(), strict=True):
            part.suptitle(title, fontsize=SMALL + 1.5, x=0.01, ha="left")
            _draw_matrices(part, n_rows, columns, matrices, channels_of)
    return figure


def _draw_matrices(
    part: SubFigure, rows: int, columns: int, matrices: dict[str, Confusion], channels_of: RowChannels
) -> None:
    cells = part.subplots(rows, columns, squeeze=False).ravel()
    for axes in cells[len(matrices) :]:
        axes.remove()
    for axes, (name, counts) in zip(cells, matrices.items(), strict=False):
        _draw_matrix(axes, np.array([[counts.tn, counts.fp], [counts.fn, counts.tp]]))
        add_heading(axes, name, f"n = {counts.n}", channels_of)


def _draw_matrix(axes: Axes, counts: np.ndarray) -> None:
    """counts: (2, 2), truth by prediction, recurrence first."""
    cases = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(cases, 1)
    axes.imshow(shares, cmap="Greys", vmin=0, vmax=FULL_SHADE)
    for (truth, prediction), share in np.ndenumerate(shares):
        percent = f"\n{share:.0%}" if cases[truth] else ""
        axes.text(prediction, truth, f"{counts[truth, prediction]}{percent}", ha="center", va="center")
    axes.set_xticks((0, 1), LABEL_TEXT)
    axes.set_yticks((0, 1), LABEL_TEXT, rotation=90, va="center")
    axes.set(xlabel="prediction", ylabel="truth")
    axes.tick_params(length=0)
