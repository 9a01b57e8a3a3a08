"""Pseudonyms of patients and cases: a keyed hash, and the key file that links them to ids."""

import hashlib
import os
import secrets
from pathlib import Path

from ricenet.errors import InvalidInput

KEY_FILE = "cohort.key"  # beside cohort.csv, never in an output


def pseudonym(key: bytes, text: str) -> str:
    """c and twelve hex digits that only the holder of `key` can link to `text` (keyed BLAKE2b).

    The letter in front keeps a command line from reading a pseudonym such as 12e345678901 as a number.
    """
    return "c" + hashlib.blake2b(text.encode(), key=key, digest_size=6).hexdigest()


def case_key(key: bytes, patient_id: str, event_id: str) -> str:
    """The pseudonym of a case (one event of one patient)."""
    return pseudonym(key, f"{patient_id}\0{event_id}")


def read_key(path: Path) -> bytes:
    """Read the key file of the pseudonyms; create a random one, mode 0600, if it is missing.

    Raises:
        InvalidInput: the file does not hold hexadecimal digits.
    """
    if not path.exists():
        write_key(path, secrets.token_bytes(32))
    try:
        return bytes.fromhex(path.read_text().strip())
    except ValueError:
        raise InvalidInput(
            "the key file of the pseudonyms should hold only hexadecimal digits", "restore it", code="key.damaged"
        ) from None


def write_key(path: Path, key: bytes) -> None:
    """Create the key file `path`, mode 0600; an existing one is kept, also when two processes race for it.

    Raises:
        InvalidInput: the file cannot be created.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise InvalidInput(
            f"the key file of the pseudonyms cannot be written ({error.strerror})",
            "make its folder writable, or put a key file of 64 hexadecimal digits there",
            code="key.unwritable",
        ) from None
    with os.fdopen(handle, "w") as stream:
        stream.write(key.hex())
        stream.flush()
        os.fsync(stream.fileno())
