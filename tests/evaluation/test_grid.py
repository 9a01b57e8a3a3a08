import json

import numpy as np
import pytest
from helpers.make_grid import finish_run, make_cases, write_cases_folder, write_run

from ricenet.cohort.shuffled_labels import shuffled
from ricenet.errors import InvalidInput
from ricenet.evaluation.grid import labels_of, out_of_fold, patients_of, read_controls, read_grid, read_one_model
from ricenet.training import predictions, run_folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    cases = tmp_path_factory.mktemp("grid") / "cases"
    return cases, write_cases_folder(cases, make_cases({"cv": (31, 24), "test": (7, 5)}))


def probability(case) -> float:
    return 0.05 + 0.9 * int(case.case_key[-4]) / 9


@pytest.fixture
def one(cohort, tmp_path):
    """A grid of one finished run, to be broken."""
    cases, folds = cohort
    return tmp_path, write_run(tmp_path, cases, folds, "rd", 0, probability)


def read(run, cohort):
    return read_grid(run_folder.finished_runs(run), *cohort)


def rewrite(folder, change_rows=lambda rows: rows, **record) -> None:
    rows = change_rows(predictions.read_predictions(folder))
    finish_run(folder, rows, json.loads((folder / "run.json").read_text()) | record)


def test_answers_are_in_the_order_of_the_folds(one, cohort):
    run, folder = one
    _, folds = cohort
    for _ in range(2):
        answers = read(run, cohort)["rd"][0]
        assert answers.seeds == (0,)
        assert answers.validation[0] == pytest.approx([probability(case) for case in folds.validation(0)])
        assert answers.test[0] == pytest.approx([probability(case) for case in folds.test()])
        rewrite(folder, lambda rows: rows[::-1])


def test_sets_are_in_the_papers_order_and_folds_ascend(cohort, tmp_path):
    cases, folds = cohort
    for modalities, fold in (("rd_event", 4), ("rd_event", 1), ("odd", 0), ("event", 2)):
        write_run(tmp_path, cases, folds, modalities, fold, probability)
    assert {name: list(answers) for name, answers in read(tmp_path, cohort).items()} == {
        "event": [2], "rd_event": [1, 4], "odd": [0],
    }  # fmt: skip


def test_sure_logits_do_not_overflow(one, cohort):
    run, folder = one

    def be_sure(rows):
        return [{**row, "logit_recurrence": 2000.0, "logit_rice": -2000.0, "prob_rice": 0.0} for row in rows]

    rewrite(folder, be_sure)
    assert not np.any(read(run, cohort)["rd"][0].test)


@pytest.mark.parametrize(
    ("key", "changed"),
    [("folds_hash", "the cases, labels or folds"), ("case_hash", "the images or their preprocessing")],
)
def test_other_folds_or_other_images_are_refused(one, cohort, key, changed):
    run, folder = one
    rewrite(folder, **{key: "0" * 64})
    with pytest.raises(InvalidInput, match=rf"run rd/fold0: {changed} changed after training \({key} 0{{12}} then"):
        read(run, cohort)


def test_a_copied_run_folder_is_refused(one, cohort):
    run, folder = one
    folder.rename(run / "rd/fold1")
    with pytest.raises(InvalidInput, match=r"run rd/fold1: run\.json says rd/fold0"):
        read(run, cohort)


def test_a_fold_that_is_not_dealt_is_refused(one, cohort):
    run, folder = one
    rewrite(folder, fold=7)
    folder.rename(run / "rd/fold7")
    with pytest.raises(InvalidInput, match="run rd/fold7: the cases folder has folds 0 to 4"):
        read(run, cohort)


def test_pooled_cases_and_their_patients(cohort):
    _, folds = cohort
    cases = out_of_fold(folds, (3, 1))
    assert cases == [*folds.validation(3), *folds.validation(1)]
    assert labels_of(cases).tolist() == [case.label for case in cases]
    assert patients_of(cases).tolist() == [case.patient_key for case in cases]


def flip_label(rows):
    rows[0]["label"] = 1 - rows[0]["label"]
    return rows


