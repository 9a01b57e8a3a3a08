"""Pseudonyms: keyed BLAKE2b of the standard library, and a key that only its owner reads."""

import hashlib
import re
import stat
from concurrent.futures import ProcessPoolExecutor
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


@pytest.mark.parametrize("content", ["", "MUSTERMANN", "ab", "00" * 31, "00" * 33, "é" * 64])
def test_a_damaged_key_is_refused_and_not_shown(tmp_path: Path, content: str) -> None:
    """With an empty one, as a full disk leaves it, every pseudonym could be found by trying ids."""
    (tmp_path / "cohort.key").write_text(content)
    with pytest.raises(InvalidInput, match="should hold 64 hexadecimal digits") as damaged:
        read_key(tmp_path / "cohort.key")
    assert damaged.value.code == "key.damaged"
    assert not content or content not in str(damaged.value)


def test_a_key_that_cannot_be_written_or_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as unwritable:
        read_key(tmp_path / "absent" / "cohort.key")
    (tmp_path / "cohort.key").mkdir()
    with pytest.raises(InvalidInput) as unreadable:
        read_key(tmp_path / "cohort.key")
    assert (unwritable.value.code, unreadable.value.code) == ("key.unwritable", "key.unreadable")


def test_a_new_key_asks_for_a_copy_and_an_open_one_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cohort.key"
    with caplog.at_level("INFO"):
        read_key(path)
        assert "keep a copy of the key file" in caplog.text
        caplog.clear()
        read_key(path)
        assert caplog.text == ""
        path.chmod(0o644)
        read_key(path)
    assert "can be read by others" in caplog.text
    assert path.read_text() not in caplog.text
    assert str(tmp_path) not in caplog.text


def test_no_reader_ever_sees_half_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may end before it has written: its name appears with the whole key, or not at all."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InvalidInput, match="No space left"):
        read_key(tmp_path / "cohort.key")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_first_runs_at_once_get_one_key(tmp_path: Path) -> None:
    for number in range(20):
        with ProcessPoolExecutor(4) as pool:
            keys = set(pool.map(read_key, [tmp_path / f"{number}.key"] * 8))
        assert len(keys) == 1
