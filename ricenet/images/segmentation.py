"""Read a DICOM SEG of one segment as a mask: 0 to 1, RAS+ mm. Needs highdicom, which is optional.

Frames that a writer left out because they are empty are empty here. Does not: choose among segments, whose names are
free text; read RTSTRUCT (ricenet.delivery.rtstruct).
"""

import importlib.util
import logging
import warnings
from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from ricenet.errors import InvalidInput
from ricenet.images.volume import Volume

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
EXPORT_AGAIN = "export the segmentation again, or give the mask as NIfTI"


def is_dicom(path: Path) -> bool:
    """Whether a file begins as a DICOM file does."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_segmentation(path: Path) -> Volume:
    """Read a DICOM SEG: binary, fractional or label map.

    Args:
        path: never appears in a message.

    Raises:
        InvalidInput: damaged, another kind of object, several segments, or no regular stack of slices; or highdicom is
            not installed.
    """
    if importlib.util.find_spec("highdicom") is None:
        raise InvalidInput(
            "reading a DICOM SEG needs highdicom, which is not installed",
            "pip install highdicom, or give the mask as NIfTI",
            code="segmentation.package",
        )
    import highdicom
    import pydicom

    logging.getLogger("highdicom").setLevel(logging.ERROR)
    try:
        with pydicom.config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's quote headers
            segmentation = highdicom.seg.segread(path)
            segments = [int(number) for number in segmentation.segment_numbers]  # without a label map's background
            volume = segmentation.get_volume(segment_numbers=segments) if len(segments) == 1 else None
    except Exception as error:  # highdicom and pydicom raise nearly anything on what is damaged or another object
        raise InvalidInput(
            f"expected an intact DICOM SEG of evenly spaced slices, got another object ({type(error).__name__})",
            EXPORT_AGAIN,
            code="segmentation.damaged",
        ) from None
    if volume is None:
        raise InvalidInput(
            f"expected a DICOM SEG of one segment, got {len(segments)}",
            "export the lesion alone, or give its mask as NIfTI",
            code="segmentation.segments",
        )
    voxels = np.asarray(volume.array, dtype=np.float32).reshape(volume.array.shape[:3])
    affine = RAS_FROM_LPS @ volume.affine
    orientation = io_orientation(affine)
    return Volume(
        np.ascontiguousarray(apply_orientation(voxels, orientation)),
        affine @ inv_ornt_aff(orientation, voxels.shape),
    )
