"""Doses and images of a delivery that nobody cleaned: chosen, or asked about with advice that brings the case in."""

import copy
import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_objects import save, uid
from helpers.phantom_delivery import CFG, KEY, SETTINGS, problem, rd, statuses, take
from helpers.structure_sets import Drawn, ball_lps, structure_set

from ricenet.delivery.intake import Intake
from ricenet.delivery.roles import series_key
from ricenet.delivery.rtdose import read_dose
from ricenet.delivery.rtobject import rt_key
from ricenet.delivery.rtplan import read_plan
from ricenet.delivery.series import PatientFiles, Series
from ricenet.dicom.headers import RtFile

pytestmark = pytest.mark.process  # dcm2niix


@pytest.mark.parametrize("another_frame", [False, True])
@pytest.mark.parametrize("dated", [True, False])
def test_a_second_treatment_after_the_event_is_left_out(delivery, delivered, tmp_path, another_frame, dated):
    later = delivery.row.event_date + timedelta(20)
    frame = delivery.another_image(later) if another_frame else None
    days = (later - delivery.planned).days
    second = delivery.add(0.6, days=days if dated or not another_frame else None, frame=frame, noise=0.1)
    case = delivery.take(tmp_path)
    np.testing.assert_allclose(rd(case), delivered[2], atol=1e-3)
    assert statuses(case) == {delivery.first: "used", second: "left out"}
    (left_out,) = [each for each in case.record.rt_objects if each.status == "left out" and each.kind == "RTDOSE"]
    assert left_out.reason.endswith(" 20 days after the event")


def test_without_a_date_of_the_event_its_mri_gives_it(delivery, delivered, tmp_path):
    later = (delivery.row.event_date - delivery.planned).days + 20
    delivery.add(0.6, days=later, noise=0.1)
    case = delivery.take(tmp_path, event_date=None)
    np.testing.assert_allclose(rd(case), delivered[2], atol=1e-3)
    assert case.columns.event_day == delivery.take(tmp_path).columns.event_day


PARTIAL = replace(SETTINGS, partial=True)


def without(files: PatientFiles, word: str) -> PatientFiles:
    """Without the series whose description holds the word."""
    return replace(files, series=[each for each in files.series if word not in each.series_description])


def before(files: PatientFiles, event: date) -> list[Series]:
    return [each for each in files.series if each.date < event]


def event_alone(files: PatientFiles, event: date) -> PatientFiles:
    early = before(files, event)
    return replace(files, series=[each for each in files.series if each not in early], doses=[], plans=[])


def test_an_event_only_cohort_looks_for_no_post_and_the_dose_comes_through_its_planning_image(delivered, tmp_path):
    row, files, dose_gy = delivered
    case = take(row, files, tmp_path, replace(SETTINGS, post=False))
    assert set(case.volumes) == {"event", "rd", "planning"}
    np.testing.assert_allclose(rd(case), dose_gy, atol=1e-3)
    assert (case.columns.post_day, case.columns.scanner_post, case.record.flags) == (None, "", [])
    assert case.columns.event_day > 0
    undated = take(replace(row, event_date=None), files, tmp_path, replace(SETTINGS, post=False))
    assert undated.record.images["event"].series == case.record.images["event"].series


def planned_on_ct(files: PatientFiles) -> PatientFiles:
    """The planning image is no MRI, which might be the post-OP MRI."""
    series = [replace(each, modality="CT") if "planning" in each.series_description else each for each in files.series]
    return replace(files, series=series)


