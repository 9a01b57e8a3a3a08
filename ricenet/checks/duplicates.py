"""Find one patient under two ids, who would be in training and in validation: fingerprints of cases in, pairs out.

Found: the same bytes; the same voxels in another file; and after preprocessing the same brain with other noise.
Not found: the same patient scanned in another position of the head.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ricenet.cohort.channels import in_order
from ricenet.cohort.table import Case, is_dose, is_further_dose
from ricenet.errors import Finding
from ricenet.images.volume import Affine, Mask, Volume, Voxels

SHAPE = (48, 48, 48)
SPACING_MM = 4.0
FINEST_MM = 8.0  # width of the details that a thumbnail keeps
COARSEST_MM = 16.0
# Correlation of thumbnails. 12 phantoms, which share one template: .47 and less between two of them; .97 and more
# between two scans of one with other noise, .83 where the second brain mask is moved by 3 mm.
SAME_ABOVE = 0.75
NO_CHANNEL = ("planning", "brain_mask")
HINT = "give both rows the same patient_id, or correct the path"


@dataclass(frozen=True)
class Traces:
    """Fingerprints by which a case's images are recognised.

    Attributes:
        files: SHA-256 of each file by role.
        voxels: voxel_hash by role.
        thumbnail: of the brain in the post-OP MRI, without one in the event's; None where it was not preprocessed.
    """

    case: Case
    files: Mapping[str, str]
    voxels: Mapping[str, str] = field(default_factory=dict)
    thumbnail: Voxels | None = None


def voxel_hash(image: Volume) -> str:
    """SHA-256 of the canonical voxels; how they are stored, and where they lie, does not matter."""
    return hashlib.sha256(str(image.voxels.shape).encode() + image.voxels.tobytes()).hexdigest()


def thumbnail(mri: NDArray, brain: Mask, world_from_voxel: Affine) -> Voxels:
    """The brain's medium-sized details as SHAPE, centred on it, of norm 1; mri, brain: (X, Y, Z) of a case folder."""
    spacing = np.linalg.norm(world_from_voxel[:3, :3], axis=0)
    fine = ndimage.gaussian_filter(np.where(brain, mri, 0).astype(np.float32), FINEST_MM / 2.355 / spacing)
    step = SPACING_MM / spacing
    first = np.argwhere(brain).mean(axis=0) - (np.array(SHAPE) - 1) / 2 * step
    small = ndimage.affine_transform(fine, np.diag(step), first, output_shape=SHAPE, order=1)
    details = small - ndimage.gaussian_filter(small, COARSEST_MM / 2.355 / SPACING_MM)
    return details / max(float(np.linalg.norm(details)), 1e-9)


def find_duplicates(traces: Sequence[Traces]) -> list[Finding]:
    """Report images that are another patient's too or their own case's other MRI, and brains that look the same."""
    findings = []
    pairs = set[frozenset[int]]()
    roles = [role for role in in_order(role for trace in traces for role in trace.files) if _is_compared(role)]
    doses = [role for role in roles if is_dose(role)]
    mri = [role for role in roles if role not in doses]
    for role in roles:
        for trace, first, what in _shared(traces, role, doses if role in doses else mri):
            pairs.add(frozenset((trace.case.row, first.case.row)))
            code = "patient.same_dose" if role in doses else "patient.same_image"
            image = "dose" if role in doses else f"{role} image"
            message = f"its {image} is {what} one of another patient's, {first.case.name}"
            findings.append(Finding(code, trace.case.name, message, HINT, "error", role))
    for trace in traces:
        for first_role, second_role in combinations(mri, 2):
            if _is_one_image(trace, first_role, second_role):
                message = f"its {first_role} and {second_role} image are the same"
                findings.append(Finding("image.same", trace.case.name, message, "correct one path"))
    return findings + _near_duplicates(traces, pairs)


def _is_compared(role: str) -> bool:
    return role not in NO_CHANNEL and (is_dose(role) or not is_further_dose(role))


def _is_one_image(trace: Traces, first: str, second: str) -> bool:
    return any(hashes.get(first, 0) == hashes.get(second, 1) for hashes in (trace.files, trace.voxels))


def _shared(traces: Sequence[Traces], role: str, roles: Sequence[str]) -> list[tuple[Traces, Traces, str]]:
    """(a case, the first case of another patient that has its image of `role` as one of `roles`, how alike)."""
    first: dict[str, Traces] = {}
    for trace in traces:
        for hashes in (trace.files, trace.voxels):
            for each in roles:
                if each in hashes:
                    first.setdefault(hashes[each], trace)
    shared = []
    for trace in traces:
        for hashes, what in ((trace.files, "byte for byte"), (trace.voxels, "voxel for voxel")):
            other = first.get(hashes.get(role, ""), trace)
            if other.case.patient_key != trace.case.patient_key:
                shared.append((trace, other, what))
                break
    return shared


def _near_duplicates(traces: Sequence[Traces], reported: set[frozenset[int]]) -> list[Finding]:
    preprocessed = [trace for trace in traces if trace.thumbnail is not None]
    if len(preprocessed) < 2:
        return []
    details = np.stack([trace.thumbnail.ravel() for trace in preprocessed if trace.thumbnail is not None])
    alike = np.argwhere(np.triu(details @ details.T, 1) > SAME_ABOVE)
    findings = []
    for first, second in ((preprocessed[i].case, preprocessed[j].case) for i, j in alike):
        if first.patient_key != second.patient_key and frozenset((first.row, second.row)) not in reported:
            message = f"after preprocessing its brain looks like another patient's, {first.name}"
            findings.append(Finding("patient.near_duplicate", second.name, message, f"one patient? {HINT}", "warning"))
    return findings
