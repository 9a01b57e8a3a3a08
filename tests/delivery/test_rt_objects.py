"""Every RT object of a patient is listed with what was done with it; one that cannot be read stops no other."""

import numpy as np
import pytest
from helpers.phantom_delivery import problem, rd, statuses

from ricenet.dicom.headers import RtFile

pytestmark = pytest.mark.process  # dcm2niix


def test_what_is_no_dose_lies_beside_the_good_one(delivery, delivered, tmp_path):
    relative = delivery.add(1, DoseUnits="RELATIVE")
    error_map = delivery.add(1, DoseType="ERROR")
    no_pixels = delivery.add(1, PixelData=None)
    cut = delivery.add(1)
    path = delivery.files.doses[-1].path
    path.write_bytes(path.read_bytes()[:-1000])
    case = delivery.take(tmp_path)
    np.testing.assert_allclose(rd(case), delivered[2], atol=1e-3)
    unreadable = dict.fromkeys((relative, error_map, no_pixels, cut), "unreadable")
    assert statuses(case) == {delivery.first: "used", **unreadable}
    assert all(each.reason for each in case.record.rt_objects if each.status == "unreadable")


def test_of_a_dose_that_was_delivered_twice_one_file_is_used(delivery, delivered, tmp_path):
    again = delivery.folder / "again"
    again.write_bytes(delivery.files.doses[0].path.read_bytes())
    delivery.files.doses.append(RtFile(again, delivery.files.doses[0].instance_uid))
    case = delivery.take(tmp_path)
    np.testing.assert_allclose(rd(case), delivered[2], atol=1e-3)
    listed = sorted((each.status, each.reason) for each in case.record.rt_objects if each.kind == "RTDOSE")
    assert listed == [("left out", f"copy of dose {delivery.first}"), ("used", "")]


def test_a_patient_of_nothing_but_unreadable_doses_is_told_each(delivery, tmp_path):
    delivery.files.doses.clear()
    bad = [delivery.add(1, DoseUnits="RELATIVE"), delivery.add(1, DoseType="ERROR")]
    case = delivery.take(tmp_path)
    assert problem(case).code == "treatment.nothing_usable"
    assert all(key in str(problem(case)) for key in bad)
    assert set(statuses(case).values()) == {"unreadable"}
