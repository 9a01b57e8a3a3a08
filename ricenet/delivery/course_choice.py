"""Decide which courses make up the treatment: a patient's courses in, those that add up out.

Several plans with a dose are a primary plan and its boost, or alternatives (IMRT and VMAT), drafts, plans on a phantom,
earlier treatments. They are added where the label table's numbers, the user's choice or a MULTI_PLAN dose says so, or
where they can hardly be anything but parts of one treatment (see `is_sequence`); otherwise the user is asked.
"""

from collections.abc import Sequence
from datetime import date
from itertools import combinations, pairwise, product

from ricenet.delivery.courses import MAXIMUM_OVER_PRESCRIPTION, Course, dose_numbers, highest_gy, sum_if_known
from ricenet.delivery.patient_doses import CHOOSE, PatientDoses

SAME_PRESCRIPTION = 0.03  # of the prescription: 59.4 and 60 are told apart by their fractions, 60 and 60.3 are one
MAX_COURSES = 8  # 255 ways to add them
# Parts of one treatment, as they are planned: 46 Gy + 14 Gy, 40 + 20, 45 + 9 + 5.4.
MAX_BOOST_SHARE = 0.6  # of the primary plan's dose
MAX_FRACTION_DOSE_RATIO = 1.25  # between the parts' doses per fraction
MAX_NEXT_BOOST = 0.8  # of the boost before it: alternatives of one boost are alike
MAX_SEQUENCE_GY = 62.0  # above lie replanned treatments, whose plans replace one another
HOT_SPOT = 1.05  # of a prescription that nobody knows
SAME_PLACE = 1.1  # times the dose of the plans with images: a larger one elsewhere is no check of theirs
MIN_BOOST_GY = 5.0  # below lies one fraction on a phantom
MAX_DAYS_APART = 60  # between the plans' dates


def choose_courses(patient: PatientDoses, courses: Sequence[Course]) -> list[Course]:
    """The courses that make up the treatment; `patient.rejected` and `patient.flags` say what was decided and why.

    Args:
        courses: of ricenet.delivery.courses.find_courses; all planned before the event.

    Raises:
        InvalidInput: nothing says which of them were delivered, or the label table's numbers fit none or several ways
            of adding them.
    """
    context = patient.context
    if len(courses) == 1 or context.is_chosen:
        return list(courses)
    numbers_given = context.fractions is not None or context.prescription_gy is not None
    courses = _in_frames_with_images(patient, courses, numbers_given)
    if len(courses) == 1:
        return courses
    if numbers_given:
        return _as_the_table_says(patient, courses)
    if is_sequence(patient, courses):
        parts = ", ".join(_schedule(course) for course in courses)
        patient.flags.append(f"dose {patient.names(dose_numbers(courses))}: added as parts of one treatment ({parts})")
        return courses
    days = _days_apart(patient, courses)
    apart = f", planned {days} days apart" if days > MAX_DAYS_APART else ""
    message = f"ambiguous: {len(courses)} plans have a dose{apart}, and nothing says which of them were delivered: "
    raise patient.refusal(
        "ambiguous", message + _listed(patient, courses), f"{CHOOSE}; or give fractions and prescription_gy"
    )


def is_sequence(patient: PatientDoses, courses: Sequence[Course]) -> bool:
    """Whether courses can hardly be anything but a primary plan and its boosts.

    All have a number of fractions and about one dose per fraction; one is by far the largest, none is tiny, together
    they stay below what is given to a brain once; they were planned within weeks, on dates that are known; their plans
    are all approved or all not.
    """
    if any(_plan_date(patient, course) is None for course in courses):
        return False
    approvals = {approval for course in courses for approval in _approvals(patient, course)}
    types = {dose.dose_type for course in courses for dose in course.doses.values()}
    schedules = [(_level_gy(course), course.fractions) for course in courses]
    close = _days_apart(patient, courses) <= MAX_DAYS_APART
    return close and len(approvals) == 1 and len(types) == 1 and _are_parts(schedules)


