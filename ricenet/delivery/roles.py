"""Choose the post-OP MRI, the event MRI and the planning image among a patient's series, by rules and dates.

The rules are a table in conf/ingest.yaml. For each role they are tried in order. A rule keeps the series that match it
on the day given by `when`; the first rule that keeps any decides. Of several series of that day the best is taken
(ricenet.delivery.best_series), and the record says what was passed over and why. Only equal ones are role.ambiguous,
and the label table (column <role>_series) or choose.csv names one. If the label table gives the date of the post-OP or
event MRI, only the rules for that date are tried.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from ricenet.cohort.ingest_record import SeriesRecord
from ricenet.cohort.pseudonyms import pseudonym
from ricenet.command.schemas import RuleConfig
from ricenet.delivery.best_series import (
    best_of,
    best_planning,
    covers_head,
    exams_of_day,
    is_3d,
    plane_of,
    remark_of_named,
    remarks_of_the_day,
)
from ricenet.delivery.series_names import SeriesSearch, Wording, read_exams
from ricenet.dicom.image_series import Series
from ricenet.dicom.name_hints import is_before_operation
from ricenet.errors import InvalidInput, WrongUsage

ROLES = ("post", "event", "planning")
WHEN = ("post_date", "event_date", "before_radiotherapy", "after_radiotherapy", "same_frame")
KINDS = ("t1", "any")


@dataclass(frozen=True)
class Timeline:
    """The dates of one case.

    Attributes:
        post: of the post-OP MRI; None if unknown, as every date here.
        event: of the event MRI.
        radiotherapy: first day.
        first_scan: of the patient's earliest series.
        event_tolerance_days: largest distance of the event MRI from `event`.
        frames: frames of reference of the patient's series.
    """

    post: date | None
    event: date | None
    radiotherapy: date | None
    first_scan: date | None
    event_tolerance_days: int
    frames: frozenset[str] = frozenset()

    @property
    def origin(self) -> date | None:
        """Day 0: the start of radiotherapy, else the post-OP date, else the first scan."""
        return self.radiotherapy or self.post or self.first_scan

    def day(self, series: Series) -> int | None:
        """Scan day of `series`: days since `origin`."""
        origin = self.origin
        return None if origin is None or series.date is None else (series.date - origin).days


@dataclass(frozen=True)
class Choice:
    """The `series` that was chosen, the `candidates` it was chosen from, and the `reason` in words.

    Attributes:
        remark: what somebody should know of it; empty where there is nothing.
        passed_over: other series of its day that might have been it, and why they are not.
    """

    series: Series
    candidates: tuple[Series, ...]
    reason: str
    remark: str = ""
    passed_over: tuple[tuple[Series, str], ...] = ()


class Undecided(InvalidInput):
    """A role for which the user has to choose.

    Attributes:
        of_role: the role.
        candidates: the series to choose from.
    """

    def __init__(self, message: str, hint: str, *, code: str, role: str, candidates: Sequence[Series]) -> None:
        super().__init__(message, hint, code=code)
        self.of_role = role
        self.candidates = tuple(candidates)


def series_key(series: Series, key: bytes) -> str:
    """The pseudonym of a series, for ingest.json and for the label table's <role>_series: s and twelve hex digits."""
    return "s" + pseudonym(key, series.uid)[1:]


def describe_series(
    series: Sequence[Series], times: Timeline, frame: str | None, wording: Wording, key: bytes
) -> list[SeriesRecord]:
    """What a person needs to tell a patient's series apart, without a word of their headers."""
    readings = read_exams(series, wording)
    records = []
    for each in series:
        x_mm, y_mm, z_mm = (round(float(step), 3) for step in each.spacing_mm)
        reading = readings[each.uid]
        is_mr = each.modality == "MR"
        record = SeriesRecord(
            series=series_key(each, key),
            number=each.number,
            modality=each.modality,
            day=times.day(each),
            shape=each.shape,
            spacing_mm=(x_mm, y_mm, z_mm),
            contrast=reading.contrast == "yes",
            in_the_frame_of_the_dose=None if frame is None else each.frame_of_reference == frame,
            problem=None if each.problem is None else each.problem.code,
            kind=reading.kind if is_mr else "",
            contrast_by=reading.why if is_mr else "",
            acquisition=("3D" if is_3d(each) else "2D") if is_mr else "",
            plane=plane_of(each),
        )
        records.append(record)
    return records


def check_rules(rules: Sequence[RuleConfig]) -> None:
    """Validate the rules before any file is read.

    Raises:
        WrongUsage: an unknown role or `when`, or a pattern that is no regular expression.
    """
    for number, rule in enumerate(rules):
        for value, allowed in (
            (rule.role, ROLES),
            (rule.when, WHEN),
            (rule.modality, ("MR", "CT")),
            (rule.kind, KINDS),
        ):
            if value not in allowed:
                raise WrongUsage(f"rules[{number}]: expected {' | '.join(allowed)}, got {value!r}")
        check_pattern(f"rules[{number}].matches", rule.matches)


