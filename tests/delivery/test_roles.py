"""Rules choose a series or say why not; nothing is guessed."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from ricenet.command.schemas import IngestConfig, RuleConfig, compose
from ricenet.delivery.roles import Timeline, Wording, check_rules, choose, has_contrast, series_key
from ricenet.delivery.series import Series
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.images.slice_stack import Stack, UnevenStack

CFG = compose("ingest", IngestConfig, ["delivery=d", "labels=l", "out=o"])
WORDING = Wording(CFG.contrast_in_description, CFG.never)
KEY = b"k" * 32
START = date(2020, 3, 1)
T1C = Series(
    uid="1.2.3", study_uid="1.2", patient_id="MUSTERMANN", modality="MR", frame_of_reference="F1", number=4,
    description="t1_mprage_sag GEHEIM", date=START - timedelta(days=10), contrast_agent="Gadovist",
    scanner=("A", "B", "3"), image_type=("ORIGINAL", "PRIMARY"), files=(),
    shape=(256, 256, 176), spacing_mm=(1.0, 1.0, 1.0), problem=None,
)  # fmt: skip
TIMES = Timeline(None, START + timedelta(days=200), START, None, 3)


def series(number: int, days: int = -10, **changes) -> Series:
    return replace(T1C, uid=f"1.2.{number}", number=number, date=START + timedelta(days=days), **changes)


def pick(role: str, found: list[Series], times: Timeline = TIMES, frame: str | None = None, named: str = ""):
    named_by = {"frame": frame, "wording": WORDING, "key": KEY, "named": named}
    return choose(role, found, CFG.rules, times, **named_by)


def test_the_last_enhanced_t1_before_radiotherapy_is_post():
    early, last, after = series(1, -40), series(2, -10), series(3, 90)
    native = series(4, -10, contrast_agent="")
    flair = series(5, -10, description="t2_flair_KM")
    scout = series(6, -10, description="t1 localizer", shape=(256, 256, 3))
    choice = pick("post", [after, early, native, flair, last, scout])
    assert choice.series is last
    assert choice.candidates == (last,)
    assert "before radiotherapy" in choice.reason


def test_a_volume_goes_before_thick_slices():
    thick = series(1, shape=(512, 512, 24), spacing_mm=(0.5, 0.5, 5.5))
    volume = series(2)
    assert pick("post", [thick, volume]).series is volume
    assert pick("post", [thick]).series is thick


def test_the_event_is_the_scan_nearest_to_its_date():
    near, nearer, far = series(1, 198), series(2, 201), series(3, 260)
    assert pick("event", [far, near, nearer]).series is nearer
    with pytest.raises(InvalidInput, match=r"event: none of the patient's 1 series") as caught:
        pick("event", [far])  # a date that is given binds: no later scan is taken instead
    assert caught.value.code == "role.missing"


def test_without_a_date_the_only_follow_up_is_the_event_and_two_are_ambiguous():
    times = replace(TIMES, event=None)
    only, other = series(1, 120), series(2, 200)
    assert pick("event", [series(9), only], times).series is only
    with pytest.raises(InvalidInput, match="2 series fit equally") as caught:
        pick("event", [only, other], times)
    assert caught.value.code == "role.ambiguous"
    assert all(series_key(one, KEY) in str(caught.value) for one in (only, other))
    assert pick("event", [only, other], times, named=series_key(other, KEY)).series is other


def test_a_given_post_date_binds():
    times = replace(TIMES, post=START - timedelta(days=40))
    early, last = series(1, -40), series(2, -10)
    assert pick("post", [early, last], times).series is early
    with pytest.raises(InvalidInput, match="post: none"):
        pick("post", [last], times)


def test_what_is_not_known_is_said():
    with pytest.raises(InvalidInput, match=r"not known here: .*before radiotherapy"):
        pick("post", [series(1)], Timeline(None, None, None, None, 3))


def test_the_planning_image_is_in_the_frame_of_the_dose_and_a_ct_goes_first():
    ct = series(1, modality="CT", description="planning", frame_of_reference="F2", contrast_agent="")
    mr = series(2, frame_of_reference="F2")
    assert pick("planning", [series(3), mr, ct], frame="F2").series is ct
    assert pick("planning", [series(3), mr], frame="F2").series is mr
    with pytest.raises(InvalidInput, match="planning: none"):
        pick("planning", [series(3)], frame="F2")


def test_of_several_planning_images_the_contoured_one_counts_then_the_finest():
    ct = {"modality": "CT", "description": "CT", "frame_of_reference": "F2", "contrast_agent": ""}
    native, contrast = series(1, **ct), series(2, **ct)
    thick, thin = series(3, **ct, spacing_mm=(1.0, 1.0, 3.0)), series(4, **ct, spacing_mm=(0.9, 0.9, 1.0))

    def planned(found, *uids):
        named_by = {"frame": "F2", "wording": WORDING, "key": KEY, "planned_on": uids}
        return choose("planning", found, CFG.rules, TIMES, **named_by)

    choice = planned([native, contrast], contrast.uid)
    assert choice.series is contrast
    assert "that the plan's structures were drawn on" in choice.remark
    assert choice.candidates == (native, contrast)
    choice = planned([thick, thin, series(5, **ct, shape=(256, 256, 100))])
    assert choice.series is thin
    assert "most slices and the finest step" in choice.remark
    assert planned([native, contrast]).series is native, "alike: either leads to the post-OP MRI"
    assert planned([native, contrast], "1.2.99").series is native, "the contoured series was not delivered"


def test_a_broken_series_is_refused_by_name_and_not_replaced():
    broken = series(
        1, problem=InvalidInput("expected a slice every 1 mm, got 3 missing", "export again", code="series.gap")
    )
    with pytest.raises(InvalidInput, match="post: expected a slice every 1 mm") as caught:
        pick("post", [broken, series(2, -40)])
    assert caught.value.code == "series.gap"
    whole = series(3)
    choice = pick("post", [broken, whole])
    assert choice.series is whole
    assert "1 broken beside it" in choice.reason


UNEVEN = {"problem": InvalidInput("uneven", code="series.uneven"), "spacing_mm": (1.0, 1.0, 0.0)}
UNEVEN["uneven"] = UnevenStack(Stack(np.eye(4), 3.5, 0.0), np.array([0, 7, 10.5]))


def test_slices_at_uneven_steps_may_be_a_planning_image_and_nothing_else():
    uneven = series(1, modality="CT", frame_of_reference="F9", **UNEVEN)
    assert pick("planning", [uneven], frame="F9").series is uneven
    whole = series(2, modality="CT", frame_of_reference="F9")
    choice = pick("planning", [uneven, whole], frame="F9")
    assert choice.series is whole
    for role, days in (("post", -10), ("event", 200)):
        with pytest.raises(InvalidInput) as caught:
            pick(role, [series(3, days, **UNEVEN)])
        assert caught.value.code == "series.uneven"
    broken = series(4, modality="CT", frame_of_reference="F9", problem=UNEVEN["problem"])
    with pytest.raises(InvalidInput) as caught:
        pick("planning", [broken], frame="F9")
    assert caught.value.code == "series.uneven"


def test_one_of_the_volumes_under_the_uid_that_was_contoured():
    """A localizer that shares the planning CT's series UID makes two series of it."""
    found = [
        series(1, modality="CT", frame_of_reference="F9", shape=(512, 512, 200)),
        replace(series(2, modality="CT", frame_of_reference="F9"), uid="1.2.2#1"),
    ]
    named_by = {"frame": "F9", "wording": WORDING, "key": KEY, "planned_on": ("1.2.2",)}
    assert choose("planning", found, CFG.rules, TIMES, **named_by).series is found[1]


