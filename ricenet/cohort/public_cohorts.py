"""Read the layouts of public NIfTI cohorts: a download and its label rows in; each event with its images out.

An event whose images are not all there is returned with the reason, never with another image in their place. Paths
that leave the delivery (links) are refused. Days run on the cohort's own clock, 7 to a week: LUMIERE's week 0, the
operation; CFB-GBM's t0, the MRI before radiotherapy.

Reasons name roles and time points of the layout, messages row numbers; neither a patient nor a path.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ricenet.cohort.label_table import LabelRow
from ricenet.cohort.spreadsheet import Table, fits, parse_number, read_table
from ricenet.errors import InvalidInput

LUMIERE_PATIENT, LUMIERE_SCAN = r"Patient-\d{3}", r"week-(\d{3})(?:-(\d+))?"
CFB_PATIENT, CFB_EVENT = r"0*([1-9]\d*)", r"t[1-9]"
# Headers of CFB-GBM's own tables, as in the versions 2 to 4 that TCIA publishes.
CFB_DOSE, CFB_FRACTIONS, CFB_WEEKS = "dose (Gy)", "fractions_number", "time_diff_t0 (weeks)"


@dataclass(frozen=True)
class Entry:
    """One label row and what the layout names for it.

    Attributes:
        label: the row, completed from the cohort's own tables.
        images: post, event and, where the patient has a dose, rd -> absolute path; those that are there.
        brain_mask: in the space of the post image; None where there is none.
        post_day: of the post-OP MRI, on the cohort's clock; None where it is not known.
        event_day: of the event MRI, on the same clock.
        excluded_because: the label row's reason, or which MRI is missing; empty where the event can be used.
    """

    label: LabelRow
    images: dict[str, Path]
    brain_mask: Path | None
    post_day: int | None
    event_day: int | None
    excluded_because: str


def lumiere(delivery: Path, rows: list[LabelRow]) -> list[Entry]:
    """LUMIERE: Imaging/Patient-001/week-044/CT1.nii.gz beside LUMIERE-ExpertRating*.csv; no dose.

    The post-OP MRI is the last scan before the event that the experts rated Post-Op; two operations in one week count
    in the order of their numbers (week-000-1, week-000-2).

    Args:
        delivery: folder that holds Imaging and the rating table.
        rows: patient_id as Patient-001, event_id as week-044.

    Returns:
        One entry a row, in order.

    Raises:
        InvalidInput: not this layout, or an id that it does not have.
    """
    imaging = _folder(delivery, "Imaging")
    _check_ids(rows, {"patient_id": LUMIERE_PATIENT, "event_id": LUMIERE_SCAN})
    operated = _scans_rated_post_op(_own_table(delivery, "LUMIERE-ExpertRating*.csv"))
    return [_lumiere_entry(delivery, imaging, row, operated.get(row.patient_id, [])) for row in rows]


def _lumiere_entry(delivery: Path, imaging: Path, row: LabelRow, operated: list[str]) -> Entry:
    if row.excluded_because:
        return _excluded(row)
    earlier = [scan for scan in operated if _week(scan) < _week(row.event_id)]
    scans = {"event": row.event_id} | ({"post": max(earlier, key=_week)} if earlier else {})
    paths = {role: imaging / row.patient_id / scan / "CT1.nii.gz" for role, scan in scans.items()}
    images, reasons = _present(delivery, paths)
    if not earlier:
        reasons.append("post: no scan before the event is rated Post-Op")
    days = {role: 7 * _week(scan)[0] for role, scan in scans.items()}
    return Entry(row, images, None, days.get("post"), days["event"], "; ".join(reasons))


def _week(scan: str) -> tuple[int, int]:
    """week-044 -> (44, 0), week-000-2 -> (0, 2): the order in time."""
    match = re.fullmatch(LUMIERE_SCAN, scan)
    assert match is not None  # checked where the scan came in
    return int(match[1]), int(match[2] or 0)


def _scans_rated_post_op(ratings: Table) -> dict[str, list[str]]:
    patient, scan, rating = (ratings.header(name) for name in ("Patient", "Date", "Rating (*"))
    scans: dict[str, list[str]] = {}
    for cells in ratings.rows.values():
        # "Post-Op/PD" is no state to compare with: the tumour has progressed already.
        if fits(cells[rating], "Post-Op") and re.fullmatch(LUMIERE_SCAN, cells[scan]):
            scans.setdefault(cells[patient], []).append(cells[scan])
    return scans


def cfb_gbm(delivery: Path, rows: list[LabelRow]) -> list[Entry]:
    """CFB-GBM: 001/t0/1_t0_t1gd.nii.gz, with doses and brain masks at t0; the tables of TCIA's page beside the folders.

    Post-OP MRI, dose and brain mask are those of t0, the event's MRI that of the labelled time point. Fractions and
    prescription come from *treatment_data*.tsv, days from *mri_availability*.tsv where it is there.

    Args:
        delivery: folder that holds 001, 002, ... and the tables.
        rows: patient_id as 1 or 001, event_id as t1.

    Returns:
        One entry a row, in order.

    Raises:
        InvalidInput: not this layout, an id that it does not have, or one patient's id written in two ways.
    """
    _check_ids(rows, {"patient_id": CFB_PATIENT, "event_id": CFB_EVENT})
    _check_spelling(rows)
    treatment = _own_table(delivery, "*treatment_data*.tsv")
    treatments = {cells["id_patient"].lstrip("0"): cells for cells in _cells(treatment, CFB_DOSE, CFB_FRACTIONS)}
    dated = sorted(delivery.glob("*mri_availability*.tsv"))
    times = _cells(_own_table(delivery, "*mri_availability*.tsv"), "temporality", CFB_WEEKS) if dated else []
    weeks = {(cells["id_patient"].lstrip("0"), cells["temporality"]): parse_number(cells[CFB_WEEKS]) for cells in times}
    return [_cfb_entry(delivery, row, treatments, weeks) for row in rows]


def _cfb_entry(
    delivery: Path,
    row: LabelRow,
    treatments: dict[str, dict[str, str]],
    weeks: dict[tuple[str, str], float | None],
) -> Entry:
    if row.excluded_because:
        return _excluded(row)
    number = row.patient_id.lstrip("0")
    patient, treatment = delivery / number.zfill(3), treatments.get(number, {})
    fractions = parse_number(treatment.get(CFB_FRACTIONS, ""))
    completed = replace(
        row,
        fractions=row.fractions or (int(fractions) if fractions and fractions.is_integer() else None),
        prescription_gy=row.prescription_gy or parse_number(treatment.get(CFB_DOSE, "")),
    )
    names = {
        "post": f"t0/{number}_t0_t1gd",
        "event": f"{row.event_id}/{number}_{row.event_id}_t1gd",
        "rd": f"t0/{number}_t0_rtdose",
        "brain_mask": f"t0/{number}_t0_brain_mask",
    }
    images, reasons = _present(delivery, {role: patient / f"{name}.nii.gz" for role, name in names.items()})
    mask, after = images.pop("brain_mask", None), weeks.get((number, row.event_id))
    return Entry(completed, images, mask, 0, None if after is None else round(7 * after), "; ".join(reasons))


def _check_spelling(rows: Iterable[LabelRow]) -> None:
    first: dict[str, LabelRow] = {}
    for row in rows:
        twin = first.setdefault(row.patient_id.lstrip("0"), row)
        if twin.patient_id != row.patient_id:
            raise InvalidInput(
                f"rows {twin.row} and {row.row} of the label table write one patient's id in two ways",
                "use one spelling (folds are dealt by patient)",
                code="source.patient",
            )


def _cells(table: Table, *headers: str) -> list[dict[str, str]]:
    """The patient's number and the cells under `headers`, row by row of one of CFB-GBM's own tables."""
    columns = {name: table.header(name) for name in ("id_patient", *headers)}
    return [{name: cells[header] for name, header in columns.items()} for cells in table.rows.values()]


def _check_ids(rows: Iterable[LabelRow], patterns: dict[str, str]) -> None:
    for name, pattern in patterns.items():
        strange = [
            str(row.row) for row in rows if not row.excluded_because and not re.fullmatch(pattern, getattr(row, name))
        ]
        if strange:
            raise InvalidInput(
                f"row {', '.join(strange[:20])} of the label table: {name} does not match the pattern {pattern} "
                "of this cohort",
                "correct these rows, or source.columns",
                code="source.id",
            )


def _excluded(row: LabelRow) -> Entry:
    return Entry(row, {}, None, None, None, row.excluded_because)


def _present(delivery: Path, paths: dict[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """The files by role that can be used, and the reasons why the event cannot.

    Without a dose or a brain mask an event is whole: whether the cohort needs them is not the layout's question.
    """
    images, reasons = {}, []
    for role, path in paths.items():
        if path.is_file() and _inside(delivery, path):
            images[role] = path.absolute()
        elif path.is_file():
            reasons.append(f"{role}: a link that leaves the delivery")
        elif role in ("post", "event"):
            reasons.append(f"{role}: not in the delivery")
    return images, reasons


def _inside(delivery: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(delivery.resolve())


def _folder(delivery: Path, name: str) -> Path:
    if not (delivery / name).is_dir():
        raise InvalidInput(
            f"the delivery has no folder {name}", "point delivery= at the folder above it", code="source.layout"
        )
    return delivery / name


def _own_table(delivery: Path, pattern: str) -> Table:
    """The one table of the cohort's own that fits `pattern`, in the delivery itself."""
    tables = [path for path in delivery.glob(pattern) if _inside(delivery, path)]
    if len(tables) != 1:
        raise InvalidInput(
            f"expected one table {pattern} in the delivery, got {len(tables)}",
            "put the cohort's own table beside its image folders, in one version, as a file and not a link",
            code="source.layout",
        )
    return read_table(tables[0], f"table {pattern}")
