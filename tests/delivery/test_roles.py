"""Rules choose a series or say why not; nothing is guessed."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.mr_series import EVENT_DAY, KEY, START, THICK, TIMES, VOLUME, mr

from ricenet.command.schemas import IngestConfig, RuleConfig, compose
from ricenet.delivery.roles import Timeline, Undecided, check_rules, choose, describe_series, series_key
from ricenet.delivery.series import index_delivery
from ricenet.delivery.series_names import Wording
from ricenet.dicom.image_series import Series
from ricenet.dicom.slice_stack import Stack
from ricenet.dicom.uneven_slices import UnevenStack
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.phantoms.hospital import write_series

CFG = compose("ingest", IngestConfig, ["delivery=d", "labels=l", "out=o"])
WORDING = Wording()


def pick(
    role: str,
    found: list[Series],
    times: Timeline = TIMES,
    frame: str | None = None,
    named: str = "",
    wording: Wording = WORDING,
):
    named_by = {"frame": frame, "wording": wording, "key": KEY, "named": named}
    return choose(role, found, CFG.rules, times, **named_by)


def test_the_last_enhanced_t1_before_radiotherapy_is_post():
    early, last, after = mr(1, days=-40), mr(2, days=-10), mr(3, days=90)
    native = mr(4, "t1_mprage_sag")
    flair = mr(5, "t2_flair_KM")
    scout = mr(6, "t1 localizer KM", shape=(256, 256, 3))
    choice = pick("post", [after, early, native, flair, last, scout])
    assert choice.series is last
    assert choice.candidates == (last,)
    assert "before radiotherapy" in choice.reason


def test_a_volume_goes_before_thick_slices():
    thick = mr(1, shape=(512, 512, 24), spacing_mm=(0.5, 0.5, 5.5))
    volume = mr(2)
    assert pick("post", [thick, volume]).series is volume
    assert pick("post", [thick]).series is thick


def test_the_event_is_the_scan_nearest_to_its_date():
    near, nearer, far = mr(1, days=198), mr(2, days=201), mr(3, days=260)
    assert pick("event", [far, near, nearer]).series is nearer
    with pytest.raises(InvalidInput, match=r"event: none of the patient's 1 series") as caught:
        pick("event", [far])  # a date that is given binds: no later scan is taken instead
    assert caught.value.code == "role.missing"


def test_without_a_date_the_only_follow_up_is_the_event_and_two_are_ambiguous():
    times = replace(TIMES, event=None)
    only, other = mr(1, days=120), mr(2, days=200)
    assert pick("event", [mr(9), only], times).series is only
    with pytest.raises(InvalidInput, match="2 series fit equally") as caught:
        pick("event", [only, other], times)
    assert caught.value.code == "role.ambiguous"
    assert all(series_key(one, KEY) in str(caught.value) for one in (only, other))
    assert pick("event", [only, other], times, named=series_key(other, KEY)).series is other


def test_of_two_exams_of_one_day_the_later_is_post_and_the_event_is_asked_about():
    stealth = {"name": "T1 STEALTH POST", "study_uid": "a", "acquisition_time": "080000"}
    early_post_op = {"name": "AX T1 POST", "study_uid": "b", "acquisition_time": "190000", **THICK}
    before, after = mr(1, **stealth), mr(2, **early_post_op)
    for times in (TIMES, replace(TIMES, post=before.date)):
        choice = pick("post", [before, after], times)
        assert choice.series is after
        assert choice.passed_over == ((before, "of an earlier exam of the same day"),)
        assert not choice.remark
    silent = mr(2, **{**early_post_op, "name": "AX T1"})
    assert "a later exam of its day has T1" in pick("post", [before, silent]).remark
    unknown = [replace(each, acquisition_time="") for each in (before, after)]
    assert "no header says which came first" in pick("post", unknown).remark
    follow_up = [mr(1, days=EVENT_DAY, **stealth), mr(2, days=EVENT_DAY, **early_post_op)]
    with pytest.raises(Undecided) as caught:
        pick("event", follow_up)
    assert len(caught.value.candidates) == 2


def test_what_a_name_or_the_slices_say_against_the_choice_is_said():
    assert "an operation to come" in pick("post", [mr(1, "PREOP T1 POST GAD")]).remark
    assert not pick("event", [mr(1, "PREOP T1 POST GAD", days=EVENT_DAY)]).remark
    slab = mr(1, "T1 KM", shape=(512, 512, 24), spacing_mm=(0.4, 0.4, 3.0), plane="coronal")
    assert "only a part of a head" in pick("post", [slab]).remark


def test_another_part_of_the_body_is_passed_over_and_said():
    head, orbit = mr(1, "AX T1 POST", **THICK), mr(2, "COR T1 ORBIT POST")
    choice = pick("post", [head, orbit])
    assert choice.series is head
    assert choice.passed_over == ((orbit, "its name speaks of another weighting, or of another part of the body"),)
    with pytest.raises(InvalidInput, match="post: none"):
        pick("post", [orbit])


def test_a_given_post_date_binds():
    times = replace(TIMES, post=START - timedelta(days=40))
    early, last = mr(1, days=-40), mr(2, days=-10)
    assert pick("post", [early, last], times).series is early
    with pytest.raises(InvalidInput, match="post: none"):
        pick("post", [last], times)


def test_what_is_not_known_is_said():
    with pytest.raises(InvalidInput, match=r"not known here: .*before radiotherapy"):
        pick("post", [mr(1)], Timeline(None, None, None, None, 3))


def test_the_planning_image_is_in_the_frame_of_the_dose_and_a_ct_goes_first():
    ct = mr(1, modality="CT", name="planning", frame_of_reference="F2", contrast_agent="")
    native = mr(2, "t1_mprage", frame_of_reference="F2")
    assert pick("planning", [mr(3), native, ct], frame="F2").series is ct
    assert pick("planning", [mr(3), native], frame="F2").series is native
    with pytest.raises(InvalidInput, match="planning: none"):
        pick("planning", [mr(3)], frame="F2")


def test_of_several_planning_images_the_contoured_one_counts_then_the_finest():
    ct = {"modality": "CT", "name": "CT", "frame_of_reference": "F2", "contrast_agent": ""}
    native, contrast = mr(1, **ct), mr(2, **ct)
    thick, thin = mr(3, **ct, spacing_mm=(1.0, 1.0, 3.0)), mr(4, **ct, spacing_mm=(0.9, 0.9, 1.0))

    def planned(found, *uids):
        named_by = {"frame": "F2", "wording": WORDING, "key": KEY, "planned_on": uids}
        return choose("planning", found, CFG.rules, TIMES, **named_by)

    choice = planned([native, contrast], contrast.uid)
    assert choice.series is contrast
    assert "that the plan's structures were drawn on" in choice.remark
    assert choice.candidates == (native, contrast)
    choice = planned([thick, thin, mr(5, **ct, shape=(256, 256, 100))])
    assert choice.series is thin
    assert "most slices and the finest step" in choice.remark
    assert planned([native, contrast]).series is native, "alike: either leads to the post-OP MRI"
    assert planned([native, contrast], "1.2.99").series is native, "the contoured series was not delivered"


def test_a_broken_series_is_refused_by_name_and_not_replaced():
    broken = mr(
        1, problem=InvalidInput("expected a slice every 1 mm, got 3 missing", "export again", code="series.gap")
    )
    with pytest.raises(InvalidInput, match="post: expected a slice every 1 mm") as caught:
        pick("post", [broken, mr(2, days=-40)])
    assert caught.value.code == "series.gap"
    whole = mr(3)
    choice = pick("post", [broken, whole])
    assert choice.series is whole
    assert "1 broken beside it" in choice.reason


def test_two_halves_of_one_stack_are_refused_as_what_they_are():
    halves = InvalidInput("expected the slices of one stack to agree", "export again", code="series.pieces")
    with pytest.raises(InvalidInput, match="post: expected the slices") as caught:
        pick("post", [mr(1, problem=halves), mr(2, problem=halves)])
    assert caught.value.code == "series.pieces"


UNEVEN = {"problem": InvalidInput("uneven", code="series.uneven"), "spacing_mm": (1.0, 1.0, 0.0)}
UNEVEN["uneven"] = UnevenStack(Stack(np.eye(4), 3.5, 0.0), np.array([0, 7, 10.5]))


def test_slices_at_uneven_steps_may_be_a_planning_image_and_nothing_else():
    uneven = mr(1, modality="CT", frame_of_reference="F9", **UNEVEN)
    assert pick("planning", [uneven], frame="F9").series is uneven
    whole = mr(2, modality="CT", frame_of_reference="F9")
    choice = pick("planning", [uneven, whole], frame="F9")
    assert choice.series is whole
    for role, days in (("post", -10), ("event", 200)):
        with pytest.raises(InvalidInput) as caught:
            pick(role, [mr(3, days=days, **UNEVEN)])
        assert caught.value.code == "series.uneven"
    broken = mr(4, modality="CT", frame_of_reference="F9", problem=UNEVEN["problem"])
    with pytest.raises(InvalidInput) as caught:
        pick("planning", [broken], frame="F9")
    assert caught.value.code == "series.uneven"


def test_one_of_the_volumes_under_the_uid_that_was_contoured():
    """A localizer that shares the planning CT's series UID makes two series of it."""
    found = [
        mr(1, modality="CT", frame_of_reference="F9", shape=(512, 512, 200)),
        replace(mr(2, modality="CT", frame_of_reference="F9"), uid="1.2.2#1"),
    ]
    named_by = {"frame": "F9", "wording": WORDING, "key": KEY, "planned_on": ("1.2.2",)}
    assert choose("planning", found, CFG.rules, TIMES, **named_by).series is found[1]


