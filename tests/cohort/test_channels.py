"""A fourth channel takes a config file and a column: it is found, checked, brought in place, trained on and shown."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers import commands
from helpers.analytic_patient import (
    EVENT_FROM_POST,
    POST_POSE,
    SETTINGS,
    SIZE,
    brain_of,
    grid,
    one_case,
    points,
    pose,
    save,
)  # fmt: skip

from ricenet import MODALITIES, preprocess, verify
from ricenet.cases.case_folder import folder_name, input_hashes, prepare, write_case_folder
from ricenet.cases.case_reader import load_case
from ricenet.cohort.channels import in_order, read_further
from ricenet.cohort.ready_cases import read_cases
from ricenet.cohort.table import Case, read_cohort
from ricenet.command.schemas import CONF_DIR
from ricenet.errors import WrongUsage
from ricenet.images.volume import Volume, read_volume, resample, write_volume
from ricenet.phantoms.causal_model import modality_sets
from ricenet.training.predictions import read_predictions
from ricenet.training.trained_network import load_network

pytestmark = pytest.mark.usefixtures("kept_registrations")
SET = "rd_post_event_flair"
FLAIR_POSE = pose((5, -3, 8), (14, -7, -11))
FLAIR_FROM_POST = FLAIR_POSE @ np.linalg.inv(POST_POSE)


def write_set(folder: Path, name: str = SET, channels: str = "[post, event, rd, flair]", file: str = "") -> Path:
    """A config folder of the user's with one file of the group."""
    (folder / "modalities").mkdir(parents=True, exist_ok=True)
    (folder / "modalities" / f"{file or name}.yaml").write_text(f"name: {name}\nchannels: {channels}\n")
    return folder


# Names


def test_the_seven_sets_here_know_no_further_channel_and_a_grid_of_all_is_these_seven() -> None:
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    assert read_further([CONF_DIR]) == ()
    with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        choices = GlobalHydra.instance().config_loader().get_group_options("modalities")  # what glob(*) stands for
    assert sorted(choices) == sorted(modality_sets())
    assert len(choices) == 7


def test_further_channels_come_in_the_order_of_their_files_each_once(tmp_path: Path) -> None:
    first = write_set(tmp_path / "a", "b_set", "[flair, post, t2]")
    write_set(first, "a_set", "[rd, swi]")
    second = write_set(tmp_path / "b", "c_set", "[t2, apt_w, event]")
    assert read_further([CONF_DIR, first, second]) == ("swi", "flair", "t2", "apt_w")
    assert read_further([CONF_DIR, tmp_path / "none"]) == ()
    assert in_order(["flair", "rd", "swi", "post", "flair"]) == ["post", "rd", "flair", "swi"]


BAD_NAMES = ("FLAIR", "t2 flair", "2d", "", "flair-2", "planning", "brain_mask", "label", "patient_id", "site",
             "scanner_event", "event_date", "days_since_rt", "dose", "brain", "rd_2", "planning_2",
             2, None, ["flair"])  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=str)
def test_a_name_that_no_image_can_have_is_refused_and_the_known_ones_are_named(tmp_path: Path, name: object) -> None:
    folder = write_set(tmp_path, "my_set", json.dumps(["post", name, "flair"]))
    with pytest.raises(WrongUsage, match=r"modalities/my_set.yaml: .* among post, event, rd, flair, or") as caught:
        read_further([CONF_DIR, folder])
    assert repr(name) in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("text", ["", "name: x\n", "channels: [flair]\n", "- flair\n", "name: x\nchannels: flair\n"])
def test_a_file_that_would_take_a_key_from_the_default_set_is_refused(tmp_path: Path, text: str) -> None:
    folder = write_set(tmp_path, "x")
    (folder / "modalities" / "x.yaml").write_text(text)
    with pytest.raises(WrongUsage, match=r"modalities/x.yaml: expected (the keys name and channels|a list)"):
        read_further([folder])


# Analytic patients: the flair is an inverted contrast in a third frame, on a grid of its own


