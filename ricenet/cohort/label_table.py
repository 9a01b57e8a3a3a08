"""Read the label table of a delivery: CSV, TSV or semicolons in; one row for each event out, all problems at once.

A table has a line for each event, or one for each patient with columns for every event: `columns: {label_t1: ...,
label_t2: ...}` makes the events t1 and t2 of every line; events whose columns are all empty are skipped. `label_map`
translates the table's own label texts; nothing is guessed.

Messages give row numbers (2 is the first below the header), column names, label and split texts; no other cell.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from ricenet import LABELS
from ricenet.cohort.spreadsheet import Table, check_date_format, fits, parse_date, parse_number, read_table
from ricenet.cohort.table import DATES, LESION_MM, MAX_PRESCRIPTION_GY, SPLITS, parse_place
from ricenet.errors import InvalidInput, WrongUsage

CHOICES = ("post_series", "event_series", "planning_series")
RT_CHOICES = ("doses", "plans", "exclude_doses")
FIELDS = (
    "patient_id", "event_id", "label", "split", *DATES, "fractions", "prescription_gy", "label_source",
    "excluded_because", "rt_patient_id", "delivered_fractions", *RT_CHOICES, *CHOICES,
    LESION_MM,
)  # fmt: skip
EXCLUDE = "exclude:"
log = logging.getLogger(__name__)
Complain = Callable[[str], None]


@dataclass(frozen=True)
class LabelRow:
    """One event of one patient, as the label table says it.

    Attributes:
        row: line of the table; in a one-line-per-patient table all events of the patient have the same.
        patient_id: as the table writes it. It never leaves the process.
        event_id: from the table, else the event's rank among the patient's dates: e1, e2, ...
        event_named: whether the table gives it.
        lesion_mm: where the table says that the lesion is (ricenet.cohort.table.Case), as it writes it.
        label: recurrence, rice, or empty where the row is excluded.
        split: cv, test or empty.
        choice: role (post, event, planning) -> series key by which the user resolves an ambiguity.
        marked: the roles whose choice stands in choose.csv (ricenet.cohort.choices), not in the table.
        extra: the further columns that were asked for.
        doses, plans, exclude_doses: keys of RT objects by which the user chooses the treatment.
        delivered_fractions: where the treatment was stopped early.
        rt_patient_id: PatientID under which the patient's RT objects were delivered, where it is another; several with
            semicolons. It never leaves the process.
    """

    row: int
    patient_id: str
    event_id: str
    label: str
    split: str = ""
    event_date: date | None = None
    post_date: date | None = None
    radiotherapy_start: date | None = None
    fractions: int | None = None
    prescription_gy: float | None = None
    label_source: str = ""
    excluded_because: str = ""
    choice: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    rt_patient_id: str = ""
    doses: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()
    exclude_doses: tuple[str, ...] = ()
    delivered_fractions: int | None = None
    marked: tuple[str, ...] = ()
    event_named: bool = False
    lesion_mm: str = ""

    @property
    def event_is_numbered(self) -> bool:
        """Whether event_id is only the event's rank in the table, and names no session or follow-up of the delivery."""
        return not self.event_named and re.fullmatch(r"e\d+", self.event_id) is not None


@dataclass(frozen=True)
class TableForm:
    """How a label table is written: keys of conf/source/*.yaml.

    Attributes:
        date_format: as of ricenet.cohort.spreadsheet.check_date_format; empty: only days with one reading.
        empty_cells: texts that mean an empty cell, in any column; case and space do not count.
        id_pattern: of patient_id, with the groups patient_id and event_id, where one column holds both; empty: it is
            the patient's.
        label_source_map: pattern of the label text -> label_source; * stands for any text, the first that fits decides.
        sheet: of a workbook; empty: the first.
        optional: fields of `columns` that the table need not have.
        completed_by: a table whose further columns are added to the rows with the same patient_id cell. Where it has
            no such row, they hold NOT_LISTED.
    """

    date_format: str = ""
    empty_cells: tuple[str, ...] = ()
    id_pattern: str = ""
    label_source_map: Mapping[str, str] = field(default_factory=dict)
    sheet: str = ""
    optional: tuple[str, ...] = ()
    completed_by: Path | None = None


