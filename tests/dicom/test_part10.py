"""A deflated data set is inflated up to a limit and no further; what is not deflated stays as it is."""

import io
import struct
import tracemalloc
import zlib

import pydicom
import pytest
from helpers.dicom_objects import FORMS, rtdose, save, without_part10
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ricenet.dicom.part10 import PREAMBLE, InflatedDicom, open_part10, quiet_pydicom


@pytest.mark.parametrize("form", ["part 10", *FORMS])
def test_a_deflated_file_is_read_like_the_plain_one(tmp_path, form):
    plain = pydicom.dcmread(save(rtdose(), tmp_path / "plain"))
    path = save(rtdose(), tmp_path / "deflated", "deflated")
    if form in ("meta alone", "no DICM", "DICM first"):  # without its meta information nothing says that it is deflated
        without_part10(path, form)
    with path.open("rb") as file:
        stream = open_part10(file)
        assert isinstance(stream, InflatedDicom)
        assert not stream.cut_off
        assert pydicom.dcmread(stream) == plain


def test_a_deflate_bomb_does_not_fill_memory(tmp_path):
    content = save(rtdose(), tmp_path / "bomb", "deflated").read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    data = zlib.decompress(content[start:], wbits=-zlib.MAX_WBITS)
    bomb = io.BytesIO(content[:start] + deflater.compress(data + bytes(2**26)) + deflater.flush())
    tracemalloc.start()
    stream = open_part10(bomb, 2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(stream, InflatedDicom)
    assert stream.cut_off
    assert peak < 2**23


def test_meta_information_that_breaks_the_standard_does_not_lift_the_limit(tmp_path):
    """pydicom would find the syntax all the same, and inflate what follows to its end."""
    content = save(rtdose(), tmp_path / "odd", "deflated").read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    syntax = DeflatedExplicitVRLittleEndian.encode()
    implicit = struct.pack("<HHL", 2, 0x10, len(syntax)) + syntax
    with quiet_pydicom():
        stream = open_part10(io.BytesIO(PREAMBLE + implicit + content[start:]), 100)
    assert isinstance(stream, InflatedDicom)
    assert stream.cut_off
    other = content[:start].replace(syntax, b"1.2.3.4.5.6.7.8.9.0.11") + syntax
    assert open_part10(io.BytesIO(other)) is None


def test_what_is_damaged_inside_is_given_up_to_there(tmp_path):
    path = save(rtdose(), tmp_path / "damaged", "deflated")
    content = bytearray(path.read_bytes())
    content[-600:] = bytes(600)
    stream = open_part10(io.BytesIO(bytes(content)))
    assert isinstance(stream, InflatedDicom)
    read = pydicom.dcmread(stream, stop_before_pixels=True)
    assert read.PatientID == "SECRET-ID"


def test_an_ordinary_file_is_given_as_it_is(tmp_path):
    with save(rtdose(), tmp_path / "plain").open("rb") as file:
        assert open_part10(file) is file
        assert file.tell() == 0
    assert open_part10(io.BytesIO(b"no DICOM")) is None
