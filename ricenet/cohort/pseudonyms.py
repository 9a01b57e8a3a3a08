"""Pseudonyms of patients and cases: a keyed hash, and the key file that links them to ids."""

import hashlib
import logging
import secrets
import stat
from pathlib import Path

from ricenet.command.atomic import write_once
from ricenet.errors import InvalidInput

KEY_FILE = "cohort.key"  # beside cohort.csv, never in an output
KEY_BYTES = 32
READABLE_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH

log = logging.getLogger(__name__)


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

    A file that others than its owner can read is warned of.

    Raises:
        InvalidInput: the file does not hold a key of 32 bytes, or cannot be read or made.
    """
    if not path.exists():
        write_key(path, secrets.token_bytes(KEY_BYTES))
    try:
        key, mode = bytes.fromhex(path.read_text().strip()), path.stat().st_mode
    except ValueError:  # also where it is no text
        key, mode = b"", 0
    except OSError as error:
        raise InvalidInput(
            f"the key file of the pseudonyms cannot be read ({error.strerror})",
            "make it readable for yourself alone (chmod 600), or restore it from its copy",
            code="key.unreadable",
        ) from None
    if len(key) != KEY_BYTES:
        raise InvalidInput(
            f"the key file of the pseudonyms should hold {2 * KEY_BYTES} hexadecimal digits and nothing else",
            "restore it from its copy; without a copy remove the file: the next run makes a new key, and all cases get "
            "new names",
            code="key.damaged",
        )
    if mode & READABLE_BY_OTHERS:
        log.warning("the key file of the pseudonyms can be read by others than its owner: chmod 600")
    return key


def write_key(path: Path, key: bytes) -> None:
    """Create the key file `path`, mode 0600, complete or not at all; of two processes the first one's key stays.

    Raises:
        InvalidInput: the file cannot be created.
    """
    if path.exists():
        return
    try:
        write_once(path, key.hex(), mode=0o600)
    except OSError as error:
        raise InvalidInput(
            f"the key file of the pseudonyms cannot be written ({error.strerror})",
            f"make its folder writable, or put a key file of {2 * KEY_BYTES} hexadecimal digits there",
            code="key.unwritable",
        ) from None
    log.info(
        "a new key of the pseudonyms was made: keep a copy of the key file, without it no case can be called again"
    )
