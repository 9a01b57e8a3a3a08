"""Tell for each series of a patient whether it is a post-contrast T1, and which of several is the best.

ricenet.images.series_words reads one name. Here the series of one exam are seen together: a ProtocolName that all
share names the exam, and an agent that all have was copied by the scanner. A name that says no beats everything, one
that says yes comes next, and the header's agent counts only where the names are silent.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ricenet.dicom.image_series import Series
from ricenet.images.series_words import Contrast, Kind, names_agent, read_name, words_of

MIN_SLICES = 10  # of a series that is no localizer
# Of ImageType (0008,0008). DERIVED alone makes no reformat: scanners write it beside the water image of a Dixon series,
# and anonymisers beside any.
COMPUTED = {
    "SUBTRACTION", "SUBTRACT", "SUB", "ADC", "EADC", "FA", "TRACE", "TRACEW", "MIP", "MINIP", "MIN IP", "MAX IP",
    "MAX_IP", "MIP_SUM", "PROJECTION IMAGE", "PROJECTION", "VRT", "VOLUME RENDERING", "FAT", "FAT_ONLY", "OPP_PHASE",
    "OUT_OF_PHASE", "OUT OF PHASE", "OPPOSED_PHASE", "PHASE", "PHASE MAP", "PHASE_MAP", "IMAGINARY", "REAL", "T1 MAP",
    "T2 MAP", "T1_MAP", "T2_MAP", "MAP", "QUANT", "PERFUSION", "CBF", "CBV", "RCBF", "RCBV", "MTT", "TTP", "LOCALIZER",
    "SCREEN SAVE", "SECONDARY CAPTURE",
}  # fmt: skip
COMPUTED_LETTERS = {"P", "I", "R"}  # phase, imaginary and real part, after the first two values
REFORMATS = {"REFORMATTED", "REFORMAT", "CPR", "CURVED", "MPVR"}
UNCORRECTED = {"ND"}
CORRECTED = ("DIS3D", "DIS2D")  # the better one first
SLICES_3D, SPACING_3D_MM = 90, 2.0  # of a volume of which the header does not say whether it is 3D
HEAD_MM = 100.0
THICKER = 1.25  # slices that are thicker by less do not count as thicker
ALIKE = 1.05
SEQUENCES = {
    "mprage", "rage", "mpr", "bravo", "space", "spc", "cube", "vista", "vibe", "lava", "thrive", "spgr", "fspgr",
    "flash", "tfl", "tfe", "ffe", "tse", "fse", "se", "flair", "blade", "propeller", "mtc", "mt", "dixon", "fs", "bb",
}  # fmt: skip


@dataclass(frozen=True)
class Wording:
    """What a site adds to the words that are known here: regular expressions, of which an empty one adds nothing.

    Attributes:
        contrast: of names of enhanced series.
        never: of names of series that no rule may take.
        no_contrast: of names of series before contrast.
        trust_agent: whether an agent in the header counts even where every series of the exam has one.
    """

    contrast: str = ""
    never: str = ""
    no_contrast: str = ""
    trust_agent: bool = False


@dataclass(frozen=True, repr=False)
class SeriesReading:
    """What names and header of one series say, seen beside the other series of its exam.

    Attributes:
        contrast: yes, no, or unsaid.
        why: who says so, in words without a word of the header.
        by_name: whether the name says so.
        kind: as of NameReading; ImageType makes a series a reformat or a computed image, too.
        text: the texts that name it, for the patterns of a site; never printed.
    """

    contrast: Literal["yes", "no", "unsaid"]
    why: str
    by_name: bool
    kind: Kind
    text: str


def read_exams(series: Sequence[Series], wording: Wording) -> dict[str, SeriesReading]:
    """Read the names and contrast agents of all series of a patient, by UID."""
    readings = {}
    for each in series:
        exam = exam_of(each, series)
        texts = _own_texts(each, exam)
        name = read_name(*texts, sequence=each.sequence_name)
        text = " ".join((*texts, each.sequence_name))
        contrast = _site_contrast(name.contrast, text, wording)
        kind = "derived" if is_computed(each.image_type) else name.kind
        if kind in ("t1", "unsaid") and is_reformat(each.image_type):
            kind = "reformat"
        said, why = _contrast(each, exam, contrast, wording)
        readings[each.uid] = SeriesReading(said, why, contrast != "silent", kind, text)
    return readings


def exam_of(one: Series, series: Sequence[Series]) -> list[Series]:
    """The MR series of the same day, or, where there is no date, of the same study; `one` among them."""
    alike = [
        each
        for each in series
        if each.modality == one.modality
        and (each.date == one.date if one.date is not None else each.study_uid == one.study_uid)
    ]
    return alike


def _own_texts(one: Series, exam: Sequence[Series]) -> list[str]:
    """SeriesDescription, and ProtocolName where it is no name of the exam.

    On GE it is the exam's; elsewhere, too, where all series have one, or where a T1 and a T2 or a series before and
    one after contrast share it.
    """
    if not one.series_description.strip():
        return [one.protocol_name] if len({each.protocol_name for each in exam}) == len(exam) else []
    own = [one.series_description]
    protocol = _bare(one.protocol_name)
    if not protocol or (one.scanner[:1] and one.scanner[0].upper().startswith("GE")):
        return own
    if len({_bare(each.protocol_name) for each in exam} - {""}) < 2:
        return own
    sharing = [read_name(each.series_description) for each in exam if _bare(each.protocol_name) == protocol]
    kinds, contrasts = {each.kind for each in sharing}, {each.contrast for each in sharing}
    differ = {"t1", "other"} <= kinds or {"yes", "no"} <= contrasts
    return own if differ else [*own, one.protocol_name]


def _bare(text: str) -> str:
    return " ".join(text.lower().split())


def _site_contrast(contrast: Contrast, text: str, wording: Wording) -> Contrast:
    """What the name says, with the patterns that a site adds; no still beats yes."""
    if contrast == "no" or matches(wording.no_contrast, text):
        return "no"
    return "yes" if contrast == "yes" or matches(wording.contrast, text) else "silent"


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern of a site is in `text`; an empty one is in none."""
    return bool(pattern) and re.search(pattern, text, re.IGNORECASE) is not None


