import numpy as np
import pytest
from helpers.make_grid import make_cases, write_cases_folder
from sklearn.metrics import brier_score_loss, confusion_matrix, f1_score, roc_curve

from ricenet.evaluation import scores
from ricenet.evaluation.grid import FoldProbabilities, labels_of, out_of_fold
from ricenet.evaluation.summary import Confusion

HOW = scores.Resampling(199, 0)


def macro(labels, decisions) -> float:
    return f1_score(labels, decisions, average="macro", labels=[0, 1], zero_division=0)


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    return write_cases_folder(
        tmp_path_factory.mktemp("scores") / "cases", make_cases({"cv": (31, 24), "test": (7, 5)}), 3
    )


def noisy(folds, seeds: tuple[int, ...], only=range(3)) -> dict[int, FoldProbabilities]:
    found = {}
    for fold in only:
        parts = []
        for cases in (folds.validation(fold), folds.test()):
            noise = [np.random.default_rng([fold, seed]).normal(0, 0.35, len(cases)) for seed in seeds]
            parts.append(np.clip(0.5 + 0.2 * (2 * labels_of(cases) - 1) + np.array(noise), 0.01, 0.99))
        found[fold] = FoldProbabilities(*parts, seeds)
    return found


def test_every_number_is_of_the_pooled_probabilities(folds):
    by_fold = noisy(folds, (0,), only=(0, 2))
    found = scores.score(folds, by_fold, HOW, test=True)
    labels = labels_of(out_of_fold(folds, (0, 2)))
    rice = np.concatenate([by_fold[0].validation[0], by_fold[2].validation[0]])
    assert found.oof_macro_f1 == pytest.approx(macro(labels, rice > 0.5))
    tn, fp, fn, tp = confusion_matrix(labels, rice > 0.5).ravel()
    assert found.oof_confusion == Confusion(tp=tp, fn=fn, fp=fp, tn=tn)
    assert found.calibration.brier == pytest.approx(brier_score_loss(labels, rice))
    fpr, tpr, _ = roc_curve(labels, rice)
    assert (found.roc.fpr[-1], found.roc.tpr[-1]) == (fpr[-1], tpr[-1])
    assert found.folds[1] is None
    assert found.seeds is None
    assert found.n == len(labels)
    assert 0 < found.chance.p <= 0.05
    half = found.decision_curve.threshold.index(0.5)
    assert found.decision_curve.model[half] == pytest.approx((tp - fp) / len(labels))
    truth = labels_of(folds.test())
    members = [macro(truth, one.test[0] > 0.5) for one in by_fold.values()]
    assert found.test_members_macro_f1 == pytest.approx(members)
    mean = np.mean([one.test[0] for one in by_fold.values()], axis=0)
    assert found.test_mean_macro_f1 == pytest.approx(macro(truth, mean > 0.5))
    assert found.test_confusion.n == 12


def test_several_seeds_are_averaged_and_their_spread_is_shown(folds):
    by_fold = noisy(folds, (0, 3, 5))
    found = scores.score(folds, by_fold, HOW, test=True)
    labels, truth = labels_of(out_of_fold(folds, range(3))), labels_of(folds.test())
    mean = np.concatenate([by_fold[fold].validation.mean(axis=0) for fold in range(3)])
    assert found.oof_macro_f1 == pytest.approx(macro(labels, mean > 0.5))
    single = [macro(labels, np.concatenate([by_fold[fold].validation[r] for fold in range(3)]) > 0.5) for r in range(3)]
    assert found.seeds.oof_macro_f1 == pytest.approx(single)
    assert found.seeds.oof_mean == pytest.approx(np.mean(single))
    assert found.seeds.oof_sd == pytest.approx(np.std(single, ddof=1))
    votes = [macro(truth, np.sum([by_fold[fold].test[r] > 0.5 for fold in range(3)], axis=0) >= 2) for r in range(3)]
    assert found.seeds.test_vote_macro_f1 == pytest.approx(votes)
    assert found.seeds.of_folds == {"0": [0, 3, 5], "1": [0, 3, 5], "2": [0, 3, 5]}


def test_a_fold_with_fewer_seeds_limits_the_single_cross_validations(folds):
    by_fold = noisy(folds, (0, 1)) | noisy(folds, (7,), only=(2,))
    found = scores.score(folds, by_fold, HOW, test=False)
    assert found.seeds.of_folds["2"] == [7]
    assert len(found.seeds.oof_macro_f1) == 1
    assert found.seeds.oof_sd is None


def test_without_a_look_at_the_test_split_there_is_no_test_value(folds):
    found = scores.score(folds, noisy(folds, (0, 1)), HOW, test=False)
    assert found.n_test == 0
    assert "test_vote_macro_f1" not in found.seeds.model_dump(exclude_unset=True)
    assert all(value is None for name, value in found if name.startswith("test_") and name != "test_members")
    assert {row["split"] for row in scores.predictions("rd", folds, noisy(folds, (0,)), test=False)} == {"cv"}


def test_subgroups_part_the_cases(folds):
    by_fold = noisy(folds, (0,))
    keys = [case.case_key for case in out_of_fold(folds, range(3))]
    sites = {key: "AB"[index % 2] for index, key in enumerate(keys[:-3])}
    one_class = {case.case_key: "x" if case.label else "y" for case in folds.cases}
    rows = scores.by_subgroup(folds, by_fold, {"site": sites, "by_label": one_class}, HOW)
    assert [(row.column, row.level) for row in rows] == [
        ("site", "A"), ("site", "B"), ("site", "not given"), ("by_label", "x"), ("by_label", "y"),
    ]  # fmt: skip
    assert sum(row.n for row in rows[:3]) == len(keys)
    pooled = scores.pool(folds, by_fold)
    mine = np.array([sites.get(key) == "A" for key in keys])
    assert rows[0].macro_f1 == pytest.approx(macro(pooled.labels[mine], pooled.decisions[mine]))
    assert rows[0].interval[0] < rows[0].macro_f1 < rows[0].interval[1]
    assert rows[0].right == (pooled.labels == pooled.decisions)[mine].sum()
    assert rows[3].macro_f1 is None
    assert (rows[3].rice, rows[3].recurrence) == (24, 0)


def test_predictions_hold_every_case_once(folds):
    by_fold = noisy(folds, (0, 1))
    rows = scores.predictions("rd", folds, by_fold, test=True)
    assert sorted(row["case_key"] for row in rows) == sorted(case.case_key for case in folds.cases)
    by_key = {row["case_key"]: row for row in rows}
    for fold in range(3):
        for case, rice in zip(folds.validation(fold), by_fold[fold].validation.mean(axis=0), strict=True):
            row = by_key[case.case_key]
            assert (row["fold"], row["label"], row["decision"]) == (str(fold), case.label, int(rice > 0.5))
            assert float(row["prob_rice"]) == pytest.approx(rice, abs=1e-6)
            assert row["right"] == int(row["decision"] == case.label)
    assert sum(row["fold"] == "ensemble" for row in rows) == 12
