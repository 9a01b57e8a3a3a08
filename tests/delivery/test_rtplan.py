import datetime

import pytest
from helpers.dicom_objects import FORMS, rtplan, rtstruct, save, uid, without_part10
from pydicom.data import get_testdata_file

from ricenet.delivery.rtplan import FractionGroup, RtPlan, read_plan, read_structure_references
from ricenet.dicom.part10 import quiet_pydicom
from ricenet.errors import InvalidInput


def read(dataset, folder) -> RtPlan:
    return read_plan(save(dataset, folder / "RP.anything"))


def test_what_a_plan_says(tmp_path):
    groups = {1: (23, (1, 2)), 2: (7, (3,))}
    references = {"ReferencedStructureSetSequence": [rtstruct()], "FrameOfReferenceUID": uid("planning")}
    references["ReferencedStructureSetSequence"][0].ReferencedSOPInstanceUID = uid("structures")
    plan = read(rtplan("boost", groups=groups, targets_gy=(60,), setup_beams=(9,), **references), tmp_path)
    assert plan.sop_instance == uid("boost")
    assert plan.groups == {1: FractionGroup(23, frozenset({1, 2})), 2: FractionGroup(7, frozenset({3}))}
    assert plan.fractions == 30
    assert plan.prescription_gy == 60
    assert plan.approval == "APPROVED"
    assert plan.date == datetime.date(2020, 2, 3)
    assert (plan.structure_set, plan.frame_of_reference) == (uid("structures"), uid("planning"))


@pytest.mark.parametrize("day", ["", "19010101", "19000101", "19600229", "today"])
def test_dates_of_anonymisers_are_none(tmp_path, day):
    with quiet_pydicom():
        assert read(rtplan(RTPlanDate=day), tmp_path).date is None


def test_date_in_the_old_form(tmp_path):
    with quiet_pydicom():
        assert read(rtplan(RTPlanDate="2020.02.03"), tmp_path).date == datetime.date(2020, 2, 3)


@pytest.mark.parametrize(
    ("targets_gy", "types", "expected"),
    [
        ((60, 54), (None, None), 60),
        ((60,), ("SITE",), 60),
        ((60,), ("VOLUME",), 60),
        ((2.2, 2.217), ("SITE", "COORDINATES"), 2.2),  # Eclipse, protons
        ((64.3, 60), ("POINT", "VOLUME"), 60),
        ((64.3,), ("COORDINATES",), None),  # Brainlab
        ((64.3,), ("POINT",), None),
        ((64.3,), ("SECRET",), None),
        ((), (), None),  # Pinnacle, RayStation, GammaPlan
    ],
)
def test_a_point_never_sets_the_prescription_of_a_plan(tmp_path, targets_gy, types, expected):
    with quiet_pydicom():
        plan = read(rtplan(targets_gy=targets_gy, target_types=types), tmp_path)
    assert plan.prescription_gy == (None if expected is None else pytest.approx(expected))


MONACO = {1: (16, (1,)), 2: (4, (2,))}
PER_BEAM = {1: 42.4 / 16, 2: 10 / 4}


@pytest.mark.parametrize(
    ("linked", "beams_gy", "expected"),
    [
        ({1: {1: None}, 2: {2: None}}, None, 52.4),  # each group has a target of its own
        ({1: {1: None}, 2: {2: None}}, PER_BEAM, 52.4),
        ({1: {1: None}, 2: {2: None}}, {1: 32.4 / 16, 2: 10 / 4}, 42.4),  # the targets' doses are cumulative
        ({1: {1: 42.4}, 2: {1: 10.0}}, None, 52.4),  # groups that say themselves what they give to one target
        ({1: {1: None}, 2: {1: None}}, None, None),  # one target of both: all of it, or once each?
        ({1: {1: None}, 2: {1: None}}, {1: 32.4 / 16, 2: 10 / 4}, 42.4),
        ({}, None, None),
        ({}, PER_BEAM, 52.4),
        ({}, {1: 32.4 / 16, 2: 10 / 4}, 42.4),
        ({}, {1: 2, 2: 5}, 52.4),  # 52 Gy
        ({}, {1: 2, 2: 3}, 42.4),  # 44 Gy
        ({}, {1: 2, 2: 4}, None),  # 48 Gy
        ({1: {1: None}}, None, None),
        ({1: {1: None}}, PER_BEAM, 52.4),
    ],
)
def test_prescription_of_several_fraction_groups(tmp_path, linked, beams_gy, expected):
    plan = read(rtplan(groups=MONACO, targets_gy=(42.4, 10), linked=linked, beam_doses_gy=beams_gy), tmp_path)
    assert plan.fractions == 20
    assert plan.prescription_gy == (None if expected is None else pytest.approx(expected))