def set_logit(rows, value):
    rows[0]["logit_rice"] = value
    return rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows[1:],
            "split val: expected one prediction for each of 11 cases, got 10 rows, 1 case.s. missing",
        ),
        (lambda rows: [*rows, rows[0]], "got 12 rows, 0 case.s. missing, 0 unknown"),
        (lambda rows: rows[:-1], "split test: expected one prediction for each of 12 cases, got 11"),
        (lambda rows: [{**row, "case_key": f"x{row['case_key']}"} for row in rows], "11 unknown"),
        (flip_label, "is not re?i?c"),
        (lambda rows: set_logit(rows, float("nan")), "not finite"),
        (lambda rows: set_logit(rows, 0.5), "prob_rice is not the softmax"),
    ],
)
def test_predictions_that_do_not_fit_the_folds_are_refused(one, cohort, change, message):
    run, folder = one
    rewrite(folder, change)
    with pytest.raises(InvalidInput, match=f"run rd/fold0.*{message}"):
        read(run, cohort)


def test_one_model_for_all_sets_answers_by_set(cohort, tmp_path):
    cases, folds = cohort
    folder = write_run(tmp_path, cases, folds, "modality_dropout", 1, probability)
    rows = predictions.read_predictions(folder)
    turned = [
        row | {"logit_rice": -row["logit_rice"], "prob_rice": 1 - row["prob_rice"], "modalities": "event"}
        for row in rows
    ]
    predictions.write_predictions_by_set(folder, [*turned, *(row | {"modalities": "rd"} for row in rows)])
    finish_run(folder, rows, json.loads((folder / "run.json").read_text()))
    found = read_one_model(run_folder.finished_runs(tmp_path), folds)
    assert list(found) == ["event", "rd"]
    assert found["rd"][1].test[0] == pytest.approx([probability(case) for case in folds.test()])
    assert found["event"][1].test[0] == pytest.approx([1 - probability(case) for case in folds.test()])
    predictions.write_predictions_by_set(folder, turned[1:])
    finish_run(folder, rows, json.loads((folder / "run.json").read_text()))
    with pytest.raises(InvalidInput, match=r"modality_dropout/fold1, shown event, split val: .* 1 case\(s\) missing"):
        read_one_model(run_folder.finished_runs(tmp_path), folds)


def test_seeds_of_a_fold_stand_beside_each_other(cohort, tmp_path):
    cases, folds = cohort
    write_run(tmp_path, cases, folds, "rd", 2, lambda case: 0.9, seed=7, beside=True)
    write_run(tmp_path, cases, folds, "rd", 2, probability)
    found = read(tmp_path, cohort)["rd"][2]
    assert found.seeds == (0, 7)
    assert found.validation[0] == pytest.approx([probability(case) for case in folds.validation(2)])
    assert found.validation[1] == pytest.approx(np.full(len(folds.validation(2)), 0.9))
    assert found.test.shape == (2, 12)


def test_a_seed_in_two_folders_or_under_another_name_is_refused(cohort, tmp_path):
    cases, folds = cohort
    folder = write_run(tmp_path, cases, folds, "rd", 0, probability, seed=1, beside=True)
    write_run(tmp_path, cases, folds, "rd", 0, probability, seed=1)
    with pytest.raises(InvalidInput, match="seed 1 of this fold stands in two folders"):
        read(tmp_path, cohort)
    folder.rename(tmp_path / "rd/fold0-seed5")
    with pytest.raises(InvalidInput, match=r"run rd/fold0-seed5: run\.json says rd/fold0, seed 1"):
        read(tmp_path, cohort)


def test_controls_are_read_apart_by_seed(cohort, tmp_path):
    cases, folds = cohort
    write_run(tmp_path, cases, folds, "rd", 0, probability)
    for seed in (0, 1):
        labels = shuffled(folds, seed)
        settings = {"labels_of": labels, "control": "shuffled_labels", "seed": seed, "beside": seed > 0}
        write_run(tmp_path, cases, folds, "rd-shuffled_labels", 0, probability, **settings)
    write_run(tmp_path, cases, folds, "metadata_only", 3, probability, control="metadata_only")
    finished = run_folder.finished_runs(tmp_path)
    assert list(read_grid(finished, *cohort)) == ["rd"]
    found = read_controls(finished, folds)
    assert [(one.kind, one.row, one.seed, list(one.by_fold)) for one in found] == [
        ("metadata_only", "metadata_only", 0, [3]),
        ("shuffled_labels", "rd-shuffled_labels", 0, [0]),
        ("shuffled_labels", "rd-shuffled_labels", 1, [0]),
    ]
    assert found[0].folds is folds
    assert [one.folds.cases for one in found[1:]] == [shuffled(folds, seed).cases for seed in (0, 1)]
    assert found[1].folds.cases != found[2].folds.cases
