"""Screen for confounders: columns of the cohort table that are associated with the label.

If one class was scanned on another machine, or lacks an image more often, a network may learn that. Values can be
hospital names or header texts, so they are shown as A, B, ... with the first row that has them.
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from scipy import stats

from ricenet import LABELS
from ricenet.checks.image_checks import COHORT
from ricenet.checks.verify_record import LabelLevel, LabelTable
from ricenet.cohort.covariates import letters, presence, value_of
from ricenet.cohort.table import Case
from ricenet.errors import Finding

COLUMNS = ("site", "scanner_post", "scanner_event", "label_source", "prescription_gy")
GIVEN = {"1": "given", "0": "missing"}  # of has_<channel>
MAX_P = 0.01
MIN_PATIENTS = 5
REASON = re.compile(r"(ingest: )?[a-z_]+\.[a-z_]+")  # ours; any other may be a text about a patient


def label_tables(cases: Sequence[Case]) -> list[LabelTable]:
    """Cross-tabulate the label with each of COLUMNS that exists, and with each channel that some cases lack."""
    labelled = [case for case in cases if case.label >= 0]
    values = {column: [value_of(case, column) for case in labelled] for column in COLUMNS}
    values |= {column: [GIVEN[of[case.key]] for case in labelled] for column, of in presence(labelled).items()}
    return [table for column, of in values.items() if (table := _table(column, of, labelled)) is not None]


def check_tables(tables: Sequence[LabelTable]) -> list[Finding]:
    """Report tables with p < MAX_P. A screening: no correction for several columns or several cases of a patient."""
    findings = []
    for table in tables:
        if table.p is not None and table.p < MAX_P:
            message = f"the label is associated with {table.column} (p = {table.p:.2g}, screening)"
            hint = "a network may learn that in place of the disease: balance the classes, or test within each value"
            findings.append(Finding("table.confounded", COHORT, message, hint, "warning"))
    return findings


def check_class_sizes(cases: Sequence[Case]) -> list[Finding]:
    """Report classes of so few patients that no estimate will mean much."""
    findings = []
    for number, label in enumerate(LABELS):
        patients = len({case.patient_key for case in cases if case.label == number})
        if patients < MIN_PATIENTS:
            message = f"expected at least {MIN_PATIENTS} patients with label {label}, got {patients}"
            findings.append(Finding("table.few_patients", COHORT, message, "no estimate will mean much", "info"))
    return findings


def count_excluded(root: Path) -> dict[str, int]:
    """Rows of `root`/cohort.csv with a reason in excluded_because, by reason; free text is only counted."""
    with (root / "cohort.csv").open(encoding="utf-8-sig", newline="") as stream:
        reasons = [text.strip() for row in csv.DictReader(stream) if (text := row.get("excluded_because"))]
    named = (reason if REASON.fullmatch(reason) else "in words (see cohort.csv)" for reason in reasons)
    return dict(sorted(Counter(named).items()))


def _table(column: str, of_cases: Sequence[str], cases: Sequence[Case]) -> LabelTable | None:
    values = {case.row: value for case, value in zip(cases, of_cases, strict=True)}
    named = letters(values.values())
    if not named:
        return None
    levels = []
    for value, letter in named.items():
        same_value = [case for case in cases if values[case.row] == value]
        name = f"{value} Gy" if column == "prescription_gy" else value if value in GIVEN.values() else letter
        counts = tuple(sum(case.label == label for case in same_value) for label in range(len(LABELS)))
        levels.append(LabelLevel(name=name, first_row=same_value[0].row, counts=counts))
    return LabelTable(
        column=column,
        levels=levels,
        not_given=sum(not value for value in values.values()),
        p=_p([level.counts for level in levels]),
        labels=list(LABELS),
    )


def _p(counts: Sequence[Sequence[int]]) -> float | None:
    used = [column for column in zip(*counts, strict=True) if any(column)]
    if len(used) < 2 or len(counts) < 2:
        return None
    test = stats.fisher_exact if len(used) == len(counts) == 2 else stats.chi2_contingency
    return float(test(used).pvalue)
