"""A canary: a marker in every header, path, file name and id of a delivery, and in no file or line of a full run.

The run is the one that docs/your_cohort.md describes: two commands from seven delivered patients, two of them broken,
to trained folds; then evaluation, maps and page; and crashes. Its volumes equal those of the same patients as NIfTI.
"""

import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers import commands
from helpers.analytic_patient import flip_bit, truncate, write_two
from helpers.nifti_twin import write_patient, write_rows
from helpers.phantom_scans import stripped

from ricenet import LABELS
from ricenet.cohort.ready_cases import read_cases
from ricenet.cohort.table import COLUMNS, read_cohort
from ricenet.phantoms.causal_model import draw_cohort
from ricenet.phantoms.hospital import deliver
from ricenet.phantoms.scanner import scan_patient

pytestmark = pytest.mark.extended
MARKER = "Zqxcanary"
PATIENT = f"<img src=x onerror=alert(1)>{MARKER}"  # so begins every patient id
PATIENTS, SEED, SPACING_MM = 7, 8, 4.5
COARSE = ["brain=none", "registration=quick", "spacing_mm=9", "size=24", "folds=2"]
TEXTS = {"LO", "SH", "PN", "ST", "LT", "UT", "AE"}
ROOT = Path(__file__).parents[1]


class World:
    """Everything a run may write to: outputs, home, temporary files, and what it said."""

    def __init__(self, root: Path) -> None:
        self.root, self.said = root, list[str]()
        self.short = Path(tempfile.mkdtemp(prefix="world-"))  # sockets want short paths
        for folder in (root / "outputs", self.short / "home", self.short / "tmp"):
            folder.mkdir()
        folders = {"HOME": "home", "TMPDIR": "tmp", "XDG_CACHE_HOME": "home", "XDG_CONFIG_HOME": "home"}
        self.private = {name: str(self.short / folder) for name, folder in folders.items()}
        self.env = os.environ | self.private

    def run(self, *command: str, expect: int = 0) -> str:
        """A program, started afresh."""
        result = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True, check=False)
        return self.hear(result, expect)

    def stage(self, name: str, *keys: str, expect: int = 0) -> str:
        """A stage, forked from a process whose imports have met this world too."""
        line = [sys.executable, "-m", f"ricenet.{name}", *keys]
        result = commands.run(line, cwd=self.root, env=self.env, private=tuple(self.private.items()))
        return self.hear(result, expect)

    def hear(self, result: subprocess.CompletedProcess[str], expect: int) -> str:
        self.said.append(result.stdout + result.stderr)
        assert result.returncode == expect, f"{result.args}: {result.stderr[-3000:]}"
        return self.said[-1]

    def holds(self, secrets: set[bytes]) -> list[str]:
        """Where one of the words stands."""
        found = [f"{path.name}: {word!r}" for path, content in self.contents() for word in secrets if word in content]
        names = [str(path) for path in self.paths() for word in secrets if word in path.name.encode()]
        said = [f"said {word!r}" for text in self.said for word in secrets if word in text.encode()]
        return found + names + said

    def paths(self) -> list[Path]:
        return [*self.root.rglob("*"), *self.short.rglob("*")]

    def contents(self) -> Iterator[tuple[Path, bytes]]:
        for path in self.paths():
            if path.is_file():
                content = path.read_bytes()
                yield path, content
                if path.suffix == ".gz":
                    yield path, gzip.decompress(content)
                elif zipfile.is_zipfile(io.BytesIO(content)):
                    with zipfile.ZipFile(io.BytesIO(content)) as archive:
                        yield from ((path, archive.read(name)) for name in archive.namelist())


def write_both(home: Path, twin: Path) -> None:
    """The same patients as a marked delivery of DICOM with its label table, and as a cohort of NIfTI."""
    labels, rows = [], []
    for number, draw in enumerate(draw_cohort(PATIENTS, SEED, swap_label_effects=False), start=1):
        scans = stripped(scan_patient(draw.quantities, draw.seed, SPACING_MM))
        delivered = deliver(home / "export", scans, number, draw.seed)
        mine = {"label": LABELS[draw.label], "split": draw.split}
        labels.append({"patient_id": f"{PATIENT}-{delivered.patient_id}", "event_date": delivered.event_date, **mine})
        rows.append(write_patient(twin, number, draw, scans))
    write_rows(home / f"{MARKER} labels.csv", labels[0], labels)
    write_rows(twin / "cohort.csv", COLUMNS, rows)


