"""One new patient: a folder of NIfTI or DICOM in; a case whose files the pipeline can read, out. Nothing is labelled.

NIfTI: post.nii.gz, event.nii.gz, rd.nii.gz (Gy), and where there are any planning.nii.gz, brain_mask.nii.gz and the
model's further channels. DICOM: any layout, one patient; rules and dates choose as in ricenet.ingest.
The case is called by a digest of its files or, of DICOM, of its series' UIDs: the same images, the same name.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from ricenet import MODALITIES
from ricenet.cohort.table import Case
from ricenet.command.atomic import file_hash
from ricenet.delivery.ingest_record import SelectionRecord
from ricenet.delivery.intake import Settings, from_dicom, write_volumes
from ricenet.delivery.label_table import LabelRow
from ricenet.errors import InvalidInput, WrongUsage

ROLES = (*MODALITIES, "planning", "brain_mask")
SERIES_KEY = b"ricenet.predict"  # a series is called the same in every run, so that post_series=... can name it
SUBJECT = "patient"
DAYS = ("post_day", "event_day")  # by which the order of the two is checked


@dataclass(frozen=True)
class Known:
    """What is known of the patient besides the images, each None or empty where it is not.

    Attributes:
        choice: role -> series key, where the rules leave a choice.
    """

    post_date: date | None = None
    event_date: date | None = None
    radiotherapy_start: date | None = None
    fractions: int | None = None
    prescription_gy: float | None = None
    choice: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Delivered:
    """`case`: its label is -1; `record`: which series and doses were taken, and why; None for NIfTI."""

    case: Case
    record: SelectionRecord | None


class Unusable(InvalidInput):
    """A patient whose images cannot be chosen.

    Attributes:
        without_images: the case, which has none.
        record: what there was to choose from.
    """

    def __init__(self, problem: InvalidInput, case: Case, record: SelectionRecord) -> None:
        super().__init__(problem.located, problem.hint, problem.code)
        self.without_images = case
        self.record = record


def find_patient(
    folder: Path, known: Known, settings: Settings, scratch: Path, further: Sequence[str] = ()
) -> Delivered:
    """Find the images in `folder`.

    Args:
        settings: the rules, for DICOM.
        scratch: folder for what DICOM is converted to; the case's files lie there.
        further: channels besides post, event and rd, as NIfTI.

    Raises:
        InvalidInput: there is no folder, nothing in it, or several patients. Unusable: a role that cannot be filled.
        WrongUsage: dates or series for a patient of NIfTI, who has none.
    """
    if not folder.is_dir():
        raise InvalidInput("the patient folder does not exist", "correct patient=", code="patient.missing")
    named = {role: path for role in (*ROLES, *further) if (path := _nifti(folder, role))}
    if not named:
        return _from_dicom(folder, known, settings, scratch)
    if known.choice or any((known.post_date, known.event_date, known.radiotherapy_start)):
        raise WrongUsage("the patient folder holds NIfTI by name: dates and series are for DICOM; leave these keys out")
    hashes = {role: file_hash(path) for role, path in named.items()}
    case = _case(json.dumps(hashes, sort_keys=True), named, known.fractions, known.prescription_gy, further)
    return Delivered(case, None)


def _nifti(folder: Path, role: str) -> Path | None:
    return next((path for suffix in (".nii.gz", ".nii") if (path := folder / f"{role}{suffix}").is_file()), None)


def _from_dicom(folder: Path, known: Known, settings: Settings, scratch: Path) -> Delivered:
    from ricenet.delivery.series import index_delivery

    patients = index_delivery(folder).patients
    if len(patients) != 1:
        raise InvalidInput(
            f"expected NIfTI ({', '.join(f'{role}.nii.gz' for role in ROLES[:3])}) or the DICOM files of one patient "
            f"in the patient folder, got the DICOM files of {len(patients) or 'none'}",
            "give the folder of one patient",
            code="patient.missing" if not patients else "patient.several",
        )
    (files,) = patients.values()
    label = LabelRow(
        row=0, patient_id="", event_id="", label="", post_date=known.post_date, event_date=known.event_date,
        radiotherapy_start=known.radiotherapy_start, fractions=known.fractions, prescription_gy=known.prescription_gy,
        choice=known.choice,
    )  # fmt: skip
    uids = "\0".join(sorted(one.uid for one in files.series))
    taken = from_dicom(label, files, SUBJECT, settings, SERIES_KEY, scratch)
    if taken.problem is not None:
        raise Unusable(taken.problem, _case(uids, {}), taken.record)
    paths = {name.removesuffix(".nii.gz"): scratch / name for name in write_volumes(taken.volumes, scratch)}
    columns = taken.columns
    assert columns is not None  # there is no problem
    days = {name: str(day) for name in DAYS if (day := getattr(columns, name)) is not None}
    case = _case(uids, paths, columns.fractions, columns.prescription_gy)
    return Delivered(replace(case, extra=days), taken.record)


def _case(
    known_by: str,
    paths: dict[str, Path],
    fractions: int | None = None,
    prescription_gy: float | None = None,
    further: Sequence[str] = (),
) -> Case:
    key = "c" + hashlib.sha256(known_by.encode()).hexdigest()[:12]
    return Case(
        key=key,
        patient_key=key,
        row=0,
        label=-1,
        split="",
        images={role: paths[role] for role in (*MODALITIES, *further) if role in paths},
        planning=paths.get("planning"),
        brain_mask=paths.get("brain_mask"),
        fractions=fractions,
        prescription_gy=prescription_gy,
    )
