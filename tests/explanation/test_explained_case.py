"""A case as it is explained: channels in the model's order, dose in Gy, a phantom's masks and the user's."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.tiny_grid import ORIGIN_MM, SHAPE, SPACING_MM, write_tiny_cases
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ricenet.cases.case_reader import load_seen
from ricenet.cases.case_record import Crop
from ricenet.cases.crop import place_of, window_of
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.errors import InvalidInput
from ricenet.explanation.explained_case import read_scene

PLACES_MM = np.moveaxis(np.indices(SHAPE), 0, -1) * SPACING_MM + ORIGIN_MM
CENTRE_MM, RADIUS_MM = np.array([3.0, -14.0, 16.0]), 12.0


def test_scene_holds_the_files_of_its_case(tmp_path: Path) -> None:
    case = write_tiny_cases(tmp_path).cases[0]
    folder = tmp_path / case.folder
    stored = np.load(folder / "volume.npy").astype(np.float32)
    scene = read_scene(tmp_path, case, ["event", "rd"])
    np.testing.assert_array_equal(scene.volume, stored[1:])
    np.testing.assert_array_equal(scene.mri, stored[1])
    np.testing.assert_array_equal(scene.post, stored[0])
    np.testing.assert_array_equal(scene.event, stored[1])
    np.testing.assert_allclose(scene.dose_gy, 60 * stored[2])
    np.testing.assert_array_equal(scene.brain, np.load(folder / "brain.npy"))
    assert scene.mri_role == "event"
    assert scene.truth.keys() == {"lesion", "cavity"}
    assert scene.truth["lesion"].shape == SHAPE
    assert scene.world_from_voxel[0, 0] == SPACING_MM
    assert scene.prescription_gy is None


def test_lengths_become_whole_voxels_and_at_least_one(tmp_path: Path) -> None:
    scene = read_scene(tmp_path, write_tiny_cases(tmp_path).cases[0], ["rd"])
    assert scene.spacing_mm.tolist() == [SPACING_MM] * 3
    assert scene.voxels(16) == (3, 3, 3)
    assert scene.voxels(1) == (1, 1, 1)


def test_no_dose_no_event_and_no_truth_where_the_case_has_none(tmp_path: Path) -> None:
    case = write_tiny_cases(tmp_path).cases[0]
    folder = tmp_path / case.folder
    (folder / "truth.npz").unlink()
    record = json.loads((folder / "case.json").read_text())
    (folder / "case.json").write_text(json.dumps({**record, "dose_scale_gy": None}))
    scene = read_scene(tmp_path, case, ["post"])
    assert scene.dose_gy is None
    assert scene.truth == {}
    np.save(folder / "volume.npy", np.load(folder / "volume.npy")[:1])
    (folder / "case.json").write_text(json.dumps({**record, "channels": ["post"]}))
    scene = read_scene(tmp_path, case, ["post"])
    assert (scene.event, scene.dose_gy, scene.mri_role) == (None, None, "post")
    np.testing.assert_array_equal(scene.mri, scene.post)


def test_prescription_is_the_number_of_the_covariates(tmp_path: Path) -> None:
    folds = write_tiny_cases(tmp_path)
    rows = [f"{case.case_key},{'' if index == 1 else 40.05}" for index, case in enumerate(folds.cases)]
    (tmp_path / "covariates.csv").write_text("\n".join(["case_key,prescription_gy", *rows, ""]))
    assert [read_scene(tmp_path, case, ["rd"]).prescription_gy for case in folds.cases[:3]] == [40.05, None, 40.05]
    (tmp_path / "covariates.csv").write_text("\n".join(["case_key,prescription_gy", *rows[:-1], "cccccccccccf,A", ""]))
    with pytest.raises(InvalidInput, match="covariates"):
        read_scene(tmp_path, folds.cases[0], ["rd"])


def write_mask(masks: Path, case: ReadyCase, name: str, voxels: np.ndarray, affine: np.ndarray) -> None:
    (masks / case.case_key).mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels, affine)
    image.header["descrip"] = b"JANE DOE"
    nib.save(image, masks / case.case_key / f"{name}.nii.gz")


def test_a_users_mask_takes_the_place_of_a_phantoms(tmp_path: Path) -> None:
    """The voxels of the case's own grid, stored with other axes: y backwards, z, x backwards."""
    case = write_tiny_cases(tmp_path / "cases").cases[0]
    own = np.linalg.norm(PLACES_MM - CENTRE_MM, axis=-1) < RADIUS_MM
    case_affine = read_scene(tmp_path / "cases", case, ["rd"]).world_from_voxel
    stored = own.transpose(1, 2, 0)[::-1, :, ::-1]
    case_from_stored = np.array([[0, 0, -1, SHAPE[0] - 1], [-1, 0, 0, SHAPE[1] - 1], [0, 1, 0, 0], [0, 0, 0, 1]])
    write_mask(tmp_path / "masks", case, "lesion", stored.astype(np.uint8), case_affine @ case_from_stored)
    before = read_scene(tmp_path / "cases", case, ["rd"]).truth
    truth = read_scene(tmp_path / "cases", case, ["rd"], tmp_path / "masks").truth
    assert not np.array_equal(before["lesion"], own)
    np.testing.assert_array_equal(truth["lesion"], own)
    np.testing.assert_array_equal(truth["cavity"], before["cavity"])
    other = read_scene(tmp_path / "cases", case, ["rd"], tmp_path / "no masks here").truth
    np.testing.assert_array_equal(other["lesion"], before["lesion"])


