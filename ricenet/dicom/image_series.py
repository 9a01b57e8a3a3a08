"""The image series of a delivery: headers in, one Series for each volume out, and its Volume.

A series UID under which several images lie (a localizer beside a volume, echoes, magnitude and phase), in files of one
frame or of many, is split into one Series per volume. Slice positions are checked here, ricenet.dicom.pixels decodes
the pixels, the headers place the volume. A series with a tilt is not repaired, nor one with a gap or uneven steps
unless asked to.
"""

import datetime
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ricenet.dicom.frame_groups import (
    Slice,
    left_out_between,
    lost_ends,
    part_slices,
    pieces_of_one_stack,
    without_copies,
)
from ricenet.dicom.headers import Acquisition, Header
from ricenet.dicom.pixels import PixelFiles, decode, same_pixels
from ricenet.dicom.slice_stack import Plane, Stack, slice_order, stack
from ricenet.dicom.uneven_slices import UnevenStack, even_out, uneven_stack
from ricenet.errors import InvalidInput
from ricenet.images.volume import Volume

MIN_SHARE_OF_SLICES = 0.75  # of those that a header counts; with fewer it is no volume of a head


@dataclass(frozen=True, repr=False)  # no repr: it would print a patient
class Series(Acquisition):
    """The files of one series UID, sorted by slice; if the UID holds several volumes, those of one.

    Attributes:
        uid: of the series; if it holds several volumes, followed by # and the number of this one.
        acquisition_time: of its earliest file.
        slices: in order, each a frame of one of the files.
        remarks: what is to be said of its slices where it is used, without patient data: copies, a lost end.
        scanner: manufacturer, model, field strength; never printed.
        shape: columns, rows, slices.
        spacing_mm: x, y, z; 0 where unknown.
        problem: why it cannot be read as a volume (no patient data in it); None if it can.
        grid: where the slices lie; None with a problem.
        uneven: where they lie, if their uneven steps are the problem, and no other: a planning image may have them.
    """

    uid: str
    study_uid: str
    patient_id: str
    modality: str
    frame_of_reference: str
    number: int | None
    date: datetime.date | None
    contrast_agent: str
    scanner: tuple[str, ...]
    image_type: tuple[str, ...]
    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    problem: InvalidInput | None
    grid: Stack | None = field(default=None, compare=False)
    uneven: UnevenStack | None = field(default=None, compare=False)
    slices: tuple[Slice, ...] = field(default=(), compare=False)
    remarks: tuple[str, ...] = ()


def image_series(headers: list[Header], contradictory: set[str]) -> list[Series]:
    """The volumes under one series UID; a problem of one file is a problem of all of them.

    Args:
        headers: of MR or CT images, all of one series.
        contradictory: UIDs under which there are instances that differ.
    """
    problem = _wrong_with_files(headers, contradictory)
    whole = {header.path: header for header in headers if not header.damaged}
    slices = [each for header in whole.values() for each in _slices(header)]
    files = PixelFiles()
    kept = without_copies(slices, lambda one, other: same_pixels(one, other, files))
    copies = len(slices) - len(kept) + sum(header.copies * len(header.frames) for header in whole.values())
    parts = part_slices(kept)
    pieces = pieces_of_one_stack(parts)
    uid = headers[0].series_uid
    uids = [uid] if len(parts) == 1 else [f"{uid}#{number}" for number in range(1, len(parts) + 1)]
    remarks = [f"slices of the series that were delivered twice with equal pixels: {copies}"] if copies else []
    series = []
    for number, part in enumerate(parts):
        part_problem = problem or (_piece() if number in pieces else None)
        ordered = [part[index] for index in slice_order([each.plane for each in part])]
        of_files = [whole[path] for path in dict.fromkeys(each.path for each in ordered)]
        lost, remark = _lost(ordered, of_files, parts)
        if any(header.is_inverted for header in of_files):
            remark = (*remark, "low values are its bright ones (MONOCHROME1): values are as they are stored")
        image = _image(ordered, of_files, uids[number], part_problem or lost)
        if image.grid is not None and len(parts) == 1:
            image, between = _checked_between(image, image.grid)
            remark = (*remark, *between)
        series.append(replace(image, remarks=(*remarks, *remark)))
    return series


def _slices(header: Header) -> list[Slice]:
    return [
        Slice(
            header.path, index, len(header.frames), frame, (header.columns, header.rows), header.frame_of_reference,
            header.instance_uid, header.instance_number,
        )
        for index, frame in enumerate(header.frames)
    ]  # fmt: skip


def _wrong_with_files(headers: list[Header], contradictory: set[str]) -> InvalidInput | None:
    damaged = sum(header.damaged for header in headers)
    twice = sum(header.instance_uid in contradictory for header in headers)
    if twice:
        return InvalidInput(
            f"expected one SOPInstanceUID for each file, got {twice} of {len(headers)} files that share theirs with a "
            "different file",
            "deliver each image once: remove the copy that was edited, truncated or filed under another patient",
            code="series.uid_conflict",
        )
    if damaged:
        message = f"expected whole files, got {damaged} of {len(headers)} that end too early"
        return InvalidInput(message, "copy the series again from its source", code="series.damaged")
    return None


