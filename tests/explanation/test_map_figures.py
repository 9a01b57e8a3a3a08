"""Pictures against a planted brain, dose and map."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from helpers.make_summary import require_readable, texts, words
from matplotlib.collections import LineCollection
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from nibabel.affines import apply_affine

from ricenet.cohort.ready_cases import ReadyCase
from ricenet.display import figure_style
from ricenet.explanation import map_figures
from ricenet.explanation.explained_case import Scene

SHAPE, SPACING_MM = (34, 44, 26), np.array([5.0, 4.0, 6.0])
WORLD_FROM_VOXEL = np.array([[5.0, 0, 0, -80], [0, 4, 0, -100], [0, 0, 6, -70], [0, 0, 0, 1]])
POINTS_MM = np.moveaxis((np.indices(SHAPE) + 0.5) * SPACING_MM[:, None, None, None], 0, -1)  # from the grid's corner
BRAIN = (((POINTS_MM - (85, 88, 78)) / (65, 80, 60)) ** 2).sum(axis=-1) < 1
PEAK = (23, 30, 16)  # right, front, above of the brain's middle
DOSE_MIDDLE_MM = (np.array(PEAK) + 0.5) * SPACING_MM


def blocks(peak: tuple[int, ...] = PEAK, height: float = 0.4) -> np.ndarray:
    """A map of noise with one highest voxel."""
    drop = np.random.default_rng(0).uniform(-0.2, 0.2, SHAPE).astype(np.float32) * BRAIN
    drop[peak] = height
    return drop


def scene(**changed: object) -> Scene:
    """Dose: 60 Gy in the middle, 1 Gy less each mm. Lesion: a box around the map's maximum."""
    mri = np.where(BRAIN, np.random.default_rng(1).normal(size=SHAPE), 0).astype(np.float32)
    lesion = np.zeros(SHAPE, bool)
    lesion[21:26, 28:33, 14:19] = True
    plain = Scene(
        case=ReadyCase("c1", "p1", 1, "cv", "c1-0"),
        volume=mri[None],
        world_from_voxel=WORLD_FROM_VOXEL,
        brain=BRAIN,
        dose_gy=np.maximum(60 - np.linalg.norm(POINTS_MM - DOSE_MIDDLE_MM, axis=-1), 0),
        truth={"lesion": lesion},
        mri=mri,
        mri_role="event",
    )
    return replace(plain, **changed)


@cache
def plain_figure() -> Figure:
    """Drawn once: only read it."""
    return map_figures.draw_case(scene(), blocks(), "Case c1")


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def crosshair_mm(axes) -> np.ndarray | None:
    """(across, up): the middle of the gap between a crosshair's lines; None without one."""
    lines = [one.get_segments() for one in axes.collections if isinstance(one, LineCollection)]
    if not lines:
        return None
    (across, up) = lines
    return np.array([(across[0][1][0] + across[1][0][0]) / 2, (up[0][1][1] + up[1][0][1]) / 2])


@pytest.mark.slow
def test_every_text_is_whole_and_none_covers_another():
    for figure in (
        map_figures.draw_case(scene(), blocks(), "Case c1: recurrence, predicted rice (0.81)"),
        map_figures.draw_case(scene(), blocks((8, 24, 6)), "Case c1: recurrence, predicted rice (0.81)"),
        map_figures.draw_case(scene(dose_gy=None, truth={}, mri_role="post"), -np.abs(blocks()), "Case c1"),
        map_figures.draw_cohort(scene().mri, blocks((8, 24, 6)), scene().dose_gy, WORLD_FROM_VOXEL, 80, "Mean map"),
        map_figures.draw_cohort(scene().mri, blocks(), None, WORLD_FROM_VOXEL, 3, "Mean map"),
    ):
        require_readable(figure)
        titles = [axes.title.get_window_extent() for axes in figure.axes[:6] if axes.get_title()]
        assert len(titles) == 4
        assert not any(axes.bbox.overlaps(title) for axes in figure.axes[:6] for title in titles)


