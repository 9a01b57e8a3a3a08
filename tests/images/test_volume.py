import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ricenet.errors import InvalidInput, about
from ricenet.images.volume import Volume, covered, frames_apart_mm, isotropic, read_volume, resample, write_volume

CASE = "case 0123456789ab (row 2 of cohort.csv)"
SHAPE = (12, 10, 9)
OBLIQUE = np.array(
    [[0.936, -0.344, 0.072, -20.5], [0.352, 0.915, -0.197, 31.25], [0.002, 0.209, 0.978, -7.0], [0, 0, 0, 1]]
)


def scan(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.float32)


def save(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    image = nib.Nifti1Image(voxels, None)
    image.header.set_sform(np.diag([1.0, 1.5, 2.0, 1.0]) if affine is None else affine, code=1)
    nib.save(image, path)
    return path


def oblique_affine(spacing=(1.0, 1.5, 2.0)) -> np.ndarray:
    axes, _ = np.linalg.qr(OBLIQUE[:3, :3])
    affine = np.eye(4)
    affine[:3, :3] = axes @ np.diag(np.sign(np.diag(axes))) @ np.diag(spacing)
    affine[:3, 3] = OBLIQUE[:3, 3]
    return affine


@pytest.mark.parametrize("affine", [np.diag([1.0, 1.5, 2.0, 1.0]), oblique_affine()], ids=["straight", "oblique"])
def test_every_axis_order_and_flip_reads_as_the_same_volume(tmp_path, affine):
    voxels, seen = scan(), []
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            orientation = np.column_stack([order, flips])
            stored = nib.orientations.apply_orientation(voxels, orientation)
            moved = affine @ nib.orientations.inv_ornt_aff(orientation, voxels.shape)
            seen.append(read_volume(save(tmp_path / "x.nii.gz", stored, moved)))
    assert len(seen) == 48
    for volume in seen:
        np.testing.assert_array_equal(volume.voxels, voxels)
        np.testing.assert_allclose(volume.world_from_voxel, affine, atol=1e-5)


def test_big_endian(tmp_path):
    voxels = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    nib.save(nib.Nifti1Image(voxels, np.eye(4), nib.Nifti1Header(endianness=">")), tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii.gz").voxels, voxels)


def test_slope_and_intercept(tmp_path):
    image = nib.Nifti1Image(np.linspace(0, 80, np.prod(SHAPE)).reshape(SHAPE), np.eye(4))
    image.set_data_dtype(np.int16)  # nibabel then stores integers with a slope and an intercept
    nib.save(image, tmp_path / "x.nii.gz")
    assert nib.load(tmp_path / "x.nii.gz").dataobj.slope != 1
    got = read_volume(tmp_path / "x.nii.gz").voxels
    np.testing.assert_allclose(got, np.linspace(0, 80, np.prod(SHAPE)).reshape(SHAPE), atol=0.01)


def nan(voxels):
    voxels[3, 3, 3] = np.nan
    return voxels


def infinity(voxels):
    voxels[0, 0, 0] = np.inf
    return voxels


REFUSED = {
    "NaN": (nan, None, "NaN", "image.not_finite"),
    "infinity": (infinity, None, "infinity", "image.not_finite"),
    "constant": (lambda voxels: np.full_like(voxels, 7), None, "constant", "image.constant"),
    "4D": (lambda voxels: np.stack([voxels] * 3, axis=-1), None, "3D", "image.dimensions"),
    "2D": (lambda voxels: voxels[:, :, 0], None, "3D", "image.dimensions"),
    "complex": (lambda voxels: voxels.astype(np.complex64), None, "real numbers", "image.data_type"),
    "thin": (lambda voxels: voxels[:, :, :3], None, "voxels or more", "image.size"),
    "singular": (lambda voxels: voxels, np.diag([1.0, 0.0, 1.0, 1.0]), "affine", "affine.spacing"),
    "metres": (lambda voxels: voxels, np.diag([0.001, 0.001, 0.001, 1.0]), "affine", "affine.spacing"),
    "sheared": (lambda v: v, np.eye(4) + np.eye(4, k=1) * [[0.3], [0], [0], [0]], "sheared", "affine.sheared"),
}


@pytest.mark.parametrize("damage", REFUSED)
def test_unusable_content_is_refused_with_case_and_role(tmp_path, damage):
    change, affine, says, code = REFUSED[damage]
    path = save(tmp_path / "SECRET.nii.gz", change(scan()), affine)
    with pytest.raises(InvalidInput, match=says) as caught, about(CASE, "event"):
        read_volume(path)
    assert str(caught.value).startswith(f"{CASE}: event image: ")
    assert "expected" in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert (caught.value.code, str(caught.value).endswith(caught.value.hint)) == (code, True)


def test_trailing_axis_of_one_is_a_volume(tmp_path):
    path = save(tmp_path / "x.nii.gz", scan()[..., None])
    assert read_volume(path).voxels.shape == SHAPE


def test_missing_file(tmp_path):
    with pytest.raises(InvalidInput, match=r"^expected a file, got none; correct its path$"):
        read_volume(tmp_path / "SECRET.nii.gz")


def test_no_affine(tmp_path):
    image = nib.Nifti1Image(scan(), None)
    image.header["qform_code"] = image.header["sform_code"] = 0
    nib.save(image, tmp_path / "x.nii.gz")
    with pytest.raises(InvalidInput, match="qform or sform"):
        read_volume(tmp_path / "x.nii.gz")


def test_a_qform_that_disagrees_is_measured_at_the_corners(tmp_path):
    image = nib.Nifti1Image(scan(), None)
    image.set_sform(oblique_affine(), code=1)
    nib.save(image, tmp_path / "one.nii.gz")
    image.set_qform(oblique_affine(), code=1)
    nib.save(image, tmp_path / "same.nii.gz")
    turned = oblique_affine()
    turned[0, 3] += 7
    image.set_qform(turned, code=1)
    nib.save(image, tmp_path / "moved.nii.gz")
    apart = {name: frames_apart_mm(tmp_path / f"{name}.nii.gz") for name in ("one", "same", "moved")}
    assert apart == pytest.approx({"one": 0, "same": 0, "moved": 7}, abs=1e-3)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_truncated_file(tmp_path, share, suffix):
    path = save(tmp_path / f"x{suffix}", scan())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InvalidInput):
        read_volume(path)


def test_flipped_bits_in_gzip_are_caught_or_harmless(tmp_path):
    path = save(tmp_path / "x.nii.gz", scan())
    content, rng, caught = path.read_bytes(), np.random.default_rng(0), 0
    intact = read_volume(path)
    for position in rng.integers(10, len(content), 100):  # the first ten bytes hold a time and a system, no data
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(read_volume(path).voxels, intact.voxels)
        except InvalidInput:
            caught += 1
    assert caught >= 98  # a flip in the stored file name changes nothing


def test_absurd_size_is_refused_before_allocation(tmp_path):
    path = save(tmp_path / "x.nii", scan())
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([32767] * 3, np.int16).tobytes()
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="at most"):
        read_volume(path)
    content[42:48] = np.array([600] * 3, np.int16).tobytes()  # 864 MB that a few kB cannot hold, compressed or not
    for name, pack in {"x.nii": bytes, "x.nii.gz": lambda raw: gzip.compress(bytes(raw))}.items():
        (tmp_path / name).write_bytes(pack(content))
        with pytest.raises(InvalidInput, match="cannot hold"):
            read_volume(tmp_path / name)


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b", b"DICM" * 400, b"\x00" * 4000, b"\x5c\x01\x00\x00" + b"\xff" * 4000]
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "x.nii.gz").write_bytes(content)
    with pytest.raises(InvalidInput):
        read_volume(tmp_path / "x.nii.gz")


