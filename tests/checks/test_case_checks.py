"""One case, examined: a sound one gives nothing, each planted fault exactly its code."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.analytic_patient import SETTINGS, dose_of, edit, flip_bit, one_case, put, rewrite, truncate
from PIL import Image

from ricenet.cases.case_folder import folder_name, input_hashes, make_case_folder, prepare, write_case_folder
from ricenet.checks.case_checks import draw, examine
from ricenet.checks.duplicates import find_duplicates
from ricenet.checks.verify_record import DoseCoverage
from ricenet.errors import InvalidInput
from ricenet.images.dose_limits import preset
from ricenet.images.volume import read_volume, write_volume

pytestmark = pytest.mark.usefixtures("kept_registrations")


def codes(root: Path, flip: bool = False, ready: Path | None = None) -> list[str]:
    case, _ = one_case(root)
    return [found.code for found in examine(case, ready, flip).findings]


@pytest.mark.heavy
def test_a_sound_case_gives_facts_and_no_finding(cohort: Path) -> None:
    case, inputs = one_case(cohort)
    examined = examine(case, None, flip=True)
    assert examined.findings == []
    assert examined.traces.files == inputs
    assert set(examined.traces.voxels) == {"post", "event", "rd"}
    assert examined.facts.images["post"].shape == (52, 62, 44)
    assert examined.facts.images["post"].spacing_mm == (3, 3, 3.4)
    assert examined.facts.images["rd"].maximum == pytest.approx(61.4, abs=0.3)
    assert examined.facts.dose_coverage == DoseCoverage(share=1.0, exact=False)
    assert examined.facts.sides.straight > examined.facts.sides.mirrored + 0.05


def flip_sides(root: Path) -> None:
    rewrite("event", lambda voxels: voxels[::-1])(root)


def two_frames(root: Path) -> None:
    path = root / "MUSTERMANN-1" / "event.nii.gz"
    image = nib.load(path)
    moved = image.affine.copy()
    moved[2, 3] += 30
    image = nib.Nifti1Image(np.asarray(image.dataobj), None)
    image.set_sform(nib.load(path).affine, code=1)
    image.set_qform(moved, code=1)
    nib.save(image, path)


def swap(root: Path) -> None:
    post, rd = (root / "MUSTERMANN-1" / f"{role}.nii.gz" for role in ("post", "rd"))
    post.rename(root / "x")
    rd.rename(post)
    (root / "x").rename(rd)


def crop_dose(root: Path) -> None:
    path = root / "MUSTERMANN-1" / "rd.nii.gz"
    image = nib.load(path)
    nib.save(image.slicer[30:], path)


FAULTS = {
    "truncated": (truncate, ["file.damaged"]),
    "NaN": (rewrite("post", put(np.nan)), ["image.not_finite"]),
    "constant": (rewrite("event", np.ones_like), ["image.constant"]),
    "mask": (rewrite("event", lambda voxels: (voxels > 0).astype(np.uint8)), ["role.looks_like_mask"]),
    "cGy": (rewrite("rd", lambda voxels: voxels * 100), ["dose.cgy"]),
    "one fraction": (rewrite("rd", lambda voxels: voxels / 30), ["dose.one_fraction"]),
    "columns swapped": (swap, ["role.looks_like_dose", "role.looks_like_mri"]),
    "two frames": (two_frames, ["geometry.two_frames"]),
    "cropped dose": (crop_dose, ["dose.coverage_estimated"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_gives_exactly_its_code(own: Path, fault: str) -> None:
    damage, expected = FAULTS[fault]
    damage(own)
    assert codes(own) == expected


def test_a_flipped_bit_is_found(own: Path) -> None:
    flip_bit(own)
    (code,) = codes(own)
    assert code in ("file.damaged", "file.size")


@pytest.mark.slow
def test_a_flipped_event_is_found_unless_switched_off(own: Path) -> None:
    flip_sides(own)
    assert codes(own, flip=True) == ["geometry.flip"]
    assert codes(own, flip=False) == []


def test_with_a_brain_mask_the_coverage_is_exact(own: Path) -> None:
    crop_dose(own)
    case, _ = one_case(own)
    post = read_volume(case.images["post"])
    write_volume(own / "mask.nii.gz", post.voxels > 0, post.world_from_voxel)
    examined = examine(replace(case, brain_mask=own / "mask.nii.gz"), None, flip=False)
    assert [found.code for found in examined.findings] == ["dose.coverage"]
    assert examined.facts.dose_coverage.exact
    # Where the dose has a planning image of its own, post and its mask are in another frame.
    planned = replace(case, brain_mask=own / "mask.nii.gz", planning=case.images["event"])
    assert not examine(planned, None, flip=False).facts.dose_coverage.exact


def test_a_case_without_a_post_image_is_checked_for_what_it_has(own: Path) -> None:
    """The post-OP MRI becomes the planning image: the dose is compared with it, and sides with nothing."""
    given, _ = one_case(own)
    event, planned = given.images["event"], given.images["post"]
    case = replace(given, images={"event": event, "rd": given.images["rd"]}, planning=planned)
    examined = examine(case, None, flip=True)
    assert examined.findings == []
    assert examined.facts.images.keys() == {"event", "rd", "planning"}
    assert (examined.facts.sides, examined.facts.dose_coverage) == (None, DoseCoverage(share=1.0, exact=False))
    with Image.open(io.BytesIO(draw(case))) as image:
        coloured = (np.ptp(np.asarray(image.convert("RGB")).astype(int), axis=2) > 60).reshape(900, 3, 300)
    assert coloured.sum(axis=(0, 2))[2] > 500
    # A mask on the event says nothing of a dose that was planned elsewhere, and all of one that lies there.
    image = read_volume(event)
    write_volume(own / "mask.nii.gz", image.voxels > 0, image.world_from_voxel)
    masked = replace(case, brain_mask=own / "mask.nii.gz")
    assert not examine(masked, None, flip=False).facts.dose_coverage.exact
    assert examine(replace(masked, planning=event), None, flip=False).facts.dose_coverage.exact
    alone = examine(replace(case, images={"event": event}, planning=None), None, flip=True)
    assert (alone.findings, alone.facts.dose_coverage) == ([], None)


def test_a_case_folder_of_the_same_files_is_used_and_of_others_is_stale(own: Path, tmp_path: Path) -> None:
    case, inputs = one_case(own)
    name = folder_name(case, inputs, SETTINGS)
    write_case_folder(tmp_path, name, prepare(case, inputs, SETTINGS))
    examined = examine(case, tmp_path / name, flip=False)
    record = json.loads((tmp_path / name / "case.json").read_text())
    assert examined.findings == []
    assert examined.facts.dose_coverage == DoseCoverage(share=record["qc"]["dose_coverage"], exact=True)
    assert examined.traces.thumbnail is not None
    assert np.linalg.norm(examined.traces.thumbnail) == pytest.approx(1, abs=1e-3)
    rewrite("post", put(300))(own)
    assert codes(own, ready=tmp_path / name) == ["cases.stale"]


def test_masks_are_read_and_compared_with_the_image_in_whose_frame_they_lie(own: Path) -> None:
    case, _ = one_case(own)
    for role in ("post", "event"):
        image = read_volume(case.images[role])
        write_volume(own / f"{role}_mask.nii.gz", image.voxels > 0, image.world_from_voxel)
    event = read_volume(case.images["event"])
    middle = np.argwhere(event.voxels > 0).mean(axis=0).round().astype(int)
    lesion = np.zeros(event.voxels.shape, dtype=np.float32)
    lesion[tuple(slice(each - 3, each + 4) for each in middle)] = 1
    write_volume(own / "lesion.nii.gz", lesion, event.world_from_voxel)
    x, y, z = (event.world_from_voxel @ [*middle, 1])[:3]
    structures = {"GTV": own / "post_mask.nii.gz"}
    good = replace(case, lesion=own / "lesion.nii.gz", structures=structures, lesion_mm=(x, y, z))
    assert examine(good, None, flip=False).findings == []
    elsewhere = examine(replace(good, lesion_mm=(x, y, z + 60)), None, flip=False).findings
    brain = examine(replace(good, lesion=own / "event_mask.nii.gz", lesion_mm=None), None, flip=False).findings
    assert [each.code for each in (*elsewhere, *brain)] == ["lesion.elsewhere", "lesion.large"]
    on_planning = replace(good, lesion=structures["GTV"], lesion_mm=(0.0, 0.0, 500.0))
    assert examine(on_planning, None, flip=False).findings == [], "in another frame than lesion_mm"
    moved = event.world_from_voxel.copy()
    moved[:3, 3] += 200
    write_volume(own / "moved.nii.gz", event.voxels > 0, moved)
    bad = replace(case, lesion=own / "moved.nii.gz", structures={"GTV": case.images["post"]})
    found = {(each.code, each.channel, each.severity) for each in examine(bad, None, flip=False).findings}
    assert found == {("mask.outside", "lesion", "error"), ("mask.values", "GTV", "error")}


def test_a_case_folder_with_masks_is_stale_once_a_mask_changes(own: Path, tmp_path: Path) -> None:
    case, _ = one_case(own)
    post = read_volume(case.images["post"])
    write_volume(own / "mask.nii.gz", post.voxels > 0, post.world_from_voxel)
    case = replace(case, structures={"Brain": own / "mask.nii.gz"})
    inputs = input_hashes(case)
    name = folder_name(case, inputs, SETTINGS)
    write_case_folder(tmp_path, name, prepare(case, inputs, SETTINGS))
    assert examine(case, tmp_path / name, flip=False).findings == []
    write_volume(own / "mask.nii.gz", post.voxels > 300, post.world_from_voxel)
    assert [each.code for each in examine(case, tmp_path / name, flip=False).findings] == ["cases.stale"]


def test_the_picture_shows_what_can_be_read(own: Path) -> None:
    case, _ = one_case(own)
    with Image.open(io.BytesIO(draw(case))) as image:
        whole = np.asarray(image.convert("RGB")).astype(int)
    assert whole.shape == (900, 900, 3)
    coloured = (np.ptp(whole, axis=2) > 60).reshape(900, 3, 300).sum(axis=(0, 2))
    assert coloured[2] > 500 > 50 > coloured[:2].max(), "isodoses in the third column alone"
    truncate(own)
    with Image.open(io.BytesIO(draw(case))) as image:
        event = np.asarray(image.convert("L"))[40:, 310:590]
    assert event.mean() < 1
    assert draw(replace(case, images={"event": case.images["event"]})) == b""


def test_a_stereotactic_dose_is_a_warning_or_as_the_limits_say(own: Path) -> None:
    edit(0, fractions="5", prescription_gy="35")(own)
    assert codes(own) == ["dose.per_fraction", "dose.stereotactic"]
    case, _ = one_case(own)
    assert examine(case, None, False, preset("stereotactic")).findings == []
    edit(0, fractions="", prescription_gy="35")(own)
    assert codes(own) == ["dose.not_as_prescribed"]


def boost(root: Path, shares: tuple[float, float], **row: str) -> None:
    """Part the first patient's dose into two, the second in a frame of its own."""
    for name, share in zip(("rd_2", "rd"), shares[::-1], strict=True):
        dose = read_volume(root / "MUSTERMANN-1" / "rd.nii.gz")
        write_volume(root / "MUSTERMANN-1" / f"{name}.nii.gz", share * dose.voxels, dose.world_from_voxel)
    shutil.copy(root / "MUSTERMANN-1" / "post.nii.gz", root / "MUSTERMANN-1" / "planning_2.nii.gz")
    files = {role: f"MUSTERMANN-1/{role}.nii.gz" for role in ("rd_2", "planning_2")}
    edit(0, **files, **row)(root)


