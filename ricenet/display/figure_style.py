"""Style that all figures share: fonts, resolution, colours; and files with the same bytes for the same input."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from ricenet.command.atomic import replacing_file

DPI = 150

Look = dict[str, Any]  # keyword arguments of a matplotlib artist

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "svg.hashsalt": "ricenet",
    "hatch.linewidth": 0.7,
}


def save(figure: Figure, stem: Path) -> None:
    """Write `stem`.png and `stem`.svg, each atomically."""
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
        with mpl.rc_context(STYLE), replacing_file(stem.with_suffix(suffix)) as stream:
            figure.savefig(stream, format=suffix[1:], dpi=DPI, metadata=metadata)


# 57 = 95% of the common 60 Gy prescription. Bright, as they lie on a dark MRI.
DOSE_CONTOURS_GY: dict[float, Look] = {
    20.0: {"color": "#5cc8ff", "linestyle": (0, (1, 1.4)), "linewidth": 1.6},
    40.0: {"color": "#ffc20a", "linestyle": (0, (5, 1.8)), "linewidth": 1.4},
    57.0: {"color": "#ff7ac0", "linestyle": (0, (6, 1.2, 1.2, 1.2)), "linewidth": 1.4},
}

MAP_COLOURS = ("#8cc8f0", "#2f86d6", "#1d4fa8", "#444444", "#b01818", "#ff5a1e", "#ffe23c")

# Of outlines, apart from each other in common kinds of colour blindness (Okabe and Ito, Tol); bright, as isodoses are.
STRUCTURE_COLOURS = ("#ff5577", "#56b4e9", "#e69f00", "#44dd99", "#cc79a7", "#aaee33", "#ffffff", "#bb88ff")

INTERVAL = "#a0004a"

LABEL_TEXT = ("recurrence", "RICE")
