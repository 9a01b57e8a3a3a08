"""The same phantom patients as ricenet.delivery delivers as DICOM, written as a NIfTI cohort with planning images."""

import csv
from pathlib import Path

import numpy as np

from ricenet import LABELS
from ricenet.causal import draw_cohort
from ricenet.cohort import COLUMNS
from ricenet.delivery import planning_scan
from ricenet.scanner import scan_patient
from ricenet.volume import write_volume


def write_twin(out: Path, patients: int, seed: int, spacing_mm: float) -> None:
    """Write the cohort that `python -m ricenet.phantom format=dicom` of these keys gives once it is ingested."""
    rows = []
    for number, draw in enumerate(draw_cohort(patients, seed, swap_label_effects=False), start=1):
        scans = scan_patient(draw.quantities, draw.seed, spacing_mm)
        _, planning, dose = planning_scan(scans, number, draw.seed)
        (out / f"{number}").mkdir(parents=True)
        for role, volume in {**scans.volumes, "planning": planning, "rd": dose}.items():
            stored = volume.voxels if role == "rd" else volume.voxels.astype(np.int16)
            write_volume(out / f"{number}" / f"{role}.nii.gz", stored, volume.world_from_voxel)
        rows.append(
            {
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
        )
    with (out / "cohort.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
