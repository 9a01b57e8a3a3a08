"""Turn one case's images into model-ready arrays, and write them as a case folder.

Every original image is interpolated once: grid voxel -> reference world -> the image's world -> its voxel.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ricenet.cases.alignment import COPY_SPACING_MM, Aligned, PreprocessingSettings, align, reference_of, timed
from ricenet.cases.case_record import CASE_FILE, CHECKS_FILE, CaseChecks, CaseRecord
from ricenet.cases.crop import find_places
from ricenet.cases.numbers_table import NUMBERS_FILE, CaseNumbers, measure
from ricenet.cases.one_person import measure_likeness, refuse_two_people
from ricenet.cases.registration_numbers import further_dose_numbers, qc_numbers
from ricenet.cases.structures import structure_numbers, write_masks
from ricenet.cohort.table import LESION, Case, further_dose_roles, is_further_dose
from ricenet.command.atomic import file_hash, partial_folder, publish
from ricenet.errors import InvalidInput, about
from ricenet.images import dose_limits
from ricenet.images.volume import Affine, Mask, Volume, Voxels, covered, resample

# Part of every case folder's name: raise it when the same inputs and parameters give other volumes.
PREPROCESSING_VERSION = 3
MIN_MRI_COVERAGE = 0.95
Array = TypeVar("Array", Voxels, Mask)


@dataclass(frozen=True)
class Prepared:
    """volume: (C, X, Y, Z) float16; brain: (X, Y, Z); view: unmasked MRI and Gy by role; record: case.json.

    structures: masks by name, (X, Y, Z).
    """

    volume: NDArray[np.float16]
    brain: Mask
    view: dict[str, Voxels]
    record: CaseRecord
    seconds: dict[str, float] = field(default_factory=dict)
    structures: dict[str, Mask] = field(default_factory=dict)


def input_hashes(case: Case) -> dict[str, str]:
    """SHA-256 of every file of the case, by role; of a mask by `structures/` and its name."""
    images = {role: file_hash(path) for role, path in case.files.items()}
    return images | {f"structures/{name}": file_hash(path) for name, path in case.masks.items()}


def folder_name(case: Case, inputs: dict[str, str], settings: PreprocessingSettings) -> str:
    """Case key and a digest of all that decides the content, so that nothing stale is ever reused."""
    decides = [inputs, settings.deciding(), case.prescription_gy, case.fractions, PREPROCESSING_VERSION]
    return f"{case.key}-{hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]}"


def prepare(
    case: Case,
    inputs: dict[str, str],
    settings: PreprocessingSettings,
    limits: dose_limits.DoseLimits | None = None,
) -> Prepared:
    """Read, register, extract, sample, normalise one case.

    Args:
        inputs: SHA-256 of the case's files by role.
        limits: of its dose, as of `align`; they refuse and change nothing, so that no case folder is named after them.

    Raises:
        InvalidInput: an image, the dose, the brain or its place on the grid breaks a rule.
    """
    return sample(align(case, inputs, settings, limits), settings)


def sample(aligned: Aligned, settings: PreprocessingSettings) -> Prepared:
    """The model-ready arrays on the grid of `settings`, and the record that stands beside them.

    On a grid that is coarser than an image a voxel is a mean, as in a scanner: single points would keep all the noise.

    Raises:
        InvalidInput: the brain does not fit the grid, or an image does not cover it.
    """
    case, images, maps = aligned.case, aligned.images, aligned.maps
    reference = reference_of(case, settings)
    seconds = dict(aligned.seconds)
    with about(case.name), timed(seconds, "sample"):
        grid = _grid_around(aligned.head, images[reference], settings)
        shape = (settings.size,) * 3
        _check_fits(aligned.head, shape, grid, settings)
        on_grid = partial(_mean_on, grid, settings.size, settings.spacing_mm)
        inside = on_grid(aligned.head, np.eye(4)) >= 0.5
        seen = _doses_as_one({role: covered(images[role], shape, grid, maps[role]) for role in maps}, np.logical_or)
        _check_coverage(inside, seen)
        sampled = {role: on_grid(images[role], maps[role]) for role in maps}
        view = _doses_as_one(sampled, np.add)
        tissue = {role: on_grid(left, maps[role]) >= 0.5 for role, left in aligned.tissue.items()}
        channels = [
            _normalised(role, view[role], inside & seen[role] & tissue.get(role, inside), settings.dose_scaling)
            for role in view
        ]
        masks = {
            name: on_grid(structure.mask, aligned.frames[structure.role]) >= 0.5
            for name, structure in aligned.structures.items()
        }
        # Only where there are some: the record of a case without is what it was.
        known: dict[str, Any] = {}
        if masks:
            known["structures"] = structure_numbers(aligned.structures, masks, inside, grid)
        if aligned.brains:
            known["brains"] = aligned.brains
        volume = np.stack(channels).astype(np.float16)
        stored = dict(zip(view, volume, strict=True))
        known["lesion"] = find_places(stored, inside, settings.spacing_mm, masks.get(LESION))
    shares = {f"{role}_tissue": round(float(left[inside].mean()), 4) for role, left in tissue.items()}
    record = CaseRecord(
        version=PREPROCESSING_VERSION,
        case_key=case.key,
        channels=tuple(view),
        world_from_voxel=grid.tolist(),
        spacing_mm=settings.spacing_mm,
        dose_scale_gy=dose_limits.DOSE_SCALE_GY if "rd" in view and settings.dose_scaling == "fixed" else None,
        inputs=aligned.inputs,
        parameters=settings.deciding(),
        transforms={f"{role}_from_{reference}": world_map.tolist() for role, world_map in maps.items()},
        qc=qc_numbers(view, inside, seen, maps, grid, case.anchor)
        | further_dose_numbers(sampled, inside, maps, grid, case.anchor)
        | shares,
        **known,
    )
    return Prepared(volume, inside, view, record, seconds, masks)


def _doses_as_one(by_role: dict[str, Array], combine: Callable[[Array, Array], Array]) -> dict[str, Array]:
    """The channels alone, with rd combined with the further doses."""
    one = {role: array for role, array in by_role.items() if not is_further_dose(role)}
    for role in further_dose_roles(by_role):  # in their order: float sums keep their bits
        one["rd"] = combine(one["rd"], by_role[role])
    return one


def _mean_on(grid: Affine, size: int, spacing_mm: float, image: Volume, image_from_reference: Affine) -> Voxels:
    """(size,) * 3 float32; where the image is finer than the grid, the mean over several points of each voxel."""
    parts = max(1, round(spacing_mm / max(COPY_SPACING_MM, image.spacing_mm.min())))
    step = np.diag([1 / parts] * 3 + [1.0])
    step[:3, 3] = (1 / parts - 1) / 2  # the outer faces coincide
    fine = resample(image, (size * parts,) * 3, grid @ step, image_from_reference)
    return fine.reshape(size, parts, size, parts, size, parts).mean((1, 3, 5)) if parts > 1 else fine


def _grid_around(head: Volume, reference: Volume, settings: PreprocessingSettings) -> Affine:
    """Cubic voxels along the reference's world axes, size^3 of them centred on the brain's box."""
    places = np.argwhere(head.voxels) @ head.world_from_voxel[:3, :3].T + head.world_from_voxel[:3, 3]
    centre = (places.min(axis=0) + places.max(axis=0)) / 2
    first = centre - (settings.size - 1) / 2 * settings.spacing_mm
    # Shifted by less than a voxel onto the reference's own voxels: where it is such a grid already, nothing is blurred.
    anchor = reference.world_from_voxel[:3, 3]
    first = anchor + np.round((first - anchor) / settings.spacing_mm) * settings.spacing_mm
    grid = np.diag([settings.spacing_mm] * 3 + [1.0])
    grid[:3, 3] = first
    return grid


def _check_fits(head: Volume, shape: tuple[int, ...], grid: Affine, settings: PreprocessingSettings) -> None:
    index = np.linalg.inv(grid) @ head.world_from_voxel
    places = np.argwhere(head.voxels) @ index[:3, :3].T + index[:3, 3]
    lost = int(((places < -0.5) | (places > np.array(shape) - 0.5)).any(axis=1).sum())
    if lost:
        share = lost / len(places)
        amount = f"{share:.1%}" if share >= 0.001 else f"{lost * np.prod(head.spacing_mm) / 1000:.2g} ml"
        need = int(np.ceil((np.ptp(places, axis=0) + 1).max()))
        raise InvalidInput(
            f"expected the brain inside the grid of {settings.size}^3 voxels of {settings.spacing_mm:g} mm, "
            f"{amount} of it would be lost",
            f"raise size to {need + 2}, or spacing_mm",
            code="brain.size",
        )


def _check_coverage(inside: Mask, seen: dict[str, Mask]) -> None:
    for role, field_of_view in seen.items():
        share = float(field_of_view[inside].mean())
        if role == "rd":
            dose_limits.check_coverage(share)
        elif share < MIN_MRI_COVERAGE:
            raise InvalidInput(
                f"{role} image covers {dose_limits.percent_below(share, MIN_MRI_COVERAGE)} of the brain, "
                f"at least {MIN_MRI_COVERAGE:.0%} expected",
                "is it a partial slab, or did the registration fail?",
                code="image.coverage",
            )


def _normalised(role: str, image: Voxels, where: Mask, dose_scaling: str) -> Voxels:
    """Dose over 60 Gy, kept outside the brain too; anything else z-scored inside `where`, 0 elsewhere."""
    if role == "rd" and dose_scaling == "fixed":
        return image / np.float32(dose_limits.DOSE_SCALE_GY)
    values = image[where].astype(np.float64)
    scored = np.zeros_like(image)
    scored[where] = (values - values.mean()) / max(values.std(), 1e-6)
    return scored


def make_case_folder(
    cases: Path,
    name: str,
    case: Case,
    inputs: dict[str, str],
    settings: PreprocessingSettings,
    limits: dose_limits.DoseLimits | None = None,
    likeness: str = "refuse",
) -> dict[str, float]:
    """The work of one process: prepare the case and write its folder. Returns the seconds of each step.

    Args:
        likeness: `refuse` a case whose post and event show two people, or `warn`: write it, with its checks.json.

    Raises:
        InvalidInput: as `prepare`; `patient.two_people`.
    """
    # What ANTs and hd-bet leave in the temporary folder when they are killed then goes with the next run's start.
    with partial_folder(cases, f"{name}-tmp") as folder:
        before, tempfile.tempdir = tempfile.tempdir, str(folder.absolute())
        try:
            aligned = align(case, inputs, settings, limits)
        finally:
            tempfile.tempdir = before
    prepared = sample(aligned, settings)
    with timed(prepared.seconds, "check"):
        alike = measure_likeness(aligned, prepared)
        if likeness == "refuse":
            refuse_two_people(alike, case.name)
    with timed(prepared.seconds, "numbers"), about(case.name):
        numbers = measure(prepared.record, prepared.volume, prepared.brain, prepared.structures, case.prescription_gy)
    with timed(prepared.seconds, "write"):
        write_case_folder(cases, name, prepared, CaseChecks(likeness=alike), numbers)
    return prepared.seconds


def is_finished(folder: Path) -> bool:
    """Whether a case folder is complete: without its record it is not."""
    return (folder / CASE_FILE).is_file()


def write_case_folder(
    cases: Path, name: str, prepared: Prepared, checks: CaseChecks | None = None, numbers: CaseNumbers | None = None
) -> None:
    """Write the folder `cases`/`name`: it is there completely or not, and one that is complete stays."""
    from ricenet.cases.qc_picture import draw_case

    with partial_folder(cases, name) as folder:
        np.save(folder / "volume.npy", prepared.volume)
        np.save(folder / "brain.npy", prepared.brain)
        write_masks(folder, prepared.structures)
        draw_case(
            folder / "qc.png", prepared.view, prepared.brain, prepared.record.case_key, structures=prepared.structures
        )
        if checks is not None:
            checks.write(folder / CHECKS_FILE)
        if numbers is not None:
            numbers.write(folder / NUMBERS_FILE)
        prepared.record.write(folder / CASE_FILE)
        publish(folder, cases / name, last=CASE_FILE)
