import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers import commands
from helpers import rt_records as rt
from helpers.analytic_patient import (
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
    write_patient,
    write_table,
)  # fmt: skip
from helpers.html_page import Page
from scipy.spatial.transform import Rotation

from ricenet import MODALITIES, preprocess
from ricenet.cohort.covariates import excluded
from ricenet.cohort.folds import read_folds
from ricenet.cohort.ready_cases import read_cases
from ricenet.cohort.table import read_cohort

KEYS = ["spacing_mm=6", "size=28", "brain=none", "registration=quick"]
FINE = [f"spacing_mm={SPACING_MM}", f"size={SIZE}"]  # where the volumes are looked at


def command(cohort: Path, cases: Path, *keys: str) -> list[str]:
    return [sys.executable, "-m", "ricenet.preprocess", f"cohort={cohort}", f"cases={cases}", *KEYS, *keys]


def run(cohort: Path, cases: Path, *keys: str) -> subprocess.CompletedProcess:
    return commands.run(command(cohort, cases, *keys))


def run_here(monkeypatch, capfd, cohort: Path, cases: Path, *keys: str) -> tuple[int, str]:
    """The same without a new process: exit code and stderr, for what stops before any case is done."""
    monkeypatch.setattr(sys, "argv", ["preprocess", f"cohort={cohort}", f"cases={cases}", *KEYS, *keys])
    with pytest.raises(SystemExit) as stop:
        preprocess.main()
    return stop.value.code, capfd.readouterr().err


@pytest.fixture(scope="module")
def done(cohort, tmp_path_factory):
    output = tmp_path_factory.mktemp("work") / "cases"
    return output, run(cohort, output, "jobs=1", "folds=0", *FINE)


def test_a_cohort_of_two_becomes_two_case_folders(cohort, done):
    output, result = done
    assert result.returncode == 0, result.stderr
    ready = read_cases(output)
    assert [(case.label, case.split) for case in sorted(ready, key=lambda case: case.label)] == [(0, "test"), (1, "cv")]
    names = {case.folder for case in ready}
    tables = {"cases.csv", "covariates.csv", "excluded.csv", "numbers.csv", "numbers_random.csv"}
    tables |= {"qc.csv", "qc.html", "timings.csv"}
    assert {path.name for path in output.iterdir()} == {*names, ".lock", *tables}
    for case in ready:
        folder = output / case.folder
        records = {"case.json", "checks.json", "numbers.json"}
        assert {path.name for path in folder.iterdir()} == {"volume.npy", "brain.npy", "qc.png", *records}
        assert (folder / "qc.png").read_bytes().startswith(b"\x89PNG")
        record = json.loads((folder / "case.json").read_text())
        assert record["case_key"] == case.case_key
        assert record["channels"] == list(MODALITIES)
        assert record["spacing_mm"] == SPACING_MM
        assert record["dose_scale_gy"] == 60
        assert set(record["inputs"]) == set(MODALITIES)
    assert not (output / "folds.json").exists()
    told = result.stdout.splitlines()[-1]
    assert re.search(
        r"done: cases\.csv, qc\.csv and no folds\.json \(folds=0\); look at every case in qc\.html \(0\.\d MB", told
    )
    assert len(Page(output / "qc.html").all("img")) == 2


def test_case_holds_what_the_analytic_patient_says(done):
    output, _ = done
    (case,) = (case for case in read_cases(output) if case.label == 1)
    folder = output / case.folder
    volume, brain = np.load(folder / "volume.npy", mmap_mode="r"), np.load(folder / "brain.npy")
    record = json.loads((folder / "case.json").read_text())
    assert (volume.dtype, volume.shape, brain.dtype) == (np.float16, (3, SIZE, SIZE, SIZE), bool)
    at = true_points(np.array(record["world_from_voxel"]))
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
def test_finished_cases_of_an_older_version_get_their_numbers_and_nothing_else(cohort, done, tmp_path):
    output = shutil.copytree(done[0], tmp_path / "cases")
    written = {path: path.read_bytes() for path in output.rglob("numbers*") if path.is_file()}
    assert len(written) == 2 + 2
    others = {path: path.stat().st_mtime_ns for path in output.glob("*/*") if path not in written}
    for path in written:
        path.unlink()
    again = run(cohort, output, "jobs=2", "folds=0", *FINE)
    assert again.returncode == 0
    assert "numbers of finished cases to compute: 2" in again.stdout + again.stderr
    assert written == {path: path.read_bytes() for path in written}
    assert others == {path: path.stat().st_mtime_ns for path in others}


