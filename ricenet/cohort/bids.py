"""Read a BIDS dataset: sub-01/ses-02/anat/sub-01_ses-02_ce-gadolinium_T1w.nii.gz and its tables in; events out.

What is read: T1w images with contrast (the entity ce, or words for it in acq); days from sessions.tsv and scans.tsv;
masks from derivatives/*/ in the frame of the image itself; the dose, for which BIDS has no place, from
sub-*/ses-*/dose/*_dose.nii.gz (there, or below derivatives/*/), or from where the label table's column rd says. The
dose is in Gy, of the whole treatment, in the frame of the post-OP MRI, or of the image that the column planning names.

Does not: read the inheritance of metadata, label maps (dseg), templates, or anything but NIfTI.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ricenet.cohort.label_table import LabelRow
from ricenet.cohort.layouts import (
    AFTER,
    DAYS,
    Entry,
    LesionMask,
    check_ids,
    check_option,
    check_spelling,
    excluded,
    inside,
    present,
    with_covariates,
)
from ricenet.cohort.spreadsheet import Table, parse_date, read_table
from ricenet.errors import InvalidInput

PATIENT, SESSION = r"(sub-)?[A-Za-z0-9+]+", r"(ses-)?[A-Za-z0-9+]*"
BASELINES = ("only", "first", "previous")
NO_AGENT = re.compile(r"no|none|non|non?contrast|native?|pre.*|without|plain|0|na")
NO_AGENT_IN_ACQ = re.compile(r"pre|non?c|nati|without|plain")
AGENT_IN_ACQ = re.compile(r"contrast|gad|gd|^ce|(?<!spa)ce$|^km|km$|inj|t1c|^post(?!op)|post$")
LESION_WORDS = re.compile(r"lesion|tumou?r|l|enhancing|et|recurrence")
SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Name:
    """A BIDS file name taken apart: entities by key, and the suffix (T1w, mask, dose)."""

    path: Path
    entities: Mapping[str, str]
    suffix: str


@dataclass(frozen=True)
class Session:
    """One session of a subject; label and folder of a dataset without sessions are empty and the subject's."""

    label: str
    folder: Path
    day: date | None


def label_table(path: Path, delivery: Path, label: str = "label", sheet: str = "") -> Table:
    """The label table: the file itself, or, where it has no label, the sessions.tsv of all subjects.

    Rows of a sessions.tsv have the subject's cells of the file, too, under the headers that it does not have itself.

    Args:
        path: participants.tsv, or any table with participant_id and a label.
        delivery: the dataset.
        label: header of the label.
        sheet: of a workbook, as of read_table.
    """
    table = read_table(path, "label table", sheet)
    if table.has(label):
        return table
    paths = sorted(path for path in delivery.glob("sub-*/sub-*_sessions.tsv") if inside(delivery, path))
    sessions = {each.parent.name: read_table(each, "table sessions.tsv") for each in paths}
    if not any(of_subject.has(label) for of_subject in sessions.values()):
        return table
    subjects = _cells_of_subjects(table)
    headers = list(dict.fromkeys(["participant_id", *(header for cells in subjects.values() for header in cells)]))
    rows: dict[int, dict[str, str]] = {}
    for subject, of_subject in sessions.items():
        headers += [header for header in of_subject.headers if header not in headers]
        for cells in of_subject.rows.values():
            rows[len(rows) + 2] = subjects.get(subject, {}) | {"participant_id": subject} | cells
    full = {number: dict.fromkeys(headers, "") | cells for number, cells in rows.items()}
    return Table("label table", headers, full)


def _cells_of_subjects(table: Table) -> dict[str, dict[str, str]]:
    """The rows of participants.tsv by the subject's folder."""
    if not table.has("participant_id"):
        return {}
    header = table.header("participant_id")
    return {f"sub-{cells[header].removeprefix('sub-')}": cells for cells in table.rows.values()}


