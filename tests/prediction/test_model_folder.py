"""What is exported is what was trained, names nobody, and is refused once anything in it is not what was written."""

import getpass
import hashlib
import json
import pickle
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers.evaluated_grid import CHANNELS, answer, logit, write_evaluated_grid, write_evaluation
from helpers.tiny_grid import MODEL, write_tiny_fold
from safetensors.torch import save_file

from ricenet.cases.alignment import PreprocessingSettings
from ricenet.cases.case_folder import PREPROCESSING_VERSION
from ricenet.cases.case_record import Crop
from ricenet.cohort.folds import Folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.command.schemas import PreprocessConfig, compose
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.evaluation.summary import read_summary
from ricenet.networks.input_settings import InputSettings
from ricenet.networks.late_fusion import for_case
from ricenet.networks.network import build_network
from ricenet.prediction.model_content import public_row
from ricenet.prediction.model_folder import LAYOUT, MANIFEST, Model, export_model, read_model
from ricenet.statistics import metrics
from ricenet.statistics.recalibration import fit_recalibration, recalibrate
from ricenet.training import run_folder
from ricenet.training.run_record import Row, read_run
from ricenet.training.trained_network import load_network

NAME = "rd_event"
WHAT_EXPORTS = (
    "LICENSE", "config.yaml", "configs/inference.json", "configs/metadata.json", "docs/README.md", "evaluation.json",
    "model.json", "models/fold0.safetensors", "models/fold1.safetensors",
)  # fmt: skip

CROP = Crop(at="lesion", size_mm=96.0)


@pytest.fixture(scope="module")
def grid(phantom_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Folds]:
    """Read only: `grid_of_own` is one to damage."""
    return write_evaluated_grid(tmp_path_factory.mktemp("grid"), phantom_cases)


