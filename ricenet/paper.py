"""The seven modality sets of the paper and its published numbers."""

from collections.abc import Collection

# Macro-F1 (validation: mean over 5 folds; test: majority vote) as published; also the order of tables and figures.
PAPER: dict[str, dict[str, float | None]] = {
    "event": {"validation": 0.58, "test": None},
    "post": {"validation": 0.70, "test": None},
    "rd": {"validation": 0.78, "test": None},
    "post_event": {"validation": 0.70, "test": None},
    "rd_post": {"validation": 0.828, "test": None},
    "rd_event": {"validation": 0.83, "test": None},
    "rd_post_event": {"validation": 0.804, "test": 0.916},
}

# The channels of each set, in the order of ricenet.MODALITIES.
PAPER_CHANNELS: dict[str, tuple[str, ...]] = {
    "event": ("event",),
    "post": ("post",),
    "rd": ("rd",),
    "post_event": ("post", "event"),
    "rd_post": ("post", "rd"),
    "rd_event": ("event", "rd"),
    "rd_post_event": ("post", "event", "rd"),
}


def sets_of(channels: Collection[str]) -> list[str]:
    """The paper's sets that can be trained on cases with these channels."""
    return [name for name, needed in PAPER_CHANNELS.items() if set(needed) <= set(channels)]
