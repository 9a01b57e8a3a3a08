"""The numbers of a case: dose-volume of the brain, dose at the lesion, and how the lesion looks. Arrays in, floats out.

NUMBERS names and defines them all; docs/numbers.md is its table. They are the columns of numbers.csv
(ricenet.cases.numbers_table), what the rows of a grid beside the networks are fitted on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ricenet.errors import InvalidInput
from ricenet.images.boxes import Box, box_around
from ricenet.images.enhancement import Lesion
from ricenet.images.lesion_dose import EDGES, SHARES, lesion_doses
from ricenet.images.lesion_intensity import first_order, rim_minus_core
from ricenet.images.lesion_shape import lesion_shape

Group = Literal["dose_volume", "lesion_dose", "lesion_image"]
Mask = NDArray[np.bool_]
BRAIN_SHARE_AT_GY: Final = (20, 30, 40, 50, 60)


@dataclass(frozen=True)
class Number:
    """One number of a case.

    Attributes:
        name: its column of numbers.csv.
        unit: Gy, mm, ml, SD (of the brain's intensities); 1: a share or a ratio.
        group: the row of a grid that it belongs to.
        definition: in one sentence.
        ibsi: name and code of the image biomarker standardisation initiative, where it has one.
    """

    name: str
    unit: str
    group: Group
    definition: str
    ibsi: str | None = None


def _dose_volume() -> list[Number]:
    brain: Group = "dose_volume"
    return [
        Number("max_gy", "Gy", brain, "Highest dose of the brain."),
        Number("mean_gy", "Gy", brain, "Mean dose of the brain."),
        *(Number(f"v{gy}", "1", brain, f"Share of the brain with at least {gy} Gy.") for gy in BRAIN_SHARE_AT_GY),
    ]


def _lesion_dose() -> list[Number]:
    lesion: Group = "lesion_dose"
    shares = (
        Number(f"lesion_share_above_{percent}", "1", lesion,
               f"Share of the lesion with at least {percent}% of the prescription.")
        for percent in SHARES
    )  # fmt: skip
    distances = (
        Number(f"lesion_mm_inside_{percent}", "mm", lesion,
               f"Mean distance of the lesion's voxels to the {percent}% isodose, positive inside it.")
        for percent in EDGES
    )  # fmt: skip
    return [
        Number("lesion_dose_mean_gy", "Gy", lesion, "Mean dose of the lesion."),
        Number("lesion_dose_min_gy", "Gy", lesion, "Lowest dose of the lesion."),
        Number("lesion_dose_max_gy", "Gy", lesion, "Highest dose of the lesion."),
        Number("lesion_dose_d2_gy", "Gy", lesion, "Dose that 2% of the lesion receive at least (near-maximum)."),
        Number("lesion_dose_d50_gy", "Gy", lesion, "Dose that 50% of the lesion receive at least (median)."),
        Number("lesion_dose_d98_gy", "Gy", lesion, "Dose that 98% of the lesion receive at least (near-minimum)."),
        Number("lesion_dose_gradient_gy_per_mm", "Gy/mm", lesion, "Mean length of the dose's gradient in the lesion."),
        *shares,
        Number("lesion_field", "1", lesion,
               "2 in-field, 1 marginal, 0 out-of-field: at least 80%, at least 20%, less of it in the 95% isodose."),
        *distances,
    ]  # fmt: skip


def _lesion_image() -> list[Number]:
    lesion: Group = "lesion_image"
    return [
        Number("lesion_volume_ml", "ml", lesion, "Volume of the lesion's voxels.", "Volume (voxel counting), YEKZ"),
        Number("lesion_sphericity", "1", lesion,
               "Surface of a ball of the lesion's volume over the lesion's surface, by Crofton's formula; at most 1.",
               "Sphericity, QCFX"),
        Number("lesion_pieces", "1", lesion, "Number of face-connected parts of the lesion."),
        Number("lesion_mm_to_surface", "mm", lesion,
               "Least distance from the lesion to the outer surface of the brain; ventricles are not outside."),
        Number("lesion_mm_to_cavity", "mm", lesion, "Least distance from the lesion to the resection cavity."),
        Number("lesion_rim_minus_core", "SD", lesion,
               "Mean of the event MRI in the lesion's outer part minus that in its core, which is more than half as "
               "deep as its deepest voxel."),
        *(number for image in IMAGES for number in _statistics(image)),
    ]  # fmt: skip


IMAGES: Final = {
    "post": "the post-OP MRI", "event": "the event MRI", "difference": "event minus post-OP MRI",
}  # fmt: skip
STATISTICS: Final = {
    "mean": ("Mean", "Mean intensity, Q4LE"),
    "sd": ("Standard deviation", "square root of Intensity variance, ECT3"),
    "min": ("Minimum", "Minimum intensity, 1GSF"),
    "p10": ("10th percentile", "10th intensity percentile, QG58"),
    "median": ("Median", "Median intensity, Y12H"),
    "p90": ("90th percentile", "90th intensity percentile, 8DWT"),
    "max": ("Maximum", "Maximum intensity, 84IY"),
    "iqr": ("Interquartile range", "Intensity interquartile range, SALO"),
    "skewness": ("Skewness", "Intensity skewness, KE2M"),
    "kurtosis": ("Excess kurtosis", "(Excess) intensity kurtosis, IPH6"),
}


def _statistics(image: str) -> list[Number]:
    return [
        Number(
            f"lesion_{image}_{name}",
            "1" if name in ("skewness", "kurtosis") else "SD",
            "lesion_image",
            f"{title} of {IMAGES[image]} in the lesion.",
            ibsi,
        )
        for name, (title, ibsi) in STATISTICS.items()
    ]


NUMBERS: Final[tuple[Number, ...]] = (*_dose_volume(), *_lesion_dose(), *_lesion_image())


def names_of(*groups: Group) -> tuple[str, ...]:
    """The names of the numbers of some groups, in the order of NUMBERS."""
    return tuple(number.name for number in NUMBERS if number.group in groups)


def numbers_of_case(
    images: Mapping[str, NDArray],
    brain: Mask,
    spacing_mm: float,
    lesion: Lesion,
    prescription_gy: float | None,
    cavity: Mask | None = None,
) -> dict[str, float]:
    """Those of NUMBERS whose parts the case has, in their order.

    Args:
        images: as far as there are: `post` and `event`, (X, Y, Z), z-scored in the brain; `rd`, (X, Y, Z) in Gy.
        brain: (X, Y, Z).
        spacing_mm: edge length of a voxel.
        lesion: of ricenet.images.enhancement.find_lesion; where its mask is empty, its numbers are absent.
        prescription_gy: of the whole treatment; without one, numbers relative to it are absent.
        cavity: (X, Y, Z) of the resection cavity.

    Raises:
        InvalidInput: the brain mask is empty, or the dose in it not finite (`dose.not_finite`).
    """
    numbers = dose_volume(images["rd"], brain) if "rd" in images else {}
    if lesion.mask.any():
        if "rd" in images:
            numbers |= lesion_doses(images["rd"], lesion.mask, spacing_mm, prescription_gy)
        numbers |= lesion_shape(lesion.mask, brain, spacing_mm, cavity)
        numbers |= _intensities(images, brain, lesion.mask)
    return {number.name: numbers[number.name] for number in NUMBERS if number.name in numbers}


def dose_volume(dose_gy: NDArray, brain: Mask) -> dict[str, float]:
    """Maximum and mean dose of the brain in Gy, and the share of it with at least x Gy.

    Raises:
        InvalidInput: the brain mask is empty, or the dose in it not finite.
    """
    doses = dose_gy[brain].astype(np.float64)
    if doses.size == 0 or not np.isfinite(doses).all():
        raise InvalidInput("expected a finite dose inside a brain mask", "preprocess it again", code="dose.not_finite")
    shares = {f"v{gy}": float((doses >= gy).mean()) for gy in BRAIN_SHARE_AT_GY}
    return {"max_gy": float(doses.max()), "mean_gy": float(doses.mean()), **shares}


def _intensities(images: Mapping[str, NDArray], brain: Mask, mask: Mask) -> dict[str, float]:
    """Of each MRI in SD of the brain, however it came, and of their difference."""
    box = box_around(mask, 1)
    scored = {role: _in_sd(images[role], brain, box) for role in ("post", "event") if role in images}
    if len(scored) == 2:
        scored["difference"] = scored["event"] - scored["post"]
    inside = mask[box]
    numbers = {
        f"lesion_{image}_{name}": value
        for image in scored
        for name, value in first_order(scored[image][inside]).items()
    }
    pattern = rim_minus_core(scored["event"], inside) if "event" in scored else None
    return numbers if pattern is None else numbers | {"lesion_rim_minus_core": pattern}


def _in_sd(image: NDArray, brain: Mask, box: Box) -> NDArray[np.float64]:
    """A box of an image in SD of the brain; all 0 where the brain is uniform."""
    values = image[brain].astype(np.float64)
    return np.asarray((image[box] - values.mean()) / max(values.std(), 1e-6))
