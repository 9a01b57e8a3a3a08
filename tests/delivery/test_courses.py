"""Which doses count: every rule on small dose grids in memory."""

from dataclasses import replace
from datetime import date, timedelta
from itertools import permutations

import numpy as np
import pytest

from ricenet.delivery.courses import Course, find_courses, sum_if_known
from ricenet.delivery.patient_doses import CaseContext, number_objects
from ricenet.delivery.rtdose import DoseGrid
from ricenet.delivery.rtobject import rt_key
from ricenet.delivery.rtplan import FractionGroup, RtPlan
from ricenet.errors import InvalidInput
from ricenet.images.volume import Volume


def dose(
    name,
    summation="PLAN",
    plans=("plan",),
    groups=(),
    beams=(),
    content="",
    dose_type="PHYSICAL",
    gy=None,
    frame="frame",
    planes=2,
) -> DoseGrid:
    """A uniform dose; without `gy` each name has its own, so that no two hold the same voxels."""
    gy = 50 + sum(map(ord, content or name)) % 97 / 10 if gy is None else gy
    volume = Volume(np.full((2, 2, planes), gy, np.float32), np.eye(4))
    beams = frozenset((group, beam) for group in groups for beam in beams)
    references = (plans, frozenset(groups), beams)
    return DoseGrid(name, content or name, frame, summation, dose_type, *references, volume, planes)


def plan(name="plan", groups=None, approval="APPROVED", prescription_gy=60.0, day=None) -> RtPlan:
    groups = {1: (30, (1, 2))} if groups is None else groups
    return RtPlan(
        name,
        {g: FractionGroup(n, frozenset(beams)) for g, (n, beams) in groups.items()},
        prescription_gy,
        approval,
        day,
    )


def find(rt_doses, rt_plans=(), **context) -> tuple[list[Course], dict[int, str]]:
    """The courses, and the reason of rejection of every other dose by its number."""
    patient = number_objects(rt_doses, rt_plans, CaseContext(**context))
    courses = find_courses(patient)
    reasons = {row.dose: row.reason for row in patient.rejected}
    used = [number for course in courses for number in course.doses]
    assert sorted([*used, *reasons]) == list(range(1, len(rt_doses) + 1))  # each dose is used or rejected, once
    return courses, reasons


def refused(rt_doses, rt_plans=(), **known) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        find(rt_doses, rt_plans, **known)
    return caught.value


BEAMS = [dose(f"beam {beam}", "BEAM", groups=(1,), beams=(beam,)) for beam in (1, 2)]


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


def test_multi_plan_holds_the_doses_of_its_plans():
    multi = dose("m", "MULTI_PLAN", plans=("boost", "plan"))
    parts = [dose("p"), dose("q", plans=("boost",)), *BEAMS]
    courses, reasons = find([multi, *parts, dose("z", plans=("other",))], [plan(), plan("boost", prescription_gy=10.0)])
    assert [list(course.doses) for course in courses] == [[3], [6]]
    assert courses[0].prescription_gy == 70
    assert reasons == dict.fromkeys((1, 2, 4, 5), "MULTI_PLAN dose 3 holds its plan")
    overlapping = dose("n", "MULTI_PLAN", plans=("boost", "other"))
    assert refused([multi, overlapping]).code == "treatment.ambiguous"


def test_a_whole_dose_without_a_plan_stands_for_itself_beside_others():
    courses, _ = find([dose("a"), dose("b", plans=())])
    assert [list(course.doses) for course in courses] == [[1], [2]]
    courses, _ = find([dose("a"), dose("m", "MULTI_PLAN", plans=())])
    assert len(courses) == 2


def test_the_only_dose_without_a_reference_belongs_to_the_only_free_plan():
    (course,), _ = find([dose("d", plans=())], [plan()])
    assert (course.plans, course.fractions) == (("plan",), 30)
    courses, _ = find([dose("a", plans=()), dose("b", plans=())], [plan()])
    assert [course.plans for course in courses] == [(), ()]
    courses, _ = find([dose("d", plans=())], [plan(), plan("boost", prescription_gy=10.0)])
    assert courses[0].plans == ()
    (course,), _ = find([dose("d", plans=())], [plan(), plan("bad", approval="REJECTED")])
    assert course.plans == ("plan",)