@pytest.mark.parametrize("peak", [PEAK, (8, 9, 7)])
def test_all_planes_go_through_the_maximum(peak):
    figure = map_figures.draw_case(scene(), blocks(peak), "Case c1")
    x, y, z = apply_affine(WORLD_FROM_VOXEL, peak).astype(int)
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles == [
        f"{name} mm".replace("-", "−") for name in (f"axial, z = {z}", f"coronal, y = {y}", f"sagittal, x = {x}")
    ]
    for axes in figure.axes[3:6]:
        image = axes.images[-1]
        across, up = (
            crosshair_mm(axes) / (np.array(image.get_extent())[[1, 3]] / image.get_array().shape[::-1])
        ).astype(int)
        assert image.get_array()[up, across] == np.float32(0.4)
    assert "maximum of the map (crosshair): 0.4" in words(figure)
    assert "event MRI" in words(figure)


def test_sides_are_named_as_a_radiologist_sees_them():
    """The maximum lies to the patient's right, front and top: nearer to R, A and S than to L, P and I."""
    figure = plain_figure()
    texts(figure)  # laid out
    for axes in figure.axes[:6]:
        at = axes.transData.transform(crosshair_mm(axes))
        sides = {t.get_text(): t.get_window_extent() for t in axes.texts if t.get_text() in "RLAPSI"}
        distance = {side: np.hypot(*(at - (box.p0 + box.p1) / 2)) for side, box in sides.items()}
        assert len(sides) == 4
        for near, far in ("RL", "AP", "SI"):
            if near in sides:
                assert distance[near] < distance[far]
    assert [axes.texts[0].get_text() for axes in figure.axes[:6]] == [*"RRARRA"]  # on the left
    left = [axes.texts[0].get_window_extent().x0 - axes.bbox.x0 for axes in figure.axes[:6]]
    assert max(left) < 0.1 * figure.axes[0].bbox.width


def test_contours_lie_where_the_dose_has_their_level():
    figure = plain_figure()
    assert legend(figure) == ["20 Gy", "40 Gy", "57 Gy", "known lesion"]
    for axes, own in zip(figure.axes[:6], [(0, 1), (0, 2), (1, 2)] * 2, strict=True):
        contours = [one for one in axes.collections if isinstance(one, ContourSet)]
        for level, contour in zip((20, 40, 57), contours[:3], strict=True):
            radii = np.linalg.norm(contour.get_paths()[0].vertices - DOSE_MIDDLE_MM[[*own]], axis=1)
            assert radii == pytest.approx(60 - level, abs=1.2), level  # linear between voxels of up to 6 mm
        low, high = contours[3].get_paths()[0].vertices.min(axis=0), contours[3].get_paths()[0].vertices.max(axis=0)
        edges = np.array([[21, 28, 14], [26, 33, 19]]) * SPACING_MM
        assert [low, high] == pytest.approx(edges[:, [*own]])


def test_legend_says_what_no_plane_meets_and_leaves_out_what_is_not_there():
    figure = plain_figure()
    assert "Not in these planes" not in words(figure)
    dashes = [str(line._dash_pattern) for line in figure.legends[0].get_lines()]
    assert len(set(dashes)) == 4  # told apart in grey
    figure = map_figures.draw_case(scene(), blocks((8, 24, 6)), "Case c1")  # 75, 24 and 60 mm from the dose's middle
    assert legend(figure) == ["20 Gy"]
    assert "Not in these planes: 40 Gy, 57 Gy, known lesion" in words(figure)
    low = np.minimum(scene().dose_gy, 45)
    figure = map_figures.draw_case(scene(dose_gy=low, truth={}), blocks(), "Case c1")
    assert legend(figure) == ["20 Gy", "40 Gy"]
    assert "57 Gy" not in words(figure)
    assert not map_figures.draw_case(scene(dose_gy=None, truth={}), blocks(), "Case c1").legends


