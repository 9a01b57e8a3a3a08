"""prediction.json: what a model says of one case, or the findings for which it says nothing."""

from typing import Final, Literal

from pydantic import ConfigDict, Field

from ricenet.cases.case_record import StructureNumbers
from ricenet.cohort.ingest_record import SelectionRecord
from ricenet.command.records import Record
from ricenet.explanation.map_record import MeanDose, NumberParts, SeenPart
from ricenet.images.enhancement import LesionSource
from ricenet.prediction.model_json import CrossValidation, TrainingCohort

VERSION: Final = 1


class _Part(Record):
    """A part of prediction.json: every number is finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class CitedModel(_Part):
    """The model folder that was used; `digest`: SHA-256 of its manifest."""

    name: str
    channels: tuple[str, ...]
    folds: tuple[int, ...]
    digest: str
    cohort: TrainingCohort
    evaluation: CrossValidation


class CalibratedProbability(_Part):
    """P(rice) on the scale of the `n` out-of-fold predictions, with the 95% interval of the curve."""

    probability: float
    interval: tuple[float, float]
    n: int


class MeasureInRange(_Part):
    """A measure of ricenet.prediction.training_range beside its range in the training cohort."""

    name: str
    title: str
    unit: str
    value: float
    low: float
    high: float
    inside: bool


class FindingRecord(_Part):
    """A ricenet.errors.Finding; the case stands in the file itself."""

    code: str
    message: str
    hint: str
    severity: str
    channel: str


class CaseMapNumbers(_Part):
    """The occlusion map in numbers (ricenet.explanation.attribution.measure)."""

    cube_mm: float
    stride_mm: float
    method: str
    sign: str
    drop_max: float
    drop_min: float
    drop_max_world_mm: tuple[float, float, float] | None
    map_share: dict[str, float | None]
    brain_share: dict[str, float | None]
    dose_gy: MeanDose | None = None


class SeenNumbers(NumberParts):
    """The numbers of a patient, and by how much each moves the log-odds of RICE.

    Attributes:
        lesion_source: what the lesion is that they are measured on (ricenet.images.enhancement.Lesion): `mask`, the
            given one; `difference` or `event`, the new enhancement; `none`. None where no number is one of the lesion.
        lesion_contrast: of the enhancement, in SD of the brain.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    lesion_source: LesionSource | None
    lesion_contrast: float | None


class Heading(_Part):
    """What stands in both kinds of prediction.json; `fit`: whether a prediction was made."""

    version: Literal[1]
    case_key: str
    fit: bool
    model: CitedModel


class FoldSummary(_Part):
    """P(rice) of the folds' networks taken together.

    Attributes:
        predicted: the label that the mean prefers.
        probability: the mean.
        folds: of each network.
        spread: standard deviation (n - 1); None for a single network.
        votes: by label, how many networks prefer it.
        vote: the label that most prefer; a tie goes to the mean.
        calibrated: None where the model folder has no curve.
    """

    predicted: str
    probability: float
    folds: tuple[float, ...]
    spread: float | None
    votes: dict[str, int]
    vote: str
    calibrated: CalibratedProbability | None


class PredictionRecord(FoldSummary, Heading):  # the heading comes first in the file: fields are those of the last base
    """prediction.json of a case that fits the model.

    Attributes:
        measures: beside their range in the training cohort.
        preprocessing: numbers of the registration and the brain mask (`qc` of case.json).
        occlusion: None where no map was made.
        delivery: which of the delivered series and doses were taken; None where files were given by name.
        question: digest of all that decides the prediction.
        seconds: that it took.
        structures: the case's masks by name, only where there are some; of them the prediction depends on the lesion
            alone, where the networks see a cube around it.
        seen: the part of the volume that the networks see; not in the file where they see all of it.
        numbers: what the networks see beside the volume, and what it does; not in the file where they see none.
    """

    fit: Literal[True]
    measures: list[MeasureInRange]
    preprocessing: dict[str, float]
    occlusion: CaseMapNumbers | None
    findings: list[FindingRecord]
    delivery: SelectionRecord | None = None
    question: str = ""
    versions: dict[str, str]
    seconds: float
    structures: dict[str, StructureNumbers] = Field(default_factory=dict)
    seen: SeenPart | None = None
    numbers: SeenNumbers | None = None


class UnfitRecord(Heading):
    """prediction.json of a case for which no prediction was made; at least one finding is an error."""

    fit: Literal[False]
    findings: list[FindingRecord]
    delivery: SelectionRecord | None = None
    versions: dict[str, str]
