"""The numbers that a network sees beside a volume: names in; a table of cases, and what a fold standardises by, out.

`model.numbers` names numbers of numbers.csv (ricenet.cases.case_numbers), their groups, and clinical columns of
covariates.csv: numbers, or columns with two levels, seen as 0 and 1. A set of images knows only what it contains: a
number that is measured on another channel is refused by name.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ricenet.cases.case_numbers import NUMBERS, names_of
from ricenet.cases.case_record import read_case_record
from ricenet.cases.numbers_table import TABLE, read_numbers
from ricenet.cohort.covariates import COVARIATES, PRESENCE, Covariates, read_covariates
from ricenet.cohort.covariates import NAMES as PLACES_AND_PERSONS
from ricenet.cohort.folds import lacking
from ricenet.cohort.ready_cases import ReadyCase, read_cases
from ricenet.command.atomic import file_hash
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.networks.number_inputs import NAME, NumberInput, NumberInputs

GROUPS = tuple(dict.fromkeys(number.group for number in NUMBERS))
DOSE, MRIS = "rd", ("post", "event")
OF_THE_DOSE = ("prescription_gy", "fractions")  # columns that tell a set without the dose what was given


@dataclass(frozen=True)
class Column:
    """One number of all cases; `channels`, `levels`: as of NumberInput."""

    name: str
    channels: tuple[str, ...]
    levels: tuple[str, str] | None = None


class SeenNumbers(NamedTuple):
    """The numbers that one network sees.

    Attributes:
        inputs: how it scales them.
        of_case: case key -> (N,) float32 in their order, nan where the case has none.
    """

    inputs: NumberInputs
    of_case: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class FusedNumbers:
    """The numbers of a cohort's cases.

    Attributes:
        requested: names and groups, as given.
        columns: N of them.
        of_case: case key -> (N,) float64, nan where the case has none.
    """

    requested: tuple[str, ...]
    columns: tuple[Column, ...]
    of_case: Mapping[str, NDArray[np.float64]]

    def fitted(self, training: Sequence[ReadyCase]) -> NumberInputs:
        """What the training cases are standardised by; a number that none of them has is left out.

        Raises:
            InvalidInput: they have none of the numbers (`numbers.none`).
        """
        values = np.array([self.of_case[case.case_key] for case in training])
        given = np.isfinite(values)
        inputs = [
            _fitted(column, values[given[:, place], place], len(training))
            for place, column in enumerate(self.columns)
            if given[:, place].any()
        ]
        left_out = tuple(column.name for place, column in enumerate(self.columns) if not given[:, place].any())
        if not inputs:
            raise InvalidInput(
                f"model.numbers: none of the {len(training)} training cases has one of {', '.join(left_out)}",
                "choose numbers that the cases have",
                code="numbers.none",
            )
        settings = NumberInputs(requested=self.requested, numbers=tuple(inputs))
        return settings.model_copy(update={"left_out": left_out}) if left_out else settings

    def seen(self, training: Sequence[ReadyCase]) -> SeenNumbers:
        """What a network of these training cases sees of every case; raises as `fitted`."""
        inputs = self.fitted(training)
        places = [[column.name for column in self.columns].index(name) for name in inputs.names]
        return SeenNumbers(inputs, {key: row[places].astype(np.float32) for key, row in self.of_case.items()})

    def named(self, case_key: str) -> dict[str, float]:
        """The case's numbers by name, as far as it has them."""
        values = zip(self.columns, self.of_case[case_key].tolist(), strict=True)
        return {column.name: value for column, value in values if np.isfinite(value)}


def _fitted(column: Column, values: NDArray[np.float64], n: int) -> NumberInput:
    scale = float(values.std())
    return NumberInput(
        name=column.name,
        mean=float(values.mean()),
        scale=scale if scale > 1e-9 * max(1.0, float(np.abs(values).max())) else 1.0,
        missing=1 - len(values) / n,
        channels=column.channels,
        **({} if column.levels is None else {"levels": column.levels}),
    )


