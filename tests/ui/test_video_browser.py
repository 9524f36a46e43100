"""The Video tab in a real browser, as a visitor: drop, click, track, correct, track again, download."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from sam2kit.media.clips import open_clip
from tests.media.clip_factory import sound_of
from tests.ui.chromium import SurfaceDriver, choose_file, download, needs_chromium
from tests.ui.moving_disc import FRAMES, centre, disc, iou, write_disc_clip
from tests.ui.test_load import app, resident, visitors_folders

__all__ = ["app"]  # the fixture

pytest.importorskip("playwright.sync_api")
pytestmark = needs_chromium

DROP = """([content, name]) => {
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name, { type: 'video/mp4' }));
    document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


class VideoVisitor:
    """One browser window on the Video tab."""

    def __init__(self, browser, address: str, ready: str = "#image-examples button.gallery-item") -> None:  # noqa: ANN001
        self.context = browser.new_context(viewport={"width": 1400, "height": 1000})
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.goto(address)
        self.page.wait_for_selector(ready)
        self.surface = SurfaceDriver(self.page, "#video-view")

    def drop(self, clip: Path) -> None:
        """Let a file fall on the page, whichever tab is shown."""
        self.page.evaluate(DROP, [base64.b64encode(clip.read_bytes()).decode(), clip.name])
        self.wait_until("#video-where", "Frame 0")
        self.surface.wait_shown()

    def click(self, x: float, y: float, **options) -> None:  # noqa: ANN003
        """Click on a pixel of the clip and wait for the answer."""
        self.surface.click(x, y, **options)

    def go_to(self, frame: int) -> None:
        """Click on the health strip."""
        bars = self.page.locator("#video-health .bars").first
        bars.scroll_into_view_if_needed()
        box = bars.bounding_box()
        self.page.mouse.click(box["x"] + box["width"] * (frame + 0.5) / FRAMES, box["y"] + box["height"] / 2)
        self.wait_until("#video-where", f"Frame {frame} ")

    def track(self) -> None:
        self.page.click("#video-track")
        self.wait_until("#video-status", "Done")

    def wait_until(self, place: str, text: str) -> None:
        self.page.wait_for_function(
            "([place, text]) => document.querySelector(place)?.innerText.includes(text)", arg=[place, text]
        )

    def download(self, kind: str, folder: Path) -> Path:
        return download(self.page, f"#video-download-{kind}", folder)

    def masks(self, folder: Path) -> list[np.ndarray]:
        """The masks as a visitor gets them."""
        with zipfile.ZipFile(self.download("masks", folder)) as archive:
            return [np.array(Image.open(io.BytesIO(archive.read(f"{i:05d}.png")))) == 1 for i in range(FRAMES)]


def test_from_a_dropped_clip_to_a_finished_video(browser, address: str, tmp_path: Path) -> None:  # noqa: ANN001
    source = write_disc_clip(tmp_path / "a disc.mp4")
    visitor = VideoVisitor(browser, address)
    visitor.drop(source)
    visitor.click(*centre(0))
    visitor.wait_until("#video-pace", "will take about")
    visitor.track()
    visitor.page.click("#video-downloads button")
    (tmp_path / "first").mkdir()
    masks = visitor.masks(tmp_path / "first")
    assert np.mean([iou(mask, disc(f)) for f, mask in enumerate(masks)]) > 0.75

    visitor.go_to(8)
    x, y = centre(8)
    visitor.click(x + 9, y)
    visitor.click(5, 180, button="right")  # a correction in the middle, with either button
    visitor.wait_until("#video-status", "Press Track again")
    visitor.track()
    assert visitor.page.locator("#video-health .bars b").count() == 2, "both prompted frames are marked"
    again = visitor.masks(tmp_path)
    assert np.mean([iou(mask, disc(f)) for f, mask in enumerate(again)]) > 0.75

    result = visitor.download("video", tmp_path)
    assert result.name == "a disc_overlay.mp4"
    with open_clip(source) as wanted, open_clip(result) as made:
        assert (len(made), made.size_hw) == (len(wanted), wanted.size_hw)
        for ours, theirs in zip(made.timestamps, wanted.timestamps, strict=True):
            assert abs(ours - theirs) < 1e-3
        changed = np.abs(made.frame(8).astype(int) - wanted.frame(8)).sum(axis=2) > 60
        assert iou(changed, disc(8)) > 0.6, "the overlay lies on the disc"
    sound, original = sound_of(result), sound_of(source)
    assert abs(len(sound) - len(original)) <= 2048
    length = min(len(sound), len(original))
    assert np.corrcoef(sound[:length], original[:length])[0, 1] > 0.99
    assert visitor.page.locator(".toast-body").all_inner_texts() == []
    visitor.context.close()


