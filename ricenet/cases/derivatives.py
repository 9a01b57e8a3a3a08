"""Write finished cases as BIDS derivatives: a cases folder in; sub-<patient>/ses-<case>/ with NIfTI and JSON out.

Subjects and sessions are the pseudonyms of patient and case. All images of a case lie on one grid, in the frame of its
reference (space-post, or space-event where there is no post-OP MRI). BIDS has no place for a dose: it lies in the
session's folder dose, where source=bids reads one, and .bidsignore names that folder. A second run does only what
changed; sessions of cases that left cases.csv are removed.
"""

import csv
import io
import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ricenet import LABELS, __version__
from ricenet.cases.case_record import CaseRecord, read_case_record
from ricenet.cases.structures import load_masks
from ricenet.cohort.ready_cases import ReadyCase, read_cases
from ricenet.cohort.table import LESION
from ricenet.command.atomic import hold, partial_folder, publish, remove_folder, replace_file
from ricenet.errors import WrongUsage
from ricenet.images.volume import write_volume

BIDS_VERSION = "1.10.0"
DESCRIPTION, MADE_FROM = "dataset_description.json", "made_from.json"
README = """Cases that ricenet.preprocess made for its networks: rigidly registered to the reference MRI, brain
extracted, on one grid. T1w images are z-scored inside the brain and 0 outside; the dose (folders dose) is in Gy where
its sidecar says so. Subjects and sessions are keyed pseudonyms of patients and of their events.
"""
LEVELS = {"recurrence": "tumour", "rice": "radiation-induced contrast enhancement"}
log = logging.getLogger(__name__)


def check_target(folder: Path) -> None:
    """Refuse, before hours of work, a folder that holds something else.

    Raises:
        WrongUsage: it is not empty, and not one that write_derivatives wrote.
    """
    if not folder.is_dir() or not any(path.name != ".lock" for path in folder.iterdir()):
        return
    try:
        made_by = json.loads((folder / DESCRIPTION).read_text())["GeneratedBy"][0]["Name"]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        made_by = ""
    if made_by != "ricenet":
        raise WrongUsage("bids: expected a new folder, or one of BIDS derivatives by ricenet; it holds something else")


def write_derivatives(cases: Path, folder: Path) -> int:
    """Write every case of cases.csv that is not there yet; remove those that are no longer cases.

    Args:
        cases: the cases folder.
        folder: of the derivatives; made where it is not there.

    Returns:
        How many were written.

    Raises:
        WrongUsage: as check_target.
        InvalidInput: as read_cases and read_case_record.
    """
    check_target(folder)
    table = read_cases(cases)
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder):
        _write_texts(folder, table)
        case_of = {_session(folder, case): case for case in table}
        for path in sorted(folder.glob("sub-*/ses-*")):
            if path not in case_of:
                remove_folder(path)
        for subject in folder.glob("sub-*"):
            if not any(subject.glob("ses-*")) and subject not in {path.parent for path in case_of}:
                remove_folder(subject)
        todo = [case for path, case in case_of.items() if _made_from(path) != case.folder]
        for case in todo:
            _write_case(cases, folder, case)
    log.info("BIDS derivatives: %d cases, %d written", len(table), len(todo))
    return len(todo)


def _session(folder: Path, case: ReadyCase) -> Path:
    return folder / f"sub-{case.patient_key}" / f"ses-{case.case_key}"


