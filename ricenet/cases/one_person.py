"""Check that the post-OP and the event MRI of a case show one person's brain, by its gyri and sulci.

Mutual information does not tell: real pairs have 1.03 to 1.12, another person 1.03, a water bottle 1.02.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from ricenet.cases.alignment import Aligned
from ricenet.cases.case_record import CaseRecord
from ricenet.cases.case_tables import read_checks
from ricenet.errors import Finding, InvalidInput, about
from ricenet.images.similarity import ONE_PERSON_FROM, SURELY_FROM, likeness
from ricenet.images.volume import resample

if TYPE_CHECKING:
    from ricenet.cases.case_folder import Prepared

log = logging.getLogger(__name__)
LIKENESS = ("refuse", "warn")  # what is done with a case of two people
SPACING_MM = 1.0  # at which folds are compared, or that of the images where it is coarser
PAIR = ("post", "event")


def measure_likeness(aligned: Aligned, prepared: "Prepared") -> float | None:
    """The likeness of post and event of a case, rounded; None in a case without a post-OP MRI.

    Args:
        aligned: the case before it was sampled.
        prepared: as it was sampled; looked at where its grid is fine enough.
    """
    view, brain, record = prepared.view, prepared.brain, prepared.record
    if not all(role in view for role in PAIR):
        return None
    if record.spacing_mm <= SPACING_MM:
        return round(likeness(view["post"], view["event"], brain, record.spacing_mm), 4)
    spacing_mm = max(SPACING_MM, *(float(aligned.images[role].spacing_mm.min()) for role in PAIR))
    (box,) = ndimage.find_objects(brain.astype(np.uint8))
    first = np.array([side.start for side in box]) - 0.5
    extent_mm = (np.array([side.stop for side in box]) - 0.5 - first) * record.spacing_mm
    x, y, z = (int(size) for size in np.ceil(extent_mm / spacing_mm))
    step = spacing_mm / record.spacing_mm
    finer = np.diag([step] * 3 + [1.0])
    finer[:3, 3] = first + step / 2  # the outer faces coincide
    grid = record.affine @ finer
    fine_brain = resample(aligned.head, (x, y, z), grid) >= 0.5
    post, event = (resample(aligned.images[role], (x, y, z), grid, aligned.maps[role]) for role in PAIR)
    return round(likeness(post, event, fine_brain, spacing_mm), 4)


def likeness_of_folder(folder: Path, record: CaseRecord) -> float | None:
    """The likeness of a finished case: as it was measured, or of its volume; None where neither is possible."""
    checks = read_checks(folder)
    if checks is not None:
        return checks.likeness
    if record.spacing_mm > SPACING_MM or not set(PAIR) <= set(record.channels):
        return None
    volume = np.load(folder / "volume.npy", mmap_mode="r")
    post, event = (volume[record.channels.index(role)].astype(np.float32) for role in PAIR)
    return round(likeness(post, event, np.load(folder / "brain.npy"), record.spacing_mm), 4)


def judge_likeness(alike: float | None, case: str, insist: str = "") -> list[Finding]:
    """What a likeness says: nothing, a doubt, or two people.

    Args:
        alike: None where there is no pair.
        case: how messages call it.
        insist: what a hint adds, for who knows better.
    """
    if alike is None or alike >= SURELY_FROM:
        return []
    message = f"the gyri and sulci in post and event correlate by {alike:.2f}, expected at least {SURELY_FROM:g}"
    if alike >= ONE_PERSON_FROM:
        hint = "check that both are T1 with contrast agent of this patient, and look for motion"
        return [Finding("patient.doubtful", case, message, hint, "warning")]
    hint = "two people correlate so little, or the registration failed: check that both images are of this patient"
    return [Finding("patient.two_people", case, message, hint + insist)]


def refuse_two_people(alike: float | None, case: str) -> None:
    """Refuse a case whose post and event show two people.

    Raises:
        InvalidInput: code and words of `judge_likeness`.
    """
    for finding in judge_likeness(alike, case, insist="; if they are, preprocess with likeness=warn"):
        if finding.severity == "error":
            with about(case):
                raise InvalidInput(finding.message, finding.hint, code=finding.code)


def warn_of_people(folders: Mapping[str, Path]) -> None:
    """Tell of finished cases whose post and event may show two people.

    Args:
        folders: case folders by how messages call the case.
    """
    checks = {case: read_checks(folder) for case, folder in folders.items()}
    for case, found in checks.items():
        for finding in judge_likeness(None if found is None else found.likeness, case):
            log.warning("%s", finding)
    if unmeasured := sum(found is None for found in checks.values()):
        log.info("cases made by an older version, whose likeness ricenet.verify measures (cases=): %d", unmeasured)
