"""Every public cohort and BIDS, from a fake download to a trained network, by the commands that their files name.

The trees have exactly the folders, files and columns of the real ones; their volumes are tiny. One run a source.
"""

import csv
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers import commands
from helpers.analytic_patient import CAVITY_MM, EVENT_POSE, POST_POSE, brain_of, dose_of, grid, points, save
from helpers.dicom_objects import item, rtstruct
from helpers.dicom_objects import save as save_dicom
from helpers.phantom_scans import stripped

from ricenet.cases.case_record import read_case_record
from ricenet.cohort.covariates import read_covariates
from ricenet.cohort.ingest_record import CaseIngestRecord
from ricenet.cohort.ready_cases import read_cases
from ricenet.cohort.table import read_cohort
from ricenet.images.volume import read_volume
from ricenet.phantoms.causal_model import draw_cohort
from ricenet.phantoms.hospital import deliver
from ricenet.phantoms.scanner import scan_patient

pytestmark = [pytest.mark.slow, pytest.mark.process]
SHAPE, SPACING = (30, 36, 28), (5.0, 5.0, 5.0)
COARSE = ["registration=quick", "spacing_mm=9", "size=24", "folds=2", "jobs=1"]
LESION_MM = 16.0


@dataclass(frozen=True)
class Source:
    """How a fake download is made and taken in.

    Attributes:
        write: writes it into a folder; returns the label table.
        keys: of ricenet.ingest, besides delivery, labels and out.
        channels: of every case.
        modalities: the set that is trained.
        cases: how many come in.
        check: what is the source's own, given the folder of the run and what was printed.
    """

    write: Callable[[Path], Path]
    keys: Sequence[str]
    channels: tuple[str, ...]
    modalities: str
    cases: int
    check: Callable[[Path, dict[str, str]], None]


def mri(path: Path, seed: int, role: str) -> None:
    pose, contrast = {"post": (POST_POSE, 1.0), "event": (EVENT_POSE, 1.3)}[role]
    affine = grid(SHAPE, SPACING)
    save(path, brain_of(points(SHAPE, affine, pose), seed, contrast, cavity=role == "post"), affine)


def dose(path: Path, seed: int) -> None:
    affine = grid(SHAPE, SPACING)
    save(path, dose_of(points(SHAPE, affine, POST_POSE)) * np.float32(1 - 0.002 * seed), affine)


def labels_on_event(path: Path, values: dict[int, float]) -> None:
    """A label map in the frame of the event MRI: balls around the cavity, value -> radius, the smallest last."""
    affine = grid(SHAPE, SPACING)
    distance = np.linalg.norm(points(SHAPE, affine, EVENT_POSE) - CAVITY_MM, axis=-1)
    labels = np.zeros(SHAPE, dtype=np.int16)
    for value, radius in values.items():
        labels[distance < radius] = value
    save(path, labels, affine)


