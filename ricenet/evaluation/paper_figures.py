"""Draw the paper's two figures from our runs.

The same input gives the same bytes: no date, a fixed salt for the ids of an SVG.
"""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch
from matplotlib.patheffects import withStroke
from nibabel.affines import apply_affine, voxel_sizes

from ricenet.cases.case_record import read_case_record
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.display.figure_style import INTERVAL, LABEL_TEXT, STYLE, Look
from ricenet.display.words import PAPERS_ONLY, SHORT_NAMES, RowChannels, row_name
from ricenet.evaluation.summary import RowScores, SplitCounts, SummaryRecord
from ricenet.paper import PAPER

# Told apart by hatch and lightness, so safe in grey; orange and blue, so safe for the colour-blind.
VALIDATION: Look = {"facecolor": "#f6d18a", "hatch": "////", "edgecolor": "#333333", "linewidth": 0.8}
TEST: Look = {"facecolor": "#a9cbe3", "hatch": "...", "edgecolor": "#333333", "linewidth": 0.8}
WIDTH = 0.36
COLUMN_LETTERS = 16  # of a line below the bars of a row
HALO = [withStroke(linewidth=3, foreground="black")]
# role: title, region in truth.npz, caption where that is circled
PANELS = {
    "post": ("Post-OP MRI", "cavity", "circle: resection cavity"),
    "event": ("Event MRI", "lesion", "circle: new lesion"),
    "rd": ("Dose", "lesion", "circle: new lesion"),
}


def results(summary: SummaryRecord, channels_of: RowChannels = PAPERS_ONLY) -> Figure:
    """Figure 2: bars of macro F1 per input combination, validation (striped) beside test (dotted).

    Bar and black error bar are the paper's: mean and standard deviation over folds; majority vote on the test split.
    On each bar stand our estimate with its 95% interval and, where known, the paper's value and the Bayes-optimal one.
    """
    groups = list(summary.sets.items())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(7.0, 1.15 * len(groups) + 1.2), 4.8), layout="constrained")
        axes = figure.subplots()
        for position, (name, scores) in enumerate(groups):
            _draw_group(axes, position, name, scores)
        labels = [_group_label(name, scores, summary, channels_of) for name, scores in groups]
        axes.set_xticks(range(len(groups)), labels)
        axes.set(xlim=(-0.6, len(groups) - 0.4), ylim=(0, 1.02), ylabel="macro F1", yticks=np.arange(0, 1.01, 0.2))
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        columns = 3 if len(groups) > 6 else 2
        figure.legend(handles=_legend(groups), loc="outside lower center", ncols=columns, frameon=False)
        validation, test = summary.cohort.validation, summary.cohort.test
        title = f"Cross-validation: {_cohort_text(validation)}; test: {_cohort_text(test)}"
        if summary.channel_cases:
            title += "\nNot every case has every image: bars are of different cases; contrasts compare the same ones"
        axes.set_title(title, fontsize=9, loc="left", pad=10)
    return figure


def _draw_group(axes: Axes, position: int, name: str, scores: RowScores) -> None:
    paper = PAPER.get(name, {"validation": None, "test": None})
    left, right = position - WIDTH / 2, position + WIDTH / 2
    sd = scores.folds_sd or 0.0
    axes.bar(left, scores.folds_mean, WIDTH, **VALIDATION)
    axes.errorbar(left - 0.09, scores.folds_mean, yerr=sd, color="black", capsize=3, linewidth=1.2)
    _draw_estimate(axes, left + 0.09, scores.oof_macro_f1, scores.oof_interval)
    _draw_paper(axes, left - 0.09, paper["validation"])
    if scores.bayes_macro_f1 is not None:
        axes.hlines(scores.bayes_macro_f1, left - WIDTH / 2, left + WIDTH / 2, color="black", linewidth=2.2)
    if scores.test_vote_macro_f1 is not None and scores.test_interval is not None:
        axes.bar(right, scores.test_vote_macro_f1, WIDTH, **TEST)
        _draw_estimate(axes, right + 0.09, scores.test_vote_macro_f1, scores.test_interval)
        _draw_paper(axes, right - 0.09, paper["test"])


