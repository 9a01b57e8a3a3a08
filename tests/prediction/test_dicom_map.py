"""The DICOM map read back by the formula of the standard, by dcm2niix and by highdicom: each value in its place."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from highdicom import imread
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ricenet import __version__
from ricenet.errors import WrongUsage
from ricenet.explanation.case_map import SIGN
from ricenet.prediction.dicom_map import write_parametric_map

KEY, DIGEST = "c0123456789ab", "0f" * 32
SHAPE = (7, 5, 6)
STANDARD = "1.2.840.10008."
HIGHDICOM = "1.2.826.0.1.3680043.9.7433.1.1"  # as the writer of the file


def random_map(shape=SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def affine(rotation=(0.3, -0.2, 0.5), spacing=(0.9, 1.7, 2.6), origin=(-81.3, 40.2, -17.9), mirrored=False):
    axes = Rotation.from_rotvec(rotation).as_matrix() @ np.diag([-1.0 if mirrored else 1.0, 1, 1])
    return nib.affines.from_matvec(axes @ np.diag(spacing), origin)


OBLIQUE = affine()


def write(folder: Path, drop=None, world_from_voxel=OBLIQUE, key: str = KEY, digest: str = DIGEST) -> Path:
    path = folder / "occlusion.dcm"
    drop = random_map() if drop is None else drop
    model = {"model_name": "rd_post_event", "model_digest": digest}
    write_parametric_map(path, drop, world_from_voxel, key, "recurrence", **model)
    return path


def assert_in_place(values: np.ndarray, places_mm: np.ndarray, drop: np.ndarray, world_from_voxel: np.ndarray, atol):
    """values: (n,), places_mm: (n, 3) RAS+: each voxel of the map once, with its value, where nibabel has it."""
    index = nib.affines.apply_affine(np.linalg.inv(world_from_voxel), places_mm).round().astype(int)
    np.testing.assert_allclose(nib.affines.apply_affine(world_from_voxel, index), places_mm, rtol=0, atol=atol)
    np.testing.assert_array_equal(np.unique(index, axis=0), [*np.ndindex(drop.shape)])
    np.testing.assert_array_equal(values, drop[tuple(index.T)])


def places_of_affine(shape, world_from_voxel: np.ndarray) -> np.ndarray:
    return nib.affines.apply_affine(world_from_voxel, [*np.ndindex(shape)])


def by_the_standard(image: pydicom.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Values and LPS+ mm of all pixels by equation C.7.6.2.1-1 of PS3.3."""
    shared = image.SharedFunctionalGroupsSequence[0]
    along_row, along_column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    row, column = np.indices((image.Rows, image.Columns)).reshape(2, -1, 1)
    in_plane = along_row * between_columns * column + along_column * between_rows * row
    frames = image.PerFrameFunctionalGroupsSequence
    corners = np.array([frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames], float)
    return np.frombuffer(image.FloatPixelData, "<f4"), (corners[:, None] + in_plane).reshape(-1, 3)


small = st.floats(-3, 3)
edge_mm = st.sampled_from([1.0, 1.00005, 7.0]) | st.floats(0.5, 8)


@pytest.mark.heavy
@settings(deadline=None, max_examples=60)
@example((0, 0, 0), (1, 1, 7), (0, 0, 0), False, (4, 3, 2))  # as thick as no default
@example((0, 0, 0), (1.00004, 1, 1), (0, 0, 0), False, (4, 3, 2))  # nearly what is round
@example((5e-6, 0, 0), (1, 1, 9), (0, 0, 0), False, (4, 3, 2))  # nearly what is straight
@given(
    st.tuples(small, small, small),
    st.tuples(edge_mm, edge_mm, edge_mm),
    st.tuples(*[st.floats(-300, 300)] * 3),
    st.booleans(),
    st.tuples(*[st.integers(2, 5)] * 3),
)
def test_each_value_lies_where_the_affine_has_it(tmp_path_factory, rotation, spacing, origin, mirrored, shape):
    drop, world_from_voxel = random_map(shape), affine(rotation, spacing, origin, mirrored)
    image = pydicom.dcmread(write(tmp_path_factory.getbasetemp(), drop, world_from_voxel))
    values, places_lps = by_the_standard(image)
    assert_in_place(values, places_lps * [-1, -1, 1], drop, world_from_voxel, atol=1e-6)
    measures = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    apart = np.diff(places_lps.reshape(image.NumberOfFrames, -1, 3)[:, 0], axis=0)
    np.testing.assert_allclose(np.linalg.norm(apart, axis=1), float(measures.SpacingBetweenSlices), rtol=1e-6)
    assert measures.SliceThickness == measures.SpacingBetweenSlices


@pytest.mark.parametrize("mirrored", [False, True])
def test_dcm2niix_reads_the_same_map(tmp_path, mirrored):
    """A reader that shares no code with the writer."""
    from dcm2niix import bin as dcm2niix

    drop, world_from_voxel = random_map(), affine(mirrored=mirrored)
    path = write(tmp_path, drop, world_from_voxel)
    subprocess.run([dcm2niix, "-b", "n", "-z", "n", "-f", "read", "-s", "y", path], check=True, capture_output=True)
    (read,) = tmp_path.glob("*.nii")
    image = nib.load(read)
    places = places_of_affine(image.shape, image.affine)
    assert_in_place(np.asarray(image.dataobj).ravel(), places, drop, world_from_voxel, atol=1e-4)


