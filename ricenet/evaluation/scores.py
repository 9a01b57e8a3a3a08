"""The numbers of one row of the results: its folds' answers in; values, intervals and curves out, as summary.json has
them.

A row is a modality set, a baseline or a leakage control. Where a fold was trained with several seeds, its answer for a
case is their mean probability, and what the single trainings reach stands under `seeds`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from ricenet.cohort.folds import Folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.evaluation.grid import Answers, labels_of, out_of_fold, patients_of
from ricenet.statistics import metrics
from ricenet.statistics.calibration import calibration, net_benefit, roc
from ricenet.statistics.chance import chance

THRESHOLDS = np.round(np.arange(0.05, 0.951, 0.05), 2)


@dataclass(frozen=True)
class Resampling:
    """Of every interval: resamples of the patients, and the seed that they are drawn from."""

    draws: int
    seed: int


@dataclass(frozen=True)
class Pooled:
    """Every case once, with the answer of the model that never saw it: (n,) labels, probabilities, patient keys."""

    labels: np.ndarray
    probabilities: np.ndarray
    patients: np.ndarray

    @property
    def decisions(self) -> np.ndarray:
        """(n,) 0 recurrence, 1 rice."""
        return metrics.decide(self.probabilities)


def pool(folds: Folds, answers: Mapping[int, Answers]) -> Pooled:
    """The out-of-fold answers of the folds that are there; of several seeds the mean."""
    cases = out_of_fold(folds, answers)
    probabilities = np.concatenate([found.validation.mean(axis=0) for found in answers.values()])
    return Pooled(labels_of(cases), probabilities, patients_of(cases))


def score(folds: Folds, answers: Mapping[int, Answers], how: Resampling, test: bool) -> dict[str, Any]:
    """All numbers of one row over the folds it has.

    Args:
        test: whether the test split is looked at; its values are None otherwise, and where there is none.
    """
    pooled = pool(folds, answers)
    labels, probabilities, patients = pooled.labels, pooled.probabilities, pooled.patients
    estimate = metrics.macro_f1_estimate(labels, pooled.decisions, patients, how.draws, how.seed)
    by_fold = [fold_macro_f1(folds, fold, answers) if fold in answers else None for fold in range(folds.n_folds)]
    finished = [value for value in by_fold if value is not None]
    by_chance = chance(labels, pooled.decisions, patients, how.draws, how.seed)
    scored = {
        "oof_macro_f1": estimate.value,
        "oof_interval": estimate.interval,
        "oof_interval_method": estimate.method,
        "oof": metrics.describe(labels, probabilities),
        "oof_intervals": metrics.describe_intervals(labels, probabilities, patients, how.draws, how.seed),
        "oof_confusion": _confusion(labels, pooled.decisions),
        "chance": {"mean": by_chance.mean, "p95": by_chance.p95, "p": by_chance.p},
        "folds": by_fold,
        "folds_mean": float(np.mean(finished)),
        "folds_sd": float(np.std(finished, ddof=1)) if len(finished) > 1 else None,
        "seeds": _seeds(folds, answers, test),
        "n": len(labels),
        "n_patients": len(set(patients)),
        "calibration": calibration(labels, probabilities, patients, how.draws, how.seed),
        "roc": roc(labels, probabilities),
        "decision_curve": net_benefit(labels, probabilities, THRESHOLDS),
        "n_test": len(folds.test()) if test else 0,
        "test_members": list(answers),
        "test_members_macro_f1": None,
        "test_vote_macro_f1": None,
        "test_mean_macro_f1": None,
        "test_interval": None,
        "test_confusion": None,
    }
    if test and folds.test():
        scored |= _score_test(folds, _members(answers), how)
    return scored


def _members(answers: Mapping[int, Answers]) -> np.ndarray:
    """(folds, test cases): the ensemble's members, a fold's seeds averaged."""
    return np.stack([found.test.mean(axis=0) for found in answers.values()])


def _score_test(folds: Folds, members: np.ndarray, how: Resampling) -> dict[str, Any]:
    """Both ensembles of the (members, cases) probabilities on the test split, and each member by itself."""
    labels, patients = labels_of(folds.test()), patients_of(folds.test())
    vote, mean = metrics.majority_vote(members), metrics.mean_decision(members)
    voted = metrics.macro_f1_estimate(labels, vote, patients, how.draws, how.seed)
    averaged = metrics.macro_f1_estimate(labels, mean, patients, how.draws, how.seed)
    right = int((vote == labels).sum())
    return {
        "test_members_macro_f1": [metrics.macro_f1(labels, metrics.decide(member)) for member in members],
        "test_vote_macro_f1": voted.value,
        "test_interval": voted.interval,
        "test_interval_method": voted.method,
        "test_mean_macro_f1": averaged.value,
        "test_mean_interval": averaged.interval,
        "test_vote_right": right,
        "test_vote_right_interval": metrics.wilson(right, len(labels)),
        "test_confusion": _confusion(labels, vote),
    }


def _seeds(folds: Folds, answers: Mapping[int, Answers], test: bool) -> dict[str, Any] | None:
    """What single trainings reach: the r-th seeds of all folds make one cross-validation; None with one seed a fold.

    Where folds have different numbers of seeds, the surplus ones only count in the mean probabilities.
    """
    count = min(len(found.seeds) for found in answers.values())
    if max(len(found.seeds) for found in answers.values()) == 1:
        return None
    labels = labels_of(out_of_fold(folds, answers))
    runs = [np.concatenate([found.validation[r] for found in answers.values()]) for r in range(count)]
    found = {
        "of_folds": {str(fold): list(one.seeds) for fold, one in answers.items()},
        **_spread("oof", [metrics.macro_f1(labels, metrics.decide(run)) for run in runs]),
    }
    if test and folds.test():
        votes = [metrics.majority_vote(np.stack([one.test[r] for one in answers.values()])) for r in range(count)]
        found |= _spread("test_vote", [metrics.macro_f1(labels_of(folds.test()), vote) for vote in votes])
    return found


def _spread(name: str, values: Sequence[float]) -> dict[str, Any]:
    return {
        f"{name}_macro_f1": list(values),
        f"{name}_mean": float(np.mean(values)),
        f"{name}_sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
    }


def fold_macro_f1(folds: Folds, fold: int, answers: Mapping[int, Answers]) -> float:
    """Macro-F1 of one finished fold's validation cases."""
    pooled = pool(folds, {fold: answers[fold]})
    return metrics.macro_f1(pooled.labels, pooled.decisions)