def _are_parts(schedules: Sequence[tuple[float, int | None]]) -> bool:
    """Whether (Gy, fractions) can be a primary plan and its boosts by the numbers."""
    if any(not fractions for _, fractions in schedules):
        return False
    per_fraction = [gy / (fractions or 1) for gy, fractions in schedules]
    largest, *others = sorted((gy for gy, _ in schedules), reverse=True)
    return (
        MIN_BOOST_GY <= min(others) <= max(others) <= MAX_BOOST_SHARE * largest
        and all(later <= MAX_NEXT_BOOST * earlier for earlier, later in pairwise(others))
        and max(per_fraction) <= MAX_FRACTION_DOSE_RATIO * min(per_fraction)
        and largest + sum(others) <= MAX_SEQUENCE_GY
    )


def require_nothing_missing(patient: PatientDoses, courses: Sequence[Course]) -> None:
    """Refuse a treatment beside which brachytherapy stands, or a plan that may be a part of it and has no dose.

    The label table's numbers or the user's choice say that it is whole.

    Raises:
        InvalidInput: so it is.
    """
    context = patient.context
    if context.is_chosen or context.exclude_doses or context.fractions or context.prescription_gy:
        return
    brachy = [row for row in patient.rejected if row.summation.startswith("BRACHY") and row.max_gy >= MIN_BOOST_GY]
    if brachy:
        doses = patient.names(row.dose for row in brachy)
        message = f"dose {doses} is brachytherapy, which is not read, and may be a part of the treatment"
        raise patient.refusal("incomplete", message, f"{CHOOSE}; or exclude the case")
    counted = {uid for course in courses for uid in course.plans}
    gy = sum(_level_gy(course) for course in courses)
    fractions = sum_if_known(course.fractions for course in courses)
    dates = [day for course in courses if (day := _plan_date(patient, course)) is not None]
    for uid, plan in patient.plans.items():
        day, plan_gy = patient.date_of(plan), plan.prescription_gy or plan.beam_dose_gy
        late = day is not None and context.event is not None and day >= context.event
        far = day is not None and any(abs((day - other).days) > MAX_DAYS_APART for other in dates)
        if uid in counted or late or far or not plan.may_be_delivered or not plan_gy or _is_decided(patient, uid):
            continue
        if _are_parts([(gy, fractions), (plan_gy, plan.fractions)]):
            doses = patient.names(dose_numbers(courses))
            schedule = f"{plan_gy:g} Gy in {plan.fractions} fractions"
            message = (
                f"plan {patient.plan_name(uid)} ({schedule}) may be a part of the treatment, and no dose of it counts "
                f"beside dose {doses}"
            )
            hint = f"deliver its dose; or, where it was not given, {CHOOSE}; or give fractions and prescription_gy"
            raise patient.refusal("incomplete", message, hint)


def _is_decided(patient: PatientDoses, uid: str) -> bool:
    """Whether a whole dose of the plan was looked at, and left out for what it is or when it was planned."""
    undecided = ("no image", "DoseSummationType")
    return any(
        not row.reason.startswith(undecided)
        for row in patient.rejected
        if patient.doses[row.dose].summation == "PLAN" and uid in patient.doses[row.dose].plans
    )


def _in_frames_with_images(patient: PatientDoses, courses: Sequence[Course], numbers_given: bool) -> list[Course]:
    """Leave out courses in whose frame no image lies (a plan on a phantom), unless they may be a boost."""
    with_images = [course for course in courses if _has_image(patient, course)]
    if not with_images or len(with_images) == len(courses):
        return list(courses)
    without = [course for course in courses if course not in with_images]
    if max(map(_level_gy, without)) > SAME_PLACE * max(map(_level_gy, with_images)):
        return list(courses)
    if not numbers_given and any(is_sequence(patient, [*with_images, course]) for course in without):
        return list(courses)
    if numbers_given and not _possible(patient, with_images):
        return list(courses)
    reason = "no image of the delivery lies in its frame of reference, as in another dose's"
    patient.reject(dict.fromkeys(dose_numbers(without), reason))
    return with_images


