"""One file in, its header or a reason out, whatever its bytes are."""

import datetime
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from ricenet.delivery.headers import Header, quiet_pydicom, read_header
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
    (plane,) = header.planes
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
    assert header.echo_time_ms is None
    assert (header.series_number, header.damaged) == (4, False)


def test_number_of_several_frames_without_positions(path):
    header = changed(path, NumberOfFrames=2, PixelData=bytes(2 * 2 * 6 * 5))
    assert len(header.planes) == 2


def test_any_bytes_give_a_header_or_a_reason_and_no_word(path, capfd):
    content, rng, seen = path.read_bytes(), np.random.default_rng(0), set()
    with warnings.catch_warnings(record=True) as caught, quiet_pydicom():
        for _ in range(300):
            damaged = bytearray(content[: rng.integers(132, len(content) + 1)])
            for position in rng.integers(132, len(content), rng.integers(5)):
                if position < len(damaged):
                    damaged[position] = rng.integers(256)
            path.write_bytes(damaged)
            header = read_header(path)
            seen.add(header.damaged if isinstance(header, Header) else header)
    assert {True, False, "damaged"} <= seen
    assert all(reason in (True, False, "damaged") or SECRET not in reason for reason in seen)
    assert not caught
    assert SECRET not in "".join(capfd.readouterr())


def test_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(InvalidInput, match="cannot be opened") as caught:
        read_header(tmp_path / SECRET)
    assert caught.value.code == "delivery.unreadable"
    assert SECRET not in str(caught.value)
