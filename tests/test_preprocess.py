import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from analytic_patient import (
    EVENT_FROM_POST,
    HALF_AXES_MM,
    POST_POSE,
    SIZE,
    SPACING_MM,
    brain_of,
    dose_of,
    edit,
    put,
    rewrite,
    save,
    true_points,
    truncate,
    write_table,
)  # fmt: skip
from scipy.spatial.transform import Rotation

from ricenet import MODALITIES, preprocess
from ricenet.cohort import read_cases, read_cohort
from ricenet.folds import read_folds

KEYS = [f"spacing_mm={SPACING_MM}", f"size={SIZE}", "brain=none", "registration=quick"]


def run(cohort: Path, cases: Path, *keys: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "ricenet.preprocess", f"cohort={cohort}", f"cases={cases}", *KEYS, *keys]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def run_here(monkeypatch, capfd, cohort: Path, cases: Path, *keys: str) -> tuple[int, str]:
    """The same without a new process: exit code and stderr, for what stops before any case is done."""
    monkeypatch.setattr(sys, "argv", ["preprocess", f"cohort={cohort}", f"cases={cases}", *KEYS, *keys])
    with pytest.raises(SystemExit) as stop:
        preprocess.main()
    return stop.value.code, capfd.readouterr().err


@pytest.fixture(scope="module")
def done(cohort, tmp_path_factory):
    output = tmp_path_factory.mktemp("work") / "cases"
    return output, run(cohort, output, "jobs=1", "folds=0")


def test_a_cohort_of_two_becomes_two_case_folders(cohort, done):
    output, result = done
    assert result.returncode == 0, result.stderr
    ready = read_cases(output)
    assert [(case.label, case.split) for case in sorted(ready, key=lambda case: case.label)] == [(0, "test"), (1, "cv")]
    names = {case.folder for case in ready}
    assert {path.name for path in output.iterdir()} == {*names, ".lock", "cases.csv", "qc.csv", "timings.csv"}
    for case in ready:
        folder = output / case.folder
        assert {path.name for path in folder.iterdir()} == {"volume.npy", "brain.npy", "case.json", "qc.png"}
        assert (folder / "qc.png").read_bytes().startswith(b"\x89PNG")
        record = json.loads((folder / "case.json").read_text())
        assert record["case_key"] == case.case_key
        assert record["channels"] == list(MODALITIES)
        assert record["spacing_mm"] == SPACING_MM
        assert record["dose_scale_gy"] == 60
        assert set(record["inputs"]) == set(MODALITIES)
    assert not (output / "folds.json").exists()


def test_case_holds_what_the_analytic_patient_says(done):
    output, _ = done
    (case,) = (case for case in read_cases(output) if case.label == 1)
    folder = output / case.folder
    volume, brain = np.load(folder / "volume.npy", mmap_mode="r"), np.load(folder / "brain.npy")
    record = json.loads((folder / "case.json").read_text())
    assert (volume.dtype, volume.shape, brain.dtype) == (np.float16, (3, SIZE, SIZE, SIZE), bool)
    at = true_points(record)
    truth = np.linalg.norm(at / HALF_AXES_MM, axis=-1) < 1
    assert 2 * (brain & truth).sum() / (brain.sum() + truth.sum()) > 0.97
    for channel, contrast in ((0, 1.0), (1, 1.3)):
        image = volume[channel].astype(np.float32)
        assert (image[~brain] == 0).all()
        assert abs(image[brain].mean()) < 1e-3
        assert abs(image[brain].std() - 1) < 1e-3
        inner = np.linalg.norm(at / HALF_AXES_MM, axis=-1) < 0.85
        assert np.corrcoef(image[inner], brain_of(at, 0, contrast)[inner])[0, 1] > 0.95
    dose_gy = volume[2].astype(np.float32) * record["dose_scale_gy"]
    assert abs(dose_gy - dose_of(at))[brain].mean() < 0.3
    assert abs(dose_gy - dose_of(at))[brain].max() < 2.5
    found = np.array(record["transforms"]["event_from_post"])
    world = np.c_[at[truth], np.ones(truth.sum())] @ POST_POSE.T
    apart = np.linalg.norm((world @ found.T - world @ EVENT_FROM_POST.T)[:, :3], axis=1)
    assert apart.mean() < 0.5
    assert np.linalg.norm((world - world @ EVENT_FROM_POST.T)[:, :3], axis=1).mean() > 10


