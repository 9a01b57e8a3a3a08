"""Any text in Markdown: it shows just its characters, and makes no markup."""

import html
import re

from hypothesis import example, given
from hypothesis import strategies as st

from ricenet.display.markdown import escaped


@given(st.text())
@example("a\\|b & <i> &lt; www.x.org http://y `z` _u_ #1 \u2028 \x00 $m$ ~s~")
def test_escaped_text_shows_the_characters_it_was_made_of(text: str) -> None:
    """Markdown's own rules backwards: a backslash before punctuation goes, entities become characters."""
    rendered = html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", escaped(text)))
    visible = "".join(one if one.isprintable() else " " for one in text)
    assert rendered == " ".join(visible.split())
    assert not re.search(r"[\n<>]|(?<!\\)\||://", escaped(text))