NOT_LISTED = "not listed"


def read_labels(
    path: Path | Table,
    columns: dict[str, str],
    label_map: dict[str, str],
    keep: Sequence[str],
    label_source: str = "",
    form: TableForm | None = None,
) -> list[LabelRow]:
    """Read and check the label table. A line that repeats an earlier one word for word counts once.

    Args:
        path: the table: text in UTF-8, or a workbook (.xlsx); or as it was read.
        columns: field of LabelRow -> header, where the two differ; <field>_<event> for a table with a line for each
            patient. A * in a header stands for any text.
        label_map: label text -> recurrence, rice or "exclude: <reason>", without regard to case and space; a * stands
            for any text, the first that fits decides. `recurrence` and `rice` need no entry; empty cells do.
        keep: further columns to keep where the table has them.
        label_source: default for rows that give none.
        form: how the table is written; None: as plainly as possible.

    Raises:
        InvalidInput: no table that can be read, a column is missing, or any row has a problem; all are listed.
        WrongUsage: `columns`, `label_map` or `form` is invalid.
    """
    form = form or TableForm()
    _check_config(columns, label_map, keep)
    _check_form(form)
    table = path if isinstance(path, Table) else read_table(path, "label table", form.sheet)
    table = _without_empty_texts(table, form)
    if form.completed_by is not None:
        table = _completed(table, form.completed_by, columns.get("patient_id", "patient_id"), form.id_pattern)
    may_lack = {*keep, *form.optional}
    absent = [repr(header) for name, header in columns.items() if name in keep and not table.has(header)]
    if absent:
        log.warning("the label table has no column %s (source.columns): nothing is known of it", ", ".join(absent))
    columns = {name: header for name, header in columns.items() if name not in may_lack or table.has(header)}
    problems: list[str] = []
    rows = []
    seen = set()
    layouts = _layouts(columns, table, keep)
    for number, cells in table.rows.items():
        if tuple(cells.values()) in seen:
            continue
        seen.add(tuple(cells.values()))
        for event, (event_headers, headers) in layouts.items():
            if event_headers and not any(cells[header] for header in event_headers):
                continue
            named = {name: cells[header] for name, header in headers.items()}
            rows.append(_read_row(number, event, named, keep, label_map, label_source, problems, form))
    rows = _name_events(rows, problems)
    _check_together(rows, problems)
    if problems:
        raise InvalidInput(
            f"problems in the label table ({len(problems)}):\n  " + "\n  ".join(problems),
            "correct the rows, or source.columns and source.label_map",
            code="labels.rows",
        )
    if not rows:
        raise InvalidInput("the label table has no row", "add a row for each event", code="labels.empty")
    return rows


def further_patient_ids(rows: Sequence[LabelRow]) -> dict[str, list[str]]:
    """The PatientIDs that `rt_patient_id` gives beside the patient's own, by patient_id, from all rows of a patient."""
    further: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        ids = [text.strip() for text in row.rt_patient_id.split(";")]
        further[row.patient_id] += [text for text in ids if text not in ("", row.patient_id, *further[row.patient_id])]
    return further


def rows_like(patient_id: str, rows: Sequence[LabelRow]) -> list[int]:
    """Numbers of the rows whose patient's id contains `patient_id` or is contained in it: 17_RT contains 17, 170 not.

    Of several ids the longest counts.
    """

    def contains(text: str, part: str) -> bool:
        before = r"(?<!\d)" if part[:1].isdigit() else r"(?<![^\W\d_])" if part[:1].isalpha() else ""
        after = r"(?!\d)" if part[-1:].isdigit() else r"(?![^\W\d_])" if part[-1:].isalpha() else ""
        return re.search(before + re.escape(part) + after, text, re.IGNORECASE) is not None

    alike = [
        row
        for row in rows
        if row.patient_id and (contains(patient_id, row.patient_id) or contains(row.patient_id, patient_id))
    ]
    longest = max((len(row.patient_id) for row in alike), default=0)
    return sorted({row.row for row in alike if len(row.patient_id) == longest})


