"""Text of folders and tables as Markdown: any value in, one line that shows just its characters out."""

import html
import re
from typing import Any


def escaped(value: Any) -> str:
    """`value` as one line of Markdown that shows just these characters: no markup, HTML, table cell or link."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())
    text = re.sub(r"([\\`*_\[\]{}|#~$!])", r"\\\1", html.escape(text, quote=False))
    return text.replace("://", "&#58;//").replace("www.", "www&#46;")
