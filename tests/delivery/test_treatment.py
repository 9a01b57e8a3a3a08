"""From files to the dose of the whole treatment; the truth is the analytic dose that was written into them."""

import json
from datetime import date

import numpy as np
import pytest
from helpers.dicom_objects import AXIAL, Dose, linear, rtdose, rtplan, save, uid

from ricenet.delivery.patient_doses import CaseContext
from ricenet.delivery.rtdose import read_dose
from ricenet.delivery.rtplan import read_plan
from ricenet.delivery.treatment import Treatment, combine_doses
from ricenet.errors import InvalidInput, about
from ricenet.images.dose_limits import preset
from ricenet.images.volume import Volume

CASE = "case c0123456789ab"
TURNED = (np.cos(0.2), np.sin(0.2), 0, -np.sin(0.2), np.cos(0.2), 0)
BOOST_GRID = {"columns_rows": (7, 7), "spacing": (2, 2), "origin": (-6, 10, -12), "offsets": [0, 2, 4, 6, 8, 10, 12]}


def share(of_60_gy: float) -> Dose:
    """A linear dose whose maximum is 60 Gy on the default grid, times a share."""
    return lambda points: of_60_gy * 1.5 * linear(points)


@pytest.fixture
def treat(tmp_path):
    """Write RTDOSE and RTPLAN datasets, read them, combine them."""

    def run(
        rt_doses, rt_plans=(), fractions=None, prescription_gy=None, alpha_beta=None, limits=None, **context
    ) -> Treatment:
        paths = [save(dataset, tmp_path / f"SECRET-{n}") for n, dataset in enumerate([*rt_doses, *rt_plans])]
        return combine_doses(
            [read_dose(path) for path in paths[: len(rt_doses)]],
            [read_plan(path) for path in paths[len(rt_doses) :]],
            fractions=fractions,
            prescription_gy=prescription_gy,
            alpha_beta=alpha_beta,
            limits=limits,
            context=CaseContext(**context),
        )

    return run


def world(volume: Volume) -> np.ndarray:
    index = np.moveaxis(np.indices(volume.voxels.shape), 0, -1)
    return index @ volume.world_from_voxel[:3, :3].T + volume.world_from_voxel[:3, 3]


def assert_is(treatment: Treatment, dose: Dose) -> None:
    np.testing.assert_allclose(treatment.volume.voxels, dose(world(treatment.volume)), atol=1e-3)


def assert_refused(code: str, says: str, run, *args, **known) -> None:
    with pytest.raises(InvalidInput) as caught, about(CASE):
        run(*args, **known)
    assert caught.value.code == code
    assert says in str(caught.value)
    assert str(caught.value).startswith(CASE)
    assert "SECRET" not in str(caught.value)
    assert uid("plan") not in str(caught.value)


def test_a_whole_plan(treat):
    treatment = treat([rtdose(share(1))], [rtplan()])
    assert_is(treatment, share(1))
    assert (treatment.prescription_gy, treatment.fractions) == (60, 30)
    assert treatment.frame_of_reference == uid("planning")
    (row,) = treatment.used
    assert row.max_gy == pytest.approx(59.6, abs=0.5)
    assert row.model_dump(exclude={"max_gy"}) == {
        "dose": 1,
        "key": "",
        "plans": [1],
        "summation": "PLAN",
        "factor": 1,
        "fractions": 30,
    }
    assert (treatment.rejected, treatment.flags) == ([], [])


def test_thirty_sessions_are_the_treatment(treat):
    session = rtdose(share(1 / 30), summation="FRACTION_SESSION", fraction_group=1)
    for plans, fractions in (([rtplan()], None), ([], 30)):
        treatment = treat([session], plans, fractions)
        assert_is(treatment, share(1))
        assert treatment.used[0].factor == treatment.fractions == 30


def test_beams_add_up(treat):
    beams = [
        rtdose(share(part), name=f"beam {beam}", summation="BEAM", fraction_group=1, beams=(beam,))
        for beam, part in ((1, 0.3), (2, 0.7))
    ]
    assert_is(treat(beams, [rtplan()]), share(1))
    assert_is(treat([rtdose(share(1)), *beams], [rtplan()]), share(1))
    assert_refused("treatment.nothing_usable", "1 of its plan's 2 beams", treat, beams[:1], [rtplan()])