def _check_config(columns: dict[str, str], label_map: dict[str, str], keep: Sequence[str]) -> None:
    unknown = [name for name in columns if name not in keep and _field_and_event(name) is None]
    if unknown:
        raise WrongUsage(f"source.columns: expected {' | '.join(FIELDS)} or a name in keep, got {', '.join(unknown)}")
    for text, meaning in label_map.items():
        if meaning not in LABELS and not (meaning.startswith(EXCLUDE) and meaning.removeprefix(EXCLUDE).strip()):
            raise WrongUsage(
                f"source.label_map[{text!r}]: expected {' | '.join(LABELS)} | exclude: <reason>, got {meaning!r}"
            )


def _check_form(form: TableForm) -> None:
    check_date_format(form.date_format)
    try:
        groups = set(re.compile(form.id_pattern).groupindex)
    except re.error as error:
        raise WrongUsage(
            f"source.id_pattern: expected a regular expression, got {form.id_pattern!r}: {error}"
        ) from None
    if form.id_pattern and groups != {"patient_id", "event_id"}:
        raise WrongUsage("source.id_pattern: expected the groups (?P<patient_id>...) and (?P<event_id>...)")


def _without_empty_texts(table: Table, form: TableForm) -> Table:
    """The table with empty cells where it says so in words (n/a)."""
    if not form.empty_cells:
        return table
    rows = {
        number: {
            header: "" if any(fits(text, word) for word in form.empty_cells) else text for header, text in of.items()
        }
        for number, of in table.rows.items()
    }
    return replace(table, rows={number: cells for number, cells in rows.items() if any(cells.values())})


def _completed(table: Table, path: Path, patient_id: str, id_pattern: str) -> Table:
    """The table with the further columns of the one at `path`, row by row of the same id.

    Raises:
        InvalidInput: the other table cannot be read, gives an id twice, or in a way that the label table does not.
    """
    other = read_table(path, "table that completes the label table")
    own, theirs = table.header(patient_id), other.header(patient_id)
    by_id: dict[str, dict[str, str]] = {}
    for number, cells in other.rows.items():
        if by_id.setdefault(cells[theirs], cells) is not cells:
            raise InvalidInput(
                f"the table that completes the label table gives the id of row {number} twice",
                "keep one of the rows",
                code="table.twice",
            )
    _check_ids_alike({cells[own] for cells in table.rows.values()}, other, theirs, id_pattern)
    further = [header for header in other.headers if header and header not in table.headers]
    missing = dict.fromkeys(further, NOT_LISTED)
    rows = {
        number: cells | {header: by_id.get(cells[own], missing)[header] for header in further}
        for number, cells in table.rows.items()
    }
    return Table(table.name, [*table.headers, *further], rows)


def _check_ids_alike(ids: set[str], other: Table, header: str, id_pattern: str) -> None:
    """Refuse ids that cannot be found for their spelling: their rows would count as not listed."""

    def bare(text: str) -> str:
        return re.sub(r"[\W_]", "", text).casefold()

    listed = {number: cells[header] for number, cells in other.rows.items() if sum(map(bool, cells.values())) > 1}
    alike = {bare(text) for text in ids}
    strange = [
        str(number)
        for number, text in listed.items()
        if text not in ids and (bare(text) in alike or (id_pattern and not re.fullmatch(id_pattern, text)))
    ]
    if not strange and listed and ids.isdisjoint(listed.values()):
        strange = [str(number) for number in listed]
    if strange:
        raise InvalidInput(
            f"the {other.name} writes ids in another way than the label table in row {', '.join(strange[:20])}"
            + (f" and {len(strange) - 20} more" if len(strange) > 20 else ""),
            "write them alike in both tables, or correct source.columns.patient_id",
            code="table.ids",
        )