def test_a_series_that_is_named_but_not_there():
    with pytest.raises(InvalidInput, match="names series s000000000000") as caught:
        pick("post", [mr(1)], named="s000000000000")
    assert caught.value.code == "role.unknown_series"


def test_a_ct_is_named_as_no_mri():
    ct = mr(1, modality="CT")
    with pytest.raises(InvalidInput, match="post_series names a CT series") as caught:
        pick("post", [ct, mr(2)], named=series_key(ct, KEY))
    assert caught.value.code == "role.modality"
    assert pick("planning", [ct], named=series_key(ct, KEY)).series is ct


@pytest.mark.parametrize(
    ("name", "says"),
    [("t1 nativ", "not enhanced"), ("T2 KM", "no T1"), ("T1 SUB KM", "computed"), ("t1_tse", ""), ("T1 KM", "")],
)
def test_what_speaks_against_a_series_that_the_user_named_is_said(name, says):
    named = mr(1, name)
    choice = pick("post", [named, mr(2)], named=series_key(named, KEY))
    assert choice.series is named
    assert says in choice.remark
    assert bool(says) == bool(choice.remark)


def test_a_mark_that_a_further_delivery_made_stale_stays_and_is_flagged():
    one, other = mr(1), mr(2)
    marked = {"frame": None, "wording": WORDING, "key": KEY, "named": series_key(one, KEY), "marked": True}
    choice = choose("post", [one, other], CFG.rules, TIMES, **marked)
    assert (choice.series, choice.remark) == (one, "")
    nearer = mr(3, days=-3)
    choice = choose("post", [one, other, nearer], CFG.rules, TIMES, **marked)
    assert choice.series is one
    assert f"1 other series come first now ({series_key(nearer, KEY)})" in choice.remark
    two = [mr(3, days=-3), mr(4, days=-3)]
    assert "2 other series come first" in choose("post", [one, other, *two], CFG.rules, TIMES, **marked).remark
    silent = {**marked, "named": series_key(mr(5, "t1"), KEY)}
    assert not choose("post", [mr(5, "t1"), mr(6, "t1")], CFG.rules, TIMES, **silent).remark, "the question of then"


