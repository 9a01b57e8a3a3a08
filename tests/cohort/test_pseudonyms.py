"""Pseudonyms: keyed BLAKE2b of the standard library, and a key that only its owner reads."""

import hashlib
import re
import stat
from pathlib import Path

import pytest

from ricenet.cohort.pseudonyms import case_key, pseudonym, read_key, write_key
from ricenet.errors import InvalidInput

KEY = bytes(range(32))


def test_a_pseudonym_is_a_keyed_hash_and_no_number() -> None:
    digest = hashlib.blake2b(b"MUSTERMANN", key=KEY, digest_size=6).hexdigest()
    assert pseudonym(KEY, "MUSTERMANN") == f"c{digest}"
    assert re.fullmatch("c[0-9a-f]{12}", pseudonym(KEY, "")) is not None
    assert pseudonym(KEY, "MUSTERMANN") != pseudonym(bytes(32), "MUSTERMANN")


def test_patient_and_event_cannot_run_into_each_other() -> None:
    assert case_key(KEY, "12", "3") != case_key(KEY, "1", "23")


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    first = read_key(tmp_path / "cohort.key")
    assert len(first) == 32
    assert stat.S_IMODE((tmp_path / "cohort.key").stat().st_mode) == 0o600
    write_key(tmp_path / "cohort.key", KEY)  # another process was first: its key counts
    assert read_key(tmp_path / "cohort.key") == first


def test_a_damaged_or_unwritable_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cohort.key").write_text("MUSTERMANN")
    with pytest.raises(InvalidInput, match="only hexadecimal digits") as damaged:
        read_key(tmp_path / "cohort.key")
    assert "MUSTERMANN" not in str(damaged.value)
    with pytest.raises(InvalidInput) as unwritable:
        read_key(tmp_path / "absent" / "cohort.key")
    assert (damaged.value.code, unwritable.value.code) == ("key.damaged", "key.unwritable")
