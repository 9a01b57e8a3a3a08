"""Maps of a real (tiny, untrained) grid: by the right models, on the case's grid, kept when nothing changed."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from helpers import commands
from helpers.fewer_channels import keep_channels
from helpers.tiny_grid import (
    ORIGIN_MM,
    SHAPE,
    SPACING_MM,
    write_tiny_cases,
    write_tiny_fold,
    write_tiny_grid,
    write_tiny_numbers,
)

from ricenet.cases.case_reader import load_case
from ricenet.cohort.folds import Folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.command.exits import EXIT_DONE, EXIT_INVALID_INPUT, EXIT_USAGE
from ricenet.errors import Incomplete, InvalidInput, WrongUsage
from ricenet.explain import _device, explain, explain_case, load_fold_model
from ricenet.explanation.attribution import rank_agreement
from ricenet.explanation.case_map import CaseMap, ExplainSettings, FoldModel, map_case
from ricenet.explanation.explained_case import Scene, read_scene
from ricenet.explanation.map_record import VERSION, read_record
from ricenet.networks.late_fusion import for_case
from ricenet.occlusion.sensitivity import Occlusion, OcclusionPlan, drop_map, occlude
from ricenet.training.fused_numbers import FusedNumbers
from ricenet.training.predictions import read_predictions
from ricenet.training.run_folder import finished_folds, finished_runs
from ricenet.training.trained_network import load_network

NAME = "rd_post_event"
CHANNELS = ["post", "event", "rd"]


@pytest.fixture
def grid(tmp_path: Path) -> tuple[Path, Folds]:
    return write_tiny_grid(tmp_path)


@pytest.fixture(scope="module")
def explained_grid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Folds]:
    """A grid with every case explained. Read only: `own_explained` is a copy to change."""
    run, folds = write_tiny_grid(tmp_path_factory.mktemp("explained"))
    explain(run, NAME, "all", settings())
    return run, folds


@pytest.fixture
def own_explained(explained_grid: tuple[Path, Folds], tmp_path: Path) -> tuple[Path, Folds]:
    """A copy of the explained grid that a test may change."""
    run, folds = explained_grid
    shutil.copytree(run.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / run.name, folds


def settings(**changed: Any) -> ExplainSettings:
    """15 mm and 10 mm are 3 and 2 voxels of the tiny grid."""
    return ExplainSettings(**{"cube_mm": 15, "stride_mm": 10, "randomised": False, **changed})


def command(run: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return commands.run(
        [sys.executable, "-m", "ricenet.explain", f"run={run}", "cube_mm=15", "stride_mm=10", *arguments]
    )


def read_map(run: Path, key: str, name: str = "occlusion") -> nibabel.Nifti1Image:
    return nibabel.load(run / "explanation" / NAME / key / f"{name}.nii.gz")


def record_of(run: Path, key: str) -> dict:
    return json.loads((run / "explanation" / NAME / key / "occlusion.json").read_text())


def explained(run: Path, modalities: str = NAME) -> list[str]:
    return sorted(path.name for path in (run / "explanation" / modalities).iterdir() if path.is_dir())


def answered(run: Path, folds: Folds, key: str, members: list[int]) -> list[Occlusion]:
    case = next(case for case in folds.cases if case.case_key == key)
    volume = torch.from_numpy(load_case(run.parent / "cases", case, CHANNELS))
    networks = [load_network(run / NAME / f"fold{fold}") for fold in members]
    blanked, plan = {"": range(len(CHANNELS))}, OcclusionPlan((3, 3, 3), (2, 2, 2))
    return occlude(networks, volume, torch.zeros_like(volume), blanked, plan)[""]


def expected_map(run: Path, folds: Folds, key: str, members: list[int]) -> np.ndarray:
    return drop_map(answered(run, folds, key, members))


def first_case(grid: tuple[Path, Folds], asked: ExplainSettings) -> tuple[ReadyCase, Scene, FoldModel]:
    """The first case of fold 0, and the model that explains it."""
    run, folds = grid
    case, cases = folds.validation(0)[0], run.parent / "cases"
    model = load_fold_model(finished_folds(finished_runs(run), NAME, cases, folds)[0], cases, folds, asked)
    return case, read_scene(cases, case, CHANNELS, asked.masks), model


def explain_alone(grid: tuple[Path, Folds], **changed: Any) -> None:
    """Explain the first case of fold 0 as the command does, without summary and pictures of the cohort."""
    asked = settings(**changed)
    case, scene, model = first_case(grid, asked)
    out = grid[0] / "explanation" / NAME / case.case_key
    explain_case(out, grid[0].parent / "cases" / case.folder, scene, [model], asked, case.name)


def mapped(grid: tuple[Path, Folds], **changed: Any) -> CaseMap:
    """The maps and numbers of the first case of fold 0, without any picture."""
    asked = settings(**changed)
    case, scene, model = first_case(grid, asked)
    return map_case(scene, [model], asked, "0" * 64, case.name)


@pytest.fixture
def grid_with_numbers(tmp_path: Path) -> tuple[Path, Folds, FusedNumbers]:
    folds = write_tiny_cases(tmp_path / "cases")
    numbers = write_tiny_numbers(tmp_path / "cases", folds)
    for fold in range(2):
        write_tiny_fold(tmp_path / "demo", tmp_path / "cases", folds, CHANNELS, fold, numbers=numbers)
    return tmp_path / "demo", folds, numbers


def test_numbers_are_held_fixed_in_the_map_and_their_parts_add_up(
    grid_with_numbers: tuple[Path, Folds, FusedNumbers],
) -> None:
    run, folds, numbers = grid_with_numbers
    row = f"{NAME}+numbers"
    cv = next(case for case in folds.validation(0) if len(numbers.named(case.case_key)) == 2)
    lacking = next(case for case in folds.cases if len(numbers.named(case.case_key)) == 1)
    test = folds.test()[0]
    explain(run, row, [cv.case_key, lacking.case_key, test.case_key], settings(randomised=True))
    for case in (cv, lacking, test):
        members = [0, 1] if case.split == "test" else [folds.fold_of[case.case_key]]
        folder = run / "explanation" / row / case.case_key
        record = read_record(folder)
        networks = [load_network(run / row / f"fold{fold}") for fold in members]
        volume = torch.from_numpy(load_case(run.parent / "cases", case, CHANNELS))
        values = numbers.named(case.case_key)

        fixed = [for_case(network, values) for network in networks]
        plan = OcclusionPlan((3, 3, 3), (2, 2, 2))
        maps = occlude(fixed, volume, torch.zeros_like(volume), {"": range(3)}, plan)[""]
        drop = nibabel.load(folder / "occlusion.nii.gz").get_fdata()
        assert maps[0].method == "incremental"
        np.testing.assert_allclose(drop, drop_map(maps), atol=1e-6)

        answers = [one for fold in members for one in read_predictions(run / row / f"fold{fold}")]
        log_odds = [one["logit_rice"] - one["logit_recurrence"] for one in answers if one["case_key"] == case.case_key]
        parts = record.numbers
        assert parts is not None
        assert parts.log_odds == pytest.approx(np.mean(log_odds), abs=1e-4)
        assert parts.log_odds == pytest.approx(
            parts.image_log_odds + sum(part.log_odds for part in parts.parts.values()), abs=1e-6
        )
        assert {name: part.value for name, part in parts.parts.items()} == {"age": None} | values
        assert all(abs(part.log_odds) > 0 for part in parts.parts.values())
    summary = json.loads((run / "explanation" / "summary.json").read_text())["sets"][row]
    assert set(summary["numbers"]["parts"]) == {"mean_gy", "age"}

    (run.parent / "cases" / "numbers.csv").write_text("case_key,mean_gy\n")
    with pytest.raises(InvalidInput, match=r"numbers of the cases changed after training \(numbers_hash\)"):
        explain(run, row, cv.case_key, settings())


def test_every_case_is_explained_by_models_that_did_not_see_it(explained_grid: tuple[Path, Folds]) -> None:
    run, folds = explained_grid
    for case in folds.cases:
        members = [0, 1] if case.split == "test" else [folds.fold_of[case.case_key]]
        record, image = record_of(run, case.case_key), read_map(run, case.case_key)
        assert record["folds"] == members
        assert (record["cube_voxels"], record["stride_voxels"]) == ([3, 3, 3], [2, 2, 2])
        assert image.shape == SHAPE
        np.testing.assert_array_equal(image.affine[:3, 3], ORIGIN_MM)
        np.testing.assert_array_equal(np.diag(image.affine), [SPACING_MM, SPACING_MM, SPACING_MM, 1])
        expected = expected_map(run, folds, case.case_key, members)
        assert np.abs(expected).max() > 1e-3, "a map of zeros would prove nothing"
        np.testing.assert_allclose(image.get_fdata(), expected, atol=1e-6)
        if case.split == "cv":
            foreign = expected_map(run, folds, case.case_key, [1 - members[0]])
            assert np.abs(image.get_fdata() - foreign).max() > 1e-3

        answers = [row for fold in members for row in read_predictions(run / NAME / f"fold{fold}")]
        rice = np.mean([row["prob_rice"] for row in answers if row["case_key"] == case.case_key])
        assert record["predicted"] == ("rice" if rice > 0.5 else "recurrence")
        assert record["probability"] == pytest.approx(max(rice, 1 - rice), abs=1e-5)
        voxel = (np.array(record["drop_max_world_mm"]) - ORIGIN_MM) / SPACING_MM
        assert image.get_fdata()[tuple(voxel.round().astype(int))] == pytest.approx(record["drop_max"], abs=1e-6)
        assert (run / "explanation" / NAME / case.case_key / "occlusion.png").stat().st_size > 10_000

    whole = json.loads((run / "explanation" / "summary.json").read_text())
    summary, records = whole["sets"][NAME], [record_of(run, case.case_key) for case in folds.cases]
    assert whole["version"] == VERSION
    assert summary["n"] == len(folds.cases) == summary["pointing"]["lesion"]["n"]
    assert summary["n_correct"] == sum(record["label"] == record["predicted"] for record in records)
    assert summary["median_map_share"]["lesion"] == np.median([record["map_share"]["lesion"] for record in records])
    for picture in (f"{NAME}/cohort.png", "attribution.png"):
        assert (run / "explanation" / picture).stat().st_size > 10_000
    assert not list((run / "explanation").rglob(".*")), "a temporary was left behind"
    assert str(run) not in "".join(path.read_text() for path in run.rglob("explanation/**/*.json"))


def test_what_did_not_change_is_kept_and_what_did_is_made_again(own_explained: tuple[Path, Folds]) -> None:
    run, folds = own_explained
    case = folds.validation(0)[0]
    folder = run / "explanation" / NAME / case.case_key
    made = (folder / "occlusion.json").stat().st_mtime_ns
    cohort = run / "explanation" / NAME / "cohort.png"
    drawn = cohort.stat().st_mtime_ns
    explain(run, NAME, case.case_key, settings())
    assert (folder / "occlusion.json").stat().st_mtime_ns == made, "the command keeps what is the same"
    assert cohort.stat().st_mtime_ns == drawn

    def explained_at(**changed: Any) -> int:
        explain_alone(own_explained, **changed)
        return (folder / "occlusion.json").stat().st_mtime_ns

    first = explained_at()
    assert first == made
    pictures = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert explained_at() == first
    assert explained_at(batch_size=3) == first, "the batch size decides the speed, not the map"
    assert explained_at(per_channel=True) > first
    assert (folder / "occlusion_rd.nii.gz").exists()
    before = explained_at(fill=1.0)
    assert not (folder / "occlusion_rd.nii.gz").exists(), "a map of other settings was left beside the new one"
    again = explained_at()
    assert again > before
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == pictures, "the same input gave other bytes"

    write_tiny_fold(run, run.parent / "cases", folds, CHANNELS, fold=0, seed=99)
    retrained = explained_at()
    assert retrained > again
    path = run.parent / "cases" / folds.validation(0)[0].folder / "volume.npy"
    np.save(path, np.load(path) * np.float16(0.5))
    assert explained_at() > retrained


@pytest.mark.slow
def test_one_map_per_channel(grid: tuple[Path, Folds]) -> None:
    run, folds = grid
    case = folds.validation(0)[0]
    path = run.parent / "cases" / case.folder / "volume.npy"
    volume = np.load(path)
    volume[2] = 0
    np.save(path, volume)
    explain_alone(grid, per_channel=True)
    maps = {name: read_map(run, case.case_key, f"occlusion_{name}").get_fdata() for name in CHANNELS}
    assert not maps["rd"].any(), "a channel that is at the fill everywhere cannot be blanked"
    assert all(np.abs(maps[name]).max() > 1e-4 for name in ("post", "event"))
    assert np.abs(maps["post"] - maps["event"]).max() > 1e-4
    record = record_of(run, case.case_key)
    assert record["per_channel"].keys() == set(CHANNELS)
    assert record["per_channel"]["rd"]["drop_max_world_mm"] is None
    assert record["per_channel"]["event"]["drop_max"] == pytest.approx(maps["event"].max(), abs=1e-6)


def test_shuffled_weights_perturbation_and_agreement_of_folds(grid: tuple[Path, Folds]) -> None:
    run, folds = grid
    validation, test = folds.validation(0)[0], folds.test()[0]
    keys = [validation.case_key, test.case_key]
    explain(run, NAME, keys, settings(randomised=True, curves=True, per_channel=True))
    for case in (validation, test):
        record = record_of(run, case.case_key)
        maps = [read_map(run, case.case_key, name).get_fdata() for name in ("occlusion", "randomised")]
        assert np.abs(maps[0] - maps[1]).max() > 1e-3, "the same map without the training"
        brain = np.load(run.parent / "cases" / case.folder / "brain.npy")
        assert record["randomised"]["similarity"] == pytest.approx(rank_agreement(maps, brain), abs=1e-6)
        assert record["randomised"]["drop_max"] == pytest.approx(maps[1].max(), abs=1e-6)
        curves = record["curves"]
        assert curves["deletion"][0] == curves["insertion"][-1] == pytest.approx(record["probability"], abs=1e-5)
        assert curves["deletion"][-1] == pytest.approx(curves["insertion"][0])
    assert record_of(run, validation.case_key)["fold_agreement"] is None
    answers = answered(run, folds, test.case_key, [0, 1])
    chosen = ["recurrence", "rice"].index(record["predicted"])
    alone = [drop_map([one], chosen) for one in answers]
    assert record["fold_agreement"] == pytest.approx(rank_agreement(alone, brain), abs=1e-6)
    summary = json.loads((run / "explanation" / "summary.json").read_text())["sets"][NAME]
    assert summary["randomised"]["n"] == summary["curves"]["n"] == 2
    assert (run / "explanation" / "curves.png").stat().st_size > 10_000


def test_a_mask_counts_as_the_lesion_and_changes_the_record(own_explained: tuple[Path, Folds]) -> None:
    run, folds = own_explained
    case = folds.validation(0)[0]
    assert record_of(run, case.case_key)["brain_share"]["lesion"] < 1
    affine = read_map(run, case.case_key).affine
    brain = np.load(run.parent / "cases" / case.folder / "brain.npy")
    folder = run.parent / "masks" / case.case_key
    folder.mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(brain.astype(np.uint8), affine), folder / "lesion.nii.gz")
    explain_alone(own_explained, masks=run.parent / "masks")
    assert record_of(run, case.case_key)["brain_share"]["lesion"] == 1.0
    assert str(folder) not in json.dumps(record_of(run, case.case_key))


def test_fills_give_other_maps(grid: tuple[Path, Folds]) -> None:
    maps = [mapped(grid, fill=fill).maps["occlusion"] for fill in (0.0, 0.7, "blur", {"rd": 0.7})]
    assert all(np.abs(one - other).max() > 1e-4 for one, other in itertools.combinations(maps, 2))
    with pytest.raises(WrongUsage, match="among post, event, rd, got flair"):
        explain(grid[0], NAME, grid[1].validation(0)[0].case_key, settings(fill={"flair": 1.0}))


@pytest.mark.heavy
def test_refinement_adds_cubes_and_bf16_says_its_error(grid: tuple[Path, Folds]) -> None:
    exact, rough, fine = (mapped(grid, **changed) for changed in ({}, {"precision": "bf16"}, {"refine_mm": 5}))
    assert (exact.record.method, exact.record.logit_error) == ("incremental, fp32", None)
    assert 0 < rough.record.logit_error < 0.1
    difference = np.abs(rough.maps["occlusion"] - exact.maps["occlusion"]).max()
    assert 0 < difference < rough.record.logit_error
    assert fine.record.positions > exact.record.positions
    assert fine.record.drop_max != exact.record.drop_max


def test_records_of_another_version_are_left_out_and_made_again(
    own_explained: tuple[Path, Folds], caplog: pytest.LogCaptureFixture
) -> None:
    run, folds = own_explained
    old, new = (case.case_key for case in folds.validation(0)[:2])
    for case in folds.cases:
        if case.case_key != old:
            shutil.rmtree(run / "explanation" / NAME / case.case_key)
    path = run / "explanation" / NAME / old / "occlusion.json"
    path.write_text(json.dumps({name: value for name, value in record_of(run, old).items() if name != "version"}))
    explain(run, NAME, new, settings())
    assert "1 of 2 explained cases are of another version" in caplog.text
    assert json.loads((run / "explanation" / "summary.json").read_text())["sets"][NAME]["cases"] == [new]


def test_a_missing_fold_fails_its_cases_and_no_other(tmp_path: Path) -> None:
    folds = write_tiny_cases(tmp_path / "cases")
    write_tiny_fold(tmp_path / "demo", tmp_path / "cases", folds, CHANNELS, fold=1)
    with pytest.raises(Incomplete) as failure:
        explain(tmp_path / "demo", NAME, "all", settings())
    for case in (*folds.validation(0), *folds.test()):
        assert f"case {case.case_key}: needs fold 0" in str(failure.value)
    assert set(explained(tmp_path / "demo")) == {case.case_key for case in folds.validation(1)}


def test_an_unusable_volume_is_named_and_the_others_are_explained(grid: tuple[Path, Folds]) -> None:
    run, folds = grid
    broken, fine = folds.validation(0)[:2]
    path = run.parent / "cases" / broken.folder / "volume.npy"
    np.save(path, np.full((3, *SHAPE), np.nan, dtype=np.float16))
    with pytest.raises(Incomplete, match=f"1 of 2 .*\n.*case {broken.case_key}: a model's prediction is not finite"):
        explain(run, NAME, [broken.case_key, fine.case_key], settings())
    assert explained(run) == [fine.case_key]
    (run.parent / "cases" / broken.folder / "brain.npy").unlink()
    np.save(path, np.ones((3, *SHAPE), dtype=np.float16))
    (run / "explanation" / "summary.json").unlink()
    with pytest.raises(FileNotFoundError):  # a damaged case folder stops the command: it was complete once
        explain(run, NAME, [fine.case_key, broken.case_key], settings())
    summary = json.loads((run / "explanation" / "summary.json").read_text())
    assert summary["sets"][NAME]["cases"] == [fine.case_key]


def test_the_command_line(grid: tuple[Path, Folds]) -> None:
    run, folds = grid
    for fold in range(folds.n_folds):
        write_tiny_fold(run, run.parent / "cases", folds, ["event", "rd"], fold)
    keys = [case.case_key for case in folds.cases[:2]]
    answer = command(run, f"case=[{','.join(keys)}]", "+modalities=rd_event", "accelerator=cpu")
    assert answer.returncode == EXIT_DONE, answer.stderr
    assert explained(run, "rd_event") == sorted(keys)
    assert not (run / "explanation" / NAME).exists()
    answer = command(run, "case=nosuchcase")
    assert answer.returncode == EXIT_INVALID_INPUT
    assert "nosuchcase is none of the 6 cases" in answer.stderr


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("stride_mm=0", "stride_mm should be above 0, got 0"),
        ("accelerator=tpu", "accelerator should be one of auto, cpu, gpu, got 'tpu'"),
        ("precision=fp8", "precision should be one of fp32, bf16, got 'fp8'"),
        ("refine_mm=-1", "refine_mm should be above 0, got -1"),
        ("memory_gb=-1", "memory_gb should not be below 0"),
        ("fill=white", "fill should be a number, blur, or numbers by channel, got 'white'"),
        ("fill={rd:blur}", "fill should be a number, blur, or numbers by channel"),
        ("masks=nowhere", "masks= is no folder"),
        ("cube=3", "cube"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_read(tmp_path: Path, argument: str, words: str) -> None:
    answer = command(tmp_path, argument)
    assert answer.returncode == EXIT_USAGE, answer.stderr
    assert words in answer.stderr


@pytest.mark.parametrize(
    ("modalities", "case", "error", "words"),
    [
        (NAME, "nosuchcase", InvalidInput, r"nosuchcase is none of the 6 cases \(ccccccccccc0, "),
        ("rd", "all", InvalidInput, r"modalities=rd .*\(finished: rd_post_event\)"),
        (NAME, "test", Incomplete, "cube_mm=300 is larger than the volume that its models see"),
    ],
)
def test_what_cannot_be_explained_is_named_and_nothing_written(
    grid: tuple[Path, Folds], modalities: str, case: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        explain(grid[0], modalities, case, settings(cube_mm=300))
    assert not (grid[0] / "explanation").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_no_cpu() -> None:
    with pytest.raises(WrongUsage, match="no CUDA device"):
        _device("gpu", 1)


def test_threads_are_those_of_the_config() -> None:
    before = torch.get_num_threads()
    try:
        _device("cpu", before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_runs_of_other_folds_are_refused(grid: tuple[Path, Folds]) -> None:
    run, folds = grid
    other = Folds(folds.n_folds, folds.seed, folds.cases, folds.fold_of, "f" * 64)
    with pytest.raises(InvalidInput, match=r"the cases, labels or folds changed after training .* ffffffffffff now"):
        finished_folds(finished_runs(run), NAME, run.parent / "cases", other)
    path = run.parent / "cases" / folds.cases[0].folder / "case.json"
    path.write_text(path.read_text() + "\n")  # as another preprocessing would leave it
    with pytest.raises(InvalidInput, match="case_hash"):
        explain(run, NAME, "all", settings())


def test_maps_are_made_for_the_cases_that_have_the_channels(tmp_path: Path) -> None:
    write_tiny_cases(tmp_path / "cases", n_cv=6)
    folds = keep_channels(tmp_path / "cases", lambda place, _: ("post", "event", "rd") if place != 2 else ("event",))
    run, lacks = tmp_path / "demo", folds.cases[2]
    for fold in (0, 1):
        write_tiny_fold(run, tmp_path / "cases", folds, ["event", "rd"], fold, having=folds.having(["event", "rd"]))
    with pytest.raises(InvalidInput, match=rf"1 of the 2 case.s. asked for lack .* \({lacks.case_key} has no rd\)"):
        explain(run, "rd_event", [lacks.case_key, folds.cases[0].case_key], settings())
    explain(run, "rd_event", "all", settings())
    mapped = {path.parent.name for path in (run / "explanation" / "rd_event").glob("*/occlusion.json")}
    assert mapped == {case.case_key for case in folds.cases} - {lacks.case_key}
    summary = json.loads((run / "explanation" / "summary.json").read_text())
    assert summary["sets"]["rd_event"]["n"] == len(folds.cases) - 1
