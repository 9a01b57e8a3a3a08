"""Turn a delivery of any layout into a cohort folder: DICOM or NIfTI and a label table in; cohort.csv and NIfTI out.

Run: python -m ricenet.ingest source=dicom|bids|burdenko|cfb_gbm|lumiere|ucsd_ptgbm delivery=DIR labels=FILE out=DIR
A case that cannot be used does not stop the others: it is listed (exit code 4) and stands in cohort.csv with the reason
under excluded_because. The delivery is only read. A second run does only what changed.

Nothing of a header or path comes out: patients, events, series and scanners are called by pseudonyms, made with a key
that lies beside the label table (mode 0600).
"""

import csv
import hashlib
import io
import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ricenet.cohort.label_events import deal_test, source_rows
from ricenet.cohort.label_table import LabelRow, further_patient_ids, rows_like
from ricenet.cohort.pseudonyms import KEY_FILE, case_key, pseudonym, read_key, write_key
from ricenet.cohort.table import COLUMNS, LESION_MM, further_dose_roles
from ricenet.command.atomic import MANIFEST, hold, partial_folder, publish, remove_folder, replace_file
from ricenet.command.processes import run_each
from ricenet.command.schemas import IngestConfig
from ricenet.command.stage import stage
from ricenet.errors import Incomplete, InvalidInput, WrongUsage

if TYPE_CHECKING:
    from ricenet.cohort.ingest_record import CaseIngestRecord, UnlabelledRtRecord, UnusedRecord
    from ricenet.cohort.layouts import Entry, Layout
    from ricenet.delivery.dicom_case import IntakeSettings
    from ricenet.delivery.intake import Intake
    from ricenet.delivery.series import PatientFiles

log = logging.getLogger(__name__)
LAYOUTS = ("dicom", "lumiere", "cfb_gbm", "ucsd_ptgbm", "bids")
MORE_COLUMNS = ("post_day", "event_day", "scanner_post", "scanner_event")
RECORD = "ingest.json"
CHOICES_FILE = "choose.csv"
MAX_LISTED = 10  # patients in one sentence; the record has them all
LIMIT_MINUTES = 30.0  # of one case
MEMORY_GB = 8.0  # of one case
INGEST_VERSION = 3  # part of every case's digest: raise it when the same delivery gives other volumes


@dataclass(frozen=True)
class Keys:
    """The keys of the pseudonyms; `secret`, from which both are made, lies beside the label table."""

    secret: bytes

    @property
    def cohort(self) -> bytes:
        """The key that read_cohort uses; a hash, so that nobody gets from the cohort folder to the secret."""
        return hashlib.blake2b(b"cohort", key=self.secret, digest_size=32).digest()


@dataclass(frozen=True)
class Task:
    """One labelled event and what the delivery holds of it.

    Attributes:
        label: its row of the label table.
        patient, event: pseudonyms.
        key: pseudonym of the case.
        files: of a DICOM delivery; None where there is no file of the patient.
        rt_missing: whether no file has the PatientID that rt_patient_id gives.
        rt_in_doubt: whether doses of a patient without a label may be those that a case of a partial cohort lacks.
        entry: of a NIfTI cohort.
    """

    label: LabelRow
    patient: str
    event: str
    key: str
    files: "PatientFiles | None" = None
    rt_missing: bool = False
    entry: "Entry | None" = None
    rt_in_doubt: bool = False

    @property
    def name(self) -> str:
        """How messages call the case."""
        return f"case {self.key} (row {self.label.row} of the label table)"

    @property
    def excluded_because(self) -> str:
        """The reason of the label table, or of the layout."""
        return self.label.excluded_because or (self.entry.excluded_because if self.entry else "")


