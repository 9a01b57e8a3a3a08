"""Leave out what is no dose of the treatment: a patient's RTDOSEs in; those that may count out, the reasons noted.

What lies beside treatment doses in a delivery: copies, empty and single-plane doses, doses of rejected plans and of
plans that check a treatment, plans on a phantom, treatments after the event, and the parts of a sum. `patient.rejected`
says why of each; nothing is dropped for its approval alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import combinations

import numpy as np

from ricenet.delivery.patient_doses import CHOOSE, READ, WHOLE, PatientDoses
from ricenet.delivery.rtdose import DoseGrid
from ricenet.images.volume import Volume, Voxels, resample

SAME_GY, SAME_MM = 0.01, 0.01  # grids that agree to this are one dose, exported twice
SAME_SUM = 0.01  # of the maximum: a sum on a grid of its own differs from ours by its interpolation
NO_DOSE_GY = 0.5  # of a whole plan: below it nobody was treated
MAX_PARTS = 6  # of a sum without references: 63 ways to add them


def usable_doses(patient: PatientDoses) -> dict[int, DoseGrid]:
    """The doses that the user's choice, their type, their plans, the event's date, copies and sums leave.

    Raises:
        InvalidInput: ambiguous doses; none that was planned before the event; a key of the user's choice that no object
            has.
    """
    doses = patient.without(patient.doses, _not_chosen(patient))
    doses = patient.without(doses, _copies(patient, doses))
    doses = patient.without(doses, {number: _unread(dose) for number, dose in doses.items()})
    doses = patient.without(doses, _empty(doses))
    doses = patient.without(
        doses, {n: "its plan is REJECTED" for n, d in doses.items() if "REJECTED" in patient.approvals(d)}
    )
    if not patient.context.is_chosen:
        doses = patient.without(doses, _of_checks(patient, doses))
    doses = patient.without(doses, _same_voxels(patient, doses))
    doses = _with_references(patient, doses)
    doses = patient.without(doses, _after_the_event(patient, doses))
    _require_known_parts(patient, doses)
    if any(dose.planes > 1 for dose in doses.values()):
        reason = "a single plane beside doses of several"
        doses = patient.without(doses, {n: reason for n, dose in doses.items() if dose.planes == 1})
    doses = patient.without(doses, _of_another_frame(patient, doses))
    doses = patient.without(doses, _of_the_other_type(patient, doses))
    return _without_parts_of_sums(patient, doses)


def _not_chosen(patient: PatientDoses) -> dict[int, str]:
    """Number -> reason, by the keys that the user gave.

    Raises:
        InvalidInput: nothing has one of the keys.
    """
    context = patient.context
    of_doses = {patient.name(number) for number in patient.doses}
    of_plans = {patient.plan_name(uid) for uid in patient.plan_number}
    for column, keys, delivered in (
        ("doses", context.doses, of_doses),
        ("plans", context.plans, of_plans),
        ("exclude_doses", context.exclude_doses, of_doses),
    ):
        unknown = sorted(set(keys) - delivered - (context.unreadable if column == "exclude_doses" else set()))
        if unknown:
            message = f"{column} names {', '.join(unknown)}, which this patient does not have or which cannot be read"
            raise patient.refusal(
                "unknown_object", message, f"{column} may name {', '.join(sorted(delivered)) or 'none'}"
            )
    reasons = {}
    for number, dose in patient.doses.items():
        if patient.name(number) in context.exclude_doses:
            reasons[number] = "named in exclude_doses"
        elif context.doses and patient.name(number) not in context.doses:
            reasons[number] = "not named in doses"
        elif context.plans and dose.plans and not {patient.plan_name(uid) for uid in dose.plans} & set(context.plans):
            reasons[number] = "belongs to none of the plans named in plans"
    return reasons


def _copies(patient: PatientDoses, doses: Mapping[int, DoseGrid]) -> dict[int, str]:
    """Number -> reason, of each dose with the content of an earlier one."""
    first_with_uid: dict[str, int] = {}
    original: dict[str, int] = {}
    for number, dose in doses.items():
        original.setdefault(dose.digest, number)
        first_with_uid.setdefault(dose.sop_instance, number)
        first = first_with_uid[dose.sop_instance]
        if patient.doses[first].digest != dose.digest:
            message = f"two files of dose {patient.name(number)} have the same SOP Instance UID but differ"
            raise patient.refusal("uid_conflict", message, "remove the outdated file from the delivery")
    originals = {number: original[dose.digest] for number, dose in doses.items()}
    return {number: f"copy of dose {patient.name(same)}" for number, same in originals.items() if same != number}


def _unread(dose: DoseGrid) -> str:
    if dose.summation not in READ:
        return f"DoseSummationType {dose.summation or 'absent'} is none of {', '.join(READ)}"
    if dose.summation != "MULTI_PLAN" and len(dose.plans) > 1:
        return f"refers to {len(dose.plans)} plans, a {dose.summation} dose belongs to one"
    return ""


def _empty(doses: Mapping[int, DoseGrid]) -> dict[int, str]:
    """Number -> reason, of doses of nothing; one of a beam beside others stays: the plan is whole with what it has."""
    highest_gy = {number: float(dose.volume.voxels.max()) for number, dose in doses.items()}
    zero = {n: dose for n, dose in doses.items() if highest_gy[n] < (NO_DOSE_GY if dose.summation in WHOLE else 1e-6)}
    others = [dose for number, dose in doses.items() if number not in zero and dose.summation.startswith("BEAM")]
    plans = {dose.plans for dose in others}
    held = {(dose.plans, beam) for dose in others for beam in dose.beams}
    return {
        number: "holds no dose but zeros"
        if highest_gy[number] == 0
        else f"holds no dose of a treatment ({highest_gy[number]:.2g} Gy)"
        for number, dose in zero.items()
        if not (dose.summation.startswith("BEAM") and dose.beams and dose.plans in plans)
        or any((dose.plans, beam) in held for beam in dose.beams)
    }


def _of_checks(patient: PatientDoses, doses: Mapping[int, DoseGrid]) -> dict[int, str]:
    """Number -> reason, of doses whose plans say that they check a treatment or a machine."""
    plans = {n: [patient.plans[uid] for uid in dose.plans if uid in patient.plans] for n, dose in doses.items()}
    checks = {number: [plan.intent for plan in of_dose if plan.is_check] for number, of_dose in plans.items()}
    return {number: f"its plan's intent is {intents[0]}" for number, intents in checks.items() if intents}


def _with_references(patient: PatientDoses, doses: dict[int, DoseGrid]) -> dict[int, DoseGrid]:
    """Doses that say no plan, with the plans that they can only belong to; the flags say so.

    Raises:
        InvalidInput: such a dose may belong to a plan that was made after the event.
    """
    doses = dict(doses)
    for number, dose in list(doses.items()):
        says_so = dose.summation == "MULTI_PLAN" and len(dose.plans) > 1
        plans = _summed_plans(dose, doses) if dose.summation in WHOLE and not says_so else ()
        if plans:
            doses[number] = patient.doses[number] = replace(dose, plans=plans, summation="MULTI_PLAN")
            patient.flags.append(f"dose {patient.name(number)}: is the sum of other doses")
    nameless = [number for number, dose in doses.items() if not set(dose.plans) & patient.plans.keys()]
    referred = {uid for dose in patient.doses.values() for uid in dose.plans}
    free = [uid for uid, plan in patient.plans.items() if uid not in referred and plan.may_be_delivered]
    if patient.context.plans:
        free = [uid for uid in free if patient.plan_name(uid) in patient.context.plans]
    alone = len(nameless) == 1 and not doses[nameless[0]].plans
    if alone and len(free) == 1 and doses[nameless[0]].summation != "MULTI_PLAN":
        (number,) = nameless
        doses[number] = patient.doses[number] = replace(doses[number], plans=(free[0],))
        text = f"refers to no plan, taken for plan {patient.plan_name(free[0])}"
        patient.flags.append(f"dose {patient.name(number)}: {text}")
    elif nameless and any(_is_late(patient, patient.plans[uid].date) for uid in free):
        late = ", ".join(patient.plan_name(uid) for uid in free)
        message = (
            f"dose {patient.names(nameless)} refers to no plan of the delivery, and may belong to one made after the "
            f"event: {late}"
        )
        if not patient.context.doses:
            raise patient.refusal("ambiguous", message)
    return doses


def _require_known_parts(patient: PatientDoses, doses: Mapping[int, DoseGrid]) -> None:
    """Refuse a sum of which nobody knows that all its plans were made before the event.

    Raises:
        InvalidInput: a MULTI_PLAN dose refers to no plan, to a plan that was not delivered, or to one without a date,
            and neither the label table's prescription nor the user's choice stands for it; or it refers to fewer than
            two plans and lies beside other doses.
    """
    context = patient.context
    sums = {number: dose for number, dose in doses.items() if dose.summation == "MULTI_PLAN" and patient.plans}
    for number, dose in sums.items():
        if context.is_chosen:
            return
        if len(dose.plans) < 2 and len(doses) > 1:
            message = (
                f"ambiguous: MULTI_PLAN dose {patient.name(number)} does not say which plans it sums, beside others"
            )
            raise patient.refusal("ambiguous", message)
        plans = [patient.plans.get(uid) for uid in dose.plans]
        unknown = [plan for plan in plans if plan is None or (context.event and patient.date_of(plan) is None)]
        if context.prescription_gy is None and (unknown or not plans):
            what = f"{len(unknown)} of the {len(plans)} plans" if plans else "the plans"
            message = f"ambiguous: {what} of MULTI_PLAN dose {patient.name(number)} were not delivered or have no date"
            raise patient.refusal("ambiguous", message, f"give prescription_gy; or {CHOOSE}")


def _summed_plans(total: DoseGrid, doses: Mapping[int, DoseGrid]) -> tuple[str, ...]:
    """The plans of the PLAN doses whose sum `total` is, though it does not say so; () where it is no sum of theirs."""
    parts = [
        dose
        for dose in doses.values()
        if dose.summation == "PLAN"
        and dose.plans
        and (total.summation == "MULTI_PLAN" or not set(dose.plans) & set(total.plans))
        and (dose.dose_type, dose.frame_of_reference) == (total.dose_type, total.frame_of_reference)
    ][:MAX_PARTS]
    grid = total.volume
    on_grid = [resample(part.volume, grid.voxels.shape, grid.world_from_voxel) for part in parts]
    for count in range(2, len(parts) + 1):
        for some in combinations(range(len(parts)), count):
            if _is_sum(grid.voxels, [on_grid[n] for n in some]):
                return tuple(sorted({uid for n in some for uid in parts[n].plans}))
    return ()


def _is_sum(total: Voxels, parts: Sequence[Voxels]) -> bool:
    """Whether `total` is the sum of `parts`: everywhere, and where each of them is high.

    The outermost voxels lie outside some grid, so that a hundredth of them may differ.
    """
    tolerance_gy = max(SAME_GY, SAME_SUM * float(total.max()))
    difference = abs(np.sum(parts, axis=0) - total)
    places = [difference, *(difference[part > part.max() / 2] for part in parts)]
    return all(len(place) > 0 and np.percentile(place, 99) <= tolerance_gy for place in places)


def _is_late(patient: PatientDoses, day: date | None) -> bool:
    return day is not None and patient.context.event is not None and day >= patient.context.event


def _after_the_event(patient: PatientDoses, doses: Mapping[int, DoseGrid]) -> dict[int, str]:
    """Number -> reason, of doses that were planned after the event or cannot have been delivered by its day.

    They would tell the label: only a recurrence is irradiated again.

    Raises:
        InvalidInput: every dose was, or one that the user named.
    """
    late = {number: reason for number, dose in doses.items() if (reason := _why_late(patient, dose))}
    if not late or (len(late) < len(doses) and not patient.context.is_chosen):
        return late
    imaged_late = any(_is_imaged_late(patient, doses[number]) for number in late)
    start = patient.context.radiotherapy_start
    if not imaged_late and start is not None and not _is_late(patient, start):
        patient.flags += [f"dose {patient.name(n)}: {late[n]}, but radiotherapy_start is before it" for n in late]
        return {}
    listed = "; ".join(f"dose {patient.name(number)}: {reason}" for number, reason in late.items())
    hint = "correct event_date, or deliver the treatment that came before the event"
    raise patient.refusal(
        "after_the_event",
        f"expected a dose that was delivered before the event, got {listed}",
        hint if imaged_late else f"{hint}; where the plan's date is wrong, give radiotherapy_start",
    )


def _why_late(patient: PatientDoses, dose: DoseGrid) -> str:
    """Why a dose was not delivered before the event; "" where it may have been.

    A plan's date counts before its images', but nothing is planned before the first image of its frame.
    """
    event, planned, imaged = patient.context.event, patient.plan_date(dose), patient.image_date(dose)
    if event is None:
        return ""
    if imaged is not None and (_is_imaged_late(patient, dose) or (planned is None and imaged >= event)):
        return f"the images in its frame of reference are of {(imaged - event).days} days after the event"
    if planned is None:
        return ""
    days = (planned - event).days
    if days >= 0:
        return f"planned {days} days after the event"
    if days + _least_days(patient, dose) >= 0:
        return f"planned {-days} days before the event, which its fractions outlast"
    return ""


def _is_imaged_late(patient: PatientDoses, dose: DoseGrid) -> bool:
    """Whether all images of a dose's frame were taken after the day of the event."""
    imaged = patient.image_date(dose)
    return imaged is not None and patient.context.event is not None and imaged > patient.context.event


