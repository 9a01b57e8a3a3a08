"""case.json: what a case folder holds, how it was made, and the numbers by which its registration is judged."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ricenet.cohort.ready_cases import ReadyCase
from ricenet.command.records import Record
from ricenet.command.schemas import MAX_CROP_MM
from ricenet.errors import InvalidInput, about

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CASE_FILE = "case.json"
CHECKS_FILE = "checks.json"

Row = tuple[float, float, float, float]
Matrix = tuple[Row, Row, Row, Row]
Parameter = bool | int | float | str | None


class StructureNumbers(Record):
    """A mask of structures.npz.

    Attributes:
        frame_of: role of the image in whose frame it was given.
        ml: its volume as it was given.
        grid_ml: on the grid; far from `ml` where it is small for the grid, or leaves it.
        in_brain: share of it that lies in the brain; None where the grid has no voxel of it.
    """

    frame_of: str
    ml: float
    grid_ml: float
    in_brain: float | None


class LesionPlace(Record):
    """Where on the grid a case's lesion is taken to be: the place around which a crop is taken.

    Attributes:
        source: how it was found. `mask`: middle of the user's lesion mask. `difference`, `event`: where the event MRI
            minus the post-OP MRI, or the event MRI alone, is brightest (ricenet.images.enhancement). `none`: nowhere
            is it bright enough, it is the middle of the brain. `random`: a voxel of the brain, drawn for the case.
        voxel: in fractions of voxels.
        contrast: of the brightest place, in SD of the brain; None where none was looked for.
    """

    source: Literal["mask", "difference", "event", "none", "random"]
    voxel: tuple[float, float, float]
    contrast: float | None = None


class Crop(Record):
    """What of a volume a network sees (ricenet.cases.crop).

    Attributes:
        at: `lesion`, or `random`, a place in the brain.
        size_mm: edge of the cube.
    """

    at: Literal["lesion", "random"]
    size_mm: Annotated[float, Field(gt=0, le=MAX_CROP_MM, allow_inf_nan=False, strict=True)]

    def voxels(self, spacing_mm: float) -> int:
        """The cube's edge in voxels: even, at least 2."""
        return 2 * max(1, round(self.size_mm / spacing_mm / 2))

    def in_words(self) -> str:
        """`a cube of 96 mm around the lesion`."""
        place = "the lesion" if self.at == "lesion" else "a random place in the brain"
        return f"a cube of {self.size_mm:g} mm around {place}"


class CaseRecord(Record):
    """The record of one case folder, written last: a folder without it is not finished.

    Attributes:
        version: of the preprocessing; 1 where a phantom was drawn on the grid directly.
        case_key: pseudonym of the case.
        channels: of volume.npy, in its order.
        world_from_voxel: (4, 4), RAS+ mm, of the grid that all channels share.
        spacing_mm: edge length of its cubic voxels.
        dose_scale_gy: what the channel rd was divided by; None where there is no dose, or none in Gy.
        inputs: SHA-256 of each file that was read, by role; empty for a phantom.
        parameters: the settings that decided the content; empty where an older version did not say.
        transforms: (4, 4) world maps, `<role>_from_<reference>`.
        qc: the numbers of qc.csv.
        structures: of the masks in structures.npz, by name; only where the case has some.
        brains: by MRI, only with brain=auto: `hdbet` (the brain that HD-BET found), `stripped` (the image came without
            a skull and was taken as it is), `head` (it has a skull, its brain is not used).
        lesion: its place by what it was looked for in: `mask`, `difference`, `event`, as far as the case has them;
            empty where an older version made the folder (ricenet.cases.crop finds it then).
    """

    version: int
    case_key: str
    channels: tuple[str, ...]
    world_from_voxel: Matrix
    spacing_mm: float
    dose_scale_gy: float | None
    inputs: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, Parameter] = Field(default_factory=dict)
    transforms: dict[str, Matrix] = Field(default_factory=dict)
    qc: dict[str, float] = Field(default_factory=dict)
    structures: dict[str, StructureNumbers] = Field(default_factory=dict)
    brains: dict[str, str] = Field(default_factory=dict)
    lesion: dict[str, LesionPlace] = Field(default_factory=dict)

    @property
    def affine(self) -> "NDArray[np.float64]":
        """`world_from_voxel` as a (4, 4) array."""
        import numpy as np  # here: status reads records, and starts without it

        return np.array(self.world_from_voxel, dtype=np.float64)


class CaseChecks(Record):
    """checks.json: what was found of a case that decides nothing in it; apart, because runs know case.json's bytes.

    Attributes:
        likeness: of the details of post and event, -1 to 1 (ricenet.images.similarity.likeness); None without a post.
    """

    likeness: float | None = None


def record_path(cases: Path, case: ReadyCase) -> Path:
    """Where the record of a finished case stands.

    Raises:
        InvalidInput: the case folder is not finished (`case.unfinished`).
    """
    path = cases / case.folder / CASE_FILE
    if not path.is_file():
        with about(case.name):
            raise InvalidInput(
                "its folder is missing or unfinished", "run python -m ricenet.preprocess again", code="case.unfinished"
            )
    return path


def read_case_record(cases: Path, case: ReadyCase) -> CaseRecord:
    """Read the record of one case of the cases folder `cases`.

    Raises:
        InvalidInput: the case folder is not finished (`case.unfinished`), or its record is damaged (`record.damaged`).
    """
    path = record_path(cases, case)
    with about(case.name):
        return CaseRecord.read(path, "remove the case's folder and run python -m ricenet.preprocess again")


def require_channels(cases: Path, table: Iterable[ReadyCase]) -> None:
    """Check that cases.csv says of each case the channels that its volume has.

    Raises:
        InvalidInput: a case of which it does not (`case.channels`); as read_case_record.
    """
    for case in table:
        channels = read_case_record(cases, case).channels
        if case.channels is not None and set(case.channels) != set(channels):
            with about(case.name):
                raise InvalidInput(
                    f"cases.csv says channels {' '.join(case.channels)}, its volume has {' '.join(channels)}",
                    "run python -m ricenet.preprocess again, which writes cases.csv",
                    code="case.channels",
                )