def read_fused_numbers(
    cases: Path, table: Sequence[ReadyCase], requested: Sequence[str], channels: Sequence[str], row: str
) -> FusedNumbers:
    """The `requested` numbers of the cases in `table`, for a network of `channels`.

    Args:
        cases: the cases folder.
        row: of the grid, for messages.

    Raises:
        WrongUsage: a name that is no number, no group and no column of covariates.csv; a column that tells where or by
            whom, not how the patient is; a number that is measured on a channel which the network is not shown.
        InvalidInput: as of read_numbers and read_covariates.
    """
    cohort = read_cases(cases)
    available = {channel for case in cohort for channel in case.channels or ()}
    available = available or set(read_case_record(cases, cohort[0]).channels)  # all have the same
    names = list(dict.fromkeys(name for each in requested for name in (names_of(each) if each in GROUPS else [each])))
    covariates = read_covariates(cases, [case.case_key for case in cohort]) or Covariates({}, {})
    columns = [_column(name, covariates, available) for name in names]
    hidden = {column.name: [each for each in column.channels if each not in channels] for column in columns}
    hidden = {name: lacks for name, lacks in hidden.items() if lacks}
    if hidden:
        needed = ", ".join(dict.fromkeys(each for lacks in hidden.values() for each in lacks))
        raise WrongUsage(
            f"{row}: model.numbers has {', '.join(hidden)}, measured on images that this set does not contain "
            f"({needed}); choose a set with them, or leave the numbers out"
        )
    of_images = [name for name in names if name in _GROUP_OF]
    measured = dict(zip(of_images, read_numbers(cases, table, of_images).T, strict=True)) if of_images else {}
    values = np.array(
        [measured[each.name] if each.name in measured else _clinical(each, covariates, table) for each in columns]
    ).T
    for place, column in enumerate(columns):  # a case of a partial cohort that lacks an image is not told by it
        values[[bool(lacking(case, column.channels)) for case in table], place] = np.nan
    of_case = {case.case_key: values[number] for number, case in enumerate(table)}
    return FusedNumbers(tuple(requested), tuple(columns), of_case)


_GROUP_OF = {number.name: number.group for number in NUMBERS}


def _column(name: str, covariates: Covariates, available: Collection[str]) -> Column:
    """A number by its name; the MRIs that a lesion is found on are those that the cohort has."""
    if name in _GROUP_OF:
        mris = tuple(role for role in MRIS if role in available)
        of_group = {"dose_volume": (DOSE,), "lesion_dose": (*mris, DOSE), "lesion_image": mris}
        return Column(name, of_group[_GROUP_OF[name]])
    if not re.fullmatch(NAME, name):
        raise WrongUsage(
            f"model.numbers: a name should be letters, digits, _, . and -, got {name!r}; rename the column"
        )
    if _tells_where(name):
        raise WrongUsage(f"model.numbers: {name} says where or by whom a case was made, not how the patient is")
    channels = (DOSE,) if name in OF_THE_DOSE else ()
    if name in covariates.numbers:
        return Column(name, channels)
    levels = sorted(set(covariates.subgroups.get(name, {}).values()))
    if len(levels) == 2:
        return Column(name, channels, (levels[0], levels[1]))
    if levels:
        raise WrongUsage(f"model.numbers: {name} of {COVARIATES} should hold numbers or two levels, got {len(levels)}")
    own = ", ".join(sorted(column for column in covariates.subgroups if not _tells_where(column)))
    raise WrongUsage(
        f"model.numbers: expected a group ({', '.join(GROUPS)}), a number of docs/numbers.md or a column of "
        f"{COVARIATES} ({own or 'it has none'}), got {name!r}"
    )


def _tells_where(column: str) -> bool:
    """Whether a column says where or by whom a case was imaged or labelled, or which images it has."""
    return column in PLACES_AND_PERSONS or "scanner" in column or column.startswith(PRESENCE)


def hashes(cases: Path, requested: Sequence[str]) -> dict[str, str]:
    """Of what the requested numbers are read from, which the hash of the cases does not cover."""
    of_images = [name for name in requested if name in GROUPS or name in _GROUP_OF]
    files = {"numbers_hash": TABLE} if of_images else {}
    files |= {"covariates_hash": COVARIATES} if len(of_images) < len(requested) else {}
    return {key: file_hash(cases / name) for key, name in files.items() if (cases / name).is_file()}


def _clinical(column: Column, covariates: Covariates, table: Sequence[ReadyCase]) -> NDArray[np.float64]:
    """(cases,) of a column of covariates.csv, nan where it is empty."""
    if column.levels is None:
        return np.array([covariates.numbers[column.name].get(case.case_key, np.nan) for case in table])
    levels = covariates.subgroups[column.name]
    return np.array(
        [column.levels.index(levels[case.case_key]) if case.case_key in levels else np.nan for case in table]
    )
