"""Masks of the analytic patient: balls in the head's own frame, so that the truth on every grid is known."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers.analytic_patient import (
    CAVITY_MM,
    EVENT_POSE,
    PLANNING_POSE,
    POST_POSE,
    SETTINGS,
    SPACING_MM,
    brain_of,
    grid,
    one_case,
    points,
    save,
    true_points,
    write_patient,
)
from helpers.segmentations import mr_slices, places_ras, write_seg

from ricenet.cases.alignment import align
from ricenet.cases.case_folder import folder_name, input_hashes, prepare, sample, write_case_folder
from ricenet.cases.case_record import CaseRecord
from ricenet.cases.structures import FILE, load_masks, read_mask, read_structure, write_masks
from ricenet.cohort.pseudonyms import KEY_FILE, write_key
from ricenet.cohort.table import inspect_cohort
from ricenet.errors import InvalidInput
from ricenet.images.volume import resample

pytestmark = pytest.mark.usefixtures("kept_registrations")
GTV_MM, LESION_MM = 20.0, 14.0
BRAINSTEM = np.array([0.0, -10, -25])


def ball(at: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    return np.clip(0.5 + radius - np.linalg.norm(at - centre, axis=-1), 0, 1).astype(np.float32)


def save_ball(path, pose, centre, radius, spacing=2.0, binary=True) -> None:
    shape, affine = (90, 100, 90), grid((90, 100, 90), (spacing,) * 3)
    affine[:3, 3] += pose[:3, 3]
    mask = ball(points(shape, affine, pose), centre, radius)
    save(path, (mask >= 0.5).astype(np.uint8) if binary else mask, affine)


def write_rows(root, rows) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(names), *(",".join(row.get(name, "") for name in names) for row in rows)]
    (root / "cohort.csv").write_text("\n".join(lines) + "\n")


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    """A case with a planning image; GTV and brainstem lie in its frame, the lesion in the event MRI's. Read only."""
    root = tmp_path_factory.mktemp("planned")
    write_key(root / KEY_FILE, bytes(32))
    shape, affine = (50, 60, 46), grid((50, 60, 46), (3.2, 3.2, 3.2))
    affine[:3, 3] += PLANNING_POSE[:3, 3]
    save(root / "p" / "planning.nii.gz", brain_of(points(shape, affine, PLANNING_POSE), 3, 0.8), affine)
    save_ball(root / "p" / "structures" / "GTV.nii.gz", PLANNING_POSE, CAVITY_MM, GTV_MM)
    save_ball(root / "p" / "structures" / "Brainstem.nii.gz", PLANNING_POSE, BRAINSTEM, 12.0)
    save_ball(root / "p" / "lesion.nii.gz", EVENT_POSE, CAVITY_MM, LESION_MM)
    row = write_patient(root, "p", 0, dose_pose=PLANNING_POSE, planning="p/planning.nii.gz")
    write_rows(root, [row | {"structures": "p/structures", "lesion": "p/lesion.nii.gz"}])
    return root


@pytest.fixture
def planned(delivered, tmp_path):
    """A copy to damage."""
    return shutil.copytree(delivered, tmp_path / "planned")


@pytest.fixture(scope="module")
def aligned(delivered):
    return align(*one_case(delivered), SETTINGS)


@pytest.fixture(scope="module")
def result(aligned):
    return sample(aligned, SETTINGS)


def test_masks_move_with_their_images_onto_the_grid(result):
    assert list(result.structures) == ["lesion", "Brainstem", "GTV"]
    at = true_points(result.record.affine)
    for name, centre, radius in (
        ("lesion", CAVITY_MM, LESION_MM),
        ("GTV", CAVITY_MM, GTV_MM),
        ("Brainstem", BRAINSTEM, 12.0),
    ):
        truth = np.linalg.norm(at - centre, axis=-1) < radius
        assert dice(result.structures[name], truth) > 0.9, name
        numbers = result.record.structures[name]
        true_ml = 4 / 3 * np.pi * radius**3 / 1000
        assert numbers.ml == pytest.approx(true_ml, rel=0.02)
        assert numbers.grid_ml == pytest.approx(true_ml, rel=0.06)
        assert numbers.in_brain == 1
    place = result.record.lesion["mask"]
    grid = result.record.affine
    middle = grid[:3, :3] @ np.array(place.voxel) + grid[:3, 3]
    truth_mm = grid[:3, :3] @ np.argwhere(result.structures["lesion"]).mean(axis=0) + grid[:3, 3]
    assert np.linalg.norm(middle - truth_mm) < 0.1, "it is the middle of the mask, not of what is brightest"
    assert {name: numbers.frame_of for name, numbers in result.record.structures.items()} == {
        "lesion": "event", "GTV": "planning", "Brainstem": "planning",
    }  # fmt: skip


