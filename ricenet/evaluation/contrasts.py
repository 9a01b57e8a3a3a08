"""Compare the pairs of rows that were declared beforehand: differences, tests, and what could not be shown.

Two rows are compared over exactly the same patients only: the validation cases of the folds that both have finished,
and of a partial cohort those that have the channels of both.
A contrast passes where its p, adjusted by Holm over every declared contrast (a missing one counts too), is below 0.05,
and Cochran's Q over all modality sets is, where it can be computed. Its p is the larger of two: McNemar's, and that of
the better row being at chance. The second one is needed because in cross-validation a model that learns nothing tends
to predict worse than chance (its training cases lack just the labels it is scored on), the more so the more inputs it
has: on shuffled labels McNemar and Holm alone let a contrast pass in 7 of 60 runs of a cheap model, always against a
row that was far below chance; with both, in none.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ricenet import LABELS
from ricenet.cohort.folds import Folds
from ricenet.command.row_names import RowName
from ricenet.errors import WrongUsage
from ricenet.evaluation.grid import Grid, only
from ricenet.evaluation.scores import Resampling, fold_macro_f1, pool
from ricenet.evaluation.summary import Contrast, OmnibusTest, PairedDifference, PowerStatement
from ricenet.statistics import comparison, metrics, power
from ricenet.statistics.chance import chance
from ricenet.statistics.comparison import FoldTest

ALPHA = 0.05
POWER = 0.8
USUAL_DISCORDANCE = 0.15  # share of patients that two good models predict differently, where none was observed


class Comparisons(NamedTuple):
    """The fields of summary.json of the same names."""

    declared: list[str]
    contrasts: dict[str, Contrast]
    omnibus: OmnibusTest | None
    power: PowerStatement


def parse(declared: Sequence[str], rows: Sequence[str]) -> list[tuple[str, str]]:
    """Read `a - b` as pairs of rows.

    Raises:
        WrongUsage: not of that form, twice the same, or a row that is none of `rows`.
    """
    pairs = []
    for text in declared:
        ours, separator, theirs = (part.strip() for part in text.partition(" - "))
        if not separator or ours == theirs or (ours, theirs) in pairs:
            raise WrongUsage(f"contrasts: expected different pairs such as 'rd_post - post', each once, got {text!r}")
        unknown = {ours, theirs} - set(rows)
        if unknown:
            raise WrongUsage(f"contrasts: {', '.join(sorted(unknown))} is none of {', '.join(rows)}")
        pairs.append((ours, theirs))
    return pairs


def against_scratch(rows: Iterable[str], declared: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs that are declared by training a row from others' weights: it, and the same network from scratch.

    Args:
        declared: pairs that are left out.
    """
    twins = [(row, str(name.from_scratch)) for row in rows if (name := RowName.parse(row)).start]
    return [pair for pair in twins if pair not in declared]


def untestable(declared: Sequence[tuple[str, str]], possible: Collection[str]) -> dict[str, list[str]]:
    """The declared pairs that this cohort cannot have, `a - b` -> which of the two rows are not `possible`.

    They are no hypotheses about this cohort, so Holm's adjustment does not count them.
    """
    lacking = {f"{a} - {b}": [row for row in (a, b) if row not in possible] for a, b in declared}
    return {pair: rows for pair, rows in lacking.items() if rows}


def compare(
    folds: Folds,
    rows: Grid,
    sets: Sequence[str],
    declared: Sequence[tuple[str, str]],
    how: Resampling,
    folds_of: Mapping[str, Folds] = MappingProxyType({}),
) -> Comparisons:
    """Compare each declared pair of rows, and all sets at once.

    Args:
        folds: of all cases.
        rows: modality sets and baselines.
        sets: the modality sets among them, which Cochran's Q is about.
        folds_of: row -> the cases that it has predictions for, of the rows that have not all.
    """
    omnibus = _omnibus(_align(folds, rows, sets, folds_of), sets) if len(sets) >= 3 else None
    differences = {f"{a} - {b}": _difference(_align(folds, rows, (a, b), folds_of), a, b, how) for a, b in declared}
    measured = {pair: difference for pair, difference in differences.items() if difference is not None}
    p_values = [max(difference.mcnemar.p, difference.better_chance_p) for difference in measured.values()]
    absent = [1.0] * (len(declared) - len(measured))
    adjusted = comparison.holm([*p_values, *absent]) if declared else np.empty(0)
    contrasts = {
        pair: Contrast(
            **dict(difference), p_holm=float(p), passed=bool(p < ALPHA and (omnibus is None or omnibus.p < ALPHA))
        )
        for (pair, difference), p in zip(measured.items(), adjusted, strict=False)  # the padding has no row
    }
    reach = _power(folds, list(contrasts.values()), declared, folds_of)
    return Comparisons(list(differences), contrasts, omnibus, reach)


