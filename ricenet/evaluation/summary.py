"""The record of evaluation/summary.json: everything that one evaluation of a grid measured.

Several parts are the results of ricenet.statistics as they are. Intervals are [low, high], 95%; a number that does not
exist (no test split, one class only) is None.
"""

import json
from pathlib import Path

from pydantic import Field

from ricenet.command.records import Record, read_version
from ricenet.errors import InvalidInput
from ricenet.statistics.calibration import Calibration, DecisionCurve, RocCurve
from ricenet.statistics.chance import Chance
from ricenet.statistics.comparison import FoldTest, Pairs
from ricenet.statistics.metrics import Interval, MeasureIntervals, Measures

SUMMARY_VERSION = 2
SUMMARY = Path("evaluation") / "summary.json"  # in the folder of a grid


class SplitCounts(Record):
    """Cases and patients of one split; the classes are counted in cases."""

    cases: int
    patients: int
    recurrence: int
    rice: int


class SplitCases(Record):
    """Cases of the cross-validation and of the test split."""

    validation: int
    test: int


class CohortCounts(Record):
    """The cases behind the numbers; `excluded`: reason -> cases, None where the cases folder does not tell."""

    validation: SplitCounts
    test: SplitCounts
    excluded: dict[str, int] | None


class BootstrapSettings(Record):
    """How intervals were drawn."""

    draws: int
    seed: int
    confidence: float


class Confusion(Record):
    """Counts of cases, rice being the positive class."""

    tp: int
    fn: int
    fp: int
    tn: int

    @property
    def n(self) -> int:
        """All cases."""
        return self.tp + self.fn + self.fp + self.tn


class SeedSpread(Record):
    """What single trainings reach where folds were trained with several seeds.

    Attributes:
        of_folds: fold -> its seeds.
        oof_macro_f1: of the first seeds of all folds, of the second ones, ...; their mean and standard deviation.
        test_vote_macro_f1: the same of the majority vote on the test split; absent where that was not looked at.
    """

    of_folds: dict[str, list[int]]
    oof_macro_f1: list[float]
    oof_mean: float
    oof_sd: float | None
    test_vote_macro_f1: list[float] | None = None
    test_vote_mean: float | None = None
    test_vote_sd: float | None = None


class SubgroupLevel(Record):
    """The pooled predictions for the cases with one value of one column; macro-F1 is None where they are one class."""

    column: str
    level: str
    n: int
    n_patients: int
    rice: int
    recurrence: int
    right: int
    macro_f1: float | None
    interval: Interval | None
    interval_method: str | None


class RowScores(Record):
    """The numbers of one row of the results: a modality set, a baseline, or one model for all sets.

    Attributes:
        oof_macro_f1: macro-F1 of the pooled out-of-fold predictions, its interval and how that was found.
        oof: further measures of them, and their intervals in `oof_intervals`.
        folds: macro-F1 of each fold, None where it is not finished; `folds_mean` and `folds_sd` over the others.
        seeds: None with one seed a fold.
        n: pooled cases.
        test_members: the folds whose models vote on the test split; the values below are None if it was not looked at.
        subgroups: of modality sets.
        bayes_macro_f1: of the Bayes-optimal decision on the same cases; of modality sets on a phantom.
    """

    oof_macro_f1: float
    oof_interval: Interval
    oof_interval_method: str
    oof: Measures
    oof_intervals: MeasureIntervals
    oof_confusion: Confusion
    chance: Chance
    folds: list[float | None]
    folds_mean: float
    folds_sd: float | None
    seeds: SeedSpread | None
    n: int
    n_patients: int
    calibration: Calibration
    roc: RocCurve
    decision_curve: DecisionCurve
    n_test: int
    test_members: list[int]
    test_members_macro_f1: list[float] | None
    test_vote_macro_f1: float | None
    test_mean_macro_f1: float | None
    test_interval: Interval | None
    test_confusion: Confusion | None
    test_interval_method: str | None = None
    test_mean_interval: Interval | None = None
    test_vote_right: int | None = None
    test_vote_right_interval: Interval | None = None
    subgroups: tuple[SubgroupLevel, ...] = ()
    bayes_macro_f1: float | None = None

    @property
    def folds_finished(self) -> int:
        """Number of folds with a value."""
        return sum(value is not None for value in self.folds)


class _ControlRun(Record):
    """Which leakage control was run; `above_chance`: it shows what it must not."""

    kind: str
    row: str
    seed: int
    above_chance: bool


