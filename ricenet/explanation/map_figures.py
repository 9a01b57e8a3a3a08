"""Pictures of occlusion maps: a case's map, or a set's mean map, over the MRI in three planes; fit for grey, too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import AbstractPathEffect, withStroke
from nibabel.affines import apply_affine, voxel_sizes

from ricenet.display.figure_style import DOSE_CONTOURS_GY, MAP_COLOURS, STYLE
from ricenet.display.words import CHANNEL_NAMES
from ricenet.evaluation.paper_figures import HALO
from ricenet.evaluation.probability_curves import PAGE_INCHES, SMALL
from ricenet.explanation.explained_case import Scene
from ricenet.images.views import peak

Look = dict[str, Any]  # keywords of lines
Contour = tuple[str, Look, np.ndarray, float]  # name, look, volume (X, Y, Z), level

PLANES = ("sagittal", "coronal", "axial")  # by the voxel axis they are normal to, in RAS+
SIDES = ("APSI", "RLSI", "RLAP")  # of each plane: left, right, above, below, in radiological convention
PLACES = ((0.03, 0.5), (0.97, 0.5), (0.5, 0.97), (0.5, 0.03))
ALIGNED = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))
MARGIN_MM, GAP_MM, SCALE_MM = 14, 9, 50  # around the brain; from the crosshair to what it marks; of the scale bar
SEEN: Look = {"color": "white", "linestyle": ":", "linewidth": 1.2}
LESION: Look = {"color": "#7dff5a", "linestyle": "-", "linewidth": 2.2}
OUTLINE: list[AbstractPathEffect] = [withStroke(linewidth=3.2, foreground="black", alpha=0.5)]
CROSSHAIR: Look = {"color": "white", "linewidth": 0.8, "alpha": 0.85}
DIMMED = 1.7  # times as wide a window of grey under the map
DROP = (
    "drop in the probability of the predicted class when blanked there\n"
    "(above 0, red to yellow: the prediction needs what is there; below 0, blue: what is there speaks against it)"
)
NOTHING = "Nothing that was blanked lowers the probability; cut through the middle of the brain"
UNREGISTERED = (
    "Mean over {n} cases, laid upon one another by the middle of their brain's box only:\n"
    "no registration, so places correspond roughly and fine anatomy is blurred."
)


@dataclass(frozen=True)
class Plane:
    """A cut: the voxel axis it is normal to, the voxel it goes through, a voxel's edges in mm.

    It is drawn in mm from the grid's corner, the first of its own two axes across, the second up.
    """

    axis: int
    at: tuple[int, ...]
    spacing_mm: np.ndarray

    @property
    def own(self) -> list[int]:
        return [axis for axis in range(3) if axis != self.axis]

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """(X, Y, Z) to (up, across)."""
        return np.take(volume, self.at[self.axis], axis=self.axis).T

    def show(self, axes: Axes, volume: np.ndarray, **look: Any) -> None:
        across_mm, up_mm = np.array(volume.shape)[self.own] * self.spacing_mm[self.own]
        axes.imshow(self.cut(volume), origin="lower", extent=(0, across_mm, 0, up_mm), **look)

    def meets(self, contour: Contour) -> bool:
        _, _, volume, level = contour
        values = self.cut(volume)
        return bool(values.min() < level < values.max())

    def trace(self, axes: Axes, contour: Contour) -> None:
        _, look, volume, level = contour
        centres = [(np.arange(volume.shape[axis]) + 0.5) * self.spacing_mm[axis] for axis in self.own]
        lines = axes.contour(*centres, self.cut(volume), [level], colors=look["color"], linewidths=look["linewidth"])
        lines.set_linestyle(look["linestyle"])
        lines.set_path_effects(OUTLINE)


def draw_case(scene: Scene, drop: np.ndarray, title: str) -> Figure:
    """Axial, coronal and sagittal planes through the map's maximum: above the MRI, below the map over it.

    Args:
        drop: (X, Y, Z) probability drop on the scene's grid. Without a positive value the planes go through the middle
            of the brain's box, and the figure says so.

    Returns:
        A figure in radiological convention: the patient's right is on the left, in sagittal planes the front is. Dose
        in Gy, the known lesion and the crop that the models see, where there are any, as contours.
    """
    contours = _dose_contours(scene.dose_gy, "")
    if "lesion" in scene.truth:
        contours.append(("known lesion", LESION, scene.truth["lesion"].astype(np.float32), 0.5))
    if scene.seen is not None:
        cube = scene.whole(np.ones(scene.seen.shape, dtype=np.float32))
        contours.append(("what the network sees", SEEN, cube, 0.5))
    rows = (CHANNEL_NAMES[scene.mri_role], "occlusion map")
    return _draw_planes(scene.mri, scene.brain, drop, scene.world_from_voxel, contours, title, rows)


def draw_cohort(
    mean_mri: np.ndarray,
    mean_drop: np.ndarray,
    mean_dose_gy: np.ndarray | None,
    world_from_voxel: np.ndarray,
    n: int,
    title: str,
) -> Figure:
    """The mean map of `n` cases over their mean MRI, in planes as draw_case; the figure says how they were aligned.

    Args:
        mean_mri, mean_drop, mean_dose_gy: (X, Y, Z) means over cases laid upon one another by the middle of their
            brain's box. mean_mri: 0 where no case has brain. mean_dose_gy: None where no dose is known in Gy.
        world_from_voxel: (4, 4), RAS+, mm, for the positions that are printed.
    """
    contours, rows = _dose_contours(mean_dose_gy, "mean dose "), ("mean MRI", "mean occlusion map")
    note = UNREGISTERED.format(n=n)
    return _draw_planes(mean_mri, mean_mri != 0, mean_drop, world_from_voxel, contours, title, rows, note)


def _dose_contours(dose_gy: np.ndarray | None, prefix: str) -> list[Contour]:
    if dose_gy is None:
        return []
    highest = dose_gy.max()
    return [(f"{prefix}{gy:g} Gy", look, dose_gy, gy) for gy, look in DOSE_CONTOURS_GY.items() if gy < highest]


def _draw_planes(
    mri: np.ndarray,
    brain: np.ndarray,
    drop: np.ndarray,
    world_from_voxel: np.ndarray,
    contours: Sequence[Contour],
    title: str,
    rows: tuple[str, str],
    note: str = "",
) -> Figure:
    lowers = bool(drop.max() > 0)
    box = _box(brain)
    at = peak(drop) if lowers else tuple(box.mean(axis=1).astype(int).tolist())
    planes = [Plane(axis, at, voxel_sizes(world_from_voxel)) for axis in (2, 1, 0)]
    fields = _fields_mm(box, planes)
    met = {one[0]: one for one in contours if any(plane.meets(one) for plane in planes)}
    below = _below(note, [one[0] for one in contours if one[0] not in met])
    with mpl.rc_context(STYLE | {"font.size": SMALL}):
        figure, axes = _page(title, fields, len(below.splitlines()))
        for column, plane, field in zip(axes.T, planes, fields, strict=True):
            _draw_column(column, plane, mri, brain, drop, contours)
            column[0].set_title(_position(plane, world_from_voxel))
            for one in column:
                _frame(one, plane, field, lowers)
        for one, name in zip(axes[:, 0], rows, strict=True):
            one.set_ylabel(name)
        axes[1, 1].set_title(f"maximum of the map (crosshair): {drop.max():.2g}" if lowers else NOTHING)
        _add_scale_bar(axes[0, 0])
        _add_colour_bar(figure, axes[1], drop)
        _add_legend(figure, list(met.values()), below)
    return figure


def _below(note: str, missed: Sequence[str]) -> str:
    """The lines below a figure: its note and the contours that no plane meets."""
    absent = f"Not in these planes: {', '.join(missed)}" if missed else ""
    return "\n".join(filter(None, [note, absent]))


def _position(plane: Plane, world_from_voxel: np.ndarray) -> str:
    position_mm = round(float(apply_affine(world_from_voxel, plane.at)[plane.axis]))
    return f"{PLANES[plane.axis]}, {'xyz'[plane.axis]} = {position_mm} mm".replace("-", "−")


def _box(brain: np.ndarray) -> np.ndarray:
    """(3, 2): by axis, the brain's first voxel and the one after its last."""
    inside = np.argwhere(brain)
    return np.stack([inside.min(axis=0), inside.max(axis=0) + 1], axis=1)


