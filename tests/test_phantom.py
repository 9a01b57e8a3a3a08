"""The phantom stage writes what the real readers open, twice the same, and never over something else."""

import csv
import json
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from helpers import commands
from pydicom import dcmread

from ricenet.cases.case_record import read_case_record
from ricenet.cases.crop import find_places
from ricenet.cohort.covariates import excluded, read_covariates
from ricenet.cohort.folds import read_folds
from ricenet.cohort.ready_cases import read_cases
from ricenet.cohort.table import read_cohort
from ricenet.delivery.series import index_delivery
from ricenet.dicom.image_series import read_series
from ricenet.images.volume import read_volume
from ricenet.phantom import write_phantom
from ricenet.phantoms.causal_model import draw_cohort
from ricenet.phantoms.controls import existing_channels

RAW = {"patients": 2, "format": "nifti", "spacing_mm": 4.0, "size": 0, "case_spacing_mm": 0, "folds": 0, "seed": 7}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("raw") / "cohort"
    write_phantom(out, jobs=1, swap_label_effects=False, **RAW)
    return out


def test_cases_are_ready_for_training(phantom_cases: Path) -> None:
    folds = read_folds(phantom_cases)
    assert (len(folds.cases), len(folds.test())) == (24, 3)
    for case in folds.cases[:3]:
        volume = np.load(phantom_cases / case.folder / "volume.npy")
        brain = np.load(phantom_cases / case.folder / "brain.npy")
        assert (volume.shape, volume.dtype) == ((3, 16, 16, 16), np.float16)
        for mri in volume[:2].astype(np.float64):
            assert mri[brain].mean() == pytest.approx(0, abs=0.01)
            assert mri[brain].std() == pytest.approx(1, abs=0.01)
            assert not mri[~brain].any()
        assert 0.5 < volume[2].max() < 1.5
        places = read_case_record(phantom_cases, case).lesion
        assert places == find_places(dict(zip(("post", "event"), volume[:2], strict=True)), brain, 12)
        truth = np.argwhere(np.load(phantom_cases / case.folder / "truth.npz")["lesion"])
        if len(truth):  # a lesion of 20 mm may be no voxel of 12 mm
            off_mm = 12 * np.linalg.norm(np.array(places["difference"].voxel) - truth.mean(axis=0))
            assert (places["difference"].source, off_mm < 18) == ("difference", True)


