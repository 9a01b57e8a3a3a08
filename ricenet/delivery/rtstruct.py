"""Read the structures of an RTSTRUCT as masks on the image that they were drawn on.

A planning system's names are free text and may identify a patient: a structure comes in under the name that a rule
gives it (`structures` in conf/ingest.yaml, TG-263), and what no rule names is only counted. Contours of DICOM are LPS
mm, masks RAS+. Does not: read points and open contours, which have no volume; move a structure from one frame of
reference to another.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import RTStructureSetStorage

from ricenet.cohort.ingest_record import LeftOutStructure, StructureRecord, StructuresRecord
from ricenet.command.atomic import file_hash
from ricenet.command.schemas import StructureRuleConfig
from ricenet.delivery.rtobject import RTObject, read_object
from ricenet.dicom.part10 import quiet_pydicom
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.images.contours import Filled, Points, fill_contours, join_masks
from ricenet.images.volume import Volume, write_volume

FOLDER = "structures"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
CLOSED, EXCLUSIVE = "CLOSED_PLANAR", "CLOSEDPLANAR_XOR"
GEOMETRIES = (CLOSED, EXCLUSIVE, "OPEN_PLANAR", "OPEN_NONPLANAR", "POINT")
ROI_TYPES = (
    "EXTERNAL", "PTV", "CTV", "GTV", "TREATED_VOLUME", "IRRAD_VOLUME", "BOLUS", "AVOIDANCE", "ORGAN", "MARKER",
    "REGISTRATION", "ISOCENTER", "CONTRAST_AGENT", "CAVITY", "BRACHY_CHANNEL", "SUPPORT", "FIXATION", "DOSE_REGION",
    "CONTROL", "DOSE_MEASUREMENT",
)  # fmt: skip
RAS_FROM_LPS = np.array([-1.0, -1.0, 1.0])
SAID_OUTSIDE = 0.005  # share of a structure outside its image from which it is said
DECIMALS = 2  # of a voxel's share in a file, which its compression is grateful for


@dataclass(frozen=True, repr=False)  # no repr: its name may be a patient's
class Roi:
    """One structure of a set.

    Attributes:
        number: ROI Number.
        name: as the planning system calls it; stays out of every output.
        roi_type: RT ROI Interpreted Type; "" or UNKNOWN where it is no defined term.
        frame_of_reference: UID of the frame of its contours; "" where it is not known.
        contours: the closed ones, (n, 3) RAS+ mm.
        exclusive: contours of a plane exclude each other where they overlap (CLOSEDPLANAR_XOR).
        open_contours: number of points and open contours.
        problem: why it cannot be used; "" if it can.
    """

    number: int
    name: str
    roi_type: str
    frame_of_reference: str
    contours: list[Points]
    exclusive: bool
    open_contours: int
    problem: str = ""


@dataclass(frozen=True, repr=False)
class Structures:
    """The structures that rules name.

    Attributes:
        masks: by the rules' names, shares from 0 to 1 of the image's voxels, each cut to its box.
        record: what they are made of, and what was left out.
        flags: what somebody should know: a structure that a rule names and that is not whole, or not there.
    """

    masks: dict[str, Volume]
    record: StructuresRecord
    flags: list[str]


def check_structure_rules(rules: Sequence[StructureRuleConfig]) -> None:
    """Validate the rules before any file is read.

    Raises:
        WrongUsage: a pattern that is no regular expression, or a name that no file can have.
    """
    for number, rule in enumerate(rules):
        try:
            pattern = re.compile(rule.matches)
        except re.error as error:
            raise WrongUsage(
                f"structures[{number}].matches: expected a regular expression, got {rule.matches!r}: {error}"
            ) from None
        groups = [int(text) for text in re.findall(r"\\(\d)", rule.name)]
        if max(groups, default=0) > pattern.groups or not NAME.fullmatch(re.sub(r"\\\d", "1", rule.name)):
            raise WrongUsage(
                f"structures[{number}].name: expected letters, digits and _, and \\1 for a number that the pattern "
                f"holds in brackets, got {rule.name!r}"
            )


def name_structure(name: str, rules: Sequence[StructureRuleConfig]) -> str:
    """The name that the first matching rule gives to a planning system's; "" where none matches.

    Only digits are taken over into it: anything else could be a person's name.
    """
    for rule in rules:
        match = re.search(rule.matches, name.strip(), re.IGNORECASE)
        if match is not None:
            used = [match[int(text)] or "" for text in re.findall(r"\\(\d)", rule.name)]
            return match.expand(rule.name) if all(re.fullmatch("[0-9]{1,4}", text) for text in used) else ""
    return ""


def read_structures(path: Path | str, image: Volume, rules: Sequence[StructureRuleConfig], frame: str) -> Structures:
    """Read an RTSTRUCT as masks on `image`.

    Args:
        path: any name.
        image: that the structures refer to; its voxels are not looked at.
        rules: which structures are read, and under which names.
        frame: FrameOfReferenceUID of `image`; structures of another frame are left out.

    Raises:
        InvalidInput: unreadable, damaged, or not an RTSTRUCT.
    """
    rois = read_rois(path)
    middles = np.array([points.mean(0) for roi in rois if roi.frame_of_reference == frame for points in roi.contours])
    named: dict[str, list[tuple[Roi, Filled]]] = {}
    left_out: list[LeftOutStructure] = []
    for roi in rois:
        name = name_structure(roi.name, rules)
        reason, filled = "no rule names it", None
        if name:
            reason, filled = _fill(roi, image, middles.reshape(-1, 3), frame)
        if filled is None:
            left_out.append(LeftOutStructure(number=roi.number, name=name, type=roi.roi_type, reason=reason))
        else:
            named.setdefault(name, []).append((roi, filled))
    masks = {name: join_masks([filled.mask for _, filled in parts]) for name, parts in sorted(named.items())}
    records = [_record(name, parts, masks[name]) for name, parts in sorted(named.items())]
    flags = [f"structure {one.number} ({one.name}) was left out: {one.reason}" for one in left_out if one.name]
    for name, parts in sorted(named.items()):
        outside = max(filled.share_outside for _, filled in parts)
        if outside > SAID_OUTSIDE:
            flags.append(f"structure {name}: {outside:.0%} of it lies outside its image")
    return Structures(masks, StructuresRecord(used=records, left_out=left_out), flags)


def _fill(roi: Roi, image: Volume, middles: Points, frame: str) -> tuple[str, Filled | None]:
    """A structure's mask, or why there is none."""
    if roi.problem:
        return roi.problem, None
    if not roi.frame_of_reference or roi.frame_of_reference != frame:
        lacking = "its frame of reference is not known"
        return "it lies in another frame of reference" if roi.frame_of_reference else lacking, None
    if not roi.contours:
        return "it has only points or open contours" if roi.open_contours else "it has no contours", None
    try:
        filled = fill_contours(roi.contours, image, middles, exclusive=roi.exclusive)
    except InvalidInput as error:
        return error.message, None
    if filled.share_outside > 0.999:
        return "it lies outside the image", None
    voxels = filled.mask.voxels.round(DECIMALS)
    return "", Filled(Volume(voxels, filled.mask.world_from_voxel), filled.ml, filled.share_outside, filled.notes)


