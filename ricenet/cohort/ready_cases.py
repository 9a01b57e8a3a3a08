"""cases.csv, the table of a cases folder: one row per preprocessed case."""

import csv
from dataclasses import dataclass, fields
from pathlib import Path

from ricenet import LABELS
from ricenet.command.atomic import replacing_text
from ricenet.errors import InvalidInput


@dataclass(frozen=True)
class ReadyCase:
    """One row of cases.csv: a preprocessed case, `folder` relative to the cases folder.

    Attributes:
        label: index of LABELS.
        channels: of its volume, in its order; None where the table has no such column: every case has the same then.
    """

    case_key: str
    patient_key: str
    label: int
    split: str
    folder: str
    channels: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """How messages call the case."""
        return f"case {self.case_key}"


def write_cases(folder: Path, cases: list[ReadyCase]) -> None:
    """Write `folder`/cases.csv atomically, rows ordered by case key; with channels only where the cases differ."""
    partial = len({case.channels for case in cases}) > 1
    with replacing_text(folder / "cases.csv") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(column.name for column in fields(ReadyCase) if partial or column.name != "channels")
        for case in sorted(cases, key=lambda case: case.case_key):
            row = (case.case_key, case.patient_key, LABELS[case.label], case.split, case.folder)
            writer.writerow((*row, " ".join(case.channels or ())) if partial else row)


def read_cases(folder: Path) -> list[ReadyCase]:
    """The preprocessed cases of `folder`/cases.csv.

    Raises:
        InvalidInput: no table, or a label that is neither recurrence nor rice.
    """
    table = folder / "cases.csv"
    if not table.is_file():
        raise InvalidInput(
            "no cases.csv in the cases folder",
            "run python -m ricenet.preprocess cohort=... cases=... first",
            code="cases.missing",
        )
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    unknown = [f"case {row['case_key']}: label {row['label']!r}" for row in rows if row["label"] not in LABELS]
    if unknown:
        raise InvalidInput(
            f"cases.csv: expected labels {' or '.join(LABELS)}, got {'; '.join(unknown)}", code="label.unknown"
        )
    return [
        ReadyCase(
            row["case_key"],
            row["patient_key"],
            LABELS.index(row["label"]),
            row["split"],
            row["folder"],
            tuple(row["channels"].split()) if row.get("channels") else None,
        )
        for row in rows
    ]
