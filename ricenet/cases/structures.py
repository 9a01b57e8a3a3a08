"""Carry the masks of a case, its lesion and its structures, onto the grid of its images.

A mask lies in the frame of one image and moves with it: the lesion with the event MRI (one that is also a structure,
as where follow-ups were contoured on the planning image, with the structures), structures with the planning
image, where there is none with the post-OP MRI (of a case without one: with the event MRI). It is sampled once,
linearly; a voxel belongs to it from one half on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ricenet.cases.case_record import StructureNumbers
from ricenet.cohort.table import LESION, Case
from ricenet.errors import InvalidInput, about
from ricenet.images.segmentation import is_dicom, read_segmentation
from ricenet.images.volume import Affine, Mask, Volume, read_volume

FILE = "structures.npz"
MAX_LOSS = 0.1  # of a volume on the grid; more is said
TARGETS = ("GTV", "CTV", "PTV")
OF_THE_BRAIN, MIN_IN_BRAIN = (LESION, "GTV"), 0.5
MAX_OUTSIDE = 0.5  # of a mask; more of it outside its image, and it is another image's


@dataclass(frozen=True)
class Structure:
    """A mask as it was given.

    Attributes:
        mask: float32 from 0 to 1, in the frame of `role`'s image.
        role: event, planning or post.
    """

    mask: Volume
    role: str

    @property
    def ml(self) -> float:
        """Its volume."""
        return float(self.mask.voxels.sum(dtype=np.float64) * np.prod(self.mask.spacing_mm) / 1000)


def read_masks(case: Case, images: Mapping[str, Volume]) -> dict[str, Structure]:
    """Read the masks of the case, each with the image in whose frame it lies.

    Args:
        images: by role, each in its own frame.

    Raises:
        InvalidInput: a file that is no mask, or one that lies outside its image.
    """
    return {name: read_structure(case, name, images) for name in case.masks}


def read_structure(case: Case, name: str, images: Mapping[str, Volume]) -> Structure:
    """Read one mask of the case; arguments and errors as of `read_masks`. Compared with its image if that is there."""
    drawn_on_event = name == LESION and case.lesion not in case.structures.values()
    role = "event" if drawn_on_event else case.anchor if case.planning is None else "planning"
    with about(role=name):
        mask = read_mask(case.masks[name])
        if role in images:
            _check_inside(mask, images[role], role)
    return Structure(mask, role)


def read_mask(path: Path) -> Volume:
    """Read a mask from NIfTI or DICOM SEG: 0 to 1.

    Raises:
        InvalidInput: it cannot be read, is empty, or holds several labels.
    """
    try:
        volume = read_segmentation(path) if is_dicom(path) else read_volume(path)
    except InvalidInput as error:
        if error.code != "image.constant":
            raise
        raise InvalidInput(
            "expected a mask, got one that is the same everywhere",
            "empty the column where there is none",
            code="mask.empty",
        ) from None
    lowest, highest = float(volume.voxels.min()), float(volume.voxels.max())
    if lowest >= 0 and 0 < highest <= 1:
        return _padded(volume)
    values = np.unique(volume.voxels)
    if lowest == 0 and len(values) == 2:  # 0 and 255, or one label of several
        return _padded(Volume((volume.voxels > 0).astype(np.float32), volume.world_from_voxel))
    got = f"{len(values):,} values from {lowest:g} to {highest:g}"
    raise InvalidInput(f"expected a mask of 0 and 1, got {got}", "save one region as 0 and 1", code="mask.values")


def _padded(mask: Volume) -> Volume:
    """The mask and a voxel around it: sampling would cut what touches its grid's end by half a voxel."""
    larger = np.eye(4)
    larger[:3, 3] = -1
    return Volume(np.pad(mask.voxels, 1), mask.world_from_voxel @ larger)


def _check_inside(mask: Volume, image: Volume, role: str) -> None:
    """Refuse a mask that lies outside its image."""
    index = np.linalg.inv(image.world_from_voxel) @ mask.world_from_voxel
    voxels = np.argwhere(mask.voxels >= min(0.5, mask.voxels.max()))
    places = voxels @ index[:3, :3].T + index[:3, 3]
    outside = float(((places < -0.5) | (places > np.array(image.voxels.shape) - 0.5)).any(axis=1).mean())
    if outside > MAX_OUTSIDE:
        raise InvalidInput(
            f"expected a mask in the frame of the {role} image, {outside:.0%} of it lies outside that image",
            "give the mask of that image, or empty the column",
            code="mask.outside",
        )


def structure_numbers(
    structures: Mapping[str, Structure], on_grid: Mapping[str, Mask], brain: Mask, grid: Affine
) -> dict[str, StructureNumbers]:
    """What case.json says of the masks.

    Args:
        structures: as they were given, by name.
        on_grid: (X, Y, Z) each, by name.
        brain: (X, Y, Z).
        grid: (4, 4) of the grid, RAS+ mm.
    """
    voxel_ml = float(abs(np.linalg.det(grid[:3, :3]))) / 1000
    return {
        name: StructureNumbers(
            frame_of=structure.role,
            ml=round(structure.ml, 3),
            grid_ml=round(float(on_grid[name].sum()) * voxel_ml, 3),
            in_brain=round(float(brain[on_grid[name]].mean()), 3) if on_grid[name].any() else None,
        )
        for name, structure in structures.items()
    }


def structure_words(structures: Mapping[str, StructureNumbers]) -> list[str]:
    """What people read of each mask: `GTV 33.5 ml, drawn on planning`, and what is unusual about it."""
    words = []
    for name, numbers in structures.items():
        text = f"{name} {numbers.ml:.3g} ml, drawn on {numbers.frame_of}"
        if abs(numbers.grid_ml - numbers.ml) > MAX_LOSS * numbers.ml:
            text += f", on the grid {numbers.grid_ml:.3g} ml"
        if name in OF_THE_BRAIN and numbers.in_brain is not None and numbers.in_brain < MIN_IN_BRAIN:
            text += f", only {numbers.in_brain:.0%} of it in the brain"
        words.append(text)
    return words


def write_masks(folder: Path, masks: Mapping[str, Mask]) -> None:
    """Write structures.npz, one bool array (X, Y, Z) a name; no file without masks."""
    if masks:
        np.savez_compressed(folder / FILE, **dict(masks))  # type: ignore[arg-type]


def load_masks(folder: Path, names: Iterable[str] | None = None) -> dict[str, Mask]:
    """Read the masks of a case folder by name; empty where it has none.

    Args:
        folder: of one case.
        names: those to read, as far as there are; None: all.
    """
    if not (folder / FILE).is_file():
        return {}
    with np.load(folder / FILE) as stored:
        return {name: stored[name] for name in stored.files if names is None or name in names}