@pytest.fixture(scope="module")
def exported(grid: tuple[Path, Folds], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: `own` is a copy to damage."""
    out = tmp_path_factory.mktemp("export") / "model"
    export_model(grid[0], NAME, out)
    return out


@pytest.fixture
def own_model(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "copy")


@pytest.fixture
def own_grid(grid: tuple[Path, Folds], tmp_path: Path) -> Path:
    shutil.copytree(grid[0].parent, tmp_path / "own")
    return tmp_path / "own" / grid[0].name


def test_networks_are_those_that_were_trained(grid: tuple[Path, Folds], exported: Path) -> None:
    run, _ = grid
    volume = torch.randn(2, len(CHANNELS), 16, 16, 16)
    model = read_model(exported)
    assert (model.record.name, model.record.channels, model.record.folds) == (NAME, tuple(CHANNELS), (0, 1))
    answers = []
    for fold, network in enumerate(model.networks()):
        assert not network.training
        theirs = load_network(run / NAME / f"fold{fold}")
        answers.append(network(volume))
        assert torch.equal(answers[-1], theirs(volume))
        weights = (run / NAME / f"fold{fold}" / "weights.safetensors").read_bytes()
        assert (exported / "models" / f"fold{fold}.safetensors").read_bytes() == weights
    assert not torch.allclose(*answers)


def test_a_model_of_our_recipe_comes_back_as_it_was_trained(phantom_cases: Path, tmp_path: Path) -> None:
    inputs = InputSettings(isodoses_gy=(20.0, 57.0), isodose_edge_gy=2.0, difference=True)
    run, _ = write_evaluated_grid(tmp_path, phantom_cases, pool="multi", inputs=inputs)
    export_model(run, NAME, tmp_path / "model")
    model, volume = read_model(tmp_path / "model"), torch.rand(2, len(CHANNELS), 16, 16, 16)
    assert model.record.computed == ["dose above 20 Gy", "dose above 57 Gy"]
    networks = list(model.networks())
    for fold, network in enumerate(networks):
        assert torch.equal(network(volume), load_network(run / NAME / f"fold{fold}")(volume))
    assert not torch.allclose(networks[0](volume), networks[1](volume))
    card = (tmp_path / "model" / "docs" / "README.md").read_text()
    assert "further channels, voxel by voxel: dose above 20 Gy, dose above 57 Gy." in card
    assert "mean and maximum of all four stages" in card


NUMBERS = ("dose_volume", "lesion_dose", "days_since_rt")
WITH_NUMBERS = "rd_post_event+numbers"


@pytest.fixture(scope="module")
def with_numbers(phantom_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A grid whose networks see numbers, and its model folder. Read only."""
    root = tmp_path_factory.mktemp("numbers")
    run, _ = write_evaluated_grid(root, phantom_cases, channels=["post", "event", "rd"], numbers=NUMBERS)
    export_model(run, WITH_NUMBERS, root / "model")
    return run, root / "model"


def test_a_model_with_numbers_comes_back_with_names_means_and_scales(with_numbers: tuple[Path, Path]) -> None:
    run, folder = with_numbers
    model = read_model(folder)
    volume = torch.randn(2, 3, 16, 16, 16)
    values = {"mean_gy": 31.0, "lesion_dose_mean_gy": 55.0, "days_since_rt": 400.0}
    answers = []
    for fold, network in enumerate(model.networks()):
        theirs = load_network(run / WITH_NUMBERS / f"fold{fold}")
        answers.append(for_case(network, values)(volume))
        assert torch.equal(answers[-1], for_case(theirs, values)(volume))
        assert model.record.numbers_of_fold(fold) == read_run(run / WITH_NUMBERS / f"fold{fold}").numbers
    assert not torch.allclose(*answers)
    assert not torch.allclose(answers[1], for_case(theirs, {})(volume))
    seen = model.record.seen_numbers
    assert list(seen)[:2] == ["max_gy", "mean_gy"]
    assert seen["lesion_dose_mean_gy"].channels == ("post", "event", "rd")
    card = (folder / "docs" / "README.md").read_text()
    assert f"Beside the volumes they see {len(seen)} numbers of the case" in card


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts[:1],
        lambda parts: [parts[0] | {"requested": ["age"]}, parts[1]],
        lambda parts: [parts[0] | {"numbers": [parts[0]["numbers"][0] | {"channels": ["flair"]}]}, parts[1]],
        lambda parts: [parts[0] | {"numbers": [parts[0]["numbers"][0] | {"scale": 0.0}]}, parts[1]],
        lambda parts: [parts[0] | {"numbers": [parts[0]["numbers"][0]] * 2}, parts[1]],
        lambda parts: [parts[0] | {"numbers": [parts[0]["numbers"][0] | {"name": "<img>"}]}, parts[1]],
    ],
)
def test_numbers_of_another_kind_are_refused(
    with_numbers: tuple[Path, Path], tmp_path: Path, change: Callable[[list[Any]], list[Any]]
) -> None:
    own = shutil.copytree(with_numbers[1], tmp_path / "model")
    content = json.loads((own / "model.json").read_text())
    (own / "model.json").write_text(json.dumps(content | {"numbers": change(content["numbers"])}))
    _write_manifest(own)
    _refused(own, "model.content", "")


def test_weights_without_the_part_of_the_numbers_are_refused(with_numbers: tuple[Path, Path], tmp_path: Path) -> None:
    own = shutil.copytree(with_numbers[1], tmp_path / "model")
    content = json.loads((own / "model.json").read_text())
    content["numbers"][0]["numbers"].pop()
    (own / "model.json").write_text(json.dumps(content))
    _write_manifest(own)
    _refused(own, "model.weights", "head.weight")


def test_a_cropped_model_says_what_its_networks_see(own_grid: Path, tmp_path: Path) -> None:
    for folder in (own_grid / NAME).iterdir():
        run_folder.finish(folder, read_run(folder).model_copy(update={"crop": CROP}))
    export_model(own_grid, NAME, tmp_path / "model")
    model = read_model(tmp_path / "model").record
    assert model.crop == CROP
    card = (tmp_path / "model" / "docs" / "README.md").read_text()
    assert "a cube of 8 voxels along each axis (about 96 mm) around the lesion" in card
    assert "else where the event MRI is brightest; where nothing" in card
    image = json.loads((tmp_path / "model" / "configs" / "metadata.json").read_text())["network_data_format"]["inputs"]
    assert (image["image"]["spatial_shape"], image["image"]["is_patch_data"]) == ([8, 8, 8], True)


