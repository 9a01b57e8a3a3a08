"""Series written slice by slice under random names read back exactly; what is broken is named, and no patient is."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from helpers.dicom_objects import FORMS, decimal, enhanced_mr, save, without_part10
from helpers.written_series import AXES, HEADERS, SECRET, SHAPE, affine, assert_equal, change, series_in, voxels, write
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from scipy.spatial.transform import Rotation

from ricenet.delivery.series import index_delivery
from ricenet.dicom.image_series import read_series
from ricenet.dicom.part10 import quiet_pydicom
from ricenet.errors import InvalidInput, about
from ricenet.phantoms.hospital import write_series

CASE = "case c0123456789ab"


def path_position(path: Path) -> float:
    """Index of the slice in `voxels`."""
    position = np.array(pydicom.dcmread(path).ImagePositionPatient, dtype=float) * (-1, -1, 1)
    return float((np.linalg.inv(affine()) @ (*position, 1))[2])


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_shuffled_slices_read_back_exactly(tmp_path, axes, modality):
    paths = write(tmp_path, axes, modality=modality)
    assert [path.name for path in paths] != sorted(path.name for path in paths)
    (series,) = series_in(tmp_path)
    assert series.problem is None
    assert (series.modality, series.shape) == (modality, SHAPE)
    np.testing.assert_allclose(series.spacing_mm, (0.9, 0.8, 1.7))
    assert_equal(series, tmp_path, voxels(), affine(axes))
    assert not list(tmp_path.glob(".series-*")), "nothing temporary is left"


def test_headers_that_rules_look_at(tmp_path):
    write(tmp_path)
    (series,) = series_in(tmp_path)
    assert (series.series_description, series.protocol_name) == (f"{SECRET} t1", f"{SECRET} brain")
    assert (series.date.isoformat(), series.number, series.contrast_agent) == ("2019-02-03", 3, "Gadobutrol")
    assert series.image_type == ("ORIGINAL", "PRIMARY", "M")
    assert SECRET not in repr(series)


def test_far_end_is_placed_by_its_own_header(tmp_path):
    """dcm2niix goes on from the first step; the last of 150 slices would lie .6 mm off."""
    world_from_voxel = affine("axial", (1, 1, 1))
    paths = write_series(tmp_path, voxels((16, 12, 150)), world_from_voxel, "MR", HEADERS)
    position = pydicom.dcmread(paths[1]).ImagePositionPatient
    change(paths[1], ImagePositionPatient=[*position[:2], position[2] + 0.004])
    (series,) = series_in(tmp_path)
    read = read_series(series, tmp_path)
    np.testing.assert_allclose(read.world_from_voxel, world_from_voxel, atol=1e-3)


def test_rle_series(tmp_path):
    for path in write(tmp_path):
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    (series,) = series_in(tmp_path)
    assert_equal(series, tmp_path, voxels(), affine())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big-endian"])
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_series_without_preambles(tmp_path, form, syntax, modality):
    for path in write(tmp_path, modality=modality):
        without_part10(save(pydicom.dcmread(path), path, syntax), form)
    (series,) = series_in(tmp_path)
    assert_equal(series, tmp_path, voxels(), affine())
    assert not list(tmp_path.glob(".series-*"))


@pytest.mark.parametrize(
    "name", ["", "_bigendian", "_implicit", "_padded", "_RLE", "_jp2klossless", "_jpeg_ls_lossless"]
)
def test_every_transfer_syntax_that_pydicom_packages(tmp_path, name):
    """A slice of a real scanner in each syntax, stacked ten times; the plain one is the truth for all."""
    one = pydicom.dcmread(get_testdata_file(f"MR_small{name}.dcm", download=False))
    position = np.array(one.ImagePositionPatient, dtype=float)
    for number in range(10):
        one.SOPInstanceUID, one.InstanceNumber = generate_uid(entropy_srcs=[str(number)]), number + 1
        one.ImagePositionPatient = [*position[:2], round(position[2] + number, 4)]
        one.save_as(tmp_path / f"{number}")
    (series,) = index_delivery(tmp_path).patients[one.PatientID].series
    plain = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False)).pixel_array.T
    world_from_voxel = np.diag([-1.0, -1, 1, 1]) @ np.diag([*one.PixelSpacing, 1, 1])
    world_from_voxel[:3, 3] = position * [-1, -1, 1]
    assert_equal(series, tmp_path, np.stack([plain] * 10, axis=2), world_from_voxel)


@pytest.mark.parametrize("syntax", [MPEG2MPML, JPEG2000Lossless, JPEGLSLossless])
def test_what_dcm2niix_cannot_decode_is_refused(tmp_path, syntax):
    for path in write(tmp_path):
        dataset = pydicom.dcmread(path)
        dataset.PixelData = encapsulate([bytes(range(200))])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
        with quiet_pydicom():
            dataset.save_as(path, implicit_vr=False, little_endian=True)
    with pytest.raises(InvalidInput, match="uncompressed") as caught:
        read_series(series_in(tmp_path)[0], tmp_path)
    assert caught.value.code == "series.conversion"
    assert not list(tmp_path.glob(".series-*"))


def enhanced(paths: list[Path], folder: Path) -> Path:
    """The same slices as one Enhanced MR image, its frames in another order than they lie."""
    frames = [(pydicom.dcmread(paths[number]), {}) for number in np.random.default_rng(1).permutation(len(paths))]
    return enhanced_mr(frames, folder / "enhanced")


def frames_of(paths: list[Path], add: int, **says: Any) -> list[tuple[Dataset, dict]]:
    """Frames of an enhanced image with these slices' pixels plus `add`, and what each says of itself."""
    frames = []
    for path in paths:
        one = pydicom.dcmread(path)
        one.PixelData = (one.pixel_array + add).astype(np.int16).tobytes()
        frames.append((one, says))
    return frames


