"""Curves over the epochs against numpy, pandas and hand-made tables; the figure is read back from its artists."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.metrics_tables import METRICS, write_grid, write_metrics
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from ricenet.errors import InvalidInput
from ricenet.evaluation.fold_curves import LINES, figure, read_curves
from ricenet.paper import PAPER


def test_mean_and_band_are_those_of_pandas(tmp_path: Path) -> None:
    write_grid(tmp_path, ["rd", "rd_event"])
    for row, by_metric in read_curves(tmp_path).items():
        tables = pd.concat(pd.read_csv(path) for path in sorted((tmp_path / row).glob("fold*/metrics.csv")))
        expected = tables.groupby("epoch").agg(["mean", "std", "count"])
        assert set(by_metric) == set(METRICS)
        for name, curve in by_metric.items():
            mean, sd = expected[name]["mean"], expected[name]["std"]
            assert curve.epochs.tolist() == expected.index.tolist()
            assert curve.n.tolist() == expected[name]["count"].tolist()
            np.testing.assert_allclose([curve.mean, curve.low, curve.high], [mean, mean - sd, mean + sd])


def test_a_shorter_fold_counts_as_far_as_it_goes(tmp_path: Path) -> None:
    write_metrics(tmp_path, "rd", "fold0", {"val/loss": [1.0, 2.0, 3.0]})
    write_metrics(tmp_path, "rd", "fold1", {"val/loss": [3.0]})
    curve = read_curves(tmp_path)["rd"]["val/loss"]
    assert curve.n.tolist() == [2, 1, 1]
    assert curve.mean.tolist() == [2.0, 2.0, 3.0]
    np.testing.assert_allclose(curve.high, [2 + np.sqrt(2), np.nan, np.nan])  # one run alone has no spread
    np.testing.assert_allclose(curve.runs, [[1, 2, 3], [3, np.nan, np.nan]])


def test_what_is_not_finite_counts_as_missing(tmp_path: Path) -> None:
    write_metrics(tmp_path, "rd", "fold0", {"val/auroc": ["nan", 0.5, ""], "val/loss": ["inf", "nan", ""]})
    write_metrics(tmp_path, "rd", "fold1", {"val/auroc": [0.7, 0.9, "nan"], "val/loss": ["nan", "", ""]})
    by_metric = read_curves(tmp_path)["rd"]
    assert by_metric.keys() == {"val/auroc"}
    assert by_metric["val/auroc"].epochs.tolist() == [0, 1]
    np.testing.assert_allclose(by_metric["val/auroc"].mean, [0.7, 0.7])


def test_seeds_are_runs_of_their_own_and_other_folders_are_none(tmp_path: Path) -> None:
    for folder, value in {"fold0": 1.0, "fold0-seed1": 2.0, "fold0-seed2": 6.0, "fold0-old": 9.0, "folds": 9.0}.items():
        write_metrics(tmp_path, "rd", folder, {"val/loss": [value]})
    curve = read_curves(tmp_path)["rd"]["val/loss"]
    assert (curve.mean.item(), curve.n.item()) == (3.0, 3)


def test_order_is_the_papers_then_others_then_controls(tmp_path: Path) -> None:
    controls = ["rd_event-shuffled_labels", "event-shuffled_labels"]
    write_grid(tmp_path, ["modality_dropout", *controls, *reversed(PAPER)], folds=1, epochs=1)
    assert list(read_curves(tmp_path)) == [*PAPER, "modality_dropout", *reversed(controls)]


def test_what_is_not_trained_over_epochs_has_no_curve(tmp_path: Path) -> None:
    write_grid(tmp_path, ["rd", "metadata_only"], folds=2, epochs=1)
    assert list(read_curves(tmp_path)) == ["rd"]
    (upper, lower) = figure(read_curves(tmp_path)).axes
    for axes in (upper, lower):
        assert [tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]] == [0]


def test_no_curve_no_figure(tmp_path: Path) -> None:
    assert figure(read_curves(tmp_path)) is None
    write_metrics(tmp_path, "rd", "fold0", {})  # only the header, as a run that has just begun
    assert read_curves(tmp_path) == {}
    write_metrics(tmp_path, "rd", "fold0", {"val/other": [1.0]})
    assert figure(read_curves(tmp_path)) is None


@pytest.mark.parametrize("text", ["epoch,val/loss\n0,low\n", "val/loss\n1\n", "epoch,val/loss\nx,1\n", "epoch\n0,1\n"])
def test_a_damaged_table_is_named(tmp_path: Path, text: str) -> None:
    write_metrics(tmp_path, "rd", "fold3", {})
    (tmp_path / "rd" / "fold3" / "metrics.csv").write_text(text)
    with pytest.raises(InvalidInput, match=r"rd/fold3: metrics\.csv, line 2") as caught:
        read_curves(tmp_path)
    assert str(tmp_path) not in str(caught.value)


def drawn(axes, name: str) -> np.ndarray:
    style = LINES[name]
    found = [line for line in axes.lines if (line.get_color(), line.get_linestyle()) == tuple(style.values())]
    assert len(found) == 1
    return found[0].get_ydata()


def test_each_set_has_its_score_folds_and_losses(tmp_path: Path) -> None:
    write_grid(tmp_path, list(PAPER))
    curves = read_curves(tmp_path)
    page = figure(curves)
    panels = page.axes  # of 2 x 4 pairs the last is left out
    assert len(panels) == 14
    uppers, lowers = ([ax for ax in panels if bool(ax.get_title()) is upper] for upper in (True, False))
    assert len(uppers) == len(lowers) == len(PAPER)
    for upper, lower, by_metric in zip(uppers, lowers, curves.values(), strict=True):
        np.testing.assert_array_equal(drawn(upper, "val/macro_f1"), by_metric["val/macro_f1"].mean)
        assert len(upper.lines) == 1 + 5  # the mean, and each fold
        for name in ("train/loss", "val/loss"):
            np.testing.assert_array_equal(drawn(lower, name), by_metric[name].mean)
        band = upper.collections[0].get_paths()[0].get_extents()
        assert band.y0 == pytest.approx(by_metric["val/macro_f1"].low.min())
        assert band.y1 == pytest.approx(by_metric["val/macro_f1"].high.max())
    assert len({ax.get_ylim() for ax in lowers}) == len({ax.get_ylim() for ax in uppers}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("rows", [["rd"], ["rd", "event-shuffled_labels"], [*PAPER, "rd_post_event-shuffled_labels"]])
def test_every_label_is_whole_and_none_covers_another(tmp_path: Path, rows: list[str]) -> None:
    write_grid(tmp_path, rows)
    page = figure(read_curves(tmp_path))
    FigureCanvasAgg(page).draw()
    drawn_texts = [text for text in page.findobj(Text) if text.get_visible() and text.get_text()]
    hidden = [label for axes in page.axes for label in hidden_ticks(axes)]
    boxes = [text.get_window_extent() for text in drawn_texts if text not in hidden]
    inside = page.bbox.padded(1)
    for index, box in enumerate(boxes):
        assert inside.contains(box.x0, box.y0)
        assert inside.contains(box.x1, box.y1)
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


def hidden_ticks(axes) -> list[Text]:
    """Labels of ticks beyond the limits of an axis: Matplotlib keeps them without drawing them."""
    found = []
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        found += [tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
    return found


def test_one_epoch_of_one_fold_is_a_visible_point(tmp_path: Path) -> None:
    write_grid(tmp_path, ["rd"], folds=1, epochs=1)
    page = figure(read_curves(tmp_path))
    FigureCanvasAgg(page).draw()
    assert page.axes[0].lines[-1].get_marker() == "o"
    assert "1 run" in page.axes[0].get_title().splitlines()


def test_score_and_losses_lie_over_the_same_epochs_where_few_are_validated(tmp_path: Path) -> None:
    write_metrics(tmp_path, "rd", "fold0", {"train/loss": [0.6] * 8, "val/macro_f1": [""] * 5 + [0.5] * 3})
    page = figure(read_curves(tmp_path))
    FigureCanvasAgg(page).draw()
    upper, lower = page.axes
    assert upper.get_xlim() == lower.get_xlim()
    assert list(upper.lines[-1].get_xdata()) == [5, 6, 7]


def test_a_loss_that_diverges_once_is_cut_off_and_that_is_said(tmp_path: Path) -> None:
    write_grid(tmp_path, list(PAPER))
    assert not any("cut off" in text.get_text() for text in figure(read_curves(tmp_path)).legends[0].get_texts())
    losses = [0.7] * 12
    losses[3] = 1000.0
    write_metrics(tmp_path, "rd", "fold0", {"val/loss": losses})
    page = figure(read_curves(tmp_path))
    assert max(ax.get_ylim()[1] for ax in page.axes) < 2
    assert any("cut off" in text.get_text() for text in page.legends[0].get_texts())


def test_lines_differ_in_grey_and_in_dashes() -> None:
    lightness = {name: np.dot(to_rgb(style["color"]), [0.299, 0.587, 0.114]) for name, style in LINES.items()}
    assert abs(lightness["val/loss"] - lightness["train/loss"]) > 0.2
    assert LINES["val/loss"]["linestyle"] != LINES["train/loss"]["linestyle"]


def test_a_set_is_titled_by_the_channels_of_its_runs(tmp_path: Path) -> None:
    write_grid(tmp_path, ["rd_t2_flair"])
    curves = read_curves(tmp_path)
    titles = [
        figure(curves, channels_of).axes[0].get_title() for channels_of in ({"rd_t2_flair": ["rd", "t2_flair"]}, {})
    ]
    assert [title.splitlines()[0] for title in titles] == ["dose + t2_flair", "rd_t2_flair"]
