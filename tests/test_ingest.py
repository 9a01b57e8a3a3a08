"""A delivery becomes a cohort: the right series and doses, broken patients named, nothing twice, no word of headers."""

import csv
import gzip
import json
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers import commands
from helpers.analytic_patient import write_patient
from helpers.dicom_objects import save, without_part10
from helpers.nifti_twin import write_twin

from ricenet import ingest as module
from ricenet.cohort.ingest_record import CaseColumns, CaseIngestRecord, UnusedRecord
from ricenet.cohort.label_table import LabelRow, read_labels
from ricenet.cohort.table import read_cohort
from ricenet.images.volume import read_volume
from ricenet.phantom import write_phantom
from ricenet.prediction.new_patient import read_intake_settings

PATIENTS, SPACING_MM, SEED = 3, 4.5, 5
ROLES = ("post", "event", "rd", "planning")


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three phantoms as DICOM, and labels.csv. Read only."""
    out = tmp_path_factory.mktemp("hospital") / "phantoms"
    write(out, PATIENTS)
    return out


def write(out: Path, patients: int) -> None:
    keys = {"patients": patients, "format": "dicom", "spacing_mm": SPACING_MM, "seed": SEED}
    write_phantom(out, jobs=1, size=0, case_spacing_mm=0, folds=0, swap_label_effects=False, **keys)


@pytest.fixture
def own(delivered: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(delivered, tmp_path / "own")


def run(home: Path, out: Path, *keys: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable, "-m", "ricenet.ingest", f"delivery={home / 'dicom'}", f"labels={home / 'labels.csv'}",
        f"out={out}", "jobs=1", *keys,
    ]  # fmt: skip
    return commands.run(command)


@pytest.fixture(scope="module")
def done(delivered, tmp_path_factory):
    out = tmp_path_factory.mktemp("cohort") / "c"
    return out, run(delivered, out)


def table(out: Path) -> list[dict[str, str]]:
    with (out / "cohort.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def records(out: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("c*/ingest.json"))]


def edit_labels(home: Path, change) -> None:
    with (home / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows = change(rows) or rows
    with (home / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)


def objects(home: Path, patient: str, modality: str, description: str = "") -> list[Path]:
    """A patient's files of one kind, and with this word in the description; images in slice order."""
    found = []
    for path in (home / "dicom" / patient).rglob("*"):
        if path.is_file():
            header = pydicom.dcmread(path, stop_before_pixels=True)
            if header.Modality == modality and description in header.SeriesDescription:
                found.append((int(header.get("InstanceNumber") or 0), path))
    return [path for _, path in sorted(found)]


def rewrite(path: Path, **elements) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def test_the_cohort_holds_what_the_same_patients_hold_as_nifti(done, tmp_path):
    out, result = done
    assert result.returncode == 0, result.stderr
    write_twin(tmp_path / "twin", PATIENTS, SEED, SPACING_MM)
    pairs = list(zip(read_cohort(out), read_cohort(tmp_path / "twin"), strict=True))  # rows in the table's order
    for ours, twin in pairs:
        assert (ours.label, ours.split, ours.prescription_gy, ours.fractions) == (
            twin.label, twin.split, twin.prescription_gy, twin.fractions,
        )  # fmt: skip
        for role in ROLES:
            paths = [case.planning if role == "planning" else case.images[role] for case in (ours, twin)]
            assert None not in paths
            mine, theirs = (read_volume(path) for path in paths if path)
            np.testing.assert_allclose(mine.world_from_voxel, theirs.world_from_voxel, atol=2e-3)
            np.testing.assert_allclose(mine.voxels, theirs.voxels, atol=1e-3 * float(theirs.voxels.max()))


def test_the_record_says_what_was_chosen_and_what_there_was(done):
    out, _ = done
    for record in records(out):
        assert {role: image["reason"].split(": ")[1] for role, image in record["images"].items()} == {
            "post": "before radiotherapy", "event": "event date", "planning": "same frame",
        }  # fmt: skip
        assert len(record["series"]) == 5
        assert [one["series"] for one in record["series"] if one["in_the_frame_of_the_dose"]] == [
            record["images"]["planning"]["series"]
        ]
        assert record["dose"]["lies_in_the_frame_of"] == "planning"
        assert [used["summation"] for used in record["dose"]["used"]] == ["PLAN"]
        assert record["dose"]["rejected"] == []
        assert record["columns"]["post_day"] == -21
        assert 120 < record["columns"]["event_day"] < 400