@pytest.mark.slow
def test_finished_cases_are_reused_and_another_run_gives_the_same_bytes(cohort, done, tmp_path):
    output, _ = done
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.npy")}
    (output / "qc.html").unlink()
    again = run(cohort, output, "jobs=2", "folds=0", *FINE)
    assert again.returncode == 0
    assert "0 to do, 2 finished before" in again.stdout + again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*.npy")}
    (output / sorted(read_cases(output), key=str)[0].folder / "case.json").rename(tmp_path / "case.json")
    assert run(cohort, output, "jobs=2", "folds=0", *FINE).returncode == 0  # unfinished: done again
    assert run(cohort, tmp_path / "other", "jobs=2", "folds=0", *FINE).returncode == 0
    names = sorted(
        str(path.relative_to(output)) for path in output.rglob("*") if path.is_file() and path.name != "timings.csv"
    )
    assert len(names) == 2 * 6 + 8
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
    "empty post": (edit(1, post=""), "modality post is missing"),
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
    output = tmp_path / "cases"
    (record,) = output.glob("*/case.json")
    assert record.parent.name.startswith(good.key)
    (row,) = read_rows(output / "failed.csv")
    assert (row["case_key"], row["row"], row["kind"]) == (bad.key, str(bad.row), "invalid")
    assert row["code"]
    assert says in row["message"]
    assert "MUSTERMANN" not in (output / "failed.csv").read_text()
    assert not (output / "cases.csv").exists()
    assert [row["case_key"] for row in read_rows(output / "qc.csv")] == [good.key]
    assert "finished cases: 1 (qc.csv); look at every case in qc.html" in result.stdout
    page = Page(output / "qc.html")
    assert f"Case {good.key}" in page.words["pictures"]
    assert f"{bad.key} {bad.row} invalid {row['message']}" in page.words["left-out"]
    assert "Not in cases.csv, which training reads: 1 of the 1 cases." in page.words["summary"]
    assert "MUSTERMANN" not in page.source


def test_a_page_that_cannot_be_written_loses_no_case(done, cohort, tmp_path):
    output = shutil.copytree(done[0], tmp_path / "cases")
    (output / "qc.html").unlink()
    (output / "qc.html" / "in-the-way").mkdir(parents=True)
    result = run(cohort, output, "folds=0", *FINE)
    assert result.returncode == 0
    assert "qc.html could not be written: IsADirectoryError" in result.stdout
    assert "ricenet.report qc=DIR" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("no folds.json (folds=0); no qc.html")
    assert len(read_cases(output)) == 2


def test_what_ingest_did_with_the_doses_follows_ingest_json_without_doing_a_case_again(done, own, tmp_path):
    output = shutil.copytree(done[0], tmp_path / "cases")
    keys = [case.key for case in read_cohort(own)]
    rt.write_record(own, keys[0])
    (own / keys[1]).mkdir()
    (own / keys[1] / "ingest.json").write_text("{}")
    result = run(own, output, "folds=0", *FINE)
    assert result.returncode == 0
    assert "0 to do, 2 finished before" in result.stdout
    assert "what was done with its doses is not known: ingest.json cannot be read" in result.stdout
    (row,) = read_rows(output / "doses.csv")
    assert (row["case_key"], rt.USED in row["used"], rt.LEFT_OUT in row["left_out"]) == (keys[0], True, True)
    told = Page(output / "qc.html").words["pictures"]
    assert f"Left out : {rt.LEFT_OUT}: left out by its date; {rt.UNREADABLE}: DoseUnits is RELATIVE" in told
    for key in keys:
        (own / key / "ingest.json").unlink()
    assert run(own, output, "folds=0", *FINE).returncode == 0
    assert not (output / "doses.csv").exists()
    assert "Doses used" not in (output / "qc.html").read_text()