def test_a_partial_cohort_takes_a_case_without_a_post_image_that_is_not_there_and_says_so(delivered, tmp_path):
    """All MRIs before radiotherapy are missing; with the plan's date that is sure."""
    row, files, _ = delivered
    lacking = planned_on_ct(without(without(files, "mprage"), "localizer"))
    assert problem(take(row, lacking, tmp_path)).code == "role.missing"
    case = take(row, lacking, tmp_path, PARTIAL)
    assert set(case.volumes) == {"event", "rd", "planning"}
    (flag,) = case.record.flags
    assert re.fullmatch(r"post: none of the patient's \d series fits a rule .*: the case is taken without it", flag)
    assert "post" not in case.record.images
    for named in (replace(row, post_date=row.event_date - timedelta(300)), replace(row, choice={"post": "s0"})):
        assert problem(take(named, lacking, tmp_path, PARTIAL)).code in ("role.missing", "role.unknown_series")
    assert take(row, planned_on_ct(files), tmp_path, PARTIAL).record == take(row, planned_on_ct(files), tmp_path).record


def test_what_may_be_the_post_image_is_asked_about_and_the_answer_may_be_none(delivered, tmp_path):
    """The planning MRI is a T1 of which nothing says whether it is enhanced."""
    row, files, _ = delivered
    lacking = without(without(files, "mprage"), "localizer")
    assert problem(take(row, lacking, tmp_path, PARTIAL)).code == "role.contrast"
    answered = replace(row, choice={"post": "none"})
    case = take(answered, lacking, tmp_path, PARTIAL)
    assert set(case.volumes) == {"event", "rd", "planning"}
    assert case.record.flags == ["post: there is none, as post_series says"]
    shouted = replace(row, choice={"post": "NONE"})
    assert take(shouted, lacking, tmp_path, PARTIAL).record.flags == case.record.flags
    refused = problem(take(answered, lacking, tmp_path))
    assert (refused.code, "partial=true" in refused.hint) == ("role.missing", True)


def test_a_partial_cohort_takes_a_case_without_a_dose_and_says_so(delivered, delivery, tmp_path):
    """The post-OP MRI is known by the table's start of radiotherapy; a dose that is broken is no missing one."""
    row, files, _ = delivered
    started = replace(row, radiotherapy_start=delivery.planned, fractions=30, prescription_gy=60.0)
    lacking = replace(planned_on_ct(files), doses=[], plans=[])
    assert problem(take(started, lacking, tmp_path)).code == "dose.missing"
    case = take(started, lacking, tmp_path, PARTIAL)
    assert (set(case.volumes), case.record.flags) == ({"post", "event"}, ["rd: not in the delivery"])
    assert (case.columns.post_day < 0 < case.columns.event_day, case.columns.fractions) == (True, 30)
    assert case.record.images.keys() == {"post", "event"}
    assert problem(take(replace(started, doses=("rd0",)), lacking, tmp_path, PARTIAL)).code == "dose.missing"
    damaged = tmp_path / "damaged"
    damaged.write_bytes(files.doses[0].path.read_bytes()[:3000])
    broken = replace(files, doses=[replace(files.doses[0], path=damaged)])
    assert problem(take(started, broken, tmp_path, PARTIAL)).code.startswith("rtdose.")


def test_where_nobody_knows_when_radiotherapy_began_an_earlier_mri_may_be_the_post_image(delivered, tmp_path):
    row, files, _ = delivered
    lacking = replace(files, doses=[], plans=[])
    refused = problem(take(row, lacking, tmp_path, PARTIAL))
    assert refused.code == "role.missing"
    assert refused.hint.startswith("fill in radiotherapy_start or post_date: there are MRIs before the event")
    case = take(row, event_alone(files, row.event_date), tmp_path, PARTIAL)
    assert set(case.volumes) == {"event"}
    assert [flag[:4] for flag in case.record.flags] == ["rd: ", "post"]


def test_a_dose_in_the_frame_of_the_event_has_the_event_as_its_planning_image(delivered, tmp_path):
    row, files, _ = delivered
    frame = next(each.frame_of_reference for each in files.series if "planning" in each.series_description)
    event = next(each for each in files.series if each.date == row.event_date)
    series = [replace(each, frame_of_reference=frame) if each is event else each for each in files.series]
    case = take(row, replace(files, series=series), tmp_path, replace(SETTINGS, post=False))
    np.testing.assert_array_equal(case.volumes["planning"].voxels, case.volumes["event"].voxels)
    assert case.record.dose.lies_in_the_frame_of == "planning"