def test_the_manifest_is_one_that_sha256sum_accepts(done):
    out, _ = done
    lines = (out / "manifest.sha256").read_text().splitlines()
    assert len(lines) == PATIENTS * len(ROLES)
    checked = subprocess.run(
        ["sha256sum", "--quiet", "-c", "manifest.sha256"], cwd=out, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_nothing_of_a_header_a_name_or_a_date_is_written(delivered, done):
    out, result = done
    years = {header[:4] for row in csv.DictReader((delivered / "labels.csv").open()) for header in [row["event_date"]]}
    secrets = ["PHANTOM", "mprage", "Gadobutrol", "ricenet\0", "1.2.826", str(delivered), *(f"{y}-" for y in years)]
    for path in out.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            assert not [secret for secret in secrets if secret.encode() in content], path.name
    assert not [secret for secret in secrets if secret in result.stdout + result.stderr]
    key = delivered / "labels.csv.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_bytes() != (out / "cohort.key").read_bytes()


def test_a_second_run_does_only_what_changed_and_gives_the_same_names(delivered, done, own, tmp_path):
    out, _ = done
    again = run(delivered, out)
    assert again.returncode == 0
    assert "3 cases: 0 to do, 3 finished before" in again.stdout + again.stderr
    shutil.copy(delivered / "labels.csv.key", own / "labels.csv.key")
    mine = tmp_path / "mine"
    assert run(own, mine).returncode == 0
    assert table(mine) == table(out)
    assert (mine / "manifest.sha256").read_bytes() == (out / "manifest.sha256").read_bytes()
    (slice_path, *_) = objects(own, "PHANTOM-002", "MR", "t1_mpr_KM")
    rewrite(slice_path, SeriesNumber=99)
    changed = run(own, mine)
    assert "3 cases: 1 to do, 2 finished before" in changed.stdout + changed.stderr


def lose_a_slice(home: Path, patient: str) -> None:
    objects(home, patient, "MR", "t1_mprage_Gd")[9].unlink()


def move_the_dose(home: Path, patient: str) -> None:
    (path,) = objects(home, patient, "RTDOSE")
    rewrite(path, FrameOfReferenceUID="1.2.3.4")


def scan_twice(home: Path, patient: str = "PHANTOM-001") -> None:
    for path in objects(home, patient, "MR", "t1_mpr_KM"):
        twin = path.with_name(path.name + "x")
        shutil.copy(path, twin)
        uid = str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)[:50] + ".7"
        rewrite(twin, SeriesInstanceUID="1.2.9", SOPInstanceUID=uid)


def relative_dose(home: Path, patient: str) -> None:
    (path,) = objects(home, patient, "RTDOSE")
    rewrite(path, DoseUnits="RELATIVE")


def in_cgy(home: Path, patient: str) -> None:
    (path,) = objects(home, patient, "RTDOSE")
    rewrite(path, DoseGridScaling=pydicom.dcmread(path).DoseGridScaling * 100)


def no_dose(home: Path, patient: str) -> None:
    for path in objects(home, patient, "RTDOSE"):
        path.unlink()


def nobody(home: Path, patient: str) -> None:
    shutil.rmtree(home / "dicom" / patient)