def flair_of(at: np.ndarray, seed: int) -> np.ndarray:
    image = brain_of(at, seed, 1.0)
    return np.where(image > 0, 900 - image, 0).astype(np.float32)


def add_flair(root: Path, column: str = "flair") -> Path:
    """Give each patient of an analytic cohort a flair.nii.gz, and the table its column."""
    shape, affine = (62, 66, 58), pose((0, 0, 4), (0, 0, 0)) @ grid((62, 66, 58), (3.2, 3, 3.1), axes=(1, -1, 1))
    with (root / "cohort.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for seed, row in enumerate(rows):
        row[column] = f"{row['patient_id']}/flair.nii.gz"
        save(root / row[column], flair_of(points(shape, affine, FLAIR_POSE), seed), affine)
    write_rows(root, rows)
    return root


def write_rows(root: Path, rows: list[dict[str, str]]) -> None:
    with (root / "cohort.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def with_flair(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two analytic patients with a flair each. Read only."""
    return add_flair(shutil.copytree(cohort, tmp_path_factory.mktemp("flair") / "cohort"))


def first_case(root: Path) -> tuple[Case, dict[str, str]]:
    case = read_cohort(root, ["flair"])[0]
    return case, input_hashes(case)


def apart_mm(found: np.ndarray, truth: np.ndarray, world: np.ndarray) -> float:
    """How far two world maps part at the world points (n, 3), on average."""
    return float(np.linalg.norm((world @ (found - truth)[:3, :3].T) + (found - truth)[:3, 3], axis=1).mean())


@pytest.mark.parametrize("reference", ["post", "event"])
def test_a_flair_in_a_frame_of_its_own_lands_where_it_should(with_flair: Path, reference: str) -> None:
    result = prepare(*first_case(with_flair), replace(SETTINGS, reference=reference))
    record = result.record
    assert record.channels == ("post", "event", "rd", "flair")
    reference_from_post = np.eye(4) if reference == "post" else EVENT_FROM_POST
    grid_points = points((SIZE,) * 3, record.affine, np.eye(4))[result.brain]
    truth = FLAIR_FROM_POST @ np.linalg.inv(reference_from_post)
    assert apart_mm(np.array(record.transforms[f"flair_from_{reference}"]), truth, grid_points) < 1
    at = points((SIZE,) * 3, record.affine, reference_from_post @ POST_POSE)
    inner = np.linalg.norm(at / (60, 77, 55), axis=-1) < 0.85
    flair = result.volume[3].astype(np.float32)
    assert np.corrcoef(flair[inner], flair_of(at, 0)[inner])[0, 1] > 0.95
    assert (flair[~result.brain] == 0).all()
    assert abs(flair[result.brain].mean()) < 1e-3
    assert abs(flair[result.brain].std() - 1) < 1e-3
    qc = record.qc
    cosine = (np.trace(FLAIR_FROM_POST[:3, :3]) - 1) / 2
    assert qc["flair_rotation_degrees"] == pytest.approx(np.degrees(np.arccos(cosine)), abs=0.5)
    centre = grid_points.mean(axis=0) if reference == "post" else None
    if centre is not None:
        moved = FLAIR_FROM_POST[:3, :3] @ centre + FLAIR_FROM_POST[:3, 3] - centre
        assert qc["flair_translation_mm"] == pytest.approx(np.linalg.norm(moved), abs=1)
    assert qc["flair_coverage"] == 1
    assert 1.05 < qc["flair_similarity"] < 2


def test_nothing_else_of_the_case_changes(with_flair: Path, cohort: Path) -> None:
    without, (case, inputs) = prepare(*one_case(cohort), SETTINGS), first_case(with_flair)
    result = prepare(case, inputs, SETTINGS)
    assert result.volume[:3].tobytes() == without.volume.tobytes()
    assert result.brain.tobytes() == without.brain.tobytes()
    for key in ("transforms", "qc", "inputs"):
        assert {name: getattr(result.record, key)[name] for name in getattr(without.record, key)} == getattr(
            without.record, key
        )
        assert all(
            name.startswith("flair")
            for name in getattr(result.record, key).keys() - getattr(without.record, key).keys()
        )
    assert folder_name(case, inputs, SETTINGS) != folder_name(*one_case(cohort), SETTINGS)


def test_a_column_that_no_config_names_and_a_name_without_a_column_change_nothing(
    with_flair: Path, cohort: Path
) -> None:
    case, inputs = one_case(with_flair)
    assert inputs == one_case(cohort)[1]
    assert case.extra == {"flair": "MUSTERMANN-1/flair.nii.gz"}
    assert read_cohort(cohort, ["flair", "t2"]) == read_cohort(cohort)
    named = read_cohort(with_flair, ["t2", "flair"])[0]
    assert list(named.images) == ["post", "event", "rd", "flair"]
    assert (named.mri, named.extra) == (["post", "event", "flair"], {})


def test_volumes_are_written_and_read_by_the_channels_names(with_flair: Path, tmp_path: Path) -> None:
    case, inputs = first_case(with_flair)
    result = prepare(case, inputs, SETTINGS)
    write_case_folder(tmp_path, "x", result)
    ready = preprocess.Task(case, inputs, "x").ready
    found = load_case(tmp_path, ready, ["flair", "post"])
    np.testing.assert_array_equal(found, result.volume[[3, 0]].astype(np.float32))


# Commands, without a new process where they stop before any case is done


def stage(module, monkeypatch, capfd, *keys: str) -> tuple[int, str]:
    """Exit code, and all that was said."""
    monkeypatch.setattr(sys, "argv", [module.__name__, *keys])
    with pytest.raises(SystemExit) as stop:
        module.main()
    said = capfd.readouterr()
    return stop.value.code, said.out + said.err


def lose_flair(rows: list[dict[str, str]]) -> None:
    rows[1]["flair"] = ""


def share_flair(rows: list[dict[str, str]]) -> None:
    rows[1]["flair"] = rows[0]["event"]


def repeat_event(rows: list[dict[str, str]]) -> None:
    rows[0]["flair"] = rows[0]["event"]


def leave_folder(rows: list[dict[str, str]]) -> None:
    rows[0]["flair"] = "../../../etc/hostname"


BAD_ROWS = {
    "one case without it": (
        lose_flair,
        "modality.missing] {1}: modality flair is missing although other cases have it",
    ),
    "another patient's": (share_flair, "{1}: its flair image is byte for byte one of another patient's, {0}"),
    "the event MRI twice": (repeat_event, "{0}: its event and flair image are the same file"),
    "a path that leaves the folder": (leave_folder, "path.outside] {0}: the flair path leaves the cohort folder"),
}


@pytest.mark.parametrize("fault", BAD_ROWS)
def test_a_bad_row_stops_preprocess_before_anything_is_written(
    with_flair: Path, tmp_path: Path, monkeypatch, capfd, fault: str
) -> None:
    damage, says = BAD_ROWS[fault]
    own = shutil.copytree(with_flair, tmp_path / "own")
    names = [case.name for case in read_cohort(own)]
    with (own / "cohort.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    damage(rows)
    write_rows(own, rows)
    conf = write_set(tmp_path / "conf")
    keys = [f"--config-dir={conf}", f"cohort={own}", f"cases={tmp_path / 'cases'}", "brain=none", "folds=0"]
    code, said = stage(preprocess, monkeypatch, capfd, *keys)
    assert code == 3
    assert says.format(*names) in said
    assert not (tmp_path / "cases").exists()
    assert "MUSTERMANN" not in said


@pytest.mark.parametrize("module", [preprocess, verify])
def test_a_bad_channel_name_is_wrong_usage(with_flair: Path, tmp_path: Path, monkeypatch, capfd, module) -> None:
    conf = write_set(tmp_path / "conf", channels="[post, event, rd, Flair]")
    where = [f"cases={tmp_path / 'cases'}", "brain=none"] if module is preprocess else [f"out={tmp_path / 'out'}"]
    code, said = stage(module, monkeypatch, capfd, f"--config-dir={conf}", f"cohort={with_flair}", *where)
    assert code == 2
    assert "expected channels among post, event, rd, or another column of cohort.csv" in said
    assert "got 'Flair'" in said
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]


FAULTS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], list[str]]] = {
    "none": (lambda voxels: voxels, []),
    "constant": (np.ones_like, ["image.constant"]),
    "mask": (lambda voxels: (voxels > 0).astype(np.uint8), ["role.looks_like_mask"]),
}


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("fault", FAULTS)
def test_verify_checks_the_image(with_flair: Path, tmp_path: Path, monkeypatch, capfd, fault: str) -> None:
    damage, errors = FAULTS[fault]
    own = shutil.copytree(with_flair, tmp_path / "own")
    path = own / "MUSTERMANN-1" / "flair.nii.gz"
    image = nib.load(path)
    save(path, damage(np.asarray(image.dataobj).copy()), image.affine)
    keys = [f"--config-dir={write_set(tmp_path / 'conf')}", f"cohort={own}", f"out={tmp_path / 'out'}", "flip=false"]
    stage(verify, monkeypatch, capfd, *keys)
    report = json.loads((tmp_path / "out" / "verify.json").read_text())
    found = [one for one in report["findings"] if one["channel"] == "flair"]
    assert [one["code"] for one in found] == errors
    assert len(report["cases"][1]["sha256"]) == 4
    assert ("flair" in report["cases"][0]["facts"]["images"]) == (not errors)


