"""Each fault gives exactly its code; phantoms, analytic doses and the MNI152 give none."""

import numpy as np
import pytest
from helpers.analytic_patient import brain_of, dose_of, grid, points
from helpers.mni152 import mni152
from helpers.phantom_scans import scans

from ricenet.checks import image_checks
from ricenet.cohort.table import Case
from ricenet.errors import InvalidInput, about
from ricenet.images.volume import Volume

NAME = "case c0123456789ab (row 2 of cohort.csv)"
CASE = Case("c0123456789ab", "c1", 2, 1, "cv", {}, prescription_gy=60, fractions=30)
SHAPE = (60, 64, 56)
AFFINE = grid(SHAPE, (3, 3, 3))
AT = points(SHAPE, AFFINE, np.eye(4))
HEADS = {
    "MNI152": mni152,
    "phantom post": lambda: scans(0).volumes["post"],
    "phantom event": lambda: scans(0).volumes["event"],
}


def mri(change=lambda voxels: voxels) -> Volume:
    return Volume(change(brain_of(AT, 0, 1.0)).astype(np.float32), AFFINE)


def rd(change=lambda voxels: voxels) -> Volume:
    return Volume(change(dose_of(AT)).astype(np.float32), AFFINE)


def ball_dose(radius_mm: float, falloff_mm: float) -> Volume:
    distance = np.linalg.norm(AT, axis=-1)
    return Volume((60 / (1 + np.exp((distance - radius_mm) / falloff_mm))).astype(np.float32), AFFINE)


def codes(findings) -> list[tuple[str, str]]:
    assert all(found.case == NAME and found.hint for found in findings)
    return [(found.code, found.severity) for found in findings]


def test_an_mri_is_an_mri_and_a_dose_a_dose() -> None:
    assert codes(image_checks.check_intensity(mri(), NAME, "post")) == []
    assert codes(image_checks.check_dose(rd(), CASE)) == []
    assert image_checks.roughness(rd()) < 0.2 < 0.5 < image_checks.roughness(mri())


@pytest.mark.parametrize(("radius_mm", "falloff_mm"), [(50, 8), (40, 4), (30, 3), (20, 2.5), (10, 2)])
def test_no_dose_in_gy_is_called_an_mri_however_small_its_target(radius_mm, falloff_mm) -> None:
    assert not image_checks.looks_like_mri(ball_dose(radius_mm, falloff_mm))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("brightest", [None, 80.0])
def test_mris_of_heads_are_mris_also_rescaled_to_a_doses_range(head, brightest) -> None:
    image = HEADS[head]()
    voxels = image.voxels if brightest is None else image.voxels * (brightest / image.voxels.max())
    assert codes(image_checks.check_intensity(Volume(voxels, image.world_from_voxel), NAME, "post")) == []
    assert image_checks.looks_like_mri(image)


def negative(voxels):
    return (voxels - voxels.mean()) / voxels.std()


INTENSITY = {
    "mask": (lambda voxels: voxels > 0, "role.looks_like_mask", "error"),
    "labels": (lambda voxels: np.digitize(voxels, [1, 100, 300, 400]), "role.looks_like_mask", "error"),
    "CT": (lambda voxels: np.where(voxels > 0, 40 + voxels / 50, -1000), "role.looks_like_ct", "error"),
    "dose": (lambda voxels: dose_of(AT), "role.looks_like_dose", "error"),
    "clipped": (lambda voxels: np.minimum(voxels, 380), "intensity.clipped", "warning"),
    "negative": (negative, "intensity.negative", "warning"),
}


@pytest.mark.parametrize("fault", INTENSITY)
def test_what_is_no_mri_gives_its_code(fault) -> None:
    change, code, severity = INTENSITY[fault]
    assert codes(image_checks.check_intensity(mri(change), NAME, "event")) == [(code, severity)]


DOSE = {
    "MRI": (lambda voxels: brain_of(AT, 0, 1.0), "role.looks_like_mri"),
    "cGy": (lambda voxels: voxels * 100, "dose.cgy"),
    "one fraction": (lambda voxels: voxels / 30, "dose.one_fraction"),
    "negative": (lambda voxels: voxels - 3, "dose.negative"),
    "boost left out": (lambda voxels: voxels * 0.7, "dose.not_as_prescribed"),
}


