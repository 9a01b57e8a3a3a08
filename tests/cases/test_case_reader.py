"""A case's volume comes back as it was written, cropped to what is not 0; what is unfinished or odd is refused."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.fewer_channels import keep_channels

from ricenet.cases import case_reader
from ricenet.cases.case_reader import CaseVolumes, case_spacing_mm, dose_factors, load_case, load_cases, load_seen
from ricenet.cohort.folds import read_folds
from ricenet.errors import InvalidInput, WrongUsage

ALL = ("post", "event", "rd")


def stored(cases: Path, index: int) -> np.ndarray:
    return np.load(cases / read_folds(cases).cases[index].folder / "volume.npy")


@pytest.fixture
def own(phantom_cases: Path, tmp_path: Path) -> Path:
    """A copy of the phantom cases that a test may damage."""
    return shutil.copytree(phantom_cases, tmp_path / "cases")


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_content_is_the_volume_without_its_border_of_zeros(phantom_cases: Path, cache: str) -> None:
    table = read_folds(phantom_cases).cases
    volumes = CaseVolumes(phantom_cases, table, ["post", "event"], cache)
    assert len(volumes) == len(table)
    for index in range(3):
        content, whole = volumes.read(index), stored(phantom_cases, index)[:2]
        assert content.voxels.dtype == torch.float16
        assert torch.equal(content.whole(), torch.from_numpy(whole))
        occupied = np.argwhere(whole.any(axis=0))
        assert content.start == tuple(occupied.min(axis=0))
        assert content.voxels.shape[1:] == tuple(np.ptp(occupied, axis=0) + 1)


def test_channels_are_read_by_name_in_the_order_asked_for(phantom_cases: Path) -> None:
    case = read_folds(phantom_cases).cases[0]
    whole = stored(phantom_cases, 0)
    assert torch.equal(
        CaseVolumes(phantom_cases, [case], ["rd", "post"]).read(0).whole(), torch.from_numpy(whole[[2, 0]])
    )
    np.testing.assert_array_equal(load_case(phantom_cases, case, ["event", "rd"]), whole[1:].astype(np.float32))


def test_a_volume_of_zeros_and_one_negative_zero_has_content(own: Path) -> None:
    case = read_folds(own).cases[0]
    for value in (0.0, -0.0):
        np.save(own / case.folder / "volume.npy", np.full((3, 16, 16, 16), value, np.float16))
        content = CaseVolumes(own, [case], ALL).read(0)
        assert content.voxels.shape == (3, 1, 1, 1)
        assert not content.whole().any()


def test_cached_cases_are_not_read_again(own: Path) -> None:
    table = read_folds(own).cases[:2]
    kept, fresh = CaseVolumes(own, table, ALL, "ram"), CaseVolumes(own, table, ALL, "none")
    before = kept.read(0).whole()
    shutil.rmtree(own)
    assert torch.equal(kept.read(0).whole(), before)
    with pytest.raises(FileNotFoundError):
        fresh.read(0)


def test_a_cache_larger_than_memory_is_refused(phantom_cases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_reader, "available_gb", lambda: 1e-6)
    with pytest.raises(WrongUsage, match=r"data\.cache=ram needs up to .* GB for 24 cases"):
        CaseVolumes(phantom_cases, read_folds(phantom_cases).cases, ALL, "ram")


def test_missing_modality_names_the_case(phantom_cases: Path) -> None:
    case = read_folds(phantom_cases).cases[0]
    with pytest.raises(InvalidInput, match=f"case {case.case_key}: has no channel flair"):
        load_case(phantom_cases, case, ["flair"])


def test_unfinished_case_folder_is_refused(own: Path) -> None:
    case = read_folds(own).cases[0]
    (own / case.folder / "case.json").unlink()
    with pytest.raises(InvalidInput, match="unfinished"):
        CaseVolumes(own, [case], ALL)


def test_different_grids_are_refused(own: Path) -> None:
    table = read_folds(own).cases
    np.save(own / table[0].folder / "volume.npy", np.zeros((3, 8, 8, 8), np.float16))
    with pytest.raises(InvalidInput, match="different grids"):
        CaseVolumes(own, table, ALL)


def test_spacing_is_that_of_preprocessing(phantom_cases: Path) -> None:
    assert case_spacing_mm(phantom_cases, read_folds(phantom_cases).cases[0]) == 12


def test_load_cases_lists_what_the_folder_holds(phantom_cases: Path) -> None:
    folds = read_folds(phantom_cases)
    loaded = load_cases(str(phantom_cases))
    assert [(case.case_key, case.label, case.split) for case in loaded] == [
        (case.case_key, case.label, case.split) for case in folds.cases
    ]
    for index, case in enumerate(loaded[:3]):
        assert case.channels == ALL
        np.testing.assert_array_equal(case.volume(), stored(phantom_cases, index).astype(np.float32))
        np.testing.assert_allclose(
            np.diag(case.world_from_voxel)[:3], case_spacing_mm(phantom_cases, folds.cases[index])
        )


def test_load_cases_takes_channels_in_the_order_asked_for(phantom_cases: Path) -> None:
    (case, *_) = load_cases(phantom_cases, ["rd", "post"])
    assert case.channels == ("rd", "post")
    np.testing.assert_array_equal(case.volume(), stored(phantom_cases, 0)[[2, 0]].astype(np.float32))
    with pytest.raises(InvalidInput, match=r"has no channel flair, only post, event, rd"):
        load_cases(phantom_cases, ["flair"])


def test_load_cases_refuses_a_folder_without_cases(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no cases\.csv"):
        load_cases(tmp_path)


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_a_missing_channel_is_0_and_said_to_be_missing(own: Path, cache: str) -> None:
    kinds = [("post", "event", "rd"), ("event",), ("event", "rd")]
    before = [stored(own, index) for index in range(3)]
    table = keep_channels(own, lambda place, _: kinds[place % 3]).cases[:3]
    volumes = CaseVolumes(own, table, ALL, cache, may_lack=True)
    assert volumes.some_lack
    for index, kind in enumerate(kinds):
        present = [channel in kind for channel in ALL]
        assert volumes.present(index) == present
        expected = before[index] * np.array(present, before[index].dtype)[:, None, None, None]
        assert torch.equal(volumes.read(index).whole(), torch.from_numpy(expected))
    assert not CaseVolumes(own, table[:1], ALL, may_lack=True).some_lack
    with pytest.raises(InvalidInput, match="has no channel post, rd, only event"):
        CaseVolumes(own, table, ALL)


def set_prescriptions(cases: Path, prescriptions: list[str]) -> None:
    """Write covariates.csv with these, in the order of the cases."""
    keys = [case.case_key for case in read_folds(cases).cases]
    with (cases / "covariates.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case_key", "prescription_gy"])
        writer.writerows(zip(keys, prescriptions, strict=True))


def test_a_dose_is_read_relative_to_its_prescription(own: Path) -> None:
    """Half of 30 Gy looks as half of 60 Gy; the MRI stays, wherever the volume is read."""
    table = read_folds(own).cases
    set_prescriptions(own, ["30", *["60"] * (len(table) - 1)])
    channels = ["event", "rd"]
    plain = CaseVolumes(own, table, channels)
    relative = CaseVolumes(own, table, channels, relative_dose=True)
    for index, factor in enumerate([2, 1]):
        expected = plain.read(index).whole() * torch.tensor([1, factor], dtype=torch.float16).view(2, 1, 1, 1)
        assert torch.equal(relative.read(index).whole(), expected)
        seen = load_seen(own, table[index], channels, relative_dose=True)
        assert np.array_equal(seen, expected.float().numpy())


def test_a_case_without_prescription_is_named(own: Path) -> None:
    table = read_folds(own).cases
    set_prescriptions(own, [*["60"] * (len(table) - 1), ""])
    with pytest.raises(InvalidInput, match=rf"{table[-1].case_key}.*needs prescription_gy, 1 of {len(table)} cases"):
        CaseVolumes(own, table, ["rd"], relative_dose=True)
    (own / "covariates.csv").unlink()
    with pytest.raises(InvalidInput, match=f"{len(table)} of {len(table)} cases have none"):
        dose_factors(own, table)


def test_a_case_without_a_dose_needs_no_prescription(own: Path) -> None:
    first, second = read_folds(own).cases[:2]
    set_prescriptions(own, ["", *["30"] * (len(read_folds(own).cases) - 1)])
    assert dose_factors(own, [replace(first, channels=("post", "event")), second]) == [1.0, 2.0]