def test_a_users_mask_on_an_oblique_grid_keeps_its_place(tmp_path: Path) -> None:
    case = write_tiny_cases(tmp_path / "cases").cases[0]
    turn = Rotation.from_euler("xyz", (10, -20, 100), degrees=True).as_matrix()
    affine, shape = np.eye(4), (50, 40, 45)
    affine[:3, :3] = turn @ np.diag([1.5, 2.0, 1.8])
    affine[:3, 3] = CENTRE_MM - affine[:3, :3] @ (np.array(shape) / 2)
    places_mm = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    drawn = np.linalg.norm(places_mm - CENTRE_MM, axis=-1) < RADIUS_MM
    write_mask(tmp_path / "masks", case, "cavity", 4 * drawn.astype(np.int16), affine)
    cavity = read_scene(tmp_path / "cases", case, ["rd"], tmp_path / "masks").truth["cavity"]
    nearest = cKDTree(places_mm.reshape(-1, 3)).query(PLACES_MM)[1]
    np.testing.assert_array_equal(cavity, drawn.ravel()[nearest])
    assert cavity.sum() * SPACING_MM**3 == pytest.approx(4 / 3 * np.pi * RADIUS_MM**3, rel=0.1)


def test_a_mask_reaches_to_the_outer_edges_of_its_voxels(tmp_path: Path) -> None:
    """A mask that fills its whole image of 10 mm voxels covers the case's voxels half a voxel beyond their centres."""
    case = write_tiny_cases(tmp_path / "cases").cases[0]
    affine = np.diag([10.0, 10.0, 10.0, 1.0])
    affine[:3, 3] = np.array(ORIGIN_MM) - 40 + 0.1  # first centre; the last of eight lies 70 mm further
    filled = np.ones((8, 8, 8), dtype=np.uint8)
    filled[0] = 0
    write_mask(tmp_path / "masks", case, "lesion", filled, affine)
    lesion = read_scene(tmp_path / "cases", case, ["rd"], tmp_path / "masks").truth["lesion"]
    assert np.flatnonzero(lesion.any(axis=(1, 2))).tolist() == list(range(8)), "centres at 0 to 30 mm, edge at 35.1 mm"


def test_a_mask_beside_the_brain_is_refused_without_its_path(tmp_path: Path) -> None:
    case = write_tiny_cases(tmp_path / "cases").cases[0]
    affine = read_scene(tmp_path / "cases", case, ["rd"]).world_from_voxel.copy()
    own = np.linalg.norm(PLACES_MM - CENTRE_MM, axis=-1) < RADIUS_MM
    affine[2, 3] += 300
    write_mask(tmp_path / "masks", case, "lesion", own.astype(np.uint8), affine)
    with pytest.raises(InvalidInput, match=f"case {case.case_key}: expected a lesion mask that meets the brain") as one:
        read_scene(tmp_path / "cases", case, ["rd"], tmp_path / "masks")
    write_mask(tmp_path / "masks", case, "lesion", np.zeros(SHAPE, dtype=np.uint8), affine)
    with pytest.raises(InvalidInput, match=f"case {case.case_key}: lesion mask image: expected an image, got 0") as two:
        read_scene(tmp_path / "cases", case, ["rd"], tmp_path / "masks")
    assert not any(private in str(error.value) for error in (one, two) for private in (str(tmp_path), "JANE"))


def test_a_scene_of_cropped_models_knows_the_place_and_the_box_they_see(tmp_path: Path) -> None:
    case = write_tiny_cases(tmp_path).cases[0]
    crop = Crop(at="lesion", size_mm=30)
    scene = read_scene(tmp_path, case, ["event", "rd"], crop=crop)
    assert scene.place == place_of(tmp_path, case, ["event", "rd"], "lesion")
    assert scene.seen == window_of(tmp_path, case, ["event", "rd"], crop)
    assert scene.seen.shape == (6, 6, 6)
    np.testing.assert_array_equal(scene.cut(scene.volume), load_seen(tmp_path, case, ["event", "rd"], crop))
    np.testing.assert_array_equal(scene.whole(scene.cut(scene.brain)), scene.seen_brain)
    assert scene.seen_brain.sum() < scene.brain.sum()
    plain = read_scene(tmp_path, case, ["event", "rd"])
    assert (plain.place, plain.seen) == (None, None)
    np.testing.assert_array_equal(plain.seen_brain, plain.brain)
    assert plain.cut(plain.volume) is plain.volume
