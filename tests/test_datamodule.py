"""Batches: right channels, balanced classes, one answer whatever the workers, no case of another split."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from ricenet.augment import Augmentation
from ricenet.config import InvalidInput
from ricenet.datamodule import BalancedOrder, CasesDataModule, draw_seed, load_case
from ricenet.folds import read_folds

ALL = ("post", "event", "rd")
AUGMENTATION = Augmentation(0.5, 15, 0.1, 7.5, 7, False, 0.1, 0.2, 0.2)


def module(cases: Path, channels: Sequence[str] = ALL, workers: int = 0, fold: int = 0) -> CasesDataModule:
    return CasesDataModule(cases, read_folds(cases), fold, channels, AUGMENTATION, 4, workers, seed=1)


def test_channels_are_read_by_name(phantom_cases: Path) -> None:
    case = read_folds(phantom_cases).cases[0]
    stored = np.load(phantom_cases / case.folder / "volume.npy").astype(np.float32)
    np.testing.assert_array_equal(load_case(phantom_cases, case, ["event", "rd"]), stored[1:])
    np.testing.assert_array_equal(load_case(phantom_cases, case, ["post"]), stored[:1])


def test_batch_has_named_fields_and_shapes(phantom_cases: Path) -> None:
    batch = next(iter(module(phantom_cases).train_dataloader()))
    assert batch["volume"].shape == (4, 3, 16, 16, 16)
    assert batch["volume"].dtype == torch.float32
    assert len(batch["label"]) == len(batch["case"]) == 4


def test_two_workers_give_the_batches_of_none(phantom_cases: Path) -> None:
    alone, helped = (list(module(phantom_cases, workers=w).train_dataloader()) for w in (0, 2))
    for first, second in zip(alone, helped, strict=True):
        assert first["case"] == second["case"]
        assert torch.equal(first["volume"], second["volume"])


def test_training_validation_and_test_cases_do_not_overlap(phantom_cases: Path) -> None:
    for fold in range(2):
        data = module(phantom_cases, fold=fold)
        parts = [{case.patient_key for case in part} for part in (data.training, data.validation, data.held_out)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 24


def test_validation_is_every_case_once_and_not_augmented(phantom_cases: Path) -> None:
    data = module(phantom_cases)
    batches = list(data.val_dataloader())
    assert [key for batch in batches for key in batch["case"]] == [case.case_key for case in data.validation]
    assert torch.equal(batches[0]["volume"][0], torch.from_numpy(load_case(phantom_cases, data.validation[0], ALL)))


def test_classes_are_drawn_equally_often() -> None:
    labels = [0] * 90 + [1] * 10
    drawn = [labels[index] for epoch in range(50) for index, _ in BalancedOrder(labels, 0, lambda e=epoch: e)]
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.03)


def test_order_depends_on_seed_and_epoch_only() -> None:
    def order(seed: int, epoch: int) -> list[tuple[int, int]]:
        return list(BalancedOrder([0, 1] * 20, seed, lambda: epoch))

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)
    assert draw_seed(0, 1) != draw_seed(1, 0)


def test_missing_modality_names_the_case(phantom_cases: Path) -> None:
    case = read_folds(phantom_cases).cases[0]
    with pytest.raises(InvalidInput, match=f"case {case.case_key}: has no channel flair"):
        load_case(phantom_cases, case, ["flair"])


def test_unfinished_case_folder_is_refused(phantom_cases: Path, tmp_path: Path) -> None:
    cases = shutil.copytree(phantom_cases, tmp_path / "cases")
    case = read_folds(cases).cases[0]
    (cases / case.folder / "case.json").unlink()
    with pytest.raises(InvalidInput, match="unfinished"):
        load_case(cases, case, ALL)


def test_different_grids_are_refused(phantom_cases: Path, tmp_path: Path) -> None:
    cases = shutil.copytree(phantom_cases, tmp_path / "cases")
    data = module(cases)
    np.save(cases / data.training[0].folder / "volume.npy", np.zeros((3, 8, 8, 8), np.float16))
    with pytest.raises(InvalidInput, match="different grids"):
        data.train_dataloader()