@pytest.mark.parametrize("orientation", [AXIAL, TURNED])
def test_plan_and_boost_are_the_analytic_sum(treat, orientation):
    boost = rtdose(share(0.25), name="b", plans=("boost",), orientation=orientation, **BOOST_GRID)
    plans = [rtplan(targets_gy=(45,)), rtplan("boost", groups={1: (8, (1,))}, targets_gy=(15,))]
    treatment = treat([rtdose(share(0.75)), boost], plans)
    points = world(treatment.volume)
    cosines = np.array(orientation, float).reshape(2, 3)
    normal = np.cross(*cosines)
    along = ((points * (-1, -1, 1)) - BOOST_GRID["origin"]) @ np.array([*cosines, normal]).T
    in_boost = ((along > -1e-6) & (along < 12 + 1e-6)).all(axis=-1)
    outside = ((along < -1.01) | (along > 13.01)).any(axis=-1)
    in_plan = ((points > (-8.001, -28.001, -20.001)) & (points < (12.001, -6.999, 16.001))).all(axis=-1)
    both, alone = in_boost & in_plan, outside & in_plan
    assert both.sum() > 150
    assert alone.sum() > 1500
    np.testing.assert_allclose(treatment.volume.voxels[both], share(1)(points)[both], atol=1e-3)
    np.testing.assert_allclose(treatment.volume.voxels[alone], share(0.75)(points)[alone], atol=1e-3)
    np.testing.assert_allclose(treatment.volume.spacing_mm, 2)
    assert (treatment.prescription_gy, treatment.fractions) == (60, 38)
    assert sorted(row.fractions for row in treatment.used) == [8, 30]


def test_eqd2_is_taken_of_each_plan_before_the_sum(treat):
    doses = [rtdose(share(0.75)), rtdose(share(0.25), name="b", plans=("boost",))]
    plans = [rtplan(targets_gy=(45,)), rtplan("boost", groups={1: (5, (1,))}, targets_gy=(15,))]
    table = {"fractions": 35, "prescription_gy": 60}  # 1.5 and 3 Gy per fraction: nobody adds that unasked
    treatment = treat(doses, plans, **table, alpha_beta=3)
    points = world(treatment.volume)
    first, second = share(0.75)(points), share(0.25)(points)
    expected = first * (first / 30 + 3) / 5 + second * (second / 5 + 3) / 5
    np.testing.assert_allclose(treatment.volume.voxels, expected, atol=1e-3)
    assert treatment.prescription_gy == pytest.approx(45 * 4.5 / 5 + 15 * 6 / 5)
    assert treatment.used == treat(doses, plans, **table).used


def test_eqd2_of_the_usual_schedules(treat):
    def uniform(dose_gy):
        return rtdose(lambda points: np.full(points.shape[:-1], dose_gy))

    for dose_gy, fractions, alpha_beta, expected in ((60, 30, 3, 60), (40.05, 15, 10, 42.3), (40.05, 15, 3, 45.4)):
        treatment = treat([uniform(dose_gy)], [], fractions, dose_gy, alpha_beta)
        np.testing.assert_allclose(treatment.volume.voxels, expected, atol=0.05)
        assert treatment.prescription_gy == pytest.approx(expected, abs=0.05)


def test_eqd2_needs_fractions_of_each_plan(treat):
    refused = ("treatment.eqd2", "EQD2 needs the dose and the fractions of each plan, which are unknown for dose 1")
    assert_refused(*refused, treat, [rtdose(share(1))], alpha_beta=3)
    multi = rtdose(share(1), summation="MULTI_PLAN", plans=("plan", "boost"))
    plans = [rtplan(), rtplan("boost", groups={1: (5, (1,))}, targets_gy=())]
    assert_refused(*refused, treat, [multi], plans, alpha_beta=3)


def test_the_label_tables_prescription_wins(treat):
    treatment = treat([rtdose(share(1))], [rtplan()], fractions=30, prescription_gy=59.4)
    assert (treatment.prescription_gy, treatment.fractions, treatment.flags) == (59.4, 30, [])
    says = "the label table says 57 Gy, the plan of dose 1 has 60 Gy"
    assert_refused("treatment.prescription_differs", says, treat, [rtdose(share(1))], [rtplan()], prescription_gy=57)
    chosen = treat([rtdose(share(1))], [rtplan()], prescription_gy=57, doses=("1",))
    assert (chosen.prescription_gy, chosen.flags) == (57, [says])


