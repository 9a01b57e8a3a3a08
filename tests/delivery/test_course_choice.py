"""Which plans make up a treatment: what adds up, what the table's numbers decide, what is asked."""

from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest

from ricenet.delivery.course_choice import choose_courses, is_sequence, require_nothing_missing
from ricenet.delivery.courses import Course, find_courses
from ricenet.delivery.patient_doses import CaseContext, PatientDoses, number_objects
from ricenet.delivery.rtdose import DoseGrid
from ricenet.delivery.rtplan import FractionGroup, RtPlan
from ricenet.errors import InvalidInput
from ricenet.images.volume import Volume

START = date(2020, 2, 3)


def planned(name, gy, fractions, *, prescribed=True, approval="APPROVED", days=0, frame="frame", dose_type="PHYSICAL"):
    """A plan and its PLAN dose, whose maximum is a little above `gy`; () stands for what is not delivered."""
    maximum = gy * 1.04 + sum(map(ord, name)) % 13 / 50
    volume = Volume(np.full((2, 2, 2), maximum, np.float32), np.eye(4))
    dose = DoseGrid(name, name, frame, "PLAN", dose_type, (name,), frozenset(), frozenset(), volume, 2)
    groups = {1: FractionGroup(fractions, frozenset({1}))}
    day = None if days is None else START + timedelta(days)
    return dose, RtPlan(name, groups, gy if prescribed else None, approval, day)


def choose(*pairs, **context) -> tuple[list[Course], PatientDoses]:
    doses, plans = zip(*pairs, strict=True)
    patient = number_objects(doses, plans, CaseContext(**context))
    chosen = choose_courses(patient, find_courses(patient))
    numbers = [number for course in chosen for number in course.doses]
    assert sorted([*numbers, *(row.dose for row in patient.rejected)]) == sorted(patient.doses)
    return chosen, patient


def names(chosen) -> list[str]:
    return sorted(uid for course in chosen for uid in course.plans)


def asked(*pairs, **context) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        choose(*pairs, **context)
    assert all(f"dose {number} (" in str(caught.value) for number in range(1, len(pairs) + 1))
    assert "exclude_doses" in caught.value.hint
    return caught.value


PRIMARY, BOOST = planned("a primary", 46.0, 23), planned("boost", 14.0, 7)
IMRT, VMAT = planned("imrt", 60.0, 30), planned("vmat", 60.0, 30)


def test_one_plan_is_the_treatment():
    assert names(choose(PRIMARY)[0]) == ["a primary"]


@pytest.mark.parametrize(
    "parts",
    [
        [(46, 23), (14, 7)],
        [(40, 20), (20, 10)],
        [(45, 25), (9, 5), (5.4, 3)],
        [(50.4, 28), (9, 5)],
    ],
)
def test_a_primary_plan_and_its_boosts_are_added_and_said_so(parts):
    pairs = [planned(f"plan {number}", gy, fractions) for number, (gy, fractions) in enumerate(parts)]
    chosen, patient = choose(*pairs)
    assert len(chosen) == len(parts)
    (flag,) = patient.flags
    assert "added as parts of one treatment" in flag
    assert all(f"{gy:g} Gy in {fractions} fractions" in flag for gy, fractions in parts)


def test_a_boost_whose_plans_give_no_prescription_is_known_by_its_maximum():
    pairs = [planned("a", 46.0, 23, prescribed=False), planned("b", 14.0, 7, prescribed=False)]
    assert len(choose(*pairs)[0]) == 2


