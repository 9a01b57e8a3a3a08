"""Judge the numbers of qc.csv: its rows in, cells with marks out, the rows that deserve a look first.

A number is marked where it lies far from the middle of the cohort, or beyond a fixed limit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from statistics import median

from ricenet.cases.case_tables import CONTRAST_COLUMN, LIKENESS_COLUMN, OFF_COLUMN, PLACE_COLUMN, WORD_ENDING
from ricenet.display.page import Picture
from ricenet.images.similarity import ONE_PERSON_FROM, SURELY_FROM
from ricenet.images.stripped import STRIPPED

# Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993): |x - median| over 1.4826 MAD, the normal's SD.
OUTLIER_SD = 3.5
SD_PER_MAD = 1.4826
MIN_CASES = 10
MAX_OFF_MM = 15.0  # of a lesion from lesion_mm


@dataclass(frozen=True)
class Quantity:
    """What columns of qc.csv with one ending are.

    Attributes:
        says: how people read it.
        decimals: of its text; None for a share, shown in per cent.
        floor: a spread below it is no spread: where all cases agree, less than OUTLIER_SD times this is none.
        low, high: fixed limits, and `because` of what.
        surely: from there on there is no doubt; below it `doubt` says of what.
    """

    ending: str
    says: str
    decimals: int | None
    floor: float
    low: float = -inf
    high: float = inf
    because: str = ""
    surely: float = -inf
    doubt: str = ""


# Of two phantoms at 1 mm: 1.16 and 1.18; with the event MRI 10 mm off, or mirrored, below 1.02. Of real pairs 1.032 to
# 1.12, of another person's brain 1.033: the limit holds only where likeness was not measured.
OF_EVENT = Quantity(
    "similarity", "normalised mutual information with the post-OP MRI in the brain: 1 unrelated, 2 equal", 3, 0.01,
    low=1.03, because="as of images that do not lie on each other",
)  # fmt: skip
LIKENESS = Quantity(
    LIKENESS_COLUMN, "correlation of the gyri and sulci in post and event", 2, 0.05,
    low=ONE_PERSON_FROM, because="two people correlate so little, or the registration failed",
    surely=SURELY_FROM, doubt="two contrasts, motion, or two people",
)  # fmt: skip
QUANTITIES = (
    LIKENESS,
    # Of another contrast, with which it is lower; in a case without a post-OP MRI with the event's.
    replace(OF_EVENT, low=-inf, says=OF_EVENT.says.replace("MRI", "MRI (without one: the event MRI)")),
    Quantity(
        "rotation_degrees", "how far registration turned the image", 1, 1.0,
        high=30.0, because="from there a registration can land wrong without an error",
    ),
    Quantity("translation_mm", "how far registration moved the middle of the brain", 1, 1.0),
    Quantity("brain_ml", "volume of the brain mask", 0, 10.0),
    Quantity(
        "coverage", "share of the brain that lies in the image; preprocessing refuses one below 95%", None, 0.005,
        low=0.99, because="part of the brain is not in the image",
    ),
    Quantity(
        "tissue", "share of the brain mask that is left in an image that came without its skull", None, 0.005,
        low=0.85, because="its stripping took brain away, or the mask reaches too far",
    ),
    Quantity("max_gy", "highest dose anywhere", 1, 4.0),  # 60 Gy and 40.05 Gy may be one cohort
    Quantity("mean_gy", "mean dose to the brain", 1, 0.5),
    Quantity(
        CONTRAST_COLUMN, "how far the brightest enhancement that is new (of a case without a post-OP MRI: any) stands "
        "out of the brain, in SD", 2, 0.3,
    ),
    Quantity(
        OFF_COLUMN, "how far the middle of the lesion that is used lies from lesion_mm", 1, 1.0,
        high=MAX_OFF_MM, because="the lesion that is used is not where the table says: look at both (lesion_mm is "
        "x y z in RAS+; DICOM viewers show LPS)",
    ),
)  # fmt: skip
UNKNOWN = Quantity("", "", 3, 0.0)
SKULL = Quantity(
    WORD_ENDING, "what the image came as: hdbet (with a skull, HD-BET found the brain), stripped (without one, taken "
    "as it is), head (with a skull, its brain is not used)", None, 0.0,
)  # fmt: skip
PLACE = Quantity(
    PLACE_COLUMN, "how the place of the lesion was found, around which crop=lesion looks: mask (the given one), "
    "difference (brighter in event than in post), event (brightest in event), none (nothing enhances)", None, 0.0,
)  # fmt: skip
UNITS = {"degrees": "degrees", "mm": "mm", "ml": "ml", "gy": "Gy"}


@dataclass(frozen=True)
class Column:
    """A number of qc.csv over the cohort; `middle` and `spread` (median, and SD by the MAD) None for too few cases."""

    name: str
    quantity: Quantity
    n: int
    middle: float | None = None
    spread: float | None = None

    @property
    def title(self) -> str:
        return " ".join(word for word in self.name.split("_") if word not in UNITS)

    @property
    def unit(self) -> str:
        return UNITS.get(self.name.rpartition("_")[2], "")

    @property
    def expected(self) -> str:
        """What is not far from the middle, in words; empty where nothing can be said."""
        if self.middle is None or not self.spread:
            return ""
        low, high = self.middle - OUTLIER_SD * self.spread, self.middle + OUTLIER_SD * self.spread
        if self.quantity.decimals is None and high >= 1:
            return f"at least {self.text(low)}"
        if low <= 0 and self.quantity is not UNKNOWN:  # none of the others can be negative
            return f"at most {self.text(high)}"
        return f"{self.text(low)} to {self.text(high)}"

    @property
    def limit(self) -> str:
        """The fixed limit in words; empty where there is none."""
        if self.quantity.low > -inf:
            surely = f", surely from {self.text(self.quantity.surely)}" if self.quantity.surely > -inf else ""
            return f"at least {self.text(self.quantity.low)}{surely}"
        return f"at most {self.text(self.quantity.high)}" if self.quantity.high < inf else ""

    def spreads_off(self, value: float) -> float:
        """How far `value` is from the middle."""
        return 0.0 if self.middle is None or not self.spread else abs(value - self.middle) / self.spread

    def text(self, value: float) -> str:
        decimals = self.quantity.decimals
        return f"{value:.1%}" if decimals is None else f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Cell:
    """A number as it is shown; `mark`: in a word what is unusual about it, `why`: in a sentence; `weight`: how much."""

    text: str
    mark: str = ""
    why: str = ""
    weight: float = 0.0


@dataclass(frozen=True)
class Row:
    """A case: its cells in the order of the columns, and its picture, None where it is left out or not there."""

    case_key: str
    cells: tuple[Cell, ...]
    picture: Picture | None = None

    @property
    def reasons(self) -> list[str]:
        return [cell.why for cell in self.cells if cell.why]


def judge(table: Sequence[Mapping[str, str]]) -> tuple[list[Column], list[Row]]:
    """The columns of qc.csv and its rows without pictures: most marks of fixed limits first, then the farthest outlier.

    Args:
        table: rows of qc.csv; what is no number is shown as it stands, and marked.
    """
    names = [name for name in (table[0] if table else ()) if name != "case_key"]
    columns = [_column(name, [row[name] for row in table if row[name]], LIKENESS_COLUMN in names) for name in names]
    rows = [Row(row["case_key"], _cells(columns, row)) for row in table]
    return columns, sorted(rows, key=_urgency)


def _cells(columns: Sequence[Column], row: Mapping[str, str]) -> tuple[Cell, ...]:
    skulls = {row[column.name] for column in columns if column.quantity is SKULL and row[column.name]}
    return tuple(
        _word(column, row[column.name], mixed=len(skulls) > 1)
        if column.quantity in (SKULL, PLACE)
        else _cell(column, row[column.name] or "")
        for column in columns
    )


def _word(column: Column, word: str, mixed: bool) -> Cell:
    """What an image came as, or how the lesion was found; `mixed`: the images of its case differ."""
    if column.quantity is PLACE and word == "none":
        why = "nothing in the brain enhances: crops are taken at its middle; give a lesion mask, or look at the images"
        return Cell(word, "none", why, inf)
    if mixed and word == STRIPPED:
        role = column.name.removesuffix(WORD_ENDING)
        return Cell(word, "mixed", f"{role} came without a skull, beside an image with one: look at the outline", inf)
    return Cell(word or "–")


def _urgency(row: Row) -> tuple[int, float, str]:
    weights = [cell.weight for cell in row.cells]
    return -weights.count(inf), -max((weight for weight in weights if weight < inf), default=0.0), row.case_key


def _column(name: str, texts: Sequence[str], with_likeness: bool) -> Column:
    if name.endswith(WORD_ENDING):
        return Column(name, SKULL, len(texts))
    if name == PLACE_COLUMN:
        return Column(name, PLACE, len(texts))
    quantity = next((each for each in QUANTITIES if name.endswith(each.ending)), UNKNOWN)
    if name == OF_EVENT.ending:
        quantity = replace(OF_EVENT, low=-inf) if with_likeness else OF_EVENT
    values = [value for text in texts if (value := _number(text)) is not None]
    if len(values) < MIN_CASES:
        return Column(name, quantity, len(values))
    middle = median(values)
    spread = max(SD_PER_MAD * median(abs(value - middle) for value in values), quantity.floor)
    return Column(name, quantity, len(values), middle, spread)


def _cell(column: Column, text: str) -> Cell:
    """One number, and whether it deserves a look."""
    value, quantity = _number(text), column.quantity
    if value is None:
        return Cell(text, "no number", f"{column.title}: “{text}” is no number", inf) if text else Cell("–")
    number = column.text(value)
    said = f"{column.title} is {number} {column.unit}".rstrip()
    for beyond, limit, word, side, because in (
        (value < quantity.low, quantity.low, "low", "below", quantity.because),
        (value > quantity.high, quantity.high, "high", "above", quantity.because),
        (value < quantity.surely, quantity.surely, "doubtful", "below", quantity.doubt),
    ):
        if beyond:
            return Cell(number, word, f"{said}, {side} {column.text(limit)}: {because}", inf)
    off = column.spreads_off(value)
    if off <= OUTLIER_SD or column.middle is None:
        return Cell(number)
    word = "low" if value < column.middle else "high"
    usual = f"median {column.text(column.middle)}, expected {column.expected}"
    return Cell(number, word, f"{said}, {word} for this cohort: {usual}", off)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if isfinite(value) else None