def write_lines(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def lumiere(root: Path) -> Path:
    ratings, readings = [], ["Patient,Date,reading"]
    for number in range(1, 5):
        patient = f"Patient-{number:03d}"
        for week, role, rating in (
            ("week-000-1", "post", "Pre-Op"),
            ("week-000-2", "post", "Post-Op "),
            ("week-044", "event", "PD"),
        ):
            scan = root / "Imaging" / patient / week
            mri(scan / "CT1.nii.gz", number, role)
            for other in ("T1", "T2", "FLAIR"):
                (scan / f"{other}.nii.gz").touch()
            ratings.append(f"{patient},{week},,,{rating},")
        labels_on_event(scan / "HD-GLIO-AUTO-segmentation/registered/segmentation.nii.gz", {1: 30.0, 2: LESION_MM})
        readings.append(f"{patient},week-044,{'RN' if number % 2 else 'PD'}")
    readings.append("Patient-001,week-000-2,n/a")
    header = "Patient,Date,LessThan3Months,NonMeasurableLesions,Rating (according to RANO),Rating rationale (CRET)"
    write_lines(root / "LUMIERE-ExpertRating-v202211.csv", header, *ratings)
    return write_lines(root.parent / "own.csv", *readings)


def cfb_gbm(root: Path) -> Path:
    treatment = ["id_patient\tdelay_t0_to_radiotherapy (weeks)\tdose (Gy)\tfractions_number"]
    times = ["id_patient\ttemporality\ttime_diff_t0 (weeks)\tt1gd"]
    gtvs = ["id_patient\ttemporality\tgtv\tgtv_type\trtdose\ttreatment_machine\ttps"]
    clinical = ["id_patient\tsurvival (weeks)\tage_at_t0 (years)\twho_performance_status\tgender"]
    rano, readings = ["id_patient\tsize_t0 (cm3)\trano_t0_to_t1\trano_t1_to_t2"], ["id_patient\tevent_id\treading"]
    for number in (1, 2, 12, 15):
        folder = root / "CFB-GBM" / f"{number:03d}"
        mri(folder / f"t0/{number}_t0_t1gd.nii.gz", number, "post")
        mri(folder / f"t1/{number}_t1_t1gd.nii.gz", number, "event")
        dose(folder / f"t0/{number}_t0_rtdose.nii.gz", number)
        for time in ("t0", "t1"):
            labels_on_event(folder / f"{time}/{number}_{time}_gtv.nii.gz", {1: LESION_MM})
            gtvs.append(f"{number}\t{time}\t1\t{'genSegmentation' if number > 2 else 'human'}\t\t\t")
        treatment.append(f"{number}\t2\t60\t30")
        times.append(f"{number}\tt1\t{10 + number}\t1")
        clinical.append(f"{number}\t60\t{60 + number}\t1\tF")
        rano.append(f"{number}\t10\tProgressive Disease (PD)\t")
        readings.append(f"{number}\tt1\t{'PD' if number % 2 else 'RICE'}")
    for name, lines in {
        "treatment_data_v02_20260129": treatment, "mri_availability_v02_20260129": times, "clinical_data_v03": clinical,
        "treatment_imaging_availability_v03_20260619": gtvs, "rano_criteria_v03_20260619": rano,
    }.items():  # fmt: skip
        write_lines(root / f"CFB-GBM_{name}.tsv", *lines)
    return write_lines(root.parent / "own.tsv", *readings)


def ucsd_ptgbm(root: Path) -> Path:
    import openpyxl

    clinical, negative = openpyxl.Workbook(), openpyxl.Workbook()
    clinical.active.append(["Data Collection Name", "Data Descriptor /Metadata Name"])
    info = clinical.create_sheet("Cinical info")
    info.append(["ID", "BraTS ID", "Patient's Age", "Sex at birth", "IDH", "MGMT",
                 "Days from Acquistion to Date of first radiation "])  # fmt: skip
    negative.active.append(["ID", "Dx"])
    for number, time in ((1, 1), (1, 2), (2, 1), (3, 1), (4, 1), (5, 1)):
        name = f"UCSD-PTGBM-{number:04d}_{time:02d}"
        folder = root / "UCSD-PTGBM" / name
        mri(folder / f"{name}_T1post.nii.gz", 10 * number + time, "event")
        labels_on_event(folder / f"{name}_BraTS_tumor_seg.nii.gz", {2: 40.0, 1: 24.0, 3: LESION_MM})
        for kind in ("T1pre", "T2", "FLAIR", "SWAN"):
            (folder / f"{name}_{kind}.nii.gz").touch()
        info.append([name, f"B{number}", 50 + number, "F", "wild-type", "unmethylated", -100 * number])
        if number % 2:
            negative.active.append([name, "Radiation necrosis (pathology)" if number == 1 else "PsP"])
    (folder / f"{name}_T1post.nii.gz").write_bytes(b"")
    clinical.save(root / "UCSD_PTGBM-clinical-information_v3_2026-12-Mar.xlsx")
    negative.save(root / "details_of_negative_cases_TCIA.xlsx")
    return root / "UCSD_PTGBM-clinical-information_v3_2026-12-Mar.xlsx"


def bids(root: Path) -> Path:
    write_lines(root / "dataset_description.json", '{"Name": "x", "BIDSVersion": "1.10.0"}')
    lines = ["participant_id\tage\tlabel"]
    for number in range(1, 5):
        subject = f"sub-{number:02d}"
        for session, role, day in (("pre", "post", "2020-03-01"), ("post", "event", "2020-09-01")):
            stem = f"{subject}_ses-{session}"
            mri(root / subject / f"ses-{session}/anat/{stem}_ce-gadolinium_T1w.nii.gz", number, role)
            (root / subject / f"ses-{session}/anat/{stem}_T1w.nii.gz").touch()
            write_lines(
                root / subject / f"ses-{session}/{stem}_scans.tsv",
                "filename\tacq_time",
                f"anat/{stem}_ce-gadolinium_T1w.nii.gz\t{day}T10:00:00",
            )
        dose(root / subject / f"ses-pre/dose/{subject}_ses-pre_dose.nii.gz", number)
        mask = f"derivatives/lesions/{subject}/ses-post/anat/{subject}_ses-post_label-lesion_mask.nii.gz"
        labels_on_event(root / mask, {1: LESION_MM})
        lines.append(f"{subject}\t{50 + number}\t{'rice' if number % 2 else 'recurrence'}")
    return write_lines(root / "participants.tsv", *lines)


def burdenko(root: Path) -> Path:
    """Phantoms as DICOM under Burdenko's names, with follow-ups in an RTSTRUCT; the clinical table."""
    rows = []
    for number, draw in enumerate(draw_cohort(4, 0, swap_label_effects=False), 1):
        scans = stripped(scan_patient(draw.quantities, draw.seed, 4.5))  # a head takes longer to register
        delivered = deliver(root.parent / "phantoms", scans, number, draw.seed)
        brain = scans.frames["post"].scan(scans.patient.brain, scans.patient.grid)
        save(truth_of(root.parent, number), (brain.voxels > 0.5).astype(np.uint8), brain.world_from_voxel)
        name, event = f"Burdenko-GBM-{number:03d}", delivered.event_date
        start = _renamed(root.parent / "phantoms" / delivered.patient_id, root / name, name)
        response = "pseudo progression" if number % 2 else "progression"  # the phantom's own label is another matter
        rows.append({
            "AnonymPatientID": name, "AnonymStart of RT": us(start), "Response_1st_fup": "distant progression",
            "Anonym1st_fup": us(date.fromordinal(event.toordinal() - 20)), "Response_2nd_fup": response,
            "Anonym2nd_fup": us(event), "Response_3rd_fup": response,
            "Anonym3rd_fup": us(date.fromordinal(event.toordinal() + 90)),
        })  # fmt: skip
    ordinals = ["1st", "2nd", "3rd", *(f"{n}th" for n in range(4, 11))]
    headers = ["AnonymPatientID", "AnonymStudyDate", "Sex", *(f"Response_{each}_fup" for each in ordinals),
               "AnonymDate of surgery", "AnonymStart of RT", "AnonymDate of topometric MRI",
               *(f"Anonym{each}_fup" for each in ordinals), "AnonymDeath"]  # fmt: skip
    with (root.parent / "clinical.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, headers, restval=" ")
        writer.writeheader()
        writer.writerows(rows)
    return root.parent / "clinical.csv"


def us(day: date) -> str:
    return f"{day.month}/{day.day}/{day:%y}"


DESCRIPTIONS = {
    "t1_mprage_Gd": "MR0CET1", "t1_mpr_KM": "MRCET1", "t1_mprage_nativ": "MR0T1", "planning head": "CT00CT",
    "planning t1_space": "MR0T1",
}  # fmt: skip


def _renamed(source: Path, target: Path, name: str) -> date:
    """The patient under Burdenko's name, folders and descriptions, with follow-up contours; when it was planned."""
    planning = []
    for number, path in enumerate(sorted(path for path in source.rglob("*") if path.is_file())):
        dataset = pydicom.dcmread(path)
        dataset.PatientID = dataset.PatientName = name
        description = str(dataset.get("SeriesDescription", ""))
        dataset.SeriesDescription = DESCRIPTIONS.get(description, description)
        day = date.fromisoformat(dataset.StudyDate)
        series = f"{dataset.SeriesNumber}.000000-{dataset.SeriesDescription}-39997"
        folder = target / f"{day:%m-%d-%Y}-NA-Radiotherapy planning 00-01357" / series
        folder.mkdir(parents=True, exist_ok=True)
        if dataset.Modality == "RTPLAN":
            plan, place = dataset, folder
        else:
            dataset.save_as(folder / f"1-{number:03d}.dcm")
        if description.startswith("planning"):
            planning.append(dataset)
    structures = _contours(sorted(planning, key=lambda each: each.InstanceNumber), name)
    save_dicom(structures, place / "structures.dcm")
    plan.ReferencedStructureSetSequence = [
        item(ReferencedSOPClassUID=structures.SOPClassUID, ReferencedSOPInstanceUID=structures.SOPInstanceUID)
    ]
    plan.save_as(place / "plan.dcm")
    return date.fromisoformat(plan.RTPlanDate)


def _contours(slices: list[pydicom.Dataset], name: str) -> pydicom.Dataset:
    """FU_2_CE: a square of 30 mm in the middle of each of the eight middle slices of the planning image."""
    image, start = slices[0], len(slices) // 2 - 4
    along_row, along_column = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
    between_rows, between_columns = (float(spacing) for spacing in image.PixelSpacing)
    middle = along_row * between_columns * image.Columns / 2 + along_column * between_rows * image.Rows / 2
    contours = []
    for each in slices[start : start + 8]:
        centre = np.array(each.ImagePositionPatient, dtype=float) + middle
        square = [centre + 15 * (a * along_row + b * along_column) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        data = [float(round(value, 3)) for corner in square for value in corner]
        contours.append(item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=4, ContourData=data))
    frame = image.FrameOfReferenceUID
    study = item(ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1", ReferencedSOPInstanceUID=image.StudyInstanceUID)
    study.RTReferencedSeriesSequence = [item(SeriesInstanceUID=image.SeriesInstanceUID)]
    return rtstruct(
        f"structures of {name}",
        PatientID=name,
        StudyDate=image.StudyDate,
        StudyInstanceUID=image.StudyInstanceUID,
        FrameOfReferenceUID=frame,
        ReferencedFrameOfReferenceSequence=[item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[study])],
        StructureSetROISequence=[
            item(ROINumber=number, ReferencedFrameOfReferenceUID=frame, ROIName=roi)
            for number, roi in ((1, "FU_2_CE"), (2, "FU_2_FLAIR"))
        ],
        ROIContourSequence=[item(ReferencedROINumber=number, ContourSequence=contours) for number in (1, 2)],
    )


def run_all(source: str, home: Path) -> dict[str, str]:
    """Ingest, verify, preprocess and train; what was printed by stage."""
    delivery, cohort, cases = home / "delivery", home / "cohort", home / "cases"
    delivery.mkdir(parents=True)
    labels = SOURCES[source].write(delivery)
    paths = [f"source={source}", f"delivery={delivery}", f"labels={labels}", f"out={cohort}", "jobs=1"]
    refused = source == "ucsd_ptgbm"  # of one case the MRI has 0 bytes
    said = {"ingest": stage("ingest", *paths, *SOURCES[source].keys, code=4 if refused else 0)}
    said["verify"] = stage("verify", f"cohort={cohort}", f"out={home / 'verify'}", "jobs=1")
    if source == "burdenko":
        use_true_brain_masks(cohort, home)
    brain = "brain=mask" if source == "burdenko" else "brain=none"
    folders = [f"cohort={cohort}", f"cases={cases}", f"bids={home / 'derivatives'}"]
    said["preprocess"] = stage("preprocess", *folders, brain, *COARSE)
    keys = ["experiment=smoke", f"+modalities={SOURCES[source].modalities}", "fold=0"]
    said["train"] = stage("train", f"cases={cases}", f"run={home / 'run'}", *keys)
    return said


def truth_of(home: Path, number: int) -> Path:
    return home / "truth" / f"{number:03d}_brain.nii.gz"


def use_true_brain_masks(cohort: Path, home: Path) -> None:
    """Fill the brain_mask column with the phantoms' truth."""
    shutil.copytree(home / "truth", cohort / "truth")
    with (cohort / "cohort.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows):  # three follow-ups a patient
        row["brain_mask"] = f"truth/{truth_of(home, number // 3 + 1).name}"
    with (cohort / "cohort.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def stage(name: str, *arguments: str, code: int = 0) -> str:
    result = commands.run([sys.executable, "-m", f"ricenet.{name}", *arguments])
    assert result.returncode == code, f"{name}: {result.stdout[-1000:]}{result.stderr[-3000:]}"
    return result.stdout + result.stderr


@pytest.mark.parametrize("source", ["lumiere", "cfb_gbm", "ucsd_ptgbm", "bids", "burdenko"])
def test_a_fake_download_becomes_a_trained_network(source: str, tmp_path: Path) -> None:
    home, expected = tmp_path / source, SOURCES[source]
    said = run_all(source, home)
    table = read_cases(home / "cases")
    records = [read_case_record(home / "cases", case) for case in table]
    assert len(table) == expected.cases
    assert {record.channels for record in records} == {expected.channels}
    assert len(list((home / "run").rglob("DONE"))) == 1
    # A ball of 16 mm has 17.2 ml, give or take a tenth at 5 mm; a square of 30 mm on 8 planes of 6.75 mm has 48.6.
    volumes = [record.structures["lesion"].ml for record in records]
    low, high = (15.0, 19.5) if source != "burdenko" else (46.0, 51.0)
    assert all(low < ml < high for ml in volumes), volumes
    frame = "planning" if source == "burdenko" else "event"
    assert {record.structures["lesion"].frame_of for record in records} == {frame}
    images = list((home / "derivatives").glob("sub-*/ses-*/anat/*_T1w.nii.gz"))
    assert len(images) == expected.cases * len({"post", "event"} & {*expected.channels})
    assert_no_identifier(home, said)
    expected.check(home, said)


def assert_no_identifier(home: Path, said: dict[str, str]) -> None:
    names = ("Patient-0", "UCSD-PTGBM-0", "Burdenko-GBM-0", "sub-01", "CFB-GBM/0", str(home / "delivery"))
    texts = [
        path for folder in ("cohort", "cases") for end in ("json", "csv") for path in (home / folder).rglob(f"*.{end}")
    ]
    for path in texts:
        assert not [each for each in names if each in path.read_text()], path.name
    assert not [each for each in names for text in said.values() if each in text]


def excluded(home: Path) -> list[str]:
    with (home / "cohort/cohort.csv").open(newline="") as stream:
        return [row["excluded_because"] for row in csv.DictReader(stream) if row["excluded_because"]]


def check_lumiere(home: Path, said: dict[str, str]) -> None:
    """The lesion is the label map's label 2, voxel by voxel; on the grid of CT1 there is nothing to say about it."""
    case = read_cohort(home / "cohort")[0]
    assert case.lesion is not None
    delivered = home / "delivery/Imaging/Patient-001/week-044/HD-GLIO-AUTO-segmentation/registered/segmentation.nii.gz"
    np.testing.assert_array_equal(read_volume(case.lesion).voxels, read_volume(delivered).voxels == 2)
    assert CaseIngestRecord.read(home / "cohort" / case.key / "ingest.json").flags == []
    assert excluded(home) == ["not rated"]


def check_cfb_gbm(home: Path, said: dict[str, str]) -> None:
    covariates = read_covariates(home / "cases", [case.case_key for case in read_cases(home / "cases")])
    assert covariates is not None
    assert sorted(covariates.numbers["days_since_rt"].values()) == [63, 70, 140, 161]
    assert sorted(covariates.numbers["age_years"].values()) == [61, 62, 72, 75]
    assert set(covariates.subgroups["lesion_source"].values()) == {"A", "B"}
    assert "survival_weeks" not in covariates.subgroups
    flags = [f"lesion: the cohort's GTV, {source}" for source in ("generated", "human")]
    assert [said["ingest"].count(flag) for flag in flags] == [2, 2]
    assert [(home / "cases/qc.html").read_text().count(flag.replace("'", "&#39;")) for flag in flags] == [4, 4]
    assert said["verify"].count("case.flagged") == 1
    assert {case.label_source for case in read_cohort(home / "cohort")} == {"volume rule, +40%"}


def check_ucsd_ptgbm(home: Path, said: dict[str, str]) -> None:
    """The empty file is refused by name; the others come in, two time points of a patient under one pseudonym."""
    assert "1 of 6 cases were refused" in said["ingest"]
    assert "event image: expected a NIfTI file, got one of 0 bytes" in said["ingest"]
    assert excluded(home) == ["ingest: file.damaged"]
    sources = [case.label_source for case in read_cohort(home / "cohort") if case.label == 1]
    assert sorted(sources) == ["imaging and clinical course", "pathology", "pathology"]
    assert len({case.patient_key for case in read_cases(home / "cases")}) == 4


def check_bids(home: Path, said: dict[str, str]) -> None:
    for case in read_cohort(home / "cohort"):
        assert (case.extra["post_day"], case.extra["event_day"]) == ("0", "184")


def check_burdenko(home: Path, said: dict[str, str]) -> None:
    """Distant progressions and what is rated again are excluded, each with its reason."""
    assert Counter(excluded(home)) == {
        "distant progression, outside the irradiated field": 4,
        "a later event of the patient with this label (events=first_of_each_label)": 4,
    }


OWN_LABELS = [
    "~source.columns.label_t1", "~source.columns.label_t2", "+source.columns.label=reading",
    "+source.label_map.RICE=rice",
]  # fmt: skip
LUMIERE_KEYS = ["source.columns.label=reading", "+source.label_map.RN=rice"]
WHOLE = ("post", "event", "rd")
SOURCES = {
    "lumiere": Source(lumiere, LUMIERE_KEYS, ("post", "event"), "post_event", 4, check_lumiere),
    "cfb_gbm": Source(cfb_gbm, OWN_LABELS, WHOLE, "rd_event", 4, check_cfb_gbm),
    "ucsd_ptgbm": Source(ucsd_ptgbm, [], ("event",), "event", 5, check_ucsd_ptgbm),
    "bids": Source(bids, [], WHOLE, "rd_post_event", 4, check_bids),
    "burdenko": Source(burdenko, [], WHOLE, "rd_event", 4, check_burdenko),
}
