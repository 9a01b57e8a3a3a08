"""Compare a case with a model's training cohort: a model-ready case in; a few measures beside their range out.

Each number stands for a way in which a case can be unlike the training cohort without breaking a rule:
- dose_max_gy: another prescription, a boost, another unit. dose_mean_gy: another irradiated volume.
- brain_ml: a brain extraction that failed, a child.
- similarity, rotation_degrees, translation_mm: how post and event met; a failed registration stands out here.
- <channel>_rim: mean of the outer half of the brain minus that of the inner: below 0 in T1w, where white matter is
  brighter than cortex and CSF, above it in T2w.
- <channel>_skewness: z-scoring takes brightness and contrast away, so only the shape of the histogram tells a scan
  without contrast agent (-.6, and 2.9 with it, of one glioma) from one with it.
- <channel>_p1, <channel>_p99: the dark end (cavity, background in the mask) and the bright one (enhancement, skull).

They are few because each raises false alarms: a patient of the very same population is outside the range of n training
cases in one measure with probability 2 / (n + 1), before the margin. Of 80 phantoms, 9 were outside the range of the
other 79 in one of eleven measures.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.stats import skew

from ricenet.display.words import channel_name
from ricenet.errors import Finding
from ricenet.prediction.model_json import MeasureRange
from ricenet.prediction.prediction_record import MeasureInRange

MARGIN_SHARE = 0.05  # of the range's width on both sides
DIGITS = 4
MAX_DEPTH_VOXELS = 64  # voxels along the longest side, where depth in the brain is looked at
FROM_QC = ("similarity", "rotation_degrees", "translation_mm")  # of event and post; say nothing without the event


@dataclass(frozen=True)
class MeasureMeaning:
    """How people read a measure; `hint`: what to look at where it is outside."""

    title: str
    unit: str
    channel: str
    hint: str


_DOSE = "is the dose the whole treatment in Gy, and was the patient treated as the training cohort was?"
_MET = "look at the pictures of both images: did the registration succeed?"
_BRAIN = "look at the brain mask: is it the whole brain, and only that?"
_SHAPE = "is it a T1w with contrast agent, as in training? then look at the brain mask"
MEANINGS = {
    "dose_max_gy": MeasureMeaning("Dose maximum", "Gy", "rd", _DOSE),
    "dose_mean_gy": MeasureMeaning("Mean dose to the brain", "Gy", "rd", _DOSE),
    "brain_ml": MeasureMeaning("Brain volume", "ml", "", _BRAIN),
    "similarity": MeasureMeaning("Similarity of post-OP and event MRI", "", "event", _MET),
    "rotation_degrees": MeasureMeaning("Rotation from post-OP to event MRI", "degrees", "event", _MET),
    "translation_mm": MeasureMeaning("Shift from post-OP to event MRI", "mm", "event", _MET),
}
SHAPES = {
    "rim": ("rim minus core", "SD"),
    "skewness": ("skewness in the brain", ""),
    "p1": ("1st percentile", "SD"),
    "p99": ("99th percentile", "SD"),
}


def measure(
    volume: np.ndarray,
    brain: np.ndarray,
    channels: Sequence[str],
    qc: Mapping[str, float],
    dose_scale_gy: float | None,
) -> dict[str, float]:
    """The measures of one case by name; those that it has.

    Args:
        volume: (C, X, Y, Z) float32, as the model sees it: MRI z-scored in the brain, dose over `dose_scale_gy`.
        brain: (X, Y, Z) bool.
        channels: of the volume.
        qc: numbers of the case folder (case.json).
        dose_scale_gy: None where the dose is not in Gy: z-scored, it has no measure.
    """
    inside = np.asarray(brain, dtype=bool)
    measures = {"brain_ml": qc["brain_ml"]} if "brain_ml" in qc else {}
    if "event" in channels:
        measures |= {name: qc[name] for name in FROM_QC if name in qc}
    for channel, image in zip(channels, volume, strict=True):
        if channel != "rd":
            measures |= _shape(channel, image, inside)
        elif dose_scale_gy is not None:
            measures["dose_max_gy"] = image.max() * dose_scale_gy
            measures["dose_mean_gy"] = image[inside].mean(dtype=np.float64) * dose_scale_gy
    return {name: round(float(value), DIGITS) for name, value in measures.items()}


def _shape(channel: str, image: np.ndarray, brain: np.ndarray) -> dict[str, float]:
    values = image[brain].astype(np.float64)
    p1, p99 = np.percentile(values, (1, 99))
    asymmetry = float(skew(values)) if values.std() > 0 else 0.0
    measures = {"rim": _rim(image, brain), "skewness": asymmetry, "p1": p1, "p99": p99}
    return {f"{channel}_{kind}": value for kind, value in measures.items()}


def _rim(image: np.ndarray, brain: np.ndarray) -> float:
    """Mean of the half of the brain that is nearer to its surface, minus that of the other."""
    step = max(1, max(brain.shape) // MAX_DEPTH_VOXELS)
    image, brain = (array[::step, ::step, ::step] for array in (image, brain))
    depth = distance_transform_edt(np.pad(brain, 1))[1:-1, 1:-1, 1:-1]
    deep = brain & (depth > np.median(depth[brain]))
    core = image[deep] if deep.any() else image[brain]  # a brain of one layer has no depth
    return float(image[brain & ~deep].mean(dtype=np.float64) - core.mean(dtype=np.float64))


def ranges(measured: Iterable[Mapping[str, float]]) -> dict[str, MeasureRange]:
    """Name -> the lowest and highest value and the number of cases that have one."""
    values: dict[str, list[float]] = {}
    for case in measured:
        for name, value in case.items():
            values.setdefault(name, []).append(value)
    return {name: MeasureRange(low=min(row), high=max(row), n=len(row)) for name, row in values.items()}


def compare(measures: Mapping[str, float], ranges: Mapping[str, MeasureRange]) -> list[MeasureInRange]:
    """Each measure beside its range; one without a range in the training is left out."""
    return [_in_range(name, value, ranges[name]) for name, value in measures.items() if name in ranges]


def _in_range(name: str, value: float, of_training: MeasureRange) -> MeasureInRange:
    low, high = of_training.low, of_training.high
    margin = MARGIN_SHARE * (high - low)
    meaning = describe(name)
    return MeasureInRange(
        name=name,
        title=meaning.title,
        unit=meaning.unit,
        value=value,
        low=low,
        high=high,
        inside=low - margin <= value <= high + margin,
    )


def outside(rows: Iterable[MeasureInRange], case: str) -> list[Finding]:
    """A warning for each row of `compare` that is not inside; `case`: how findings call the patient."""
    return [_warning(row, case) for row in rows if not row.inside]


def _warning(row: MeasureInRange, case: str) -> Finding:
    meaning = describe(row.name)
    unit = f" {meaning.unit}" if meaning.unit else ""
    message = (
        f"{meaning.title} is {row.value:.4g}{unit}, in the training cohort it was {row.low:.4g} to "
        f"{row.high:.4g}{unit}: no training case was like this"
    )
    return Finding(f"range.{row.name}", case, message, meaning.hint, "warning", meaning.channel)


def describe(name: str) -> MeasureMeaning:
    """How people read the measure `name`."""
    if name in MEANINGS:
        return MEANINGS[name]
    channel, _, kind = name.rpartition("_")
    title, unit = SHAPES[kind]
    spoken = channel_name(channel)
    return MeasureMeaning(f"{spoken[:1].upper()}{spoken[1:]}: {title}", unit, channel, _SHAPE)
