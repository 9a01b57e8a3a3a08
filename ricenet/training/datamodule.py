"""LightningDataModule: cases and a modality set in; batches {volume (B, C, X, Y, Z), label (B,), case [B]} out.

A network that sees numbers of the case, too, gets `numbers` (B, N) with them, nan where a case has none.

Every random choice is a function of (seed, epoch, position), never of what was drawn before or of which worker draws:
the same seed gives the same batches with 0 and 2 workers, and after a resume at an epoch border.

Volumes stay float16 until they are on the device. They are augmented one by one in the workers, or all of a batch on
the device; kept nowhere, in RAM, or on the device after they were read once.

With a crop a volume is the cube around a case's place (ricenet.cases.crop), in training moved at random. What lies
around the cube is read and kept as far as augmentation can bring it in, so that a rotated cube has no empty corners.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ricenet import LABELS
from ricenet.cases.case_reader import DOSE, CaseVolumes, case_spacing_mm, cut
from ricenet.cases.case_record import Crop
from ricenet.cases.crop import Triple, Window, place_of
from ricenet.cohort.folds import Folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.errors import WrongUsage
from ricenet.training.augmentation import Augmentation

_JITTER_STREAM = 1  # of an item's draw seed, whose own numbers are the augmentation's


class Augmenting(Protocol):
    """What changes one volume at random; see ricenet.training.augmentation.Augmentation."""

    def __call__(
        self, content: Tensor, start: Triple, shape: Triple, spacing_mm: float, intensity: Sequence[bool],
        generator: torch.Generator,
    ) -> Tensor: ...  # fmt: skip

    def margin(self, shape: Sequence[int], spacing_mm: float) -> int: ...


class CaseDataset(Dataset):
    """Model-ready cases; item (index, draw seed) is moved and augmented by generators of that seed.

    Args:
        volumes: of the cases of `table`.
        intensity: per channel, whether augmentation changes its values too.
        augmentation: for each item here; None: none, or later on the device.
        jitter: voxels by which a crop is moved at most along each axis.
        framed: give out what the device needs to augment: contents in boxes of one shape, and where these begin.
        deferred: leave the volumes out, they are on the device already.
        numbers: of each case by its key, (N,) float32, nan where it has none; None: no numbers.
    """

    def __init__(
        self, table: Sequence[ReadyCase], volumes: CaseVolumes, intensity: Sequence[bool], spacing_mm: float,
        augmentation: Augmenting | None = None, jitter: int = 0, framed: bool = False, deferred: bool = False,
        numbers: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:  # fmt: skip
        self.table = table
        self.volumes = volumes
        self.intensity = intensity
        self.spacing_mm = spacing_mm
        self.augmentation, self.jitter = augmentation, jitter
        self.framed, self.deferred = framed, deferred
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        index, seed = item
        case = self.table[index]
        sample = {"label": case.label, "case": case.case_key, "seed": seed}
        if self.numbers is not None:
            sample["numbers"] = torch.from_numpy(self.numbers[case.case_key])
        if self.volumes.some_lack:
            sample["present"] = self.volumes.present(index)
        if self.deferred:
            return sample
        if self.framed:
            frame, start = self.volumes.framed(index)
            return {"volume": frame, "start": start, **sample}
        return {"volume": self._volume(index, seed), **sample}

    def _volume(self, index: int, seed: int) -> Tensor:
        content = self.volumes.read(index).moved(jitter_of(seed, self.jitter))
        if self.augmentation is None:
            return content.whole()
        generator = torch.Generator().manual_seed(seed)
        return self.augmentation(
            content.voxels, content.start, content.shape, self.spacing_mm, self.intensity, generator
        )


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch: volumes, numbers, labels and present channels stacked, cases and draw seeds as lists."""
    batch: dict[str, Any] = {name: [item[name] for item in items] for name in items[0]}
    batch["label"] = torch.tensor(batch["label"])
    if "present" in batch:
        batch["present"] = torch.tensor(batch["present"])
    for name in ("volume", "numbers"):
        if name in batch:
            batch[name] = torch.stack(batch[name])
    return batch