DIFFERS = {
    "magnitude and phase": [{"frame_type": kind} for kind in ("M", "P")],
    "Dixon": [{"frame_type": kind} for kind in ("WATER", "FAT", "IN_PHASE", "OPP_PHASE")],
    "one frame type, complex component": [{"component": kind} for kind in ("MAGNITUDE", "PHASE")],
    "echoes": [{"echo": echo} for echo in (4.92, 9.84, 14.76)],
    "dynamics": [{"temporal": number} for number in (1, 2, 3)],
    "diffusion": [{"b_value": value} for value in (0.0, 1000.0)],
    "a dimension of the vendor's own": [{"dimension": number} for number in (1, 2)],
}


@pytest.mark.parametrize(
    ("what", "files", "order"),
    [
        *((what, "one object", "slice by slice") for what in DIFFERS),
        ("magnitude and phase", "one object", "one after another"),
        ("magnitude and phase", "a frame a file", "one after another"),
    ],
)
def test_images_of_an_enhanced_object_are_parted(tmp_path, what, files, order):
    """Each part is exactly the image whose frames say the same; XA's interoperability export has a frame a file."""
    (tmp_path / "multi").mkdir()
    paths = write(tmp_path / "classic")
    parts = [frames_of(paths, 10 * number, **says) for number, says in enumerate(DIFFERS[what])]
    if order == "slice by slice":
        frames = [frame for same_place in zip(*parts, strict=True) for frame in same_place]
    else:
        frames = [frame for part in parts for frame in part]
    if files == "one object":
        enhanced_mr(frames, tmp_path / "multi" / "enhanced")
    else:
        for number, frame in enumerate(frames):
            enhanced_mr([frame], tmp_path / "multi" / f"{number}", number=number + 1)
    series = series_in(tmp_path / "multi")
    assert [(each.problem, each.shape) for each in series] == [(None, SHAPE)] * len(parts)
    assert len({each.uid for each in series}) == len(parts)
    for number, each in enumerate(series):
        assert_equal(each, tmp_path, voxels() + 10 * number, affine())
    if what == "Dixon":
        assert [each.image_type[-1] for each in series] == ["WATER", "FAT", "IN_PHASE", "OPP_PHASE"]