def _as_the_table_says(patient: PatientDoses, courses: Sequence[Course]) -> list[Course]:
    """The only way to add courses that gives the label table's fractions and prescription."""
    if len(courses) > MAX_COURSES:
        message = f"ambiguous: {len(courses)} plans have a dose: {_listed(patient, courses)}"
        raise patient.refusal("ambiguous", message)
    possible = _possible(patient, courses)
    numbers = _table_numbers(patient)
    if len(possible) == 1:
        (chosen,) = possible
        reason = f"the label table's {numbers} are those of dose {patient.names(dose_numbers(chosen))}"
        patient.reject({n: reason for n in dose_numbers(courses) if n not in dose_numbers(chosen)})
        return chosen
    if possible:
        named = " | ".join(patient.names(dose_numbers(way)) for way in possible)
        message = f"ambiguous: the label table's {numbers} fit dose {named}: {_listed(patient, courses)}"
        raise patient.refusal("ambiguous", message)
    message = f"the label table's {numbers} fit no sum of the plans that have a dose: {_listed(patient, courses)}"
    raise patient.refusal("not_as_the_table", message, f"correct fractions and prescription_gy, or {CHOOSE}")


def _fits(patient: PatientDoses, courses: Sequence[Course]) -> bool:
    """Whether nothing that is known of the courses contradicts the label table."""
    context = patient.context
    fractions = sum_if_known(course.fractions for course in courses)
    if context.fractions is not None and fractions is not None and fractions != context.fractions:
        return False
    if context.prescription_gy is None:
        return True
    maxima_gy = [_maximum_gy(course) for course in courses]
    low, high = (share * context.prescription_gy for share in MAXIMUM_OVER_PRESCRIPTION)
    if max(maxima_gy) > high or sum(maxima_gy) < low:
        return False
    opinions = [{course.prescription_gy, course.beams_gy} - {None} for course in courses]
    if not all(opinions):
        return True
    sums_gy = [sum(filter(None, some)) for some in product(*opinions)]
    return any(abs(gy / context.prescription_gy - 1) <= SAME_PRESCRIPTION for gy in sums_gy)


def _possible(patient: PatientDoses, courses: Sequence[Course]) -> list[list[Course]]:
    """Each way of adding some of the courses that fits the label table."""
    ways = [some for count in range(1, len(courses) + 1) for some in combinations(courses, count)]
    return [list(way) for way in ways if _fits(patient, way)]


def _has_image(patient: PatientDoses, course: Course) -> bool:
    frames = {dose.frame_of_reference for dose in course.doses.values()}
    return all(frame in patient.context.image_dates for frame in frames)


def _approvals(patient: PatientDoses, course: Course) -> set[str]:
    return {approval for dose in course.doses.values() for approval in patient.approvals(dose)}


def _days_apart(patient: PatientDoses, courses: Sequence[Course]) -> int:
    """Between the earliest and the latest plan whose date is known; 0 where fewer than two are."""
    dates = [day for day in (_date(patient, course) for course in courses) if day is not None]
    return (max(dates) - min(dates)).days if dates else 0


def _date(patient: PatientDoses, course: Course) -> date | None:
    days = [day for dose in course.doses.values() if (day := patient.plan_date(dose) or patient.image_date(dose))]
    return max(days, default=None)


def _plan_date(patient: PatientDoses, course: Course) -> date | None:
    return patient.plan_date(next(iter(course.doses.values())))


def _level_gy(course: Course) -> float:
    return course.prescription_gy or _maximum_gy(course) / HOT_SPOT


def _maximum_gy(course: Course) -> float:
    return highest_gy(course.doses, course.factors)


def _table_numbers(patient: PatientDoses) -> str:
    context = patient.context
    numbers = [] if context.prescription_gy is None else [f"{context.prescription_gy:g} Gy"]
    return " and ".join(numbers + ([] if context.fractions is None else [f"{context.fractions} fractions"]))


def _schedule(course: Course) -> str:
    gy = "unknown prescription" if course.prescription_gy is None else f"{course.prescription_gy:g} Gy"
    return f"{gy} in {course.fractions or 'unknown'} fractions"


def _listed(patient: PatientDoses, courses: Sequence[Course]) -> str:
    """Each course with what tells it from the others."""
    days = [day for day in (_date(patient, course) for course in courses) if day is not None]
    texts = []
    for course in courses:
        day, approval = _date(patient, course), "/".join(sorted(_approvals(patient, course) - {""}))
        facts = [_schedule(course), f"at most {_maximum_gy(course):.4g} Gy"]
        facts += [f"{(day - min(days)).days} days after the first"] if day is not None and day > min(days) else []
        facts += [approval] if approval else []
        texts.append(f"dose {patient.names(course.doses)} ({', '.join(facts)})")
    return "; ".join(texts)
