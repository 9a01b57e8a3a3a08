"""Check which MRIs of a case came without a skull, and whether its case folder was made accordingly."""

from collections.abc import Mapping

from ricenet.cases.case_record import CaseRecord
from ricenet.errors import Finding
from ricenet.images.stripped import HEAD, STRIPPED, UNCLEAR, Look


def check_skulls(looks: Mapping[str, Look], case: str) -> list[Finding]:
    """Warn of a pair of which one came without a skull, and of an image that may be either.

    Args:
        looks: by MRI, what each looks like.
        case: how findings call it.
    """
    findings = []
    for role, seen in looks.items():
        if seen.kind == UNCLEAR:
            message = f"its field of view cuts one piece of {seen.ml:,.0f} ml: part of a head, or of a stripped brain"
            hint = "look at it; preprocess with brain=hdbet if it has a skull, with brain=none if it has none"
            findings.append(Finding("brain.unclear", case, message, hint, "warning", role))
    stripped = [role for role, seen in looks.items() if seen.kind == STRIPPED]
    heads = [role for role, seen in looks.items() if seen.kind == HEAD]
    if stripped and heads:
        message = f"its {' and '.join(stripped)} image looks stripped, its {' and '.join(heads)} image has a skull"
        hint = "give all with their skull or all without it, or look at the outlines on qc.html"
        findings.append(Finding("brain.mixed", case, message, hint, "warning"))
    return findings


def check_extraction(looks: Mapping[str, Look], record: CaseRecord, case: str) -> list[Finding]:
    """Refuse a case folder in which HD-BET was given an image without a skull: it cut into the brain.

    Args:
        looks: as of `check_skulls`.
        record: of the case folder, made of these images.
        case: how findings call it.
    """
    if record.parameters.get("brain") not in ("hdbet", "hdbet2"):
        return []
    both = record.parameters.get("brain_on") != "reference"
    reference = record.parameters.get("reference")
    roles = ["event"] if "post" not in record.channels else ["post", "event"] if both else [reference]
    return [
        Finding(
            "brain.stripped",
            case,
            f"it {looks[role].words}, and brain={record.parameters['brain']} cut into its brain",
            "preprocess the cohort with brain=auto, which takes it as it is",
            channel=role,
        )
        for role in map(str, roles)
        if role in looks and looks[role].kind == STRIPPED
    ]
