"""The files of one phantom patient, drawn once a session; read only: `delivery` is a copy that a test adds to."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.phantom_delivery import SPACING_MM, Delivery

from ricenet import LABELS
from ricenet.cohort.label_table import LabelRow
from ricenet.delivery.series import PatientFiles, index_delivery
from ricenet.phantoms.causal_model import draw_cohort
from ricenet.phantoms.hospital import deliver, planning_scan
from ricenet.phantoms.scanner import scan_patient


@pytest.fixture(scope="session")
def delivered(tmp_path_factory) -> tuple[LabelRow, PatientFiles, np.ndarray]:
    folder = tmp_path_factory.mktemp("delivery")
    (draw,) = draw_cohort(1, 4, swap_label_effects=False)
    scans = scan_patient(draw.quantities, draw.seed, SPACING_MM)
    one = deliver(folder, scans, 1, draw.seed)
    row = LabelRow(2, one.patient_id, "e1", LABELS[draw.label], split="cv", event_date=one.event_date)
    _, _, dose = planning_scan(scans, 1, draw.seed)
    dose_gy = dose.voxels[::-1, ::-1]  # drawn on DICOM's axes, read as RAS+
    return row, index_delivery(folder).patients[one.patient_id], dose_gy


@pytest.fixture
def delivery(delivered, tmp_path) -> Delivery:
    row, files, _ = delivered
    (tmp_path / "more").mkdir()
    own = replace(files, series=list(files.series), doses=list(files.doses), plans=list(files.plans))
    return Delivery(row, own, tmp_path / "more")
