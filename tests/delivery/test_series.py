"""A delivery in any layout: whose files they are, copies, and what is of no use; no patient is named."""

import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom_objects import rtdose, rtplan, rtstruct, save, uid, without_part10
from helpers.written_series import HEADERS, SECRET, affine, assert_equal, change, series_in, voxels, write
from pydicom.data import get_testdata_file
from pydicom.uid import (
    RLELossless,
)

from ricenet.delivery.rtdose import read_dose
from ricenet.delivery.series import PatientFiles, index_delivery, join_patients
from ricenet.phantoms.hospital import write_rtplan


def treatment(folder: Path, *, images: str = "a", rt: str = "a", number: int = 1, **ids: str | None) -> None:
    """A CT of a patient, and dose, plan and structure set; `ids`: other PatientIDs of `dose`, `plan`, `structures`."""
    frame, study = uid(f"frame {number}"), uid(f"study {number}")
    headers = {"SeriesInstanceUID": uid(f"CT {number}"), "FrameOfReferenceUID": frame, "StudyInstanceUID": study}
    if images:
        write(folder / f"{number}", modality="CT", PatientID=images, **headers)
    shared = {"PatientID": rt, "StudyInstanceUID": study}
    name = f"{number}"
    objects = {
        "dose": rtdose(name=f"dose {name}", plans=(f"plan {name}",), **shared | {"FrameOfReferenceUID": frame}),
        "plan": rtplan(f"plan {name}", **shared),
        "structures": rtstruct(f"structures {name}", frame=f"frame {number}", **shared),
    }
    for kind, dataset in objects.items():
        dataset.PatientID = ids.get(kind, rt)
        save(dataset, folder / f"{kind} {number}")


def counts(files: PatientFiles) -> tuple[int, int, int, int]:
    return len(files.series), len(files.doses), len(files.plans), len(files.structures)


def test_rt_objects_without_a_patient_belong_to_whom_they_share_a_study_or_frame_with(tmp_path):
    treatment(tmp_path, images="a", rt="", number=1)
    treatment(tmp_path, images="b", rt="b", number=2)
    delivery = index_delivery(tmp_path)
    assert {patient: counts(files) for patient, files in delivery.patients.items()} == {
        "a": (1, 1, 1, 1),
        "b": (1, 1, 1, 1),
    }
    assert [file.instance_uid for file in delivery.patients["a"].doses] == [uid("dose 1")]
    assert (delivery.skipped, delivery.assigned) == ({}, 3)


def test_a_boost_without_a_preamble_lies_beside_its_primary(tmp_path):
    treatment(tmp_path)
    boost = {"PatientID": "a", "StudyInstanceUID": uid("study 1"), "FrameOfReferenceUID": uid("frame 1")}
    for dataset in (rtdose(name="boost", plans=("boost plan",), **boost), rtplan("boost plan", **boost)):
        without_part10(save(dataset, tmp_path / f"boost {dataset.Modality}", "implicit"), "bare")
    delivery = index_delivery(tmp_path)
    assert counts(delivery.patients["a"]) == (1, 2, 2, 1)
    assert {file.instance_uid for file in delivery.patients["a"].doses} == {uid("dose 1"), uid("boost")}
    assert (delivery.skipped, delivery.assigned) == ({}, 0)


def test_one_object_with_and_without_a_preamble_is_listed_twice(tmp_path):
    """What they hold tells that they are copies, not their bytes (ricenet.delivery.courses)."""
    treatment(tmp_path)
    shutil.copy(tmp_path / "dose 1", tmp_path / "again")
    without_part10(tmp_path / "again", "bare")
    doses = index_delivery(tmp_path).patients["a"].doses
    assert len(doses) == 2
    assert len({read_dose(dose.path).digest for dose in doses}) == 1


def test_a_plan_is_found_by_its_dose(tmp_path):
    """The dose shares the frame of the CT alone, the plan nothing but a reference of the dose."""
    treatment(tmp_path, images="a", rt="")
    for kind, study in (("dose", "export"), ("plan", "other export"), ("structures", "third export")):
        change(tmp_path / f"{kind} 1", StudyInstanceUID=uid(study))
    delivery = index_delivery(tmp_path)
    assert (counts(delivery.patients["a"]), delivery.assigned) == ((1, 1, 1, 1), 3)


def test_rt_objects_that_could_belong_to_two_patients_belong_to_none(tmp_path):
    treatment(tmp_path, images="a", rt="")
    treatment(tmp_path, images="b", rt="b", number=2)
    change(tmp_path / "dose 2", FrameOfReferenceUID=uid("frame 1"))
    delivery = index_delivery(tmp_path)
    assert counts(delivery.patients["a"]) == (1, 0, 1, 0)
    assert delivery.skipped == {"RT objects without PatientID": 2}


def test_rt_objects_of_nobody_are_counted(tmp_path):
    treatment(tmp_path, images="", rt="", number=1)
    treatment(tmp_path, images="b", rt="b", number=2)
    delivery = index_delivery(tmp_path)
    assert list(delivery.patients) == ["b"]
    assert (delivery.skipped, delivery.assigned) == ({"RT objects without PatientID": 3}, 0)


