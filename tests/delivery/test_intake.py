"""One case of a delivery: chosen, converted and summed, or a problem with a list of what there was."""

import copy
import re
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom_objects import save, uid
from helpers.structure_sets import Drawn, ball_lps, structure_set

from ricenet import LABELS
from ricenet.cohort.label_table import LabelRow
from ricenet.cohort.public_cohorts import Entry
from ricenet.command.schemas import IngestConfig, compose
from ricenet.delivery.dicom_case import IntakeSettings
from ricenet.delivery.headers import RtFile
from ricenet.delivery.intake import Intake, from_dicom, from_nifti
from ricenet.delivery.roles import Wording, series_key
from ricenet.delivery.rtdose import read_dose
from ricenet.delivery.rtobject import rt_key
from ricenet.delivery.rtplan import read_plan
from ricenet.delivery.series import PatientFiles, index_delivery
from ricenet.errors import InvalidInput
from ricenet.images.volume import write_volume
from ricenet.phantoms.causal_model import draw_cohort
from ricenet.phantoms.hospital import deliver, planning_scan
from ricenet.phantoms.scanner import scan_patient

SUBJECT, KEY, SPACING_MM = "case c1 (row 2 of the label table)", b"k" * 32, 4.5
CFG = compose("ingest", IngestConfig, ["delivery=d", "labels=l", "out=o"])
SETTINGS = IntakeSettings(
    tuple(CFG.rules), Wording(CFG.contrast_in_description, CFG.never), 3, dose=True, alpha_beta=None
)


@pytest.fixture(scope="module")
def delivered(tmp_path_factory) -> tuple[LabelRow, PatientFiles, np.ndarray]:
    folder = tmp_path_factory.mktemp("delivery")
    (draw,) = draw_cohort(1, 4, swap_label_effects=False)
    scans = scan_patient(draw.quantities, draw.seed, SPACING_MM)
    one = deliver(folder, scans, 1, draw.seed)
    row = LabelRow(2, one.patient_id, "e1", LABELS[draw.label], split="cv", event_date=one.event_date)
    _, _, dose = planning_scan(scans, 1, draw.seed)
    dose_gy = dose.voxels[::-1, ::-1]  # drawn on DICOM's axes, read as RAS+
    return row, index_delivery(folder).patients[one.patient_id], dose_gy


def take(row: LabelRow, files: PatientFiles, scratch: Path, settings: IntakeSettings = SETTINGS) -> Intake:
    return from_dicom(row, files, SUBJECT, settings, KEY, scratch)


def test_a_whole_case(delivered, tmp_path):
    row, files, dose_gy = delivered
    case = take(row, files, tmp_path)
    assert case.problem is None
    assert set(case.volumes) == {"post", "event", "planning", "rd"}
    np.testing.assert_allclose(case.volumes["rd"].voxels, dose_gy, atol=1e-3)
    assert case.columns.fractions in (15, 30)
    assert not list(tmp_path.iterdir()), "the converter's files are gone"


def test_eqd2_replaces_the_physical_dose(delivered, tmp_path):
    row, files, dose_gy = delivered
    case = take(row, files, tmp_path, replace(SETTINGS, alpha_beta=3.0))
    fractions = case.columns.fractions
    expected = dose_gy * (dose_gy / fractions + 3) / 5
    np.testing.assert_allclose(case.volumes["rd"].voxels, expected, atol=2e-3)
    assert case.record.dose.eqd2_alpha_beta_gy == 3


def test_a_dose_in_the_frame_of_the_post_op_mri_needs_no_planning_image(delivered, tmp_path):
    row, files, _ = delivered
    planning = next(one for one in files.series if "planning" in one.description)
    same = [
        replace(one, frame_of_reference=planning.frame_of_reference) if "mprage" in one.description else one
        for one in files.series
    ]
    case = take(row, replace(files, series=same), tmp_path)
    assert set(case.volumes) == {"post", "event", "rd"}
    assert case.record.dose.lies_in_the_frame_of == "post"


def problem(case: Intake) -> InvalidInput:
    assert case.problem is not None
    assert (case.volumes, case.columns) == ({}, None)
    return case.problem


def test_a_chain_of_frames_that_is_broken(delivered, tmp_path):
    row, files, _ = delivered
    without = [one for one in files.series if "planning" not in one.description]
    assert problem(take(row, replace(files, series=without), tmp_path)).code == "dose.frame"
    key = next(each.series for each in take(row, files, tmp_path).record.series if each.number == 5)
    named = replace(row, choice={"planning": key})
    found = problem(take(named, files, tmp_path))
    assert (found.code, "not in the dose's frame" in str(found)) == ("dose.frame", True)