def test_what_it_says_of_the_training(grid: tuple[Path, Folds], exported: Path) -> None:
    run, folds = grid
    model, seen = read_model(exported).record, [case for case in folds.cases if case.split == "cv"]
    row = json.loads((run / "evaluation" / "summary.json").read_text())["sets"][NAME]
    assert model.cohort.model_dump() == {
        "cases": 21, "patients": 21, "recurrence": sum(case.label == 0 for case in seen),
        "rice": sum(case.label == 1 for case in seen), "phantom": True, "without_post": 0,
    }  # fmt: skip
    assert model.evaluation.model_dump(mode="json") == {
        "oof_macro_f1": row["oof_macro_f1"], "oof_interval": row["oof_interval"], "auroc": row["oof"]["auroc"],
        "auroc_interval": row["oof_intervals"]["auroc"], "n": 21, "seeds": 1,
    }  # fmt: skip
    assert set(model.ranges) == {
        "brain_ml", "dose_max_gy", "dose_mean_gy", "event_rim", "event_skewness", "event_p1", "event_p99",
    }  # fmt: skip
    doses = [np.load(run.parent / "cases" / case.folder / "volume.npy")[2].astype(float) for case in seen]
    assert model.ranges["dose_max_gy"].high == pytest.approx(60 * max(dose.max() for dose in doses), abs=1e-3)
    assert {one.n for one in model.ranges.values()} == {21}
    evaluation = json.loads((exported / "evaluation.json").read_text())
    assert evaluation["oof_macro_f1"] == row["oof_macro_f1"]
    assert evaluation["bayes_macro_f1"] == row["bayes_macro_f1"]


def test_calibration_is_fitted_to_the_out_of_fold_answers(grid: tuple[Path, Folds], exported: Path) -> None:
    _, folds = grid
    seen = [case for fold in range(2) for case in folds.validation(fold)]
    x = torch.tensor([logit(case) for case in seen], dtype=torch.float64)
    labels, patients = ([case.label for case in seen], [case.patient_key for case in seen])
    expected = fit_recalibration(labels, x.sigmoid().numpy(), patients).curve  # type: ignore[arg-type]
    found = read_model(exported).record.calibration
    assert found is not None
    assert expected is not None
    assert found.n == 21
    assert found.slope == pytest.approx(expected.slope, rel=1e-6)
    assert recalibrate(found, 0.8)[0] == pytest.approx(recalibrate(expected, 0.8)[0], rel=1e-6)


def test_settings_that_phantoms_lack_are_those_of_the_config(exported: Path) -> None:
    model, content = read_model(exported).record, json.loads((exported / "model.json").read_text())
    defaults = compose("preprocess", PreprocessConfig, ["cohort=-", "cases=-"])
    assert content["preprocessing_source"] == "phantom, drawn directly"
    assert (model.preprocessing.size, model.preprocessing.spacing_mm) == (16, 12.0)
    others = asdict(model.preprocessing).keys() - {"size", "spacing_mm", "brain_software", "hdbet2_env"}
    assert {name: getattr(model.preprocessing, name) for name in others} == {
        name: getattr(defaults, name) for name in others
    }
    assert model.versions["preprocessing"] is None


def test_settings_of_case_folders_are_theirs(phantom_cases: Path, tmp_path: Path) -> None:
    made = PreprocessingSettings("none", 5, True, "cuda", "event", "union", "quick", 12.0, 16, "fixed", 3).deciding()
    run, _ = write_evaluated_grid(tmp_path, phantom_cases, made)
    export_model(run, NAME, tmp_path / "model")
    model = read_model(tmp_path / "model").record
    assert made.items() <= asdict(model.preprocessing).items()
    assert model.preprocessing.hdbet_models == 1  # nothing hung on it
    assert json.loads((tmp_path / "model" / "model.json").read_text())["preprocessing_source"] == "case folders"
    assert model.versions["preprocessing"] == PREPROCESSING_VERSION