def bids(delivery: Path, rows: list[LabelRow], options: Mapping[str, str] | None = None) -> list[Entry]:
    """Find the images of each label row in a BIDS dataset.

    Args:
        delivery: the dataset, with sub-* folders.
        rows: patient_id as sub-01 or 01; event_id as ses-02 or 02. Without one the session of event_date is the event,
            else the last of at most two. Further columns: `post_session`; `rd` and `planning`, paths in the dataset.
        options: `baseline`, which session before the event has the post-OP MRI where the table has no post_session:
            only (several are asked about), first or previous; `acq`: of several T1w, those with this acq entity;
            `roles`: what the cohort has, such as `post event rd`.

    Returns:
        One entry a row, in order.

    Raises:
        InvalidInput: no sub-* folder, an id that is no BIDS label, or one patient's id written in two ways.
        WrongUsage: an option that there is not.
    """
    options = options or {}
    check_option(options, "baseline", BASELINES)
    check_ids(rows, {"patient_id": PATIENT, "event_id": SESSION})
    check_spelling(rows, lambda patient: patient.removeprefix("sub-"))
    if not any(delivery.glob("sub-*")):
        raise InvalidInput(
            "the delivery has no folder sub-*", "point delivery= at the BIDS dataset", code="source.layout"
        )
    return [_entry(delivery, row, options) for row in rows]


def _entry(delivery: Path, row: LabelRow, options: Mapping[str, str]) -> Entry:
    if row.excluded_because:
        return excluded(row)
    subject = delivery / f"sub-{row.patient_id.removeprefix('sub-')}"
    if not subject.is_dir():
        return excluded(row, "event: the patient is not in the delivery")
    roles = options.get("roles", "post event rd").split()
    sessions, flags = _sessions(subject)
    reasons: list[str] = []
    event = _event_session(row, sessions)
    if isinstance(event, str):
        return excluded(row, event)
    chosen = {"event": event}
    post = _post_session(row, sessions, event, options) if "post" in roles else ""
    if isinstance(post, Session):
        chosen["post"] = post
    elif post:
        reasons.append(post)
    files: dict[str, Path] = {}
    for role, session in chosen.items():
        image = _enhanced(session, options, role, flags)
        if isinstance(image, Path):
            files[role] = image
        else:
            reasons.append(image)
    reference = chosen.get("post", event)
    if "rd" in roles:
        files |= _doses(delivery, subject, row, reference, reasons, flags)
    files |= _mask(delivery, reference, "brain_mask", flags) | _mask(delivery, event, "lesion", flags)
    images, missing = present(delivery, files, [*files])
    brain_mask, lesion = images.pop("brain_mask", None), images.pop("lesion", None)
    days, since = _days(row, chosen)
    if since is not None and since <= 0:
        reasons.append(AFTER)
    return Entry(
        with_covariates(row, {DAYS: since}),
        images,
        brain_mask,
        days.get("post"),
        days.get("event"),
        "; ".join([*reasons, *missing]),
        LesionMask(lesion) if lesion else None,
        tuple(flags),
    )


def _sessions(subject: Path) -> tuple[list[Session], list[str]]:
    """The subject's sessions in the order of time, or, where no table tells it, of their names, with a flag."""
    folders = sorted(path for path in subject.glob("ses-*") if path.is_dir()) or [subject]
    days = _session_days(subject)
    sessions = []
    for folder in folders:
        label = folder.name.removeprefix("ses-") if folder != subject else ""
        sessions.append(Session(label, folder, days.get(label) or _first_scan(folder)))
    if all(session.day for session in sessions):
        return sorted(sessions, key=lambda session: (session.day or date.min, _natural(session.label))), []
    sessions.sort(key=lambda session: _natural(session.label))
    flag = "sessions are in the order of their names: no table gives the days of all of them"
    return sessions, [flag] if len(sessions) > 1 else []


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _session_days(subject: Path) -> dict[str, date]:
    path = subject / f"{subject.name}_sessions.tsv"
    if not path.is_file():
        return {}
    table = read_table(path, "table sessions.tsv")
    if not (table.has("acq_time") and table.has("session_id")):
        return {}
    label, time = table.header("session_id"), table.header("acq_time")
    known = {cells[label].removeprefix("ses-"): _day(cells[time]) for cells in table.rows.values()}
    return {label: day for label, day in known.items() if day is not None}


def _first_scan(folder: Path) -> date | None:
    return min((day for day in (_day(text) for text in _scan_times(folder).values()) if day), default=None)


