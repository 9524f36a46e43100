"""The Image tab in a real browser: gestures, corrections, downloads, sessions, two visitors, the plain fallback."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.figures import FIGURES
from tests.ui.chromium import SurfaceDriver, choose_file, download, needs_chromium
from tests.ui.conftest import running_app

pytest.importorskip("playwright.sync_api")
pytestmark = needs_chromium

DISC = (150, 110, 60)  # x, y, radius of a red disc in the test photo
OTHER = (330, 180, 45)  # and of a blue one


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of a red and a blue disc, 1000x700, so that the view differs from a page's pixels."""
    image = np.full((280, 400, 3), (90, 110, 90), np.uint8)
    cv2.circle(image, DISC[:2], DISC[2], (210, 50, 40), -1, cv2.LINE_AA)
    cv2.circle(image, OTHER[:2], OTHER[2], (40, 70, 210), -1, cv2.LINE_AA)
    path = tmp_path_factory.mktemp("photos") / "two discs.png"
    Image.fromarray(cv2.resize(image, (1000, 700), interpolation=cv2.INTER_CUBIC)).save(path)
    return path


GROUND, RED, BLUE = (30, 30), DISC[:2], OTHER[:2]  # places in the drawing
SCALE = 2.5  # pixels of the photo for one of the drawing


class Visitor:
    """One browser window on the Image tab."""

    def __init__(self, browser, address: str, **context) -> None:  # noqa: ANN001, ANN003
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 720}, **context})
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_selector("#image-examples button.gallery-item")
        self.surface = SurfaceDriver(self.page, "#image-view")

    def upload(self, photo: Path) -> None:
        def act() -> None:
            self.page.set_input_files("#image-upload input[type=file]", str(photo))

        if self.page.locator(self.surface.root).count():
            self.surface.refreshed(act)
        else:
            act()
            self.surface.wait_shown()

    def click(self, x: float, y: float, **options) -> None:  # noqa: ANN003
        """Click at a place of the 400x280 drawing."""
        self.surface.click(x * SCALE, y * SCALE, **options)

    def tint(self, x: float, y: float) -> list[int]:
        return self.surface.colour_at(x * SCALE, y * SCALE)

    def rows(self) -> list[str]:
        return self.page.locator("#image-objects .sk-name").all_inner_texts()

    def press(self, button: str) -> None:
        """A button that brings a new scene."""
        self.surface.refreshed(lambda: self.page.click(button))

    def download(self, kind: str, folder: Path) -> Path:
        return download(self.page, f"#image-download-{kind}", folder)

    def leave(self) -> None:
        assert self.problems == []
        self.context.close()


@pytest.fixture
def visitor(browser, address: str, discs: Path) -> Iterator[Visitor]:  # noqa: ANN001
    visitor = Visitor(browser, address)
    visitor.upload(discs)
    yield visitor
    visitor.leave()


def disc_mask(disc: tuple[int, int, int]) -> np.ndarray:
    y, x = np.mgrid[0:280, 0:400]
    return (x - disc[0]) ** 2 + (y - disc[1]) ** 2 <= disc[2] ** 2


def differs(a: list[int], b: list[int]) -> bool:
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) > 40


def test_a_click_covers_the_disc_and_downloads_are_exact(visitor: Visitor, tmp_path: Path) -> None:
    places = [(150, 70), (120, 130), (330, 180), (30, 30), (380, 260)]
    before = [visitor.tint(*p) for p in places]
    visitor.click(DISC[0] + 15, DISC[1])
    changed = [differs(a, visitor.tint(*p)) for a, p in zip(before, places, strict=True)]
    assert changed == [True, True, False, False, False], "only the disc is covered"
    truth = disc_mask(DISC)
    mask = np.array(Image.open(visitor.download("mask", tmp_path)))
    assert mask.shape == (700, 1000)
    small = cv2.resize(mask, (400, 280), interpolation=cv2.INTER_AREA) > 127
    assert (small & truth).sum() / (small | truth).sum() > 0.8
    cutout = Image.open(visitor.download("cutout", tmp_path))
    assert cutout.mode == "RGBA"
    assert abs(cutout.width - 2.5 * 2 * DISC[2]) < 60
    coco = json.loads(visitor.download("coco", tmp_path).read_text())
    assert coco["annotations"][0]["area"] == (mask > 0).sum()


