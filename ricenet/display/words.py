"""Write numbers, p-values, channels and rows as pages, figures and messages show them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ricenet.command.row_names import NUMBERS, ONE_MODEL, RowName
from ricenet.paper import PAPER_CHANNELS

CHANNEL_NAMES = {"post": "post-OP MRI", "event": "event MRI", "rd": "dose"}


class BaselineWords(NamedTuple):
    """What a row that needs no network is called.

    Attributes:
        name: in tables and lists.
        in_sentence: with its article.
        short: in figures, in at most two lines.
    """

    name: str
    in_sentence: str
    short: str


# Every row that needs no network, in the order of tables.
BASELINES = {
    "majority_class": BaselineWords("the training set's larger class", "the larger class", "larger\nclass"),
    "dose_volume": BaselineWords(
        "logistic regression on dose-volume numbers",
        "a logistic regression on seven dose-volume numbers",
        "dose-volume\nregression",
    ),
    "lesion_dose": BaselineWords(
        "elastic-net regression on the dose at the lesion",
        "an elastic-net regression on the dose at the lesion",
        "lesion dose\nregression",
    ),
    "lesion_image": BaselineWords(
        "elastic-net regression on the lesion's shape and intensities",
        "an elastic-net regression on the lesion's shape and intensities",
        "lesion image\nregression",
    ),
    "all_numbers": BaselineWords(
        "elastic-net regression on all numbers of the dose and the lesion",
        "an elastic-net regression on all numbers of the dose and the lesion",
        "all numbers\nregression",
    ),
    "clinical": BaselineWords(
        "logistic regression on clinical numbers",
        "a logistic regression on clinical numbers",
        "clinical\nregression",
    ),
    "all_numbers_clinical": BaselineWords(
        "elastic-net regression on all numbers and the clinical ones",
        "an elastic-net regression on all numbers and the clinical ones",
        "all + clinical\nregression",
    ),
    "lesion_dose@random": BaselineWords(
        "control: elastic-net regression on the dose at a random place",
        "an elastic-net regression on the dose at a random place",
        "control: dose at\na random place",
    ),
}

CONTROLS = {
    "shuffled_labels": "trained and scored on shuffled labels",
    "metadata_only": "site, scanner and the like in place of images",
}

# What a row says of a set that is cropped at a place which its images do not tell: rd@lesion, rd_post_event@random.
CROPS = {
    "lesion": "cropped at a lesion found on MRI",
    "random": "cropped at a random place",
}

ONE_MODELS = {ONE_MODEL: "one model for all sets"}

# What a network sees besides its images: rd_event+numbers.
ADDITIONS = {
    NUMBERS: "with numbers of the case",
}

# Whose weights a network starts from, and what of them stays: rd_event+medicalnet, rd_event+medicalnet_frozen.
STARTS = {
    "medicalnet": "MedicalNet",
    "neuro_simclr": "3D-Neuro-SimCLR",
    "brainiac": "BrainIAC",
}
FROZEN = {
    "_stem": ", stem frozen",
    "_frozen": ", frozen",
}

# The rows that are no modality set, as short as a figure needs them and in two lines.
SHORT_NAMES = {row: words.short for row, words in BASELINES.items()} | {ONE_MODEL: "one model\nfor all sets"}


# row -> its channels, as the run.json of its runs say (training.run_record.channels_of_rows); the paper's need none.
RowChannels = Mapping[str, Sequence[str]]
PAPERS_ONLY: RowChannels = MappingProxyType({})


def in_words(channels: Sequence[str]) -> str:
    """The channels of a modality set in words, the dose first: `dose + post-OP MRI`."""
    return " + ".join(map(channel_name, sorted(channels, key=lambda channel: channel != "rd")))


def channel_name(channel: str) -> str:
    """A channel in words; a further one, which nobody has named yet, by its own name."""
    return CHANNEL_NAMES.get(channel, channel)


def row_name(row: str, channels_of: RowChannels = PAPERS_ONLY) -> str:
    """Any row of a grid or of the results in words; `dose, control: shuffled labels` for rd-shuffled_labels.

    A set that is neither the paper's nor in `channels_of` is called by its own name: a name says no channels.
    """
    if row in BASELINES:
        return BASELINES[row].name
    name = RowName.parse(row)
    channels = channels_of.get(row) or PAPER_CHANNELS.get(name.of_set)
    words = (ONE_MODELS | CONTROLS).get(name.of_set) or (in_words(channels) if channels else name.of_set)
    crop = [CROPS[name.place]] if name.place else []
    additions = [ADDITIONS.get(addition) or start_in_words(addition) for addition in name.additions]
    control = [f"control: {name.control.replace('_', ' ')}"] if name.control else []
    return ", ".join([words, *crop, *additions, *control])


def start_name(source: str) -> str:
    """Whose weights a network starts from, in words; of a source that nobody has named yet its own name."""
    return STARTS.get(source, source)


def start_in_words(addition: str) -> str:
    """The start in a row's name in words: `from MedicalNet, frozen` for medicalnet_frozen."""
    frozen = next((suffix for suffix in FROZEN if addition.endswith(suffix)), "")
    return f"from {start_name(addition.removesuffix(frozen))}{FROZEN.get(frozen, '')}"


def is_set(row: str) -> bool:
    """Whether a row is a modality set: not the one model for all sets, nor a set with a place or an addition."""
    return RowName.parse(row).is_set


def in_lines(words: str) -> str:
    """The words of a row with what it starts from, or sees besides its images, on a line of its own."""
    return words.replace(", from ", ",\nfrom ").replace(", with ", ",\nwith ")


def short_name(row: str, channels_of: RowChannels = PAPERS_ONLY) -> str:
    """A row in the few words that a figure has room for; `dose-volume regression` for dose_volume."""
    return SHORT_NAMES.get(row, row_name(row, channels_of)).replace("\n", " ")


def number(value: float | None, sign: str = "") -> str:
    """Two decimals with a real minus; sign: `+` shows a plus too. What rounds to 0 has no sign; None is a dash."""
    if value is None:
        return "–"
    rounded = round(value, 2)
    return f"{rounded:{sign}.2f}".replace("-", "\N{MINUS SIGN}") if rounded else "0.00"


def signed(value: float | None) -> str:
    """As `number`, with a plus before what is above 0."""
    return number(value, "+")


def percent(value: float | None) -> str:
    """Whole percent; None is a dash."""
    return "–" if value is None else f"{value:.0%}"


def p_value(value: float) -> str:
    """Three decimals, or that it is smaller than they can show."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_in_words(value: float) -> str:
    """With the letter, as it stands in a sentence."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def interval(value: float | None, bounds: Sequence[float] | None) -> str:
    """A value with its 95% interval in brackets."""
    return number(value) + (f" (95% {number(bounds[0])} to {number(bounds[1])})" if bounds else "")


def with_interval(value: float, bounds: Sequence[float] | None, sign: str = "") -> str:
    """`0.83 [0.74, 0.90]`; without the brackets where there is no interval."""
    if bounds is None:
        return number(value, sign)
    return f"{number(value, sign)} [{number(bounds[0], sign)}, {number(bounds[1], sign)}]"