BROKEN = {
    "series.gap": (lose_a_slice, "1 missing between them"),
    "dose.frame": (move_the_dose, "no image of the delivery lies in the dose's frame of reference"),
    "role.ambiguous": (scan_twice, "event: 2 series fit equally"),
    "rtdose.units": (relative_dose, "RELATIVE"),
    "dose.cgy": (in_cgy, "is it in cGy?"),
    "dose.missing": (no_dose, "expected a radiotherapy dose, got none"),
    "patient.missing": (nobody, "holds no DICOM file of this patient"),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Eight patients in one delivery, seven of them broken in seven ways."""
    home = tmp_path_factory.mktemp("hospital") / "broken"
    write(home, len(BROKEN) + 1)
    for number, (damage, _) in enumerate(BROKEN.values(), start=1):
        damage(home, f"PHANTOM-{number:03d}")
    out = tmp_path_factory.mktemp("broken") / "out"
    return out, run(home, out, "jobs=2")


@pytest.mark.parametrize("code", BROKEN)
def test_a_broken_patient_is_refused_by_name(broken, code):
    out, result = broken
    (line,) = (line for line in result.stderr.splitlines() if f"[{code}] case c" in line)
    assert BROKEN[code][1] in line
    row = 2 + list(BROKEN).index(code)
    assert f"(row {row} of the label table)" in line
    assert table(out)[row - 2]["excluded_because"] == f"ingest: {code}"


def test_the_others_are_in(broken):
    out, result = broken
    assert result.returncode == 4
    assert "7 of 8 cases were refused" in result.stderr
    assert "PHANTOM" not in result.stderr + result.stdout
    assert "Traceback" not in result.stderr
    assert len(read_cohort(out)) == 1
    assert json.loads((out / "ingest.json").read_text())["excluded"] == {f"ingest: {code}": 1 for code in BROKEN}


KEYS = module.Keys(b"0" * 32)


def with_patient_id(home: Path, patient: str, patient_id: str, *kinds: str) -> None:
    """Give a patient's RT objects, and files of other `kinds`, another PatientID."""
    for kind in ("RTDOSE", "RTPLAN", *kinds):
        for path in objects(home, patient, kind):
            rewrite(path, PatientID=patient_id)


def find_tasks(home: Path) -> tuple[list[module.Task], UnusedRecord]:
    return module._find(home / "dicom", read_labels(home / "labels.csv", {}, {}, ["site"]), "dicom", KEYS)


def taken_in(home: Path, out: Path, number: int) -> CaseIngestRecord:
    """The record of the case in the label table's line `number` (1 is the first), ingested in this process."""
    out.mkdir(exist_ok=True)
    task = find_tasks(home)[0][number - 1]
    return module.take_in(task, "digest", out, read_intake_settings(None, dose=True), KEYS)


@pytest.fixture(scope="module")
def intact(delivered, tmp_path_factory) -> list[CaseIngestRecord]:
    return [taken_in(delivered, tmp_path_factory.mktemp("intact") / "out", number) for number in (1, 2)]


@pytest.mark.parametrize(
    ("patient_id", "kinds", "rows"),
    [("PHANTOM-002_RT", (), [3]), ("PHANTOM-002_RT", ("CT",), [3]), ("Z9", (), [3]), ("PHANTOM", (), [2, 3, 4])],
)
def test_rt_objects_under_another_patient_id(own, tmp_path, intact, patient_id, kinds, rows):
    """Named with the row that they resemble, by id, study or frame; the column that the message names lets them in."""
    with_patient_id(own, "PHANTOM-002", patient_id, *kinds)
    assert taken_in(own, tmp_path / "out", 2).problem.code == "dose.missing"
    _, unused = find_tasks(own)
    (record,) = unused.rt_objects_without_a_label
    assert (record.doses, record.plans, record.structures, record.rows) == (1, 1, 0, rows)
    assert unused.patients_without_a_label == 1
    (sentence,) = module._left_over(unused)
    assert f"of patients without a label: {record.patient} (of row {', '.join(map(str, rows))}?)" in sentence
    assert "rt_patient_id" in sentence
    assert patient_id not in sentence + record.model_dump_json()
    edit_labels(own, lambda table: table[1].update(rt_patient_id=patient_id))
    after = taken_in(own, tmp_path / "out", 2)
    assert (after.problem, after.sha256) == (None, intact[1].sha256)
    _, unused = find_tasks(own)
    assert (unused.patients_without_a_label, module._left_over(unused)) == (0, [])


def test_a_partial_cohort_takes_no_dose_for_missing_that_may_lie_under_another_id(own, tmp_path):
    """Asked about until the label table says whose the RT objects are: another's, for whom the own id stands."""
    with_patient_id(own, "PHANTOM-002", "PHANTOM-002_RT")
    edit_labels(own, lambda table: [row.update(radiotherapy_start="2019-06-01") for row in table] and None)
    settings = read_intake_settings(None, dose=True, partial=True)

    def second() -> tuple[module.Task, CaseIngestRecord]:
        tasks, unused = find_tasks(own)
        before, *tasks = (module._as_asked(task, settings, unused) for task in tasks)
        assert not before.rt_in_doubt
        (tmp_path / "out").mkdir(exist_ok=True)
        return tasks[0], module.take_in(tasks[0], "digest", tmp_path / "out", settings, KEYS)

    task, record = second()
    assert (task.rt_in_doubt, record.problem.code) == (True, "dose.missing")
    assert "rt_patient_id" in record.problem.hint
    digest = module._digest(task, settings, KEYS)
    assert digest != module._digest(replace(task, rt_in_doubt=False), settings, KEYS)
    edit_labels(own, lambda table: table[1].update(rt_patient_id="PHANTOM-002"))
    task, record = second()
    assert not task.rt_in_doubt
    assert record.problem is None or record.problem.code != "dose.missing"


def test_a_planning_image_alone_under_another_patient_id(own, tmp_path, intact):
    for path in objects(own, "PHANTOM-002", "CT"):
        rewrite(path, PatientID="Z9")
    assert taken_in(own, tmp_path / "out", 2).problem.code == "dose.frame"
    (record,) = find_tasks(own)[1].rt_objects_without_a_label
    assert (record.doses, record.series, record.rows) == (0, 1, [3])
    (sentence,) = module._left_over(find_tasks(own)[1])
    assert f": {record.patient} (images alone, in the frame of row 3). If" in sentence
    edit_labels(own, lambda table: table[1].update(rt_patient_id="Z9"))
    assert taken_in(own, tmp_path / "out", 2).sha256 == intact[1].sha256


def test_a_uid_that_all_patients_share_tells_nothing(own):
    """Some anonymisers write one for all."""
    with_patient_id(own, "PHANTOM-003", "Z9")
    scans = [path for number in (1, 2, 3) for path in objects(own, f"PHANTOM-00{number}", "MR")[::40]]
    treatment = [path for kind in ("RTDOSE", "RTPLAN") for path in objects(own, "PHANTOM-003", kind)]
    for path in (*scans, *treatment):
        rewrite(path, StudyInstanceUID="1.2.9")
    assert find_tasks(own)[1].rt_objects_without_a_label[0].rows == [4], "by its frame"
    for path in (*scans, *treatment):
        rewrite(path, FrameOfReferenceUID="1.3.9")
    assert find_tasks(own)[1].rt_objects_without_a_label[0].rows == []


def test_rt_objects_that_resemble_no_row_come_last(own):
    for number, patient_id in ((1, "Z1"), (2, "PHANTOM-003-RT")):
        with_patient_id(own, f"PHANTOM-00{number}", patient_id)
        for kind in ("RTDOSE", "RTPLAN"):
            (path,) = objects(own, f"PHANTOM-00{number}", kind)
            rewrite(path, StudyInstanceUID=f"1.2.{number}", FrameOfReferenceUID=f"1.3.{number}")
    assert [record.rows for record in find_tasks(own)[1].rt_objects_without_a_label] == [[4], []]


def test_a_patient_id_of_rt_objects_that_nobody_has(own, tmp_path):
    edit_labels(own, lambda rows: rows[0].update(rt_patient_id="PHANTOM-001 RT"))
    problem = taken_in(own, tmp_path / "out", 1).problem
    assert problem.code == "patient.rt_missing"
    assert "row 2 of the label table" in problem.message
    assert "PHANTOM" not in problem.message + problem.hint


def test_rt_objects_without_a_patient_id(own, tmp_path, intact):
    with_patient_id(own, "PHANTOM-001", "")
    assert taken_in(own, tmp_path / "out", 1).sha256 == intact[0].sha256
    _, unused = find_tasks(own)
    assert unused.rt_objects_given_to_a_patient == 2
    (sentence,) = module._left_over(unused)
    assert sentence.startswith("2 RT objects have no PatientID; each went to the only patient")


@pytest.mark.parametrize(("number", "syntax"), [(1, "implicit"), (2, "implicit"), (2, "big-endian")])
def test_a_patient_of_a_planning_system_that_writes_no_preamble(own, tmp_path, intact, number, syntax):
    """Monaco's: dose, plan and planning CT, and an MRI that went through it."""
    patient = f"PHANTOM-00{number}"
    for path in [path for kind in ("RTDOSE", "RTPLAN", "CT", "MR") for path in objects(own, patient, kind)]:
        without_part10(save(pydicom.dcmread(path), path, syntax), "bare")
    assert taken_in(own, tmp_path / "out", number).sha256 == intact[number - 1].sha256


def test_a_planning_image_with_uneven_slices_comes_in_with_a_flag(own, tmp_path, intact):
    for path in objects(own, "PHANTOM-002", "CT")[-4:]:
        x_mm, y_mm, z_mm = pydicom.dcmread(path).ImagePositionPatient
        rewrite(path, ImagePositionPatient=[x_mm, y_mm, z_mm + 1])
    record = taken_in(own, tmp_path / "out", 2)
    assert record.problem is None
    flags = [flag for flag in record.dose.flags if flag not in intact[1].dose.flags]
    assert [flag.split(",")[0] for flag in flags] == ["planning: slices 6.75-7.75 mm apart"]
    changed = {name for name, sha in record.sha256.items() if intact[1].sha256[name] != sha}
    assert changed == {"planning.nii.gz"}


def test_what_could_not_be_used_is_said_on_the_terminal_and_in_the_record(own, tmp_path):
    with_patient_id(own, "PHANTOM-003", "PHANTOM-003_RT")
    for number, name in enumerate(("a.dcm", "b.DCM.gz")):
        (own / "dicom" / name).write_bytes(bytes([31, 139, number] * 99))
    edit_labels(own, lambda rows: rows[:1])
    result = run(own, tmp_path / "out")
    assert result.returncode == 0, result.stderr
    unused = json.loads((tmp_path / "out" / "ingest.json").read_text())["delivery"]
    assert unused["files_not_used"] == {"looks like DICOM but cannot be read": 2}
    # Two patients are without a label; the one whose objects have an id of their own resembles no row.
    rt_objects = unused["rt_objects_without_a_label"]
    assert [record["rows"] for record in rt_objects] == [[], []]
    assert "files of the delivery that could not be used: 2 (looks like DICOM but cannot be read)" in result.stdout
    assert (
        f"RT objects of patients without a label: {rt_objects[0]['patient']}, {rt_objects[1]['patient']}."
        in result.stdout
    )
    assert "PHANTOM" not in result.stdout + result.stderr


def test_an_ambiguity_is_resolved_by_a_mark_in_choose_csv_or_the_label_table(own, tmp_path):
    scan_twice(own)
    out = tmp_path / "out"
    refused = run(own, out, "descriptions=true")
    assert refused.returncode == 4
    assert (
        "1 roles are left to you: mark one series of each with x in the column chosen of choose.csv" in refused.stderr
    )
    assert "t1_mpr" not in refused.stdout + refused.stderr
    path = out / "choose.csv"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert [line.split(",")[2] for line in lines[1:]] == ["event", "event"]
    assert all("t1_mpr_KM" in line for line in lines[1:])
    path.write_text("\n".join([lines[0], lines[1], lines[2] + "x"]))
    assert run(own, out).returncode == 0
    (chosen,) = (images for record in records(out) if (images := record["images"]["event"])["reason"].startswith("mar"))
    assert (chosen["series"], chosen["reason"]) == (lines[2].split(",")[3], "marked in choose.csv")
    kept = path.read_text().splitlines()
    assert kept[2].endswith(",x")
    assert "t1_mpr" not in path.read_text()
    path.write_text("\n".join([kept[0], kept[1] + "x", kept[2]]))
    wrong = run(own, out)
    assert wrong.returncode == 3
    assert "rows 2, 3, column chosen: 2 series are marked" in wrong.stderr
    path.write_text("\n".join(kept))
    edit_labels(own, lambda rows: rows[0].update(event_series=kept[1].split(",")[3]))
    assert run(own, out).returncode == 0
    reasons = [record["images"]["event"]["reason"] for record in records(out)]
    assert "named as event_series" in reasons
    assert "marked in choose.csv" not in reasons


def test_without_doses_the_cohort_is_one_of_mri(own, tmp_path):
    for number in range(1, PATIENTS + 1):
        no_dose(own, f"PHANTOM-{number:03d}")
    assert run(own, tmp_path / "out", "dose=false").returncode == 0
    cases = read_cohort(tmp_path / "out")
    assert [set(case.images) for case in cases] == [{"post", "event"}] * PATIENTS


def test_excluded_rows_stay_in_the_table_and_unknown_patients_are_counted(own, tmp_path):
    def change(rows: list[dict]) -> list[dict]:
        return [
            {**rows[0], "site": "", "excluded_because": "no consent"},
            {**rows[1], "site": "east", "note": "PHANTOM"},
        ]

    assert run(own, tmp_path / "out").returncode == 0
    assert len(records(tmp_path / "out")) == PATIENTS
    edit_labels(own, change)
    cut = run(own, tmp_path / "out")
    assert cut.returncode == 0
    assert "the label table no longer lists: 1, kept beside the cohort; prune=true removes them" in cut.stdout
    assert len(records(tmp_path / "out")) == 2, "who withdraws leaves the folder too; a row may be missing by mistake"
    assert "removed 1 case folders" in run(own, tmp_path / "out", "prune=true").stdout
    assert len(records(tmp_path / "out")) == 1
    rows = table(tmp_path / "out")
    assert [(row["excluded_because"], row["site"]) for row in rows] == [("no consent", ""), ("", "east")]
    assert "note" not in rows[0]
    summary = json.loads((tmp_path / "out" / "ingest.json").read_text())
    assert summary["delivery"]["patients_without_a_label"] == 1
    assert (summary["cases"], summary["ready"]) == (2, 1)


def state(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_a_delivery_whose_drive_is_not_mounted_costs_no_case(own, tmp_path):
    out = tmp_path / "out"
    assert run(own, out).returncode == 0
    before = state(out)
    (own / "dicom").rename(own / "away")
    (own / "dicom").mkdir()
    for content in (None, "notes.txt"):
        if content:
            (own / "dicom" / content).write_text("remember to mount the drive")
        refused = run(own, out)
        assert refused.returncode == 3
        assert "no file that can be used" in refused.stderr
        assert state(out) == before
    assert run(own, tmp_path / "new").returncode == 3
    assert not (tmp_path / "new").exists()


def test_a_case_that_fails_later_keeps_its_images_beside_the_refusal(own, tmp_path):
    out = tmp_path / "out"
    assert run(own, out).returncode == 0
    before = state(out)
    first = min((own / "dicom").iterdir())
    first.rename(own / "away")
    partly = run(own, out)
    assert partly.returncode == 4
    assert "<case>-refused.json" in partly.stderr
    (refusal,) = out.glob("c*-refused.json")
    assert CaseIngestRecord.read(refusal).problem is not None
    assert sum(bool(row["excluded_because"]) for row in table(out)) == 1
    images = {name: content for name, content in before.items() if name.endswith(".nii.gz")}
    assert {name: state(out)[name] for name in images} == images
    (own / "away").rename(first)
    again = run(own, out)
    assert again.returncode == 0
    assert "0 to do" in again.stdout
    assert state(out) == before


@pytest.mark.process
def test_a_crash_says_nothing_of_a_patient(own, tmp_path, monkeypatch, capfd):
    """An exception that nobody foresaw: its text would have shown the folder of a patient."""
    out = tmp_path / "PHANTOM-001"
    (out / ".lock").mkdir(parents=True)
    labels = f"labels={own / 'PHANTOM-001-labels.csv'}"
    (own / "PHANTOM-001-labels.csv").write_text((own / "labels.csv").read_text())
    monkeypatch.setattr(sys, "argv", ["ingest", f"delivery={own / 'dicom'}", labels, f"out={out}"])
    with pytest.raises(SystemExit) as stop:
        module.main()
    assert stop.value.code == 1
    stderr = capfd.readouterr().err
    assert "ingest crashed: IsADirectoryError" in stderr
    assert "PHANTOM" not in stderr


WRONG_RULE = "{role: rd, modality: MR, matches: x, contrast: null, when: post_date, min_slices: 1, max_spacing_mm: 1}"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (["source=dicm"], "dicm"),
        (["jobs=0"], "jobs"),
        (["test_share=1"], "test_share"),
        (["never='('"], "never"),
        (["colour=red"], "colour"),
        ([f"rules=[{WRONG_RULE}]"], "rules[0]"),
    ],
)  # fmt: skip
def test_wrong_keys_are_a_usage_error(delivered, tmp_path, keys, says):
    result = run(delivered, tmp_path / "out", *keys)
    assert result.returncode == 2, result.stderr
    assert says in result.stderr
    assert not (tmp_path / "out").exists()


