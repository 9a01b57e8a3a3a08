"""What looks stripped: drawn brains as programs leave them, phantom heads as scanners and anonymisers leave them."""

from pathlib import Path

import numpy as np
import pytest
from helpers.phantom_scans import brain, scans
from scipy import ndimage

from ricenet.images.brain import extract
from ricenet.images.stripped import HEAD, STRIPPED, UNCLEAR, look, stripped_brain
from ricenet.images.volume import Volume, read_volume

SPACING_MM = 3.0
SHAPE = (72, 84, 68)
SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
EXTRACT = {"models": 1, "tta": False, "device": "cpu"}


def volume(voxels: np.ndarray, spacing_mm=(SPACING_MM,) * 3) -> Volume:
    return Volume(np.ascontiguousarray(voxels, dtype=np.float32), np.diag([*spacing_mm, 1.0]))


def ellipsoid(half_axes_mm=(66, 82, 64)) -> np.ndarray:
    """1,450 ml."""
    at = [
        (np.arange(size) - (size - 1) / 2) * SPACING_MM / half for size, half in zip(SHAPE, half_axes_mm, strict=True)
    ]
    x, y, z = np.meshgrid(*at, indexing="ij")
    return x**2 + y**2 + z**2 < 1


BRAIN = ellipsoid()
FOLDS = 400 + 150 * ndimage.gaussian_filter(np.random.default_rng(3).normal(size=SHAPE), 1.0)
ZEROED = np.where(BRAIN, FOLDS, 0)


def scored_inside() -> np.ndarray:
    inside = FOLDS[BRAIN]
    return np.where(BRAIN, (FOLDS - inside.mean()) / inside.std(), 0)


def in_another_field_of_view() -> np.ndarray:
    """Normalised, then brought onto a larger grid, askew: one constant around another, a rim between them."""
    scored = (ZEROED - ZEROED.mean()) / ZEROED.std()
    return ndimage.rotate(np.pad(scored, 8, constant_values=0), 12, reshape=False, order=1, cval=0)


def in_two_pieces() -> np.ndarray:
    """A program that left nothing between cerebrum and cerebellum."""
    parted = ZEROED.copy()
    parted[:, :, 20:22] = 0
    return parted


def with_noise(noise: float) -> np.ndarray:
    scored = (ZEROED - ZEROED.mean()) / ZEROED.std()
    return scored + np.random.default_rng(0).normal(0, noise, SHAPE)


AS_PROGRAMS_LEAVE_THEM = {
    "0 outside": lambda: ZEROED,
    "normalised afterwards": lambda: (ZEROED - ZEROED.mean()) / ZEROED.std(),
    "normalised inside": scored_inside,
    "the lowest value outside": lambda: np.where(BRAIN, FOLDS, FOLDS[BRAIN].min()),
    "float noise outside": lambda: with_noise(1e-9),
    "more of it": lambda: with_noise(1e-4),
    "splines": lambda: ndimage.rotate(ZEROED, 12, reshape=False, order=3),
    "linear": lambda: ndimage.rotate(ZEROED, 12, reshape=False, order=1),
    "in another field of view": in_another_field_of_view,
    "cropped to the brain": lambda: ZEROED[ndimage.find_objects(BRAIN.astype(int))[0]],
    "brain stem cut": lambda: ZEROED[:, :, 16:],
    "specks": lambda: np.where(np.indices(SHAPE).sum(axis=0) == 9, 500, ZEROED),
    "in two pieces": in_two_pieces,
}


@pytest.mark.parametrize("made", AS_PROGRAMS_LEAVE_THEM)
def test_a_brain_without_its_skull_looks_stripped_and_is_taken_whole(made: str) -> None:
    image = volume(AS_PROGRAMS_LEAVE_THEM[made]())
    seen = look(image)
    assert seen.kind == STRIPPED, seen
    truth = np.count_nonzero(BRAIN) * SPACING_MM**3 / 1000
    found = stripped_brain(image).sum() * SPACING_MM**3 / 1000
    if made != "brain stem cut":
        assert 0.95 * truth < found < 1.35 * truth  # rims of an interpolation count
    assert f"around one piece of {seen.ml:,.0f} ml" in seen.words


def test_thick_slices_look_stripped_too() -> None:
    thick = volume(ZEROED[:, :, 1::2], (SPACING_MM, SPACING_MM, 2 * SPACING_MM))
    assert look(thick).kind == STRIPPED
    np.testing.assert_array_equal(stripped_brain(thick), BRAIN[:, :, 1::2])


def test_where_all_around_is_0_the_brain_is_that_of_brain_none() -> None:
    ventricle = ZEROED.copy()
    ventricle[34:38, 38:44, 30:36] = 0
    ventricle[28:44, 20:30, 30:44] = 90  # a cavity without any noise
    ventricle[2, 2, 2] = 7
    image = volume(ventricle)
    np.testing.assert_array_equal(stripped_brain(image), BRAIN)
    np.testing.assert_array_equal(extract(image, STRIPPED, **EXTRACT), extract(image, "none", **EXTRACT))


def head() -> np.ndarray:
    return scans(0).volumes["event"].voxels


def outline() -> np.ndarray:
    smooth = ndimage.gaussian_filter(head(), 1.0)
    return ndimage.binary_fill_holes(ndimage.binary_closing(smooth > 150, iterations=2))


def defaced() -> np.ndarray:
    voxels = np.where(outline(), head(), 0)
    voxels[:, voxels.shape[1] * 2 // 3 :, : voxels.shape[2] // 2] = 0
    return voxels


def with_black_bone() -> np.ndarray:
    """Between brain and scalp nothing at all: two pieces, one within the other."""
    inside = brain(0, "event").voxels > 0.5
    bone = ndimage.binary_dilation(inside, iterations=4) & ~inside
    return np.where(outline() & ~bone, head(), 0)


HEADS = {
    "as scanned": head,
    "background set to 0": lambda: np.where(outline(), head(), 0),
    "in a large field of view": lambda: np.pad(np.where(outline(), head(), 0), 12),
    "face removed": defaced,
    "bone without signal": with_black_bone,
    "hardly any noise": lambda: np.where(outline(), head(), 0.001 * head()),
}


@pytest.mark.parametrize("made", HEADS)
def test_a_head_with_its_skull_does_not(made: str) -> None:
    seen = look(Volume(HEADS[made]().astype(np.float32), scans(0).volumes["event"].world_from_voxel))
    assert seen.kind == HEAD, seen


def test_what_a_field_of_view_cuts_to_the_size_of_a_brain_is_not_decided() -> None:
    """A slab of 64 mm of a head whose background is 0: less than a brain may have."""
    image = scans(0).volumes["event"]
    slab = np.where(outline(), head(), 0)[:, :, 24:40]
    seen = look(Volume(np.ascontiguousarray(slab, dtype=np.float32), image.world_from_voxel))
    assert seen.kind == UNCLEAR, seen


def test_an_image_of_nothing_but_noise_is_not_stripped() -> None:
    assert look(volume(np.random.default_rng(0).normal(size=SHAPE))).kind == HEAD


@pytest.mark.extended
@pytest.mark.skipif(not SHARED.is_dir(), reason="no real images at ../shared/data")
def test_real_images_are_told_apart() -> None:
    kinds = {path.name: look(read_volume(path)).kind for path in sorted(SHARED.glob("*.nii.gz"))}
    assert kinds == {name: HEAD if "head" in name else STRIPPED for name in kinds}
