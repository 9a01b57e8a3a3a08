"""Registrations kept for the session: the same volumes give the same bits, so ANTs need run for them only once.

For tests of what is done with a registration. What is wrong with `rigid` itself shows in the first call of a session;
that a second call gives the same bits, and leaves no files, is what tests/images/test_registration.py checks.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from ricenet.images.volume import Affine, Volume


@pytest.fixture(scope="module")
def kept_registrations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let preprocessing and the comparison of the sides look up what this session has registered before."""
    from ricenet.cases import alignment
    from ricenet.checks import laterality

    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "registrations"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        for module in (alignment, laterality):
            patch.setattr(module, "rigid", keeping(folder))
        yield


def keeping(folder: Path) -> Callable[..., Affine]:
    """`rigid` that keeps its results in `folder`, which all workers of the session share."""
    from ricenet.images import registration

    def kept(fixed: Volume, moving: Volume, schedule: str = "rigid", seed: int = 0) -> Affine:
        path = folder / f"{_digest(fixed, moving, schedule, seed)}.npy"
        if path.exists():
            return np.load(path)
        moving_from_fixed = registration.rigid(fixed, moving, schedule, seed)
        partial = path.with_suffix(f".{os.getpid()}.npy")
        np.save(partial, moving_from_fixed)
        partial.replace(path)
        return moving_from_fixed

    return kept


def _digest(fixed: Volume, moving: Volume, schedule: str, seed: int) -> str:
    digest = hashlib.sha256(f"{schedule} {seed}".encode())
    for array in (fixed.voxels, fixed.world_from_voxel, moving.voxels, moving.world_from_voxel):
        digest.update(f" {array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()
