"""Render our HTML pages: a template and its content in, one self-contained page out.

A page carries its style, its pictures and, if it has any, its scripts inside, asks no address for anything, runs no
other script and escapes whatever comes from a file. Templates extend page.html.j2.
"""

import base64
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

if TYPE_CHECKING:
    from jinja2 import BytecodeCache


@dataclass(frozen=True)
class Picture:
    """An image inside the page: `source` is a data: address."""

    source: str
    alt: str
    caption: str


def render(template: str, filters: Mapping[str, Callable[..., str]], scripts: Sequence[str] = (), **view: Any) -> str:
    """The page that `template`, a file beside this module, makes of `view`.

    Args:
        scripts: JavaScript that runs at the end of the page, in this order; our own files only, as nothing in them is
            escaped. The page's policy allows exactly these, by their hashes, and without any no script at all.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=_compiled(),
    )
    environment.filters |= filters
    style = (folder / "report.css").read_text()
    return environment.get_template(template).render(
        style=style,
        style_hash=_hash(style),
        scripts=scripts,
        script_hashes=[_hash(script) for script in scripts],
        **view,
    )


@cache
def _compiled() -> "BytecodeCache":
    """The compiled templates of this process: to compile one takes longer than to fill it."""
    from jinja2 import BytecodeCache
    from jinja2.bccache import Bucket

    class InMemory(BytecodeCache):
        kept: ClassVar[dict[str, bytes]] = {}

        def load_bytecode(self, bucket: Bucket) -> None:
            if bucket.key in self.kept:
                bucket.bytecode_from_string(self.kept[bucket.key])

        def dump_bytecode(self, bucket: Bucket) -> None:
            self.kept[bucket.key] = bucket.bytecode_to_string()

    return InMemory()


def _hash(content: str) -> str:
    """As a Content-Security-Policy names what it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def jpeg(image: Path | BinaryIO) -> str:
    """The data: address of a picture, made small enough that a page holds many."""
    from PIL import Image

    with Image.open(image) as original:
        small = original.convert("RGB")
        small.thumbnail((1100, 1100))
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=85)
    return data_address(stream.getvalue(), "image/jpeg")


def figure(folder: Path, name: str, caption: str) -> Picture | None:
    """A figure that a stage wrote as `folder`/`name`.svg or .png: the drawing if it is there, else the raster image."""
    for suffix, kind in ((".svg", "image/svg+xml"), (".png", "image/png")):
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return Picture(data_address(path.read_bytes(), kind), caption, caption)
    return None


def data_address(content: bytes, kind: str) -> str:
    """`content` of the media type `kind` as a data: address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
