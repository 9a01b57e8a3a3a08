"""The quality-control picture of one case: brain outline, post and event on each other, dose in place."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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
    planes through its own middle. Without a post-OP MRI event stands in its place.

    Args:
        path: PNG; or a stream.
        view: unmasked images by role on one grid, (X, Y, Z), RAS+; dose in Gy.
        brain: (X, Y, Z).
        title: the case key; nothing else may identify the case.
        structures: masks by name, (X, Y, Z).
    """
    masks = {name: mask for name, mask in (structures or {}).items() if mask.any()}
    anchor = "post" if "post" in view else "event"
    mri = [role for role in view if role != "rd"]
    window = {role: _grey(view[role], brain) for role in mri}
    at = _focus(view, brain)
    panels = _panels(list(view), masks, anchor)
    figure = Figure(figsize=(3 * len(panels), 9.6), facecolor="black", layout="constrained")
    axes = figure.subplots(3, len(panels), squeeze=False)
    for row, (plane, axis) in enumerate(PLANES):
        box = _box(brain, axis)
        cut = {
            name: radiological_slice(image, axis, at)[box] for name, image in {**view, **window, "brain": brain}.items()
        }
        if plane != "sagittal":
            mark_right(axes[row, 0])
        for place, panel in enumerate(panels):
            if panel.masks:
                _draw_masks(
                    axes[row, place], window[panel.role], {name: masks[name] for name in panel.masks}, axis, box
                )
            elif panel.beside:
                _show_tiles(axes[row, place], cut[panel.beside], cut[panel.role])
            elif panel.dose:
                _show(axes[row, place], cut[panel.role])
                draw_isodoses(axes[row, place], cut["rd"], isodoses_gy(float(view["rd"][brain].max())))
            else:
                _show(axes[row, place], cut[panel.role], cut["brain"])
        name_plane(axes[row, 0], plane)
    for axis_, panel in zip(axes[0], panels, strict=True):
        axis_.set_title(panel.title, color="white", fontsize=9)
    for place, panel in enumerate(panels):
        if panel.dose:
            label_isodoses(axes[2, place], isodoses_gy(float(view["rd"][brain].max())), LEGEND_BOX)
    figure.suptitle(title, color="white", fontsize=11)
    with mpl.rc_context({"savefig.facecolor": "black"}):
        figure.savefig(path, dpi=100, metadata={"Software": None})


@dataclass(frozen=True)
class Panel:
    """One column: the MRI `role` with the brain's outline, in tiles with `beside`, under the dose, or under masks."""

    title: str
    role: str
    beside: str = ""
    dose: bool = False
    masks: tuple[str, ...] = ()


def _panels(roles: Sequence[str], masks: Collection[str], anchor: str) -> list[Panel]:
    """The columns for images of these roles; `anchor`: the MRI that the others are compared with."""
    further = [role for role in roles if role not in MODALITIES]
    panels = [Panel(f"{role}, brain", role) for role in dict.fromkeys((anchor, "event"))]
    panels += [Panel("post / event tiles", "event", beside="post")] if anchor != "event" else []
    panels += [Panel(f"dose on {anchor}", anchor, dose=True)] if "rd" in roles else []
    for role in further:
        panels += [Panel(f"{role}, brain", role), Panel(f"{anchor} / {role} tiles", role, beside=anchor)]
    structures = tuple(name for name in masks if name != LESION)
    panels += [Panel(f"structures on {anchor}", anchor, masks=structures)] if structures else []
    return panels + ([Panel("lesion on event", "event", masks=(LESION,))] if LESION in masks else [])


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
