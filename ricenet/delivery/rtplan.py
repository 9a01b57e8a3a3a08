"""Read RTPLAN files: what a radiotherapy plan says of fractions, beams, prescription and approval.

And which images the RTSTRUCT refers to on which it was planned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydicom.uid import RTStructureSetStorage

from ricenet.delivery.rtobject import RTObject, read_object
from ricenet.dicom.headers import FIRST_YEAR, read_date
from ricenet.dicom.part10 import quiet_pydicom
from ricenet.errors import InvalidInput

PLAN_CLASSES = ("1.2.840.10008.5.1.4.1.1.481.5", "1.2.840.10008.5.1.4.1.1.481.8")  # RT Plan, RT Ion RtPlan
CHECKS = ("VERIFICATION", "MACHINE_QA", "SERVICE")  # what is irradiated is no patient
INTENTS = ("CURATIVE", "PALLIATIVE", "PROPHYLACTIC", "RESEARCH", *CHECKS)
APPROVAL = ("APPROVED", "UNAPPROVED", "REJECTED")
CONFIRMED_SHARE = 0.05  # fractions times beam doses confirm a prescription that is as near


HIGHEST_TARGET_GY = 200.0


@dataclass(frozen=True)
class FractionGroup:
    """One fraction group of a plan.

    Attributes:
        fractions: planned number; None if the plan does not give it.
        beams: numbers of the treatment beams (no setup beams).
        prescription_gy: highest prescription of the targets that the group refers to; None if it refers to none.
    """

    fractions: int | None
    beams: frozenset[int]
    prescription_gy: float | None = None


@dataclass(frozen=True, repr=False)  # no repr: it would print a patient
class RtPlan:
    """One RTPLAN; UIDs and `date` identify a patient and stay out of every output.

    Attributes:
        groups: by Fraction Group Number.
        prescription_gy: to its targets by all groups, in Gy; None if the plan has none or leaves several possible.
        approval: APPROVED, UNAPPROVED, REJECTED, UNKNOWN (another value) or "" (absent).
        date: None where it is absent, empty, or an anonymiser's.
        structure_set: UID of the RTSTRUCT that it was planned on; "" if it names none.
        frame_of_reference: UID; "" if it has none.
        beam_dose_gy: sum over fractions and beams of the beams' doses; None where one of the numbers lacks.
        intent: PlanIntent, a defined term, UNKNOWN or "".
    """

    sop_instance: str
    groups: dict[int, FractionGroup]
    prescription_gy: float | None
    approval: str
    date: date | None
    structure_set: str = ""
    frame_of_reference: str = ""
    beam_dose_gy: float | None = None
    intent: str = ""

    @property
    def is_check(self) -> bool:
        """Whether it says that it checks a treatment or a machine, on a phantom."""
        return self.intent in CHECKS

    @property
    def may_be_delivered(self) -> bool:
        """Whether a patient may have been treated by it."""
        return self.approval != "REJECTED" and not self.is_check

    @property
    def fractions(self) -> int | None:
        """Planned fractions summed over all groups; None if one is unknown."""
        planned = [group.fractions for group in self.groups.values()]
        return sum(filter(None, planned)) if planned and None not in planned else None


@dataclass(frozen=True, repr=False)
class RtStructure:
    """What the header of an RTSTRUCT refers to, by UIDs.

    Attributes:
        sop_instance: its own.
        frame_of_reference: of its contours; "" if it gives none or several.
        series: of the images that were contoured, sorted.
    """

    sop_instance: str
    frame_of_reference: str
    series: tuple[str, ...]


@quiet_pydicom()
def read_plan(path: Path | str) -> RtPlan:
    """Read an RTPLAN (photons, electrons or ions).

    Args:
        path: any name.

    Raises:
        InvalidInput: unreadable, damaged, or not an RTPLAN.
    """
    plan = read_object(path, "RTPLAN", PLAN_CLASSES)
    targets = _targets(plan)
    groups = _groups(plan, targets)
    beam_dose_gy = _beam_dose_gy(plan)
    structure_sets = plan.items("ReferencedStructureSetSequence")
    return RtPlan(
        sop_instance=plan.text("SOPInstanceUID"),
        groups={number: group for number, (group, _) in groups.items()},
        prescription_gy=_prescription_gy(list(groups.values()), targets, beam_dose_gy),
        approval=plan.term("ApprovalStatus", APPROVAL),
        date=_date(plan.text("RTPlanDate")),
        structure_set=structure_sets[0].text("ReferencedSOPInstanceUID") if structure_sets else "",
        frame_of_reference=plan.text("FrameOfReferenceUID"),
        beam_dose_gy=beam_dose_gy,
        intent=plan.term("PlanIntent", INTENTS),
    )


@quiet_pydicom()
def read_structure_references(path: Path | str) -> RtStructure:
    """Read which frame and image series an RTSTRUCT refers to; its contours are not read.

    Args:
        path: any name.

    Raises:
        InvalidInput: unreadable, damaged, or not an RTSTRUCT.
    """
    structure = read_object(path, "RTSTRUCT", (RTStructureSetStorage,), stop_before="ROIContourSequence")
    frames = structure.items("ReferencedFrameOfReferenceSequence")
    series = [
        series.text("SeriesInstanceUID")
        for frame in frames
        for study in frame.items("RTReferencedStudySequence")
        for series in study.items("RTReferencedSeriesSequence")
    ]
    contoured = {roi.text("ReferencedFrameOfReferenceUID") for roi in structure.items("StructureSetROISequence")}
    uids = (contoured - {""}) or ({frame.text("FrameOfReferenceUID") for frame in frames} - {""})
    return RtStructure(
        sop_instance=structure.text("SOPInstanceUID"),
        frame_of_reference=uids.pop() if len(uids) == 1 else "",
        series=tuple(sorted(set(series) - {""})),
    )


def beam_numbers(group: RTObject) -> frozenset[int]:
    """The beams that a fraction group refers to, in a plan or in a dose."""
    numbers = {beam.integer("ReferencedBeamNumber") for beam in group.items("ReferencedBeamSequence")}
    return frozenset(number for number in numbers if number is not None)


def _setup_beams(plan: RTObject) -> set[int | None]:
    return {
        beam.integer("BeamNumber")
        for beam in plan.items("BeamSequence") + plan.items("IonBeamSequence")
        if beam.term("TreatmentDeliveryType", ("SETUP",)) == "SETUP"
    }


def _planned_fractions(group: RTObject) -> int | None:
    fractions = group.integer("NumberOfFractionsPlanned")
    return fractions if fractions and fractions > 0 else None


def _targets(plan: RTObject) -> dict[int, float]:
    """Gy by reference number, of each target that has an extent: a point's dose is not the prescription of a plan.

    0 where a reference gives no dose; references without a number are counted from -1 down.
    """
    references = [
        reference
        for reference in plan.items("DoseReferenceSequence")
        if reference.term("DoseReferenceType", ("TARGET",)) == "TARGET"
        and reference.term("DoseReferenceStructureType", ("SITE", "VOLUME")) != "UNKNOWN"
    ]
    numbers = [reference.integer("DoseReferenceNumber") for reference in references]
    return {
        -1 - index if number is None or number in numbers[:index] else number: _target_gy(reference)
        for index, (number, reference) in enumerate(zip(numbers, references, strict=True))
    }


def _target_gy(reference: RTObject) -> float:
    """0 where there is none, or one that is in cGy: nobody is given so many Gy."""
    gy = float(reference.numbers("TargetPrescriptionDose").max(initial=0))
    return gy if gy <= HIGHEST_TARGET_GY else 0.0


def _groups(plan: RTObject, targets: dict[int, float]) -> dict[int, tuple[FractionGroup, frozenset[int]]]:
    """Fraction groups by number, each with the numbers of the targets whose doses are the group's.

    A group may say itself what it gives to a target: then the target's own dose is none of the group's.
    """
    setup = _setup_beams(plan)
    groups = {}
    for group in plan.items("FractionGroupSequence"):
        given_gy = {
            target: _target_gy(reference)
            for reference in group.items("ReferencedDoseReferenceSequence")
            if (target := reference.integer("ReferencedDoseReferenceNumber")) is not None and target in targets
        }
        number = group.integer("FractionGroupNumber")
        if number in groups:
            message = "expected fraction groups of different numbers, got two of one"
            raise plan.refusal("groups", message)
        if number is not None:
            highest_gy = max((gy or targets[target] for target, gy in given_gy.items()), default=0)
            beams = beam_numbers(group) - setup
            groups[number] = (
                FractionGroup(_planned_fractions(group), beams, highest_gy or None),
                frozenset(target for target, gy in given_gy.items() if not gy),
            )
    return groups


def _beam_dose_gy(plan: RTObject) -> float | None:
    """The sum over groups of fractions times beam doses; None where a treatment beam or a group does not say."""
    setup = _setup_beams(plan)
    total_gy = 0.0
    for group in plan.items("FractionGroupSequence"):
        fractions = _planned_fractions(group)
        beams = [b for b in group.items("ReferencedBeamSequence") if b.integer("ReferencedBeamNumber") not in setup]
        doses_gy = [_beam_gy(beam) for beam in beams]
        if fractions is None or not doses_gy or None in doses_gy:
            return None
        total_gy += fractions * sum(filter(None, doses_gy))
    return total_gy if total_gy > 0 else None


def _beam_gy(beam: RTObject) -> float | None:
    """A second opinion alone: what cannot be decoded is unknown, and refuses no plan."""
    try:
        (dose_gy,) = beam.numbers("BeamDose")
    except (InvalidInput, ValueError):
        return None
    return float(dose_gy)


def _prescription_gy(
    groups: Sequence[tuple[FractionGroup, frozenset[int]]], targets: dict[int, float], beam_dose_gy: float | None
) -> float | None:
    """The prescription of the whole plan in Gy; None where its targets leave several and the beams confirm none."""
    doses_gy = [dose_gy for dose_gy in targets.values() if dose_gy > 0]
    of_groups_gy = [group.prescription_gy for group, _ in groups if group.prescription_gy is not None]
    highest_gy = max(doses_gy, default=0) or None
    if len(groups) < 2:
        return _whole(of_groups_gy[0] if of_groups_gy else highest_gy, groups, beam_dose_gy)
    numbers = [number for _, linked in groups for number in linked]
    targets_of_one_group = len(of_groups_gy) == len(groups) and len(set(numbers)) == len(numbers)
    possible_gy = {sum(of_groups_gy), highest_gy or 0, sum(doses_gy)} - {0}
    if beam_dose_gy is not None:
        confirmed = [gy for gy in possible_gy if _confirm(beam_dose_gy, gy)]
        if confirmed:
            return min(confirmed, key=lambda gy: abs(gy - beam_dose_gy))
    if targets_of_one_group:
        return sum(of_groups_gy)
    return possible_gy.pop() if len(possible_gy) == 1 and beam_dose_gy is None else None


def _whole(
    prescription_gy: float | None, groups: Sequence[tuple[FractionGroup, frozenset[int]]], beam_dose_gy: float | None
) -> float | None:
    """The prescription of a sole group; some systems write that of one fraction, which the beams tell."""
    if prescription_gy is None or beam_dose_gy is None or _confirm(beam_dose_gy, prescription_gy):
        return prescription_gy
    by_fractions_gy = prescription_gy * (groups[0][0].fractions or 1)
    return by_fractions_gy if _confirm(beam_dose_gy, by_fractions_gy) else prescription_gy


def _confirm(beam_dose_gy: float, prescription_gy: float) -> bool:
    return abs(prescription_gy - beam_dose_gy) <= CONFIRMED_SHARE * beam_dose_gy


def _date(text: str) -> date | None:
    """None also for the dates that anonymisers put in: no plan in DICOM is as old."""
    day = read_date(text)
    return day if day is not None and day.year >= FIRST_YEAR else None
