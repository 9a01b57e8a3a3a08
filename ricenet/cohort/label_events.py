"""The rows of a source's label table: read as its config says, a patient's events chosen, the test set drawn."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from ricenet.cohort.label_table import LabelRow, TableForm, list_rows, read_labels
from ricenet.cohort.spreadsheet import Table
from ricenet.command.schemas import SourceConfig
from ricenet.errors import InvalidInput, WrongUsage

EVENTS = ("first", "first_of_each_label", "all")


def source_rows(
    source: SourceConfig, labels: Path, delivery: Path, keep: Sequence[str], sheet: str = ""
) -> list[LabelRow]:
    """Read the label table of a source, and choose the events that count.

    Args:
        source: how the table is written, what its texts mean, which events count.
        labels: the table.
        delivery: holds the table that completes it, and a BIDS dataset's further ones.
        keep: further columns for cohort.csv.
        sheet: of a workbook, in place of the source's.

    Raises:
        InvalidInput: as read_labels; or several tables could complete it.
        WrongUsage: as read_labels and choose_events.
    """
    form = TableForm(
        date_format=source.date_format,
        empty_cells=tuple(source.empty_cells),
        id_pattern=source.id_pattern,
        label_source_map=source.label_source_map,
        sheet=sheet or source.sheet,
        optional=tuple(source.optional),
        completed_by=_completing_table(delivery, source.completed_by) if source.completed_by else None,
    )
    table: Path | Table = labels
    if source.layout == "bids":
        from ricenet.cohort.bids import label_table

        table = label_table(labels, delivery, source.columns.get("label", "label"), form.sheet)
    further = [*keep, *source.inputs]
    rows = read_labels(table, source.columns, source.label_map, further, source.label_source, form)
    return choose_events(rows, source.events, source.columns)


def _completing_table(delivery: Path, pattern: str) -> Path | None:
    """The table of the delivery that completes the label table; None where it holds none."""
    tables = sorted(delivery.glob(pattern))
    if len(tables) > 1:
        raise InvalidInput(
            f"expected one table {pattern} in the delivery, got {len(tables)}",
            "keep one version of it, or correct source.completed_by",
            code="source.layout",
        )
    return tables[0] if tables else None


def choose_events(rows: list[LabelRow], which: str, columns: Mapping[str, str]) -> list[LabelRow]:
    """Exclude, with the reason, the events that do not count. Where a line has several, also those that cannot be one.

    A line with columns for several follow-ups lists them as they came: one without a date, before radiotherapy or not
    after the post-OP MRI is no event, whatever it was rated.

    Args:
        rows: of the label table.
        which: first | first_of_each_label | all: of a patient's events, by date, or by name where one has none.
        columns: as of read_labels.

    Raises:
        WrongUsage: `which` is none of EVENTS.
    """
    if which not in EVENTS:
        raise WrongUsage(f"source.events: expected {' | '.join(EVENTS)}, got {which!r}")
    dated = {name.removeprefix("event_date_") for name in columns if name.startswith("event_date_")}
    rows = [
        replace(row, excluded_because=reason, label="") if (reason := _no_event(row, dated)) else row for row in rows
    ]
    of_patient = defaultdict(list)
    for row in rows:
        if not row.excluded_because:
            of_patient[row.patient_id].append(row)
    later = set()
    for events in of_patient.values():
        by_date = all(row.event_date for row in events)
        events.sort(key=lambda row: (row.event_date or date.min if by_date else date.min, _natural(row.event_id)))
        labels = [row.label if which == "first_of_each_label" else "" for row in events]
        later |= {id(row) for number, row in enumerate(events) if labels[number] in labels[:number]}
    if which == "all":
        return rows
    what = "a later event of the patient" + (" with this label" if which == "first_of_each_label" else "")
    return [
        replace(row, excluded_because=f"{what} (events={which})", label="") if id(row) in later else row for row in rows
    ]


def _no_event(row: LabelRow, dated: set[str]) -> str:
    """Why a follow-up of a line with several cannot be an event; empty where it can, or is excluded already."""
    if row.excluded_because or row.event_id not in dated:
        return ""
    if row.event_date is None:
        return "the follow-up has no date"
    if row.radiotherapy_start and row.event_date <= row.radiotherapy_start:
        return "the follow-up does not lie after the start of radiotherapy"
    if row.post_date and row.event_date <= row.post_date:
        return "the follow-up does not lie after the post-OP MRI"
    return ""


def _natural(text: str) -> list[tuple[int, str]]:
    """For sorting: fup2 comes before fup10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def deal_test(rows: list[LabelRow], share: float, key: bytes) -> list[LabelRow]:
    """Deal the patients to test set and cross-validation where the table does not.

    Args:
        rows: of the label table.
        share: of the patients, held out as a test set, within each label; patients with both labels form a third
            stratum.
        key: secret that makes the draw reproducible: same key, same patients.

    Returns:
        The rows with a split; unchanged if the table has one.

    Raises:
        InvalidInput: some rows have a split and others not.
        WrongUsage: `share` is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise WrongUsage(f"test_share should be in [0, 1), got {share:g}")
    used = [row for row in rows if not row.excluded_because]
    without = [row for row in used if not row.split]
    if len(without) < len(used):
        if without:
            raise InvalidInput(
                f"the label table gives {len(used) - len(without)} rows a split and not {list_rows(without)}",
                "fill the split column in every row, or leave it empty in all",
                code="labels.split",
            )
        return rows
    labels = defaultdict(set)
    for row in used:
        labels[row.patient_id].add(row.label)
    test: set[str] = set()
    for stratum in {frozenset(of_patient) for of_patient in labels.values()}:
        patients = [patient for patient, of_patient in labels.items() if of_patient == stratum]
        test |= set(sorted(patients, key=lambda patient: _lot(patient, key))[: int(share * len(patients) + 0.5)])
    return [replace(row, split="test" if row.patient_id in test else "cv") for row in rows]


def _lot(patient_id: str, key: bytes) -> bytes:
    return hashlib.blake2b(patient_id.encode(), key=key, person=b"test set").digest()
