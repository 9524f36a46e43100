"""The page in a real browser, as a visitor: gestures, corrections, tracking, downloads, reloads, several visitors."""

from __future__ import annotations

import base64
import io
import json
import statistics
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

from sam2kit.app.layout import build_app, launch_options
from sam2kit.app.models import AppModel
from sam2kit.media.clips import open_clip
from sam2kit.media.drawing import PALETTE, colour_of
from sam2kit.model.sam2 import SAM2
from tests.app.chromium import DROP, SurfaceDriver, Visitor, choose_file, needs_chromium
from tests.app.moving_disc import FRAMES, centre, disc, iou, write_disc_clip
from tests.figures import FIGURES
from tests.media.clip_factory import sound_of
from tests.trust.test_crowd import app, resident, visitors_folders

__all__ = ["app"]  # the fixture

pytest.importorskip("playwright.sync_api")
pytestmark = needs_chromium

DISC, OTHER = (375, 275, 150), (825, 450, 112)  # x, y, radius of a disc in the test photo, and of another
GROUND, RED, BLUE = (75, 75), DISC[:2], OTHER[:2]
PASTE = """async () => {
    const canvas = new OffscreenCanvas(64, 48);
    canvas.getContext('2d').fillRect(0, 0, 64, 48);
    const photo = new File([await canvas.convertToBlob()], 'pasted.png', { type: 'image/png' });
    const data = new DataTransfer();
    data.items.add(photo);
    document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }));
}"""


def write_discs(path: Path, *discs: tuple[int, int, int], colours: tuple = ((210, 50, 40), (40, 70, 210))) -> Path:
    """A photo of discs on a plain ground, 1000x700."""
    image = np.full((700, 1000, 3), (90, 110, 90), np.uint8)
    for (x, y, radius), colour in zip(discs, colours, strict=True):
        cv2.circle(image, (x, y), radius, colour, -1, cv2.LINE_AA)
    Image.fromarray(image).save(path)
    return path


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp("photos") / "two discs.png", DISC, OTHER)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_disc_clip(tmp_path_factory.mktemp("clips") / "a disc.mp4")


Come = Callable[..., Visitor]


@pytest.fixture
def come(browser: Any, address: str) -> Iterator[Come]:
    """Opens the page for another visitor; no script of theirs may have failed."""
    visitors: list[Visitor] = []

    def open_page(tab: str = "image", file: Path | None = None, **options: Any) -> Visitor:
        visitors.append(Visitor(browser, options.pop("address", address), tab, **options))
        if file is not None:
            visitors[-1].open(file)
        return visitors[-1]

    yield open_page
    for visitor in visitors:
        visitor.leave()


@pytest.fixture
def visitor(come: Come, discs: Path) -> Visitor:
    return come(file=discs)


def masks_of(visitor: Visitor, folder: Path) -> list[np.ndarray]:
    """The masks of a clip as a visitor gets them."""
    with zipfile.ZipFile(visitor.download("masks", folder)) as archive:
        return [np.array(Image.open(io.BytesIO(archive.read(f"{i:05d}.png")))) == 1 for i in range(FRAMES)]


def disc_mask(x0: int, y0: int, radius: int) -> np.ndarray:
    y, x = np.mgrid[:700, :1000]
    return (x - x0) ** 2 + (y - y0) ** 2 <= radius**2


def differs(a: list[int], b: list[int]) -> bool:
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) > 40


# pictures


def test_a_click_covers_the_disc_and_downloads_are_exact(visitor: Visitor, tmp_path: Path) -> None:
    visitor.page.click("#image-download-mask")
    assert "click on something first" in visitor.toast()
    places = [(375, 175), (300, 325), BLUE, GROUND, (950, 650)]
    before = [visitor.colour_at(*p) for p in places]
    visitor.click(DISC[0] + 37, DISC[1])
    changed = [differs(a, visitor.colour_at(*p)) for a, p in zip(before, places, strict=True)]
    assert changed == [True, True, False, False, False], "only the disc is covered"
    mask = np.array(Image.open(visitor.download("mask", tmp_path)))
    assert iou(mask > 0, disc_mask(*DISC)) > 0.8
    cutout = Image.open(visitor.download("cutout", tmp_path))
    assert cutout.mode == "RGBA"
    assert abs(cutout.width - 2 * DISC[2]) < 60
    coco = json.loads(visitor.download("coco", tmp_path).read_text())
    assert coco["annotations"][0]["area"] == (mask > 0).sum()