def test_tables(done):
    output, _ = done
    with (output / "qc.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case_key"] for row in rows] == sorted(case.case_key for case in read_cases(output))
    truth = Rotation.from_matrix(EVENT_FROM_POST[:3, :3]).magnitude() * 180 / np.pi
    for row in rows:
        assert float(row["rotation_degrees"]) == pytest.approx(truth, abs=1)
        assert float(row["brain_ml"]) == pytest.approx(1064, rel=0.03)
        assert float(row["dose_max_gy"]) == pytest.approx(61.5, abs=0.5)
        assert float(row["dose_coverage"]) == 1
        assert 1 < float(row["similarity"]) <= 2
    with (output / "timings.csv").open() as stream:
        assert all(float(row["register"]) > 0 for row in csv.DictReader(stream))


def test_no_patient_id_and_no_path_leaves_the_cohort(cohort, done):
    output, result = done
    written = [path.read_bytes() for path in output.rglob("*") if path.is_file()]
    for secret in ("MUSTERMANN", cohort.name):
        assert all(secret.encode() not in content for content in written)
        assert secret not in result.stdout + result.stderr


@pytest.mark.slow
def test_finished_cases_are_reused_and_another_run_gives_the_same_bytes(cohort, done, tmp_path):
    output, _ = done
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.npy")}
    again = run(cohort, output, "jobs=2", "folds=0")
    assert again.returncode == 0
    assert "0 to do, 2 finished before" in again.stdout + again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*.npy")}
    (output / sorted(read_cases(output), key=str)[0].folder / "case.json").rename(tmp_path / "case.json")
    assert run(cohort, output, "jobs=2", "folds=0").returncode == 0  # unfinished: done again
    assert run(cohort, tmp_path / "other", "jobs=2", "folds=0").returncode == 0
    names = sorted(
        str(path.relative_to(output)) for path in output.rglob("*") if path.is_file() and path.name != "timings.csv"
    )
    assert len(names) == 2 * 4 + 3
    for name in names:
        assert (output / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


BAD_TABLES = {
    "missing file": (edit(0, event="MUSTERMANN-1/absent.nii.gz"), "event file does not exist"),
    "label typo": (edit(0, label="rcie"), "label should be recurrence or rice, got 'rcie'"),
    "split typo": (edit(0, split="train"), "split should be cv or test"),
    "duplicate patient": (edit(1, patient_id="MUSTERMANN-1"), "patient.duplicate"),
    "path leaves the folder": (edit(0, post="../../../etc/hostname"), "leaves the cohort folder"),
    "dose unit": (edit(1, dose_unit="cGy"), "dose_unit should be Gy, got 'cGy'"),
    "missing modality": (edit(1, rd=""), "modality rd is missing"),
    "empty post": (edit(1, post=""), "no post image"),
    "one class only": (edit(1, label="rice", split="cv"), "0 recurrence patient"),
    "same scan under two patients": (edit(1, event="MUSTERMANN-1/event.nii.gz"), "byte for byte"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_table_stops_before_anything_is_written(own, tmp_path, monkeypatch, capfd, name):
    damage, says = BAD_TABLES[name]
    damage(own)
    folds = "folds=2" if name == "one class only" else "folds=0"
    code, stderr = run_here(monkeypatch, capfd, own, tmp_path / "cases", folds)
    assert code == 3
    assert says in stderr
    assert "MUSTERMANN" not in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "cases").exists()


def test_exit_code_of_the_command_itself(own, tmp_path):
    edit(0, label="rcie")(own)
    result = run(own, tmp_path / "cases")
    assert result.returncode == 3
    assert "got 'rcie'" in result.stderr
    result = run(own, tmp_path / "cases", "colour=red")
    assert result.returncode == 2
    assert "colour" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "says"), [(truncate, "event image"), (rewrite("rd", lambda dose: dose * 100), "divide it by 100")]
)
def test_an_invalid_case_is_listed_the_others_finish_exit_3(own, tmp_path, damage, says):
    damage(own)
    result = run(own, tmp_path / "cases", "folds=0", "jobs=1")
    bad, good = sorted(read_cohort(own), key=lambda case: case.row)
    assert result.returncode == 3
    assert says in result.stderr
    assert bad.name in result.stderr
    assert good.name not in result.stderr
    (folder,) = (tmp_path / "cases").glob("[!.]*")
    assert folder.name.startswith(good.key)
    assert (folder / "case.json").is_file()


