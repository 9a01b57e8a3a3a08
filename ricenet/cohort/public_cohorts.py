"""Read the layouts of public NIfTI cohorts: a download and its label rows in; each event with its images out.

Days run on the cohort's own clock, 7 to a week: LUMIERE's week 0, the operation; CFB-GBM's t0, the MRI before
radiotherapy. conf/source/<name>.yaml says what to download, and what is known to be odd about each.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ricenet.cohort.label_table import LabelRow
from ricenet.cohort.layouts import (
    AFTER,
    DAYS,
    Entry,
    LesionMask,
    by_key,
    check_ids,
    check_option,
    check_spelling,
    excluded,
    folder_of,
    inside,
    optional_table,
    own_table,
    present,
    with_covariates,
)
from ricenet.cohort.spreadsheet import Table, fits, parse_number
from ricenet.errors import WrongUsage

LUMIERE_PATIENT, LUMIERE_SCAN = r"Patient-\d{3}", r"week-(\d{3})(?:-(\d+))?"
LUMIERE_BASELINES = ("last_post_op", "first_post_op", "first_after_op", "previous_scan")
# Segmentations that LUMIERE ships -> places of the mask on CT1, and the label of contrast enhancement in it.
LUMIERE_LESIONS = {
    "hd_glio_auto": (
        ("HD-GLIO-AUTO-segmentation/native/segmentation_CT1_origspace.nii.gz", ""),
        ("HD-GLIO-AUTO-segmentation/registered/segmentation.nii.gz", "the exam's T1, to which it was registered"),
    ),
    "deepbratumia": (("DeepBraTumIA-segmentation/native/segmentation/ct1_seg_mask.nii.gz", ""),),
    "none": (),
}
CFB_FOLDER, CFB_PATIENT, CFB_EVENT = "CFB-GBM", r"0*([1-9]\d*)", r"t[1-9]"
# Headers of CFB-GBM's own tables, as in the versions 2 to 4 that TCIA publishes.
CFB_DOSE, CFB_FRACTIONS, CFB_WEEKS = "dose (Gy)", "fractions_number", "time_diff_t0 (weeks)"
ID, TIME = "id_patient", "temporality"
CFB_DELAY = "delay_t0_to_radiotherapy (weeks)"
CFB_CLINICAL = {
    "age_years": "age*", "sex": "gender*", "who_performance_status": "*status*", "survival_weeks": "survival*",
}  # fmt: skip
CFB_GENERATED, CFB_HUMAN = ("gen", "pred", "auto"), ("human", "manual", "expert", "rtstruct", "clinic")
UCSD_PATIENT, UCSD_EVENT = r"UCSD-PTGBM-\d{4}", r"\d{2}"
UCSD_ENHANCING = (3,)  # of BraTS_tumor_seg: 1 necrosis, 2 oedema, 3 enhancing, 4 resection cavity
UCSD_DEPTH = 3  # folders between the delivery and a time point's


def lumiere(delivery: Path, rows: list[LabelRow], options: Mapping[str, str] | None = None) -> list[Entry]:
    """LUMIERE: Imaging/Patient-001/week-044/CT1.nii.gz beside LUMIERE-ExpertRating*.csv; no dose.

    Two operations in one week count in the order of their numbers (week-000-1, week-000-2).

    Args:
        delivery: folder that holds Imaging and the rating table.
        rows: patient_id as Patient-001, event_id as week-044.
        options: `baseline`, which earlier scan is the post-OP MRI: last_post_op (the last that the experts rated
            Post-Op), first_post_op, first_after_op (the first that is not rated Pre-Op, whatever its rating), or
            previous_scan; `lesion`, whose segmentation is the event's lesion: hd_glio_auto, deepbratumia or none;
            `lesion_label`, its value for contrast enhancement.

    Returns:
        One entry a row, in order.

    Raises:
        InvalidInput: not this layout, or an id that it does not have.
        WrongUsage: an option that there is not.
    """
    options = options or {}
    imaging = folder_of(delivery, "Imaging")
    check_ids(rows, {"patient_id": LUMIERE_PATIENT, "event_id": LUMIERE_SCAN})
    baseline = check_option(options, "baseline", LUMIERE_BASELINES)
    check_option(options, "lesion", LUMIERE_LESIONS)
    if not re.fullmatch(r"\d*", options.get("lesion_label", "")):
        raise WrongUsage(f"source.options.lesion_label: expected a whole number, got {options['lesion_label']!r}")
    baselines = _baselines(own_table([delivery], "LUMIERE-ExpertRating*.csv"), baseline)
    return [_lumiere_entry(delivery, imaging, row, baselines.get(row.patient_id, []), options) for row in rows]


def _lumiere_entry(
    delivery: Path, imaging: Path, row: LabelRow, baselines: list[str], options: Mapping[str, str]
) -> Entry:
    if row.excluded_because:
        return excluded(row)
    earlier = sorted((scan for scan in baselines if _week(scan) < _week(row.event_id)), key=_week)
    first = options.get("baseline", "").startswith("first")
    scans = {"event": row.event_id} | ({"post": earlier[0 if first else -1]} if earlier else {})
    paths = {role: imaging / row.patient_id / scan / "CT1.nii.gz" for role, scan in scans.items()}
    images, reasons = present(delivery, paths, ("post", "event"))
    if not earlier:
        kind = "rated Post-Op" if options.get("baseline", "last_post_op").endswith("post_op") else "after an operation"
        reasons.append(f"post: no scan before the event is {kind}")
    days = {role: 7 * _week(scan)[0] for role, scan in scans.items()}
    lesion = _lumiere_lesion(delivery, imaging / row.patient_id / row.event_id, options)
    return Entry(row, images, None, days.get("post"), days["event"], "; ".join(reasons), lesion)


def _lumiere_lesion(delivery: Path, scan: Path, options: Mapping[str, str]) -> LesionMask | None:
    tool = options.get("lesion", "hd_glio_auto")
    label = int(options.get("lesion_label") or {"hd_glio_auto": 2, "deepbratumia": 1}.get(tool, 1))
    for place, frame_note in LUMIERE_LESIONS[tool]:
        if (scan / place).is_file() and inside(delivery, scan / place):
            return LesionMask((scan / place).absolute(), (label,), frame_note)
    return None


def _week(scan: str) -> tuple[int, int]:
    """week-044 -> (44, 0), week-000-2 -> (0, 2): the order in time."""
    match = re.fullmatch(LUMIERE_SCAN, scan)
    assert match is not None  # checked where the scan came in
    return int(match[1]), int(match[2] or 0)


def _baselines(ratings: Table, baseline: str) -> dict[str, list[str]]:
    """Each patient's scans that may be the post-OP MRI of a later event."""
    patient, scan, rating = (ratings.header(name) for name in ("Patient", "Date", "Rating (*"))
    scans: dict[str, list[str]] = {}
    for cells in ratings.rows.values():
        # "Post-Op/PD" is no state to compare with: the tumour has progressed already.
        usable = fits(cells[rating], "Post-Op") if baseline.endswith("post_op") else not fits(cells[rating], "Pre-Op")
        if usable and re.fullmatch(LUMIERE_SCAN, cells[scan]):
            scans.setdefault(cells[patient], []).append(cells[scan])
    return scans