def test_prescriptions_of_the_groups(tmp_path):
    dataset = rtplan(groups=MONACO, targets_gy=(42.4, 10, 40), linked={1: {1: None, 3: None, 4: None}, 2: {2: 9.5}})
    groups = read(dataset, tmp_path).groups
    assert {number: group.prescription_gy for number, group in groups.items()} == {1: 42.4, 2: 9.5}
    assert dataset.DoseReferenceSequence[3].DoseReferenceType == "ORGAN_AT_RISK"


@pytest.mark.parametrize(("beams_gy", "expected"), [(None, 60), ({1: 1, 2: 1}, 60), ({1: 1, 2: 0.5}, None)])
def test_several_groups_and_one_target_that_none_refers_to(tmp_path, beams_gy, expected):
    groups = {1: (25, (1, 2)), 2: (5, (1, 2))}
    assert read(rtplan(groups=groups, beam_doses_gy=beams_gy), tmp_path).prescription_gy == expected


def test_a_group_takes_the_target_that_it_refers_to(tmp_path):
    assert read(rtplan(targets_gy=(60, 66), linked={1: {1: None}}), tmp_path).prescription_gy == 60
    assert read(rtplan(targets_gy=(60, 66)), tmp_path).prescription_gy == 66


@pytest.mark.parametrize(
    ("groups", "beams_gy", "expected"),
    [
        ({1: (30, (1, 2))}, {1: 1.2, 2: 0.8}, 60),
        ({1: (25, (1, 2)), 2: (7, (3,)), 3: (3, (3,))}, {1: 1, 2: 1, 3: 2}, 70),  # Pinnacle: 25 + 7 + 3
        ({1: (30, (1, 2))}, {1: 1.2}, None),
        ({1: (None, (1, 2))}, {1: 1.2, 2: 0.8}, None),
        ({1: (30, (1, 2)), 2: (5, ())}, {1: 1.2, 2: 0.8}, None),
        ({1: (30, (1, 2))}, {1: 0, 2: 0}, None),
        ({1: (30, (1, 2))}, None, None),
    ],
)
def test_fractions_times_beam_doses(tmp_path, groups, beams_gy, expected):
    plan = read(rtplan(groups=groups, beam_doses_gy=beams_gy, setup_beams=(9,)), tmp_path)
    assert plan.beam_dose_gy == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("target_gy", "beams_gy", "expected"),
    [
        (2, {1: 1.2, 2: 0.8}, 60),  # of one fraction
        (2.2, {1: 1.2, 2: 0.8}, 2.2),  # 66 Gy, and the beams 60: nothing is confirmed
        (2, None, 2),
        (60, {1: 1.2, 2: 0.8}, 60),
        (60, {1: 0.04, 2: 0.027}, 60),
    ],
)
def test_the_beams_tell_a_prescription_of_one_fraction(tmp_path, target_gy, beams_gy, expected):
    plan = read(rtplan(targets_gy=(target_gy,), beam_doses_gy=beams_gy), tmp_path)
    assert plan.prescription_gy == pytest.approx(expected)


def test_a_damaged_beam_dose_refuses_no_plan(tmp_path):
    path = save(rtplan(beam_doses_gy={1: 1.125, 2: 1.125}), tmp_path / "plan")
    path.write_bytes(path.read_bytes().replace(b"1.125", b"1.1x5"))
    assert read_plan(path).beam_dose_gy is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big-endian"])
def test_plans_without_a_preamble(tmp_path, form, syntax):
    path = without_part10(save(rtplan(), tmp_path / "plan", syntax), form)
    assert read_plan(path) == read(rtplan(), tmp_path)


@pytest.mark.parametrize("bare", [False, True])
def test_what_a_structure_set_refers_to(tmp_path, bare):
    path = save(rtstruct(series=("planning CT", "fused MR")), tmp_path / "RS", "implicit")
    structure = read_structure_references(without_part10(path, "bare") if bare else path)
    assert structure.sop_instance == uid("structures")
    assert structure.frame_of_reference == uid("planning")
    assert structure.series == tuple(sorted((uid("planning CT"), uid("fused MR"))))
    assert "SECRET" not in repr(structure)


def test_contours_are_not_read(tmp_path):
    path = save(rtstruct(), tmp_path / "RS")
    whole = read_structure_references(path)
    content = path.read_bytes()
    contours = content.index((0x3006).to_bytes(2, "little") + (0x39).to_bytes(2, "little"))
    path.write_bytes(content[: contours + 12])
    assert read_structure_references(path) == whole


def test_a_structure_set_of_two_frames_has_the_frame_of_its_contours(tmp_path):
    dataset = rtstruct()
    (frame,) = rtstruct(frame="MR", series=("MR",)).ReferencedFrameOfReferenceSequence
    dataset.ReferencedFrameOfReferenceSequence.append(frame)
    structure = read_structure_references(save(dataset, tmp_path / "RS"))
    assert structure.frame_of_reference == uid("planning")
    assert len(structure.series) == 2
    del dataset.StructureSetROISequence
    assert read_structure_references(save(dataset, tmp_path / "RS")).frame_of_reference == ""


