"""RTDOSE files from an analytic dose, written in every variant, must read back to 1e-3 Gy and 1e-3 mm."""

import io
import itertools
import logging
import warnings

import numpy as np
import pydicom
import pytest
from helpers.dicom_objects import FORMS, SYNTAXES, linear, positions, rtdose, rtplan, save, uid, without_part10
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from ricenet.delivery.rtdose import read_dose
from ricenet.errors import InvalidInput, about
from ricenet.images.volume import Volume

CASE = "case c0123456789ab"
EVEN = tuple(4.0 * plane for plane in range(10))
UNEVEN = (0.0, 3.0, 5.0, 9.0, 10.0, 16.0, 18.5, 20.0)
AXES = {
    "axial": (1, 0, 0, 0, 1, 0),
    "prone": (-1, 0, 0, 0, -1, 0),
    "feet first": (-1, 0, 0, 0, 1, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique": tuple(Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix().T[:2].ravel()),
}


def read(dataset, folder, syntax="explicit") -> Volume:
    return read_dose(save(dataset, folder / "RD.anything", syntax)).volume


def corners(points: np.ndarray) -> np.ndarray:
    """(8, 3) outermost positions of a grid of (a, b, c, 3) positions."""
    return np.array([points[ends] for ends in itertools.product((0, -1), repeat=3)])


def world(volume: Volume) -> np.ndarray:
    index = np.moveaxis(np.indices(volume.voxels.shape), 0, -1)
    return index @ volume.world_from_voxel[:3, :3].T + volume.world_from_voxel[:3, 3]


def assert_reads_back(volume: Volume, dataset, offsets) -> None:
    """The dose holds at every voxel where its affine says; corners are the file's."""
    np.testing.assert_allclose(volume.voxels, linear(world(volume)), atol=1e-3)
    assert cdist(corners(world(volume)), corners(positions(dataset, offsets))).min(axis=0).max() < 1e-3
    assert cdist(corners(world(volume)), corners(positions(dataset, offsets))).min(axis=1).max() < 1e-3
    assert volume.voxels.dtype == np.float32


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("bits", [16, 32])
def test_every_encoding_of_the_pixels(tmp_path, syntax, bits):
    dataset = rtdose(bits=bits)
    assert_reads_back(read(dataset, tmp_path, syntax), dataset, EVEN)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big-endian"])
def test_files_without_a_preamble(tmp_path, form, syntax):
    path = without_part10(save(rtdose(), tmp_path / "RD", syntax), form)
    dose = read_dose(path)
    assert_reads_back(dose.volume, rtdose(), EVEN)
    assert dose.digest == read_dose(save(rtdose(), tmp_path / "RD")).digest


@pytest.mark.parametrize("bits", [16, 32])
def test_signed_pixels_of_at_least_0(tmp_path, bits):
    dataset = rtdose(lambda points: linear(points) / 2, PixelRepresentation=1, bits=bits)
    volume = read(dataset, tmp_path)
    np.testing.assert_allclose(volume.voxels, linear(world(volume)) / 2, atol=1e-3)


@pytest.mark.parametrize("scaling", [1e-5, 0, None])
def test_an_empty_dose_is_read(tmp_path, scaling):
    """Oncentra's, which refers to all beams and has no dose in it."""
    dose = read_dose(save(rtdose(lambda points: 0 * points[..., 0], DoseGridScaling=scaling), tmp_path / "RD"))
    assert dose.volume.voxels.shape == (9, 8, 10)
    assert not dose.volume.voxels.any()


def test_number_of_planes_in_the_file(tmp_path):
    assert read_dose(save(rtdose(offsets=UNEVEN), tmp_path / "RD")).planes == len(UNEVEN)
    film = rtdose(offsets=(0.0,), SliceThickness=3.0, NumberOfFrames=None)
    assert read_dose(save(film, tmp_path / "RD")).planes == 1


def test_offsets_that_descend_from_minus_0(tmp_path):
    """GammaPlan's."""
    offsets = [-4.0 * plane for plane in range(10)]
    dataset = rtdose(offsets=offsets)
    dataset.GridFrameOffsetVector = ["-0.0", *(str(offset) for offset in offsets[1:])]
    assert_reads_back(read(dataset, tmp_path), dataset, offsets)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize(
    "offsets", [EVEN, UNEVEN, [-step for step in EVEN], [-step for step in UNEVEN]],
    ids=["even", "uneven", "descending", "uneven descending"],
)  # fmt: skip
def test_every_orientation_and_order_of_planes(tmp_path, axes, offsets):
    dataset = rtdose(orientation=AXES[axes], offsets=offsets)
    volume = read(dataset, tmp_path)
    assert_reads_back(volume, dataset, offsets)
    assert (np.diag(volume.world_from_voxel)[:3] > 0).all()  # closest to RAS+


@pytest.mark.parametrize("offsets", [EVEN, UNEVEN, [-step for step in EVEN]])
def test_absolute_offsets(tmp_path, offsets):
    dataset = rtdose(offsets=offsets, absolute=True)
    assert float(dataset.GridFrameOffsetVector[0]) == -20
    assert_reads_back(read(dataset, tmp_path), dataset, offsets)


def test_the_known_affine_of_a_transverse_grid(tmp_path):
    volume = read(rtdose(), tmp_path)
    # 9 columns of 2.5 mm from x = -12 LPS, 8 rows of 3 mm from y = 7 LPS; RAS counts both from the other end.
    expected = [[2.5, 0, 0, -8], [0, 3, 0, -28], [0, 0, 4, -20], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.world_from_voxel, expected, atol=1e-9)
    assert volume.voxels.shape == (9, 8, 10)


def test_uneven_planes_are_interpolated_between_their_neighbours(tmp_path):
    bent = rtdose(lambda points: 0.05 * (points[..., 2] + 20) ** 2, offsets=(0, 2, 3, 7), columns_rows=(2, 2))
    volume = read(bent, tmp_path)
    assert volume.spacing_mm[2] == pytest.approx(1)
    np.testing.assert_allclose(volume.voxels[0, 0], [0, 0.1, 0.2, 0.45, 0.95, 1.45, 1.95, 2.45], atol=1e-6)


def test_offsets_written_with_two_decimals_are_even(tmp_path):
    dataset = rtdose(offsets=(0, 3.33, 6.67, 10.0))
    assert read(dataset, tmp_path).voxels.shape == (9, 8, 4)


@pytest.mark.parametrize("vector", [[0.0], None])
def test_one_frame_is_placed_by_its_thickness(tmp_path, vector):
    dataset = rtdose(offsets=(0.0,), SliceThickness=3.0, GridFrameOffsetVector=vector, NumberOfFrames=None)
    volume = read(dataset, tmp_path)
    assert volume.spacing_mm[2] == pytest.approx(3)
    assert_reads_back(volume, dataset, (0.0,))


ROTATIONS = st.tuples(*[st.floats(-180, 180)] * 3).map(lambda angles: Rotation.from_euler("xyz", angles, degrees=True))


@settings(max_examples=40, deadline=None)
@given(
    rotation=ROTATIONS,
    spacing=st.tuples(st.floats(0.7, 6), st.floats(0.7, 6)),
    steps=st.lists(st.sampled_from([1.25, 2.0, 2.5, 4.0]), min_size=1, max_size=7),
    falling=st.booleans(),
    bits=st.sampled_from([16, 32]),
)
def test_any_pose_spacing_and_planes(tmp_path_factory, rotation, spacing, steps, falling, bits):
    offsets = np.concatenate([[0], np.cumsum(steps)]) * (-1 if falling else 1)
    dataset = rtdose(
        orientation=rotation.as_matrix().T[:2].ravel(), offsets=offsets, spacing=spacing, bits=bits, columns_rows=(3, 4)
    )
    volume = read(dataset, tmp_path_factory.mktemp("dose"))
    assert_reads_back(volume, dataset, offsets)


def test_what_it_refers_to(tmp_path):
    dataset = rtdose(summation="BEAM", plans=("boost",), fraction_group=2, beams=(3, 5), DoseType="EFFECTIVE")
    dose = read_dose(save(dataset, tmp_path / "dose"))
    assert (dose.summation, dose.dose_type) == ("BEAM", "EFFECTIVE")
    assert dose.plans == (uid("boost"),)
    assert dose.frame_of_reference == uid("planning")
    assert (dose.fraction_groups, dose.beams) == ({2}, {(2, 3), (2, 5)})


def test_the_digest_knows_pixels_geometry_and_references_but_not_the_uid(tmp_path):
    def digest(**changed):
        return read_dose(save(rtdose(**changed), tmp_path / "dose")).digest

    assert digest(name="another") == digest() == digest(absolute=True)
    changes = [{"origin": (-12, 7, -19)}, {"plans": ("boost",)}, {"summation": "FRACTION"}, {"frame": "other"}]
    assert len({digest(), *(digest(**change) for change in changes)}) == 5


REFUSED = {
    "rtdose.units": [{"DoseUnits": "RELATIVE"}, {"DoseUnits": None}, {"DoseUnits": "CGY"}],
    "rtdose.type": [{"DoseType": "ERROR", "PixelRepresentation": 1}, {"DoseType": None}],
    "rtdose.signed": [{"PixelRepresentation": 1, "PixelData": np.full(720, -1, "<i4").tobytes()}],
    "rtdose.scaling": [{"DoseGridScaling": None}, {"DoseGridScaling": 0}, {"DoseGridScaling": -1e-6}],
    "rtdose.no_frame": [{"FrameOfReferenceUID": None}, {"FrameOfReferenceUID": ""}],
    "rtdose.no_pixels": [{"PixelData": None}],
    "rtdose.geometry": [
        {"ImagePositionPatient": None},
        {"ImageOrientationPatient": None},
        {"PixelSpacing": None},
        {"PixelSpacing": [0, 2]},
        {"orientation": (1, 0, 0, 0.1, 1, 0)},
        {"orientation": (1, 0, 0, 1, 0, 0)},
        {"orientation": (0, 0, 0, 0, 0, 0)},
    ],
    "rtdose.offsets": [
        {"GridFrameOffsetVector": None},
        {"GridFrameOffsetVector": [0, 4, 8]},
        {"offsets": (0, 4, 4, 8)},
        {"offsets": (0, 4, 2, 8)},
        {"offsets": (0, 1e-7, 20)},
        {"GridFrameOffsetVector": [1.0 + step for step in EVEN]},
        {"absolute": True, "orientation": AXES["sagittal"]},
        {"absolute": True, "orientation": AXES["feet first"]},
    ],
    "rtdose.one_plane": [{"offsets": (0,)}, {"offsets": (0,), "SliceThickness": 0}],
    "rtdose.shape": [{"Rows": 0}, {"NumberOfFrames": 2**27}],
    "rtdose.damaged": [{"PixelData": b"\0" * 100}, {"BitsAllocated": 7}, {"SamplesPerPixel": 3}],
    "rtdose.class": [{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}],
}


@pytest.mark.parametrize(
    ("code", "changed"), [(code, changed) for code, changes in REFUSED.items() for changed in changes]
)
def test_what_is_refused(tmp_path, code, changed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = save(rtdose(**changed), tmp_path / "SECRET-FILE.dcm")
    with pytest.raises(InvalidInput) as caught, about(CASE):
        read_dose(path)
    assert caught.value.code == code
    assert str(caught.value).startswith(f"{CASE}: expected")
    assert caught.value.hint
    assert "SECRET" not in str(caught.value)
    assert uid("dose") not in str(caught.value)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
def test_a_compression_that_cannot_be_decoded_is_named(tmp_path, syntax):
    path = save(rtdose(), tmp_path / "RD")
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(50)] * len(EVEN))
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path)
    with pytest.raises(InvalidInput, match="without compression") as caught:
        read_dose(path)
    assert caught.value.code == "rtdose.compressed"


