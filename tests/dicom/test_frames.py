"""What classic and enhanced headers say of each frame, in every place where they may say it."""

import io

import pydicom
import pytest
from helpers.dicom_objects import item
from pydicom.dataset import Dataset

from ricenet.dicom.frames import Frame, Rescale, number, numbers, read_frames, text, whole_number
from ricenet.dicom.part10 import quiet_pydicom

AXIAL = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def classic(**elements: object) -> Dataset:
    return item(
        ImagePositionPatient=[1.0, 2.0, 3.0],
        ImageOrientationPatient=AXIAL,
        PixelSpacing=[2.5, 1.5],
        ImageType=["ORIGINAL", "PRIMARY", "M"],
        **elements,
    )


def enhanced(*frames: dict[str, Dataset], shared: dict[str, Dataset] | None = None, **elements: object) -> Dataset:
    groups = [item(**{f"{name}Sequence": [group] for name, group in each.items()}) for each in (shared or {}, *frames)]
    return item(
        SharedFunctionalGroupsSequence=groups[:1],
        PerFrameFunctionalGroupsSequence=groups[1:],
        NumberOfFrames=len(frames),
        **elements,
    )


def written(dataset: Dataset, implicit: bool = False) -> Dataset:
    """As it comes from a file."""
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, implicit_vr=implicit, little_endian=True)
    return pydicom.dcmread(io.BytesIO(stream.getvalue()), force=True)


def test_a_classic_header_is_one_frame():
    (frame,) = read_frames(written(classic(EchoTime=3.1, TemporalPositionIdentifier=2, FlipAngle=9)))
    assert frame.plane.position_mm == (1, 2, 3)
    assert frame.plane.spacing_mm == (1.5, 2.5), "PixelSpacing is (rows, columns), ours x, y"
    assert (frame.image_type, frame.echo_time_ms, frame.temporal) == (("ORIGINAL", "PRIMARY", "M"), 3.1, 2)
    assert frame.rescale == Rescale()
    assert read_frames(classic(NumberOfFrames=3)) == read_frames(classic()) * 3
    assert read_frames(Dataset())[0].plane.is_placed is False


@pytest.mark.parametrize("shared", [True, False])
def test_groups_are_shared_or_of_each_frame(shared):
    said = {
        "PlaneOrientation": item(ImageOrientationPatient=AXIAL),
        "PixelMeasures": item(PixelSpacing=[2.5, 1.5]),
        "MREcho": item(EffectiveEchoTime=4.9),
        "MRImageFrameType": item(FrameType=["DERIVED", "PRIMARY", "DIXON", "WATER"], ComplexImageComponent="MIXED"),
        "PixelValueTransformation": item(RescaleSlope=2, RescaleIntercept=-5),
        "MRTimingAndRelatedParameters": item(FlipAngle=12.0),
        "MRModifier": item(InversionTimes=[900.0]),
    }
    positions = [{"PlanePosition": item(ImagePositionPatient=[0, 0, z])} for z in (0, 5)]
    if shared:
        image = enhanced(*positions, shared=said, ImageType=["ORIGINAL", "PRIMARY", "M", "MIXED"])
    else:
        image = enhanced(*({**position, **said} for position in positions))
    first, second = read_frames(written(image))
    assert first.plane.position_mm != second.plane.position_mm
    for frame in (first, second):
        assert frame.plane.is_placed
        assert frame.image_type == ("DERIVED", "PRIMARY", "DIXON", "WATER")
        assert (frame.echo_time_ms, frame.rescale) == (4.9, Rescale(2, -5))
        assert {"MIXED", 12.0, "900.0"} <= {*frame.contrasts, *frame.split_by}


def alone(**groups: Dataset) -> Frame:
    (frame,) = read_frames(written(enhanced(groups, DimensionIndexSequence=POINTERS)))
    return frame


POINTERS = [item(DimensionIndexPointer=pointer) for pointer in (0x00209056, 0x00209057, 0x00189073)]


@pytest.mark.parametrize(
    ("one", "other", "field"),
    [
        ({"MREcho": item(EffectiveEchoTime=3.0)}, {"MREcho": item(EffectiveEchoTime=6.0)}, "echo_time_ms"),
        (
            {"FrameContent": item(TemporalPositionIndex=1)},
            {"FrameContent": item(TemporalPositionIndex=2)},
            "temporal",
        ),
        (
            {"MRDiffusion": item(DiffusionBValue=0.0)},
            {"MRDiffusion": item(DiffusionBValue=1000.0)},
            "contrasts",
        ),
        (
            {"MRDiffusion": item(DiffusionGradientDirectionSequence=[item(DiffusionGradientOrientation=[1.0, 0, 0])])},
            {"MRDiffusion": item(DiffusionGradientDirectionSequence=[item(DiffusionGradientOrientation=[0, 1.0, 0])])},
            "contrasts",
        ),
        ({"FrameContent": item(StackID="1")}, {"FrameContent": item(StackID="2")}, "split_by"),
        (
            {"FrameContent": item(DimensionIndexValues=[1, 1, 1])},
            {"FrameContent": item(DimensionIndexValues=[1, 1, 2])},
            "split_by",
        ),
    ],
)  # fmt: skip
def test_what_tells_frames_apart(one, other, field):
    first, second = alone(**one), alone(**other)
    assert getattr(first, field) != getattr(second, field)
    assert first == alone(**one)


