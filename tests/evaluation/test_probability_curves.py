import numpy as np
import pytest
from helpers import summaries
from helpers.make_summary import MAKERS, found, full_summary, half_summary, require_readable, smallest_summary, words
from matplotlib.collections import LineCollection
from PIL import Image
from sklearn.metrics import auc

from ricenet.display import figure_style
from ricenet.evaluation import probability_curves

FIGURES = (probability_curves.roc_curves, probability_curves.calibration_curves, probability_curves.decision_curves)


def panels(figure) -> dict[str, object]:
    """Axes by the bold name above them, in one line."""
    return {
        text.get_text().replace("\n", " "): axes
        for axes in figure.axes
        for text in axes.texts
        if text.get_fontweight() == "bold"
    }


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("draw", FIGURES)
def test_every_text_is_whole_and_none_covers_another(make, draw):
    figure = draw(make())
    require_readable(figure)
    for axes in figure.axes:
        assert axes.get_xlabel()
        assert axes.get_ylabel()


@pytest.mark.parametrize("draw", [probability_curves.roc_curves, probability_curves.calibration_curves])
def test_a_panel_a_row_in_the_papers_order(draw):
    given = full_summary()
    given = given.model_copy(update={"sets": dict(reversed(given.sets.items()))})
    assert list(panels(draw(given))) == [
        "event MRI", "post-OP MRI", "dose", "post-OP MRI + event MRI", "dose + post-OP MRI", "dose + event MRI",
        "dose + post-OP MRI + event MRI", "one model for all sets", "dose-volume regression", "clinical regression",
    ]  # fmt: skip


def test_the_curve_and_the_printed_auroc_are_the_same():
    given = half_summary()
    rows = [*given.sets.values(), given.baselines["dose_volume"]]
    for axes, one in zip(probability_curves.roc_curves(given).axes, rows, strict=True):
        chance, curve = axes.lines
        assert np.array_equal(chance.get_xdata(), chance.get_ydata())
        text = axes.texts[0].get_text()
        assert f"AUROC {auc(curve.get_xdata(), curve.get_ydata()):.2f}" in text
        assert f"n = {one.n}" in text
    text = words(probability_curves.roc_curves(given))
    assert "[0.61, 0.88]" in text
    assert "no interval\nn = 48" in text


def test_bins_stand_where_the_numbers_are():
    given = half_summary()
    axes = probability_curves.calibration_curves(given).axes[0]
    bins = given.sets["rd"].calibration.bins
    line = axes.lines[-1]
    assert list(line.get_xdata()) == [one.mean_probability for one in bins]
    assert list(line.get_ydata()) == [one.observed for one in bins]
    bars = next(one for one in axes.collections if isinstance(one, LineCollection)).get_segments()
    assert np.array(bars)[:, :, 1] == pytest.approx(np.array([one.interval for one in bins]))
    counts = np.array(given.sets["rd"].calibration.histogram)
    heights = np.array([bar.get_height() for bar in axes.patches])
    assert heights / heights.max() == pytest.approx(counts / counts.max())
    assert max(bar.get_y() + bar.get_height() for bar in axes.patches) < 0  # clear of the curve
    assert "where the cases lie" in words(axes.figure)


def test_what_was_fitted_is_printed_and_what_was_not_is_said():
    given = full_summary()
    shown = panels(probability_curves.calibration_curves(given))
    fitted = given.sets["rd"].calibration
    low, high = fitted.slope_interval
    assert f"slope {fitted.slope:.2f} [{low:.2f}, {high:.2f}]" in shown["dose"].texts[0].get_text()
    assert f"Brier {fitted.brier:.2f}, n = 80" in shown["dose"].texts[0].get_text()
    separated = shown["dose + event MRI"].texts[0].get_text()
    assert "not estimable" in separated
    assert "Brier 0.01" in separated


def test_decision_curve_compares_all_channels_with_the_trivial_choices():
    given = full_summary()
    figure = probability_curves.decision_curves(given)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {
        "dose + post-OP MRI + event MRI, n = 80",
        "dose-volume regression, n = 80",
        "treat all as RICE",
        "treat none as RICE",
    }
    curve = given.sets["rd_post_event"].decision_curve
    assert list(lines["dose + post-OP MRI + event MRI, n = 80"].get_ydata()) == curve.model
    assert list(lines["treat all as RICE"].get_ydata()) == curve.all
    assert set(lines["treat none as RICE"].get_ydata()) == {0}
    assert len({str(line._dash_pattern) for line in lines.values()}) == 4
    grey = [Image.new("RGB", (1, 1), line.get_color()).convert("L").getpixel((0, 0)) for line in lines.values()]
    assert max(grey) < 160  # dark enough on white paper


def test_decision_curve_of_what_there_is():
    figure = probability_curves.decision_curves(smallest_summary())
    assert [line.get_label() for line in figure.axes[0].lines] == [
        "treat all as RICE",
        "treat none as RICE",
        "dose, n = 16",
    ]


@pytest.mark.slow
def test_same_figure_same_bytes(tmp_path):
    given = summaries.summary(sets={"rd": found(1)})
    for draw in FIGURES:
        figure_style.save(draw(given), tmp_path / "one")
        figure_style.save(draw(given), tmp_path / "two")
        for suffix in (".png", ".svg"):
            assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