def test_an_enhanced_object_of_two_stacks_of_one_volume_is_one_volume(tmp_path):
    """And one that a scanner split into concatenations, several objects with some of the frames each."""
    paths = write(tmp_path / "classic")
    frames = [frame for half in (0, 1) for frame in frames_of(paths[half::2], 0, stack=str(half))]
    (tmp_path / "stacks").mkdir()
    enhanced_mr(frames, tmp_path / "stacks" / "one")
    (series,) = series_in(tmp_path / "stacks")
    assert_equal(series, tmp_path, voxels(), affine())
    (tmp_path / "concatenations").mkdir()
    for part in (0, 1):
        enhanced_mr(frames_of(paths[part::2], 0), tmp_path / "concatenations" / f"{part}", number=part + 1)
    (series,) = series_in(tmp_path / "concatenations")
    assert_equal(series, tmp_path, voxels(), affine())


def test_slopes_of_an_enhanced_object_vary_by_frame(tmp_path):
    paths = write(tmp_path / "classic")
    (tmp_path / "multi").mkdir()
    frames = [(pydicom.dcmread(path), {"slope": 1 + number / 8}) for number, path in enumerate(paths)]
    enhanced_mr(frames, tmp_path / "multi" / "enhanced")
    (series,) = series_in(tmp_path / "multi")
    slopes = np.ones(SHAPE[2])
    for number, path in enumerate(paths):
        slopes[round(path_position(path))] = 1 + number / 8
    assert_equal(series, tmp_path, (voxels() * slopes).astype(np.float32), affine())


def test_multi_frame_image(tmp_path):
    paths = write(tmp_path / "classic")
    (tmp_path / "multi").mkdir()
    path = enhanced(paths, tmp_path / "multi")
    (series,) = series_in(tmp_path / "multi")
    assert (series.problem, series.shape) == (None, SHAPE)
    assert_equal(series, tmp_path, voxels(), affine())
    dataset = pydicom.dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence[7]
    dataset.NumberOfFrames, dataset.PixelData = SHAPE[2] - 1, dataset.PixelData[: SHAPE[0] * SHAPE[1] * 2 * 15]
    dataset.save_as(path)
    assert series_in(tmp_path / "multi")[0].problem.code in ("series.gap", "series.few_slices")


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("encoding", ["plain", "rle", "bare"])
def test_a_planning_image_thin_in_the_middle(tmp_path, axes, encoding):
    """Steps of 7 and 3.5 mm; between its slices the image is linear, so interpolation gives the whole one back."""
    ramp = (np.arange(16) * 20 + np.arange(24)[:, None, None] + np.arange(20)[:, None]).astype(np.int16)
    world_from_voxel = affine(axes, (0.9, 0.8, 3.5))
    paths = write_series(tmp_path, ramp, world_from_voxel, "CT", HEADERS)
    for number in (1, 3, 12, 14):
        paths[number].unlink()
    for path in tmp_path.iterdir():
        if encoding == "bare":
            without_part10(save(pydicom.dcmread(path), path, "implicit"), "bare")
        elif encoding == "rle":
            dataset = pydicom.dcmread(path)
            dataset.compress(RLELossless)
            dataset.save_as(path)
    (series,) = series_in(tmp_path)
    with pytest.raises(InvalidInput) as caught:
        read_series(series, tmp_path)
    assert caught.value.code == series.problem.code == "series.gap"
    assert series.uneven.steps_mm == pytest.approx((3.5, 7), abs=1e-3)
    orientation = io_orientation(world_from_voxel)
    volume = read_series(series, tmp_path, may_be_uneven=True)
    np.testing.assert_allclose(volume.voxels, apply_orientation(ramp, orientation), atol=0.02)
    canonical = world_from_voxel @ inv_ornt_aff(orientation, ramp.shape)
    np.testing.assert_allclose(volume.world_from_voxel, canonical, atol=2e-3)
    assert not list(tmp_path.glob(".series-*"))


def test_what_else_is_wrong_with_a_series_is_no_matter_of_uneven_steps(tmp_path):
    paths = write(tmp_path)
    assert series_in(tmp_path)[0].uneven is None, "nothing is wrong"
    paths[3].unlink()
    assert series_in(tmp_path)[0].uneven is not None
    one_cut_short(paths)
    (series,) = series_in(tmp_path)
    assert (series.uneven, series.problem.code) == (None, "series.damaged")


def one_removed(paths):
    paths[7].unlink()


def two_at_one_place(paths):
    change(paths[8], ImagePositionPatient=pydicom.dcmread(paths[7]).ImagePositionPatient)


def no_position(paths):
    for path in paths:
        change(path, ImagePositionPatient=None)


