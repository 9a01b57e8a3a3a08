"""The volumes of a page: read back by nibabel, what and where the images were; small enough; the published library."""

import base64
import gzip
import hashlib
import re

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage

from ricenet.display.viewer import (
    LIBRARY,
    MAX_MASKS,
    Layer,
    Stored,
    block_mean,
    build_view,
    isodoses,
    outlines,
    scripts,
    store,
)

SHAPE = (30, 34, 28)
PLENTY = 10**9


def oblique(spacing_mm: float = 2.0) -> np.ndarray:
    """Axes turned by 10 degrees about the first one, an origin that is no whole number."""
    turn, affine = np.deg2rad(10), np.eye(4)
    affine[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, :3] *= spacing_mm
    affine[:3, 3] = -31.7, -40.2, 12.9
    return affine


def ball(radius: float = 9.0) -> np.ndarray:
    grid = np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    return (grid**2).sum(axis=0) < radius**2


def layers(rng: np.random.Generator) -> list[Layer]:
    """An MRI of two signs, a dose that is highest outside the brain, a map of two signs."""
    dose = rng.uniform(0, 60, SHAPE).astype(np.float32)
    dose[0, 0, 0], dose[14, 20, 12] = 75, 70
    drop = rng.uniform(-0.1, 0.2, SHAPE).astype(np.float32)
    drop[10, 15, 16], drop[:, :, 20] = 0.4, 0
    return [
        Layer("post", "post-OP MRI", rng.normal(size=SHAPE).astype(np.float32), "mri", -2, 3, "SD"),
        Layer("rd", "Dose", dose, "dose", 0, 70, "Gy"),
        Layer("map", "Map", drop, "map", -0.4, 0.4, ""),
    ]


