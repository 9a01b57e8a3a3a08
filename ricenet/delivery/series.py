"""Index a delivery of DICOM: which files belong to which patient, and which series they are.

Nesting, file names and extensions mean nothing; headers decide. RTDOSE, RTPLAN and RTSTRUCT are listed, not read. It
never prints header text, paths or file names.
"""

import filecmp
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from ricenet.dicom.headers import ANONYMOUS_RT, DAMAGED, Header, RtFile, read_header, unreadable
from ricenet.dicom.image_series import Series, image_series, is_same_image
from ricenet.dicom.part10 import quiet_pydicom

THREADS = 8  # they wait for the disk
COPIED = "identical copy"
COPIED_PIXELS = "copy with equal pixels"
OUTSIDE = "link out of the folder"
SPECIAL = "no regular file"


@dataclass(frozen=True, repr=False)  # no repr: it would print a patient
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
            number = next((n for n, other in enumerate(different) if is_same_image(header, other)), None)
            if number is None:
                different.append(header)
            else:
                skipped[COPIED_PIXELS] += 1
                different[number] = replace(different[number], copies=different[number].copies + 1)
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
    series = [each for group in _grouped(images, "series_uid").values() for each in image_series(group, contradictory)]
    series.sort(key=lambda each: (each.number is None, each.number, each.uid))
    damaged = sum(header.damaged for header in headers)
    links = frozenset().union(*(header.links for header in headers))
    return PatientFiles(series, doses, plans, structures, damaged, links)
