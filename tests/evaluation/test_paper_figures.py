import re

import numpy as np
import pytest
from helpers import summaries
from helpers.make_grid import CAVITY, LESION, SPACING_MM, make_cases, write_cases_folder
from helpers.make_summary import require_whole, texts
from matplotlib.image import AxesImage
from matplotlib.patches import Circle
from PIL import Image

from ricenet.display import figure_style
from ricenet.evaluation import paper_figures
from ricenet.evaluation.summary import RowScores, SummaryRecord
from ricenet.paper import PAPER


def found(value: float, folds: int = 5, n_test: int = 12, **more) -> RowScores:
    """A row of the results by what the figure shows of it."""
    return summaries.row(
        oof_macro_f1=value,
        oof_interval=[value - 0.1, value + 0.08],
        folds=[value] * folds + [None] * (5 - folds),
        folds_mean=value,
        folds_sd=0.06 if folds > 1 else None,
        n_test=n_test,
        test_vote_macro_f1=value + 0.05 if n_test else None,
        test_interval=[value - 0.25, 1.0],
        **more,
    )


def summary(sets: dict, baselines: dict) -> SummaryRecord:
    return summaries.summary(sets=sets, baselines=baselines)


def full_summary() -> SummaryRecord:
    sets = {name: found(0.5 + 0.06 * index, bayes_macro_f1=0.95) for index, name in enumerate(PAPER)}
    return summary(sets, {"majority_class": found(0.37), "dose_volume": found(0.6)})


def smallest_summary() -> SummaryRecord:
    return summary({"rd": found(0.7, folds=1, n_test=0)}, {"majority_class": found(0.37, n_test=0)})


def half_summary() -> SummaryRecord:
    return summary({"rd": found(0.7), "rd_post_event": found(0.8, folds=3)}, {"dose_volume": found(0.6)})


@pytest.mark.slow
@pytest.mark.parametrize("make", [full_summary, half_summary, smallest_summary])
def test_every_label_is_whole_and_none_covers_another(make):
    figure = paper_figures.results(make())
    require_whole(figure, 15 * 72 / figure_style.DPI)


def test_bars_are_fold_means_beside_votes():
    given = full_summary()
    figure = paper_figures.results(given)
    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height(), bar.get_hatch()) for bar in figure.axes[0].patches]
    groups = list(given.sets.values())
    striped, dotted = bars[::2], bars[1::2]
    assert [height for _, height, _ in striped] == pytest.approx([group.folds_mean for group in groups])
    assert [height for _, height, _ in dotted] == pytest.approx([group.test_vote_macro_f1 for group in groups])
    assert {hatch for *_, hatch in striped} == {"////"}
    assert {hatch for *_, hatch in dotted} == {"..."}
    assert all(left < right for (left, *_), (right, *_) in zip(striped, dotted, strict=True))


def test_marks_stand_where_the_numbers_are():
    figure = paper_figures.results(half_summary())
    lines = [line for line in figure.axes[0].lines if len(line.get_ydata()) == 1]
    points = {(line.get_marker(), round(float(line.get_ydata()[0]), 3)) for line in lines}
    assert {("o", 0.78), ("o", 0.804), ("o", 0.916)} <= points  # the paper's
    assert {("D", 0.7), ("D", 0.75), ("D", 0.8), ("D", 0.85)} <= points
    assert ("D", 0.6) not in points  # a baseline
    segments = np.concatenate([np.concatenate(c.get_segments()) for c in figure.axes[0].collections])[:, 1].round(3)
    assert {0.64, 0.76} <= set(segments)  # the standard deviation over folds around 0.7
    assert {0.6, 0.78, 0.45, 1.0} <= set(segments)  # both intervals


def test_what_is_not_there_is_not_drawn_or_explained():
    words = " ".join(text.get_text() for text in texts(paper_figures.results(smallest_summary())))
    assert "(1 of 5 folds)" in words
    assert "majority vote" not in words
    assert "Bayes" not in words
    words = " ".join(text.get_text() for text in texts(paper_figures.results(full_summary())))
    assert "Bayes" in words
    assert "majority vote" in words
    assert "folds)" not in words


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    truth = write_cases_folder(folder / "truth", make_cases({"cv": (2, 2)}), 2)
    write_cases_folder(folder / "mri", make_cases({"cv": (2, 2)}), 2, ("post", "event"), truth=False)
    write_cases_folder(folder / "zscore", make_cases({"cv": (2, 2)}), 2, dose_scale_gy=None, truth=False)
    return folder, next(case for case in truth.cases if case.label == 1)


