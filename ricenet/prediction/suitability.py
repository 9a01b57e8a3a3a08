"""Check whether a case fits a model: a case, and what its images show, in; findings out, errors first.

The checks are those of ricenet.verify, and one more. In a cohort a doubt is a warning that somebody looks into; for
a single patient perhaps nobody does, so some doubts are errors here: no prediction is made.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from ricenet.cases.case_record import CaseRecord
from ricenet.checks.case_checks import examine
from ricenet.checks.delivered_doses import check_doses
from ricenet.checks.duplicates import find_duplicates
from ricenet.checks.image_checks import finding
from ricenet.cohort.ingest_record import SelectionRecord
from ricenet.cohort.table import Case
from ricenet.errors import Finding, InvalidInput
from ricenet.explanation.map_record import SeenPart
from ricenet.images.dose_limits import DoseLimits

STRICT_CODES = ("geometry.flip_doubtful", "dose.coverage_estimated")
SEVERITIES = ("error", "warning", "info")


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


def check_prescription(case: Case, relative_dose: bool) -> list[Finding]:
    """Refuse a case without prescription where the model sees the dose relative to it (`relative_dose`)."""
    if not relative_dose or case.prescription_gy is not None or "rd" not in case.images:
        return []
    return [
        Finding(
            "dose.no_prescription",
            case.name,
            "the model sees the dose relative to the prescription, none was given",
            "give prescription_gy= (Gy of the whole treatment), or its RTPLAN with it",
            channel="rd",
        )
    ]


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


def check_seen(case: Case, seen: SeenPart | None, record: CaseRecord) -> list[Finding]:
    """Warn where the networks look at a place that is not the lesion's, or that the given mask does not say.

    Args:
        seen: what the networks see; None: all, and nothing can be missed.
        record: of the case on the model's grid.
    """
    findings = []
    if seen is not None and case.lesion is not None and "mask" not in record.lesion:
        findings.append(
            Finding(
                "lesion.outside", case.name,
                "the given lesion mask has no voxel in the brain: the networks look for the lesion themselves",
                "is it in the frame of the event MRI? Correct it, or leave it out", "warning", "lesion",
            )
        )  # fmt: skip
    if seen is not None and seen.place.source == "none":
        findings.append(
            Finding(
                "lesion.none", case.name,
                f"nothing in the brain enhances (contrast {seen.place.contrast or 0:.1f} SD): the networks look at a "
                f"cube of {seen.size_mm:g} mm at its middle",
                "is the event MRI contrast-enhanced? Give lesion.nii.gz, a mask of what is in question", "warning",
                "event",
            )
        )  # fmt: skip
    return findings


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
