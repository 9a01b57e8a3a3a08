import datetime

import pytest
from helpers.dicom_objects import rtplan, save, uid
from pydicom.data import get_testdata_file

from ricenet.delivery.rtplan import FractionGroup, RtPlan, read_plan
from ricenet.errors import InvalidInput


def read(dataset, folder) -> RtPlan:
    return read_plan(save(dataset, folder / "RP.anything"))


def test_what_a_plan_says(tmp_path):
    groups = {1: (23, (1, 2)), 2: (7, (3,))}
    plan = read(rtplan("boost", groups=groups, targets_gy=(46, 60, 54), setup_beams=(9,)), tmp_path)
    assert plan.sop_instance == uid("boost")
    assert plan.groups == {1: FractionGroup(23, frozenset({1, 2})), 2: FractionGroup(7, frozenset({3}))}
    assert plan.fractions == 30
    assert plan.prescription_gy == 60
    assert plan.approval == "APPROVED"
    assert plan.date == datetime.date(2020, 2, 3)


@pytest.mark.parametrize("approval", ["UNAPPROVED", "REJECTED", ""])
def test_approval(tmp_path, approval):
    assert read(rtplan(approval=approval), tmp_path).approval == approval


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
    assert plan.prescription_gy == pytest.approx(30.826203)
    assert (plan.approval, plan.date) == ("UNAPPROVED", datetime.date(2003, 9, 3))


def test_damaged_numbers_are_refused(tmp_path):
    path = save(rtplan(groups={1: (31, (1,))}), tmp_path / "plan")
    content = path.read_bytes()
    assert content.count(b"IS\x02\x0031") == 1
    path.write_bytes(content.replace(b"IS\x02\x0031", b"IS\x02\x00M3"))
    with pytest.raises(InvalidInput, match=r"expected an intact RTPLAN, got a damaged one .NumberOfFractionsPlanned"):
        read_plan(path)


def test_nothing_prints_a_patient(tmp_path):
    assert uid("plan") not in repr(read(rtplan(), tmp_path))