def test_highdicom_reads_the_same_volume(tmp_path):
    volume = imread(write(tmp_path)).get_volume(apply_real_world_transform=True)
    places = places_of_affine(volume.spatial_shape, volume.get_affine("RAS"))
    assert_in_place(volume.array.ravel().astype(np.float32), places, random_map(), OBLIQUE, atol=1e-6)


def test_a_straight_map_is_shown_as_radiologists_read(tmp_path):
    """Axial, the patient's right on the left of the screen, the front up."""
    drop = np.zeros(SHAPE, np.float32)
    drop[-1, -1, -1], drop[0, 0, -1], drop[-1, 0, 0] = 0.1, 0.2, 0.3  # right front top, left back top, right back below
    image = pydicom.dcmread(write(tmp_path, drop, np.diag([2.0, 3, 4, 1])))
    shared = image.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [3, 2]
    shown = image.pixel_array
    assert shown.shape == (6, 5, 7)
    np.testing.assert_array_equal([shown[0, 0, 0], shown[0, -1, -1], shown[-1, -1, 0]], np.float32([0.1, 0.2, 0.3]))


def test_the_same_answer_gives_the_same_bytes(tmp_path):
    first = write(tmp_path).read_bytes()
    assert write(tmp_path, np.asfortranarray(random_map())).read_bytes() == first


def test_a_uid_stands_for_one_content(tmp_path):
    kinds = ("StudyInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID", "SOPInstanceUID")

    def changed(**how) -> set[str]:
        image = pydicom.dcmread(write(tmp_path, **how))
        return {kind for kind in kinds if image[kind].value != first[kind].value}

    first = pydicom.dcmread(write(tmp_path))
    assert changed(drop=random_map(seed=1)) == {"SeriesInstanceUID", "SOPInstanceUID"}
    assert changed(world_from_voxel=affine(origin=(0, 0, 0))) == {*kinds[1:]}
    assert changed(key="c00000000000a") == changed(digest="1f" * 32) == {*kinds}


def test_it_tells_nothing_of_the_patient_but_the_pseudonym(tmp_path):
    """No name, date or reference of any kind, at any depth; whatever highdicom comes to add."""
    image = pydicom.dcmread(write(tmp_path))
    assert (image.PatientID, image.PatientName, image.PatientIdentityRemoved) == (KEY, KEY, "YES")
    assert (image.PatientBirthDate, image.PatientSex, image.StudyDate, image.AccessionNumber) == ("", "", "", "")
    times = {str(e.value) for e in image.iterall() if e.VR in ("DA", "TM", "DT")}
    assert times == {"", "19000101", "000000"}
    assert {str(e.value) for e in image.iterall() if e.VR == "PN"} == {"", KEY}
    uids = {e.keyword: e.value for e in [*image.file_meta, *image.iterall()] if e.VR == "UI"}
    assert {name for name, uid in uids.items() if not uid.startswith((STANDARD, HIGHDICOM))} == {
        "MediaStorageSOPInstanceUID",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "StudyInstanceUID",
        "FrameOfReferenceUID",
        "DimensionOrganizationUID",
    }
    assert not [e for e in image.iterall() if e.keyword in ("SourceImageSequence", "ReferencedSeriesSequence")]


def test_it_says_research_and_how_to_read_it(tmp_path):
    image = pydicom.dcmread(write(tmp_path))
    assert image.ContentQualification == "RESEARCH"
    for place in ("SeriesDescription", "ContentDescription", "ImageComments", "DerivationDescription"):
        assert image[place].value.startswith("RESEARCH USE ONLY")
    assert SIGN in image.ImageComments
    assert (image.Manufacturer, image.SoftwareVersions, image.BurnedInAnnotation) == ("ricenet", __version__, "NO")
    assert f"rd_post_event, {DIGEST}" in image.DerivationDescription


def test_values_are_drops_without_a_unit(tmp_path):
    (mapping,) = pydicom.dcmread(write(tmp_path)).SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert mapping.LUTExplanation == "drop of the probability of recurrence"
    unit = mapping.MeasurementUnitsCodeSequence[0]
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("1", "UCUM")
    quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    assert (quantity.CodingSchemeDesignator, quantity.CodeMeaning) == ("99RICENET", "drop of the probability")


@pytest.mark.parametrize(("most", "width"), [(-0.0625, 0.125), (0, 2)])
def test_the_window_is_symmetric_and_has_a_width(tmp_path, most, width):
    drop = np.zeros(SHAPE, np.float32)
    drop[1, 2, 3] = most
    window = pydicom.dcmread(write(tmp_path, drop)).SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    assert (window.WindowCenter, window.WindowWidth, window.VOILUTFunction) == (0, width, "LINEAR_EXACT")


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(WrongUsage, match=r"pip install highdicom"):
        write(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    old = write(tmp_path).read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, random_map(seed=1))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [old]
