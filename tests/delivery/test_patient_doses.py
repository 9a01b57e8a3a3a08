"""The RT objects of a patient are numbered and named without a word of him."""

from helpers.dose_grids import dose, plan

from ricenet.delivery.patient_doses import CaseContext, number_objects


def test_nothing_prints_a_patient():
    patient = number_objects([dose("SECRET")], [plan("SECRET")], CaseContext())
    assert "SECRET" not in repr(patient) + repr(dose("SECRET")) + str(patient.describe(1))