@pytest.mark.parametrize(
    "pairs",
    [
        (IMRT, VMAT),
        (planned("first", 30.0, 10), planned("second", 30.0, 10)),
        (planned("a", 60.0, 30, prescribed=False), planned("b", 60.0, 30, prescribed=False)),
        (planned("draft", 59.4, 33), IMRT),
        (planned("short course", 40.05, 15), planned("palliative", 30.0, 10)),
        (IMRT, planned("after 20 of 30 anew", 20.0, 10)),
        (IMRT, planned("the last six anew", 12.0, 6, days=33)),
        (IMRT, planned("an abandoned boost", 10.0, 5)),
        (PRIMARY, BOOST, planned("boost anew", 14.0, 7, days=1)),
        (IMRT, planned("re-irradiation", 36.0, 18, days=None)),
        (PRIMARY, planned("boost", 14.0, 7, approval="UNAPPROVED")),
        (PRIMARY, planned("boost", 14.0, None)),
        (PRIMARY, planned("boost", 14.0, 7, dose_type="EFFECTIVE")),
        (PRIMARY, planned("stereotactic", 14.0, 1)),
        (PRIMARY, planned("undated", 14.0, 7, days=None)),
        (planned("short course", 40.05, 15), planned("one fraction", 2.67, 1)),
    ],
    ids=lambda pairs: " and ".join(dose.sop_instance for dose, _ in pairs),
)
def test_what_nothing_tells_apart_is_asked_about(pairs):
    error = asked(*pairs)
    assert error.code == "treatment.ambiguous"
    assert not is_sequence(*_courses(*pairs))


def _courses(*pairs) -> tuple[PatientDoses, list[Course]]:
    doses, plans = zip(*pairs, strict=True)
    patient = number_objects(doses, plans, CaseContext())
    return patient, find_courses(patient)


def test_what_was_delivered_long_before_is_shown_and_asked_about():
    earlier = planned("earlier", 14.0, 7, days=-1800)
    error = asked(PRIMARY, earlier)
    assert "planned 1800 days apart" in str(error)
    assert "1800 days after the first" in str(error)


def test_approval_decides_where_it_is_one_for_all():
    pairs = [planned("a", 46.0, 23, approval="UNAPPROVED"), planned("b", 14.0, 7, approval="UNAPPROVED")]
    assert len(choose(*pairs)[0]) == 2, "128 of 155 real plans are unapproved, also treated ones"
    assert "UNAPPROVED" in str(asked(PRIMARY, planned("boost", 14.0, 7, approval="UNAPPROVED")))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"fractions": 30, "prescription_gy": 60.0}, ["a primary", "boost"]),
        ({"fractions": 30}, ["a primary", "boost"]),
        ({"prescription_gy": 60.0}, ["a primary", "boost"]),
        ({"fractions": 23}, ["a primary"]),
        ({"prescription_gy": 46.0}, ["a primary"]),
    ],
)
def test_the_tables_numbers_decide(numbers, expected):
    unapproved = planned("boost", 14.0, 7, approval="UNAPPROVED")
    for boost in (BOOST, unapproved):
        chosen, patient = choose(PRIMARY, boost, **numbers)
        assert names(chosen) == expected
        assert len(patient.rejected) == 2 - len(expected)
        assert all("the label table's" in row.reason for row in patient.rejected)


def test_the_table_finds_the_draft_among_three():
    draft = planned("draft", 59.4, 33)
    chosen, _ = choose(PRIMARY, BOOST, draft, fractions=30, prescription_gy=60.0)
    assert names(chosen) == ["a primary", "boost"]
    chosen, _ = choose(PRIMARY, BOOST, draft, fractions=33)
    assert names(chosen) == ["draft"]


def test_numbers_that_fit_several_ways_or_none_are_asked_about():
    error = asked(IMRT, VMAT, fractions=30, prescription_gy=60.0)
    assert (error.code, "60 Gy and 30 fractions fit dose 1 | 2" in str(error)) == ("treatment.ambiguous", True)
    error = asked(PRIMARY, BOOST, fractions=25)
    assert error.code == "treatment.not_as_the_table"
    assert "correct fractions and prescription_gy" in error.hint


def test_without_a_prescription_the_maximum_must_not_contradict_the_table():
    pairs = [planned("a", 46.0, 23, prescribed=False), planned("b", 14.0, None, prescribed=False)]
    assert len(choose(*pairs, prescription_gy=60.0)[0]) == 2
    unknown = [planned("a", 60.0, None, prescribed=False), planned("b", 60.0, None, prescribed=False)]
    assert asked(*unknown, prescription_gy=60.0).code == "treatment.ambiguous"


