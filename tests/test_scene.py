"""A case as it is explained: channels in the model's order, dose in Gy, the masks a phantom knows."""

import json
from pathlib import Path

import numpy as np
from tiny_grid import SHAPE, SPACING_MM, write_tiny_cases

from ricenet.scene import read_scene


def test_scene_holds_the_files_of_its_case(tmp_path: Path) -> None:
    case = write_tiny_cases(tmp_path).cases[0]
    folder = tmp_path / case.folder
    stored = np.load(folder / "volume.npy").astype(np.float32)
    scene = read_scene(tmp_path, case, ["event", "rd"])
    np.testing.assert_array_equal(scene.volume, stored[1:])
    np.testing.assert_array_equal(scene.mri, stored[1])
    np.testing.assert_allclose(scene.dose_gy, 60 * stored[2])
    np.testing.assert_array_equal(scene.brain, np.load(folder / "brain.npy"))
    assert scene.mri_role == "event"
    assert scene.truth.keys() == {"lesion", "cavity"}
    assert scene.truth["lesion"].shape == SHAPE
    assert scene.world_from_voxel[0, 0] == SPACING_MM


def test_lengths_become_whole_voxels_and_at_least_one(tmp_path: Path) -> None:
    scene = read_scene(tmp_path, write_tiny_cases(tmp_path).cases[0], ["rd"])
    assert scene.voxels(16) == (3, 3, 3)
    assert scene.voxels(1) == (1, 1, 1)


def test_no_dose_and_no_truth_where_the_case_has_none(tmp_path: Path) -> None:
    case = write_tiny_cases(tmp_path).cases[0]
    folder = tmp_path / case.folder
    (folder / "truth.npz").unlink()
    record = json.loads((folder / "case.json").read_text())
    (folder / "case.json").write_text(json.dumps({**record, "dose_scale_gy": None}))
    scene = read_scene(tmp_path, case, ["post"])
    assert scene.dose_gy is None
    assert scene.truth == {}