@stage("ingest", IngestConfig, private=True)
def main(cfg: IngestConfig) -> None:
    """Turn the config into arguments."""
    from ricenet.delivery.dicom_case import intake_settings

    if cfg.source.layout not in LAYOUTS:
        raise WrongUsage(f"source.layout should be {' | '.join(LAYOUTS)}, got {cfg.source.layout!r}")
    roles = _roles(cfg)
    settings = intake_settings(cfg, "rd" in roles, "post" in roles, cfg.partial)
    if cfg.jobs < 1 or not 0 <= cfg.test_share < 1:
        raise WrongUsage(f"jobs should be at least 1 and test_share in [0, 1), got {cfg.jobs} and {cfg.test_share}")
    labels = Path(cfg.labels)
    source = cfg.source
    keep = [*dict.fromkeys([*cfg.keep, *source.covariates])]
    rows = source_rows(source, labels, Path(cfg.delivery), keep, cfg.sheet or "")
    keys = Keys(read_key(Path(cfg.key) if cfg.key else labels.with_name(labels.name + ".key")))
    rows = deal_test(rows, cfg.test_share, keys.secret)
    ingest(
        Path(cfg.delivery),
        rows,
        Path(cfg.out),
        source.layout,
        settings,
        keys,
        keep=keep,
        jobs=cfg.jobs,
        options={**source.options, "roles": " ".join(roles)},
        descriptions=cfg.descriptions,
        prune=cfg.prune,
    )


def _roles(cfg: IngestConfig) -> list[str]:
    """What a case of the cohort has: what the source can have, without what was not asked for."""
    asked = {"post": cfg.post, "rd": cfg.dose}
    return [role for role in cfg.source.roles if asked.get(role, True)]


def ingest(
    delivery: Path,
    rows: list[LabelRow],
    out: Path,
    layout: str,
    settings: "IntakeSettings",
    keys: Keys,
    *,
    keep: list[str],
    jobs: int,
    options: Mapping[str, str] | None = None,
    descriptions: bool = False,
    prune: bool = False,
) -> None:
    """Bring every labelled case in, then write cohort.csv, manifest.sha256, ingest.json and choose.csv.

    Args:
        delivery: folder as it was delivered; only read.
        rows: of the label table.
        out: cohort folder; created if missing.
        layout: one of LAYOUTS.
        settings: what decides the content of a case.
        keys: of the pseudonyms.
        keep: further columns of the label table for cohort.csv.
        jobs: processes at a time.
        options: of the layout.
        descriptions: whether choose.csv holds the series' names.
        prune: whether the folders of cases that are no longer in the label table are removed. Those that it excludes
            always are: consent can be withdrawn.

    Raises:
        InvalidInput: the delivery is missing or empty, or does not have its layout; or a mark in choose.csv is invalid.
        Incomplete: some cases were refused; the rest are in the cohort.
    """
    if not delivery.is_dir():
        raise InvalidInput("the delivery folder does not exist", "correct delivery=", code="delivery.missing")
    tasks, unused = _find(delivery, rows, layout, keys, options)
    _require_files(tasks, unused)
    tasks = [_as_asked(task, settings, unused) for task in tasks]
    tasks = _with_choices(tasks, out, keys)
    left_over = _left_over(unused)
    for sentence in left_over:
        log.warning("%s", sentence)
    requested = [task for task in tasks if not task.excluded_because]
    out.mkdir(parents=True, exist_ok=True)
    with hold(out):
        write_key(out / KEY_FILE, keys.cohort)
        records = _take_all_in(requested, out, settings, keys, jobs)
        structure = (options or {}).get("lesion", "") if layout == "dicom" else ""
        table = [_row(task, records.get(task.key), keep, structure) for task in tasks]
        _write_tables(out, table, records, unused, keep)
        _remove_excluded(out, {task.key for task in tasks if task.label.excluded_because})
        _look_after_others(out, {task.key for task in tasks}, prune)
        questions = _write_choices(out, tasks, records, keys, descriptions)
    problems = [problem for task in requested if (problem := records[task.key].problem) is not None]
    for task in requested:
        if remarks := _remarks(records[task.key]):
            log.warning("%s: %s", task.name, "; ".join(remarks))
    log.info(
        "%d cases ready, %d excluded by the label table", len(requested) - len(problems), len(tasks) - len(requested)
    )
    if problems:
        refused = [f"  [{problem.code}] {problem.message}; {problem.hint}" for problem in problems]
        if questions:
            refused.append(
                f"  {questions} roles are left to you: mark one series of each with x in the column chosen of "
                f"{CHOICES_FILE} in the cohort folder, and run the same command again"
            )
        lines = "\n".join(refused + [f"  {sentence}" for sentence in left_over])
        raise Incomplete(
            f"{len(problems)} of {len(requested)} cases were refused; the rest are in the cohort. The refused ones are "
            f"in cohort.csv with the reason, and <case>/{RECORD} (where the images of an earlier run stay: "
            f"<case>-refused.json) lists what there was to choose from:\n{lines}"
        )


