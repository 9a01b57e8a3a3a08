"""Check the mask of a lesion: against the head, and against where the user says that the lesion is."""

import numpy as np
from numpy.typing import NDArray

from ricenet.cohort.table import LESION, Place
from ricenet.errors import Finding
from ricenet.images.head import coarse_head
from ricenet.images.volume import Volume

MAX_ML = 150.0  # a ball of 6.6 cm; a larger one is more often a brain, a hemisphere or the oedema
MIN_IN_HEAD = 0.5
MAX_APART_MM = 15.0  # from lesion_mm to the nearest voxel


def check_lesion(mask: Volume, event: Volume | None, place_mm: Place | None, case: str) -> list[Finding]:
    """What is unusual about a lesion mask.

    Args:
        mask: from 0 to 1, in the frame of the event MRI.
        event: that MRI; None where it cannot be read.
        place_mm: where the user says that the lesion is, in the same frame.
    """
    findings = []
    ml = float(mask.voxels.sum(dtype=np.float64) * np.prod(mask.spacing_mm) / 1000)
    if ml > MAX_ML:
        message = f"the lesion mask has {ml:.0f} ml, at most {MAX_ML:g} expected"
        hint = "is it the brain's mask, or another label of the segmentation? Give the enhancing lesion alone"
        findings.append(Finding("lesion.large", case, message, hint, "warning", LESION))
    points_mm = _points_mm(mask)
    if event is not None and (share := _share_in_head(points_mm, event)) < MIN_IN_HEAD:
        message = f"{share:.0%} of the lesion mask lies in the head, at least {MIN_IN_HEAD:.0%} expected"
        hint = "is it the mask of another image, or flipped? Give that of the event MRI, or empty the column"
        findings.append(Finding("lesion.outside_head", case, message, hint, "error", LESION))
    if place_mm is not None:
        findings += _check_place(points_mm, place_mm, case)
    return findings


def _check_place(points_mm: NDArray[np.float64], place_mm: Place, case: str) -> list[Finding]:
    apart_mm = _apart_mm(points_mm, place_mm)
    if apart_mm <= MAX_APART_MM:
        return []
    message = f"the lesion mask is {apart_mm:.0f} mm away from lesion_mm, at most {MAX_APART_MM:g} expected"
    x, y, z = place_mm
    if _apart_mm(points_mm, (-x, -y, z)) <= MAX_APART_MM:
        hint = "it fits with the other sign of x and y: DICOM viewers show LPS, lesion_mm is RAS+; turn both signs"
    else:
        hint = (
            "correct lesion_mm (x y z in mm, RAS+ world of the event MRI; DICOM viewers show LPS: x and y with the "
            "other sign), or the mask"
        )
    return [Finding("lesion.elsewhere", case, message, hint, "warning", LESION)]


def _apart_mm(points_mm: NDArray[np.float64], place_mm: Place) -> float:
    return float(np.linalg.norm(points_mm - place_mm, axis=1).min())


def _points_mm(mask: Volume) -> NDArray[np.float64]:
    """(n, 3) world places of the voxels of a mask, at least one."""
    voxels = np.argwhere(mask.voxels >= min(0.5, mask.voxels.max()))
    return np.asarray(voxels @ mask.world_from_voxel[:3, :3].T + mask.world_from_voxel[:3, 3])


def _share_in_head(points_mm: NDArray[np.float64], event: Volume) -> float:
    coarse, head = coarse_head(event)
    index = np.linalg.inv(coarse.world_from_voxel)
    voxels = np.round(points_mm @ index[:3, :3].T + index[:3, 3]).astype(int)
    within = np.all((voxels >= 0) & (voxels < head.shape), axis=1)
    at = np.where(np.expand_dims(within, 1), voxels, 0)
    return float((within & head[tuple(at.T)]).mean())
