"""A patient's folder: what is found by name, how the case is called, and what is refused before anything is read."""

import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from ricenet.errors import InvalidInput, WrongUsage
from ricenet.images.volume import write_volume
from ricenet.prediction.new_patient import Known, find_patient


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """post as .nii.gz, event as .nii, and a channel of the site's own."""
    folder = tmp_path / "Mustermann"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("post.nii.gz", "event.nii", "flair.nii.gz"):
        write_volume(folder / name, rng.normal(size=(5, 6, 7)).astype(np.float32), np.eye(4))
    return folder


def find(folder: Path, known: Known | None = None, further: tuple[str, ...] = ()):
    return find_patient(folder, known or Known(), None, folder, further)  # type: ignore[arg-type]  # for DICOM


def test_images_are_found_by_name_and_further_ones_where_they_are_asked_for(folder: Path) -> None:
    assert list(find(folder).case.images) == ["post", "event"]
    delivered = find(folder, Known(fractions=30, prescription_gy=60.0), ("flair",))
    assert list(delivered.case.images) == ["post", "event", "flair"]
    assert (delivered.case.fractions, delivered.case.prescription_gy, delivered.case.label) == (30, 60.0, -1)
    assert delivered.record is None


def test_the_same_bytes_have_the_same_name_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    key = find(folder).case.key
    moved = shutil.copytree(folder, tmp_path / "another")
    assert find(moved).case.key == key
    assert "Mustermann" not in find(folder).case.name
    write_volume(moved / "event.nii", np.ones((5, 6, 7), np.float32), np.eye(4))
    assert find(moved).case.key != key


def test_dates_and_series_are_for_dicom(folder: Path) -> None:
    for known in (Known(event_date=date(2020, 8, 17)), Known(choice={"event": "s0"})):
        with pytest.raises(WrongUsage, match="for DICOM"):
            find(folder, known)


def test_without_a_patient_there_is_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as missing:
        find(tmp_path / "none")
    assert missing.value.code == "patient.missing"
    (tmp_path / "letter.txt").write_text("no image")
    with pytest.raises(InvalidInput) as empty:
        find(tmp_path)
    assert empty.value.code == "patient.missing"
