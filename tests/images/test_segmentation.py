"""DICOM SEG written by highdicom, of balls whose place is known from DICOM's own equation."""

import importlib.util

import numpy as np
import pytest
from helpers.segmentations import mr_slices, places_ras, write_seg

from ricenet.errors import InvalidInput
from ricenet.images.segmentation import is_dicom, read_segmentation
from ricenet.images.volume import Volume

SHAPE, SPACING, ORIGIN = (64, 56, 40), (1.0, 1.1, 1.5), np.array([-30.0, -28, -20])
TILT = np.radians(20)
ORIENTATIONS = {
    "transverse": (1, 0, 0, 0, 1, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "oblique": (1, 0, 0, 0, np.cos(TILT), np.sin(TILT)),
}
CENTRE, RADIUS = np.array([-3.0, 2.0, 5.0]), 12.0


def ball(cosines, centre) -> np.ndarray:
    return np.linalg.norm(places_ras(SHAPE, SPACING, ORIGIN, cosines) - centre, axis=-1) < RADIUS


def middle(mask: Volume) -> np.ndarray:
    at = np.argwhere(mask.voxels > 0.5).mean(0)
    return mask.world_from_voxel[:3, :3] @ at + mask.world_from_voxel[:3, 3]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_a_segment_lies_where_it_was_drawn(tmp_path, orientation, kind):
    cosines = ORIENTATIONS[orientation]
    centre = places_ras(SHAPE, SPACING, ORIGIN, cosines)[20, 30, 28]  # of a voxel in the middle
    pixels = ball(cosines, centre)
    stored = pixels.astype(float) if kind == "FRACTIONAL" else pixels.astype(np.uint8)
    slices = mr_slices(SHAPE, SPACING, ORIGIN, cosines)
    mask = read_segmentation(write_seg(tmp_path / "seg.dcm", slices, stored, kind))
    assert mask.voxels.sum() == pytest.approx(pixels.sum())
    assert np.prod(mask.spacing_mm) == pytest.approx(np.prod(SPACING))
    assert middle(mask) == pytest.approx(centre, abs=0.01)
    assert (np.diag(mask.world_from_voxel)[:3] > 0).all()  # RAS+


def test_parts_of_voxels_stay_parts(tmp_path):
    cosines = ORIENTATIONS["transverse"]
    pixels = ball(cosines, CENTRE) * 0.4
    mask = read_segmentation(
        write_seg(tmp_path / "seg.dcm", mr_slices(SHAPE, SPACING, ORIGIN, cosines), pixels, "FRACTIONAL")
    )
    assert mask.voxels.max() == pytest.approx(0.4, abs=0.01)


def test_several_segments_are_refused_because_their_names_are_free_text(tmp_path):
    cosines = ORIENTATIONS["transverse"]
    both = np.stack([ball(cosines, CENTRE), ball(cosines, CENTRE + 5)], axis=-1).astype(np.uint8)
    path = write_seg(tmp_path / "seg.dcm", mr_slices(SHAPE, SPACING, ORIGIN, cosines), both, labels=("a", "b"))
    with pytest.raises(InvalidInput, match="one segment, got 2") as refused:
        read_segmentation(path)
    assert refused.value.code == "segmentation.segments"
    assert "SECRET" not in str(refused.value)


def test_another_object_or_a_damaged_one_is_refused_without_a_word_of_it(tmp_path):
    cosines = ORIENTATIONS["transverse"]
    slices = mr_slices(SHAPE, SPACING, ORIGIN, cosines)
    slices[0].save_as(tmp_path / "mr.dcm", enforce_file_format=True)
    whole = write_seg(tmp_path / "seg.dcm", slices, ball(cosines, CENTRE).astype(np.uint8)).read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    for name in ("mr.dcm", "cut.dcm"):
        with pytest.raises(InvalidInput) as refused:
            read_segmentation(tmp_path / name)
        assert refused.value.code == "segmentation.damaged"
        assert "SECRET" not in str(refused.value)


def test_without_highdicom_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match="pip install highdicom"):
        read_segmentation(tmp_path / "seg.dcm")


def test_a_file_is_told_by_its_bytes(tmp_path):
    (tmp_path / "mask.nii.gz").write_bytes(b"\x1f\x8b" + bytes(300))
    (tmp_path / "seg").write_bytes(bytes(128) + b"DICM")
    assert not is_dicom(tmp_path / "mask.nii.gz")
    assert not is_dicom(tmp_path / "nothing")
    assert is_dicom(tmp_path / "seg")
