"""Read RTPLAN files: what a radiotherapy plan says of fractions, beams, prescription and approval."""

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from ricenet.delivery.headers import quiet_pydicom
from ricenet.delivery.rtobject import RTObject, read_object

PLAN_CLASSES = ("1.2.840.10008.5.1.4.1.1.481.5", "1.2.840.10008.5.1.4.1.1.481.8")  # RT Plan, RT Ion RtPlan
APPROVAL = ("APPROVED", "UNAPPROVED", "REJECTED")


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
        prescription_gy: highest target prescription in Gy; None if the plan has none.
        approval: APPROVED, UNAPPROVED, REJECTED, UNKNOWN (another value) or "" (absent).
        date: None where it is absent, empty, or an anonymiser's.
        structure_set: UID of the RTSTRUCT that it was planned on; "" if it names none.
        frame_of_reference: UID; "" if it has none.
        beam_dose_gy: sum over fractions and beams of the beams' doses; None where one of the numbers lacks.
    """

    sop_instance: str
    groups: dict[int, FractionGroup]
    prescription_gy: float | None
    approval: str
    date: date | None
    structure_set: str = ""
    frame_of_reference: str = ""
    beam_dose_gy: float | None = None

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
    targets_gy = [
        float(reference.numbers("TargetPrescriptionDose").max(initial=0))
        for reference in plan.items("DoseReferenceSequence")
        if reference.term("DoseReferenceType", ("TARGET",)) == "TARGET"
    ]
    return RtPlan(
        sop_instance=plan.text("SOPInstanceUID"),
        groups=_groups(plan),
        prescription_gy=max(targets_gy, default=0) or None,
        approval=plan.term("ApprovalStatus", APPROVAL),
        date=_date(plan.text("RTPlanDate")),
    )


def beam_numbers(group: RTObject) -> frozenset[int]:
    """The beams that a fraction group refers to, in a plan or in a dose."""
    numbers = {beam.integer("ReferencedBeamNumber") for beam in group.items("ReferencedBeamSequence")}
    return frozenset(number for number in numbers if number is not None)


def _groups(plan: RTObject) -> dict[int, FractionGroup]:
    setup = {
        beam.integer("BeamNumber")
        for beam in plan.items("BeamSequence") + plan.items("IonBeamSequence")
        if beam.term("TreatmentDeliveryType", ("SETUP",)) == "SETUP"
    }
    groups = {}
    for group in plan.items("FractionGroupSequence"):
        number, fractions = group.integer("FractionGroupNumber"), group.integer("NumberOfFractionsPlanned")
        if number is not None:
            groups[number] = FractionGroup(
                fractions if fractions and fractions > 0 else None, beam_numbers(group) - setup
            )
    return groups


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:  # absent, or blanked by a pseudonymiser
        return None