@dataclass(frozen=True)
class _CfbTables:
    """What CFB-GBM's own tables say: by patient's number, or by it and the time point; cells by header."""

    treatments: dict[str, dict[str, str]]
    weeks: dict[tuple[str, str], float | None]
    gtv_types: dict[tuple[str, str], str]
    clinical: dict[str, dict[str, str]]


def cfb_gbm(delivery: Path, rows: list[LabelRow], options: Mapping[str, str] | None = None) -> list[Entry]:
    """CFB-GBM: 001/t0/1_t0_t1gd.nii.gz, with doses and brain masks at t0; the tables of TCIA's page beside the folders.

    Post-OP MRI, dose and brain mask are those of t0, the event's MRI and GTV those of the labelled time point.
    Fractions, prescription and the start of radiotherapy come from *treatment_data*.tsv; where they are there, days
    from *mri_availability*.tsv, who drew the GTV from *treatment_imaging_availability*.tsv, age, sex, performance
    status and survival from *clinical_data*.tsv.

    Args:
        delivery: folder that holds 001, 002, ..., or CFB-GBM with them, and the tables.
        rows: patient_id as 1 or 001, event_id as t1.
        options: `lesion`: gtv or none.

    Returns:
        One entry a row, in order.

    Raises:
        InvalidInput: not this layout, an id that it does not have, or one patient's id written in two ways.
        WrongUsage: an option that there is not.
    """
    check_ids(rows, {"patient_id": CFB_PATIENT, "event_id": CFB_EVENT})
    check_spelling(rows, lambda patient: patient.lstrip("0"))
    lesion = check_option(options or {}, "lesion", ("gtv", "none")) == "gtv"
    images = delivery / CFB_FOLDER if (delivery / CFB_FOLDER).is_dir() else delivery
    tables = _cfb_tables(list(dict.fromkeys([delivery, images])))
    return [_cfb_entry(delivery, images, row, tables, lesion=lesion) for row in rows]


