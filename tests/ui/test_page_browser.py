"""The page in a real browser: what is seen at once, thumbnails of candidates, colours, names, help, the empty tab."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sam2kit.media.drawing import PALETTE, colour_of
from sam2kit.model.sam2 import SAM2
from sam2kit.ui.layout import AppModel, build_app, launch_options
from tests.ui.chromium import SurfaceDriver, needs_chromium
from tests.ui.moving_disc import write_disc_clip
from tests.ui.test_browser import BLUE, DISC, RED, Visitor, differs, discs
from tests.ui.test_video_browser import VideoVisitor

__all__ = ["discs"]  # the fixture

pytest.importorskip("playwright.sync_api")
pytestmark = needs_chromium

DROP = """(files) => {
    const data = new DataTransfer();
    for (const [name, content] of files)
        data.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name, { type: 'image/png' }));
    document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.fixture
def visitor(browser, address: str, discs: Path) -> Iterator[Visitor]:  # noqa: ANN001
    visitor = Visitor(browser, address, viewport={"width": 1440, "height": 900})
    visitor.upload(discs)
    yield visitor
    visitor.leave()


def box_of(page, where: str) -> dict[str, float]:  # noqa: ANN001
    return page.locator(where).first.bounding_box()


def row_colour(page, row: int, tab: str = "image") -> str:  # noqa: ANN001
    """The colour at the edge of an object's row."""
    line = page.locator(f"#{tab}-objects .sk-object").nth(row)
    return line.evaluate("e => e.style.getPropertyValue('--sk-colour').toUpperCase()")


def pixel(visitor: Visitor, x: float, y: float) -> list[int]:
    """What is drawn at a place of the 400x280 drawing; the pointer stays where it is."""
    return visitor.page.evaluate(
        """([canvas, x, y]) => {
            const c = document.querySelector(canvas);
            return [...c.getContext('2d').getImageData(x * c.width, y * c.height, 1, 1).data].slice(0, 3);
        }""",
        [visitor.surface.canvas, x / 400, y / 280],
    )


def test_a_clip_with_four_objects_is_seen_at_once(browser, address: str, tmp_path: Path) -> None:  # noqa: ANN001
    """Picture, slider, all rows and the Track button, in a window of 1440x900, with the banner above."""
    visitor = VideoVisitor(browser, address)
    page = visitor.page
    page.set_viewport_size({"width": 1440, "height": 900})
    visitor.drop(write_disc_clip(tmp_path / "a disc.mp4"))
    visitor.click(60, 70)
    for x in (200, 220, 240):
        visitor.surface.refreshed(lambda: page.keyboard.press("n"))
        visitor.click(x, 20)
    page.wait_for_function("document.querySelectorAll('#video-health .bars').length === 4")
    page.evaluate("window.scrollTo(0, 0)")
    assert box_of(page, "#banner")["height"] < 30
    assert box_of(page, "#video-view canvas")["height"] > 350, "the picture itself stays large"
    for where in ("canvas", "#video-slider", "#video-health .row:last-child", "#video-health .legend", "#video-track"):
        place = box_of(page, where if where.startswith("#") else f"#video-view {where}")
        assert place["y"] >= 0, where
        assert place["y"] + place["height"] <= 900, where
    visitor.context.close()


def test_the_banner_is_one_line_and_tells_the_reason_when_asked(browser, nano: SAM2) -> None:  # noqa: ANN001
    model = AppModel(nano, "nano", "The small model runs instead of another one.", "<b>no</b> way to the Hub. " * 30)
    app = build_app(model, [], [])
    _, address, _ = app.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    try:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(address)
        page.wait_for_selector("#banner summary")
        assert box_of(page, "#banner")["height"] < 30
        page.click("#banner summary")
        assert "<b>no</b> way to the Hub" in page.locator("#banner").inner_text()
        page.close()
    finally:
        app.close()