def test_a_series_that_is_named_but_not_there():
    with pytest.raises(InvalidInput, match="names series s000000000000") as caught:
        pick("post", [series(1)], named="s000000000000")
    assert caught.value.code == "role.unknown_series"


@pytest.mark.parametrize(
    ("description", "agent", "contrast"),
    [
        ("t1_mprage", "Gadovist", True),
        ("t1_mprage", "", False),
        ("t1_mprage", "NONE", False),
        ("AX T1 POST", "", True),
        ("t1 post-op nativ", "", False),
        ("t1 post op", "", False),
        ("T1_KM_tra", "", True),
        ("T1W_3D_TFE +C", "", True),
        ("t1ce", "", True),
        ("t1_space_nativ", "", False),
        ("ct1", "", True),
    ],
)
def test_contrast_is_read_from_the_header_or_the_description(description, agent, contrast):
    assert has_contrast(series(1, description=description, contrast_agent=agent), WORDING) is contrast


def test_no_message_holds_a_word_of_a_header():
    for role, found in (("post", []), ("post", [series(1), series(2)]), ("event", [series(1)])):
        with pytest.raises(InvalidInput) as caught:
            pick(role, found)
        for secret in ("MUSTERMANN", "GEHEIM", "Gadovist", "2020", "1.2."):
            assert secret not in str(caught.value)


RULE = RuleConfig("post", "MR", "t1", True, "before_radiotherapy", 20, 7)


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"role": "rd"}, "rd"), ({"when": "later"}, "later"), ({"modality": "PT"}, "PT"), ({"matches": "("}, "regular")],
)
def test_rules_that_cannot_be_meant_are_refused(changes, says):
    check_rules([RULE])
    with pytest.raises(WrongUsage, match=says):
        check_rules([RULE, replace(RULE, **changes)])
