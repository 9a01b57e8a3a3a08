"""Choose the best of several post-contrast T1 of one day, and say of each other one why it was passed over."""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ricenet.delivery.series_names import SeriesReading, image_type_values
from ricenet.dicom.image_series import Series
from ricenet.dicom.name_hints import is_delayed
from ricenet.dicom.series_words import words_of

UNCORRECTED = "ND"
CORRECTED = ("DIS3D", "DIS2D")  # the better one first
SLICES_3D, SPACING_3D_MM = 90, 2.0  # of a volume of which the header does not say whether it is 3D
HEAD_MM = 100.0
THICKER = 1.25  # slices that are thicker by less do not count as thicker
ALIKE = 1.05
SEQUENCES = {
    "mprage", "rage", "mpr", "bravo", "space", "spc", "cube", "vista", "vibe", "lava", "thrive", "spgr", "fspgr",
    "flash", "tfl", "tfe", "ffe", "tse", "fse", "se", "flair", "blade", "propeller", "mtc", "mt", "dixon", "fs", "bb",
}  # fmt: skip
EXAM_HOURS = 3.0  # no exam lasts longer
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


def exams_of_day(series: Sequence[Series]) -> list[list[Series]]:
    """The exams of one day that have any of `series`, the first first; studies of an unknown hour are of one exam.

    One exam may be filed as several studies; studies that began hours apart are two, before and after an operation.
    """
    begun = {
        study: min(_hour(each) for each in series if each.study_uid == study)
        for study in {each.study_uid for each in series}
    }
    exams: list[list[Series]] = []
    last = -np.inf
    for study in sorted(begun, key=lambda study: (begun[study], study)):
        if not exams or begun[study] - last > EXAM_HOURS:
            exams.append([])
        exams[-1] += [each for each in series if each.study_uid == study]
        last = begun[study]
    known = all(0 <= hour < np.inf for hour in begun.values())
    return exams if known else [list(series)]


def remarks_of_the_day(
    role: str,
    chosen: Series,
    candidates: Sequence[Series],
    unsaid: Sequence[Series],
    readings: Mapping[str, SeriesReading],
) -> list[str]:
    """What the other series of its day leave open.

    Args:
        role: of the chosen series.
        chosen: among candidates.
        candidates: that fit a rule, of any day.
        unsaid: that may fit it, if they are enhanced T1.
        readings: of read_exams, by UID.
    """
    of_day = [each for each in candidates if each.date == chosen.date]
    unsaid = [each for each in unsaid if each.date == chosen.date]
    exams = exams_of_day([*of_day, *unsaid])
    exam = next(exam for exam in exams if chosen in exam)
    open_uids = {each.uid for each in unsaid}
    unsure = [each for each in exam if is_3d(each) and (each.uid in open_uids or not readings[each.uid].by_name)]
    remarks = []
    if len({each.study_uid for each in of_day}) > 1 and not all(each.acquisition_time for each in of_day):
        remarks.append("several studies of its day have series that fit, and no header says which came first")
    if unsure and not is_3d(chosen):
        remarks.append(
            f"a 2D series was taken, because no name says whether {len(unsure)} in 3D of its day are enhanced"
        )
    if role == "post" and exam is not exams[-1]:
        remarks.append("a later exam of its day has T1 of which nothing says whether enhanced")
    return remarks


def remark_of_named(named: Series, reading: SeriesReading) -> str:
    """What speaks against a series that the user named: his key may be that of another row."""
    if reading.kind in ("derived", "other"):
        what = "computed" if reading.kind == "derived" else "no T1 of a head"
        return f"the series you named is, by its name or header, {what}"
    return f"the series you named is not enhanced: {reading.why}" if reading.contrast == "no" else ""


def best_planning(candidates: list[Series], uids: Sequence[str]) -> tuple[list[Series], str]:
    """The planning image among several of one frame, and why it; any of them would lead to the post-OP MRI.

    Native and contrast-enhanced, or with metal artefacts reduced: the one that was contoured, else the one with most
    slices and the finest step, else the first.
    """
    whole = [each for each in candidates if each.problem is None]
    if len(whole) < 2:
        return candidates, ""
    contoured = [each for each in whole if each.uid.partition("#")[0] in uids]
    if len(contoured) == 1:
        return contoured, f"of {len(whole)} images in the dose's frame the one that the plan's structures were drawn on"
    finest = min(contoured or whole, key=lambda each: (-each.shape[2], max(each.spacing_mm)))
    return [finest], f"of {len(whole)} images in the dose's frame the one with most slices and the finest step"