def test_drafts_and_old_plans_do_not_move_the_start_of_radiotherapy(delivery, tmp_path):
    expected = delivery.take(tmp_path).columns
    draft = delivery.add(0.9, days=-1900, noise=0.1)
    case = delivery.take(tmp_path, exclude_doses=(draft,))
    assert (case.columns.post_day, case.columns.event_day) == (expected.post_day, expected.event_day)
    assert case.record.images["post"] == delivery.take(tmp_path, exclude_doses=(draft,)).record.images["post"]


@pytest.mark.parametrize("day", ["20030105", "19010101", "", "00000000"])
def test_a_date_before_every_image_is_no_date(delivery, tmp_path, day):
    expected = delivery.take(tmp_path)
    plan = copy.deepcopy(delivery.plan)
    plan.RTPlanDate = day
    delivery.files.plans.clear()
    delivery._write(plan, delivery.files.plans)
    case = delivery.take(tmp_path)
    rd(case)
    assert (case.columns.post_day, case.columns.event_day) == (expected.columns.post_day, expected.columns.event_day)
    assert any("before every image" in flag for flag in case.record.dose.flags) == (day == "20030105")


def test_two_images_in_the_doses_frame_are_no_question(delivery, tmp_path):
    planning = next(each for each in delivery.files.series if "planning" in each.series_description)
    delivery.files.series.append(replace(planning, uid=uid("thick"), shape=(*planning.shape[:2], 30)))
    case = delivery.take(tmp_path)
    assert case.problem is None
    chosen = case.record.images["planning"]
    assert chosen.series == series_key(planning, KEY)
    assert len(chosen.candidates) == 2
    expected = "planning: of 2 images in the dose's frame the one with most slices and the finest step"
    assert case.record.dose.flags == [expected]


def test_a_boost_on_another_image_brings_that_image_along(delivery, delivered, tmp_path):
    frame = delivery.another_image(delivery.planned + timedelta(15))
    boost = delivery.add(0.25, days=20, frame=frame)
    plans = [read_plan(file.path) for file in delivery.files.plans]
    table = {"fractions": sum(plan.fractions for plan in plans)}
    case = delivery.take(tmp_path, **table)
    assert set(case.volumes) == {"post", "event", "planning", "rd", "planning_2", "rd_2"}
    np.testing.assert_allclose(case.volumes["rd_2"].voxels, 0.25 * delivered[2], atol=0.01)
    assert statuses(case) == {delivery.first: "used", boost: "used"}
    assert case.record.dose.further == {"rd_2": "planning_2"}
    alone = delivery.take(tmp_path, exclude_doses=(boost,))
    assert case.columns.fractions > alone.columns.fractions, "the sums"


