"""Tell for each series of a patient whether it is a post-contrast T1, and which series fit a rule.

ricenet.dicom.series_words reads one name. Here the series of one exam are seen together: a ProtocolName that all
share names the exam, and an agent that all have was copied by the scanner. A name that says no beats everything, one
that says yes comes next, and the header's agent counts only where the names are silent.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ricenet.command.schemas import RuleConfig
from ricenet.dicom.image_series import Series
from ricenet.dicom.name_hints import is_scout
from ricenet.dicom.series_words import Contrast, Kind, names_agent, names_t1, read_name

MIN_SLICES = 10  # of a series that is no localizer
# Of ImageType (0008,0008). DERIVED alone makes no reformat: scanners write it beside the water image of a Dixon series,
# and anonymisers beside any.
COMPUTED = {
    "SUBTRACTION", "SUBTRACT", "SUB", "ADC", "EADC", "FA", "TRACE", "TRACEW", "MIP", "MINIP", "MIN IP", "MAX IP",
    "MAX_IP", "MIP_SUM", "PROJECTION IMAGE", "PROJECTION", "VRT", "VOLUME RENDERING", "FAT", "FAT_ONLY", "OPP_PHASE",
    "OUT_OF_PHASE", "OUT OF PHASE", "OPPOSED_PHASE", "PHASE", "PHASE MAP", "PHASE_MAP", "IMAGINARY", "REAL", "T1 MAP",
    "T2 MAP", "T1_MAP", "T2_MAP", "MAP", "QUANT", "PERFUSION", "CBF", "CBV", "RCBF", "RCBV", "MTT", "TTP", "LOCALIZER",
    "SCREEN SAVE", "SECONDARY CAPTURE", "OUT_PHASE", "OUT-PHASE", "OPP",
}  # fmt: skip
# After the first two values: phase, imaginary and real part; Philips' fat and opposed-phase image.
COMPUTED_LETTERS = {"P", "I", "R", "F", "OP"}
REFORMATS = {"MPR", "REFORMATTED", "REFORMAT", "CPR", "CURVED", "MPVR"}


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
        if kind == "t1" and is_reformat(each.image_type):
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
    own = [one.series_description] if one.series_description.strip() else []
    protocol = _bare(one.protocol_name)
    if not protocol or (one.scanner[:1] and one.scanner[0].upper().startswith("GE")):
        return own
    if len(exam) == 1:
        return own or [one.protocol_name]
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
    if one.contrast_usage == "NO":
        return "no", "its header says that no agent was given"
    if not _has_agent(one):
        return "unsaid", "neither its name nor its header says whether with contrast"
    doubt = "" if wording.trust_agent else _doubt(one, exam)
    return (
        ("unsaid", f"its name does not say whether with contrast, and {doubt}")
        if doubt
        else ("yes", "its header names an agent")
    )


def _doubt(one: Series, exam: Sequence[Series]) -> str:
    """Why the agent in its header proves nothing; "" where it does.

    A form that is filled in while the patient lies in the scanner names the agent in what comes before it, too.
    """
    names = {each.uid: read_name(each.series_description, sequence=each.sequence_name) for each in exam}
    whole = [
        each
        for each in exam
        if each.shape[2] >= MIN_SLICES and not is_computed(each.image_type) and not is_scout(each.series_description)
    ]
    t1s = [each for each in whole if names[each.uid].kind == "t1" and not is_reformat(each.image_type)]
    without = [each for each in t1s if not _has_agent(each)]
    if all(_has_agent(each) for each in whole):
        return "every series of the exam has an agent"
    if any(each.acquisition_time > one.acquisition_time > "" for each in without):
        return "a T1 that was measured later has none"
    if any(names[each.uid].contrast == "no" and _has_agent(each) for each in whole):
        return "a series without contrast, by its name, has an agent"
    measured = {each.acquisition_time or each.uid for each in t1s}
    return "every T1 of the exam has an agent" if len(measured) > 1 and not without else ""


def _has_agent(one: Series) -> bool:
    given = names_agent(one.contrast_agent) or one.contrast_usage == "YES"
    return given and one.contrast_usage != "NO" and one.contrast_amount != 0


def image_type_values(image_type: Sequence[str]) -> list[str]:
    """The values of ImageType in upper case."""
    return [" ".join(value.upper().split()) for value in image_type]


def is_computed(image_type: Sequence[str]) -> bool:
    """Whether it is a subtraction, a projection, a map, a phase or a fat image."""
    values = image_type_values(image_type)
    return not COMPUTED.isdisjoint(values) or not COMPUTED_LETTERS.isdisjoint(values[2:])


def is_reformat(image_type: Sequence[str]) -> bool:
    """Whether it was cut anew from another series."""
    return any(value in REFORMATS or value.startswith(("MPR ", "MPR_")) for value in image_type_values(image_type))


@dataclass(frozen=True)
class SeriesSearch:
    """The series of a patient, for rules that look for those that fit.

    Attributes:
        series: all of the patient.
        frame: of reference of the dose, for `same_frame`; None where there is none.
        wording: of the site.
        readings: of read_exams.
    """

    series: Sequence[Series]
    frame: str | None
    wording: Wording
    readings: Mapping[str, SeriesReading]

    def fitting(self, rule: RuleConfig) -> list[Series]:
        """The series of any day that fit the rule."""
        return [each for each in self.series if self._fits(each, rule) and self._has_contrast(each, rule)]

    def unsaid(self, rule: RuleConfig) -> list[Series]:
        """Those of any day that fit it but for the contrast, or the weighting, of which nothing speaks."""
        return [each for each in self.series if self._may_fit(each, rule)] if rule.contrast else []

    def _may_fit(self, each: Series, rule: RuleConfig) -> bool:
        reading = self.readings[each.uid]
        if reading.contrast == "yes":
            return reading.kind == "unsaid" and self._fits(each, replace(rule, kind="any", matches=""))
        return reading.contrast == "unsaid" and self._fits(each, rule)

    def _has_contrast(self, each: Series, rule: RuleConfig) -> bool:
        return rule.contrast is None or (self.readings[each.uid].contrast == "yes") == rule.contrast

    def _fits(self, each: Series, rule: RuleConfig) -> bool:
        return (
            each.modality == rule.modality
            and self._is_of_kind(each, rule)
            and is_large_enough(each, rule)
            and (rule.when != "same_frame" or (self.frame is not None and each.frame_of_reference == self.frame))
        )

    def _is_of_kind(self, each: Series, rule: RuleConfig) -> bool:
        reading = self.readings[each.uid]
        if matches(self.wording.never, reading.text) or (rule.matches and not matches(rule.matches, reading.text)):
            return False
        if rule.modality != "MR" or rule.kind == "any":
            return True
        return reading.kind not in ("derived", "other") if rule.matches else reading.kind in ("t1", "reformat")

    def passed_over(self, rule: RuleConfig, candidates: Sequence[Series]) -> list[tuple[Series, str]]:
        """Other T1 of the candidates' days, and why they are none of them."""
        uids, days = {each.uid for each in candidates}, {each.date for each in candidates}
        others = []
        for each in self.series:
            reading = self.readings[each.uid]
            if each.modality != rule.modality or each.date not in days or each.uid in uids:
                continue
            if reading.kind == "derived" and (reading.contrast == "yes" or names_t1(reading.text)):
                others.append((each, "computed from other series"))
            elif reading.kind in ("t1", "reformat") and reading.contrast != "yes":
                others.append((each, reading.why))
            elif reading.kind == "other" and reading.contrast == "yes" and names_t1(reading.text):
                others.append((each, "its name speaks of another weighting, or of another part of the body"))
            elif reading.kind == "unsaid" and reading.contrast == "yes":
                others.append((each, "its name does not say that it is a T1"))
            elif reading.kind in ("t1", "reformat"):
                slices, step_mm = rule.min_slices, rule.max_spacing_mm
                others.append((each, f"fewer than {slices} slices, or voxels of more than {step_mm:g} mm"))
        return others


def is_large_enough(series: Series, rule: RuleConfig) -> bool:
    """Whether it has the rule's slices and resolution."""
    return series.shape[2] >= rule.min_slices and max(series.spacing_mm) <= rule.max_spacing_mm
