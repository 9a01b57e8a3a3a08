"""One file in, its header or a reason out, whatever its bytes are."""

import datetime
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom_objects import FORMS, item, rtdose, rtplan, rtstruct, save, uid, without_part10
from pydicom.dataset import Dataset

from ricenet.dicom.headers import ANONYMOUS, NOT_DICOM, UNREADABLE, Header, read_header
from ricenet.dicom.part10 import quiet_pydicom
from ricenet.errors import InvalidInput
from ricenet.phantoms.hospital import write_series

SECRET = "SECRETMARKER"
HEADERS = {"PatientID": f" {SECRET} ", "SeriesInstanceUID": "1.2.3", "StudyDate": "20190101", "SeriesNumber": 4}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_series(tmp_path, np.ones((6, 5, 1), np.int16), np.diag([1.5, 2.5, 3, 1]), "MR", HEADERS)[0]


def changed(path: Path, **elements) -> Header:
    with quiet_pydicom():
        dataset = pydicom.dcmread(path)
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
        header = read_header(path)
    assert isinstance(header, Header)
    return header


def test_where_a_slice_lies(path):
    header = read_header(path)
    assert (header.kind, header.patient_id, header.columns, header.rows) == ("MR", SECRET, 6, 5)
    (frame,) = header.frames
    plane = frame.plane
    assert plane.spacing_mm == (1.5, 2.5), "PixelSpacing is (rows, columns), ours x, y"
    assert plane.cosines == (-1, 0, 0, 0, -1, 0)
    assert plane.position_mm == (0, 0, 0)


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        ({"AcquisitionDate": "20200304", "SeriesDate": "20200302"}, (2020, 3, 4)),
        ({"AcquisitionDateTime": "20200305101112.5+0100"}, (2020, 3, 5)),
        ({"AcquisitionDate": "", "SeriesDate": "2020.03.02"}, (2020, 3, 2)),
        ({"AcquisitionDate": "yesterday"}, (2019, 1, 1)),
        ({"AcquisitionDate": "19010101", "SeriesDate": "20200302"}, (2020, 3, 2)),
        ({"AcquisitionDate": "19600315", "StudyDate": "19600101"}, (1960, 3, 15)),  # all dates moved alike
        ({"StudyDate": ""}, None),
    ],
)
def test_date_of_acquisition_else_series_else_study(path, dates, expected):
    assert changed(path, **dates).date == (None if expected is None else datetime.date(*expected))


def test_contrast_agent_of_an_enhanced_image(path):
    agent = Dataset()
    agent.CodeMeaning = "Gadolinium"
    assert changed(path, ContrastBolusAgentSequence=[agent]).contrast_agent == "Gadolinium"
    assert changed(path, ContrastBolusAgentSequence=[Dataset()]).contrast_agent == "yes"
    assert changed(path, ContrastBolusAgent="Gadobutrol").contrast_agent == "Gadobutrol"


def test_text_in_a_number_that_is_not_needed_spoils_nothing(path):
    changed(path, EchoTime=123456.0)
    path.write_bytes(path.read_bytes().replace(b"123456.0", SECRET[:8].encode()))
    header = changed(path)
    assert header.frames[0].echo_time_ms is None
    assert (header.series_number, header.damaged) == (4, False)


def test_number_of_several_frames_without_positions(path):
    header = changed(path, NumberOfFrames=2, PixelData=bytes(2 * 2 * 6 * 5))
    assert len(header.frames) == 2


def results_of_damage(path, shortest: int, first: int) -> set:
    """What comes of 300 files that end anywhere from `shortest` and have up to four other bytes from `first` on."""
    content, rng, seen = path.read_bytes(), np.random.default_rng(0), set()
    for _ in range(300):
        damaged = bytearray(content[: rng.integers(shortest, len(content) + 1)])
        for position in rng.integers(first, len(content), rng.integers(5)):
            if position < len(damaged):
                damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        header = read_header(path)
        seen.add(header.damaged if isinstance(header, Header) else header)
    return seen


def test_any_bytes_give_a_header_or_a_reason_and_no_word(path, capfd):
    with warnings.catch_warnings(record=True) as caught, quiet_pydicom():
        seen = results_of_damage(path, shortest=132, first=132)
    assert {True, False, "damaged"} <= seen
    assert all(reason in (True, False, "damaged") or SECRET not in reason for reason in seen)
    assert not caught
    assert SECRET not in "".join(capfd.readouterr())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big-endian"])
def test_files_without_a_preamble_have_the_same_header(path, form, syntax):
    whole = read_header(path)
    assert isinstance(whole, Header)
    assert read_header(without_part10(save(pydicom.dcmread(path), path, syntax), form)) == whole


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big-endian"])
def test_what_looks_like_dicom_and_cannot_be_read(path, syntax):
    content = without_part10(save(pydicom.dcmread(path), path, syntax), "bare").read_bytes()
    instance = content.index(b"\x18\0", 60) if syntax != "big-endian" else content.index(b"\0\x18", 60)
    path.write_bytes(content[: instance - 2])
    assert read_header(path) == UNREADABLE, "it ends before its SOPInstanceUID"
    path.write_bytes(content[:20])
    assert read_header(path) in (UNREADABLE, NOT_DICOM)


