"""Take one case out of a delivery: label row, series, doses and plans in; volumes and a record of every choice out.

The record (ricenet.delivery.ingest_record) says what was chosen, summed and rejected and why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

from ricenet.cohort.pseudonyms import pseudonym
from ricenet.command.atomic import file_hash
from ricenet.command.schemas import IntakeConfig, RuleConfig, StructureRuleConfig
from ricenet.delivery.ingest_record import CaseColumns, ImageRecord, SelectionRecord, SeriesRecord, TreatmentRecord
from ricenet.delivery.label_table import LabelRow
from ricenet.delivery.public_cohorts import Entry
from ricenet.delivery.roles import (
    Choice,
    Timeline,
    Wording,
    check_pattern,
    check_rules,
    choose,
    has_contrast,
    series_key,
)
from ricenet.delivery.rtdose import read_dose
from ricenet.delivery.rtplan import RtPlan, read_plan
from ricenet.delivery.rtstruct import check_structure_rules
from ricenet.delivery.series import PatientFiles, Series, read_series
from ricenet.delivery.treatment import Treatment, combine_doses
from ricenet.errors import InvalidInput, about
from ricenet.images.dose_limits import DoseLimits, check_dose, limits_from, preset
from ricenet.images.volume import Volume, read_volume, write_volume


@dataclass(frozen=True)
class IntakeSettings:
    """What decides the content of a case: the keys of conf/ingest.yaml.

    Attributes:
        rules: of the series' roles.
        wording: how descriptions are read.
        event_tolerance_days: around the event's date.
        dose: whether a case must have one.
        alpha_beta: Gy, of EQD2; None: physical dose.
        dose_limits: of a treatment's physical dose.
        structures: which structures of the plan's RTSTRUCT become masks, and under which names.
    """

    rules: tuple[RuleConfig, ...]
    wording: Wording
    event_tolerance_days: int
    dose: bool
    alpha_beta: float | None
    dose_limits: DoseLimits = field(default_factory=preset)
    structures: tuple[StructureRuleConfig, ...] = ()


def intake_settings(cfg: IntakeConfig, dose: bool) -> IntakeSettings:
    """Turn the config into arguments.

    Args:
        dose: whether a case must have one.

    Raises:
        WrongUsage: a rule, a pattern or a limit is invalid.
    """
    check_rules(cfg.rules)
    check_structure_rules(cfg.structures)
    for name in ("contrast_in_description", "never"):
        check_pattern(name, getattr(cfg, name))
    wording = Wording(cfg.contrast_in_description, cfg.never)
    limits = limits_from(cfg.dose_limits)
    rules, structures = tuple(cfg.rules), tuple(cfg.structures)
    return IntakeSettings(rules, wording, cfg.event_tolerance_days, dose, cfg.alpha_beta, limits, structures)


@dataclass(frozen=True)
class Intake:
    """volumes by role (post, event, rd, planning, brain_mask); columns of cohort.csv; what the record says.

    `structures` are masks by name, in the frame of the planning image or, without one, of post.
    With a `problem` there are no volumes and no columns: the case cannot be used, the record says what there was.
    """

    volumes: dict[str, Volume] = field(default_factory=dict)
    columns: CaseColumns | None = None
    record: SelectionRecord = field(default_factory=SelectionRecord)
    problem: InvalidInput | None = None
    structures: dict[str, Volume] = field(default_factory=dict)


def from_nifti(entry: Entry, subject: str, settings: IntakeSettings) -> Intake:
    """Read the images that a public cohort's layout names; a dose there is in Gy, in the frame of the post-OP MRI.

    Args:
        entry: the case, with absolute paths.
        subject: how messages call it.
        settings: `dose` and `dose_limits` count here.
    """
    label = entry.label
    paths = {role: path for role, path in entry.images.items() if role != "rd" or settings.dose}
    if entry.brain_mask is not None:
        paths["brain_mask"] = entry.brain_mask
    try:
        with about(subject):
            volumes = {role: _read(path, role) for role, path in paths.items()}
            if "rd" in volumes:
                volumes["rd"] = check_dose(volumes["rd"], label.prescription_gy, label.fractions, settings.dose_limits)
            elif settings.dose:
                raise _no_dose()
    except InvalidInput as problem:
        return Intake(problem=problem)
    columns = CaseColumns(
        fractions=label.fractions,
        prescription_gy=label.prescription_gy,
        post_day=entry.post_day,
        event_day=entry.event_day,
    )
    images = {role: ImageRecord(reason="layout of the cohort") for role in volumes}
    return Intake(volumes, columns, SelectionRecord(images=images))


def _read(path: Path, role: str) -> Volume:
    with about(role=role):
        return read_volume(path)


def from_dicom(
    label: LabelRow, files: PatientFiles, subject: str, settings: IntakeSettings, key: bytes, scratch: Path
) -> Intake:
    """Choose the roles' series, convert them, and sum the dose of the whole treatment.

    Args:
        label: the case.
        files: everything the delivery holds of the patient.
        subject: how messages call the case.
        settings: rules and options.
        key: of the pseudonyms.
        scratch: folder for temporary files; must exist.
    """
    treatment, frame, times = None, None, _timeline(label, files, [], None, settings)
    try:
        with about(subject):
            plans = [read_plan(file.path) for file in files.plans]
            times = _timeline(label, files, plans, frame, settings)
            if settings.dose:
                treatment = _treatment(label, files, plans, settings)
                frame = treatment.frame_of_reference
                times = _timeline(label, files, plans, frame, settings)
            chosen = _chosen(label, files, times, frame, settings, key)
            volumes = {role: _convert(choice.series, role, scratch) for role, choice in chosen.items()}
    except InvalidInput as problem:
        series = describe_series(files.series, times, frame, settings.wording, key)
        return Intake(record=SelectionRecord(series=series), problem=problem)
    if treatment is not None:
        volumes["rd"] = treatment.volume
    schedule: LabelRow | Treatment = label if treatment is None else treatment
    post, event = (chosen[role].series for role in ("post", "event"))
    columns = CaseColumns(
        fractions=schedule.fractions,
        prescription_gy=schedule.prescription_gy,
        post_day=times.day(post),
        scanner_post=_scanner(post, key),
        event_day=times.day(event),
        scanner_event=_scanner(event, key),
    )
    return Intake(volumes, columns, _record(files, chosen, treatment, times, settings, key))


def _convert(series: Series, role: str, scratch: Path) -> Volume:
    with about(role=role):
        return read_series(series, scratch)


def write_volumes(volumes: Mapping[str, Volume], folder: Path) -> dict[str, str]:
    """Write the volumes as <role>.nii.gz; returns the SHA-256 of each by file name."""
    hashes = {}
    for role, volume in volumes.items():
        path, whole = folder / f"{role}.nii.gz", volume.voxels.astype(np.int16)
        write_volume(path, whole if np.array_equal(whole, volume.voxels) else volume.voxels, volume.world_from_voxel)
        hashes[path.name] = file_hash(path)
    return hashes


def describe_series(
    series: Sequence[Series], times: Timeline, frame: str | None, wording: Wording, key: bytes
) -> list[SeriesRecord]:
    """What a person needs to tell a patient's series apart, without a word of their headers."""
    records = []
    for each in series:
        x_mm, y_mm, z_mm = (round(float(step), 3) for step in each.spacing_mm)
        record = SeriesRecord(
            series=series_key(each, key),
            number=each.number,
            modality=each.modality,
            day=times.day(each),
            shape=each.shape,
            spacing_mm=(x_mm, y_mm, z_mm),
            contrast=has_contrast(each, wording),
            in_the_frame_of_the_dose=None if frame is None else each.frame_of_reference == frame,
            problem=None if each.problem is None else each.problem.code,
        )
        records.append(record)
    return records


