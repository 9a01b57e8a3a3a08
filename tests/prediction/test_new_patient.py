"""A patient's folder: what is found by name, how the case is called, and what is refused before anything is read."""

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.dicom_objects import rtdose, save, uid
from helpers.model_sample import PREPROCESSING, model_record

from ricenet.delivery.series import index_delivery
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.images.dose_limits import DoseLimits, preset
from ricenet.images.volume import write_volume
from ricenet.phantoms.hospital import write_series
from ricenet.prediction.new_patient import (
    PatientDetails,
    _only_patient,
    find_patient,
    from_files,
    read_intake_settings,
    rules_for,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """post as .nii.gz, event as .nii, and a channel of the site's own."""
    folder = tmp_path / "Mustermann"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("post.nii.gz", "event.nii", "flair.nii.gz"):
        write_volume(folder / name, rng.normal(size=(5, 6, 7)).astype(np.float32), np.eye(4))
    return folder


def find(folder: Path, details: PatientDetails | None = None, further: tuple[str, ...] = ()):
    return find_patient(folder, details or PatientDetails(), None, folder, further)  # type: ignore[arg-type]  # for DICOM


def test_images_are_found_by_name_and_further_ones_where_they_are_asked_for(folder: Path) -> None:
    assert list(find(folder).case.images) == ["post", "event"]
    delivered = find(folder, PatientDetails(fractions=30, prescription_gy=60.0), ("flair",))
    assert list(delivered.case.images) == ["post", "event", "flair"]
    assert (delivered.case.fractions, delivered.case.prescription_gy, delivered.case.label) == (30, 60.0, -1)
    assert delivered.record is None


def test_the_same_bytes_have_the_same_name_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    key = find(folder).case.key
    moved = shutil.copytree(folder, tmp_path / "another")
    assert find(moved).case.key == key
    assert "Mustermann" not in find(folder).case.name
    write_volume(moved / "event.nii", np.ones((5, 6, 7), np.float32), np.eye(4))
    assert find(moved).case.key != key


def test_dates_and_series_are_for_dicom(folder: Path) -> None:
    for details in (PatientDetails(event_date=date(2020, 8, 17)), PatientDetails(choice={"event": "s0"})):
        with pytest.raises(WrongUsage, match="for DICOM"):
            find(folder, details)


def test_files_by_role_are_the_patient_of_their_folder(folder: Path, tmp_path: Path) -> None:
    paths = {"post": folder / "post.nii.gz", "event": folder / "event.nii"}
    assert from_files(paths, PatientDetails()).case == find(folder).case
    with pytest.raises(WrongUsage, match="'flair'; expected some of post, event, rd, planning, brain_mask"):
        from_files({**paths, "flair": folder / "flair.nii.gz"}, PatientDetails())
    with pytest.raises(InvalidInput, match="rd image does not exist") as missing:
        from_files({**paths, "rd": tmp_path / "none.nii.gz"}, PatientDetails())
    assert missing.value.code == "path.missing"


def test_without_a_post_image_a_dose_says_in_whose_frame_it_lies(folder: Path) -> None:
    (folder / "post.nii.gz").unlink()
    assert list(find(folder).case.images) == ["event"]
    shutil.copy(folder / "event.nii", folder / "rd.nii")
    with pytest.raises(InvalidInput, match=r"neither post nor planning: .* add planning\.nii\.gz") as refused:
        find(folder)
    assert refused.value.code == "dose.no_frame"
    shutil.copy(folder / "event.nii", folder / "planning.nii")
    assert find(folder).case.anchor == "event"


def test_the_rules_ask_for_what_the_model_needs() -> None:
    """Of DICOM: a post-OP MRI must be there, may be there, or is not looked for."""

    def asked(channels: tuple[str, ...], reference: str) -> tuple[bool, bool, bool]:
        rules = rules_for(model_record(channels=channels, preprocessing=replace(PREPROCESSING, reference=reference)))
        return rules.dose, rules.post, rules.partial

    assert asked(("post", "event", "rd"), "post") == (True, True, False)
    assert asked(("event", "rd"), "post") == (True, True, True)
    assert asked(("event",), "event") == (False, False, True)


def test_a_second_dose_lies_beside_the_first(folder: Path) -> None:
    for role in ("rd", "rd_2", "planning_2"):
        shutil.copy(folder / "post.nii.gz", folder / f"{role}.nii.gz")
    case = find(folder).case
    assert list(case.further_doses) == ["rd_2", "planning_2"]
    assert case == from_files(case.files, PatientDetails()).case
    (folder / "rd_2.nii.gz").unlink()
    with pytest.raises(InvalidInput, match="planning_2 is given, but no rd_2") as lacking:
        find(folder)
    assert lacking.value.code == "dose.further"


def test_masks_are_found_and_do_not_change_the_name_of_the_case(folder: Path) -> None:
    bare = find(folder).case
    assert (bare.lesion, bare.structures) == (None, {})
    (folder / "structures").mkdir()
    for path in (folder / "lesion.dcm", folder / "structures" / "GTV.nii.gz"):
        path.write_bytes(b"a mask")
    case = find(folder).case
    assert case.key == bare.key
    assert case.lesion == folder / "lesion.dcm"
    assert case.structures == {"GTV": folder / "structures" / "GTV.nii.gz"}
    (folder / "structures" / "GTV of Muster.nii.gz").write_bytes(b"a mask")
    with pytest.raises(InvalidInput) as refused:
        find(folder)
    assert refused.value.code == "structures.name"
    assert "Muster" not in str(refused.value)


def test_without_a_patient_there_is_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as missing:
        find(tmp_path / "none")
    assert missing.value.code == "patient.missing"
    (tmp_path / "letter.txt").write_text("no image")
    with pytest.raises(InvalidInput) as empty:
        find(tmp_path)
    assert empty.value.code == "patient.missing"


def deliver(folder: Path, patient_id: str, frame: str, dose_of: str = "") -> None:
    """Three slices of an MRI, and a dose in their frame under another PatientID."""
    headers = {"PatientID": patient_id, "SeriesInstanceUID": uid(patient_id), "FrameOfReferenceUID": uid(frame)}
    write_series(folder, np.ones((6, 5, 3), np.int16), np.eye(4), "MR", headers)
    if dose_of:
        save(rtdose(name=f"dose of {dose_of}", frame=frame, PatientID=dose_of), folder / f"dose {dose_of}")


def test_rt_objects_under_an_id_of_their_own_are_the_patients_where_they_share_a_frame(tmp_path: Path, caplog) -> None:
    deliver(tmp_path, "Mustermann", "F1", "Mustermann_RT")
    files = _only_patient(list(index_delivery(tmp_path).patients.values()))
    assert files is not None
    assert (len(files.series), len(files.doses)) == (1, 1)
    assert "another PatientID share" in caplog.text
    save(rtdose(name="other", frame="F2", PatientID="other", StudyInstanceUID=uid("other")), tmp_path / "other")
    assert _only_patient(list(index_delivery(tmp_path).patients.values())) is None


def test_a_folder_of_two_patients_is_refused_and_files_that_could_not_be_read_are_counted(tmp_path: Path) -> None:
    deliver(tmp_path / "a", "a", "F1")
    deliver(tmp_path / "b", "b", "F1")
    (tmp_path / "dose.dcm").write_bytes(b"no DICOM")
    with pytest.raises(InvalidInput, match=r"of 2; files of the delivery .* 1 \(looks like DICOM but") as several:
        find(tmp_path)
    assert several.value.code == "patient.several"


def test_a_sites_own_rules_lie_over_those_of_ingest(tmp_path: Path) -> None:
    ours = read_intake_settings(None, dose=True)
    file = tmp_path / "site.yaml"
    rule = {"role": "post", "modality": "MR", "matches": "t1", "contrast": None, "when": "post_date",
            "min_slices": 1, "max_spacing_mm": 9}  # fmt: skip
    file.write_text(yaml.safe_dump({"rules": [rule], "alpha_beta": 10, "jobs": 3}))
    site = read_intake_settings(file, dose=False)
    assert (len(site.rules), site.rules[0].max_spacing_mm, site.alpha_beta, site.dose) == (1, 9, 10, False)
    assert site.wording == ours.wording
    assert len(ours.rules) > 3
    shutil.copy(Path(__file__).parents[2] / "conf" / "ingest.yaml", file)
    assert read_intake_settings(file, dose=True) == ours


@pytest.mark.parametrize(
    ("content", "limits"),
    [
        ("dose_limits: stereotactic", preset("stereotactic")),
        ("dose_limits: {highest_gy: 110}", replace(preset(), highest_gy=110)),
        ("dose_limits: {over_prescription: [0.7, 1.3]}", replace(preset(), over_prescription=(0.7, 1.3))),
        ("{defaults: [quiet, {dose_limits: stereotactic}, _self_], jobs: 2}", preset("stereotactic")),  # a copy
        ("jobs: 2", preset()),
    ],
)
def test_a_site_may_have_its_own_limits_of_the_dose(tmp_path: Path, content: str, limits: DoseLimits) -> None:
    (tmp_path / "site.yaml").write_text(content)
    assert read_intake_settings(tmp_path / "site.yaml", dose=True).dose_limits == limits


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("dose_limits: sbrt", "normofractionated | stereotactic, got 'sbrt'"),
        ("dose_limits: {highest: 110}", "highest"),
        ("dose_limits: 110", "got 110"),
        ("dose_limits: {highest_gy: 6000}", "got 6000"),
        ("nevver: x", "got 'nevver'"),
        ("- a", "got list"),
        ("never: '('", "expected a regular expression"),
        ("event_tolerance_days: soon", "event_tolerance_days"),
        ("rules: [{role: post}]", "rules"),
        ("{", "ParserError"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(content)
    with pytest.raises(WrongUsage) as refused:
        read_intake_settings(file, dose=True)
    assert said in str(refused.value)
    with pytest.raises(WrongUsage, match="FileNotFoundError"):
        read_intake_settings(tmp_path / "none.yaml", dose=True)
