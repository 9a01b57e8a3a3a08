"""The page of one patient in a real browser, from a file: what it draws, what its controls do, who can read it."""

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import prediction_sample as sample
from PIL import Image
from playwright import sync_api

from ricenet.prediction.patient_page import write_page

pytestmark = pytest.mark.extended
NAMES = ("chromium", "chromium-headless-shell", "chromium-browser")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
if CHROMIUM is None:
    pytest.skip(f"needs Debian's chromium; none of {', '.join(NAMES)} on the PATH", allow_module_level=True)
# WebGL without a graphics card.
SOFTWARE = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
CONTROLS = ["viewer-slices", "base=event", "shown=rd", "opacity=rd", "shown=map", "opacity=map", "jump=rd", "jump=map"]
WAIT_MS = 60_000
A4_PIXELS = 688  # 182 mm between the margins, at 96 dpi


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fit.html, with a viewer, structures.html, with outlines in it, and unfit.html."""
    folder = tmp_path_factory.mktemp("pages")
    place, brain = sample.world_from_voxel(), sample.brain()
    fit, unfit = sample.prediction(delivery=sample.delivery()), sample.unfit(delivery=sample.delivery(refused=True))
    write_page(folder / "fit.html", fit, sample.layers(), place, brain, sample.picture())
    with_structures = [*sample.layers(), sample.structures()]
    write_page(folder / "structures.html", sample.prediction(), with_structures, place, brain, sample.picture())
    write_page(folder / "unfit.html", unfit, None, place, brain, None)
    return folder


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    with sync_api.sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright: Any) -> Iterator[Any]:
    started = playwright.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE)
    yield started
    started.close()


def wait_for(page: Any, state: str) -> None:
    """Until the viewer is `ready`, or has `failed`; the page's policy forbids Playwright to wait for an expression."""
    page.locator(f"body[data-viewer={state}]").wait_for(state="attached", timeout=WAIT_MS)


class Opened:
    """A page in the browser, and what it said and asked for meanwhile."""

    def __init__(self, page: Any, path: Path) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(path.as_uri())

    def slices(self) -> np.ndarray:
        """(height, width, 3) as drawn."""
        shown = self.page.locator("#viewer-slices").screenshot()
        return np.asarray(Image.open(io.BytesIO(shown)).convert("RGB")).astype(int)

    def position(self) -> np.ndarray:
        """(3,) mm of the crosshair, as written."""
        text = self.page.inner_text("#viewer-position").replace("−", "-")
        return np.array([float(one) for one in re.findall(r"-?\d+\.\d", text)])

    def value(self, layer: str) -> str:
        return self.page.inner_text(f'[data-value="{layer}"]')

    def settle(self) -> None:
        """Until two more frames are drawn."""
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def focused(self) -> str:
        """The control that has the focus, as in CONTROLS."""
        return self.page.evaluate(
            "(() => { const at = document.activeElement, data = Object.entries(at.dataset);"
            " return at.type === 'radio' ? `${at.name}=${at.value}` : data.length && at !== document.body"
            " ? data[0].join('=') : at.id || at.type || at.tagName; })()"
        )


