"""The page of one patient: prediction.json and the case's images in, one HTML file out that opens offline.

Without a prediction (`fit` false) the page says why and what to do, and holds no probability.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ricenet.cases.crop import SOURCE_WORDS
from ricenet.cases.structures import structure_words
from ricenet.cohort.ingest_record import SelectionRecord
from ricenet.command.atomic import replace_file
from ricenet.display.page import Picture, jpeg, render
from ricenet.display.viewer import Layer, build_view, scripts
from ricenet.display.words import channel_name, interval, number, percent, signed
from ricenet.explanation.map_record import SeenPart
from ricenet.explanation.map_sentences import numbers_in_words
from ricenet.images.volume import Affine, Mask
from ricenet.prediction.prediction_record import (
    CalibratedProbability,
    CaseMapNumbers,
    CitedModel,
    PredictionRecord,
    SeenNumbers,
    UnfitRecord,
)

PAGE_BYTES = 8_000_000
TEXT_BYTES = 150_000  # of everything in a page but scripts, picture and volumes
LABEL_NAMES = {"recurrence": "recurrence", "rice": "radiation-induced (RICE)"}
UNITS = {"gy": "Gy", "mm": "mm", "ml": "ml", "degrees": "degrees"}
PICTURES = {  # by whether there is a map: what a picture shows, and its caption
    True: (
        "Axial, coronal and sagittal slices of the MRI with dose contours, and with the occlusion map over it",
        "Slices through the map's maximum: above, the MRI with isodoses; below, the map over it.",
    ),
    False: (
        "Axial, coronal and sagittal slices of the MRIs with the outline of the brain, and the dose where there is one",
        "The MRIs with the brain's outline, two of them also in tiles; where there is a dose, the isodoses.",
    ),
}
LESION_WORDS = {
    "mask": "the given mask",
    "difference": "the place where the event MRI is brighter than the post-OP MRI",
    "event": "the place where the event MRI is bright",
    "none": "nothing, as nothing in the brain enhances",
}
FINDINGS = ("findings", "Findings")
SECTIONS = (
    ("answer", "Prediction"),
    ("worth", "What the model is worth"),
    ("images", "Images"),
    ("measures", "Training range"),
    ("map", "Occlusion map"),
    ("preprocessing", "Preprocessing"),
)
NUMBERS = ("numbers", "Numbers beside the images")
DELIVERY = ("delivery", "What was delivered")
LAST_SECTIONS = (("provenance", "Model and versions"), ("limits", "What the model is not"))


def write_page(
    path: Path,
    prediction: PredictionRecord | UnfitRecord,
    layers: Sequence[Layer] | None,
    world_from_voxel: Affine,
    brain: Mask,
    picture: bytes | None,
) -> None:
    """Write `path` in one step; below 8 MB, for which the viewer's images are halved in resolution if they must be.

    Args:
        prediction: where `fit` is false, layers and picture are left out.
        layers: what the viewer shows; None for a page without a viewer and without any script.
        world_from_voxel: (4, 4) of the layers' grid, RAS+, mm.
        brain: (X, Y, Z) on that grid.
        picture: PNG of the same case, for browsers that cannot show the viewer, and for printing.
    """
    last = (DELIVERY, *LAST_SECTIONS) if prediction.delivery else LAST_SECTIONS
    if isinstance(prediction, UnfitRecord):
        replace_file(path, _render(prediction, sections=(FINDINGS, *last)))
        return
    words = PICTURES[prediction.occlusion is not None]
    drawing = None if picture is None else Picture(jpeg(io.BytesIO(picture)), *words)
    code = [] if layers is None else scripts()
    budget = PAGE_BYTES - TEXT_BYTES - sum(map(len, code)) - (0 if drawing is None else len(drawing.source))
    content = _render(
        prediction,
        code,
        sections=(FINDINGS, *_sections(prediction), *last),
        sentences=prediction_sentences(prediction),
        worth=worth(prediction.model),
        dots=dot_plot(prediction),
        view=None if layers is None else build_view(layers, world_from_voxel, brain, budget),
        picture=drawing,
        regions=_regions(prediction.occlusion),
        structures=structure_words(prediction.structures),
    )
    replace_file(path, content)


def _sections(prediction: PredictionRecord) -> list[tuple[str, str]]:
    """SECTIONS, and that of the numbers behind the training range where the models see some."""
    if prediction.numbers is None:
        return list(SECTIONS)
    behind = [name for name, _ in SECTIONS].index("measures") + 1
    return [*SECTIONS[:behind], NUMBERS, *SECTIONS[behind:]]


def _render(prediction: PredictionRecord | UnfitRecord, code: Sequence[str] = (), **view: Any) -> str:
    filters = (number, signed, percent, reading, three_digits, channel_name, region_name, quantity)
    view["taken"] = _taken(prediction.delivery)
    return render("prediction.html.j2", {each.__name__: each for each in filters}, code, p=prediction, **view)


def _taken(delivery: SelectionRecord | None) -> dict[str, str]:
    """What each series of a delivery was taken as, or why not: series -> `event: rule 3: after radiotherapy`."""
    if delivery is None:
        return {}
    words: dict[str, list[str]] = {}
    for role, image in delivery.images.items():
        name = channel_name(role)
        words.setdefault(image.series, []).append(f"{name}: {image.reason}")
        for other in image.passed_over:
            words.setdefault(other.series, []).append(f"not {name}: {other.reason}")
    for role, candidates in delivery.undecided.items():
        for series in candidates:
            words.setdefault(series, []).append(f"{channel_name(role)}? Name it with {role}_series= if it is")
    return {series: "; ".join(reasons) for series, reasons in words.items()}


def prediction_sentences(prediction: PredictionRecord) -> list[str]:
    """How likely, in one sentence; then how far the models agree, and what speaks against trusting the prediction."""
    calibrated, mean, folds = prediction.calibrated, prediction.probability, prediction.folds
    name = LABEL_NAMES[prediction.predicted]
    votes = prediction.votes[prediction.predicted]
    if calibrated is None:
        first = (
            f"The mean of the models' probabilities that the lesion is radiation-induced (RICE) is {number(mean)}; it "
            "is not calibrated, so it is no frequency."
        )
    else:
        first = (
            f"The probability that the lesion is radiation-induced (RICE) is "
            f"{interval(calibrated.probability, calibrated.interval)}, calibrated on {calibrated.n} "
            "out-of-fold predictions of the training cohort."
        )
    models = f"The models predict {name}: their mean is {number(mean)}"
    if len(folds) > 1:
        models += (
            f", {votes} of {len(folds)} vote for it, and they range from {number(min(folds))} to {number(max(folds))} "
            f"(standard deviation {number(prediction.spread)})"
        )
    return [
        first, models + ".", *_seen(prediction.seen), *_beside(prediction.numbers), *_doubts(calibrated, mean),
    ]  # fmt: skip


def _beside(numbers: SeenNumbers | None) -> list[str]:
    """What the models see beside the images, on which lesion it is measured, and what it does."""
    if numbers is None:
        return []
    given = sum(part.value is not None for part in numbers.parts.values())
    text = f"Beside the images the models see {given} of {len(numbers.parts)} numbers of this patient"
    if numbers.lesion_source is not None:
        text += f", those of the lesion measured on {LESION_WORDS[numbers.lesion_source]}"
        text += f" ({numbers.lesion_contrast:.1f} SD)" if numbers.lesion_contrast is not None else ""
    return [f"{text}. In them: {numbers_in_words(numbers)}. The occlusion map is of the images alone."]


def _seen(seen: SeenPart | None) -> list[str]:
    """What of the images the models look at, where it is not all."""
    if seen is None:
        return []
    return [
        f"The models see a cube of about {seen.size_mm:g} mm, around {SOURCE_WORDS[seen.place.source]}; nothing "
        "outside of it can change their prediction, and the occlusion map is 0 there."
    ]


def _doubts(calibrated: CalibratedProbability | None, mean: float) -> list[str]:
    if calibrated is None:
        return ["The out-of-fold predictions do not allow a calibration: the models may be far too sure of themselves."]
    doubts = []
    if (calibrated.probability > 0.5) != (mean > 0.5):
        doubts.append(
            "The calibrated probability and the models' mean lie on different sides of one half: calibration reverses "
            "the models' prediction, so the case is undecided."
        )
    low, high = calibrated.interval
    if low <= 0.5 <= high:
        doubts.append("The interval includes one half: the models do not settle this case.")
    doubts.append(
        "The interval is that of the calibration curve at this value, not of this patient; the curve was fitted to "
        "single models' predictions, and this patient has the mean of all."
    )
    return doubts


def worth(model: CitedModel) -> list[str]:
    """What cross-validation says of the models."""
    cohort = model.cohort
    evaluation = model.evaluation
    sentences = [
        f"Out of fold, over {cohort.cases} cases of {cohort.patients} patients ({cohort.recurrence} "
        f"recurrence, {cohort.rice} RICE), the models reach a macro F1 of "
        f"{interval(evaluation.oof_macro_f1, evaluation.oof_interval)} and an AUROC of "
        f"{interval(evaluation.auroc, evaluation.auroc_interval)}."
    ]
    if evaluation.auroc_interval and evaluation.auroc_interval[0] <= 0.5:
        sentences.append("The interval of the AUROC reaches 0.5: it is not shown that they are better than chance.")
    sentences.append(
        "These are numbers of one cohort's patients; elsewhere, with other scanners and other treatment, expect worse."
    )
    return sentences


@dataclass(frozen=True)
class DotPlot:
    """The drawing of the probabilities; `text`: what it shows, in words."""

    text: str
    folds: tuple[float, ...]
    mean: float
    calibrated: CalibratedProbability | None


def dot_plot(prediction: PredictionRecord) -> DotPlot:
    """What the drawing shows; places in it are probabilities times 400."""
    folds = prediction.folds
    calibrated = prediction.calibrated
    text = (
        f"Probability of RICE on a scale from 0 to 1. The {len(folds)} models: {', '.join(map(number, folds))}; their "
        f"mean: {number(prediction.probability)}"
    )
    if calibrated is not None:
        text += f"; calibrated: {interval(calibrated.probability, calibrated.interval)}"
    return DotPlot(text + ".", folds, prediction.probability, calibrated)


@dataclass(frozen=True)
class RegionShare:
    """A region's share of the map, and of the brain, which a map spread evenly would have there."""

    name: str
    map: float | None
    brain: float | None


def _regions(occlusion: CaseMapNumbers | None) -> list[RegionShare]:
    if occlusion is None:
        return []
    return [RegionShare(name, share, occlusion.brain_share.get(name)) for name, share in occlusion.map_share.items()]


def reading(value: float, decimals: int) -> str:
    """A value as the viewer writes it under the crosshair."""
    text = f"{value:.{decimals}f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "\N{MINUS SIGN}")


def three_digits(value: object) -> str:
    """Three significant digits of a number, never as a power of ten; anything else as it is, what is not known as –."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    digits = 2 - int(np.floor(np.log10(abs(value)))) if value else 0
    return reading(value, 0 if isinstance(value, int) else max(0, digits))


def quantity(name: str) -> str:
    """`dose max (Gy)` for dose_max_gy."""
    *words, last = name.split("_")
    return " ".join(words) + f" ({UNITS[last]})" if last in UNITS else " ".join((*words, last))


def region_name(region: str) -> str:
    """`dose 20 to 40 Gy` for dose_20_40."""
    low, _, high = region.removeprefix("dose_").partition("_")
    if region == "dose_edge" or not region.startswith("dose_"):
        return region.replace("_", " ")
    return f"dose above {high} Gy" if low == "above" else f"dose {low} to {high} Gy"