# The whole path on phantoms


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight raw phantoms, each with an inverted copy of its event MRI in a frame and on a grid of its own."""
    root = tmp_path_factory.mktemp("phantom") / "cohort"
    command("phantom", f"out={root}", "format=nifti", "patients=8", "spacing_mm=4", "jobs=2")
    with (root / "cohort.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        number = Path(row["post"]).parent.name
        row["brain_mask"] = f"truth/{number}_brain.nii.gz"
        row["flair"] = f"{number}/flair.nii.gz"
        event = read_volume(root / row["event"])
        flair = as_flair(event, moved(int(number)))
        write_volume(root / row["flair"], flair.voxels.astype(np.int16), flair.world_from_voxel)
    write_rows(root, rows)
    return root


def moved(number: int) -> np.ndarray:
    """The true world map from the event MRI's frame to the flair's, another one for each patient."""
    turn, shift = np.random.default_rng(number).uniform(-1, 1, (2, 3))
    return pose(9 * turn, 14 * shift)


def as_flair(event: Volume, flair_from_event: np.ndarray) -> Volume:
    shape, spacing_mm = (58, 66, 62), (4.0, 4.2, 4.1)
    affine = grid(shape, spacing_mm, axes=(-1, 1, 1))
    middle = event.world_from_voxel @ [*(np.array(event.voxels.shape) - 1) / 2, 1]
    affine[:3, 3] += (flair_from_event @ middle)[:3]
    voxels = resample(event, shape, affine, np.linalg.inv(flair_from_event))
    noise = np.random.default_rng(0).uniform(0, 20, shape)
    return Volume(np.where(voxels > 80, np.maximum(1100 - voxels, 1) + noise, noise).astype(np.float32), affine)


def command(name: str, *keys: str, code: int = 0) -> str:
    line = [sys.executable, "-m", f"ricenet.{name}", *keys]
    result = commands.run(line)
    assert result.returncode == code, f"{name}: {result.stderr[-2000:]}"
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def prepared(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The config folder and the cases folder of the phantoms."""
    conf, cases = write_set(tmp_path_factory.mktemp("conf")), tmp_path_factory.mktemp("work") / "cases"
    coarse = ["brain=mask", "registration=quick", "spacing_mm=4", "size=52", "folds=2", "jobs=2"]
    said = command("preprocess", f"--config-dir={conf}", f"cohort={phantom}", f"cases={cases}", *coarse)
    assert "further channels: flair; not in cohort.csv: none" in said
    return conf, cases


