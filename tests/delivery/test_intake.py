"""One case of a delivery: chosen, converted and summed, or a problem with a list of what there was."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.phantom_delivery import KEY, SETTINGS, SUBJECT, problem, take

from ricenet.cohort.label_table import LabelRow
from ricenet.cohort.layouts import Entry, LesionMask, with_or_without_post
from ricenet.delivery.intake import from_nifti
from ricenet.delivery.roles import series_key
from ricenet.delivery.series import PatientFiles
from ricenet.dicom.frames import Rescale
from ricenet.images.volume import write_volume


def test_a_whole_case(delivered, tmp_path):
    row, files, dose_gy = delivered
    case = take(row, files, tmp_path)
    assert case.problem is None
    assert set(case.volumes) == {"post", "event", "planning", "rd"}
    np.testing.assert_allclose(case.volumes["rd"].voxels, dose_gy, atol=1e-3)
    assert case.columns.fractions in (15, 30)
    assert not list(tmp_path.iterdir()), "the converter's files are gone"


def test_what_is_odd_about_an_image_is_a_flag(delivered, tmp_path):
    """Of a series that was chosen; what its slices say of their values is said as well."""
    row, files, _ = delivered
    chosen = take(row, files, tmp_path).record.images["event"].series
    keys = {series_key(each, KEY): each for each in files.series}
    rescaled = [
        replace(each, frame=replace(each.frame, rescale=Rescale(1 + number / 100)))
        for number, each in enumerate(keys[chosen].slices)
    ]
    odd = replace(keys[chosen], remarks=("a slice is odd",), slices=tuple(rescaled))
    unused = next(each for key, each in keys.items() if key not in _taken(row, files, tmp_path))
    series = [odd if each.uid == odd.uid else each for each in files.series]
    series = [replace(each, remarks=("unused",)) if each.uid == unused.uid else each for each in series]
    before = set(take(row, files, tmp_path).record.flags)
    flags = [flag for flag in take(row, replace(files, series=series), tmp_path).record.flags if flag not in before]
    assert [flag.partition(": each")[0] for flag in flags] == [
        "event: a slice is odd",
        "event: rescale slope or intercept varies by slice",
    ]


def _taken(row: LabelRow, files: PatientFiles, scratch: Path) -> set[str]:
    return {image.series for image in take(row, files, scratch).record.images.values()}


def test_eqd2_replaces_the_physical_dose(delivered, tmp_path):
    row, files, dose_gy = delivered
    case = take(row, files, tmp_path, replace(SETTINGS, alpha_beta=3.0))
    fractions = case.columns.fractions
    expected = dose_gy * (dose_gy / fractions + 3) / 5
    np.testing.assert_allclose(case.volumes["rd"].voxels, expected, atol=2e-3)
    assert case.record.dose.eqd2_alpha_beta_gy == 3


def test_a_dose_in_the_frame_of_the_post_op_mri_needs_no_planning_image(delivered, tmp_path):
    row, files, _ = delivered
    planning = next(one for one in files.series if "planning" in one.series_description)
    same = [
        replace(one, frame_of_reference=planning.frame_of_reference) if "mprage" in one.series_description else one
        for one in files.series
    ]
    case = take(row, replace(files, series=same), tmp_path)
    assert set(case.volumes) == {"post", "event", "rd"}
    assert case.record.dose.lies_in_the_frame_of == "post"


def test_a_chain_of_frames_that_is_broken(delivered, tmp_path):
    row, files, _ = delivered
    without = [one for one in files.series if "planning" not in one.series_description]
    assert problem(take(row, replace(files, series=without), tmp_path)).code == "dose.frame"
    key = next(each.series for each in take(row, files, tmp_path).record.series if each.number == 5)
    named = replace(row, choice={"planning": key})
    found = problem(take(named, files, tmp_path))
    assert (found.code, "not in the dose's frame" in str(found)) == ("dose.frame", True)


def test_one_series_cannot_be_both_mris(delivered, tmp_path):
    row, files, _ = delivered
    key = next(each.series for each in take(row, files, tmp_path).record.series if each.number == 3)
    found = problem(take(replace(row, choice={"event": key}), files, tmp_path))
    assert found.code == "role.same_series"


def test_a_problem_lists_what_there_was_without_a_word_of_a_header(delivered, tmp_path):
    row, files, _ = delivered
    case = take(replace(row, event_date=None), replace(files, doses=[]), tmp_path)
    assert problem(case).code == "dose.missing"
    listed = case.record.series
    assert len(listed) == 5
    assert {one.modality for one in listed} == {"MR"}  # the first phantom was planned on an MRI
    assert sorted(one.contrast for one in listed) == [False, False, False, True, True]
    assert min(one.day for one in listed) < 0 < max(one.day for one in listed)
    for word in ("PHANTOM", "mprage", "1.2.826", "20"):
        assert word not in str([one.model_dump(exclude={"shape", "day", "series"}) for one in listed])


def entry(root: Path, delivered, tmp_path: Path, **images: str) -> Entry:
    row, files, _ = delivered
    case = take(row, files, tmp_path)
    for role, name in images.items():
        write_volume(root / name, case.volumes[role].voxels, case.volumes[role].world_from_voxel)
    paths = {role: root / name for role, name in images.items()}
    return Entry(replace(row, fractions=30, prescription_gy=60.0), paths, None, 0, 90, "")


def test_a_case_of_a_nifti_cohort(delivered, tmp_path):
    whole = entry(tmp_path, delivered, tmp_path, post="p.nii.gz", event="e.nii.gz", rd="d.nii.gz")
    case = from_nifti(whole, SUBJECT, replace(SETTINGS, dose=False))
    assert (set(case.volumes), case.columns.event_day) == ({"post", "event"}, 90)
    without = replace(whole, images={role: path for role, path in whole.images.items() if role != "rd"})
    assert problem(from_nifti(without, SUBJECT, SETTINGS)).code == "dose.missing"
    (tmp_path / "e.nii.gz").write_bytes(b"not an image")
    assert SUBJECT in str(problem(from_nifti(whole, SUBJECT, SETTINGS)))


def test_a_case_of_a_nifti_cohort_without_post_or_dose(delivered, tmp_path):
    """Partial: both are flags. A dose without the image in whose frame it lies is refused in any cohort."""
    whole = entry(tmp_path, delivered, tmp_path, event="e.nii.gz", rd="d.nii.gz", planning="p.nii.gz")
    alone = replace(whole, images={"event": whole.images["event"]})
    partial = replace(SETTINGS, partial=True)
    case = from_nifti(alone, SUBJECT, partial)
    assert (list(case.volumes), case.record.flags) == (["event"], ["rd: not in the delivery"])
    frameless = replace(
        whole, images=whole.images | {"rd": whole.images["rd"]}, excluded_because="post: not in the delivery"
    )
    del frameless.images["planning"]
    flags = from_nifti(with_or_without_post(frameless, post=True, partial=True), SUBJECT, partial).record.flags
    assert [flag.partition(":")[0] for flag in flags] == ["post", "rd left out"], "it is in the delivery"
    assert problem(from_nifti(alone, SUBJECT, SETTINGS)).code == "role.missing"
    event_only = replace(SETTINGS, post=False)
    assert list(from_nifti(alone, SUBJECT, replace(event_only, dose=False)).volumes) == ["event"]
    assert set(from_nifti(whole, SUBJECT, event_only).volumes) == {"event", "rd", "planning"}
    unplaced = replace(whole, images={role: path for role, path in whole.images.items() if role != "planning"})
    for settings in (partial, event_only):
        assert problem(from_nifti(unplaced, SUBJECT, settings)).code == "dose.no_frame"


ONE_MRI = replace(SETTINGS, dose=False, post=False)
GRID = np.diag([1.0, 1.0, 2.0, 1.0])


def segmented(folder: Path, labels: np.ndarray | None, lesion: tuple = (), world=GRID, note: str = "") -> Entry:
    """An event MRI with a segmentation beside it; None: a file of 0 bytes."""
    rng = np.random.default_rng(0)
    write_volume(folder / "event.nii.gz", rng.uniform(1, 9, (12, 10, 9)).astype(np.float32), GRID)
    path = folder / "seg.nii.gz"
    if labels is None:
        path.touch()
    else:
        write_volume(path, labels, world)
    images = {"event": folder / "event.nii.gz"}
    mask = LesionMask(path, lesion, note)
    return Entry(LabelRow(2, "a", "e1", "rice"), images, None, None, None, "", mask, ("as the cohort says",))


def label_map() -> np.ndarray:
    labels = np.zeros((12, 10, 9), dtype=np.int16)
    labels[2:8, 2:8, 2:8], labels[3:6, 3:6, 3:6], labels[4, 4, 4] = 1, 2, 3
    return labels


@pytest.mark.parametrize(("lesion", "expected"), [((2,), 26), ((2, 3), 27), ((), 216)])
def test_a_label_map_becomes_the_mask_of_its_labels(tmp_path, lesion, expected):
    case = from_nifti(segmented(tmp_path, label_map(), lesion), SUBJECT, ONE_MRI)
    assert set(case.volumes) == {"event", "lesion"}
    mask = case.volumes["lesion"].voxels
    assert sorted(np.unique(mask)) == [0, 1]
    assert mask.sum() == expected
    assert mask[3, 3, 3] == 1
    assert case.record.flags == ["as the cohort says"]


HALF = np.full((12, 10, 9), 0.5, dtype=np.float32)
HALF[0] = 0
UNUSABLE = {
    "no such label": (label_map(), (4,), "has no voxel of label 4"),
    "empty": (np.zeros((12, 10, 9), dtype=np.int16), (2,), "the same everywhere"),
    "no label map": (HALF, (2,), "a label map of whole numbers"),
    "0 bytes": (None, (2,), "0 bytes"),
}


@pytest.mark.parametrize(("labels", "lesion", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_segmentation_that_cannot_be_used_is_left_out_with_a_flag(tmp_path, labels, lesion, message):
    case = from_nifti(segmented(tmp_path, labels, lesion), SUBJECT, ONE_MRI)
    assert (case.problem, set(case.volumes)) == (None, {"event"})
    (flag,) = case.record.flags[1:]
    assert re.search(f"^lesion left out: .*({message})", flag)
    assert str(tmp_path) not in flag


def test_a_segmentation_in_another_frame_says_so_unless_the_grids_are_one(tmp_path):
    shifted = GRID.copy()
    shifted[0, 3] = 3
    moved = from_nifti(segmented(tmp_path, label_map(), (2,), shifted, "the exam's T1"), SUBJECT, ONE_MRI)
    assert "in the frame of the exam's T1" in moved.record.flags[1]
    np.testing.assert_array_equal(moved.volumes["lesion"].world_from_voxel, shifted)
    same = from_nifti(segmented(tmp_path, label_map(), (2,), note="the exam's T1"), SUBJECT, ONE_MRI)
    assert same.record.flags == ["as the cohort says"]
