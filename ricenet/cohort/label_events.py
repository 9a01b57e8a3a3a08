"""Which rows of a label table count, and in which split: a patient's events chosen, the test set drawn."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from ricenet.cohort.label_table import LabelRow, list_rows
from ricenet.errors import InvalidInput, WrongUsage

EVENTS = ("first", "first_of_each_label", "all")


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