def test_patient_shows_the_slices_of_the_cavity_and_the_lesion(cases):
    folder, case = cases
    figure = paper_figures.patient(folder / "truth", case)
    post, event, dose, bar = figure.axes
    titles = [axes.get_title() for axes in (post, event, dose)]
    assert titles == ["Post-OP MRI, z = -20 mm", "Event MRI, z = +10 mm", "Dose, z = +10 mm"]
    assert bar.get_ylabel() == "dose in Gy"
    image = dose.findobj(AxesImage)[0]
    volume = np.load(folder / "truth" / case.folder / "volume.npy")
    assert np.array_equal(image.get_array(), volume[2, :, :, 7].T.astype(np.float32) * 60)
    assert image.get_clim() == (0, 60)
    for axes, region in ((post, CAVITY), (event, LESION), (dose, LESION)):
        circle = next(patch for patch in axes.patches if isinstance(patch, Circle))
        middle = [(part.start + part.stop) / 2 * SPACING_MM for part in region[:2]]
        assert circle.center == pytest.approx(middle)
        corners = np.linalg.norm(
            [SPACING_MM, SPACING_MM]
        )  # from the middle of three voxels to the middle of a corner's
        assert circle.radius == pytest.approx(corners + 4)


def test_a_further_channel_stands_behind_under_its_own_name(tmp_path):
    folds = write_cases_folder(tmp_path / "cases", make_cases({"cv": (2, 2)}), 2, ("post", "event", "rd", "flair"))
    figure = paper_figures.patient(tmp_path / "cases", folds.cases[0])
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title().split(",")[0] for axes in panels] == ["Post-OP MRI", "Event MRI", "Dose", "flair"]
    event, flair = (panels[place].findobj(AxesImage)[0] for place in (1, 3))
    assert flair.cmap.name == "gray"
    assert np.array_equal(flair.get_array(), event.get_array())  # make_cases gives all MRIs the same voxels


def test_patients_right_is_on_the_left(cases):
    folder, case = cases
    axes = paper_figures.patient(folder / "truth", case).axes[0]
    left, right = axes.get_xlim()
    assert left > right  # x grows towards the patient's right (RAS+)
    letters = {text.get_text(): text.get_position()[0] for text in axes.texts if text.get_text() in "LR"}
    assert letters["R"] < 0.5 < letters["L"]
    low, high = axes.get_ylim()
    assert low < high  # anterior is up


def test_patient_without_truth_or_dose(cases):
    folder, case = cases
    figure = paper_figures.patient(folder / "mri", case)
    assert [axes.get_title().split(",")[0] for axes in figure.axes] == ["Post-OP MRI", "Event MRI"]
    assert not figure.findobj(Circle)
    assert paper_figures.patient(folder / "zscore", case).axes[-1].get_ylabel() == "dose (z-score)"


@pytest.mark.parametrize("name", ["truth", "mri", "zscore"])
def test_patients_labels_are_whole(cases, name):
    folder, case = cases
    figure = paper_figures.patient(folder / name, case)
    for text in texts(figure):
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1, text


@pytest.mark.slow
def test_same_figure_same_bytes_without_a_date(cases, tmp_path):
    folder, case = cases
    figure_of = {
        "figure1": lambda: paper_figures.patient(folder / "truth", case),
        "figure2": lambda: paper_figures.results(full_summary()),
    }
    for stem, make in figure_of.items():
        figure_style.save(make(), tmp_path / stem)
        first = {path.name: path.read_bytes() for path in tmp_path.glob(f"{stem}.*")}
        assert set(first) == {f"{stem}.png", f"{stem}.svg"}
        figure_style.save(make(), tmp_path / stem)
        assert {path.name: path.read_bytes() for path in tmp_path.glob(f"{stem}.*")} == first
        assert b"<dc:date>" not in first[f"{stem}.svg"]
        assert not re.search(rb"20\d\d-\d\d-\d\d", first[f"{stem}.svg"])
        assert not {"Software", "Creation Time"} & set(Image.open(tmp_path / f"{stem}.png").info)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_set_is_labelled_by_the_channels_of_its_runs():
    given = summary({"rd_t2_flair": found(0.7)}, {})
    drawn = " ".join(
        text.get_text() for text in texts(paper_figures.results(given, {"rd_t2_flair": ["rd", "t2_flair"]}))
    )
    assert "dose +\nt2_flair" in drawn
