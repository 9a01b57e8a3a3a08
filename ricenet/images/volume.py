"""Volumes: voxels and the affine that places them. Read NIfTI with checks, resample, write NIfTI deterministically.

Frame: canonical RAS+, mm. The affine is the sform where the file has one, else the qform (nibabel's rule); a file with
neither is refused. Does not: read DICOM, .hdr/.img pairs or time series; guess units or orientations.
"""

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from scipy import ndimage

from ricenet.command.atomic import replacing_file
from ricenet.errors import InvalidInput

Affine = NDArray[np.float64]
Voxels = NDArray[np.float32]
Mask = NDArray[np.bool_]

MIN_VOXELS_PER_AXIS, MAX_VOXELS = 8, 2**28
MIN_SPACING_MM, MAX_SPACING_MM = 0.1, 20.0
MAX_HEADER_BYTES = 2**24
MAX_SHEAR = 1e-3  # cosine between two voxel axes; float32 headers stay below 1e-6
DEFLATE_MAX_RATIO = 1032
HEADERS = {348: (nib.Nifti1Image, b"n+1"), 540: (nib.Nifti2Image, b"n+2")}
EXPORT_AGAIN = "export the image again from its source"


@dataclass(frozen=True)
class Volume:
    """voxels: (X, Y, Z) float32, axes closest to RAS+; world_from_voxel: (4, 4) voxel index -> RAS+ mm."""

    voxels: Voxels
    world_from_voxel: Affine

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """(3,) edge lengths of a voxel."""
        return np.linalg.norm(self.world_from_voxel[:3, :3], axis=0)


def read_volume(path: Path | str) -> Volume:
    """Read `path` to its last byte and check everything that would otherwise fail late or in silence.

    The path, which may hold a name, appears in no message: say which image it is with ricenet.errors.about.

    Args:
        path: .nii or .nii.gz; what it is is read from its bytes, not from its name.

    Raises:
        InvalidInput: unreadable, truncated or corrupt file (gzip's checksum is checked), not one 3D volume of real
            numbers, absurd size (refused before allocation), no, singular or sheared affine, NaN, infinity, constant.
    """
    try:
        image = _parse(Path(path))
        voxels = np.asarray(np.asanyarray(image.dataobj), dtype=np.float32).reshape(image.shape[:3])
        affine = _checked_affine(image)
    except (OSError, EOFError, zlib.error, HeaderDataError, nib.filebasedimages.ImageFileError) as error:
        what = "one that ends too early" if isinstance(error, EOFError) else f"a damaged one ({type(error).__name__})"
        raise InvalidInput(f"expected an intact NIfTI file, got {what}", EXPORT_AGAIN, code="file.damaged") from None
    _check_voxels(voxels)
    orientation = io_orientation(affine)
    canonical = affine @ inv_ornt_aff(orientation, voxels.shape)
    # A float32 header holds an origin to a few 1e-6 mm, another for each axis order; ANTs makes .1 mm of that.
    canonical[:3, 3] = canonical[:3, 3].round(3)
    return Volume(np.ascontiguousarray(apply_orientation(voxels, orientation)), canonical)


def _parse(path: Path) -> nib.Nifti1Image:
    if not path.is_file():
        raise InvalidInput("expected a file, got none", "correct its path", code="file.missing")
    if path.stat().st_size == 0:
        raise InvalidInput("expected a NIfTI file, got one of 0 bytes", EXPORT_AGAIN, code="file.damaged")
    with path.open("rb") as stream:
        plain = _unpacked(stream)
        head = plain.read(540)
        image_class = _image_class(head)
        size = _expected_bytes(_header(image_class, head))
        available = path.stat().st_size * (DEFLATE_MAX_RATIO if isinstance(plain, gzip.GzipFile) else 1)
        if size > available:
            raise InvalidInput(
                f"its header announces {size:,} bytes, it cannot hold them", EXPORT_AGAIN, code="file.size"
            )
        # One byte more than expected: reaching the end of the stream is what makes gzip check its CRC.
        content = head + plain.read(size - len(head) + 1)
    if len(content) != size:
        got = "more" if len(content) > size else f"{len(content):,}"
        raise InvalidInput(f"expected {size:,} bytes from its header, got {got}", EXPORT_AGAIN, code="file.size")
    return image_class.from_stream(io.BytesIO(content))


