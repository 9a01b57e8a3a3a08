"""Index a delivery of DICOM, and read its image series as Volumes.

Nesting, file names and extensions mean nothing; headers decide. A series UID under which several images lie (a
localizer beside a volume, echoes, magnitude and phase), in files of one frame or of many, is split into one Series per
volume. Slice positions are checked here, ricenet.images.series_pixels decodes the pixels, the headers place the volume.
RTDOSE, RTPLAN and RTSTRUCT are listed, not read.

It does not repair a series with a tilt, nor one with a gap or uneven steps unless asked to, and never prints header
text, paths or file names.
"""

import datetime
import filecmp
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

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
from ricenet.images.frame_groups import Slice, lost_ends, part_slices, pieces_of_one_stack, without_copies
from ricenet.images.part10 import quiet_pydicom
from ricenet.images.series_pixels import PixelFiles, decode, same_pixels
from ricenet.images.slice_stack import Plane, Stack, UnevenStack, even_out, slice_order, stack, uneven_stack
from ricenet.images.volume import Volume

THREADS = 8  # they wait for the disk
COPIED = "identical copy"
COPIED_PIXELS = "copy with equal pixels"
OUTSIDE = "link out of the folder"
SPECIAL = "no regular file"
MIN_SHARE_OF_SLICES = 0.75  # of those that a header counts; with fewer it is no volume of a head


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
        slices: in order, each a frame of one of the files.
        remarks: what is to be said of its slices where it is used, without patient data: copies, a lost end.
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
    slices: tuple[Slice, ...] = field(default=(), compare=False)
    remarks: tuple[str, ...] = ()


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
                continue
            number = next((n for n, other in enumerate(different) if _is_same_image(header, other)), None)
            if number is None:
                different.append(header)
            else:
                skipped[COPIED_PIXELS] += 1
                different[number] = replace(different[number], copies=different[number].copies + 1)
        kept += different
        if len(different) > 1:
            contradictory.add(instance_uid)
    return kept, contradictory


def _is_same_image(one: Header, other: Header) -> bool:
    """Whether two files say the same of an image, as far as it is read, and hold the same pixels."""
    if one.damaged or not one.frames or replace(one, path=other.path, copies=other.copies) != other:
        return False
    files = PixelFiles()
    pairs = zip(_slices(one), _slices(other), strict=True)
    return all(same_pixels(first, second, files) for first, second in pairs)


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
    whole = {header.path: header for header in headers if not header.damaged}
    slices = [each for header in whole.values() for each in _slices(header)]
    files = PixelFiles()
    kept = without_copies(slices, lambda one, other: same_pixels(one, other, files))
    copies = len(slices) - len(kept) + sum(header.copies * len(header.frames) for header in whole.values())
    parts = part_slices(kept)
    pieces = pieces_of_one_stack(parts)
    uid = headers[0].series_uid
    uids = [uid] if len(parts) == 1 else [f"{uid}#{number}" for number in range(1, len(parts) + 1)]
    remarks = [f"slices of the series that were delivered twice with equal pixels: {copies}"] if copies else []
    series = []
    for number, part in enumerate(parts):
        part_problem = problem or (_piece() if number in pieces else None)
        ordered = [part[index] for index in slice_order([each.plane for each in part])]
        of_files = [whole[path] for path in dict.fromkeys(each.path for each in ordered)]
        lost, remark = _lost(ordered, of_files, parts)
        if any(header.is_inverted for header in of_files):
            remark = (*remark, "low values are its bright ones (MONOCHROME1): values are as they are stored")
        image = _image(ordered, of_files, uids[number], part_problem or lost)
        series.append(replace(image, remarks=(*remarks, *remark)))
    return series


def _slices(header: Header) -> list[Slice]:
    return [
        Slice(
            header.path, index, len(header.frames), frame, (header.columns, header.rows), header.frame_of_reference,
            header.instance_uid, header.instance_number,
        )
        for index, frame in enumerate(header.frames)
    ]  # fmt: skip


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