def test_a_boost_in_a_frame_of_its_own_is_read_and_drawn(own: Path) -> None:
    boost(own, (46 / 62, 16 / 62))
    case, inputs = one_case(own)
    examined = examine(case, None, False)
    assert examined.findings == []
    assert examined.traces.files == inputs
    assert {"rd", "rd_2", "planning_2"} <= examined.facts.images.keys()
    assert find_duplicates([examined.traces]) == []
    widths = [Image.open(io.BytesIO(draw(each))).width for each in (case, replace(case, further_doses={}))]
    assert widths[0] == pytest.approx(widths[1] * 4 / 3, abs=2)


@pytest.mark.parametrize(
    ("shares", "row", "code"),
    [
        ((0.5, 0.2), {}, "dose.not_as_prescribed"),  # together at most 42 of 60 Gy
        ((1.3, 0.2), {}, "dose.not_as_prescribed"),
        ((0.5, 0.5), {}, "dose.same"),
        ((1.7, 0.2), {"prescription_gy": ""}, "dose.too_high"),
        ((0.75, 0.25), {"prescription_gy": "60", "fractions": "15"}, "dose.per_fraction"),
        ((100 * 0.75, 25), {}, "dose.cgy"),
    ],
)
def test_what_no_two_doses_of_a_treatment_are(own: Path, shares: tuple[float, float], row: dict, code: str) -> None:
    boost(own, shares, **row)
    assert codes(own) == [code]


