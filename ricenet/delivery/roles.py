"""Choose the post-OP MRI, the event MRI and the planning image among a patient's series, by rules and dates.

The rules are a table in conf/ingest.yaml. For each role they are tried in order. A rule keeps the series that match it
on the day given by `when`; the first rule that keeps any decides. One left: chosen. Several: role.ambiguous with the
list of them, and the label table can name one (column <role>_series). If the label table gives the date of the post-OP
or event MRI, only the rules for that date are tried.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from ricenet.cohort.ingest_record import SeriesRecord
from ricenet.cohort.pseudonyms import pseudonym
from ricenet.command.schemas import RuleConfig
from ricenet.delivery.series import Series
from ricenet.errors import InvalidInput, WrongUsage

ROLES = ("post", "event", "planning")
WHEN = ("post_date", "event_date", "before_radiotherapy", "after_radiotherapy", "same_frame")
NO_AGENT = {"", "no", "none", "n", "nein", "without", "0"}  # how a scanner's form says that nothing was injected


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
class Wording:
    """Patterns for series descriptions: `contrast` matches enhanced series, `never` those that no rule may take."""

    contrast: str
    never: str


@dataclass(frozen=True)
class Choice:
    """The `series` that was chosen, the `candidates` it was chosen from, and the `reason` in words.

    `remark`: what somebody should know of it; empty where there was no choice.
    """

    series: Series
    candidates: tuple[Series, ...]
    reason: str
    remark: str = ""


def series_key(series: Series, key: bytes) -> str:
    """The pseudonym of a series, for ingest.json and for the label table's <role>_series: s and twelve hex digits."""
    return "s" + pseudonym(key, series.uid)[1:]


def describe_series(
    series: Sequence[Series], times: Timeline, frame: str | None, wording: Wording, key: bytes
) -> list[SeriesRecord]:
    """What a person needs to tell a patient's series apart, without a word of their headers."""
    records = []
    for each in series:
        x_mm, y_mm, z_mm = (round(float(step), 3) for step in each.spacing_mm)
        record = SeriesRecord(
            series=series_key(each, key),
            number=each.number,
            modality=each.modality,
            day=times.day(each),
            shape=each.shape,
            spacing_mm=(x_mm, y_mm, z_mm),
            contrast=has_contrast(each, wording),
            in_the_frame_of_the_dose=None if frame is None else each.frame_of_reference == frame,
            problem=None if each.problem is None else each.problem.code,
        )
        records.append(record)
    return records


def check_rules(rules: Sequence[RuleConfig]) -> None:
    """Validate the rules before any file is read.

    Raises:
        WrongUsage: an unknown role or `when`, or a pattern that is no regular expression.
    """
    for number, rule in enumerate(rules):
        for value, allowed in ((rule.role, ROLES), (rule.when, WHEN), (rule.modality, ("MR", "CT"))):
            if value not in allowed:
                raise WrongUsage(f"rules[{number}]: expected {' | '.join(allowed)}, got {value!r}")
        check_pattern(f"rules[{number}].matches", rule.matches)


def check_pattern(name: str, pattern: str) -> None:
    """Raise WrongUsage where `pattern` is no regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise WrongUsage(f"{name}: expected a regular expression, got {pattern!r}: {error}") from None


def has_contrast(series: Series, wording: Wording) -> bool:
    """Whether the header names a contrast agent, or the description says so."""
    return series.contrast_agent.strip().lower() not in NO_AGENT or _says(series, wording.contrast)


def _says(series: Series, pattern: str) -> bool:
    return re.search(pattern, series.description, re.IGNORECASE) is not None


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
        named: the pseudonym that the label table gives for this role; it overrules the rules.
        planned_on: for `planning`, UIDs of the series that the plan's structures were drawn on.

    Raises:
        InvalidInput: no series fits, several fit, the one that fits is no whole volume, or the patient has no series
            `named`.
    """
    if named:
        matching = [each for each in series if series_key(each, key) == named]
        if not matching:
            raise InvalidInput(
                f"{role}: {role}_series names series {named}, which this patient does not have",
                "take one of those that ingest.json, or the page of ricenet.predict, lists",
                code="role.unknown_series",
            )
        return _intact(role, matching, f"named as {role}_series", key)
    dates = {"post_date": times.post, "event_date": times.event}
    of_role = [(number, rule) for number, rule in enumerate(rules) if rule.role == role]
    # A date that the label table gives binds: no other day is taken instead.
    dated = [(number, rule) for number, rule in of_role if dates.get(rule.when) is not None]
    for number, rule in dated or of_role:
        fitting = [each for each in series if _fits(each, rule, frame, wording)]
        left = _of_the_day(fitting, rule.when, times)
        if left:
            reason = f"rule {number}: {rule.when.replace('_', ' ')}"
            if role != "planning":
                return _intact(role, left, reason, key)
            best, remark = _planned_on(left, planned_on)
            return replace(_intact(role, best, reason, key), candidates=tuple(left), remark=remark)
    unknown = _what_is_unknown(role, rules, times, frame)
    raise InvalidInput(
        f"{role}: none of the patient's {len(series)} series fits a rule{unknown}",
        f"name the series as {role}_series (a column of the label table, a key of ricenet.predict), or add a rule",
        code="role.missing",
    )


def _fits(series: Series, rule: RuleConfig, frame: str | None, wording: Wording) -> bool:
    return (
        series.modality == rule.modality
        and _says(series, rule.matches)
        and not _says(series, wording.never)
        and (rule.contrast is None or has_contrast(series, wording) == rule.contrast)
        and series.shape[2] >= rule.min_slices
        and max(series.spacing_mm) <= rule.max_spacing_mm
        and (rule.when != "same_frame" or (frame is not None and series.frame_of_reference == frame))
    )


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
        broken = len(candidates) - 1
        return Choice(whole[0], tuple(candidates), reason + (f"; {broken} broken beside it" if broken else ""))
    if not whole and len(candidates) == 1:
        problem = candidates[0].problem
        assert problem is not None
        raise InvalidInput(f"{role}: {problem.message}", problem.hint, code=problem.code)
    keys = ", ".join(sorted(series_key(each, key) for each in candidates))
    raise InvalidInput(
        f"{role}: {len(candidates)} series fit equally ({reason}): {keys}",
        f"name one of them as {role}_series (a column of the label table, a key of ricenet.predict), or add a rule",
        code="role.ambiguous",
    )


def _planned_on(candidates: list[Series], uids: Sequence[str]) -> tuple[list[Series], str]:
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