@pytest.mark.parametrize(("component", "added"), [("PHASE", ("PHASE",)), ("MAGNITUDE", ()), ("MIXED", ()), ("", ())])
def test_the_part_of_the_signal_stands_in_the_image_type(component, added):
    said = ["ORIGINAL", "PRIMARY", "M_FFE", "NONE"]
    frame = alone(MRImageFrameType=item(FrameType=said, ComplexImageComponent=component))
    assert frame.image_type == (*said, *added)
    assert read_frames(classic(ComplexImageComponent=component))[0].image_type == ("ORIGINAL", "PRIMARY", "M", *added)


def test_an_image_that_was_converted_from_classic_ones_says_it_as_they_did():
    converted = item(EchoTime=30.0, FlipAngle=9, TemporalPositionIdentifier=2)
    frame = alone(UnassignedPerFrameConvertedAttributes=converted)
    assert (frame.echo_time_ms, frame.temporal) == (30, 2)
    assert 9 in frame.split_by


def test_dimensions_of_place_tell_nothing_apart():
    frames = [
        alone(FrameContent=item(DimensionIndexValues=[1, place, 1], InStackPositionNumber=place)) for place in (1, 2)
    ]
    assert frames[0].split_by == frames[1].split_by
    assert [frame.position_in_stack for frame in frames] == [1, 2]


@pytest.mark.parametrize(
    ("elements", "rescale"),
    [
        ({}, Rescale()),
        ({"RescaleSlope": 2.5, "RescaleIntercept": -1}, Rescale(2.5, -1)),
        ({"RescaleSlope": 2.5}, Rescale(2.5)),
        ({"RescaleIntercept": 0}, Rescale()),
        ({"RescaleIntercept": 5}, None),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, None),
        ({"RescaleSlope": "two", "RescaleIntercept": 0}, None),
        ({"RescaleSlope": 2, "RescaleIntercept": "x"}, None),
        ({"ModalityLUTSequence": [item(LUTData=bytes(2))]}, None),
    ],
)
def test_rescale_of_a_classic_header(elements, rescale):
    dataset = classic()
    for keyword, value in elements.items():
        if isinstance(value, str):
            dataset[keyword] = pydicom.DataElement(keyword, "LO", value)
        else:
            setattr(dataset, keyword, value)
    assert read_frames(dataset)[0].rescale == rescale


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("creator", ["Philips MR Imaging DD 001", "SIEMENS MR HEADER"])
def test_a_scale_slope_counts_with_its_creator(implicit, creator):
    dataset = classic(RescaleSlope=2, RescaleIntercept=0)
    dataset.private_block(0x2005, creator, create=True).add_new(0x0E, "FL", 0.25)
    with quiet_pydicom():
        scale = read_frames(written(dataset, implicit))[0].rescale.scale_slope
    assert scale == (0.25 if "Philips" in creator else None)


def test_a_scale_slope_in_the_private_group_of_a_frame():
    private = Dataset()
    private.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 0.5)
    frame = item(PixelValueTransformationSequence=[item(RescaleSlope=3, RescaleIntercept=0)])
    frame.private_block(0x2005, "Philips MR Imaging DD 005", create=True)
    frame.add_new(0x2005140F, "SQ", [private])
    image = enhanced({})
    image.PerFrameFunctionalGroupsSequence = [frame]
    assert read_frames(written(image))[0].rescale == Rescale(3, 0, 0.5)


def test_values_are_read_or_are_not_there():
    dataset = classic(EchoTime=3.0)
    dataset["FlipAngle"] = pydicom.DataElement("FlipAngle", "LO", "SECRET")
    assert (number(dataset, "EchoTime"), number(dataset, "FlipAngle"), number(dataset, "Rows")) == (3, None, None)
    assert whole_number(dataset, "EchoTime") == 3
    assert numbers(dataset, "PixelSpacing", 3) is None
    assert text(dataset, "ImageType") == "ORIGINAL\\PRIMARY\\M"
    assert text(dataset, "Rows") == ""
