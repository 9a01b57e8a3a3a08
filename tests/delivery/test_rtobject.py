import numpy as np
import pytest
from helpers.dicom_objects import rtplan, save
from pydicom import Dataset

from ricenet.delivery.rtobject import RTObject, read_object, rt_key
from ricenet.dicom.part10 import quiet_pydicom
from ricenet.errors import InvalidInput


def holding(**values) -> RTObject:
    dataset = Dataset()
    with quiet_pydicom():
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
    return RTObject(dataset, "RTPLAN")


def test_values_and_their_absence():
    source = holding(PixelSpacing=[2, 3.5], BeamNumber="4", ApprovalStatus="approved ", PatientID="", BeamName=None)
    np.testing.assert_array_equal(source.numbers("PixelSpacing"), [2, 3.5])
    assert source.integer("BeamNumber") == 4
    assert source.term("ApprovalStatus", ("APPROVED",)) == "APPROVED"
    assert source.value("PatientID") is source.value("BeamName") is source.value("Rows") is None
    assert (source.text("Rows"), source.integer("Rows"), source.items("BeamSequence")) == ("", None, [])
    assert source.numbers("Rows").shape == (0,)
    assert source.term("DoseUnits", ("GY",)) == ""


def test_items_keep_the_kind_for_their_messages():
    source = holding(BeamSequence=[holding(BeamNumber=[1, 2]).dataset])
    (beam,) = source.items("BeamSequence")
    with pytest.raises(InvalidInput, match=r"^expected an intact RTPLAN, got a damaged one .BeamNumber"):
        beam.integer("BeamNumber")


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_numbers_are_finite(value):
    with pytest.raises(InvalidInput) as caught:
        holding(PixelSpacing=["1", value]).numbers("PixelSpacing")
    assert caught.value.code == "rtplan.damaged"


def test_integers_are_whole():
    with pytest.raises(InvalidInput, match="PixelSpacing"):
        holding(PixelSpacing="1.5").integer("PixelSpacing")


def test_undefined_terms_are_not_repeated():
    assert holding(ApprovalStatus="SECRET^NAME").term("ApprovalStatus", ("APPROVED",)) == "UNKNOWN"


def test_an_object_without_a_uid_is_refused(tmp_path):
    path = save(rtplan(), tmp_path / "plan")
    classes = (rtplan().SOPClassUID,)
    assert read_object(path, "RTPLAN", classes).text("Modality") == "RTPLAN"
    with pytest.raises(InvalidInput) as caught:
        read_object(path, "RTPLAN", ("1.2.3",))
    assert caught.value.code == "rtplan.class"


def test_nothing_prints_a_patient(tmp_path):
    assert "SECRET" not in repr(read_object(save(rtplan(), tmp_path / "plan"), "RTPLAN", (rtplan().SOPClassUID,)))


def test_a_key_names_the_kind_and_nobody_gets_back_to_the_uid():
    keys = {rt_key(kind, "1.2.3", b"k") for kind in ("RTDOSE", "RTPLAN", "RTSTRUCT")}
    assert sorted(key[:2] for key in keys) == ["rd", "rp", "rs"]
    assert {len(key) for key in keys} == {14}
    assert rt_key("RTDOSE", "1.2.3", b"other") not in keys