def test_candidates_are_pictures_that_show_their_mask_under_the_pointer(visitor: Visitor) -> None:
    page = visitor.page
    visitor.click(*RED)
    pictures = page.locator("#image-candidates [data-candidate] img")
    pictures.nth(2).wait_for()
    assert pictures.evaluate_all("all => all.map((e) => e.complete && e.naturalWidth > 20)") == [True] * 3
    unchosen = [
        i for i in range(3) if not page.locator(f"#image-candidates [data-candidate='{i}'][aria-checked=true]").count()
    ]
    assert len(unchosen) == 2
    places = [(x, y) for x in range(5, 400, 15) for y in range(5, 280, 15)]
    page.mouse.move(2, 2)
    page.wait_for_timeout(100)
    before = [pixel(visitor, *place) for place in places]

    def changed() -> bool:
        return any(differs(pixel(visitor, *place), was) for place, was in zip(places, before, strict=True))

    offered = f"{visitor.surface.root}[data-offered=yes]"
    seen = []
    for i in unchosen:
        page.locator(f"#image-candidates [data-candidate='{i}']").hover()
        page.wait_for_selector(offered)
        page.wait_for_timeout(100)
        seen.append(changed())
        page.mouse.move(2, 2)
        page.wait_for_selector(offered, state="detached")
        page.wait_for_timeout(100)
        assert not changed(), "the mask itself is back"
    assert any(seen), "another candidate is another mask"
    assert visitor.surface.points() == 1, "hovering changes nothing"

    page.locator(f"#image-candidates [data-candidate='{unchosen[seen.index(True)]}']").hover()
    for button in ("#image-new", "#image-objects .sk-pick"):  # the pictures go, and come up under a pointer that rests
        visitor.surface.refreshed(lambda button=button: page.eval_on_selector(button, "e => e.click()"))
    page.wait_for_selector(offered)
    page.wait_for_timeout(300)
    assert page.locator(offered).count() == 1
    assert changed()

    visitor.surface.refreshed(lambda: page.locator(f"#image-candidates [data-candidate='{unchosen[0]}']").click())
    page.wait_for_selector(f"#image-candidates [data-candidate='{unchosen[0]}'][aria-checked=true]")
    visitor.surface.refreshed(lambda: page.keyboard.press(str(unchosen[1] + 1)))
    page.wait_for_selector(f"#image-candidates [data-candidate='{unchosen[1]}'][aria-checked=true]")
    visitor.click(DISC[0], DISC[1] + 20)
    page.wait_for_selector("#image-candidates [data-candidate]", state="detached")


def test_an_objects_colour_is_not_its_own_and_stays(browser, address: str, tmp_path: Path) -> None:  # noqa: ANN001
    """Two discs in the first two colours that objects used to get, whatever they looked like."""
    image = np.full((280, 400, 3), 110, np.uint8)
    for number, (x, y, r) in enumerate((DISC, (330, 180, 45))):
        cv2.circle(image, (x, y), r, colour_of(number), -1, cv2.LINE_AA)
    Image.fromarray(cv2.resize(image, (1000, 700), interpolation=cv2.INTER_CUBIC)).save(tmp_path / "discs.png")
    visitor = Visitor(browser, address)
    visitor.upload(tmp_path / "discs.png")
    page = visitor.page
    assert row_colour(page, 0) == "", "there is nothing to choose a colour for yet"
    visitor.click(*RED)
    page.wait_for_function("document.querySelector('#image-objects .sk-object').style.getPropertyValue('--sk-colour')")
    first = row_colour(page, 0)
    assert first != PALETTE[0].upper()
    assert differs(visitor.tint(RED[0] + 20, RED[1]), list(colour_of(0))), "the mask is seen on the disc"
    visitor.surface.refreshed(lambda: page.keyboard.press("n"))
    visitor.click(*BLUE)
    page.wait_for_function("document.querySelectorAll('#image-objects img[src^=\"data:\"]').length === 2")
    second = row_colour(page, 1)
    assert second not in (PALETTE[1].upper(), first)
    visitor.click(BLUE[0], BLUE[1] + 15, button="right")
    visitor.surface.refreshed(lambda: page.locator("#image-objects .sk-pick").first.click())
    assert [row_colour(page, row) for row in range(2)] == [first, second]
    visitor.leave()


def test_a_name_is_written_while_answers_arrive(visitor: Visitor) -> None:
    """Nothing that comes takes the focus or a letter, and no letter is a shortcut, as n and u would be."""
    page, surface = visitor.page, visitor.surface
    visitor.click(*RED)
    page.wait_for_selector("#image-objects img[src^='data:']")
    page.locator("#image-objects .sk-rename").first.click()
    name = "nun, hut? 1+2-3"
    for number, letter in enumerate(name):
        page.keyboard.type(letter)
        # as an answer would, without a gesture on the page: a row comes, and goes again
        button = "#image-undo" if number % 2 else "#image-new"
        surface.refreshed(lambda button=button: page.eval_on_selector(button, "e => e.click()"))
        page.wait_for_function(
            "n => document.querySelectorAll('#image-objects .sk-object').length === n", arg=1 if number % 2 else 2
        )
        assert page.evaluate("document.activeElement.value") == name[: number + 1]
    assert not page.locator(".sk-help[open]").count()
    surface.refreshed(lambda: page.keyboard.press("Enter"))
    assert visitor.rows() == [name, "Object 2"]


