"""model.json of unknown origin in; the same as plain content, each part of the kind that ricenet writes, out."""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from ricenet import LABELS
from ricenet.cases.alignment import Settings
from ricenet.errors import InvalidInput
from ricenet.images.brain import BACKENDS, DEVICES, HDBET_MODES
from ricenet.images.registration import SCHEDULES
from ricenet.training.network import ARCHITECTURES, build_network

RECORD, VERSION = "model.json", 1
MOST_BYTES = 20_000_000  # of a manifest or model.json; ours have 30,000
CHANNEL = re.compile(r"[a-z][a-z0-9_]{0,63}")
NAME = re.compile(r"[A-Za-z0-9_-]{1,200}")
LARGEST, WIDEST = 1e12, 4096
CHOICES: dict[str, tuple[Any, ...]] = {
    "brain": BACKENDS,
    "hdbet_models": tuple(HDBET_MODES),
    "device": DEVICES,
    "reference": ("post", "event"),
    "brain_on": ("reference", "union", "intersection"),
    "registration": tuple(SCHEDULES),
    "dose_scaling": ("fixed", "zscore"),
}
LIMITS = {"size": (8, 1024), "spacing_mm": (0.25, 50.0), "seed": (0, 2**63)}
AGAIN = "copy the model folder again from where it was exported, or export it again"


def broken(rule: str, message: str, hint: str) -> InvalidInput:
    """The error of a model folder that breaks a rule; code model.<rule>."""
    return InvalidInput(f"model folder: {message}", hint, code=f"model.{rule}")


def read_record(path: Path) -> dict[str, Any]:
    """Read model.json.

    Raises:
        InvalidInput: it is no JSON, of another version, or a part of it is of another kind.
    """
    return _checked(_read_json(path))


def _read_json(path: Path) -> Any:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        return json.loads(path.read_bytes(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise broken("content", f"{path.name} cannot be read ({type(error).__name__})", AGAIN) from None


def _checked(content: Any) -> dict[str, Any]:
    """model.json, each of its parts of the kind that export_model writes."""
    if not isinstance(content, dict) or content.get("version") != VERSION:
        got = content.get("version") if isinstance(content, dict) else None
        raise broken("version", f"{RECORD} should have version {VERSION}, got {got!r}", "is there a newer ricenet?")
    wrong = [name for name, holds in RULES.items() if not holds(content.get(name, _ABSENT))]
    if wrong:
        raise broken("content", f"{RECORD}: {', '.join(wrong)} is not what ricenet writes", AGAIN)
    return content


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _are_channels(value: Any) -> bool:
    return _are_distinct(value) and all(isinstance(one, str) and CHANNEL.fullmatch(one) for one in value)


def _are_folds(value: Any) -> bool:
    return _are_distinct(value) and all(type(fold) is int and fold >= 0 for fold in value)


def _are_distinct(value: Any) -> bool:
    return isinstance(value, list) and value != [] and len(set(map(repr, value))) == len(value)


def _is_network(value: Any) -> bool:
    hints = get_type_hints(build_network)
    types = {name: hints[name] for name in inspect.signature(build_network).parameters if name != "channels"}
    if not _fits(value, types) or value["architecture"] not in ARCHITECTURES:
        return False
    sizes = (value[name] for name in ("width", "conv1_size", "conv1_stride"))
    return all(1 <= size <= WIDEST for size in sizes) and 0 <= value["dropout"] <= 1


def _is_preprocessing(value: Any) -> bool:
    """hdbet2_env names a program to run: that is never a model's to say."""
    return (
        _fits(value, get_type_hints(Settings))
        and all(value[name] in allowed for name, allowed in CHOICES.items())
        and all(low <= value[name] <= high for name, (low, high) in LIMITS.items())
        and value["hdbet2_env"] is None
    )


def _fits(values: Any, types: Mapping[str, Any]) -> bool:
    """Whether `values` has just these keys, each of its type; a whole number is a float too, a bool is no number."""
    if not isinstance(values, dict) or values.keys() != types.keys():
        return False
    return all(
        isinstance(value, types[name] | int if types[name] is float else types[name])
        and (types[name] is bool or not isinstance(value, bool))
        for name, value in values.items()
    )


def _is_number(value: Any) -> bool:
    """Of a size that ours have: JSON can hold 1e999, too."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _are_numbers(value: Any, names: Iterable[str]) -> bool:
    return isinstance(value, dict) and all(_is_number(value.get(name)) for name in names)


def _is_curve(value: Any) -> bool:
    if value is None:
        return True
    draws = _are_numbers(value, ("intercept", "slope", "n")) and value.get("draws")
    return isinstance(draws, list) and draws != [] and all(map(_is_pair, draws))


def _are_ranges(value: Any) -> bool:
    return isinstance(value, dict) and all(_are_numbers(one, ("low", "high", "n")) for one in value.values())


def _is_cohort(value: Any) -> bool:
    return _are_numbers(value, ("cases", "patients", *LABELS)) and type(value.get("phantom")) is bool


def _is_evaluation(value: Any) -> bool:
    if not _are_numbers(value, ("oof_macro_f1", "auroc", "n", "seeds")):
        return False
    intervals = (value.get(name) for name in ("oof_interval", "auroc_interval"))
    return all(one is None or _is_pair(one) for one in intervals)


_ABSENT = object()
RULES: dict[str, Callable[[Any], bool]] = {
    "name": _is_name,
    "channels": _are_channels,
    "labels": lambda value: value == list(LABELS),
    "network": _is_network,
    "folds": _are_folds,
    "preprocessing": _is_preprocessing,
    "calibration": _is_curve,
    "calibration_reason": lambda value: isinstance(value, str),
    "ranges": _are_ranges,
    "cohort": _is_cohort,
    "evaluation": _is_evaluation,
    "versions": lambda value: isinstance(value, dict),
}
