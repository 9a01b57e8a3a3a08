"""The part of a volume that a network sees: a case in; the place of its lesion, and the cube around it, out.

A set of images knows the place only from what it contains: post and event from the user's lesion mask, else from where
the MRI became brighter; the event alone from the mask, else from where that image is brightest. A random place in the
brain is the control. Training, explanation and prediction all ask here.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ricenet.cases.case_record import CaseRecord, Crop, LesionPlace, read_case_record
from ricenet.cases.structures import load_masks
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.cohort.table import LESION
from ricenet.images.enhancement import (
    DIFFERENCE,
    EVENT,
    MASK,
    MIN_CONTRAST,
    NONE,
    brightening,
    brightest_spot,
    largest_part,
    z_scored,
)

if TYPE_CHECKING:
    from ricenet.images.volume import Mask

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Window:
    """A box of a volume: its first voxel there, which may lie before the volume's, and its shape."""

    start: Triple
    shape: Triple

    @classmethod
    def around(cls, place: LesionPlace, crop: Crop, spacing_mm: float) -> "Window":
        """The cube of a crop whose middle is nearest to the place; it may reach beyond the volume."""
        size = crop.voxels(spacing_mm)
        x, y, z = (int(np.floor(centre - (size - 1) / 2 + 0.5)) for centre in place.voxel)
        return cls((x, y, z), (size,) * 3)

    def cut(self, volume: NDArray) -> NDArray:
        """This box of (..., X, Y, Z), a copy; 0 beyond the volume."""
        result = np.zeros((*volume.shape[:-3], *self.shape), volume.dtype)
        (x, y, z), (i, j, k) = self.shared(volume.shape[-3:])
        result[..., x, y, z] = volume[..., i, j, k]
        return result

    def paste(self, values: NDArray, shape: Sequence[int]) -> NDArray:
        """(..., X, Y, Z) of `shape` that holds `values` in this box, as far as it lies inside, and 0 elsewhere."""
        result = np.zeros((*values.shape[:-3], *shape), values.dtype)
        (x, y, z), (i, j, k) = self.shared(shape)
        result[..., i, j, k] = values[..., x, y, z]
        return result

    def shared(self, shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """What box and volume share: in the box's voxels, and in the volume's of this shape."""
        sides = [
            slice(min(max(first, 0), length), max(min(first + size, length), 0))
            for first, size, length in zip(self.start, self.shape, shape, strict=True)
        ]
        inside = tuple(
            slice(side.start - first, side.stop - first) for side, first in zip(sides, self.start, strict=True)
        )
        return inside, tuple(sides)


def find_places(
    images: Mapping[str, NDArray], brain: "Mask", spacing_mm: float, lesion: "Mask | None" = None
) -> dict[str, LesionPlace]:
    """Look for a case's lesion in its mask, in the difference of its MRIs and in the event MRI, as far as there are.

    Args:
        images: the case's channels by name, (X, Y, Z) each.
        brain: (X, Y, Z) bool.
        spacing_mm: edge length of a voxel.
        lesion: the user's mask, (X, Y, Z) bool.
    """
    brain = brain.astype(bool)
    places: dict[str, LesionPlace] = {}
    if lesion is not None and (lesion & brain).any():
        places[MASK] = LesionPlace(
            source=MASK, voxel=_middle(largest_part(lesion & brain))
        )  # between two there may be none
    if "event" not in images:
        return places | {EVENT: LesionPlace(source=NONE, voxel=_middle(brain))}
    event = images["event"].astype(np.float64)
    if "post" in images:
        bright = brightening(images["post"].astype(np.float64), event, brain)
        places[DIFFERENCE] = _brightest(bright, brain, spacing_mm, DIFFERENCE)
    return places | {EVENT: _brightest(z_scored(event, brain), brain, spacing_mm, EVENT)}


def place_of(cases: Path, case: ReadyCase, channels: Sequence[str], at: str) -> LesionPlace:
    """Where a set of `channels` is cropped in a case of the folder `cases`.

    Args:
        channels: what the set contains; without the event MRI, which a crop at a place found on MRI does not fit, it
            knows what the case's images say all the same (crop.everywhere).
        at: `lesion` or `random`.
    """
    record = read_case_record(cases, case)
    if at == "random":
        return random_place(case.case_key, np.load(cases / case.folder / "brain.npy"))
    places = record.lesion or _of_folder(cases / case.folder, record)
    return choose(places, channels, record.channels)


def window_of(cases: Path, case: ReadyCase, channels: Sequence[str], crop: Crop) -> Window:
    """What a set of `channels` sees of a stored case; arguments as of place_of."""
    spacing_mm = read_case_record(cases, case).spacing_mm
    return Window.around(place_of(cases, case, channels, crop.at), crop, spacing_mm)


SOURCE_WORDS = {
    MASK: "the middle of the given lesion mask",
    DIFFERENCE: "where the event MRI is brighter than the post-OP MRI",
    EVENT: "where the event MRI is brightest",
    NONE: "the middle of the brain, as nothing in it enhances",
    "random": "a random place in the brain",
}


def choose(places: Mapping[str, LesionPlace], channels: Sequence[str], of_case: Sequence[str] = ()) -> LesionPlace:
    """The place that a set of `channels` is cropped at, of those that `find_places` gave.

    Args:
        of_case: all channels of the case, which say the place of a set without the event MRI.
    """
    telling = channels if "event" in channels else of_case
    searched = DIFFERENCE if "post" in telling else EVENT
    return places.get(MASK) or places[searched]


def random_place(case_key: str, brain: "Mask") -> LesionPlace:
    """A voxel of the brain, each as likely; the same for the case in every training."""
    seed = int.from_bytes(hashlib.sha256(case_key.encode()).digest()[:8], "big")
    inside = np.argwhere(brain)
    x, y, z = map(float, inside[np.random.default_rng(seed).integers(len(inside))])
    return LesionPlace(source="random", voxel=(x, y, z))


def _of_folder(folder: Path, record: CaseRecord) -> dict[str, LesionPlace]:
    """Of a case folder whose record has no place yet."""
    volume = np.load(folder / "volume.npy", mmap_mode="r")
    images: dict[str, NDArray[Any]] = {
        name: volume[record.channels.index(name)] for name in ("post", "event") if name in record.channels
    }
    lesion = load_masks(folder, [LESION]).get(LESION)
    return find_places(images, np.load(folder / "brain.npy"), record.spacing_mm, lesion)


def _brightest(image: NDArray, brain: "Mask", spacing_mm: float, source: Literal["difference", "event"]) -> LesionPlace:
    spot = brightest_spot(image, brain, np.full(3, spacing_mm))
    contrast = None if spot is None else round(spot.contrast, 3)
    if spot is None or spot.contrast < MIN_CONTRAST[source]:
        return LesionPlace(source=NONE, voxel=_middle(brain), contrast=contrast)
    return LesionPlace(source=source, voxel=_rounded(spot.voxel), contrast=contrast)


def _middle(mask: "Mask") -> tuple[float, float, float]:
    return _rounded(np.argwhere(mask).mean(axis=0))


def _rounded(voxel: Sequence[float] | NDArray) -> tuple[float, float, float]:
    x, y, z = (round(float(place), 3) for place in voxel)
    return x, y, z