def test_writing_is_deterministic_and_carries_no_text(tmp_path):
    voxels, affine = scan(), oblique_affine()
    for name in ("PATIENT_NAME.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, voxels, affine)
    content = (tmp_path / "b.nii.gz").read_bytes()
    assert content == (tmp_path / "PATIENT_NAME.nii.gz").read_bytes()
    assert content[4:8] == b"\0\0\0\0"  # gzip's time
    assert not content[3] & 0b00001000  # no file name
    header = nib.load(tmp_path / "b.nii.gz").header
    assert all(
        not str(header[field].astype(str)).strip() for field in ("descrip", "aux_file", "db_name", "intent_name")
    )
    back = read_volume(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(back.voxels, voxels)
    np.testing.assert_allclose(back.world_from_voxel, affine, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["PATIENT_NAME.nii.gz", "b.nii.gz"]


@pytest.mark.parametrize(("given", "stored"), [(bool, np.uint8), (np.int16, np.int16), (np.float64, np.float32)])
def test_written_type(tmp_path, given, stored):
    voxels = (scan() > 100).astype(given)
    write_volume(tmp_path / "x.nii.gz", voxels, np.eye(4))
    image = nib.load(tmp_path / "x.nii.gz")
    assert image.get_data_dtype() == stored
    np.testing.assert_array_equal(np.asarray(image.dataobj), voxels)


def linear_field(points: np.ndarray) -> np.ndarray:
    return points @ np.array([0.3, -0.7, 1.1]) + 5  # trilinear interpolation reproduces it exactly


def grid_points(shape, affine) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def test_resample_places_voxels_by_both_affines_and_the_world_map():
    source_affine, world_map = oblique_affine(), oblique_affine((1.0, 1.0, 1.0))
    volume = Volume(linear_field(grid_points((40, 40, 40), source_affine)).astype(np.float32), source_affine)
    target = np.linalg.inv(world_map) @ source_affine @ np.diag([1.7, 1.3, 0.9, 1.0])
    target[:3, 3] = (np.linalg.inv(world_map) @ source_affine @ [12.0, 13.0, 14.0, 1.0])[:3]
    got = resample(volume, SHAPE, target, world_map)
    inside = covered(volume, SHAPE, target, world_map)
    expected = linear_field(grid_points(SHAPE, world_map @ target))
    assert inside.mean() > 0.9
    np.testing.assert_allclose(got[inside], expected[inside], rtol=1e-4)


def test_outside_is_zero_and_not_covered():
    volume = Volume(np.full((10, 10, 10), 60, np.float32), np.eye(4))
    grid = np.eye(4)
    grid[:3, 3] = [-5, 0, 0]
    got, inside = resample(volume, (20, 10, 10), grid), covered(volume, (20, 10, 10), grid)
    assert (got[:5] == 0).all()
    assert (got[5:15] == 60).all()
    assert (got[15:] == 0).all()
    np.testing.assert_array_equal(inside[:, 0, 0], (np.arange(20) >= 5) & (np.arange(20) < 15))


def test_isotropic_keeps_field_of_view_and_places():
    affine = oblique_affine((0.5, 1.0, 3.0))
    volume = Volume(linear_field(grid_points((60, 30, 14), affine)).astype(np.float32), affine)
    cubic = isotropic(volume, 1.0)
    assert cubic.voxels.shape == (30, 30, 42)
    np.testing.assert_allclose(cubic.spacing_mm, 1.0)
    inner = (slice(2, -2),) * 3
    expected = linear_field(grid_points(cubic.voxels.shape, cubic.world_from_voxel))
    np.testing.assert_allclose(cubic.voxels[inner], expected[inner], rtol=1e-4)
    low_corner = [affine @ [-0.5, -0.5, -0.5, 1], cubic.world_from_voxel @ [-0.5, -0.5, -0.5, 1]]
    np.testing.assert_allclose(*low_corner)
    assert isotropic(cubic, 1.0) is cubic
