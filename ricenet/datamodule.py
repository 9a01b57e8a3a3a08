"""LightningDataModule: cases and a modality set in; batches {volume (B, C, X, Y, Z), label (B,), case [B]} out.

Every random choice is a function of (seed, epoch, position), never of what was drawn before or of which worker draws:
the same seed gives the same batches with 0 and 2 workers, and after a resume at an epoch border.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from ricenet import LABELS
from ricenet.augment import Augmentation
from ricenet.cohort import ReadyCase
from ricenet.config import InvalidInput
from ricenet.folds import Folds

DOSE = "rd"


def load_case(cases: Path, case: ReadyCase, channels: Sequence[str]) -> NDArray[np.float32]:
    """Read the wanted channels of one case: (C, X, Y, Z) float32, in the order of `channels`.

    Raises:
        InvalidInput: the case folder is not finished, or lacks a channel.
    """
    folder = cases / case.folder
    if not (folder / "case.json").is_file():
        raise InvalidInput(
            f"case {case.case_key}: its folder is missing or unfinished; run python -m ricenet.preprocess again"
        )
    there = json.loads((folder / "case.json").read_text())["channels"]
    missing = [channel for channel in channels if channel not in there]
    if missing:
        raise InvalidInput(
            f"case {case.case_key}: has no channel {', '.join(missing)}, only {', '.join(there)}; "
            "preprocess a cohort with that modality or choose +modalities= without it"
        )
    volume = np.load(folder / "volume.npy", mmap_mode="r")
    return volume[[there.index(channel) for channel in channels]].astype(np.float32)


def case_spacing_mm(cases: Path, case: ReadyCase) -> float:
    """Isotropic voxel size of a case's grid in mm."""
    return float(json.loads((cases / case.folder / "case.json").read_text())["spacing_mm"])


class CaseDataset(Dataset):
    """Model-ready cases; with an augmentation, item (index, draw seed) is augmented by a generator of that seed."""

    def __init__(
        self, cases: Path, table: list[ReadyCase], channels: Sequence[str], augmentation: Augmentation | None
    ) -> None:
        self.cases, self.table, self.channels, self.augmentation = cases, table, list(channels), augmentation
        self.spacing_mm = case_spacing_mm(cases, table[0])
        self._check_one_grid()

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        index, seed = item
        case = self.table[index]
        volume = torch.from_numpy(load_case(self.cases, case, self.channels))
        if self.augmentation is not None:
            intensity = [channel != DOSE for channel in self.channels]
            volume = self.augmentation(volume, self.spacing_mm, intensity, torch.Generator().manual_seed(seed))
        return {"volume": volume, "label": case.label, "case": case.case_key}

    def _check_one_grid(self) -> None:
        shapes = {load_case(self.cases, case, self.channels[:1]).shape: case.case_key for case in self.table}
        if len(shapes) > 1:
            found = "; ".join(f"{shape[1:]} (e.g. case {key})" for shape, key in shapes.items())
            raise InvalidInput(f"cases have different grids: {found}; preprocess all with one size and spacing")


class BalancedOrder(Sampler[tuple[int, int]]):
    """Draw with replacement so that both classes come equally often (the paper's weighted random sampler).

    The order is drawn anew each epoch from (seed, epoch); `epoch` asks the trainer, because a sampler's own counter
    would lag behind after a resume.
    """

    def __init__(self, labels: Sequence[int], seed: int, epoch: Callable[[], int]) -> None:
        self.labels, self.seed, self.epoch = torch.tensor(labels), seed, epoch

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(draw_seed(self.seed, self.epoch()))
        weights = 1 / torch.bincount(self.labels, minlength=len(LABELS)).float()[self.labels]
        order = torch.multinomial(weights, len(self), replacement=True, generator=generator)
        for position, index in enumerate(order.tolist()):
            yield index, draw_seed(self.seed, self.epoch(), position)


class FixedOrder(Sampler[tuple[int, int]]):
    """Every case once, in table order."""

    def __init__(self, n_cases: int) -> None:
        self.n_cases = n_cases

    def __len__(self) -> int:
        return self.n_cases

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((index, 0) for index in range(self.n_cases))


def draw_seed(*numbers: int) -> int:
    """One 63-bit seed from several numbers, well mixed (neighbouring epochs and positions are unrelated)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class CasesDataModule(lightning.LightningDataModule):
    """Training, validation and test loaders of one fold.

    `predict_dataloader` serves the validation cases, then the test cases, each once and without augmentation.
    """

    def __init__(
        self,
        cases: Path,
        folds: Folds,
        fold: int,
        channels: Sequence[str],
        augmentation: Augmentation | None,
        batch_size: int,
        workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.cases, self.channels, self.augmentation = cases, channels, augmentation
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.training, self.validation, self.held_out = folds.training(fold), folds.validation(fold), folds.test()

    def train_dataloader(self) -> DataLoader:
        labels = [case.label for case in self.training]
        order = BalancedOrder(labels, self.seed, lambda: self.trainer.current_epoch if self.trainer else 0)
        # A last batch of one case has no batch statistics.
        return self._loader(self.training, order, self.augmentation, drop_last=len(labels) % self.batch_size == 1)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.validation, FixedOrder(len(self.validation)))

    def predict_dataloader(self) -> DataLoader:
        table = self.validation + self.held_out
        return self._loader(table, FixedOrder(len(table)))

    def _loader(
        self, table: list[ReadyCase], order: Sampler, augmentation: Augmentation | None = None, drop_last: bool = False
    ) -> DataLoader:
        return DataLoader(
            CaseDataset(self.cases, table, self.channels, augmentation),
            batch_size=self.batch_size,
            sampler=order,
            num_workers=self.workers,
            # joblib's jobs are daemonless children in which the default context cannot start workers.
            multiprocessing_context="fork" if self.workers else None,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            drop_last=drop_last,
        )
