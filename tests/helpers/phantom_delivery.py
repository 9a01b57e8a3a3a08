"""A phantom's DICOM files as one case of a delivery, to which further RT objects are added."""

import copy
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom

from helpers.dicom_objects import uid
from ricenet.cohort.label_table import LabelRow
from ricenet.command.schemas import IngestConfig, compose
from ricenet.delivery.dicom_case import IntakeSettings
from ricenet.delivery.intake import Intake, from_dicom
from ricenet.delivery.rtobject import rt_key
from ricenet.delivery.series import PatientFiles
from ricenet.delivery.series_names import Wording
from ricenet.dicom.headers import RtFile
from ricenet.errors import InvalidInput

SUBJECT, KEY, SPACING_MM = "case c1 (row 2 of the label table)", b"k" * 32, 4.5
CFG = compose("ingest", IngestConfig, ["delivery=d", "labels=l", "out=o"])
SETTINGS = IntakeSettings(tuple(CFG.rules), Wording(), 3, dose=True, alpha_beta=None)


def take(row: LabelRow, files: PatientFiles, scratch: Path, settings: IntakeSettings = SETTINGS) -> Intake:
    return from_dicom(row, files, SUBJECT, settings, KEY, scratch)


def problem(case: Intake) -> InvalidInput:
    assert case.problem is not None
    assert (case.volumes, case.columns) == ({}, None)
    return case.problem


class Delivery:
    """The phantom's files, to which RT objects are added that lie in other frames, plans and years."""

    def __init__(self, row: LabelRow, files: PatientFiles, folder: Path) -> None:
        self.row, self.files, self.folder, self.number = row, files, folder, 0
        self.dose, self.plan = (pydicom.dcmread(rt_files[0].path) for rt_files in (files.doses, files.plans))
        self.planned = datetime.strptime(self.plan.RTPlanDate, "%Y%m%d").date()
        self.first = rt_key("RTDOSE", self.dose.SOPInstanceUID, KEY)

    def add(self, share: float = 1.0, fractions: int | None = None, days: int | None = 0, *, plan: bool = True,
            frame: str | None = None, noise: float = 0.0, **attributes: object) -> str:  # fmt: skip
        """Add a plan and its dose: the phantom's times `share`. Returns the dose's key."""
        self.number += 1
        dose, rt_plan = copy.deepcopy(self.dose), copy.deepcopy(self.plan)
        dose.SOPInstanceUID, rt_plan.SOPInstanceUID = (uid(f"{kind} {self.number}") for kind in ("dose", "plan"))
        dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID = rt_plan.SOPInstanceUID
        voxels = dose.pixel_array.astype(np.float64) * share
        voxels = np.roll(voxels, 1, axis=1) * (1 - noise) if noise else voxels
        dose.PixelData = voxels.round().astype(dose.pixel_array.dtype).tobytes()
        for keyword, value in attributes.items():
            setattr(dose, keyword, value)
            if value is None:
                delattr(dose, keyword)
        if frame is not None:
            dose.FrameOfReferenceUID = frame
        group = rt_plan.FractionGroupSequence[0]
        group.NumberOfFractionsPlanned = fractions or round(group.NumberOfFractionsPlanned * share)
        for target in rt_plan.DoseReferenceSequence:
            target.TargetPrescriptionDose = round(float(target.TargetPrescriptionDose) * share, 4)
        rt_plan.RTPlanDate = "" if days is None else (self.planned + timedelta(days)).strftime("%Y%m%d")
        self._write(dose, self.files.doses)
        if plan:
            self._write(rt_plan, self.files.plans)
        return rt_key("RTDOSE", dose.SOPInstanceUID, KEY)

    def another_image(self, day: date) -> str:
        """The planning image again, in a frame of reference of its own, on another day. Returns the frame."""
        planning = next(each for each in self.files.series if "planning" in each.series_description)
        frame = uid("another frame")
        again = replace(planning, uid=uid("another series"), frame_of_reference=frame, date=day)
        self.files.series.append(again)
        return frame

    def _write(self, dataset: pydicom.Dataset, rt_files: list[RtFile]) -> None:
        path = self.folder / f"SECRET-{len(list(self.folder.iterdir()))}"
        dataset.save_as(path)
        rt_files.append(RtFile(path, dataset.SOPInstanceUID))

    def take(self, scratch: Path, **row: object) -> Intake:
        return take(replace(self.row, **row), self.files, scratch)


def rd(case: Intake) -> np.ndarray:
    assert case.problem is None, case.problem
    return case.volumes["rd"].voxels


def statuses(case: Intake) -> dict[str, str]:
    return {each.object: each.status for each in case.record.rt_objects if each.kind == "RTDOSE"}
