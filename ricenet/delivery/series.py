"""Index a delivery of DICOM, and read its image series as Volumes.

Nesting, file names and extensions mean nothing; headers decide. A series UID under which several images lie (a
localizer beside a volume, echoes, magnitude and phase) is split into one Series per volume. Slice positions are
checked here, dcm2niix decodes the pixels, and the volume is placed by the headers. RTDOSE, RTPLAN and RTSTRUCT are
listed, not read.

It does not repair a series with a tilt, nor one with a gap or uneven steps unless asked to, and never prints header
text, paths or file names.
"""

import datetime
import filecmp
import os
import shutil
import stat
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.valuerep import DSfloat
from tqdm import tqdm

from ricenet.delivery.headers import (
    ANONYMOUS_RT,
    DAMAGED,
    Header,
    RtFile,
    read_header,
    unreadable,
)
from ricenet.errors import InvalidInput
from ricenet.images.part10 import open_part10, quiet_pydicom
from ricenet.images.slice_stack import Plane, Stack, UnevenStack, even_out, place, slice_order, stack, uneven_stack
from ricenet.images.volume import Volume, read_volume

THREADS = 8  # they wait for the disk
CONVERSION_LIMIT_S = 300
COPIED = "identical copy"
OUTSIDE = "link out of the folder"
SPECIAL = "no regular file"
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, repr=False)  # no repr: it would print a patient
class Series:
    """The files of one series UID, sorted by slice; if the UID holds several volumes, those of one.

    Attributes:
        uid: of the series; if it holds several volumes, followed by # and the number of this one.
        description: series description, protocol and sequence name, for rules; never printed.
        acquisition_time: of its earliest file, HHMMSS.ffffff; "" where unknown.
        contrast_usage: YES, NO (an enhanced image says so) or "".
        contrast_amount: the larger of the agent's volume (ml) and dose; None where neither is given.
        acquisition_3d: None where the header does not say.
        scanner: manufacturer, model, field strength; never printed.
        shape: columns, rows, slices.
        spacing_mm: x, y, z; 0 where unknown.
        problem: why it cannot be read as a volume (no patient data in it); None if it can.
        grid: where the slices lie; None with a problem.
        uneven: where they lie, if their uneven steps are the problem, and no other: a planning image may have them.
    """

    uid: str
    study_uid: str
    patient_id: str
    modality: str
    frame_of_reference: str
    number: int | None
    description: str
    date: datetime.date | None
    contrast_agent: str
    scanner: tuple[str, ...]
    image_type: tuple[str, ...]
    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    problem: InvalidInput | None
    grid: Stack | None = field(default=None, compare=False)
    uneven: UnevenStack | None = field(default=None, compare=False)
    series_description: str = ""
    protocol_name: str = ""
    sequence_name: str = ""
    acquisition_time: str = ""
    contrast_usage: str = ""
    contrast_amount: float | None = None
    acquisition_3d: bool | None = None


@dataclass(frozen=True, repr=False)
class PatientFiles:
    """The usable files of one patient.

    Attributes:
        damaged: number of files that end too early.
        links: UIDs of studies, frames of reference and RT objects, which no other patient should share.
    """

    series: list[Series] = field(default_factory=list)
    doses: list[RtFile] = field(default_factory=list)
    plans: list[RtFile] = field(default_factory=list)
    structures: list[RtFile] = field(default_factory=list)
    damaged: int = 0
    links: frozenset[str] = frozenset()

    @property
    def rt_files(self) -> list[RtFile]:
        """Doses, plans and structure sets."""
        return [*self.doses, *self.plans, *self.structures]


@dataclass(frozen=True, repr=False)
class Delivery:
    """All usable files of a delivery.

    Attributes:
        patients: by PatientID.
        skipped: number of unusable files by reason (safe to print).
        assigned: number of RT objects without PatientID that were given to the only patient with whom they share a
            study, a frame of reference or a reference.
    """

    patients: dict[str, PatientFiles]
    skipped: dict[str, int]
    assigned: int = 0