def test_a_sum_without_references_is_recognised_by_its_parts():
    parts = [dose("p", gy=46.0), dose("q", plans=("boost",), gy=14.0)]
    plans = [plan(prescription_gy=46.0), plan("boost", {1: (7, (1,))}, prescription_gy=14.0)]
    (course,), reasons = find([*parts, dose("m", "MULTI_PLAN", plans=(), gy=60.0)], plans)
    assert (list(course.doses), course.prescription_gy) == ([1], 60)
    assert set(reasons.values()) == {"MULTI_PLAN dose 1 holds its plan"}
    error = refused([*parts, dose("m", "MULTI_PLAN", plans=(), gy=52.0)], plans)
    assert (error.code, "MULTI_PLAN dose 1" in str(error)) == ("treatment.ambiguous", True)
    beside = [dose("m", "MULTI_PLAN", gy=60.0), parts[1]]  # names its first plan alone, whose own dose is not there
    assert refused(beside, plans, prescription_gy=60.0).code == "treatment.ambiguous"


def test_a_sum_that_names_its_first_plan_alone_is_recognised_too():
    parts = [dose("p", gy=50.0), dose("q", plans=("boost",), gy=10.0)]
    plans = [plan(prescription_gy=50.0), plan("boost", {1: (5, (1,))}, prescription_gy=10.0)]
    (course,), _ = find([*parts, dose("m", "MULTI_PLAN", gy=60.0)], plans)
    assert (list(course.doses), course.prescription_gy) == ([1], 60)


def test_one_dose_and_its_copy_are_no_sum_of_it_and_a_small_one():
    small = np.zeros((6, 6, 6), np.float32)
    small[0, 0, 0] = 20
    whole = Volume(np.full((6, 6, 6), 60, np.float32), np.eye(4))
    doses = [
        replace(dose("a"), volume=whole),
        replace(dose("b", plans=("again",)), volume=Volume(whole.voxels * np.float32(1.004), whole.world_from_voxel)),
        replace(dose("c", plans=("srs",)), volume=Volume(small, whole.world_from_voxel)),
    ]
    courses, _ = find(doses, [plan(prescription_gy=None), plan("again", prescription_gy=None), plan("srs")])
    assert len(courses) == 3


@pytest.mark.parametrize("unknown", ["missing", "undated"])
def test_a_sum_with_an_unknown_part_may_hold_a_later_treatment(unknown):
    multi = dose("m", "MULTI_PLAN", plans=("plan", "second"), gy=83.0)
    plans = [plan(day=BEFORE), *([] if unknown == "missing" else [plan("second")])]
    error = refused([multi], plans, event=EVENT)
    assert (error.code, "prescription_gy" in error.hint) == ("treatment.ambiguous", True)
    assert len(find([multi], plans, event=EVENT, prescription_gy=80.0)[0]) == 1


def test_a_sum_is_dropped_only_where_all_its_plans_have_another_dose():
    plans = [plan(), plan("boost")]
    part = dose("p")
    effective = dose("m", "MULTI_PLAN", plans=("boost", "plan"), dose_type="EFFECTIVE")
    (course,), _ = find([effective, part], plans)
    assert course.plans == ("boost", "plan")
    elsewhere = dose("m", "MULTI_PLAN", plans=("boost", "plan"), frame="MR")
    (course,), _ = find([elsewhere, part], plans, image_dates={"frame": []})
    assert course.plans == ("boost", "plan")


def test_a_sum_that_says_it_is_a_plan_is_recognised_too():
    parts = [dose("p", gy=46.0), dose("q", plans=("boost",), gy=14.0)]
    plans = [plan(prescription_gy=46.0), plan("boost", {1: (7, (1,))}, prescription_gy=14.0)]
    for references in ((), ("a plan of its own",)):
        (course,), reasons = find([*parts, dose("z", plans=references, gy=60.0)], plans)
        assert (list(course.doses), course.prescription_gy, len(reasons)) == ([3], 60, 2)


def test_a_dose_elsewhere_than_its_plan_does_not_count_beside_one_that_is_there():
    home = replace(plan(), frame_of_reference="frame")
    doses = [dose("a"), dose("b", frame="phantom", gy=2.0)]
    (course,), reasons = find(doses, [home])
    assert list(course.doses) == [1]
    assert "lies elsewhere than its plan" in reasons[2]
    error = refused(doses, [plan()])
    assert (error.code, "in several frames" in str(error)) == ("treatment.ambiguous", True)
    (course,), _ = find(doses, [plan()], image_dates={"frame": []})
    assert list(course.doses) == [1], "the plan does not say where it lies, the images do"
    beams = [*BEAMS, dose("z", frame="phantom", gy=2.0)]
    (course,), _ = find(beams, [plan()], image_dates={"frame": []})
    assert sorted(course.doses) == [1, 2]


