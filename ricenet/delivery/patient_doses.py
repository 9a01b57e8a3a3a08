"""The RT objects of a patient, numbered and named, and what else is known of the treatment; reasons fill on the way."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from ricenet.cohort.ingest_record import DoseRecord, RejectedDose
from ricenet.delivery.rtdose import DoseGrid
from ricenet.delivery.rtobject import rt_key
from ricenet.delivery.rtplan import RtPlan
from ricenet.errors import InvalidInput

WHOLE = ("MULTI_PLAN", "PLAN")
READ = (*WHOLE, "FRACTION", "BEAM", "FRACTION_SESSION", "BEAM_SESSION")  # the first that makes a plan whole counts
CHOOSE = (
    "name the doses that were delivered as doses, or leave others out as exclude_doses (columns of the label table, "
    "keys of ricenet.predict; several with a space between them); ingest.json lists every RT object"
)


@dataclass(frozen=True)
class CaseContext:
    """What is known of a treatment besides its RT objects; None or empty where it is not.

    Attributes:
        fractions, prescription_gy: of the whole treatment, planned, as the label table says; Gy.
        delivered_fractions: where the treatment was stopped early.
        event: date of the event MRI: what was planned on this day or later is no part of the treatment.
        radiotherapy_start: first day, as the label table says.
        image_dates: frame of reference -> dates of the images in it, earliest first.
        doses, plans, exclude_doses: keys of RT objects, the user's choice.
        eqd2: whether each plan's dose is needed apart from the others'.
        dose_type: PHYSICAL or EFFECTIVE, which counts where a plan has both.
        unreadable: keys of RT objects that cannot be read, which may be excluded by name.
        key: of the pseudonyms; None: messages number doses and plans in the order of their UIDs.
    """

    fractions: int | None = None
    prescription_gy: float | None = None
    delivered_fractions: int | None = None
    event: date | None = None
    radiotherapy_start: date | None = None
    image_dates: Mapping[str, Sequence[date]] = field(default_factory=dict)
    doses: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()
    exclude_doses: tuple[str, ...] = ()
    eqd2: bool = False
    dose_type: str = "PHYSICAL"
    unreadable: frozenset[str] = frozenset()
    key: bytes | None = None

    @property
    def is_chosen(self) -> bool:
        """Whether the user says which doses count."""
        return bool(self.doses or self.plans)

    @property
    def first_image(self) -> date | None:
        """The date of the patient's earliest image."""
        return min((day for dates in self.image_dates.values() for day in dates), default=None)


@dataclass(repr=False)
class PatientDoses:
    """A patient's RT objects, numbered in the order of their UIDs; `rejected` and `flags` fill on the way."""

    plans: dict[str, RtPlan]
    plan_number: dict[str, int]
    doses: dict[int, DoseGrid]
    context: CaseContext
    rejected: list[RejectedDose] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)

    def name(self, number: int) -> str:
        """What messages and records call a dose."""
        key = self.context.key
        return str(number) if key is None else rt_key("RTDOSE", self.doses[number].sop_instance, key)

    def names(self, numbers: Iterable[int]) -> str:
        """The names of several doses in one text."""
        return ", ".join(self.name(number) for number in numbers)

    def plan_name(self, uid: str) -> str:
        """What messages and records call a plan."""
        key = self.context.key
        return str(self.plan_number[uid]) if key is None else rt_key("RTPLAN", uid, key)

    def describe(self, number: int) -> DoseRecord:
        """What the record says of a dose."""
        dose = self.doses[number]
        return DoseRecord(
            dose=number,
            key="" if self.context.key is None else self.name(number),
            plans=[self.plan_number[uid] for uid in dose.plans],
            summation=dose.summation or "absent",
            max_gy=round(float(dose.volume.voxels.max()), 3),
        )

    def approvals(self, dose: DoseGrid) -> set[str]:
        """The approval of the plans that a dose refers to; "" for one that is not there."""
        return {self.plans[uid].approval if uid in self.plans else "" for uid in dose.plans}

    def plan_date(self, dose: DoseGrid) -> date | None:
        """The latest date of the plans that a dose refers to; one before every image is none."""
        dates = [self.date_of(self.plans[uid]) for uid in dose.plans if uid in self.plans]
        return max((day for day in dates if day is not None), default=None)

    def date_of(self, plan: RtPlan) -> date | None:
        """When a plan was made; nothing is planned before the first image."""
        first = self.context.first_image
        return None if plan.date is None or (first is not None and plan.date < first) else plan.date

    def image_date(self, dose: DoseGrid) -> date | None:
        """The date of the earliest image in the dose's frame of reference: nothing was planned before it."""
        return min(self.context.image_dates.get(dose.frame_of_reference, ()), default=None)

    def refusal(self, code: str, message: str, hint: str = CHOOSE) -> InvalidInput:
        return InvalidInput(message, hint, code=f"treatment.{code}")

    def without(self, doses: dict[int, DoseGrid], reasons: Mapping[int, str]) -> dict[int, DoseGrid]:
        """`doses` without those that have a reason, which is noted."""
        self.reject(reasons)
        return {number: dose for number, dose in doses.items() if not reasons.get(number)}

    def reject(self, reasons: Mapping[int, str]) -> None:
        """Note why doses do not count."""
        self.rejected += [
            RejectedDose(**dict(self.describe(number)), reason=reason) for number, reason in reasons.items() if reason
        ]


def number_objects(doses: Sequence[DoseGrid], plans: Sequence[RtPlan], context: CaseContext) -> PatientDoses:
    """Number doses and plans; a plan that doses refer to has a number also where it was not delivered.

    Raises:
        InvalidInput: two plans have one SOP Instance UID and differ.
    """
    by_uid: dict[str, RtPlan] = {}
    for plan in plans:
        if by_uid.setdefault(plan.sop_instance, plan) != plan:
            name = "" if context.key is None else f" ({rt_key('RTPLAN', plan.sop_instance, context.key)})"
            message = f"two RTPLANs have the same SOP Instance UID{name} but differ"
            raise InvalidInput(message, "remove the outdated file from the delivery", code="treatment.uid_conflict")
    uids = sorted({*by_uid, *(uid for dose in doses for uid in dose.plans)})
    return PatientDoses(
        by_uid,
        {uid: number for number, uid in enumerate(uids, start=1)},
        dict(enumerate(sorted(doses, key=lambda dose: dose.sop_instance), start=1)),
        context,
    )