def _confusion(labels: np.ndarray, decisions: np.ndarray) -> dict[str, int]:
    """Counts with rice as the positive class."""
    tn, fp, fn, tp = confusion_matrix(labels, decisions, labels=[0, 1]).ravel().tolist()
    return {"tp": tp, "fn": fn, "fp": fp, "tn": tn}


def by_subgroup(
    folds: Folds, answers: Mapping[int, Answers], levels: Mapping[str, Mapping[str, str]], how: Resampling
) -> list[dict[str, Any]]:
    """The pooled answers within each level of each column; descriptive: no level is tested against another.

    Args:
        levels: column -> case key -> level; a case without one is in the level `not given`.
    """
    cases, pooled = out_of_fold(folds, answers), pool(folds, answers)
    rows = []
    for column, level_of in levels.items():
        of_cases = np.array([level_of.get(case.case_key, "not given") for case in cases])
        for level in sorted(set(of_cases)):
            mine = of_cases == level
            part = Pooled(pooled.labels[mine], pooled.probabilities[mine], pooled.patients[mine])
            rows.append({"column": column, "level": str(level), **_score_subgroup(part, how)})
    return rows


def _score_subgroup(part: Pooled, how: Resampling) -> dict[str, Any]:
    """Macro-F1 is None in a level with one class: it would say nothing about the other."""
    confusion = _confusion(part.labels, part.decisions)
    row: dict[str, Any] = {
        "n": len(part.labels),
        "n_patients": len(set(part.patients)),
        "rice": int(part.labels.sum()),
        "recurrence": int((part.labels == 0).sum()),
        "right": confusion["tp"] + confusion["tn"],
        "macro_f1": None,
        "interval": None,
        "interval_method": None,
    }
    if row["rice"] and row["recurrence"]:
        found = metrics.macro_f1_estimate(part.labels, part.decisions, part.patients, how.draws, how.seed)
        row |= {"macro_f1": found.value, "interval": found.interval, "interval_method": found.method}
    return row


def predictions(name: str, folds: Folds, answers: Mapping[int, Answers], test: bool) -> list[dict[str, Any]]:
    """A row per case of evaluation/predictions.csv: out of fold, and both ensembles on the test split."""
    rows = []
    for fold, found in answers.items():
        for case, rice in zip(folds.validation(fold), found.validation.mean(axis=0), strict=True):
            rows.append(_prediction(name, case, str(fold), rice, metrics.decide(rice)))
    if test and folds.test():
        members = _members(answers)
        for case, rice, vote in zip(folds.test(), members.mean(axis=0), metrics.majority_vote(members), strict=True):
            rows.append(_prediction(name, case, "ensemble", rice, vote))
    return rows


def _prediction(name: str, case: ReadyCase, fold: str, rice: float, decision: np.ndarray) -> dict[str, Any]:
    return {
        "row": name,
        "case_key": case.case_key,
        "patient_key": case.patient_key,
        "split": case.split,
        "fold": fold,
        "label": case.label,
        "prob_rice": f"{rice:.6f}",
        "decision": int(decision),
        "right": int(decision == case.label),
    }