def test_a_structure_set_without_references(tmp_path):
    dataset = rtstruct(ReferencedFrameOfReferenceSequence=None, StructureSetROISequence=None)
    structure = read_structure_references(save(dataset, tmp_path / "RS"))
    assert (structure.frame_of_reference, structure.series) == ("", ())
    with pytest.raises(InvalidInput) as caught:
        read_structure_references(save(rtplan(), tmp_path / "RP"))
    assert caught.value.code == "rtstruct.class"


@pytest.mark.parametrize("approval", ["UNAPPROVED", "REJECTED", ""])
def test_approval(tmp_path, approval):
    assert read(rtplan(approval=approval), tmp_path).approval == approval


@pytest.mark.parametrize(
    ("intent", "expected", "may_be"),
    [
        ("CURATIVE", "CURATIVE", True),
        ("VERIFICATION", "VERIFICATION", False),
        ("SECRET", "UNKNOWN", True),
        (None, "", True),
    ],
)
def test_intent(tmp_path, intent, expected, may_be):
    with quiet_pydicom():
        plan = read(rtplan(PlanIntent=intent), tmp_path)
    assert (plan.intent, plan.may_be_delivered) == (expected, may_be)
    assert not read(rtplan(approval="REJECTED"), tmp_path).may_be_delivered


@pytest.mark.parametrize(("fractions", "expected"), [(None, None), (0, None), (5, 35)])
def test_fractions_are_known_where_every_group_says_them(tmp_path, fractions, expected):
    assert read(rtplan(groups={1: (30, (1,)), 2: (fractions, (1,))}), tmp_path).fractions == expected


def test_what_is_absent_is_unknown(tmp_path):
    dataset = rtplan(targets_gy=())
    del dataset.FractionGroupSequence, dataset.ApprovalStatus
    dataset.RTPlanDate = ""
    plan = read(dataset, tmp_path)
    assert (plan.groups, plan.fractions, plan.prescription_gy, plan.approval, plan.date) == ({}, None, None, "", None)


def test_pydicoms_own_plan():
    plan = read_plan(get_testdata_file("rtplan.dcm", download=False))
    assert plan.groups == {1: FractionGroup(30, frozenset({1}))}
    assert plan.prescription_gy is None, "its target is a point"
    assert plan.beam_dose_gy == pytest.approx(30.826203)
    assert (plan.approval, plan.date) == ("UNAPPROVED", datetime.date(2003, 9, 3))


@pytest.mark.parametrize("name", ["ExplVR_BigEndNoMeta", "ExplVR_LitEndNoMeta"])
def test_a_real_ion_plan_without_a_preamble(name):
    plan = read_plan(get_testdata_file(f"{name}.dcm", download=False))
    assert (plan.date, plan.groups) == (datetime.date(2015, 5, 29), {})


def test_a_real_structure_set_without_a_preamble():
    structure = read_structure_references(get_testdata_file("rtstruct.dcm", download=False))
    assert structure.frame_of_reference == "1.2.826.0.1.3680043.8.498.2010020400001.2"
    assert structure.series == ("1.2.826.0.1.3680043.8.498.2010020400001.2.1.1",)


@pytest.mark.parametrize("bare", [False, True])
def test_a_plan_that_ends_too_early_is_refused(tmp_path, bare):
    """pydicom reads what there is: here one fraction group of two, and no approval."""
    with pytest.raises(InvalidInput, match=r"damaged one .end of file"):
        read_plan(get_testdata_file("rtplan_truncated.dcm", download=False))
    path = save(rtplan(groups={1: (25, (1, 2)), 2: (5, (3,))}), tmp_path / "RP")
    content = (without_part10(path, "bare") if bare else path).read_bytes()
    whole = read_plan(path)
    seen = set()
    for end in range(content.index(b"\x0a\x30\x70\x00") + 12, len(content) - 1):
        path.write_bytes(content[:end])
        try:
            seen.add(read_plan(path).groups == whole.groups)
        except InvalidInput as error:
            seen.add(error.code)
    assert seen == {"rtplan.damaged", True}, "what ends between two elements says as much of its groups as the whole"


def test_damaged_numbers_are_refused(tmp_path):
    path = save(rtplan(groups={1: (31, (1,))}), tmp_path / "plan")
    content = path.read_bytes()
    assert content.count(b"IS\x02\x0031") == 1
    path.write_bytes(content.replace(b"IS\x02\x0031", b"IS\x02\x00M3"))
    with pytest.raises(InvalidInput, match=r"expected an intact RTPLAN, got a damaged one .NumberOfFractionsPlanned"):
        read_plan(path)


def test_nothing_prints_a_patient(tmp_path):
    assert uid("plan") not in repr(read(rtplan(), tmp_path))
