"""Contrasts on predictions whose errors are known: who is compared with whom, over which patients, and what passes."""

import numpy as np
import pytest
from helpers.make_grid import make_cases, write_cases_folder
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from statsmodels.stats.contingency_tables import cochrans_q, mcnemar
from statsmodels.stats.multitest import multipletests

from ricenet.cohort.shuffled_labels import shuffled
from ricenet.errors import WrongUsage
from ricenet.evaluation import contrasts, scores
from ricenet.evaluation.grid import FoldProbabilities, Grid, labels_of, out_of_fold

HOW = scores.Resampling(999, 0)
PAIRS = [("rd_post_event", "rd"), ("rd_post_event", "post"), ("rd_event", "event")]


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    return write_cases_folder(tmp_path_factory.mktemp("c") / "cases", make_cases({"cv": (48, 32), "test": (7, 5)}))


def predicted(folds, share_wrong: float, seed: int, only=range(5)) -> dict[int, FoldProbabilities]:
    """Right but for a share of the cases, which the seed chooses."""
    rng = np.random.default_rng(seed)
    found = {}
    for fold in range(folds.n_folds):
        parts = []
        for cases in (folds.validation(fold), folds.test()):
            wrong = rng.random(len(cases)) < share_wrong
            parts.append(np.where(labels_of(cases) ^ wrong, 0.8, 0.2)[None])
        found[fold] = FoldProbabilities(*parts)
    return {fold: found[fold] for fold in only}


def full(folds) -> Grid:
    return {
        "rd_post_event": predicted(folds, 0.05, 1), "rd": predicted(folds, 0.1, 2), "post": predicted(folds, 0.5, 3),
        "rd_event": predicted(folds, 0.1, 4), "event": predicted(folds, 0.45, 5),
    }  # fmt: skip


def decisions(folds, found, only=range(5)):
    return np.concatenate([found[fold].validation[0] > 0.5 for fold in only]).astype(int)


def test_tests_are_those_of_statsmodels_on_the_pooled_predictions(folds):
    grid = full(folds)
    summary = contrasts.compare(folds, grid, list(grid), PAIRS, HOW)
    labels = labels_of(out_of_fold(folds, range(5)))
    right = {name: decisions(folds, found) == labels for name, found in grid.items()}
    p_values = []
    for ours, theirs in PAIRS:
        found = summary.contrasts[f"{ours} - {theirs}"]
        table = [
            [np.sum(right[ours] & right[theirs]), only_ours := np.sum(right[ours] & ~right[theirs])],
            [only_theirs := np.sum(~right[ours] & right[theirs]), np.sum(~right[ours] & ~right[theirs])],
        ]
        assert (found.mcnemar.only_ours, found.mcnemar.only_theirs) == (only_ours, only_theirs)
        assert found.mcnemar.p == pytest.approx(mcnemar(table, exact=True).pvalue)
        p_values.append(max(found.mcnemar.p, found.better_chance_p))
        scored = [f1_score(labels, decisions(folds, grid[name]), average="macro") for name in (ours, theirs)]
        assert found.macro_f1 == pytest.approx(scored)
        assert found.difference == pytest.approx(scored[0] - scored[1])
    adjusted = [one.p_holm for one in summary.contrasts.values()]
    assert adjusted == pytest.approx(multipletests(p_values, method="holm")[1])
    omnibus = cochrans_q(np.stack(list(right.values()), axis=1))
    assert (summary.omnibus.q, summary.omnibus.p) == pytest.approx((omnibus.statistic, omnibus.pvalue))
    assert [one.passed for one in summary.contrasts.values()] == [False, True, True]


def test_only_common_folds_are_compared_and_a_missing_contrast_still_counts_for_holm(folds):
    grid = full(folds) | {"rd": predicted(folds, 0.1, 2, only=(0, 2))}
    del grid["event"]
    summary = contrasts.compare(folds, grid, list(grid), PAIRS, HOW)
    assert list(summary.contrasts) == ["rd_post_event - rd", "rd_post_event - post"]
    assert summary.declared == ["rd_post_event - rd", "rd_post_event - post", "rd_event - event"]
    first = summary.contrasts["rd_post_event - rd"]
    assert first.folds == summary.omnibus.folds == [0, 2]
    assert first.n == summary.omnibus.n == len(out_of_fold(folds, (0, 2)))
    second = summary.contrasts["rd_post_event - post"]
    assert second.n == 80
    assert second.p_holm == pytest.approx(3 * max(second.mcnemar.p, second.better_chance_p))


def test_nothing_in_common_is_no_contrast(folds):
    grid = {"rd": predicted(folds, 0.1, 1, only=(0,)), "post": predicted(folds, 0.1, 2, only=(1,))}
    summary = contrasts.compare(folds, grid, list(grid), [("rd", "post")], HOW)
    assert summary.contrasts == {}
    assert summary.omnibus is None
    assert summary.power.discordance_observed is False
    assert summary.power.smallest_detectable == pytest.approx(10 / 80)