def _unpacked(stream: io.BufferedReader) -> io.BufferedIOBase:
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    return gzip.GzipFile(fileobj=stream) if packed else stream


def _header(image_class: type[nib.Nifti1Image], head: bytes) -> nib.Nifti1Header:
    return image_class.header_class(head[: image_class.header_class.sizeof_hdr])


def _image_class(head: bytes) -> type[nib.Nifti1Image]:
    for order in ("little", "big"):
        image_class, magic = HEADERS.get(int.from_bytes(head[:4], order), (None, b""))
        if image_class and magic in (head[344:347], head[4:7]):
            return image_class
    raise InvalidInput(
        "expected a single-file NIfTI (.nii or .nii.gz), got something else", "convert it", code="file.format"
    )


def _expected_bytes(header: nib.Nifti1Header) -> int:
    shape = tuple(int(size) for size in header.get_data_shape())
    if len(shape) < 3 or any(size != 1 for size in shape[3:]):
        raise InvalidInput(
            f"expected one 3D volume, got shape {shape}",
            "choose or split off one volume",
            code="image.dimensions",
        )
    voxels = shape[0] * shape[1] * shape[2]
    if min(shape[:3]) < MIN_VOXELS_PER_AXIS or voxels > MAX_VOXELS:
        raise InvalidInput(
            f"expected {MIN_VOXELS_PER_AXIS} voxels or more along each axis and at most {MAX_VOXELS:,}, "
            f"got shape {shape}",
            "crop or resample it",
            code="image.size",
        )
    dtype, offset = header.get_data_dtype(), header.get_data_offset()
    if dtype.kind not in "iuf":
        raise InvalidInput(
            f"expected real numbers, got data type {dtype}", "store one scalar per voxel", code="image.data_type"
        )
    if not 0 < offset < MAX_HEADER_BYTES:
        raise InvalidInput(
            f"expected voxels within its first 16 MB, got offset {offset}", EXPORT_AGAIN, code="file.offset"
        )
    return offset + voxels * dtype.itemsize


def _checked_affine(image: nib.Nifti1Image) -> Affine:
    if not (image.header["qform_code"] > 0 or image.header["sform_code"] > 0):
        raise InvalidInput(
            "expected a qform or sform that places it in space, got neither", EXPORT_AGAIN, code="affine.missing"
        )
    affine = np.asarray(image.affine, dtype=np.float64)
    axes = affine[:3, :3]
    with np.errstate(all="ignore"):
        spacing = np.linalg.norm(axes, axis=0)
        cosines = (axes / spacing).T @ (axes / spacing) - np.eye(3)
    if not (np.isfinite(affine).all() and spacing.min() >= MIN_SPACING_MM and spacing.max() <= MAX_SPACING_MM):
        limits, got = f"{MIN_SPACING_MM}-{MAX_SPACING_MM} mm", " x ".join(f"{size:.3g}" for size in spacing)
        raise InvalidInput(
            f"expected voxels of {limits}, got {got} mm in its affine", EXPORT_AGAIN, code="affine.spacing"
        )
    if abs(cosines).max() > MAX_SHEAR:
        angle = np.degrees(np.arccos(min(1.0, abs(cosines).max())))
        raise InvalidInput(
            f"expected axes at right angles, got {angle:.1f} degrees (sheared)",
            "resample it",
            code="affine.sheared",
        )
    return affine


def _check_voxels(voxels: Voxels) -> None:
    invalid = voxels.size - int(np.isfinite(voxels).sum())
    if invalid:
        raise InvalidInput(
            f"expected finite numbers, got {invalid:,} voxels of NaN or infinity",
            "repair it",
            code="image.not_finite",
        )
    if voxels.min() == voxels.max():
        raise InvalidInput(
            f"expected an image, got {voxels.flat[0]:g} everywhere (constant)",
            EXPORT_AGAIN,
            code="image.constant",
        )


