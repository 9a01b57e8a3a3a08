"""Deliver a phantom as a hospital would: its scans in; nested folders of DICOM (MR, CT, RTDOSE, RTPLAN) out.

Beside what ricenet.ingest should find there is what it should not take: a native T1 and a localizer. File names say
nothing, slices are shuffled, and the dose lies in the frame of a planning image of its own: a CT, or an MRI without
contrast. The same seed gives the same bytes.

Voxels are (X, Y, Z) with `world_from_voxel` in RAS+ mm; DICOM itself is LPS. The third voxel axis becomes the slices.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RTDoseStorage,
    RTPlanStorage,
    generate_uid,
)
from pydicom.valuerep import DSfloat
from scipy import ndimage

from ricenet import MODALITIES
from ricenet.images.volume import Affine, Volume
from ricenet.phantoms.anatomy import Patient
from ricenet.phantoms.scanner import Frame, Scans, calculate_dose, random_pose, scan_mri

IMAGE_CLASSES = {"MR": MRImageStorage, "CT": CTImageStorage}
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
LPS_AXES = LPS_FROM_RAS[:3, :3]  # how a CT and a planning system store: columns to the left, rows to the back
CT_OFFSET = 1024
AIR_HU, CSF_HU, WHITE_MATTER_HU, MUSCLE_HU, FAT_HU, BONE_HU = -1000, 10, 40, 50, -90, 900
BONE_DEPTH_MM = (9.5, 17.0)  # from the skin; what ricenet.phantoms.anatomy draws
CT_NOISE_HU = 5.0
FIRST_DAY = date(2019, 1, 2)
LAST_START = 650  # days after FIRST_DAY, so that the latest event falls in 2021
DATES_STREAM = 4  # of a patient's random numbers: those that `deliver` begins with
BEAMS = 2
Headers = Mapping[str, object]  # DICOM keyword -> value


@dataclass(frozen=True)
class Delivered:
    """What the label table says of a delivered patient."""

    patient_id: str
    event_date: date
    radiotherapy_start: date


def write_series(
    folder: Path, voxels: NDArray, world_from_voxel: Affine, modality: str, headers: Headers
) -> list[Path]:
    """Write an image series, one slice a file, under names that say nothing.

    Args:
        folder: created if missing.
        voxels: (X, Y, Z) whole numbers; scanner units (MR, stored signed) or Hounsfield units (CT).
        world_from_voxel: (4, 4) RAS+ mm with orthogonal axes.
        modality: MR or CT.
        headers: DICOM keyword -> value, the same on every slice; PatientID and SeriesInstanceUID at least.

    Returns:
        The files in the order of the third voxel axis.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(voxels.shape[2]):
        uid = generate_uid(entropy_srcs=[str(headers["SeriesInstanceUID"]), str(number)])
        dataset = _dataset(
            IMAGE_CLASSES[modality], uid, {"Modality": modality, "InstanceNumber": number + 1, **headers}
        )
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "M"]
        _place(dataset, world_from_voxel, number)
        _set_pixels(dataset, voxels[:, :, number : number + 1], modality)
        paths.append(_save(dataset, folder))
    return paths


def write_rtdose(folder: Path, dose_gy: NDArray, world_from_voxel: Affine, headers: Headers) -> Path:
    """Write the dose of a whole plan in Gy: 32 bit with DoseGridScaling, one frame a plane.

    Args:
        folder: created if missing.
        dose_gy: (X, Y, Z) of at least 0.
        world_from_voxel: (4, 4) RAS+ mm with orthogonal axes.
        headers: DICOM keyword -> value; PatientID, FrameOfReferenceUID, SOPInstanceUID, and the plan's reference.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dataset = _dataset(RTDoseStorage, str(headers["SOPInstanceUID"]), {"Modality": "RTDOSE", **headers})
    _place(dataset, world_from_voxel, 0)
    step_mm = float(_normal(dataset) @ (LPS_FROM_RAS @ world_from_voxel)[:3, 2])
    scaling = float(dose_gy.max()) / (2**32 - 1)
    dataset.DoseUnits = "GY"
    dataset.DoseType = "PHYSICAL"
    dataset.DoseSummationType = "PLAN"
    dataset.DoseGridScaling = _ds(scaling)
    dataset.GridFrameOffsetVector = [_ds(step_mm * number) for number in range(dose_gy.shape[2])]
    dataset.FrameIncrementPointer = 0x3004000C  # GridFrameOffsetVector
    stored = np.round(dose_gy.astype(np.float64) / float(dataset.DoseGridScaling)).clip(0, 2**32 - 1)
    _set_pixels(dataset, stored.astype(np.uint32), "RTDOSE")
    return _save(dataset, folder)


def write_rtplan(folder: Path, fractions: int, prescription_gy: float, headers: Headers) -> Path:
    """Write an approved plan of one fraction group.

    Args:
        folder: created if missing.
        fractions: planned.
        prescription_gy: to the target, by all fractions.
        headers: DICOM keyword -> value; PatientID, SOPInstanceUID.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = _dataset(RTPlanStorage, str(headers["SOPInstanceUID"]), {"Modality": "RTPLAN", **headers})
    plan.RTPlanLabel = "PLAN"
    plan.RTPlanGeometry = "PATIENT"
    plan.PlanIntent = "CURATIVE"
    plan.ApprovalStatus = "APPROVED"
    plan.DoseReferenceSequence = [
        _item(
            DoseReferenceNumber=1,
            DoseReferenceStructureType="SITE",
            DoseReferenceType="TARGET",
            TargetPrescriptionDose=_ds(prescription_gy),
        )
    ]
    beam_dose_gy = prescription_gy / fractions / BEAMS
    references = [
        _item(ReferencedBeamNumber=number, BeamDose=_ds(beam_dose_gy), BeamMeterset=_ds(100.0))
        for number in range(1, BEAMS + 1)
    ]
    group = _item(FractionGroupNumber=1, NumberOfFractionsPlanned=fractions, NumberOfBeams=BEAMS)
    group.NumberOfBrachyApplicationSetups = 0
    group.ReferencedBeamSequence = references
    plan.FractionGroupSequence = [group]
    plan.BeamSequence = [
        _item(BeamNumber=number, BeamType="STATIC", RadiationType="PHOTON", TreatmentDeliveryType="TREATMENT")
        for number in range(1, BEAMS + 1)
    ]
    return _save(plan, folder)