def mark(delivery: Path) -> set[bytes]:
    """Put the marker into every text of every header, into names and folders; returns the UIDs and dates besides."""
    words = set()
    for path in sorted(path for path in delivery.rglob("*") if path.is_file()):
        dataset = pydicom.dcmread(path)
        dataset.InstitutionName = dataset.StationName = dataset.StudyDescription = dataset.PatientComments = ""
        for element in dataset.iterall():
            if element.VR in TEXTS and element.keyword != "PatientID":
                element.value = f"{element.value} {MARKER}".strip()[: 64 if element.VR != "SH" else 16]
            if element.VR == "UI" and element.keyword not in ("SOPClassUID",):
                words.add(str(element.value).encode())
            if element.VR == "DA":
                words.add(str(element.value).encode())
        dataset.PatientID = f"{PATIENT}-{dataset.PatientID}"
        dataset.save_as(path)
        path.rename(path.with_name(f"{MARKER}-{path.name}.dcm"))
    for folder in sorted((path for path in delivery.rglob("*") if path.is_dir()), reverse=True):
        folder.rename(folder.with_name(f"{MARKER} {folder.name}"))
    return {word for word in words if len(word) >= 8}


def break_two(home: Path) -> None:
    """The first patient loses a slice of the post-OP MRI, the second its planning image."""
    for path in sorted((home / "export").rglob("*.dcm")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        is_slice = "Gd" in header.SeriesDescription and header.get("InstanceNumber") == 9
        is_planning = "planning" in header.SeriesDescription
        if (header.PatientID.endswith("001") and is_slice) or (header.PatientID.endswith("002") and is_planning):
            path.unlink()


@pytest.fixture(scope="module")
def hospital(tmp_path_factory) -> tuple[Path, Path, set[bytes]]:
    home = tmp_path_factory.mktemp("hospital") / MARKER
    twin = tmp_path_factory.mktemp("twin") / "cohort"
    write_both(home, twin)
    secrets = mark(home / "export")
    break_two(home)
    return home, twin, secrets | {MARKER.encode(), MARKER.lower().encode(), b"PHANTOM", b"onerror=alert"}


@pytest.fixture(scope="module")
def world(hospital, tmp_path_factory) -> Iterator[World]:
    """Two commands, as in docs/your_cohort.md; then the rest of the way."""
    home, _, _ = hospital
    world = World(tmp_path_factory.mktemp("world"))
    outputs = world.root / "outputs"
    world.run(
        "make", "-C", str(ROOT), "-o", "install", "cases", f"BIN={Path(sys.executable).parent}",
        f"DELIVERY={home / 'export'}", f"LABELS={home / f'{MARKER} labels.csv'}", f"STUDY={outputs}",
        "INGEST=jobs=2", f"PREPROCESS={' '.join(COARSE)}",
    )  # fmt: skip
    grid = [f"cases={outputs / 'cases'}", f"run={outputs / 'grid'}", "experiment=smoke", "epochs=1", "logger=wandb"]
    world.stage("train", "-m", *grid, "+modalities=rd_event", "fold=0,1")
    world.stage("evaluate", f"run={outputs / 'grid'}", "bootstrap_draws=200")
    world.stage("explain", f"run={outputs / 'grid'}", "case=all", "+modalities=rd_event", "cube_mm=60", "stride_mm=60")
    world.stage("report", f"run={outputs / 'grid'}", f"qc={outputs / 'cases'}")
    predict_two(world, home)
    yield world
    shutil.rmtree(world.short)


def predict_two(world: World, home: Path) -> None:
    """The third patient as a new one, with a map as DICOM; and the first, whose post-OP MRI lacks a slice."""
    outputs = world.root / "outputs"
    world.stage("predict", f"export={outputs / 'model'}", f"run={outputs / 'grid'}", "+modalities=rd_event")
    keys = [f"model={outputs / 'model'}", f"out={outputs / 'predictions'}", "cube_mm=60", "stride_mm=60", "dicom=true"]
    for number, expect in ((3, 0), (1, 3)):
        world.stage("predict", f"patient={folder_of(home / 'export', number)}", *keys, expect=expect)


def folder_of(delivery: Path, number: int) -> Path:
    """The folder of one patient's files."""
    return next(path for path in sorted(delivery.iterdir()) if path.name.endswith(f"{number:03d}"))


def test_a_new_patient_gets_a_prediction_or_its_findings(world):
    out = world.root / "outputs" / "predictions"
    records = [json.loads(path.read_text()) for path in out.glob("*/prediction.json")]
    fit, unfit = sorted(records, key=lambda one: not one["fit"])
    assert 0 < fit["probability"] < 1
    assert [one["code"] for one in unfit["findings"]] == ["series.gap"]
    assert "probability" not in unfit
    answered = out / fit["case_key"]
    assert {path.name for path in answered.iterdir()} == {
        "prediction.json", "page.html", "occlusion.nii.gz", "occlusion.dcm",
    }  # fmt: skip


def test_two_commands_from_a_delivery_to_trained_folds(world):
    ingest = world.said[0]
    assert f"2 of {PATIENTS} cases were refused" in ingest
    assert "[series.gap] case c" in ingest
    assert "[dose.frame] case c" in ingest
    assert len(read_cases(world.root / "outputs" / "cases")) == PATIENTS - 2
    assert len(list((world.root / "outputs" / "grid").glob("rd_event/fold*/DONE"))) == 2


def test_volumes_equal_those_of_the_same_patients_as_nifti(world, hospital, tmp_path):
    _, twin, _ = hospital
    command = [sys.executable, "-m", "ricenet.preprocess", f"cohort={twin}", f"cases={tmp_path / 'cases'}", *COARSE]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    ours, theirs = world.root / "outputs" / "cases", tmp_path / "cases"
    delivered = {case.key: case.row for case in read_cohort(world.root / "outputs" / "cohort")}
    by_row = {case.row: case.key for case in read_cohort(twin)}
    folder = {case.case_key: theirs / case.folder for case in read_cases(theirs)}
    for case in read_cases(ours):
        mine = np.load(ours / case.folder / "volume.npy").astype(np.float32)
        same = np.load(folder[by_row[delivered[case.case_key]]] / "volume.npy").astype(np.float32)
        for channel in range(3):
            assert abs(mine[channel] - same[channel]).max() <= 1e-3 * np.ptp(same[channel])


def test_nothing_of_a_patient_is_in_any_file_or_line(world, hospital):
    _, _, secrets = hospital
    assert len(secrets) > 100
    assert list((world.root / "outputs" / "grid").glob("wandb/**/*.wandb")), "the tracker's file must be searched too"
    assert world.holds(secrets) == []


def test_the_canary_would_be_heard(world, hospital, tmp_path):
    """The search itself: one header in one compressed file is enough."""
    _, _, secrets = hospital
    other = World(tmp_path)
    with gzip.open(other.root / "outputs" / "x.nii.gz", "wb") as stream:
        stream.write(f"descrip {MARKER}".encode())
    assert other.holds(secrets)
    shutil.rmtree(other.short)


def test_a_crash_tells_nothing_either(hospital, tmp_path):
    """Damaged images, a killed run, an exception that nobody foresaw: what is left behind, and what is said."""
    (tmp_path / "world").mkdir()
    world = World(tmp_path / "world")
    fresh = partial(world.run, sys.executable, "-m")  # how Python itself ends is part of it
    cohort = write_two(tmp_path / MARKER)
    truncate(cohort)
    keys = [f"cohort={cohort}", f"cases={world.root / 'outputs' / 'cases'}", *COARSE[:-1], "folds=0", "jobs=1"]
    assert "expected an intact NIfTI" in fresh("ricenet.preprocess", *keys, expect=3)
    flip_bit(cohort)
    fresh("ricenet.verify", f"cohort={cohort}", f"out={world.root / 'outputs' / 'verify'}", expect=3)
    killed = subprocess.Popen(
        [sys.executable, "-m", "ricenet.preprocess", *keys], env=world.env, stderr=subprocess.PIPE, text=True
    )
    time.sleep(4)
    killed.send_signal(signal.SIGKILL)
    world.said.append(killed.communicate()[1])
    (cohort / "cohort.key").unlink()
    (cohort / "cohort.key").mkdir()
    for stage in ("preprocess", "verify"):
        more = keys if stage == "preprocess" else [f"cohort={cohort}", f"out={world.root / 'outputs' / 'v'}"]
        assert "key file of the pseudonyms cannot be read" in fresh(f"ricenet.{stage}", *more, expect=3)
    shutil.rmtree(cohort / "cohort.key")
    blocked = world.root / "outputs" / "blocked"
    (blocked / ".lock").mkdir(parents=True)  # a crash: nobody foresaw a folder of that name
    assert "IsADirectoryError" in fresh("ricenet.preprocess", keys[0], f"cases={blocked}", *keys[2:], expect=1)
    assert world.holds({MARKER.encode(), b"MUSTERMANN"}) == []
    shutil.rmtree(world.short)
