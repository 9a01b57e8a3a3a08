"""The numbers that a network sees beside a volume, and how it scales them: in run.json and model.json."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from ricenet.command.records import Record

MAX_NUMBERS = 256
MAX_SIZE = 1e12  # of a mean or a scale
NAME = r"[A-Za-z][A-Za-z0-9_.-]{0,99}"
Name = Annotated[str, Field(pattern=f"^{NAME}$")]
Level = Annotated[str, Field(pattern=r"^[A-Z]{1,4}$")]  # as covariates.csv calls texts


class NumberInput(Record):
    """One number of a case.

    Attributes:
        name: of a number of numbers.csv, or of a column of covariates.csv.
        mean, scale: of the training cases that have it (the scale is their standard deviation, 1 where they are equal).
        missing: share of the training cases that do not have it.
        channels: that it is measured on; a network that is not shown one of them is not shown the number.
        levels: of a column with two levels, which the network sees as 0 and 1; None: a number.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    name: Name
    mean: Annotated[float, Field(ge=-MAX_SIZE, le=MAX_SIZE)]
    scale: Annotated[float, Field(gt=0, le=MAX_SIZE)]
    missing: Annotated[float, Field(ge=0, lt=1)]
    channels: tuple[str, ...]
    levels: tuple[Level, Level] | None = None


class NumberInputs(Record):
    """All numbers of a network, in its order.

    Attributes:
        requested: names and groups, as `model.numbers` gives them.
        numbers: what the network sees.
        left_out: what was asked for and no training case has.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    requested: tuple[Name, ...]
    numbers: Annotated[tuple[NumberInput, ...], Field(min_length=1, max_length=MAX_NUMBERS)]
    left_out: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({number.name for number in self.numbers}) < len(self.numbers):
            raise ValueError("a number is repeated")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(number.name for number in self.numbers)