def test_truth_has_a_score_for_every_case(phantom_cases: Path) -> None:
    with (phantom_cases / "truth.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["case_key"] for row in rows} == {case.case_key for case in read_cases(phantom_cases)}
    assert len(rows[0]) == 2 + 7


def test_what_is_known_of_a_case_besides_its_images(phantom_cases: Path) -> None:
    """Prescriptions agree with the dose that was drawn; site and days say nothing of the label."""
    folds = read_folds(phantom_cases)
    found = read_covariates(phantom_cases, [case.case_key for case in folds.cases])
    assert found is not None
    assert set(found.subgroups) == {"label_source", "prescription_gy", "fractions", "site", "days_since_rt"}
    assert all(len(levels) == 24 for levels in found.subgroups.values())
    assert set(found.subgroups["label_source"].values()) == {"A"}
    assert set(found.subgroups["site"].values()) == {"A", "B"}
    assert all(100 < days < 400 for days in found.numbers["days_since_rt"].values())
    assert excluded(phantom_cases) == {}
    for case in folds.cases:
        of_case = {name: numbers[case.case_key] for name, numbers in found.numbers.items()}
        assert (of_case["prescription_gy"], of_case["fractions"]) in {(60, 30), (40.05, 15)}
        qc = json.loads((phantom_cases / case.folder / "case.json").read_text())["qc"]
        assert 0.9 < qc["dose_max_gy"] / of_case["prescription_gy"] < 1.25


def test_same_parameters_same_bytes(phantom_cases: Path, tmp_path: Path) -> None:
    again = tmp_path / "cases"
    write_phantom(again, jobs=2, **json.loads((phantom_cases / "phantom.json").read_text()))
    for path in phantom_cases.rglob("*"):
        if path.suffix in (".npy", ".csv", ".json"):
            assert path.read_bytes() == (again / path.relative_to(phantom_cases)).read_bytes(), path.name


def test_raw_cohort_opens_with_the_real_reader(raw: Path) -> None:
    cases = read_cohort(raw)
    assert sorted(case.label for case in cases) == [0, 1]
    for case in cases:
        volumes = {role: read_volume(path) for role, path in case.images.items()}
        assert len({tuple(np.round(v.spacing_mm, 3)) for v in volumes.values()}) == 3, "each scan has a grid of its own"
        assert case.prescription_gy is not None
        assert 0.8 < volumes["rd"].voxels.max() / case.prescription_gy < 1.2


PARTIAL = {"patients": 24, "without_post": 0.3, "without_rd": 0.2, "seed": 7}


def test_a_partial_cohort_lacks_the_same_images_in_every_format(tmp_path: Path) -> None:
    cases = tmp_path / "cases"
    sizes = {"spacing_mm": 4.0, "size": 8, "case_spacing_mm": 24.0, "folds": 2}
    write_phantom(cases, jobs=1, swap_label_effects=False, format="cases", **sizes | PARTIAL)
    table = read_cases(cases)
    whole = {case.case_key: case.channels for case in table}
    assert {len(channels or ()) for channels in whole.values()} == {1, 2, 3}
    for case in table:
        record = json.loads((cases / case.folder / "case.json").read_text())
        assert tuple(record["channels"]) == case.channels
        assert np.load(cases / case.folder / "volume.npy").shape == (len(case.channels or ()), 8, 8, 8)
        assert (record["dose_scale_gy"] is None) == ("rd" not in record["channels"])
    found = read_covariates(cases, list(whole))
    assert found is not None
    for key, channels in whole.items():
        assert [found.numbers[f"has_{role}"][key] for role in ("post", "rd")] == [role in channels for role in
                                                                                 ("post", "rd")]  # fmt: skip
    by_patient = [existing_channels(draw, 0.3, 0.2) for draw in draw_cohort(24, seed=7)]
    assert sorted(by_patient) == sorted(channels or () for channels in whole.values())


def test_an_event_only_patient_and_one_without_post_are_written_as_the_real_readers_want_them(tmp_path: Path) -> None:
    """As NIfTI: one image and no column else; and a dose in the frame of the image it was planned on."""
    event_only, planned = tmp_path / "event-only", tmp_path / "planned"
    write_phantom(event_only, jobs=1, swap_label_effects=False, **RAW | {"without_post": 1, "without_rd": 1})
    assert [case.channels for case in read_cohort(event_only)] == [("event",)] * 2
    write_phantom(planned, jobs=1, swap_label_effects=False, **RAW | {"without_post": 1})
    for case in read_cohort(planned):
        assert list(case.files) == ["event", "rd", "planning"]
        rd, image = read_volume(case.images["rd"]), read_volume(case.planning)
        hottest = np.unravel_index(rd.voxels.argmax(), rd.voxels.shape)
        at = np.linalg.inv(image.world_from_voxel) @ rd.world_from_voxel @ [*hottest, 1]
        assert ((at[:3] > 0) & (at[:3] < image.voxels.shape)).all()


def test_true_transform_maps_one_scan_onto_the_other(raw: Path) -> None:
    """Outside the cavity and the lesion the two scans show the same head once event_from_post is applied."""
    from ricenet.images.volume import resample

    case = read_cohort(raw)[0]
    truth = json.loads((raw / "truth" / f"{case.images['post'].parent.name}.json").read_text())
    post, event = (read_volume(case.images[role]) for role in ("post", "event"))
    brain = read_volume(raw / truth["brain"]).voxels > 0
    grid = (post.voxels.shape, post.world_from_voxel)
    aligned = resample(event, *grid, np.array(truth["event_from_post"]))
    apart = resample(event, *grid)
    together, before = (np.corrcoef(post.voxels[brain], image[brain])[0, 1] for image in (aligned, apart))
    assert together > 0.6
    assert together > before + 0.1


def test_delivery_holds_the_same_scans_as_the_nifti_cohort(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "delivery"
    write_phantom(out, jobs=1, swap_label_effects=False, **RAW | {"format": "dicom"})
    with (out / "labels.csv").open() as stream:
        labels = list(csv.DictReader(stream))
    delivery = index_delivery(out / "dicom")
    assert [row["patient_id"] for row in labels] == list(delivery.patients)
    for case, row in zip(read_cohort(raw), labels, strict=True):
        assert [row[name] for name in ("site", "days_since_rt")] == list(case.extra.values())
        (plan,) = delivery.patients[row["patient_id"]].plans
        begins = date.fromisoformat(str(dcmread(plan.path).RTPlanDate))
        assert (date.fromisoformat(row["event_date"]) - begins).days == int(row["days_since_rt"])
        assert (row["label"], row["split"]) == (("recurrence", "rice")[case.label], case.split)
        contrast = [one for one in delivery.patients[row["patient_id"]].series if one.contrast_agent]
        assert [one.date.isoformat() == row["event_date"] for one in contrast] == [False, True]
        for role, one in zip(("post", "event"), contrast, strict=True):
            there, here = read_volume(case.images[role]), read_series(one, tmp_path)
            np.testing.assert_array_equal(here.voxels, there.voxels)
            np.testing.assert_allclose(here.world_from_voxel, there.world_from_voxel, atol=1e-3)
    truth = [path.relative_to(raw) for path in (raw / "truth").iterdir() if path.name != "truth.csv"]
    assert len(truth) == 8
    assert all((raw / path).read_bytes() == (out / path).read_bytes() for path in truth)
    with (out / "truth" / "truth.csv").open() as stream:
        assert [row["case_key"] for row in csv.DictReader(stream)] == list(delivery.patients)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ricenet.phantom", *arguments]
    return commands.run(command)


def test_another_cohort_in_the_folder_is_refused(phantom_cases: Path, tmp_path: Path) -> None:
    out = shutil.copytree(phantom_cases, tmp_path / "cases")
    same = ["patients=24", "size=16", "case_spacing_mm=12", "folds=2"]
    numbers = {path: path.read_bytes() for path in out.rglob("numbers*")}
    assert len(numbers) == 24 + 2
    for path in numbers:
        path.unlink()  # as an older version of ricenet left it
    assert run(f"out={out}", *same).returncode == 0
    assert numbers == {path: path.read_bytes() for path in numbers}
    refused = run(f"out={out}", *same, "seed=1")
    assert refused.returncode == 3
    assert "seed: 0 in the folder, 1 requested" in refused.stderr


def test_unknown_format_is_a_usage_error(tmp_path: Path) -> None:
    result = run(f"out={tmp_path / 'x'}", "format=dicm")
    assert result.returncode == 2
    assert "nifti | dicom | cases" in result.stderr
    assert not (tmp_path / "x").exists()


def test_unknown_difficulty_is_a_usage_error(tmp_path: Path) -> None:
    result = run(f"out={tmp_path / 'x'}", "difficulty=harder")
    assert result.returncode == 2
    assert "difficulty should be standard | hard, got 'harder'" in result.stderr
    assert not (tmp_path / "x").exists()


SMALL_HARD = {"spacing_mm": 4.0, "size": 12, "case_spacing_mm": 16.0, "folds": 2, "seed": 7, "difficulty": "hard"}


def test_a_hard_cohort_says_in_every_format_how_it_was_drawn(tmp_path: Path) -> None:
    """phantom.json, truth, and the scanners as columns of the table, of the same patients; the dose stays the dose."""
    for form, sizes in (("cases", {"patients": 10}), ("nifti", {"patients": 2}), ("dicom", {"patients": 2})):
        write_phantom(tmp_path / form, jobs=1, swap_label_effects=False, format=form, **SMALL_HARD | sizes)
        assert json.loads((tmp_path / form / "phantom.json").read_text())["difficulty"] == "hard"
        truth = tmp_path / form / ("" if form == "cases" else "truth")
        with (truth / "appearance.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        draws = draw_cohort(sizes["patients"], 7, difficulty="hard")
        assert [
            {"case_key": row["case_key"], **draw.appearance.row()} for row, draw in zip(rows, draws, strict=True)
        ] == rows
    read_folds(tmp_path / "cases")
    covariates = read_covariates(tmp_path / "cases", [case.case_key for case in read_cases(tmp_path / "cases")])
    assert {"post_scanner", "event_scanner"} <= covariates.subgroups.keys()
    for case, draw in zip(read_cohort(tmp_path / "nifti"), draw_cohort(2, 7, difficulty="hard"), strict=True):
        assert [case.extra[f"{role}_scanner"] for role in ("post", "event")] == [
            one.name for one in draw.appearance.scanners
        ]
    with (tmp_path / "dicom" / "labels.csv").open() as stream:
        assert {"post_scanner", "event_scanner"} <= next(csv.DictReader(stream)).keys()
    index = index_delivery(tmp_path / "dicom" / "dicom")
    for case, patient in zip(read_cohort(tmp_path / "nifti"), index.patients.values(), strict=True):
        contrast = [series for series in patient.series if series.contrast_agent]
        for role, series in zip(("post", "event"), contrast, strict=True):
            np.testing.assert_array_equal(read_series(series, tmp_path).voxels, read_volume(case.images[role]).voxels)


def test_a_standard_cohort_names_no_difficulty_so_that_older_ones_stay_the_same(raw: Path) -> None:
    assert "difficulty" not in json.loads((raw / "phantom.json").read_text())
    assert not (raw / "truth" / "appearance.csv").exists()