def _fields_mm(box: np.ndarray, planes: Sequence[Plane]) -> list[np.ndarray]:
    """What each plane shows, (2, 2): ends across and up. The brain's box and a margin, all as high as the highest."""
    fields = [box[plane.own] * plane.spacing_mm[plane.own, None] + (-MARGIN_MM, MARGIN_MM) for plane in planes]
    half = max(np.ptp(up) for _, up in fields) / 2
    return [np.array([across, (up.mean() - half, up.mean() + half)]) for across, up in fields]


def _page(title: str, fields: Sequence[np.ndarray], lines_below: int) -> tuple[Figure, np.ndarray]:
    """A figure and its axes, (2, 3): a column a plane, all planes in one scale."""
    widths = [np.ptp(across) for across, _ in fields]
    height = PAGE_INCHES * 0.97 * np.ptp(fields[0][1]) / sum(widths)  # of a row
    figure = Figure(figsize=(PAGE_INCHES, 2 * height + 1.6 + 0.13 * lines_below), layout="constrained")
    figure.suptitle(title, fontsize=10)
    return figure, figure.subplots(2, 3, width_ratios=widths)


def _draw_column(
    column: np.ndarray, plane: Plane, mri: np.ndarray, brain: np.ndarray, drop: np.ndarray, contours: Sequence[Contour]
) -> None:
    """Fill the upper axes, and the lower ones with the map over a dimmed MRI."""
    low, high = np.percentile(mri[brain], (1, 99.5))
    for axes, wider in zip(column, (1, DIMMED), strict=True):
        top = low + wider * (high - low)
        plane.show(axes, np.where(mri == 0, low, mri), cmap="gray", vmin=low, vmax=top, interpolation="bicubic")
    plane.show(column[1], drop, cmap=_map_colours(), norm=_norm(drop), interpolation="nearest")
    for contour in filter(plane.meets, contours):
        for axes in column:
            plane.trace(axes, contour)