def test_eqd2_takes_the_parts_of_a_sum_where_all_are_there():
    multi = dose("m", "MULTI_PLAN", plans=("boost", "plan"))
    parts = [dose("p"), dose("q", plans=("boost",))]
    plans = [plan(), plan("boost")]
    courses, reasons = find([multi, *parts], plans, eqd2=True)
    assert len(courses) == 2
    assert reasons == {1: "EQD2 needs the dose of each plan, and all are there"}
    assert len(find([multi, parts[0]], plans, eqd2=True)[0]) == 1


@pytest.mark.parametrize("summation", ["BRACHY", "CONTROL_POINT", "RECORD", "PLAN_OVERVIEW", "UNKNOWN", ""])
def test_other_summation_types_are_rejected_by_name(summation):
    (course,), reasons = find([dose("a"), dose("b", summation)], [plan()])
    assert list(course.doses) == [1]
    assert reasons[2].startswith(f"DoseSummationType {summation or 'absent'} is none of MULTI_PLAN, PLAN")
    assert refused([dose("b", summation)]).code == "treatment.nothing_usable"


def test_a_plan_dose_belongs_to_one_plan():
    assert "refers to 2 plans" in str(refused([dose("a", plans=("boost", "plan"))]))


def test_only_a_rejected_plan_drops_its_dose():
    boost = dose("b", plans=("boost",))
    for approval in ("UNAPPROVED", "APPROVED", "", "UNKNOWN"):
        courses, reasons = find([dose("a"), boost], [plan(), plan("boost", approval=approval)])
        assert (len(courses), reasons) == (2, {})
    (course,), reasons = find([dose("a"), boost], [plan(approval=""), plan("boost", approval="REJECTED")])
    assert (list(course.doses), reasons) == ([1], {2: "its plan is REJECTED"})
    assert refused([boost], [plan("boost", approval="REJECTED")]).code == "treatment.nothing_usable"


BEFORE, EVENT, AFTER = date(2020, 1, 5), date(2020, 7, 1), date(2020, 9, 1)


@pytest.mark.parametrize("intent", ["VERIFICATION", "MACHINE_QA", "SERVICE"])
def test_a_dose_that_checks_a_treatment_counts_only_where_it_is_named(intent):
    check = replace(plan("check", prescription_gy=None), intent=intent)
    doses = [dose("a"), dose("b", plans=("check",))]
    (course,), reasons = find(doses, [plan(), check])
    assert (list(course.doses), reasons) == ([1], {2: f"its plan's intent is {intent}"})
    assert refused(doses[1:], [check]).code == "treatment.nothing_usable"
    key = b"k" * 32
    (course,), _ = find(doses[1:], [check], key=key, doses=(rt_key("RTDOSE", "b", key),))
    assert list(course.doses) == [1]


def test_what_was_planned_after_the_event_never_counts():
    doses = [dose("a"), dose("b", plans=("second",))]
    plans = [plan(day=BEFORE), plan("second", day=AFTER)]
    (course,), reasons = find(doses, plans, event=EVENT)
    assert (list(course.doses), reasons) == ([1], {2: "planned 62 days after the event"})
    assert len(find(doses, [plan(day=BEFORE), plan("second", day=EVENT)], event=EVENT)[0]) == 1, "on the very day"
    assert len(find(doses, plans)[0]) == 2, "nobody knows the event"


@pytest.mark.parametrize(
    ("days", "fractions", "counts"), [(-5, 18, False), (-5, 5, True), (-40, 18, True), (-1, 1, True)]
)
def test_what_cannot_have_been_delivered_by_the_event_does_not_count(days, fractions, counts):
    plans = [plan(day=BEFORE), plan("second", {1: (fractions, (1,))}, day=EVENT + timedelta(days))]
    courses, reasons = find([dose("a"), dose("b", plans=("second",))], plans, event=EVENT)
    assert len(courses) == (2 if counts else 1)
    assert counts or reasons == {2: "planned 5 days before the event, which its fractions outlast"}


def test_a_plan_without_a_date_was_made_after_its_images():
    doses = [dose("a"), dose("b", plans=("second",), frame="later CT")]
    images = {"frame": [BEFORE], "later CT": [AFTER]}
    (course,), reasons = find(doses, [plan(), plan("second")], event=EVENT, image_dates=images)
    says = "the images in its frame of reference are of 62 days after the event"
    assert (list(course.doses), reasons) == ([1], {2: says})


