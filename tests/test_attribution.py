"""Numbers of a map against hand-made ones, and what the picture shows."""

import io

import numpy as np
import pytest

from ricenet.attribution import draw, measure, summarise

SHAPE, SPACING_MM = (12, 10, 8), 4.0
WORLD_FROM_VOXEL = np.array([[4.0, 0, 0, -20], [0, 4, 0, -16], [0, 0, 4, 8], [0, 0, 0, 1]])


def box(*axes: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(slice(low, high) for low, high in axes)] = True
    return mask


BRAIN = box((1, 11), (1, 9), (1, 7))  # 480 voxels
LESION = box((4, 6), (4, 6), (3, 5))  # 8 voxels


def test_shares_count_the_absolute_map_and_the_brain() -> None:
    drop = np.zeros(SHAPE)
    drop[4, 4, 3], drop[8, 8, 6], drop[0, 0, 0] = 0.5, -0.3, 0.2
    numbers = measure(drop, WORLD_FROM_VOXEL, (2, 2, 2), BRAIN, {"lesion": LESION}, None)
    assert (numbers["drop_max"], numbers["drop_min"]) == (0.5, -0.3)
    assert numbers["drop_max_world_mm"] == [4 * 4 - 20, 4 * 4 - 16, 4 * 3 + 8]
    assert numbers["map_share"] == {"brain": pytest.approx(0.8), "lesion": pytest.approx(0.5)}
    assert numbers["brain_share"] == {"lesion": pytest.approx(8 / 480)}
    assert "dose_gy" not in numbers


@pytest.mark.parametrize(("distance", "hits"), [(0, True), (2, True), (3, False)])
def test_a_maximum_hits_when_a_cube_over_it_can_touch_the_lesion(distance: int, hits: bool) -> None:
    drop = np.zeros(SHAPE)
    drop[5 + distance, 4, 3] = 0.1  # the lesion ends at x = 5; a cube of edge 3 reaches two voxels
    numbers = measure(drop, WORLD_FROM_VOXEL, (3, 3, 3), BRAIN, {"lesion": LESION}, None)
    assert numbers["hits_lesion"] is hits
    reach = box((2, 8), (2, 8), (1, 7))
    assert numbers["hits_lesion_by_chance"] == pytest.approx(reach.sum() / 480)


def test_a_map_without_any_drop_points_nowhere() -> None:
    for drop in (np.zeros(SHAPE), np.full(SHAPE, -0.1)):
        numbers = measure(drop, WORLD_FROM_VOXEL, (2, 2, 2), BRAIN, {"lesion": LESION}, np.ones(SHAPE))
        assert numbers["drop_max_world_mm"] is None
        assert numbers["hits_lesion"] is False
    nothing = measure(np.zeros(SHAPE), WORLD_FROM_VOXEL, (2, 2, 2), BRAIN, {"lesion": LESION}, np.ones(SHAPE))
    assert nothing["map_share"] == {"brain": None, "lesion": None}
    assert nothing["dose_gy"] == {"weighted_by_map": None, "brain": 1.0}


def test_dose_under_the_map_beside_the_brains() -> None:
    drop, dose_gy = np.zeros(SHAPE), np.zeros(SHAPE)
    drop[5, 5, 4], drop[2, 2, 2], drop[0, 0, 0] = 0.3, -0.1, 9.0
    dose_gy[5, 5, 4], dose_gy[2, 2, 2], dose_gy[0, 0, 0] = 60, 20, 99
    numbers = measure(drop, WORLD_FROM_VOXEL, (2, 2, 2), BRAIN, {}, dose_gy)
    assert numbers["dose_gy"]["weighted_by_map"] == pytest.approx((0.3 * 60 + 0.1 * 20) / 0.4)
    assert numbers["dose_gy"]["brain"] == pytest.approx(80 / 480)
    assert "hits_lesion" not in numbers


def record(key: str, **changed: object) -> dict:
    plain = {
        "case_key": key, "label": "rice", "predicted": "rice", "settings": {"cube_mm": 16.0},
        "map_share": {"brain": 0.9, "lesion": 0.2}, "brain_share": {"lesion": 0.02},
        "hits_lesion": True, "hits_lesion_by_chance": 0.1,
    }  # fmt: skip
    return {**plain, **changed}


def test_summary_of_several_cases() -> None:
    unknown = record("c", map_share={"brain": None}, brain_share={}, predicted="recurrence")
    del unknown["hits_lesion"], unknown["hits_lesion_by_chance"]
    other = record("b", map_share={"brain": 0.5, "lesion": 0.6}, hits_lesion=False, settings={"cube_mm": 8.0})
    summary = summarise([record("a"), other, unknown])
    assert (summary["n"], summary["n_correct"], summary["n_with_truth"], summary["n_hits_lesion"]) == (3, 2, 2, 1)
    assert summary["n_hits_lesion_by_chance"] == pytest.approx(0.2)
    assert summary["median_map_share"] == {"brain": pytest.approx(0.7), "lesion": pytest.approx(0.4)}
    assert summary["settings"] == [{"cube_mm": 16.0}, {"cube_mm": 8.0}]
    assert summary["cases"] == ["a", "b", "c"]


def test_picture_shows_the_maximum_the_dose_and_the_sides() -> None:
    rng = np.random.default_rng(0)
    mri, drop = rng.normal(size=SHAPE) * BRAIN, 0.1 * rng.random(SHAPE) * BRAIN
    drop[4, 5, 3] = 0.8
    dose_gy = np.where(BRAIN, 30.0, 0.0)
    dose_gy[3:7, 3:7, 2:6] = 50

    def picture() -> bytes:
        stream = io.BytesIO()
        figure.savefig(stream, dpi=60, metadata={"Software": None})
        return stream.getvalue()

    figure = draw(mri, drop, WORLD_FROM_VOXEL, dose_gy, LESION, "Case a")
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles == ["axial, z = 20 mm", "coronal, y = 4 mm", "sagittal, x = -4 mm"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["20 Gy", "40 Gy", "known lesion"]
    for axes, left in zip(figure.axes[:6], "RRARRA", strict=True):
        assert axes.get_xlim()[0] > axes.get_xlim()[1], "the right (front) of the patient is on the left"
        assert axes.texts[0].get_text() == left
    np.testing.assert_array_equal(figure.axes[3].images[1].get_array().shape, (10, 12, 4))  # rows y, columns x, RGBA
    strongest = figure.axes[3].images[1].get_array()[..., 3]
    assert np.unravel_index(strongest.argmax(), strongest.shape) == (5, 4)
    before = picture()
    figure = draw(mri, drop, WORLD_FROM_VOXEL, dose_gy, LESION, "Case a")
    assert picture() == before
    bare = draw(mri, np.zeros(SHAPE), WORLD_FROM_VOXEL, None, None, "Case a")
    assert not bare.legends
