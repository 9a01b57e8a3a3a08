"""The same phantom patients as phantoms.hospital delivers as DICOM, written as a NIfTI cohort with planning images."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ricenet import LABELS
from ricenet.cohort.table import COLUMNS
from ricenet.images.volume import write_volume
from ricenet.phantoms.causal_model import Draw, draw_cohort
from ricenet.phantoms.hospital import planning_scan
from ricenet.phantoms.scanner import Scans, scan_patient


def write_twin(out: Path, patients: int, seed: int, spacing_mm: float) -> None:
    """Write the cohort that `python -m ricenet.phantom format=dicom` of these keys gives once it is ingested."""
    draws = enumerate(draw_cohort(patients, seed, swap_label_effects=False), start=1)
    rows = [
        write_patient(out, number, draw, scan_patient(draw.quantities, draw.seed, spacing_mm)) for number, draw in draws
    ]
    write_rows(out / "cohort.csv", COLUMNS, rows)


def write_patient(out: Path, number: int, draw: Draw, scans: Scans) -> dict[str, Any]:
    """Write the scans, planning image and dose of one patient; returns its row of cohort.csv."""
    _, planning, dose = planning_scan(scans, number, draw.seed)
    (out / f"{number}").mkdir(parents=True)
    for role, volume in {**scans.volumes, "planning": planning, "rd": dose}.items():
        stored = volume.voxels if role == "rd" else volume.voxels.astype(np.int16)
        write_volume(out / f"{number}" / f"{role}.nii.gz", stored, volume.world_from_voxel)
    return {
        "patient_id": f"PHANTOM-{number:03d}",
        "event_id": "e1",
        "label": LABELS[draw.label],
        "split": draw.split,
        **{role: f"{number}/{role}.nii.gz" for role in ("post", "event", "rd", "planning")},
        "dose_unit": "Gy",
        "fractions": scans.patient.fractions,
        "prescription_gy": scans.patient.prescription_gy,
        "label_source": "phantom",
    }


def write_rows(path: Path, columns: Iterable[str], rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