def test_a_sum_that_holds_a_later_plan_leaves_its_earlier_part():
    plans = [plan(day=BEFORE), plan("second", day=AFTER)]
    parts = [dose("a", gy=60.0), dose("b", plans=("second",), gy=36.0)]
    for multi in (dose("m", "MULTI_PLAN", plans=("plan", "second")), dose("m", "MULTI_PLAN", plans=(), gy=96.0)):
        (course,), reasons = find([*parts, multi], plans, event=EVENT)
        assert (list(course.doses), sorted(reasons)) == ([1], [2, 3])


def test_a_dose_without_a_reference_beside_a_later_plan_is_asked_about():
    doses, plans = [dose("a"), dose("b", plans=())], [plan(day=BEFORE), plan("second", day=AFTER)]
    _, reasons = find(doses, plans, event=EVENT)  # the later plan is the only one it can belong to
    assert reasons == {2: "planned 62 days after the event"}
    error = refused(doses, [*plans, plan("third", day=BEFORE)], event=EVENT)
    assert (error.code, "dose 2 refers to no plan" in str(error)) == ("treatment.ambiguous", True)


def test_a_sole_plan_after_the_event_is_refused_by_the_date_to_correct():
    error = refused([dose("a")], [plan(day=AFTER)], event=EVENT)
    assert error.code == "treatment.after_the_event"
    assert "dose 1: planned 62 days after the event" in str(error)
    assert "radiotherapy_start" in error.hint
    assert "post_date" not in error.hint
    (course,), _ = find([dose("a")], [plan(day=AFTER)], event=EVENT, radiotherapy_start=BEFORE)
    assert list(course.doses) == [1]
    images = {"frame": [AFTER]}  # plan and image agree: it is a second treatment
    known = {"event": EVENT, "radiotherapy_start": BEFORE, "image_dates": images}
    error = refused([dose("a")], [plan(day=AFTER)], **known)
    assert (error.code, "radiotherapy_start" in error.hint) == ("treatment.after_the_event", False)


@pytest.mark.parametrize("day", [date(2000, 1, 1), date(2020, 3, 1)])
def test_images_after_the_event_outdo_a_plans_date(day):
    images = {"frame": [BEFORE], "later CT": [AFTER]}
    doses = [dose("a"), dose("b", plans=("second",), frame="later CT")]
    plans = [plan(day=BEFORE), plan("second", day=day)]
    (course,), reasons = find(doses, plans, event=EVENT, image_dates=images)
    assert (list(course.doses), "images in its frame" in reasons[2]) == ([1], True)
    assert refused(doses[1:], plans[1:], event=EVENT, image_dates=images).code == "treatment.after_the_event"


def test_a_dose_named_by_the_user_with_a_wrong_date_needs_the_start_of_radiotherapy():
    doses, plans = [dose("a"), dose("b", plans=("boost",))], [plan(day=BEFORE), plan("boost", day=AFTER)]
    assert refused(doses, plans, event=EVENT, doses=("1", "2")).code == "treatment.after_the_event"
    courses, _ = find(doses, plans, event=EVENT, doses=("1", "2"), radiotherapy_start=BEFORE)
    assert len(courses) == 2


def test_a_dose_that_cannot_be_read_may_be_excluded_by_its_key():
    (course,), _ = find([dose("a")], [plan()], exclude_doses=("rdbad",), unreadable=frozenset({"rdbad"}))
    assert list(course.doses) == [1]
    assert refused([dose("a")], [plan()], doses=("rdbad",), unreadable=frozenset({"rdbad"})).code.endswith("object")


def test_a_dose_without_a_reference_is_its_plans_where_the_user_names_that():
    doses, plans = [dose("d", plans=())], [plan(), plan("boost", prescription_gy=10.0)]
    (course,), _ = find(doses, plans, plans=("2",))
    assert course.plans == ("plan",)