def _map_colours() -> ListedColormap:
    """Blue over clear to red and yellow: the more a place matters, the brighter and denser, as suits a dark MRI."""
    value = np.linspace(-1, 1, 255)
    colours = LinearSegmentedColormap.from_list("drop", MAP_COLOURS)((value + 1) / 2)
    colours[:, 3] = np.minimum(1.8 * np.abs(value), 0.85)
    return ListedColormap(colours)


def _norm(drop: np.ndarray) -> Normalize:
    limit = float(np.abs(drop).max()) or 1.0
    return Normalize(-limit, limit)


def _frame(axes: Axes, plane: Plane, field: np.ndarray, marked: bool) -> None:
    """Turn the axes to radiological convention, name the sides and, if wanted, lay a crosshair around the maximum."""
    (right, left), (low, high) = field
    if marked:
        x, y = (np.array(plane.at)[plane.own] + 0.5) * plane.spacing_mm[plane.own]
        axes.hlines([y, y], *_beside(x, right + MARGIN_MM, left - MARGIN_MM), **CROSSHAIR)
        axes.vlines([x, x], *_beside(y, low + MARGIN_MM, high - MARGIN_MM), **CROSSHAIR)
    axes.set(xlim=(left, right), ylim=(low, high), xticks=[], yticks=[], facecolor="black")
    for side, place, (ha, va) in zip(SIDES[plane.axis], PLACES, ALIGNED, strict=True):
        axes.text(*place, side, ha=ha, va=va, transform=axes.transAxes, color="white", path_effects=HALO)


def _beside(centre: float, start: float, end: float) -> tuple[list[float], list[float]]:
    """Starts and ends of the crosshair's two lines: up to a gap before the centre, and from a gap behind it."""
    return [start, min(centre + GAP_MM, end)], [max(centre - GAP_MM, start), end]


def _add_scale_bar(axes: Axes) -> None:
    left, (low, high) = axes.get_xlim()[0] - 6, axes.get_ylim()
    up = low + 0.03 * (high - low)
    axes.plot([left, left - SCALE_MM], [up, up], color="white", linewidth=2, path_effects=HALO)
    axes.text(left, up + 3, f"{SCALE_MM} mm", color="white", path_effects=HALO)


def _add_colour_bar(figure: Figure, row: np.ndarray, drop: np.ndarray) -> None:
    scale = ScalarMappable(_norm(drop), _map_colours())
    bar = figure.colorbar(scale, ax=list(row), location="bottom", shrink=0.6, aspect=40, label=DROP)
    bar.ax.set_facecolor("#555555")


def _add_legend(figure: Figure, contours: Sequence[Contour], above: str) -> None:
    if contours or above:
        handles = [Line2D([], [], label=name, path_effects=OUTLINE, **look) for name, look, _, _ in contours]
        figure.legend(
            handles=handles, title=above, title_fontsize=SMALL,
            loc="outside lower center", ncols=4, frameon=False, handlelength=3,
        )  # fmt: skip
