"""How a phantom looks beside what its label acts on: a patient's seed in; contrast, scanners and misregistration out.

`Appearance()` is a patient of difficulty=standard, and all look alike. `draw_appearance` draws one of difficulty=hard.
Nothing here knows the label: each effect is drawn from random numbers of its own, so that it can hide what
ricenet.phantoms.causal_model planted, and add nothing to it.

| effect of difficulty=hard | how it is drawn | hides |
| --- | --- | --- |
| faint enhancement | 30% of the patients: the lesion's rim has .45 to .7 of its brightness | lesion |
| no core | 25%: the lesion is a patch of enhancement and no core | core brightness, lesion |
| steroids | 40%: rim and patch have .65 to .9 of their brightness | lesion |
| vessels, choroid plexus | enhance in both MRIs, by .8 to 1.2 of their brightness as the exam is timed | lesion |
| rim of the surgery | .7 to 1.5 around the fresh cavity; .2 to .6 of it, and thinner, at the event | residual, lesion |
| registration error | the event MRI lies 1 mm (RMS) off; format=cases alone: raw scans get registered | depth |
| warp | between the MRIs, smooth, .5 mm SD along each axis | depth |
| two scanners | B has less contrast than A and 2.5 times the noise; balanced over the classes | brightness |
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

RIM_BRIGHTNESS = 1.3
RICIAN_NOISE = 0.02  # of white matter
# Of difficulty=hard: shares of the patients, factors (low, high), and mm.
FAINT_SHARE = 0.30
FAINT = (0.45, 0.70)
CORELESS_SHARE = 0.25
STEROID_SHARE = 0.40
STEROID_FADING = (0.65, 0.90)
VESSEL_BRIGHTNESS = 1.7
VESSEL_TIMING = (0.8, 1.2)
SURGERY_RIM = (0.7, 1.5)
SURGERY_RIM_MM = 2.5
SURGERY_RIM_LEFT = (0.2, 0.6)  # at the event, of its brightness
SURGERY_RIM_LEFT_MM = 1.5
REGISTRATION_ERROR_MM = 1.0  # RMS length
WARP_MM = 0.5  # SD along each axis
STREAM = 7  # of a patient's random numbers


@dataclass(frozen=True)
class Scanner:
    """How an MR scanner and its protocol render brightness relative to white matter.

    Attributes:
        contrast: exponent of the brightness; below 1 the tissues are less different.
        noise: SD of each of the two channels of the Rician noise.
    """

    name: str = "A"
    contrast: float = 1.0
    noise: float = RICIAN_NOISE


SCANNERS = (Scanner(), Scanner("B", contrast=0.7, noise=2.5 * RICIAN_NOISE))


@dataclass(frozen=True)
class Appearance:
    """What a patient's images show beside the causal quantities; the defaults are those of difficulty=standard.

    Brightness is relative to white matter, places are RAS+ mm, pairs are (post, event).

    Attributes:
        lesion_rim: brightness that the rim of the new lesion, or its patch, adds.
        has_core: whether the lesion has a core; without one it is a patch of enhancement.
        faint, steroids: why lesion_rim is low.
        vessels: brightness of vessels and choroid plexus; 0: none are drawn.
        cavity_rim: brightness that the rim of the cavity adds.
        cavity_rim_mm: its half-width.
        event_shift_mm: how far the event MRI lies off.
        warp_mm: SD along each axis of the smooth displacement of the event MRI.
        scanners: which scanner made them.
    """

    lesion_rim: float = RIM_BRIGHTNESS
    has_core: bool = True
    faint: bool = False
    steroids: bool = False
    vessels: tuple[float, float] = (0.0, 0.0)
    cavity_rim: tuple[float, float] = (0.35, 0.35)
    cavity_rim_mm: tuple[float, float] = (1.3, 1.3)
    event_shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    warp_mm: float = 0.0
    scanners: tuple[Scanner, Scanner] = (SCANNERS[0], SCANNERS[0])

    def scanner(self, role: str) -> Scanner:
        """The scanner of the `post` or the `event` MRI."""
        return self.scanners[("post", "event").index(role)]

    def row(self) -> dict[str, str]:
        """The effects as cells of a table, numbers to four digits."""
        numbers = {
            "lesion_rim": self.lesion_rim,
            **{f"vessels_{role}": value for role, value in zip(("post", "event"), self.vessels, strict=True)},
            **{f"cavity_rim_{role}": value for role, value in zip(("post", "event"), self.cavity_rim, strict=True)},
            **{f"event_shift_{axis}_mm": value for axis, value in zip("xyz", self.event_shift_mm, strict=True)},
            "warp_mm": self.warp_mm,
        }
        flags = {"has_core": self.has_core, "faint": self.faint, "steroids": self.steroids}
        scanners = {f"{role}_scanner": self.scanner(role).name for role in ("post", "event")}
        return (
            {name: str(int(flag)) for name, flag in flags.items()}
            | {name: f"{number:.4g}" for name, number in numbers.items()}
            | scanners
        )


STANDARD_APPEARANCE = Appearance()


def draw_appearance(seed: int, scanners: tuple[Scanner, Scanner]) -> Appearance:
    """Draw the look of a patient of difficulty=hard; `seed` is the patient's."""
    rng = np.random.default_rng([seed, STREAM])
    faint, coreless, steroids = rng.random(3) < (FAINT_SHARE, CORELESS_SHARE, STEROID_SHARE)
    faintness, fading = rng.uniform(*FAINT), rng.uniform(*STEROID_FADING)
    vessels = VESSEL_BRIGHTNESS * rng.uniform(*VESSEL_TIMING, 2)
    fresh = rng.uniform(*SURGERY_RIM)
    left = fresh * rng.uniform(*SURGERY_RIM_LEFT)
    x, y, z = rng.normal(0, REGISTRATION_ERROR_MM / np.sqrt(3), 3)
    return Appearance(
        lesion_rim=float(RIM_BRIGHTNESS * (faintness if faint else 1) * (fading if steroids else 1)),
        has_core=not coreless,
        faint=bool(faint),
        steroids=bool(steroids),
        vessels=(float(vessels[0]), float(vessels[1])),
        cavity_rim=(float(fresh), float(left)),
        cavity_rim_mm=(SURGERY_RIM_MM, SURGERY_RIM_LEFT_MM),
        event_shift_mm=(float(x), float(y), float(z)),
        warp_mm=WARP_MM,
        scanners=scanners,
    )


def deal_scanners(labels: Iterable[int], rng: np.random.Generator) -> list[tuple[Scanner, Scanner]]:
    """A pair of scanners (post, event) for each patient, every pair as often as any other among those of a label."""
    labels = np.array(list(labels))
    number = np.zeros(len(labels), dtype=int)
    for label in np.unique(labels):
        patients = rng.permutation(np.flatnonzero(labels == label))
        number[patients] = np.arange(len(patients)) % len(SCANNERS) ** 2
    return [(SCANNERS[pair // len(SCANNERS)], SCANNERS[pair % len(SCANNERS)]) for pair in number]
