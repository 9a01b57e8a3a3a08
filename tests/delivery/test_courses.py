"""Which doses make a plan whole: every rule on small dose grids in memory."""

from dataclasses import replace
from itertools import permutations

import pytest
from helpers.dose_grids import BEAMS, dose, find, plan, refused

from ricenet.delivery.courses import sum_if_known


def test_a_plan_dose_is_whole():
    (course,), _ = find([dose("d")], [plan()])
    assert (course.factors, course.fractions, course.prescription_gy) == ({1: 1}, 30, 60)


def test_a_plan_dose_needs_no_plan_and_no_reference():
    assert find([dose("d")])[0][0].fractions is None
    assert find([dose("d", plans=())])[0][0].plans == ()


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


@pytest.mark.parametrize("summation", ["PLAN", "FRACTION", "BEAM", "FRACTION_SESSION"])
def test_two_doses_of_one_thing_are_ambiguous(summation):
    twins = [dose(name, summation, groups=(1,), beams=(1, 2)) for name in ("a", "b")]
    error = refused(twins, [plan()])
    assert error.code == "treatment.ambiguous"
    assert f"{summation} doses 1, 2 cover the same part of a plan but differ" in str(error)
    assert "exclude_doses" in error.hint


def test_plan_and_boost_are_two_courses():
    doses = [dose("a"), dose("b", "FRACTION_SESSION", plans=("boost",), groups=(1,))]
    courses, _ = find(doses, [plan(), plan("boost", {1: (5, (1,))}, prescription_gy=10.0)])
    assert sorted((course.fractions, course.prescription_gy) for course in courses) == [(5, 10), (30, 60)]
    assert [course.factors for course in courses] == [{1: 1}, {2: 5}]


def test_a_plan_that_is_not_whole_is_not_left_out():
    error = refused([dose("a"), dose("b", "BEAM", plans=("boost",), groups=(1,), beams=(1,))], [plan(), plan("boost")])
    assert error.code == "treatment.incomplete"
    assert "dose 2 (BEAM): 1 of its plan's 2 beams" in str(error)


def test_a_whole_dose_without_a_plan_stands_for_itself_beside_others():
    courses, _ = find([dose("a"), dose("b", plans=())])
    assert [list(course.doses) for course in courses] == [[1], [2]]
    courses, _ = find([dose("a"), dose("m", "MULTI_PLAN", plans=())])
    assert len(courses) == 2


def test_beams_tell_the_prescription_where_no_target_does():
    beams = replace(plan(prescription_gy=None), beam_dose_gy=60.004)
    assert find([dose("a")], [beams])[0][0].prescription_gy == 60.0
    assert find([dose("a")], [replace(beams, prescription_gy=54.0)])[0][0].prescription_gy == 54.0


def test_no_dose_at_all():
    assert "got no dose at all" in str(refused([]))


def test_sum_if_known():
    assert (sum_if_known([1, 2]), sum_if_known([1, None]), sum_if_known([])) == (3, None, None)
