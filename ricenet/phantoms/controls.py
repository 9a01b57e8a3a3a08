"""What a phantom patient has apart from its label: a draw in; site, days, scanners, and which images exist out.

An evaluation must find nothing in them: each is drawn from random numbers of its own, in every format the same.
"""

import numpy as np

from ricenet import MODALITIES
from ricenet.phantoms.causal_model import Draw
from ricenet.phantoms.hospital import DATES_STREAM, draw_dates

CONTROLS = ("site", "days_since_rt")
SCANNER_CONTROLS = ("post_scanner", "event_scanner")  # of difficulty=hard besides
SITES = ("north", "south")


def control_names(difficulty: str) -> tuple[str, ...]:
    """The columns of `controls` in a cohort of this difficulty."""
    return CONTROLS if difficulty == "standard" else (*CONTROLS, *SCANNER_CONTROLS)


def controls(draw: Draw) -> dict[str, str]:
    """Column -> value of the patient; the days are those of the headers in format=dicom."""
    site = SITES[np.random.default_rng([draw.seed, 5]).integers(len(SITES))]
    _, radiotherapy, event = draw_dates(np.random.default_rng([draw.seed, DATES_STREAM]))
    drawn = {"site": site, "days_since_rt": str((event - radiotherapy).days)}
    scanners = {name: draw.appearance.scanner(name.partition("_")[0]).name for name in SCANNER_CONTROLS}
    return {name: (drawn | scanners)[name] for name in control_names(draw.difficulty)}


def existing_channels(draw: Draw, without_post: float, without_rd: float) -> tuple[str, ...]:
    """Which images the patient has, in the order of MODALITIES; the shares are those of conf/phantom.yaml."""
    shares = {"post": without_post, "rd": without_rd}
    drawn = dict(zip(shares, np.random.default_rng([draw.seed, 6]).random(len(shares)), strict=True))
    return tuple(role for role in MODALITIES if role not in shares or drawn[role] >= shares[role])