DAYS = {"post": -10, "event": EVENT_DAY}
MPR = {"image_type": ("DERIVED", "SECONDARY", "MPR")}
GE = {"scanner": ("GE MEDICAL SYSTEMS", "", ""), "protocol_name": "BRAIN TUMOR W/WO CONTRAST"}
GE_REFORMAT = {"image_type": ("DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE")}
AGENT = {"contrast_agent": "Gadovist"}
# The usual exams: the right series is number 1. As scanners do, every series has the agent.
EXAMS = {
    "3D and axial 2D after contrast": lambda days: [
        mr(1, "t1_mprage_sag_KM", days, "sagittal", **VOLUME, **AGENT),
        mr(2, "t1_tse_tra_KM", days, "axial", **THICK, **AGENT),
        mr(3, "t1_mprage_sag", days, "sagittal", **VOLUME, **AGENT),
        mr(4, "t2_space_dark-fluid_KM", days, **VOLUME, **AGENT),
    ],
    "inline MPRs": lambda days: [
        mr(1, "t1_mprage_sag_KM", days, "sagittal", **VOLUME, **AGENT),
        mr(2, "t1_mprage_sag_KM_MPR_tra", days, "axial", **VOLUME, **AGENT, **MPR),
        mr(3, "t1_mprage_sag_KM_MPR_cor", days, "coronal", **VOLUME, **AGENT, **MPR),
    ],
    "every T1 twice, _ND beside the corrected one": lambda days: [
        mr(1, "t1_mprage_KM", days, "sagittal", **VOLUME, image_type=("ORIGINAL", "PRIMARY", "M", "NORM", "DIS3D")),
        mr(2, "t1_mprage_KM_ND", days, "sagittal", **VOLUME, image_type=("ORIGINAL", "PRIMARY", "M", "NORM", "ND")),
        mr(3, "t1_mprage_nativ", days, "sagittal", **VOLUME, image_type=("ORIGINAL", "PRIMARY", "M", "DIS3D")),
        mr(4, "t1_mprage_nativ_ND", days, "sagittal", **VOLUME, image_type=("ORIGINAL", "PRIMARY", "M", "ND")),
    ],
    "three planes of 2D": lambda days: [
        mr(2, "SAG T1 POST", days, "sagittal", **THICK, **AGENT),
        mr(3, "COR T1 POST FS", days, "coronal", **THICK, **AGENT),
        mr(1, "AX T1 POST", days, "axial", **THICK, **AGENT),
        mr(4, "AX T1 PRE", days, "axial", **THICK, **AGENT),
    ],
    "GE reformats": lambda days: [
        mr(1, "Ax 3D BRAVO +C", days, "axial", **VOLUME, **AGENT, **GE),
        mr(2, "Cor RFMT +C", days, "coronal", **VOLUME, **AGENT, **GE, **GE_REFORMAT),
        mr(3, "Sag BRAVO +C", days, "sagittal", **VOLUME, **AGENT, **GE, **GE_REFORMAT),
        mr(4, "Ax 3D BRAVO", days, "axial", **VOLUME, **AGENT, **GE),
    ],
    "subtraction": lambda days: [
        mr(1, "T1 MPRAGE post", days, **VOLUME, **AGENT),
        mr(2, "T1 SUBTRACTION post-pre", days, **VOLUME, **AGENT),
        mr(3, "T1 MPRAGE post", days, **VOLUME, **AGENT, image_type=("DERIVED", "SECONDARY", "SUBTRACTION")),
        mr(4, "T1 MPRAGE pre", days, **VOLUME, **AGENT),
    ],
    "a repeat because of motion": lambda days: [
        mr(2, "T1 MPRAGE GD", days, **VOLUME, **AGENT, acquisition_time="101200.000000"),
        mr(1, "T1 MPRAGE GD repeat", days, **VOLUME, **AGENT, acquisition_time="101905.500000"),
    ],
}


