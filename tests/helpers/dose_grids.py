"""Small dose grids and plans in memory, and the courses that are found among them."""

from datetime import date

import numpy as np
import pytest

from ricenet.delivery.courses import Course, find_courses
from ricenet.delivery.patient_doses import CaseContext, number_objects
from ricenet.delivery.rtdose import DoseGrid
from ricenet.delivery.rtplan import FractionGroup, RtPlan
from ricenet.errors import InvalidInput
from ricenet.images.volume import Volume


def dose(
    name,
    summation="PLAN",
    plans=("plan",),
    groups=(),
    beams=(),
    content="",
    dose_type="PHYSICAL",
    gy=None,
    frame="frame",
    planes=2,
) -> DoseGrid:
    """A uniform dose; without `gy` each name has its own, so that no two hold the same voxels."""
    gy = 50 + sum(map(ord, content or name)) % 97 / 10 if gy is None else gy
    volume = Volume(np.full((2, 2, planes), gy, np.float32), np.eye(4))
    beams = frozenset((group, beam) for group in groups for beam in beams)
    references = (plans, frozenset(groups), beams)
    return DoseGrid(name, content or name, frame, summation, dose_type, *references, volume, planes)


def plan(name="plan", groups=None, approval="APPROVED", prescription_gy=60.0, day=None) -> RtPlan:
    groups = {1: (30, (1, 2))} if groups is None else groups
    return RtPlan(
        name,
        {g: FractionGroup(n, frozenset(beams)) for g, (n, beams) in groups.items()},
        prescription_gy,
        approval,
        day,
    )


def find(rt_doses, rt_plans=(), **context) -> tuple[list[Course], dict[int, str]]:
    """The courses, and the reason of rejection of every other dose by its number."""
    patient = number_objects(rt_doses, rt_plans, CaseContext(**context))
    courses = find_courses(patient)
    reasons = {row.dose: row.reason for row in patient.rejected}
    used = [number for course in courses for number in course.doses]
    assert sorted([*used, *reasons]) == list(range(1, len(rt_doses) + 1))  # each dose is used or rejected, once
    return courses, reasons


def refused(rt_doses, rt_plans=(), **known) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        find(rt_doses, rt_plans, **known)
    return caught.value


BEAMS = [dose(f"beam {beam}", "BEAM", groups=(1,), beams=(beam,)) for beam in (1, 2)]
BEFORE, EVENT, AFTER = date(2020, 1, 5), date(2020, 7, 1), date(2020, 9, 1)