@pytest.mark.parametrize("fault", DOSE)
def test_what_is_no_whole_dose_gives_its_code(fault) -> None:
    change, code = DOSE[fault]
    assert codes(image_checks.check_dose(rd(change), CASE)) == [(code, "error")]


def image_of(shape, spacing_mm) -> Volume:
    return Volume(np.ones(shape, np.float32), grid(shape, spacing_mm))


GEOMETRY = {
    "usual": ((240, 240, 155), (1, 1, 1), []),
    "2D series": ((240, 240, 30), (1, 1, 6.5), [("geometry.spacing", "warning")]),
    "slab": ((240, 240, 40), (1, 1, 2), [("geometry.field_of_view", "warning")]),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry(name) -> None:
    shape, spacing_mm, expected = GEOMETRY[name]
    assert codes(image_checks.check_geometry(image_of(shape, spacing_mm), NAME, "post")) == expected


@pytest.mark.parametrize(("apart_mm", "expected"), [(0.5, []), (7.0, [("geometry.two_frames", "warning")])])
def test_two_frames(apart_mm, expected) -> None:
    assert codes(image_checks.check_frames(apart_mm, NAME, "post")) == expected


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({}, []),
        ({"post_day": "10", "event_day": ""}, []),
        ({"post_day": "10", "event_day": "200"}, []),
        ({"post_day": "200", "event_day": "10"}, [("role.order", "error")]),
        ({"post_day": "-3", "event_day": "0"}, []),
        ({"post_date": "2021-02-01", "event_date": "2021-10-01"}, []),
        ({"post_date": "2021-10-01", "event_date": "2021-02-01"}, [("role.order", "error")]),
        ({"post_date": "1.10.2021", "event_date": "2021-02-01"}, [("table.day", "warning")]),
        ({"post_day": "ten", "event_day": "3"}, [("table.day", "warning")]),
    ],
)
def test_post_comes_before_event_and_no_date_is_told(extra, expected) -> None:
    findings = image_checks.check_days(extra, NAME)
    assert codes(findings) == expected
    assert "2021" not in str(findings)


def test_the_share_of_a_mask_on_the_dose_grid_is_exact() -> None:
    brain = Volume((np.linalg.norm(AT, axis=-1) < 60).astype(np.float32), AFFINE)
    half = Volume(rd().voxels[SHAPE[0] // 2 :], AFFINE @ _shift(SHAPE[0] // 2))
    assert image_checks.dose_share_of_mask(rd(), brain) == 1
    assert image_checks.dose_share_of_mask(half, brain) == pytest.approx(0.5, abs=0.01)
    assert codes(image_checks.check_dose_share(0.5, True, NAME)) == [("dose.coverage", "error")]


def _shift(voxels: int) -> np.ndarray:
    moved = np.eye(4)
    moved[0, 3] = voxels
    return moved


def test_the_share_of_the_head_is_a_guess_and_says_so() -> None:
    half = Volume(rd().voxels[SHAPE[0] // 2 :], AFFINE @ _shift(SHAPE[0] // 2))
    assert image_checks.dose_share_of_head(rd(), mri()) == 1
    share = image_checks.dose_share_of_head(half, mri())
    assert share == pytest.approx(0.5, abs=0.06)
    (found,) = image_checks.check_dose_share(share, False, NAME)
    assert (found.code, found.severity) == ("dose.coverage_estimated", "warning")
    assert "guess" in found.hint
    assert image_checks.check_dose_share(0.96, False, NAME) == image_checks.check_dose_share(0.96, True, NAME) == []


def test_an_error_becomes_a_finding_without_the_case_in_its_text() -> None:
    error = InvalidInput("expected a file, got none", "correct it", code="file.missing")
    with pytest.raises(InvalidInput), about(NAME, "event"):
        raise error
    found = image_checks.finding(error, NAME)
    assert str(found) == f"[file.missing] {NAME}: expected a file, got none; correct it"
    assert found.channel == "event"
