"""Open what hospitals call a DICOM file: with or without the preamble of PS3.10, deflated or not.

Some planning systems (Monaco, XiO) export DICOM without the preamble. A deflated data set is inflated in memory up to
a limit: some bytes of it can stand for a thousand times as many. pydicom's warnings, which quote headers, are
switched off by `quiet_pydicom`.
"""

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO

import pydicom
from pydicom import uid
from pydicom.filereader import data_element_generator, read_dataset

PREAMBLE = bytes(128) + b"DICM"
HEAD_BYTES = 1024
MAX_INFLATED_BYTES = 2**25  # far more than a header has; several are read at a time
CHUNK_BYTES = 2**16
META_BYTES = 2**16
DEFLATED = uid.DeflatedExplicitVRLittleEndian.encode()
PLAIN = uid.ExplicitVRLittleEndian.encode().ljust(len(DEFLATED), b"\0")
SYNTAXES = (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian)

# What pydicom logs quotes header values and paths.
logging.getLogger("pydicom").propagate = False


class InflatedDicom(io.BytesIO):
    """A data set that was deflated; `cut_off`: it is longer than the limit, and its end is not here."""

    cut_off = False


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Let pydicom take values that break the standard, and say nothing: its warnings quote them."""
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_part10(file: BinaryIO, max_inflated_bytes: int = MAX_INFLATED_BYTES) -> BinaryIO | None:
    """Give a DICOM file as PS3.10 wants it: `file` itself, or a copy in memory with the preamble that it lacks.

    Args:
        file: at its beginning.
        max_inflated_bytes: of a deflated data set, which is given as an InflatedDicom in an ordinary syntax.

    Returns:
        None where the file does not begin like DICOM.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    has_prefix = head[128:132] == b"DICM"
    if has_prefix and head[132:134] == b"\2\0":
        return _inflated(file, max_inflated_bytes)
    for start in (0, 4, 128, 132):
        if head[start : start + 2] == b"\2\0" and head[start + 4 : start + 6] in (b"UL", b"OB", b"UI"):
            meta = b""
        elif syntax := _guess_syntax(head[start:]):
            meta = _meta(syntax)
        else:
            continue
        file.seek(start)
        return _inflated(io.BytesIO(PREAMBLE + meta + file.read()), max_inflated_bytes)
    return file if has_prefix else None


def _inflated(file: BinaryIO, limit: int) -> BinaryIO | None:
    """`file`, or its content inflated where its meta information says that it is deflated; None where that is unclear.

    pydicom would inflate it without a limit.
    """
    may_be_deflated = DEFLATED in file.read(META_BYTES)
    file.seek(len(PREAMBLE) if may_be_deflated else 0)
    if not may_be_deflated:
        return file
    try:
        meta = read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
        syntax = meta.get("TransferSyntaxUID")
    except Exception:  # whatever pydicom stumbles over in meta information that is none
        return None
    end = file.tell()
    file.seek(0)
    if syntax != uid.DeflatedExplicitVRLittleEndian:
        return file if syntax in uid.UID_dictionary else None
    content = bytearray(file.read(end).replace(DEFLATED, PLAIN))
    whole = _inflate(file, content, limit)
    inflated = InflatedDicom(content)
    inflated.cut_off = not whole
    return inflated


def _inflate(file: BinaryIO, content: bytearray, limit: int) -> bool:
    """Add the rest of `file` to `content`, up to `limit` bytes or to where it is damaged; whether it is no longer."""
    inflater, end = zlib.decompressobj(-zlib.MAX_WBITS), len(content) + limit
    while (chunk := inflater.unconsumed_tail or file.read(CHUNK_BYTES)) and not inflater.eof:
        if len(content) >= end:
            return False
        try:
            content += inflater.decompress(chunk, end - len(content))
        except zlib.error:
            break
    return True


def _guess_syntax(head: bytes) -> uid.UID | None:
    """The transfer syntax in which `head` begins with two elements of group 8, in order."""
    for syntax in SYNTAXES:
        elements = data_element_generator(io.BytesIO(head), syntax.is_implicit_VR, syntax.is_little_endian)
        try:
            first, second = islice(elements, 2)
        except Exception:  # whatever pydicom stumbles over in bytes of another syntax, or of no DICOM
            continue
        implicit = first.VR is None and second.VR is None
        if first.tag.group == second.tag.group == 8 and first.tag < second.tag and implicit == syntax.is_implicit_VR:
            return syntax
    return None


def _meta(syntax: uid.UID) -> bytes:
    """The file meta information that a reader needs: in which syntax the data set is written."""
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(value)) + value
    return struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(element)) + element
