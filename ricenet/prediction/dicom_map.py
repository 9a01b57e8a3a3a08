"""The occlusion map of one case as a DICOM Parametric Map, for viewers that open no NIfTI: a map in; one file out.

What it shows is occlusion.nii.gz: the same float32 values at the same places. Of the patient it says the pseudonym, and
it refers to no image of the hospital. The same prediction gives the same bytes: its UIDs are hashes, its date is none.

Does not: fuse with the hospital's images by itself (its frame of reference has a UID of its own); compress, which the
standard has no codec for with floats.
"""

import hashlib
import importlib.util
import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, MRImageStorage, generate_uid

from ricenet import __version__
from ricenet.command.atomic import replace_file
from ricenet.errors import WrongUsage
from ricenet.explanation.case_map import SIGN
from ricenet.images.volume import Affine, Voxels

if TYPE_CHECKING:
    from highdicom import Volume
    from highdicom.pm import ParametricMap, RealWorldValueMapping

RESEARCH = "RESEARCH USE ONLY"
TITLE = f"{RESEARCH} - ricenet occlusion map"
SCHEME = "99RICENET"  # 99: of codes that no registry knows
QUANTITY = Code("PROBABILITY_DROP", SCHEME, "drop of the probability")
NO_UNIT = Code("1", "UCUM", "no units")
# The standard demands when the content was made. The real time would tell when somebody was examined, roughly, and make
# two files of one prediction; this one nobody takes for real.
NO_DATE, NO_TIME = "19000101", "000000"
SLICES_ROWS_COLUMNS = "FPL"  # towards which each index grows: axial slices as a radiologist reads them


def require_highdicom() -> None:
    """Check that highdicom is installed; call it before the first case.

    Raises:
        WrongUsage: it is not.
    """
    if importlib.util.find_spec("highdicom") is None:
        raise WrongUsage("the occlusion map as DICOM needs highdicom: pip install highdicom")


def write_parametric_map(
    path: Path,
    drop: Voxels,
    world_from_voxel: Affine,
    case_key: str,
    predicted: str,
    *,
    model_name: str,
    model_digest: str,
) -> None:
    """Write `path` in one step: same arguments, same bytes.

    Args:
        path: replaced only when the new file is complete.
        drop: (X, Y, Z) float32 within [-1, 1], of ricenet.occlusion.sensitivity.drop_map.
        world_from_voxel: (4, 4) RAS+ mm, axes at right angles.
        case_key: the pseudonym, which becomes PatientID and PatientName.
        predicted: the label whose probability drops.
        model_digest: of the model folder, 64 characters or fewer.

    Raises:
        WrongUsage: highdicom is not installed.
    """
    require_highdicom()
    logging.getLogger("highdicom").setLevel(logging.WARNING)  # it tells each attribute that it copies
    uids = _uids(drop, world_from_voxel, case_key, model_digest)
    volume = _axial(drop, world_from_voxel)
    image = _parametric_map(_source(volume, uids, case_key), volume, uids, predicted, model_digest)
    _remove_what_highdicom_made_up(image, uids)
    _describe(image, predicted, model_name, model_digest)
    content = io.BytesIO()
    image.save_as(content, enforce_file_format=True)
    replace_file(path, content.getvalue())


def _uids(drop: Voxels, world_from_voxel: Affine, case_key: str, model_digest: str) -> dict[str, UID]:
    """By attribute. A study is a case and a model; a UID below it stands for one map only, whatever the settings."""
    study = [case_key, model_digest]
    grid = [*study, world_from_voxel.astype("<f8").tobytes().hex()]
    content = [*grid, str(drop.shape), hashlib.sha256(drop.astype("<f4").tobytes()).hexdigest()]
    sources = {
        "StudyInstanceUID": study,
        "FrameOfReferenceUID": grid,
        "SeriesInstanceUID": content,
        "SOPInstanceUID": content,
        "DimensionOrganizationUID": content,
    }
    return {keyword: generate_uid(entropy_srcs=[keyword, *source]) for keyword, source in sources.items()}


def _axial(drop: Voxels, world_from_voxel: Affine) -> "Volume":
    """Slices, rows, columns; highdicom turns RAS+ into LPS+ and keeps each voxel in its place."""
    from highdicom import Volume

    volume = Volume(drop, world_from_voxel, "PATIENT", from_reference_convention="RAS")
    return volume.to_patient_orientation(SLICES_ROWS_COLUMNS)