def _cfb_tables(folders: list[Path]) -> _CfbTables:
    treatment = own_table(folders, "*treatment_data*.tsv")
    delay = [CFB_DELAY] if treatment.has(CFB_DELAY) else []
    times = optional_table(folders, "*mri_availability*.tsv")
    gtvs = optional_table(folders, "*treatment_imaging_availability*.tsv")
    clinical = optional_table(folders, "*clinical_data*.tsv")
    drawn = _cells(gtvs, TIME, "gtv_type") if gtvs and gtvs.has("gtv_type") else ()
    known = {} if clinical is None else {name: header for name, header in CFB_CLINICAL.items() if clinical.has(header)}
    return _CfbTables(
        {key: of for (key,), of in by_key(_cells(treatment, CFB_DOSE, CFB_FRACTIONS, *delay), ID).items()},
        {
            (patient, time): parse_number(cells[CFB_WEEKS])
            for (patient, time), cells in by_key(_cells(times, TIME, CFB_WEEKS) if times else (), ID, TIME).items()
        },
        {(patient, time): cells["gtv_type"] for (patient, time), cells in by_key(drawn, ID, TIME).items()},
        {
            patient: {name: cells[header] for name, header in known.items()}
            for (patient,), cells in by_key(_cells(clinical, *known.values()) if clinical else (), ID).items()
        },
    )


def _cells(table: Table, *headers: str) -> list[dict[str, str]]:
    """The patient's number and the cells under `headers`, row by row of one of CFB-GBM's own tables."""
    columns = {name: table.header(name) for name in (ID, *headers)}
    rows = [{name: cells[header] for name, header in columns.items()} for cells in table.rows.values()]
    return [cells | {ID: cells[ID].lstrip("0")} for cells in rows]


def _cfb_entry(delivery: Path, images: Path, row: LabelRow, tables: _CfbTables, *, lesion: bool) -> Entry:
    if row.excluded_because:
        return excluded(row)
    number = row.patient_id.lstrip("0")
    patient, treatment = images / number.zfill(3), tables.treatments.get(number, {})
    fractions = parse_number(treatment.get(CFB_FRACTIONS, ""))
    names = {
        "post": f"t0/{number}_t0_t1gd",
        "event": f"{row.event_id}/{number}_{row.event_id}_t1gd",
        "rd": f"t0/{number}_t0_rtdose",
        "brain_mask": f"t0/{number}_t0_brain_mask",
        "gtv": f"{row.event_id}/{number}_{row.event_id}_gtv",
    }
    paths = {role: patient / f"{name}.nii.gz" for role, name in names.items() if role != "gtv" or lesion}
    files, reasons = present(delivery, paths, ("post", "event"))
    mask, gtv, weeks = files.pop("brain_mask", None), files.pop("gtv", None), tables.weeks.get((number, row.event_id))
    delay = parse_number(treatment.get(CFB_DELAY, "").removeprefix("-"))
    if delay is not None and treatment[CFB_DELAY].startswith("-"):
        delay = -delay  # radiotherapy began before t0
    days = None if weeks is None or delay is None else round(7 * (weeks - delay))
    if days is not None and days <= 0:
        reasons.append(AFTER)
    source = _gtv_source(tables.gtv_types.get((number, row.event_id), "")) if gtv else None
    completed = replace(
        row,
        fractions=row.fractions or (int(fractions) if fractions and fractions.is_integer() else None),
        prescription_gy=row.prescription_gy or parse_number(treatment.get(CFB_DOSE, "")),
    )
    covariates = tables.clinical.get(number, {}) | {DAYS: days, "lesion_source": source}
    event_day = None if weeks is None else round(7 * weeks)
    flags = (f"lesion: the cohort's GTV, {source}",) if source else ()
    mask_of_event = LesionMask(gtv) if gtv else None
    completed = with_covariates(completed, covariates)
    return Entry(completed, files, mask, 0, event_day, "; ".join(reasons), mask_of_event, flags)