def test_a_name_is_written_while_a_clip_is_tracked(browser, address: str, tmp_path: Path) -> None:  # noqa: ANN001
    visitor = VideoVisitor(browser, address)
    page = visitor.page
    visitor.drop(write_disc_clip(tmp_path / "a disc.mp4"))
    visitor.click(60, 70)
    visitor.wait_until("#video-pace", "will take about")
    page.click("#video-track")
    page.locator("#video-objects .sk-rename").click()
    for number in range(60):
        page.keyboard.type("dut "[number % 4])
        if "Done" in page.locator("#video-status").inner_text():
            break
        page.wait_for_timeout(120)
    visitor.wait_until("#video-status", "Done")
    page.wait_for_timeout(300)
    wanted = ("dut " * 15)[: number + 1][:40]
    assert page.evaluate("document.activeElement.value") == wanted
    page.keyboard.press("Escape")
    assert page.locator("#video-objects .sk-name").inner_text() == "Object 1"
    visitor.context.close()


def test_help_opens_where_it_is_seen_and_escape_closes_it(visitor: Visitor) -> None:
    page = visitor.page
    page.set_viewport_size({"width": 1000, "height": 500})
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    page.keyboard.press("?")
    place = box_of(page, "#image-view .sk-help")
    assert place["y"] >= 0
    assert place["x"] >= 0
    assert place["y"] + place["height"] <= 500
    assert place["x"] + place["width"] <= 1000
    assert page.locator("#image-view .sk-zoom [data-do=help]").get_attribute("aria-expanded") == "true"
    page.keyboard.press("n")
    page.wait_for_timeout(300)
    assert len(visitor.rows()) == 1, "keys are for the help now"
    page.keyboard.press("Escape")
    page.wait_for_selector("#image-view .sk-help", state="hidden")
    page.wait_for_selector("#image-view .sk-zoom [data-do=help][aria-expanded=false]")
    page.locator("#image-view .sk-zoom [data-do=help]").click()
    page.wait_for_selector("#image-view .sk-help", state="visible")
    page.keyboard.press("?")
    page.wait_for_selector("#image-view .sk-help", state="hidden")


def test_the_empty_fine_tune_tab_invites(browser, address: str) -> None:  # noqa: ANN001
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(address)
    page.wait_for_selector("#image-examples button.gallery-item")
    page.get_by_role("tab", name="Fine-tune").click()
    page.wait_for_selector("#teach-upload", state="visible")
    assert box_of(page, "#teach-upload")["height"] > 200
    idle = ["#teach-before", "#teach-after", "#teach-new", "#teach-undo", "#teach-train"]
    assert all(page.locator(button).is_disabled() for button in idle)
    photos = []
    for number in range(3):
        png = io.BytesIO()
        Image.new("RGB", (60 + number, 40), "olive").save(png, "PNG")
        photos.append([f"{number}.png", base64.b64encode(png.getvalue()).decode()])
    page.evaluate(DROP, photos[:2])  # anywhere on the page
    page.wait_for_function("document.querySelectorAll('#teach-photos .sk-object').length === 2")
    page.wait_for_selector("#teach-upload", state="hidden")
    assert [page.locator(button).is_disabled() for button in idle] == [False, False, False, True, True]
    page.evaluate(DROP, photos[2:])
    page.wait_for_function("document.querySelectorAll('#teach-photos .sk-object').length === 3")
    assert page.locator("#teach-photos .sk-count").inner_text() == "3 photos"
    surface = SurfaceDriver(page, "#teach-view")
    for number in range(3):
        surface.click(30, 20)
        if number < 2:
            surface.refreshed(lambda: page.click("#teach-after"))
    page.wait_for_function("!document.querySelector('#teach-train').disabled")
    for _ in range(3):
        page.locator("#teach-photos .sk-drop").first.click()
        page.wait_for_timeout(500)
    page.wait_for_selector("#teach-upload", state="visible")
    assert all(page.locator(button).is_disabled() for button in idle)
    page.close()


def test_segmenting_everything_shows_progress_and_the_number_of_rows(visitor: Visitor) -> None:
    page = visitor.page
    page.click("#image-everything button")
    page.locator("#image-points input[type=number]").fill("12")
    page.keyboard.press("Tab")
    page.click("#image-find")
    page.wait_for_selector("#image-progress [role=progressbar]", state="visible")
    assert page.locator("#image-find").is_disabled()
    page.wait_for_function("document.querySelector('#image-status').innerText.includes('masks found')", timeout=120_000)
    page.wait_for_selector("#image-progress [role=progressbar]", state="detached")
    rows = page.locator("#image-objects .sk-object").count()
    assert rows > 1
    assert page.locator("#image-objects .sk-count").inner_text() == f"{rows} objects"
    assert page.locator("#image-stop").is_disabled()


def test_opening_a_session_is_a_button(visitor: Visitor) -> None:
    assert box_of(visitor.page, "#image-load")["height"] < 45


@pytest.mark.parametrize("tab", ["Image", "Video", "Fine-tune"])
def test_nothing_sticks_out_on_a_phone(browser, address: str, tab: str) -> None:  # noqa: ANN001
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#image-examples button.gallery-item")
    page.get_by_role("tab", name=tab).click()
    page.wait_for_timeout(400)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
