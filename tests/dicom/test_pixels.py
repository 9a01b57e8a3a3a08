"""Values are those of each slice's own header, whatever else the headers hold that a converter trips over.

The truth is pydicom's pixel_array and apply_modality_lut, slice by slice.
"""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom_objects import decimal, enhanced_mr, item
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import apply_modality_lut
from pydicom.uid import JPEG2000Lossless, RLELossless, generate_uid

from ricenet.delivery.series import index_delivery
from ricenet.dicom.image_series import read_series
from ricenet.dicom.part10 import quiet_pydicom
from ricenet.dicom.pixels import _remarks
from ricenet.errors import InvalidInput
from ricenet.phantoms.hospital import write_series

SHAPE = (12, 10, 9)
HEADERS = {"PatientID": "SECRET", "SeriesInstanceUID": "1.2.3", "FrameOfReferenceUID": "1.2.4", "SeriesNumber": 1}


@pytest.fixture
def slices(tmp_path) -> list[Dataset]:
    """Of one series, from the feet up; each has its path as `filename`."""
    voxels = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    paths = write_series(tmp_path / "series", voxels, np.diag([-1.0, -1, 2, 1]), "MR", HEADERS)
    datasets = [pydicom.dcmread(path) for path in paths]
    return sorted(datasets, key=lambda dataset: dataset.ImagePositionPatient[2])


def put(dataset: Dataset, pixels: np.ndarray, stored: int = 16, **elements: object) -> None:
    dataset.PixelData = pixels.tobytes()
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * pixels.itemsize, stored, stored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)


def read(slices: list[Dataset], scratch: Path, remarks: list[str] | None = None) -> np.ndarray:
    """(slices, rows, columns) as the headers order them."""
    for dataset in slices:
        dataset.save_as(dataset.filename)
    (series,) = index_delivery(scratch / "series").patients["SECRET"].series
    voxels = read_series(series, scratch, remarks=remarks).voxels
    assert not list(scratch.glob(".series-*"))
    return voxels[::-1, ::-1].transpose(2, 1, 0)  # of LPS voxels, which write_series was given


def truth(slices: list[Dataset]) -> np.ndarray:
    return np.stack([apply_modality_lut(dataset.pixel_array, dataset) for dataset in slices]).astype(np.float32)


