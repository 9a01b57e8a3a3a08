import numpy as np
import pytest
from helpers.make_summary import MAKERS, contrast, full_summary, half_summary, require_readable, smallest_summary, words
from matplotlib.collections import LineCollection
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from ricenet.display import figure_style
from ricenet.evaluation import contrast_figures
from ricenet.evaluation.summary import Confusion


def markers(axes) -> list[tuple[float, float, bool]]:
    """(difference, row, filled) of each contrast, top down."""
    points = [line for line in axes.lines if line.get_marker() == "D"]
    return [(float(p.get_xdata()[0]), float(p.get_ydata()[0]), p.get_markerfacecolor() != "white") for p in points]


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS)
def test_every_text_is_whole_and_none_covers_another(make):
    for draw in (contrast_figures.differences, contrast_figures.confusion_matrices):
        figure = draw(make())
        if figure is not None:
            require_readable(figure)


def test_contrasts_stand_where_the_numbers_are():
    given = full_summary()
    axes = contrast_figures.differences(given).axes[0]
    found = given.contrasts.values()
    expected = [(one.difference, row, one.passed) for row, one in enumerate(found)]
    assert markers(axes) == expected
    top, bottom = axes.get_ylim()[::-1]
    assert top < bottom  # the first is on top
    segments = [one.get_segments()[0] for one in axes.collections if isinstance(one, LineCollection)]
    assert np.array(segments)[:, :, 0] == pytest.approx(np.array([one.interval for one in found]))
    assert all(axes.get_xlim()[0] < low and high < axes.get_xlim()[1] for low, high in np.array(segments)[:, :, 0])


def test_the_band_is_what_this_cohort_could_not_have_shown():
    figure = contrast_figures.differences(full_summary())
    band = next(one for one in figure.axes[0].patches if isinstance(one, Rectangle))
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-0.125, 0.125))
    assert "±0.125" in words(figure)
    figure = contrast_figures.differences(half_summary())
    assert not figure.axes[0].patches
    assert "no difference of any size" in words(figure)


def test_the_columns_of_text_say_the_numbers():
    names = {"rd_post - post": contrast(0.214, True), "rd_post_event - dose_volume": contrast(-0.031)}
    shown = words(contrast_figures.differences(full_summary().model_copy(update={"contrasts": names})))
    for text in (
        "dose + post-OP MRI\nminus post-OP MRI",
        "dose + post-OP MRI + event MRI\nminus dose-volume regression",
        "+0.21 [+0.10, +0.32]",
        "−0.03 [−0.14, +0.08]",
        "14 : 5 of 80",
        "<0.001",
        "0.213",
        "yes",
        "no",
        "Q = 21.4, 6 degrees of freedom, p = 0.002, n = 80",
    ):
        assert text in shown
    assert "cannot be computed" in words(contrast_figures.differences(half_summary()))


def test_without_contrasts_there_is_no_plot():
    assert contrast_figures.differences(smallest_summary()) is None


def test_matrices_hold_the_counts_and_shares_of_the_truth():
    given = half_summary()
    counts = Confusion(tp=24, fn=8, fp=12, tn=36)
    given.sets["rd"] = given.sets["rd"].model_copy(update={"oof_confusion": counts})
    figure = contrast_figures.confusion_matrices(given)
    axes = figure.axes[0]
    shades = np.array(axes.findobj(AxesImage)[0].get_array())
    assert shades == pytest.approx(np.array([[0.75, 0.25], [0.25, 0.75]]))
    cells = {text.get_position(): text.get_text() for text in axes.texts if "%" in text.get_text()}
    assert cells == {(0, 0): "36\n75%", (1, 0): "12\n25%", (0, 1): "8\n25%", (1, 1): "24\n75%"}  # prediction, truth
    assert [label.get_text() for label in axes.get_xticklabels()] == ["recurrence", "RICE"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["recurrence", "RICE"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # recurrence above
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("prediction", "truth")


def test_the_votes_matrices_come_with_the_test_split():
    assert len(contrast_figures.confusion_matrices(full_summary()).axes) == 16
    assert "majority vote" in words(contrast_figures.confusion_matrices(full_summary()))
    assert len(contrast_figures.confusion_matrices(smallest_summary()).axes) == 1
    assert "majority vote" not in words(contrast_figures.confusion_matrices(smallest_summary()))


def test_a_class_that_is_not_there_is_no_share():
    given = smallest_summary()
    counts = Confusion(tp=0, fn=0, fp=1, tn=4)
    given.sets["rd"] = given.sets["rd"].model_copy(update={"oof_confusion": counts})
    cells = {text.get_position(): text.get_text() for text in contrast_figures.confusion_matrices(given).axes[0].texts}
    assert (cells[0, 1], cells[1, 1], cells[0, 0]) == ("0", "0", "4\n80%")


def test_counts_are_read_on_the_darkest_cell():
    """Contrast of black text by WCAG: at least 7 (AAA)."""
    figure = contrast_figures.confusion_matrices(full_summary())
    image = figure.axes[5].findobj(AxesImage)[0]  # perfect: 100%
    grey = image.to_rgba(image.get_array())[..., 0].min()
    luminance = ((grey + 0.055) / 1.055) ** 2.4
    assert (luminance + 0.05) / 0.05 > 7
    assert all(text.get_color() == "black" for axes in figure.axes for text in axes.texts)


@pytest.mark.slow
def test_same_figure_same_bytes(tmp_path):
    given = half_summary()
    for draw in (contrast_figures.differences, contrast_figures.confusion_matrices):
        figure_style.save(draw(given), tmp_path / "one")
        figure_style.save(draw(given), tmp_path / "two")
        for suffix in (".png", ".svg"):
            assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
