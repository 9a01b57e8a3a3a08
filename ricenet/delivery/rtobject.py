"""Decode and check the values of RT objects (RTDOSE, RTPLAN, RTSTRUCT).

Messages name attributes and defined terms of the standard, never a value of a header: even a coded field can contain
a patient's name.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from ricenet.cohort.pseudonyms import pseudonym
from ricenet.dicom.part10 import open_part10
from ricenet.errors import InvalidInput

KEY_LETTERS = {"RTDOSE": "rd", "RTPLAN": "rp", "RTSTRUCT": "rs"}  # as planning systems name their files
UNDEFINED_LENGTH = 0xFFFFFFFF
MAX_INFLATED_BYTES = 2**29
EXPORT_AGAIN = "export it again from the treatment planning system"


@dataclass(frozen=True, repr=False)  # no repr: it would print a patient
class RTObject:
    """A DICOM dataset or an item of one of its sequences; `kind` is RTDOSE, RTPLAN or RTSTRUCT."""

    dataset: Dataset
    kind: str

    def refusal(self, rule: str, message: str, hint: str = EXPORT_AGAIN) -> InvalidInput:
        """The error for an object that breaks `rule`."""
        return InvalidInput(message, hint, code=f"{self.kind.lower()}.{rule}")

    def damaged(self, what: str) -> InvalidInput:
        """The error for bytes that cannot be decoded; `what`: an attribute or the type of an exception."""
        return self.refusal("damaged", f"expected an intact {self.kind}, got a damaged one ({what})")

    def value(self, keyword: str) -> Any:
        """Return the value of an attribute; None if it is absent or empty.

        Raises:
            InvalidInput: the value cannot be decoded.
        """
        try:
            value = self.dataset.get(keyword)
        except Exception:  # pydicom decodes on first access, and raises nearly anything on damaged bytes
            raise self.damaged(keyword) from None
        return None if isinstance(value, str) and not value.strip() else value

    def text(self, keyword: str) -> str:
        """Return an attribute as text (identifiers); "" if it is absent."""
        return str(self.value(keyword) or "").strip()

    def term(self, keyword: str, defined: tuple[str, ...]) -> str:
        """Return a defined term of the standard: "" if the attribute is absent, "UNKNOWN" if it has another value."""
        value = self.text(keyword).upper()
        return value if value in (*defined, "") else "UNKNOWN"

    def numbers(self, keyword: str) -> NDArray[np.float64]:
        """Return the (n,) numbers of an attribute; n = 0 if it is absent.

        Raises:
            InvalidInput: a value is not a finite number.
        """
        value = self.value(keyword)
        try:
            values = np.array([] if value is None else value, dtype=np.float64).ravel()
        except (TypeError, ValueError):
            raise self.damaged(keyword) from None
        if not np.isfinite(values).all():
            raise self.damaged(keyword)
        return values

    def integer(self, keyword: str) -> int | None:
        """Return a whole number; None if the attribute is absent.

        Raises:
            InvalidInput: the value is not one whole number.
        """
        values = self.numbers(keyword)
        if len(values) > 1 or (values % 1).any():
            raise self.damaged(keyword)
        return int(values[0]) if len(values) else None

    def items(self, keyword: str) -> list["RTObject"]:
        """The items of a sequence; an empty list if it is absent."""
        value = self.value(keyword)
        return [RTObject(item, self.kind) for item in value] if isinstance(value, Sequence) else []


def rt_key(kind: str, uid: str, key: bytes) -> str:
    """The pseudonym of an RT object, by which a user chooses it: two letters and twelve hex digits.

    Args:
        kind: a key of KEY_LETTERS.
        uid: its SOP Instance UID.
        key: of the pseudonyms.
    """
    return KEY_LETTERS[kind] + pseudonym(key, uid)[1:]


def read_object(path: Path | str, kind: str, sop_classes: tuple[str, ...], stop_before: str = "") -> RTObject:
    """Read one DICOM file, with or without the preamble of PS3.10.

    Values are decoded lazily: call this and read them inside `with ricenet.dicom.part10.quiet_pydicom():`.

    Args:
        path: never appears in a message.
        kind: what is expected, RTDOSE, RTPLAN or RTSTRUCT.
        sop_classes: the allowed SOP Class UIDs.
        stop_before: an attribute from which on nothing is read; default: everything is.

    Raises:
        InvalidInput: the file is missing, not DICOM, damaged, of another class, or has no SOP Instance UID.
    """
    end = Tag(stop_before) if stop_before else None
    try:
        with Path(path).open("rb") as file:
            stream = open_part10(file, MAX_INFLATED_BYTES)
            if stream is None:
                raise InvalidDicomError
            dataset = read_partial(stream, stop_when=lambda tag, _vr, _length: end is not None and tag >= end)
    except Exception as error:  # damaged bytes make pydicom raise nearly anything
        raise RTObject(Dataset(), kind).damaged(type(error).__name__) from None
    rt_object = RTObject(dataset, kind)
    if rt_object.text("SOPClassUID") not in sop_classes or not rt_object.text("SOPInstanceUID"):
        message = f"expected a DICOM object of class {kind}, got another one or one without a UID"
        raise rt_object.refusal("class", message)
    if _ends_too_early(dataset):  # pydicom takes what there is: fewer fraction groups, no approval
        raise rt_object.damaged("end of file")
    return rt_object


def _ends_too_early(dataset: Dataset) -> bool:
    """Whether an element is shorter than it says."""
    elements = [each for each in dataset.values() if isinstance(each, RawDataElement)]
    return any(len(each.value or b"") < each.length != UNDEFINED_LENGTH for each in elements)