class _Aligned(NamedTuple):
    """Rows over the cases and folds that all of them have."""

    folds: Folds
    rows: Grid
    finished: list[int]


def _align(folds: Folds, rows: Grid, names: Sequence[str], folds_of: Mapping[str, Folds]) -> _Aligned:
    own = {name: folds_of.get(name, folds) for name in names}
    common = folds.common(*own.values())
    chosen = {name: only(rows.get(name, {}), own[name], common) for name in names}
    finished = sorted(set.intersection(*map(set, chosen.values())))
    return _Aligned(common, {name: {fold: of[fold] for fold in finished} for name, of in chosen.items()}, finished)


def _omnibus(aligned: _Aligned, sets: Sequence[str]) -> OmnibusTest | None:
    """Are all sets equally often right? Over the folds that all of them have finished; None below three sets."""
    if not aligned.finished:
        return None
    pooled = [pool(aligned.folds, aligned.rows[name]) for name in sets]
    right = np.stack([predicted.decisions == predicted.labels for predicted in pooled], axis=1)
    test = comparison.cochrans_q(right, pooled[0].patients)
    return OmnibusTest(q=test.q, df=test.df, p=test.p, sets=list(sets), folds=aligned.finished, n=len(right))


def _difference(aligned: _Aligned, ours: str, theirs: str, how: Resampling) -> PairedDifference | None:
    """None where no case is common, or the common ones are of one class, for which there is no macro-F1."""
    if not aligned.finished:
        return None
    a, b = (pool(aligned.folds, aligned.rows[name]) for name in (ours, theirs))
    if len(set(a.labels.tolist())) < len(LABELS):
        return None
    difference = metrics.macro_f1_difference(a.labels, a.decisions, b.decisions, a.patients, how.draws, how.seed)
    better = a if difference.value > 0 else b
    return PairedDifference(
        difference=difference.value,
        interval=difference.interval,
        interval_method=difference.method,
        macro_f1=(metrics.macro_f1(a.labels, a.decisions), metrics.macro_f1(b.labels, b.decisions)),
        mcnemar=comparison.mcnemar(a.labels, a.decisions, b.decisions, a.patients),
        better_chance_p=chance(better.labels, better.decisions, better.patients, how.draws, how.seed).p,
        fold_test=_fold_test(aligned, ours, theirs),
        folds=aligned.finished,
        n=len(a.labels),
        n_patients=len(set(a.patients)),
    )


def _fold_test(aligned: _Aligned, ours: str, theirs: str) -> FoldTest | None:
    """Nadeau and Bengio's corrected t over the folds, shown beside; None with one fold.

    Folds whose common cases are of one class are left out: they have no macro-F1.
    """
    folds, rows = aligned.folds, aligned.rows
    scored = [fold for fold in aligned.finished if len({case.label for case in folds.validation(fold)}) == len(LABELS)]
    if len(scored) < 2:
        return None
    differences = [fold_macro_f1(folds, fold, rows[ours]) - fold_macro_f1(folds, fold, rows[theirs]) for fold in scored]
    n_test = float(np.mean([len(folds.validation(fold)) for fold in scored]))
    n_train = float(np.mean([len(folds.training(fold)) for fold in scored]))
    return comparison.corrected_fold_t(np.array(differences), n_train, n_test)


def _power(
    folds: Folds,
    contrasts: Sequence[Contrast],
    declared: Sequence[tuple[str, str]],
    folds_of: Mapping[str, Folds],
) -> PowerStatement:
    """The smallest difference in accuracy that the cross-validation patients could have shown, at 80% power.

    It depends on how many patients two models predict differently: the median of the contrasts, where there are any.
    In a partial cohort the patients are those of the declared pair that has the fewest in common.
    """
    pairs = [folds.common(*(folds_of.get(row, folds) for row in pair)) for pair in declared]
    patients, fewest = _patients(folds), min(map(_patients, pairs), default=_patients(folds))
    shares = [(contrast.mcnemar.only_ours + contrast.mcnemar.only_theirs) / contrast.n for contrast in contrasts]
    discordance = float(np.median(shares)) if shares else USUAL_DISCORDANCE
    statement = PowerStatement(
        patients=fewest,
        power=POWER,
        alpha=ALPHA,
        discordance=discordance,
        discordance_observed=bool(shares),
        smallest_detectable=power.smallest_detectable_difference(fewest, discordance, POWER, ALPHA),
    )
    return statement if fewest == patients else statement.model_copy(update={"cohort_patients": patients})


def _patients(folds: Folds) -> int:
    return len({case.patient_key for fold in range(folds.n_folds) for case in folds.validation(fold)})
