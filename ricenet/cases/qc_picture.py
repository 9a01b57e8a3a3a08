"""The quality-control picture of one case: brain outline, post and event on each other, dose in place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ricenet import MODALITIES
from ricenet.cases.structures import TARGETS
from ricenet.cohort.table import LESION
from ricenet.display.figure_style import STRUCTURE_COLOURS
from ricenet.display.slice_drawing import draw_isodoses, label_isodoses, mark_right, name_plane
from ricenet.images.views import PLANES, isodoses_gy, radiological_slice, upright
from ricenet.images.volume import Mask, Voxels

TILE = 24  # voxels of the checkerboard
LEGEND_BOX: dict[str, str | float] = {"facecolor": "black", "edgecolor": "none", "pad": 1}


def draw_case(
    path: Path | BinaryIO,
    view: dict[str, Voxels],
    brain: Mask,
    title: str,
    structures: Mapping[str, Mask] | None = None,
) -> None:
    """Write `path`: three planes through the dose maximum in the brain (without a dose: through the brain's centre).

    Columns: post with the brain's outline; event with the same outline; tiles of post and event in turn, where
    structures must run on across the borders; where there is a dose, isodoses over post; for each further MRI the
    outline and the tiles once more; where there are masks, the lesion over event and the others over post, each in
    planes through its own middle.

    Args:
        path: PNG; or a stream.
        view: unmasked images by role on one grid, (X, Y, Z), RAS+; dose in Gy.
        brain: (X, Y, Z).
        title: the case key; nothing else may identify the case.
        structures: masks by name, (X, Y, Z).
    """
    masks = {name: mask for name, mask in (structures or {}).items() if mask.any()}
    panels = _mask_panels(masks)
    at = _focus(view, brain)
    further = [role for role in view if role not in MODALITIES]
    window = {role: _grey(view[role], brain) for role in ("post", "event", *further)}
    columns = ["post, brain", "event, brain", "post / event tiles"] + (["dose on post"] if "rd" in view else [])
    first = len(columns)
    columns += [title for role in further for title in (f"{role}, brain", f"post / {role} tiles")]
    columns += [f"{'lesion' if role == 'event' else 'structures'} on {role}" for role, _ in panels]
    figure = Figure(figsize=(3 * len(columns), 9.6), facecolor="black", layout="constrained")
    axes = figure.subplots(3, len(columns), squeeze=False)
    for row, (plane, axis) in enumerate(PLANES):
        box = _box(brain, axis)
        cut = {
            name: radiological_slice(image, axis, at)[box] for name, image in {**view, **window, "brain": brain}.items()
        }
        if plane != "sagittal":
            mark_right(axes[row, 0])
        _show(axes[row, 0], cut["post"], cut["brain"])
        _show(axes[row, 1], cut["event"], cut["brain"])
        _show_tiles(axes[row, 2], cut["post"], cut["event"])
        if "rd" in view:
            _show(axes[row, 3], cut["post"])
            draw_isodoses(axes[row, 3], cut["rd"], isodoses_gy(float(view["rd"][brain].max())))
        for place, role in enumerate(further):
            _show(axes[row, first + 2 * place], cut[role], cut["brain"])
            _show_tiles(axes[row, first + 2 * place + 1], cut["post"], cut[role])
        for place, (role, names) in enumerate(panels, start=len(columns) - len(panels)):
            _draw_masks(axes[row, place], window[role], {name: masks[name] for name in names}, axis, box)
        name_plane(axes[row, 0], plane)
    for axis_, name in zip(axes[0], columns, strict=True):
        axis_.set_title(name, color="white", fontsize=9)
    if "rd" in view:
        label_isodoses(axes[2, 3], isodoses_gy(float(view["rd"][brain].max())), LEGEND_BOX)
    figure.suptitle(title, color="white", fontsize=11)
    with mpl.rc_context({"savefig.facecolor": "black"}):
        figure.savefig(path, dpi=100, metadata={"Software": None})


def _mask_panels(masks: Mapping[str, Mask]) -> list[tuple[str, list[str]]]:
    """Over which image each mask is drawn: the structures over post, the lesion over event."""
    structures = [name for name in masks if name != LESION]
    panels = [("post", structures), ("event", [name for name in masks if name == LESION])]
    return [(role, names) for role, names in panels if names]


def _draw_masks(axes: Any, image: Voxels, masks: Mapping[str, Mask], axis: int, box: tuple[slice, slice]) -> None:
    """Outlines of masks, in the plane through the middle of the first target, without one of the smallest mask."""
    smallest = min(masks, key=lambda name: int(masks[name].sum()))
    middle = masks[next((name for name in TARGETS if name in masks), smallest)]
    at = tuple(np.argwhere(middle).mean(axis=0).round().astype(int))
    _show(axes, radiological_slice(image, axis, at)[box])
    for line, (name, mask) in enumerate(masks.items()):
        colour = STRUCTURE_COLOURS[line % len(STRUCTURE_COLOURS)]
        cut = radiological_slice(mask, axis, at)[box]
        if cut.any():
            axes.contour(cut, levels=[0.5], colors=colour, linewidths=0.9)
        if axis == 0:  # where the isodoses' legend is, too
            place = {"x": 0.02, "y": 0.02 + 0.055 * line}
            axes.text(**place, s=name, color=colour, fontsize=7, bbox=dict(LEGEND_BOX), transform=axes.transAxes)


def _focus(view: dict[str, Voxels], brain: Mask) -> tuple[int, ...]:
    if "rd" in view:
        return tuple(map(int, np.unravel_index(np.argmax(np.where(brain, view["rd"], -1)), brain.shape)))
    return tuple(np.argwhere(brain).mean(axis=0).round().astype(int))


def _grey(image: Voxels, brain: Mask) -> Voxels:
    low, high = np.percentile(image[brain], (1, 99))
    return np.clip((image - low) / max(high - low, 1e-6), 0, 1)


def _box(brain: Mask, axis: int, margin: int = 12) -> tuple[slice, slice]:
    flat = upright(np.any(brain, axis=axis), axis)
    rows, columns = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    first, last = (max(0, at[0] - margin) for at in (rows, columns)), (at[-1] + 1 + margin for at in (rows, columns))
    return tuple(map(slice, first, last))  # type: ignore[return-value]


def _show(axes: Any, image: NDArray, outline: NDArray | None = None) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, origin="lower", interpolation="nearest")
    if outline is not None and outline.any() and not outline.all():
        axes.contour(outline, levels=[0.5], colors="#ffd400", linewidths=0.8)
    axes.set_axis_off()


def _show_tiles(axes: Any, first: NDArray, second: NDArray) -> None:
    rows, columns = np.ogrid[: first.shape[0], : first.shape[1]]
    _show(axes, np.where((rows // TILE + columns // TILE) % 2 == 0, first, second))