@pytest.mark.parametrize("role", ["post", "event"])
@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize("exam", EXAMS)
def test_of_the_usual_exams_the_right_series_is_chosen(exam, role, dated):
    series = EXAMS[exam](DAYS[role])
    given = {role: START + timedelta(days=DAYS[role])} if dated else {role: None}
    for order in (series, series[::-1]):
        choice = pick(role, order, replace(TIMES, **given))
        assert choice.series.number == 1
        passed_over = [each.number for each, why in choice.passed_over if why]
        assert sorted([1, *passed_over]) == sorted(
            each.number for each in series if "t2" not in each.series_description
        )
        assert choice.remark == ""


def write_exam(folder: Path, series: dict[int, dict[str, object]], shape=(6, 6, 8)) -> list[Series]:
    """Series of one study as files, read as a delivery is; the headers of each by its number."""
    study = {"PatientID": "SECRET", "StudyInstanceUID": "1.2", "StudyDate": "20200210", "FrameOfReferenceUID": "1.2.3"}
    voxels = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    for number, headers in series.items():
        own = {"SeriesInstanceUID": f"1.2.{number}", "SeriesNumber": number, **headers}
        paths = write_series(folder / str(number), voxels, np.diag([30.0, 30.0, 20.0, 1.0]), "MR", study | own)
        if "ImageType" in headers:
            for path in paths:
                dataset = pydicom.dcmread(path)
                dataset.ImageType = headers["ImageType"]
                dataset.save_as(path)
    (patient,) = index_delivery(folder).patients.values()
    return patient.series


