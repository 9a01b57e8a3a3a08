"""What is written on a slice: names in the corners, isodoses where the dose is."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ricenet.display.slice_drawing import draw_isodoses, label_isodoses, mark_right, name_plane
from ricenet.images.views import isodoses_gy


@pytest.fixture
def axes() -> Axes:
    return Figure().subplots()


def test_texts_stand_in_their_corners(axes: Axes) -> None:
    name_plane(axes, "coronal")
    mark_right(axes)
    label_isodoses(axes, isodoses_gy(60.0), {"facecolor": "black"})
    places = {text.get_text(): text.get_position() for text in axes.texts}
    assert list(places) == ["coronal", "R", "12.0 Gy", "30.0 Gy", "48.0 Gy", "57.0 Gy"]
    assert places["R"][1] > 0.9 > 0.1 > places["coronal"][1]
    heights = [places[f"{gy:.1f} Gy"][1] for gy in (12, 30, 48, 57)]
    assert np.diff(heights) == pytest.approx([0.06] * 3)


def test_a_contour_runs_where_the_dose_has_its_value(axes: Axes) -> None:
    y, x = np.mgrid[:61, :61]
    dose_gy = 60 * np.exp(-((x - 20) ** 2 + (y - 40) ** 2) / (2 * 8**2))
    draw_isodoses(axes, dose_gy, isodoses_gy(60.0))
    (contours,) = axes.collections
    for level_gy, path in zip((12, 30, 48, 57), contours.get_paths(), strict=True):
        radius = np.hypot(*(path.vertices - (20, 40)).T)
        assert radius == pytest.approx(8 * np.sqrt(2 * np.log(60 / level_gy)), abs=0.2)


def test_a_slice_beside_the_dose_has_no_contour(axes: Axes) -> None:
    draw_isodoses(axes, np.full((5, 5), 11.0), isodoses_gy(60.0))
    assert not axes.collections