@pytest.mark.parametrize("drop", [np.zeros(SHAPE, np.float32), -np.abs(blocks())])
def test_a_map_that_lowers_nothing_says_so(drop):
    figure = map_figures.draw_case(scene(), drop, "Case c1")
    require_readable(figure)
    assert "Nothing that was blanked lowers the probability; cut through the middle of the brain" in words(figure)
    assert all(crosshair_mm(axes) is None for axes in figure.axes[:6])
    inside = np.argwhere(BRAIN)
    x, y, z = apply_affine(WORLD_FROM_VOXEL, (inside.min(axis=0) + inside.max(axis=0) + 1) // 2).astype(int)
    assert [axes.get_title() for axes in figure.axes[:3]] == [
        f"axial, z = {z} mm".replace("-", "−"),
        f"coronal, y = {y} mm".replace("-", "−"),
        f"sagittal, x = {x} mm".replace("-", "−"),
    ]


def test_one_scale_and_a_bar_of_50_mm():
    figure = plain_figure()
    texts(figure)  # laid out
    scales = [
        np.abs(axes.transData.transform([(1, 1)]) - axes.transData.transform([(0, 0)])) for axes in figure.axes[:6]
    ]
    assert np.array(scales) == pytest.approx(scales[0][0, 0], rel=0.01)
    (bar,) = figure.axes[0].lines
    assert abs(np.diff(bar.get_xdata())) == 50
    inside = np.argwhere(BRAIN.any(axis=2))
    low, high = inside.min(axis=0) * SPACING_MM[:2], (inside.max(axis=0) + 1) * SPACING_MM[:2]
    (left, right), (bottom, top) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert right < low[0] < high[0] < left  # all of the brain is in view
    assert bottom < low[1] < high[1] < top


@pytest.mark.parametrize("edge", [0, -1])
def test_crosshair_leaves_the_maximum_free_at_the_edge_of_the_brain(edge):
    peak = tuple(np.argwhere(BRAIN)[edge])  # the leftmost or the rightmost voxel
    figure = map_figures.draw_case(scene(), blocks(peak), "Case c1")
    at = (np.array(peak) + 0.5) * SPACING_MM
    for axes, own in zip(figure.axes[:6], [(0, 1), (0, 2), (1, 2)] * 2, strict=True):
        lines = [one for one in axes.collections if isinstance(one, LineCollection)]
        for segment in np.concatenate([one.get_segments() for one in lines]):
            between = np.clip(at[[*own]], segment.min(axis=0), segment.max(axis=0))
            empty = (np.ptp(segment, axis=0) == 0).all()
            assert empty or np.linalg.norm(between - at[[*own]]) >= map_figures.GAP_MM


def test_colour_bar_is_two_sided_and_says_what_it_shows():
    figure = plain_figure()
    bar = figure.axes[6]
    assert bar.get_xlim() == pytest.approx((-0.4, 0.4))
    assert "drop in the probability of the predicted class" in bar.get_xlabel()
    colours = map_figures._map_colours()(np.array([0.0, 0.5, 1.0]))
    assert list(colours[:, 3].round(2)) == [0.85, 0, 0.85]  # nothing hides the anatomy where the map is 0
    assert colours[0, 2] > colours[0, 0]  # blue
    assert colours[2, 0] > colours[2, 2]  # yellow


def test_cohort_says_how_many_and_how_they_were_aligned():
    figure = map_figures.draw_cohort(scene().mri, blocks(), scene().dose_gy, WORLD_FROM_VOXEL, 80, "Mean map of dose")
    said = words(figure)
    assert "Mean over 80 cases" in said
    assert "no registration" in said
    assert legend(figure)[:2] == ["mean dose 20 Gy", "mean dose 40 Gy"]
    assert figure.axes[0].get_title() == "axial, z = 26 mm"


@pytest.mark.slow
def test_same_figure_same_bytes(tmp_path):
    for name in ("one", "two"):
        figure_style.save(map_figures.draw_case(scene(), blocks(), "Case c1"), tmp_path / name)
    for suffix in (".png", ".svg"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
