"""How alike post and event of a case are: one person, two, a bottle; and what is done with it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.analytic_patient import EVENT_FROM_POST, SETTINGS, one_case
from helpers.cases_folder import write_case
from scipy import ndimage

from ricenet.cases import one_person
from ricenet.cases.alignment import Aligned
from ricenet.cases.case_folder import make_case_folder, sample
from ricenet.cases.case_record import CaseRecord
from ricenet.cases.one_person import (
    judge_likeness,
    likeness_of_folder,
    measure_likeness,
    refuse_two_people,
    warn_of_people,
)
from ricenet.cohort.table import read_cohort
from ricenet.errors import InvalidInput
from ricenet.images.volume import Volume, read_volume


def aligned_with(cohort: Path, event: Volume | None = None) -> Aligned:
    """The first patient in its true pose, with its own event MRI or another one."""
    case, inputs = one_case(cohort)
    images = {role: read_volume(path) for role, path in case.images.items()}
    post = images["post"]
    head = Volume((post.voxels != 0).astype(np.float32), post.world_from_voxel)
    maps = {"post": np.eye(4), "event": EVENT_FROM_POST, "rd": np.eye(4)}
    return Aligned(case, inputs, images | ({"event": event} if event else {}), maps, head)


def test_one_person_is_alike_on_any_grid(cohort: Path) -> None:
    aligned = aligned_with(cohort)
    on_grids = [measure_likeness(aligned, sample(aligned, replace(SETTINGS, spacing_mm=mm))) for mm in (3.0, 6.0)]
    assert on_grids == pytest.approx([0.99, 0.99], abs=0.01)


def test_another_person_and_a_bottle_are_not(cohort: Path) -> None:
    """The other analytic patient has the same waves elsewhere, so that it is more alike than people are."""
    other = read_volume(read_cohort(cohort)[1].images["event"])
    aligned = aligned_with(cohort, other)
    assert measure_likeness(aligned, sample(aligned, SETTINGS)) < one_person.SURELY_FROM
    event = aligned_with(cohort).images["event"]
    water = ndimage.binary_erosion(event.voxels > 0) * 300 + np.random.default_rng(7).normal(0, 5, event.voxels.shape)
    aligned = aligned_with(cohort, Volume(water.astype(np.float32), event.world_from_voxel))
    alike = measure_likeness(aligned, sample(aligned, SETTINGS))
    assert abs(alike) < 0.2
    with pytest.raises(InvalidInput, match=r"row 2 .* correlate by .*; if they are, .* likeness=warn") as error:
        refuse_two_people(alike, aligned.case.name)
    assert error.value.code == "patient.two_people"


def test_a_case_without_a_post_has_no_pair(cohort: Path) -> None:
    aligned = aligned_with(cohort)
    images = {role: image for role, image in aligned.images.items() if role != "post"}
    maps = {role: np.eye(4) for role in images}
    alone = replace(aligned.case, images={role: aligned.case.images[role] for role in images})
    head = Volume((images["event"].voxels != 0).astype(np.float32), images["event"].world_from_voxel)
    prepared = sample(replace(aligned, case=alone, images=images, maps=maps, head=head), replace(SETTINGS, size=80))
    assert measure_likeness(aligned, prepared) is None
    refuse_two_people(None, "case")


def test_thresholds_and_codes() -> None:
    assert judge_likeness(0.6, "case") == judge_likeness(None, "case") == []
    (doubt,) = judge_likeness(0.42, "case")
    assert (doubt.code, doubt.severity) == ("patient.doubtful", "warning")
    (two,) = judge_likeness(0.15, "case")
    assert (two.code, two.severity) == ("patient.two_people", "error")
    assert "correlate by 0.15, expected at least 0.6" in two.message
    refuse_two_people(0.42, "case")


def test_finished_cases_that_may_show_two_people_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folders = {}
    for case, text in {
        "case a": '{"likeness": 0.15}',
        "case b": '{"likeness": 0.9}',
        "case c": "{}",
        "case d": "",
    }.items():
        folders[case] = tmp_path / case
        folders[case].mkdir()
        if text:
            (folders[case] / "checks.json").write_text(text)
    with caplog.at_level("INFO"):
        warn_of_people(folders)
    warning, old = caplog.messages
    assert warning.startswith("[patient.two_people] case a: the gyri and sulci")
    assert old.endswith("measures (cases=): 1")


@pytest.mark.heavy
@pytest.mark.usefixtures("kept_registrations")
def test_two_people_are_refused_unless_the_user_insists(cohort: Path, tmp_path: Path, monkeypatch) -> None:
    """With the bound out of reach; the folder then holds the number, case.json does not."""
    monkeypatch.setattr(one_person, "ONE_PERSON_FROM", 1.0)
    monkeypatch.setattr(one_person, "SURELY_FROM", 1.0)
    case, inputs = one_case(cohort)
    with pytest.raises(InvalidInput, match="two people correlate so little"):
        make_case_folder(tmp_path, "refused", case, inputs, SETTINGS)
    assert not (tmp_path / "refused").exists()
    seconds = make_case_folder(tmp_path, "kept", case, inputs, SETTINGS, likeness="warn")
    assert "check" in seconds
    checks = json.loads((tmp_path / "kept" / "checks.json").read_text())
    assert checks["likeness"] == pytest.approx(0.98, abs=0.02)
    assert "likeness" not in (tmp_path / "kept" / "case.json").read_text()
    assert likeness_of_folder(tmp_path / "kept", CaseRecord.read(tmp_path / "kept" / "case.json")) == checks["likeness"]


def test_of_an_older_folder_it_is_measured_where_its_grid_allows(cohort: Path, tmp_path: Path) -> None:
    aligned = aligned_with(cohort)
    write_case(tmp_path / "old", "c0", {"brain_ml": 1100.0}, channels=["post", "event"])
    record = CaseRecord.read(tmp_path / "old" / "case.json")
    prepared = sample(aligned, replace(SETTINGS, spacing_mm=2.0, size=84))
    np.save(tmp_path / "old" / "volume.npy", prepared.volume)
    np.save(tmp_path / "old" / "brain.npy", prepared.brain)
    assert likeness_of_folder(tmp_path / "old", record) == pytest.approx(0.99, abs=0.02)
    assert likeness_of_folder(tmp_path / "old", record.model_copy(update={"spacing_mm": 2.0})) is None