def _record(name: str, parts: Sequence[tuple[Roi, Filled]], mask: Volume) -> StructureRecord:
    notes = [note for _, filled in parts for note in filled.notes]
    if len(parts) > 1:
        notes.append(
            f"{len(parts)} structures have this name and were joined; a rule of its own tells one from another"
        )
    outside = max(filled.share_outside for _, filled in parts)
    if outside > SAID_OUTSIDE:
        notes.append(f"{outside:.0%} of it lies outside the image")
    opened = sum(roi.open_contours for roi, _ in parts)
    if opened:
        notes.append(f"{opened} points or open contours were left out")
    whole = parts[0][1].ml if len(parts) == 1 else float(mask.voxels.sum(dtype=np.float64)) * _voxel_ml(mask)
    return StructureRecord(name=name, numbers=[roi.number for roi, _ in parts], ml=round(whole, 3), notes=notes)


def _voxel_ml(mask: Volume) -> float:
    return float(np.prod(mask.spacing_mm)) / 1000


def write_structures(masks: dict[str, Volume], folder: Path) -> dict[str, str]:
    """Write the masks as structures/<name>.nii.gz in `folder`; returns the SHA-256 of each by its path there."""
    hashes = {}
    for name, mask in masks.items():
        path = folder / FOLDER / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        write_volume(path, mask.voxels, mask.world_from_voxel)
        hashes[f"{FOLDER}/{path.name}"] = file_hash(path)
    return hashes