def test_one_series_cannot_be_both_mris(delivered, tmp_path):
    row, files, _ = delivered
    key = next(each.series for each in take(row, files, tmp_path).record.series if each.number == 3)
    found = problem(take(replace(row, choice={"event": key}), files, tmp_path))
    assert found.code == "role.same_series"


def test_a_problem_lists_what_there_was_without_a_word_of_a_header(delivered, tmp_path):
    row, files, _ = delivered
    case = take(replace(row, event_date=None), replace(files, doses=[]), tmp_path)
    assert problem(case).code == "dose.missing"
    listed = case.record.series
    assert len(listed) == 5
    assert {one.modality for one in listed} == {"MR"}  # the first phantom was planned on an MRI
    assert sorted(one.contrast for one in listed) == [False, False, False, True, True]
    assert min(one.day for one in listed) < 0 < max(one.day for one in listed)
    for word in ("PHANTOM", "mprage", "1.2.826", "20"):
        assert word not in str([one.model_dump(exclude={"shape", "day", "series"}) for one in listed])


def entry(root: Path, delivered, tmp_path: Path, **images: str) -> Entry:
    row, files, _ = delivered
    case = take(row, files, tmp_path)
    for role, name in images.items():
        write_volume(root / name, case.volumes[role].voxels, case.volumes[role].world_from_voxel)
    paths = {role: root / name for role, name in images.items()}
    return Entry(replace(row, fractions=30, prescription_gy=60.0), paths, None, 0, 90, "")


def test_a_case_of_a_nifti_cohort(delivered, tmp_path):
    whole = entry(tmp_path, delivered, tmp_path, post="p.nii.gz", event="e.nii.gz", rd="d.nii.gz")
    case = from_nifti(whole, SUBJECT, replace(SETTINGS, dose=False))
    assert (set(case.volumes), case.columns.event_day) == ({"post", "event"}, 90)
    without = replace(whole, images={role: path for role, path in whole.images.items() if role != "rd"})
    assert problem(from_nifti(without, SUBJECT, SETTINGS)).code == "dose.missing"
    (tmp_path / "e.nii.gz").write_bytes(b"not an image")
    assert SUBJECT in str(problem(from_nifti(whole, SUBJECT, SETTINGS)))


# The doses of a delivery that nobody cleaned. A phantom's own objects are changed and written again.


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
        planning = next(each for each in self.files.series if "planning" in each.description)
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


@pytest.fixture
def delivery(delivered, tmp_path) -> Delivery:
    row, files, _ = delivered
    (tmp_path / "more").mkdir()
    own = replace(files, series=list(files.series), doses=list(files.doses), plans=list(files.plans))
    return Delivery(row, own, tmp_path / "more")


def rd(case: Intake) -> np.ndarray:
    assert case.problem is None, case.problem
    return case.volumes["rd"].voxels


def statuses(case: Intake) -> dict[str, str]:
    return {each.object: each.status for each in case.record.rt_objects if each.kind == "RTDOSE"}


@pytest.mark.parametrize("another_frame", [False, True])
@pytest.mark.parametrize("dated", [True, False])
def test_a_second_treatment_after_the_event_is_left_out(delivery, delivered, tmp_path, another_frame, dated):
    later = delivery.row.event_date + timedelta(20)
    frame = delivery.another_image(later) if another_frame else None
    days = (later - delivery.planned).days
    second = delivery.add(0.6, days=days if dated or not another_frame else None, frame=frame, noise=0.1)
    case = delivery.take(tmp_path)
    np.testing.assert_allclose(rd(case), delivered[2], atol=1e-3)
    assert statuses(case) == {delivery.first: "used", second: "left out"}
    (left_out,) = [each for each in case.record.rt_objects if each.status == "left out" and each.kind == "RTDOSE"]
    assert left_out.reason.endswith(" 20 days after the event")


def test_without_a_date_of_the_event_its_mri_gives_it(delivery, delivered, tmp_path):
    later = (delivery.row.event_date - delivery.planned).days + 20
    delivery.add(0.6, days=later, noise=0.1)
    case = delivery.take(tmp_path, event_date=None)
    np.testing.assert_allclose(rd(case), delivered[2], atol=1e-3)
    assert case.columns.event_day == delivery.take(tmp_path).columns.event_day


def test_drafts_and_old_plans_do_not_move_the_start_of_radiotherapy(delivery, tmp_path):
    expected = delivery.take(tmp_path).columns
    draft = delivery.add(0.9, days=-1900, noise=0.1)
    case = delivery.take(tmp_path, exclude_doses=(draft,))
    assert (case.columns.post_day, case.columns.event_day) == (expected.post_day, expected.event_day)
    assert case.record.images["post"] == delivery.take(tmp_path, exclude_doses=(draft,)).record.images["post"]