def _field_and_event(name: str) -> tuple[str, str] | None:
    """A key of `columns` taken apart: label_t1 is the label of event t1, label_source a field of its own."""
    if name in FIELDS:
        return name, ""
    for field_name in sorted(FIELDS, key=len, reverse=True):
        if name.startswith(f"{field_name}_"):
            return field_name, name.removeprefix(f"{field_name}_")
    return None


def _layouts(columns: dict[str, str], table: Table, keep: Sequence[str]) -> dict[str, tuple[list[str], dict[str, str]]]:
    """For each event of a line (one, "", where a line is an event): its own headers; and field -> header, of all."""
    shared = {name: table.header(name) for name in (*FIELDS, *keep) if name not in columns and table.has(name)}
    events: dict[str, dict[str, str]] = {}
    for name, header in columns.items():
        field_name, event = (name, "") if name in keep else _field_and_event(name) or (name, "")
        (events.setdefault(event, {}) if event else shared)[field_name] = table.header(header)
    layouts = {event: (list(headers.values()), shared | headers) for event, headers in events.items()}
    layouts = layouts or {"": ([], shared)}
    for _, headers in layouts.values():
        for needed in ("patient_id", "label"):
            if needed not in headers:
                table.header(needed)  # refuses, with what there is
    return layouts


def _read_row(
    number: int,
    event: str,
    cell: dict[str, str],
    keep: Sequence[str],
    label_map: dict[str, str],
    label_source: str,
    problems: list[str],
    form: TableForm,
) -> LabelRow:
    def complain(text: str) -> None:
        problems.append(f"row {number}{f' ({event})' if event else ''}: {text}")

    if not cell["patient_id"]:
        complain("no patient id")
    ids = re.fullmatch(form.id_pattern, cell["patient_id"]) if form.id_pattern else None
    if form.id_pattern and cell["patient_id"] and ids is None:
        complain(f"patient_id does not match the pattern {form.id_pattern} (source.id_pattern)")
    label, excluded = _translate(cell["label"], label_map, cell.get("excluded_because", ""), complain)
    dates = {name: _date(cell.get(name, ""), name, complain, form.date_format) for name in DATES}
    sources = (source for pattern, source in form.label_source_map.items() if fits(cell["label"], pattern))
    event_id = ids["event_id"] if ids else event or cell.get("event_id", "")
    split = cell.get("split", "").lower()
    if split and split not in SPLITS:
        complain(f"split should be {' or '.join(SPLITS)}, got {split[:40]!r}")
    lesion_mm = cell.get(LESION_MM, "").strip()
    if lesion_mm and parse_place(lesion_mm) is None:
        complain("lesion_mm should be three numbers in mm, x y z")
    return LabelRow(
        row=number,
        patient_id=ids["patient_id"] if ids else cell["patient_id"],
        event_id=event_id,
        event_named=bool(event_id),
        label=label,
        split=split,
        event_date=dates["event_date"],
        post_date=dates["post_date"],
        radiotherapy_start=dates["radiotherapy_start"],
        fractions=_fractions(cell.get("fractions", ""), "fractions", complain),
        prescription_gy=_prescription_gy(cell.get("prescription_gy", ""), complain),
        label_source=cell.get("label_source", "") or next(sources, "") or label_source,
        excluded_because=excluded,
        choice={name.removesuffix("_series"): cell[name] for name in CHOICES if cell.get(name)},
        extra={name: cell[name] for name in keep if name in cell},
        rt_patient_id=cell.get("rt_patient_id", ""),
        **{name: split_keys(cell.get(name, "")) for name in RT_CHOICES},
        delivered_fractions=_fractions(cell.get("delivered_fractions", ""), "delivered_fractions", complain),
        lesion_mm=lesion_mm,
    )


