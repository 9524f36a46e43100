"""The pictures of the app in the README, taken anew: all tabs in use, with nano, in Chromium.

    python -m tests.ui.take_screenshots

Writes assets/image_tab.jpg, assets/video_tab.jpg and assets/teach_tab.jpg. Takes two minutes, one of which is training.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam2kit.datasets.opening import open_dataset
from tests.proof_data import write_coins
from tests.ui.chromium import CHROMIUM, FLAGS, SurfaceDriver
from tests.ui.conftest import ROOT, running_app

ASSETS = ROOT / "assets"
WIDTH, QUALITY = 1280, 82
PHOTOS = 8  # that are labelled


def main() -> None:
    """Take all pictures."""
    from playwright import sync_api

    with running_app() as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, height, use in (("image", 720, use_image), ("video", 820, use_video), ("teach", 900, use_teach)):
            page = browser.new_page(viewport={"width": WIDTH, "height": height})
            page.set_default_timeout(120_000)
            page.goto(address)
            page.wait_for_selector("#image-examples button.gallery-item")
            use(page)
            page.wait_for_timeout(800)
            picture = Image.open(io.BytesIO(page.screenshot(full_page=name == "teach"))).convert("RGB")
            picture.save(ASSETS / f"{name}_tab.jpg", quality=QUALITY)
            print(ASSETS / f"{name}_tab.jpg", picture.size)
            page.close()
        browser.close()


def use_image(page: Any) -> None:
    """A cup, its spoon and the saucer; a click is about to follow."""
    page.locator("#image-examples button.gallery-item").nth(3).click()
    surface = SurfaceDriver(page, "#image-view")
    surface.wait_shown()
    surface.click(290, 60)
    surface.refreshed(lambda: page.keyboard.press("n"))
    surface.answered(lambda: surface.drag(325, 188, 412, 332))
    rename(page, surface, "image", 0, "cup")
    rename(page, surface, "image", 1, "spoon")
    surface.refreshed(lambda: page.keyboard.press("n"))
    ghosts = int(surface.data("ghosts") or 0)
    page.mouse.move(*surface.at(140, 290))
    page.wait_for_function(
        "n => Number(document.querySelector('#image-view .sk-surface').dataset.ghosts || 0) > n", arg=ghosts
    )


def use_video(page: Any) -> None:
    """Two objects, tracked, with a correction."""
    page.get_by_role("tab", name="Video").click()
    page.locator("#video-examples button.gallery-item").nth(1).click()
    surface = SurfaceDriver(page, "#video-view")
    surface.wait_shown()
    surface.click(150, 215)
    surface.click(30, 30, button="right")
    rename(page, surface, "video", 0, "cup")
    surface.refreshed(lambda: page.keyboard.press("n"))
    page.locator("#video-slider input[type=number]").fill("20")
    surface.refreshed(lambda: page.keyboard.press("Enter"))
    surface.answered(lambda: surface.drag(318, 45, 396, 123))
    rename(page, surface, "video", 1, "patch")
    page.keyboard.press("t")
    page.wait_for_function("document.querySelector('#video-status').innerText.includes('Done')")
    page.locator("#video-slider input[type=number]").fill("44")
    surface.refreshed(lambda: page.keyboard.press("Enter"))


def use_teach(page: Any) -> None:
    """Coins, labelled with a few clicks each, and what a minute of training makes of it."""
    folder = Path(tempfile.mkdtemp())
    write_coins(folder)
    samples = open_dataset(folder).pictures[:PHOTOS]
    page.get_by_role("tab", name="Fine-tune").click()
    with page.expect_file_chooser() as waiting:
        page.click("#teach-add")
    waiting.value.set_files([str(next(p for p in sample.files if "mask" not in p.parent.name)) for sample in samples])
    surface = SurfaceDriver(page, "#teach-view")
    surface.wait_shown()
    for number, sample in enumerate(samples):
        for i, truth in enumerate(sorted(sample.read().masks, key=np.sum)[-2:]):
            if i:
                surface.refreshed(lambda: page.keyboard.press("n"))
            (y0, x0), (y1, x1) = np.argwhere(truth).min(0), np.argwhere(truth).max(0)
            surface.answered(lambda x0=x0, y0=y0, x1=x1, y1=y1: surface.drag(x0, y0, x1, y1))
        if number < len(samples) - 1:
            surface.refreshed(lambda: page.click("#teach-after"))
    page.locator("#teach-minutes input[type=number]").fill("1")
    page.keyboard.press("Tab")
    page.click("#teach-train")
    page.wait_for_selector("#teach-results figure")


def rename(page: Any, surface: SurfaceDriver, tab: str, row: int, name: str) -> None:
    """Give an object in the list a name."""
    page.locator(f"#{tab}-objects .sk-rename").nth(row).click()
    page.keyboard.type(name)
    surface.refreshed(lambda: page.keyboard.press("Enter"))


if __name__ == "__main__":
    main()
