"""Which of several post-contrast T1 of one day is taken, and what is said of the others."""

from dataclasses import replace

import pytest
from helpers.mr_series import THICK, VOLUME, mr

from ricenet.delivery.best_series import best_of, exams_of_day, is_3d, plane_of
from ricenet.delivery.series_names import Wording, read_exams
from ricenet.errors import InvalidInput

AGENT = {"contrast_agent": "Gadovist"}


def best(*series):
    left, passed_over = best_of(series, read_exams(series, Wording()))
    assert {each.uid for each in left} | {each.uid for each, _ in passed_over} == {each.uid for each in series}
    return left, {each.number: reason for each, reason in passed_over}


SECONDARY = ("DERIVED", "SECONDARY")
BROKEN = InvalidInput("a gap", code="series.gap")


@pytest.mark.parametrize(
    ("better", "worse", "reason"),
    [
        ({"name": "t1 KM"}, {"name": "t1", **AGENT}, "only its header"),
        ({}, {"name": "t1_mprage_KM_MPR_tra"}, "reformat"),
        ({}, {"image_type": (*SECONDARY, "MPR")}, "reformat"),
        ({**THICK}, {"image_type": (*SECONDARY, "OTHER"), **VOLUME}, "made from another"),
        ({**THICK}, {**VOLUME, "shape": (256, 256, 60)}, "a part of the head"),
        ({**VOLUME}, {**THICK}, "2D beside 3D"),
        ({"shape": (256, 256, 120)}, {"shape": (256, 256, 60), "spacing_mm": (1, 1, 2)}, "2D beside 3D"),
        ({}, {"problem": BROKEN}, "no whole volume"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "M", "DIS2D")}, {"image_type": ("ORIGINAL", "PRIMARY", "M", "ND")},
         "distortion"),
        ({"name": "t1 KM"}, {"name": "t1_KM_ND"}, "distortion"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "ND", "DIS3D")}, {"image_type": ("ORIGINAL", "PRIMARY", "ND")},
         "distortion"),
        ({"name": "t1 KM", **THICK}, {"name": "t1 KM delayed"}, "delayed"),
        ({}, {"spacing_mm": (1.0, 1.0, 1.6)}, "thicker"),
        ({**THICK, "plane": "axial"}, {**THICK, "plane": "coronal"}, "another plane"),
        ({"image_type": ("DERIVED", "PRIMARY", "WATER")}, {"image_type": ("DERIVED", "PRIMARY", "IN_PHASE")}, "water"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "W")}, {"image_type": ("ORIGINAL", "PRIMARY", "IP")}, "water"),
        ({"name": "t1 KM"}, {"name": "t1 fs KM"}, "fat"),
        ({"name": "t1_mprage KM"}, {"name": "t1_space_bb KM"}, "blood"),
        ({"name": "t1 KM"}, {"name": "t1 mtc KM"}, "magnetisation"),
        ({}, {"image_type": ("DERIVED", "PRIMARY")}, "made from another"),
        ({"acquisition_time": "101500"}, {"acquisition_time": "101200"}, "again later"),
        ({"spacing_mm": (0.5, 0.5, 1.0), "shape": (512, 512, 176)}, {}, "larger voxels"),
        ({}, {"shape": (256, 256, 140)}, "smaller volume"),
    ],
)  # fmt: skip
def test_which_of_two_goes_first_and_why(better, worse, reason):
    one, other = mr(1, **better), mr(2, **worse)
    before = mr(3, "t2_tse_tra")  # so that an agent counts
    readings = read_exams([one, other, before], Wording())
    for pair in ((one, other), (other, one)):
        left, passed_over = best_of(pair, readings)
        assert [each.number for each in left] == [1]
        ((passed, why),) = passed_over
        assert passed.number == 2
        assert reason in why


def test_what_nothing_tells_apart_stays():
    left, passed_over = best(mr(1), mr(2))
    assert len(left) == 2
    assert not passed_over
    left, _ = best(mr(1, "MPRAGE KM", acquisition_time="101200"), mr(2, "T1 SPACE KM", acquisition_time="101500"))
    assert len(left) == 2, "another sequence is no repeat"
    left, _ = best(mr(1, acquisition_time="101200"), mr(2))
    assert len(left) == 2, "one of the times is not known"


def test_3d_and_plane_where_the_header_does_not_say():
    assert is_3d(mr(1))
    assert not is_3d(mr(1, shape=(512, 512, 24), spacing_mm=(0.5, 0.5, 6.0)))
    assert not is_3d(mr(1, acquisition_3d=False))
    assert [plane_of(mr(1, plane=plane)) for plane in ("axial", "coronal", "sagittal")] == [
        "axial",
        "coronal",
        "sagittal",
    ]
    assert plane_of(replace(mr(1), grid=None)) == ""


def study(number, uid, time):
    return mr(number, study_uid=uid, acquisition_time=time)


def test_studies_that_began_hours_apart_are_two_exams():
    morning, evening = study(1, "a", "081500.0"), study(2, "b", "190000")
    assert exams_of_day([evening, morning]) == [[morning], [evening]]
    split = study(3, "c", "084000")
    assert exams_of_day([split, morning, evening]) == [[morning, split], [evening]], "one exam filed as two studies"
    unknown = study(4, "d", "")
    assert exams_of_day([morning, unknown, evening]) == [[morning, unknown, evening]]
    assert exams_of_day([morning, study(5, "a", "130000")]) == [[morning, study(5, "a", "130000")]], "one study"