def read(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def view_of(shown: list[Layer], budget: int = PLENTY, brain: np.ndarray | None = None) -> dict:
    return build_view(shown, oblique(), ball() if brain is None else brain, budget)


def corner(image: nib.Nifti1Image) -> np.ndarray:
    """The voxel of the whole grid that the file begins with."""
    first = apply_affine(np.linalg.inv(oblique()) @ image.affine, (0, 0, 0))
    assert np.allclose(first, first.round(), atol=1e-4)
    return first.round().astype(int)


@pytest.mark.parametrize("index", range(3))
def test_values_come_back_where_they_were_to_half_a_step(index: int) -> None:
    shown, brain = layers(np.random.default_rng(index)), ball()
    packed = view_of(shown)["layers"][index]
    image = read(packed["base64"])
    box = tuple(slice(at, at + size) for at, size in zip(corner(image), image.shape, strict=True))
    truth, inside = shown[index].voxels[box], brain[box] if index == 0 else np.ones(image.shape, dtype=bool)
    found = image.get_fdata()
    assert np.allclose(image.affine[:3, :3], oblique()[:3, :3], atol=1e-5)
    assert np.abs(found - truth)[inside].max() <= image.dataobj.slope * 0.5001
    assert image.dataobj.slope <= np.ptp(truth[inside]) / 126
    assert brain.sum() == brain[box].sum(), "nothing of the brain is cut off"
    assert 10 ** -packed["decimals"] >= image.dataobj.slope


def test_outside_the_brain_an_mri_has_no_value() -> None:
    shown, brain = layers(np.random.default_rng(0)), ball()
    packed = view_of(shown)["layers"][0]
    image = read(packed["base64"])
    box = tuple(slice(at, at + size) for at, size in zip(corner(image), image.shape, strict=True))
    found = image.get_fdata()
    assert np.array_equal(found == packed["masked"], ~brain[box])
    assert packed["masked"] < found[brain[box]].min()


def test_nothing_stays_exactly_nothing_in_a_map() -> None:
    shown = layers(np.random.default_rng(0))
    image = read(view_of(shown)["layers"][2]["base64"])
    assert (image.get_fdata()[:, :, 20 - corner(image)[2]] == 0).all()


def test_maxima_and_the_start_of_the_crosshair() -> None:
    shown = layers(np.random.default_rng(0))
    view = view_of(shown)
    post, dose, drop = view["layers"]
    assert post["maximum_mm"] is None
    assert dose["maximum_mm"] == pytest.approx(apply_affine(oblique(), (14, 20, 12)), abs=1e-3), "inside the brain"
    assert drop["maximum_mm"] == pytest.approx(apply_affine(oblique(), (10, 15, 16)), abs=1e-3)
    assert view["start_mm"] == drop["maximum_mm"]
    assert view_of(shown[:2])["start_mm"] == dose["maximum_mm"]
    middle = apply_affine(oblique(), (np.array(SHAPE) - 1) / 2)
    assert view_of(shown[:1])["start_mm"] == pytest.approx(middle, abs=0.06)
    nothing = Layer("map", "Map", np.full(SHAPE, -0.1, np.float32), "map", -0.1, 0.1, "")
    assert view_of([shown[0], nothing])["layers"][1]["maximum_mm"] is None


def test_a_page_takes_the_finest_resolution_that_fits() -> None:
    shown = layers(np.random.default_rng(0))
    sizes = {}
    for budget in (PLENTY, 40_000, 8_000):
        view = view_of(shown, budget)
        sizes[view["factor"]] = sum(len(one["base64"]) + len(one["contours"] or "") for one in view["layers"])
        assert view["spacing_mm"] == pytest.approx([2 * view["factor"]] * 3)
    assert list(sizes) == [1, 2, 4]
    assert sizes[1] > 40_000 >= sizes[2] > 8_000 >= sizes[4]
    assert view_of(shown, sizes[1])["factor"] == 1
    assert view_of(shown, sizes[1] - 1)["factor"] == 2


def test_coarse_voxels_are_means_of_the_fine_ones_in_their_place() -> None:
    shown = layers(np.random.default_rng(1))
    image = read(view_of(shown, 40_000)["layers"][2]["base64"])
    centre = apply_affine(np.linalg.inv(oblique()) @ image.affine, (3, 2, 4))
    first = (centre - 0.5).round().astype(int)
    assert np.allclose(centre - 0.5, first, atol=1e-4), "between two fine voxels"
    block = shown[2].voxels[tuple(slice(at, at + 2) for at in first)]
    assert image.get_fdata()[3, 2, 4] == pytest.approx(block.mean(), abs=image.dataobj.slope * 0.51)


def test_block_means_of_incomplete_blocks_and_of_masked_ones() -> None:
    rng = np.random.default_rng(0)
    voxels, weights = rng.normal(size=(5, 4, 7)), (rng.random((5, 4, 7)) < 0.5).astype(np.float32)
    weights[:2, :2, :2] = 0
    found = block_mean(voxels, weights, 2)
    assert found.shape == (3, 2, 4)
    for x, y, z in np.ndindex(found.shape):
        block = tuple(slice(2 * at, 2 * at + 2) for at in (x, y, z))
        expected = (voxels[block] * weights[block]).sum() / max(weights[block].sum(), 1)
        assert found[x, y, z] == pytest.approx(expected, abs=1e-6)
    assert found[0, 0, 0] == 0


def test_a_coarse_mri_is_not_darkened_by_what_lies_around_the_brain() -> None:
    brain, layer = ball(), layers(np.random.default_rng(0))[0]
    flat = Layer("post", "post-OP MRI", np.where(brain, 5.0, -3.0).astype(np.float32), "mri", 0, 6, "SD")
    stored = store(flat, brain, flat.voxels, 2)
    assert set(np.unique(stored.slope * stored.codes + stored.intercept)[1:]) == {5.0}
    assert 0.9 < (store(layer, brain, layer.voxels, 2).codes > 0).sum() * 8 / brain.sum() < 1.1


def test_isodoses_are_the_voxels_just_inside() -> None:
    distance = np.abs(np.arange(41) - 20)
    dose = np.broadcast_to((80 - 4 * distance).clip(0), (3, 3, 41)).astype(np.float32)
    lines = isodoses(Stored(dose.astype(np.uint8), 1.0, 0.0, False)).codes
    expected = np.zeros(41, dtype=np.uint8)
    expected[[5, 35]], expected[[10, 30]], expected[[15, 25]] = 1, 2, 3  # 20, 40 and 60 Gy, the first at or above 57
    assert np.array_equal(lines, np.broadcast_to(expected, (3, 3, 41)))


def masks_layer(*masks: np.ndarray) -> Layer:
    bits = sum(mask.astype(np.float32) * 2**place for place, mask in enumerate(masks))
    names = tuple(f"M{place}" for place in range(len(masks)))
    return Layer("structures", "Structures", bits, "masks", 0, 2 ** len(masks), "", names)


def test_masks_come_back_bit_by_bit_and_are_seen_as_outlines() -> None:
    rng = np.random.default_rng(0)
    masks = [ball(), ball(5), *(rng.random(SHAPE) < 0.3 for _ in range(MAX_MASKS - 2))]
    view = view_of([*layers(rng), masks_layer(*masks)])
    (packed,) = [layer for layer in view["layers"] if layer["kind"] == "masks"]
    codes, lines = read(packed["base64"]), read(packed["contours"])
    start = corner(codes)
    box = tuple(slice(first, first + size) for first, size in zip(start, codes.shape, strict=True))
    bits = np.asarray(codes.dataobj).astype(int)
    for place, mask in enumerate(masks):
        np.testing.assert_array_equal((bits >> place & 1).astype(bool), mask[box])
    assert packed["names"] == tuple(f"M{place}" for place in range(MAX_MASKS))
    assert len(packed["colours"]) == MAX_MASKS
    assert lines.shape == codes.shape
    assert packed["maximum_mm"] is None


def test_outlines_are_the_voxels_just_inside_the_small_one_on_top() -> None:
    large, small = ball(9), ball(4)
    lines = outlines(store(masks_layer(large, small), large, masks_layer(large, small).voxels, 1)).codes
    eroded = {True: ndimage.binary_erosion(large), False: ndimage.binary_erosion(small)}
    np.testing.assert_array_equal(lines == 2, small & ~eroded[False])
    np.testing.assert_array_equal(lines == 1, large & ~eroded[True])
    same = outlines(store(masks_layer(small, small), large, masks_layer(small, small).voxels, 1)).codes
    assert (same > 0).sum() == (lines == 2).sum()


def test_coarse_masks_hold_the_blocks_that_are_half_inside() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:5, :8, :8] = True
    layer = masks_layer(mask, ~mask)
    codes = store(layer, ball(), layer.voxels, 2).codes
    np.testing.assert_array_equal(codes[:3, 0, 0], [1, 1, 3])  # half a block is inside, and half of it outside
    assert codes[3, 0, 0] == 2


