"""Batches: right channels, balanced classes, one answer whatever the workers, no case of another split."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from helpers.fewer_channels import keep_channels

from ricenet.cases import case_reader
from ricenet.cases.case_reader import load_case
from ricenet.cases.case_record import Crop
from ricenet.cases.crop import Window, place_of
from ricenet.cohort.folds import read_folds
from ricenet.errors import WrongUsage
from ricenet.training.augmentation import Augmentation
from ricenet.training.datamodule import BalancedOrder, CasesDataModule, draw_seed, jitter_of, steps_per_epoch

ALL = ("post", "event", "rd")
AUGMENTATION = Augmentation(0.5, 15, 0.1, 7.5, 7, False, 0.1, 0.2, 0.2)


def module(cases: Path, channels: Sequence[str] = ALL, workers: int = 0, fold: int = 0, **keys: str) -> CasesDataModule:
    return CasesDataModule(cases, read_folds(cases), fold, channels, AUGMENTATION, 4, workers, seed=1, **keys)


def on_device(data: CasesDataModule, batch: dict[str, Any], training: bool) -> dict[str, Any]:
    """The batch as the model gets it."""
    data.trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    data.trainer.training = training
    return data.on_after_batch_transfer(batch, 0)


def test_batch_has_named_fields_shapes_and_types(phantom_cases: Path) -> None:
    data = module(phantom_cases)
    loaded = next(iter(data.val_dataloader()))
    assert loaded["volume"].dtype == torch.float16  # until it is on the device
    batch = on_device(data, loaded, training=False)
    assert batch["volume"].shape == (4, 3, 16, 16, 16)
    assert batch["volume"].dtype == torch.float32
    assert batch["label"].tolist() == [case.label for case in data.validation[:4]]
    assert batch["case"] == [case.case_key for case in data.validation[:4]]


def test_numbers_of_a_case_stand_beside_its_volume(phantom_cases: Path) -> None:
    keys = [case.case_key for case in read_folds(phantom_cases).cases]
    numbers = {key: np.array([index, np.nan], np.float32) for index, key in enumerate(keys)}
    data = CasesDataModule(phantom_cases, read_folds(phantom_cases), 0, ALL, None, 4, 0, seed=1, numbers=numbers)
    for loader in (data.train_dataloader(), data.statistics_dataloader(), data.predict_dataloader()):
        batch = on_device(data, next(iter(loader)), training=False)
        expected = torch.from_numpy(np.stack([numbers[key] for key in batch["case"]]))
        torch.testing.assert_close(batch["numbers"], expected, equal_nan=True)
    assert "numbers" not in next(iter(module(phantom_cases).val_dataloader()))


@pytest.mark.process
def test_two_workers_give_the_batches_of_none(phantom_cases: Path) -> None:
    alone, helped = (list(module(phantom_cases, workers=w).train_dataloader()) for w in (0, 2))
    for first, second in zip(alone, helped, strict=True):
        assert first["case"] == second["case"]
        assert torch.equal(first["volume"], second["volume"])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 5, 13, 100])
def test_steps_per_epoch_are_the_batches_of_the_loader(phantom_cases: Path, batch_size: int) -> None:
    data = module(phantom_cases)
    data.batch_size = batch_size
    assert steps_per_epoch(len(data.training), batch_size) == len(data.train_dataloader())


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 5, 13, 100])
def test_statistics_see_every_training_case_and_no_other(phantom_cases: Path, batch_size: int) -> None:
    """Not augmented, no case alone in its batch, in the same order each time; both classes equally often."""
    data = module(phantom_cases)
    data.batch_size = batch_size
    batches = list(data.statistics_dataloader())
    keys = [key for batch in batches for key in batch["case"]]
    assert set(keys) == {case.case_key for case in data.training}
    drawn = Counter(case.label for key in keys for case in data.training if case.case_key == key)
    larger = max(Counter(case.label for case in data.training).values())
    assert drawn == {0: larger, 1: larger}
    assert max(Counter(keys).values()) <= 2  # 40% rice
    sizes = [len(batch["case"]) for batch in batches]
    assert (min(sizes) >= 2, max(sizes) <= max(batch_size + 1, 3)) == (True, True)
    first = next(case for case in data.training if case.case_key == batches[0]["case"][0])
    assert np.array_equal(batches[0]["volume"][0].numpy(), load_case(phantom_cases, first, ALL))
    assert [batch["case"] for batch in data.statistics_dataloader()] == [batch["case"] for batch in batches]


@pytest.mark.parametrize("cache", ["none", "ram", "device"])
@pytest.mark.parametrize("part", ["val_dataloader", "predict_dataloader", "statistics_dataloader"])
def test_every_cache_serves_the_same_volumes(phantom_cases: Path, cache: str, part: str) -> None:
    data, plain = module(phantom_cases, cache=cache, augment_on="device"), module(phantom_cases)
    for first, second in zip(getattr(data, part)(), getattr(plain, part)(), strict=True):
        assert ("volume" in first) == (cache != "device")
        got, expected = (on_device(d, b, training=False) for d, b in ((data, first), (plain, second)))
        assert torch.equal(got["volume"], expected["volume"])


def test_a_device_cache_larger_than_the_machines_memory_is_refused(
    phantom_cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = module(phantom_cases, cache="device", augment_on="device")
    monkeypatch.setattr(case_reader, "available_gb", lambda: 1e-6)
    with pytest.raises(WrongUsage, match=r"data\.cache=device needs up to .* GB for 24 cases"):
        on_device(data, next(iter(data.val_dataloader())), training=False)


@pytest.mark.parametrize("cache", ["none", "device"])
def test_augmented_on_the_device_as_in_a_worker(phantom_cases: Path, cache: str) -> None:
    there, here = module(phantom_cases, cache=cache, augment_on="device"), module(phantom_cases)
    changed = 0.0
    for first, second in zip(there.train_dataloader(), here.train_dataloader(), strict=True):
        assert first["case"] == second["case"]
        got, expected = (on_device(d, b, training=True) for d, b in ((there, first), (here, second)))
        torch.testing.assert_close(got["volume"], expected["volume"], rtol=1e-4, atol=1e-4)
        plain = torch.stack([there.volumes.read(there.place[key]).whole() for key in first["case"]])
        changed = max(changed, (got["volume"] - plain).abs().max().item())
    assert changed > 0.1


def test_training_validation_and_test_cases_do_not_overlap(phantom_cases: Path) -> None:
    for fold in range(2):
        data = module(phantom_cases, fold=fold)
        parts = [{case.patient_key for case in part} for part in (data.training, data.validation, data.held_out)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 24


def test_training_batches_hold_training_cases_alone(phantom_cases: Path) -> None:
    data = module(phantom_cases)
    drawn = {key for batch in data.train_dataloader() for key in batch["case"]}
    assert drawn <= {case.case_key for case in data.training}


def test_validation_and_prediction_are_every_case_once_and_not_augmented(phantom_cases: Path) -> None:
    data = module(phantom_cases)
    for loader, table in (
        (data.val_dataloader(), data.validation),
        (data.predict_dataloader(), data.validation + data.held_out),
    ):
        batches = list(loader)
        assert [key for batch in batches for key in batch["case"]] == [case.case_key for case in table]
        stored = torch.from_numpy(load_case(phantom_cases, table[0], ALL))
        assert torch.equal(batches[0]["volume"][0].float(), stored)


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


def test_processes_share_out_the_order_of_one() -> None:
    labels = [0, 1] * 10 + [1]
    whole = list(BalancedOrder(labels, 0, lambda: 3))
    shares = [list(BalancedOrder(labels, 0, lambda: 3, rank, world=2)) for rank in range(2)]
    assert [len(share) for share in shares] == [10, 10]
    assert [item for pair in zip(*shares, strict=True) for item in pair] == whole[:20]


@pytest.mark.parametrize("cache", ["none", "device"])
def test_a_batch_says_which_channels_its_cases_have_where_some_lack_one(
    phantom_cases: Path, tmp_path: Path, cache: str
) -> None:
    cases = shutil.copytree(phantom_cases, tmp_path / "cases")
    kinds = [ALL, ("event",), ("event", "rd")]
    folds = keep_channels(cases, lambda place, _: kinds[place % 3])
    data = CasesDataModule(
        cases, folds, 0, ALL, AUGMENTATION, 4, 0, seed=1, cache=cache, augment_on="device", may_lack=True
    )
    for loaded in data.val_dataloader():
        batch = on_device(data, loaded, training=False)
        for key, present, volume in zip(batch["case"], batch["present"].tolist(), batch["volume"], strict=True):
            (case,) = [case for case in folds.cases if case.case_key == key]
            assert present == [channel in case.channels for channel in ALL]
            assert [bool(channel.any()) for channel in volume] == present
    complete = folds.having(ALL)
    whole = CasesDataModule(cases, complete, 0, ALL, None, 4, 0, seed=1, may_lack=True)
    assert "present" not in next(iter(whole.val_dataloader()))


CROP, EDGE, JITTER_MM = Crop(at="lesion", size_mm=96), 8, 24  # of volumes of 16^3 voxels of 12 mm


def cropped(
    cases: Path, channels: Sequence[str] = ALL, augmentation: Augmentation | None = None, **keys: Any
) -> CasesDataModule:
    defaults: dict[str, Any] = {"crop": CROP, "jitter_mm": JITTER_MM}
    return CasesDataModule(cases, read_folds(cases), 0, channels, augmentation, 4, 0, seed=1, **defaults | keys)


def cubes(cases: Path, data: CasesDataModule, keys: Sequence[str], move: Sequence[Sequence[int]]) -> torch.Tensor:
    """The crops of the cases as they are stored, cut out by hand, each moved by so many voxels."""
    result = []
    for key, by in zip(keys, move, strict=True):
        case = data.table[data.place[key]]
        place = place_of(cases, case, data.channels, data.crop.at if data.crop else "")
        start = [int(np.floor(centre - 3.5 + 0.5)) + step + 20 for centre, step in zip(place.voxel, by, strict=True)]
        padded = np.pad(load_case(cases, case, data.channels), ((0, 0), (20, 20), (20, 20), (20, 20)))
        x, y, z = (slice(first, first + EDGE) for first in start)
        result.append(torch.from_numpy(padded[:, x, y, z]))
    return torch.stack(result)


@pytest.mark.parametrize("cache", ["none", "ram", "device"])
@pytest.mark.parametrize("augment_on", ["worker", "device"])
@pytest.mark.parametrize("at", ["lesion", "random"])
def test_validation_and_prediction_see_the_crop_at_its_place(
    phantom_cases: Path, cache: str, augment_on: str, at: str
) -> None:
    crop = Crop(at=at, size_mm=96)
    data = cropped(phantom_cases, ("event", "rd"), AUGMENTATION, cache=cache, augment_on=augment_on, crop=crop)
    assert data.volumes.shape == (EDGE,) * 3
    loaded = next(iter(data.predict_dataloader()))
    batch = on_device(data, loaded, training=False)
    assert torch.equal(batch["volume"], cubes(phantom_cases, data, batch["case"], [(0, 0, 0)] * 4))
    assert batch["volume"].any()


@pytest.mark.parametrize("cache", ["none", "ram", "device"])
def test_training_moves_the_crop_by_whole_voxels_of_its_draw_seed(phantom_cases: Path, cache: str) -> None:
    data = cropped(phantom_cases, cache=cache)
    moves = []
    for loaded in data.train_dataloader():
        batch = on_device(data, loaded, training=True)
        by = [jitter_of(seed, 2) for seed in batch["seed"]]
        assert torch.equal(batch["volume"], cubes(phantom_cases, data, batch["case"], by))
        moves += by
    assert len(set(moves)) > 5
    assert {step for by in moves for step in by} == {-2, -1, 0, 1, 2}
    assert jitter_of(5, 0) == (0, 0, 0)


@pytest.mark.parametrize("cache", ["none", "ram", "device"])
def test_crops_augmented_on_the_device_as_in_a_worker(phantom_cases: Path, cache: str) -> None:
    there = cropped(phantom_cases, augmentation=AUGMENTATION, cache=cache, augment_on="device")
    here = cropped(phantom_cases, augmentation=AUGMENTATION)
    changed = 0.0
    for first, second in zip(there.train_dataloader(), here.train_dataloader(), strict=True):
        assert "start" in first or cache == "device"
        got, expected = (on_device(d, b, training=True) for d, b in ((there, first), (here, second)))
        torch.testing.assert_close(got["volume"], expected["volume"], rtol=1e-3, atol=2e-4)
        by = [jitter_of(seed, 2) for seed in first["seed"]]
        changed = max(changed, (got["volume"] - cubes(phantom_cases, here, first["case"], by)).abs().max().item())
    assert changed > 0.1


def test_a_crop_is_augmented_with_what_lies_around_it(phantom_cases: Path) -> None:
    """As if the whole volume were content: nothing that is left out of the reading could have come in."""
    strong = Augmentation(1, 20, 0.2, 12, 7, False, 0, 0, 0)
    data = cropped(phantom_cases, augmentation=strong)
    batch = next(iter(data.train_dataloader()))
    for key, seed, volume in zip(batch["case"], batch["seed"], batch["volume"], strict=True):
        index = data.place[key]
        window = Window.around(data.places[index], CROP, data.spacing_mm)
        content = torch.from_numpy(load_case(phantom_cases, data.table[index], ALL))
        start = [-first - step for first, step in zip(window.start, jitter_of(seed, 2), strict=True)]
        generator = torch.Generator().manual_seed(seed)
        expected = strong(content, tuple(start), (EDGE,) * 3, data.spacing_mm, data.intensity, generator)
        torch.testing.assert_close(volume, expected, rtol=1e-4, atol=1e-4)


def test_what_is_read_of_a_case_is_the_crop_and_its_margin(phantom_cases: Path) -> None:
    plain = cropped(phantom_cases, jitter_mm=0)
    for index in range(4):
        content = plain.volumes.read(index)
        assert all(
            first >= 0 and first + n <= EDGE for first, n in zip(content.start, content.voxels.shape[1:], strict=True)
        )
    moved = cropped(phantom_cases)
    frame, start = moved.volumes.framed(0)
    assert (frame.shape, moved.volumes.margin) == ((3, 12, 12, 12), 2)
    assert min(start) >= -2
    whole, at = module(phantom_cases).volumes.framed(0)
    assert (whole.shape, at) == ((3, 16, 16, 16), (0, 0, 0))


def test_sets_are_cropped_where_what_they_contain_says(phantom_cases: Path) -> None:
    for channels in (ALL, ("event",), ("event", "rd"), ("post", "event")):
        data = cropped(phantom_cases, channels)
        assert data.places == [place_of(phantom_cases, case, channels, "lesion") for case in data.table]
    assert cropped(phantom_cases, ("event",)).places != cropped(phantom_cases, ("post", "event")).places