@pytest.mark.parametrize("name", ["a.dcm", "A.DCM", "a.dcm.gz", "a.ima", "a.dicom"])
def test_what_is_called_dicom_and_is_none(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x1f\x8b" + bytes(200))
    assert read_header(tmp_path / name) == UNREADABLE


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"\x5c\x01\0\0" + bytes(400), b"\x08\0" + bytes(600), b"\x08\0\x05\0" * 100, b"\x02\0\0\0" * 99],
)
def test_what_is_no_dicom(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert read_header(tmp_path / "file") == NOT_DICOM


def test_the_class_of_a_file_without_a_preamble_is_checked(path):
    changed(path, SOPClassUID=pydicom.uid.RTStructureSetStorage)
    assert read_header(without_part10(path, "bare")).kind == "RTSTRUCT"
    with quiet_pydicom():
        dataset = pydicom.dcmread(path, force=True)
        dataset.SOPClassUID = pydicom.uid.RTImageStorage
        dataset.save_as(path)
    assert read_header(path) == "RT Image Storage"


@pytest.mark.parametrize("form", ["bare", "meta alone"])
def test_any_bytes_without_a_preamble_give_a_header_or_a_reason_and_no_word(path, form, capfd):
    without_part10(path, form)
    with quiet_pydicom():
        seen = results_of_damage(path, shortest=1, first=0)
    assert {True, False, UNREADABLE} <= seen
    assert not any(SECRET in str(reason) for reason in seen)
    assert SECRET not in "".join(capfd.readouterr())


def test_what_an_rt_object_shares_with_its_patient(tmp_path):
    dose = read_header(save(rtdose(), tmp_path / "RD"))
    plan = read_header(save(rtplan(FrameOfReferenceUID=uid("planning")), tmp_path / "RP"))
    structures = read_header(save(rtstruct(), tmp_path / "RS"))
    assert dose.links == {uid(name) for name in ("study", "planning", "dose", "plan")}
    assert plan.links == {uid(name) for name in ("study", "planning", "plan")}
    assert structures.links == {uid(name) for name in ("study", "planning", "structures")}
    assert (structures.kind, structures.damaged) == ("RTSTRUCT", False)


@pytest.mark.parametrize("dataset", [rtdose(PatientID=""), rtplan(PatientID=None), rtstruct(PatientID="  ")])
def test_rt_objects_may_lack_a_patient_and_images_may_not(tmp_path, path, dataset):
    header = read_header(save(dataset, tmp_path / "RT"))
    assert isinstance(header, Header)
    assert header.patient_id == ""
    with quiet_pydicom():
        image = pydicom.dcmread(path)
        image.PatientID = ""
        image.save_as(path)
        assert read_header(path) == ANONYMOUS


def test_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(InvalidInput, match="cannot be opened") as caught:
        read_header(tmp_path / SECRET)
    assert caught.value.code == "delivery.unreadable"
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"AcquisitionTime": "101112.5"}, "101112.500000"),
        ({"AcquisitionTime": "1011"}, "101100.000000"),
        ({"AcquisitionTime": "10:11:12"}, "101112.000000"),
        ({"AcquisitionTime": "", "AcquisitionDateTime": "20200305101112.25+0100"}, "101112.250000"),
        ({"AcquisitionTime": "noon"}, ""),
        ({"AcquisitionDateTime": "20200305"}, ""),
        ({}, ""),
    ],
)
def test_time_of_acquisition(path, elements, expected):
    assert changed(path, **elements).acquisition_time == expected


def frames(name: str, groups: list[Dataset]) -> dict[str, object]:
    """Elements of an image in which each frame has one of these functional groups."""
    items = [item(**{f"{name}Sequence": [each]}) for each in groups]
    return {
        "PerFrameFunctionalGroupsSequence": items,
        "NumberOfFrames": len(items),
        "PixelData": bytes(60 * len(items)),
    }


def test_an_enhanced_image_says_when_and_whether_the_agent_was_given(path):
    times = [item(FrameAcquisitionDateTime=f"20200305{clock}") for clock in ("101113", "101112")]
    header = changed(path, **frames("FrameContent", times))
    assert header.acquisition_time == "101112.000000"
    for said, usage in ((["NO"], "NO"), (["YES", "YES"], "YES"), (["YES", "NO"], ""), (["?"], "")):
        given = [item(ContrastBolusAgentNumber=1, ContrastBolusAgentAdministered=each) for each in said]
        assert changed(path, **frames("ContrastBolusUsage", given)).contrast_usage == usage
    shared = [item(ContrastBolusUsageSequence=[item(ContrastBolusAgentAdministered="NO")])]
    header = changed(path, SharedFunctionalGroupsSequence=shared, **frames("FrameContent", times))
    assert header.contrast_usage == "NO"


def test_how_much_of_the_agent_was_given(path):
    assert changed(path).contrast_amount is None
    assert changed(path, ContrastBolusVolume=0.0).contrast_amount == 0
    assert changed(path, ContrastBolusTotalDose=7.5).contrast_amount == 7.5
    profile = item(ContrastBolusVolume=9.0)
    agent = item(CodeMeaning="Gadolinium", ContrastAdministrationProfileSequence=[profile])
    assert changed(path, ContrastBolusAgentSequence=[agent]).contrast_amount == 9


def test_names_stand_apart(path):
    names = {"SeriesDescription": "t1", "ProtocolName": "brain", "SequenceName": "*fl3d"}
    header = changed(path, **names, MRAcquisitionType="3D", ImageType=["DERIVED", "SECONDARY", "MPR"])
    assert (header.series_description, header.protocol_name, header.sequence_name) == ("t1", "brain", "*fl3d")
    assert header.acquisition_3d is True
    assert header.frames[0].image_type == ("DERIVED", "SECONDARY", "MPR")
    assert changed(path, SequenceName="", PulseSequenceName="SE").sequence_name == "SE"
    assert changed(path, MRAcquisitionType="2D").acquisition_3d is False
