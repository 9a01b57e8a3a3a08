"""Random treatments as hospitals deliver them, whose cumulative dose at the event is known, written as DICOM files.

One or two plans were delivered before the event, in one frame of reference or two; beside them lie copies,
alternatives, drafts, plans on a phantom, re-irradiations after the event, earlier treatments, and objects that are no
dose. Every dose is a smooth function of the place, so the truth is known without a grid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydicom import Dataset

from helpers.dicom_objects import FORMS, rtdose, rtplan, save, uid, without_part10

Points = NDArray[np.float64]
Dose = Callable[[Points], NDArray[np.float64]]

GRID = {"columns_rows": (6, 5), "spacing": (4.0, 4.0), "origin": (-10.0, -8.0, -6.0), "offsets": (0, 4, 8, 12)}
SOLE = ((60.0, 30), (59.4, 33), (54.0, 30), (40.05, 15), (50.0, 20))
WITH_BOOST = (((46.0, 23), (14.0, 7)), ((40.0, 20), (20.0, 10)), ((45.0, 25), (9.0, 5)))
SECOND = ((36.0, 18), (30.0, 10), (25.0, 5), (14.0, 7))
EARLIER = ((54.0, 30), (30.0, 10), (20.0, 5), (14.0, 7))
DISTRACTORS = (
    "copy", "alternative", "rejected draft", "unapproved draft", "phantom", "after the event", "earlier", "effective",
    "zeros", "relative", "truncated", "one plane", "record", "no pixels", "just before the event", "elsewhere",
)  # fmt: skip
START, EVENT = date(2020, 2, 3), date(2020, 9, 1)


@dataclass
class Drawn:
    """One patient.

    Attributes:
        patient_id: under which all his files lie.
        truth: frame (name) -> dose in Gy at (..., 3) RAS+ mm of everything delivered before the event.
        table: what the label table says: fractions, prescription_gy, both or neither.
        images: frame of reference -> days of the images in it, which are not written.
        event: date of the event, None where nobody says.
        kinds: how it was delivered, and what lies beside it.
    """

    patient_id: str
    truth: dict[str, Dose] = field(default_factory=dict)
    table: dict[str, float] = field(default_factory=dict)
    images: dict[str, list[date]] = field(default_factory=dict)
    event: date | None = EVENT
    kinds: list[str] = field(default_factory=list)


def draw_treatment(folder: Path, number: int, rng: Generator) -> Drawn:
    """Write the files of one patient into `folder`/<number>."""
    return _Patient(folder / str(number), number, rng).draw()


class _Patient:
    def __init__(self, folder: Path, number: int, rng: Generator) -> None:
        folder.mkdir()
        self.folder, self.number, self.rng = folder, number, rng
        self.drawn = Drawn(f"P{number}")
        self.files = 0
        self.same_approval = str(rng.choice(["APPROVED", "UNAPPROVED", ""])) if self.chance(0.7) else None
        self.dated, self.framed = self.chance(0.85), self.chance(0.5)
        self.prescribed = str(rng.choice(["targets", "beams", "nothing"]))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def name(self, what: str) -> str:
        return f"{self.number} {what}"

    def draw(self) -> Drawn:
        for frame, day in (("post MR", START - timedelta(20)), ("event MR", EVENT)):
            self.image(frame, day)
        self.image("CT", START - timedelta(7))
        schedules = (
            WITH_BOOST[self.rng.integers(len(WITH_BOOST))]
            if self.chance(0.4)
            else (SOLE[self.rng.integers(len(SOLE))],)
        )
        frames = ["CT", "CT"]
        if len(schedules) == 2 and self.chance(0.3):
            frames[1] = "second CT"
            self.image("second CT", START + timedelta(20))
        doses = [self.field(gy) for gy, _ in schedules]
        self.deliver(schedules, frames, doses)
        for frame in set(frames[: len(schedules)]):
            of_frame = [dose for dose, its in zip(doses, frames, strict=False) if its == frame]
            self.drawn.truth[uid(self.name(frame))] = _total(of_frame)
        for kind in self.rng.choice(DISTRACTORS, self.rng.integers(3), replace=False):
            self.beside(str(kind), schedules, doses)
        numbers = {
            "fractions": sum(n for _, n in schedules),
            "prescription_gy": round(sum(gy for gy, _ in schedules), 2),
        }
        given = self.rng.choice(["both", "fractions", "prescription_gy", "none"], p=[0.35, 0.1, 0.1, 0.45])
        self.drawn.table = {name: number for name, number in numbers.items() if given in ("both", name)}
        if self.chance(0.15):
            self.drawn.event = None
        return self.drawn

    def field(self, gy: float) -> Dose:
        """A dose whose maximum is about 1.03 x `gy`, high at a place of its own."""
        centre, width = self.rng.uniform(-6, 6, 3), self.rng.uniform(8, 20)

        def dose(points: Points) -> NDArray[np.float64]:
            distance = ((points - centre) ** 2).sum(axis=-1)
            return 1.03 * gy * (0.3 + 0.7 * np.exp(-distance / (2 * width**2)))

        return dose

    def deliver(self, schedules: Sequence[tuple[float, int]], frames: Sequence[str], doses: Sequence[Dose]) -> None:
        summed = len(schedules) == 2 and frames[0] == frames[1] and self.chance(0.3)
        if summed:
            plans = [self.name(f"true {n}") for n in range(2)]
            references = plans if self.chance(0.5) else None
            self.drawn.kinds.append("sum with references" if references else "sum without references")
            self.dose(
                "sum", _total(doses), "CT", plans=plans, summation="MULTI_PLAN", referenced=references is not None
            )
        for number, ((gy, fractions), frame, dose) in enumerate(zip(schedules, frames, doses, strict=False)):
            plan = f"true {number}"
            if not self.chance(0.08):
                self.plan(plan, gy, fractions, START + timedelta(25 * number), frame=frame)
            form = str(
                self.rng.choice(["plan", "plan", "beams", "fraction", "session", "plan and beams", "unreferenced"])
            )
            if summed and self.chance(0.4):
                form = "none"
            self.drawn.kinds.append(form)
            if form in ("plan", "plan and beams", "unreferenced"):
                self.dose(f"{plan} plan", dose, frame, plans=[self.name(plan)], referenced=form != "unreferenced")
            if form in ("beams", "plan and beams"):
                for beam, share in ((1, 0.4), (2, 0.6)):
                    self.dose(f"{plan} beam {beam}", _times(dose, share), frame, plans=[self.name(plan)],
                              summation="BEAM", fraction_group=1, beams=(beam,))  # fmt: skip
            if form == "fraction":
                self.dose(f"{plan} group", dose, frame, plans=[self.name(plan)], summation="FRACTION", fraction_group=1)
            if form == "session":
                self.dose(f"{plan} session", _times(dose, 1 / fractions), frame, plans=[self.name(plan)],
                          summation="FRACTION_SESSION", fraction_group=1)  # fmt: skip

    def beside(self, kind: str, schedules: Sequence[tuple[float, int]], doses: Sequence[Dose]) -> None:
        """Something that was not delivered before the event."""
        self.drawn.kinds.append(kind)
        gy, fractions = schedules[0]
        plan, name = [self.name(kind)], kind
        if kind == "copy":
            self.plan(kind, gy, fractions, START)
            self.dose(name, doses[0], str(self.rng.choice(["CT", "CT of the copy"])), plans=plan)
        elif kind == "alternative":
            self.plan(kind, gy, fractions, START + timedelta(int(self.rng.integers(-3, 4))))
            self.dose(name, self.field(gy * self.rng.uniform(0.97, 1.03)), "CT", plans=plan)
        elif kind in ("rejected draft", "unapproved draft"):
            draft_gy, draft_fractions = SOLE[self.rng.integers(len(SOLE))]
            approval = "REJECTED" if kind == "rejected draft" else "UNAPPROVED"
            self.plan(kind, draft_gy, draft_fractions, START - timedelta(int(self.rng.integers(1, 2000))), approval)
            self.dose(name, self.field(draft_gy), "CT", plans=plan)
        elif kind == "phantom":
            self.plan(kind, gy / fractions, 1, START, "UNAPPROVED")
            self.dose(name, self.field(gy / fractions), "phantom", plans=plan)
        elif kind == "after the event":
            again_gy, again_fractions = SECOND[self.rng.integers(len(SECOND))]
            frame = str(self.rng.choice(["CT", "third CT"]))
            if frame == "third CT" and self.chance(0.8):
                self.image(frame, EVENT + timedelta(20))
            if self.chance(0.9):
                self.plan(kind, again_gy, again_fractions, EVENT + timedelta(int(self.rng.integers(0, 60))))
            self.dose(name, self.field(again_gy), frame, plans=plan, referenced=self.chance(0.9))
        elif kind == "just before the event":
            self.plan(kind, 36.0, 18, EVENT - timedelta(int(self.rng.integers(1, 9))))
            self.dose(name, self.field(36.0), "CT", plans=plan)
        elif kind == "elsewhere":
            self.dose(name, self.field(gy / fractions), "phantom", plans=[self.name("true 0")])
        elif kind == "earlier":
            early_gy, early_fractions = EARLIER[self.rng.integers(len(EARLIER))]
            self.plan(kind, early_gy, early_fractions, START - timedelta(int(self.rng.integers(200, 3000))))
            self.dose(name, self.field(early_gy), str(self.rng.choice(["CT", "old CT"])), plans=plan)
        elif kind == "effective":
            self.dose(name, _times(doses[0], 1.1), "CT", plans=[self.name("true 0")], DoseType="EFFECTIVE")
        elif kind == "zeros":
            summation = str(self.rng.choice(["PLAN", "BEAM"]))
            self.dose(name, _times(doses[0], 0), "CT", plans=[self.name("true 0")], summation=summation,
                      fraction_group=1, beams=(1, 2))  # fmt: skip
        elif kind == "record":
            self.dose(name, doses[0], "CT", plans=[self.name("true 0")], summation="RECORD")
        else:
            self.plan(kind, gy, fractions, START)
            special: dict[str, Any] = {
                "relative": {"DoseUnits": "RELATIVE"},
                "no pixels": {"PixelData": None},
                "one plane": {"offsets": (0,), "SliceThickness": "4"},
                "truncated": {},
            }[kind]
            path = self.dose(name, self.field(gy), "CT", plans=plan, **special)
            if kind == "truncated":
                path.write_bytes(path.read_bytes()[:-200])

    def plan(
        self, name: str, gy: float, fractions: int, day: date, approval: str | None = None, frame: str = "CT"
    ) -> None:
        if approval is None:
            approval = self.same_approval
        if approval is None:
            approval = str(self.rng.choice(["APPROVED", "UNAPPROVED", ""]))
        beam_doses = {1: 0.4 * gy / fractions, 2: 0.6 * gy / fractions} if self.prescribed == "beams" else None
        dataset = rtplan(
            self.name(name),
            groups={1: (fractions, (1, 2))},
            targets_gy=(gy,) if self.prescribed == "targets" else (),
            approval=approval,
            beam_doses_gy=beam_doses,
            FrameOfReferenceUID=uid(self.name(frame)) if self.framed else None,
        )
        text = day.strftime("%Y%m%d")
        dataset.RTPlanDate = text if self.dated and self.chance(0.95) else str(self.rng.choice(["", "19010101"]))
        self.write(dataset)

    def dose(
        self, name: str, dose: Dose, frame: str, *, plans: list[str], referenced: bool = True, **options: Any
    ) -> Path:
        grid = {**GRID, **{key: options.pop(key) for key in ("offsets",) if key in options}}
        dataset = rtdose(dose, name=self.name(name), plans=plans, frame=self.name(frame), **grid, **options)
        if not referenced:
            del dataset.ReferencedRTPlanSequence
        return self.write(dataset)

    def image(self, frame: str, day: date) -> None:
        self.drawn.images.setdefault(uid(self.name(frame)), []).append(day)

    def write(self, dataset: Dataset) -> Path:
        self.files += 1
        dataset.PatientID = self.drawn.patient_id
        dataset.StudyInstanceUID = dataset.get("StudyInstanceUID") or uid(self.name("study"))
        path = save(dataset, self.folder / f"{self.files}.dcm", "implicit")
        if dataset.get("Modality", "").startswith("RT") and self.chance(0.3):
            return without_part10(path, str(self.rng.choice(FORMS)))
        return path


def _total(doses: Sequence[Dose]) -> Dose:
    return lambda points: sum(dose(points) for dose in doses)  # type: ignore[return-value]


def _times(dose: Dose, factor: float) -> Dose:
    return lambda points: factor * dose(points)