def test_relative_doses_are_named(tmp_path):
    with pytest.raises(InvalidInput, match="expected a dose in Gy, got DoseUnits RELATIVE"):
        read(rtdose(DoseUnits="RELATIVE"), tmp_path)


def test_a_name_in_a_code_string_is_not_repeated(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = save(rtdose(DoseType="SECRET^NAME"), tmp_path / "dose")
    with pytest.raises(InvalidInput, match="UNKNOWN") as caught:
        read_dose(path)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no DICOM", None], ids=["empty", "text", "no file"])
def test_what_is_no_dicom_file(tmp_path, content):
    path = tmp_path / "SECRET"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match="expected an intact RTDOSE, got a damaged one") as caught:
        read_dose(path)
    assert "SECRET" not in str(caught.value)


def test_a_plan_is_no_dose(tmp_path):
    with pytest.raises(InvalidInput, match="expected a DICOM object of class RTDOSE"):
        read_dose(save(rtplan(), tmp_path / "plan"))


@pytest.fixture
def root_log():
    """What reaches the root logger (pytest's caplog also hears loggers that do not propagate)."""
    heard, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(heard)
    root.addHandler(handler)
    yield heard
    root.removeHandler(handler)


@pytest.mark.heavy
@pytest.mark.parametrize("syntax", ["implicit", "rle"])
def test_damaged_files_read_or_are_refused_and_say_nothing_else(tmp_path, syntax, root_log, recwarn):
    intact = save(rtdose(columns_rows=(3, 3), offsets=(0, 4, 8)), tmp_path / "intact", syntax).read_bytes()
    rng, damaged, said = np.random.default_rng(0), tmp_path / "SECRET-FILE", []
    for trial in range(300):
        content = bytearray(intact[: rng.integers(132, len(intact))] if trial % 3 == 0 else intact)
        content[rng.integers(132, len(content)) if len(content) > 132 else 0] ^= 1 << rng.integers(8)
        damaged.write_bytes(content)
        try:
            read_dose(damaged)
        except InvalidInput as error:
            said.append(str(error))
    assert len(said) > 60
    said += [root_log.getvalue(), *(str(warning.message) for warning in recwarn)]
    assert "SECRET" not in "".join(said)


@pytest.mark.parametrize("name", ["rtdose", "rtdose_1frame", "rtdose_expb", "rtdose_rle", "rtdose_rle_1frame"])
def test_pydicoms_own_doses_are_relative(name):
    with pytest.raises(InvalidInput, match="got DoseUnits RELATIVE"):
        read_dose(get_testdata_file(f"{name}.dcm", download=False))
