"""What names, headers and the other series of an exam say of one series; which of several is the best."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.mr_series import THICK, VOLUME, mr

from ricenet.delivery.series_names import Wording, best_of, is_3d, plane_of, read_exams
from ricenet.errors import InvalidInput

NAMES = Path(__file__).parents[1] / "data" / "series_names.csv"
AGENT = {"contrast_agent": "Gadovist"}


NONE = Wording()


def contrast(series, wording=NONE):
    return [reading.contrast for reading in read_exams(series, wording).values()]


@pytest.mark.parametrize("agent", ["", "Gadovist"], ids=["without agent", "with an agent in every series"])
def test_real_names_are_taken_rightly_with_and_without_an_agent_in_the_header(agent):
    with NAMES.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["right_answer"] != "cannot be said"]
    series = [mr(number, row["series_name"], contrast_agent=agent) for number, row in enumerate(rows)]
    readings = read_exams(series, Wording())
    taken = [readings[each.uid].kind == "t1" and readings[each.uid].contrast == "yes" for each in series]
    right = [row["right_answer"] == "take" for row in rows]
    assert len(rows) == 104
    assert taken == right


def test_the_agent_counts_where_the_name_is_silent_and_another_series_has_none():
    silent, before = mr(1, "t1_mprage_sag", **AGENT), mr(2, "t2_tse_tra")
    assert contrast([silent, before]) == ["yes", "unsaid"]
    assert contrast([mr(3, "t1_mprage_nativ", **AGENT), before]) == ["no", "unsaid"]


def test_an_agent_that_every_series_has_was_copied():
    exam = [mr(1, "t1_mprage_sag", **AGENT), mr(2, "t2_tse_tra", **AGENT)]
    assert contrast(exam) == ["unsaid", "unsaid"]
    assert contrast(exam, Wording(trust_agent=True)) == ["yes", "yes"]
    scout = mr(3, "localizer", shape=(256, 256, 3))
    assert contrast([*exam, scout])[0] == "unsaid", "a localizer is measured before anybody fills in the form"
    other_day = mr(4, "t2_tse_tra", days=-50)
    assert contrast([*exam, other_day])[0] == "unsaid", "another exam"


@pytest.mark.parametrize("changes", [{"contrast_usage": "NO"}, {"contrast_amount": 0.0}])
def test_an_agent_that_was_not_administered(changes):
    assert contrast([mr(1, "t1_mprage", **AGENT, **changes), mr(2, "t2")])[0] == "no"
    assert contrast([mr(1, "t1_mprage_KM", **AGENT, **changes), mr(2, "t2")])[0] == "yes", "the name comes first"


def test_an_enhanced_object_that_says_that_it_was_administered():
    assert contrast([mr(1, "t1_mprage", contrast_usage="YES"), mr(2, "t2", contrast_usage="NO")]) == ["yes", "no"]


def test_a_protocol_name_counts_where_it_is_no_name_of_the_exam():
    ge = {"protocol_name": "BRAIN TUMOR PERF W CONTRAST", "scanner": ("GE MEDICAL SYSTEMS", "", "")}
    readings = read_exams([mr(1, "Ax 3D BRAVO", **ge), mr(2, "Ax T2", **ge)], Wording())
    assert [(each.kind, each.contrast) for each in readings.values()] == [("t1", "unsaid"), ("other", "unsaid")]
    unknown = {"protocol_name": "HEAD POST CONTRAST", "scanner": ("", "", "")}
    assert contrast([mr(1, "T1 tra", **unknown), mr(2, "T2 tra", **unknown)]) == ["unsaid", "unsaid"]
    own = [mr(1, "T1 tra", protocol_name="t1_tra_KM"), mr(2, "T1 tra", protocol_name="t1_tra")]
    assert contrast(own) == ["yes", "unsaid"]
    two_exams = [
        mr(1, "T1 tra", protocol_name="HEAD POST"), mr(2, "T2 tra", protocol_name="HEAD POST"),
        mr(3, "T1 cor", protocol_name="NECK"),
    ]  # fmt: skip
    assert contrast(two_exams) == ["unsaid"] * 3, "a T1 and a T2 share it: it names their exam"
    assert contrast([mr(1, "", protocol_name="T1 KM")]) == ["yes"], "the only name there is"


def test_a_site_adds_words_and_no_still_beats_yes():
    wording = Wording(contrast="zorvex", no_contrast="zero", never="x")
    exam = [mr(1, "t1 zorvex"), mr(2, "t1 zorvex nativ"), mr(3, "t1 zorvex ZERO"), mr(4, "t1 km")]
    assert contrast(exam, wording) == ["yes", "no", "no", "yes"]


@pytest.mark.parametrize(
    ("image_type", "kind"),
    [
        ("ORIGINAL\\PRIMARY\\M\\ND\\NORM", "t1"),
        ("DERIVED\\PRIMARY\\DIXON\\WATER", "t1"),
        ("DERIVED\\SECONDARY\\MPR", "reformat"),
        ("DERIVED\\SECONDARY\\REFORMATTED\\AVERAGE", "reformat"),
        ("DERIVED\\SECONDARY\\SUBTRACTION", "derived"),
        ("DERIVED\\SECONDARY\\PROJECTION IMAGE", "derived"),
        ("ORIGINAL\\PRIMARY\\MIP", "derived"),
        ("ORIGINAL\\PRIMARY\\P\\ND", "derived"),
        ("ORIGINAL\\PRIMARY\\PHASE MAP\\P\\FFE", "derived"),
        ("DERIVED\\PRIMARY\\DIXON\\FAT", "derived"),
        ("ORIGINAL\\PRIMARY\\M_FFE\\M\\FFE", "t1"),
    ],
)
def test_image_type_tells_reformats_and_computed_images(image_type, kind):
    (reading,) = read_exams([mr(1, image_type=tuple(image_type.split("\\")))], Wording()).values()
    assert reading.kind == kind


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
        ({}, {"spacing_mm": (1.0, 1.0, 1.6)}, "thicker"),
        ({**THICK, "plane": "axial"}, {**THICK, "plane": "coronal"}, "another plane"),
        ({"image_type": ("DERIVED", "PRIMARY", "WATER")}, {"image_type": ("DERIVED", "PRIMARY", "IN_PHASE")}, "water"),
        ({"name": "t1 KM"}, {"name": "t1 fs KM"}, "fat"),
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