def test_a_plan_on_a_phantom_lies_in_a_frame_without_an_image():
    phantom = planned("on a phantom", 60.0, 30, frame="phantom")
    chosen, patient = choose(IMRT, phantom, image_dates={"frame": []})
    assert names(chosen) == ["imrt"]
    assert "no image of the delivery" in patient.rejected[0].reason
    chosen, _ = choose(IMRT, phantom, image_dates={"frame": []}, fractions=30, prescription_gy=60.0)
    assert names(chosen) == ["imrt"]
    assert asked(IMRT, phantom, image_dates={"frame": [], "phantom": []}).code == "treatment.ambiguous"
    assert asked(IMRT, phantom).code == "treatment.ambiguous", "no frame has an image"


def test_a_boost_whose_planning_image_is_missing_is_not_left_out_for_it():
    boost = planned("boost", 14.0, 7, frame="missing CT")
    assert names(choose(PRIMARY, boost, image_dates={"frame": []})[0]) == ["a primary", "boost"]
    table = {"fractions": 30, "prescription_gy": 60.0}
    assert names(choose(PRIMARY, boost, image_dates={"frame": []}, **table)[0]) == ["a primary", "boost"]


def test_the_larger_dose_is_not_left_out_for_its_missing_image():
    primary = planned("a primary", 46.0, 23, frame="missing CT", days=None)
    assert asked(primary, BOOST, image_dates={"frame": []}).code == "treatment.ambiguous"


@pytest.mark.parametrize(("gy", "fractions", "missing"), [(46.0, 23, True), (60.0, 30, False), (14.0, 1, False)])
def test_a_plan_that_may_be_a_part_and_has_no_dose_is_asked_for(gy, fractions, missing):
    (dose, plan), other = BOOST, planned("other", gy, fractions)[1]

    def require(**context):
        patient = number_objects([dose], [plan, other], CaseContext(**context))
        require_nothing_missing(patient, find_courses(patient))

    if not missing:
        require()
        return
    with pytest.raises(InvalidInput) as caught:
        require()
    assert caught.value.code == "treatment.incomplete"
    assert "plan 2 (46 Gy in 23 fractions)" in str(caught.value)
    for context in ({"doses": ("1",)}, {"fractions": 7}, {"prescription_gy": 14.0}):
        require(**context)


def test_brachytherapy_is_not_left_out_in_silence():
    (dose, plan), (other, boost) = PRIMARY, BOOST
    patient = number_objects([dose, replace(other, summation="BRACHY")], [plan, boost], CaseContext())
    with pytest.raises(InvalidInput, match="dose 2 is brachytherapy") as caught:
        require_nothing_missing(patient, find_courses(patient))
    assert caught.value.code == "treatment.incomplete"
    choice = CaseContext(exclude_doses=("2",))
    patient = number_objects([dose, replace(other, summation="BRACHY")], [plan, boost], choice)
    require_nothing_missing(patient, find_courses(patient))


def test_a_prescription_that_beams_contradict_decides_nothing_alone():
    dose, plan = planned("a primary", 50.0, 25)
    primary = (dose, replace(plan, prescription_gy=60.0, beam_dose_gy=50.0))
    boost = planned("boost", 10.0, 5)
    assert asked(primary, boost, prescription_gy=60.0).code == "treatment.ambiguous"
    assert len(choose(primary, boost, prescription_gy=60.0, fractions=30)[0]) == 2


def test_the_users_choice_is_added_whatever_it_is():
    chosen, patient = choose(IMRT, VMAT, doses=("1", "2"))
    assert (len(chosen), patient.flags) == (2, [])
    assert names(choose(IMRT, VMAT, exclude_doses=("2",))[0]) == ["imrt"]
    assert len(choose(IMRT, VMAT, plans=("1", "2"))[0]) == 2


def test_the_order_of_the_objects_does_not_matter():
    results = [names(choose(*pairs, fractions=23)[0]) for pairs in ((PRIMARY, BOOST), (BOOST, PRIMARY))]
    assert all(one == other for one, other in pairwise(results))


def test_nothing_prints_a_patient():
    secret = planned("SECRET", 60.0, 30)
    other = planned("SECRET 2", 60.0, 30)
    key = b"k" * 32
    with pytest.raises(InvalidInput) as caught:
        choose(secret, (replace(other[0], frame_of_reference="SECRET"), other[1]), key=key)
    assert "SECRET" not in str(caught.value)
    assert "dose rd" in str(caught.value)