def _piece() -> InvalidInput:
    return InvalidInput(
        "expected the slices of one stack to agree in direction, echo and kind of image, got a stack whose slices fall "
        "apart into images that lie in one another or continue one another",
        "export the series again as it was scanned, or choose another: half of the slices alone are not taken",
        code="series.pieces",
    )


def _lost(
    part: list[Slice], headers: list[Header], parts: list[list[Slice]]
) -> tuple[InvalidInput | None, tuple[str, ...]]:
    """What is missing at the ends: a remark, or a problem where it is more than a few slices."""
    is_original = part[0].frame.image_type[:1] == ("ORIGINAL",)  # others keep the counts of what they were made of
    expected, images = (
        max(counts) if is_original else 0
        for counts in zip(*((header.slices_expected, header.images_expected) for header in headers), strict=True)
    )
    lost, why = lost_ends(part, parts, expected)
    delivered = sum(map(len, parts))
    if lost <= 0 and images > delivered:
        lost, why = images - delivered, f"its header counts {images} images in the acquisition"
    if lost <= 0:
        return None, ()
    remark = f"slices that seem to be missing at an end: {lost} beside {len(part)} ({why})"
    is_counted = "header counts" in why
    if not is_counted or len(part) >= MIN_SHARE_OF_SLICES * (len(part) + lost) or (images and images % delivered == 0):
        return None, (remark,)
    return InvalidInput(
        f"expected all slices of the stack, got {len(part)}: {why}",
        "export the series again, all of its slices",
        code="series.incomplete",
    ), (remark,)


def _image(part: list[Slice], headers: list[Header], uid: str, problem: InvalidInput | None) -> Series:
    planes = [each.plane for each in part]
    grid, uneven = None, None
    if problem is None and not all(header.is_grey for header in headers):
        problem = InvalidInput(
            "expected grey values, got an image in colours", "choose another series", code="series.colour"
        )
    if problem is None:
        try:
            grid = stack(planes)
        except InvalidInput as error:
            problem, uneven = error, _uneven(planes)
    first, step_mm = headers[0], 0.0 if grid is None else grid.step_mm
    x_mm, y_mm = planes[0].spacing_mm or (0.0, 0.0)
    return Series(
        uid, first.study_uid, first.patient_id, first.kind, first.frame_of_reference, first.series_number,
        first.description, first.date, first.contrast_agent, first.scanner, part[0].frame.image_type,
        tuple(header.path for header in headers), (first.columns, first.rows, len(planes)), (x_mm, y_mm, step_mm),
        problem, grid, uneven, first.series_description, first.protocol_name, first.sequence_name,
        min(filter(None, (header.acquisition_time for header in headers)), default=""),
        first.contrast_usage, first.contrast_amount, first.acquisition_3d, tuple(part),
    )  # fmt: skip


def _uneven(planes: list[Plane]) -> UnevenStack | None:
    try:
        return uneven_stack(planes)
    except InvalidInput:  # there is more to it than uneven steps
        return None


def read_series(
    series: Series, scratch: Path, *, may_be_uneven: bool = False, remarks: list[str] | None = None
) -> Volume:
    """Decode the series and place it where its headers say.

    Args:
        series: of index_delivery.
        scratch: an existing folder for temporary files, which are removed.
        may_be_uneven: interpolate slices at uneven steps to even ones, linearly, instead of refusing them.
        remarks: to which is added what is to be said of the pixels; series.remarks are not repeated.

    Raises:
        InvalidInput: series.problem is set; or ricenet.images.series_pixels.decode refuses it.
    """
    uneven = series.uneven if may_be_uneven else None
    problem = series.problem
    if problem is not None and uneven is None:
        raise InvalidInput(problem.message, problem.hint, code=problem.code)
    grid = series.grid if uneven is None else uneven.even
    assert grid is not None
    decoded = decode(series.slices, grid, scratch)
    if remarks is not None:
        remarks += decoded.remarks
    return decoded.volume if uneven is None else even_out(decoded.volume, uneven)
