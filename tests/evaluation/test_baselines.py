import json

import numpy as np
import pytest
from helpers.make_grid import make_cases, write_cases_folder
from sklearn.linear_model import LogisticRegression

from ricenet.errors import InvalidInput
from ricenet.evaluation import baselines


@pytest.fixture
def cohort(tmp_path):
    folds = write_cases_folder(tmp_path / "cases", make_cases({"cv": (9, 6), "test": (2, 1)}), n_folds=3)
    return tmp_path / "cases", folds


def test_dose_numbers_by_hand(cohort):
    cases, folds = cohort
    numbers = baselines.dose_numbers(cases, folds.cases)
    # Half of the brain at 6 Gy, the other at 60 (rice) or 30 Gy; what lies outside the brain does not count.
    expected = {1: [60, 33, 0.5, 0.5, 0.5, 0.5, 0.5], 0: [30, 18, 0.5, 0.5, 0, 0, 0]}
    assert baselines.DOSE_NUMBERS == ("max_gy", "mean_gy", "v20", "v30", "v40", "v50", "v60")
    for case, row in zip(folds.cases, numbers, strict=True):
        assert row == pytest.approx(expected[case.label], rel=1e-3)


def test_dose_outside_the_brain_does_not_count(cohort):
    cases, folds = cohort
    folder = cases / folds.cases[0].folder
    volume = np.load(folder / "volume.npy")
    before = baselines.dose_numbers(cases, folds.cases[:1])
    volume[2][~np.load(folder / "brain.npy")] = 2.0
    np.save(folder / "volume.npy", volume)
    assert np.array_equal(baselines.dose_numbers(cases, folds.cases[:1]), before)


def test_broken_cases_are_refused(cohort):
    cases, folds = cohort
    case = folds.cases[0]
    np.save(cases / case.folder / "brain.npy", np.zeros((12, 12, 12), bool))
    with pytest.raises(InvalidInput, match=f"case {case.case_key}: expected a finite dose inside a brain mask"):
        baselines.dose_numbers(cases, folds.cases)


@pytest.mark.parametrize("change", [{"dose_scale_gy": None}, {"channels": ["post", "event", "other"]}])
def test_no_numbers_without_a_dose_in_gy(cohort, change):
    cases, folds = cohort
    path = cases / folds.cases[0].folder / "case.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert baselines.dose_numbers(cases, folds.cases) is None


def test_regression_learns_from_the_other_folds_only(cohort):
    _, folds = cohort
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(len(folds.cases), 2)) * [1, 100] + [0, 7]
    row = {case.case_key: numbers[index] for index, case in enumerate(folds.cases)}
    answers = baselines.regression(folds, numbers)
    for fold in range(3):
        x, y = np.array([row[case.case_key] for case in folds.training(fold)]), [c.label for c in folds.training(fold)]
        weight = np.where(np.array(y) == 1, len(y) / 2 / sum(y), len(y) / 2 / (len(y) - sum(y)))
        model = LogisticRegression(max_iter=1000).fit((x - x.mean(0)) / x.std(0), y, sample_weight=weight)
        for part, found in ((folds.validation(fold), answers[fold].validation), (folds.test(), answers[fold].test)):
            unseen = (np.array([row[case.case_key] for case in part]) - x.mean(0)) / x.std(0)
            assert found.shape == (1, len(part))
            assert found[0] == pytest.approx(model.predict_proba(unseen)[:, 1], abs=1e-3)


@pytest.mark.parametrize(("counts", "answer"), [((9, 6), 0), ((6, 9), 1), ((6, 6), 0)])
def test_larger_class(tmp_path, counts, answer):
    folds = write_cases_folder(tmp_path / "cases", make_cases({"cv": counts, "test": (1, 1)}), n_folds=3)
    for fold, found in baselines.larger_class(folds).items():
        assert found.validation.tolist() == [[answer] * len(folds.validation(fold))]
        assert found.test.tolist() == [[answer] * 2]


def test_bayes_decisions(cohort):
    cases, folds = cohort
    (cases / "truth.csv").write_text(
        "case_key,label,rd,event\n"
        + "".join(
            f"{case.case_key},{('recurrence', 'rice')[case.label]},{0.1 - case.label},{case.label}\n"
            for case in folds.cases
        )
    )
    decisions = baselines.read_bayes_decisions(cases, folds)
    assert set(decisions) == {"rd", "event"}
    for case in folds.cases:
        assert decisions["rd"][case.case_key] == 1 - case.label
        assert decisions["event"][case.case_key] == case.label  # an even score, 0, is recurrence
    text = (cases / "truth.csv").read_text()
    (cases / "truth.csv").write_text(text.replace(folds.cases[0].case_key, "other"))
    with pytest.raises(InvalidInput, match=f"case {folds.cases[0].case_key}: expected .* in truth.csv, got None"):
        baselines.read_bayes_decisions(cases, folds)
    (cases / "truth.csv").unlink()
    assert baselines.read_bayes_decisions(cases, folds) == {}


def test_a_number_not_given_is_the_training_mean_and_a_sign_of_its_own(cohort):
    """Whether the number is there gives the label away here, and nothing else does."""
    _, folds = cohort
    keys = [case.case_key for case in folds.cases if case.label]
    numbers, used = baselines.clinical_numbers(
        folds.cases, {"days_since_rt": dict.fromkeys(keys, 200.0), "age": {}}, ["days_since_rt", "age", "other"]
    )
    assert used == ["days_since_rt"]
    assert numbers.shape == (len(folds.cases), 1)
    for fold, found in baselines.regression(folds, numbers).items():
        assert (found.validation[0] > 0.5).tolist() == [bool(case.label) for case in folds.validation(fold)]


def test_a_column_without_any_number_is_not_used(cohort):
    _, folds = cohort
    numbers, used = baselines.clinical_numbers(folds.cases, {}, ["days_since_rt"])
    assert (numbers.shape, used) == ((len(folds.cases), 0), [])