def _with_choices(tasks: list[Task], out: Path, keys: Keys) -> list[Task]:
    """The tasks with what the user marked in choose.csv; the label table overrules it."""
    from ricenet.cohort.choices import marked_series, read_choices
    from ricenet.delivery.roles import series_key

    series = {
        task.key: {series_key(each, keys.secret) for each in task.files.series} if task.files is not None else set()
        for task in tasks
    }
    marked = marked_series(read_choices(out), series)
    chosen = []
    for task in tasks:
        by_mark = marked.get(task.key, {})
        roles = tuple(role for role in by_mark if role not in task.label.choice)
        label = replace(task.label, choice=by_mark | task.label.choice, marked=roles)
        chosen.append(replace(task, label=label))
    return chosen


def _write_choices(
    out: Path, tasks: list[Task], records: "dict[str, CaseIngestRecord]", keys: Keys, descriptions: bool
) -> int:
    """Write choose.csv; returns how many roles the user has to choose for."""
    from ricenet.cohort.choices import write_choices
    from ricenet.delivery.intake import open_questions

    questions = [
        question
        for task in tasks
        if task.key in records and task.files is not None
        for question in open_questions(records[task.key], task.files, keys.secret, descriptions)
    ]
    still_open = write_choices(out, questions, {task.key: task.label.row for task in tasks}, private=descriptions)
    if descriptions and (out / CHOICES_FILE).exists():
        log.warning(
            "%s holds the series' names as the scanners wrote them, which may identify a patient; only you can read it",
            CHOICES_FILE,
        )
    return still_open


def _remarks(record: "CaseIngestRecord") -> list[str]:
    """What somebody should know of a case that is in: first the doses that were left out."""
    from ricenet.delivery.rt_objects import left_out

    others = left_out(record.rt_objects) if record.dose else ""
    return [*([f"doses left out: {others}"] if others else []), *_flags(record)]


def _flags(record: "CaseIngestRecord") -> list[str]:
    return [*record.flags, *(record.dose.flags if record.dose else ())]


def _as_asked(task: Task, settings: "IntakeSettings", unused: "UnusedRecord") -> Task:
    """The task as it is for a cohort whose cases may lack a post-OP MRI or a dose."""
    from ricenet.cohort.layouts import with_or_without_post

    if task.entry is not None:
        return replace(task, entry=with_or_without_post(task.entry, post=settings.post, partial=settings.partial))
    if not (settings.partial and settings.dose) or task.label.rt_patient_id or task.files is None or task.files.doses:
        return task
    doubtful = {row for patient in unused.rt_objects_without_a_label if patient.doses for row in patient.rows}
    return replace(task, rt_in_doubt=task.label.row in doubtful)


def _layout(name: str) -> "Layout":
    """The reader of a NIfTI cohort's layout."""
    from ricenet.cohort import bids, public_cohorts

    readers: dict[str, Layout] = {
        "lumiere": public_cohorts.lumiere,
        "cfb_gbm": public_cohorts.cfb_gbm,
        "ucsd_ptgbm": public_cohorts.ucsd_ptgbm,
        "bids": bids.bids,
    }
    return readers[name]


