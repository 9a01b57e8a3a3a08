"""What the header of a DICOM image says of each of its frames: place, kind of image, and what stored values mean.

A classic image is one frame; an enhanced one holds many, and says of each in functional groups, or of all together,
what a classic header says of its one. Nothing here reads pixels. Frame: LPS mm.
"""

import struct
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from ricenet.dicom.slice_stack import Plane

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
# Of an enhanced image that was made of classic ones, what has no other place.
CONVERTED = ("UnassignedPerFrameConvertedAttributesSequence", "UnassignedSharedConvertedAttributesSequence")
PHILIPS_CREATOR, PHILIPS_SCALE_SLOPE = Tag(0x2005, 0x0010), Tag(0x2005, 0x100E)
PHILIPS_FRAME_GROUP = Tag(0x2005, 0x140F)
# Of one image or frame; what an enhanced image says of all frames together stands in the same places.
KEYWORDS = (
    SHARED, PER_FRAME, "DimensionIndexSequence", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "NumberOfFrames", "ImageType", "ComplexImageComponent", "EchoTime", "TemporalPositionIdentifier", "FlipAngle",
    "InversionTime", "DiffusionBValue", "DiffusionGradientOrientation", "RescaleSlope", "RescaleIntercept",
    "ModalityLUTSequence", "SpacingBetweenSlices", "SliceThickness",
)  # fmt: skip
FRAME_TAGS = (*(Tag(keyword) for keyword in KEYWORDS), PHILIPS_CREATOR, PHILIPS_SCALE_SLOPE)
COMPONENT, PARTS_OF_SIGNAL = "ComplexImageComponent", ("PHASE", "REAL", "IMAGINARY")
NOTHING = Dataset()  # of a group that is not there; never written to
POSITION_POINTERS = {
    Tag(keyword)
    for keyword in (
        "StackID", "InStackPositionNumber", "ImagePositionPatient", "ImageOrientationPatient", "FrameAcquisitionNumber",
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rescale:
    """What a stored value means: value = stored * slope + intercept.

    Attributes:
        scale_slope: Philips': value / (slope * scale_slope) is what was measured, alike in all images of a scan.
    """

    slope: float = 1.0
    intercept: float = 0.0
    scale_slope: float | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice, as its header describes it.

    Attributes:
        plane: where it lies.
        image_type: of the frame, where an enhanced image says it frame by frame; with PHASE, REAL or IMAGINARY where it
            says so elsewhere.
        echo_time_ms: None where the header does not say.
        temporal: number of its time point; None where the header does not say.
        contrasts: what else makes another image: magnitude or phase, diffusion weight and direction.
        split_by: what makes another image at the same place, and at other places may vary within one: stack, flip
            angle, inversion times, and the dimensions that an enhanced image counts.
        position_in_stack: counted from 1; 0 where the header does not say.
        rescale: None where the header says it in a way that cannot be read.
        spacing_between_mm: between slices, as the header says; 0 where it does not, as the next.
        thickness_mm: of a slice.
    """

    plane: Plane
    image_type: tuple[str, ...] = ()
    echo_time_ms: float | None = None
    temporal: float | None = None
    contrasts: tuple = ()
    split_by: tuple = ()
    position_in_stack: int = 0
    rescale: Rescale | None = Rescale()
    spacing_between_mm: float = 0.0
    thickness_mm: float = 0.0


def read_frames(dataset: Dataset) -> tuple[Frame, ...]:
    """The frames of an image, in the order of its pixels; an enhanced image describes each of them."""
    count = whole_number(dataset, "NumberOfFrames") or 1
    if PER_FRAME not in dataset:
        return (_frame(_Groups(dataset)),) * count
    items = dataset[PER_FRAME].value
    shared = (dataset.get(SHARED) or [Dataset()])[0]
    pointers = [item.get("DimensionIndexPointer") for item in dataset.get("DimensionIndexSequence") or []]
    counted = [number for number, pointer in enumerate(pointers) if pointer not in POSITION_POINTERS]
    return tuple(_frame(_Groups(dataset, item, shared), counted) for item in items)


def functional_groups(dataset: Dataset, keyword: str) -> Iterator[Dataset]:
    """A functional group of an enhanced image: what all its frames share, then each frame's own."""
    for sequence in (SHARED, PER_FRAME):
        for item in dataset.get(sequence) or []:
            yield from item.get(keyword) or []


class _Groups:
    """Where one frame says what: in its own functional groups, those of all frames, or the image's header."""

    def __init__(self, dataset: Dataset, *items: Dataset) -> None:
        self.dataset, self.items = dataset, items

    def __call__(self, keyword: str) -> Dataset:
        return next((item[keyword].value[0] for item in self.items if item.get(keyword)), NOTHING)

    def classic_number(self, keyword: str) -> float | None:
        """What a classic header says, or the one from which a frame was converted."""
        return next((value for each in self._classic() if (value := number(each, keyword)) is not None), None)

    def classic_text(self, keyword: str) -> str:
        """What a classic header says, or the one from which a frame was converted."""
        return next((value for each in self._classic() if (value := text(each, keyword))), "")

    def _classic(self) -> tuple[Dataset, ...]:
        if not self.items:
            return (self.dataset,)
        return (*(self(sequence) for sequence in CONVERTED), self.dataset)

    def holding(self, group: str, keyword: str) -> Dataset:
        """The group where it has the element, else the image's header."""
        item = self(group)
        return item if item is not NOTHING and keyword in item else self.dataset


def _frame(groups: _Groups, counted: Sequence[int] = ()) -> Frame:
    content = groups("FrameContentSequence")
    types = groups("MRImageFrameTypeSequence") or groups("CTImageFrameTypeSequence")
    temporal = number(content, "TemporalPositionIndex")
    echo = number(groups("MREchoSequence"), "EffectiveEchoTime")
    indices = [int(value) for value in content.get("DimensionIndexValues") or []]
    return Frame(
        _plane(groups),
        _one(_image_type(groups, types)),
        groups.classic_number("EchoTime") if echo is None else echo,
        groups.classic_number("TemporalPositionIdentifier") if temporal is None else temporal,
        _one(_contrasts(groups)),
        _one(_split_by(groups, [indices[place] for place in counted if place < len(indices)])),
        whole_number(content, "InStackPositionNumber") or 0,
        _one(_rescale(groups)),
        *(
            abs(number(groups.holding("PixelMeasuresSequence", keyword), keyword) or 0.0)
            for keyword in ("SpacingBetweenSlices", "SliceThickness")
        ),
    )


@lru_cache(maxsize=4096)
def _one(value: Any) -> Any:
    """The value that was read first of those that are equal: a delivery has a million frames, and few kinds of them."""
    return value


def _split_by(groups: _Groups, indices: Sequence[int]) -> tuple:
    modifier, timing = groups("MRModifierSequence"), groups("MRTimingAndRelatedParametersSequence")
    return (
        text(groups("FrameContentSequence"), "StackID"),
        number(timing, "FlipAngle") or groups.classic_number("FlipAngle"),
        text(modifier, "InversionTimes") or groups.classic_number("InversionTime"),
        *indices,
    )


def _component(groups: _Groups) -> str:
    return text(groups("MRImageFrameTypeSequence"), COMPONENT) or groups.classic_text(COMPONENT)


def _image_type(groups: _Groups, types: Dataset) -> tuple[str, ...]:
    values = tuple((text(types, "FrameType") or groups.classic_text("ImageType")).split("\\"))
    component = _component(groups)
    return (*values, component) if component in PARTS_OF_SIGNAL and component not in values else values


def _plane(groups: _Groups) -> Plane:
    position = groups.holding("PlanePositionSequence", "ImagePositionPatient")
    orientation = groups.holding("PlaneOrientationSequence", "ImageOrientationPatient")
    measures = groups.holding("PixelMeasuresSequence", "PixelSpacing")
    return Plane(
        _one(numbers(orientation, "ImageOrientationPatient", 6)),
        numbers(position, "ImagePositionPatient", 3),
        _one(_spacing(measures)),
    )


def _spacing(dataset: Dataset) -> tuple[float, ...] | None:
    """DICOM gives the step between rows (y) first."""
    rows_columns = numbers(dataset, "PixelSpacing", 2)
    return None if rows_columns is None or min(rows_columns) <= 0 else rows_columns[::-1]


def _contrasts(groups: _Groups) -> tuple:
    diffusion = groups("MRDiffusionSequence") or groups.dataset
    direction = (diffusion.get("DiffusionGradientDirectionSequence") or [groups.dataset])[0]
    return (
        _component(groups),
        number(diffusion, "DiffusionBValue"),
        numbers(direction, "DiffusionGradientOrientation", 3),
    )


def _rescale(groups: _Groups) -> Rescale | None:
    dataset = groups.holding("PixelValueTransformationSequence", "RescaleSlope")
    table = groups.holding("PixelValueTransformationSequence", "ModalityLUTSequence").get("ModalityLUTSequence")
    slope, intercept = (number(dataset, keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    if slope is None and not text(dataset, "RescaleSlope") and not intercept:
        slope = 1.0
    if not slope or table or (intercept is None and text(dataset, "RescaleIntercept")):
        return None
    return Rescale(slope, intercept or 0.0, _scale_slope(groups))


def _scale_slope(groups: _Groups) -> float | None:
    """Philips' private element, of the frame or of the image."""
    private = [item[PHILIPS_FRAME_GROUP].value for item in groups.items if PHILIPS_FRAME_GROUP in item]
    private = [sequence for sequence in private if isinstance(sequence, MutableSequence) and sequence]
    for dataset in (*(sequence[0] for sequence in private), groups.dataset):
        if PHILIPS_SCALE_SLOPE not in dataset or PHILIPS_CREATOR not in dataset:
            continue
        if not str(dataset[PHILIPS_CREATOR].value).lower().startswith("philips"):
            continue
        value = dataset[PHILIPS_SCALE_SLOPE].value
        if isinstance(value, bytes) and len(value) == 4:  # implicit, and pydicom does not know its type
            value = struct.unpack("<f", value)[0]
        try:
            return float(value) or None
        except (TypeError, ValueError):
            return None
    return None


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """`count` numbers of an element; None where they are not there, or not numbers."""
    try:
        values = tuple(float(value) for value in dataset[keyword].value)
    except (KeyError, TypeError, ValueError):
        return None
    return values if len(values) == count and all(abs(value) < 1e6 for value in values) else None


def number(dataset: Dataset, keyword: str) -> float | None:
    """One number, where there is one: free text in a field that is not needed spoils no image."""
    if dataset is NOTHING:
        return None
    try:
        value = float(dataset[keyword].value)
    except (KeyError, TypeError, ValueError):
        return None
    return value if abs(value) < 1e9 else None


def whole_number(dataset: Dataset, keyword: str) -> int | None:
    """One number, without its fraction."""
    value = number(dataset, keyword)
    return None if value is None else int(value)


def text(dataset: Dataset, keyword: str) -> str:
    r"""An element as text, several values with \ between them; "" where it is not there."""
    value = None if dataset is NOTHING else dataset.get(keyword)
    if value is None:
        return ""
    parts = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else value
    return "\\".join(str(part) for part in parts).strip()