def test_no_delivery_is_invalid_input(delivered, tmp_path):
    result = run(delivered, tmp_path / "out", f"delivery={tmp_path / 'absent'}")
    assert result.returncode == 3
    assert not (tmp_path / "out").exists()


def test_a_public_cohort_of_nifti(tmp_path):
    """LUMIERE's layout with real images in it: header text goes, voxels stay."""
    write_patient(tmp_path, "a", 0)
    home = tmp_path / "lumiere"
    for week, role in (("week-000", "post"), ("week-044", "event")):
        folder = home / "Imaging" / "Patient-001" / week
        folder.mkdir(parents=True)
        shutil.copy(tmp_path / "a" / f"{role}.nii.gz", folder / "CT1.nii.gz")
    header = "Patient,Date,LessThan3M,NonMeasurableLesions,Rating (according to RANO),Rating rationale (x)\n"
    rows = "Patient-001,week-000,,,Post-Op,\nPatient-001,week-044,,,PD,\n"
    (home / "LUMIERE-ExpertRating-v202211.csv").write_text(header + rows)
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "ricenet.ingest", "source=lumiere", "dose=false", f"delivery={home}",
        f"labels={home / 'LUMIERE-ExpertRating-v202211.csv'}", f"out={out}", "jobs=1",
    ]  # fmt: skip
    result = commands.run(command)
    assert result.returncode == 0, result.stderr
    (case,) = read_cohort(out)
    assert case.extra["event_day"] == "308"
    for role, path in case.images.items():
        original = read_volume(tmp_path / "a" / f"{role}.nii.gz")
        np.testing.assert_array_equal(read_volume(path).voxels, original.voxels)
    assert "Patient-001" not in (out / "cohort.csv").read_text()
    rated = [row["excluded_because"] for row in table(out)]
    assert rated == ["rating Post-Op is no event of this study", ""]


