"""Prepare a page's viewer: layers on one grid in; a small NIfTI file each, as text, and what the script needs out.

Layers are cut to the brain's box, halved in resolution until they fit the page, stored in 8 bits with a slope, so that
the script shows true values under the crosshair to the step that was stored. viewer.html.j2 and viewer.js show them.
"""

import base64
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from numpy.typing import NDArray
from scipy import ndimage

from ricenet.display.figure_style import DOSE_CONTOURS_GY, MAP_COLOURS, STRUCTURE_COLOURS
from ricenet.images.views import peak
from ricenet.images.volume import Affine, Mask, Voxels

MARGIN_MM = 10.0
MAX_MASKS = 16
SHOWN_SHARE = 0.1  # of the map's limit; what is weaker is clear, or noise would cover the MRI
LIBRARY = Path(__file__).parent / "niivue" / "niivue.umd.js"
SCRIPT = Path(__file__).parent / "viewer.js"


@dataclass(frozen=True)
class Layer:
    """One image of a page; all layers of a page share a grid.

    Attributes:
        name: a plain word; it becomes part of identifiers in the page.
        voxels: (X, Y, Z) float32, axes closest to RAS+.
        kind: `mri` is masked by the brain, one at a time is the background; `dose` is in Gy, from 0; `map` has two
            signs and is clear around 0; `masks` have a bit for each of `names`, the first one 1, and are outlined.
        low, high: ends of the display's window, in the voxels' own unit.
        unit: behind a value; may be empty.
        names: of masks, at most MAX_MASKS.
    """

    name: str
    title: str
    voxels: Voxels
    kind: Literal["mri", "dose", "map", "masks"]
    low: float
    high: float
    unit: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stored:
    """Voxels as integers: value = slope * code + intercept. A masked voxel has the code 0, which stands for nothing."""

    codes: NDArray[np.uint8] | NDArray[np.int8] | NDArray[np.uint16]
    slope: float
    intercept: float
    masked: bool


