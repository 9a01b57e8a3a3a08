"""Decode the pixels of a series: slices and the grid that their headers describe in, a Volume out.

pydicom decodes what is not compressed, or by run lengths alone. Frames that are compressed otherwise are for dcm2niix,
which gets no file of the hospital: each frame is written anew with its pixels and its place, and nothing else, no
name, rescale slope, overlay, echo, diffusion weight or private element, over which it would part the series, turn it,
write more than one image or ignore what differs by slice. What it makes is checked against the grid; what it prints is
read and never shown. Then each slice is rescaled by its own header. Frame: LPS mm in DICOM, RAS+ mm in volumes.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import pixel_array
from pydicom.valuerep import DSfloat

from ricenet.dicom.frame_groups import Slice
from ricenet.dicom.part10 import open_part10, quiet_pydicom
from ricenet.dicom.slice_stack import Stack, place
from ricenet.errors import InvalidInput
from ricenet.images.volume import Volume, read_volume

CONVERSION_LIMIT_S = 300
HEADER_BYTES = 2**26
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# No defaults file, no sidecar, no compression, no crop or rotation; merge what is one image by its geometry; keep
# derived images; values as they are stored.
OPTIONS = ("-g", "i", "-b", "n", "-z", "n", "-x", "i", "-m", "y", "-i", "n", "-p", "n", "-l", "o", "-f", "volume")
MADE = "volume.nii"
# What dcm2niix says of every slice that is written here: that nothing is known of its scanner.
EXPECTED_WARNINGS = re.compile("Unable to determine manufacturer")
OF_GEOMETRY = re.compile("slice|dimension|distance|position|orient|tilt|missing|slope|intercept", re.IGNORECASE)
WARNING, ERROR = re.compile(r"^\s*warning", re.IGNORECASE), re.compile(r"^\s*error", re.IGNORECASE)
PIXEL_ELEMENTS = (
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip
USUAL = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}  # where the header does not say
SAME_SCALE = 1e-3
SEVERAL_ENCODINGS = "expected slices that store their pixels alike, got several encodings in one series"


@dataclass(frozen=True)
class Decoded:
    """A volume, and what is to be said of it in plain words, without anything of a patient."""

    volume: Volume
    remarks: tuple[str, ...] = ()


def decode(slices: Sequence[Slice], grid: Stack, scratch: Path) -> Decoded:
    """Decode the slices and place them on the grid.

    Args:
        slices: in the order of the grid.
        grid: that their headers describe, or to which slices at uneven steps are moved.
        scratch: an existing folder for temporary files, which are removed.

    Raises:
        InvalidInput: pixels that cannot be decoded, or not as the headers describe them (series.conversion); values
            whose meaning the headers do not tell (series.rescale); or ricenet.images.volume.read_volume refuses them.
    """
    _check_rescale(slices)
    with TemporaryDirectory(prefix=".series-", dir=scratch) as folder, quiet_pydicom():
        stored, remarks = _stored(slices, grid, Path(folder))
    (columns, rows), count = slices[0].size, len(slices)
    placed = place(stored, (columns, rows, count), grid)
    volume, said = _rescaled(placed, grid, slices)
    return Decoded(volume, (*remarks, *said))


def same_pixels(one: Slice, other: Slice, files: "PixelFiles") -> bool:
    """Whether two slices hold the same values; False where one of them cannot be read."""
    if one.frame.rescale != other.frame.rescale or one.size != other.size:
        return False
    try:
        with quiet_pydicom():
            first, second = (files.pixels(each) for each in (one, other))
    except InvalidInput:
        return False
    if isinstance(first, bytes) or isinstance(second, bytes):
        return type(first) is type(second) and first == second
    return np.array_equal(first, second)


class PixelFiles:
    """The files of a series, of which the latest two stay in memory: frames of one file come one after another."""

    def __init__(self) -> None:
        self._read: dict[Path, Dataset] = {}

    def dataset(self, each: Slice) -> Dataset:
        """The whole content of a slice's file."""
        if each.path not in self._read:
            while len(self._read) > 1:
                self._read.pop(next(iter(self._read)))
            limit = each.size[0] * each.size[1] * each.frames * 8 + HEADER_BYTES
            with each.path.open("rb") as file:
                stream = open_part10(file, limit)
                if stream is None:
                    raise _problem("expected a DICOM image, got something else")
                if getattr(stream, "cut_off", False):
                    raise _problem("expected an image of the size that its header gives, got a longer one")
                self._read[each.path] = pydicom.dcmread(stream)
        return self._read[each.path]

    def pixels(self, each: Slice) -> NDArray[np.integer] | bytes:
        """Stored values, (rows, columns); or the bytes of a frame that pydicom alone does not decode.

        Raises:
            InvalidInput: the file is not what it was, or damaged.
        """
        try:
            dataset = self.dataset(each)
            syntax = dataset.file_meta.TransferSyntaxUID
            if syntax.is_compressed and syntax != uid.RLELossless:
                offsets = [dataset.get(key) for key in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
                extended = None if None in offsets else (offsets[0], offsets[1])
                return get_frame(dataset.PixelData, each.index, number_of_frames=each.frames, extended_offsets=extended)
            for keyword, value in USUAL.items():
                dataset.setdefault(keyword, value)
            dataset.setdefault("BitsStored", dataset.BitsAllocated)
            values = pixel_array(dataset, index=each.index if each.frames > 1 else None, raw=True)
        except InvalidInput:
            raise
        except Exception as error:  # pydicom raises nearly anything on damaged bytes
            raise _problem(f"expected an intact slice, got a damaged one ({type(error).__name__})") from None
        if values.shape != each.size[::-1] or values.dtype.kind not in "iu":
            raise _problem("expected whole numbers, one for each voxel of a slice, got other pixels")
        if values.dtype.itemsize <= 2:
            return values
        if values.max() >= 2**31:
            raise _problem("expected values of at most 31 bits, got larger ones")
        return values.astype(np.int32)


def _stored(slices: Sequence[Slice], grid: Stack, folder: Path) -> tuple[Volume, tuple[str, ...]]:
    """The values as they are stored, and what dcm2niix said of them."""
    files, made = PixelFiles(), folder / MADE
    first = files.pixels(slices[0])
    if isinstance(first, bytes):
        source, target = folder / "dicom", folder / "nifti"
        source.mkdir()
        target.mkdir()
        _write_frames(slices, grid, files, source)
        output = _run(source, target)
        return read_volume(target / MADE), _remarks(output)
    _write_numbers(slices, grid, files, made)
    return read_volume(made), ()


def _write_numbers(slices: Sequence[Slice], grid: Stack, files: PixelFiles, path: Path) -> None:
    planes = [files.pixels(each) for each in slices]
    decoded = [plane for plane in planes if not isinstance(plane, bytes)]
    if len(decoded) != len(slices):
        raise _problem(SEVERAL_ENCODINGS)
    nib.save(nib.Nifti1Image(np.stack(decoded).T, grid.world_from_voxel), path)


def _write_frames(slices: Sequence[Slice], grid: Stack, files: PixelFiles, folder: Path) -> None:
    lps = LPS_FROM_RAS @ grid.world_from_voxel
    encodings = set()
    for number, each in enumerate(slices):
        frame, original = files.pixels(each), files.dataset(each)
        encodings.add((original.file_meta.TransferSyntaxUID, *(original.get(key) for key in PIXEL_ELEMENTS)))
        if not isinstance(frame, bytes) or len(encodings) > 1:
            raise _problem(SEVERAL_ENCODINGS)
        dataset = _neutral(number, lps, each.size)
        _put_frame(dataset, frame, original)
        dataset.save_as(folder / f"{number:06d}", enforce_file_format=True)


def _neutral(number: int, lps: NDArray[np.float64], size: tuple[int, int]) -> Dataset:
    """A slice that says where it lies and nothing else; `lps`: (4, 4) from (column, row, slice) to LPS mm."""
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.MRImageStorage, f"2.25.{number + 1}"
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = dataset.FrameOfReferenceUID = "2.25.0"
    dataset.Modality, dataset.ImageType, dataset.PatientPosition = "MR", ["ORIGINAL", "PRIMARY"], "HFS"
    dataset.SeriesNumber = dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = number + 1
    dataset.Columns, dataset.Rows = size
    dataset.ImagePositionPatient = _decimals(lps[:3] @ (0, 0, number, 1))
    dataset.ImageOrientationPatient = _decimals((lps[:3, :2] / spacing[:2]).T.ravel())
    dataset.PixelSpacing = _decimals(spacing[[1, 0]])
    dataset.SliceThickness = dataset.SpacingBetweenSlices = _decimals(spacing[2:])[0]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _put_frame(dataset: Dataset, frame: bytes, original: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = original.file_meta.TransferSyntaxUID
    for keyword in PIXEL_ELEMENTS:
        if keyword in original:
            setattr(dataset, keyword, original.get(keyword))
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def _decimals(values: NDArray[np.float64]) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in values]


def _run(source: Path, target: Path) -> str:
    """What dcm2niix printed: neutral names and paths, which go nowhere all the same."""
    from dcm2niix import bin as dcm2niix

    try:
        done = subprocess.run(
            [dcm2niix, *OPTIONS, "-o", str(target), str(source)],
            capture_output=True, stdin=subprocess.DEVNULL, timeout=CONVERSION_LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        message = f"expected dcm2niix to make one volume, got none within {CONVERSION_LIMIT_S} s"
        raise _problem(message) from None
    made = [path for path in target.iterdir() if path.suffix not in (".bval", ".bvec")]
    output = b"\n".join((done.stdout, done.stderr)).decode(errors="replace")
    if done.returncode or [path.name for path in made] != [MADE]:
        message = f"expected dcm2niix to make one volume, got {len(made)}; it ended with {done.returncode}"
        raise _problem(message)
    return output


def _remarks(output: str) -> tuple[str, ...]:
    """What the words of dcm2niix mean in ours.

    Raises:
        InvalidInput: it says that something went wrong.
    """
    lines = output.splitlines()
    errors = sum(bool(ERROR.match(line)) for line in lines)
    if errors:
        raise _problem(f"expected dcm2niix to decode every slice, got {errors} errors")
    lines = [line for line in lines if WARNING.match(line) and not EXPECTED_WARNINGS.search(line)]
    geometry, warnings = sum(bool(OF_GEOMETRY.search(line)) for line in lines), len(lines)
    if geometry:
        raise _problem(f"expected slices that dcm2niix stacks as their headers say, got {geometry} warnings of it")
    if not warnings:
        return ()
    return (f"dcm2niix gave {warnings} warnings of a kind that is not known here: look at this image",)


def _check_rescale(slices: Sequence[Slice]) -> None:
    unread = sum(each.frame.rescale is None for each in slices)
    if unread:
        raise InvalidInput(
            f"expected a rescale slope and intercept that can be applied, got {unread} of {len(slices)} slices with "
            "another rescale (a slope of 0, free text, or a table)",
            "export the series again, or choose another",
            code="series.rescale",
        )


def _rescaled(volume: Volume, grid: Stack, slices: Sequence[Slice]) -> tuple[Volume, tuple[str, ...]]:
    """Values as each slice's header scales them.

    Where slopes vary and Philips' scale slopes say that they do so for the display alone, values as measured are taken.
    """
    rescales = [each.frame.rescale for each in slices if each.frame.rescale is not None]
    slopes = np.array([each.slope for each in rescales])
    intercepts = np.array([each.intercept for each in rescales])
    scales = np.array([each.scale_slope or np.nan for each in rescales])
    display = slopes * scales
    remarks: tuple[str, ...] = ()
    if np.isfinite(display).all() and np.ptp(display) > SAME_SCALE * abs(display).max():
        slopes, intercepts = 1 / scales, intercepts / display
        remarks = ("Philips' scale slopes vary by slice: values are as measured, not as displayed",)
    elif np.ptp(slopes) or np.ptp(intercepts):
        remarks = ("rescale slope or intercept varies by slice: each slice is scaled by its own header",)
    if (slopes == 1).all() and not intercepts.any():
        return volume, remarks
    index = np.linalg.inv(grid.world_from_voxel) @ volume.world_from_voxel
    axis = int(abs(index[2, :3]).argmax())
    order = slice(None, None, -1 if index[2, axis] < 0 else 1)
    shape = [1, 1, 1]
    shape[axis] = len(slices)
    slope, intercept = (values[order].reshape(shape) for values in (slopes, intercepts))
    voxels = np.ascontiguousarray(volume.voxels * slope + intercept, dtype=np.float32)
    return Volume(voxels, volume.world_from_voxel), remarks


def _problem(message: str) -> InvalidInput:
    return InvalidInput(
        message,
        "export the series again, uncompressed, or choose another",
        code="series.conversion",
    )
