"""Refuse configs that run code: targets that Hydra would call before any of our code sees the config.

Every key that is not in a stage's schema is an error there (ricenet.command.schemas), but Hydra itself calls what a
config names as a callback (`_target_`) or as a logging handler (`()`). Only our own callback may stand there.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ricenet.command.schemas import CONF_DIR
from ricenet.errors import WrongUsage

ALLOWED = ("ricenet.training.grid_summary.GridSummary",)
CALLS = ("_target_", "()")
FOLDER_FLAGS = ("--config-dir", "-cd", "--config-path", "-cp")
SEARCH_PATH = "hydra.searchpath"


def refuse_calls(arguments: list[str]) -> None:
    """Look through the command line and every config file that it can reach.

    Raises:
        WrongUsage: naming the argument or file, and what it would call.
    """
    for argument in arguments:
        for word in (*CALLS, SEARCH_PATH):
            if word in argument.partition("=")[0] or (word in CALLS and f"{word}:" in argument):
                raise WrongUsage(f"{argument}: a config holds values; {word} is not one of its keys")
    for folder in (CONF_DIR, *_folders(arguments)):
        for path in sorted(folder.rglob("*.yaml")):
            for key, value in _calls(path):
                raise WrongUsage(
                    f"config file {path.name}: {key} would call {value!r}; a config holds values, remove it"
                )


def _folders(arguments: list[str]) -> Iterator[Path]:
    """Folders of configs besides ours, which the command line names."""
    following = [*arguments[1:], ""][: len(arguments)]
    for argument, after in zip(arguments, following, strict=True):
        flag, _, value = argument.partition("=")
        if flag in FOLDER_FLAGS:
            yield Path(value or after)


def _calls(path: Path) -> Iterable[tuple[str, Any]]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(path.read_bytes(), loader)
    except yaml.YAMLError as error:
        raise WrongUsage(f"config file {path.name} is not YAML ({str(error).splitlines()[0]})") from None
    return [(key, value) for key, value in _items(content) if _is_call(key, value)]


def _is_call(key: str, value: Any) -> bool:
    return (key in CALLS and value not in ALLOWED) or key == "searchpath"


def _items(content: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value, however deep."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield str(key), value
            yield from _items(value)
    elif isinstance(content, list):
        for value in content:
            yield from _items(value)