class BalancedOrder(Sampler[tuple[int, int]]):
    """Draw with replacement so that both classes come equally often (the paper's weighted random sampler).

    The order is drawn anew each epoch from (seed, epoch); `epoch` asks the trainer, because a sampler's own counter
    would lag behind after a resume. Of `world` processes each takes every world-th place of the same order.
    """

    def __init__(
        self, labels: Sequence[int], seed: int, epoch: Callable[[], int], rank: int = 0, world: int = 1
    ) -> None:
        self.labels, self.seed, self.epoch = torch.tensor(labels), seed, epoch
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return len(self.labels) // self.world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch()
        generator = torch.Generator().manual_seed(draw_seed(self.seed, epoch))
        weights = 1 / torch.bincount(self.labels, minlength=len(LABELS)).float()[self.labels]
        order = torch.multinomial(weights, len(self.labels), replacement=True, generator=generator).tolist()
        for position in range(self.rank, len(self) * self.world, self.world):
            yield order[position], draw_seed(self.seed, epoch, position)


class FixedOrder(Sampler[tuple[int, int]]):
    """Every case from index `first` to `end` once, in table order."""

    def __init__(self, first: int, end: int) -> None:
        self.indices = range(first, end)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((index, 0) for index in self.indices)


def steps_per_epoch(cases: int, batch_size: int, world: int = 1, accumulate: int = 1, limit: int | None = None) -> int:
    """Steps of the optimiser in one epoch over `cases` training cases.

    Args:
        world: processes that share an epoch.
        accumulate: batches per step; the last step of an epoch takes what is left.
        limit: batches per epoch; None: all.
    """
    share = cases // world
    batches = share // batch_size if _drops_last(share, batch_size) else math.ceil(share / batch_size)
    return math.ceil((batches if limit is None else min(batches, limit)) / accumulate)


def _drops_last(cases: int, batch_size: int) -> bool:
    """Whether an epoch leaves its last batch out: one of a single case has no batch statistics."""
    return cases % batch_size == 1


def jitter_of(seed: int, jitter: int) -> Triple:
    """By how many voxels along x, y, z the crop of an item of this draw seed is moved: each -jitter to jitter."""
    if not jitter:
        return 0, 0, 0
    x, y, z = np.random.default_rng([seed, _JITTER_STREAM]).integers(-jitter, jitter, 3, endpoint=True).tolist()
    return x, y, z


