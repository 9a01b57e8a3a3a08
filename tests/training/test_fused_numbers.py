"""Numbers beside a volume: which a set may see, what a fold standardises by, and what stands in for a missing one."""

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ricenet.cases.case_numbers import names_of
from ricenet.cohort.covariates import COVARIATES
from ricenet.cohort.folds import read_folds
from ricenet.cohort.ready_cases import ReadyCase, read_cases, write_cases
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.training.fused_numbers import FusedNumbers, hashes, read_fused_numbers

ALL = ["post", "event", "rd"]
ROW = "rd_post_event+numbers"


@pytest.fixture
def cases(phantom_cases: Path, tmp_path: Path) -> Path:
    """A copy with clinical columns: age, of all but every third case; MGMT, two letters; grade, three."""
    own = shutil.copytree(phantom_cases, tmp_path / "cases")
    keys = sorted(case.case_key for case in read_cases(own))
    columns = {
        "age": {key: str(40 + number) for number, key in enumerate(keys) if number % 3},
        "MGMT": {key: "BA"[number % 2] for number, key in enumerate(keys)},
        "grade": {key: "ABC"[number % 3] for number, key in enumerate(keys)},
        "site": {key: "AB"[number % 2] for number, key in enumerate(keys)},
        "empty": {},
    }
    write_covariates(own, keys, columns)
    return own


def write_covariates(cases: Path, keys: list[str], columns: Mapping[str, Mapping[str, str]]) -> None:
    with (cases / COVARIATES).open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case_key", *columns])
        writer.writerows([key, *(values.get(key, "") for values in columns.values())] for key in keys)


def numbers(cases: Path, *requested: str, channels: list[str] = ALL) -> FusedNumbers:
    return read_fused_numbers(cases, read_folds(cases).cases, requested, channels, ROW)


def test_groups_names_and_clinical_columns_are_read_once_each_in_order(cases: Path) -> None:
    read = numbers(cases, "age", "dose_volume", "mean_gy", "MGMT")
    assert [column.name for column in read.columns] == ["age", *names_of("dose_volume"), "MGMT"]
    with (cases / "numbers.csv").open(newline="") as stream:
        of_csv = {row["case_key"]: row for row in csv.DictReader(stream)}
    keys = sorted(of_csv)
    for number, key in enumerate(keys):
        case = read.named(key)
        assert case["mean_gy"] == float(of_csv[key]["mean_gy"])
        assert case.get("age") == (40 + number if number % 3 else None)
        assert case["MGMT"] == (0.0 if "BA"[number % 2] == "A" else 1.0)
    assert read.columns[-1].levels == ("A", "B")


def test_a_fold_standardises_by_its_training_cases_alone(cases: Path) -> None:
    read, folds = numbers(cases, "mean_gy", "age"), read_folds(cases)
    training = folds.training(0)
    inputs, of_case = read.seen(training)
    of_training = np.array([read.of_case[case.case_key] for case in training])
    given = of_training[np.isfinite(of_training[:, 1]), 1]
    assert inputs.names == ("mean_gy", "age")
    mean_gy, age = inputs.numbers
    assert mean_gy.mean == pytest.approx(of_training[:, 0].mean())
    assert mean_gy.scale == pytest.approx(of_training[:, 0].std())
    assert (age.mean, age.scale) == (pytest.approx(given.mean()), pytest.approx(given.std()))
    assert (mean_gy.missing, age.missing) == (0, pytest.approx(1 - len(given) / len(training)))
    assert set(of_case) == {case.case_key for case in folds.cases}
    assert of_case[training[0].case_key].dtype == np.float32
    assert read.seen(folds.training(1)).inputs != inputs


