"""Read RTDOSE files as dose grids in Gy, with the plans, fraction groups and beams that they refer to.

Rules: DICOM PS3.3 C.8.8.3. Gy = stored value x DoseGridScaling; RescaleSlope is not used. Planes lie at
GridFrameOffsetVector along the normal of ImageOrientationPatient. DICOM is LPS, the volume RAS+, both mm. Does not:
convert RELATIVE doses, read dose-volume histograms, isodose curves or dose errors.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from ricenet.delivery.rtobject import RTObject, read_object
from ricenet.delivery.rtplan import beam_numbers
from ricenet.dicom.part10 import quiet_pydicom
from ricenet.dicom.uneven_slices import even_steps, interpolate_planes
from ricenet.images.volume import MAX_SHEAR, MAX_VOXELS, Affine, Volume

DOSE_CLASS = ("1.2.840.10008.5.1.4.1.1.481.2",)
SUMMATION_TYPES = (
    "PLAN", "MULTI_PLAN", "PLAN_OVERVIEW", "FRACTION", "BEAM", "BRACHY", "FRACTION_SESSION", "BEAM_SESSION",
    "BRACHY_SESSION", "CONTROL_POINT", "RECORD",
)  # fmt: skip
COMPRESSED = {*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes}
EVEN_MM = 0.01  # planes this close to even steps are evenly spaced: offsets are often written with two decimals
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, repr=False)  # no repr: it would print a patient
class DoseGrid:
    """One RTDOSE; the UIDs identify a patient and stay out of every output.

    digest: of voxels, geometry and everything below. summation: a defined term, "" or UNKNOWN. dose_type: PHYSICAL or
    EFFECTIVE. plans: UIDs of the RTPLANs referred to. fraction_groups: numbers; beams: (fraction group, beam) numbers.
    volume: Gy as stored, i.e. of what `summation` says. planes: frames in the file.
    """

    sop_instance: str
    digest: str
    frame_of_reference: str
    summation: str
    dose_type: str
    plans: tuple[str, ...]
    fraction_groups: frozenset[int]
    beams: frozenset[tuple[int, int]]
    volume: Volume
    planes: int = 0


@quiet_pydicom()
def read_dose(path: Path | str) -> DoseGrid:
    """Read an RTDOSE on its own grid; uneven planes are resampled linearly, at least as fine as the finest step.

    A grid that is 0 everywhere is read like any other.

    Args:
        path: any name.

    Raises:
        InvalidInput: unreadable or damaged; not an RTDOSE; not in Gy; an error map; no usable scaling, frame of
            reference or geometry.
    """
    source = read_object(path, "RTDOSE", DOSE_CLASS)
    dose_type = _checked_type(source)
    frame_of_reference = source.text("FrameOfReferenceUID")
    if not frame_of_reference:
        raise source.refusal("no_frame", "expected a FrameOfReferenceUID in the RTDOSE, got none")
    volume = _read_grid(source)
    summation = source.term("DoseSummationType", SUMMATION_TYPES)
    facts = (frame_of_reference, summation, dose_type, *_references(source))
    planes = source.integer("NumberOfFrames") or 1
    return DoseGrid(source.text("SOPInstanceUID"), _digest(volume, facts), *facts, volume, planes)


def _checked_type(source: RTObject) -> str:
    units = source.term("DoseUnits", ("GY", "RELATIVE"))
    if units != "GY":
        message = f"expected a dose in Gy, got DoseUnits {units or 'absent'}"
        raise source.refusal("units", message, "export the absolute dose")
    dose_type = source.term("DoseType", ("PHYSICAL", "EFFECTIVE", "ERROR"))
    if dose_type not in ("PHYSICAL", "EFFECTIVE"):
        message = f"expected a PHYSICAL or EFFECTIVE dose, got DoseType {dose_type or 'absent'}"
        raise source.refusal("type", message, "deliver the dose itself")
    return dose_type


def _references(source: RTObject) -> tuple[tuple[str, ...], frozenset[int], frozenset[tuple[int, int]]]:
    plans = source.items("ReferencedRTPlanSequence")
    groups = [
        (group.integer("ReferencedFractionGroupNumber"), beam_numbers(group))
        for plan in plans
        for group in plan.items("ReferencedFractionGroupSequence")
    ]
    return (
        tuple(sorted({plan.text("ReferencedSOPInstanceUID") for plan in plans} - {""})),
        frozenset(number for number, _ in groups if number is not None),
        frozenset((number, beam) for number, beams in groups if number is not None for beam in beams),
    )


def _read_grid(source: RTObject) -> Volume:
    frames = source.integer("NumberOfFrames") or 1
    rows, columns = source.integer("Rows") or 0, source.integer("Columns") or 0
    if min(frames, rows, columns) < 1 or frames * rows * columns > MAX_VOXELS:
        raise source.refusal(
            "shape", f"expected a dose grid of 1-{MAX_VOXELS:,} voxels, got {columns} x {rows} x {frames}"
        )
    world_from_plane = _world_from_plane(source)
    offsets, step = _plane_offsets(source, frames, world_from_plane)
    stored = _pixels(source, (frames, rows, columns))
    # Whoever writes an empty dose may scale it by 0.
    dose_gy = stored * _scaling(source) if stored.any() else stored
    if frames > 1:
        step, dose_gy = _even_planes(source, offsets, dose_gy)
    affine = world_from_plane @ np.diag([1, 1, step, 1])
    orientation = io_orientation(affine)
    voxels = dose_gy.transpose(2, 1, 0).astype(np.float32)
    canonical = affine @ inv_ornt_aff(orientation, voxels.shape)
    return Volume(np.ascontiguousarray(apply_orientation(voxels, orientation)), canonical)


def _world_from_plane(source: RTObject) -> Affine:
    """(4, 4): (column index, row index, mm along the normal from the first plane) -> RAS+ mm."""
    origin = source.numbers("ImagePositionPatient")
    cosines = source.numbers("ImageOrientationPatient")
    spacing = source.numbers("PixelSpacing")[::-1]  # the file gives the step between rows (y) first
    if (len(origin), len(cosines), len(spacing)) != (3, 6, 2) or not (spacing > 0).all():
        message = "expected a grid placed by ImagePositionPatient, ImageOrientationPatient and PixelSpacing"
        raise source.refusal("geometry", f"{message}, got {len(origin)}, {len(cosines)} and {len(spacing)} numbers")
    along_row, along_column = axes = cosines.reshape(2, 3)
    if abs(axes @ axes.T - np.eye(2)).max() > MAX_SHEAR:
        message = "expected two unit vectors at right angles in ImageOrientationPatient, got others"
        raise source.refusal("geometry", message)
    normal = np.cross(along_row, along_column)
    affine = np.eye(4)
    affine[:3] = np.column_stack(
        [along_row * spacing[0], along_column * spacing[1], normal / np.linalg.norm(normal), origin]
    )
    return RAS_FROM_LPS @ affine


def _plane_offsets(source: RTObject, frames: int, world_from_plane: Affine) -> tuple[NDArray[np.float64], float]:
    """(frames,) mm along the normal from the first plane; and, of a single plane, its thickness."""
    offsets = source.numbers("GridFrameOffsetVector")
    if len(offsets) != frames and (frames > 1 or len(offsets)):
        raise source.refusal("offsets", f"expected a plane offset for each of {frames} frames, got {len(offsets)}")
    if frames == 1:
        thickness = source.numbers("SliceThickness").sum()
        if not thickness > 0:
            message = "expected a dose grid of several planes, got one plane without a SliceThickness"
            raise source.refusal("one_plane", message, "export the whole dose grid")
        return np.zeros(1), float(thickness)
    # Absolute offsets are z coordinates; the standard allows them for transverse planes alone.
    transverse = np.allclose(world_from_plane[:3, 2], (0, 0, 1), atol=1e-4)
    if abs(offsets[0]) > EVEN_MM and not (transverse and abs(offsets[0] - world_from_plane[2, 3]) <= EVEN_MM):
        message = "expected plane offsets from 0 or, where planes are transverse, from the first one's z, got others"
        raise source.refusal("offsets", message)
    steps = np.diff(offsets)
    if not ((steps > 0).all() or (steps < 0).all()):
        raise source.refusal("offsets", "expected plane offsets that rise or fall, got repeated or unordered ones")
    return offsets - offsets[0], 0.0


def _scaling(source: RTObject) -> float:
    scaling = source.numbers("DoseGridScaling")
    if len(scaling) != 1 or not scaling[0] > 0:
        got = f"{scaling[0]:g}" if len(scaling) == 1 else f"{len(scaling)} numbers"
        raise source.refusal("scaling", f"expected a DoseGridScaling above 0, got {got}")
    return float(scaling[0])


def _pixels(source: RTObject, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    if "PixelData" not in source.dataset:
        message = "expected an RTDOSE with a dose grid, got one without pixels (histograms only?)"
        raise source.refusal("no_pixels", message, "export the dose grid")
    try:
        stored = source.dataset.pixel_array
    except Exception as error:  # the decoders raise nearly anything on damaged pixels
        if _is_compressed(source):
            message = "expected pixels that are uncompressed, or run-length encoded, got another compression"
            raise source.refusal("compressed", message, "export the dose without compression") from None
        raise source.damaged(type(error).__name__) from None
    if stored.size != np.prod(shape):
        raise source.damaged("PixelData")
    if stored.min() < 0:
        message = "expected pixels of at least 0, got signed ones below, which only DoseType ERROR may have"
        raise source.refusal("signed", message)
    return stored.reshape(shape).astype(np.float64)


def _is_compressed(source: RTObject) -> bool:
    """Whether the pixels are written in a form that pydicom alone does not decode."""
    syntax = source.dataset.file_meta.get("TransferSyntaxUID", "")
    return syntax in COMPRESSED


def _even_planes(
    source: RTObject, offsets: NDArray[np.float64], dose_gy: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """The step from plane to plane, mm, and planes evenly spaced from the first to the last of (planes, rows, columns).

    Uneven ones are interpolated linearly in the finest of their steps, or in one that is finer to end on the last.
    """
    even_step = offsets[-1] / (len(offsets) - 1)
    if abs(offsets - even_step * np.arange(len(offsets))).max() <= EVEN_MM:
        return even_step, dose_gy
    at = abs(offsets)
    steps = even_steps(at)
    if (steps + 1) * dose_gy[0].size > MAX_VOXELS:
        message = f"expected plane steps of one order, got a finest step of {np.diff(at).min():.2g} mm"
        raise source.refusal("offsets", message)
    return offsets[-1] / steps, interpolate_planes(dose_gy, at, steps)


def _digest(volume: Volume, facts: tuple) -> str:
    digest = hashlib.blake2b(repr(tuple(sorted(f) if isinstance(f, frozenset) else f for f in facts)).encode())
    digest.update(volume.world_from_voxel.tobytes() + volume.voxels.tobytes())
    return digest.hexdigest()
