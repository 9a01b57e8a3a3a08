"""The shell: nothing from outside, everything from files escaped, the style's hash in the policy."""

import base64
import hashlib
import io
import re

import pytest
from jinja2 import UndefinedError
from PIL import Image

from ricenet.display.page import Picture, data_address, jpeg, render

VIEW = {
    "sections": [("summary", "Summary")],
    "classes": ("recurrence", "rice"),
    "codes": [],
    "label_tables": [],
    "pictures": [],
    "n_cases": 0,
    "findings": [],
    "counts": {"error": 0, "warning": 0, "info": 0},
    "cases": [],
    "excluded": {},
    "deliveries": [],
    "plain": set(),
    "versions": {},
}


def page(**view) -> str:
    return render("verify.html.j2", {"p_value": str}, **{**VIEW, **view})


def test_what_comes_from_files_is_escaped() -> None:
    text = page(versions={"<script>alert(1)</script>": '"><img src=x>'})
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text


def test_the_policy_allows_this_style_and_nothing_from_outside() -> None:
    text = page(pictures=[Picture(data_address(b"x", "image/png"), "alt", "caption")], n_cases=1)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'" in text
    assert re.findall(r'(?:src|href)="(?!#|data:)', text) == []


def test_a_name_that_the_template_misses_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="versions"):
        render(
            "verify.html.j2", {"p_value": str}, **{name: value for name, value in VIEW.items() if name != "versions"}
        )


def test_a_picture_is_made_small_and_keeps_its_shape() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (2200, 1100), "red").save(stream, "PNG")
    stream.seek(0)
    source = jpeg(stream)
    assert source.startswith("data:image/jpeg;base64,")
    with Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as image:
        assert image.size == (1100, 550)
        assert image.getpixel((5, 5))[0] > 250
