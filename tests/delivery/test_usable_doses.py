"""What is no dose of the treatment: every rule on small dose grids in memory."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from helpers.dose_grids import AFTER, BEAMS, BEFORE, EVENT, dose, find, plan, refused

from ricenet.delivery.rtobject import rt_key
from ricenet.images.volume import Volume


def test_duplicates_are_dropped():
    (course,), reasons = find([dose("d"), dose("d"), dose("e", content="d")], [plan(), plan()])
    assert list(course.doses) == [1]
    assert reasons == {2: "copy of dose 1", 3: "copy of dose 1"}


def test_one_uid_with_two_contents_is_refused():
    assert refused([dose("d"), dose("d", content="other")]).code == "treatment.uid_conflict"
    assert refused([dose("d")], [plan(), plan(prescription_gy=66.0)]).code == "treatment.uid_conflict"


def test_multi_plan_holds_the_doses_of_its_plans():
    multi = dose("m", "MULTI_PLAN", plans=("boost", "plan"))
    parts = [dose("p"), dose("q", plans=("boost",)), *BEAMS]
    courses, reasons = find([multi, *parts, dose("z", plans=("other",))], [plan(), plan("boost", prescription_gy=10.0)])
    assert [list(course.doses) for course in courses] == [[3], [6]]
    assert courses[0].prescription_gy == 70
    assert reasons == dict.fromkeys((1, 2, 4, 5), "MULTI_PLAN dose 3 holds its plan")
    overlapping = dose("n", "MULTI_PLAN", plans=("boost", "other"))
    assert refused([multi, overlapping]).code == "treatment.ambiguous"


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
