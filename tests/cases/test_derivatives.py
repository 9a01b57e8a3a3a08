"""Cases as BIDS derivatives: the same voxels in the same place, names as BIDS wants them, pseudonyms alone."""

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.cases_folder import write_case

from ricenet.cases.derivatives import check_target, write_derivatives
from ricenet.cases.structures import write_masks
from ricenet.cohort.ready_cases import ReadyCase, write_cases
from ricenet.errors import WrongUsage

GRID = np.array([[2.0, 0, 0, -7], [0, 2, 0, 5], [0, 0, 2, 11], [0, 0, 0, 1]])
FIRST, SECOND, THIRD = (
    ReadyCase("c0000000000a1", "c0000000000b1", 1, "cv", "c0000000000a1-f1"),
    ReadyCase("c0000000000a2", "c0000000000b1", 0, "cv", "c0000000000a2-f1"),
    ReadyCase("c0000000000a3", "c0000000000b2", 0, "test", "c0000000000a3-f1"),
)
# Entities of the BIDS specification in its order, for images and masks of derivatives.
NAME = re.compile(
    r"sub-c[0-9a-f]{12}_ses-c[0-9a-f]{12}(_acq-[a-zA-Z0-9]+)?_space-(post|event)"
    r"((_desc-preproc)_(T1w|dose)|_desc-brain_mask|_label-[a-zA-Z0-9]+_mask)\.(nii\.gz|json)"
)


def write(cases: Path, case: ReadyCase, channels: tuple[str, ...], reference: str, **masks: np.ndarray) -> np.ndarray:
    """A finished case folder of random voxels."""
    transforms = {f"{role}_from_{reference}": np.eye(4).tolist() for role in channels}
    known = {"channels": channels, "transforms": transforms, "world_from_voxel": GRID.tolist(), "spacing_mm": 2.0}
    write_case(cases / case.folder, case.case_key, {}, **known)
    volume = np.random.default_rng(int(case.case_key[1:], 16)).normal(size=(len(channels), 8, 9, 10)).astype(np.float16)
    np.save(cases / case.folder / "volume.npy", volume)
    np.save(cases / case.folder / "brain.npy", volume[0] > 0)
    write_masks(cases / case.folder, masks)
    return volume


