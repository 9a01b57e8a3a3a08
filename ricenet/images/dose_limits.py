"""Validate a radiotherapy dose map: the cumulative physical dose of the whole treatment, in Gy.

What a treatment may have is a preset of conf/dose_limits: DoseLimits. They refuse or warn and change no voxel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import numpy as np
import yaml

from ricenet.command.schemas import CONF_DIR, DoseLimitsConfig
from ricenet.errors import Finding, InvalidInput, WrongUsage
from ricenet.images.volume import Volume

DOSE_SCALE_GY = 60.0  # the usual prescription; an absolute constant keeps the dose absolute
LOWEST_GY = 5.0  # of the maximum of a whole treatment
MIN_CGY = 500.0  # 5 Gy in cGy; sums of plans in Gy stay below it
STEREOTACTIC_FROM_GY = 5.0  # per fraction; from there the maximum lies far above the prescription
STEREOTACTIC_KEY = "a stereotactic treatment: dose_limits=stereotactic (predict: a line in the file of ingest=)"
NEGATIVE_GY = 0.1
SAME_PLACE_MM = 1e-3
MIN_COVERAGE = 0.95


@dataclass(frozen=True)
class DoseLimits:
    """What the dose of a whole treatment may be; the keys of conf/dose_limits/<name>.yaml.

    Attributes:
        name: of the preset.
        over_prescription: lowest and highest ratio of the highest dose to the prescription.
        highest_gy: of any treatment.
        gy_per_fraction: prescription over fractions, above which there is a warning.
    """

    name: str
    over_prescription: tuple[float, float]
    highest_gy: float
    gy_per_fraction: float

    def fit(self, highest_gy: float, prescription_gy: float | None) -> bool:
        """Whether a treatment may have this highest dose."""
        low, high = self.over_prescription
        as_prescribed = not prescription_gy or low <= highest_gy / prescription_gy <= high
        return LOWEST_GY <= highest_gy <= self.highest_gy and as_prescribed


def limits_from(cfg: DoseLimitsConfig) -> DoseLimits:
    """The limits that a config gives.

    Raises:
        WrongUsage: they admit no treatment.
    """
    ratios = tuple(cfg.over_prescription)
    if len(ratios) != 2 or not 0 < ratios[0] <= 1 <= ratios[1]:
        raise WrongUsage(
            "dose_limits.over_prescription should be two numbers, one in (0, 1] and one from 1, such as [0.8, 1.2], "
            f"got {list(ratios)}"
        )
    if not LOWEST_GY < cfg.highest_gy < MIN_CGY:
        raise WrongUsage(
            f"dose_limits.highest_gy should lie between {LOWEST_GY:g} and {MIN_CGY:g}, got {cfg.highest_gy:g}"
        )
    if not cfg.gy_per_fraction > 0:
        raise WrongUsage(f"dose_limits.gy_per_fraction should be above 0, got {cfg.gy_per_fraction:g}")
    return DoseLimits(cfg.name, (ratios[0], ratios[1]), cfg.highest_gy, cfg.gy_per_fraction)


@cache
def preset(name: str = "normofractionated") -> DoseLimits:
    """The limits of conf/dose_limits/<name>.yaml, where the numbers stand.

    Raises:
        WrongUsage: there is no such preset.
    """
    names = sorted(path.stem for path in (CONF_DIR / "dose_limits").glob("*.yaml"))
    if name not in names:
        raise WrongUsage(f"dose_limits should be {' | '.join(names)}, got {name!r}")
    return limits_from(DoseLimitsConfig(**yaml.safe_load((CONF_DIR / "dose_limits" / f"{name}.yaml").read_text())))


def holding(limits: DoseLimits | None, prescription_gy: float | None, fractions: int | None) -> DoseLimits:
    """The limits for a schedule: above STEREOTACTIC_FROM_GY per fraction the stereotactic preset holds, too.

    Args:
        limits: that were asked for; None: the default.
        prescription_gy: of the whole treatment, None where unknown.
        fractions: likewise.
    """
    limits = limits or preset()
    if not prescription_gy or not fractions or prescription_gy / fractions <= STEREOTACTIC_FROM_GY:
        return limits
    wide = preset("stereotactic")
    return DoseLimits(
        name=wide.name,
        over_prescription=(
            min(limits.over_prescription[0], wide.over_prescription[0]),
            max(limits.over_prescription[1], wide.over_prescription[1]),
        ),
        highest_gy=max(limits.highest_gy, wide.highest_gy),
        gy_per_fraction=limits.gy_per_fraction,
    )


def check_dose(
    dose: Volume, prescription_gy: float | None, fractions: int | None, limits: DoseLimits | None = None
) -> Volume:
    """Check a dose map in its own frame and cut rounding noise below 0 off; see dose_warnings for what passes.

    Args:
        dose: voxels in Gy, all fractions together.
        prescription_gy: of the whole treatment, where the table knows it.
        fractions: likewise.
        limits: of a treatment; None: the preset for normofractionation.

    Raises:
        InvalidInput: negative dose; a maximum that no treatment has (named as cGy or one fraction if it looks so) or
            that does not fit the prescription.
    """
    checked = without_noise(dose)
    check_highest(float(dose.voxels.max()), prescription_gy, fractions, limits)
    return checked


def without_noise(dose: Volume) -> Volume:
    """Cut rounding noise below 0 off.

    Raises:
        InvalidInput: the dose is negative beyond it.
    """
    lowest = float(dose.voxels.min())
    if lowest < -NEGATIVE_GY:
        message = f"expected a dose of at least 0 Gy, got {lowest:.3g}"
        raise InvalidInput(message, "resample it linearly", code="dose.negative")
    return replace(dose, voxels=np.maximum(dose.voxels, 0))


def check_highest(
    highest_gy: float, prescription_gy: float | None, fractions: int | None, limits: DoseLimits | None = None
) -> None:
    """Check the highest dose of a treatment in Gy; arguments and errors as of check_dose."""
    limits = holding(limits, prescription_gy, fractions)
    maximum = f"expected a maximum dose of {LOWEST_GY:g}-{limits.highest_gy:g} Gy, got {highest_gy:.4g}"
    if highest_gy > MIN_CGY:
        raise InvalidInput(maximum, "is it in cGy? then divide it by 100", code="dose.cgy")
    if highest_gy > limits.highest_gy:
        hint = f"plans that replace one another summed, or another unit? {STEREOTACTIC_KEY}"
        raise InvalidInput(maximum, hint, code="dose.too_high")
    if limits.fit(highest_gy, prescription_gy):
        return
    low, high = limits.over_prescription
    if prescription_gy and fractions and fractions > 1 and low <= highest_gy / (prescription_gy / fractions) <= high:
        hint = f"it looks like one of {fractions} fractions: multiply it by {fractions}"
        raise InvalidInput(maximum, hint, code="dose.one_fraction")
    if highest_gy < LOWEST_GY or not prescription_gy:
        raise InvalidInput(maximum, "one fraction, or relative? give the whole treatment in Gy", code="dose.too_low")
    raise InvalidInput(
        f"expected a maximum dose of {low * prescription_gy:.1f}-{high * prescription_gy:.1f} Gy for a prescription of "
        f"{prescription_gy:g} Gy, got {highest_gy:.1f}",
        f"a boost left out, a wrong unit, or a wrong prescription_gy? {STEREOTACTIC_KEY}",
        code="dose.not_as_prescribed",
    )


def dose_warnings(
    highest_gy: float,
    prescription_gy: float | None,
    fractions: int | None,
    limits: DoseLimits | None = None,
    case: str = "",
) -> list[Finding]:
    """What somebody should look at in a dose that check_dose lets pass.

    Args:
        highest_gy: of the dose map.
        prescription_gy: of the whole treatment, None where unknown.
        fractions: likewise.
        limits: as of check_dose.
        case: how the report calls the case.

    Returns:
        Warnings: a high dose per fraction; a maximum that only a stereotactic treatment has.
    """
    limits = limits or preset()
    if not prescription_gy or not fractions:
        return []
    per_fraction, findings = prescription_gy / fractions, []
    schedule = f"{prescription_gy:g} Gy in {fractions} {'fraction' if fractions == 1 else 'fractions'}"
    if per_fraction > limits.gy_per_fraction * (1 + 1e-6):
        message = f"{schedule}: {per_fraction:.3g} Gy per fraction, expected at most {limits.gy_per_fraction:g}"
        hint = f"compare prescription_gy and fractions with the plan; {STEREOTACTIC_KEY}"
        findings.append(Finding("dose.per_fraction", case, message, hint, "warning", "rd"))
    if not limits.fit(highest_gy, prescription_gy):
        ratio = highest_gy / prescription_gy
        message = (
            f"a maximum of {highest_gy:.1f} Gy, {ratio:.2f} x the prescription, passes as stereotactic ({schedule})"
        )
        hint = f"look at the isodoses; {STEREOTACTIC_KEY}"
        findings.append(Finding("dose.stereotactic", case, message, hint, "warning", "rd"))
    return findings


def check_distinct(doses: Mapping[str, Volume]) -> None:
    """Refuse doses that are to be summed and are one dose; `doses`: by role.

    Raises:
        InvalidInput: two have the same voxels in the same place.
    """
    for (first, one), (second, other) in combinations(doses.items(), 2):
        same_place = np.allclose(one.world_from_voxel, other.world_from_voxel, atol=SAME_PLACE_MM)
        if same_place and np.array_equal(one.voxels, other.voxels):
            message = f"{first} and {second} are the same dose, which would count twice"
            raise InvalidInput(message, f"correct one path, or empty {second}", code="dose.same")


def nearest_sum(highest_gy: Sequence[float], prescription_gy: float | None) -> float:
    """The highest dose of parts that lie in several frames, as near to the prescription as their sum can have it.

    Before they lie on one grid it is known that the sum's highest dose is between the highest of any part and the sum
    of the parts' highest: what is wrong with this number is wrong with the sum.

    Args:
        highest_gy: of each part, Gy.
        prescription_gy: of the whole treatment; None where unknown.
    """
    return min(max(prescription_gy or LOWEST_GY, *highest_gy), float(sum(highest_gy)))


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
