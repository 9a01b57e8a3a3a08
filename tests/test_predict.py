"""The stage: keys that make no sense, exit codes, a patient of NIfTI or DICOM, a table, and a model that travels."""

import csv
import json
import shutil
from pathlib import Path

import pydicom
import pytest
from helpers.html_page import Page
from helpers.new_patient import SPACING_MM, coarse_pages, spoilt, write_model, write_nifti  # noqa: F401  # a fixture
from helpers.phantom_scans import stripped

from ricenet.command.schemas import PredictConfig, compose
from ricenet.errors import Incomplete, InvalidInput, WrongUsage
from ricenet.images.volume import Volume
from ricenet.phantoms.causal_model import draw_cohort
from ricenet.phantoms.hospital import deliver
from ricenet.phantoms.scanner import scan_patient
from ricenet.predict import _check, _details, _load, predict_cohort, predict_patient
from ricenet.prediction.ensemble import Ensemble, PredictionSettings
from ricenet.prediction.model_folder import read_model
from ricenet.prediction.new_patient import PatientDetails, read_intake_settings

EVIL = "<img src=x onerror=alert(1)>"
QUICK = ["occlusion=false", "threads=1", "accelerator=cpu"]


def config(*keys: str) -> PredictConfig:
    return compose("predict", PredictConfig, list(keys))