def _find(
    delivery: Path, rows: list[LabelRow], layout: str, keys: Keys, options: Mapping[str, str] | None = None
) -> tuple[list[Task], "UnusedRecord"]:
    """Match the delivery with the label rows, and count what is left over."""
    from ricenet.cohort.ingest_record import UnusedRecord

    if layout != "dicom":
        entries = _layout(layout)(delivery, rows, options or {})
        return [_task(entry.label, keys, entry=entry) for entry in entries], UnusedRecord()
    from ricenet.delivery.series import index_delivery, join_patients

    index = index_delivery(delivery)
    further = further_patient_ids(rows)
    ids = {row.patient_id: [row.patient_id, *further[row.patient_id]] for row in rows}
    files = {
        patient: join_patients(present)
        for patient, of_patient in ids.items()
        if (present := [index.patients[each] for each in of_patient if each in index.patients])
    }
    tasks = [
        _task(row, keys, files.get(row.patient_id), rt_missing=not index.patients.keys() >= {*further[row.patient_id]})
        for row in rows
    ]
    unlabelled = index.patients.keys() - {each for of_patient in ids.values() for each in of_patient}
    return tasks, UnusedRecord(
        patients_without_a_label=len(unlabelled),
        files_not_used=index.skipped,
        rt_objects_without_a_label=_without_a_label({each: index.patients[each] for each in unlabelled}, tasks, keys),
        rt_objects_given_to_a_patient=index.assigned,
    )


def _without_a_label(patients: "dict[str, PatientFiles]", tasks: list[Task], keys: Keys) -> "list[UnlabelledRtRecord]":
    """Whose RT objects, or images in a labelled patient's frame, have no use; first those that a row could mean."""
    from ricenet.cohort.ingest_record import UnlabelledRtRecord

    labels = [task.label for task in tasks]
    owners: dict[str, set[str]] = defaultdict(set)
    for task in tasks:
        for link in task.files.links if task.files is not None else ():
            owners[link].add(task.label.patient_id)
    records = []
    for patient_id, files in patients.items():
        # A UID that several patients share (some anonymisers write one for all) tells nothing.
        linked = set().union(*(owners[link] for link in files.links if len(owners[link]) == 1))
        if not files.rt_files and not linked:
            continue
        record = UnlabelledRtRecord(
            patient=_patient_key(patient_id, keys),
            doses=len(files.doses),
            plans=len(files.plans),
            structures=len(files.structures),
            series=len(files.series),
            rows=sorted({row.row for row in labels if row.patient_id in linked}.union(rows_like(patient_id, labels))),
        )
        records.append(record)
    return sorted(records, key=lambda record: (not record.rows, record.patient))


def _left_over(unused: "UnusedRecord") -> list[str]:
    """What nobody may overlook of the files that have no use, in sentences."""
    from ricenet.dicom.headers import describe_unused

    sentences = []
    if unused.rt_objects_without_a_label:
        patients = [_in_words(record) for record in unused.rt_objects_without_a_label]
        more = f" and {len(patients) - MAX_LISTED} more" if len(patients) > MAX_LISTED else ""
        sentences.append(
            f"the delivery holds RT objects of patients without a label: {', '.join(patients[:MAX_LISTED])}{more}. If "
            "they belong to a patient of the label table, write their PatientID into its column rt_patient_id"
        )
    if unused.rt_objects_given_to_a_patient:
        sentences.append(
            f"{unused.rt_objects_given_to_a_patient} RT objects have no PatientID; each went to the only patient with "
            "whom it shares a study, a frame of reference or a reference"
        )
    if files := describe_unused(unused.files_not_used):
        sentences.append(files)
    return sentences