def _least_days(patient: PatientDoses, dose: DoseGrid) -> int:
    """How long after it was planned the last fraction of a dose is given at the earliest: with one of them a day."""
    fractions = [plan.fractions or 1 for uid, plan in patient.plans.items() if uid in dose.plans]
    return max(fractions, default=1) - 1


def _of_another_frame(patient: PatientDoses, doses: Mapping[int, DoseGrid]) -> dict[int, str]:
    """Number -> reason, of doses that lie elsewhere than their plan, beside those that lie where it does.

    Where the plan does not say its frame of reference, it is one that has an image.
    """

    def at_home(dose: DoseGrid) -> bool:
        frames = {patient.plans[uid].frame_of_reference for uid in dose.plans if uid in patient.plans} - {""}
        return dose.frame_of_reference in (frames or patient.context.image_dates)

    plans = {uid for dose in doses.values() if at_home(dose) for uid in dose.plans}
    reason = "lies elsewhere than its plan and its images, where another dose of the plan lies"
    return {n: reason for n, dose in doses.items() if not at_home(dose) and dose.plans and set(dose.plans) <= plans}


def _of_the_other_type(patient: PatientDoses, doses: Mapping[int, DoseGrid]) -> dict[int, str]:
    """Number -> reason, of EFFECTIVE doses beside PHYSICAL ones of the same plan (or the other way round)."""
    preferred = patient.context.dose_type
    plans = {uid for dose in doses.values() if dose.dose_type == preferred for uid in dose.plans}
    reason = f"its plan has a {preferred} dose, too (dose_type)"
    return {n: reason for n, dose in doses.items() if dose.dose_type != preferred and set(dose.plans) <= plans}