def deliver(folder: Path, scans: Scans, number: int, seed: int, channels: Collection[str] = MODALITIES) -> Delivered:
    """Write everything that a hospital has of one patient.

    Args:
        folder: of the whole delivery; the patient gets folders of its own inside.
        scans: the drawn patient.
        number: of the patient; an even one was planned on a CT, an odd one on an MRI.
        seed: of the patient.
        channels: without post there is no exam before radiotherapy, without rd no dose, plan or planning image.
    """
    rng = np.random.default_rng([seed, DATES_STREAM])
    patient_id = f"PHANTOM-{number:03d}"
    patient_folder = folder / patient_id
    patient_headers = {"PatientID": patient_id, "PatientName": f"{patient_id}^Head"}
    surgery, planned, event = draw_dates(rng)
    early, late = (_study(patient_headers, seed, day) for day in (surgery, event))
    contrast = {"ContrastBolusAgent": "Gadobutrol"}
    if "post" in channels:
        scanner = scans.appearance.scanner("post")
        native = scan_mri(rng, scans.frames["post"], _without_contrast(scans.patient), scans.patient.grid, scanner)
        scout = Volume(native.voxels[:, :, 10:13], native.world_from_voxel)
        _write_mri(patient_folder / "disk1" / "a", scout, _series(early, 1, "localizer"))
        _write_mri(patient_folder / "disk1" / "a", native, _series(early, 2, "t1_mprage_nativ"))
        enhanced = _series(early, 3, "t1_mprage_Gd") | contrast
        _write_mri(patient_folder / "disk1" / "b" / "c", scans.volumes["post"], enhanced)
    _write_mri(patient_folder / "disk2", scans.volumes["event"], _series(late, 5, "t1_mpr_KM") | contrast)
    if "rd" in channels:
        study = _study(patient_headers, seed, planned)
        _deliver_treatment(patient_folder / "radiotherapy", scans, number, seed, study)
    return Delivered(patient_id, event, planned)


def draw_dates(rng: np.random.Generator) -> tuple[date, date, date]:
    """Draw the dates of surgery, of the plan (the start of radiotherapy) and of the event."""
    surgery = FIRST_DAY + timedelta(days=int(rng.integers(LAST_START)))
    return surgery, surgery + timedelta(days=21), surgery + timedelta(days=int(rng.integers(150, 400)))


def planning_scan(scans: Scans, number: int, seed: int) -> tuple[str, Volume, Volume]:
    """Modality of the planning image, the image, and the dose in Gy, in a frame of reference of their own."""
    rng = np.random.default_rng([seed, 3])
    pose = random_pose(rng)
    step_mm = scans.patient.grid.spacing_mm
    dose = calculate_dose(scans.patient, pose, LPS_AXES)
    frame = Frame(pose, LPS_AXES, (step_mm, step_mm, 1.5 * step_mm))
    if number % 2:
        return "MR", scan_mri(rng, frame, _without_contrast(scans.patient), scans.patient.grid), dose
    # What lies outside the drawn head is 0 to a scan, and has to be air.
    scan = frame.scan(ct_numbers(scans.patient) - AIR_HU, scans.patient.grid)
    hounsfield = np.round(scan.voxels + AIR_HU + rng.normal(0, CT_NOISE_HU, scan.voxels.shape))
    return "CT", Volume(hounsfield.clip(-CT_OFFSET, 3071).astype(np.float32), scan.world_from_voxel), dose


def ct_numbers(patient: Patient) -> NDArray[np.float32]:
    """Hounsfield units of the drawn head after surgery, on its own grid."""
    head = ndimage.binary_fill_holes(patient.post > 0.05)
    depth_mm = ndimage.distance_transform_edt(head, sampling=patient.grid.spacing_mm)
    soft = np.where(patient.post > 0.8, FAT_HU, MUSCLE_HU)
    shells = np.select(
        [~head, depth_mm < BONE_DEPTH_MM[0], depth_mm < BONE_DEPTH_MM[1]], [AIR_HU, soft, BONE_HU], CSF_HU
    )
    inside = CSF_HU + (WHITE_MATTER_HU - CSF_HU) * patient.post.clip(0, 1)
    return np.where(patient.brain, inside, shells).astype(np.float32)


