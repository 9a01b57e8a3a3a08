"""Score one row of the results: its folds' probabilities in; values, intervals and curves of summary.json out.

A row is a modality set, a baseline or a leakage control. Where a fold was trained with several seeds, its prediction
for a case is their mean probability, and what the single trainings reach stands under `seeds`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import confusion_matrix

from ricenet import LABELS
from ricenet.cohort.folds import Folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.evaluation.grid import FoldProbabilities, labels_of, out_of_fold, patients_of
from ricenet.evaluation.summary import Confusion, RowScores, SeedSpread, SubgroupLevel
from ricenet.statistics import metrics
from ricenet.statistics.calibration import calibration, net_benefit, roc
from ricenet.statistics.chance import chance

THRESHOLDS = np.round(np.arange(0.05, 0.951, 0.05), 2)


@dataclass(frozen=True)
class Resampling:
    """How every interval is drawn: number of resamples of the patients, and the seed of the draws."""

    draws: int
    seed: int


@dataclass(frozen=True)
class Pooled:
    """Every case once, predicted by the model that never saw it: (n,) labels, probabilities, patient keys."""

    labels: np.ndarray
    probabilities: np.ndarray
    patients: np.ndarray

    @property
    def decisions(self) -> np.ndarray:
        """(n,) 0 recurrence, 1 rice."""
        return metrics.decide(self.probabilities)


def pool(folds: Folds, by_fold: Mapping[int, FoldProbabilities]) -> Pooled:
    """The out-of-fold probabilities of the folds that are there; of several seeds the mean."""
    cases = out_of_fold(folds, by_fold)
    probabilities = np.concatenate([fold.validation.mean(axis=0) for fold in by_fold.values()])
    return Pooled(labels_of(cases), probabilities, patients_of(cases))


def has_both_classes(folds: Folds, finished: Iterable[int]) -> bool:
    """Whether the validation cases of these folds can be scored at all: without a class there is no macro-F1."""
    return len({case.label for case in out_of_fold(folds, finished)}) == len(LABELS)


def has_test(own: Folds, folds: Folds) -> bool:
    """Whether a row is scored on the test split: it has all its cases, or of a partial cohort some of each class."""
    return len(own.test()) == len(folds.test()) or len({case.label for case in own.test()}) == len(LABELS)


def score(folds: Folds, by_fold: Mapping[int, FoldProbabilities], how: Resampling, test: bool) -> RowScores:
    """All numbers of one row over the folds it has.

    Args:
        test: whether the test split is looked at; its values are None otherwise, and where there is none.
    """
    pooled = pool(folds, by_fold)
    labels, probabilities, patients = pooled.labels, pooled.probabilities, pooled.patients
    estimate = metrics.macro_f1_estimate(labels, pooled.decisions, patients, how.draws, how.seed)
    macro_f1s = [fold_macro_f1(folds, fold, by_fold) if fold in by_fold else None for fold in range(folds.n_folds)]
    finished = [value for value in macro_f1s if value is not None]
    scores = RowScores(
        oof_macro_f1=estimate.value,
        oof_interval=estimate.interval,
        oof_interval_method=estimate.method,
        oof=metrics.describe(labels, probabilities),
        oof_intervals=metrics.describe_intervals(labels, probabilities, patients, how.draws, how.seed),
        oof_confusion=_confusion(labels, pooled.decisions),
        chance=chance(labels, pooled.decisions, patients, how.draws, how.seed),
        folds=macro_f1s,
        folds_mean=float(np.mean(finished)),
        folds_sd=_standard_deviation(finished),
        seeds=_seeds(folds, by_fold, test),
        n=len(labels),
        n_patients=len(set(patients)),
        calibration=calibration(labels, probabilities, patients, how.draws, how.seed),
        roc=roc(labels, probabilities),
        decision_curve=net_benefit(labels, probabilities, THRESHOLDS),
        n_test=len(folds.test()) if test else 0,
        test_members=list(by_fold),
        test_members_macro_f1=None,
        test_vote_macro_f1=None,
        test_mean_macro_f1=None,
        test_interval=None,
        test_confusion=None,
    )
    return _with_test(scores, folds, _members(by_fold), how) if test and folds.test() else scores


def _members(by_fold: Mapping[int, FoldProbabilities]) -> np.ndarray:
    """(folds, test cases): the ensemble's members, a fold's seeds averaged."""
    return np.stack([fold.test.mean(axis=0) for fold in by_fold.values()])


def _with_test(scores: RowScores, folds: Folds, members: np.ndarray, how: Resampling) -> RowScores:
    """Add the scores on the test split: of both ensembles of (members, cases) probabilities, and of each member."""
    labels, patients = labels_of(folds.test()), patients_of(folds.test())
    vote, mean = metrics.majority_vote(members), metrics.mean_decision(members)
    voted = metrics.macro_f1_estimate(labels, vote, patients, how.draws, how.seed)
    averaged = metrics.macro_f1_estimate(labels, mean, patients, how.draws, how.seed)
    right = int((vote == labels).sum())
    return scores.model_copy(
        update={
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
    )


def _seeds(folds: Folds, by_fold: Mapping[int, FoldProbabilities], test: bool) -> SeedSpread | None:
    """What single trainings reach: the r-th seeds of all folds make one cross-validation; None with one seed a fold.

    Where folds have different numbers of seeds, the surplus ones only count in the mean probabilities.
    """
    count = min(len(fold.seeds) for fold in by_fold.values())
    if max(len(fold.seeds) for fold in by_fold.values()) == 1:
        return None
    labels = labels_of(out_of_fold(folds, by_fold))
    runs = [np.concatenate([fold.validation[r] for fold in by_fold.values()]) for r in range(count)]
    values = [metrics.macro_f1(labels, metrics.decide(run)) for run in runs]
    spread = SeedSpread(
        of_folds={str(fold): list(of_fold.seeds) for fold, of_fold in by_fold.items()},
        oof_macro_f1=values,
        oof_mean=float(np.mean(values)),
        oof_sd=_standard_deviation(values),
    )
    if not (test and folds.test()):
        return spread
    votes = [metrics.majority_vote(np.stack([fold.test[r] for fold in by_fold.values()])) for r in range(count)]
    voted = [metrics.macro_f1(labels_of(folds.test()), vote) for vote in votes]
    return spread.model_copy(
        update={
            "test_vote_macro_f1": voted,
            "test_vote_mean": float(np.mean(voted)),
            "test_vote_sd": _standard_deviation(voted),
        }
    )


def _standard_deviation(values: Sequence[float]) -> float | None:
    """Of a sample (n - 1); None of a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def fold_macro_f1(folds: Folds, fold: int, by_fold: Mapping[int, FoldProbabilities]) -> float:
    """Macro-F1 of one finished fold's validation cases."""
    pooled = pool(folds, {fold: by_fold[fold]})
    return metrics.macro_f1(pooled.labels, pooled.decisions)