def test_removing_works_with_either_gesture_and_undo_brings_back(visitor: Visitor, tmp_path: Path) -> None:
    image = np.full((280, 400, 3), (90, 110, 90), np.uint8)
    cv2.circle(image, (140, 140), 60, (210, 50, 40), -1, cv2.LINE_AA)
    cv2.circle(image, (255, 140), 60, (210, 50, 40), -1, cv2.LINE_AA)
    Image.fromarray(cv2.resize(image, (1000, 700))).save(tmp_path / "two that touch.png")
    visitor.upload(tmp_path / "two that touch.png")
    plain = visitor.tint(290, 120)
    visitor.click(140, 140)
    assert differs(plain, visitor.tint(290, 120)), "one click takes both for one thing"
    visitor.click(270, 140, button="right")
    assert not differs(plain, visitor.tint(290, 120))
    visitor.press("#image-undo")
    assert differs(plain, visitor.tint(290, 120))
    assert visitor.surface.points() == 1
    visitor.surface.shift_click(270 * SCALE, 140 * SCALE)
    assert not differs(plain, visitor.tint(290, 120))
    assert visitor.surface.points() == 2
    visitor.click(270, 140)  # a click on a point takes it away
    assert visitor.surface.points() == 1
    assert differs(plain, visitor.tint(290, 120))
    visitor.page.keyboard.press("r")
    visitor.click(270, 140)
    assert not differs(plain, visitor.tint(290, 120)), "in the other mode a plain click removes"
    visitor.page.keyboard.press("Control+z")
    visitor.page.wait_for_function("document.querySelector('#image-view .sk-surface').dataset.points === '1'")


def test_a_drag_is_a_box_whose_corner_takes_it_away(visitor: Visitor) -> None:
    x, y, r = (v * SCALE for v in OTHER)
    plain = visitor.tint(*BLUE)
    visitor.surface.answered(lambda: visitor.surface.drag(x - r, y - r, x + r, y + r))
    assert differs(plain, visitor.tint(*BLUE))
    assert not differs([210, 50, 40], visitor.tint(*RED))
    visitor.surface.click(x + r, y - r)
    assert not differs(plain, visitor.tint(*BLUE))


def test_hovering_shows_what_a_click_would_do(visitor: Visitor) -> None:
    page, surface = visitor.page, visitor.surface
    page.mouse.move(*surface.at(DISC[0] * SCALE, DISC[1] * SCALE))
    page.wait_for_function("Number(document.querySelector('#image-view .sk-surface').dataset.ghosts || 0) > 0")
    assert "Click: add to Object 1" in surface.hint()
    page.keyboard.down("Shift")
    assert "Click: take away" in surface.hint()
    page.keyboard.up("Shift")
    assert visitor.rows() == ["Object 1"]
    assert surface.points() == 0, "a preview changes nothing"
    visitor.click(*RED)
    page.mouse.move(*surface.at(DISC[0] * SCALE + 3, DISC[1] * SCALE))
    assert surface.hint() == "Click: take this point away"


def test_zoom_places_a_click_exactly(visitor: Visitor) -> None:
    """At ten times the size, places that lie in one pixel of the page at first are told apart."""
    page, surface = visitor.page, visitor.surface
    x, y = surface.at(DISC[0] * SCALE, DISC[1] * SCALE)
    page.mouse.move(x, y)
    for _ in range(8):
        page.mouse.wheel(0, -180)
    assert float(surface.data("zoom")) > 5
    asked = []
    page.on("request", lambda request: asked.append(request.post_data_json) if "component_server" in request.url else 0)
    surface.answered(lambda: page.mouse.click(x, y))
    surface.answered(lambda: page.mouse.click(x + 30, y))
    (x0, y0, _), (x1, y1, _) = next(a["data"]["points"] for a in asked[::-1] if len(a["data"]["points"]) == 2)
    assert (x0, y0) == pytest.approx((DISC[0] * SCALE, DISC[1] * SCALE), abs=1)
    assert 0 < x1 - x0 < 12
    assert y1 == pytest.approx(y0, abs=0.01)
    page.keyboard.press("0")
    assert surface.data("zoom") == "1.00"


