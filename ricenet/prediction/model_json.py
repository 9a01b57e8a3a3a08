"""model.json: what an exported model is and what it was trained on, read as a file of unknown origin.

Every value is checked for its type, its size and its alternatives before anything is built from it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from torch import nn

from ricenet import LABELS
from ricenet.cases.alignment import PreprocessingSettings
from ricenet.cases.case_record import Crop
from ricenet.command.records import Record
from ricenet.errors import InvalidInput
from ricenet.images.brain import BACKENDS, DEVICES, HDBET_MODES
from ricenet.images.registration import SCHEDULES
from ricenet.networks.input_settings import InputSettings
from ricenet.networks.network import ARCHITECTURES, POOLS, build_network
from ricenet.networks.number_inputs import NumberInput, NumberInputs
from ricenet.statistics.recalibration import RecalibrationCurve
from ricenet.training.run_record import PretrainedStart, Setting

MODEL_JSON = "model.json"
VERSION: Final = 1
MAX_BYTES = 20_000_000  # of a manifest or model.json; ours have 30,000
MAX_NUMBER, MAX_FEATURES = 1e12, 4096
MAX_NAMED_KEYS = 5  # of the wrong ones, in an error message
COPY_AGAIN = "copy the model folder again from where it was exported, or export it again"
QUOTABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")  # a key that a message may repeat
PREPROCESSING_CHOICES: Mapping[str, tuple[str | int, ...]] = {
    "brain": BACKENDS,
    "hdbet_models": tuple(HDBET_MODES),
    "device": DEVICES,
    "reference": ("post", "event"),
    "brain_on": ("reference", "union", "intersection"),
    "registration": tuple(SCHEDULES),
    "dose_scaling": ("fixed", "zscore"),
}
PREPROCESSING_LIMITS = {"size": (8, 1024), "spacing_mm": (0.25, 50.0), "seed": (0, 2**63)}

Item = TypeVar("Item")


def broken(rule: str, message: str, hint: str) -> InvalidInput:
    """The error of a model folder that breaks a rule; code model.<rule>."""
    return InvalidInput(f"model folder: {message}", hint, code=f"model.{rule}")


def _distinct(values: tuple[Item, ...]) -> tuple[Item, ...]:
    if len(set(values)) < len(values):
        raise ValueError("an item is repeated")
    return values


def _known_architecture(name: str) -> str:
    if name not in ARCHITECTURES:
        raise ValueError(f"expected one of {', '.join(ARCHITECTURES)}")
    return name


def _known_pool(pool: str) -> str:
    if pool not in POOLS:
        raise ValueError(f"expected one of {', '.join(POOLS)}")
    return pool


def _possible_crop(crop: Crop) -> Crop:
    if crop.at != "lesion":  # a random place is a control
        raise ValueError("expected a cube at the lesion")
    return crop


def _our_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    if labels != LABELS:
        raise ValueError(f"expected {', '.join(LABELS)}")
    return labels


def _possible_preprocessing(settings: PreprocessingSettings) -> PreprocessingSettings:
    """hdbet2_env names a program to run: no model may choose it."""
    for name, allowed in PREPROCESSING_CHOICES.items():
        if getattr(settings, name) not in allowed:
            raise ValueError(f"{name} should be one of {', '.join(map(str, allowed))}")
    for name, (low, high) in PREPROCESSING_LIMITS.items():
        if not low <= getattr(settings, name) <= high:
            raise ValueError(f"{name} should be from {low:g} to {high:g}")
    if settings.hdbet2_env is not None:
        raise ValueError("hdbet2_env should be null")
    return settings


def _possible_curve(curve: RecalibrationCurve) -> RecalibrationCurve:
    numbers = [curve.intercept, curve.slope, *(value for pair in curve.draws for value in pair)]
    if not curve.draws or max(map(abs, numbers)) > MAX_NUMBER:
        raise ValueError(f"expected draws, and no number beyond {MAX_NUMBER:g}")
    return curve


Number = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Interval = tuple[Number, Number]
Count = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
Extent = Annotated[int, Field(ge=1, le=MAX_FEATURES)]
Channel = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
MeasureName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,99}$")]


class _Part(Record):
    """A part of model.json: no value is converted from another type, and every number is finite."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class NetworkSettings(_Part):
    """The arguments of ricenet.networks.network.build_network but the channels and the numbers of a fold."""

    architecture: Annotated[str, AfterValidator(_known_architecture)]
    width: Extent
    conv1_size: Extent
    conv1_stride: Extent
    max_pool: bool
    dropout: Annotated[float, Field(ge=0, le=1)]
    pretrained: str | None
    pool: Annotated[str, AfterValidator(_known_pool)] = "last"
    inputs: InputSettings | None = None
    shortcuts: Literal["monai", "medicalnet"] | None = None

    def build(self, channels: Sequence[str], numbers: NumberInputs | None = None) -> nn.Module:
        """The untrained network for volumes of the stored `channels`, and for `numbers` where it sees some."""
        return build_network(channels, numbers=() if numbers is None else numbers.numbers, **dict(self))


class MeasureRange(_Part):
    """The lowest and the highest value of a measure in the training cohort; `n`: how many cases have one."""

    low: Number
    high: Number
    n: Count


