"""Shuffled labels: other labels, the same counts, the same for a whole grid; nothing is trained on the real ones."""

import csv
import json
import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ricenet.cohort.folds import Folds, _hash, read_folds
from ricenet.cohort.ready_cases import ReadyCase, write_cases
from ricenet.cohort.shuffled_labels import shuffled
from ricenet.command.schemas import TrainConfig, compose
from ricenet.errors import InvalidInput
from ricenet.evaluation.grid import read_controls, read_grid
from ricenet.train import train
from ricenet.training.fit import build_data
from ricenet.training.predictions import read_predictions
from ricenet.training.run_folder import finished_runs

QUICK = ["experiment=smoke", "epochs=2", "trainer.limit_batches=null", "data.batch_size=4"]


def config(cases: Path, run: Path, *overrides: str) -> TrainConfig:
    return compose("train", TrainConfig, [f"cases={cases}", f"run={run}", *QUICK, *overrides])


def labels(cases: list[ReadyCase]) -> dict[str, int]:
    return {case.case_key: case.label for case in cases}


def parts(folds: Folds) -> list[list[ReadyCase]]:
    return [*(folds.validation(fold) for fold in range(folds.n_folds)), folds.test()]


def blocks(cases: list[ReadyCase]) -> Counter:
    """How often each sequence of labels of one patient occurs."""
    of_patient: dict[str, list[int]] = {}
    for case in sorted(cases, key=lambda case: case.case_key):
        of_patient.setdefault(case.patient_key, []).append(case.label)
    return Counter(map(tuple, of_patient.values()))


