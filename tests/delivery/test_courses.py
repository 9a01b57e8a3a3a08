"""Which doses count: every rule on small dose grids in memory."""

from itertools import permutations

import numpy as np
import pytest

from ricenet.delivery.courses import Course, find_courses, number_objects, sum_if_known
from ricenet.delivery.rtdose import DoseGrid
from ricenet.delivery.rtplan import FractionGroup, RtPlan
from ricenet.errors import InvalidInput
from ricenet.images.volume import Volume


def dose(name, summation="PLAN", plans=("plan",), groups=(), beams=(), content="", dose_type="PHYSICAL") -> DoseGrid:
    volume = Volume(np.full((2, 2, 2), 60, np.float32), np.eye(4))
    beams = frozenset((group, beam) for group in groups for beam in beams)
    return DoseGrid(name, content or name, "frame", summation, dose_type, plans, frozenset(groups), beams, volume)


def plan(name="plan", groups=None, approval="APPROVED", prescription_gy=60.0) -> RtPlan:
    groups = {1: (30, (1, 2))} if groups is None else groups
    return RtPlan(
        name,
        {g: FractionGroup(n, frozenset(beams)) for g, (n, beams) in groups.items()},
        prescription_gy,
        approval,
        None,
    )


def find(doses, plans=(), fractions=None, prescription_gy=None) -> tuple[list[Course], dict[int, str]]:
    """The courses, and the reason of rejection of every other dose by its number."""
    patient = number_objects(doses, plans, fractions, prescription_gy)
    courses = find_courses(patient)
    reasons = {row.dose: row.reason for row in patient.rejected}
    used = [number for course in courses for number in course.doses]
    assert sorted([*used, *reasons]) == list(range(1, len(doses) + 1))  # each dose is used or rejected, once
    return courses, reasons


def refused(doses, plans=(), **known) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        find(doses, plans, **known)
    return caught.value


BEAMS = [dose(f"beam {beam}", "BEAM", groups=(1,), beams=(beam,)) for beam in (1, 2)]


def test_a_plan_dose_is_whole():
    (course,), _ = find([dose("d")], [plan()])
    assert (course.factors, course.fractions, course.prescription_gy) == ({1: 1}, 30, 60)


def test_a_plan_dose_needs_no_plan_and_no_reference():
    assert find([dose("d")])[0][0].fractions is None
    assert find([dose("d", plans=())])[0][0].plans == ()
    assert find([dose("d")], fractions=15, prescription_gy=40.05)[0][0].prescription_gy == 40.05


def test_a_plan_dose_is_never_added_to_its_parts():
    session = dose("session", "FRACTION_SESSION", groups=(1,))
    for order in permutations([dose("a plan"), *BEAMS, session]):
        (course,), reasons = find(order, [plan()])
        assert course.factors == {1: 1}
        assert reasons == dict.fromkeys((2, 3, 4), "its plan is whole with PLAN dose 1")


def test_beams_count_where_they_are_all_there():
    (course,), _ = find(BEAMS, [plan()])
    assert course.factors == {1: 1, 2: 1}
    error = refused(BEAMS, [plan(groups={1: (30, (1, 2, 3))})])
    assert error.code == "treatment.nothing_usable"
    assert "dose 1 (BEAM): 1 of its plan's 3 beams have no BEAM dose; dose 2" in str(error)


def test_parts_need_their_plan():
    assert "without its RTPLAN" in str(refused(BEAMS))
    assert "without its RTPLAN" in str(refused([dose("f", "FRACTION", groups=(1,))]))
    assert "does not list the beams" in str(refused(BEAMS, [plan(groups={})]))
    assert "does not list the beams" in str(refused(BEAMS, [plan(groups={2: (30, (1, 2))})]))
    nameless = dose("n", "BEAM", groups=(1,))
    assert "does not say which beams it holds" in str(refused([*BEAMS, nameless], [plan()]))


def test_fraction_doses_count_where_all_groups_are_there():
    two = plan(groups={1: (23, (1,)), 2: (7, (2,))})
    fractions = [dose(f"group {group}", "FRACTION", groups=(group,)) for group in (1, 2)]
    (course,), _ = find(fractions, [two])
    assert (course.factors, course.fractions) == ({1: 1, 2: 1}, 30)
    assert "1 of its plan's 2 fraction groups" in str(refused(fractions[:1], [two]))
    (course,), reasons = find([*fractions, dose("z beam", "BEAM", groups=(1,), beams=(1,))], [two])
    assert reasons == {3: "its plan is whole with FRACTION dose 1, 2"}


def test_sessions_count_as_often_as_their_fraction_group_is_planned():
    two = plan(groups={1: (23, (1,)), 2: (7, (2,))})
    sessions = [dose(f"group {group}", "FRACTION_SESSION", groups=(group,)) for group in (1, 2)]
    assert find(sessions, [two])[0][0].factors == {1: 23, 2: 7}
    assert find([dose("s", "FRACTION_SESSION")], [plan()])[0][0].factors == {1: 30}
    beams = [dose(f"beam {beam}", "BEAM_SESSION", groups=(beam,), beams=(beam,)) for beam in (1, 2)]
    assert find(beams, [two])[0][0].factors == {1: 23, 2: 7}