def test_files_as_scanners_write_them_end_in_the_right_series(tmp_path):
    agent = {"ContrastBolusAgent": "12ML MULTIHANCE"}
    names = {
        1: ("t1_tse_tra ohne KM", "t1_tse_tra ohne KM", agent),
        2: ("t2_tse_tra", "t2_tse_tra", {"ContrastBolusAgent": "NONE"}),
        3: ("t1_tse_tra", "t1_tse_tra_KM", agent | {"AcquisitionTime": "101200.5"}),
        4: ("t1_tse_tra", "t1_tse_tra_KM", agent | {"AcquisitionTime": "101900.5"}),
        5: ("t1_tse_tra", "t1_tse_tra_KM", agent | {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}),
        6: ("t1_tse_tra_KM_SUB", "t1_tse_tra_KM", agent),
    }
    headers = {
        number: {"SeriesDescription": name, "ProtocolName": protocol, "Manufacturer": "SIEMENS", **more}
        for number, (name, protocol, more) in names.items()
    }
    series = write_exam(tmp_path, headers)
    wide = RuleConfig("post", "MR", "", True, "before_radiotherapy", 5, 40)
    choice = choose("post", series, [wide], TIMES, frame=None, wording=WORDING, key=KEY)
    assert choice.series.number == 4
    assert {each.number: why for each, why in choice.passed_over} == {
        1: "its name says without contrast",
        3: "measured again later",
        5: "a reformat of another series",
        6: "computed from other series",
    }


def test_what_the_choice_rests_on_is_said():
    t2 = mr(9, "t2_tse_tra", **THICK)
    header_only = pick("post", [mr(1, "t1_mprage", **VOLUME, **AGENT), t2])
    assert header_only.remark == "that it is enhanced, only its header says"
    reformat = pick("post", [mr(1, "t1_mprage_KM_MPR_tra", **VOLUME)])
    assert reformat.remark == "a reformat was taken, because no original was delivered"
    thick = pick("post", [mr(1, "t1_tse_tra_KM", **THICK), mr(2, "t1_mprage_sag", **VOLUME)])
    assert thick.series.number == 1
    assert thick.remark == "a 2D series was taken, because no name says whether 1 in 3D of its day are enhanced"
    late = pick("post", [mr(1, "t1_tse_tra_KM", **THICK), mr(2, "t1_mprage_sag_KM_delayed", **VOLUME)])
    assert (late.series.number, late.remark) == (1, ""), "the name of the one in 3D says it"
    earlier = pick("post", [mr(1, days=-30), mr(2, "t1_mprage_sag", days=-5)])
    assert earlier.series.number == 1
    assert "nearer to the date (day -5) lie 1 T1 of which nothing says whether enhanced" in earlier.remark
    planning = mr(2, "t1_mprage_sag", days=-5, frame_of_reference="F2")
    assert pick("post", [mr(1, days=-30), planning], frame="F2").remark == "", "the planning image is another thing"
    assert pick("event", [mr(1, days=200), mr(2, "t1_mprage_sag", days=198)]).remark == "", "that one is farther"


