"""What a reader of an evaluation's numbers should know: rows that differ, too few cases, settings; as sentences."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ricenet import MODALITIES
from ricenet.cohort.folds import Folds
from ricenet.command.row_names import RowName
from ricenet.evaluation.grid import Control, Grid
from ricenet.evaluation.scores import has_both_classes, has_test
from ricenet.training.run_record import Optimisation, RunRecord

if TYPE_CHECKING:
    from ricenet.training.run_folder import FinishedRun


def on_grid(grid: Grid, folds: Folds, test: bool) -> list[str]:
    """What differs between the rows, and whether the test split was looked at."""
    notes = []
    if len({tuple(by_fold) for by_fold in grid.values()}) > 1:
        notes.append("the sets cover different patients: compare them through `contrasts`, over common patients, only")
    if len({tuple(fold.seeds for fold in by_fold.values()) for by_fold in grid.values()}) > 1:
        notes.append("the sets were trained with different seeds: a mean of more seeds has an advantage of its own")
    if not test and folds.test():
        notes.append("test=false: the test split was not looked at")
    return notes


def on_few_cases(rows: Grid, folds_of: Mapping[str, Folds], folds: Folds, test: bool) -> list[str]:
    """What a partial cohort is too small for: a row, a fold of a row, or its test split in one class."""
    notes = []
    for name, by_fold in rows.items():
        own = folds_of[name]
        one_class = [str(fold) for fold in by_fold if not has_both_classes(own, [fold])]
        if not has_both_classes(own, by_fold):
            notes.append(f"{name} has no scores yet: the cases of its finished folds are of one class")
        elif one_class:
            notes.append(
                f"the cases of {name} in fold {', '.join(one_class)} are of one class, so that fold's macro F1 is "
                "0.5 at most and lowers the mean over the folds; the pooled value is not affected"
            )
        if test and folds.test() and not has_test(own, folds):
            notes.append(
                f"{name} is not scored on the test split: its {len(own.test())} cases there are not of both classes"
            )
    return notes


def on_controls(controls: Sequence[Control]) -> list[str]:
    """Controls of a partial cohort whose finished folds cannot be scored."""
    return [
        f"control {control.row} has no scores yet: the cases of its finished folds are of one class"
        for control in controls
        if not has_both_classes(control.folds, control.by_fold)
    ]


def on_runs(runs: "Sequence[FinishedRun]") -> list[str]:
    """Settings in which the runs differ, and a checkpoint that makes the scores too good."""
    notes = []
    of_one_set = [run for run in runs if not run.record.model.get("channel_dropout")]  # the others differ on purpose
    for key in ("epochs", "checkpoint", *Optimisation.model_fields, "inputs", "model"):
        compared = of_one_set if key == "model" else runs
        values = {json.dumps(_setting(run.record, key), sort_keys=True) for run in compared}
        if len(values) > 1:
            notes.append(f"the runs differ in {key}: {', '.join(sorted(values))}")
    seen = {
        run.record.crop.in_words() if run.record.crop else "whole volumes"
        for run in runs
        if "event" in run.record.modalities.channels and not RowName.parse(run.record.modalities.name).place
    }  # the others are cropped, or not, on purpose
    if len(seen) > 1:
        notes.append(f"the runs differ in what they see: {', '.join(sorted(seen))}")
    if any(run.record.checkpoint == "best" for run in runs):
        notes.append("checkpoint=best: chosen on the very fold it is scored on, so validation values are too high")
    return notes


def _network(record: RunRecord) -> dict[str, object]:
    """The keys of conf/model, without the start where the row's name says it; as they were before they were keys."""
    transferred = bool(record.model.get("pretrained"))
    earlier = {"pool": "last", "shortcuts": "medicalnet" if transferred else "monai"}
    told = {"pretrained"} if record.pretrained is not None or not transferred else set()
    return {name: value for name, value in {**earlier, **record.model}.items() if name not in told}


def _setting(record: RunRecord, key: str) -> object:
    """A setting to compare: None where it was not recorded, and for epochs that follow from a number of steps."""
    if key == "model":
        return _network(record)
    if key == "inputs":
        inputs = record.inputs
        if inputs is None:
            return []
        return [*inputs.computed(MODALITIES), *(["relative dose"] if inputs.relative_dose else [])]
    if key in Optimisation.model_fields:
        return getattr(record.optimisation, key, None)
    by_steps = record.optimisation is not None and record.optimisation.steps is not None
    return None if key == "epochs" and by_steps else getattr(record, key)
