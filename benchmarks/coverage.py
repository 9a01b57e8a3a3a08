"""How often do the 95% intervals that the evaluation prints hold the true value? Prints the tables of
docs/statistics.md: python benchmarks/coverage.py (about four minutes)

A model that is right about each case with probability p has the true sensitivity and specificity p, and with them the
true macro-F1, balanced accuracy and MCC at the cohort's class counts. Intervals come from the public functions of
ricenet.statistics.metrics, called as the evaluation calls them; cohorts with equally many right answers in both classes
share one. Two routes: simulated cohorts, and exactly, each outcome weighing what its probability is. Where an answer is
more than right or wrong (AUROC, two models) only the first is open.
"""

import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product

import numpy as np
from scipy import stats

from ricenet.statistics import metrics

COHORTS = ((7, 5), (48, 32))  # recurrence, rice: the paper's test split and its cross-validation
TRUTHS = (0.75, 0.85, 0.90)
ELSEWHERE = (0.60, 0.65, 0.70, 0.80, 0.91, 0.95, 0.98)  # macro-F1 exactly, so that the three were not lucky ones
SIMULATED, RESAMPLES = 20_000, 9_999
SIMULATED_SINGLY, RESAMPLES_SINGLY = 2_000, 1_999  # where no two cohorts share an interval
SEED = 0
NEGLIGIBLE = 1e-7  # outcomes that are rarer are left out, and count as not held

Outcome = tuple[int, int]  # right about recurrence, right about rice


def main() -> None:
    start = time.process_time()
    print("| patients | value | interval | " + " | ".join(f"p = {truth:.2f}" for truth in TRUTHS) + " |")
    print("| --- | --- | --- |" + " --- |" * len(TRUTHS))
    for cohort in COHORTS:
        for value, method in rows(cohort):
            cells = [cell(cohort, value, method, truth) for truth in TRUTHS]
            print(f"| {cohort[0]} + {cohort[1]} | {value} | {method} | {' | '.join(cells)} |", flush=True)
    print("\n| patients | macro-F1 | " + " | ".join(f"{p:.2f}" for p in ELSEWHERE) + " |")
    print("| --- | --- |" + " --- |" * len(ELSEWHERE))
    for cohort in COHORTS:
        held = [percent(exactly(cohort, "macro-F1", printed(cohort), p)[0]) for p in ELSEWHERE]
        print(f"| {cohort[0]} + {cohort[1]} | {printed(cohort)} | {' | '.join(held)} |", flush=True)
    print("\n| patients | value | interval | true value | held |\n| --- | --- | --- | --- | --- |")
    for auroc in TRUTHS:
        print(f"| 48 + 32 | AUROC | BCa | {auroc:.2f} | {percent(simulated_auroc(auroc))} |", flush=True)
    for cohort, correlation in product(COHORTS, (0.0, 0.65)):
        truth, held = simulated_difference(cohort, 0.83, 0.78, correlation)
        value = f"difference in macro-F1, p 0.83 and 0.78, correlation {correlation:g}"
        print(
            f"| {cohort[0]} + {cohort[1]} | {value} | {printed(cohort)} | {truth:.3f} | {percent(held)} |", flush=True
        )
    print(f"\nseed {SEED}, {time.process_time() - start:.0f} s of one core")


def printed(cohort: Outcome) -> str:
    return "Jeffreys" if sum(cohort) < metrics.BOOTSTRAP_PATIENTS else "BCa"


def rows(cohort: Outcome) -> list[tuple[str, str]]:
    """(value, interval) of each row of the table of a cohort."""
    shown = [(value, printed(cohort)) for value in ("macro-F1", "balanced accuracy", "MCC")]
    shown.append(("macro-F1", "percentile"))
    if printed(cohort) == "BCa":
        return [*shown, ("sensitivity", "Wilson"), ("specificity", "Wilson")]
    return [*shown, ("accuracy", "Wilson"), ("accuracy", "Clopper-Pearson")]


