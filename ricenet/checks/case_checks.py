"""Check the files of one case, and draw them: a Case in; findings, facts, fingerprints and a picture out."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ricenet.cases.case_record import CASE_FILE, CaseRecord
from ricenet.cases.one_person import judge_likeness, likeness_of_folder
from ricenet.cases.structures import read_structure
from ricenet.checks import image_checks
from ricenet.checks.duplicates import Traces, thumbnail, voxel_hash
from ricenet.checks.laterality import check_sides, compare_sides
from ricenet.checks.lesion_checks import check_lesion
from ricenet.checks.skull_checks import check_extraction, check_skulls
from ricenet.checks.verify_record import CaseFacts, DoseCoverage, ImageFacts, SidesRecord
from ricenet.cohort.table import LESION, Case
from ricenet.command.atomic import file_hash
from ricenet.display.slice_drawing import draw_isodoses, label_isodoses, mark_right, name_plane
from ricenet.errors import Finding, InvalidInput
from ricenet.images.dose_limits import MIN_COVERAGE, DoseLimits
from ricenet.images.stripped import Look, look
from ricenet.images.views import PLANES, isodoses_gy, radiological_slice
from ricenet.images.volume import Volume, frames_apart_mm, isotropic, read_volume, resample

PICTURE_SPACING_MM = 2.0


@dataclass(frozen=True)
class Examined:
    """What one case showed; `facts` is what verify.json says of it."""

    traces: Traces
    findings: list[Finding]
    facts: CaseFacts


def examine(case: Case, ready: Path | None, flip: bool, limits: DoseLimits | None = None) -> Examined:
    """Read every file of `case` and check what can be checked of it alone.

    Args:
        case: its files exist.
        ready: its case folder, where the cohort has been preprocessed.
        flip: compare left and right of post and event.
        limits: of its dose; None: the default preset.
    """
    files = {role: file_hash(path) for role, path in case.files.items()}
    images, findings = _read(case)
    findings += _check_masks(case, images)
    findings += image_checks.check_days(case.extra, case.name)
    for role in (*case.mri, *(case.doses.values() or ["planning"])):
        if role in images:
            findings += image_checks.check_geometry(images[role], case.name, role)
    for role in case.mri:
        if role in images:
            findings += image_checks.check_intensity(images[role], case.name, role)
    findings += image_checks.check_doses({role: images[role] for role in case.doses if role in images}, case, limits)
    swapped = {each.channel for each in findings if each.severity == "error" and each.code.startswith("role.looks")}
    images = {role: image for role, image in images.items() if role not in swapped}
    looks = {role: look(images[role]) for role in case.mri if role in images}
    findings += check_skulls(looks, case.name)
    facts = CaseFacts(images={role: _facts(image, looks.get(role)) for role, image in images.items()})
    masks = {f"structures/{name}": file_hash(path) for name, path in case.masks.items()}
    record = _record(ready, files | masks, case, findings)
    if ready is not None and record is not None:
        findings += check_extraction(looks, record, case.name)
        if (alike := likeness_of_folder(ready, record)) is not None:
            facts = facts.model_copy(update={"likeness": alike})
            findings += judge_likeness(alike, case.name)
    if "rd" in images and (measured := _dose_share(case, images, files, record)) is not None:
        share, exact = measured
        coverage = DoseCoverage(share=round(share, 4), exact=exact)
        facts = facts.model_copy(update={"dose_coverage": coverage})
        findings += image_checks.check_dose_share(share, exact, case.name)
    if flip and images.keys() >= set(image_checks.MRI) and files["post"] != files["event"]:
        sides = compare_sides(images["post"], images["event"])
        rounded = SidesRecord(**{name: round(value, 4) for name, value in asdict(sides).items()})
        facts = facts.model_copy(update={"sides": rounded})
        findings += check_sides(sides, case.name)
    voxels = {role: voxel_hash(image) for role, image in images.items()}
    return Examined(Traces(case, files, voxels, _thumbnail(ready, record)), findings, facts)


def _read(case: Case) -> tuple[dict[str, Volume], list[Finding]]:
    images, findings = {}, []
    for role, path in case.files.items():
        try:
            images[role] = read_volume(path)
        except InvalidInput as error:
            findings.append(image_checks.finding(error, case.name, role))
        else:
            findings += image_checks.check_frames(frames_apart_mm(path), case.name, role)
    return images, findings


def _check_masks(case: Case, images: Mapping[str, Volume]) -> list[Finding]:
    """A lesion or a structure that is no mask, or lies outside its image; a lesion that is large or elsewhere."""
    findings = []
    for name in case.masks:
        try:
            structure = read_structure(case, name, images)
        except InvalidInput as error:
            findings.append(image_checks.finding(error, case.name, name))
        else:
            if name == LESION and structure.role == "event":
                findings += check_lesion(structure.mask, images.get("event"), case.lesion_mm, case.name)
    return findings


def _facts(image: Volume, seen: Look | None) -> ImageFacts:
    return ImageFacts(
        shape=image.voxels.shape,
        spacing_mm=image.spacing_mm.round(3).tolist(),
        minimum=round(float(image.voxels.min()), 3),
        maximum=round(float(image.voxels.max()), 3),
        **({} if seen is None else {"skull": seen.kind}),
    )


def _record(ready: Path | None, files: Mapping[str, str], case: Case, findings: list[Finding]) -> CaseRecord | None:
    """The record of a case folder that was made from these very files; None where there is none."""
    if ready is None:
        return None
    record = CaseRecord.read(ready / CASE_FILE, "run python -m ricenet.preprocess again")
    if record.inputs == files:
        return record
    message = "its case folder was made from other files than the cohort holds now"
    findings.append(Finding("cases.stale", case.name, message, "run python -m ricenet.preprocess again", "warning"))
    return None


def _dose_share(
    case: Case, images: Mapping[str, Volume], files: Mapping[str, str], record: CaseRecord | None
) -> tuple[float, bool] | None:
    """The share of the brain on the dose grid, and whether the brain was known; None where no image shows it.

    Of several doses, in several frames, together: at least what one covers, at most the sum. None where that leaves
    open whether it is enough.
    """
    if record is not None and "dose_coverage" in record.qc:
        return record.qc["dose_coverage"], True
    shares = [_share_of_one(images[dose], planning, images, files) for dose, planning in case.doses.items()
              if dose in images]  # fmt: skip
    known = [share for share in shares if share is not None]
    if len(shares) == 1 or not known:
        return shares[0]
    best = max(known)
    enough = best[0] >= MIN_COVERAGE
    too_little = len(known) == len(case.doses) and sum(share for share, _ in known) < MIN_COVERAGE
    return best if enough or too_little else None


def _share_of_one(
    dose: Volume, planning: str, images: Mapping[str, Volume], files: Mapping[str, str]
) -> tuple[float, bool] | None:
    anchor = "post" if "post" in files else "event"
    if planning not in files and anchor == "event":
        return None  # nobody can tell in whose frame it lies
    on_anchor = files.get(planning, files.get(anchor)) == files.get(anchor)
    if on_anchor and "brain_mask" in images:
        return image_checks.dose_share_of_mask(dose, images["brain_mask"]), True
    planned = images.get(anchor if on_anchor else planning)
    return None if planned is None else (image_checks.dose_share_of_head(dose, planned), False)


def _thumbnail(ready: Path | None, record: CaseRecord | None) -> NDArray[np.float32] | None:
    role = next((role for role in image_checks.MRI if record is not None and role in record.channels), None)
    if ready is None or record is None or role is None:
        return None
    mri = np.load(ready / "volume.npy", mmap_mode="r")[record.channels.index(role)]
    return thumbnail(mri, np.load(ready / "brain.npy"), record.affine)


def draw(case: Case) -> bytes:
    """A PNG of what can be read of `case`; empty where nothing can.

    Three planes of post, event, each dose over the image it was planned on, and each further MRI. Nothing is
    registered: every column is in its own frame.
    """
    images, _ = _read(case)
    if not images:
        return b""
    below = {dose: planning if planning in case.files else case.anchor for dose, planning in case.doses.items()}
    below = {"rd": case.anchor if case.planning is None else "planning"} | below
    columns = {role: role for role in (*image_checks.MRI, *below, *case.mri)}
    columns |= {dose: f"dose on {image}" for dose, image in below.items()}
    figure = Figure(figsize=(3 * len(columns), 9), facecolor="black", layout="constrained")
    axes = figure.subplots(3, len(columns))
    for column, (role, title) in enumerate(columns.items()):
        axes[0, column].set_title(title if role in images else f"{role}: none to show", color="white", fontsize=9)
        for row, (plane, axis) in enumerate(PLANES):
            axes[row, column].set_axis_off()
            if role in images:
                _show(axes[row, column], *_scene(images, role, below.get(role)), axis)
            if column == 0:
                name_plane(axes[row, 0], plane)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=100, facecolor="black", metadata={"Software": None})
    return stream.getvalue()


def _scene(
    images: Mapping[str, Volume], role: str, below: str | None
) -> tuple[NDArray, NDArray | None, tuple[int, ...]]:
    """Voxels, dose over them, and the voxel whose planes are shown; `below`: the image that a dose was planned on."""
    if below is None:
        image = isotropic(images[role], PICTURE_SPACING_MM)
        return image.voxels, None, tuple(size // 2 for size in image.voxels.shape)
    image = isotropic(images.get(below, images[role]), PICTURE_SPACING_MM)
    dose_gy = resample(images[role], image.voxels.shape, image.world_from_voxel)
    return image.voxels, dose_gy, tuple(map(int, np.unravel_index(np.argmax(dose_gy), dose_gy.shape)))


def _show(axes: Axes, voxels: NDArray, dose_gy: NDArray | None, at: tuple[int, ...], axis: int) -> None:
    low, high = np.percentile(voxels, (1, 99.5))
    image = radiological_slice(voxels, axis, at)
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin="lower")
    if axis != 0:
        mark_right(axes)
    if dose_gy is None or dose_gy.max() <= 0:
        return
    isodoses = isodoses_gy(float(dose_gy.max()))
    draw_isodoses(axes, radiological_slice(dose_gy, axis, at), isodoses)
    if axis == 0:
        label_isodoses(axes, isodoses, {"facecolor": "black"})
