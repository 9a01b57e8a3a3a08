"""Check the geometry and the intensities of an image before anything is trained on it: a Volume in, findings out.

Every threshold was set between what phantoms and real images show and what the fault shows; see beside each.
"""

from collections.abc import Mapping
from datetime import date

import numpy as np
from scipy import ndimage

from ricenet.cohort.table import Case
from ricenet.errors import Finding, InvalidInput
from ricenet.images import dose_limits
from ricenet.images.head import about_the_brain, coarse_head
from ricenet.images.volume import Volume, covered, isotropic

MRI = ("post", "event")
COHORT = "cohort"  # how findings call what belongs to no case
MAX_SPACING_MM = 6.0
MIN_FIELD_OF_VIEW_MM = 120.0
MAX_FRAMES_APART_MM = 1.0
MIN_DISTINCT = 16
CT_BELOW, CT_SHARE = -500.0, 0.01
# Of the voxels brighter than the mean, those at the maximum: 1e-5 and less in MRI.
MAX_CLIPPED = 0.05
MAX_NEGATIVE, NEGATIVE_DEPTH = 0.01, 0.05  # share of voxels; of the brightest
# Roughness of phantom doses .14-.21, of four crossing beams .26; of MRI .36 (3 x 3 x 6 mm) to .73. A dose in a few
# small targets is as rough as an MRI (.36-.66), so that nothing is called an MRI whose values a dose may have.
DOSE_BELOW, MRI_ABOVE = 0.28, 0.33
ROUGHNESS_SPACING_MM, ROUGHNESS_WIDTH_MM = 3.0, 6.0


def finding(error: InvalidInput, case: str, channel: str = "") -> Finding:
    """An error of reading or of the dose as a finding; `channel`: where the error does not say its image."""
    return Finding(error.code, case, error.message, error.hint, channel=error.role or channel)


def check_frames(apart_mm: float, case: str, channel: str) -> list[Finding]:
    """qform and sform of one file that place it `apart_mm` from each other."""
    if apart_mm <= MAX_FRAMES_APART_MM:
        return []
    message = f"its qform and sform place it up to {apart_mm:.1f} mm apart"
    hint = "we use the sform; other programs may not: export the image again, or set both alike"
    return [Finding("geometry.two_frames", case, message, hint, "warning", channel)]


def check_geometry(image: Volume, case: str, channel: str) -> list[Finding]:
    """Voxels or a field of view that no head scan has."""
    findings = []
    field_mm = image.spacing_mm * image.voxels.shape
    if image.spacing_mm.max() > MAX_SPACING_MM:
        message = f"expected voxels of at most {MAX_SPACING_MM:g} mm, got {image.spacing_mm.max():.1f} mm"
        hint = "a localiser or a 2D series? prefer a thin 3D one"
        findings.append(Finding("geometry.spacing", case, message, hint, "warning", channel))
    if field_mm.min() < MIN_FIELD_OF_VIEW_MM:
        size = " x ".join(f"{mm:.0f}" for mm in field_mm)
        message = f"expected at least {MIN_FIELD_OF_VIEW_MM:g} mm along each axis, got {size} mm"
        hint = "a partial slab, or a wrong voxel size?"
        findings.append(Finding("geometry.field_of_view", case, message, hint, "warning", channel))
    return findings


def check_intensity(mri: Volume, case: str, channel: str) -> list[Finding]:
    """A mask, a CT or a dose in the place of an MRI (errors); clipped or negative values (warnings)."""
    voxels = mri.voxels
    if (distinct := _distinct(voxels)) < MIN_DISTINCT:
        message = f"expected an MRI, got {distinct} different values"
        return [
            Finding("role.looks_like_mask", case, message, "a mask in this column? correct the path", "error", channel)
        ]
    if (share := float((voxels < CT_BELOW).mean())) > CT_SHARE:
        message = f"expected an MRI, got {share:.0%} of the voxels below {CT_BELOW:g}"
        return [Finding("role.looks_like_ct", case, message, "a CT in this column? correct the path", "error", channel)]
    if looks_like_dose(mri):
        message = f"expected an MRI, got a map as smooth as a dose, up to {voxels.max():.1f}"
        return [Finding("role.looks_like_dose", case, message, "are two columns swapped?", "error", channel)]
    findings = []
    clipped = float((voxels == voxels.max()).sum() / max((voxels > voxels.mean()).sum(), 1))
    if clipped > MAX_CLIPPED:
        message = f"{clipped:.0%} of its brighter voxels lie at its maximum (clipped)"
        hint = "export it again with its full range"
        findings.append(Finding("intensity.clipped", case, message, hint, "warning", channel))
    negative = float((voxels < 0).mean())
    if negative > MAX_NEGATIVE and -voxels.min() > NEGATIVE_DEPTH * np.percentile(voxels, 99.9):
        message = f"{negative:.0%} of its voxels are negative, down to {voxels.min():.3g}"
        hint = "normalised already, or a phase image? give the image as the scanner stored it"
        findings.append(Finding("intensity.negative", case, message, hint, "warning", channel))
    return findings


def check_dose(rd: Volume, case: Case, limits: dose_limits.DoseLimits | None = None) -> list[Finding]:
    """An MRI in the place of a dose, or a dose that breaks a rule of ricenet.images.dose_limits or is unusual."""
    if looks_like_mri(rd, limits):
        message = f"expected a dose, got an image as rough as an MRI, up to {rd.voxels.max():.0f}"
        return [Finding("role.looks_like_mri", case.name, message, "are two columns swapped?", "error", "rd")]
    try:
        dose_limits.check_dose(rd, case.prescription_gy, case.fractions, limits)
    except InvalidInput as error:
        return [finding(error, case.name, "rd")]
    highest_gy = float(rd.voxels.max())
    return dose_limits.dose_warnings(highest_gy, case.prescription_gy, case.fractions, limits, case.name)