def test_what_is_no_video_gets_one_clear_line(browser, address: str, tmp_path: Path) -> None:  # noqa: ANN001
    bad = tmp_path / "holiday.mp4"
    bad.write_text("this is no video")
    visitor = VideoVisitor(browser, address)
    visitor.page.get_by_role("tab", name="Video").click()
    visitor.page.set_input_files("#video-upload input[type=file]", str(bad))
    toast = visitor.page.wait_for_selector(".toast-body").inner_text()
    assert "holiday.mp4" in toast
    assert "Traceback" not in toast
    assert "/tmp" not in toast
    visitor.drop(write_disc_clip(tmp_path / "good.mp4"))
    visitor.context.close()


def test_a_session_goes_on_in_another_window_with_the_same_masks(browser, address: str, tmp_path: Path) -> None:  # noqa: ANN001
    source = write_disc_clip(tmp_path / "a disc.mp4")
    one, two = VideoVisitor(browser, address), VideoVisitor(browser, address)
    one.drop(source)
    two.drop(source)
    one.click(*centre(0))
    one.track()
    one.page.click("#video-downloads button")
    masks = one.masks(tmp_path)
    one.page.click("#video-sessions button")
    session = download(one.page, "#video-save", tmp_path)
    two.page.click("#video-sessions button")
    choose_file(two.page, "#video-load", session)
    two.wait_until("#video-status", "The session is open: 1 objects")
    two.page.click("#video-downloads button")
    (tmp_path / "again").mkdir()
    again = two.masks(tmp_path / "again")
    assert all(map(np.array_equal, masks, again))
    for visitor in (one, two):
        visitor.context.close()


def test_objects_effects_playing_and_keys(browser, address: str, tmp_path: Path) -> None:  # noqa: ANN001
    visitor = VideoVisitor(browser, address)
    visitor.drop(write_disc_clip(tmp_path / "a disc.mp4"))
    page, surface = visitor.page, visitor.surface
    visitor.click(*centre(0))
    page.wait_for_function("document.querySelectorAll('#video-objects img[src^=\"data:\"]').length === 1")
    surface.refreshed(lambda: page.keyboard.press("n"))
    visitor.click(200, 20)
    assert page.locator("#video-objects .sk-object").count() == 2
    surface.refreshed(lambda: page.locator("#video-objects .sk-drop").nth(1).click())
    page.keyboard.press("t")
    visitor.wait_until("#video-status", "Done")
    visitor.go_to(0)
    page.keyboard.press("ArrowRight")
    visitor.wait_until("#video-where", "Frame 1 ")
    page.keyboard.press("ArrowLeft")
    visitor.wait_until("#video-where", "Frame 0 ")
    page.keyboard.press(" ")
    visitor.wait_until("#video-where", f"Frame {FRAMES - 1} ")
    visitor.go_to(5)
    plain = surface.colour_at(5, 180)
    page.click("#video-downloads button")
    page.click("#video-background input")
    surface.refreshed(lambda: page.get_by_role("option", name="Everything else darkened").click())
    assert sum(surface.colour_at(5, 180)) < 0.6 * sum(plain)
    assert download(page, "#video-download-gif", tmp_path).name == "a disc_spotlight_overlay.gif"
    surface.refreshed(lambda: page.click("#video-restart"))
    assert page.locator("#video-objects .sk-note").all_inner_texts() == ["click it"]
    surface.refreshed(lambda: page.click("#video-undo"))
    assert "predicted IoU" in page.locator("#video-objects .sk-note").inner_text()
    visitor.context.close()


def test_the_tab_fits_a_phone(browser, address: str, tmp_path: Path) -> None:  # noqa: ANN001
    visitor = VideoVisitor(browser, address)
    visitor.page.set_viewport_size({"width": 390, "height": 800})
    visitor.drop(write_disc_clip(tmp_path / "a disc.mp4"))
    visitor.click(*centre(0))
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390
    visitor.context.close()


def test_who_closes_the_page_leaves_nothing_behind(browser, app: tuple[str, psutil.Process], tmp_path: Path) -> None:  # noqa: ANN001
    address, process = app
    visitors = [VideoVisitor(browser, address, ready="#image-upload") for _ in range(3)]
    for number, visitor in enumerate(visitors):
        visitor.drop(write_disc_clip(tmp_path / f"{number}.mp4"))
    assert len(visitors_folders(process)) == 3
    for visitor in visitors:
        visitor.context.close()
    resident(process)  # waits for the folders to go
    assert not visitors_folders(process)
