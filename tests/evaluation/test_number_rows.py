import csv
from dataclasses import replace

import numpy as np
import pytest
from helpers.make_grid import make_cases, write_cases_folder

from ricenet.cases.case_numbers import NUMBERS, names_of
from ricenet.display.words import BASELINES
from ricenet.errors import InvalidInput
from ricenet.evaluation import elastic_net, number_rows
from ricenet.evaluation.grid import labels_of

NAMES = [number.name for number in NUMBERS]
LESION_DOSE = names_of("lesion_dose")


def write_tables(cases, folds, seed=0, absent=()):
    """numbers.csv in which the mean dose of the lesion tells the classes apart, and the control in which none does."""
    rng = np.random.default_rng(seed)
    for file, effect in (("numbers.csv", 4), ("numbers_random.csv", 0)):
        with (cases / file).open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["case_key", *NAMES])
            for case in folds.cases:
                values = dict(zip(NAMES, rng.normal(size=len(NAMES)), strict=True))
                values["lesion_dose_mean_gy"] += effect * case.label
                writer.writerow([case.case_key, *("" if name in absent else values[name] for name in NAMES)])


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    cases = tmp_path_factory.mktemp("rows") / "cases"
    folds = write_cases_folder(cases, make_cases({"cv": (12, 9), "test": (3, 2)}, 2), n_folds=3)
    write_tables(cases, folds)
    return cases, folds


@pytest.fixture(autouse=True)
def few_penalties(monkeypatch):
    monkeypatch.setattr(elastic_net, "STRENGTHS", (0.03, 0.3))
    monkeypatch.setattr(elastic_net, "INNER_FOLDS", 2)


def no_clinical(folds):
    return np.empty((len(folds.cases), 0))


def accuracy(row):
    right = [
        (row.by_fold[fold].validation[0] > 0.5) == labels_of(row.folds.validation(fold))
        for fold in range(row.folds.n_folds)
    ]
    return np.concatenate(right).mean()


def test_rows_read_their_numbers(cohort):
    cases, folds = cohort
    clinical = np.array([[float(case.label)] for case in folds.cases])
    rows, notes = number_rows.number_rows(cases, folds, clinical)
    assert (list(rows), notes) == (list(number_rows.NUMBER_ROWS), [])
    assert accuracy(rows["lesion_dose"]) > 0.9
    assert accuracy(rows["all_numbers_clinical"]) == 1
    assert max(accuracy(rows["lesion_image"]), accuracy(rows["lesion_dose@random"])) < 0.8
    for row in rows.values():
        assert row.folds is folds
        assert {row.by_fold[0].validation.shape, row.by_fold[0].test.shape} == {(1, len(folds.validation(0))), (1, 10)}


def test_every_row_has_its_words_and_place_in_the_tables():
    assert set(BASELINES) - set(number_rows.NUMBER_ROWS) == {"majority_class", "dose_volume", "clinical"}


def test_without_clinical_columns_their_row_is_named(cohort):
    rows, notes = number_rows.number_rows(*cohort, no_clinical(cohort[1]))
    assert "all_numbers_clinical" not in rows
    assert notes == ["no row all_numbers_clinical: the cases hold no number of clinical"]


def test_the_scored_fold_is_never_seen(cohort):
    """Its labels exchanged, and every other case of it with absurd numbers: each prediction keeps its bits."""
    _, folds = cohort
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(len(folds.cases), 6))
    numbers[rng.random(numbers.shape) < 0.1] = np.nan
    before = number_rows.fit_folds(folds, numbers, elastic_net.fit)[0]
    scored = {case.case_key for case in [*folds.validation(0), *folds.test()]}
    blind = replace(
        folds,
        cases=[replace(case, label=1 - case.label) if case.case_key in scored else case for case in folds.cases],
    )
    absurd = numbers.copy()
    changed = [case.case_key in scored and index % 2 == 0 for index, case in enumerate(folds.cases)]
    absurd[changed] = 1e6
    after = number_rows.fit_folds(blind, absurd, elastic_net.fit)[0]
    kept = {case.case_key for case, moved in zip(folds.cases, changed, strict=True) if not moved}
    for part, cases in (("validation", folds.validation(0)), ("test", folds.test())):
        same = [case.case_key in kept for case in cases]
        assert np.array_equal(getattr(before, part)[0, same], getattr(after, part)[0, same])
        assert any(same)
    seen = replace(folds, cases=[replace(case, label=1 - case.label) for case in folds.cases])
    assert not np.array_equal(number_rows.fit_folds(seen, numbers, elastic_net.fit)[0].validation, before.validation)


def test_an_older_cases_folder_has_no_such_rows(cohort, tmp_path):
    _, folds = cohort
    rows, (note,) = number_rows.number_rows(tmp_path, folds, no_clinical(folds))
    assert rows == {}
    assert note.startswith(
        "no row of lesion_dose, lesion_image, all_numbers, all_numbers_clinical, lesion_dose@random: no numbers.csv in "
        "the cases folder; run python -m ricenet.preprocess"
    )


def test_other_errors_are_not_taken_for_an_older_folder(cohort, monkeypatch):
    def broken(*_, **__):
        raise InvalidInput("broken", code="record.damaged")

    monkeypatch.setattr(number_rows, "read_numbers", broken)
    with pytest.raises(InvalidInput, match="broken"):
        number_rows.number_rows(*cohort, no_clinical(cohort[1]))


def test_a_group_that_no_case_has_takes_its_rows_with_it(cohort, tmp_path):
    """A dose that is not in Gy: no case has a number of it."""
    _, folds = cohort
    write_tables(tmp_path, folds, absent=names_of("dose_volume", "lesion_dose"))
    rows, notes = number_rows.number_rows(tmp_path, folds, no_clinical(folds))
    assert list(rows) == ["lesion_image"]
    assert "no row lesion_dose: the cases hold no number of lesion_dose" in notes
    assert "no row all_numbers: the cases hold no number of dose_volume, lesion_dose" in notes


def test_of_a_partial_cohort_a_row_has_the_cases_with_its_images(cohort):
    cases, folds = cohort
    every = ("post", "event", "rd")
    some = [replace(case, channels=every if index % 4 else ("post", "event")) for index, case in enumerate(folds.cases)]
    partial = replace(folds, cases=some)
    clinical = np.arange(float(len(some)))[:, None]
    with_dose = [index for index, case in enumerate(some) if case.channels == every]
    for name, expected in (("lesion_image", range(len(some))), ("lesion_dose", with_dose)):
        own, _ = number_rows._numbers(cases, partial, number_rows.NUMBER_ROWS[name], clinical)
        assert [case.case_key for case in own.cases] == [some[index].case_key for index in expected]
    _, parts = number_rows._numbers(cases, partial, number_rows.NUMBER_ROWS["all_numbers_clinical"], clinical)
    assert [len(names_of(group)) for group in number_rows.EVERY_GROUP] == [part.shape[1] for part in parts[:-1]]
    assert parts[-1][:, 0].tolist() == with_dose  # the clinical numbers are those of the same cases


def test_too_few_cases_with_the_images_to_train(cohort):
    cases, folds = cohort
    partial = replace(
        folds,
        cases=[replace(case, channels=("post", *(["event", "rd"] if case.label else []))) for case in folds.cases],
    )
    rows, notes = number_rows.number_rows(cases, partial, no_clinical(folds))
    assert rows == {}
    assert "no row lesion_dose: the 22 cases with its images cannot be trained on in every fold" in notes