def _made_from(session: Path) -> str:
    """Name of the case folder that a session was made of; empty where there is none, or one that was cut off."""
    try:
        return str(json.loads((session / MADE_FROM).read_text())["case_folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _write_texts(folder: Path, table: Sequence[ReadyCase]) -> None:
    description = {
        "Name": "ricenet: preprocessed cases",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {"Name": "ricenet", "Version": __version__, "Description": "python -m ricenet.preprocess"},
        ],
    }
    replace_file(folder / DESCRIPTION, _json(description))
    replace_file(folder / "README.md", README)
    replace_file(folder / ".bidsignore", f"**/dose\n**/dose/**\n**/{MADE_FROM}\n")
    of_patient = defaultdict(list)
    for case in table:
        of_patient[case.patient_key].append(case)
    replace_file(
        folder / "participants.tsv", _tsv([["participant_id"], *([f"sub-{key}"] for key in sorted(of_patient))])
    )
    replace_file(
        folder / "sessions.json",
        _json(
            {
                "label": {"Description": "what the event was found to be", "Levels": LEVELS},
                "split": {"Description": "cv: cross-validation; test: held out"},
            }
        ),
    )
    for key, of in of_patient.items():
        (folder / f"sub-{key}").mkdir(exist_ok=True)
        rows = [[f"ses-{case.case_key}", LABELS[case.label], case.split] for case in of]
        replace_file(folder / f"sub-{key}" / f"sub-{key}_sessions.tsv", _tsv([["session_id", "label", "split"], *rows]))


def _write_case(cases: Path, folder: Path, case: ReadyCase) -> None:
    record = read_case_record(cases, case)
    target = _session(folder, case)
    stem = f"{target.parent.name}_{target.name}"
    source = cases / case.folder
    volume, grid = np.load(source / "volume.npy", mmap_mode="r"), record.affine
    space, where = f"space-{_reference(record)}", _where(record)
    with partial_folder(target.parent, target.name) as session:
        for name in ("anat", "dose"):
            (session / name).mkdir()
        for channel, voxels in zip(record.channels, volume, strict=True):
            image = np.asarray(voxels, dtype=np.float32)
            if channel != "rd":
                path, about = (
                    session / "anat" / f"{stem}_acq-{_word(channel)}_{space}_desc-preproc_T1w",
                    {
                        "Description": f"the {channel} MRI, z-scored inside the brain, 0 outside",
                        "SkullStripped": True,
                    },
                )
            else:
                image = image * np.float32(record.dose_scale_gy or 1)
                path, about = (
                    session / "dose" / f"{stem}_{space}_desc-preproc_dose",
                    {
                        "Description": "radiotherapy dose of the whole treatment before the event",
                        "Units": "Gy" if record.dose_scale_gy else "standard deviations inside the brain",
                    },
                )
            _write(path, image, grid, about | where)
        masks = {f"{stem}_{space}_desc-brain_mask": (np.load(source / "brain.npy"), "Brain")}
        for name, mask in load_masks(source).items():
            kind = "Lesion" if name == LESION else "ROI"
            masks[f"{stem}_{space}_label-{_word(name)}_mask"] = (mask, kind)
        for name, (mask, kind) in masks.items():
            _write(session / "anat" / name, mask.astype(np.uint8), grid, {"Type": kind} | where)
        if not any((session / "dose").iterdir()):
            (session / "dose").rmdir()
        (session / MADE_FROM).write_text(_json({"case_folder": case.folder}))
        remove_folder(target)
        publish(session, target, last=MADE_FROM)


def _write(stem: Path, voxels: np.ndarray, grid: np.ndarray, about: Mapping[str, Any]) -> None:
    write_volume(stem.with_name(f"{stem.name}.nii.gz"), voxels, grid)
    stem.with_name(f"{stem.name}.json").write_text(_json(about))


def _reference(record: CaseRecord) -> str:
    """The role in whose frame the grid lies."""
    names = [name.rpartition("_from_")[2] for name in record.transforms]
    return names[0] if names else next(role for role in ("post", "event", *record.channels) if role in record.channels)


def _where(record: CaseRecord) -> dict[str, Any]:
    reference = _reference(record)
    return {
        "SpatialReference": f"the {reference} MRI of this session, RAS+, as it was scanned",
        "Resolution": f"{record.spacing_mm:g} mm, isotropic",
    }


def _word(name: str) -> str:
    """A name as the value of a BIDS entity: letters and digits."""
    return "".join(letter for letter in name if letter.isalnum())


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def _tsv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter="\t", lineterminator="\n").writerows(rows)
    return text.getvalue()