def test_a_treatment_long_before_the_start_of_radiotherapy_is_asked_about(treat):
    start = date(2020, 9, 1)
    says = "dose 1 was planned 211 days before radiotherapy_start"
    assert_refused("treatment.start_differs", says, treat, [rtdose(share(1))], [rtplan()], radiotherapy_start=start)
    assert treat([rtdose(share(1))], [rtplan()], radiotherapy_start=start, doses=("1",)).fractions == 30


def test_other_fractions_than_the_plans_are_an_error_that_names_both(treat):
    says = "the label table says 20 fractions, the plan of dose 1 has 30"
    assert_refused("treatment.fractions_differ", says, treat, [rtdose(share(1))], [rtplan()], fractions=20)


def test_fraction_groups_of_equal_length_may_be_given_on_the_same_days(treat):
    plans = [rtplan(groups={1: (30, (1,)), 2: (30, (2,))})]
    assert treat([rtdose(share(1))], plans, fractions=30).fractions == 30
    equivalent = treat([rtdose(share(1))], plans, fractions=30, alpha_beta=3).volume.voxels
    np.testing.assert_allclose(equivalent, treat([rtdose(share(1))], [rtplan()], alpha_beta=3).volume.voxels)
    assert treat([rtdose(share(1))], plans).fractions == 60
    assert_refused("treatment.fractions_differ", "has 60", treat, [rtdose(share(1))], plans, fractions=20)


@pytest.mark.parametrize(
    "table", [{}, {"fractions": 30, "prescription_gy": 60}, {"fractions": 20, "prescription_gy": 40}]
)
def test_a_treatment_that_was_stopped_is_scaled_where_the_table_says_so(treat, table):
    treatment = treat([rtdose(share(1))], [rtplan()], delivered_fractions=20, **table)
    assert_is(treatment, share(2 / 3))
    assert (treatment.prescription_gy, treatment.fractions) == (pytest.approx(40), 20)
    assert treatment.flags == ["scaled to 20 of 30 planned fractions"]
    assert treatment.used[0].factor == pytest.approx(2 / 3)
    equivalent = treat([rtdose(share(1))], [rtplan()], delivered_fractions=20, alpha_beta=3, **table)
    assert equivalent.prescription_gy == pytest.approx(40)
    whole = treat([rtdose(share(1))], [rtplan()], delivered_fractions=30)
    assert (whole.flags, whole.used[0].factor) == ([], 1)


def test_what_cannot_be_scaled_is_refused(treat):
    code = "treatment.delivered_fractions"
    assert_refused(code, "a plan of 30 fractions", treat, [rtdose(share(1))], [rtplan()], delivered_fractions=33)
    assert_refused(code, "a plan of unknown fractions", treat, [rtdose(share(1))], delivered_fractions=20)
    doses = [rtdose(share(0.75)), rtdose(share(0.25), name="b", plans=("boost",))]
    plans = [rtplan(targets_gy=(45,)), rtplan("boost", groups={1: (8, (1,))}, targets_gy=(15,))]
    assert_refused(code, "2 plans", treat, doses, plans, delivered_fractions=20)


@pytest.mark.parametrize(
    ("factor", "summation", "code", "says"),
    [
        (100, "PLAN", "dose.cgy", "is it in cGy?"),
        (1 / 30, "PLAN", "dose.one_fraction", "it looks like one of 30 fractions"),
        (2, "PLAN", "dose.too_high", "plans that replace one another"),
        (0.5, "PLAN", "dose.not_as_prescribed", "a boost left out"),
    ],
)
def test_what_no_treatment_is(treat, factor, summation, code, says):
    dose = rtdose(share(factor), summation=summation)
    assert_refused(code, says, treat, [dose], [rtplan()])


def test_a_boost_on_another_image_is_a_part_of_its_own(treat):
    doses = [rtdose(share(0.25), name="b", plans=("boost",), frame="another CT"), rtdose(share(0.75))]
    plans = [rtplan(targets_gy=(45,)), rtplan("boost", groups={1: (8, (1,))}, targets_gy=(15,))]
    treatment = treat(doses, plans)
    assert [part.frame_of_reference for part in treatment.parts] == [uid("planning"), uid("another CT")]
    for part, dose in zip(treatment.parts, (share(0.75), share(0.25)), strict=True):
        np.testing.assert_allclose(part.volume.voxels, dose(world(part.volume)), atol=1e-3)
    assert (treatment.prescription_gy, treatment.fractions) == (60, 38)
    assert_refused("treatment.ambiguous", "nothing says which", treat, doses)