@pytest.mark.slow
def test_clicks_remove_with_either_gesture_and_a_drag_is_a_box(visitor: Visitor, tmp_path: Path) -> None:
    x, y, r = OTHER
    plain = visitor.colour_at(*BLUE)
    visitor.answered(lambda: visitor.drag(x - r, y - r, x + r, y + r))
    assert differs(plain, visitor.colour_at(*BLUE))
    assert not differs([210, 50, 40], visitor.colour_at(*RED))
    visitor.click(x + r, y - r)  # the corner takes the box away
    assert not differs(plain, visitor.colour_at(*BLUE))

    touching = ((350, 350, 150), (637, 350, 150))
    visitor.open(write_discs(tmp_path / "touching.png", *touching, colours=((210, 50, 40), (210, 50, 40))))
    plain, place = visitor.colour_at(725, 300), (675, 350)
    visitor.click(350, 350)
    assert differs(plain, visitor.colour_at(725, 300)), "one click takes both for one thing"
    visitor.click(*place, button="right")
    assert not differs(plain, visitor.colour_at(725, 300))
    visitor.press("#undo")
    assert differs(plain, visitor.colour_at(725, 300))
    visitor.shift_click(*place)
    assert not differs(plain, visitor.colour_at(725, 300))
    assert visitor.points() == 2
    visitor.click(*place)  # a click on a point takes it away
    assert visitor.points() == 1
    assert differs(plain, visitor.colour_at(725, 300))
    visitor.page.keyboard.press("r")
    visitor.click(*place)
    assert not differs(plain, visitor.colour_at(725, 300)), "in the other mode a plain click removes"
    visitor.page.keyboard.press("Control+z")
    visitor.page.wait_for_function("document.querySelector('#image-view .sk-surface').dataset.points === '1'")


@pytest.mark.slow
def test_what_is_painted_erased_merged_and_dropped_is_seen(visitor: Visitor, tmp_path: Path) -> None:
    page, places = visitor.page, [(150, 100), (500, 100), (300, 400)]
    plain = [visitor.colour_at(*place) for place in places]

    def covered() -> list[bool]:
        return [differs(before, visitor.colour_at(*at)) for before, at in zip(plain, places, strict=True)]

    page.keyboard.press("b")
    visitor.answered(lambda: visitor.drag(100, 100, 550, 100))
    assert covered() == [True, True, False]
    page.keyboard.down("Shift")  # the brush erases
    visitor.answered(lambda: visitor.drag(130, 100, 170, 100))
    page.keyboard.up("Shift")
    assert covered() == [False, True, False]
    visitor.refreshed(lambda: visitor.press("#new"))
    page.keyboard.press("]")
    visitor.answered(lambda: visitor.drag(250, 400, 350, 400))
    assert covered() == [False, True, True]
    page.keyboard.press("e")
    visitor.drag(290, 400, 310, 400)
    visitor.answered(lambda: visitor.drag(340, 400, 350, 400))  # perhaps before the first one was answered
    page.wait_for_function("document.querySelector('#image-view .sk-surface').dataset.busy === 'no'")
    assert covered() == [False, True, False]
    page.keyboard.press("p")
    visitor.refreshed(lambda: page.mouse.click(*visitor.at(500, 100)))
    assert page.inner_text("#image-view .sk-active") == "Object 1"
    page.keyboard.down("Shift")
    visitor.refreshed(lambda: page.mouse.click(*visitor.at(255, 400)))
    page.keyboard.up("Shift")
    assert page.locator("#image-objects .sk-object").count() == 1
    visitor.refreshed(lambda: page.keyboard.press("Delete"))
    assert covered() == [False] * 3

    numbers = np.zeros((700, 1000), np.uint8)
    numbers[50:150, 100:200], numbers[350:450, 250:350] = 1, 2
    Image.fromarray(numbers).save(tmp_path / "masks.png")
    file = base64.b64encode((tmp_path / "masks.png").read_bytes()).decode()
    visitor.refreshed(lambda: page.evaluate(DROP, [[["masks.png", file]], "image/png", visitor.canvas]))
    assert covered() == [True, False, True]
    assert "2 masks taken" in page.inner_text("#image-status")