def test_t1_of_which_nothing_says_whether_they_are_enhanced_are_asked_about():
    exam = [mr(1, "t1_mprage_sag", **AGENT), mr(2, "t2_tse", **AGENT), mr(3, "t1_tse_tra_nativ", **AGENT)]
    with pytest.raises(Undecided, match="1 series may be it, if they are enhanced T1") as caught:
        pick("post", exam)
    assert caught.value.code == "role.contrast"
    assert [each.number for each in caught.value.candidates] == [1]
    assert series_key(exam[0], KEY) in str(caught.value)
    assert pick("post", exam, wording=Wording(trust_agent=True)).series.number == 1
    assert pick("post", exam, named=series_key(exam[0], KEY)).series.number == 1
    with pytest.raises(Undecided) as caught:
        pick("post", [mr(1, "3D post gad")])
    assert caught.value.code == "role.contrast"
    with pytest.raises(InvalidInput) as caught:
        pick("post", [mr(1, "t1_mprage_nativ"), mr(2, "t2_tse_KM"), mr(3, "t1_KM_SUB")])
    assert caught.value.code == "role.missing"


def test_equal_series_stay_ambiguous_and_are_candidates():
    with pytest.raises(Undecided) as caught:
        pick("post", [mr(1, "t1_mprage_KM"), mr(2, "t1_space_KM"), mr(3, "t1_tse_KM", **THICK)])
    assert caught.value.code == "role.ambiguous"
    assert caught.value.of_role == "post"
    assert [each.number for each in caught.value.candidates] == [1, 2]


def test_a_rule_of_a_site_takes_what_it_names():
    """As site files of before have it: a pattern of its own, and no `kind`."""
    rule = RuleConfig("post", "MR", "gre|t1", True, "before_radiotherapy", 20, 7)

    def chosen(rule, *series):
        return choose("post", series, [rule], TIMES, frame=None, wording=WORDING, key=KEY).series.number

    assert chosen(rule, mr(1, "gre 3D Gd"), mr(2, "t2_gre_KM")) == 1
    assert chosen(replace(rule, matches="flair", kind="any"), mr(1, "t2_flair_KM"), mr(2)) == 1
    assert chosen(replace(rule, contrast=False), mr(1, "t1 nativ"), mr(2)) == 1
    with pytest.raises(InvalidInput):
        choose("post", [mr(1)], [rule], TIMES, frame=None, wording=Wording(never="mprage"), key=KEY)


def test_series_are_described_without_a_word_of_their_headers():
    thick = {**THICK, "plane": "coronal"}
    records = describe_series(
        [mr(1), mr(2, "t1 nativ", **thick), mr(3, "CT", modality="CT")], TIMES, None, WORDING, KEY
    )
    said = [(each.kind, each.contrast, each.contrast_by, each.acquisition, each.plane) for each in records]
    assert said == [
        ("t1", True, "its name says with contrast", "3D", ""),
        ("t1", False, "its name says without contrast", "2D", "coronal"),
        ("", False, "", "", ""),
    ]
    assert "GEHEIM" not in str(records)


def test_no_message_holds_a_word_of_a_header():
    for role, found in (("post", []), ("post", [mr(1), mr(2)]), ("event", [mr(1)])):
        with pytest.raises(InvalidInput) as caught:
            pick(role, found)
        for secret in ("MUSTERMANN", "GEHEIM", "Gadovist", "2020", "1.2."):
            assert secret not in str(caught.value)


RULE = RuleConfig("post", "MR", "t1", True, "before_radiotherapy", 20, 7)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"role": "rd"}, "rd"),
        ({"when": "later"}, "later"),
        ({"modality": "PT"}, "PT"),
        ({"kind": "t9"}, "t9"),
        ({"matches": "("}, "regular"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(changes, says):
    check_rules([RULE])
    with pytest.raises(WrongUsage, match=says):
        check_rules([RULE, replace(RULE, **changes)])