def _translate(text: str, label_map: dict[str, str], excluded: str, complain: Complain) -> tuple[str, str]:
    """Label and reason of exclusion, one of them empty."""
    if excluded:
        return "", excluded
    meaning = next((label for label in LABELS if fits(text, label)), None)
    meaning = meaning or next((label_map[pattern] for pattern in label_map if fits(text, pattern)), None)
    if meaning is None:
        complain(f"label {text[:40]!r} is neither {' nor '.join(LABELS)}, nor does source.label_map say what it means")
        return "", ""
    return ("", meaning.removeprefix(EXCLUDE).strip()) if meaning.startswith(EXCLUDE) else (meaning, "")


def _date(text: str, name: str, complain: Complain, date_format: str) -> date | None:
    day = parse_date(text, date_format)
    if text and day is None:
        complain(
            f"{name} is no date as {date_format} (source.date_format) or YYYY-MM-DD"
            if date_format
            else f"{name} is no date as YYYY-MM-DD, YYYYMMDD or DD.MM.YYYY; source.date_format reads another form"
        )
    return day


def split_keys(text: str) -> tuple[str, ...]:
    """Keys of RT objects, which are letters and digits, with anything else between them."""
    return tuple(re.findall(r"[a-z0-9]+", text.lower()))


def _fractions(text: str, name: str, complain: Complain) -> int | None:
    number = parse_number(text)
    if number is not None and number >= 1 and number.is_integer():
        return int(number)
    if text:
        complain(f"{name} should be a whole number from 1")
    return None


def _prescription_gy(text: str, complain: Complain) -> float | None:
    number = parse_number(text)
    if number is not None and 0 < number <= MAX_PRESCRIPTION_GY:
        return number
    if text:
        complain(f"prescription_gy should be a number in 0-{MAX_PRESCRIPTION_GY:g} Gy; is it in cGy?")
    return None


def _name_events(rows: list[LabelRow], problems: list[str]) -> list[LabelRow]:
    """Number the events that the table leaves without a name by date, within each patient."""
    dates = defaultdict(list)
    for row in rows:
        dates[row.patient_id].append(row.event_date)
    named = []
    for row in rows:
        if not row.event_id and row.event_date is None and len(dates[row.patient_id]) > 1:
            problems.append(f"row {row.row}: the patient has several rows, and this one no event_date and no event_id")
        earlier = {day for day in dates[row.patient_id] if day and row.event_date and day < row.event_date}
        named.append(replace(row, event_id=row.event_id or f"e{len(earlier) + 1}"))
    return named


def _check_together(rows: list[LabelRow], problems: list[str]) -> None:
    """A patient's event stands in the table once, and all events of a patient are in one split."""
    by_event = defaultdict(list)
    by_patient = defaultdict(list)
    for row in rows:
        if row.patient_id and not row.excluded_because:
            by_patient[row.patient_id].append(row)
            for event in {row.event_id, str(row.event_date or row.event_id)}:
                by_event[row.patient_id, event].append(row)
    same = {list_rows(same_event) for same_event in by_event.values() if len(same_event) > 1}
    problems += [f"{numbers}: the same event of the same patient" for numbers in sorted(same)]
    problems += _shared_patient_ids(rows)
    for of_patient in by_patient.values():
        if len({row.split for row in of_patient} - {""}) > 1:
            problems.append(f"{list_rows(of_patient)}: one patient in both splits")


def _shared_patient_ids(rows: list[LabelRow]) -> list[str]:
    """An RT object belongs to one patient of the table."""
    claims: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        claims[row.patient_id].add(row.patient_id)
    for patient_id, ids in further_patient_ids(rows).items():
        for further in ids:
            claims[further].add(patient_id)
    shared = [patients for patients in claims.values() if len(patients) > 1]
    return [
        f"{list_rows([row for row in rows if row.patient_id in patients])}: rt_patient_id gives the RT objects of one "
        "PatientID to several patients"
        for patients in shared
    ]


def list_rows(rows: list[LabelRow]) -> str:
    numbers = [str(row.row) for row in rows]
    return f"row {', '.join(numbers[:20])}" + (f" and {len(numbers) - 20} more" if len(numbers) > 20 else "")