def frames_apart_mm(path: Path) -> float:
    """How far apart the qform and the sform of an intact NIfTI file place one of its corners; 0 with one alone."""
    with path.open("rb") as stream:
        head = _unpacked(stream).read(540)
    header = _header(_image_class(head), head)
    (qform, _), (sform, _) = header.get_qform(coded=True), header.get_sform(coded=True)
    if qform is None or sform is None:
        return 0.0
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(header.get_data_shape()[:3]) - 1)
    apart = corners @ (qform - sform)[:3, :3].T + (qform - sform)[:3, 3]
    return float(np.linalg.norm(apart, axis=1).max())


def write_volume(path: Path, voxels: NDArray, world_from_voxel: Affine) -> None:
    """Write `path` (.nii.gz) atomically: same voxels, same bytes; no time, file name or free text in any header.

    Args:
        path: replaced only when the new file is complete.
        voxels: (X, Y, Z); bool is stored as uint8, float64 as float32, other types as they are.
        world_from_voxel: (4, 4) RAS+ mm.
    """
    stored = {"b": np.uint8, "f": np.float32}.get(voxels.dtype.kind, voxels.dtype)
    image = nib.Nifti1Image(voxels.astype(stored), None)
    image.set_sform(world_from_voxel, code=1)
    image.set_qform(world_from_voxel, code=1)
    image.header.set_xyzt_units("mm")
    with (
        replacing_file(path) as stream,
        gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0, compresslevel=6) as packed,
    ):
        packed.write(image.to_bytes())


def resample(
    volume: Volume, shape: tuple[int, int, int], world_from_voxel: Affine, volume_from_grid: Affine | None = None
) -> Voxels:
    """Sample `volume` once, trilinearly, at the voxels of another grid; 0 outside the volume.

    Args:
        volume: the source, in its own frame.
        shape: of the grid that is asked for.
        world_from_voxel: (4, 4) of that grid, RAS+ mm.
        volume_from_grid: (4, 4) world map, grid's frame -> the same anatomy in the volume's frame; None: one frame.

    Returns:
        `shape` float32.
    """
    index = _index_map(volume, world_from_voxel, volume_from_grid)
    return ndimage.affine_transform(volume.voxels, index[:3, :3], index[:3, 3], output_shape=shape, order=1, cval=0.0)


def covered(
    volume: Volume, shape: tuple[int, int, int], world_from_voxel: Affine, volume_from_grid: Affine | None = None
) -> Mask:
    """Which voxels of a grid lie inside `volume`'s field of view, outer edges included; arguments as `resample`."""
    index = _index_map(volume, world_from_voxel, volume_from_grid)
    axes = np.ogrid[: shape[0], : shape[1], : shape[2]]
    inside = np.ones(shape, dtype=bool)
    for row, size in zip(index[:3], volume.voxels.shape, strict=True):
        at = row[0] * axes[0] + row[1] * axes[1] + row[2] * axes[2] + row[3]
        inside &= (at >= -0.5) & (at <= size - 0.5)
    return inside


def isotropic(volume: Volume, spacing_mm: float) -> Volume:
    """The same field of view on cubic voxels, axes kept; the volume itself where its voxels already are."""
    scale = spacing_mm / volume.spacing_mm
    if np.allclose(scale, 1, atol=1e-4):
        return volume
    x, y, z = (max(1, int(np.ceil(n / s - 1e-6))) for n, s in zip(volume.voxels.shape, scale, strict=True))
    # The outer faces of the two grids coincide at the low corner, not the centres of their first voxels.
    step = np.diag([*scale, 1.0])
    step[:3, 3] = (scale - 1) / 2
    grid = volume.world_from_voxel @ step
    index = _index_map(volume, grid, None)
    sampled = ndimage.affine_transform(
        volume.voxels, index[:3, :3], index[:3, 3], output_shape=(x, y, z), order=1, mode="nearest"
    )
    return Volume(sampled, grid)


def _index_map(volume: Volume, world_from_voxel: Affine, volume_from_grid: Affine | None) -> Affine:
    world_map = np.eye(4) if volume_from_grid is None else volume_from_grid
    return np.linalg.inv(volume.world_from_voxel) @ world_map @ world_from_voxel