def write_all(folder: Path) -> Path:
    """Two events of one patient, whole; a patient with the event alone."""
    folder.mkdir()
    mask = np.zeros((8, 9, 10), dtype=bool)
    mask[2:4, 3, 4] = True
    write(folder, FIRST, ("post", "event", "rd"), "post", lesion=mask, OpticNerve_L=~mask)
    write(folder, SECOND, ("post", "event", "rd"), "post")
    write(folder, THIRD, ("event",), "event")
    write_cases(folder, [FIRST, SECOND, THIRD])
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The cases folder and their derivatives. Read only."""
    root = tmp_path_factory.mktemp("derivatives")
    cases = write_all(root / "cases")
    assert write_derivatives(cases, root / "bids") == 3
    return cases, root / "bids"


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_images_masks_and_dose_hold_the_voxels_of_the_case(made):
    cases, out = made
    session = out / "sub-c0000000000b1/ses-c0000000000a1"
    stem = "sub-c0000000000b1_ses-c0000000000a1"
    volume = np.load(cases / FIRST.folder / "volume.npy").astype(np.float32)
    expected = {
        f"anat/{stem}_acq-post_space-post_desc-preproc_T1w": volume[0],
        f"anat/{stem}_acq-event_space-post_desc-preproc_T1w": volume[1],
        f"dose/{stem}_space-post_desc-preproc_dose": volume[2] * 60,
        f"anat/{stem}_space-post_desc-brain_mask": volume[0] > 0,
    }
    for name, voxels in expected.items():
        image = nib.load(session / f"{name}.nii.gz")
        np.testing.assert_allclose(np.asarray(image.dataobj), voxels, rtol=1e-6)
        np.testing.assert_allclose(image.affine, GRID)
        assert json.loads((session / f"{name}.json").read_text())["SpatialReference"].startswith("the post MRI")
    lesion = nib.load(session / f"anat/{stem}_space-post_label-lesion_mask.nii.gz")
    assert np.argwhere(np.asarray(lesion.dataobj)).tolist() == [[2, 3, 4], [3, 3, 4]]
    assert (session / f"anat/{stem}_space-post_label-OpticNerveL_mask.nii.gz").is_file()
    assert json.loads((session / f"dose/{stem}_space-post_desc-preproc_dose.json").read_text())["Units"] == "Gy"


def test_every_name_is_one_of_bids_and_every_image_has_its_sidecar(made):
    _, out = made
    files = [Path(name) for name in names(out) if name.count("/") == 3]
    assert len(files) == 2 * (6 + 4 + 2)
    assert not [path.name for path in files if not NAME.fullmatch(path.name)]
    assert not [path.name for path in files if not path.name.startswith(f"{path.parts[0]}_{path.parts[1]}_")]
    images = {str(path).removesuffix(".nii.gz") for path in files if path.name.endswith(".nii.gz")}
    assert images == {str(path).removesuffix(".json") for path in files if path.suffix == ".json"}
    alone = [path.name for path in files if path.parts[0] == "sub-c0000000000b2" and path.name.endswith(".gz")]
    assert sorted(alone) == [
        "sub-c0000000000b2_ses-c0000000000a3_acq-event_space-event_desc-preproc_T1w.nii.gz",
        "sub-c0000000000b2_ses-c0000000000a3_space-event_desc-brain_mask.nii.gz",
    ]


def test_the_datasets_own_files(made):
    _, out = made
    description = json.loads((out / "dataset_description.json").read_text())
    assert (description["DatasetType"], description["GeneratedBy"][0]["Name"]) == ("derivative", "ricenet")
    # With these lines bids-validator-deno 3.0.2 finds no error; with `dose/` it asks about the folder.
    assert (out / ".bidsignore").read_text() == "**/dose\n**/dose/**\n**/made_from.json\n"
    assert (out / "participants.tsv").read_text() == "participant_id\nsub-c0000000000b1\nsub-c0000000000b2\n"
    assert (out / "sub-c0000000000b1/sub-c0000000000b1_sessions.tsv").read_text() == (
        "session_id\tlabel\tsplit\nses-c0000000000a1\trice\tcv\nses-c0000000000a2\trecurrence\tcv\n"
    )


def test_a_second_run_does_only_what_changed_and_removes_who_left(made, tmp_path):
    cases, out = (shutil.copytree(folder, tmp_path / folder.name) for folder in made)
    before = {name: (out / name).stat().st_mtime_ns for name in names(out) if name.count("/") == 3}
    assert write_derivatives(cases, out) == 0
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    again = ReadyCase(*(FIRST.case_key, FIRST.patient_key, 1, "cv", "c0000000000a1-f2"))
    write(cases, again, ("post", "event", "rd"), "post")
    write_cases(cases, [again, SECOND])
    assert write_derivatives(cases, out) == 1
    assert not list(out.glob("sub-c0000000000b2*"))
    assert not list(out.glob("*/*/anat/*lesion*"))
    assert len(list(out.glob("sub-*/ses-*"))) == 2


def test_a_folder_that_holds_something_else_is_refused(made, tmp_path):
    out = tmp_path / "raw"
    out.mkdir()
    check_target(out)
    (out / "dataset_description.json").write_text('{"Name": "MUSTER", "GeneratedBy": [{"Name": "fmriprep"}]}')
    with pytest.raises(WrongUsage, match="bids: expected a new folder") as refused:
        write_derivatives(made[0], out)
    assert "MUSTER" not in str(refused.value)
    assert names(out) == ["dataset_description.json"]