def index_delivery(folder: Path) -> Delivery:
    """Read every header under `folder` once. Links that lead out of it are not followed.

    Raises:
        InvalidInput: a file or folder cannot be opened.
    """
    skipped: Counter[str] = Counter()
    paths = list(_regular_files(folder, skipped))
    headers: list[Header] = []
    with quiet_pydicom(), ThreadPoolExecutor(THREADS) as pool:
        for read in tqdm(pool.map(read_header, paths), total=len(paths), desc="headers", unit="file"):
            if isinstance(read, Header):
                headers.append(read)
            else:
                skipped[read] += 1
    headers, contradictory = _without_copies(headers, skipped)
    skipped[DAMAGED] += sum(header.damaged for header in headers)
    by_patient = _grouped(_with_owners(headers), "patient_id")
    skipped[ANONYMOUS_RT] = len(by_patient.pop("", []))
    assigned = sum(not header.patient_id for header in headers) - skipped[ANONYMOUS_RT]
    patients = {patient: _patient(by_patient[patient], contradictory) for patient in sorted(by_patient)}
    return Delivery(patients, {reason: count for reason, count in sorted(skipped.items()) if count}, assigned)


def _regular_files(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    """Every file in a fixed order; what a link inside the folder points to counts like a copy."""

    def refuse(error: OSError) -> None:
        raise unreadable("folder", error) from None

    root = folder.resolve()
    for here, folders, files in os.walk(root, onerror=refuse):
        folders.sort()
        for name in sorted(files + [name for name in folders if Path(here, name).is_symlink()]):
            path = Path(here, name)
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
                skipped[OUTSIDE] += 1
            elif path.is_dir():
                continue  # a link to a folder that is visited anyway
            elif not (path.exists() and stat.S_ISREG(path.stat().st_mode)):
                skipped[SPECIAL] += 1
            else:
                yield path


def _grouped(headers: Iterable[Header], attribute: str) -> dict[str, list[Header]]:
    groups: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        groups[getattr(header, attribute)].append(header)
    return groups


def _without_copies(headers: list[Header], skipped: Counter[str]) -> tuple[list[Header], set[str]]:
    """Headers without identical copies; and the instance UIDs under which there are files that differ."""
    kept: list[Header] = []
    contradictory: set[str] = set()
    for instance_uid, same in _grouped(headers, "instance_uid").items():
        different = [same[0]]
        for header in same[1:]:
            if any(filecmp.cmp(header.path, other.path, shallow=False) for other in different):
                skipped[COPIED] += 1
            else:
                different.append(header)
        kept += different
        if len(different) > 1:
            contradictory.add(instance_uid)
    return kept, contradictory


def _with_owners(headers: list[Header]) -> list[Header]:
    """Headers with the patients of RT objects without PatientID: the only one with whom they share a UID.

    A dose may share the frame of an image, and its plan nothing but the study of the dose.
    """
    owners: dict[str, set[str]] = defaultdict(set)
    owned = [header for header in headers if header.patient_id]
    orphans = [header for header in headers if not header.patient_id]
    added = owned
    while added:
        for header in added:
            for link in header.links:
                owners[link].add(header.patient_id)
        patients = [set().union(*(owners[link] for link in header.links)) for header in orphans]
        pairs = list(zip(orphans, patients, strict=True))
        added = [replace(header, patient_id=next(iter(ids))) for header, ids in pairs if len(ids) == 1]
        orphans = [header for header, ids in pairs if len(ids) != 1]
        owned = owned + added
    return owned + orphans


def join_patients(patients: Sequence[PatientFiles]) -> PatientFiles:
    """The files of one patient that were delivered under several PatientIDs."""
    series = [each for files in patients for each in files.series]
    series.sort(key=lambda each: (each.number is None, each.number, each.uid))
    return PatientFiles(
        series,
        [file for files in patients for file in files.doses],
        [file for files in patients for file in files.plans],
        [file for files in patients for file in files.structures],
        sum(files.damaged for files in patients),
        frozenset().union(*(files.links for files in patients)),
    )


def _patient(headers: list[Header], contradictory: set[str]) -> PatientFiles:
    images = [header for header in headers if header.kind in ("MR", "CT")]
    doses, plans, structures = (
        [RtFile(header.path, header.instance_uid) for header in headers if header.kind == kind]
        for kind in ("RTDOSE", "RTPLAN", "RTSTRUCT")
    )
    series = [each for group in _grouped(images, "series_uid").values() for each in _series(group, contradictory)]
    series.sort(key=lambda each: (each.number is None, each.number, each.uid))
    damaged = sum(header.damaged for header in headers)
    links = frozenset().union(*(header.links for header in headers))
    return PatientFiles(series, doses, plans, structures, damaged, links)


def _series(headers: list[Header], contradictory: set[str]) -> list[Series]:
    """The volumes under one series UID; a problem of one file is a problem of all of them."""
    problem = _wrong_with_files(headers, contradictory)
    parts = _parts([header for header in headers if not header.damaged])
    uid = headers[0].series_uid
    uids = [uid] if len(parts) == 1 else [f"{uid}#{number}" for number in range(1, len(parts) + 1)]
    return [_image(part, uid, problem) for uid, part in zip(uids, parts, strict=True)]


def _wrong_with_files(headers: list[Header], contradictory: set[str]) -> InvalidInput | None:
    damaged = sum(header.damaged for header in headers)
    twice = sum(header.instance_uid in contradictory for header in headers)
    if twice:
        return InvalidInput(
            f"expected one SOPInstanceUID for each file, got {twice} of {len(headers)} files that share theirs with a "
            "different file",
            "deliver each image once: remove the copy that was edited, truncated or filed under another patient",
            code="series.uid_conflict",
        )
    if damaged:
        message = f"expected whole files, got {damaged} of {len(headers)} that end too early"
        return InvalidInput(message, "copy the series again from its source", code="series.damaged")
    return None


def _parts(headers: list[Header]) -> list[list[Header]]:
    """The images that share a series UID: one for each size, direction, echo, time and image type."""
    parts: dict[tuple, list[list[Header]]] = defaultdict(list)
    for header in sorted(headers, key=lambda h: (h.instance_number, h.instance_uid)):
        multi_frame = header.instance_uid if len(header.planes) > 1 else ""
        echo = None if header.echo_time_ms is None else round(header.echo_time_ms, 2)
        alike = (header.columns, header.rows, header.image_type, echo, header.temporal_position, multi_frame)
        candidates = parts[(header.frame_of_reference, *alike)]
        for part in candidates:
            if part[0].planes[0].lies_along(header.planes[0]):
                part.append(header)
                break
        else:
            candidates.append([header])
    return [part for candidates in parts.values() for part in candidates]


def _image(part: list[Header], uid: str, problem: InvalidInput | None) -> Series:
    order = slice_order([header.planes[0] for header in part])
    part = [part[index] for index in order]
    planes = [plane for header in part for plane in header.planes]
    planes = [planes[index] for index in slice_order(planes)]
    grid, uneven = None, None
    if problem is None:
        try:
            grid = stack(planes)
        except InvalidInput as error:
            problem = error
            uneven = _uneven(planes) if len(planes) == len(part) else None  # of many frames none can be moved
    first, step_mm = part[0], 0.0 if grid is None else grid.step_mm
    x_mm, y_mm = planes[0].spacing_mm or (0.0, 0.0)
    return Series(
        uid, first.study_uid, first.patient_id, first.kind, first.frame_of_reference, first.series_number,
        first.description, first.date, first.contrast_agent, first.scanner, first.image_type,
        tuple(header.path for header in part), (first.columns, first.rows, len(planes)), (x_mm, y_mm, step_mm),
        problem, grid, uneven, first.series_description, first.protocol_name, first.sequence_name,
        min(filter(None, (header.acquisition_time for header in part)), default=""),
        first.contrast_usage, first.contrast_amount, first.acquisition_3d,
    )  # fmt: skip


def _uneven(planes: list[Plane]) -> UnevenStack | None:
    try:
        return uneven_stack(planes)
    except InvalidInput:  # there is more to it than uneven steps
        return None


def read_series(series: Series, scratch: Path, *, may_be_uneven: bool = False) -> Volume:
    """Decode the series and place it where its headers say.

    Args:
        series: of index_delivery.
        scratch: an existing folder for temporary files, which are removed.
        may_be_uneven: interpolate slices at uneven steps to even ones, linearly, instead of refusing them.

    Raises:
        InvalidInput: series.problem is set; or it cannot be converted, or converts to something else than its headers
            describe (series.conversion); or ricenet.images.volume.read_volume refuses it.
    """
    uneven = series.uneven if may_be_uneven else None
    problem = series.problem
    if problem is not None and uneven is None:
        raise InvalidInput(problem.message, problem.hint, code=problem.code)
    grid = series.grid if uneven is None else uneven.even
    assert grid is not None
    with TemporaryDirectory(prefix=".series-", dir=scratch) as folder:
        path = _convert(series, Path(folder), None if uneven is None else uneven.even)
        converted = read_volume(path)
    placed = place(converted, series.shape, grid)
    return placed if uneven is None else even_out(placed, uneven)


def _convert(series: Series, folder: Path, moved_to: Stack | None) -> Path:
    """The one NIfTI that dcm2niix makes of the files; it prints names, which are neutral here and go nowhere.

    `moved_to`: the slices are first moved there, since dcm2niix makes nothing certain of slices at uneven steps.
    """
    from dcm2niix import bin as dcm2niix

    source, target = folder / "dicom", folder / "nifti"
    source.mkdir()
    target.mkdir()
    for number, path in enumerate(series.files):
        link = source / f"{number:06d}"
        with quiet_pydicom():
            _link(link, path.resolve())
        if moved_to is not None:
            _move(link, (LPS_FROM_RAS @ moved_to.world_from_voxel)[:3] @ (0, 0, number, 1))
    # No defaults file, no sidecar, no compression, no crop or rotation; merge what is one image by its geometry;
    # keep derived images; values as DICOM's rescale slope gives them.
    options = ["-g", "i", "-b", "n", "-z", "n", "-x", "i", "-m", "y", "-i", "n", "-p", "n", "-f", "volume"]
    try:
        done = subprocess.run(
            [dcm2niix, *options, "-o", str(target), str(source)],
            capture_output=True, stdin=subprocess.DEVNULL, timeout=CONVERSION_LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        message = f"expected dcm2niix to make one volume, got none within {CONVERSION_LIMIT_S} s"
        raise _conversion_problem(message) from None
    made = list(target.iterdir())
    if done.returncode or len(made) != 1:
        message = f"expected dcm2niix to make one volume, got {len(made)}; it ended with {done.returncode}"
        raise _conversion_problem(message)
    return made[0]


def _link(link: Path, target: Path) -> None:
    """Link a file, or copy it with the preamble of PS3.10 where it has none."""
    with target.open("rb") as file:
        stream = open_part10(file)
        if stream is not None and stream is not file:
            link.write_bytes(stream.read())
            return
    try:
        link.symlink_to(target)
    except OSError:  # a filesystem or a Windows account without links
        shutil.copyfile(target, link)


def _move(path: Path, position_mm: NDArray[np.float64]) -> None:
    """Replace a slice by a copy that lies elsewhere; position_mm: (3,) LPS."""
    try:
        with quiet_pydicom():
            dataset = pydicom.dcmread(path)
            dataset.ImagePositionPatient = [DSfloat(float(value), auto_format=True) for value in position_mm]
            path.unlink()
            dataset.save_as(path)
    except Exception as error:  # pydicom raises nearly anything on damaged bytes
        raise _conversion_problem(f"expected an intact slice, got a damaged one ({type(error).__name__})") from None


def _conversion_problem(message: str) -> InvalidInput:
    return InvalidInput(
        message,
        "export the series again, uncompressed, or choose another",
        code="series.conversion",
    )