def _same_voxels(patient: PatientDoses, doses: Mapping[int, DoseGrid]) -> dict[int, str]:
    """Number -> reason, of whole doses with the grid and the voxels of another: one dose, exported twice.

    Of such doses the one counts that an image and a plan belong to; doses that the user names all count.
    """
    reasons: dict[int, str] = {}
    if patient.context.doses:
        return reasons
    whole = [number for number, dose in doses.items() if dose.summation in WHOLE]
    whole.sort(
        key=lambda n: (
            doses[n].frame_of_reference not in patient.context.image_dates,
            -_approved(patient, doses[n]),
            n,
        )
    )
    for rank, number in enumerate(whole):
        for other in whole[:rank]:
            if other not in reasons and _alike(doses[number].volume, doses[other].volume):
                reasons[number] = f"has the voxels and the grid of dose {patient.name(other)}"
                break
    return reasons


def _approved(patient: PatientDoses, dose: DoseGrid) -> int:
    """2 where all its plans are approved, 1 where they are delivered, else 0."""
    if not all(uid in patient.plans for uid in dose.plans):
        return 0
    return 2 if patient.approvals(dose) == {"APPROVED"} else 1


def _alike(one: Volume, other: Volume) -> bool:
    return (
        one.voxels.shape == other.voxels.shape
        and bool(np.allclose(one.world_from_voxel, other.world_from_voxel, rtol=0, atol=SAME_MM))
        and float(abs(one.voxels - other.voxels).max()) <= SAME_GY
    )