@pytest.mark.slow
def test_hovering_shows_what_a_click_would_do_and_zoom_places_it_exactly(visitor: Visitor) -> None:
    page, surface = visitor.page, visitor
    x, y = surface.at(*RED)
    page.mouse.move(x, y)
    page.wait_for_function("Number(document.querySelector('#image-view .sk-surface').dataset.previews || 0) > 0")
    assert "Click: add to Object 1" in surface.hint()
    page.keyboard.down("Shift")
    assert "Click: take away" in surface.hint()
    page.keyboard.up("Shift")
    assert surface.points() == 0, "a preview changes nothing"
    for _ in range(8):
        page.mouse.wheel(0, -180)
    assert float(surface.data("zoom")) > 5
    asked = []
    page.on("request", lambda request: asked.append(request.post_data_json) if "component_server" in request.url else 0)
    surface.answered(lambda: page.mouse.click(x, y))
    surface.answered(lambda: page.mouse.click(x + 30, y))
    (x0, y0, _), (x1, y1, _) = next(a["data"]["points"] for a in asked[::-1] if len(a["data"]["points"]) == 2)
    assert (x0, y0) == pytest.approx(RED, abs=1)
    assert 0 < x1 - x0 < 12, "places that lie in one pixel of the page at first are told apart"
    assert y1 == pytest.approx(y0, abs=0.01)
    page.keyboard.press("0")
    assert surface.data("zoom") == "1.00"
    page.mouse.move(*surface.at(DISC[0] + 5, DISC[1]))
    assert surface.hint() == "Click: take this point away"