def _scan_times(folder: Path) -> dict[str, str]:
    """acq_time by file name, of the session's scans.tsv."""
    times: dict[str, str] = {}
    for path in folder.glob("sub-*_scans.tsv"):
        table = read_table(path, "table scans.tsv")
        if table.has("filename") and table.has("acq_time"):
            name, time = table.header("filename"), table.header("acq_time")
            times |= {Path(cells[name]).name: cells[time] for cells in table.rows.values()}
    return times


def _day(acq_time: str) -> date | None:
    return parse_date(re.split("[T ]", acq_time)[0])


def _event_session(row: LabelRow, sessions: list[Session]) -> Session | str:
    """The session of the event, or why there is none."""
    label = row.event_id.removeprefix("ses-")
    named = [session for session in sessions if session.label == label]
    if named and not row.event_is_numbered:
        return named[0]
    if row.event_date is not None:
        same_day = [session for session in sessions if session.day == row.event_date]
        return same_day[0] if len(same_day) == 1 else f"event: {len(same_day)} sessions on the day of event_date"
    if not row.event_is_numbered:
        return "event: the session is not in the delivery"
    if len(sessions) > 2:
        return f"event: {len(sessions)} sessions, and the label table does not say which (event_id)"
    return sessions[-1]


def _post_session(row: LabelRow, sessions: list[Session], event: Session, options: Mapping[str, str]) -> Session | str:
    """The session of the post-OP MRI, or why there is none."""
    label = row.extra.get("post_session", "").removeprefix("ses-")
    if label:
        named = [session for session in sessions if session.label == label]
        if not named:
            return "post: the session that post_session names is not in the delivery"
        late = named[0] is event or (named[0].day and event.day and named[0].day > event.day)
        return "post: the session that post_session names does not lie before the event" if late else named[0]
    earlier = sessions[: sessions.index(event)]
    if row.post_date is not None:
        earlier = [session for session in earlier if session.day == row.post_date]
    if not earlier:
        return "post: no session before the event"
    baseline = options.get("baseline", "only")
    if len(earlier) > 1 and baseline == "only":
        return f"post: {len(earlier)} sessions before the event; name one in post_session, or set options.baseline"
    return earlier[0] if baseline == "first" else earlier[-1]


def _names(folder: Path) -> list[Name]:
    """The NIfTI files of a folder whose names are BIDS."""
    names = []
    for path in sorted(folder.glob("sub-*")):
        suffix = next((each for each in SUFFIXES if path.name.endswith(each)), None)
        if suffix is not None:
            *parts, kind = path.name.removesuffix(suffix).split("_")
            entities = {key: value for key, dash, value in (part.partition("-") for part in parts) if dash}
            names.append(Name(path, entities, kind))
    return names


def _enhanced(session: Session, options: Mapping[str, str], role: str, flags: list[str]) -> Path | str:
    """The session's T1w with contrast, or why there is none; of several runs the latest, with a flag."""
    images = [name for name in _names(session.folder / "anat") if name.suffix == "T1w"]
    images = [name for name in images if name.entities.get("part", "mag") == "mag"]
    with_agent = [
        name for name in images if "ce" in name.entities and not NO_AGENT.fullmatch(name.entities["ce"].lower())
    ]
    chosen = with_agent or [name for name in images if "ce" not in name.entities and _agent_in_acq(name)]
    if acq := options.get("acq", ""):
        chosen = [name for name in chosen if name.entities.get("acq", "") == acq]
    if not chosen:
        return f"{role}: no T1w with contrast (ce-) among {len(images)} T1w of the session"
    kinds = {tuple(sorted((key, value) for key, value in name.entities.items() if key != "run")) for name in chosen}
    if len(kinds) > 1:
        keys = sorted({key for kind in kinds for key, _ in set(kind).symmetric_difference(next(iter(kinds)))})
        return (
            f"{role}: {len(chosen)} T1w with contrast, which differ in {', '.join(keys)}; choose with "
            "source.options.acq, or keep one"
        )
    if len(chosen) > 1:
        times = _scan_times(session.folder)
        known = all(times.get(name.path.name) for name in chosen)
        chosen.sort(
            key=lambda name: (times.get(name.path.name, "") if known else "", _natural(name.entities.get("run", "0")))
        )
        flags.append(f"{role}: the latest of {len(chosen)} runs was taken")
    return chosen[-1].path