def test_constant_images_are_stored() -> None:
    still = np.zeros(SHAPE, np.float32)
    shown = [Layer(kind, kind, still, kind, 0, 0, "") for kind in ("mri", "dose", "map")]
    view = view_of(shown)
    assert [np.unique(read(one["base64"]).get_fdata()[9, 9, 9]) for one in view["layers"]] == [0, 0, 0]


def test_files_hold_no_text_and_are_the_same_each_time() -> None:
    one, other = (view_of(layers(np.random.default_rng(3)))["layers"] for _ in range(2))
    assert one == other
    header = read(one[0]["base64"]).header
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        assert header[field].item() == b""
    packed = base64.b64decode(one[0]["base64"])
    assert packed[3] == 0, "no file name, no comment"
    assert packed[4:8] == b"\0\0\0\0", "no time"


def test_the_library_is_the_published_one() -> None:
    told = (LIBRARY.parent / "README.md").read_text()
    digest = re.search(r"SHA-256 of the file \| `([0-9a-f]{64})`", told)
    assert digest is not None
    assert hashlib.sha256(LIBRARY.read_bytes()).hexdigest() == digest[1]
    assert "Copyright (c) 2021, Niivue" in (LIBRARY.parent / "LICENSE").read_text()
    version = re.search(r"\| version \| ([\d.]+) \|", told)
    assert version is not None
    assert f"version={version[1]}\n" in (LIBRARY.parent / "fetch.sh").read_text()


def test_scripts_can_stand_inside_a_page() -> None:
    for script in scripts():
        assert not re.search(r"</script|<!--", script, re.IGNORECASE), "would end or change the element"
        assert "\r" not in script, "a browser turns it into a line feed before it checks the hash"
    ours = scripts()[1]
    assert not re.search(r"\beval\b|innerHTML|new Function|https?:", ours)