def test_the_user_chooses_by_keys():
    key = b"k" * 32
    doses = [dose("a"), dose("b", plans=("boost",)), dose("c", plans=("other",))]
    plans = [plan(), plan("boost"), plan("other")]
    keys = {name: rt_key("RTDOSE", name, key) for name in "abc"}

    def chosen(**choice) -> tuple[list[int], dict[int, str]]:
        courses, reasons = find(doses, plans, key=key, **choice)
        return [number for course in courses for number in course.doses], reasons

    assert chosen(doses=(keys["a"], keys["b"])) == ([1, 2], {3: "not named in doses"})
    assert chosen(exclude_doses=(keys["c"],)) == ([1, 2], {3: "named in exclude_doses"})
    of_plan = rt_key("RTPLAN", "boost", key)
    reason = "belongs to none of the plans named in plans"
    assert chosen(plans=(of_plan,)) == ([2], {1: reason, 3: reason})
    for column in ("doses", "plans", "exclude_doses"):
        error = refused(doses, plans, key=key, **{column: ("rd0123456789ab",)})
        assert error.code == "treatment.unknown_object"
        assert f"{column} names rd0123456789ab" in str(error)
    late = refused(doses, [plan(), plan("boost", day=AFTER), plan("other")], key=key, event=EVENT, doses=(keys["b"],))
    assert late.code == "treatment.after_the_event"
    assert keys["b"] in str(late)


def test_equal_voxels_on_one_grid_are_one_dose_exported_twice():
    doses = [dose("a", gy=60.0), dose("b", plans=("again",), gy=60.0005, frame="new frame")]
    plans = [plan(), plan("again")]
    (course,), reasons = find(doses, plans)
    assert (list(course.doses), reasons) == ([1], {2: "has the voxels and the grid of dose 1"})
    (course,), _ = find(doses, plans, image_dates={"new frame": []})
    assert list(course.doses) == [2], "the one with an image in its frame"
    (course,), _ = find(doses, [plan(approval="UNAPPROVED"), plan("again")])
    assert list(course.doses) == [2], "the approved one"
    assert len(find([doses[0], dose("b", plans=("again",), gy=60.1)], plans)[0]) == 2


def test_zeros_are_no_dose():
    beams = [*BEAMS, dose("z beams", "BEAM", groups=(1,), beams=(1, 2), gy=0.0)]
    (course,), reasons = find(beams, [plan()])
    assert (list(course.doses), reasons) == ([1, 2], {3: "holds no dose but zeros"})
    (course,), reasons = find([dose("a"), dose("z", gy=0.0)], [plan()])
    assert reasons == {2: "holds no dose but zeros"}
    own = [BEAMS[0], dose("beam 2", "BEAM", groups=(1,), beams=(2,), gy=0.0)]
    assert find(own, [plan()])[0][0].factors == {1: 1, 2: 1}, "a beam that gives nothing here"
    assert "holds no dose but zeros" in str(refused([dose("z", gy=0.0)], [plan()]))
    session = dose("session", "FRACTION_SESSION", groups=(1,))
    (course,), _ = find([session, dose("z", "BEAM", groups=(1,), beams=(1, 2), gy=0.0)], [plan()])
    assert course.factors == {1: 30}, "zeros alone make no plan whole"


def test_a_single_plane_is_no_treatment_beside_volumes():
    _, reasons = find([dose("a"), dose("film", plans=("qa",), planes=1)], [plan()])
    assert reasons == {2: "a single plane beside doses of several"}
    assert find([dose("a", planes=1)], [plan()])[0][0].factors == {1: 1}


def test_of_physical_and_effective_dose_of_an_ion_plan_the_physical_counts():
    doses = [dose("a"), dose("b", dose_type="EFFECTIVE")]
    (course,), reasons = find(doses, [plan()])
    assert reasons == {2: "its plan has a PHYSICAL dose, too (dose_type)"}
    (course,), reasons = find(doses, [plan()], dose_type="EFFECTIVE")
    assert list(course.doses) == [2]
    assert find([doses[1]], [plan()])[0][0].factors == {1: 1}
    (course,), reasons = find([*BEAMS, doses[1]], [plan()])
    assert sorted(course.doses) == [2, 3], "the physical beams before the effective plan"


def test_beams_tell_the_prescription_where_no_target_does():
    beams = replace(plan(prescription_gy=None), beam_dose_gy=60.004)
    assert find([dose("a")], [beams])[0][0].prescription_gy == 60.0
    assert find([dose("a")], [replace(beams, prescription_gy=54.0)])[0][0].prescription_gy == 54.0


def test_no_dose_at_all():
    assert "got no dose at all" in str(refused([]))


def test_sum_if_known():
    assert (sum_if_known([1, 2]), sum_if_known([1, None]), sum_if_known([])) == (3, None, None)


def test_nothing_prints_a_patient():
    patient = number_objects([dose("SECRET")], [plan("SECRET")], CaseContext())
    assert "SECRET" not in repr(patient) + repr(dose("SECRET")) + str(patient.describe(1))