class ControlScores(RowScores, _ControlRun):
    """The numbers of one leakage control with one seed; its test split is not looked at."""


class PairedDifference(Record):
    """A pair of rows over the patients that both have predictions for, the first minus the second.

    Attributes:
        difference: in pooled macro-F1, with its interval.
        macro_f1: of the first and of the second row.
        better_chance_p: how rarely chance reaches what the better row reaches.
        fold_test: None with one common fold.
    """

    difference: float
    interval: Interval
    interval_method: str
    macro_f1: tuple[float, float]
    mcnemar: Pairs
    better_chance_p: float
    fold_test: FoldTest | None
    folds: list[int]
    n: int
    n_patients: int


class Contrast(PairedDifference):
    """A declared pair; `p_holm`: the larger of McNemar's p and `better_chance_p`, adjusted over all declared pairs."""

    p_holm: float
    passed: bool


class OmnibusTest(Record):
    """Cochran's Q over modality sets, on the `n` cases of the folds that all of them have finished."""

    q: float
    df: int
    p: float
    sets: list[str]
    folds: list[int]
    n: int


class PowerStatement(Record):
    """The smallest difference in accuracy that the cohort could have shown, None where none.

    Attributes:
        discordance: share of patients that two models predict differently; the contrasts' median where
            `discordance_observed`, else assumed.
        patients: of the cross-validation; in a partial cohort those of the declared pair of rows that has the fewest
            in common, out of `cohort_patients`, which is given only then.
    """

    patients: int
    power: float
    alpha: float
    discordance: float
    discordance_observed: bool
    smallest_detectable: float | None
    cohort_patients: int | None = None


class SplitAccess(Record):
    """Whether this evaluation looked at the test split, and how often it was scored so far; None: not known."""

    looked: bool
    count: int | None


class SummaryRecord(Record):
    """evaluation/summary.json.

    Attributes:
        cells: trainings that the grid needs; `missing`: `<row>/fold<k>` of those that are not finished.
        sets, baselines, one_model: row -> scores; one_model: of one model for all sets, shown each set's channels.
        paper: modality set -> published scores.
        declared: contrasts between rows that this cohort can have, `<row> - <row>`; `contrasts`: those with a result.
        untestable: further declared contrasts -> the rows they need that this cohort cannot have.
        omnibus: None below three sets with a common fold.
        notes: what a reader of the numbers should know.
        channel_cases: of a partial cohort, channel -> the cases that have it. A row is then scored on those that have
            all of its channels, and rows are compared over those that have the channels of both.
        possible: the paper's sets that the cases can train; only of a partial cohort, and where it is a single one.
    """

    version: int
    cohort: CohortCounts
    n_folds: int
    folds_hash: str
    bootstrap: BootstrapSettings
    cells: int
    missing: list[str]
    sets: dict[str, RowScores]
    paper: dict[str, dict[str, float | None]]
    declared: list[str]
    contrasts: dict[str, Contrast]
    omnibus: OmnibusTest | None
    power: PowerStatement
    baselines: dict[str, RowScores]
    notes: list[str]
    one_model: dict[str, RowScores] = Field(default_factory=dict)  # the first files of version 2 lack it
    controls: list[ControlScores]
    test_access: SplitAccess
    untestable: dict[str, list[str]] = Field(default_factory=dict)  # absent where there is none
    channel_cases: dict[str, SplitCases] = Field(default_factory=dict)
    possible: list[str] | None = None

    def as_json(self) -> str:
        """The text of the file; ValueError where a number is not finite, which JSON cannot hold."""
        content = self.model_dump(mode="json", exclude_unset=True)
        return json.dumps(content, indent=1, allow_nan=False) + "\n"


def read_summary(run: Path) -> SummaryRecord | None:
    """The evaluation of the grid in `run`; None where it was not evaluated.

    Raises:
        InvalidInput: written by another version of ricenet (`summary.version`), or damaged (`record.damaged`).
    """
    path = run / SUMMARY
    if not path.is_file():
        return None
    hint = f"run python -m ricenet.evaluate run=outputs/{run.resolve().name} again"
    if read_version(path) not in (SUMMARY_VERSION, None):
        raise InvalidInput(f"{SUMMARY} was written by another version of ricenet", hint, code="summary.version")
    return SummaryRecord.read(path, hint)