def draw_seed(*numbers: int) -> int:
    """One 63-bit seed from several numbers, well mixed (neighbouring epochs and positions are unrelated)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class CasesDataModule(lightning.LightningDataModule):
    """Training, validation and test loaders of one fold.

    `predict_dataloader` serves the validation cases, then the test cases, each once and without augmentation. In
    distributed training each process trains on its share; validation and prediction are whole in each, so that no
    metric depends on how many there are.

    Args:
        cache: none (read from the files each time), ram or device.
        augment_on: worker or device.
        may_lack: whether a case may lack channels; they are 0 then, and `present` (B, C) of a batch says which are not.
        crop: which part of each volume is seen; None: all.
        jitter_mm: by which a crop is moved at most in training, along each axis.
        relative_dose: whether the dose is read relative to each case's prescription.
        numbers: of each case, as of CaseDataset; a batch then has `numbers` (B, N).

    Attributes:
        places: where each case of `table` is cropped; empty without a crop.
    """

    def __init__(
        self,
        cases: Path,
        folds: Folds,
        fold: int,
        channels: Sequence[str],
        augmentation: Augmenting | None,
        batch_size: int,
        workers: int,
        seed: int,
        cache: str = "none",
        augment_on: str = "worker",
        may_lack: bool = False,
        crop: Crop | None = None,
        jitter_mm: float = 0.0,
        relative_dose: bool = False,
        numbers: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        super().__init__()
        self.numbers = numbers
        self.augmentation = augmentation
        self.intensity = [channel != DOSE for channel in channels]  # a dose is moved, never re-scaled
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.cache, self.augment_on = cache, augment_on
        self.channels, self.crop = channels, crop
        self.training, self.validation, self.held_out = folds.training(fold), folds.validation(fold), folds.test()
        self.table = self.training + self.validation + self.held_out
        self.spacing_mm = case_spacing_mm(cases, self.table[0])
        self.places = [] if crop is None else [place_of(cases, case, channels, crop.at) for case in self.table]
        windows = None if crop is None else [Window.around(place, crop, self.spacing_mm) for place in self.places]
        self.jitter = 0 if crop is None else round(jitter_mm / self.spacing_mm)
        margin = self.jitter if augmentation is None or crop is None else self.jitter + augmentation.margin(
            (crop.voxels(self.spacing_mm),) * 3, self.spacing_mm
        )  # fmt: skip
        kept = "ram" if cache == "ram" else "none"
        self.volumes = CaseVolumes(cases, self.table, channels, kept, may_lack, windows, margin, relative_dose)
        self.place = {case.case_key: index for index, case in enumerate(self.table)}
        self.on_device: dict[str, tuple[Tensor, Triple]] = {}

    def train_dataloader(self) -> DataLoader:
        labels = [case.label for case in self.training]
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        order = BalancedOrder(labels, self.seed, lambda: self.trainer.current_epoch if self.trainer else 0, rank, world)
        drop_last = _drops_last(len(order), self.batch_size)
        here: dict[str, Any] = {"augmentation": self.augmentation, "jitter": self.jitter}
        if self.augmentation is not None and self.augment_on == "device":
            here = {"framed": True}
        return self._loader(**here, sampler=order, batch_size=self.batch_size, drop_last=drop_last)

    def statistics_dataloader(self) -> DataLoader:
        """Every training case, not augmented, mixed, in batches of about `batch_size` and of two at least.

        Both classes come equally often, as in training: cases of the smaller one are repeated. Statistics of the
        cohort's own mixture would move every prediction towards the smaller class.
        """
        generator = torch.Generator().manual_seed(draw_seed(self.seed))
        labels = torch.tensor([case.label for case in self.training])
        by_label = [(labels == label).nonzero()[:, 0] for label in labels.unique()]
        most = max(map(len, by_label))
        cases = torch.cat([indices[torch.arange(most) % len(indices)] for indices in by_label])
        n = len(cases)
        parts = max(1, min(math.ceil(n / self.batch_size), n // 2))
        batches = cases[torch.randperm(n, generator=generator)].tensor_split(parts)
        return self._loader(batch_sampler=[[(index, 0) for index in batch.tolist()] for batch in batches])

    def val_dataloader(self) -> DataLoader:
        first = len(self.training)
        return self._loader(sampler=FixedOrder(first, first + len(self.validation)), batch_size=self.batch_size)

    def predict_dataloader(self) -> DataLoader:
        return self._loader(sampler=FixedOrder(len(self.training), len(self.table)), batch_size=self.batch_size)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """On the device: take the volumes from the cache, augment a training batch, and go to float32."""
        training = self.trainer is not None and self.trainer.training
        if "volume" not in batch:
            cached = [self._cached(key, batch["label"].device) for key in batch["case"]]
            batch["volume"] = torch.stack([frame for frame, _ in cached])
            batch["start"] = [start for _, start in cached]
        if "start" in batch:
            batch["volume"] = self._of_frames(batch["volume"], batch.pop("start"), batch["seed"], training)
        return {**batch, "volume": batch["volume"].float()}

    def _of_frames(self, frames: Tensor, starts: Sequence[Triple], seeds: Sequence[int], training: bool) -> Tensor:
        """The volumes (B, C, X, Y, Z) of framed contents; of a training batch moved and augmented."""
        shape = self.volumes.shape
        if training and self.jitter:
            moves = [jitter_of(seed, self.jitter) for seed in seeds]
            starts = [(x - a, y - b, z - c) for (x, y, z), (a, b, c) in zip(starts, moves, strict=True)]
        if training and self.augmentation is not None and self.augment_on == "device":
            assert isinstance(self.augmentation, Augmentation)  # ricenet.train refuses the others
            return self.augmentation.batch(frames, self.spacing_mm, self.intensity, seeds, starts, shape)
        if frames.shape[2:] == shape and not any(map(any, starts)):
            return frames
        return torch.stack(
            [cut(frame, [-first for first in start], shape) for frame, start in zip(frames, starts, strict=True)]
        )

    def _cached(self, key: str, device: torch.device) -> tuple[Tensor, Triple]:
        if key not in self.on_device:
            if not self.on_device and device.type == "cpu":
                self.volumes.require_memory("device")
            frame, start = self.volumes.framed(self.place[key])
            try:
                self.on_device[key] = frame.to(device), start
            except torch.OutOfMemoryError:
                raise WrongUsage(
                    f"data.cache=device: no room on the GPU for case {len(self.on_device) + 1} of {len(self.table)}; "
                    "lower data.batch_size, or use data=cohort"
                ) from None
        return self.on_device[key]

    def _loader(
        self, augmentation: Augmenting | None = None, jitter: int = 0, framed: bool = False, **order: Any
    ) -> DataLoader:
        """order: how DataLoader is told which items make a batch; the others as of CaseDataset."""
        deferred = self.cache == "device"
        workers = 0 if deferred else self.workers  # then there is nothing to load
        seen = (self.table, self.volumes, self.intensity, self.spacing_mm)
        return DataLoader(
            CaseDataset(*seen, augmentation, jitter, framed, deferred, self.numbers),
            **order,
            num_workers=workers,
            collate_fn=collate,
            # joblib's jobs are daemonless children in which the default context cannot start workers.
            multiprocessing_context="fork" if workers else None,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