def _in_words(record: "UnlabelledRtRecord") -> str:
    """The pseudonym, and which rows of the label table may mean it."""
    rows = ", ".join(map(str, record.rows[:MAX_LISTED]))
    if not record.doses + record.plans + record.structures:
        return f"{record.patient} (images alone, in the frame of row {rows})"
    return record.patient + (f" (of row {rows}?)" if rows else "")


def _patient_key(patient_id: str, keys: Keys) -> str:
    return "p" + pseudonym(keys.secret, patient_id)[1:]


def _require_files(tasks: list[Task], unused: "UnusedRecord") -> None:
    """Refuse a delivery that has nothing for anybody, as a drive that is not mounted: no case has become worse.

    Raises:
        InvalidInput: `delivery.empty`.
    """
    requested = [task for task in tasks if not task.label.excluded_because]
    of_nobody = unused.patients_without_a_label or unused.rt_objects_without_a_label
    if not requested or of_nobody or any(_files(task) for task in requested):
        return
    passed_over = sum(unused.files_not_used.values())
    raise InvalidInput(
        "the delivery folder has no file that can be used"
        + (f", {passed_over} were passed over" if passed_over else "; it is empty, or of another layout"),
        "is its drive mounted? Correct delivery= or source=",
        code="delivery.empty",
    )


def _files(task: Task) -> list[Path]:
    """The files of the delivery from which the case would be made."""
    if task.files is not None:
        images = [path for series in task.files.series for path in series.files]
        return images + [file.path for file in task.files.rt_files]
    return [] if task.entry is None else list(task.entry.files)


def _task(
    label: LabelRow,
    keys: Keys,
    files: "PatientFiles | None" = None,
    *,
    rt_missing: bool = False,
    entry: "Entry | None" = None,
) -> Task:
    """Name the case. The event's date goes in, so that a further event leaves the others' names alone."""
    patient = _patient_key(label.patient_id, keys)
    event = "e" + pseudonym(keys.secret, f"{label.patient_id}\0{label.event_date or label.event_id}")[1:]
    return Task(label, patient, event, case_key(keys.cohort, patient, event), files, rt_missing, entry)


def _digest(task: Task, settings: "IntakeSettings", keys: Keys) -> str:
    """Hash all that decides the case: label row, rules, and size and time of change of every file."""
    stamps = sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in _files(task))
    known = [INGEST_VERSION, asdict(task.label), asdict(settings), stamps]
    if (entry := task.entry) is not None:
        known += [entry.post_day, entry.event_day, entry.flags, entry.lesion]
    if task.rt_in_doubt:
        known.append("rt_in_doubt")
    text = json.dumps(known, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), key=keys.secret, digest_size=16).hexdigest()


def _take_all_in(
    tasks: list[Task], out: Path, settings: "IntakeSettings", keys: Keys, jobs: int
) -> "dict[str, CaseIngestRecord]":
    """Ingest every case whose delivery changed; return the records of all by case key."""
    from tqdm import tqdm

    from ricenet.cohort.ingest_record import CaseIngestRecord, ProblemRecord

    digests = {task.key: _digest(task, settings, keys) for task in tasks}
    records = {key: record for key, digest in digests.items() if (record := _finished(out / key, digest)) is not None}
    todo = [task for task in tasks if task.key not in records]
    log.info("%d cases: %d to do, %d finished before", len(tasks), len(todo), len(records))
    work = {task.key: (task, digests[task.key], out, settings, keys) for task in todo}
    names = {task.key: task.name for task in todo}
    run = partial(run_each, limit_minutes=LIMIT_MINUTES, memory_gb=MEMORY_GB, preload=["ricenet.delivery.intake"])
    with (
        closing(run(take_in, work, jobs=jobs)) as ends,
        tqdm(ends, total=len(todo), desc="ingest", unit="case") as bar,
    ):
        for key, ended in bar:
            if ended.kind == "done":
                records[key] = ended.value
                continue
            # What the worker did not foresee is this case's problem, not the others'.
            message = f"{names[key]}: {ended.message}"
            problem = ProblemRecord(code=ended.code, message=message, hint="run ingest again")
            records[key] = CaseIngestRecord(version=INGEST_VERSION, case=key, digest=digests[key], problem=problem)
    return records


