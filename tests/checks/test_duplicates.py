"""One patient under two ids is found by bytes, by voxels and by looks; two patients are not taken for one."""

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.phantom_scans import brain, rescan, scans

from ricenet.checks.duplicates import SAME_ABOVE, Traces, find_duplicates, thumbnail, voxel_hash
from ricenet.cohort.table import Case
from ricenet.images.volume import Volume, read_volume, write_volume


def trace(row: int, patient: str = "", thumb: np.ndarray | None = None, **hashes: str) -> Traces:
    case = Case(f"c{row}", patient or f"patient {row}", row, 1, "cv", {})
    return Traces(case, {role: f"file {text}" for role, text in hashes.items()}, hashes, thumb)


def codes(*traces: Traces) -> list[tuple[str, str, str]]:
    return [(found.code, found.channel, found.case) for found in find_duplicates(traces)]


def name(row: int) -> str:
    return f"case c{row} (row {row} of cohort.csv)"


def test_cases_of_their_own_have_no_duplicates() -> None:
    assert codes(trace(2, post="a", event="b", rd="c"), trace(3, post="d", event="e", rd="f")) == []


def test_the_same_image_under_two_patients_is_told_once() -> None:
    found = find_duplicates([trace(2, post="a", event="b"), trace(3, post="a", event="c")])
    assert [(each.code, each.channel, each.case) for each in found] == [("patient.same_image", "post", name(3))]
    assert "byte for byte" in found[0].message
    assert name(2) in found[0].message


def test_one_patients_event_as_anothers_post_and_a_shared_dose() -> None:
    first, second = trace(2, post="a", event="b", rd="x"), trace(3, post="b", event="c", rd="x")
    assert codes(first, second) == [("patient.same_image", "post", name(3)), ("patient.same_dose", "rd", name(3))]


def test_two_events_of_one_patient_may_share_post_and_dose() -> None:
    assert codes(trace(2, "p", post="a", event="b", rd="x"), trace(3, "p", post="a", event="c", rd="x")) == []


def test_a_further_mri_that_is_anothers_event_or_its_own_post() -> None:
    first, second = trace(2, post="a", event="b", rd="x", flair="c"), trace(3, post="d", event="e", rd="y", flair="b")
    assert codes(first, second) == [("patient.same_image", "flair", name(3))]
    (found,) = find_duplicates([trace(2, post="a", event="b", flair="a", planning="a")])
    assert (found.code, found.message) == ("image.same", "its post and flair image are the same")


def test_post_that_is_event() -> None:
    assert codes(trace(2, post="a", event="a")) == [("image.same", "", name(2))]


def test_the_same_voxels_in_other_bytes(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 900, (12, 13, 14)).astype(np.int16)
    write_volume(tmp_path / "a.nii.gz", voxels, np.eye(4))
    moved = np.diag([-1.0, 1, 1, 1])  # stored mirrored, as floats, without gzip, elsewhere: the same image
    nib.save(nib.Nifti1Image(voxels[::-1].astype(np.float32), moved), tmp_path / "b.nii")
    hashes = [voxel_hash(read_volume(tmp_path / file)) for file in ("a.nii.gz", "b.nii")]
    first, second = (Traces(trace(row).case, {"post": str(row)}, {"post": hashes[row - 2]}) for row in (2, 3))
    (found,) = find_duplicates([first, second])
    assert found.code == "patient.same_image"
    assert "voxel for voxel" in found.message


def picture(image: Volume, mask: np.ndarray) -> np.ndarray:
    return thumbnail(image.voxels, mask, image.world_from_voxel)


@pytest.mark.heavy
def test_a_rescan_with_other_noise_looks_the_same_and_other_patients_do_not() -> None:
    thumbs = [picture(scans(number).volumes["post"], brain(number).voxels > 0.5) for number in range(4)]
    alike = [float((a * b).sum()) for a, b in itertools.combinations(thumbs, 2)]
    assert max(alike) < SAME_ABOVE - 0.15
    # The second time the brain is found some voxels larger on one side.
    wider = (brain(0).voxels > 0.5) | np.roll(brain(0).voxels > 0.5, 1, axis=0)
    again = picture(rescan(0, "post"), wider)
    assert float((thumbs[0] * again).sum()) > SAME_ABOVE + 0.1
    traces = [trace(2 + number, thumb=thumb) for number, thumb in enumerate([*thumbs, again])]
    assert codes(*traces) == [("patient.near_duplicate", "", name(6))]


def test_an_identical_image_is_not_reported_twice() -> None:
    thumb = picture(scans(0).volumes["post"], brain(0).voxels > 0.5)
    assert codes(trace(2, thumb=thumb, post="a"), trace(3, thumb=thumb, post="a")) == [
        ("patient.same_image", "post", name(3))
    ]