def _treatment(label: LabelRow, files: PatientFiles, plans: list[RtPlan], settings: IntakeSettings) -> Treatment:
    if not files.doses:
        raise _no_dose()
    return combine_doses(
        [read_dose(file.path) for file in files.doses],
        plans,
        fractions=label.fractions,
        prescription_gy=label.prescription_gy,
        alpha_beta=settings.alpha_beta,
        limits=settings.dose_limits,
    )


def _no_dose() -> InvalidInput:
    return InvalidInput(
        "expected a radiotherapy dose, got none",
        "deliver it, exclude the case (excluded_because), or make an MRI-only cohort with dose=false",
        code="dose.missing",
    )


def _timeline(
    label: LabelRow, files: PatientFiles, plans: list[RtPlan], frame: str | None, settings: IntakeSettings
) -> Timeline:
    """Radiotherapy begins, for want of a better date, when it was planned: the plan's date, else its image's."""
    planned: list[date] = [plan.date for plan in plans if plan.date is not None]
    in_frame = [each for each in files.series if frame is not None and each.frame_of_reference == frame]
    imaged = [series.date for series in in_frame if series.date is not None]
    start = label.radiotherapy_start or min(planned or imaged, default=None)
    first = min((series.date for series in files.series if series.date is not None), default=None)
    return Timeline(label.post_date, label.event_date, start, first, settings.event_tolerance_days)