@pytest.mark.slow
def test_a_failed_case_is_left_out_by_name_or_for_a_reason(own, tmp_path):
    truncate(own)
    add_columns(own, site=["SECRET South", "SECRET North"], days_since_rt=["90", "200"])
    bad, good = sorted(read_cohort(own), key=lambda case: case.row)
    result = run(own, tmp_path / "cases", "folds=0", "skip_failed=true")
    assert result.returncode == 4
    what_is_known = (tmp_path / "cases" / "covariates.csv").read_text()
    assert what_is_known == f"case_key,site,prescription_gy,fractions,days_since_rt\n{good.key},B,60,30,200\n"
    assert "not in this cohort: scanner_post, scanner_event, label_source, age_years" in result.stdout
    assert "SECRET" not in result.stdout + result.stderr
    (code,) = [row["code"] for row in read_rows(tmp_path / "cases" / "failed.csv")]
    assert excluded(tmp_path / "cases") == {f"preprocess: {code}": 1}
    assert f"skip_failed: cases left out: 1 ({bad.key})" in result.stdout
    assert "1 of 2 cases failed" in result.stderr
    assert [case.case_key for case in read_cases(tmp_path / "cases")] == [good.key]
    assert [row["case_key"] for row in read_rows(tmp_path / "cases" / "failed.csv")] == [bad.key]
    left_out = Page(tmp_path / "cases" / "qc.html").words["left-out"]
    assert f"{bad.key} {bad.row} invalid" in left_out
    assert f"preprocess: {code} 1" in left_out
    exclude(own, bad.row, "event file is damaged")
    result = run(own, tmp_path / "cases", "folds=0")
    assert result.returncode == 0
    assert "0 to do, 1 finished before" in result.stdout
    assert not (tmp_path / "cases" / "failed.csv").exists()
    assert excluded(tmp_path / "cases") == {"in words (see cohort.csv)": 1}
    assert (tmp_path / "cases" / "covariates.csv").read_text() == what_is_known.replace(",B,", ",A,")
    assert [row["case_key"] for row in read_rows(tmp_path / "cases" / "timings.csv")] == [good.key]