def test_manifest_is_sha256sums(exported: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", MANIFEST], cwd=exported, check=True, capture_output=True)
    files = sorted(path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file())
    assert files == sorted([*WHAT_EXPORTS, MANIFEST])
    assert all(LAYOUT.fullmatch(name) for name in WHAT_EXPORTS)
    assert read_model(exported).digest == hashlib.sha256((exported / MANIFEST).read_bytes()).hexdigest()


def test_names_no_patient_no_place_and_no_person(grid: tuple[Path, Folds], exported: Path) -> None:
    run, folds = grid
    secrets = {case.case_key for case in folds.cases} | {case.patient_key for case in folds.cases}
    secrets |= {str(run), str(run.parent), str(exported), str(Path.cwd()), str(Path.home()) + "/", "wandb", "demo"}
    secrets |= {name for name in (socket.gethostname(), getpass.getuser()) if len(name) > 4}
    for path in exported.rglob("*"):
        if path.is_file() and path.name != "LICENSE":
            content = path.read_bytes()
            assert not [word for word in secrets if word.encode() in content], path.name
    config = yaml.safe_load((exported / "config.yaml").read_text())
    assert config["optimizer"]["learning_rate"] > 0
    assert not {"run", "cases", "logger", "name", "fold"} & config.keys()
    assert "pretrained" not in config["model"]  # a path


def test_evaluation_keeps_no_group_of_few(grid: tuple[Path, Folds], exported: Path) -> None:
    row = json.loads((grid[0] / "evaluation" / "summary.json").read_text())["sets"][NAME]
    assert any(one["n_patients"] < 10 for one in row["subgroups"])
    found = json.loads((exported / "evaluation.json").read_text())
    assert found == public_row(read_summary(grid[0]).sets[NAME])
    assert found["subgroups"] == [one for one in row["subgroups"] if one["n_patients"] >= 10] != []
    assert found.keys() == row.keys() - {"roc"}


def test_the_same_grid_gives_the_same_bytes(grid: tuple[Path, Folds], exported: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()  # an empty folder is as good as none
    export_model(grid[0], NAME, tmp_path / "again")
    assert read_model(tmp_path / "again").digest == read_model(exported).digest


def test_unfinished_folds_are_named(own_grid: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(own_grid / NAME / "fold0")
    with pytest.raises(InvalidInput, match=r"ricenet\.evaluate"):  # the evaluation knows of two folds
        export_model(own_grid, NAME, tmp_path / "model")
    _evaluate(own_grid)
    export_model(own_grid, NAME, tmp_path / "model")
    assert "fold 0 is not finished" in caplog.text
    model = read_model(tmp_path / "model").record
    assert (model.folds, model.cohort.cases, model.evaluation.n) == (
        (1,),
        21,
        len(_folds(own_grid).validation(1)),
    )


def test_of_several_seeds_the_lowest_is_exported(own_grid: Path, tmp_path: Path) -> None:
    folds, place = _folds(own_grid), own_grid / NAME
    for fold in range(2):  # seed 0 stays in fold<k>; seed 5 beside it knows every label
        other = shutil.copytree(place / f"fold{fold}", place / f"fold{fold}-seed5")
        save_file(build_network(2, **MODEL).state_dict(), other / "weights.safetensors")
        record = json.loads((other / "run.json").read_text()) | {"seed": 5}
        (other / "run.json").write_text(json.dumps(record))
        answer(other, folds, fold, lambda case: 9.0 * (2 * case.label - 1))
    _evaluate(own_grid)
    export_model(own_grid, NAME, tmp_path / "model")
    model = read_model(tmp_path / "model").record
    assert model.evaluation.seeds == 2
    first = (place / "fold0" / "weights.safetensors").read_bytes()
    assert (tmp_path / "model" / "models" / "fold0.safetensors").read_bytes() == first
    assert model.calibration is not None  # seed 5's answers would separate the classes


def _export_control(run: Path) -> None:
    folds = _folds(run)
    write_tiny_fold(run, run.parent / "cases", folds, ["rd"], 0)
    (run / "rd").rename(run / "rd-shuffled_labels")
    folder = run / "rd-shuffled_labels" / "fold0"
    row = Row(name="rd-shuffled_labels", channels=["rd"])
    run_folder.finish(folder, read_run(folder).model_copy(update={"modalities": row, "control": "shuffled_labels"}))
    export_model(run, "rd-shuffled_labels", run / "model")


def _export_without_evaluation(run: Path) -> None:
    shutil.rmtree(run / "evaluation")
    export_model(run, NAME, run / "model")


def _export_with_other_answers(run: Path) -> None:
    answer(run / NAME / "fold0", _folds(run), 0, lambda case: 0.99 * logit(case))
    export_model(run, NAME, run / "model")


def _export_unknown(run: Path) -> None:
    export_model(run, "post", run / "model")


def _export_two_networks(run: Path) -> None:
    folder = run / NAME / "fold1"
    record = read_run(folder)
    run_folder.finish(folder, record.model_copy(update={"model": {**record.model, "conv1_stride": 2}}))
    export_model(run, NAME, run / "model")


def _export_two_crops(run: Path) -> None:
    run_folder.finish(run / NAME / "fold1", read_run(run / NAME / "fold1").model_copy(update={"crop": CROP}))
    export_model(run, NAME, run / "model")


def _export_random_place(run: Path) -> None:
    crop = Crop(at="random", size_mm=96.0)
    for folder in (run / NAME).iterdir():
        run_folder.finish(folder, read_run(folder).model_copy(update={"crop": crop}))
    export_model(run, NAME, run / "model")


@pytest.mark.parametrize(
    ("export", "error", "says"),
    [
        (_export_two_crops, InvalidInput, r"folds of one network, got .*size_mm"),
        (
            _export_random_place,
            WrongUsage,
            r"a random place; export a set of crop=lesion",
        ),
        (_export_control, WrongUsage, "leakage control"),
        (_export_without_evaluation, InvalidInput, r"no evaluation; run python -m ricenet.evaluate run="),
        (_export_with_other_answers, InvalidInput, r"other predictions.*run python -m ricenet.evaluate run="),
        (_export_unknown, InvalidInput, "finished: rd_event"),
        (_export_two_networks, InvalidInput, "conv1_stride"),
    ],
)
def test_what_cannot_be_exported(
    own_grid: Path, export: Callable[[Path], None], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        export(own_grid)
    assert not [path for path in own_grid.iterdir() if "model" in path.name]


@pytest.mark.parametrize(
    ("change", "says"),
    [({"spacing_mm": 6.0}, "expected the preprocessing of case"), (None, "do not say how they were made")],
)
def test_cases_made_in_different_ways(own_grid: Path, tmp_path: Path, change: dict[str, Any] | None, says: str) -> None:
    """case.json is part of what a run is trained on, so the runs are written anew."""
    paths = sorted((own_grid.parent / "cases").glob("*/case.json"))
    for path in paths[-1:] if change else paths:
        record = json.loads(path.read_text())
        parameters = record.pop("parameters")
        path.write_text(json.dumps(record | ({"parameters": parameters | change} if change else {})))
    folds = _folds(own_grid)
    for fold in range(2):
        answer(write_tiny_fold(own_grid, own_grid.parent / "cases", folds, CHANNELS, fold), folds, fold, logit)
    _evaluate(own_grid)
    with pytest.raises(InvalidInput, match=says) as caught:
        export_model(own_grid, NAME, tmp_path / "model")
    assert caught.value.code == "model.preprocessing"


def test_a_folder_that_holds_something_stays(own_grid: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    for out in (tmp_path / "full", tmp_path / "full" / "thesis.txt"):
        with pytest.raises(WrongUsage, match="empty folder"):
            export_model(own_grid, NAME, out)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", WHAT_EXPORTS)
def test_one_flipped_bit_is_seen(own_model: Path, name: str) -> None:
    content = bytearray((own_model / name).read_bytes())
    content[len(content) // 2] ^= 1
    (own_model / name).write_bytes(content)
    _refused(own_model, "model.changed", name)


@pytest.mark.parametrize("name", WHAT_EXPORTS)
def test_a_missing_file_is_seen(own_model: Path, name: str) -> None:
    (own_model / name).unlink()
    _refused(own_model, "model.missing", name)


@pytest.mark.parametrize("name", ["models/model.pt", "models/fold2.safetensors", ".hidden", "docs/x/y.npy", "a.pkl"])
def test_a_file_too_many_is_seen(own_model: Path, name: str) -> None:
    (own_model / name).parent.mkdir(exist_ok=True)
    (own_model / name).write_bytes(b"x")
    _refused(own_model, "model.unknown", name)


def test_a_link_is_seen(own_model: Path, tmp_path: Path) -> None:
    """To the very file, so that its hash is right."""
    weights = own_model / "models" / "fold0.safetensors"
    shutil.move(weights, tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    _refused(own_model, "model.link", "fold0.safetensors")


def test_a_linked_folder_is_seen(own_model: Path, tmp_path: Path) -> None:
    shutil.move(own_model / "models", tmp_path / "elsewhere")
    (own_model / "models").symlink_to(tmp_path / "elsewhere")
    _refused(own_model, "model.link", "models")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{digest}  ../outside", "model.unknown"),
        ("{digest}  /etc/hostname", "model.unknown"),
        ("{digest}  models/../models/fold0.safetensors", "model.unknown"),
        ("{digest}  models/model.pt", "model.unknown"),
        ("{digest}  model.json", "model.manifest"),  # twice
        ("not a digest  models/fold3.safetensors", "model.manifest"),
        ("", "model.manifest"),
    ],
)
def test_a_manifest_lists_a_models_files_alone(own_model: Path, line: str, code: str) -> None:
    with (own_model / MANIFEST).open("a") as stream:
        stream.write(line.format(digest=64 * "0") + "\n")
    _refused(own_model, code, MANIFEST)


def test_no_manifest_no_model(own_model: Path, tmp_path: Path) -> None:
    (own_model / MANIFEST).unlink()
    _refused(own_model, "model.manifest", "export it again")
    _refused(tmp_path / "nowhere", "model.manifest", "export it again")


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_no_pickle_is_ever_read(own_model: Path, tmp_path: Path, save: Callable[..., None]) -> None:
    """Under the name of weights, with a manifest that knows it."""
    with (own_model / "models" / "fold0.safetensors").open("wb") as stream:
        save(_Payload(tmp_path / "ran"), stream)
    _write_manifest(own_model)
    _refused(own_model, "model.weights", "fold0.safetensors")
    assert not (tmp_path / "ran").exists()


def _with(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        *way, last = path.split(".")
        for key in way:
            content = content[key]
        content[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_with("version", 2), "model.version"),
        (_with("labels", ["rice", "recurrence"]), "model.content"),
        (_with("channels", ["rd", "rd"]), "model.content"),
        (_with("channels", ["../rd", "event"]), "model.content"),
        (_with("channels", [{}, "event"]), "model.content"),
        (_with("channels", ["event", "rd", "post"]), "model.weights"),
        (_with("name", "<img src=x>"), "model.content"),
        (_with("folds", [0]), "model.folds"),
        (_with("folds", [0, 1, 2]), "model.folds"),
        (_with("folds", [0, True]), "model.content"),
        (_with("network.architecture", "builtins.eval"), "model.content"),
        (_with("network.width", 8), "model.weights"),
        (_with("network.width", 10**9), "model.content"),
        (_with("network.conv1_size", 5), "model.weights"),
        (_with("network.dropout", "0"), "model.content"),
        (_with("network.further", 1), "model.content"),
        (_with("network.pool", "multi"), "model.weights"),
        (_with("network.pool", "builtins.eval"), "model.content"),
        (_with("network.inputs", {"isodoses_gy": [10], "isodose_edge_gy": 2, "difference": False}), "model.weights"),
        (_with("network.inputs", {"isodoses_gy": [0], "isodose_edge_gy": 2, "difference": False}), "model.content"),
        (_with("preprocessing.size", True), "model.content"),
        (_with("preprocessing.size", 10**6), "model.content"),
        (_with("preprocessing.spacing_mm", float("nan")), "model.content"),
        (_with("preprocessing.brain", "/bin/sh"), "model.content"),
        (_with("preprocessing.hdbet2_env", "/tmp/evil"), "model.content"),
        (_with("calibration.slope", None), "model.content"),
        (_with("calibration.draws", [[1.0]]), "model.content"),
        (_with("calibration.draws", []), "model.content"),
        (_with("ranges.brain_ml", [1, 2]), "model.content"),
        (_with("cohort.phantom", "no"), "model.content"),
        (_with("evaluation.auroc", "good"), "model.content"),
        (_with("evaluation.oof_interval", [0.1]), "model.content"),
    ],
)
def test_a_model_json_of_another_kind(own_model: Path, change: Callable[[dict[str, Any]], None], code: str) -> None:
    """The manifest knows it: hashes do not tell who wrote a file."""
    content = json.loads((own_model / "model.json").read_text())
    change(content)
    (own_model / "model.json").write_text(json.dumps(content))
    _write_manifest(own_model)
    _refused(own_model, code, "")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": 1e999}', "[" * 100_000, "\udcff"])
def test_a_model_json_that_is_none(own_model: Path, text: str) -> None:
    (own_model / "model.json").write_text(text, errors="surrogateescape")
    _write_manifest(own_model)
    with pytest.raises(InvalidInput, match=r"model\.json"):
        read_model(own_model)


def test_infinity_is_no_number(own_model: Path) -> None:
    path = own_model / "model.json"
    content = json.loads(path.read_text())
    path.write_text(path.read_text().replace(f'"slope": {content["calibration"]["slope"]}', '"slope": 1e999'))
    _write_manifest(own_model)
    _refused(own_model, "model.content", "calibration")


def test_weights_of_another_type_are_refused(own_model: Path) -> None:
    half = {name: value.half() for name, value in build_network(2, **MODEL).state_dict().items()}
    save_file(half, own_model / "models" / "fold1.safetensors")
    _write_manifest(own_model)
    _refused(own_model, "model.weights", "fold1.safetensors")


def test_no_curve_where_the_answers_allow_none(own_grid: Path, tmp_path: Path) -> None:
    def wrong_way_round(case: ReadyCase) -> float:
        return -logit(case)

    for fold in range(2):
        answer(own_grid / NAME / f"fold{fold}", _folds(own_grid), fold, wrong_way_round)
    _evaluate(own_grid)
    export_model(own_grid, NAME, tmp_path / "model")
    model = read_model(tmp_path / "model").record
    assert model.calibration is None
    assert "no better than chance" in model.calibration_reason
    assert model.evaluation.auroc < metrics.CONFIDENCE / 2


def _folds(run: Path) -> Folds:
    from ricenet.cohort.folds import read_folds

    return read_folds(run.parent / "cases")


def _evaluate(run: Path) -> None:
    write_evaluation(run, _folds(run))


def _write_manifest(folder: Path) -> None:
    names = [line.split("  ")[1] for line in (folder / MANIFEST).read_text().splitlines()]
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / MANIFEST).write_text("".join(lines))


def _refused(folder: Path, code: str, says: str) -> Model | None:
    with pytest.raises(InvalidInput) as caught:
        read_model(folder)
    assert caught.value.code == code, caught.value
    assert says in str(caught.value)
    assert caught.value.hint
    assert str(folder) not in str(caught.value)
    return None