@cache
def intervals(cohort: Outcome, outcome: Outcome) -> dict[tuple[str, str], metrics.Interval]:
    """All intervals of an outcome, by value and interval."""
    labels, patients = np.repeat([0, 1], cohort), np.arange(sum(cohort))
    decisions = np.concatenate([np.arange(n) < k for n, k in zip(cohort, outcome, strict=True)]) == labels
    decisions, right, n = decisions.astype(int), sum(outcome), sum(cohort)
    others = metrics.describe_intervals(labels, 0.2 + 0.6 * decisions, patients, RESAMPLES, SEED)
    percentile = metrics.macro_f1_interval(labels, decisions, patients, "percentile", RESAMPLES, SEED)
    observed = metrics.macro_f1(labels, decisions)
    return {
        ("macro-F1", printed(cohort)): metrics.macro_f1_estimate(labels, decisions, patients, RESAMPLES, SEED).interval,
        ("balanced accuracy", printed(cohort)): others.balanced_accuracy,
        ("MCC", printed(cohort)): others.mcc,
        ("macro-F1", "percentile"): percentile or (observed, observed),  # all resamples agree
        ("sensitivity", "Wilson"): others.sensitivity,
        ("specificity", "Wilson"): others.specificity,
        ("accuracy", "Wilson"): metrics.wilson(right, n),
        ("accuracy", "Clopper-Pearson"): metrics.proportion_interval(right, n, "clopper_pearson"),
    }


def true_value(value: str, cohort: Outcome, p: float) -> float:
    """By the textbook's formulas, at the expected counts."""
    recurrence, rice = cohort
    tp, fn, fp, tn = rice * p, rice * (1 - p), recurrence * (1 - p), recurrence * p
    if value == "macro-F1":
        return (2 * tp / (2 * tp + fp + fn) + 2 * tn / (2 * tn + fp + fn)) / 2
    if value == "MCC":
        return (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return p


def cell(cohort: Outcome, value: str, method: str, p: float) -> str:
    """Held in simulated cohorts / exactly (misses: the whole interval too low, too high)."""
    drawn = (np.random.default_rng(SEED).random((SIMULATED, sum(cohort))) < p).astype(int)
    counts = zip(drawn[:, : cohort[0]].sum(axis=1).tolist(), drawn[:, cohort[0] :].sum(axis=1).tolist(), strict=True)
    simulated = np.mean([side(cohort, outcome, value, method, p) == 0 for outcome in counts])
    exact = exactly(cohort, value, method, p)
    return f"{percent(simulated)} / {percent(exact[0])} ({percent(exact[-1])}, {percent(exact[1])})"


def exactly(cohort: Outcome, value: str, method: str, p: float) -> dict[int, float]:
    """Probability of each `side`."""
    found = dict.fromkeys((-1, 0, 1), 0.0)
    for outcome, probability in outcomes(cohort, p):
        found[side(cohort, outcome, value, method, p)] += probability
    return found


def side(cohort: Outcome, outcome: Outcome, value: str, method: str, p: float) -> int:
    """0 where the interval holds the true value, -1 where it lies below, 1 where it lies above."""
    low, high = intervals(cohort, outcome)[value, method]
    truth = true_value(value, cohort, p)
    return int(truth < low - 1e-12) - int(truth > high + 1e-12)


def outcomes(cohort: Outcome, p: float) -> Iterator[tuple[Outcome, float]]:
    for outcome in product(*(range(n + 1) for n in cohort)):
        probability = float(np.prod(stats.binom.pmf(outcome, cohort, p)))
        if probability > NEGLIGIBLE:
            yield outcome, probability


def simulated_auroc(auroc: float) -> float:
    """Share of cohorts whose interval of AUROC holds it; scores of both classes are normal."""
    rng, labels = np.random.default_rng(SEED), np.repeat([0, 1], COHORTS[1])
    apart = np.sqrt(2) * stats.norm.ppf(auroc)

    def held() -> bool:
        probabilities = stats.norm.cdf(rng.standard_normal(len(labels)) + apart * (labels - 0.5))
        patients = np.arange(len(labels))
        interval = metrics.describe_intervals(labels, probabilities, patients, RESAMPLES_SINGLY, SEED).auroc
        return interval is not None and interval[0] <= auroc <= interval[1]

    return share(held)


def simulated_difference(cohort: Outcome, ours: float, theirs: float, correlation: float) -> tuple[float, float]:
    """The true difference, and the share of cohorts whose interval holds it; answers as in power.best_of."""
    rng, labels = np.random.default_rng(SEED), np.repeat([0, 1], cohort)
    truth = true_value("macro-F1", cohort, ours) - true_value("macro-F1", cohort, theirs)
    quantiles = stats.norm.ppf([[ours], [theirs]])

    def held() -> bool:
        shared, own = rng.standard_normal(len(labels)), rng.standard_normal((2, len(labels)))
        right = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own < quantiles
        a, b = np.where(right, labels, 1 - labels)
        low, high = metrics.macro_f1_difference(labels, a, b, np.arange(len(labels)), RESAMPLES_SINGLY, SEED).interval
        return low <= truth <= high

    return truth, share(held)


def share(held: Callable[[], bool]) -> float:
    return float(np.mean([held() for _ in range(SIMULATED_SINGLY)]))


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