def check_doses(doses: Mapping[str, Volume], case: Case, limits: dose_limits.DoseLimits | None = None) -> list[Finding]:
    """The doses of one case, which will be summed; several in frames of their own as far as it can be told before."""
    if not case.further_doses:
        return [found for rd in doses.values() for found in check_dose(rd, case, limits)]
    findings = []
    for role, dose in doses.items():
        if looks_like_mri(dose, limits):
            message = f"expected a dose, got an image as rough as an MRI, up to {dose.voxels.max():.0f}"
            hint = "are two columns swapped?"
            findings.append(Finding("role.looks_like_mri", case.name, message, hint, "error", role))
            continue
        try:
            dose_limits.without_noise(dose)
        except InvalidInput as error:
            findings.append(finding(error, case.name, role))
    if findings or doses.keys() != case.doses.keys():
        return findings
    nearest_gy = dose_limits.nearest_sum([float(dose.voxels.max()) for dose in doses.values()], case.prescription_gy)
    try:
        dose_limits.check_distinct(doses)
        dose_limits.check_highest(nearest_gy, case.prescription_gy, case.fractions, limits)
    except InvalidInput as error:
        return [finding(error, case.name, "rd")]
    return dose_limits.dose_warnings(nearest_gy, case.prescription_gy, case.fractions, limits, case.name)


def roughness(image: Volume) -> float:
    """How much of an image's contrast lies in details under ROUGHNESS_WIDTH_MM, where it is not dark: 0 to about 1."""
    voxels = isotropic(image, ROUGHNESS_SPACING_MM).voxels.astype(np.float64)
    smooth = ndimage.gaussian_filter(voxels, ROUGHNESS_WIDTH_MM / ROUGHNESS_SPACING_MM)
    bright = smooth > 0.1 * np.percentile(voxels, 99.9)
    if not bright.any():
        return 0.0
    return float(np.sqrt(((voxels - smooth)[bright] ** 2).mean()) / max(voxels[bright].std(), 1e-9))


def looks_like_dose(image: Volume) -> bool:
    """Smooth, with a maximum that a treatment may have, and no whole numbers: a dose in Gy."""
    plausible = (
        dose_limits.preset().fit(float(image.voxels.max()), None) and image.voxels.min() >= -dose_limits.NEGATIVE_GY
    )
    return plausible and bool((image.voxels != np.round(image.voxels)).any()) and roughness(image) < DOSE_BELOW


def looks_like_mri(image: Volume, limits: dose_limits.DoseLimits | None = None) -> bool:
    """Rough, with values that no dose in Gy has."""
    impossible = (
        image.voxels.max() > (limits or dose_limits.preset()).highest_gy
        or image.voxels.min() < -dose_limits.NEGATIVE_GY
    )
    return bool(impossible) and roughness(image) > MRI_ABOVE


def dose_share_of_mask(rd: Volume, mask: Volume) -> float:
    """The share of a brain mask, in the dose's own frame, that lies on the dose grid."""
    brain = mask.voxels >= 0.5
    return float(covered(rd, brain.shape, mask.world_from_voxel)[brain].mean()) if brain.any() else 0.0


def dose_share_of_head(rd: Volume, image: Volume) -> float:
    """The same for a rough idea of the brain in `image`, which lies in the dose's frame."""
    coarse, head = coarse_head(image)
    brain = about_the_brain(head, coarse.world_from_voxel)
    return float(covered(rd, head.shape, coarse.world_from_voxel)[brain].mean()) if brain.any() else 1.0


def check_dose_share(share: float, exact: bool, case: str) -> list[Finding]:
    """A dose grid that misses the brain: an error where the brain is known, else a warning."""
    try:
        dose_limits.check_coverage(share)
    except InvalidInput as error:
        if exact:
            return [finding(error, case, "rd")]
    else:
        return []
    covered = dose_limits.percent_below(share, dose_limits.MIN_COVERAGE)
    message = f"dose grid covers about {covered} of where the brain should be, {dose_limits.MIN_COVERAGE:.0%} expected"
    hint = "a guess from the head's outline: look at the picture; preprocessing measures it, or give a brain_mask"
    return [Finding("dose.coverage_estimated", case, message, hint, "warning", "rd")]


def check_days(extra: dict[str, str], case: str) -> list[Finding]:
    """The order of post and event, from post_day and event_day (whole days) or post_date and event_date (ISO)."""
    for unit in ("day", "date"):
        texts = [(extra.get(f"{role}_{unit}") or "").strip() for role in MRI]
        if not all(texts):
            continue
        try:
            post, event = (int(text) if unit == "day" else date.fromisoformat(text).toordinal() for text in texts)
        except ValueError:
            form = "whole numbers" if unit == "day" else "dates as YYYY-MM-DD"
            message = f"expected {form} in post_{unit} and event_{unit}, got something else"
            return [Finding("table.day", case, message, "correct cohort.csv", "warning")]
        if post > event:
            message = f"its post-OP MRI was taken {post - event} days after its event MRI"
            return [Finding("role.order", case, message, "are the two columns swapped?")]
        return []
    return []


def _distinct(voxels: np.ndarray) -> int:
    """How many different values there are, counted only as far as it takes."""
    some = len(np.unique(voxels.ravel()[:: max(1, voxels.size // 10_000)]))
    return some if some >= MIN_DISTINCT else len(np.unique(voxels))
