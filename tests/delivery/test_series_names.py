"""What names, headers and the other series of an exam say of one series."""

import csv
from pathlib import Path

import pytest
from helpers.mr_series import mr

from ricenet.delivery.series_names import Wording, read_exams

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


def test_an_agent_that_somebody_filled_in_during_the_exam_was_copied_into_what_came_before_it():
    flair = mr(1, "t2_flair", acquisition_time="0900")
    t1, later = mr(2, "t1_tse", acquisition_time="0910", **AGENT), mr(3, "t1_mprage", acquisition_time="0930", **AGENT)
    assert contrast([flair, t1, later]) == ["unsaid"] * 3, "one of the two may lie before the injection"
    assert contrast([flair, t1, later], Wording(trust_agent=True)) == ["unsaid", "yes", "yes"]
    before = mr(4, "t1_tse", acquisition_time="0905")
    assert contrast([flair, before, t1, later]) == ["unsaid", "unsaid", "yes", "yes"], "a T1 without: it is not copied"
    assert contrast([flair, mr(4, "t1_tse nativ"), t1, later])[2:] == ["yes", "yes"]
    copied = mr(7, "t1_tse nativ", **AGENT)
    assert contrast([flair, before, copied, later]) == ["unsaid", "unsaid", "no", "unsaid"], "copied, by its own word"
    named = mr(3, "t1_mprage_KM", acquisition_time="0930", **AGENT)
    assert contrast([flair, t1, named]) == ["unsaid", "unsaid", "yes"]
    uncorrected = mr(5, "t1_mprage", acquisition_time="0930", **AGENT)
    assert contrast([flair, later, uncorrected]) == ["unsaid", "yes", "yes"], "two images of one measurement"
    after = mr(6, "t1_tse", acquisition_time="0950")
    assert contrast([flair, t1, after]) == ["unsaid"] * 3, "a later T1 has none"


def test_a_scout_without_an_agent_proves_nothing():
    scout = mr(1, "AAHead_Scout", shape=(160, 160, 128))
    assert contrast([scout, mr(2, "t1_mprage", **AGENT), mr(3, "t2_tse", **AGENT)]) == ["unsaid"] * 3


@pytest.mark.parametrize(("changes", "said"), [({"contrast_usage": "NO"}, "no"), ({"contrast_amount": 0.0}, "unsaid")])
def test_an_agent_that_was_not_administered(changes, said):
    assert contrast([mr(1, "t1_mprage", **AGENT, **changes), mr(2, "t2")])[0] == said
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
    unnamed = [mr(1, "", protocol_name="T1 KM"), mr(2, "", protocol_name="T1 nativ"), mr(3, "", protocol_name="T1 KM")]
    assert contrast(unnamed) == ["yes", "no", "yes"]


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
        ("DERIVED\\SECONDARY\\MPR_THICK", "reformat"),
        ("ORIGINAL\\PRIMARY\\MPRAGE", "t1"),
        ("DERIVED\\SECONDARY\\SUBTRACTION", "derived"),
        ("DERIVED\\SECONDARY\\PROJECTION IMAGE", "derived"),
        ("ORIGINAL\\PRIMARY\\MIP", "derived"),
        ("ORIGINAL\\PRIMARY\\P\\ND", "derived"),
        ("ORIGINAL\\PRIMARY\\PHASE MAP\\P\\FFE", "derived"),
        ("DERIVED\\PRIMARY\\DIXON\\FAT", "derived"),
        ("DERIVED\\PRIMARY\\DIXON\\OUT_PHASE", "derived"),
        ("ORIGINAL\\PRIMARY\\F\\F\\FFE", "derived"),
        ("ORIGINAL\\PRIMARY\\OP\\OP\\FFE", "derived"),
        ("ORIGINAL\\PRIMARY\\M_FFE\\M\\FFE", "t1"),
    ],
)
def test_image_type_tells_reformats_and_computed_images(image_type, kind):
    (reading,) = read_exams([mr(1, image_type=tuple(image_type.split("\\")))], Wording()).values()
    assert reading.kind == kind
