"""What a reader is told beside the numbers: of rows that differ, of folds and test splits in one class, of settings."""

from types import SimpleNamespace

import numpy as np
from helpers.make_grid import make_cases
from helpers.run_records import run_record

from ricenet.cohort.folds import Folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.evaluation.grid import Control, FoldProbabilities
from ricenet.evaluation.notes import on_controls, on_few_cases, on_grid, on_runs

CASES = make_cases({"cv": (4, 4), "test": (2, 2)})


def folds_of(cases: list[ReadyCase]) -> Folds:
    """Two folds; within each class the cases go to them in turn."""
    fold_of = {case.case_key: int(case.case_key[-3]) % 2 for case in cases if case.split == "cv"}
    return Folds(2, 0, cases, fold_of, "")


def row(folds: Folds, *finished: int, seeds: tuple[int, ...] = (0,)) -> dict[int, FoldProbabilities]:
    def answers(cases: list[ReadyCase]) -> np.ndarray:
        return np.full((len(seeds), len(cases)), 0.5)

    return {fold: FoldProbabilities(answers(folds.validation(fold)), answers(folds.test()), seeds) for fold in finished}


def test_rows_of_other_folds_or_seeds_are_told_and_a_test_split_that_was_left_alone() -> None:
    folds = folds_of(CASES)
    assert on_grid({"rd": row(folds, 0, 1), "event": row(folds, 0, 1)}, folds, test=True) == []
    fewer, seeds, untouched = on_grid({"rd": row(folds, 0, 1), "event": row(folds, 0, seeds=(0, 1))}, folds, test=False)
    assert "different patients" in fewer
    assert "different seeds" in seeds
    assert "test split was not looked at" in untouched


def test_a_row_a_fold_and_a_test_split_of_one_class_are_named() -> None:
    folds = folds_of(CASES)
    # Of rice, the cases of fold 1 alone, and none of the test split.
    some = folds_of([case for case in CASES if not case.label or folds.fold_of.get(case.case_key) == 1])
    one_class = folds_of([case for case in CASES if not case.label])
    rows = {"rd": row(folds, 0, 1), "event": row(some, 0, 1), "post": row(one_class, 0, 1)}
    notes = on_few_cases(rows, {"rd": folds, "event": some, "post": one_class}, folds, test=True)
    assert [note.split(":")[0] for note in notes[1:]] == [
        "event is not scored on the test split", "post has no scores yet", "post is not scored on the test split",
    ]  # fmt: skip
    assert notes[0].startswith("the cases of event in fold 0 are of one class")
    assert not [note for note in on_few_cases(rows, {"rd": folds, "event": some, "post": one_class}, folds, test=False)
                if "test split" in note]  # fmt: skip


def test_a_control_whose_cases_are_of_one_class_is_named() -> None:
    whole, one_class = folds_of(CASES), folds_of([case for case in CASES if case.label])
    controls = [
        Control("shuffled_labels", name, 0, folds, row(folds, 0, 1))
        for name, folds in (("rd-shuffled_labels", whole), ("post-shuffled_labels", one_class))
    ]
    (note,) = on_controls(controls)
    assert note.startswith("control post-shuffled_labels has no scores yet")


def test_settings_in_which_the_runs_differ_are_told() -> None:
    def run(**changes: object) -> SimpleNamespace:
        return SimpleNamespace(record=run_record(**({"epochs": 9, "model": {}} | changes)))

    def trained(epochs: int, **changes: object) -> SimpleNamespace:
        optimisation = {"schedule": "constant", "batch_norm": "precise"} | changes
        return run(epochs=epochs, optimisation=optimisation)

    assert on_runs([run(), run()]) == []
    assert on_runs([run(), run(model={"channel_dropout": 0.5})]) == []
    epochs, model, best = on_runs([run(), run(epochs=3, model={"width": 8})]) + on_runs([run(checkpoint="best")])
    assert epochs == "the runs differ in epochs: 3, 9"
    assert model.startswith("the runs differ in model")
    assert best.startswith("checkpoint=best")
    # The folds of one number of steps take as many epochs as their cases ask for.
    assert on_runs([trained(9, steps=300), trained(10, steps=300)]) == []
    assert on_runs([trained(9, steps=300), trained(9)]) == [
        "the runs differ in epochs: 9, null",
        "the runs differ in steps: 300, null",
    ]
    assert on_runs([trained(9), trained(9, batch_norm="running")]) == [
        'the runs differ in batch_norm: "precise", "running"'
    ]


def test_inputs_that_differ_are_told_and_a_run_of_before_they_were_a_key_is_a_plain_one() -> None:
    def run(**changes: object) -> SimpleNamespace:
        return SimpleNamespace(record=run_record(**changes))

    plain = {"isodoses_gy": (), "isodose_edge_gy": 2.0, "difference": False}
    now = run(model={"name": "resnet18", "pool": "last"}, inputs=plain)
    assert on_runs([run(), now]) == []
    assert on_runs([now, run(model={"name": "resnet18", "pool": "last"}, inputs=plain | {"difference": True})]) == [
        'the runs differ in inputs: ["event minus post"], []'
    ]
    relative = run(model={"name": "resnet18", "pool": "last"}, inputs=plain | {"relative_dose": True})
    assert on_runs([now, relative]) == ['the runs differ in inputs: ["relative dose"], []']
    (note,) = on_runs([run(), run(model={"name": "resnet18", "pool": "multi"})])
    assert note.startswith("the runs differ in model")


def test_crops_that_differ_are_told_but_not_those_that_differ_on_purpose() -> None:
    def run(row: str, *channels: str, **changes: object) -> SimpleNamespace:
        return SimpleNamespace(record=run_record(row, channels, **changes))

    def crop(size_mm: float, at: str = "lesion") -> dict[str, object]:
        return {"crop": {"at": at, "size_mm": size_mm}}

    event, dose = run("event", "event", **crop(96)), run("rd", "rd")
    controls = [run("rd@lesion", "rd", **crop(96)), run("event@random", "event", **crop(96, "random"))]
    assert on_runs([event, dose, *controls]) == []
    assert on_runs([event, run("rd_event", "event", "rd")]) == [
        "the runs differ in what they see: a cube of 96 mm around the lesion, whole volumes"
    ]
    (note,) = on_runs([event, run("rd_event", "event", "rd", **crop(64))])
    assert "a cube of 64 mm around the lesion, a cube of 96 mm" in note