@pytest.mark.slow
def test_phantoms_with_a_fourth_channel_are_clean_and_come_into_one_frame(
    phantom: Path, prepared: tuple[Path, Path], tmp_path: Path
) -> None:
    conf, cases = prepared
    command("verify", f"--config-dir={conf}", f"cohort={phantom}", f"cases={cases}", f"out={tmp_path / 'out'}")
    report = json.loads((tmp_path / "out" / "verify.json").read_text())
    assert [one["code"] for one in report["findings"] if one["severity"] != "info"] == []
    with (cases / "qc.csv").open() as stream:
        assert {"flair_rotation_degrees", "flair_translation_mm", "flair_coverage"} <= set(next(csv.reader(stream)))
    by_key = {case.key: case for case in read_cohort(phantom)}
    for ready in read_cases(cases):
        number = by_key[ready.case_key].images["post"].parent.name
        truth = json.loads((phantom / "truth" / f"{number}.json").read_text())
        record = json.loads((cases / ready.folder / "case.json").read_text())
        brain = np.load(cases / ready.folder / "brain.npy")
        world = points(brain.shape, np.array(record["world_from_voxel"]), np.eye(4))[brain]
        flair_from_post = moved(int(number)) @ np.array(truth["event_from_post"])
        assert apart_mm(np.array(record["transforms"]["flair_from_post"]), flair_from_post, world) < 1
        event, flair = load_case(cases, ready, ["event", "flair"])[:, brain]
        assert np.corrcoef(event, flair)[0, 1] < -0.8


