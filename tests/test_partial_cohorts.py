"""Event-only and partial deliveries by the commands: ingest -> verify -> preprocess, with what is missing said."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import commands

from ricenet.cases.case_reader import load_cases
from ricenet.cohort.covariates import read_covariates
from ricenet.cohort.ready_cases import read_cases
from ricenet.cohort.table import read_cohort

pytestmark = pytest.mark.slow
SEED = 81  # of which the four patients have these:
HAVE = [("event",), ("event", "rd"), ("post", "event", "rd"), ("post", "event")]
COARSE = ["brain=mask", "registration=quick", "spacing_mm=9", "size=24", "folds=0", "jobs=2"]


def stage(name: str, *arguments: str, code: int = 0) -> str:
    result = commands.run([sys.executable, "-m", f"ricenet.{name}", *arguments])
    assert result.returncode == code, f"{name}: {result.stderr[-2000:]}"
    return result.stdout + result.stderr


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as stream:
        return list(csv.DictReader(stream))


def use_true_brain_masks(cohort: Path, truth: Path) -> None:
    """The phantom's masks lie on the post-OP MRI, without one on the event MRI; rows are in the patients' order."""
    rows = rows_of(cohort / "cohort.csv")
    for number, row in enumerate(rows, start=1):
        folder = Path(row["event"]).parent
        shutil.copy(truth / f"{number:03d}_brain.nii.gz", cohort / folder / "brain_mask.nii.gz")
        row["brain_mask"] = f"{folder}/brain_mask.nii.gz"
    with (cohort / "cohort.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("partial") / "hospital"
    shares = ["without_post=0.5", "without_rd=0.5"]
    stage("phantom", f"out={out}", "format=dicom", "patients=4", "spacing_mm=4.5", f"seed={SEED}", *shares)
    return out


def ingest(hospital: Path, out: Path, *keys: str, code: int = 0) -> str:
    keys = (f"delivery={hospital / 'dicom'}", f"labels={hospital / 'labels.csv'}", f"out={out}", *keys)
    return stage("ingest", "source=dicom", *keys, code=code)


def test_a_partial_delivery_becomes_cases_that_say_what_they_have(hospital: Path, tmp_path: Path) -> None:
    cohort, cases = tmp_path / "cohort", tmp_path / "cases"
    refused = ingest(hospital, cohort, code=4)
    assert "3 of 4 cases were refused" in refused
    assert (refused.count("[dose.missing]"), refused.count("[role.missing]")) == (2, 1)
    said = ingest(hospital, cohort, "partial=true")
    assert said.count("rd: not in the delivery") == 2
    assert said.count("the case is taken without it") == 2
    found = read_cohort(cohort, partial=True)
    assert [case.channels for case in found] == HAVE
    flags = json.loads((cohort / "ingest.json").read_text())["flags"]
    lacking = [
        {flag[:4] for flag in flags.get(case.key, ()) if "without it" in flag or "not in the" in flag} for case in found
    ]
    assert lacking == [{"post", "rd: "}, {"post"}, set(), {"rd: "}]
    use_true_brain_masks(cohort, hospital / "truth")
    keys = [f"cohort={cohort}", f"cases={cases}"]
    assert "error modality.missing: 4" in stage("verify", keys[0], f"out={tmp_path / 'verify'}", "flip=false", code=3)
    stage("verify", keys[0], f"out={tmp_path / 'verify'}", "partial=true", "flip=false")
    report = json.loads((tmp_path / "verify" / "verify.json").read_text())
    absent = [
        (each["code"], each["severity"], each["channel"]) for each in report["findings"] if "modality" in each["code"]
    ]
    assert sorted(absent) == [("modality.missing", "info", role) for role in ("post", "post", "rd", "rd")]
    assert "partial=true" in stage("preprocess", *keys, *COARSE, code=3)
    stage("preprocess", *keys, *COARSE, "partial=true")
    order = [case.key for case in read_cohort(cohort, partial=True)]
    ready = {case.case_key: case.channels for case in read_cases(cases)}
    assert [ready[key] for key in order] == HAVE
    covariates = read_covariates(cases, order)
    assert covariates is not None
    for role in ("post", "rd"):
        assert [covariates.numbers[f"has_{role}"][key] for key in order] == [role in channels for channels in HAVE]
    for case in load_cases(cases):
        volume = case.volume()
        assert volume.shape == (len(ready[case.case_key] or ()), 24, 24, 24)
        assert all(np.ptp(channel) > 0.5 for channel in volume), "nothing is filled in"
    numbers = {row["case_key"]: row for row in rows_of(cases / "qc.csv")}
    assert [bool(numbers[key]["similarity"]) for key in order] == ["post" in channels for channels in HAVE]
    assert [bool(numbers[key]["dose_max_gy"]) for key in order] == ["rd" in channels for channels in HAVE]
    assert "No number is marked" in (cases / "qc.html").read_text()


def test_the_same_delivery_as_an_event_only_cohort_needs_no_key_after_ingest(hospital: Path, tmp_path: Path) -> None:
    cohort, cases = tmp_path / "cohort", tmp_path / "cases"
    ingest(hospital, cohort, "post=false", "dose=false")
    assert [list(case.files) for case in read_cohort(cohort)] == [["event"]] * 4
    stage("verify", f"cohort={cohort}", f"out={tmp_path / 'verify'}")
    nifti = tmp_path / "nifti"
    shares = ["without_post=1", "without_rd=1"]
    stage("phantom", f"out={nifti}", "format=nifti", "patients=2", "spacing_mm=4.5", *shares)
    use_true_brain_masks(nifti, nifti / "truth")
    stage("verify", f"cohort={nifti}", f"out={tmp_path / 'verify-nifti'}")
    stage("preprocess", f"cohort={nifti}", f"cases={cases}", *COARSE)
    assert [case.channels for case in read_cases(cases)] == [None, None]
    assert [case.channels for case in load_cases(cases)] == [("event",)] * 2
    assert not any("has_" in column for column in rows_of(cases / "covariates.csv")[0])