def test_a_contrast_needs_the_omnibus_test_too(folds):
    """Six equal sets drown the one that differs: Holm alone would let it pass."""
    same = predicted(folds, 0.2, 1)
    grid = dict.fromkeys(("event", "post", "rd", "post_event", "rd_post", "rd_event"), same)
    labels = labels_of(out_of_fold(folds, range(5)))
    wrong = np.flatnonzero(decisions(folds, same) != labels)
    better = {fold: FoldProbabilities(found.validation.copy(), found.test) for fold, found in same.items()}
    mended = 0
    for fold, found in better.items():
        truth = labels_of(folds.validation(fold))
        for index in np.flatnonzero((found.validation[0] > 0.5) != truth):
            if mended < 6:
                found.validation[0, index] = 1 - found.validation[0, index]
                mended += 1
    assert len(wrong) >= 6
    grid["rd_post_event"] = better
    found = contrasts.compare(folds, grid, list(grid), [("rd_post_event", "rd")], HOW)
    assert found.contrasts["rd_post_event - rd"].p_holm == pytest.approx(max(2 * 0.5**6, 0.001), abs=0.011)
    assert found.contrasts["rd_post_event - rd"].passed == (found.omnibus.p < 0.05)


def test_a_pair_of_which_the_cohort_has_a_row_less_cannot_be_tested():
    declared = [("post_event", "post"), ("rd_post", "post"), ("rd_post_event", "rd")]
    assert contrasts.untestable(declared, {"post", "event", "post_event"}) == {
        "rd_post - post": ["rd_post"], "rd_post_event - rd": ["rd_post_event", "rd"],
    }  # fmt: skip


def test_declared_contrasts_are_checked():
    known = ["rd", "post", "dose_volume"]
    assert contrasts.parse(["rd - post", "rd - dose_volume"], known) == [("rd", "post"), ("rd", "dose_volume")]
    for wrong in (["rd-post"], ["rd - rd"], ["rd - post", "rd - post"]):
        with pytest.raises(WrongUsage, match="expected different pairs such as 'rd_post - post'"):
            contrasts.parse(wrong, known)
    with pytest.raises(WrongUsage, match="rx is none of rd, post, dose_volume"):
        contrasts.parse(["rx - post"], known)


@pytest.fixture(scope="module")
def features():
    """A cheap stand-in for images: two numbers a channel and patient, the dose's telling, the others hardly."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [48, 32])
    shift = {"post": 0.3, "event": 0.2, "rd": 1.0}
    return {channel: rng.normal(size=(80, 2)) + by * labels[:, None] for channel, by in shift.items()}


def stand_in(folds, features, labels_by_key, order) -> Grid:
    """Every set and fold by a logistic regression on the features of its channels."""
    sets = ("event", "post", "rd", "post_event", "rd_post", "rd_event", "rd_post_event")
    grid: Grid = {}
    for name in sets:
        x = np.concatenate([features[channel] for channel in name.split("_")], axis=1)
        for fold in range(folds.n_folds):
            train, val = (
                [order[case.case_key] for case in part] for part in (folds.training(fold), folds.validation(fold))
            )
            y = [labels_by_key[case.case_key] for case in folds.training(fold)]
            model = LogisticRegression(class_weight="balanced").fit(x[train], y)
            grid.setdefault(name, {})[fold] = FoldProbabilities(
                model.predict_proba(x[val])[None, :, 1], np.empty((1, 0))
            )
    return grid


@pytest.mark.slow
def test_on_shuffled_labels_no_declared_contrast_passes_in_19_of_20_runs(tmp_path, features):
    """And the pooled interval mostly covers chance; on the real labels the dose does pass."""
    real = write_cases_folder(tmp_path / "cases", make_cases({"cv": (48, 32)}))
    order = {case.case_key: index for index, case in enumerate(sorted(real.cases, key=lambda c: (c.label, c.case_key)))}
    pairs = [("rd_post_event", name) for name in ("event", "post", "rd", "post_event", "rd_post", "rd_event")]
    pairs += [("rd_post", "post"), ("rd_event", "event")]

    def run(folds):
        grid = stand_in(folds, features, {case.case_key: case.label for case in folds.cases}, order)
        return grid, contrasts.compare(folds, grid, list(grid), pairs, HOW)

    _, found = run(real)
    assert found.contrasts["rd_event - event"].passed
    without, covered = 0, 0
    for seed in range(20):
        folds = shuffled(real, seed)
        grid, found = run(folds)
        without += not any(one.passed for one in found.contrasts.values())
        low, high = scores.score(folds, grid["rd_post_event"], HOW, test=False).oof_interval
        covered += low <= 0.5 <= high
    assert without >= 19
    assert covered >= 14, "the interval takes the models as given; below chance it misses 0.5 now and then"


def test_a_row_from_others_weights_is_compared_with_its_twin_from_scratch():
    rows = ["rd", "rd+medicalnet", "rd@lesion+medicalnet_frozen", "rd+numbers", "rd+medicalnet+numbers"]
    assert contrasts.against_scratch(rows, [("rd+medicalnet", "rd")]) == [
        ("rd@lesion+medicalnet_frozen", "rd@lesion"),
        ("rd+medicalnet+numbers", "rd+numbers"),
    ]
