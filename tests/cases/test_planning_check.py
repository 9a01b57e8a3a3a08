"""Planning images of the head and of other organs, registered to real MRIs where they are there, and to phantoms."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from helpers.mni152 import mni152
from helpers.phantom_scans import brain, rescan, scans
from helpers.torso import torso
from scipy import ndimage

from ricenet.cases.planning_check import MIN_AGREEMENT, check_planning, planning_agreement
from ricenet.errors import InvalidInput
from ricenet.images.registration import rigid
from ricenet.images.volume import Affine, Volume, isotropic, read_volume
from ricenet.phantoms.hospital import ct_numbers

DATA = Path(__file__).parents[2].parent / "shared" / "data"
REAL = {"glioma": "glioma_a_t1c_stripped.nii.gz", "metastasis": "metastasis_b_t1c_stripped.nii.gz"}
STILL = np.eye(4)
REGISTERED_MM = 8.0


@cache
def real(name: str) -> Volume:
    """A real MRI without skull, on cubic voxels of 2 mm."""
    if name == "MNI152":
        return isotropic(mni152(), 2.0)
    if not (DATA / REAL[name]).is_file():
        pytest.skip("the real MRIs of shared/data are not there")
    return isotropic(read_volume(DATA / REAL[name]), 2.0)


def head_of(stripped: Volume) -> Volume:
    filled = ndimage.binary_fill_holes(stripped.voxels > 0)
    return Volume(filled.astype(np.float32), stripped.world_from_voxel)


def registered(fixed: Volume, moving: Volume) -> Affine:
    return rigid(isotropic(fixed, REGISTERED_MM), isotropic(moving, REGISTERED_MM), schedule="quick")


def ct_of(stripped: Volume, seed: int) -> Volume:
    """A CT of the same head: brain at 34 HU with some contrast, 4 mm of water, skull, scalp, air, and noise."""
    inside = head_of(stripped).voxels > 0
    depth = ndimage.distance_transform_edt(~inside, stripped.spacing_mm)
    ct = np.select([depth < 0.1, depth < 4, depth < 11, depth < 16], [34.0, 12.0, 900.0, 40.0], -1000.0)
    values = stripped.voxels[inside]
    ct[inside] += 2.5 * np.clip((values - values.mean()) / values.std(), -3, 3)
    noise = np.random.default_rng(seed).normal(0, 20, ct.shape)
    return Volume((ndimage.gaussian_filter(ct, 0.5) + noise).astype(np.float32), stripped.world_from_voxel)


@pytest.mark.parametrize("name", ["MNI152", *REAL])
def test_a_ct_of_the_head_agrees_with_its_mri_and_further_off_less(name: str) -> None:
    post = real(name)
    ct, moved = ct_of(post, 1), STILL.copy()
    moved[0, 3] = 25.0
    in_place, astray = (planning_agreement(head_of(post), post, ct, STILL, at) for at in (STILL, moved))
    assert in_place > 0.85
    assert in_place > astray + 0.1
    check_planning("planning", head_of(post), post, ct, STILL, STILL)


def test_the_native_t1_of_one_patient_agrees_with_the_enhanced_one() -> None:
    post = real("glioma")
    native = read_volume(DATA / "glioma_a_t1_stripped.nii.gz")
    assert planning_agreement(head_of(post), post, native, STILL, STILL) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("mr", [False, True], ids=["CT", "MR"])
@pytest.mark.parametrize("kind", ["thorax", "pelvis"])
@pytest.mark.parametrize("name", ["MNI152", *REAL])
def test_another_organ_is_refused_wherever_registration_puts_it(name: str, kind: str, mr: bool) -> None:
    post, other = real(name), torso(kind, seed=len(name), mr=mr)
    with pytest.raises(InvalidInput, match="do not overlap the brain after registration") as refused:
        check_planning("planning", head_of(post), post, other, STILL, registered(post, other))
    assert refused.value.code == "dose.other_organ"


@pytest.mark.parametrize("number", [0, 1])
def test_phantoms_agree_with_their_own_scans_and_not_with_a_torso(number: int) -> None:
    drawn = scans(number)
    post, event, head = drawn.volumes["post"], drawn.volumes["event"], brain(number)
    frame = drawn.frames["post"]
    ct = frame.scan(ct_numbers(drawn.patient) + 1000, drawn.patient.grid)  # 0 outside: that is air
    assert planning_agreement(head, post, event, STILL, drawn.event_from_post) > 0.85
    assert planning_agreement(head, post, ct, STILL, STILL) > 0.85
    assert planning_agreement(head, post, rescan(number, "post"), STILL, STILL) > 0.95
    other = torso(["thorax", "pelvis"][number])
    assert planning_agreement(head, post, other, STILL, registered(post, other)) < MIN_AGREEMENT - 0.05


def test_voxels_too_coarse_for_a_skull_are_not_judged() -> None:
    post = real("MNI152")
    for spacing_mm in (4.9, 5.1):
        other = isotropic(torso("pelvis"), spacing_mm)
        centred = Volume(other.voxels, post.world_from_voxel @ np.diag([spacing_mm / 2] * 3 + [1.0]))
        if spacing_mm > 5:
            check_planning("planning", head_of(post), post, centred, STILL, STILL)
        else:
            with pytest.raises(InvalidInput, match="do not overlap the brain"):
                check_planning("planning", head_of(post), post, centred, STILL, STILL)


def test_an_image_that_hardly_overlaps_the_brain_does_not_agree() -> None:
    post, away = real("MNI152"), STILL.copy()
    away[2, 3] = 150.0
    assert planning_agreement(head_of(post), post, post, STILL, away) == 0
    with pytest.raises(InvalidInput, match=r"planning_2 image do not overlap the brain .* by 0\.00, at least 0\.7"):
        check_planning("planning_2", head_of(post), post, post, STILL, away)
    with pytest.raises(InvalidInput, match="edges agree with those of the event MRI by"):
        check_planning("planning", head_of(post), post, post, STILL, away, compared_with="event")
