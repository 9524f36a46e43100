"""Reloads, closed tabs and several tabs in a real browser: work comes back, to its owner alone."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.ui.chromium import SurfaceDriver, needs_chromium
from tests.ui.moving_disc import FRAMES, centre, write_disc_clip
from tests.ui.test_video_browser import DROP, VideoVisitor

pytest.importorskip("playwright.sync_api")
pytestmark = needs_chromium
CUP = (464, 96)  # on the first example photo


class Tab:
    """One tab of a browser, on the Image tab of the page."""

    def __init__(self, context: Any, address: str) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.goto(address)
        self.page.wait_for_selector("#image-examples button.gallery-item")
        self.surface = SurfaceDriver(self.page, "#image-view")

    def begin(self) -> None:
        """Open the first example and click, until the browser holds the token."""
        self.page.click("#image-examples button.gallery-item >> nth=0")
        self.surface.wait_shown()
        self.surface.click(*CUP)
        self.page.wait_for_function("sessionStorage.getItem('sam2kit')")

    def token(self) -> str:
        return json.loads(self.page.evaluate("sessionStorage.getItem('sam2kit')"))[0]["token"]

    def is_empty_for(self, milliseconds: int = 2500) -> bool:
        """Whether no work comes back to it."""
        self.page.wait_for_timeout(milliseconds)
        return self.page.locator("#image-view .sk-surface[data-scene]").count() == 0


def test_a_reload_and_a_new_tab_bring_the_mask_back(browser, address: str) -> None:  # noqa: ANN001
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    tab = Tab(context, address)
    tab.begin()
    masked = tab.surface.colour_at(*CUP)
    assert tab.token() not in tab.page.url
    tab.page.reload()
    tab.surface.wait_shown()
    assert tab.page.locator(".toast-body").all_inner_texts()[0].endswith("Your work is back.")
    assert tab.surface.points() == 1
    assert tab.surface.colour_at(*CUP) == masked, "the mask is there"
    tab.surface.shift_click(300, 300)
    assert tab.surface.points() == 2, "and the next click goes on"

    tab.page.reload()  # twice, faster than anything can be answered
    tab.page.wait_for_timeout(300)
    tab.page.reload()
    tab.surface.wait_shown()
    assert tab.surface.points() == 2

    tab.page.wait_for_timeout(1200)
    tab.page.close()
    again = Tab(context, address)
    again.surface.wait_shown()
    assert again.surface.points() == 2, "a closed tab is opened again"
    context.close()


def test_tabs_of_one_browser_keep_apart(browser, address: str) -> None:  # noqa: ANN001
    context = browser.new_context()
    one = Tab(context, address)
    one.begin()
    two = Tab(context, address)
    assert two.is_empty_for(), "the work is in use elsewhere"
    two.begin()
    two.surface.shift_click(300, 300)
    assert one.token() != two.token()
    one.page.reload()
    one.surface.wait_shown()
    two.page.reload()
    two.surface.wait_shown()
    assert (one.surface.points(), two.surface.points()) == (1, 2)
    context.close()


def test_another_visitor_gets_nothing_and_is_told(browser, address: str) -> None:  # noqa: ANN001
    mine, theirs = browser.new_context(), browser.new_context()
    tab = Tab(mine, address)
    tab.begin()
    stranger = Tab(theirs, address)
    assert stranger.is_empty_for()
    guess = json.dumps([{"token": tab.token()[:-1] + "x", "tab": "Image", "time": 1e15}])
    stranger.page.evaluate("(guess) => sessionStorage.setItem('sam2kit', guess)", guess)
    stranger.page.reload()
    toast = stranger.page.wait_for_selector(".toast-body").inner_text()
    assert "Your earlier work is gone" in toast
    assert "60 minutes" in toast
    assert stranger.is_empty_for(500)
    assert stranger.page.evaluate("sessionStorage.getItem('sam2kit')") == "[]", "it is not asked for again"
    tab.surface.shift_click(300, 300)
    assert tab.surface.points() == 2, "its owner goes on"
    mine.close()
    theirs.close()


def test_tracks_come_back_and_go_on(browser, address: str, tmp_path: Path) -> None:  # noqa: ANN001
    visitor = VideoVisitor(browser, address)
    page = visitor.page
    clip = write_disc_clip(tmp_path / "a disc.mp4")
    page.evaluate(DROP, [base64.b64encode(clip.read_bytes()).decode(), clip.name])
    visitor.surface.wait_shown()
    visitor.click(*centre(0))
    visitor.track()
    page.wait_for_timeout(1500)
    page.reload()
    visitor.surface.wait_shown()
    visitor.wait_until("#video-status", f"{FRAMES} of {FRAMES} frames have masks")
    assert page.get_by_role("tab", name="Video").get_attribute("aria-selected") == "true"
    visitor.go_to(8)
    visitor.click(*centre(8))
    visitor.wait_until("#video-status", "Press Track again")
    visitor.wait_until("#video-track", "Track again")
    visitor.track()
    assert page.locator("#video-pace").inner_text().strip() == ""
    visitor.context.close()


def test_labelled_photos_come_back(browser, address: str) -> None:  # noqa: ANN001
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    tab = Tab(context, address)
    page, surface = tab.page, SurfaceDriver(tab.page, "#teach-view")
    page.get_by_role("tab", name="Fine-tune").click()
    page.click("#teach-examples")
    surface.wait_shown()
    surface.click(200, 150)
    page.wait_for_function("document.querySelector('#teach-status').innerText.includes('1 of')")
    said, photos = page.inner_text("#teach-status"), page.locator("#teach-photos .sk-object").count()
    page.wait_for_timeout(1500)
    page.reload()
    surface.wait_shown()
    page.wait_for_timeout(1000)
    assert page.inner_text("#teach-status") == said
    assert page.locator("#teach-photos .sk-object").count() == photos > 2
    assert page.inner_text("#teach-train") == "Train"
    assert surface.points() == 1
    context.close()