def _finished(folder: Path, digest: str) -> "CaseIngestRecord | None":
    """The record of a case that need not be ingested again."""
    record = _with_images(folder)
    if record is None or record.digest != digest:
        return None
    _refusal(folder.parent, folder.name).unlink(missing_ok=True)  # the delivery is again what it was
    return record


def _with_images(folder: Path) -> "CaseIngestRecord | None":
    """The record of a case folder that has images; None where it was refused, or is not finished."""
    from ricenet.cohort.ingest_record import CaseIngestRecord

    try:
        record = CaseIngestRecord.read(folder / RECORD)
    except InvalidInput:  # there is none, or one that was cut off
        return None
    return record if record.problem is None else None


def take_in(task: Task, digest: str, out: Path, settings: "IntakeSettings", keys: Keys) -> "CaseIngestRecord":
    """Write the folder of one case atomically; its record, which is returned, says so if it has a problem.

    A problem does not replace a folder with images, of an earlier state of the delivery: it is written beside it.
    """
    from ricenet.cohort.ingest_record import CaseIngestRecord, ProblemRecord
    from ricenet.delivery.intake import write_volumes
    from ricenet.delivery.rtstruct import write_structures

    with partial_folder(out, task.key) as folder:
        case = _read(task, settings, keys, folder)
        selection = case.record.model_dump(exclude_unset=True)
        whole = partial(CaseIngestRecord, version=INGEST_VERSION, case=task.key, digest=digest, **selection)
        if case.problem is None:
            hashes = write_volumes(case.volumes, folder) | write_structures(case.structures, folder)
            record = whole(columns=case.columns, sha256=hashes)
        else:
            problem = case.problem
            record = whole(problem=ProblemRecord(code=problem.code, message=problem.located, hint=problem.hint))
            if _with_images(out / task.key) is not None:
                record.write(_refusal(out, task.key))
                return record
        record.write(folder / RECORD)
        remove_folder(out / task.key)  # an earlier state of the delivery, or an earlier failure
        publish(folder, out / task.key, last=RECORD)
    _refusal(out, task.key).unlink(missing_ok=True)
    return record


def _refusal(out: Path, key: str) -> Path:
    """Where the record of a refused case stands whose folder still has the images of an earlier run."""
    return out / f"{key}-refused.json"


def _read(task: Task, settings: "IntakeSettings", keys: Keys, scratch: Path) -> "Intake":
    from ricenet.delivery.intake import Intake, from_dicom, from_nifti

    if task.entry is not None:
        return from_nifti(task.entry, task.name, settings)
    if task.rt_missing:
        missing = InvalidInput(
            f"{task.name}: the delivery holds no DICOM file of the patient that rt_patient_id names",
            "compare it with PatientID (0010,0020) of the RT objects, or leave it empty",
            code="patient.rt_missing",
        )
        return Intake(problem=missing)
    if task.rt_in_doubt:
        doubtful = InvalidInput(
            f"{task.name}: expected a radiotherapy dose, got none, but RT objects without a label may be the patient's",
            "write their PatientID into rt_patient_id, or the patient's own id there if they are not",
            code="dose.missing",
        )
        return Intake(problem=doubtful)
    if task.files is not None:
        return from_dicom(task.label, task.files, task.name, settings, keys.secret, scratch)
    missing = InvalidInput(
        f"{task.name}: the delivery holds no DICOM file of this patient",
        "compare the table's patient ids with PatientID (0010,0020) in the files, or exclude the row",
        code="patient.missing",
    )
    return Intake(problem=missing)


