"""One case as it is explained: a case folder in; the volume, the masks and what a picture shows, out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ricenet.casevolumes import load_case
from ricenet.cohort import ReadyCase


@dataclass(frozen=True)
class Scene:
    """One case as it is explained: `volume` (C, X, Y, Z) float32 in the model's channel order, the rest (X, Y, Z).

    `mri` is the picture's background, the event image if there is one; `truth` the masks a phantom case knows.
    """

    case: ReadyCase
    volume: np.ndarray
    world_from_voxel: np.ndarray
    brain: np.ndarray
    dose_gy: np.ndarray | None
    truth: dict[str, np.ndarray]
    mri: np.ndarray
    mri_role: str

    def voxels(self, length_mm: float) -> tuple[int, int, int]:
        """A length in mm as whole voxels along each axis, at least one."""
        spacing_mm = np.linalg.norm(self.world_from_voxel[:3, :3], axis=0)
        x, y, z = (max(1, round(length_mm / spacing)) for spacing in spacing_mm.tolist())
        return x, y, z


def read_scene(cases: Path, case: ReadyCase, channels: Sequence[str]) -> Scene:
    """Read what explaining `case` to a model of these channels takes."""
    volume, folder = load_case(cases, case, channels), cases / case.folder
    content = json.loads((folder / "case.json").read_text())
    role = next(name for name in ("event", "post") if name in content["channels"])
    scale_gy = content.get("dose_scale_gy") if "rd" in content["channels"] else None
    truth = dict(np.load(folder / "truth.npz")) if (folder / "truth.npz").is_file() else {}
    return Scene(
        case=case,
        volume=volume,
        world_from_voxel=np.array(content["world_from_voxel"], dtype=np.float64),
        brain=np.load(folder / "brain.npy"),
        dose_gy=None if scale_gy is None else load_case(cases, case, ["rd"])[0] * scale_gy,
        truth={name: truth[name] for name in ("lesion", "cavity") if name in truth},
        mri=load_case(cases, case, [role])[0],
        mri_role=role,
    )