def add_columns(root: Path, **columns: list[str]) -> None:
    rows = read_rows(root / "cohort.csv")
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    with (root / "cohort.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def exclude(root: Path, number: int, reason: str) -> None:
    lines = (root / "cohort.csv").read_text().splitlines()
    rows = [line + ("," + (reason if row == number else "")) for row, line in enumerate(lines[1:], start=2)]
    (root / "cohort.csv").write_text("\n".join([lines[0] + ",excluded_because", *rows]) + "\n")


def read_rows(table: Path) -> list[dict[str, str]]:
    with table.open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_a_second_run_does_what_changed_and_prune_removes_what_it_replaced(own, tmp_path):
    output = tmp_path / "cases"
    assert run(own, output, "folds=0", "jobs=2").returncode == 0
    first = {path.name for path in output.iterdir()}
    cases = (output / "cases.csv").read_bytes()
    same = ("jobs=1", "limit_minutes=30", "memory_gb=5", "hdbet_models=5", "device=cpu", "covariates=[fractions]")
    again = run(own, output, "folds=0", *same)
    assert "0 to do, 2 finished before" in again.stdout
    assert {path.name for path in output.iterdir()} == first
    assert (output / "cases.csv").read_bytes() == cases
    assert (output / "covariates.csv").read_text().startswith("case_key,fractions\n")
    rewrite("event", put(401.0))(own)  # one voxel of one image of one patient
    changed = run(own, output, "folds=0")
    assert "1 to do, 1 finished before" in changed.stdout
    assert "case folders that are no longer in cases.csv: 1; prune=true removes them" in changed.stdout
    (new,) = {path.name for path in output.iterdir()} - first
    assert new.startswith(min(read_cohort(own), key=lambda case: case.row).key)
    (output / "notes").mkdir()
    named = {case.folder for case in read_cases(output)}
    assert "prune: superseded case folders removed: 1" in run(own, output, "folds=0", "prune=true").stdout
    assert {path.name for path in output.iterdir() if path.is_dir()} == {*named, "notes"}
    assert all((output / name / "volume.npy").is_file() for name in named)
    assert "2 to do, 0 finished before" in run(own, output, "folds=0", "seed=1").stdout


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


def start(cohort: Path, cases: Path, *keys: str) -> tuple[commands.Started, int]:
    """A run with one worker at a time, when the first one is there."""
    process = commands.start(command(cohort, cases, "jobs=1", "folds=0", *keys))
    deadline = time.monotonic() + 60
    while not (found := workers(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process, found[0]


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds worker processes through /proc")


@pytest.fixture(scope="module")
def six(tmp_path_factory) -> Path:
    """Six analytic patients, three of each class, all in cv."""
    root = tmp_path_factory.mktemp("six")
    labels = ("rice", "recurrence")
    return write_table(root, [write_patient(root, f"P{n}", n, label=labels[n % 2]) for n in range(6)])


@needs_proc
@pytest.mark.extended
def test_a_worker_killed_in_case_3_of_6_is_named_and_the_others_finish_exit_4(six, tmp_path):
    process, worker = start(six, tmp_path / "cases")
    seen = {worker}
    while len(seen) < 3:
        seen |= (new := set(workers(process.pid)) - seen)
        time.sleep(0.02)
    os.kill(new.pop(), signal.SIGKILL)
    stdout, stderr = (stream.decode() for stream in process.streams(timeout=300))
    third = sorted(read_cohort(six), key=lambda case: case.row)[2]
    assert process.wait() == 4
    assert "1 of 6 cases failed" in stderr
    assert f"{third.name}: its process was killed by signal 9" in stderr
    assert re.search(rf"3 of 6: case {third.key} failed after \d+ s, about 0:\d\d:\d\d left", stdout)
    assert len(list((tmp_path / "cases").glob("*/case.json"))) == 5
    assert not list((tmp_path / "cases").glob(f"{third.key}*"))
    (row,) = read_rows(tmp_path / "cases" / "failed.csv")
    assert (row["case_key"], row["row"], row["kind"], row["code"]) == (third.key, "4", "failed", "worker.killed")
    assert not (tmp_path / "cases" / "cases.csv").exists()


@needs_proc
@pytest.mark.extended
def test_a_hanging_case_is_ended_by_its_time_limit(cohort, tmp_path):
    process, worker = start(cohort, tmp_path / "cases", "limit_minutes=0.15")
    os.kill(worker, signal.SIGSTOP)
    stderr = process.streams(timeout=120)[1].decode()
    first, _ = sorted(read_cohort(cohort), key=lambda case: case.row)
    assert process.wait() == 4
    assert f"{first.name}: its process was ended after limit_minutes=0.15" in stderr
    assert len(list((tmp_path / "cases").glob("*/case.json"))) == 1
    assert not Path(f"/proc/{worker}").exists()


def tree(output: Path) -> dict[str, bytes]:
    """Every file but timings.csv, on which no two runs agree."""
    files = {str(path.relative_to(output)): path for path in output.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "timings.csv"}


@needs_proc
@pytest.mark.extended
def test_kills_at_random_moments_leave_the_tree_of_an_undisturbed_run(six, tmp_path, monkeypatch):
    four, output = shutil.copytree(six, tmp_path / "four"), tmp_path / "cases"
    write_table(four, read_rows(four / "cohort.csv")[:4])
    temporary = Path(tempfile.mkdtemp(prefix="kills-"))  # sockets want short paths
    monkeypatch.setenv("TMPDIR", str(temporary))
    began = time.monotonic()
    assert run(four, tmp_path / "undisturbed", "folds=2", "jobs=2").returncode == 0
    duration, truth = time.monotonic() - began, tree(tmp_path / "undisturbed")
    rng, kills = np.random.default_rng(7), 0
    while kills < 14:
        process = commands.start(command(four, output, "folds=2", "jobs=2"))
        try:
            process.wait(timeout=rng.uniform(0, duration))
        except subprocess.TimeoutExpired:
            # The whole group with the fork server, or the parent alone.
            (os.killpg if rng.random() < 0.5 else os.kill)(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            for record in output.glob("[!.]*/case.json"):  # of what is finished
                folder = record.parent.name
                held = {f"{folder}/{path.name}": path.read_bytes() for path in record.parent.iterdir()}
                assert held == {name: content for name, content in truth.items() if name.startswith(f"{folder}/")}
        else:  # this time it came to its end
            assert process.wait() == 0
            assert tree(output) == truth
            shutil.rmtree(output)
    assert run(four, output, "folds=2", "jobs=2").returncode == 0
    assert tree(output) == truth
    assert [path.name for path in output.glob(".*")] == [".lock"]
    assert not list(temporary.glob("ricenet-*"))
    shutil.rmtree(temporary)


@needs_proc
@pytest.mark.extended
def test_sigterm_ends_the_workers_and_leaves_nothing_half_done(cohort, tmp_path):
    process, worker = start(cohort, tmp_path / "cases")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert not Path(f"/proc/{worker}").exists()
    assert not list((tmp_path / "cases").glob(".partial-*"))


@needs_proc
@pytest.mark.extended
def test_two_runs_do_not_write_into_one_folder(cohort, tmp_path):
    process, _ = start(cohort, tmp_path / "cases")
    second = run(cohort, tmp_path / "cases", "folds=0")
    assert second.returncode == 3
    assert "another run is writing to this folder" in second.stderr
    assert process.wait(timeout=120) == 0


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
    "likeness=ignore",
    "hdbet_models=3", "spacing_mm=0", "folds=-1", "limit_minutes=0", "memory_gb=0.5", "covariates=[site,patient_id]",
)  # fmt: skip


@pytest.mark.parametrize("override", WRONG_VALUES)
def test_wrong_values_are_a_usage_error(cohort, tmp_path, monkeypatch, capfd, override):
    code, stderr = run_here(monkeypatch, capfd, cohort, tmp_path / "cases", override)
    assert code == 2
    assert override.split("=")[0] in stderr
    assert not (tmp_path / "cases").exists()