def _row(task: Task, record: "CaseIngestRecord | None", keep: list[str], lesion: str = "") -> dict[str, object]:
    """The case's row of cohort.csv.

    Args:
        record: None where the row is excluded.
        lesion: name of the structure that is the event's lesion; * stands for the number at the end of event_id.
    """
    label = task.label
    row: dict[str, object] = {
        "patient_id": task.patient,
        "event_id": task.event,
        "label": label.label,
        "split": label.split,
        "label_source": label.label_source,
        "excluded_because": task.excluded_because,
        **({LESION_MM: label.lesion_mm} if label.lesion_mm else {}),
        **{name: label.extra.get(name, "") for name in keep},
    }
    if record is None:
        return row
    if record.columns is None:
        assert record.problem is not None
        return row | {"excluded_because": f"ingest: {record.problem.code}"}
    images = {name.removesuffix(".nii.gz"): f"{record.case}/{name}" for name in record.sha256 if "/" not in name}
    if len(images) < len(record.sha256):
        images["structures"] = f"{record.case}/structures"
    number = re.search(r"\d*$", label.event_id)
    drawn = f"structures/{lesion.replace('*', number[0] if number else '')}.nii.gz"
    if lesion and drawn in record.sha256 and not label.event_is_numbered:  # e1 is not follow-up 1
        images["lesion"] = f"{record.case}/{drawn}"
    return row | images | dict(record.columns) | ({"dose_unit": "Gy"} if "rd" in images else {})


def _write_tables(
    out: Path,
    rows: list[dict[str, object]],
    records: "dict[str, CaseIngestRecord]",
    unused: "UnusedRecord",
    keep: list[str],
) -> None:
    """cohort.csv, manifest.sha256 (as sha256sum writes it) and ingest.json, each in one step."""
    from ricenet.cohort.ingest_record import CohortIngestRecord
    from ricenet.delivery.rt_objects import left_out

    table = io.StringIO()
    doses = further_dose_roles(name for row in rows for name in row)
    places = [LESION_MM] * any(LESION_MM in row for row in rows)
    writer = csv.DictWriter(table, [*COLUMNS, *doses, *MORE_COLUMNS, *places, *keep], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    hashes = {f"{record.case}/{name}": sha for record in records.values() for name, sha in record.sha256.items()}
    replace_file(out / MANIFEST, "".join(f"{sha}  {name}\n" for name, sha in sorted(hashes.items())))
    CohortIngestRecord(
        version=INGEST_VERSION,
        cases=len(rows),
        ready=sum(record.problem is None for record in records.values()),
        excluded=Counter(str(row["excluded_because"]) for row in rows if row["excluded_because"]),
        flags={record.case: flags for record in records.values() if (flags := _flags(record))},
        doses_left_out={record.case: text for record in records.values() if (text := left_out(record.rt_objects))},
        delivery=unused,
    ).write(out / RECORD)
    replace_file(out / "cohort.csv", table.getvalue())


def _remove_excluded(out: Path, keys: set[str]) -> None:
    """Remove what there is of the cases that the label table excludes: consent can be withdrawn."""
    folders = [out / key for key in sorted(keys) if (out / key / RECORD).is_file()]
    for folder in folders:
        remove_folder(folder)
    for key in keys:
        _refusal(out, key).unlink(missing_ok=True)
    if folders:
        log.info("removed %d case folders that the label table excludes", len(folders))


def _look_after_others(out: Path, keys: set[str], prune: bool) -> None:
    """Case folders whose rows have left the label table: kept, in case it is the table that was cut, or pruned."""
    others = [path.parent for path in out.glob(f"c*/{RECORD}") if path.parent.name not in keys]
    if prune:
        for folder in others:
            remove_folder(folder)
            _refusal(out, folder.name).unlink(missing_ok=True)
        log.info("prune: removed %d case folders that the label table no longer lists", len(others))
    elif others:
        log.warning(
            "case folders that the label table no longer lists: %d, kept beside the cohort; prune=true removes them",
            len(others),
        )


if __name__ == "__main__":
    main()