def test_an_unreadable_file_costs_the_case_nothing_else(own: Path) -> None:
    truncate(own)
    rewrite("rd", lambda voxels: dose_of(np.zeros((*voxels.shape, 3))) + voxels * 100)(own)
    assert sorted(codes(own, flip=True)) == ["dose.cgy", "file.damaged"]


def test_the_reader_is_the_one_of_preprocessing(own: Path) -> None:
    truncate(own)
    case, _ = one_case(own)
    with pytest.raises(InvalidInput) as caught:
        read_volume(case.images["event"])
    (found,) = examine(case, None, flip=False).findings
    assert (found.code, found.hint) == (caught.value.code, caught.value.hint)
    assert str(caught.value).endswith(f"{found.message}; {found.hint}")


@pytest.mark.heavy
def test_verify_says_what_looks_stripped_and_measures_likeness_in_the_case_folder(cohort: Path, tmp_path: Path) -> None:
    case, inputs = one_case(cohort)
    make_case_folder(tmp_path, "c0", case, inputs, SETTINGS)
    examined = examine(case, tmp_path / "c0", flip=False)
    assert {role: facts.skull for role, facts in examined.facts.images.items()} == {
        "post": "stripped", "event": "stripped", "rd": None,
    }  # fmt: skip
    assert examined.facts.likeness == pytest.approx(0.98, abs=0.02)
    assert examined.findings == []
    (tmp_path / "c0" / "checks.json").write_text('{"likeness": 0.15}')
    assert [found.code for found in examine(case, tmp_path / "c0", flip=False).findings] == ["patient.two_people"]