def check_pattern(name: str, pattern: str) -> None:
    """Raise WrongUsage where `pattern` is no regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise WrongUsage(f"{name}: expected a regular expression, got {pattern!r}: {error}") from None


def choose(
    role: str,
    series: Sequence[Series],
    rules: Sequence[RuleConfig],
    times: Timeline,
    *,
    frame: str | None,
    wording: Wording,
    key: bytes,
    named: str = "",
    marked: bool = False,
    planned_on: Sequence[str] = (),
) -> Choice:
    """Choose the series of one role.

    Args:
        role: one of ROLES.
        series: all of the patient.
        rules: of every role; those of others are passed over.
        times: the dates of the case.
        frame: frame of reference of the dose, for `same_frame`.
        wording: how descriptions are read.
        key: of the series' pseudonyms.
        named: the pseudonym that the user gives for this role; it overrules the rules.
        marked: whether he gives it in choose.csv.
        planned_on: for `planning`, UIDs of the series that the plan's structures were drawn on.

    Raises:
        InvalidInput: no series fits, several fit, the one that fits is no whole volume, or the patient has no series
            `named`, or a CT of that name for an MRI.
    """
    if named:
        matching = [each for each in series if series_key(each, key) == named]
        if not matching:
            raise InvalidInput(
                f"{role}: {role}_series names series {named}, which this patient does not have",
                "take one of those that ingest.json, or the page of ricenet.predict, lists",
                code="role.unknown_series",
            )
        if role != "planning" and matching[0].modality != "MR":
            raise InvalidInput(
                f"{role}: {role}_series names a {matching[0].modality} series",
                "name an MRI of those that ingest.json, or the page of ricenet.predict, lists",
                code="role.modality",
            )
        choice = _intact(role, matching, "marked in choose.csv" if marked else f"named as {role}_series", key)
        if role == "planning":
            return choice
        remarks = [remark_of_named(choice.series, read_exams(series, wording)[choice.series.uid])]
        if marked:
            remarks.append(_remark_of_marked(role, choice.series, series, rules, times, frame, wording, key))
        return replace(choice, remark="; ".join(filter(None, remarks)))
    search = SeriesSearch(series, frame, wording, read_exams(series, wording))
    dates = {"post_date": times.post, "event_date": times.event}
    of_role = [(number, rule) for number, rule in enumerate(rules) if rule.role == role]
    # A date that the label table gives binds: no other day is taken instead.
    dated = [(number, rule) for number, rule in of_role if dates.get(rule.when) is not None]
    for number, rule in dated or of_role:
        left = _of_the_day(search.fitting(rule), rule.when, times)
        if left:
            reason = f"rule {number}: {rule.when.replace('_', ' ')}"
            if role != "planning":
                choice = _the_best(role, search, rule, left, reason, key)
                return replace(choice, remark=_remark(search, rule, times, choice.series, left))
            best, remark = best_planning(left, planned_on)
            return replace(_intact(role, best, reason, key), candidates=tuple(left), remark=remark)
    for _, rule in dated or of_role:
        if unsaid := _of_the_day(search.unsaid(rule), rule.when, times):
            raise _undecided_contrast(role, search, unsaid, key)
    unknown = _what_is_unknown(role, rules, times, frame)
    raise InvalidInput(
        f"{role}: none of the patient's {len(series)} series fits a rule{unknown}",
        f"name the series as {role}_series (a column of the label table, a key of ricenet.predict), or add a rule",
        code="role.missing",
    )


def _remark_of_marked(
    role: str,
    marked: Series,
    series: Sequence[Series],
    rules: Sequence[RuleConfig],
    times: Timeline,
    frame: str | None,
    wording: Wording,
    key: bytes,
) -> str:
    """Whether the delivery, or a date, is another one now than when choose.csv asked."""
    try:
        others = [choose(role, series, rules, times, frame=frame, wording=wording, key=key).series]
    except Undecided as undecided:
        others = list(undecided.candidates)
    except InvalidInput:
        return ""
    if any(each.uid == marked.uid for each in others):
        return ""
    return (
        f"marked in choose.csv, but {len(others)} other series come first now ({_keys(others, key)}); delete the mark, "
        "and ingest chooses or asks anew"
    )


def _the_best(role: str, search: SeriesSearch, rule: RuleConfig, left: list[Series], reason: str, key: bytes) -> Choice:
    """Of each exam the best; several days, two exams of one day before an event, or several alike are ambiguous."""
    best, passed_over = [], []
    for day in sorted({each.date for each in left if each.date is not None}):
        exams = exams_of_day([each for each in left if each.date == day])
        if role == "post":  # an operation may lie between two exams of one day
            passed_over += [(each, "of an earlier exam of the same day") for exam in exams[:-1] for each in exam]
            exams = exams[-1:]
        for exam in exams:
            of_exam, others = best_of(exam, search.readings)
            best += of_exam
            passed_over += others
    choice = _intact(role, best, reason, key)
    broken = sum(each.problem is not None for each in left)
    return replace(
        choice,
        candidates=tuple(left),
        reason=choice.reason + (f"; {broken} broken beside it" if broken else ""),
        passed_over=(*passed_over, *search.passed_over(rule, left)),
    )


def _remark(
    search: SeriesSearch, rule: RuleConfig, times: Timeline, chosen: Series, candidates: Sequence[Series]
) -> str:
    """What somebody should know of the choice."""
    reading = search.readings[chosen.uid]
    remarks = []
    if reading.kind == "reformat":
        remarks.append("a reformat was taken, because no original was delivered")
    if rule.contrast and not reading.by_name:
        remarks.append("that it is enhanced, only its header says")
    if chosen.grid is not None and not covers_head(chosen):
        remarks.append("its slices span only a part of a head")
    if rule.role == "post" and is_before_operation(reading.text):
        remarks.append("its name speaks of an operation to come: check that it is not the MRI before the resection")
    unsaid = search.unsaid(rule)
    remarks += remarks_of_the_day(rule.role, chosen, candidates, unsaid, search.readings)
    # In the frame of the dose lies the planning image.
    others = [each for each in unsaid if search.frame is None or each.frame_of_reference != search.frame]
    nearest = _of_the_day([chosen, *others], rule.when, times)
    if chosen not in nearest:
        days = ", ".join(sorted({str(times.day(each)) for each in nearest}))
        remarks.append(f"nearer to the date (day {days}) lie {len(nearest)} T1 of which nothing says whether enhanced")
    return "; ".join(remarks)


def _undecided_contrast(role: str, search: SeriesSearch, unsaid: list[Series], key: bytes) -> Undecided:
    reasons = sorted({search.readings[each.uid].why for each in unsaid})
    return Undecided(
        f"{role}: {len(unsaid)} series may be it, if they are enhanced T1 ({'; '.join(reasons)}): {_keys(unsaid, key)}",
        f"name the right one as {role}_series (a column of the label table, a key of ricenet.predict) or mark it in "
        "choose.csv; contrast_in_description and trust_agent settle it for all cases",
        code="role.contrast",
        role=role,
        candidates=unsaid,
    )


def _keys(series: Sequence[Series], key: bytes) -> str:
    return ", ".join(sorted(series_key(each, key) for each in series))


def _of_the_day(series: list[Series], when: str, times: Timeline) -> list[Series]:
    """The series of the one day that `when` asks for; none where a date is not known."""
    if when == "same_frame":
        return series
    anchor = {"post_date": times.post, "event_date": times.event}.get(when, times.radiotherapy)
    if anchor is None:
        return []
    distance = {each.date: (each.date - anchor).days for each in series if each.date is not None}
    if when == "before_radiotherapy":
        days = [max((d for d in distance if distance[d] <= 0), default=None)]
    elif when == "after_radiotherapy":
        # Several days after radiotherapy are several follow-ups: all stay, and the role is ambiguous.
        days = [d for d in distance if distance[d] > 0]
    else:
        tolerance = times.event_tolerance_days if when == "event_date" else 0
        closest = min(map(abs, distance.values()), default=0)
        days = [d for d in distance if abs(distance[d]) == closest <= tolerance]
    return [each for each in series if each.date is not None and each.date in days]


def _intact(role: str, candidates: list[Series], reason: str, key: bytes) -> Choice:
    """The only candidate that is a whole volume."""
    whole = [each for each in candidates if each.problem is None]
    if not whole and role == "planning":  # it is registered and goes no further: that, uneven slices allow
        whole = [each for each in candidates if each.uneven is not None]
    if len(whole) == 1:
        return Choice(whole[0], tuple(candidates), reason)
    problems = {each.problem.code: each.problem for each in candidates if each.problem is not None}
    if not whole and len(problems) == 1:  # of the only one, or of two halves of one stack
        (problem,) = problems.values()
        raise InvalidInput(f"{role}: {problem.message}", problem.hint, code=problem.code)
    raise Undecided(
        f"{role}: {len(candidates)} series fit equally ({reason}): {_keys(candidates, key)}",
        f"name one of them as {role}_series (a column of the label table, a key of ricenet.predict), mark it in "
        "choose.csv, or add a rule",
        code="role.ambiguous",
        role=role,
        candidates=candidates,
    )


def _what_is_unknown(role: str, rules: Sequence[RuleConfig], times: Timeline, frame: str | None) -> str:
    dates = {
        "post_date": times.post,
        "event_date": times.event,
        "before_radiotherapy": times.radiotherapy,
        "after_radiotherapy": times.radiotherapy,
        "same_frame": frame,
    }
    lacking = sorted({rule.when for rule in rules if rule.role == role and dates[rule.when] is None})
    return f" (not known here: {', '.join(name.replace('_', ' ') for name in lacking)})" if lacking else ""