def test_clinical_values_are_given_by_name() -> None:
    asked = config("model_folder=a", "out=b", "patient=c", "clinical={age: 61, MGMT: B}")
    _check(asked)
    assert _details(asked).clinical == {"age": 61, "MGMT": "B"}
    assert _details(config("model_folder=a", "out=b", "patient=c")).clinical == {}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([], "expected export=DIR run=DIR, or model=DIR"),
        (["export=a"], "with export=, also give run="),
        (["run=a"], "with run=, also give export="),
        (["export=a", "run=b", "patient=c"], "with export=, run=, remove patient="),
        (["model_folder=a", "out=b"], "one of patient=DIR and cohort=DIR"),
        (["model_folder=a", "out=b", "patient=c", "cohort=d"], "one of patient=DIR and cohort=DIR"),
        (["model_folder=a", "patient=c"], "with model=, patient=, also give out="),
        (["export=a", "run=b", "ingest=c"], "with export=, run=, remove ingest="),
        (["out=a", "patient=c"], "with out=, patient=, also give model="),
        (["model_folder=a", "out=b", "patient=c", "stride_mm=0"], "stride_mm should be above 0, got 0"),
        (["model_folder=a", "out=b", "patient=c", "precision=fp16"], "precision should be one of fp32, bf16"),
        (["model_folder=a", "out=b", "patient=c", "brain=bet"], "brain should be one of null, auto, hdbet"),
        (["model_folder=a", "out=b", "patient=c", "dicom=true", "occlusion=false"], "dicom=true"),
        (["model_folder=a", "out=b", "cohort=c", "clinical={age: 61}"], "out=, cohort=, remove clinical="),
        (["model_folder=a", "out=b", "patient=c", "clinical=61"], "clinical should be values by name"),
        (
            ["model_folder=a", "out=b", "cohort=c", "event_date=2020-01-01"],
            "out=, cohort=, remove event_date=",
        ),
    ],
)
def test_keys_that_make_no_sense_together_are_refused(keys: list[str], said: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        _check(config(*keys))
    assert said in str(refused.value)


def test_a_cohort_may_have_limits_of_its_own() -> None:
    _check(config("model_folder=a", "out=b", "cohort=c", "ingest=site.yaml"))


def test_dates_are_read_and_a_wrong_one_is_not_repeated() -> None:
    details = _details(config("event_date=2020-08-17", "event_series=s0123456789ab", "fractions=30"))
    assert (details.event_date.isoformat(), details.fractions) == ("2020-08-17", 30)  # type: ignore[union-attr]
    assert details.choice == {"event": "s0123456789ab"}
    with pytest.raises(WrongUsage, match="post_date should be a date as YYYY-MM-DD") as refused:
        _details(config("post_date=Mustermann"))
    assert "Mustermann" not in str(refused.value)


@pytest.fixture(scope="module")
def model(phantom_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("grid"), phantom_cases)


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort folder of two, called 1 and 2."""
    folder = tmp_path_factory.mktemp("cohort")
    for number, drawn in ((1, 0), (2, 3)):
        write_nifti(folder / str(number), drawn)
    return folder


def write_table(cohort: Path, rows: list[str]) -> None:
    lines = ["patient_id,event_id,label,split,post,event,rd,planning,brain_mask,dose_unit,fractions,prescription_gy"]
    for row in rows:
        images = ",".join(f"{row}/{role}.nii.gz" for role in ("post", "event", "rd", "planning", "brain_mask"))
        lines.append(f"{EVIL}{row},e1,,,{images},Gy,30,60")
    (cohort / "cohort.csv").write_text("\n".join(lines) + "\n")


def load(model: Path, *keys: str) -> tuple[Ensemble, PredictionSettings]:
    return _load(config(*QUICK, *keys), read_model(model))


@pytest.mark.slow
def test_a_table_of_patients_one_of_them_not_fit(
    model: Path, patients: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = shutil.copytree(patients, tmp_path / "cohort")
    shutil.rmtree(cohort / "2")
    spoilt(cohort / "1", cohort / "2", "rd", lambda dose: Volume(dose.voxels * 100, dose.world_from_voxel))
    write_table(cohort, ["1", "2"])
    with pytest.raises(Incomplete, match="1 of 2 cases were refused"):
        predict_cohort(cohort, *load(model), tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert [row["fit"] for row in rows] == ["True", "False"]
    good = json.loads((tmp_path / "out" / rows[0]["case_key"] / "prediction.json").read_text())
    assert float(rows[0]["probability"]) == good["probability"]
    assert float(rows[0]["calibrated_low"]) == good["calibrated"]["interval"][0]
    assert rows[1]["probability"] == rows[1]["calibrated"] == rows[1]["predicted"] == ""
    assert rows[1]["errors"] == "dose.cgy"
    assert EVIL not in "".join(path.read_text() for path in (tmp_path / "out").rglob("*.*") if path.suffix != ".gz")
    assert "img src" not in capsys.readouterr().out
    write_table(cohort, ["2"])
    with pytest.raises(InvalidInput, match="no prediction was made"):
        predict_cohort(cohort, *load(model), tmp_path / "out2")


@pytest.mark.slow
def test_an_event_mri_of_another_person_is_no_prediction(model: Path, patients: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(patients / "1", tmp_path / "patient")
    shutil.copy(patients / "2" / "event.nii.gz", folder)
    with pytest.raises(InvalidInput, match="no prediction was made") as refused:
        predict_patient(folder, PatientDetails(), read_intake_settings(None, dose=True), *load(model), tmp_path / "out")
    assert "patient.two_people" in str(refused.value) or "geometry.flip_doubtful" in str(refused.value)
    (found,) = (tmp_path / "out").glob("*/prediction.json")
    assert "probability" not in json.loads(found.read_text())


@pytest.mark.slow
def test_without_a_dose_there_is_no_prediction(model: Path, patients: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(patients / "1", tmp_path / "patient")
    (folder / "rd.nii.gz").unlink()
    with pytest.raises(InvalidInput, match=r"channel\.missing\] rd the model needs a rd image"):
        predict_patient(folder, PatientDetails(), read_intake_settings(None, dose=True), *load(model), tmp_path / "out")
    (found,) = (tmp_path / "out").glob("*/prediction.json")
    assert "probability" not in json.loads(found.read_text())


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One patient's DICOM, without a skull; id and descriptions are markup."""
    folder = tmp_path_factory.mktemp("hospital")
    draw = draw_cohort(4, 3, swap_label_effects=False)[0]
    deliver(folder, stripped(scan_patient(draw.quantities, draw.seed, SPACING_MM)), 1, draw.seed)
    for path in (path for path in folder.rglob("*") if path.is_file()):
        dataset = pydicom.dcmread(path)
        dataset.PatientID = dataset.PatientName = EVIL
        dataset.StudyDescription = dataset.InstitutionName = EVIL
        dataset.save_as(path)
    return folder


def no_markup(out: Path) -> None:
    for path in out.rglob("*"):
        assert "onerror" not in path.name
        if path.is_file():
            assert b"onerror=alert(1)" not in path.read_bytes(), path.name


@pytest.mark.slow
def test_dicom_goes_all_the_way_and_no_header_comes_out(
    model: Path, hospital: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = ["brain=none", "occlusion=true", "dicom=true", "cube_mm=72", "stride_mm=72"]
    out, rules = tmp_path / "out", read_intake_settings(None, dose=True)
    predict_patient(hospital, PatientDetails(), rules, *load(model, *keys), out)
    (folder,) = out.iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "prediction.json", "page.html", "occlusion.nii.gz", "occlusion.dcm",
    }  # fmt: skip
    taken = json.loads((folder / "prediction.json").read_text())["delivery"]
    assert {role: one["reason"] for role, one in taken["images"].items()} == {
        "post": "rule 1: before radiotherapy",
        "event": "rule 3: after radiotherapy",
        "planning": "rule 5: same frame",
    }
    assert taken["images"]["event"]["series"] in (folder / "page.html").read_text()
    page = Page(folder / "page.html").words["delivery"]
    assert {each["kind"]: each["status"] for each in taken["rt_objects"]} == {"RTDOSE": "used", "RTPLAN": "used"}
    assert all(f"{each['object']} " in page for each in taken["rt_objects"])
    assert pydicom.dcmread(folder / "occlusion.dcm").PatientID == folder.name
    no_markup(out)
    said = capsys.readouterr()
    assert EVIL not in said.out + said.err
    series = taken["images"]["post"]["series"]
    with pytest.raises(InvalidInput, match="no prediction was made"):  # the same series twice
        predict_patient(hospital, PatientDetails(choice={"event": series}), rules, *load(model, *keys), out)
    unfit = json.loads((folder / "prediction.json").read_text())
    assert [one["code"] for one in unfit["findings"]] == ["role.same_series"]
    assert len(unfit["delivery"]["series"]) == len(taken["series"])
    page = Page(folder / "page.html").words["delivery"]
    assert all(f"{each['object']} " in page for each in unfit["delivery"]["rt_objects"])
    assert len(unfit["delivery"]["rt_objects"]) == 2
    assert [path.name for path in out.iterdir()] == [folder.name]
    assert {path.name for path in folder.iterdir()} == {"prediction.json", "page.html"}