class PackedLayer(NamedTuple):
    """A layer as the page's script reads it.

    Attributes:
        decimals: shown of a value.
        masked: the value that stands for a voxel outside the brain; None where there is none.
        base64: a .nii.gz; `contours`: that of its lines, the isodoses of a dose, the outlines of masks.
        names, colours: of masks.
    """

    name: str
    title: str
    kind: str
    unit: str
    low: float
    high: float
    decimals: int
    masked: float | None
    base64: str
    contours: str | None
    names: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the files in the page."""
        return len(self.base64) + len(self.contours or "")


def scripts() -> list[str]:
    """The scripts of a page with a viewer, in the order in which they run."""
    return [LIBRARY.read_text(encoding="utf-8"), SCRIPT.read_text(encoding="utf-8")]


def build_view(layers: Sequence[Layer], world_from_voxel: Affine, brain: Mask, budget: int) -> dict[str, Any]:
    """What viewer.html.j2 shows, fit for JSON.

    Args:
        layers: at least one of kind `mri`.
        world_from_voxel: (4, 4) of the layers' grid, RAS+, mm.
        brain: (X, Y, Z).
        budget: largest number of bytes that the volumes may take in the page.

    Returns:
        `layers`: their names, windows, maxima in mm and files in base64; `spacing_mm`; `factor`: how many voxels were
        averaged along each axis; `base`: the MRI that is seen first, that of the event; `start_mm`: where the crosshair
        starts, the map's maximum, else the dose's, else the brain's middle; the colours.
    """
    maxima = {layer.name: _maximum_mm(layer, world_from_voxel, brain) for layer in layers}
    factor = 1
    packed = _pack(layers, world_from_voxel, brain, factor)
    while sum(layer.size for layer in packed) > budget:
        factor *= 2
        packed = _pack(layers, world_from_voxel, brain, factor)
    mri = [layer.name for layer in layers if layer.kind == "mri"]
    order = {"map": 0, "dose": 1, "mri": 2, "masks": 3}
    marked = [maxima[layer.name] for layer in sorted(layers, key=lambda layer: order[layer.kind])]
    middle = apply_affine(world_from_voxel, np.argwhere(brain).mean(axis=0)).round(1).tolist()
    return {
        "layers": [layer._asdict() | {"maximum_mm": maxima[layer.name]} for layer in packed],
        "spacing_mm": (factor * voxel_sizes(world_from_voxel)).round(3).tolist(),
        "factor": factor,
        "base": "event" if "event" in mri else mri[0],
        "start_mm": next((place for place in marked if place is not None), middle),
        "isodoses": [{"gy": gy, "colour": look["color"]} for gy, look in DOSE_CONTOURS_GY.items()],
        "map_colours": {"below": MAP_COLOURS[2::-1], "above": MAP_COLOURS[-3:]},
        "shown_share": SHOWN_SHARE,
    }


def _maximum_mm(layer: Layer, world_from_voxel: Affine, brain: Mask) -> list[float] | None:
    """Where the layer is highest, the dose inside the brain; None for an MRI and for what is nowhere above 0."""
    voxels = np.where(brain, layer.voxels, 0) if layer.kind == "dose" else layer.voxels
    if layer.kind in ("mri", "masks") or voxels.max() <= 0:
        return None
    return apply_affine(world_from_voxel, peak(voxels)).round(3).tolist()


def _pack(layers: Sequence[Layer], world_from_voxel: Affine, brain: Mask, factor: int) -> list[PackedLayer]:
    box = _box(brain, voxel_sizes(world_from_voxel))
    grid = world_from_voxel @ _shift([part.start for part in box]) @ _coarser(factor)
    inside = brain[box]
    return [_packed(layer, store(layer, inside, layer.voxels[box], factor), grid) for layer in layers]


def _packed(layer: Layer, stored: Stored, world_from_voxel: Affine) -> PackedLayer:
    return PackedLayer(
        name=layer.name,
        title=layer.title,
        kind=layer.kind,
        unit=layer.unit,
        low=layer.low,
        high=layer.high,
        decimals=max(0, int(np.floor(-np.log10(stored.slope)))),  # no digit that the step does not carry
        masked=stored.intercept if stored.masked else None,
        base64=_in_text(stored, world_from_voxel),
        contours=_in_text(LINES[layer.kind](stored), world_from_voxel) if layer.kind in LINES else None,
        names=layer.names,
        colours=tuple(STRUCTURE_COLOURS[place % len(STRUCTURE_COLOURS)] for place in range(len(layer.names))),
    )


def _in_text(stored: Stored, world_from_voxel: Affine) -> str:
    return base64.b64encode(nifti(stored, world_from_voxel)).decode()


def _box(brain: Mask, spacing_mm: NDArray) -> tuple[slice, ...]:
    """The brain's box and a margin, as far as the grid reaches."""
    inside = np.argwhere(brain)
    margin = np.ceil(MARGIN_MM / spacing_mm).astype(int)
    first = np.maximum(inside.min(axis=0) - margin, 0)
    last = inside.max(axis=0) + 1 + margin
    return tuple(map(slice, first.tolist(), np.minimum(last, brain.shape).tolist()))


def _shift(voxels: Sequence[int]) -> Affine:
    moved = np.eye(4)
    moved[:3, 3] = voxels
    return moved


def _coarser(factor: int) -> Affine:
    """Voxels of the fine grid from those of the coarse one; outer faces coincide, not the centres of first voxels."""
    coarser = np.diag([factor, factor, factor, 1.0])
    coarser[:3, 3] = (factor - 1) / 2
    return coarser


def store(layer: Layer, brain: Mask, voxels: Voxels, factor: int) -> Stored:
    """Average `factor` voxels along each axis and store them in 8 bits, to half a step.

    Args:
        voxels, brain: (X, Y, Z) of the part to store. Of an MRI only the brain counts, and what is stored is masked to
            blocks at least half of which it fills.
    """
    if layer.kind == "mri":
        weights = brain.astype(np.float32)
        return _store_masked(block_mean(voxels, weights, factor), block_mean(weights, np.ones_like(weights), factor))
    if layer.kind == "masks":
        return _store_masks(voxels.astype(np.uint16), len(layer.names), factor)
    mean = block_mean(voxels, np.ones_like(voxels), factor)
    if layer.kind == "dose":
        slope = _stored_exactly(float(mean.max()) / 255)
        return Stored(np.clip(np.rint(mean / slope), 0, 255).astype(np.uint8), slope, 0.0, False)
    slope = _stored_exactly(float(np.abs(mean).max()) / 127)
    return Stored(np.clip(np.rint(mean / slope), -127, 127).astype(np.int8), slope, 0.0, False)