@pytest.mark.parametrize("day", ["20030105", "19010101", "", "00000000"])
def test_a_date_before_every_image_is_no_date(delivery, tmp_path, day):
    expected = delivery.take(tmp_path)
    plan = copy.deepcopy(delivery.plan)
    plan.RTPlanDate = day
    delivery.files.plans.clear()
    delivery._write(plan, delivery.files.plans)
    case = delivery.take(tmp_path)
    rd(case)
    assert (case.columns.post_day, case.columns.event_day) == (expected.columns.post_day, expected.columns.event_day)
    assert any("before every image" in flag for flag in case.record.dose.flags) == (day == "20030105")


def test_two_images_in_the_doses_frame_are_no_question(delivery, tmp_path):
    planning = next(each for each in delivery.files.series if "planning" in each.description)
    delivery.files.series.append(replace(planning, uid=uid("thick"), shape=(*planning.shape[:2], 30)))
    case = delivery.take(tmp_path)
    assert case.problem is None
    chosen = case.record.images["planning"]
    assert chosen.series == series_key(planning, KEY)
    assert len(chosen.candidates) == 2
    expected = "planning: of 2 images in the dose's frame the one with most slices and the finest step"
    assert case.record.dose.flags == [expected]


def test_a_boost_on_another_image_brings_that_image_along(delivery, delivered, tmp_path):
    frame = delivery.another_image(delivery.planned + timedelta(15))
    boost = delivery.add(0.25, days=20, frame=frame)
    plans = [read_plan(file.path) for file in delivery.files.plans]
    table = {"fractions": sum(plan.fractions for plan in plans)}
    case = delivery.take(tmp_path, **table)
    assert set(case.volumes) == {"post", "event", "planning", "rd", "planning_2", "rd_2"}
    np.testing.assert_allclose(case.volumes["rd_2"].voxels, 0.25 * delivered[2], atol=0.01)
    assert statuses(case) == {delivery.first: "used", boost: "used"}
    assert case.record.dose.further == {"rd_2": "planning_2"}
    alone = delivery.take(tmp_path, exclude_doses=(boost,))
    assert case.columns.fractions > alone.columns.fractions, "the sums"