def test_masks_change_nothing_else_of_the_case(delivered, aligned, result):
    case, inputs = one_case(delivered)
    bare = replace(case, lesion=None, structures={})
    without = sample(replace(aligned, structures={}, frames={}), SETTINGS)
    np.testing.assert_array_equal(result.volume, without.volume)
    assert not without.structures
    assert "grid_ml" not in without.record.as_json()
    assert folder_name(case, inputs, SETTINGS) != folder_name(bare, input_hashes(bare), SETTINGS)
    assert input_hashes(bare) == {role: sha for role, sha in inputs.items() if not role.startswith("structures/")}


@pytest.fixture(scope="module")
def planned_on_post(tmp_path_factory):
    """A ball, a block that ends with its grid, and a mask far smaller than a voxel of the grid."""
    root = tmp_path_factory.mktemp("post")
    write_key(root / KEY_FILE, bytes(32))
    save_ball(root / "s" / "GTV.nii.gz", POST_POSE, CAVITY_MM, GTV_MM)
    save_ball(root / "s" / "OpticNerve_L.nii.gz", POST_POSE, np.array([10.1, 20.2, 5.3]), 1.2, spacing=0.6)
    affine = grid((20, 20, 20), (2.0,) * 3)
    affine[:3, 3] += POST_POSE[:3, 3]
    block = np.ones((20, 20, 20), dtype=np.uint8)
    block[0, 0, 0] = 0  # a constant image is refused
    save(root / "s" / "Cavity.nii.gz", block, affine)
    write_rows(root, [write_patient(root, "p", 0) | {"structures": "s"}])
    return prepare(*one_case(root), SETTINGS)


def test_without_a_planning_image_structures_lie_in_the_frame_of_post(planned_on_post):
    truth = np.linalg.norm(true_points(planned_on_post.record.affine) - CAVITY_MM, axis=-1) < GTV_MM
    assert dice(planned_on_post.structures["GTV"], truth) > 0.95
    assert planned_on_post.record.structures["GTV"].frame_of == "post"


def test_a_mask_that_ends_with_its_grid_keeps_its_last_half_voxel(planned_on_post):
    numbers = planned_on_post.record.structures["Cavity"]
    assert numbers.ml == pytest.approx(64, rel=0.001)
    assert numbers.grid_ml == pytest.approx(64, rel=0.1)  # 40 mm are 13 1/3 voxels; cut by half a voxel they were 38 mm


def test_the_grid_says_how_little_of_a_small_mask_it_holds(planned_on_post):
    numbers = planned_on_post.record.structures["OpticNerve_L"]
    assert SPACING_MM == 3.0
    assert numbers.grid_ml == 0
    assert numbers.in_brain is None
    assert numbers.ml == pytest.approx(4 / 3 * np.pi * 1.2**3 / 1000, abs=0.002)


def test_structures_of_a_planning_image_without_a_dose_are_registered_too(planned):
    case, _ = one_case(planned)
    images = {role: path for role, path in case.images.items() if role != "rd"}
    case = replace(case, images=images)
    result = prepare(case, input_hashes(case), SETTINGS)
    truth = np.linalg.norm(true_points(result.record.affine) - CAVITY_MM, axis=-1) < GTV_MM
    assert dice(result.structures["GTV"], truth) > 0.9


def test_the_case_folder_holds_the_masks_and_reads_without(result, tmp_path):
    write_case_folder(tmp_path, "c000000000000-000000000000", result)
    folder = tmp_path / "c000000000000-000000000000"
    again = load_masks(folder)
    assert again.keys() == result.structures.keys()
    np.testing.assert_array_equal(again["GTV"], result.structures["GTV"])
    assert again["GTV"].dtype == bool
    assert load_masks(folder, ["lesion"]).keys() == {"lesion"}
    assert CaseRecord.read(folder / "case.json") == result.record
    (folder / "structures.npz").unlink()
    assert load_masks(folder) == {}