def _piece() -> InvalidInput:
    return InvalidInput(
        "expected the slices of one stack to agree in direction, echo and kind of image, got a stack whose slices fall "
        "apart into images that lie in one another or continue one another",
        "export the series again as it was scanned, or choose another: half of the slices alone are not taken",
        code="series.pieces",
    )


def _lost(
    part: list[Slice], headers: list[Header], parts: list[list[Slice]]
) -> tuple[InvalidInput | None, tuple[str, ...]]:
    """What is missing at the ends: a remark, or a problem where it is more than a few slices."""
    is_original = part[0].frame.image_type[:1] == ("ORIGINAL",)  # others keep the counts of what they were made of
    expected, images = (
        max(counts) if is_original else 0
        for counts in zip(*((header.slices_expected, header.images_expected) for header in headers), strict=True)
    )
    lost, why = lost_ends(part, parts, expected)
    delivered = sum(map(len, parts))
    if lost <= 0 and images > delivered:
        lost, why = images - delivered, f"its header counts {images} images in the acquisition"
    if lost <= 0:
        return None, ()
    remark = f"slices that seem to be missing at an end: {lost} beside {len(part)} ({why})"
    is_counted = "header counts" in why
    if not is_counted or len(part) >= MIN_SHARE_OF_SLICES * (len(part) + lost) or (images and images % delivered == 0):
        return None, (remark,)
    return InvalidInput(
        f"expected all slices of the stack, got {len(part)}: {why}",
        "export the series again, all of its slices",
        code="series.incomplete",
    ), (remark,)


def _checked_between(image: Series, grid: Stack) -> tuple[Series, tuple[str, ...]]:
    """An even stack of which each second slice, or of more each first, may have been delivered alone."""
    missing, is_sure = left_out_between(image.slices, grid.step_mm)
    if not missing:
        return image, ()
    if not is_sure:
        return image, (f"slices that may be missing between each two of its {len(image.slices)}: {missing}",)
    problem = InvalidInput(
        f"expected all slices of the stack, got {len(image.slices)} with {missing} missing between each two, as their "
        "numbers and the distance in their headers show",
        "export the series again, all of its slices",
        code="series.incomplete",
    )
    return replace(image, problem=problem, grid=None), ()


def _image(part: list[Slice], headers: list[Header], uid: str, problem: InvalidInput | None) -> Series:
    planes = [each.plane for each in part]
    grid, uneven = None, None
    if problem is None and not all(header.is_grey for header in headers):
        problem = InvalidInput(
            "expected grey values, got an image in colours", "choose another series", code="series.colour"
        )
    if problem is None:
        try:
            grid = stack(planes)
        except InvalidInput as error:
            problem, uneven = error, _uneven(planes)
    first, step_mm = headers[0], 0.0 if grid is None else grid.step_mm
    x_mm, y_mm = planes[0].spacing_mm or (0.0, 0.0)
    acquired: dict[str, Any] = {each.name: getattr(first, each.name) for each in fields(Acquisition)}
    acquired["acquisition_time"] = min(filter(None, (header.acquisition_time for header in headers)), default="")
    return Series(
        uid, first.study_uid, first.patient_id, first.kind, first.frame_of_reference, first.series_number,
        first.date, first.contrast_agent, first.scanner, part[0].frame.image_type,
        tuple(header.path for header in headers), (first.columns, first.rows, len(planes)), (x_mm, y_mm, step_mm),
        problem, grid, uneven, tuple(part), **acquired,
    )  # fmt: skip


def _uneven(planes: list[Plane]) -> UnevenStack | None:
    try:
        return uneven_stack(planes)
    except InvalidInput:  # there is more to it than uneven steps
        return None


def read_series(
    series: Series, scratch: Path, *, may_be_uneven: bool = False, remarks: list[str] | None = None
) -> Volume:
    """Decode the series and place it where its headers say.

    Args:
        series: of index_delivery.
        scratch: an existing folder for temporary files, which are removed.
        may_be_uneven: interpolate slices at uneven steps to even ones, linearly, instead of refusing them.
        remarks: to which is added what is to be said of the pixels; series.remarks are not repeated.

    Raises:
        InvalidInput: series.problem is set; or ricenet.dicom.pixels.decode refuses it.
    """
    uneven = series.uneven if may_be_uneven else None
    problem = series.problem
    if problem is not None and uneven is None:
        raise InvalidInput(problem.message, problem.hint, code=problem.code)
    grid = series.grid if uneven is None else uneven.even
    assert grid is not None
    decoded = decode(series.slices, grid, scratch)
    if remarks is not None:
        remarks += decoded.remarks
    return decoded.volume if uneven is None else even_out(decoded.volume, uneven)


def is_same_image(one: Header, other: Header) -> bool:
    """Whether two files say the same of an image, as far as it is read, and hold the same pixels."""
    if one.damaged or not one.frames or replace(one, path=other.path, copies=other.copies) != other:
        return False
    files = PixelFiles()
    pairs = zip(_slices(one), _slices(other), strict=True)
    return all(same_pixels(first, second, files) for first, second in pairs)