def text_for_a_position(paths):
    change(paths[3], ImagePositionPatient=[1, 1234567890, 2])
    paths[3].write_bytes(paths[3].read_bytes().replace(b"1234567890", SECRET[:10].encode()))


def few(paths):
    for path in paths[2:]:
        path.unlink()


def one_cut_short(paths):
    paths[5].write_bytes(paths[5].read_bytes()[:-100])


def header_cut_short(paths):
    paths[15].write_bytes(paths[15].read_bytes()[:-1100])  # an end slice: no gap would show


def edited_copy(paths):
    copy = paths[0].with_name("copy")
    shutil.copy(paths[0], copy)
    change(copy, StudyDate="20200101")


def other_patient(paths):
    copy = paths[0].with_name("copy")
    shutil.copy(paths[0], copy)
    change(copy, PatientID="someone else")


BROKEN = {
    one_removed: "series.gap",
    two_at_one_place: "series.repeated_positions",
    no_position: "series.orientation",
    text_for_a_position: "series.orientation",
    few: "series.few_slices",
    one_cut_short: "series.damaged",
    header_cut_short: "series.damaged",
    edited_copy: "series.uid_conflict",
    other_patient: "series.uid_conflict",
}


@pytest.mark.parametrize("damage", BROKEN, ids=lambda damage: damage.__name__)
def test_broken_series_is_named_and_its_patient_is_not(tmp_path, damage):
    damage(write(tmp_path))
    (series,) = series_in(tmp_path)
    with pytest.raises(InvalidInput, match=f"^{CASE}: post image: expected") as caught, about(CASE, "post"):
        read_series(series, tmp_path)
    assert caught.value.code == series.problem.code == BROKEN[damage]
    assert "expected" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_localizer_in_the_same_series_does_not_break_the_volume(tmp_path):
    write(tmp_path, "sagittal")
    for number, axes in enumerate(("axial", "coronal")):
        write_series(tmp_path / axes, voxels((24, 20, 2)), affine(axes), "MR", HEADERS | {"SeriesNumber": 3})
        for path in (tmp_path / axes).iterdir():
            change(path, SOPInstanceUID=generate_uid(entropy_srcs=[axes, path.name]), InstanceNumber=-number)
    series = series_in(tmp_path)
    assert [one.shape[2] for one in series] == [2, 2, 16]
    assert len({one.uid for one in series}) == 3
    assert_equal(series[2], tmp_path, voxels(), affine("sagittal"))
    assert series[0].problem.code == "series.few_slices"


@pytest.mark.parametrize(
    "differs", [{"EchoTime": 30.0}, {"TemporalPositionIdentifier": 2}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}]
)
def test_images_at_the_same_places_are_told_apart(tmp_path, differs):
    first = {"EchoTime": 3.0, "TemporalPositionIdentifier": 1}
    write(tmp_path / "a", **first)
    for path in write_series(tmp_path / "b", voxels() + 7, affine(), "MR", HEADERS | first):
        change(path, SOPInstanceUID=generate_uid(entropy_srcs=["b", path.name]), **differs)
    one, other = sorted(series_in(tmp_path), key=lambda series: series.files)
    assert_equal(one, tmp_path, voxels(), affine())
    assert_equal(other, tmp_path, voxels() + 7, affine())


@pytest.mark.parametrize(
    ("headers", "lost", "remark", "code"),
    [
        ({}, (0, 1), "2 beside 14 (its images are numbered from 3)", None),
        ({}, (15,), None, None),
        ({"ImagesInAcquisition": 16}, (15,), "1 beside 15 (its header counts 16 images", None),
        ({"NumberOfSlices": 16}, (14, 15), "2 beside 14 (its header counts 16)", None),
        ({"NumberOfSlices": 16}, range(11, 16), "5 beside 11 (its header counts 16", "series.incomplete"),
        ({"ImagesInAcquisition": 16}, range(11, 16), "5 beside 11 (its header counts 16", "series.incomplete"),
        ({"ImagesInAcquisition": 16}, range(8, 16), "8 beside 8 (its header counts 16", None),  # half of two series
        ({"NumberOfSlices": 16, "ImagesInAcquisition": 16}, (), None, None),
    ],
)  # fmt: skip
def test_slices_lost_at_an_end(tmp_path, headers, lost, remark, code):
    paths = write(tmp_path)
    numbered = sorted(paths, key=lambda path: pydicom.dcmread(path).InstanceNumber)
    for path in paths:
        change(path, **headers)
    for number in lost:
        numbered[number].unlink()
    (series,) = series_in(tmp_path)
    assert (series.problem.code if series.problem else None) == code
    assert [(remark or "nothing") in each for each in series.remarks] == ([True] if remark else [])
    assert SECRET not in "".join(series.remarks)


