"""What a series' name tells beside contrast and kind: a scout, a delayed series, one before an operation.

It never returns or prints a name.
"""

import re

from ricenet.dicom.series_words import LETTERS, words_of

SCOUT = re.compile(
    r"\b(?:loc|locali\w*|scouts?|survey|pilot|plan ?scan|3 ?plane|aahead\w*|smart ?(?:brain|plan)|calib\w*)\b"
)
PREOPERATIVE = re.compile(r"(?<![a-z])pr(?:e|ae|ä|é)[\s_-]?(?:op(?![a-z])|oper|surg|resec|chir|cirug|cirurg)")
DELAYED = re.compile(
    r"\b(?:delay\w*|late|spat\w*|verzogert\w*|tardi\w*|retard\w*|tard[ei]|tram|\d{2,3} ?min)\b|延[迟遲]|遅延"
)


def is_scout(text: str) -> bool:
    """Whether a name is that of a scan on which others were planned."""
    return SCOUT.search(words_of(text)) is not None


def is_delayed(text: str) -> bool:
    """Whether a name says that it was measured some time after the usual one."""
    return DELAYED.search(words_of(text)) is not None


def is_before_operation(text: str) -> bool:
    """Whether a name says that it was measured for an operation to come; which one, no name says."""
    return PREOPERATIVE.search(text.translate(LETTERS).lower()) is not None
