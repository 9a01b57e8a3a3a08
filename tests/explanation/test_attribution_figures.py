"""Bars and curves against the summary that they are drawn from."""

import numpy as np
import pytest
from helpers.make_summary import require_readable, words
from helpers.occlusion_records import occlusion_record

from ricenet.display import figure_style
from ricenet.explanation import attribution_figures
from ricenet.explanation.attribution import summarise
from ricenet.explanation.map_record import OcclusionRecord
from ricenet.paper import PAPER

CHANCES = {"lesion": 0.05, "cavity": 0.1, "dose_edge": 0.2, "lesion_or_dose_edge": 0.25}
EVEN = {"dose_0_20": 0.7, "dose_20_40": 0.15, "dose_40_54": 0.05, "dose_above_54": 0.1, "lesion": 0.01, "cavity": 0.02}


def record(name: str, number: int, whole: bool = True, **changed: object) -> OcclusionRecord:
    """Of random numbers; whole: with channels, shuffled weights and curves."""
    rng = np.random.default_rng(number)
    channels = name.split("_")
    bands = dict(zip(EVEN, [*rng.dirichlet([3, 2, 2, 3]), 0.05 * rng.random(), 0.03 * rng.random()], strict=True))
    fraction = np.linspace(0, 1, 11)
    falling = {"deletion": 0.9 - 0.5 * fraction**0.5, "deletion_random": 0.9 - 0.5 * fraction}
    rising = {name.replace("deletion", "insertion"): 1.3 - values for name, values in falling.items()}
    curves = falling | rising
    areas = {f"{curve}_area": float(np.trapezoid(values, fraction)) for curve, values in curves.items()}

    def pointing(rate: float) -> dict:
        return {region: {"hit": bool(rng.random() < rate), "chance": chance} for region, chance in CHANCES.items()}

    plain = {
        "map_share": {"brain": 0.9, **bands}, "brain_share": EVEN,
        "channel_share": dict(zip(channels, rng.dirichlet([2] * len(channels)), strict=True)) if whole else {},
        "pointing": pointing(0.6),
        "randomised": {"drop_max": 0.2, "pointing": pointing(0.1), "similarity": 0.1} if whole else None,
        "curves": {"fraction": list(fraction), **{k: list(v) for k, v in curves.items()}, **areas} if whole else None,
    }  # fmt: skip
    return occlusion_record(f"c{number}", **{**plain, **changed})


def sets_of(*names: str, cases: int = 12, whole: bool = True) -> dict:
    return {name: summarise([record(name, number, whole) for number in range(cases)]) for name in names}


def column(figure, name: str):
    """The axes whose title is `name`, top down."""
    return [axes for axes in figure.axes if axes.get_title() == name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "cases", "whole"),
    [
        (("post",), 4, True),
        (("rd_event",), 80, False),
        (("rd_post_event", "rd"), 12, True),
        (("rd_post_event", "rd", "rd_post"), 80, True),
        (tuple(PAPER), 80, True),
        (tuple(PAPER), 4, False),
    ],
)
def test_every_text_of_bars_and_curves_is_whole(names, cases, whole):
    sets = sets_of(*names, cases=cases, whole=whole)
    require_readable(attribution_figures.draw_attribution(sets))
    if whole:
        require_readable(attribution_figures.draw_curves(sets))


def test_bars_are_the_shares_beside_those_of_an_even_map():
    sets = sets_of("rd_event", "rd")  # the paper's order: rd first
    figure = attribution_figures.draw_attribution(sets)
    names = {
        "0–20 Gy": "dose_0_20",
        "20–40 Gy": "dose_20_40",
        "40–54 Gy": "dose_40_54",
        "> 54 Gy": "dose_above_54",
        "cavity": "cavity",
    }
    for title, region in names.items():
        axes = column(figure, title)[0]
        assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first is on top
        shares = [sets[name].median_map_share[region] for name in ("rd", "rd_event")]
        assert [bar.get_width() for bar in axes.patches] == pytest.approx(shares)
        assert [bar.get_y() + bar.get_height() / 2 for bar in axes.patches] == pytest.approx([0, 1])
        assert {bar.get_hatch() for bar in axes.patches} == {"////"}
        even = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "|"]
        assert even == [EVEN[region]] * 2
        assert [float(text.get_text().rstrip("%")) for text in axes.texts] == pytest.approx(
            100 * np.array(shares), abs=0.5
        )
    rows = [label.get_text() for label in column(figure, "0–20 Gy")[0].get_yticklabels()]
    assert [row.split(",")[0] for row in rows] == ["dose", "dose + event\xa0MRI"]
    assert len({column(figure, title)[0].get_xlim() for title in list(names)[:4]}) == 1  # bands compare
    assert column(figure, "lesion")[0].get_xlim()[1] < 0.2 < column(figure, "0–20 Gy")[0].get_xlim()[1]


