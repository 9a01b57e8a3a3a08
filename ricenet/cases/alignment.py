"""Register one case's images and extract the brain: images, the maps between their frames, and the brain mask.

Nothing is sampled here. The 1 mm copies that registration and brain extraction see are thrown away.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ricenet.cases.case_record import Parameter
from ricenet.cases.planning_check import check_planning
from ricenet.cases.structures import Structure, read_masks
from ricenet.cohort.channels import in_order
from ricenet.cohort.table import Case
from ricenet.errors import about
from ricenet.images import brain, dose_limits
from ricenet.images.registration import rigid
from ricenet.images.stripped import HEAD, STRIPPED, look, stripped_brain
from ricenet.images.volume import Affine, Volume, isotropic, read_volume, resample

COPY_SPACING_MM = 1.0  # of what the registration sees, or the grid's spacing where that is coarser


@dataclass(frozen=True)
class PreprocessingSettings:
    """What decides the content of a case folder; the keys of conf/preprocess.yaml.

    `device`: cpu or cuda; `brain_software`: the extractor's package and version; `hdbet2_env`: where it is installed.
    """

    brain: str
    hdbet_models: int
    hdbet_tta: bool
    device: str
    reference: str
    brain_on: str
    registration: str
    spacing_mm: float
    size: int
    dose_scaling: str
    seed: int
    brain_software: str = ""
    hdbet2_env: str | None = None

    def deciding(self) -> dict[str, Parameter]:
        """The settings that are looked at: what the name and the record of a case folder hold."""
        ignored = {"hdbet2_env"}
        if self.brain not in ("auto", "hdbet"):
            ignored.add("hdbet_models")
        if self.brain not in ("auto", "hdbet", "hdbet2"):
            ignored |= {"hdbet_tta", "device", "brain_software"}
        return {name: value for name, value in asdict(self).items() if name not in ignored}


def reference_of(case: Case, settings: PreprocessingSettings) -> str:
    """The MRI into whose frame the others are brought: that of the settings, or the event's where there is no post."""
    return settings.reference if settings.reference in case.images else case.anchor


@dataclass(frozen=True)
class Aligned:
    """A case before it is sampled.

    Attributes:
        inputs: SHA-256 of the files by role. images: by role, each in its own frame; the dose in Gy.
        maps: by channel and by role of further doses (4, 4), the world map from the reference's frame to that image's.
        head: the brain as 0 and 1, in the reference's frame.
        structures: the case's masks by name, each in the frame of its image.
        frames: by role of such an image (4, 4), the world map from the reference's frame to its frame.
        brains: by MRI, with brain=auto alone: `hdbet`, `stripped` (taken as it is), or `head` (its brain is not used).
        tissue: by MRI that came stripped: what is left in it, as 0 and 1 in its own frame; the rest is no image.
    """

    case: Case
    inputs: dict[str, str]
    images: dict[str, Volume]
    maps: dict[str, Affine]
    head: Volume
    seconds: dict[str, float] = field(default_factory=dict)
    structures: dict[str, Structure] = field(default_factory=dict)
    frames: dict[str, Affine] = field(default_factory=dict)
    brains: dict[str, str] = field(default_factory=dict)
    tissue: dict[str, Volume] = field(default_factory=dict)


def align(
    case: Case,
    inputs: dict[str, str],
    settings: PreprocessingSettings,
    limits: dose_limits.DoseLimits | None = None,
) -> Aligned:
    """Read, register, extract: what takes time, and does not depend on the grid but for its spacing.

    Args:
        inputs: SHA-256 of the case's files by role.
        limits: of its dose; None: the default preset.

    Raises:
        InvalidInput: an image, the dose or the brain breaks a rule, or a planning image shows another organ.
        Incomplete: an image has a skull, and what would find its brain is not installed; or it failed.
    """
    seconds: dict[str, float] = {}
    with about(case.name):
        with timed(seconds, "read"):
            images = {role: _read(path, role) for role, path in case.files.items()}
            images |= _doses(case, images, limits)
            structures = read_masks(case, images)
            backends = brain_backends(case, images, settings)
            brains = brain_words(case, images, backends) if settings.brain == "auto" else {}
        with timed(seconds, "register"):
            maps = _world_maps(case, images, inputs, settings)
            roles = dict.fromkeys(each.role for each in structures.values())
            frames = {role: _frame(role, case.anchor, maps, images, settings) for role in roles}
        with timed(seconds, "brain"):
            masks = _brains(images, backends, settings)
            head = _combined(masks, maps, settings)
            tissue = {
                role: masks[role] if role in masks else _stripped(images[role])
                for role, word in brains.items()
                if word == STRIPPED
            }
            anchor = case.anchor
            for dose, planning in case.doses.items():
                if planning in images and inputs[planning] != inputs[anchor]:
                    to = (maps[anchor], maps[dose])
                    check_planning(planning, head, images[anchor], images[planning], *to, compared_with=anchor)
            if case.further_doses:
                highest_gy = _highest_of_sum({role: images[role] for role in case.doses}, maps)
                dose_limits.check_highest(highest_gy, case.prescription_gy, case.fractions, limits)
    return Aligned(case, inputs, images, maps, head, seconds, structures, frames, brains, tissue)


def brain_roles(case: Case, settings: PreprocessingSettings) -> tuple[str, ...]:
    """The images on which the brain is looked for, the reference first."""
    reference = reference_of(case, settings)
    if settings.brain_on == "reference" or "post" not in case.images:
        return (reference,)
    return (reference, *({"post", "event"} - {reference}))