def test_parts_in_two_frames_whose_sum_cannot_be_the_prescription_are_refused(treat):
    plans = [rtplan(targets_gy=(45,)), rtplan("boost", groups={1: (8, (1,))}, targets_gy=(15,))]
    for primary, got in ((0.5, "48.0-72.0 Gy for a prescription of 60 Gy, got 44."), (1.3, "got 77.")):
        doses = [rtdose(share(0.25), name="b", plans=("boost",), frame="another CT"), rtdose(share(primary))]
        assert_refused("dose.not_as_prescribed", got, treat, doses, plans)


def test_a_plan_on_a_phantom_does_no_harm(treat):
    other = rtdose(share(1.01), name="b", plans=("qa",), frame="phantom")
    plans = [rtplan(), rtplan("qa", approval="UNAPPROVED")]
    treatment = treat([rtdose(share(1)), other], plans, image_dates={uid("planning"): []})
    assert_is(treatment, share(1))
    (left_out,) = treatment.rejected
    assert left_out.reason == "no image of the delivery lies in its frame of reference, as in another dose's"
    assert [flag.partition(": ")[2] for flag in treatment.flags] == ["UNAPPROVED, not counted"]


def test_flags(treat):
    dose = rtdose(share(1), summation="MULTI_PLAN", plans=("plan", "boost", "gone"), DoseType="EFFECTIVE")
    unapproved = rtplan("boost", approval="UNAPPROVED")
    others = [rtplan("never calculated"), rtplan("bad", approval="REJECTED")]
    treatment = treat([dose], [rtplan(), unapproved, *others], prescription_gy=60)
    assert treatment.flags[0] == "dose 1: EFFECTIVE, weighted by biological effect"
    assert sorted(flag.partition(": ")[2] for flag in treatment.flags[1:]) == [
        "REJECTED, not counted",
        "not delivered; its fractions, prescription and approval are unknown",
        "without any dose, not counted",
    ]


def test_a_stereotactic_treatment_comes_in_with_flags_or_by_the_key(treat):
    given = [rtdose(share(40 / 60))]
    flags = treat(given, fractions=1, prescription_gy=20).flags
    assert "20 Gy in 1 fraction: 20 Gy per fraction, expected at most 3" in flags
    assert "a maximum of 39.8 Gy, 1.99 x the prescription, passes as stereotactic (20 Gy in 1 fraction)" in flags
    by_key = treat(given, prescription_gy=20, limits=preset("stereotactic"))
    assert not any("stereotactic" in flag for flag in by_key.flags)
    assert_refused("dose.not_as_prescribed", "dose_limits=stereotactic", treat, given, prescription_gy=20)


def test_several_fraction_groups_under_eqd2_are_flagged(treat):
    treatment = treat([rtdose(share(1))], [rtplan(groups={1: (23, (1,)), 2: (7, (1,))})], alpha_beta=10)
    assert treatment.flags == ["plan 1: EQD2 takes its 2 fraction groups for one schedule of equal fractions"]


def test_the_record_is_json_without_a_uid_or_a_name(treat):
    doses = [rtdose(share(1)), rtdose(share(1)), rtdose(share(1), name="record", summation="RECORD")]
    treatment = treat(doses, [rtplan()])
    record = json.dumps([row.model_dump() for row in (*treatment.used, *treatment.rejected)] + treatment.flags)
    assert len(treatment.rejected) == 2
    assert [row.dose for row in treatment.rejected] == sorted(row.dose for row in treatment.rejected)
    for secret in ("SECRET", *(uid(name) for name in ("plan", "dose", "record", "planning"))):
        assert secret not in record


def test_the_order_of_the_files_does_not_matter(treat):
    doses = [rtdose(share(0.75)), rtdose(share(0.25), name="b", plans=("boost",), **BOOST_GRID)]
    plans = [rtplan(targets_gy=(45,)), rtplan("boost", groups={1: (8, (1,))}, targets_gy=(15,))]
    one, other = treat(doses, plans), treat(doses[::-1], plans[::-1])
    np.testing.assert_array_equal(one.volume.voxels, other.volume.voxels)
    assert (one.used, one.rejected, one.flags) == (other.used, other.rejected, other.flags)