@pytest.mark.parametrize("content", ["", "{}", '{"version": 1, "case": "c1", "digest": "d", "mustermann": 1}'])
def test_a_damaged_record_is_no_finished_case(tmp_path, content):
    (tmp_path / "ingest.json").write_text(content)
    assert module._finished(tmp_path, "d") is None
    (tmp_path / "ingest.json").write_text('{"version": 1, "case": "c1", "digest": "d", "sha256": {}}')
    assert module._finished(tmp_path, "d") is not None
    assert module._finished(tmp_path, "another") is None


def test_the_structure_of_the_events_follow_up_is_its_lesion():
    """FU_3_CE for the event fup3; where it was not drawn there is none."""
    label = LabelRow(2, "MUSTER", "fup3", "rice")
    task = module.Task(label, "p1", "e1", "c1")
    files = {"post.nii.gz": "0", "structures/FU_3_CE.nii.gz": "1", "structures/FU_1_CE.nii.gz": "2"}
    columns = CaseColumns(fractions=30, prescription_gy=60.0)
    record = CaseIngestRecord(version=3, case="c1", digest="d", columns=columns, sha256=files)
    assert module._row(task, record, [], "FU_*_CE")["lesion"] == "c1/structures/FU_3_CE.nii.gz"
    assert "lesion" not in module._row(task, record, [], "FU_*_FLAIR")
    assert "lesion" not in module._row(task, record, [])
    assert "lesion_mm" not in module._row(task, record, [])
    placed = module.Task(LabelRow(2, "MUSTER", "fup3", "rice", lesion_mm="1 2 3"), "p1", "e1", "c1")
    assert module._row(placed, record, [])["lesion_mm"] == "1 2 3"
    numbered = module.Task(LabelRow(2, "MUSTER", "e1", "rice"), "p1", "e1", "c1")  # of a table of one's own
    assert "lesion" not in module._row(numbered, record, [], "FU_*_CE")