def _chosen(
    label: LabelRow,
    files: PatientFiles,
    times: Timeline,
    frame: str | None,
    settings: IntakeSettings,
    key: bytes,
) -> dict[str, Choice]:
    """The series of post and event, and of the planning image where the dose does not lie in the post-OP MRI's frame.

    Raises:
        InvalidInput: a role is missing or ambiguous, or the chain of frames is broken.
    """

    def pick(role: str) -> Choice:
        return choose(
            role,
            files.series,
            settings.rules,
            times,
            frame=frame,
            wording=settings.wording,
            key=key,
            named=label.choice.get(role, ""),
        )

    chosen = {role: pick(role) for role in ("post", "event")}
    if chosen["post"].series.uid == chosen["event"].series.uid:
        raise InvalidInput(
            "post and event are the same series", "correct event_date or post_date", code="role.same_series"
        )
    if frame is None or chosen["post"].series.frame_of_reference == frame:
        return chosen
    if not any(series.frame_of_reference == frame for series in files.series):
        raise InvalidInput(
            "no image of the delivery lies in the dose's frame of reference",
            "deliver the planning CT or MR that the dose was calculated on",
            code="dose.frame",
        )
    chosen["planning"] = pick("planning")
    if chosen["planning"].series.frame_of_reference != frame:
        raise InvalidInput(
            "the series that planning_series names is not in the dose's frame of reference",
            "name one that is (ingest.json, or the page of ricenet.predict, lists them)",
            code="dose.frame",
        )
    return chosen


def _scanner(series: Series, key: bytes) -> str:
    """Pseudonym of the scanner: enough to count labels by it."""
    return "m" + pseudonym(key, "\0".join(series.scanner))[1:] if any(series.scanner) else ""


def _record(
    files: PatientFiles,
    chosen: dict[str, Choice],
    treatment: Treatment | None,
    times: Timeline,
    settings: IntakeSettings,
    key: bytes,
) -> SelectionRecord:
    frame = None if treatment is None else treatment.frame_of_reference
    images = {
        role: ImageRecord(
            series=series_key(choice.series, key),
            reason=choice.reason,
            candidates=[series_key(each, key) for each in choice.candidates],
        )
        for role, choice in chosen.items()
    }
    series = describe_series(files.series, times, frame, settings.wording, key)
    if treatment is None:
        return SelectionRecord(images=images, series=series)
    dose = TreatmentRecord(
        used=treatment.used,
        rejected=treatment.rejected,
        flags=treatment.flags,
        max_gy=round(float(treatment.volume.voxels.max()), 3),
        eqd2_alpha_beta_gy=settings.alpha_beta,
        lies_in_the_frame_of="planning" if "planning" in chosen else "post",
    )
    return SelectionRecord(images=images, series=series, dose=dose)