def _hour(series: Series) -> float:
    """Of the day; infinite where unknown."""
    digits = series.acquisition_time[:4]
    return int(digits[:2]) + int(digits[2:]) / 60 if len(digits) == 4 and digits.isdigit() else np.inf


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


def covers_head(series: Series) -> bool:
    """Whether the slices span most of a head; not those of an orbit or a pituitary gland."""
    extent_mm = series.shape[2] * series.spacing_mm[2]
    return extent_mm == 0 or extent_mm >= HEAD_MM


def _without_uncorrected(series: Sequence[Series], _: Mapping[str, SeriesReading]) -> list[Series]:
    """Without the images that are not corrected for distortion, where corrected ones lie beside them."""
    ranks = [_correction(each) for each in series]
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


def _is_suppressed(_: Series, reading: SeriesReading) -> float:
    words = r"\b(?:fs|fat ?sat\w*|spair|spir|fat ?supp?\w*|mtc?|bb|(?:black|dark) ?blood|dante|msde|motsa)\b"
    return re.search(words, words_of(reading.text)) is not None


def _derived(image_type: Sequence[str]) -> int:
    """0 for an image as it was acquired, 1 for DERIVED, 2 for DERIVED and SECONDARY."""
    values = image_type_values(image_type)[:2]
    return 0 if "DERIVED" not in values else 1 + ("SECONDARY" in values)


def _correction(series: Series) -> int:
    """Which of several images of one acquisition is corrected for distortion: 0 in 3D, 1 in 2D, 2 unknown, 3 not."""
    values = image_type_values(series.image_type)
    uncorrected = UNCORRECTED in values or series.series_description.strip().lower().endswith("_nd")
    return next((rank for rank, value in enumerate(CORRECTED) if value in values), 3 if uncorrected else 2)


def _is_in_phase(image_type: Sequence[str]) -> bool:
    """Whether it is the in-phase image of a Dixon series, beside which the water image goes first."""
    return not {"IN_PHASE", "IN PHASE", "IN-PHASE", "IN", "IP"}.isdisjoint(image_type_values(image_type)[2:])


# In this order; each with what is said of those that it passes over.
STEPS: tuple[tuple[Keep, str], ...] = (
    (_lowest(lambda _, reading: reading.contrast == "yes" and not reading.by_name),
     "only its header says that it is enhanced, and the name of another one does"),
    (_lowest(lambda _, reading: is_delayed(reading.text)), "a delayed series, by its name"),
    (_lowest(lambda _, reading: reading.kind == "reformat"), "a reformat of another series"),
    (_lowest(lambda series, _: _derived(series.image_type) > 1), "made from another series, by its ImageType"),
    (_lowest(lambda series, _: not covers_head(series)), "covers only a part of the head"),
    (_lowest(lambda series, _: not is_3d(series)), "2D beside 3D"),
    (_lowest(lambda series, _: series.problem is not None), "no whole volume"),
    (_without_uncorrected, "not corrected for distortion, beside one that is"),
    (_smallest(lambda series: max(series.spacing_mm), THICKER), "thicker slices"),
    (_lowest(lambda series, _: not is_3d(series) and plane_of(series) != "axial"), "2D in another plane than axial"),
    (_lowest(lambda series, _: _is_in_phase(series.image_type)), "the in-phase image beside the water image"),
    (_lowest(_is_suppressed), "with suppression of fat or blood or magnetisation transfer, beside one without"),
    (_lowest(lambda series, _: _derived(series.image_type)), "made from another series, by its ImageType"),
    (_latest_repeats, "measured again later"),
    (_smallest(lambda series: float(np.prod(series.spacing_mm)), ALIKE), "larger voxels"),
    (_smallest(lambda series: 1 / max(_volume_mm3(series), 1e-3), ALIKE), "a smaller volume"),
    (_lowest(lambda series, _: _correction(series)), "less corrected for distortion"),
)  # fmt: skip
