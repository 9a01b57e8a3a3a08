"""What a phantom is delivered as opens with pydicom and with the real readers, and holds what was drawn."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.nifti_twin import write_twin

from ricenet.cohort.table import read_cohort
from ricenet.delivery.series import Delivery, index_delivery
from ricenet.dicom.image_series import Series, read_series
from ricenet.images.volume import Volume, read_volume, resample
from ricenet.phantoms.causal_model import draw_cohort
from ricenet.phantoms.hospital import ct_numbers, deliver, planning_scan, write_rtdose, write_rtplan, write_series
from ricenet.phantoms.scanner import scan_patient

PATIENTS, SEED, SPACING_MM = 2, 3, 5.0
DESCRIPTIONS = {"post": "t1_mprage_Gd", "event": "t1_mpr_KM"}


@pytest.fixture(scope="module")
def scans():
    draws = draw_cohort(PATIENTS, SEED, swap_label_effects=False)
    return [(scan_patient(draw.quantities, draw.seed, SPACING_MM), draw.seed) for draw in draws]


@pytest.fixture(scope="module")
def folder(scans, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("delivery")
    for number, (one, seed) in enumerate(scans, start=1):
        deliver(out, one, number, seed)
    return out


@pytest.fixture(scope="module")
def delivery(folder: Path) -> Delivery:
    return index_delivery(folder)


def planning_series(delivery: Delivery, patient: str) -> Series:
    (dose,) = delivery.patients[patient].doses
    frame = pydicom.dcmread(dose.path).FrameOfReferenceUID
    (series,) = [one for one in delivery.patients[patient].series if one.frame_of_reference == frame]
    return series


def assert_same(read: Volume, written: Volume, atol: float = 0) -> None:
    np.testing.assert_allclose(read.voxels, written.voxels, atol=atol)
    np.testing.assert_allclose(read.world_from_voxel, written.world_from_voxel, atol=1e-3)


def test_everything_of_a_patient_is_there(delivery):
    assert list(delivery.patients) == ["PHANTOM-001", "PHANTOM-002"]
    assert delivery.skipped == {}
    for files in delivery.patients.values():
        assert (len(files.series), len(files.doses), len(files.plans), files.damaged) == (5, 1, 1, 0)
        problems = [one.problem for one in files.series]
        assert problems == [None] * 5
        assert sum(bool(one.contrast_agent) for one in files.series) == 2
        assert len({one.frame_of_reference for one in files.series}) == 3
        assert all(2019 <= one.date.year <= 2021 for one in files.series)
    assert planning_series(delivery, "PHANTOM-001").modality == "MR"
    assert planning_series(delivery, "PHANTOM-002").modality == "CT"


def test_dicom_and_nifti_hold_the_same_volumes(delivery, tmp_path):
    write_twin(tmp_path / "twin", PATIENTS, SEED, SPACING_MM)
    for number, case in enumerate(read_cohort(tmp_path / "twin"), start=1):
        patient = f"PHANTOM-{number:03d}"
        chosen = {"planning": planning_series(delivery, patient)}
        for role, description in DESCRIPTIONS.items():
            (chosen[role],) = [
                one for one in delivery.patients[patient].series if one.series_description == description
            ]
        for role, path in {**case.images, "planning": case.planning}.items():
            if role != "rd":
                assert_same(read_series(chosen[role], tmp_path), read_volume(path))


def test_dose_in_gray_by_the_standards_formulas(delivery, scans):
    """Gy = stored value x DoseGridScaling; frame k lies at position + offset k x normal (PS3.3 C.8.8.3)."""
    for number, (one, seed) in enumerate(scans, start=1):
        files = delivery.patients[f"PHANTOM-{number:03d}"]
        dataset, (_, _, expected) = pydicom.dcmread(files.doses[0].path), planning_scan(one, number, seed)
        gray = dataset.pixel_array.T * float(dataset.DoseGridScaling)
        np.testing.assert_allclose(gray, expected.voxels, atol=1e-6)
        rows_columns = np.array(dataset.ImageOrientationPatient, dtype=float).reshape(2, 3)
        offset = float(dataset.GridFrameOffsetVector[-1]) * np.cross(*rows_columns)
        last = np.array([0, 0, dataset.NumberOfFrames - 1, 1])
        position = [-1, -1, 1] * (np.array(dataset.ImagePositionPatient, dtype=float) + offset)
        np.testing.assert_allclose(position, (expected.world_from_voxel @ last)[:3], atol=1e-6)
        assert (dataset.DoseUnits, dataset.DoseSummationType, dataset.BitsAllocated) == ("GY", "PLAN", 32)
        assert expected.voxels.max() / one.patient.prescription_gy == pytest.approx(1.1, abs=0.1)


def test_plan_that_the_dose_refers_to(delivery, scans):
    for files, (one, _) in zip(delivery.patients.values(), scans, strict=True):
        dose, plan = (pydicom.dcmread(path) for path in (files.doses[0].path, files.plans[0].path))
        assert dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == plan.SOPInstanceUID
        (group,) = plan.FractionGroupSequence
        assert group.NumberOfFractionsPlanned == one.patient.fractions
        total = sum(float(beam.BeamDose) for beam in group.ReferencedBeamSequence) * one.patient.fractions
        assert total == pytest.approx(one.patient.prescription_gy)
        assert float(plan.DoseReferenceSequence[0].TargetPrescriptionDose) == one.patient.prescription_gy
        assert len(plan.BeamSequence) == group.NumberOfBeams == len(group.ReferencedBeamSequence)


def test_ct_numbers(scans):
    patient = scans[1][0].patient
    hounsfield = ct_numbers(patient)
    assert 20 < np.median(hounsfield[patient.brain]) < 40
    assert hounsfield[0, 0, -1] == -1000
    assert 0.05 < (hounsfield > 500).mean() < 0.3
    assert not (hounsfield[patient.brain] > 100).any()


def test_planning_image_and_dose_lie_in_one_frame(scans):
    """In the planning frame the dose falls into the head: on its grid, what gets 20 Gy is not air."""
    for number, (one, seed) in enumerate(scans, start=1):
        modality, image, dose = planning_scan(one, number, seed)
        seen = resample(image, dose.voxels.shape, dose.world_from_voxel)
        inside = seen[dose.voxels > 20]
        assert np.mean(inside > (-100 if modality == "CT" else 50)) > 0.95


def test_same_seed_same_bytes_and_names_that_say_nothing(folder, scans, tmp_path):
    deliver(tmp_path, *scans[0][:1], 1, scans[0][1])
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    for path in written:
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes()
        assert path.suffix == ""
    order = [pydicom.dcmread(path).get("InstanceNumber", 0) for path in sorted(written)]
    assert order != sorted(order)


def test_oblique_dose_and_plan_by_hand(tmp_path):
    """The writers alone: stored values, steps against the normal, and what a plan says."""
    world_from_voxel = np.array([[2.0, 0, 0, 5], [0, 0, 3, 6], [0, 2.5, 0, 7], [0, 0, 0, 1]])  # coronal
    gray = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    headers = {"PatientID": "x", "SOPInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2", "FrameOfReferenceUID": "1.9"}
    dose = pydicom.dcmread(write_rtdose(tmp_path, gray, world_from_voxel, headers))
    np.testing.assert_allclose(dose.pixel_array * float(dose.DoseGridScaling), gray.T, atol=1e-6)
    assert list(dose.PixelSpacing) == [2.5, 2.0]
    assert list(dose.ImageOrientationPatient) == [-1, 0, 0, 0, 0, 1]
    assert list(dose.ImagePositionPatient) == [-5, -6, 7]
    assert list(dose.GridFrameOffsetVector) == [0, -3, -6, -9, -12]  # slices go to RAS +y, the normal to -y
    plan = pydicom.dcmread(write_rtplan(tmp_path, 15, 40.05, headers | {"SOPInstanceUID": "1.2.4"}))
    assert (plan.ApprovalStatus, plan.FractionGroupSequence[0].NumberOfFractionsPlanned) == ("APPROVED", 15)


def test_ct_is_stored_with_an_intercept(tmp_path):
    voxels = np.linspace(-1000, 900, 4 * 3 * 2).astype(np.int16).reshape(4, 3, 2)
    headers = {"PatientID": "x", "SeriesInstanceUID": "1.2"}
    first, second = write_series(tmp_path, voxels, np.eye(4), "CT", headers)
    dataset = pydicom.dcmread(second)
    assert dataset.RescaleIntercept == -1024
    np.testing.assert_array_equal(dataset.pixel_array.astype(int) - 1024, voxels[:, :, 1].T)
    assert pydicom.dcmread(first).SOPInstanceUID != dataset.SOPInstanceUID