def _agent_in_acq(name: Name) -> bool:
    acq = name.entities.get("acq", "").lower()
    return AGENT_IN_ACQ.search(acq) is not None and NO_AGENT_IN_ACQ.search(acq) is None


def _doses(
    delivery: Path, subject: Path, row: LabelRow, reference: Session, reasons: list[str], flags: list[str]
) -> dict[str, Path]:
    """rd and planning: what the label table names, else the subject's only dose, or that of the reference's session."""
    named = {role: text for role in ("rd", "planning") if (text := row.extra.get(role, "").removeprefix("bids::"))}
    paths = {role: delivery / text for role, text in named.items()}
    for role, text in named.items():
        subjects = {part.partition("_")[0] for part in Path(text).parts if part.startswith("sub-")}
        if subjects - {subject.name}:
            reasons.append(f"{role}: the path in the label table is another patient's")
    if "rd" not in paths:
        places = [delivery, *sorted(delivery.glob("derivatives/*"))]
        doses = [path for place in places for path in _dose_files(place / subject.name)]
        of_reference = [path for path in doses if path.parent.parent.name == reference.folder.name]
        if len(of_reference) == 1 < len(doses):
            flags.append(
                f"rd: of {len(doses)} doses that of one session was taken, where the MRI is in whose frame it lies"
            )
        elif len(doses) == 1 and not of_reference and "planning" not in paths:
            flags.append("rd: delivered with another session than the MRI in whose frame it is taken to lie")
        doses = of_reference or doses
        if len(doses) > 1:
            reasons.append(f"rd: {len(doses)} doses; name that of the whole treatment in the column rd")
        elif doses:
            paths["rd"] = doses[0]
    unit = _unit(paths["rd"]) if "rd" in paths else ""
    if unit and unit.lower() != "gy":
        reasons.append("rd: its sidecar gives Units that are not Gy")
    return paths


def _dose_files(subject: Path) -> list[Path]:
    folders = [*sorted(subject.glob("ses-*/dose")), subject / "dose"]
    return [name.path for folder in folders for name in _names(folder) if name.suffix == "dose"]


def _unit(path: Path) -> str:
    """Units of the JSON file beside an image; empty where nothing is said."""
    name = next((path.name.removesuffix(suffix) for suffix in SUFFIXES if path.name.endswith(suffix)), path.name)
    try:
        content = json.loads((path.parent / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(content.get("Units", "")) if isinstance(content, dict) else ""


def _mask(delivery: Path, session: Session, role: str, flags: list[str]) -> dict[str, Path]:
    """The session's brain or lesion mask in any of the derivatives, in the frame of its own images."""
    place = session.folder.relative_to(delivery)
    masks = [
        name
        for folder in (*sorted(delivery.glob("derivatives/*")), delivery)
        for name in _names(folder / place / "anat")
        if name.suffix == "mask" and _is_mask_of(role, name.entities)
    ]
    usable = [name for name in masks if name.entities.get("space", "orig") in ("orig", "T1w", "individual")]
    if len(usable) == 1:
        return {role: usable[0].path}
    if usable:
        flags.append(f"{role} left out: {len(usable)} masks of the session could be it")
    elif masks:
        flags.append(f"{role} left out: its mask lies in another space")
    return {}


def _is_mask_of(role: str, entities: Mapping[str, str]) -> bool:
    words = [entities.get(key, "").lower() for key in ("desc", "label")]
    return "brain" in words if role == "brain_mask" else any(LESION_WORDS.fullmatch(word) for word in words)


def _days(row: LabelRow, chosen: Mapping[str, Session]) -> tuple[dict[str, int], int | None]:
    """Days of the roles since radiotherapy began, else since the post-OP MRI; the event's since radiotherapy began."""
    known = {role: session.day for role, session in chosen.items() if session.day is not None}
    origin = row.radiotherapy_start or known.get("post")
    days = {role: (day - origin).days for role, day in known.items()} if origin else {}
    return days, days.get("event") if row.radiotherapy_start else None