@pytest.mark.slow
def test_a_phone(come: Come, discs: Path, clip: Path) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    visitor = come(file=discs, **phone)
    page, surface = visitor.page, visitor
    plain = visitor.colour_at(300, 325)
    surface.answered(lambda: page.touchscreen.tap(*surface.at(*RED)))
    assert differs(plain, visitor.colour_at(300, 325))
    x, y = surface.at(*RED)
    touch = visitor.context.new_cdp_session(page)
    for kind, reach in (("touchStart", 20), ("touchMove", 40), ("touchMove", 80), ("touchEnd", None)):
        fingers = [] if reach is None else [{"x": x - reach, "y": y, "id": 0}, {"x": x + reach, "y": y, "id": 1}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    assert float(surface.data("zoom")) > 2.5
    assert surface.points() == 1, "two fingers do not click"
    other = come("video", clip, **phone)
    other.click(*centre(0))
    page.get_by_role("tab", name="Fine-tune").click()
    page.wait_for_timeout(400)
    for shown in (visitor.page, other.page):
        assert shown.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out sideways"


@pytest.mark.slow
def test_objects_have_colours_names_and_can_go(come: Come, tmp_path: Path) -> None:
    """Two discs in the first two colours that objects would get, whatever they looked like."""
    file = write_discs(tmp_path / "discs.png", DISC, OTHER, colours=(colour_of(0), colour_of(1)))
    visitor = come(file=file)
    page = visitor.page

    def colour(row: int) -> str:
        line = page.locator("#image-objects .sk-object").nth(row)
        return line.evaluate("e => e.style.getPropertyValue('--sk-colour').toUpperCase()")

    assert colour(0) == "", "there is nothing to choose a colour for yet"
    visitor.click(*RED)
    visitor.wait_rows(1)
    assert colour(0) != PALETTE[0].upper()
    assert differs(visitor.colour_at(RED[0] + 50, RED[1]), list(colour_of(0))), "the mask is seen on the disc"
    visitor.key("n")
    visitor.click(*BLUE)
    visitor.wait_rows(2)
    colours = [colour(0), colour(1)]
    assert colours[1] not in (PALETTE[1].upper(), colours[0])
    visitor.click(BLUE[0], BLUE[1] + 37, button="right")
    visitor.press("#objects .sk-pick")
    assert [colour(0), colour(1)] == colours
    assert page.locator("#image-view .sk-active").inner_text() == "Object 1"

    page.locator("#image-objects .sk-rename").first.click()
    name = "nun, hut? 1+2-3"
    for number, letter in enumerate(name):
        page.keyboard.type(letter)  # no letter is a shortcut, as n and u would be
        button = "#image-undo" if number % 2 else "#image-new"  # as an answer would: a row comes, and goes again
        visitor.refreshed(lambda button=button: page.eval_on_selector(button, "e => e.click()"))
        assert page.evaluate("document.activeElement.value") == name[: number + 1]
    assert not page.locator(".sk-help[open]").count()
    visitor.key("Enter")
    assert visitor.rows()[0] == name
    visitor.press("#objects .sk-drop")
    assert name not in visitor.rows()
    assert not differs(list(colour_of(0)), visitor.colour_at(*RED))
    visitor.press("#clear")
    assert visitor.rows() == ["Object 1"]
    visitor.press("#undo")
    visitor.press("#undo")
    assert visitor.rows()[0] == name


@pytest.mark.slow
def test_candidates_are_pictures_that_show_their_mask_under_the_pointer(visitor: Visitor) -> None:
    page = visitor.page
    visitor.click(*RED)
    pictures = page.locator("#image-candidates [data-candidate] img")
    pictures.nth(2).wait_for()
    assert pictures.evaluate_all("all => all.map((e) => e.complete && e.naturalWidth > 20)") == [True] * 3
    row = "#image-candidates [data-candidate='{}']".format
    unchosen = [i for i in range(3) if not page.locator(f"{row(i)}[aria-checked=true]").count()]
    assert len(unchosen) == 2
    page.mouse.move(2, 2)

    def drawn() -> np.ndarray:
        page.wait_for_timeout(150)
        shot = page.locator(visitor.canvas).screenshot()
        return np.array(Image.open(io.BytesIO(shot)).convert("RGB"), int)

    before, offered, seen = drawn(), f"{visitor.root}[data-offered=yes]", []
    for i in unchosen:
        page.locator(row(i)).hover()
        page.wait_for_selector(offered)
        seen.append((abs(drawn() - before).sum(axis=2) > 40).any())
        page.mouse.move(2, 2)
        page.wait_for_selector(offered, state="detached")
        assert not (abs(drawn() - before).sum(axis=2) > 40).any(), "the mask itself is back"
    assert any(seen), "another candidate is another mask"
    assert visitor.points() == 1, "hovering changes nothing"
    page.locator(row(unchosen[0])).hover()
    for button in ("#image-new", "#image-objects .sk-pick"):  # the pictures go, and come up under a pointer that rests
        visitor.refreshed(lambda button=button: page.eval_on_selector(button, "e => e.click()"))
    page.wait_for_selector(offered)
    visitor.refreshed(page.locator(row(unchosen[0])).click)
    page.wait_for_selector(f"{row(unchosen[0])}[aria-checked=true]")
    visitor.key(str(unchosen[1] + 1))
    page.wait_for_selector(f"{row(unchosen[1])}[aria-checked=true]")
    visitor.click(DISC[0], DISC[1] + 50)
    page.wait_for_selector("#image-candidates [data-candidate]", state="detached")


@pytest.mark.slow
def test_visitors_keep_apart_and_a_session_is_reopened_by_another(
    come: Come, visitor: Visitor, discs: Path, tmp_path: Path
) -> None:
    other = come(file=discs)
    red, blue = other.colour_at(*RED), other.colour_at(*BLUE)
    visitor.click(*RED)
    other.click(*BLUE)
    assert not differs(red, other.colour_at(*RED))
    assert differs(blue, other.colour_at(BLUE[0], BLUE[1] - 50))
    assert not differs(blue, visitor.colour_at(*BLUE))
    visitor.key("n")
    visitor.click(*BLUE)
    mask = np.array(Image.open(visitor.download("mask", tmp_path / "one")))
    choose_file(other.page, "#image-load", visitor.download("session", tmp_path))
    other.wait_rows(2)
    assert other.rows() == ["Object 1", "Object 2"]
    assert np.array_equal(np.array(Image.open(other.download("mask", tmp_path / "two"))), mask)
    other.click(*BLUE)  # on the point that came with the session
    assert other.points() == 0


@pytest.mark.slow
def test_one_photo_after_another_and_everything_in_one(visitor: Visitor, discs: Path, tmp_path: Path) -> None:
    page = visitor.page
    for place in (RED, BLUE, GROUND):
        visitor.click(*place)
    page.click("#image-another")
    page.wait_for_selector("#image-upload", state="visible")
    visitor.open(discs)
    visitor.click(*RED)
    assert visitor.points() == 1, "the first click counts, though the server counted more requests"
    bad = tmp_path / "holiday.jpg"
    bad.write_text("this is no photo")
    page.set_input_files("#image-upload input[type=file]", str(bad))
    toast = visitor.toast()
    assert "holiday.jpg is not a picture" in toast
    assert "Traceback" not in toast and "/tmp" not in toast
    visitor.click(*BLUE)  # the open photo is still there
    visitor.refreshed(lambda: page.evaluate(PASTE))
    assert visitor.data("size") == "64,48"
    visitor.refreshed(lambda: page.locator("#image-examples button.gallery-item").nth(3).click())
    page.click("#image-everything button")
    page.locator("#image-points input[type=number]").fill("12")
    page.keyboard.press("Tab")
    page.click("#image-find")
    page.wait_for_selector("#image-progress [role=progressbar]", state="visible")
    assert page.locator("#image-find").is_disabled()
    visitor.wait_until("status", "masks found")
    page.wait_for_selector("#image-progress [role=progressbar]", state="detached")
    page.wait_for_function("document.querySelectorAll('#image-objects .sk-object').length > 1")
    assert visitor.texts("objects .sk-count") == [f"{len(visitor.rows())} objects"]
    assert page.locator("#image-stop-find").is_disabled()


@pytest.mark.slow
def test_undo_while_a_click_is_under_way_leaves_page_and_server_alike(visitor: Visitor) -> None:
    page, surface = visitor.page, visitor
    visitor.click(*RED)
    for _ in range(3):
        page.mouse.click(*surface.at(*BLUE))
        page.click("#image-undo")
        page.wait_for_function("document.querySelector('#image-view .sk-surface').dataset.busy === 'no'")
        page.wait_for_timeout(300)
    page.wait_for_timeout(1500)  # the last Undo may still be on its way
    shown = surface.points()
    visitor.key("n")
    visitor.press("#objects .sk-pick")
    assert surface.points() == shown, "the server has what the page showed"
    visitor.click(*GROUND)
    assert surface.points() == shown + 1


@pytest.mark.slow
def test_help_labels_and_a_dark_theme(come: Come, address: str, discs: Path) -> None:
    visitor = come(file=discs, address=f"{address}/?__theme=dark")
    page = visitor.page
    ground, text = page.evaluate(
        """() => ['.gradio-container', '#image-view .sk-active'].map((s, i) =>
            getComputedStyle(document.querySelector(s))[i ? 'color' : 'backgroundColor'].match(/[0-9.]+/g).slice(0, 3)
            .reduce((sum, v) => sum + Number(v), 0) / 3)"""
    )
    assert ground < 60 < 180 < text
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, textarea, canvas, [role=radio]')]
            .filter((e) => e.offsetParent && e.type !== 'file')
            .filter((e) => !(e.innerText || e.ariaLabel || e.title || e.labels?.[0]?.innerText || e.querySelector('img')
                             || e.closest('label')?.innerText || e.closest('[aria-label]')))
            .map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert nameless == [], "every control has a label"
    assert visitor.box("#image-load")["height"] < 45, "opening a session is a button"
    page.set_viewport_size({"width": 1000, "height": 500})
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    page.keyboard.press("?")
    place = visitor.box("#image-view .sk-help")
    assert min(place["x"], place["y"]) >= 0
    assert place["x"] + place["width"] <= 1000 and place["y"] + place["height"] <= 500
    for words in ("box", "remove from the mask", "undo", "new object", "candidate 1", "zoom"):
        assert words in page.locator("#image-view .sk-help").inner_text()
    page.keyboard.press("n")
    page.wait_for_timeout(300)
    assert len(visitor.rows()) == 1, "keys are for the help now"
    page.keyboard.press("Escape")
    page.wait_for_selector("#image-view .sk-help", state="hidden")
    page.wait_for_selector("#image-view .sk-zoom [data-do=help][aria-expanded=false]")


@pytest.mark.slow
def test_from_click_to_overlay_in_a_blink(come: Come, tmp_path: Path) -> None:
    """Measured by the page itself, from the gesture to the drawn mask; the figure is printed after the tests."""
    photo = np.full((720, 1280, 3), (90, 110, 90), np.uint8)
    for i in range(12):
        cv2.circle(photo, (100 + 98 * i, 360), 40, (210, 50 + 15 * i, 40), -1, cv2.LINE_AA)
    Image.fromarray(photo).save(tmp_path / "row.png")
    visitor, took = come(file=tmp_path / "row.png"), []
    for i in range(12):
        visitor.click(100 + 98 * i, 360)
        took.append(float(visitor.data("took")))
        visitor.page.wait_for_timeout(80)
    FIGURES.append(
        f"click to overlay, 1280x720, nano: median {statistics.median(took):.0f} ms of {len(took)} clicks "
        f"(from {min(took):.0f} to {max(took):.0f})"
    )
    assert statistics.median(took) < 2000, "the goal is 150 ms; machines under load are given time"


@pytest.mark.slow
def test_the_banner_is_one_line_and_tells_the_reason_when_asked(come: Come, nano: SAM2) -> None:
    model = AppModel(nano, "nano", "The small model runs instead of another one.", "<b>no</b> way to the Hub. " * 30)
    app = build_app(model, [], [])
    _, address, _ = app.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    try:
        visitor = come(address=address)
        assert visitor.box("#banner")["height"] < 30
        visitor.page.click("#banner summary")
        assert "<b>no</b> way to the Hub" in visitor.page.locator("#banner").inner_text()
    finally:
        app.close()


@pytest.mark.slow
def test_the_empty_fine_tune_tab_invites(come: Come) -> None:
    visitor = come("finetune")
    page = visitor.page
    page.get_by_role("tab", name="Fine-tune").click()
    page.wait_for_selector("#finetune-upload", state="visible")
    assert visitor.box("#finetune-upload")["height"] > 200
    idle = ["#finetune-before", "#finetune-after", "#finetune-new", "#finetune-undo", "#finetune-train"]
    assert all(page.locator(button).is_disabled() for button in idle)
    photos = []
    for number in range(3):
        png = io.BytesIO()
        Image.new("RGB", (60 + number, 40), "olive").save(png, "PNG")
        photos.append([f"{number}.png", base64.b64encode(png.getvalue()).decode()])
    for dropped, count in ((photos[:2], 2), (photos[2:], 3)):  # anywhere on the page
        page.evaluate(DROP, [dropped, "image/png"])
        page.wait_for_function("n => document.querySelectorAll('#finetune-photos .sk-object').length === n", arg=count)
    page.wait_for_selector("#finetune-upload", state="hidden")
    assert [page.locator(button).is_disabled() for button in idle] == [False, False, False, True, True]
    assert page.locator("#finetune-photos .sk-count").inner_text() == "3 photos"
    for number in range(3):
        visitor.click(30, 20)
        if number < 2:
            visitor.press("#after")
    page.wait_for_function("!document.querySelector('#finetune-train').disabled")
    for _ in range(3):
        page.locator("#finetune-photos .sk-drop").first.click()
        page.wait_for_timeout(500)
    page.wait_for_selector("#finetune-upload", state="visible")
    assert all(page.locator(button).is_disabled() for button in idle)


@pytest.mark.slow
@pytest.mark.parametrize("tab", ["image", "video"])
def test_masks_are_cleaned_as_the_sliders_move(come: Come, discs: Path, clip: Path, tab: str) -> None:
    visitor = come(tab, clip if tab == "video" else discs)
    x, y, radius = (*centre(0), 20) if tab == "video" else DISC
    visitor.click(x, y)
    visitor.wait_rows(1)
    page, beyond = visitor.page, (x + radius + 12, y)
    before = visitor.colour_at(*beyond)
    page.click(f"#{tab}-masks button")
    number = page.locator(f"#{tab}-grow input[type=number]")

    def grow(by: int) -> None:
        number.fill(str(by))
        number.press("Enter")

    visitor.refreshed(lambda: grow(20))
    assert differs(before, visitor.colour_at(*beyond)), "it has grown"
    visitor.refreshed(lambda: grow(0))
    assert not differs(before, visitor.colour_at(*beyond))


@pytest.mark.slow
def test_what_looks_alike_becomes_objects(come: Come, tmp_path: Path) -> None:
    places = [(180, 200, 90), (500, 210, 90), (810, 190, 90), (200, 520, 90), (520, 500, 90), (800, 510, 90)]
    visitor = come(file=write_discs(tmp_path / "discs.png", *places, colours=((210, 50, 40),) * 6))
    visitor.answered(lambda: visitor.drag(90, 110, 270, 290))
    visitor.page.click("#image-everything button")
    visitor.page.click("#image-find-alike")
    visitor.page.wait_for_function("document.querySelectorAll('#image-objects .sk-name').length > 2")
    assert "masks found" in visitor.texts("status")[0]
    visitor.press("#undo")
    assert len(visitor.rows()) == 1


# clips


def test_from_a_dropped_clip_to_a_finished_video(come: Come, clip: Path, tmp_path: Path) -> None:
    visitor = come("video", clip)
    visitor.click(*centre(0))
    visitor.wait_until("estimate", "will take about")
    visitor.track()
    visitor.page.click("#video-downloads button")
    masks = masks_of(visitor, tmp_path / "first")
    assert np.mean([iou(mask, disc(f)) for f, mask in enumerate(masks)]) > 0.75

    visitor.go_to(8)
    x, y = centre(8)
    visitor.click(x + 9, y)
    visitor.click(5, 180, button="right")  # a correction in the middle, with either button
    visitor.wait_until("status", "Press Track again")
    visitor.track()
    assert visitor.page.locator("#video-timeline .bars b").count() == 2, "both prompted frames are marked"
    again = masks_of(visitor, tmp_path / "again")
    assert np.mean([iou(mask, disc(f)) for f, mask in enumerate(again)]) > 0.75

    result = visitor.download("video", tmp_path)
    assert result.name == "a disc_overlay.mp4"
    with open_clip(clip) as wanted, open_clip(result) as made:
        assert (len(made), made.size_hw) == (len(wanted), wanted.size_hw)
        for ours, theirs in zip(made.timestamps, wanted.timestamps, strict=True):
            assert abs(ours - theirs) < 1e-3
        changed = np.abs(made.frame(8).astype(int) - wanted.frame(8)).sum(axis=2) > 60
        assert iou(changed, disc(8)) > 0.6, "the overlay lies on the disc"
    sound, original = sound_of(result), sound_of(clip)
    assert abs(len(sound) - len(original)) <= 2048
    length = min(len(sound), len(original))
    assert np.corrcoef(sound[:length], original[:length])[0, 1] > 0.99
    assert visitor.page.locator(".toast-body").all_inner_texts() == []


@pytest.mark.slow
def test_four_objects_are_seen_at_once_and_named_while_they_are_tracked(come: Come, clip: Path) -> None:
    """Picture, slider, all rows and the Track button, in a window of 1440x900, with the banner above."""
    visitor = come("video", clip)
    page = visitor.page
    visitor.click(60, 70)
    for x in (200, 220, 240):
        visitor.key("n")
        visitor.click(x, 20)
    page.wait_for_function("document.querySelectorAll('#video-timeline .bars').length === 4")
    page.evaluate("window.scrollTo(0, 0)")
    assert visitor.box("#banner")["height"] < 30
    assert visitor.box("#video-view canvas")["height"] > 350, "the picture itself stays large"
    timeline = ("#video-timeline .row:last-child", "#video-timeline .legend")
    for where in ("#video-view canvas", "#video-slider", *timeline, "#video-track"):
        place = visitor.box(where)
        assert place["y"] >= 0 and place["y"] + place["height"] <= 900, where
    visitor.wait_until("estimate", "will take about")
    page.click("#video-track")
    page.locator("#video-objects .sk-rename").first.click()
    number = 0
    while "Done" not in page.locator("#video-status").inner_text():
        page.keyboard.type("dut "[number % 4])
        number += 1
        page.wait_for_timeout(120)
    page.wait_for_timeout(300)
    assert page.evaluate("document.activeElement.value") == ("dut " * number)[:number][:40]
    page.keyboard.press("Escape")
    assert visitor.rows()[0] == "Object 1"


@pytest.mark.slow
def test_effects_playing_and_keys(come: Come, clip: Path, tmp_path: Path) -> None:
    visitor = come("video", clip)
    page = visitor.page
    visitor.click(*centre(0))
    visitor.wait_rows(1)
    page.keyboard.press("t")
    visitor.wait_until("status", "Done")
    visitor.go_to(0)
    page.keyboard.press("ArrowRight")
    visitor.wait_until("where", "Frame 1 ")
    page.keyboard.press("ArrowLeft")
    visitor.wait_until("where", "Frame 0 ")
    page.keyboard.press(" ")
    visitor.wait_until("where", f"Frame {FRAMES - 1} ")
    visitor.go_to(5)
    plain = visitor.colour_at(5, 180)
    page.click("#video-downloads button")
    page.click("#video-background input")
    visitor.refreshed(lambda: page.get_by_role("option", name="Everything else darkened").click())
    assert sum(visitor.colour_at(5, 180)) < 0.6 * sum(plain)
    assert visitor.download("gif", tmp_path).name == "a disc_spotlight_overlay.gif"
    visitor.press("#clear")
    assert visitor.texts("objects .sk-note") == ["click it"]
    visitor.press("#undo")
    assert "predicted IoU" in visitor.texts("objects .sk-note")[0]


@pytest.mark.slow
def test_buttons_go_where_a_correction_would_help_and_become_fewer(come: Come, assets: Path) -> None:
    visitor = come("video", assets / "clips" / "helmet_leaves.mp4")
    visitor.click(168, 180)
    visitor.wait_rows(1)
    visitor.track()
    helps = visitor.page.locator("#video-timeline .help button")
    helps.first.wait_for()  # comes with the last frame's page
    count, frame = helps.count(), helps.first.inner_text().rpartition(" ")[2]
    assert count, "this clip has uncertain frames"
    helps.first.click()
    visitor.wait_until("where", f"Frame {frame} ")
    visitor.click(250, 180)
    visitor.page.wait_for_function(
        "n => document.querySelectorAll('#video-timeline .help button').length < n", arg=count
    )


@pytest.mark.slow
def test_who_closes_the_page_leaves_nothing_behind(browser: Any, app: tuple[str, psutil.Process], clip: Path) -> None:
    address, process = app
    visitors = [Visitor(browser, address, "video") for _ in range(3)]
    for visitor in visitors:
        visitor.open(clip)
    assert len(visitors_folders(process)) == 3
    for visitor in visitors:
        visitor.context.close()
    resident(process)  # waits for the folders to go
    assert not visitors_folders(process)


# reloads


def begin(visitor: Visitor, discs: Path) -> str:
    """Open a photo and click, until the browser holds the token."""
    visitor.open(discs)
    visitor.click(*RED)
    visitor.page.wait_for_function("sessionStorage.getItem('sam2kit')")
    return json.loads(visitor.page.evaluate("sessionStorage.getItem('sam2kit')"))[0]["token"]


def is_empty(visitor: Visitor, milliseconds: int = 2500) -> bool:
    """Whether no work comes back."""
    visitor.page.wait_for_timeout(milliseconds)
    return visitor.page.locator("#image-view .sk-surface[data-scene]").count() == 0


@pytest.mark.slow
def test_a_reload_and_a_new_tab_bring_the_mask_back_and_tabs_keep_apart(come: Come, discs: Path) -> None:
    tab = come()
    page, surface, token = tab.page, tab, begin(tab, discs)
    masked = tab.colour_at(*RED)
    assert token not in page.url
    page.reload()
    surface.wait_shown()
    assert page.locator(".toast-body").all_inner_texts()[0].endswith("Your work is back.")
    assert surface.points() == 1
    assert tab.colour_at(*RED) == masked, "the mask is there"
    surface.shift_click(*GROUND)
    assert surface.points() == 2, "and the next click goes on"
    page.reload()  # twice, faster than anything can be answered
    page.wait_for_timeout(300)
    page.reload()
    surface.wait_shown()
    assert surface.points() == 2

    other = come(context=tab.context)
    assert is_empty(other), "the work is in use elsewhere"
    assert begin(other, discs) != token
    for visitor, points in ((tab, 2), (other, 1)):
        visitor.page.reload()
        visitor.wait_shown()
        assert visitor.points() == points
    other.page.close()
    page.wait_for_timeout(1200)
    page.close()
    again = come(context=tab.context)
    again.wait_shown()
    assert again.points() in (1, 2), "a closed tab is opened again"


@pytest.mark.slow
def test_another_visitor_gets_nothing_and_is_told(come: Come, discs: Path) -> None:
    tab, stranger = come(), come()
    token = begin(tab, discs)
    assert is_empty(stranger)
    near = token[:-1] + ("y" if token.endswith("x") else "x")
    guess = json.dumps([{"token": near, "tab": "Image", "time": 1e15}])
    stranger.page.evaluate("(guess) => sessionStorage.setItem('sam2kit', guess)", guess)
    stranger.page.reload()
    toast = stranger.toast()
    assert "Your earlier work is gone" in toast
    assert "60 minutes" in toast
    assert is_empty(stranger, 500)
    assert stranger.page.evaluate("sessionStorage.getItem('sam2kit')") == "[]", "it is not asked for again"
    tab.shift_click(*GROUND)
    assert tab.points() == 2, "its owner goes on"


@pytest.mark.slow
def test_tracks_and_labelled_photos_come_back_and_go_on(come: Come, clip: Path) -> None:
    visitor = come("video", clip)
    page, photo = visitor.page, SurfaceDriver(visitor.page, "#finetune-view")
    visitor.click(*centre(0))
    visitor.track()
    page.get_by_role("tab", name="Fine-tune").click()
    page.click("#finetune-examples")
    photo.wait_shown()
    photo.click(200, 150)
    page.wait_for_function("document.querySelector('#finetune-status').innerText.includes('1 of')")
    said, photos = page.inner_text("#finetune-status"), page.locator("#finetune-photos .sk-object").count()
    page.get_by_role("tab", name="Video").click()
    page.wait_for_timeout(1500)
    page.reload()
    visitor.wait_shown()
    visitor.wait_until("status", f"{FRAMES} of {FRAMES} frames have masks")
    assert page.get_by_role("tab", name="Video").get_attribute("aria-selected") == "true"
    visitor.go_to(8)
    visitor.click(*centre(8))
    visitor.wait_until("status", "Press Track again")
    visitor.wait_until("track", "Track again")
    visitor.track()
    assert page.locator("#video-estimate").inner_text().strip() == ""
    page.get_by_role("tab", name="Fine-tune").click()
    photo.wait_shown()
    assert page.inner_text("#finetune-status") == said
    assert page.locator("#finetune-photos .sk-object").count() == photos > 2
    assert page.inner_text("#finetune-train") == "Train"
    assert photo.points() == 1