REFUSALS = {
    "alternatives": lambda d: [d.add(1, noise=0.02)],
    "recalculated": lambda d: [
        d.add(1, plan=False, noise=0.02, ReferencedRTPlanSequence=d.dose.ReferencedRTPlanSequence)
    ],
    "delivered long before": lambda d: [d.add(0.5, days=-900, noise=0.1)],
    "no reference to a plan": lambda d: [d.add(1, plan=False, noise=0.02, ReferencedRTPlanSequence=None)],
    "incomplete beams": lambda d: [d.add(0.3, noise=0.1, DoseSummationType="BEAM")],
    "named after the event": lambda d: [d.add(0.6, days=2000, noise=0.1)],
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_a_refusal_advises_makes_the_case_come_in(delivery, delivered, tmp_path, kind):
    others = REFUSALS[kind](delivery)
    row = {"doses": (others[0],)} if kind == "named after the event" else {}
    refused = delivery.take(tmp_path, **row)
    said = str(problem(refused))
    keys = {rt_key("RTDOSE", file.instance_uid, KEY) for file in delivery.files.doses}
    listed = refused.record.rt_objects
    assert {each.object for each in listed if each.kind == "RTDOSE"} == keys
    assert {each.kind for each in listed} == {"RTDOSE", "RTPLAN"}
    assert "undecided" in {each.status for each in listed if each.kind == "RTPLAN"}
    assert set(others) <= set(re.findall(r"rd[0-9a-f]{12}", said))
    assert "SECRET" not in said + str(listed)
    if kind != "named after the event":
        assert "exclude_doses" in said
    for choice in ({"exclude_doses": tuple(others)}, {"doses": (delivery.first,)}):
        np.testing.assert_allclose(rd(delivery.take(tmp_path, **choice)), delivered[2], atol=1e-3)


def test_the_tables_numbers_settle_what_nothing_else_does(delivery, delivered, tmp_path):
    plan = read_plan(delivery.files.plans[0].path)
    delivery.add(0.75, noise=0.05)
    assert problem(delivery.take(tmp_path)).code == "treatment.ambiguous"
    case = delivery.take(tmp_path, fractions=plan.fractions, prescription_gy=plan.prescription_gy)
    np.testing.assert_allclose(rd(case), delivered[2], atol=1e-3)


def test_what_is_no_dose_lies_beside_the_good_one(delivery, delivered, tmp_path):
    relative = delivery.add(1, DoseUnits="RELATIVE")
    error_map = delivery.add(1, DoseType="ERROR")
    no_pixels = delivery.add(1, PixelData=None)
    cut = delivery.add(1)
    path = delivery.files.doses[-1].path
    path.write_bytes(path.read_bytes()[:-1000])
    case = delivery.take(tmp_path)
    np.testing.assert_allclose(rd(case), delivered[2], atol=1e-3)
    unreadable = dict.fromkeys((relative, error_map, no_pixels, cut), "unreadable")
    assert statuses(case) == {delivery.first: "used", **unreadable}
    assert all(each.reason for each in case.record.rt_objects if each.status == "unreadable")


def test_of_a_dose_that_was_delivered_twice_one_file_is_used(delivery, delivered, tmp_path):
    again = delivery.folder / "again"
    again.write_bytes(delivery.files.doses[0].path.read_bytes())
    delivery.files.doses.append(RtFile(again, delivery.files.doses[0].instance_uid))
    case = delivery.take(tmp_path)
    np.testing.assert_allclose(rd(case), delivered[2], atol=1e-3)
    listed = sorted((each.status, each.reason) for each in case.record.rt_objects if each.kind == "RTDOSE")
    assert listed == [("left out", f"copy of dose {delivery.first}"), ("used", "")]


def test_a_patient_of_nothing_but_unreadable_doses_is_told_each(delivery, tmp_path):
    delivery.files.doses.clear()
    bad = [delivery.add(1, DoseUnits="RELATIVE"), delivery.add(1, DoseType="ERROR")]
    case = delivery.take(tmp_path)
    assert problem(case).code == "treatment.nothing_usable"
    assert all(key in str(problem(case)) for key in bad)
    assert set(statuses(case).values()) == {"unreadable"}


def draw_structures(
    files: PatientFiles, case: Intake, folder: Path, name: str, frame: str
) -> tuple[PatientFiles, np.ndarray]:
    """The delivery with an RTSTRUCT of a ball of 12 mm around the dose's maximum; and where that is, RAS+ mm."""
    rd = case.volumes["rd"]
    at = np.unravel_index(np.argmax(rd.voxels), rd.voxels.shape)
    middle = rd.world_from_voxel[:3, :3] @ at + rd.world_from_voxel[:3, 3]
    ball = ball_lps(12, middle * (-1, -1, 1), 1.5, float(np.floor(middle[2])) - 60)
    dataset = structure_set([Drawn("GTV", ball, frame=None), Drawn("SECRET", ball, frame=None)], name=name)
    dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = frame
    path = save(dataset, folder / f"{name}.dcm", "implicit")
    return replace(files, structures=[*files.structures, RtFile(path, uid(name))]), middle


def test_structures_of_the_plan_come_in_on_the_planning_image(delivered, tmp_path):
    row, files, _ = delivered
    settings = replace(SETTINGS, structures=tuple(CFG.structures))
    before = take(row, files, tmp_path, settings)
    assert before.structures == {}
    frame = read_dose(files.doses[0].path).frame_of_reference
    files, middle = draw_structures(files, before, tmp_path, "RS1", frame)
    elsewhere, _ = draw_structures(files, before, tmp_path, "RS2", uid("another frame"))
    for delivery in (files, elsewhere):
        case = take(row, delivery, tmp_path, settings)
        assert list(case.structures) == ["GTV"]
        mask = case.structures["GTV"]
        assert mask.voxels.sum() * np.prod(mask.spacing_mm) == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.02)
        index = [float((mask.voxels * axis).sum() / mask.voxels.sum()) for axis in np.indices(mask.voxels.shape)]
        assert mask.world_from_voxel[:3, :3] @ index + mask.world_from_voxel[:3, 3] == pytest.approx(middle, abs=0.5)
        record = case.record.structures
        assert (record.structure_set, record.lies_in_the_frame_of) == (rt_key("RTSTRUCT", uid("RS1"), KEY), "planning")
        assert [(one.number, one.reason) for one in record.left_out] == [(2, "no rule names it")]
        assert "SECRET" not in case.record.as_json()
    several, _ = draw_structures(files, before, tmp_path, "RS3", frame)
    ambiguous = take(row, several, tmp_path, settings)
    assert ambiguous.structures == {}
    assert "none of 2 structure sets was read: no plan that counts names one" in ambiguous.record.dose.flags
    without = take(row, files, tmp_path, replace(SETTINGS, structures=()))
    assert without.structures == {}
    np.testing.assert_array_equal(without.volumes["rd"].voxels, case.volumes["rd"].voxels)