def brain_backends(case: Case, images: dict[str, Volume], settings: PreprocessingSettings) -> dict[str, str]:
    """How the brain of each image is found on which it is looked for, as of ricenet.images.brain.extract.

    Raises:
        InvalidInput, Incomplete: as ricenet.images.brain.resolve.
    """
    backends = {}
    for role in brain_roles(case, settings):
        if settings.brain in ("mask", "none"):
            backends[role] = settings.brain
            continue
        with about(role=role):
            backends[role] = brain.resolve(settings.brain, look(images[role]), settings.brain_software)
    return backends


def brain_words(case: Case, images: dict[str, Volume], backends: dict[str, str]) -> dict[str, str]:
    """What case.json says of the skull of each MRI."""

    def word(role: str) -> str:
        return STRIPPED if look(images[role]).kind == STRIPPED else HEAD

    return {role: backends.get(role) or word(role) for role in case.mri}


def _read(path: Path, role: str) -> Volume:
    with about(role=role):
        return read_volume(path)


def _doses(case: Case, images: dict[str, Volume], limits: dose_limits.DoseLimits | None) -> dict[str, Volume]:
    """The doses of the case without rounding noise; several are checked as far as it can be done before their sum."""
    if not case.further_doses:
        return {
            role: dose_limits.check_dose(images[role], case.prescription_gy, case.fractions, limits)
            for role in case.doses
        }
    doses = {}
    for role in case.doses:
        with about(role=role):
            doses[role] = dose_limits.without_noise(images[role])
    dose_limits.check_distinct(doses)
    nearest_gy = dose_limits.nearest_sum([float(dose.voxels.max()) for dose in doses.values()], case.prescription_gy)
    dose_limits.check_highest(nearest_gy, case.prescription_gy, case.fractions, limits)
    return doses


def _highest_of_sum(doses: dict[str, Volume], maps: dict[str, Affine]) -> float:
    """The highest value of the sum at any voxel of any of the doses, Gy."""
    highest_gy = 0.0
    for role, dose in doses.items():
        total = dose.voxels.copy()
        for other in (name for name in doses if name != role):
            other_from_dose = maps[other] @ np.linalg.inv(maps[role])
            total += resample(doses[other], dose.voxels.shape, dose.world_from_voxel, other_from_dose)
        highest_gy = max(highest_gy, float(total.max()))
    return highest_gy


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Note in `seconds` how long `step` takes."""
    start = time.perf_counter()
    yield
    seconds[step] = round(time.perf_counter() - start, 2)


def _world_maps(
    case: Case, images: dict[str, Volume], inputs: dict[str, str], settings: PreprocessingSettings
) -> dict[str, Affine]:
    """For each channel and further dose, in their order: the world map from the reference's frame to its frame."""
    scans = [role for role in (*case.mri, *case.doses.values()) if role in images]
    copies = {role: isotropic(images[role], max(COPY_SPACING_MM, settings.spacing_mm)) for role in scans}
    register = partial(rigid, schedule=settings.registration, seed=settings.seed)
    reference, anchor = reference_of(case, settings), case.anchor
    maps = {reference: np.eye(4)}
    for role in case.mri:
        if role != reference:
            maps[role] = register(copies[reference], copies[role])
    planned = {inputs[anchor]: maps[anchor]}  # by the planning image's content: two doses may have one
    for dose, planning in case.doses.items():
        # A dose lives in the frame of its planning image, else of the post-OP MRI; it is never registered itself.
        content = inputs.get(planning, inputs[anchor])
        if content not in planned:
            planned[content] = register(copies[anchor], copies[planning]) @ maps[anchor]
        maps[dose] = planned[content]
    return {role: maps[role] for role in in_order(maps)}


def _frame(
    role: str, anchor: str, maps: dict[str, Affine], images: dict[str, Volume], settings: PreprocessingSettings
) -> Affine:
    """The world map from the reference's frame to that of post, event or planning, which has moved with its dose."""
    role = "rd" if role == "planning" and "rd" in maps else role
    if role in maps:
        return maps[role]
    fixed, other = (isotropic(images[each], max(COPY_SPACING_MM, settings.spacing_mm)) for each in (anchor, role))
    return rigid(fixed, other, schedule=settings.registration, seed=settings.seed) @ maps[anchor]


def _brains(images: dict[str, Volume], backends: dict[str, str], settings: PreprocessingSettings) -> dict[str, Volume]:
    """The brain in each image in which it is looked for, as 0 and 1 in the image's frame."""
    find = partial(
        brain.extract,
        models=settings.hdbet_models,
        tta=settings.hdbet_tta,
        device=settings.device,
        hdbet2_env=None if settings.hdbet2_env is None else Path(settings.hdbet2_env),
        user_mask=images.get("brain_mask"),
    )

    def on(role: str, backend: str) -> Volume:
        image = isotropic(images[role], brain.HDBET_SPACING_MM) if backend == "hdbet" else images[role]
        return Volume(find(image, backend).astype(np.float32), image.world_from_voxel)

    return {role: on(role, backend) for role, backend in backends.items()}


def _combined(brains: dict[str, Volume], maps: dict[str, Affine], settings: PreprocessingSettings) -> Volume:
    """The brain as 0 and 1, in the reference's frame; `brains`: by role, the reference first."""
    first, *others = brains
    head = brains[first]
    for other in others:
        second = resample(brains[other], head.voxels.shape, head.world_from_voxel, maps[other]).round()
        combine = np.maximum if settings.brain_on == "union" else np.minimum
        head = Volume(combine(head.voxels, second), head.world_from_voxel)
    return head


def _stripped(image: Volume) -> Volume:
    return Volume(stripped_brain(image).astype(np.float32), image.world_from_voxel)
