"""Additional channels beyond post, event and rd, read from the files of the Hydra group `modalities`.

A cohort's further MRI needs no code: a file of that group, in conf/modalities or in a folder given with --config-dir,
names it among its channels, and cohort.csv has a column of that name. It is treated as the event MRI is.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ricenet import MODALITIES
from ricenet.cohort.covariates import DAYS, NAMES
from ricenet.cohort.table import COLUMNS, DATES, LESION_MM, Case, is_further_dose
from ricenet.errors import WrongUsage

GROUP = "modalities"
NAME = re.compile(r"[a-z][a-z0-9_]*")
# Columns that say something else in cohort.csv; and what the quality control calls something else.
TAKEN = {*COLUMNS, LESION_MM, *NAMES, *DATES, DAYS, "post_day", "event_day", "brain", "dose"} - {*MODALITIES}

log = logging.getLogger(__name__)


def further_channels() -> tuple[str, ...]:
    """The channels beyond MODALITIES that the running command knows, in the order in which its config files name them.

    For the main of a stage, where Hydra knows the config search path.

    Raises:
        WrongUsage: as read_further.
    """
    from hydra.core.hydra_config import HydraConfig

    sources = HydraConfig.get().runtime.config_sources
    return read_further(Path(source.path) for source in sources if source.schema == "file")


def read_further(folders: Iterable[Path]) -> tuple[str, ...]:
    """The channels beyond MODALITIES of every file of the group in these config folders.

    Raises:
        WrongUsage: a file without the keys name and channels, or a name that no column of an image can have; it names
            the channels that are known.
    """
    files = [path for folder in folders for path in sorted((folder / GROUP).glob("*.yaml"))]
    named = [(path.name, name) for path in files for name in _channels(path)]
    channels = in_order([*MODALITIES, *(name for _, name in named if _is_name(name))])
    for file, name in named:
        if name not in channels:
            raise WrongUsage(
                f"config file {GROUP}/{file}: expected channels among {', '.join(channels)}, or another column of "
                f"cohort.csv that holds images (lower-case letters, digits and _), got {name!r}"
            )
    return tuple(channels[len(MODALITIES) :])


def read_sets(folders: Iterable[Path]) -> dict[str, tuple[str, ...]]:
    """The modality sets of these config folders, by the name that +modalities= takes.

    Raises:
        WrongUsage: a file without the keys name and channels.
    """
    files = [path for folder in folders for path in sorted((folder / GROUP).glob("*.yaml"))]
    return {path.stem: tuple(_channels(path)) for path in files}


def in_order(channels: Iterable[str]) -> list[str]:
    """Each channel once: post, event, rd, then the others as they come."""
    given = dict.fromkeys(channels)
    return [*(name for name in MODALITIES if name in given), *(name for name in given if name not in MODALITIES)]


def log_further(further: Sequence[str], cases: Sequence[Case]) -> None:
    """Say which of the further channels a cohort has: a column with another name would be passed over in silence."""
    if further:
        present = [name for name in further if any(name in case.images for case in cases)]
        missing = [name for name in further if name not in present]
        log.info(
            "further channels: %s; not in cohort.csv: %s", ", ".join(present) or "none", ", ".join(missing) or "none"
        )


def log_lacking(cases: Sequence[Case]) -> None:
    """Say which of post, event and rd no case has, and which some lack, with how many do."""
    have = {name: sum(name in case.images for case in cases) for name in in_order(_all_channels(cases))}
    none = [name for name, count in have.items() if not count]
    some = [f"{name} ({count} of {len(cases)})" for name, count in have.items() if 0 < count < len(cases)]
    if none:
        log.info("no case has %s: modality sets with it cannot be trained", ", ".join(none))
    if some:
        log.warning("partial cohort: not every case has %s", ", ".join(some))


def _all_channels(cases: Sequence[Case]) -> list[str]:
    return [*MODALITIES, *(name for case in cases for name in case.images)]


def _is_name(name: Any) -> bool:
    return (
        isinstance(name, str) and NAME.fullmatch(name) is not None and name not in TAKEN and not is_further_dose(name)
    )


def _channels(path: Path) -> list[Any]:
    """The channels that a file of the group lists.

    What a file leaves out would be the default's: another set under the default's name, or its channels under another.
    """
    import yaml

    content = yaml.safe_load(path.read_bytes())
    if not isinstance(content, dict) or not {"name", "channels"} <= content.keys():
        raise WrongUsage(f"config file {GROUP}/{path.name}: expected the keys name and channels; add them")
    if not isinstance(content["channels"], list) or not content["channels"]:
        raise WrongUsage(
            f"config file {GROUP}/{path.name}: expected a list of channels such as [post, event, rd, flair], got "
            f"{content['channels']!r}"
        )
    return content["channels"]