@pytest.fixture
def fit(browser: Any, pages: Path) -> Iterator[Opened]:
    """The page with its viewer, ready."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    opened = Opened(page, pages / "fit.html")
    wait_for(page, "ready")
    yield opened
    page.close()


@pytest.fixture
def unfit(browser: Any, pages: Path) -> Iterator[Opened]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield Opened(page, pages / "unfit.html")
    page.close()


def test_structures_are_outlined_and_named_under_the_crosshair(browser: Any, pages: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    opened = Opened(page, pages / "structures.html")
    wait_for(page, "ready")
    assert opened.value("structures") == "lesion"
    page.locator('[data-jump="rd"]').click()
    assert opened.value("structures") == "GTV"
    for name in ("rd", "map"):
        page.locator(f'[data-shown="{name}"]').uncheck()
    opened.settle()
    shown, colour = opened.slices(), np.array([0x56, 0xB4, 0xE9])  # of the second name
    page.locator('[data-shown="structures"]').uncheck()
    opened.settle()
    hidden = opened.slices()

    def outline(picture: np.ndarray) -> int:
        return int((abs(picture - colour).max(axis=2) < 60).sum())

    assert outline(shown) > 100
    assert outline(hidden) == 0
    assert opened.said == []
    page.close()


def test_it_draws_asks_for_nothing_and_complains_of_nothing(fit: Opened) -> None:
    shown = fit.slices()
    assert (shown.max(axis=2) > 40).mean() > 0.1, "not all background"
    assert len({tuple(pixel) for pixel in shown[::7, ::7].reshape(-1, 3)}) > 50
    assert [one for one in fit.asked if not re.match(r"data:|blob:", one)] == [fit.page.url]
    assert fit.said == []
    assert not fit.page.is_visible("#viewer-message")


def test_the_patients_right_is_on_the_left(fit: Opened) -> None:
    """The post-OP MRI of the sample becomes brighter along +x, in RAS+ the patient's right."""
    for name in ("rd", "map"):
        fit.page.locator(f'[data-shown="{name}"]').uncheck()
    fit.page.get_by_label("post-OP MRI").check()
    fit.settle()
    axial = fit.slices()[:, : 1100 // 3].mean(axis=2)
    bright = axial[40:-40, 40:-40]
    left, right = bright[:, : bright.shape[1] // 3], bright[:, -bright.shape[1] // 3 :]
    assert left[left > 15].mean() > right[right > 15].mean() + 40


def test_the_crosshair_tells_place_and_true_values(fit: Opened) -> None:
    assert np.allclose(fit.position(), sample.position(sample.DROP_AT), atol=0.06), "starts at the map's maximum"
    assert fit.value("map") == "0.30"
    fit.page.locator('[data-jump="rd"]').click()
    assert np.allclose(fit.position(), sample.position(sample.DOSE_AT), atol=0.06)
    assert fit.value("rd") == "66 Gy"
    post, event = (float(fit.value(name).replace("−", "-").removesuffix(" SD")) for name in ("post", "event"))
    truth = [layer.voxels[sample.DOSE_AT] for layer in sample.layers()[:2]]
    assert (post, event) == pytest.approx(truth, abs=0.07), "a step of 8 bits and the rounding"
    fit.page.locator('[data-jump="map"]').click()
    assert np.allclose(fit.position(), sample.position(sample.DROP_AT), atol=0.06)


def test_keys_move_the_crosshair_by_voxels_to_where_they_point(fit: Opened) -> None:
    axes = sample.world_from_voxel()[:3, :3].T
    fit.page.locator("#viewer-slices").focus()
    for key, step in (("ArrowLeft", axes[0]), ("ArrowUp", axes[1]), ("PageUp", axes[2])):
        back = {"ArrowLeft": "ArrowRight", "ArrowUp": "ArrowDown", "PageUp": "PageDown"}[key]
        before, drawn = fit.position(), fit.slices()
        fit.page.keyboard.press(key)
        assert np.allclose(fit.position() - before, step, atol=0.11), key
        assert (fit.slices() != drawn).any()
        fit.page.keyboard.press(back)
        assert np.allclose(fit.position(), before, atol=0.11), back


def test_the_librarys_own_keys_do_nothing(fit: Opened) -> None:
    fit.page.locator("#viewer-slices").focus()
    fit.page.locator("#viewer-slices").hover()  # it obeys keys only where the mouse is over the slices
    before = fit.slices()
    for key in ("h", "j", "k", "l", "m", "v", "c", "p", "?"):
        fit.page.keyboard.press(key)
    fit.settle()
    assert np.array_equal(fit.slices(), before)


def test_a_click_moves_the_crosshair_and_gives_the_slices_the_focus(fit: Opened) -> None:
    before = fit.position()
    fit.page.locator("#viewer-slices").click(position={"x": 150, "y": 150})
    fit.settle()
    assert not np.allclose(fit.position(), before)
    assert fit.focused() == "viewer-slices"


@pytest.mark.parametrize("name", ["rd", "map"])
def test_a_layer_can_be_hidden_and_made_clearer(fit: Opened, name: str) -> None:
    full = fit.slices()
    slider = fit.page.locator(f'[data-opacity="{name}"]')
    slider.fill("20")
    fit.settle()
    faint = fit.slices()
    box = fit.page.locator(f'[data-shown="{name}"]')
    box.uncheck()
    fit.settle()
    hidden = fit.slices()
    assert 0 < np.abs(faint - hidden).sum() < np.abs(full - hidden).sum()
    box.check()
    slider.fill("0")
    fit.settle()
    assert np.array_equal(fit.slices(), hidden)


def test_the_background_can_be_changed_and_everything_put_back(fit: Opened) -> None:
    first = fit.slices()
    fit.page.get_by_label("post-OP MRI").check()
    fit.settle()
    assert np.abs(fit.slices() - first).mean() > 5
    fit.page.locator('[data-opacity="map"]').fill("10")
    fit.page.locator('[data-jump="rd"]').click()
    fit.page.get_by_role("button", name="Reset the view").click()
    fit.page.wait_for_timeout(200)
    fit.settle()
    assert fit.page.get_by_label("event MRI").is_checked(), "it shows the lesion"
    assert np.allclose(fit.position(), sample.position(sample.DROP_AT), atol=0.06)
    assert np.abs(fit.slices() - first).mean() < 0.5
    assert fit.said == []


def test_the_wheel_scrolls_the_page_until_the_slices_have_the_focus(fit: Opened) -> None:
    fit.page.locator("#viewer-slices").scroll_into_view_if_needed()
    fit.page.locator("#viewer-slices").hover()
    before, top = fit.position(), fit.page.evaluate("scrollY")
    fit.page.mouse.wheel(0, 120)
    fit.page.wait_for_timeout(500)
    assert fit.page.evaluate("scrollY") > top
    assert np.allclose(fit.position(), before)
    fit.page.locator("#viewer-slices").click(position={"x": 150, "y": 150})
    before = fit.position()
    fit.page.mouse.wheel(0, 120)
    fit.page.wait_for_timeout(300)
    assert not np.allclose(fit.position(), before)


def test_every_control_is_reached_by_the_tabulator_in_order(fit: Opened) -> None:
    reached = []
    for _ in range(60):
        fit.page.keyboard.press("Tab")
        reached.append(fit.focused())
    places = [reached.index(name) for name in [*CONTROLS, "reset"]]
    assert places == sorted(places)
    fit.page.locator("h1").click()
    fit.page.reload()
    fit.page.keyboard.press("Tab")
    assert fit.page.evaluate("document.activeElement.className") == "skip"
    assert fit.page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0, "seen once it has the focus"


def names_of(page: Any) -> dict[str, list[str]]:
    """Accessible names by role, as the browser tells them to a screen reader."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    found: dict[str, list[str]] = {}
    for node in nodes:
        if not node["ignored"]:
            found.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    return found


def test_everything_has_a_name_for_a_screen_reader(fit: Opened) -> None:
    names = names_of(fit.page)
    assert names["checkbox"] == ["Show Dose", "Show Occlusion map"]
    assert names["slider"] == ["Opacity of Dose", "Opacity of Occlusion map"]
    assert names["radio"] == ["post-OP MRI", "event MRI"]
    assert names["button"][-1] == "Reset the view"
    assert names["application"] == ["Slices of the brain in three planes"]
    for role in ("button", "checkbox", "slider", "radio", "application", "link", "image", "img", "table", "heading"):
        assert all(names.get(role, [])), role
    live = fit.page.locator("[aria-live=polite]")
    assert live.count() == 1
    assert "0.30" in live.inner_text()


CONTRAST = """() => {
  const channels = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (at) => {
    for (; at; at = at.parentElement) {
      const c = channels(getComputedStyle(at).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  for (let node; (node = walker.nextNode());) {
    const at = node.parentElement;
    if (!node.textContent.trim() || /^(SCRIPT|STYLE)$/.test(at.tagName) || !at.getClientRects().length) continue;
    const look = getComputedStyle(at), inside = at instanceof SVGElement;
    const [a, b] = [light(channels(inside ? look.fill : look.color)), light(behind(at))];
    found.push([node.textContent.trim(), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]);
  }
  return found;
}"""


@pytest.mark.parametrize("name", ["fit", "unfit"])
def test_text_stands_out_from_what_is_behind_it(name: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(name).page.evaluate(CONTRAST)
    assert len(found) > 25
    assert [one for one in found if one[1] < 4.5] == []


@pytest.mark.parametrize("width", [1280, 800, 390])
def test_no_page_is_wider_than_its_window(browser: Any, pages: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    for name in ("fit", "unfit"):
        page.goto((pages / f"{name}.html").as_uri())
        if name == "fit":
            wait_for(page, "ready")
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    page.close()


def test_on_paper_the_picture_stands_for_the_viewer(fit: Opened) -> None:
    fit.page.emulate_media(media="print")
    assert not fit.page.is_visible("#viewer")
    assert not fit.page.is_visible("nav")
    assert fit.page.is_visible("figure img")
    assert fit.page.pdf()[:5] == b"%PDF-"


def test_on_paper_no_table_is_cut_off(browser: Any, pages: Path) -> None:
    page = browser.new_page(viewport={"width": A4_PIXELS, "height": 900})
    page.emulate_media(media="print")
    page.goto((pages / "unfit.html").as_uri())
    assert page.locator(".rt table").count() == 2
    rights = page.evaluate("[...document.querySelectorAll('table')].map(each => each.getBoundingClientRect().right)")
    assert max(rights) <= A4_PIXELS
    page.close()


def test_without_scripts_the_picture_and_a_sentence_stay(browser: Any, pages: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((pages / "fit.html").as_uri())
    assert page.is_visible("figure img")
    assert "needs JavaScript and WebGL 2" in page.inner_text("#viewer-message")
    assert not page.is_visible("#viewer")
    context.close()


def test_without_webgl_the_picture_and_a_sentence_stay(playwright: Any, pages: Path) -> None:
    plain = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-3d-apis"])
    page = plain.new_page()
    page.goto((pages / "fit.html").as_uri())
    wait_for(page, "failed")
    assert "could not start" in page.inner_text("#viewer-message")
    assert page.is_visible("figure img")
    assert not page.is_visible("#viewer")
    plain.close()


def test_a_page_without_an_answer_is_still_and_whole(unfit: Opened) -> None:
    assert "c0123456789ab: no prediction" in unfit.page.inner_text("h1")
    assert unfit.page.locator("script, canvas, input, button").count() == 0
    assert unfit.asked == [unfit.page.url]
    assert unfit.said == []
    names = names_of(unfit.page)
    assert all(names["heading"])
    assert all(names["link"])