def test_the_label_table_knows_the_sessions_of_a_sole_plan():
    session = dose("s", "FRACTION_SESSION", groups=(1,))
    assert find([session], fractions=30)[0][0].factors == {1: 30}
    assert find([session], [plan(groups={1: (None, (1,))})], fractions=15)[0][0].factors == {1: 15}
    assert find([session], [plan()], fractions=33)[0][0].factors == {1: 30}  # the plan knows better
    error = refused([session])
    assert error.code == "treatment.fractions_unknown"
    assert "dose 1 is one session (FRACTION_SESSION)" in str(error)
    boost = dose("t", plans=("boost",))
    assert refused([session, boost], fractions=35).code == "treatment.fractions_unknown"


def test_duplicates_are_dropped():
    (course,), reasons = find([dose("d"), dose("d"), dose("e", content="d")], [plan(), plan()])
    assert list(course.doses) == [1]
    assert reasons == {2: "copy of dose 1", 3: "copy of dose 1"}


def test_one_uid_with_two_contents_is_refused():
    assert refused([dose("d"), dose("d", content="other")]).code == "treatment.uid_conflict"
    assert refused([dose("d")], [plan(), plan(prescription_gy=66.0)]).code == "treatment.uid_conflict"


@pytest.mark.parametrize("summation", ["PLAN", "FRACTION", "BEAM", "FRACTION_SESSION"])
def test_two_doses_of_one_thing_are_ambiguous(summation):
    twins = [dose(name, summation, groups=(1,), beams=(1, 2)) for name in ("a", "b")]
    error = refused(twins, [plan()])
    assert error.code == "treatment.ambiguous"
    assert f"{summation} doses 1, 2 cover the same part of a plan but differ" in str(error)


def test_plan_and_boost_are_two_courses():
    doses = [dose("a"), dose("b", "FRACTION_SESSION", plans=("boost",), groups=(1,))]
    courses, _ = find(doses, [plan(), plan("boost", {1: (5, (1,))}, prescription_gy=10.0)])
    assert sorted((course.fractions, course.prescription_gy) for course in courses) == [(5, 10), (30, 60)]
    assert [course.factors for course in courses] == [{1: 1}, {2: 5}]


def test_a_plan_that_is_not_whole_is_not_left_out():
    error = refused([dose("a"), dose("b", "BEAM", plans=("boost",), groups=(1,), beams=(1,))], [plan(), plan("boost")])
    assert error.code == "treatment.incomplete"
    assert "dose 2 (BEAM): 1 of its plan's 2 beams" in str(error)


def test_multi_plan_holds_the_doses_of_its_plans():
    multi = dose("m", "MULTI_PLAN", plans=("boost", "plan"))
    parts = [dose("p"), dose("q", plans=("boost",)), *BEAMS]
    courses, reasons = find([multi, *parts, dose("z", plans=("other",))], [plan(), plan("boost", prescription_gy=10.0)])
    assert [list(course.doses) for course in courses] == [[3], [6]]
    assert courses[0].prescription_gy == 70
    assert reasons == dict.fromkeys((1, 2, 4, 5), "MULTI_PLAN dose 3 holds its plan")
    overlapping = dose("n", "MULTI_PLAN", plans=("boost", "other"))
    assert refused([multi, overlapping]).code == "treatment.ambiguous"


def test_doses_with_and_without_a_plan_are_ambiguous():
    assert refused([dose("a"), dose("b", plans=())]).code == "treatment.ambiguous"
    assert refused([dose("a"), dose("m", "MULTI_PLAN", plans=())]).code == "treatment.ambiguous"


@pytest.mark.parametrize("summation", ["BRACHY", "CONTROL_POINT", "RECORD", "PLAN_OVERVIEW", "UNKNOWN", ""])
def test_other_summation_types_are_rejected_by_name(summation):
    (course,), reasons = find([dose("a"), dose("b", summation)], [plan()])
    assert list(course.doses) == [1]
    assert reasons[2].startswith(f"DoseSummationType {summation or 'absent'} is none of MULTI_PLAN, PLAN")
    assert refused([dose("b", summation)]).code == "treatment.nothing_usable"


def test_a_plan_dose_belongs_to_one_plan():
    assert "refers to 2 plans" in str(refused([dose("a", plans=("boost", "plan"))]))


def test_approval():
    boost = dose("b", plans=("boost",))
    (course,), reasons = find([dose("a"), boost], [plan(), plan("boost", approval="UNAPPROVED")])
    assert (list(course.doses), reasons) == ([1], {2: "its plan is UNAPPROVED and another is approved"})
    (course,), reasons = find([dose("a"), boost], [plan(approval=""), plan("boost", approval="REJECTED")])
    assert (list(course.doses), reasons) == ([1], {2: "its plan is REJECTED"})
    courses, _ = find([dose("a"), boost], [plan(approval="UNAPPROVED"), plan("boost", approval="")])
    assert len(courses) == 2
    assert refused([boost], [plan("boost", approval="REJECTED")]).code == "treatment.nothing_usable"


def test_no_dose_at_all():
    assert "got no dose at all" in str(refused([]))


def test_sum_if_known():
    assert (sum_if_known([1, 2]), sum_if_known([1, None]), sum_if_known([])) == (3, None, None)


def test_nothing_prints_a_patient():
    patient = number_objects([dose("SECRET")], [plan("SECRET")], None, None)
    assert "SECRET" not in repr(patient) + repr(dose("SECRET")) + str(patient.describe(1))
