"""One case as it is explained: a case folder and, if there are any, the user's masks in; volumes and masks out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from ricenet.cases.case_reader import load_case, load_seen, read_prescriptions
from ricenet.cases.case_record import Crop, LesionPlace, read_case_record
from ricenet.cases.crop import Window, place_of
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.errors import InvalidInput, about
from ricenet.images.volume import read_volume

MASKS = ("lesion", "cavity")


@dataclass(frozen=True)
class Scene:
    """One case as it is explained: `volume` (C, X, Y, Z) float32 in the model's channel order, the rest (X, Y, Z).

    Attributes:
        world_from_voxel: (4, 4), RAS+, mm.
        dose_gy: in Gy; None where the case has no dose, or none in Gy.
        truth: the known masks by name, `lesion` and `cavity`, bool: the user's, else those of a phantom.
        mri, mri_role: background of a picture, the event image if there is one.
        post, event: the MRIs, z-scored as in the case folder; None where the case has no such channel.
        prescription_gy: of the whole treatment; None where covariates.csv does not say.
        place, seen: where the models look, and the box that they see; None: all of the volume.
        numbers: of the case by name, as far as it has them, for models that see numbers, too.
    """

    case: ReadyCase
    volume: np.ndarray
    world_from_voxel: np.ndarray
    brain: np.ndarray
    dose_gy: np.ndarray | None
    truth: dict[str, np.ndarray]
    mri: np.ndarray
    mri_role: str
    post: np.ndarray | None = None
    event: np.ndarray | None = None
    prescription_gy: float | None = None
    place: LesionPlace | None = None
    seen: Window | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """What the models see of (..., X, Y, Z)."""
        return volume if self.seen is None else self.seen.cut(volume)

    def whole(self, values: np.ndarray) -> np.ndarray:
        """A map (X, Y, Z) of what the models see on the case's grid; 0 where they see nothing."""
        return values if self.seen is None else self.seen.paste(values, self.brain.shape)

    @property
    def seen_brain(self) -> np.ndarray:
        """(X, Y, Z) bool, the brain that the models see."""
        brain = self.brain.astype(bool)
        return brain if self.seen is None else self.seen.paste(self.seen.cut(brain), brain.shape)

    @property
    def spacing_mm(self) -> np.ndarray:
        """(3,) edge lengths of a voxel."""
        return np.linalg.norm(self.world_from_voxel[:3, :3], axis=0)

    def voxels(self, length_mm: float) -> tuple[int, int, int]:
        """A length in mm as whole voxels along each axis, at least one."""
        x, y, z = (max(1, round(length_mm / spacing)) for spacing in self.spacing_mm.tolist())
        return x, y, z


def read_scene(
    cases: Path,
    case: ReadyCase,
    channels: Sequence[str],
    masks: Path | None = None,
    crop: Crop | None = None,
    relative_dose: bool = False,
) -> Scene:
    """Read what explaining `case` to a model of these channels takes.

    Args:
        cases: the cases folder.
        case: one of its cases.
        channels: of the model, in its order.
        masks: folder of the user's masks, <case_key>/lesion.nii.gz and <case_key>/cavity.nii.gz, as far as there are
            any; on any grid, in the world frame of the case (of the reference that preprocess registered to).
        crop: what the models see of a volume; None: all.
        relative_dose: whether they see the dose relative to the case's prescription.

    Raises:
        InvalidInput: as load_case and read_volume; a mask that does not meet the brain.
    """
    volume = load_seen(cases, case, channels, relative_dose=relative_dose)
    folder = cases / case.folder
    record = read_case_record(cases, case)
    world_from_voxel = record.affine
    brain = np.load(folder / "brain.npy")
    images = {role: load_case(cases, case, [role])[0] for role in record.channels}
    mri_role = next(role for role in ("event", "post") if role in images)
    scale_gy = record.dose_scale_gy if "rd" in images else None
    truth = _phantom_masks(folder)
    if masks is not None:
        with about(case.name):
            truth |= _user_masks(masks / case.case_key, world_from_voxel, brain)
    place = None if crop is None else place_of(cases, case, channels, crop.at)
    return Scene(
        case=case,
        volume=volume,
        world_from_voxel=world_from_voxel,
        brain=brain,
        dose_gy=None if scale_gy is None else images["rd"] * scale_gy,
        truth=truth,
        mri=images[mri_role],
        mri_role=mri_role,
        post=images.get("post"),
        event=images.get("event"),
        prescription_gy=read_prescriptions(cases).get(case.case_key),
        place=place,
        seen=None if crop is None or place is None else Window.around(place, crop, record.spacing_mm),
    )


def _phantom_masks(folder: Path) -> dict[str, np.ndarray]:
    truth = dict(np.load(folder / "truth.npz")) if (folder / "truth.npz").is_file() else {}
    return {name: truth[name].astype(bool) for name in MASKS if name in truth}


def _user_masks(folder: Path, world_from_voxel: np.ndarray, brain: np.ndarray) -> dict[str, np.ndarray]:
    masks = {}
    for name in MASKS:
        path = folder / f"{name}.nii.gz"
        if path.is_file():
            masks[name] = _read_mask(path, f"{name} mask", world_from_voxel, brain.shape)
    for name, mask in masks.items():
        if not (mask & (brain != 0)).any():
            raise InvalidInput(
                f"expected a {name} mask that meets the brain, got {int(mask.sum()):,} voxels on the case's grid, none "
                "of them in it",
                "draw it on the image that preprocess used as reference, or resample it to that image's frame",
                code="mask.outside",
            )
    return masks


def _read_mask(path: Path, role: str, world_from_voxel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The mask at the voxels of another grid: each takes the value of the nearest voxel; above one half is inside."""
    with about(role=role):
        mask = read_volume(path)
    index = np.linalg.inv(mask.world_from_voxel) @ world_from_voxel
    # grid-constant: a voxel at the border reaches half an edge beyond its centre.
    sampled = ndimage.affine_transform(
        mask.voxels, index[:3, :3], index[:3, 3], output_shape=shape, order=0, mode="grid-constant"
    )
    return sampled > 0.5