@quiet_pydicom()
def read_rois(path: Path | str) -> list[Roi]:
    """Read the structures of an RTSTRUCT, with all closed contours, in the order of their numbers.

    Raises:
        InvalidInput: unreadable, damaged, or not an RTSTRUCT.
    """
    source = read_object(path, "RTSTRUCT", (RTStructureSetStorage,))
    frames = {item.text("FrameOfReferenceUID") for item in source.items("ReferencedFrameOfReferenceSequence")} - {""}
    sole = next(iter(frames)) if len(frames) == 1 else source.text("FrameOfReferenceUID")
    types = {
        item.integer("ReferencedROINumber"): item.term("RTROIInterpretedType", ROI_TYPES)
        for item in source.items("RTROIObservationsSequence")
    }
    drawn = source.items("ROIContourSequence")
    times = Counter(item.integer("ReferencedROINumber") for item in drawn)
    by_number = {item.integer("ReferencedROINumber"): item for item in drawn}
    rois = []
    for item in source.items("StructureSetROISequence"):
        number = item.integer("ROINumber")
        if number is None:
            raise source.damaged("ROINumber")
        frame = item.text("ReferencedFrameOfReferenceUID") or sole
        rois.append(_roi(number, item.text("ROIName"), types.get(number, ""), frame, by_number.get(number)))
        if times[number] > 1:
            raise source.refusal("roi_twice", f"expected the contours of each structure once, got {number} twice")
    return sorted(rois, key=lambda roi: roi.number)


def _roi(number: int, name: str, roi_type: str, frame: str, drawn: RTObject | None) -> Roi:
    contours: list[Points] = []
    geometries: Counter[str] = Counter()
    problem = ""
    for item in drawn.items("ContourSequence") if drawn is not None else ():
        geometry = item.term("ContourGeometricType", GEOMETRIES)
        geometries[geometry] += 1
        if geometry not in (CLOSED, EXCLUSIVE):
            if geometry in ("", "UNKNOWN"):
                problem = "a contour does not say whether it is closed"
            continue
        points, fault = _points(item)
        problem = problem or fault
        if len(points):
            contours.append(points)
    if geometries[CLOSED] and geometries[EXCLUSIVE]:
        problem = problem or "its contours are of two kinds, CLOSED_PLANAR and CLOSEDPLANAR_XOR"
    opened = geometries.total() - geometries[CLOSED] - geometries[EXCLUSIVE]
    return Roi(number, name, roi_type, frame, contours, geometries[EXCLUSIVE] > 0, opened, problem)


def _points(contour: RTObject) -> tuple[Points, str]:
    """(n, 3) RAS+ mm; and what is wrong with them, "" if nothing is."""
    if contour.numbers("ContourOffsetVector").any():
        return np.empty((0, 3)), "a contour is to be moved by a ContourOffsetVector, which is retired"
    flat = _contour_data(contour)
    announced = contour.integer("NumberOfContourPoints")
    if flat is None or len(flat) % 3 or (announced is not None and announced * 3 != len(flat)):
        return np.empty((0, 3)), "a contour is damaged"
    return flat.reshape(-1, 3) * RAS_FROM_LPS, ""


def _contour_data(contour: RTObject) -> NDArray[np.float64] | None:
    """The numbers of a contour; None where they are none. From the bytes: pydicom makes an object of each number."""
    if "ContourData" not in contour.dataset:
        return np.empty(0)
    raw = contour.dataset.get_item("ContourData").value
    try:
        if isinstance(raw, bytes):
            text = raw.decode("ascii").strip(" \0")
            numbers = np.array(text.split("\\") if text else [], dtype=np.float64)
        else:
            numbers = np.array([] if raw is None else raw, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        return None
    return numbers if np.isfinite(numbers).all() else None
