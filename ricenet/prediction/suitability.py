"""Check whether a case fits a model: a case, and what its images show, in; findings out, errors first.

The checks are those of ricenet.verify, and one more. In a cohort a doubt is a warning that somebody looks into; for
a single patient perhaps nobody does, so some doubts are errors here: no prediction is made.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ricenet.cases.case_folder import Prepared
from ricenet.checks.case_checks import examine
from ricenet.checks.delivered_doses import check_doses
from ricenet.checks.duplicates import find_duplicates
from ricenet.checks.image_checks import finding
from ricenet.cohort.ingest_record import SelectionRecord
from ricenet.cohort.table import Case
from ricenet.errors import Finding, InvalidInput
from ricenet.images.dose_limits import DoseLimits

STRICT_CODES = ("geometry.flip_doubtful", "dose.coverage_estimated")
SEVERITIES = ("error", "warning", "info")
# Of the folds of a cortex, which are no two people's: structures of about this width, this far from the brain's edge.
FINEST_MM, COARSEST_MM, RIM_MM = 1.5, 4.0, 6.0
MIN_RELATIVE_STRENGTH = 1e-3
CLIP_PERCENTILES = 2, 98  # of the brain: vessels, enhancement and cavity would outweigh all folds
# Correlation of these details after registration. One person: .93 and more in one contrast, .53 to .57 between T1 and
# T1c. Two people: .03 to .32 (10 pairs of phantoms, which share a template), .04 to .23 (15 of two real ones).
ONE_PERSON_FROM, SURELY_FROM = 0.42, 0.6


def examine_patient(case: Case, channels: Collection[str], limits: DoseLimits | None = None) -> list[Finding]:
    """Check the files before anything is registered; errors come first.

    Args:
        channels: what the model needs; the event MRI is needed always.
        limits: of its dose; None: the default preset.
    """
    needed = dict.fromkeys([*(["post"] if "post" in channels else []), "event", *channels])
    missing = [
        Finding(
            "channel.missing",
            case.name,
            f"the model needs a {role} image, none was given",
            f"add {role}.nii.gz to the patient folder (post, event and rd: or their DICOM); nothing is filled in",
            channel=role,
        )
        for role in needed
        if role not in case.images
    ]
    examined = examine(case, None, flip=not missing, limits=limits)
    return in_order([*missing, *find_duplicates([examined.traces]), *map(_strict, examined.findings)])


def check_delivery(case: Case, delivery: SelectionRecord | None, known: Sequence[Finding] = ()) -> list[Finding]:
    """Warn of doses that were delivered and left out, and of what somebody should know of the plans.

    Args:
        delivery: None where files were given by name.
        known: what was found besides; its messages are not said again.
    """
    if delivery is None:
        return []
    hint = (
        "look under Radiotherapy dose; to decide otherwise give doses=, plans= or exclude_doses= with keys from there"
    )
    return check_doses(delivery, case.name, hint, known)


def check_frame(case: Case, reference: str, without_post: int) -> list[Finding]:
    """Warn where the patient lies in the frame of the event MRI, and no training case did.

    Args:
        reference: of the model's preprocessing.
        without_post: how many training cases had no post-OP MRI either.
    """
    if reference in case.images or without_post:
        return []
    message = "without a post-OP MRI the frame is that of the event MRI; every training case lay in that of the other"
    hint = "add post.nii.gz where there is one: the brain is found on it, and turned as it is"
    return [Finding("range.reference", case.name, message, hint, "warning", "post")]


def check_one_person(case: Case, prepared: Prepared) -> list[Finding]:
    """Check that post and event show the same brain, by its gyri and sulci; without a post nothing is compared."""
    spacing_mm, view = prepared.record.spacing_mm, prepared.view
    if "post" not in view:
        return []
    alike = likeness(view["post"], view["event"], prepared.brain, spacing_mm)
    if alike >= SURELY_FROM:
        return []
    message = f"the gyri and sulci in post and event correlate by {alike:.2f}, expected at least {SURELY_FROM:g}"
    if alike >= ONE_PERSON_FROM:
        hint = "check that both are T1 with contrast agent of this patient, and look for motion"
        return [Finding("patient.doubtful", case.name, message, hint, "warning")]
    hint = "two people correlate so little, or the registration failed: check that both images are of this patient"
    return [Finding("patient.two_people", case.name, message, hint)]


def likeness(post: NDArray, event: NDArray, brain: NDArray[np.bool_], spacing_mm: float) -> float:
    """Correlation of the details of two registered (X, Y, Z) images well inside the brain, -1 to 1.

    Every detail counts as much as its neighbourhood has contrast; how bright an image is does not matter. 0 where there
    is nothing to compare: no brain beyond its rim, or an image without details.
    """
    box = ndimage.find_objects(brain.astype(np.uint8))
    if not box:
        return 0.0
    brain = brain[box[0]]
    inner = ndimage.binary_erosion(brain, iterations=max(1, round(RIM_MM / spacing_mm)))
    images = [image[box[0]] for image in (post, event)]
    if not inner.any() or any(np.ptp(image[brain]) == 0 for image in images):
        return 0.0
    details = [_details(image, brain, spacing_mm)[inner] for image in images]
    return float(np.corrcoef(*details)[0, 1]) if all(np.ptp(each) > 0 for each in details) else 0.0


def _details(image: NDArray, brain: NDArray[np.bool_], spacing_mm: float) -> NDArray:
    """What is between FINEST_MM and COARSEST_MM wide, over its local standard deviation."""
    values = image[brain]
    clipped = np.clip(image, *np.percentile(values, CLIP_PERCENTILES))
    fine, coarse = (_mean_about(clipped, brain, width / spacing_mm) for width in (FINEST_MM, COARSEST_MM))
    band = fine - coarse
    strength = np.sqrt(_mean_about(band**2, brain, COARSEST_MM / spacing_mm))
    return band / np.maximum(strength, MIN_RELATIVE_STRENGTH * strength[brain].max())


def _mean_about(image: NDArray, brain: NDArray[np.bool_], width: float) -> NDArray:
    """Gaussian mean, in which only the brain counts; `width`: its sigma in voxels."""
    weights = ndimage.gaussian_filter(brain.astype(np.float32), width, mode="constant")
    sums = ndimage.gaussian_filter(np.where(brain, image, 0).astype(np.float32), width, mode="constant")
    return sums / np.maximum(weights, np.finfo(np.float32).tiny)


def as_finding(error: InvalidInput, case: Case) -> Finding:
    """What preprocessing refused, as an error among the findings."""
    return finding(error, case.name)


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Errors first."""
    return sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), each.code, each.channel))


def is_fit(findings: Sequence[Finding]) -> bool:
    """Whether none is an error."""
    return all(each.severity != "error" for each in findings)


def _strict(finding: Finding) -> Finding:
    return replace(finding, severity="error") if finding.code in STRICT_CODES else finding