def _without_parts_of_sums(patient: PatientDoses, doses: dict[int, DoseGrid]) -> dict[int, DoseGrid]:
    """MULTI_PLAN doses without the doses of their plans; the other way round where each plan is needed by itself.

    Raises:
        InvalidInput: MULTI_PLAN doses that share a plan.
    """
    sums = {number: set(dose.plans) for number, dose in doses.items() if dose.summation == "MULTI_PLAN"}
    if patient.context.eqd2:
        whole = {uid for dose in doses.values() if dose.summation == "PLAN" for uid in dose.plans}
        replaced = {
            n: "EQD2 needs the dose of each plan, and all are there"
            for n, uids in sums.items()
            if uids and uids <= whole
        }
        doses = patient.without(doses, replaced)
        sums = {number: uids for number, uids in sums.items() if number not in replaced}
    references = Counter(uid for uids in sums.values() for uid in uids)
    sharing = [number for number, uids in sums.items() if any(references[uid] > 1 for uid in uids)]
    if sharing:
        message = f"ambiguous: MULTI_PLAN doses {patient.names(sharing)} refer to the same plan"
        raise patient.refusal("ambiguous", message)
    holder = {uid: number for number, uids in sums.items() for uid in uids}
    held = {n: holder[dose.plans[0]] for n, dose in doses.items() if dose.plans and dose.plans[0] in holder}
    reasons = {n: f"MULTI_PLAN dose {patient.name(by)} holds its plan" for n, by in held.items() if n != by}
    return patient.without(doses, reasons)