DTYPES = {"<u2": (0, 2**16), "<i2": (-(2**15), 2**15), "<i4": (-(2**23), 2**23), "u1": (0, 2**8), "i1": (-(2**7), 2**7)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rescale", ["none", "one", "by slice", "of some slices"])
def test_values_are_those_of_each_slice(tmp_path, slices, dtype, rescale):
    rng, remarks = np.random.default_rng(1), []
    for number, dataset in enumerate(slices):
        put(dataset, rng.integers(*DTYPES[dtype], SHAPE[1::-1]).astype(dtype), np.dtype(dtype).itemsize * 8)
        if rescale == "one":
            dataset.RescaleSlope, dataset.RescaleIntercept = 2.5, -7
        elif rescale == "by slice" or (rescale == "of some slices" and number % 2):
            dataset.RescaleSlope, dataset.RescaleIntercept = decimal(1 + 0.213 * number), number - 3
    np.testing.assert_allclose(read(slices, tmp_path, remarks), truth(slices), rtol=1e-6)
    assert [remark.partition(":")[0] for remark in remarks] == (
        ["rescale slope or intercept varies by slice"] if rescale in ("by slice", "of some slices") else []
    )


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_varying_slopes_of_compressed_slices(tmp_path, slices, syntax):
    if syntax == JPEG2000Lossless:
        one = pydicom.dcmread(pydicom.data.get_testdata_file("MR_small_jp2klossless.dcm", download=False))
        plain = pydicom.dcmread(pydicom.data.get_testdata_file("MR_small.dcm", download=False)).pixel_array
    expected = []
    for number, dataset in enumerate(slices):
        slope = 1 + number / 4
        if syntax == RLELossless:
            expected.append(dataset.pixel_array * slope)
            dataset.compress(RLELossless)
        else:
            expected.append(plain * slope)
            dataset.file_meta.TransferSyntaxUID = syntax
            for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
                setattr(dataset, keyword, one[keyword].value)
            dataset.PixelData = one.PixelData
            dataset["PixelData"].is_undefined_length = True
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, 0
    np.testing.assert_allclose(read(slices, tmp_path), np.stack(expected), rtol=1e-6)


@pytest.mark.parametrize("where", ["plane of its own", "unused high bits"])
def test_a_drawn_overlay_is_no_part_of_the_image(tmp_path, slices, where):
    expected = truth(slices)
    for dataset in slices:
        dataset.add_new(0x60000010, "US", dataset.Rows)
        dataset.add_new(0x60000011, "US", dataset.Columns)
        dataset.add_new(0x60000040, "CS", "G")
        dataset.add_new(0x60000050, "SS", [1, 1])
        in_pixels = where == "unused high bits"
        dataset.add_new(0x60000100, "US", 16 if in_pixels else 1)
        dataset.add_new(0x60000102, "US", 12 if in_pixels else 0)
        if in_pixels:
            put(dataset, dataset.pixel_array.astype("<u2") | 0x1000, stored=12)
        else:
            dataset.add_new(0x60003000, "OW", bytes([255] * 16))
    np.testing.assert_array_equal(read(slices, tmp_path), expected)


def philips(dataset: Dataset, slope: float, scale_slope: float) -> None:
    block = dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
    block.add_new(0x0E, "FL", scale_slope)
    dataset.RescaleSlope, dataset.RescaleIntercept = decimal(slope), 0


def test_philips_scale_slopes_that_vary_with_the_display_give_what_was_measured(tmp_path, slices):
    measured = np.stack([dataset.pixel_array.astype(np.float64) for dataset in slices]) * 3
    remarks = []
    for number, (dataset, values) in enumerate(zip(slices, measured, strict=True)):
        scale = 0.2 + 0.05 * number
        put(dataset, (values * scale).round().astype("<u2"))
        philips(dataset, slope=1 + 0.3 * number, scale_slope=scale)
    assert abs(truth(slices) / measured.clip(1) - 1).max() > 1, "as displayed, slices differ in scale"
    np.testing.assert_allclose(read(slices, tmp_path, remarks), measured, atol=0.5 / 0.2)
    assert len(remarks) == 1
    assert "Philips" in remarks[0]


@pytest.mark.parametrize("slope", [2.0, "by slice"])
def test_philips_values_are_the_standards_where_display_and_measurement_agree(tmp_path, slices, slope):
    for number, dataset in enumerate(slices):
        own = 1 + 0.1 * number if slope == "by slice" else slope
        philips(dataset, slope=own, scale_slope=0.5 / own)
    np.testing.assert_allclose(read(slices, tmp_path), truth(slices), rtol=1e-6)


@pytest.mark.parametrize(
    "elements",
    [
        {"RescaleSlope": 0, "RescaleIntercept": 0},
        {"RescaleSlope": "2", "RescaleIntercept": "7" * 12},
        {"ModalityLUTSequence": [item(LUTDescriptor=[2, 0, 16], LUTData=bytes(4))]},
    ],
)
def test_a_rescale_that_cannot_be_applied_is_refused(tmp_path, slices, elements):
    for keyword, value in elements.items():
        setattr(slices[4], keyword, value)
    with pytest.raises(InvalidInput, match="1 of 9") as caught:
        read(slices, tmp_path)
    assert caught.value.code == "series.rescale"


def test_what_dcm2niix_makes_of_diffusion_and_echoes_is_not_asked(tmp_path, slices):
    """A diffusion weight makes it write .bval and .bvec, echo times of alternate slices a second volume."""
    expected = truth(slices)
    for number, dataset in enumerate(slices):
        dataset.Manufacturer = "SIEMENS"
        dataset.DiffusionBValue, dataset.DiffusionGradientOrientation = 1000.0, [0.0, 0.0, 1.0]
        dataset.EchoTime = 3.0 if number % 2 else 3.01
        block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0C, "IS", "1000")
    np.testing.assert_array_equal(read(slices, tmp_path), expected)