def _draw_estimate(axes: Axes, x: float, value: float, interval: Sequence[float]) -> None:
    reach = [[value - interval[0]], [interval[1] - value]]
    axes.errorbar(x, value, yerr=reach, color=INTERVAL, marker="D", markersize=4, capsize=2, linewidth=1.2)


def _draw_paper(axes: Axes, x: float, value: float | None) -> None:
    if value is not None:
        axes.plot(x, value, marker="o", markersize=6, markerfacecolor="white", markeredgecolor="black", zorder=4)


def _legend(groups: Sequence[tuple[str, RowScores]]) -> list[Artist]:
    estimate = Line2D([], [], color=INTERVAL, marker="D", markersize=4, label="pooled or test value, 95% interval")
    handles: list[Artist] = [
        Patch(label="validation: mean over folds", **VALIDATION),
        Line2D([], [], color="black", marker="|", markersize=9, label="standard deviation over folds"),
        estimate,
        Line2D([], [], color="black", marker="o", markerfacecolor="white", linestyle="", label="the paper's value"),
    ]
    if any(scores.n_test for _, scores in groups):
        handles.insert(1, Patch(label="test: majority vote of the fold models", **TEST))
    if any(scores.bayes_macro_f1 is not None for _, scores in groups):
        handles.append(Line2D([], [], color="black", linewidth=2.2, label="Bayes-optimal decision, same cases"))
    return handles


def _group_label(name: str, scores: RowScores, summary: SummaryRecord, channels_of: RowChannels) -> str:
    label = SHORT_NAMES.get(name) or _in_a_column(row_name(name, channels_of))
    finished, n_folds = scores.folds_finished, summary.n_folds
    lines = [label] if finished == n_folds else [label, f"({finished} of {n_folds} folds)"]
    return "\n".join([*lines, f"n = {scores.n}"] if summary.channel_cases else lines)


def _in_a_column(words: str) -> str:
    """The words of a row in lines that fit below its bars: a line for each channel, short ones for the rest."""
    parts = [
        part.replace(" + ", " +\n") if " + " in part else fill(part, COLUMN_LETTERS, break_on_hyphens=False)
        for part in words.split(", ")
    ]
    return ",\n".join(parts)


def _cohort_text(count: SplitCounts) -> str:
    return f"{count.recurrence} recurrence, {count.rice} RICE"


def patient(cases: Path, case: ReadyCase) -> Figure:
    """Figure 1: axial slices of one case of the `cases` folder: post-OP MRI, event MRI, dose with a colour bar.

    Further channels stand behind, each under its own name.

    Each panel shows the slice with most of what it is about: the cavity or the lesion where truth.npz knows them (and
    then circled), else the highest dose, else the brain. Radiological view: the patient's right is on the left.
    """
    folder = cases / case.folder
    record = read_case_record(cases, case)
    scale_gy = record.dose_scale_gy
    volume = dict(zip(record.channels, np.load(folder / "volume.npy", mmap_mode="r"), strict=True))
    brain, grid = np.load(folder / "brain.npy"), record.affine
    truth = dict(np.load(folder / "truth.npz")) if (folder / "truth.npz").is_file() else {}
    without_truth = volume["rd"] >= 0.95 * volume["rd"].max() if "rd" in volume else brain
    panels = [(role, *PANELS[role]) for role in PANELS if role in volume]
    panels += [(role, role, *PANELS["event"][1:]) for role in volume if role not in PANELS]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.9 * len(panels) + 0.8, 3.9), layout="constrained")
        figure.suptitle(f"Case {case.case_key}: {LABEL_TEXT[case.label]}", fontsize=11)
        for axes, (role, title, region_name, caption) in zip(_row(figure, len(panels)), panels, strict=True):
            region = truth.get(region_name, np.zeros_like(brain))
            level = _fullest_slice(region if region.any() else without_truth)
            z_mm = apply_affine(grid, [*(np.array(brain.shape[:2]) / 2), level])[2]
            axes.set_title(f"{title}, z = {z_mm:+.0f} mm", fontsize=10)
            values = volume[role][:, :, level].astype(np.float32)
            if role == "rd" and scale_gy is not None:
                image = _show_slice(axes, values * scale_gy, brain, level, grid, cmap="inferno", vmin=0)
                figure.colorbar(image, ax=axes, label="dose in Gy", shrink=0.8)
            elif role == "rd":
                image = _show_slice(axes, values, brain, level, grid, cmap="inferno")
                figure.colorbar(image, ax=axes, label="dose (z-score)", shrink=0.8)
            else:
                inside = brain[:, :, level]
                low, high = np.percentile(values[inside], (0.5, 99.7)) if inside.any() else (0, 1)
                _show_slice(axes, np.where(inside, values, low), brain, level, grid, cmap="gray", vmin=low, vmax=high)
            if region.any():
                _circle(axes, region[:, :, level], voxel_sizes(grid))
                axes.set_xlabel(caption)
        _add_scale_bar(figure.axes[0])
    return figure