def _contrast(
    one: Series, exam: Sequence[Series], by_name: Contrast, wording: Wording
) -> tuple[Literal["yes", "no", "unsaid"], str]:
    if by_name != "silent":
        return by_name, f"its name says {'with' if by_name == 'yes' else 'without'} contrast"
    if one.contrast_usage == "NO" or one.contrast_amount == 0:
        return "no", "its header says that no agent was given"
    if not _has_agent(one):
        return "unsaid", "neither its name nor its header says whether with contrast"
    whole = [each for each in exam if each.shape[2] >= MIN_SLICES and not is_computed(each.image_type)]
    if wording.trust_agent or not all(_has_agent(each) for each in whole):
        return "yes", "its header names an agent"
    return "unsaid", "its name does not say whether with contrast, and every series of the exam has an agent"


def _has_agent(one: Series) -> bool:
    given = names_agent(one.contrast_agent) or one.contrast_usage == "YES"
    return given and one.contrast_usage != "NO" and one.contrast_amount != 0


def _values(image_type: Sequence[str]) -> list[str]:
    return [" ".join(value.upper().split()) for value in image_type]


def is_computed(image_type: Sequence[str]) -> bool:
    """Whether it is a subtraction, a projection, a map, a phase or a fat image."""
    values = _values(image_type)
    return not COMPUTED.isdisjoint(values) or not COMPUTED_LETTERS.isdisjoint(values[2:])


def is_reformat(image_type: Sequence[str]) -> bool:
    """Whether it was cut anew from another series."""
    return any(value in REFORMATS or value.startswith("MPR") for value in _values(image_type))


def _derived(image_type: Sequence[str]) -> int:
    """0 for an image as it was acquired, 1 for DERIVED, 2 for DERIVED and SECONDARY."""
    values = _values(image_type)[:2]
    return 0 if "DERIVED" not in values else 1 + ("SECONDARY" in values)


def _correction(image_type: Sequence[str]) -> int:
    """Which of several images of one acquisition is corrected for distortion: 0 in 3D, 1 in 2D, 2 unknown, 3 not."""
    values = _values(image_type)
    for rank, value in enumerate(CORRECTED):
        if value in values:
            return rank
    return 3 if not UNCORRECTED.isdisjoint(values) else 2


def _is_in_phase(image_type: Sequence[str]) -> bool:
    """Whether it is the in-phase image of a Dixon series, beside which the water image goes first."""
    return not {"IN_PHASE", "IN PHASE", "IN"}.isdisjoint(_values(image_type)[2:])


Keep = Callable[[Sequence[Series], Mapping[str, SeriesReading]], list[Series]]


def best_of(
    candidates: Sequence[Series], readings: Mapping[str, SeriesReading]
) -> tuple[list[Series], list[tuple[Series, str]]]:
    """Choose among the post-contrast T1 of one day; several are left where nothing tells them apart.

    Args:
        candidates: of one day.
        readings: of read_exams, by UID.

    Returns:
        The best, and each that was passed over with the reason.
    """
    left, passed_over = list(candidates), []
    for keep, reason in STEPS:
        kept = keep(left, readings) or left
        uids = {each.uid for each in kept}
        passed_over += [(each, reason) for each in left if each.uid not in uids]
        left = kept
    return left, passed_over


