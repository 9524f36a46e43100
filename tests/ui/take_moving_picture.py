"""The moving picture at the top of the README, taken anew: a clip is clicked, tracked and shown with an effect.

    python -m tests.ui.take_moving_picture

Writes assets/in_motion.webp: nano in the Video tab, in Chromium, as fast as two CPU cores are.
"""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from tests.ui.chromium import CHROMIUM, FLAGS, SurfaceDriver
from tests.ui.conftest import ROOT, running_app

PATH = ROOT / "assets" / "in_motion.webp"
VIEWPORT, SHOWN = (1180, 900), (885, 675)  # pixels, width x height: as rendered, as stored
QUALITY = 62
LOOK, GLANCE, MOVING = 1300, 700, 110  # milliseconds that a picture stays
SETTLED = 400  # milliseconds after which a frame is shown


class Recorder:
    """Collects pictures of a page, each with the time that it stays."""

    def __init__(self, page: Any) -> None:
        self.page, self.pictures, self.stays = page, [], []

    def take(self, stays: int) -> None:
        """One picture; milliseconds."""
        shot = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        self.pictures.append(shot.resize(SHOWN, Image.Resampling.LANCZOS))
        self.stays.append(stays)

    def save(self) -> None:
        """Write the moving picture, which begins anew for ever."""
        first, *others = self.pictures
        first.save(PATH, save_all=True, append_images=others, duration=self.stays, loop=0, quality=QUALITY, method=6)
        print(PATH, len(self.pictures), "pictures,", round(PATH.stat().st_size / 1e6, 2), "MB")


def main() -> None:
    """Click, correct, add an object, track, and look at the result."""
    from playwright import sync_api

    with running_app() as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport=dict(zip(("width", "height"), VIEWPORT, strict=True)))
        page.set_default_timeout(120_000)
        page.goto(address)
        page.get_by_role("tab", name="Video").click()
        page.locator("#video-examples button.gallery-item").nth(1).click()
        record(page, Recorder(page))
        browser.close()


def record(page: Any, recorder: Recorder) -> None:
    """What is seen."""
    surface = SurfaceDriver(page, "#video-view")
    surface.wait_shown()
    recorder.take(LOOK)
    surface.click(150, 215)
    recorder.take(LOOK)
    surface.click(30, 30, button="right")
    recorder.take(GLANCE)
    surface.refreshed(lambda: page.keyboard.press("n"))
    surface.answered(lambda: surface.drag(340, 42, 420, 124))
    recorder.take(LOOK)
    page.keyboard.press("t")
    while "Done" not in page.locator("#video-status").inner_text():
        recorder.take(MOVING)
        page.wait_for_timeout(120)
    recorder.take(LOOK)
    page.click("#video-downloads button")
    page.click("#video-background input")
    surface.refreshed(lambda: page.get_by_role("option", name="Everything else darkened").click())
    for frame in range(0, 72, 6):
        page.locator("#video-slider input[type=number]").fill(str(frame))
        page.keyboard.press("Enter")
        page.wait_for_timeout(SETTLED)
        page.evaluate("window.scrollTo(0, 0)")
        recorder.take(MOVING)
    recorder.stays[-1] = LOOK
    recorder.save()


if __name__ == "__main__":
    main()
