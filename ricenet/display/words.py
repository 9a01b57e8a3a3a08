"""How pages, figures and messages write numbers, p-values, channels and rows."""

from collections.abc import Sequence

CHANNEL_NAMES = {"post": "post-OP MRI", "event": "event MRI", "rd": "dose"}


BASELINES = {
    "majority_class": "the training set's larger class",
    "dose_volume": "logistic regression on dose-volume numbers",
    "clinical": "logistic regression on clinical numbers",
}


CONTROLS = {
    "shuffled_labels": "trained and scored on shuffled labels",
    "metadata_only": "site, scanner and the like in place of images",
}


ONE_MODEL = {"modality_dropout": "one model for all sets"}


def channels(modalities: str) -> str:
    """A modality set in words: `dose + post-OP MRI` for rd_post."""
    return " + ".join(map(channel_name, modalities.split("_")))


def channel_name(channel: str) -> str:
    """A channel in words; a further one, which nobody has named yet, by its own name."""
    return CHANNEL_NAMES.get(channel, channel)


def row_name(row: str) -> str:
    """Any row of a grid or of the results in words; `dose, control: shuffled labels` for rd-shuffled_labels."""
    name, _, control = row.partition("-")
    words = (BASELINES | ONE_MODEL | CONTROLS).get(name) or channels(name)
    return f"{words}, control: {control.replace('_', ' ')}" if control else words


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_in_words(value: float) -> str:
    """With the letter, as it stands in a sentence."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def interval(value: float | None, bounds: Sequence[float] | None) -> str:
    """A value with its 95% interval in brackets."""
    return number(value) + (f" (95% {number(bounds[0])} to {number(bounds[1])})" if bounds else "")