REFUSALS = {
    "alternatives": lambda d: [d.add(1, noise=0.02)],
    "recalculated": lambda d: [
        d.add(1, plan=False, noise=0.02, ReferencedRTPlanSequence=d.dose.ReferencedRTPlanSequence)
    ],
    "delivered long before": lambda d: [d.add(0.5, days=-900, noise=0.1)],
    "no reference to a plan": lambda d: [d.add(1, plan=False, noise=0.02, ReferencedRTPlanSequence=None)],
    "incomplete beams": lambda d: [d.add(0.3, noise=0.1, DoseSummationType="BEAM")],
    "named after the event": lambda d: [d.add(0.6, days=2000, noise=0.1)],
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_a_refusal_advises_makes_the_case_come_in(delivery, delivered, tmp_path, kind):
    others = REFUSALS[kind](delivery)
    row = {"doses": (others[0],)} if kind == "named after the event" else {}
    refused = delivery.take(tmp_path, **row)
    said = str(problem(refused))
    keys = {rt_key("RTDOSE", file.instance_uid, KEY) for file in delivery.files.doses}
    listed = refused.record.rt_objects
    assert {each.object for each in listed if each.kind == "RTDOSE"} == keys
    assert {each.kind for each in listed} == {"RTDOSE", "RTPLAN"}
    assert "undecided" in {each.status for each in listed if each.kind == "RTPLAN"}
    assert set(others) <= set(re.findall(r"rd[0-9a-f]{12}", said))
    assert "SECRET" not in said + str(listed)
    if kind != "named after the event":
        assert "exclude_doses" in said
    for choice in ({"exclude_doses": tuple(others)}, {"doses": (delivery.first,)}):
        np.testing.assert_allclose(rd(delivery.take(tmp_path, **choice)), delivered[2], atol=1e-3)


def test_the_tables_numbers_settle_what_nothing_else_does(delivery, delivered, tmp_path):
    plan = read_plan(delivery.files.plans[0].path)
    delivery.add(0.75, noise=0.05)
    assert problem(delivery.take(tmp_path)).code == "treatment.ambiguous"
    case = delivery.take(tmp_path, fractions=plan.fractions, prescription_gy=plan.prescription_gy)
    np.testing.assert_allclose(rd(case), delivered[2], atol=1e-3)


def draw_structures(
    files: PatientFiles, case: Intake, folder: Path, name: str, frame: str
) -> tuple[PatientFiles, np.ndarray]:
    """The delivery with an RTSTRUCT of a ball of 12 mm around the dose's maximum; and where that is, RAS+ mm."""
    rd = case.volumes["rd"]
    at = np.unravel_index(np.argmax(rd.voxels), rd.voxels.shape)
    middle = rd.world_from_voxel[:3, :3] @ at + rd.world_from_voxel[:3, 3]
    ball = ball_lps(12, middle * (-1, -1, 1), 1.5, float(np.floor(middle[2])) - 60)
    dataset = structure_set([Drawn("GTV", ball, frame=None), Drawn("SECRET", ball, frame=None)], name=name)
    dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = frame
    path = save(dataset, folder / f"{name}.dcm", "implicit")
    return replace(files, structures=[*files.structures, RtFile(path, uid(name))]), middle


def test_structures_of_the_plan_come_in_on_the_planning_image(delivered, tmp_path):
    row, files, _ = delivered
    settings = replace(SETTINGS, structures=tuple(CFG.structures))
    before = take(row, files, tmp_path, settings)
    assert before.structures == {}
    frame = read_dose(files.doses[0].path).frame_of_reference
    files, middle = draw_structures(files, before, tmp_path, "RS1", frame)
    elsewhere, _ = draw_structures(files, before, tmp_path, "RS2", uid("another frame"))
    for delivery in (files, elsewhere):
        case = take(row, delivery, tmp_path, settings)
        assert list(case.structures) == ["GTV"]
        mask = case.structures["GTV"]
        assert mask.voxels.sum() * np.prod(mask.spacing_mm) == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.02)
        index = [float((mask.voxels * axis).sum() / mask.voxels.sum()) for axis in np.indices(mask.voxels.shape)]
        assert mask.world_from_voxel[:3, :3] @ index + mask.world_from_voxel[:3, 3] == pytest.approx(middle, abs=0.5)
        record = case.record.structures
        assert (record.structure_set, record.lies_in_the_frame_of) == (rt_key("RTSTRUCT", uid("RS1"), KEY), "planning")
        assert [(one.number, one.reason) for one in record.left_out] == [(2, "no rule names it")]
        assert "SECRET" not in case.record.as_json()
    several, _ = draw_structures(files, before, tmp_path, "RS3", frame)
    ambiguous = take(row, several, tmp_path, settings)
    assert ambiguous.structures == {}
    assert "none of 2 structure sets was read: no plan that counts names one" in ambiguous.record.dose.flags
    without = take(row, files, tmp_path, replace(SETTINGS, structures=()))
    assert without.structures == {}
    np.testing.assert_array_equal(without.volumes["rd"].voxels, case.volumes["rd"].voxels)
