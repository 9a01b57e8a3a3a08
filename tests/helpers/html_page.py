"""A page of ours as a test reads it: tags, text by section, and what every page must keep."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

EVIL = "\"'><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Tags with their attributes, and the text by section heading."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self._section = "before"
        self._inside = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "h2":
            self._section = dict(attrs)["id"] or ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("style", "script"):
            self.sections[self._section] = f"{self.sections.get(self._section, '')} {' '.join(data.split())}"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(self.sections.values())

    @property
    def words(self) -> dict[str, str]:
        """The sections with one space between words."""
        return {name: " ".join(text.split()) for name, text in self.sections.items()}


def assert_asks_for_nothing(page: Page) -> None:
    """No script, no address but data: and places in the page, and a policy that allows this style alone."""
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    style = re.search(r"<style>(.*?)</style>", page.source, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith(f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri")
    assert {(image["src"] or "").split(":")[0] for image in page.all("img")} <= {"data"}
    assert all((link["href"] or "").startswith("#") for link in page.all("a"))
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "form")]
    handlers = [name for _, attributes in page.tags for name in attributes if name == "style" or name.startswith("on")]
    assert not handlers
    assert "url(" not in style[1]


def assert_for_everyone(page: Page) -> None:
    """A language, texts for pictures, captions, scopes, levels of headings in order, and links that lead somewhere."""
    assert page.all("html") == [{"lang": "en"}]
    assert all(image["alt"] for image in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table")) > 0
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    named = {attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes}
    assert {(link["href"] or "")[1:] for link in page.all("a")} | named <= set(identifiers)