@pytest.fixture
def events() -> Folds:
    """Two folds and a test split of patients with one to three events each, whose labels may differ."""
    patients = {  # name -> labels of the events, part
        **{f"a{n}": ((n % 2,), n // 10) for n in range(30)},
        **{f"b{n}": ((0, n % 2), n // 6 % 3) for n in range(18)},
        **{f"c{n}": ((1, 0, n % 2), n // 2 % 3) for n in range(6)},
    }
    cases, fold_of = [], {}
    for name, (of_events, part) in patients.items():
        for event, label in enumerate(of_events):
            cases.append(ReadyCase(f"{name}e{event}", name, label, "test" if part == 2 else "cv", "x"))
            if part < 2:
                fold_of[f"{name}e{event}"] = part
    return Folds(2, 0, cases, fold_of, "the hash of the real folds")


def test_every_fold_keeps_its_patients_labels_as_blocks(events: Folds) -> None:
    for seed in range(5):
        found = shuffled(events, seed)
        assert (found.n_folds, found.seed, found.fold_of, found.hash) == (2, 0, events.fold_of, events.hash)
        for before, after in zip(parts(events), parts(found), strict=True):
            assert [replace(case, label=0) for case in after] == [replace(case, label=0) for case in before]
            assert blocks(after) == blocks(before)
            assert labels(after) != labels(before)


def test_the_seed_alone_decides(events: Folds) -> None:
    first = labels(shuffled(events, 3).cases)
    assert labels(shuffled(events, 3).cases) == first
    mixed = random.Random(0).sample(events.cases, len(events.cases))
    assert labels(shuffled(replace(events, cases=mixed), 3).cases) == first  # the order of cases.csv does not decide
    assert len({tuple(labels(shuffled(events, seed).cases).items()) for seed in range(20)}) == 20


def test_over_many_seeds_the_labels_say_nothing_of_the_real_ones(events: Folds) -> None:
    single = [case for case in events.cases if case.patient_key.startswith("a")]
    shares = []
    for seed in range(400):
        new = labels(shuffled(events, seed).cases)
        shares.append(sum(new[case.case_key] == case.label for case in single) / len(single))
    # In each of three parts the ten labels agree twice a hypergeometric number: mean 5, variance 4 * 25 / 36.
    deviation = (3 * 4 * 25 / 36) ** 0.5 / 30 / 400**0.5
    assert sum(shares) / len(shares) == pytest.approx(0.5, abs=4 * deviation)


def test_labels_that_cannot_move_are_refused() -> None:
    patients = {"a": (0, 1), "b": (1, 2), "c": (0, 3), "d": (1, 4)}  # label, number of cases
    cases = [ReadyCase(f"{a}e{n}", a, label, "cv", "x") for a, (label, many) in patients.items() for n in range(many)]
    fold_of = {case.case_key: int(case.patient_key in "cd") for case in cases}
    with pytest.raises(InvalidInput, match=r"seed=0 leaves every label as it was; choose another seed"):
        shuffled(Folds(2, 0, cases, fold_of, "h"), 0)


def test_batches_hold_the_shuffled_labels(phantom_cases: Path) -> None:
    real = read_folds(phantom_cases)
    new = labels(shuffled(real, 0).cases)
    assert new != labels(real.cases)
    data = build_data(config(phantom_cases, Path("x")), phantom_cases, shuffled(real, 0))
    for loader in (data.train_dataloader(), data.val_dataloader(), data.predict_dataloader()):
        seen = {
            key: label for batch in loader for key, label in zip(batch["case"], batch["label"].tolist(), strict=True)
        }
        assert seen == {key: new[key] for key in seen}
        assert len(seen) > 3


def test_the_training_is_the_one_of_a_cohort_that_has_these_labels(phantom_cases: Path, tmp_path: Path) -> None:
    """The real labels are used nowhere: the bits are those of an ordinary training where they do not exist."""
    real = read_folds(phantom_cases)
    new = shuffled(real, 0)
    cases = shutil.copytree(phantom_cases, tmp_path / "cases")
    write_cases(cases, new.cases)
    content = json.loads((cases / "folds.json").read_text()) | {"hash": _hash(new.cases, new.fold_of)}
    (cases / "folds.json").write_text(json.dumps(content))
    train(config(cases, tmp_path / "ordinary"))
    train(config(phantom_cases, tmp_path / "control", "control=shuffled_labels"))
    control = tmp_path / "control" / "rd_post_event-shuffled_labels" / "fold0"
    for name in ("weights.safetensors", "predictions.csv", "metrics.csv"):
        assert (control / name).read_bytes() == (tmp_path / "ordinary" / "rd_post_event" / "fold0" / name).read_bytes()
    train(config(phantom_cases, tmp_path / "real"))
    weights = tmp_path / "real" / "rd_post_event" / "fold0" / "weights.safetensors"
    assert weights.read_bytes() != (control / "weights.safetensors").read_bytes()


def test_a_grid_has_one_set_of_labels_and_is_read_apart(phantom_cases: Path, tmp_path: Path) -> None:
    quick = ["control=shuffled_labels", "epochs=1", "trainer.limit_batches=1"]
    for name in ("rd", "post_event"):
        for fold in (0, 1):
            train(config(phantom_cases, tmp_path, *quick, f"+modalities={name}", f"fold={fold}"))
    train(config(phantom_cases, tmp_path, *quick, "model.channel_dropout=0.5"))
    real = read_folds(phantom_cases)
    new = labels(shuffled(real, 0).cases)
    runs = finished_runs(tmp_path)
    assert [(one.modalities, one.fold, one.control) for one in runs] == [
        ("modality_dropout-shuffled_labels", 0, "shuffled_labels"),
        *((f"{row}-shuffled_labels", fold, "shuffled_labels") for row in ("post_event", "rd") for fold in (0, 1)),
    ]
    for one in runs:
        assert all(row["label"] == new[row["case_key"]] for row in read_predictions(one.folder))
        assert one.record.folds_hash == real.hash
        with (one.folder / "metrics.csv").open() as stream:
            assert len(list(csv.DictReader(stream))) == 1
    assert read_grid(runs, phantom_cases, real) == {}
    controls = read_controls(runs, real)
    assert [(one.row, sorted(one.by_fold)) for one in controls] == [
        ("modality_dropout-shuffled_labels", [0]), ("post_event-shuffled_labels", [0, 1]),
        ("rd-shuffled_labels", [0, 1]),
    ]  # fmt: skip