def test_touch_taps_pinches_and_works_on_a_phone(browser, address: str, discs: Path) -> None:  # noqa: ANN001
    visitor = Visitor(
        browser, address, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True, device_scale_factor=2
    )
    visitor.upload(discs)
    page, surface = visitor.page, visitor.surface
    plain = visitor.tint(120, 130)
    surface.answered(lambda: page.touchscreen.tap(*surface.at(DISC[0] * SCALE, DISC[1] * SCALE)))
    assert differs(plain, visitor.tint(120, 130))
    x, y = surface.at(DISC[0] * SCALE, DISC[1] * SCALE)
    touch = visitor.context.new_cdp_session(page)
    for kind, reach in (("touchStart", 20), ("touchMove", 40), ("touchMove", 80), ("touchEnd", None)):
        fingers = [] if reach is None else [{"x": x - reach, "y": y, "id": 0}, {"x": x + reach, "y": y, "id": 1}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    assert float(surface.data("zoom")) > 2.5
    assert surface.points() == 1, "two fingers do not click"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out sideways"
    visitor.leave()


def test_objects_are_listed_named_and_removed(visitor: Visitor) -> None:
    page = visitor.page
    visitor.click(*RED)
    visitor.surface.refreshed(lambda: page.keyboard.press("n"))
    visitor.click(*BLUE)
    page.wait_for_function("document.querySelectorAll('#image-objects img[src^=\"data:\"]').length === 2")
    assert visitor.rows() == ["Object 1", "Object 2"]
    page.locator("#image-objects .sk-rename").nth(1).click()
    page.keyboard.type("sea")
    visitor.surface.refreshed(lambda: page.keyboard.press("Enter"))
    assert visitor.rows() == ["Object 1", "sea"]
    visitor.surface.refreshed(lambda: page.locator("#image-objects .sk-pick").nth(0).click())
    assert page.locator("#image-view .sk-active").inner_text() == "Object 1"
    visitor.surface.refreshed(lambda: page.locator("#image-objects .sk-drop").nth(0).click())
    assert visitor.rows() == ["sea"]
    assert not differs([210, 50, 40], visitor.tint(*RED))
    visitor.press("#image-clear")
    assert visitor.rows() == ["Object 1"]
    visitor.press("#image-undo")
    assert visitor.rows() == ["sea"]


def test_a_session_is_reopened_in_another_window(browser, address: str, visitor: Visitor, tmp_path: Path) -> None:  # noqa: ANN001
    visitor.click(*RED)
    visitor.surface.refreshed(lambda: visitor.page.keyboard.press("n"))
    visitor.click(*BLUE)
    first, session = visitor.download("mask", tmp_path), visitor.download("session", tmp_path)
    mask = np.array(Image.open(first))
    other = Visitor(browser, address)
    choose_file(other.page, "#image-load", session)
    other.surface.wait_shown()
    assert other.rows() == ["Object 1", "Object 2"]
    (tmp_path / "again").mkdir()
    assert np.array_equal(np.array(Image.open(other.download("mask", tmp_path / "again"))), mask)
    other.click(*BLUE)  # on the point that came with the session
    assert other.surface.points() == 0
    other.leave()


def test_a_pasted_photo_opens(visitor: Visitor) -> None:
    """Ctrl+V hands the clipboard's picture to the page; here the event is made by hand."""
    visitor.surface.refreshed(
        lambda: visitor.page.evaluate(
            """async () => {
                const canvas = new OffscreenCanvas(64, 48);
                canvas.getContext('2d').fillRect(0, 0, 64, 48);
                const photo = new File([await canvas.convertToBlob()], 'pasted.png', { type: 'image/png' });
                const data = new DataTransfer();
                data.items.add(photo);
                document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }));
            }"""
        )
    )
    assert visitor.surface.data("size") == "64,48"


def test_two_visitors_do_not_see_each_other(browser, address: str, discs: Path) -> None:  # noqa: ANN001
    one, two = Visitor(browser, address), Visitor(browser, address)
    one.upload(discs)
    two.upload(discs)
    red, blue = two.tint(*RED), two.tint(*BLUE)
    one.click(*RED)
    two.click(*BLUE)
    assert not differs(red, two.tint(*RED))
    assert differs(blue, two.tint(BLUE[0], BLUE[1] - 20))
    assert not differs(blue, one.tint(*BLUE))
    one.leave()
    two.leave()


def test_examples_everything_and_a_new_photo(visitor: Visitor, discs: Path) -> None:
    page = visitor.page
    page.click("#image-another")
    page.wait_for_selector("#image-upload", state="visible")
    page.locator("#image-examples button.gallery-item").nth(3).click()
    visitor.surface.wait_shown()
    page.click("#image-everything button")
    page.locator("#image-points input[type=number]").fill("4")
    page.click("#image-find")
    page.wait_for_function("/masks found|No mask/.test(document.querySelector('#image-status').innerText)")
    visitor.upload(discs)
    visitor.click(*RED)
    assert page.locator(".toast-body").count() == 0


def test_the_first_click_on_another_photo_counts(visitor: Visitor, discs: Path) -> None:
    """The surface is mounted anew then, and the server remembers how many requests there were."""
    for place in (RED, BLUE, GROUND):
        visitor.click(*place)
    visitor.page.click("#image-another")
    visitor.page.wait_for_selector("#image-upload", state="visible")
    visitor.upload(discs)
    visitor.click(*RED)
    assert visitor.surface.points() == 1


def test_undo_while_a_click_is_under_way_leaves_page_and_server_alike(visitor: Visitor) -> None:
    page, surface = visitor.page, visitor.surface
    visitor.click(*RED)
    for _ in range(3):
        page.mouse.click(*surface.at(BLUE[0] * SCALE, BLUE[1] * SCALE))
        page.click("#image-undo")
        page.wait_for_function("document.querySelector('#image-view .sk-surface').dataset.busy === 'no'")
        page.wait_for_timeout(300)
    shown = surface.points()
    surface.refreshed(lambda: page.keyboard.press("n"))
    surface.refreshed(lambda: page.locator("#image-objects .sk-pick").first.click())
    assert surface.points() == shown, "the server has what the page showed"
    visitor.click(*GROUND)
    assert surface.points() == shown + 1


def test_a_file_that_is_no_photo_gets_one_clear_line(visitor: Visitor, tmp_path: Path) -> None:
    bad = tmp_path / "holiday.jpg"
    bad.write_text("this is no photo")
    visitor.page.set_input_files("#image-upload input[type=file]", str(bad))
    toast = visitor.page.wait_for_selector(".toast-body").inner_text()
    assert "holiday.jpg is not a picture" in toast
    assert "Traceback" not in toast
    assert "/tmp" not in toast
    visitor.click(*RED)  # the open photo is still there


def test_downloading_before_clicking_says_what_to_do(visitor: Visitor) -> None:
    visitor.page.click("#image-download-mask")
    assert "click on something first" in visitor.page.wait_for_selector(".toast-body").inner_text()


def test_every_control_has_a_label_and_shortcuts_are_told(visitor: Visitor) -> None:
    page = visitor.page
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, textarea, canvas, [role=radio]')]
            .filter((e) => e.offsetParent && e.type !== 'file')
            .filter((e) => !(e.innerText || e.ariaLabel || e.title || e.labels?.[0]?.innerText || e.querySelector('img')
                             || e.closest('label')?.innerText || e.closest('[aria-label]')))
            .map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert nameless == []
    page.keyboard.press("?")
    help_text = page.locator("#image-view .sk-help").inner_text()
    for words in ("box", "remove from the mask", "undo", "new object", "candidate 1", "zoom"):
        assert words in help_text


def test_the_page_follows_a_dark_theme(browser, address: str, discs: Path) -> None:  # noqa: ANN001
    visitor = Visitor(browser, f"{address}/?__theme=dark")
    visitor.upload(discs)
    ground, text = visitor.page.evaluate(
        """() => ['.gradio-container', '#image-view .sk-active'].map((s, i) =>
            getComputedStyle(document.querySelector(s))[i ? 'color' : 'backgroundColor'].match(/[0-9.]+/g).slice(0, 3)
            .reduce((sum, v) => sum + Number(v), 0) / 3)"""
    )
    assert ground < 60
    assert text > 180
    visitor.leave()


def test_from_click_to_overlay_in_a_blink(visitor: Visitor, tmp_path: Path) -> None:
    """Measured by the page itself, from the gesture to the drawn mask; the figure is printed after the tests."""
    photo = np.full((720, 1280, 3), (90, 110, 90), np.uint8)
    for i in range(12):
        cv2.circle(photo, (100 + 98 * i, 360), 40, (210, 50 + 15 * i, 40), -1, cv2.LINE_AA)
    Image.fromarray(photo).save(tmp_path / "row.png")
    visitor.upload(tmp_path / "row.png")
    took = []
    for i in range(12):
        visitor.surface.click(100 + 98 * i, 360)
        took.append(float(visitor.surface.data("took")))
        visitor.page.wait_for_timeout(80)
    FIGURES.append(
        f"click to overlay, 1280x720, nano: median {statistics.median(took):.0f} ms of {len(took)} clicks "
        f"(from {min(took):.0f} to {max(took):.0f})"
    )
    assert statistics.median(took) < 2000, "the goal is 150 ms; machines under load are given time"


def test_the_plain_page_works_without_the_surface(browser, discs: Path) -> None:  # noqa: ANN001
    with running_app("--plain") as address:
        context = browser.new_context(viewport={"width": 1280, "height": 720})
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("#image-examples button.gallery-item")
        page.set_input_files("#image-upload input[type=file]", str(discs))
        page.wait_for_function("document.querySelector('#image-view img')?.naturalWidth > 0")
        assert page.locator("canvas").count() == 0
        before = page.get_attribute("#image-view img", "src")
        box = page.locator("#image-view img").bounding_box()
        page.mouse.click(box["x"] + box["width"] * DISC[0] / 400, box["y"] + box["height"] * DISC[1] / 280)
        page.wait_for_function("s => document.querySelector('#image-view img').src !== s", arg=before)
        page.locator("#image-mode input[value='Remove']").click()
        page.wait_for_function("document.querySelector('#image-status').innerText.includes('should not be')")
        context.close()
