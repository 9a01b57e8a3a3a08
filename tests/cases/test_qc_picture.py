from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from ricenet.cases.qc_picture import draw_case

SHAPE = (64, 72, 60)


def scene() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A brain that is bright on the patient's right (x grows to the right in RAS+), with a dose on its left."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    brain = x**2 + y**2 + z**2 < 0.8
    image = (brain * (60 + 60 * (x > 0))).astype(np.float32)
    dose = (60 * np.exp(-((x + 0.4) ** 2 + y**2 + z**2) * 8)).astype(np.float32)
    return {"post": image, "event": image * 2, "rd": dose}, brain


def columns_of(path: Path, count: int) -> list[np.ndarray]:
    """The picture's columns, top row (axial) only."""
    picture = imread(path)[..., :3]
    top = picture[picture.shape[0] // 12 : picture.shape[0] // 3]
    return np.array_split(top, count, axis=1)


def test_right_of_the_patient_is_left_in_the_picture(tmp_path):
    view, brain = scene()
    draw_case(tmp_path / "qc.png", view, brain, "0123456789ab")
    post = columns_of(tmp_path / "qc.png", 4)[0]
    left, right = np.array_split(post.mean(axis=2), 2, axis=1)
    assert left.mean() > 1.5 * right.mean()


def test_dose_lines_lie_where_the_dose_is(tmp_path):
    view, brain = scene()
    draw_case(tmp_path / "qc.png", view, brain, "0123456789ab")
    dose = columns_of(tmp_path / "qc.png", 4)[3]
    coloured = dose.max(axis=2) - dose.min(axis=2) > 0.3
    left, right = np.array_split(coloured, 2, axis=1)
    assert right.sum() > max(100, 3 * left.sum())


def test_outline_is_drawn_on_both_images(tmp_path):
    view, brain = scene()
    draw_case(tmp_path / "qc.png", view, brain, "0123456789ab")
    for column in columns_of(tmp_path / "qc.png", 4)[:2]:
        red, green, blue = np.moveaxis(column, 2, 0)
        assert ((red > 0.7) & (green > 0.6) & (blue < 0.4)).sum() > 100


def test_a_further_mri_has_its_outline_and_tiles_of_its_own_behind(tmp_path):
    view, brain = scene()
    mirrored = np.ascontiguousarray(view["post"][::-1])  # bright on the other side, so that its tiles can be told
    draw_case(tmp_path / "qc.png", view | {"flair": mirrored}, brain, "0123456789ab")
    assert imread(tmp_path / "qc.png").shape[1] == 1800
    *_, flair, tiles = columns_of(tmp_path / "qc.png", 6)
    left, right = np.array_split(flair.mean(axis=2), 2, axis=1)
    assert right.mean() > 1.5 * left.mean()
    red, green, blue = np.moveaxis(flair, 2, 0)
    assert ((red > 0.7) & (green > 0.6) & (blue < 0.4)).sum() > 100
    for half in np.array_split(tiles, 2, axis=1):  # one of the two images is bright in each
        assert 0.1 < (half > 0.9).all(axis=2).mean() < 0.6


@pytest.mark.parametrize("with_dose", [True, False])
def test_same_case_same_bytes(tmp_path, with_dose):
    view, brain = scene()
    if not with_dose:
        del view["rd"]
    for name in ("a.png", "b.png"):
        draw_case(tmp_path / name, view, brain, "0123456789ab")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    width = imread(tmp_path / "a.png").shape[1]
    assert width == (1200 if with_dose else 900)


def hue(column: np.ndarray) -> np.ndarray:
    return column.max(axis=2) - column.min(axis=2) > 0.3


def test_structures_are_outlined_on_post_and_the_lesion_on_event(tmp_path):
    view, brain = scene()
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    right = (x - 0.4) ** 2 + y**2 + z**2 < 0.04  # the patient's, left in the picture
    left = (x + 0.4) ** 2 + y**2 + z**2 < 0.04
    nowhere = np.zeros(SHAPE, dtype=bool)
    masks = {"lesion": left, "GTV": right, "Cavity": nowhere}
    draw_case(tmp_path / "qc.png", view, brain, "0123456789ab", structures=masks)
    assert imread(tmp_path / "qc.png").shape[1] == 1800
    *_, structures, lesion = columns_of(tmp_path / "qc.png", 6)
    for column, half in ((structures, 0), (lesion, 1)):
        coloured = [hue(part).sum() for part in np.array_split(column, 2, axis=1)]
        assert coloured[half] > 50
        assert coloured[1 - half] == 0


def test_without_a_post_image_the_event_stands_in_its_place(tmp_path):
    """Event, dose on it, flair and its tiles, structures on the event, lesion: and not event alone in tiles."""
    view, brain = scene()
    del view["post"]
    draw_case(tmp_path / "alone.png", {"event": view["event"]}, brain, "0123456789ab")
    assert imread(tmp_path / "alone.png").shape[1] == 300
    structures = {"GTV": brain, "lesion": brain}
    draw_case(tmp_path / "qc.png", view | {"flair": view["event"]}, brain, "0123456789ab", structures=structures)
    assert imread(tmp_path / "qc.png").shape[1] == 1800
    event, dose, *_ = columns_of(tmp_path / "qc.png", 6)
    left, right = (half.mean() for half in np.array_split(event.mean(axis=2), 2, axis=1))
    assert left > 1.5 * right
    left, right = (half.sum() for half in np.array_split(hue(dose), 2, axis=1))
    assert right > max(100, 3 * left)


def test_no_mask_no_column(tmp_path):
    view, brain = scene()
    draw_case(tmp_path / "a.png", view, brain, "0123456789ab")
    draw_case(tmp_path / "b.png", view, brain, "0123456789ab", structures={"GTV": np.zeros(SHAPE, dtype=bool)})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
