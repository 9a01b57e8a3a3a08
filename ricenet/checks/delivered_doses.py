"""What ingest did with the RT objects of each case: a cohort's ingest.json files in; findings, tables and lines out.

A cohort that was put together by hand has no such files, and nothing is said of it.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ricenet.checks.verify_record import DeliveredCase
from ricenet.cohort.ingest_record import CaseIngestRecord, RtObjectRecord, SelectionRecord
from ricenet.cohort.pseudonyms import KEY_FILE, case_key, read_key
from ricenet.cohort.table import Case
from ricenet.errors import Finding, InvalidInput

RECORD = "ingest.json"
FLAGGED = "case.flagged"
REFUSED = "ingest: "  # begins excluded_because of a case that ingest refused
LOOK = (
    "look at the images; <case>/ingest.json in the cohort folder says what was passed over and why. To take another "
    "series fill in post_series or event_series of the label table and run ingest again"
)
CHOOSE = (
    "compare with the table of RT objects in verify.html; to decide otherwise name objects by their keys in doses, "
    "plans or exclude_doses of the label table and run ingest again"
)


def read_deliveries(cohort: Path, cases: Sequence[Case]) -> tuple[list[DeliveredCase], list[Finding]]:
    """What ingest recorded of the cases and of those that it refused, the refused ones first.

    Args:
        cohort: folder with cohort.csv.
        cases: of cohort.csv, those that are not excluded.

    Returns:
        The cases with a record; and a warning for each record that cannot be read, or has flags besides the dose's.
    """
    deliveries, findings = [], []
    rows = [*_refused_rows(cohort), *((case.key, case.row) for case in cases)]
    for key, row in rows:
        path, name = cohort / key / RECORD, f"case {key} (row {row} of cohort.csv)"
        if not path.is_file():
            continue
        try:
            record = CaseIngestRecord.read(path, "run ricenet.ingest again")
        except InvalidInput as problem:
            findings.append(Finding(problem.code, name, problem.message, problem.hint, "warning"))
            continue
        if record.flags and record.problem is None:
            findings.append(Finding("case.flagged", name, "; ".join(record.flags), LOOK, "warning"))
        if record.problem or record.rt_objects or record.dose:  # not of a public cohort's NIfTI
            deliveries.append(
                DeliveredCase(
                    case_key=key, row=row, problem=record.problem, rt_objects=record.rt_objects, dose=record.dose
                )
            )
    return deliveries, findings


def check_deliveries(deliveries: Iterable[DeliveredCase], known: Sequence[Finding] = ()) -> list[Finding]:
    """One line a case about its doses, a warning where something was left out or should be known.

    Args:
        deliveries: of read_deliveries; those that were refused are no cases of the cohort and stay on the page.
        known: as in check_doses.
    """
    findings = []
    for each in deliveries:
        if each.problem is not None or each.dose is None:
            continue
        warnings = check_doses(each, each.name, CHOOSE, known)
        findings += warnings
        if not warnings:
            doses = counted(each)
            message = f"counted: {doses}; nothing was left out"
            hint = "the table of RT objects in verify.html says more"
            findings.append(Finding("dose.counted", each.name, message, hint, "info", "rd"))
    return findings


def check_doses(
    delivered: DeliveredCase | SelectionRecord, case: str, hint: str, known: Sequence[Finding] = ()
) -> list[Finding]:
    """Warn of doses that were left out of the treatment, and of what somebody should know of its plans.

    Args:
        delivered: a case that came in.
        case: how findings call it.
        hint: where to look, and how to decide otherwise.
        known: what was found besides; its messages are not said again.
    """
    findings = []
    if others := left_out(delivered):
        findings.append(Finding("dose.left_out", case, f"left out: {others}", hint, "warning", "rd"))
    said = {finding.message for finding in known if finding.case == case}
    flags = "; ".join(flag for flag in (delivered.dose.flags if delivered.dose else ()) if flag not in said)
    if flags:
        findings.append(Finding("dose.flagged", case, flags, hint, "warning", "rd"))
    return findings


def is_plain(case: DeliveredCase) -> bool:
    """Whether there is nothing about the case's doses that somebody should look at."""
    return case.problem is None and not left_out(case) and not (case.dose and case.dose.flags)


def counted(case: DeliveredCase) -> str:
    """The doses that count: `rd... (PLAN, 68.9 Gy)`."""
    if case.dose is None:
        return ""
    return ", ".join(
        f"{each.key or f'dose {each.dose}'} ({each.summation}, {each.max_gy:.4g} Gy"
        f"{f', {each.factor:.4g} times' if each.factor != 1 else ''})"
        for each in case.dose.used
    )


def left_out(case: DeliveredCase | SelectionRecord, *, blind: bool = False) -> str:
    """The doses that do not count and the objects that could not be read, each with the reason.

    Args:
        case: what was recorded of it.
        blind: for who must not know the label: say of doses after the event only that it is their date.
    """
    reasons = [(each.object, each.reason) for each in case.rt_objects if _is_left_out(each)]
    if not case.rt_objects and case.dose is not None:  # a record of version 1 has no other list
        reasons = [(each.key or f"dose {each.dose}", each.reason) for each in case.dose.rejected]
    if blind:
        reasons = [(name, "left out by its date" if "the event" in reason else reason) for name, reason in reasons]
    return "; ".join(f"{name}: {reason}" for name, reason in reasons)


def dose_lines(deliveries: Iterable[DeliveredCase], known: Iterable[Finding] = ()) -> dict[str, dict[str, str]]:
    """Rows of doses.csv by case key: what was used, what was left out, what somebody should know.

    Args:
        deliveries: of read_deliveries.
        known: its findings; what somebody should know of a case besides its dose (case.flagged) comes first.

    A treatment after the event tells the label (recurrences are irradiated again), which who looks at qc.html must not
    know.
    """
    lines = {
        each.case_key: {
            "used": counted(each),
            "left_out": left_out(each, blind=True),
            "flags": "; ".join(each.dose.flags),
        }
        for each in deliveries
        if each.problem is None and each.dose is not None
    }
    for finding in known:
        if finding.code == FLAGGED:
            line = lines.setdefault(finding.case.split()[1], {"used": "", "left_out": "", "flags": ""})
            line["flags"] = "; ".join(filter(None, [finding.message, line["flags"]]))
    return lines


def _is_left_out(each: RtObjectRecord) -> bool:
    """Plans are left out with their doses, which say so."""
    return each.status == "unreadable" or (each.status == "left out" and each.kind == "RTDOSE")


def _refused_rows(cohort: Path) -> Iterator[tuple[str, int]]:
    """Key and row of each case in cohort.csv that ingest refused."""
    key = read_key(cohort / KEY_FILE)
    with (cohort / "cohort.csv").open(encoding="utf-8-sig", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream), start=2):
            if (row.get("excluded_because") or "").startswith(REFUSED):
                patient, event = (row["patient_id"] or "").strip(), (row.get("event_id") or "").strip()
                yield case_key(key, patient, event), number
