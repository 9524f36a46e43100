"""The Image tab in a real browser: clicks, corrections, downloads, two visitors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.ui.chromium import download, needs_chromium, place_of

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


class Visitor:
    """One browser window on the Image tab."""

    def __init__(self, browser, address: str) -> None:  # noqa: ANN001
        self.context = browser.new_context(viewport={"width": 1280, "height": 800})
        self.page = self.context.new_page()
        self.page.goto(address)
        self.page.wait_for_selector("#image-examples button.gallery-item")

    def upload(self, photo: Path) -> None:
        self.page.set_input_files("#image-upload input[type=file]", str(photo))
        self.page.wait_for_selector("#image-view img")
        self.page.wait_for_function("document.querySelector('#image-view img').naturalWidth > 0")

    def click(self, x: float, y: float) -> None:
        """Click at a place of the 400x280 drawing and wait for the new picture."""
        image = self.page.locator("#image-view img")
        image.scroll_into_view_if_needed()
        self.change(lambda: self._click_at(x, y))

    def change(self, act) -> None:  # noqa: ANN001
        """Do something that changes the picture, and wait until it has."""
        before = self.source()
        act()
        self.page.wait_for_function("s => document.querySelector('#image-view img').src !== s", arg=before)
        self.page.wait_for_function("document.querySelector('#image-view img').complete")

    def _click_at(self, x: float, y: float) -> None:
        left, top, width = place_of(self.page, "#image-view img")
        self.page.mouse.click(left + x * width / 400, top + y * width / 400)

    def source(self) -> str:
        return self.page.eval_on_selector("#image-view img", "e => e.src")

    def picture(self) -> np.ndarray:
        """What is shown, scaled to the 400x280 drawing: int RGB."""
        data = self.context.request.get(self.source()).body()
        shown = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return cv2.resize(shown, (400, 280), interpolation=cv2.INTER_AREA).astype(int)

    def mode(self, name: str) -> None:
        self.page.locator(f"#image-mode input[value='{name}']").click()
        self.page.wait_for_timeout(200)

    def download(self, kind: str, folder: Path) -> Path:
        return download(self.page, f"#image-download-{kind}", folder)

    def leave(self) -> None:
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


def covered(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Pixels whose colour changed."""
    return np.abs(after - before).sum(axis=2) > 40


def test_a_click_covers_the_disc_and_downloads_are_exact(visitor: Visitor, tmp_path: Path) -> None:
    plain = visitor.picture()
    visitor.click(DISC[0] + 15, DISC[1])
    overlay = covered(plain, visitor.picture())
    truth = disc_mask(DISC)
    assert (overlay & truth).sum() / (overlay | truth).sum() > 0.8
    mask = np.array(Image.open(visitor.download("mask", tmp_path)))
    assert mask.shape == (700, 1000)
    small = cv2.resize(mask, (400, 280), interpolation=cv2.INTER_AREA) > 127
    assert (small & truth).sum() / (small | truth).sum() > 0.8
    cutout = Image.open(visitor.download("cutout", tmp_path))
    assert cutout.mode == "RGBA"
    assert abs(cutout.width - 2.5 * 2 * DISC[2]) < 60
    coco = json.loads(visitor.download("coco", tmp_path).read_text())
    assert coco["annotations"][0]["area"] == (mask > 0).sum()


def test_a_negative_click_takes_away_and_undo_brings_back(visitor: Visitor, tmp_path: Path) -> None:
    image = np.full((280, 400, 3), (90, 110, 90), np.uint8)
    cv2.circle(image, (140, 140), 60, (210, 50, 40), -1, cv2.LINE_AA)
    cv2.circle(image, (255, 140), 60, (210, 50, 40), -1, cv2.LINE_AA)
    Image.fromarray(image).save(tmp_path / "two that touch.png")
    visitor.change(lambda: visitor.upload(tmp_path / "two that touch.png"))
    plain = visitor.picture()
    visitor.click(140, 140)
    first = visitor.picture()
    # without the clicks' own marks
    left = disc_mask((140, 140, 50)) & ~disc_mask((140, 140, 12))
    right = disc_mask((270, 140, 35)) & ~disc_mask((270, 140, 12))
    assert (covered(plain, first) & right).sum() > 0.8 * right.sum(), "one click takes both for one thing"
    visitor.mode("Remove")
    visitor.click(270, 140)
    less = covered(plain, visitor.picture())
    assert (less & right).sum() < 0.2 * right.sum()
    assert (less & left).sum() > 0.8 * left.sum()
    visitor.change(lambda: visitor.page.click("#image-undo"))
    assert np.abs(visitor.picture() - first).mean() < 1


def test_another_candidate_can_be_chosen(visitor: Visitor) -> None:
    visitor.click(*DISC[:2])
    options = visitor.page.locator("#image-candidates input")
    assert options.count() == 3
    unchosen = next(i for i in range(3) if not options.nth(i).is_checked())
    visitor.change(lambda: options.nth(unchosen).click())
    assert options.nth(unchosen).is_checked()


def test_a_pasted_photo_opens(visitor: Visitor, tmp_path: Path) -> None:
    """Ctrl+V hands the clipboard's picture to the page; here the event is made by hand."""
    visitor.change(
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
    visitor.page.wait_for_function("document.querySelector('#image-view img').naturalHeight === 720")


def test_two_visitors_do_not_see_each_other(browser, address: str, discs: Path) -> None:  # noqa: ANN001
    one, two = Visitor(browser, address), Visitor(browser, address)
    one.upload(discs)
    two.upload(discs)
    plain = two.picture()
    one.click(*DISC[:2])
    two.click(*OTHER[:2])
    shown = covered(plain, two.picture())
    assert (shown & disc_mask(OTHER)).sum() > 0.5 * disc_mask(OTHER).sum()
    assert (shown & disc_mask(DISC)).sum() < 0.5 * disc_mask(DISC).sum()
    one.click(DISC[0] + 10, DISC[1] + 10)
    assert (covered(plain, one.picture()) & disc_mask(DISC)).sum() > 0.5 * disc_mask(DISC).sum()
    one.leave()
    two.leave()


def test_examples_everything_and_a_new_photo(visitor: Visitor, discs: Path) -> None:
    page = visitor.page
    page.click("#image-another")
    page.wait_for_selector("#image-upload", state="visible")
    page.locator("#image-examples button.gallery-item").nth(3).click()
    page.wait_for_selector("#image-view img")
    page.click("#image-everything button")
    page.locator("#image-points input[type=number]").fill("4")
    page.click("#image-find")
    page.wait_for_function("/masks found|No mask/.test(document.querySelector('#image-status').innerText)")
    visitor.upload(discs)
    visitor.click(*DISC[:2])
    assert page.locator(".toast-body").count() == 0


def test_a_file_that_is_no_photo_gets_one_clear_line(visitor: Visitor, tmp_path: Path) -> None:
    bad = tmp_path / "holiday.jpg"
    bad.write_text("this is no photo")
    visitor.page.set_input_files("#image-upload input[type=file]", str(bad))
    toast = visitor.page.wait_for_selector(".toast-body").inner_text()
    assert "holiday.jpg is not a picture" in toast
    assert "Traceback" not in toast
    assert "/tmp" not in toast
    visitor.click(*DISC[:2])  # the open photo is still there


def test_downloading_before_clicking_says_what_to_do(visitor: Visitor) -> None:
    visitor.page.click("#image-download-mask")
    assert "click on something first" in visitor.page.wait_for_selector(".toast-body").inner_text()