def test_the_same_masks_make_the_same_file(tmp_path):
    masks = {"GTV": np.eye(9, dtype=bool), "CTV": np.ones((9, 9), dtype=bool)}
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_masks(tmp_path / name, masks)
    assert (tmp_path / "first" / FILE).read_bytes() == (tmp_path / "second" / FILE).read_bytes()


def test_a_dicom_seg_is_a_mask_like_a_nifti(delivered, tmp_path):
    shape, spacing = (90, 100, 60), (2.0, 2.0, 3.0)
    origin = EVENT_POSE[:3, 3] * (-1, -1, 1) - np.array([90.0, 100, 90])
    cosines = (1, 0, 0, 0, 1, 0)
    back = np.linalg.inv(EVENT_POSE)
    in_head = places_ras(shape, spacing, origin, cosines) @ back[:3, :3].T + back[:3, 3]
    pixels = np.linalg.norm(in_head - CAVITY_MM, axis=-1) < LESION_MM
    path = write_seg(tmp_path / "lesion.dcm", mr_slices(shape, spacing, origin, cosines), pixels.astype(np.uint8))
    seg, nifti = read_mask(path), read_mask(delivered / "p" / "lesion.nii.gz")
    same_grid = resample(seg, nifti.voxels.shape, nifti.world_from_voxel) >= 0.5
    assert dice(same_grid, nifti.voxels >= 0.5) > 0.96
    assert seg.voxels.shape[2] < 60  # the frames that a writer leaves out are no slices


def test_an_empty_mask_is_refused_and_says_what_to_do(tmp_path):
    save(tmp_path / "mask.nii.gz", np.zeros((10, 10, 10), dtype=np.uint8), np.eye(4))
    with pytest.raises(InvalidInput, match="empty the column") as refused:
        read_mask(tmp_path / "mask.nii.gz")
    assert refused.value.code == "mask.empty"


@pytest.mark.parametrize(
    ("values", "accepted"), [((0, 1), True), ((0, 255), True), ((0, 4), True), ((0, 1, 2), False), ((-1, 1), False)]
)
def test_a_mask_is_0_and_1_or_one_label(tmp_path, values, accepted):
    voxels = np.zeros((10, 10, 10), dtype=np.int16)
    voxels[0] = values[0]
    voxels[3:6], voxels[7] = values[1], values[-1]
    save(tmp_path / "mask.nii.gz", voxels, np.eye(4))
    if accepted:
        assert set(np.unique(read_mask(tmp_path / "mask.nii.gz").voxels)) == {0, 1}
        return
    with pytest.raises(InvalidInput, match="mask of 0 and 1") as refused:
        read_mask(tmp_path / "mask.nii.gz")
    assert refused.value.code == "mask.values"


def test_a_lesion_in_another_frame_is_refused_by_name(planned):
    save_ball(planned / "p" / "lesion.nii.gz", EVENT_POSE, CAVITY_MM + np.array([0, 0, 250]), LESION_MM, spacing=6.0)
    with pytest.raises(InvalidInput, match=r"lies outside that image") as refused:
        prepare(*one_case(planned), SETTINGS)
    assert (refused.value.code, refused.value.role) == ("mask.outside", "lesion")


@pytest.mark.parametrize(
    ("column", "text", "code"),
    [
        ("lesion", "p/nothing.nii.gz", "path.missing"),
        ("lesion", "../lesion.nii.gz", "path.outside"),
        ("structures", "p/nothing", "path.missing"),
        ("structures", "..", "path.outside"),
        ("structures", "bad", "structures.name"),
    ],
)
def test_wrong_paths_are_findings(planned, column, text, code):
    save_ball(planned / "bad" / "GTV of Muster.nii.gz", POST_POSE, CAVITY_MM, GTV_MM)
    save_ball(planned / "bad" / "lesion.nii.gz", POST_POSE, CAVITY_MM, GTV_MM)
    row = write_patient(planned, "p", 0)
    write_rows(planned, [row | {column: text}])
    _, findings = inspect_cohort(planned)
    assert [finding.code for finding in findings] == [code]
    assert "Muster" not in str(findings[0])


def test_a_lesion_that_is_one_of_the_structures_lies_in_their_frame(planned):
    """As where the contours of a follow-up were drawn on the planning image."""
    case, _ = one_case(planned)
    assert case.lesion is not None
    assert read_structure(case, "lesion", {}).role == "event"
    (name, path), *_ = case.structures.items()
    same = replace(case, lesion=path)
    assert read_structure(same, "lesion", {}).role == read_structure(same, name, {}).role == "planning"