def test_pointing_shows_trained_beside_randomised_and_chance():
    sets = sets_of("rd_post_event", "rd")
    sets["rd"] = sets["rd"].model_copy(update={"randomised": None})
    axes = column(attribution_figures.draw_attribution(sets), "dose edge")[0]
    trained = [sets[name].pointing["dose_edge"] for name in ("rd", "rd_post_event")]
    shuffled = sets["rd_post_event"].randomised.pointing["dose_edge"]
    rates = {
        marker: [float(one.get_xdata()[0]) for one in axes.lines if one.get_marker() == marker] for marker in "Do|"
    }
    assert rates == {"D": [one.rate for one in trained], "o": [shuffled.rate], "|": pytest.approx([0.2] * 3)}
    bars = np.concatenate([one.get_segments() for one in axes.collections])
    assert bars[:, :, 0] == pytest.approx(np.array([trained[0].interval, trained[1].interval, shuffled.interval]))
    rows = [float(line.get_ydata()[0]) for line in axes.lines if line.get_marker() in "Do"]
    assert rows[0] == 0
    assert rows[1] < 1 < rows[2]
    counts = [f"{one.hits}/{one.n}" for one in (*trained, shuffled)]
    assert [text.get_text() for text in axes.texts] == counts
    assert "weights shuffled" in words(axes.figure.figure)


def test_channels_are_compared_where_there_are_several():
    sets = sets_of("rd", "rd_event", "rd_post_event")
    figure = attribution_figures.draw_attribution(sets)
    (dose,) = column(figure, "dose")
    assert [bar.get_width() for bar in dose.patches] == pytest.approx(
        [sets[name].median_channel_share["rd"] for name in ("rd_event", "rd_post_event")]
    )
    assert [float(line.get_xdata()[0]) for line in dose.lines if line.get_marker() == "|"] == [1 / 2, 1 / 3]
    (post,) = column(figure, "post-OP MRI")
    assert [bar.get_y() + bar.get_height() / 2 for bar in post.patches] == [1]
    (flair,) = column(attribution_figures.draw_attribution(sets_of("rd_event_flair", "rd")), "flair")  # a further one
    assert len(flair.patches) == 1
    assert "Which channel" not in words(attribution_figures.draw_attribution(sets_of("rd", "post")))
    assert "Which channel" not in words(attribution_figures.draw_attribution(sets_of("rd_event", whole=False)))


def test_panels_without_numbers_are_left_out():
    bare = {"map_share": {"brain": 0.9}, "brain_share": {}, "pointing": {}, "channel_share": {}, "randomised": None}
    sets = {"post": summarise([record("post", 0, **bare)])}
    assert attribution_figures.draw_attribution(sets) is None
    figure = attribution_figures.draw_attribution(
        sets
        | {
            "event": summarise(
                [record("event", 0, **bare | {"map_share": {"lesion": 0.0123}, "brain_share": {"lesion": 0.01}})]
            )
        }
    )
    require_readable(figure)
    assert len(figure.axes) == 1
    assert "1.2%" in words(figure)
    assert "Pointing" not in words(figure)
    assert "trained" not in words(figure)


def test_curves_are_the_means_of_the_cases():
    sets = sets_of("rd_event", "rd") | sets_of("post", whole=False)
    figure = attribution_figures.draw_curves(sets)
    assert len(figure.axes) == 2  # post has none
    for axes, name in zip(figure.axes, ("rd", "rd_event"), strict=True):
        found = sets[name].curves
        lines = {line.get_label(): line for line in axes.lines}
        keys = {"deletion, map's order": "deletion", "deletion, at random": "deletion_random",
                "insertion, map's order": "insertion", "insertion, at random": "insertion_random"}  # fmt: skip
        assert set(lines) == set(keys)
        for label, key in keys.items():
            assert list(lines[label].get_ydata()) == getattr(found, key)
            assert list(lines[label].get_xdata()) == found.fraction
            assert lines[label].is_dashed() is label.endswith("random")
        assert "n = 12:\ndeletion lower in 12\ninsertion higher in 12" in axes.texts[0].get_text()
    assert attribution_figures.draw_curves(sets_of("post", whole=False)) is None


@pytest.mark.slow
def test_same_figure_same_bytes(tmp_path):
    sets = sets_of("rd_event")
    for name in ("one", "two"):
        figure_style.save(attribution_figures.draw_attribution(sets), tmp_path / name)
    for suffix in (".png", ".svg"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
