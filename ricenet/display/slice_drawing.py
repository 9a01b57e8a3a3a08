"""Marks on a picture of a slice (ricenet.images.views): the plane's name, the patient's right, isodoses.

A picture's `axes` are matplotlib's; nothing here depends on the figure they are in.
"""

from collections.abc import Mapping

from matplotlib.axes import Axes
from numpy.typing import NDArray

from ricenet.images.views import Isodoses

CORNER = 0.02  # of the picture's width and height
LINE = 0.06


def name_plane(axes: Axes, plane: str) -> None:
    """Write the plane's name at the bottom left."""
    axes.text(CORNER, CORNER, plane, color="white", fontsize=8, transform=axes.transAxes)


def mark_right(axes: Axes) -> None:
    """Write R at the top left, where the patient's right is in axial and coronal slices."""
    axes.text(CORNER, 0.94, "R", color="white", fontsize=8, transform=axes.transAxes)


def draw_isodoses(axes: Axes, dose_gy: NDArray, isodoses: Isodoses) -> None:
    """Draw the contours of a slice through a dose; none where it does not reach the lowest."""
    levels_gy, colours = zip(*isodoses, strict=True)
    if dose_gy.max() > levels_gy[0]:
        axes.contour(dose_gy, levels=levels_gy, colors=colours, linewidths=1.0)


def label_isodoses(axes: Axes, isodoses: Isodoses, box: Mapping[str, str | float]) -> None:
    """Write the isodoses in Gy, each in its colour, from the bottom left upwards; `box`: look of the texts' boxes."""
    for line, (level_gy, colour) in enumerate(isodoses):
        text = f"{level_gy:.1f} Gy"
        axes.text(
            CORNER, CORNER + LINE * line, text, bbox=dict(box), color=colour, fontsize=8, transform=axes.transAxes
        )
