"""The pictures of the app in the README, taken anew: all tabs in use, with nano, in Chromium.

    python -m tests.app.take_pictures

Writes assets/image_tab.jpg, tools.jpg, video_tab.jpg, finetune_tab.jpg and in_motion.webp, which shows a clip that is
clicked, tracked and shown with an effect. Takes three minutes, one of which is training.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import coins

from sam2kit.data.opening import open_dataset
from tests.app.chromium import CHROMIUM, FLAGS, Visitor
from tests.app.conftest import ROOT, running_app
from tests.proof_data import write_coins

ASSETS = ROOT / "assets"
WIDTH, QUALITY = 1280, 82
PHOTOS = 8  # that are labelled
MOVING = ASSETS / "in_motion.webp"
TOOLS_WH, EXAMPLE_XY = (1180, 720), (55, 42)  # pixels; a coin among others
MOVING_WH, STORED_WH, MOVING_QUALITY = (1180, 900), (885, 675), 62  # pixels, as rendered and as stored
LONG, SHORT, QUICK = 1300, 700, 110  # milliseconds that a picture stays
SETTLED = 400  # milliseconds after which a frame is shown


def main() -> None:
    """Take all pictures."""
    from playwright import sync_api

    sizes = {
        "image": (WIDTH, 720),
        "tools": TOOLS_WH,
        "video": (WIDTH, 820),
        "finetune": (WIDTH, 900),
        "motion": MOVING_WH,
    }
    with running_app() as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, (width, height) in sizes.items():
            tab = {"motion": "video", "tools": "image"}.get(name, name)
            visitor = Visitor(browser, address, tab, viewport={"width": width, "height": height})
            visitor.page.set_default_timeout(120_000)
            if name in RECORDED:
                RECORDED[name](visitor)
                visitor.page.close()
                continue
            {"image": use_image, "video": use_video, "finetune": use_finetune}[name](visitor)
            visitor.page.wait_for_timeout(800)
            picture = shot(visitor, full_page=name == "finetune")
            picture.save(ASSETS / f"{name}_tab.jpg", quality=QUALITY)
            print(ASSETS / f"{name}_tab.jpg", picture.size)
            visitor.page.close()
        browser.close()


def shot(visitor: Visitor, *, full_page: bool = False) -> Image.Image:
    """The page as it looks now."""
    return Image.open(io.BytesIO(visitor.page.screenshot(full_page=full_page))).convert("RGB")


def use_image(visitor: Visitor) -> None:
    """A cup, its spoon and the saucer; a click is about to follow."""
    page = visitor.page
    page.locator("#image-examples button.gallery-item").nth(3).click()
    visitor.wait_shown()
    visitor.click(290, 60)
    visitor.key("n")
    visitor.answered(lambda: visitor.drag(325, 188, 412, 332))
    rename(visitor, 0, "cup")
    rename(visitor, 1, "spoon")
    visitor.key("n")
    previews = int(visitor.data("previews") or 0)
    page.mouse.move(*visitor.at(140, 290))
    page.wait_for_function(
        "n => Number(document.querySelector('#image-view .sk-surface').dataset.previews || 0) > n", arg=previews
    )


def show_tools(visitor: Visitor) -> None:
    """Coins like the one that was clicked; and a brush at work on a mask whose edges were refined."""
    page, file = visitor.page, Path(tempfile.mkdtemp()) / "coins.png"
    Image.fromarray(coins()[:, :, None].repeat(3, axis=2)).save(file)
    visitor.open(file)
    visitor.click(*EXAMPLE_XY)
    rename(visitor, 0, "coin")
    page.click("#image-everything button")
    page.click("#image-find-alike")
    visitor.wait_until("status", "found")
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(SETTLED)
    found = shot(visitor)
    page.click("#image-another")
    page.locator("#image-examples button.gallery-item").nth(0).click()
    page.wait_for_function("document.querySelector('#image-view .sk-surface')?.dataset.size === '512,512'")
    visitor.answered(lambda: visitor.drag(95, 10, 345, 505))
    page.click("#image-everything button")
    page.click("#image-masks button")
    page.click("#image-refine")
    visitor.wait_until("status", "refined")
    page.evaluate("window.scrollTo(0, 0)")
    page.keyboard.press("b")
    visitor.answered(lambda: visitor.drag(352, 330, 362, 490))
    page.mouse.move(*visitor.at(335, 420))
    page.wait_for_timeout(SETTLED)
    both = Image.fromarray(np.concatenate([np.asarray(found), np.asarray(shot(visitor))]))
    both.save(ASSETS / "tools.jpg", quality=QUALITY)
    print(ASSETS / "tools.jpg", both.size)


def use_video(visitor: Visitor) -> None:
    """Two objects, tracked, with a correction."""
    open_clip(visitor)
    visitor.click(150, 215)
    visitor.click(30, 30, button="right")
    rename(visitor, 0, "cup")
    visitor.key("n")
    go_to(visitor, 20)
    visitor.answered(lambda: visitor.drag(318, 45, 396, 123))
    rename(visitor, 1, "patch")
    visitor.page.keyboard.press("t")
    visitor.wait_until("status", "Done")
    go_to(visitor, 44)


def use_finetune(visitor: Visitor) -> None:
    """Coins, labelled with a few clicks each, and what a minute of training makes of it."""
    page, folder = visitor.page, Path(tempfile.mkdtemp())
    write_coins(folder)
    samples = open_dataset(folder).samples[:PHOTOS]
    page.get_by_role("tab", name="Fine-tune").click()
    with page.expect_file_chooser() as waiting:
        page.click("#finetune-add")
    waiting.value.set_files([str(next(p for p in sample.files if "mask" not in p.parent.name)) for sample in samples])
    visitor.wait_shown()
    for number, sample in enumerate(samples):
        for i, truth in enumerate(sorted(sample.read().picture_masks, key=np.sum)[-2:]):
            if i:
                visitor.key("n")
            (y0, x0), (y1, x1) = np.argwhere(truth).min(0), np.argwhere(truth).max(0)
            visitor.answered(lambda x0=x0, y0=y0, x1=x1, y1=y1: visitor.drag(x0, y0, x1, y1))
        if number < len(samples) - 1:
            visitor.press("#after")
    page.locator("#finetune-minutes input[type=number]").fill("1")
    page.keyboard.press("Tab")
    page.click("#finetune-train")
    page.wait_for_selector("#finetune-results figure")


def open_clip(visitor: Visitor) -> None:
    """The second example of the Video tab."""
    visitor.page.get_by_role("tab", name="Video").click()
    visitor.page.locator("#video-examples button.gallery-item").nth(1).click()
    visitor.wait_shown()


def go_to(visitor: Visitor, frame: int) -> None:
    """Show a frame, by its number."""
    visitor.page.locator("#video-slider input[type=number]").fill(str(frame))
    visitor.key("Enter")


def rename(visitor: Visitor, row: int, name: str) -> None:
    """Give an object in the list a name."""
    visitor.page.locator(f"#{visitor.tab}-objects .sk-rename").nth(row).click()
    visitor.page.keyboard.type(name)
    visitor.key("Enter")


def record_video(visitor: Visitor) -> None:
    """Click, correct, add an object, track, and look at the result."""
    page, pictures, stays = visitor.page, [], []

    def take(milliseconds: int) -> None:
        pictures.append(shot(visitor).resize(STORED_WH, Image.Resampling.LANCZOS))
        stays.append(milliseconds)

    open_clip(visitor)
    take(LONG)
    visitor.click(150, 215)
    take(LONG)
    visitor.click(30, 30, button="right")
    take(SHORT)
    visitor.key("n")
    visitor.answered(lambda: visitor.drag(340, 42, 420, 124))
    take(LONG)
    page.keyboard.press("t")
    while "Done" not in page.locator("#video-status").inner_text():
        take(QUICK)
        page.wait_for_timeout(120)
    take(LONG)
    page.click("#video-downloads button")
    page.click("#video-background input")
    visitor.refreshed(lambda: page.get_by_role("option", name="Everything else darkened").click())
    for frame in range(0, 72, 6):
        page.locator("#video-slider input[type=number]").fill(str(frame))
        page.keyboard.press("Enter")
        page.wait_for_timeout(SETTLED)
        page.evaluate("window.scrollTo(0, 0)")
        take(QUICK)
    first, *others = pictures
    first.save(
        MOVING, save_all=True, append_images=others, duration=[*stays[:-1], LONG], loop=0, quality=MOVING_QUALITY,
        method=6,
    )  # fmt: skip
    print(MOVING, len(pictures), "pictures,", round(MOVING.stat().st_size / 1e6, 2), "MB")


RECORDED = {"motion": record_video, "tools": show_tools}

if __name__ == "__main__":
    main()