def _confusion(labels: np.ndarray, decisions: np.ndarray) -> Confusion:
    tn, fp, fn, tp = confusion_matrix(labels, decisions, labels=[0, 1]).ravel().tolist()
    return Confusion(tp=tp, fn=fn, fp=fp, tn=tn)


def by_subgroup(
    folds: Folds, by_fold: Mapping[int, FoldProbabilities], levels: Mapping[str, Mapping[str, str]], how: Resampling
) -> list[SubgroupLevel]:
    """The pooled predictions within each level of each column; descriptive: no level is tested against another.

    Args:
        levels: column -> case key -> level; a case without one is in the level `not given`.
    """
    cases, pooled = out_of_fold(folds, by_fold), pool(folds, by_fold)
    rows = []
    for column, level_of in levels.items():
        of_cases = np.array([level_of.get(case.case_key, "not given") for case in cases])
        for level in sorted(set(of_cases)):
            in_level = of_cases == level
            part = Pooled(pooled.labels[in_level], pooled.probabilities[in_level], pooled.patients[in_level])
            rows.append(_score_subgroup(column, str(level), part, how))
    return rows


def _score_subgroup(column: str, level: str, part: Pooled, how: Resampling) -> SubgroupLevel:
    """Macro-F1 is None in a level with one class: it would say nothing about the other."""
    confusion = _confusion(part.labels, part.decisions)
    rice, recurrence = confusion.tp + confusion.fn, confusion.fp + confusion.tn
    estimate = (
        metrics.macro_f1_estimate(part.labels, part.decisions, part.patients, how.draws, how.seed)
        if rice and recurrence
        else None
    )
    return SubgroupLevel(
        column=column,
        level=level,
        n=len(part.labels),
        n_patients=len(set(part.patients)),
        rice=rice,
        recurrence=recurrence,
        right=confusion.tp + confusion.tn,
        macro_f1=None if estimate is None else estimate.value,
        interval=None if estimate is None else estimate.interval,
        interval_method=None if estimate is None else estimate.method,
    )


def predictions(
    name: str, folds: Folds, by_fold: Mapping[int, FoldProbabilities], test: bool
) -> list[dict[str, str | int]]:
    """A row per case of evaluation/predictions.csv: out of fold, and both ensembles on the test split."""
    rows = []
    for fold, probabilities in by_fold.items():
        for case, rice in zip(folds.validation(fold), probabilities.validation.mean(axis=0), strict=True):
            rows.append(_prediction(name, case, str(fold), rice, metrics.decide(rice)))
    if test and folds.test():
        members = _members(by_fold)
        for case, rice, vote in zip(folds.test(), members.mean(axis=0), metrics.majority_vote(members), strict=True):
            rows.append(_prediction(name, case, "ensemble", rice, vote))
    return rows


def _prediction(name: str, case: ReadyCase, fold: str, rice: float, decision: np.ndarray) -> dict[str, str | int]:
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