class TrainingCohort(_Part):
    """The cases of the cross-validation: how many have which label, and how many no post-OP MRI."""

    cases: Count
    patients: Count
    recurrence: Count
    rice: Count
    phantom: bool
    without_post: Count = 0


class CrossValidation(_Part):
    """The out-of-fold result with 95% intervals over the patients; None where it is not defined."""

    oof_macro_f1: Number
    oof_interval: Interval | None
    auroc: Number | None
    auroc_interval: Interval | None


class ModelEvaluation(CrossValidation):
    """The same of `n` cases; `seeds`: over how many each fold was averaged."""

    n: Count
    seeds: Count


class ModelRecord(_Part):
    """model.json.

    Attributes:
        name: of the modality set.
        channels: of the volumes, in order.
        folds: the numbers of those whose networks are in the folder, of `n_folds`.
        preprocessing_source: `case folders`, or `phantom, drawn directly`.
        calibration: None where there is none, for `calibration_reason`.
        ranges: by the names of ricenet.prediction.training_range.
        versions: of the packages it was trained with, and `preprocessing`, of the case folders.
        crop: what of a volume the networks see; None, and not in the file: all.
        pretrained: the weights of others that they started from; None, and not in the file: none.
        numbers: of the case that the networks see beside the volume, one part a fold; None, and not in the file: none.
    """

    version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_@+-]{1,200}$")]
    channels: Annotated[tuple[Channel, ...], Field(min_length=1), AfterValidator(_distinct)]
    labels: Annotated[tuple[str, ...], AfterValidator(_our_labels)]
    network: NetworkSettings
    folds: Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(_distinct)]
    n_folds: Count
    preprocessing: Annotated[PreprocessingSettings, AfterValidator(_possible_preprocessing)]
    preprocessing_source: str
    calibration: Annotated[RecalibrationCurve, AfterValidator(_possible_curve)] | None
    calibration_reason: str
    ranges: dict[MeasureName, MeasureRange]
    cohort: TrainingCohort
    evaluation: ModelEvaluation
    versions: dict[str, Setting]
    crop: Annotated[Crop, AfterValidator(_possible_crop)] | None = None
    pretrained: PretrainedStart | None = None
    numbers: tuple[NumberInputs, ...] | None = None

    @field_validator("numbers")
    @classmethod
    def _possible_numbers(
        cls, parts: tuple[NumberInputs, ...] | None, known: ValidationInfo
    ) -> tuple[NumberInputs, ...] | None:
        if parts is None:
            return None
        channels, folds = known.data.get("channels", ()), known.data.get("folds", ())
        if len(parts) != len(folds) or len({part.requested for part in parts}) > 1:
            raise ValueError("expected a part for each fold, of the same request")
        if any(not set(number.channels) <= set(channels) for part in parts for number in part.numbers):
            raise ValueError("expected numbers that are measured on channels of the model")
        return parts

    def numbers_of_fold(self, place: int) -> NumberInputs | None:
        """What the network of `folds[place]` sees beside the volume."""
        return None if self.numbers is None else self.numbers[place]

    @property
    def seen_numbers(self) -> dict[str, NumberInput]:
        """What any of the networks sees, by name, as the first that does scales it."""
        seen: dict[str, NumberInput] = {}
        for part in self.numbers or ():
            for number in part.numbers:
                seen.setdefault(number.name, number)
        return seen

    @property
    def sees_relative_dose(self) -> bool:
        """Whether the networks see the dose relative to the prescription of the patient."""
        return self.network.inputs is not None and self.network.inputs.has_relative_dose(self.channels)

    @property
    def computed(self) -> list[str]:
        """What its networks compute from the channels, in words."""
        inputs = self.network.inputs
        return [] if inputs is None else inputs.computed(self.channels)

    @classmethod
    def read(cls, path: Path, hint: str = COPY_AGAIN) -> Self:
        """Read model.json.

        Raises:
            InvalidInput: `model.version`: of another version; `model.content`: no JSON, or a part of it is not what
                ricenet writes.
        """
        if path.stat().st_size > MAX_BYTES:
            raise broken("content", f"{path.name} is larger than {MAX_BYTES:,} bytes", hint)
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise _refusal(path.name, error, hint) from None


def _refusal(name: str, error: ValidationError, hint: str) -> InvalidInput:
    faults = error.errors(include_url=False, include_context=False)
    if faults[0]["type"] == "json_invalid":
        return broken("content", f"{name} cannot be read: {faults[0]['msg']}", hint)
    versions = [fault["input"] for fault in faults if fault["loc"] in ((), ("version",))]
    if versions:
        got = versions[0] if isinstance(versions[0], int) else "none"
        return broken(
            "version",
            f"{name} should have version {VERSION}, got {got}",
            "use the version of ricenet that exported it, or a newer one",
        )
    keys = list(dict.fromkeys(_key(fault["loc"]) for fault in faults))
    named = ", ".join(keys[:MAX_NAMED_KEYS])
    return broken("content", f"{name}: {named} is not what ricenet writes ({faults[0]['msg']})", hint)


def _key(place: Iterable[Any]) -> str:
    """`network.width`; what does not look like one of our keys is not repeated."""
    keys = takewhile(lambda key: isinstance(key, str) and QUOTABLE.fullmatch(key), place)
    return ".".join(list(keys)[:2]) or "a key"
