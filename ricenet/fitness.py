"""May a model answer for this patient? A case, and what its images show, in; findings out, errors first.

The checks are those of ricenet.verify, and one more. Of a cohort a doubt is a warning that somebody looks into; for a
single patient nobody may, so some doubts are errors here: no probability is given.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ricenet.casefolder import Prepared
from ricenet.checks import finding
from ricenet.cohort import Case, Finding
from ricenet.config import InvalidInput
from ricenet.examination import examine

STRICT = ("geometry.flip_doubtful", "dose.coverage_estimated", "role.order")
SEVERITIES = ("error", "warning", "info")
# Of the folds of a cortex, which are no two people's: structures of about this width, this far from the brain's edge.
FINEST_MM, COARSEST_MM, RIM_MM = 2.0, 8.0, 6.0
# Correlation of these details after registration. One person: .67 to .82 (8 phantoms), .39 and .40 between a T1 and a
# T1c of one patient, two contrasts. Two people: .22 to .37 (8 pairs of phantoms, which share a template), .22 to .35 (4
# pairs of two real patients).
ONE_PERSON_FROM, SURELY_FROM = 0.38, 0.5


def examine_patient(case: Case, channels: Collection[str]) -> list[Finding]:
    """What can be said of the files before anything is registered, errors first.

    Args:
        channels: what the model needs.
    """
    needed = ["post", "event", *(name for name in channels if name not in ("post", "event"))]
    missing = [
        Finding(
            "channel.missing",
            case.name,
            f"the model needs a {role} image, there is none",
            f"add {role}.nii.gz to the patient folder (post, event and rd: or their DICOM); nothing is filled in",
            channel=role,
        )
        for role in needed
        if role not in case.images
    ]
    examined = examine(case, None, flip=not missing)
    return in_order([*missing, *map(_strict, examined.findings)])


def check_one_person(case: Case, prepared: Prepared) -> list[Finding]:
    """Whether post and event show the same brain, on a grid fine enough to show its folds."""
    spacing_mm, view = prepared.record["spacing_mm"], prepared.view
    alike = likeness(view["post"], view["event"], prepared.brain.astype(bool), spacing_mm)
    if alike >= SURELY_FROM:
        return []
    message = f"the folds of the brain in post and event correlate by {alike:.2f}, expected at least {SURELY_FROM:g}"
    if alike >= ONE_PERSON_FROM:
        hint = "two different contrasts, or much motion? check that both are T1 with contrast, of this patient"
        return [Finding("patient.doubtful", case.name, message, hint, "warning")]
    hint = "as those of two people do, or the registration failed: check that both images are of this patient"
    return [Finding("patient.two_people", case.name, message, hint)]


def likeness(post: NDArray, event: NDArray, brain: NDArray[np.bool_], spacing_mm: float) -> float:
    """Correlation of the details of two registered (X, Y, Z) images well inside the brain, -1 to 1."""
    inner = ndimage.binary_erosion(brain, iterations=max(1, round(RIM_MM / spacing_mm)))
    if not inner.any():
        return 0.0
    details = [_details(image, brain, spacing_mm)[inner] for image in (post, event)]
    return float(np.corrcoef(*details)[0, 1]) if all(np.ptp(each) > 0 for each in details) else 0.0


def _details(image: NDArray, brain: NDArray[np.bool_], spacing_mm: float) -> NDArray:
    inside = np.where(brain, image - image[brain].mean(), 0).astype(np.float32)
    fine, coarse = (ndimage.gaussian_filter(inside, width / spacing_mm) for width in (FINEST_MM, COARSEST_MM))
    return fine - coarse


def as_finding(error: InvalidInput, case: Case) -> Finding:
    """What preprocessing refused, as an error among the findings."""
    return finding(error, case.name)


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Errors first."""
    return sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), each.code, each.channel))


def is_fit(findings: Sequence[Finding]) -> bool:
    """Whether none is an error."""
    return all(each.severity != "error" for each in findings)


def _strict(found: Finding) -> Finding:
    return replace(found, severity="error") if found.code in STRICT else found