def test_a_file_that_is_longer_when_inflated_than_its_header_says(tmp_path, slices, monkeypatch):
    monkeypatch.setattr("ricenet.dicom.pixels.HEADER_BYTES", 2**12)
    for dataset in slices:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    slices[3].PixelData += bytes(2**16)
    with pytest.raises(InvalidInput, match="a longer one") as caught:
        read(slices, tmp_path)
    assert caught.value.code == "series.conversion"


def test_deflated_slices(tmp_path, slices):
    expected = truth(slices)
    for dataset in slices:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    np.testing.assert_array_equal(read(slices, tmp_path), expected)


def test_values_that_no_volume_holds(tmp_path, slices):
    for dataset in slices:
        put(dataset, np.full(SHAPE[1::-1], 2**31 + 5, "<u4"), 32)
    with pytest.raises(InvalidInput, match="31 bits") as caught:
        read(slices, tmp_path)
    assert caught.value.code == "series.conversion"


def test_what_dcm2niix_says_is_counted_and_never_repeated():
    usual = "Warning: Unable to determine manufacturer (0008,0070), so conversion is not tuned for vendor.\nConvert 9\n"
    assert _remarks(usual) == ()
    (remark,) = _remarks(usual + "Warning: SECRET is odd\n" * 2)
    assert "2 warnings" in remark
    assert "SECRET" not in remark
    for said in ("Error: SECRET", "Warning: Variance of DICOM slope/intercept is being ignored SECRET"):
        with pytest.raises(InvalidInput) as caught:
            _remarks(usual + said)
        assert caught.value.code == "series.conversion"
        assert "SECRET" not in str(caught.value)


def test_elements_that_can_only_have_one_value_may_be_missing(tmp_path, slices):
    expected = truth(slices)
    for dataset in slices:
        for keyword in ("SamplesPerPixel", "PhotometricInterpretation", "BitsStored", "HighBit"):
            delattr(dataset, keyword)
    np.testing.assert_array_equal(read(slices, tmp_path), expected)
    for dataset in slices:
        del dataset.PixelRepresentation  # whether values below 0 are meant, nothing says
    with pytest.raises(InvalidInput) as caught:
        read(slices, tmp_path)
    assert caught.value.code == "series.conversion"


def test_frames_of_a_compressed_enhanced_object(tmp_path, slices):
    """Two images in one object, each of its frames a JPEG 2000 of its own; slopes vary by frame."""
    one, plain = (
        pydicom.dcmread(pydicom.data.get_testdata_file(f"MR_small{name}.dcm", download=False))
        for name in ("_jp2klossless", "")
    )
    frames = []
    for number, dataset in enumerate(slices):
        for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
            setattr(dataset, keyword, plain[keyword].value)
        dataset.PixelData = plain.PixelData
        frames += [(dataset, {"frame_type": kind, "slope": 1 + number + 10 * (kind == "P")}) for kind in ("M", "P")]
    (tmp_path / "enhanced").mkdir()
    path = enhanced_mr(frames, tmp_path / "enhanced" / "file")
    image = pydicom.dcmread(path)
    image.PixelData = encapsulate([get_frame(one.PixelData, 0, number_of_frames=1)] * len(frames))
    image["PixelData"].is_undefined_length = True
    image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    image.save_as(path)
    for series, offset in zip(index_delivery(tmp_path / "enhanced").patients["SECRET"].series, (0, 10), strict=True):
        voxels = read_series(series, tmp_path).voxels[::-1, ::-1].transpose(2, 1, 0)
        expected = [plain.pixel_array * (1.0 + number + offset) for number in range(len(slices))]
        np.testing.assert_array_equal(voxels, np.stack(expected))


def test_uids_of_slices_do_not_matter(tmp_path, slices):
    """dcm2niix sees none of them; two files with one UID are another matter (ricenet.delivery.series)."""
    expected = truth(slices)
    for dataset in slices:
        dataset.StudyInstanceUID = generate_uid()
    with quiet_pydicom():
        np.testing.assert_array_equal(read(slices, tmp_path), expected)