def _lowest(rank: Callable[[Series, SeriesReading], float]) -> Keep:
    """Keep the series of the lowest rank."""

    def keep(series: Sequence[Series], readings: Mapping[str, SeriesReading]) -> list[Series]:
        ranks = [rank(each, readings[each.uid]) for each in series]
        return [each for each, its in zip(series, ranks, strict=True) if its == min(ranks)]

    return keep


def is_3d(series: Series) -> bool:
    """As the header says; where it does not, by the voxels."""
    if series.acquisition_3d is not None:
        return series.acquisition_3d
    return series.shape[2] >= SLICES_3D and max(series.spacing_mm) <= SPACING_3D_MM


def plane_of(series: Series) -> str:
    """axial, coronal or sagittal, whichever is nearest; "" where the slices have no grid."""
    if series.grid is None:
        return ""
    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(series.grid.world_from_voxel[:3, 2])))]


def _covers_head(series: Series) -> bool:
    """Whether the slices span most of a head; not those of an orbit or a pituitary gland."""
    extent_mm = series.shape[2] * series.spacing_mm[2]
    return extent_mm == 0 or extent_mm >= HEAD_MM


def _without_uncorrected(series: Sequence[Series], _: Mapping[str, SeriesReading]) -> list[Series]:
    """Without the images that are not corrected for distortion, where corrected ones lie beside them."""
    ranks = [3 if _bare(each.series_description).endswith("_nd") else _correction(each.image_type) for each in series]
    corrected = any(rank < 2 for rank in ranks) or (3 in ranks and 2 in ranks)
    return [each for each, rank in zip(series, ranks, strict=True) if not corrected or rank < 3]


def _latest_repeats(series: Sequence[Series], readings: Mapping[str, SeriesReading]) -> list[Series]:
    """Of the series of one sequence and one grid, which were measured again, the last; where the times are known."""
    groups: dict[tuple[object, ...], list[Series]] = {}
    for each in series:
        sequence = frozenset(words_of(readings[each.uid].text).split()) & SEQUENCES
        spacing = tuple(round(step, 2) for step in each.spacing_mm)
        groups.setdefault((sequence, each.shape, spacing, plane_of(each)), []).append(each)
    latest = []
    for group in groups.values():
        times = [each.acquisition_time for each in group]
        latest += [each for each in group if not all(times) or each.acquisition_time == max(times)]
    return latest


def _smallest(size: Callable[[Series], float], tolerance: float) -> Keep:
    """Keep the series of the smallest size, and those that are larger by less than the factor `tolerance`."""

    def keep(series: Sequence[Series], _: Mapping[str, SeriesReading]) -> list[Series]:
        smallest = min(map(size, series))
        return [each for each in series if size(each) <= tolerance * smallest]

    return keep


def _volume_mm3(series: Series) -> float:
    return float(np.prod(series.shape) * np.prod(series.spacing_mm))


def _fat_suppressed(_: Series, reading: SeriesReading) -> float:
    return re.search(r"\b(?:fs|fat ?sat\w*|spair|spir|fat ?supp?\w*)\b", words_of(reading.text)) is not None


# In this order; each with what is said of those that it passes over.
STEPS: tuple[tuple[Keep, str], ...] = (
    (_lowest(lambda _, reading: reading.contrast == "yes" and not reading.by_name),
     "only its header says that it is enhanced, and the name of another one does"),
    (_lowest(lambda _, reading: reading.kind == "reformat"), "a reformat of another series"),
    (_lowest(lambda series, _: _derived(series.image_type) > 1), "made from another series, by its ImageType"),
    (_lowest(lambda series, _: not _covers_head(series)), "covers only a part of the head"),
    (_lowest(lambda series, _: not is_3d(series)), "2D beside 3D"),
    (_lowest(lambda series, _: series.problem is not None), "no whole volume"),
    (_without_uncorrected, "not corrected for distortion, beside one that is"),
    (_smallest(lambda series: max(series.spacing_mm), THICKER), "thicker slices"),
    (_lowest(lambda series, _: not is_3d(series) and plane_of(series) != "axial"), "2D in another plane than axial"),
    (_lowest(lambda series, _: _is_in_phase(series.image_type)), "the in-phase image beside the water image"),
    (_lowest(_fat_suppressed), "with fat suppression, beside one without"),
    (_lowest(lambda series, _: _derived(series.image_type)), "made from another series, by its ImageType"),
    (_latest_repeats, "measured again later"),
    (_smallest(lambda series: float(np.prod(series.spacing_mm)), ALIKE), "larger voxels"),
    (_smallest(lambda series: 1 / max(_volume_mm3(series), 1e-3), ALIKE), "a smaller volume"),
    (_lowest(lambda series, _: _correction(series.image_type)), "less corrected for distortion"),
)  # fmt: skip