@pytest.mark.slow
def test_a_network_is_trained_on_it_and_every_later_stage_shows_it(prepared: tuple[Path, Path], tmp_path: Path) -> None:
    conf, cases = prepared
    run = tmp_path / "outputs" / "grid"
    keys = [f"--config-dir={conf}", f"cases={cases}", f"run={run}", "experiment=smoke"]
    command("train", "-m", *keys, f"+modalities={SET},rd_post_event", "fold=0,1")
    folder = run / SET / "fold0"
    assert json.loads((folder / "run.json").read_text())["modalities"]["channels"] == [*MODALITIES, "flair"]
    network, by_key = load_network(folder), {case.case_key: case for case in read_cases(cases)}
    for row in read_predictions(folder):
        volume = torch.from_numpy(load_case(cases, by_key[row["case_key"]], [*MODALITIES, "flair"]))
        blank = torch.cat([volume[:3], 0 * volume[3:]])
        with torch.inference_mode():
            logits, without = network(torch.stack([volume, blank]))
        assert logits[1].item() == pytest.approx(row["logit_rice"], abs=1e-4)
        assert abs(without - logits).max() > 1e-3, "the network does not look at the fourth channel"
    pair = f"{SET} - rd_post_event"
    command("evaluate", f"run={run}", "bootstrap_draws=200", f"contrasts=[{pair}]")
    summary = json.loads((run / "evaluation" / "summary.json").read_text())
    assert list(summary["sets"]) == ["rd_post_event", SET]
    assert list(summary["contrasts"]) == [pair]
    maps = ["case=test", f"+modalities={SET}", "cube_mm=40", "stride_mm=40", "per_channel=true"]
    command("explain", f"--config-dir={conf}", f"run={run}", *maps)
    (path, *_) = (run / "explanation" / SET).glob("*/occlusion.json")
    assert list(json.loads(path.read_text())["channel_share"]) == [*MODALITIES, "flair"]
    command("report", f"run={run}", f"qc={cases}")
    page = (run / "report.html").read_text()
    assert "dose + post-OP MRI + event MRI + flair" in page
    assert "flair rotation degrees" in page


@pytest.mark.slow
def test_a_typo_in_training_names_the_channels_that_the_cases_have(prepared: tuple[Path, Path], tmp_path: Path) -> None:
    _, cases = prepared
    conf = write_set(tmp_path / "conf", channels="[post, event, rd, flar]")
    keys = [f"--config-dir={conf}", f"cases={cases}", f"run={tmp_path / 'run'}", "experiment=smoke"]
    assert "has no channel flar, only post, event, rd, flair" in command("train", *keys, f"+modalities={SET}", code=3)
    assert "Could not find 'modalities/rd_flar'" in command("train", *keys, "+modalities=rd_flar", code=2)
