"""The numbers of a new patient: those of preprocess for the same case, by which lesion, and what is warned of."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import model_sample

from ricenet.cases.case_folder import Prepared
from ricenet.cases.case_numbers import NUMBERS
from ricenet.cases.case_record import read_case_record
from ricenet.cohort.ready_cases import read_cases
from ricenet.cohort.table import Case
from ricenet.errors import WrongUsage
from ricenet.networks.number_inputs import NumberInput, NumberInputs
from ricenet.prediction.model_json import ModelRecord
from ricenet.prediction.patient_numbers import check_clinical, check_lesion_mask, patient_numbers

CHANNELS = ("post", "event", "rd")
CLINICAL = (
    NumberInput(name="age", mean=60.0, scale=10.0, missing=0.1, channels=()),
    NumberInput(name="MGMT", mean=0.5, scale=0.5, missing=0.0, channels=(), levels=("A", "B")),
)


def model(*inputs: NumberInput, channels: tuple[str, ...] = CHANNELS) -> ModelRecord:
    part = NumberInputs(requested=tuple(number.name for number in inputs), numbers=inputs)
    return model_sample.model_record(channels=channels, folds=(0,), numbers=(part,))


def measured(*names: str) -> tuple[NumberInput, ...]:
    return tuple(NumberInput(name=name, mean=0.0, scale=1e3, missing=0.0, channels=CHANNELS) for name in names)


@pytest.fixture(scope="module")
def stored(phantom_cases: Path) -> tuple[Case, Prepared]:
    """The first case of the phantom, as if it had just been preprocessed."""
    ready = read_cases(phantom_cases)[0]
    folder = phantom_cases / ready.folder
    prepared = Prepared(
        np.load(folder / "volume.npy"), np.load(folder / "brain.npy"), {}, read_case_record(phantom_cases, ready)
    )
    with (phantom_cases / "covariates.csv").open(newline="") as stream:
        prescription_gy = {row["case_key"]: float(row["prescription_gy"]) for row in csv.DictReader(stream)}
    key = ready.case_key
    case = Case(
        key=key, patient_key=key, row=0, label=-1, split="", images={}, planning=None, brain_mask=None, lesion=None,
        further_doses={}, fractions=None, prescription_gy=prescription_gy[key],
    )  # fmt: skip
    return case, prepared


def test_they_are_those_that_the_network_was_trained_with(stored: tuple[Case, Prepared], phantom_cases: Path) -> None:
    case, prepared = stored
    names = [number.name for number in NUMBERS]
    beside = patient_numbers(model(*measured(*names)), case, prepared, {})
    with (phantom_cases / "numbers.csv").open(newline="") as stream:
        row = next(row for row in csv.DictReader(stream) if row["case_key"] == case.key)
    assert beside.values == {name: float(row[name]) for name in names if row[name]}
    assert {"mean_gy", "lesion_dose_mean_gy", "lesion_share_above_95", "lesion_post_mean"} <= beside.values.keys()
    assert beside.source == "difference"
    (finding,) = beside.findings  # a phantom has no cavity mask
    assert finding.code == "range.number_missing"
    assert "lesion_mm_to_cavity" in finding.message


def test_a_given_mask_is_measured_and_one_outside_the_brain_is_refused_by_name(stored: tuple[Case, Prepared]) -> None:
    case, prepared = stored
    of_lesion, of_dose = model(*measured("lesion_volume_ml", "mean_gy")), model(*measured("mean_gy"))
    given = replace(case, lesion=Path("lesion.nii.gz"))
    brain = prepared.brain.astype(bool)
    inside = np.zeros_like(brain)
    inside[tuple(np.argwhere(brain)[len(np.argwhere(brain)) // 2])] = True
    with_mask = replace(prepared, structures={"lesion": inside})
    assert check_lesion_mask(of_lesion, given, with_mask) == []
    beside = patient_numbers(of_lesion, given, with_mask, {})
    assert (beside.source, beside.contrast) == ("mask", None)
    assert beside.values["lesion_volume_ml"] == pytest.approx(prepared.record.spacing_mm**3 / 1000)

    for outside in (~brain & ~inside, np.zeros_like(brain)):
        (finding,) = check_lesion_mask(of_lesion, given, replace(prepared, structures={"lesion": outside}))
        assert (finding.code, finding.severity, finding.channel) == ("lesion.outside", "error", "lesion")
    assert check_lesion_mask(of_dose, given, prepared) == []
    assert patient_numbers(of_dose, given, prepared, {}).source is None


def test_an_image_that_the_model_does_not_see_tells_it_nothing(stored: tuple[Case, Prepared]) -> None:
    case, prepared = stored
    names = ("lesion_volume_ml", "lesion_event_mean", "lesion_post_mean")
    without_post = model(
        *(number.model_copy(update={"channels": ("event",)}) for number in measured(*names)), channels=("event", "rd")
    )
    beside = patient_numbers(without_post, case, prepared, {})
    assert (beside.source, set(beside.values)) == ("event", {"lesion_volume_ml", "lesion_event_mean"})


def test_where_nothing_enhances_the_lesion_has_no_numbers(stored: tuple[Case, Prepared]) -> None:
    case, prepared = stored
    flat = prepared.volume.copy()
    flat[1] = flat[0]
    beside = patient_numbers(model(*measured("lesion_volume_ml", "mean_gy")), case, replace(prepared, volume=flat), {})
    assert (beside.source, set(beside.values)) == ("none", {"mean_gy"})
    assert [finding.code for finding in beside.findings] == ["lesion.none", "range.number_missing"]
    assert all(finding.severity == "warning" for finding in beside.findings)


def test_clinical_values_are_given_read_from_the_table_or_missing(stored: tuple[Case, Prepared]) -> None:
    case, prepared = stored
    asked = model(*CLINICAL)
    given = patient_numbers(asked, case, prepared, {"age": 71, "MGMT": "B"})
    assert (given.values, given.source, given.findings) == ({"age": 71.0, "MGMT": 1.0}, None, [])
    in_table = replace(case, extra={"age": "55.5", "MGMT": "methylated"})
    beside = patient_numbers(asked, in_table, prepared, {})
    assert beside.values == {"age": 55.5}
    (finding,) = beside.findings
    assert (finding.code, "(MGMT)" in finding.message) == ("range.number_missing", True)
    far = patient_numbers(asked, case, prepared, {"age": 130, "MGMT": "A"})
    assert [finding.code for finding in far.findings] == ["range.number"]
    assert "more than 6 SD from the training cases' mean: age" in far.findings[0].message


@pytest.mark.parametrize(
    ("clinical", "says"),
    [
        ({"ages": 61}, "clinical.ages: the model sees no such value, but age, MGMT"),
        ({"mean_gy": 20}, "clinical.mean_gy: the model sees no such value"),
        ({"age": "old"}, "clinical.age should be a number"),
        ({"MGMT": "methylated"}, "clinical.MGMT should be A or B, as in covariates.csv"),
    ],
)
def test_a_clinical_value_that_is_none_is_refused(clinical: dict[str, str | float], says: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        check_clinical(model(*CLINICAL, *measured("mean_gy")), clinical)
    assert says in str(refused.value)
    check_clinical(model(*CLINICAL), {"age": 61, "MGMT": "A"})