@pytest.mark.parametrize("vendor", ["Philips Imaging DD 001", "GEMS_RELA_01"])
def test_private_counts_of_slices(tmp_path, vendor):
    paths = write(tmp_path)
    group, element, vr = (0x2001, 0x18, "SL") if "Philips" in vendor else (0x0021, 0x4F, "SS")
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.private_block(group, vendor, create=True).add_new(element, vr, 18)
        dataset.save_as(path)
    (series,) = series_in(tmp_path)
    assert series.remarks == ("slices that seem to be missing at an end: 2 beside 16 (its header counts 18)",)


def test_tilted_halves_are_refused_and_those_of_another_echo_are_one(tmp_path):
    paths = write(tmp_path, "axial")
    by_place = sorted(paths, key=lambda path: pydicom.dcmread(path).InstanceNumber)
    for number, path in enumerate(by_place):
        change(path, EchoTime=2.98 + 0.01 * (number % 2))
    (series,) = series_in(tmp_path)
    assert_equal(series, tmp_path, voxels(), affine("axial"))
    tilt = Rotation.from_euler("x", 0.2, degrees=True).as_matrix()
    for path in by_place[::2]:
        cosines = np.reshape(np.array(pydicom.dcmread(path).ImageOrientationPatient, dtype=float), (2, 3)) @ tilt.T
        change(path, ImageOrientationPatient=[decimal(value) for value in cosines.ravel()])
    assert [(each.shape[2], each.problem.code) for each in series_in(tmp_path)] == [(8, "series.pieces")] * 2


def test_an_inverted_image_is_read_as_stored_and_named(tmp_path):
    for path in write(tmp_path):
        change(path, PhotometricInterpretation="MONOCHROME1")
    (series,) = series_in(tmp_path)
    assert_equal(series, tmp_path, voxels(), affine())
    assert [remark.partition(" (")[0] for remark in series.remarks] == ["low values are its bright ones"]


def test_each_second_slice_alone_is_no_volume(tmp_path):
    paths = write(tmp_path)
    numbered = sorted(paths, key=lambda path: pydicom.dcmread(path).InstanceNumber)
    for path in numbered[::2]:
        path.unlink()
    for path in numbered[1::2]:
        change(path, SliceThickness="")
    assert any("between each two of its 8: 1" in remark for remark in series_in(tmp_path)[0].remarks)
    for path in numbered[1::2]:
        change(path, SpacingBetweenSlices=1.7, SliceThickness=1.7)
    assert series_in(tmp_path)[0].problem.code == "series.incomplete"


def test_images_in_colours_are_named(tmp_path):
    for path in write(tmp_path):
        change(path, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, PixelData=bytes(2880))
    assert series_in(tmp_path)[0].problem.code == "series.colour"


def test_nothing_of_a_patient_is_printed(tmp_path, capfd):
    paths = write(tmp_path, StudyDate="20190101")
    with pydicom.config.disable_value_validation():
        change(paths[0], StudyTime=SECRET, PatientBirthDate=SECRET, StudyID=SECRET * 9)
    (series,) = series_in(tmp_path)
    read_series(series, tmp_path)
    printed = capfd.readouterr()
    assert SECRET not in printed.out + printed.err
    assert str(tmp_path) not in printed.out + printed.err


def test_series_that_changed_since_it_was_indexed(tmp_path):
    paths = write(tmp_path)
    (series,) = series_in(tmp_path)
    paths[4].write_bytes(b"nothing")
    with pytest.raises(InvalidInput) as caught:
        read_series(series, tmp_path)
    assert caught.value.code == "series.conversion"
    assert SECRET not in str(caught.value)
    assert not list(tmp_path.glob(".series-*"))