def _source(volume: "Volume", uids: dict[str, UID], case_key: str) -> Dataset:
    """What highdicom copies patient, study and frame from; no such image exists, and the map will not refer to it."""
    source = Dataset()
    source.SOPClassUID = MRImageStorage
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        setattr(source, keyword, uids[keyword])
    source.PatientID = case_key
    source.PatientName = source.PatientBirthDate = source.PatientSex = ""
    source.StudyDate = source.StudyTime = source.StudyID = source.AccessionNumber = source.ReferringPhysicianName = ""
    source.PatientIdentityRemoved = "YES"
    source.DeidentificationMethod = "made from voxels and a pseudonym; no source attribute is kept"
    # The map's own planes: where they are nearly the source's, highdicom writes the source's, slice thickness included.
    _, source.Rows, source.Columns = volume.spatial_shape
    source.ImagePositionPatient = volume.get_plane_position(0)[0].ImagePositionPatient
    source.ImageOrientationPatient = volume.get_plane_orientation()[0].ImageOrientationPatient
    source.update(volume.get_pixel_measures()[0])
    return source


def _parametric_map(
    source: Dataset, volume: "Volume", uids: dict[str, UID], predicted: str, model_digest: str
) -> "ParametricMap":
    from highdicom import VOILUTTransformation
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.pm import ParametricMap

    largest = float(np.abs(volume.array).max()) or 1.0  # a window needs a width
    return ParametricMap(
        source_images=[source],
        pixel_array=volume,
        series_instance_uid=uids["SeriesInstanceUID"],
        series_number=1,
        sop_instance_uid=uids["SOPInstanceUID"],
        instance_number=1,
        manufacturer="ricenet",
        manufacturer_model_name="ricenet",
        software_versions=__version__,
        device_serial_number=model_digest,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(predicted)],
        # The plain LINEAR is not allowed a width below 1.
        voi_lut_transformations=[VOILUTTransformation(0.0, 2 * largest, voi_lut_function="LINEAR_EXACT")],
        content_description=TITLE,
        content_label="OCCLUSION",
        content_qualification="RESEARCH",
        series_description=TITLE,
        content_date=NO_DATE,
        content_time=NO_TIME,
        specific_character_set="ISO_IR 192",
        coding_schemes=[
            CodingSchemeIdentificationItem(SCHEME, name="ricenet codes", responsible_organization="ricenet")
        ],
    )


def _mapping(predicted: str) -> "RealWorldValueMapping":
    from highdicom.pm import RealWorldValueMapping

    explanation = f"drop of the probability of {predicted}"  # at most 64 characters
    return RealWorldValueMapping("DROP", explanation, NO_UNIT, (-1.0, 1.0), 1.0, 0.0, quantity_definition=QUANTITY)


def _describe(image: Dataset, predicted: str, model_name: str, model_digest: str) -> None:
    image.ImageComments = (
        f"{RESEARCH}. Not for diagnosis or treatment. A voxel says by how much the probability of the prediction, "
        f"{predicted}, drops when a cube around it is blanked in all channels. Sign: {SIGN}. Zero: no difference, or "
        "never blanked. Frame: that of occlusion.nii.gz."
    )
    image.DerivationDescription = (
        f"{RESEARCH}. Occlusion sensitivity of the mean probability of an ensemble, mean over the cubes that cover a "
        f"voxel. Model {model_name}, {model_digest}."
    )
    image.PatientName = image.PatientID  # here, since highdicom warns of a name that has one part
    image.BodyPartExamined = "BRAIN"  # no paired organ, else the standard would want a side
    image.LongitudinalTemporalInformationModified = "REMOVED"  # says what the neutral date is


def _remove_what_highdicom_made_up(image: Dataset, uids: dict[str, UID]) -> None:
    """The present time, random UIDs, and references to the source that does not exist."""
    del image.InstanceCreationDate, image.InstanceCreationTime
    del image.SourceImageSequence, image.ReferencedSeriesSequence
    for equipment in image.ContributingEquipmentSequence:
        del equipment.ContributionDateTime
    for frame in image.PerFrameFunctionalGroupsSequence:
        frame.DerivationImageSequence = []
    for item in (*image.DimensionOrganizationSequence, *image.DimensionIndexSequence):
        item.DimensionOrganizationUID = uids["DimensionOrganizationUID"]