def test_nothing_stays_where_no_case_could_be_used(own, tmp_path):
    truncate(own)
    rows = [row for row in csv.DictReader((own / "cohort.csv").open()) if row["patient_id"] == "MUSTERMANN-1"]
    write_table(own, rows)
    assert run(own, tmp_path / "cases", "folds=0").returncode == 3
    assert not (tmp_path / "cases").exists()


def workers(parent: int) -> list[int]:
    """Case processes: children of the fork server, which is the child of `parent` that says so in its command line."""
    servers = [pid for pid in children(parent) if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return [pid for server in servers for pid in children(server)]


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def start(cohort: Path, cases: Path) -> tuple[subprocess.Popen, int]:
    command = [
        sys.executable,
        "-m",
        "ricenet.preprocess",
        f"cohort={cohort}",
        f"cases={cases}",
        *KEYS,
        "jobs=1",
        "folds=0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (found := workers(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process, found[0]


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds worker processes through /proc")


@needs_proc
@pytest.mark.slow
def test_a_killed_worker_is_listed_the_others_finish_exit_4(cohort, tmp_path):
    process, worker = start(cohort, tmp_path / "cases")
    os.kill(worker, signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 4
    assert "1 of 2 cases failed" in stderr
    assert "killed by signal 9" in stderr
    assert len(list((tmp_path / "cases").glob("*/case.json"))) == 1
    assert not (tmp_path / "cases" / "cases.csv").exists()


@needs_proc
@pytest.mark.slow
def test_sigterm_ends_the_workers_and_leaves_nothing_half_done(cohort, tmp_path):
    process, worker = start(cohort, tmp_path / "cases")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert not Path(f"/proc/{worker}").exists()
    assert not list((tmp_path / "cases").glob(".partial-*"))


@needs_proc
@pytest.mark.slow
def test_two_runs_do_not_write_into_one_folder(cohort, tmp_path):
    process, _ = start(cohort, tmp_path / "cases")
    second = run(cohort, tmp_path / "cases", "folds=0")
    assert second.returncode == 3
    assert "another preprocess run" in second.stderr
    process.communicate(timeout=120)
    assert process.returncode == 0


@pytest.mark.slow
def test_folds_are_dealt_when_all_cases_are_done(done, cohort, tmp_path):
    """Four patients, two of each class: copies of the two that are there, each with a byte of its own."""
    root = shutil.copytree(cohort, tmp_path / "four")
    with (root / "cohort.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["split"] = "cv"
    for row in list(rows):
        twin = {**row, "patient_id": row["patient_id"] + "-twin"}
        for role in ("post", "event"):
            image = nib.load(root / row[role])
            twin[role] = row[role].replace(role, f"twin-{role}")
            save(root / twin[role], put(401.0)(np.asarray(image.dataobj).copy()), image.affine)
        rows.append(twin)
    write_table(root, rows)
    assert run(root, tmp_path / "cases", "folds=2", "jobs=2").returncode == 0
    folds = read_folds(tmp_path / "cases")
    assert folds.n_folds == 2
    assert [sorted(case.label for case in folds.validation(fold)) for fold in range(2)] == [[0, 1], [0, 1]]


WRONG_VALUES = (
    "brain=hdbet2", "reference=rd", "brain_on=both", "registration=affine", "dose_scaling=max", "device=tpu", "jobs=0",
    "hdbet_models=3", "spacing_mm=0", "folds=-1",
)  # fmt: skip


@pytest.mark.parametrize("override", WRONG_VALUES)
def test_wrong_values_are_a_usage_error(cohort, tmp_path, monkeypatch, capfd, override):
    code, stderr = run_here(monkeypatch, capfd, cohort, tmp_path / "cases", override)
    assert code == 2
    assert override.split("=")[0] in stderr
    assert not (tmp_path / "cases").exists()
