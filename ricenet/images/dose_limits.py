"""Validate a radiotherapy dose map: the cumulative physical dose of the whole treatment, in Gy."""

from dataclasses import replace

import numpy as np

from ricenet.errors import InvalidInput
from ricenet.images.volume import Volume

DOSE_SCALE_GY = 60.0  # the usual prescription; an absolute constant keeps the dose absolute
MAX_GY = (5.0, 100.0)
MIN_CGY = 500.0  # 5 Gy in cGy; sums of plans in Gy stay below it
MAX_OVER_PRESCRIPTION = (0.8, 1.2)
NEGATIVE_GY = 0.1
MIN_COVERAGE = 0.95


def check_dose(dose: Volume, prescription_gy: float | None, fractions: int | None) -> Volume:
    """Check a dose map in its own frame and cut rounding noise below 0 off.

    Args:
        dose: voxels in Gy, all fractions together.
        prescription_gy: of the whole treatment, where the table knows it.
        fractions: likewise.

    Raises:
        InvalidInput: negative dose; a maximum that no treatment has (named as cGy or one fraction if it looks so) or
            that does not fit the prescription.
    """
    lowest, highest = float(dose.voxels.min()), float(dose.voxels.max())
    maximum = f"expected a maximum dose of {MAX_GY[0]:g}-{MAX_GY[1]:g} Gy, got {highest:.4g}"
    if lowest < -NEGATIVE_GY:
        message = f"expected a dose of at least 0 Gy, got {lowest:.3g}"
        raise InvalidInput(message, "resample it linearly", code="dose.negative")
    if highest > MIN_CGY:
        raise InvalidInput(maximum, "is it in cGy? then divide it by 100", code="dose.cgy")
    if highest > MAX_GY[1]:
        raise InvalidInput(maximum, "plans that replace one another summed, or another unit?", code="dose.too_high")
    if prescription_gy and fractions and fractions > 1:
        per_fraction = prescription_gy / fractions
        if abs(highest / per_fraction - 1) <= MAX_OVER_PRESCRIPTION[1] - 1:
            hint = f"it looks like one of {fractions} fractions: multiply it by {fractions}"
            raise InvalidInput(maximum, hint, code="dose.one_fraction")
    if highest < MAX_GY[0]:
        raise InvalidInput(maximum, "one fraction, or relative? give the whole treatment in Gy", code="dose.too_low")
    if prescription_gy and not MAX_OVER_PRESCRIPTION[0] <= highest / prescription_gy <= MAX_OVER_PRESCRIPTION[1]:
        low, high = (share * prescription_gy for share in MAX_OVER_PRESCRIPTION)
        raise InvalidInput(
            f"expected a maximum dose of {low:.1f}-{high:.1f} Gy for a prescription of {prescription_gy:g} Gy, "
            f"got {highest:.1f}",
            "a boost left out, a wrong unit, or a wrong prescription_gy?",
            code="dose.not_as_prescribed",
        )
    return replace(dose, voxels=np.maximum(dose.voxels, 0))


def percent_below(share: float, limit: float) -> str:
    """A share below its limit in percent, with as many decimals as it takes to look smaller: 94%, 94.96%."""
    decimals = next((n for n in range(6) if round(share, n + 2) < limit), 6)
    return f"{share:.{decimals}%}"


def check_coverage(share: float) -> None:
    """Refuse a dose grid that holds less than MIN_COVERAGE of the brain; `share` is what it holds."""
    if share < MIN_COVERAGE:
        raise InvalidInput(
            f"dose grid covers {percent_below(share, MIN_COVERAGE)} of the brain, at least {MIN_COVERAGE:.0%} expected",
            "check the planning image's frame of reference",
            code="dose.coverage",
        )