def test_a_patient_delivered_under_two_ids(tmp_path):
    treatment(tmp_path, images="a", rt="a_RT")
    patients = index_delivery(tmp_path).patients
    assert {patient: counts(files) for patient, files in patients.items()} == {"a": (1, 0, 0, 0), "a_RT": (0, 1, 1, 1)}
    assert patients["a"].links & patients["a_RT"].links == {uid("study 1"), uid("frame 1")}
    joined = join_patients([patients["a"], patients["a_RT"]])
    assert counts(joined) == (1, 1, 1, 1)
    assert len(joined.rt_files) == 3
    assert joined.links == patients["a"].links | patients["a_RT"].links


def test_identical_copies_count_once(tmp_path):
    paths = write(tmp_path)
    shutil.copytree(paths[0].parent, tmp_path / "again")
    delivery = index_delivery(tmp_path)
    assert delivery.skipped == {"identical copy": 16}
    assert_equal(delivery.patients[SECRET].series[0], tmp_path, voxels(), affine())


def delivered_again(path: Path, name: str, **elements: object) -> Path:
    """A second file of a slice."""
    again = path.with_name(name)
    shutil.copy(path, again)
    change(again, **elements)
    return again


def test_slices_delivered_twice_with_equal_pixels_count_once(tmp_path):
    """Under their UID in other bytes, or under a new one."""
    paths = write(tmp_path)
    delivered_again(paths[0], "a", InstitutionName=SECRET)
    compressed = pydicom.dcmread(delivered_again(paths[1], "b"))
    compressed.compress(RLELossless, generate_instance_uid=False)
    compressed.save_as(paths[1].with_name("b"))
    for path in paths[2:5]:
        delivered_again(path, f"again {path.name}", SOPInstanceUID=uid(path.name))
    delivery = index_delivery(tmp_path)
    assert delivery.skipped == {"copy with equal pixels": 2}
    (series,) = delivery.patients[SECRET].series
    assert series.remarks == ("slices of the series that were delivered twice with equal pixels: 5",)
    assert_equal(series, tmp_path, voxels(), affine())


@pytest.mark.parametrize(("uids", "code"), [("one", "series.uid_conflict"), ("two", "series.repeated_positions")])
def test_slices_delivered_twice_with_other_pixels_are_refused(tmp_path, uids, code):
    paths = write(tmp_path)
    other = pydicom.dcmread(paths[0]).PixelData[:-2] + b"\1\0"
    delivered_again(paths[0], "a", PixelData=other, **{"SOPInstanceUID": "1.2.3.4"} if uids == "two" else {})
    assert series_in(tmp_path)[0].problem.code == code


def test_what_is_no_image_is_counted(tmp_path):
    paths = write(tmp_path)
    plan = write_rtplan(tmp_path, 30, 60.0, HEADERS | {"SOPInstanceUID": "1.2.3"})
    structures = tmp_path / "rs.dcm"
    shutil.copy(paths[0], structures)
    change(structures, SOPClassUID=pydicom.uid.RTStructureSetStorage)
    private = tmp_path / "private.dcm"
    shutil.copy(paths[0], private)
    change(private, SOPClassUID=f"1.2.276.{1234567}.1")
    (tmp_path / "README.txt").write_text(SECRET)
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "cut.dcm").write_bytes(paths[0].read_bytes()[:200])
    (tmp_path / "noise.dcm").write_bytes(b"\0" * 128 + b"DICM" + np.random.default_rng(0).bytes(3000))
    delivery = index_delivery(tmp_path)
    assert delivery.skipped == {
        "not DICOM": 1,
        "looks like DICOM but cannot be read": 1,
        "damaged": 2,
        "DICOM of an unknown class": 1,
    }
    files = delivery.patients[SECRET]
    assert [file.path for file in (*files.plans, *files.structures)] == [plan, structures]
    assert [file.instance_uid for file in files.plans] == ["1.2.3"]


def test_links_out_of_the_delivery_are_not_followed(tmp_path):
    inside, outside = tmp_path / "delivery", tmp_path / "elsewhere"
    write(inside)
    paths = write(outside, PatientID="other", SeriesInstanceUID="1.2.3.4")
    (inside / "file").symlink_to(paths[0])
    (inside / "folder").symlink_to(outside)
    (inside / "broken").symlink_to(inside / "nothing")
    (inside / "loop").symlink_to(inside / "loop")
    (inside / "home").symlink_to(inside)
    os.mkfifo(inside / "pipe")
    delivery = index_delivery(inside)
    assert list(delivery.patients) == [SECRET]
    assert delivery.skipped == {"link out of the folder": 2, "no regular file": 3}


def test_damaged_patients_leave_the_others_alone(tmp_path):
    """Random bytes over random files: no crash, nothing printed, and whoever was not hit reads as before."""
    write(tmp_path / "a", PatientID="a", SeriesInstanceUID="1.2.3.4")
    paths, rng = write(tmp_path / "b"), np.random.default_rng(3)
    for path in paths:
        content = bytearray(path.read_bytes())
        for position in rng.integers(132, 900, 40):
            content[position] = rng.integers(256)
        path.write_bytes(content)
    series = index_delivery(tmp_path).patients["a"].series
    assert_equal(series[0], tmp_path, voxels(), affine())


def test_file_of_a_real_scanner_that_ends_too_early(tmp_path):
    shutil.copy(get_testdata_file("MR_truncated.dcm", download=False), tmp_path)
    delivery = index_delivery(tmp_path)
    assert delivery.skipped == {"damaged": 1}
    assert [files.damaged for files in delivery.patients.values()] == [1]