def _row(figure: Figure, panels: int) -> Sequence[Axes]:
    return figure.subplots(1, panels, squeeze=False)[0]


def _fullest_slice(mask: np.ndarray) -> int:
    return int(mask.sum(axis=(0, 1)).argmax())


def _show_slice(
    axes: Axes, values: np.ndarray, brain: np.ndarray, level: int, world_from_voxel: np.ndarray, **colours: Any
) -> AxesImage:
    """Draw (X, Y) values in mm from the grid's corner, cut to the brain's box, with the brain's outline at `level`."""
    x_mm, y_mm = voxel_sizes(world_from_voxel)[:2]
    width, height = values.shape[0] * x_mm, values.shape[1] * y_mm
    image = axes.imshow(values.T, origin="lower", extent=(0, width, 0, height), interpolation="nearest", **colours)
    outline = np.pad(brain[:, :, level], 1).T  # padded, so that a mask at the border is closed
    centres = [(np.arange(-1, n + 1) + 0.5) * mm for n, mm in zip(values.shape, (x_mm, y_mm), strict=True)]
    if outline.any():
        axes.contour(*centres, outline, levels=[0.5], colors="#bbbbbb", linewidths=0.8)
    across, upwards = (np.flatnonzero(brain.any(axis=other)) for other in ((1, 2), (0, 2)))
    margin_mm = 6
    # Reversed: x grows towards the patient's right, which a radiologist sees on the left.
    axes.set_xlim((across.max() + 1) * x_mm + margin_mm, across.min() * x_mm - margin_mm)
    axes.set_ylim(upwards.min() * y_mm - margin_mm, (upwards.max() + 1) * y_mm + margin_mm)
    axes.set(xticks=[], yticks=[], facecolor="black")
    for place, letter in ((0.05, "R"), (0.95, "L")):
        axes.text(place, 0.93, letter, transform=axes.transAxes, ha="center", color="white", path_effects=HALO)
    return image


def _circle(axes: Axes, region: np.ndarray, spacing_mm: np.ndarray) -> None:
    points_mm = (np.argwhere(region) + 0.5) * spacing_mm[:2]
    centre = (points_mm.min(axis=0) + points_mm.max(axis=0)) / 2
    radius = np.linalg.norm(points_mm - centre, axis=1).max() + 4
    axes.add_patch(Circle(tuple(centre), radius, fill=False, color="white", linewidth=1.5, path_effects=HALO))


def _add_scale_bar(axes: Axes, length_mm: float = 50) -> None:
    right, left = axes.get_xlim()
    low, high = axes.get_ylim()
    start, y = left + 0.04 * (right - left), low + 0.04 * (high - low)
    axes.plot([start, start + length_mm], [y, y], color="white", linewidth=2, path_effects=HALO)
    x, above = start + length_mm / 2, y + 0.015 * (high - low)
    axes.text(x, above, f"{length_mm:.0f} mm", ha="center", color="white", path_effects=HALO)