def test_a_number_that_no_training_case_has_is_left_out_and_one_that_all_share_is_not_divided_by_0(
    cases: Path,
) -> None:
    folds = read_folds(cases)
    training = folds.training(0)
    keys = sorted(case.case_key for case in folds.cases)
    of_training = {case.case_key for case in training}
    columns = {"never": {key: "1" for key in keys if key not in of_training}, "same": dict.fromkeys(keys, "7.1")}
    write_covariates(cases, keys, columns)
    inputs = numbers(cases, "never", "same").fitted(training)
    assert (inputs.names, inputs.left_out, inputs.requested) == (("same",), ("never",), ("never", "same"))
    assert (inputs.numbers[0].mean, inputs.numbers[0].scale) == (pytest.approx(7.1), 1.0)
    with pytest.raises(InvalidInput, match=r"none of the .* training cases has one of never") as refused:
        numbers(cases, "never").fitted(training)
    assert refused.value.code == "numbers.none"


@pytest.mark.parametrize(
    ("requested", "channels", "says"),
    [
        (["mean_gy", "age"], ["post", "event"], r"has mean_gy, measured on images .* \(rd\)"),
        (["dose_volume", "lesion_image"], ["rd"], r"\(post, event\)"),
        (["lesion_dose"], ["event", "rd"], r"measured on images that this set does not contain \(post\)"),
        (["prescription_gy"], ["event"], r"expected a group \(dose_volume, lesion_dose, lesion_image\)"),
        (["ages"], ALL, r"a column of covariates.csv \(MGMT, age, grade\), got 'ages'"),
        (["age at event"], ALL, "letters, digits, _, . and -, got 'age at event'"),
        (["site"], ALL, "site says where or by whom"),
        (["scanner_event"], ALL, "scanner_event says where or by whom"),
        (["has_post"], ALL, "has_post says where or by whom"),
        (["grade"], ALL, "grade of covariates.csv should hold numbers or two levels, got 3"),
    ],
)  # fmt: skip
def test_what_a_set_does_not_know_and_what_is_no_number_is_refused(
    cases: Path, requested: list[str], channels: list[str], says: str
) -> None:
    with pytest.raises(WrongUsage, match=says):
        numbers(cases, *requested, channels=channels)


def test_dose_numbers_need_the_dose_and_clinical_ones_no_image(cases: Path) -> None:
    assert numbers(cases, "dose_volume", channels=["rd"]).columns[0].channels == ("rd",)
    assert numbers(cases, "age", channels=["post"]).columns[0].channels == ()
    assert numbers(cases, "lesion_dose").columns[0].channels == ("post", "event", "rd")
    keys = sorted(case.case_key for case in read_cases(cases))
    write_covariates(cases, keys, {"prescription_gy": dict.fromkeys(keys, "60")})
    with pytest.raises(WrongUsage, match=r"has prescription_gy, measured on images .* \(rd\)"):
        numbers(cases, "prescription_gy", channels=["event"])


def test_a_case_that_lacks_an_image_is_not_told_by_it(cases: Path) -> None:
    table = read_cases(cases)
    lacking = table[0].case_key
    write_cases(cases, [with_channels(case, ("event", "rd") if case.case_key == lacking else ALL) for case in table])
    read = read_fused_numbers(cases, read_cases(cases), ["mean_gy", "lesion_volume_ml"], ALL, ROW)
    assert set(read.named(lacking)) == {"mean_gy"}
    assert set(read.named(table[1].case_key)) == {"mean_gy", "lesion_volume_ml"}


def with_channels(case: ReadyCase, channels: tuple[str, ...] | list[str]) -> ReadyCase:
    return ReadyCase(case.case_key, case.patient_key, case.label, case.split, case.folder, tuple(channels))


def test_hashes_are_of_what_is_read(cases: Path) -> None:
    assert set(hashes(cases, ["mean_gy", "lesion_dose"])) == {"numbers_hash"}
    assert set(hashes(cases, ["age"])) == {"covariates_hash"}
    before = hashes(cases, ["mean_gy", "age"])
    (cases / "numbers.csv").write_text((cases / "numbers.csv").read_text() + "\n")
    after = hashes(cases, ["mean_gy", "age"])
    assert after["numbers_hash"] != before["numbers_hash"]
    assert after["covariates_hash"] == before["covariates_hash"]