def _store_masked(mean: Voxels, filled: Voxels) -> Stored:
    inside = filled >= 0.5
    lowest, highest = float(mean[inside].min()), float(mean[inside].max())
    slope = _stored_exactly((highest - lowest) / 254)
    intercept = float(np.float32(lowest - slope))
    codes = np.clip(np.rint((mean - intercept) / slope), 1, 255)
    return Stored(np.where(inside, codes, 0).astype(np.uint8), slope, intercept, True)


def _store_masks(bits: NDArray[np.uint16], count: int, factor: int) -> Stored:
    codes = np.zeros([-(-size // factor) for size in bits.shape], dtype=np.uint16)
    for place in range(count):
        mask = (bits >> place & 1).astype(np.float32)
        codes |= (block_mean(mask, np.ones_like(mask), factor) >= 0.5).astype(np.uint16) << place
    return Stored(codes, 1.0, 0.0, False)


def _stored_exactly(slope: float) -> float:
    """The slope as a header holds it, in float32; 1 for what is constant."""
    return float(np.float32(slope)) or 1.0


def isodoses(dose_gy: Stored) -> Stored:
    """The voxels just inside each isodose, numbered from 1; 0 elsewhere. A fill would hide what lies below the dose."""
    values = dose_gy.slope * dose_gy.codes + dose_gy.intercept
    reached = np.sum([values >= gy for gy in DOSE_CONTOURS_GY], axis=0, dtype=np.uint8)
    lowest = ndimage.minimum_filter(reached, footprint=ndimage.generate_binary_structure(3, 1), mode="nearest")
    return Stored(np.where(lowest < reached, reached, 0).astype(np.uint8), 1.0, 0.0, False)


def outlines(masks: Stored) -> Stored:
    """The voxels just inside each mask, numbered from 1; 0 elsewhere. Outlines of small masks lie on top."""
    ball = ndimage.generate_binary_structure(3, 1)
    inside = {place: (masks.codes >> place & 1).astype(bool) for place in range(MAX_MASKS)}
    lines = np.zeros(masks.codes.shape, dtype=np.uint8)
    for place in sorted(inside, key=lambda place: -int(inside[place].sum())):
        lines[inside[place] & ~ndimage.binary_erosion(inside[place], ball, border_value=1)] = place + 1
    return Stored(lines, 1.0, 0.0, False)


LINES = {"dose": isodoses, "masks": outlines}


def block_mean(voxels: Voxels, weights: Voxels, factor: int) -> Voxels:
    """Weighted means over cubes of `factor` voxels, 0 where all weights are; the last ones may be incomplete.

    Args:
        voxels, weights: (X, Y, Z).

    Returns:
        (ceil(X / factor), ceil(Y / factor), ceil(Z / factor)) float32.
    """
    total, weight = _block_sum(voxels * weights, factor), _block_sum(weights, factor)
    return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0).astype(np.float32)


def _block_sum(voxels: Voxels, factor: int) -> NDArray[np.float64]:
    padded = np.pad(voxels, [(0, -size % factor) for size in voxels.shape])
    x, y, z = (size // factor for size in padded.shape)
    return padded.reshape(x, factor, y, factor, z, factor).sum(axis=(1, 3, 5), dtype=np.float64)


def nifti(stored: Stored, world_from_voxel: Affine) -> bytes:
    """A .nii.gz of it: same voxels, same bytes; no time, file name or free text in any header."""
    image = nib.Nifti1Image(stored.codes, None)
    image.set_sform(world_from_voxel, code=1)
    image.set_qform(world_from_voxel, code=1)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(stored.slope, stored.intercept)
    return gzip.compress(image.to_bytes(), compresslevel=9, mtime=0)