def _gtv_source(gtv_type: str) -> str:
    """Who drew a GTV: two thirds of CFB-GBM's are a network's."""
    text = "".join(gtv_type.split()).casefold()
    if text.startswith(CFB_GENERATED):
        return "generated"
    return "human" if text.startswith(CFB_HUMAN) else "of unknown origin"


def ucsd_ptgbm(delivery: Path, rows: list[LabelRow], options: Mapping[str, str] | None = None) -> list[Entry]:
    """UCSD-PTGBM: UCSD-PTGBM-0001_01/UCSD-PTGBM-0001_01_T1post.nii.gz; the event's MRI alone, stripped; no dose.

    The lesion is the enhancing part of BraTS_tumor_seg. The cellular-tumour masks would tell the label: they are
    empty where there is no tumour.

    Args:
        delivery: holds the folders of the time points, up to three folders down.
        rows: patient_id as UCSD-PTGBM-0001, event_id as 01; `days_to_rt` among its further columns is the day of the
            first radiation, counted from the scan.
        options: `lesion`: brats or none.

    Returns:
        One entry a row, in order.

    Raises:
        InvalidInput: no such folder at all, or an id that this cohort does not have.
        WrongUsage: an option that there is not.
    """
    check_ids(rows, {"patient_id": UCSD_PATIENT, "event_id": UCSD_EVENT})
    lesion = check_option(options or {}, "lesion", ("brats", "none")) == "brats"
    folders: dict[str, list[Path]] = {}
    for depth in range(UCSD_DEPTH + 1):
        for path in sorted(delivery.glob("/".join(["*"] * depth + ["UCSD-PTGBM-*_*"]))):
            if path.is_dir():
                folders.setdefault(path.name, []).append(path)
    if not folders:
        folder_of(delivery, "UCSD-PTGBM-0001_01")  # refuses: not one of them
    return [
        _ucsd_entry(delivery, row, folders.get(f"{row.patient_id}_{row.event_id}", []), lesion=lesion) for row in rows
    ]


def _ucsd_entry(delivery: Path, row: LabelRow, folders: list[Path], *, lesion: bool) -> Entry:
    if row.excluded_because:
        return excluded(row)
    if len(folders) != 1:
        return excluded(row, "event: the time point is in two folders" if folders else "event: not in the delivery")
    (folder,) = folders
    names = {"event": "T1post", **({"lesion": "BraTS_tumor_seg"} if lesion else {})}
    paths = {role: folder / f"{folder.name}_{name}.nii.gz" for role, name in names.items()}
    files, reasons = present(delivery, paths, ("event",))
    mask = files.pop("lesion", None)
    text = row.extra.get("days_to_rt", "")
    to_radiotherapy = parse_number(text.removeprefix("-"))
    days = None if to_radiotherapy is None else round(to_radiotherapy if text.startswith("-") else -to_radiotherapy)
    if days is not None and days <= 0:
        reasons.append(AFTER)
    empty = sorted(path.name for path in folder.glob(f"{folder.name}_*.nii.gz") if path.stat().st_size == 0)
    flags = tuple(f"a file of 0 bytes: {name.removeprefix(f'{folder.name}_')}" for name in empty)
    completed = with_covariates(row, {DAYS: days})
    lesion_mask = LesionMask(mask, UCSD_ENHANCING) if mask else None
    return Entry(completed, files, None, None, None, "; ".join(reasons), lesion_mask, flags)
