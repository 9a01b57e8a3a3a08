import numpy as np
import pytest
from helpers.make_summary import MAKERS, contrast, found, full_summary, half_summary, require_readable, words
from matplotlib.collections import LineCollection

from ricenet.evaluation import row_figure
from ricenet.evaluation.summary import SplitCases
from ricenet.paper import PAPER


def with_rows_to_beat():
    """The network is declared against two rows, of which the lesion's dose is the better one."""
    given = full_summary()
    pairs = {"dose_volume": (0.81, 0.7), "lesion_dose": (0.81, 0.87)}
    contrasts = {
        f"rd_post_event - {row}": contrast(0.1).model_copy(update={"macro_f1": scores}) for row, scores in pairs.items()
    }
    numbers = {"rd_post_event+numbers": found(1.3, seed=40)}
    rows = {name: found(1, seed=index) for index, name in enumerate(["lesion_dose", "lesion_dose@random"], 50)}
    return given.model_copy(
        update={"contrasts": contrasts, "sets": given.sets | numbers, "baselines": given.baselines | rows}
    )


def markers(axes, marker: str) -> list[tuple[float, float]]:
    points = [line for line in axes.lines if line.get_marker() == marker]
    return [(float(point.get_xdata()[0]), float(point.get_ydata()[0])) for point in points]


@pytest.mark.slow
@pytest.mark.parametrize("make", [*MAKERS, with_rows_to_beat])
def test_every_text_is_whole_and_none_covers_another(make):
    require_readable(row_figure.rows(make()))


def test_the_network_and_its_best_declared_row_stand_first_and_every_row_once():
    given = with_rows_to_beat()
    first, networks, others = row_figure.in_blocks(given)
    assert list(first.rows) == ["rd_post_event", "lesion_dose"]
    assert list(networks.rows) == [
        *(name for name in PAPER if name != "rd_post_event"), "modality_dropout", "rd_post_event+numbers",
    ]  # fmt: skip
    assert list(others.rows) == ["majority_class", "dose_volume", "clinical", "lesion_dose@random"]
    without = row_figure.in_blocks(given.model_copy(update={"contrasts": {}}))
    assert [block.heading for block in without] == ["networks", "rows without a network"]


def test_marks_and_texts_stand_where_the_numbers_are():
    given = half_summary()
    given = given.model_copy(
        update={"sets": given.sets | {"rd": given.sets["rd"].model_copy(update={"bayes_macro_f1": 0.93})}}
    )
    figure = row_figure.rows(given)
    axes = figure.axes[0]
    scores = [*given.sets.values(), *given.baselines.values()]
    drawn = [*markers(axes, "D"), *markers(axes, "s")]
    assert [value for value, _ in drawn] == [one.oof_macro_f1 for one in scores]
    assert [place for _, place in drawn] == axes.get_yticks().tolist() == sorted(place for _, place in drawn)
    assert [value for value, _ in markers(axes, "o")] == [0.78, 0.804]  # the paper's
    assert markers(axes, "|") == [(0.93, drawn[0][1])]
    segments = [one.get_segments()[0] for one in axes.collections if isinstance(one, LineCollection)]
    assert np.array(segments)[:, :, 0] == pytest.approx(np.array([one.oof_interval for one in scores]))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["dose", "dose + post-OP MRI + event MRI", "dose-volume regression"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first is on top


def test_rows_of_different_cases_are_said_to_be():
    assert "Not every case" not in words(row_figure.rows(half_summary()))
    partial = half_summary().model_copy(update={"channel_cases": {"rd": SplitCases(validation=9, test=3)}})
    assert "rows are of different cases" in words(row_figure.rows(partial))