def _without_contrast(patient: Patient) -> NDArray[np.float32]:
    return patient.post.clip(0, 1).astype(np.float32)  # nothing is brighter than white matter


def _write_mri(folder: Path, volume: Volume, headers: Headers) -> None:
    write_series(folder, volume.voxels.astype(np.int16), volume.world_from_voxel, "MR", headers)


def _deliver_treatment(folder: Path, scans: Scans, number: int, seed: int, study: dict[str, str]) -> None:
    modality, image, dose = planning_scan(scans, number, seed)
    headers = _series(study, 1, "planning t1_space" if modality == "MR" else "planning head")
    write_series(folder / "images", image.voxels.astype(np.int16), image.world_from_voxel, modality, headers)
    plan_uid, dose_uid = (generate_uid(entropy_srcs=[study["StudyInstanceUID"], name]) for name in ("plan", "dose"))
    plan = _series(study, 2, "plan") | {"SOPInstanceUID": plan_uid, "RTPlanDate": study["StudyDate"]}
    write_rtplan(folder, scans.patient.fractions, scans.patient.prescription_gy, plan)
    reference = _item(ReferencedSOPClassUID=RTPlanStorage, ReferencedSOPInstanceUID=plan_uid)
    rtdose = _series(study, 3, "dose") | {"SOPInstanceUID": dose_uid, "ReferencedRTPlanSequence": [reference]}
    write_rtdose(folder, dose.voxels, dose.world_from_voxel, rtdose)


def _study(patient_headers: dict[str, str], seed: int, day: date) -> dict[str, str]:
    """Headers of one day in one frame of reference."""
    uids = {
        keyword: generate_uid(entropy_srcs=[patient_headers["PatientID"], str(seed), day.isoformat(), keyword])
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID")
    }
    return {**patient_headers, **uids, "StudyDate": day.strftime("%Y%m%d")}


def _series(study: dict[str, str], number: int, description: str) -> dict[str, object]:
    return {
        **study,
        "SeriesInstanceUID": generate_uid(entropy_srcs=[study["StudyInstanceUID"], str(number)]),
        "SeriesNumber": number,
        "SeriesDescription": description,
        "SeriesDate": study["StudyDate"],
        "AcquisitionDate": study["StudyDate"],
        "Manufacturer": "ricenet",
        "ManufacturerModelName": "phantom",
    }


def _dataset(sop_class: UID, uid: str, headers: Headers) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = uid
    for keyword, value in headers.items():
        setattr(dataset, keyword, value)
    return dataset


def _item(**elements: object) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _place(dataset: Dataset, world_from_voxel: Affine, number: int) -> None:
    """Position, orientation and spacing of plane `number`."""
    lps = LPS_FROM_RAS @ world_from_voxel
    spacing_mm = np.linalg.norm(lps[:3, :3], axis=0)
    axes = lps[:3, :3] / spacing_mm
    dataset.ImagePositionPatient = [_ds(mm) for mm in lps[:3, 3] + number * lps[:3, 2]]
    dataset.ImageOrientationPatient = [_ds(cosine) for cosine in (*axes[:, 0], *axes[:, 1])]
    dataset.PixelSpacing = [_ds(spacing_mm[1]), _ds(spacing_mm[0])]  # between rows, then between columns
    dataset.SliceThickness = _ds(spacing_mm[2])
    dataset.PatientPosition = "HFS"


def _normal(dataset: Dataset) -> NDArray[np.float64]:
    cosines = np.array(dataset.ImageOrientationPatient, dtype=np.float64)
    return np.asarray(np.cross(cosines[:3], cosines[3:]), dtype=np.float64)


def _set_pixels(dataset: Dataset, voxels: NDArray, modality: str) -> None:
    """Store (X, Y, planes) as frames of rows of columns."""
    if modality == "CT":
        dataset.RescaleSlope = _ds(1.0)
        dataset.RescaleIntercept = _ds(-CT_OFFSET)
        dataset.RescaleType = "HU"
        voxels = (voxels + CT_OFFSET).astype(np.uint16)
    planes = np.ascontiguousarray(voxels.T)
    bits = 8 * planes.dtype.itemsize
    if modality == "RTDOSE":
        dataset.NumberOfFrames = len(planes)
    dataset.Rows, dataset.Columns = planes.shape[1:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = bits
    dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(planes.dtype.kind == "i")
    dataset.PixelData = planes.tobytes()


def _save(dataset: Dataset, folder: Path) -> Path:
    path = folder / hashlib.sha256(dataset.SOPInstanceUID.encode()).hexdigest()[:16]
    dataset.save_as(path, enforce_file_format=True)
    return path


def _ds(value: float) -> DSfloat:
    return DSfloat(float(value), auto_format=True)
