"""Which browser the tests use, and how they drive the click surface in it."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.app.moving_disc import FRAMES

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

if CHROMIUM is None and os.environ.get("SAM2KIT_REQUIRE_BROWSER"):
    raise RuntimeError("SAM2KIT_REQUIRE_BROWSER is set, but there is no Chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it to run the browser tests")

DROP = """([files, type, onto = 'body']) => {
    const data = new DataTransfer();
    for (const [name, content] of files)
        data.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name, { type }));
    const dropped = new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true });
    document.querySelector(onto).dispatchEvent(dropped);
}"""


class SurfaceDriver:
    """A click surface on a page, driven as a person would: by places of the picture.

    Args:
        page: Playwright's.
        where: CSS selector of what the surface is in.
    """

    def __init__(self, page: Any, where: str) -> None:
        self.page = page
        self.root, self.canvas = f"{where} .sk-surface", f"{where} canvas"

    def data(self, key: str) -> str | None:
        """What the surface notes about itself."""
        return self.page.eval_on_selector(self.root, "(e, key) => e.dataset[key] ?? null", key)

    def wait_shown(self) -> None:
        """Until there is a picture."""
        self.page.wait_for_selector(f"{self.root}[data-scene]")

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place of a pixel of the picture on the page, while all of the picture is shown."""
        self.page.locator(self.canvas).scroll_into_view_if_needed()
        box = self.page.locator(self.canvas).bounding_box()
        width, height = map(int, self.data("size").split(","))
        return box["x"] + (x + 0.5) * box["width"] / width, box["y"] + (y + 0.5) * box["height"] / height

    def answered(self, act: Callable[[], Any]) -> None:
        """Do something that asks the model, and wait until its answer is shown."""
        before = int(self.data("answered") or 0)
        act()
        self.page.wait_for_function(
            "([root, n]) => Number(document.querySelector(root).dataset.answered || 0) > n", arg=[self.root, before]
        )

    def refreshed(self, act: Callable[[], Any]) -> None:
        """Do something that brings a new scene, and wait until it is shown."""
        before = int(self.data("shown") or 0)
        act()
        self.page.wait_for_function(
            "([root, n]) => Number(document.querySelector(root).dataset.shown || 0) > n", arg=[self.root, before]
        )

    def click(self, x: float, y: float, **options: Any) -> None:
        """A click on a pixel of the picture, and its answer."""
        self.answered(lambda: self.page.mouse.click(*self.at(x, y), **options))

    def shift_click(self, x: float, y: float) -> None:
        """The same with the shift key held."""
        self.page.keyboard.down("Shift")
        self.click(x, y)
        self.page.keyboard.up("Shift")

    def drag(self, x0: float, y0: float, x1: float, y1: float, button: str = "left") -> None:
        """Draw from one pixel to another."""
        start, end = self.at(x0, y0), self.at(x1, y1)
        self.page.mouse.move(*start)
        self.page.mouse.down(button=button)
        self.page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        self.page.mouse.move(*end)
        self.page.mouse.up(button=button)

    def points(self) -> int:
        """How many points the active object has."""
        return int(self.data("points") or 0)

    def colour_at(self, x: float, y: float) -> list[int]:
        """RGB of what is drawn at a pixel of the picture."""
        self.page.mouse.move(2, 2)  # nothing hovers
        return self.page.evaluate(
            """async ([canvas, x, y]) => {
                for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame); // what is to be drawn has been
                const c = document.querySelector(canvas);
                return [...c.getContext('2d').getImageData(x * c.width, y * c.height, 1, 1).data].slice(0, 3);
            }""",
            [self.canvas, *self._share(x, y)],
        )

    def hint(self) -> str:
        """The line that says what a click will do."""
        return self.page.locator(f"{self.root} .sk-hint").inner_text()

    def _share(self, x: float, y: float) -> tuple[float, float]:
        width, height = map(int, self.data("size").split(","))
        return (x + 0.5) / width, (y + 0.5) / height


def choose_file(page: Any, button: str, path: Path) -> None:
    """Press a button that asks for a file, and give it one."""
    with page.expect_file_chooser() as waiting:
        page.click(button)
    waiting.value.set_files(str(path))


def download(page: Any, button: str, folder: Path) -> Path:
    """Press a button and save what it downloads, under the name that the page gives it."""
    with page.expect_download() as waiting:
        page.click(button)
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


class Visitor(SurfaceDriver):
    """One tab of a browser, on one tab of the page."""

    def __init__(self, browser: Any, address: str, tab: str = "image", *, context: Any = None, **options: Any) -> None:
        self.tab, self.problems = tab, []
        self.context = context or browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        super().__init__(self.context.new_page(), f"#{tab}-view")
        self.page.set_default_timeout(60_000)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_selector("#image-load")

    def open(self, file: Path) -> None:
        """A photo is chosen; a video falls on the page, whichever tab is shown."""

        def act() -> None:
            if self.tab == "video":
                self.page.evaluate(DROP, [[[file.name, base64.b64encode(file.read_bytes()).decode()]], "video/mp4"])
            else:
                self.page.set_input_files("#image-upload input[type=file]", str(file))

        if self.page.locator(self.root).count():
            self.refreshed(act)
        else:
            act()
            self.wait_shown()

    def key(self, key: str) -> None:
        """A key that brings a new scene."""
        self.refreshed(lambda: self.page.keyboard.press(key))

    def press(self, button: str, number: int = 0) -> None:
        """A button that brings a new scene."""
        self.refreshed(lambda: self.page.locator(button.replace("#", f"#{self.tab}-", 1)).nth(number).click())

    def texts(self, what: str) -> list[str]:
        return self.page.locator(f"#{self.tab}-{what}").all_inner_texts()

    def rows(self) -> list[str]:
        return self.texts("objects .sk-name")

    def wait_until(self, what: str, text: str) -> None:
        self.page.wait_for_function(
            "([place, text]) => document.querySelector(place)?.innerText.includes(text)",
            arg=[f"#{self.tab}-{what}", text],
        )

    def wait_rows(self, count: int) -> None:
        """Until so many objects have a thumbnail."""
        self.page.wait_for_function(
            "([tab, n]) => document.querySelectorAll(`#${tab}-objects img[src^='data:']`).length === n",
            arg=[self.tab, count],
        )

    def toast(self) -> str:
        return self.page.wait_for_selector(".toast-body").inner_text()

    def download(self, kind: str, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        return download(self.page, f"#{self.tab}-download-{kind}", folder)

    def go_to(self, frame: int) -> None:
        """Click on the timeline."""
        bars = self.page.locator("#video-timeline .bars").first
        bars.scroll_into_view_if_needed()
        box = bars.bounding_box()
        self.page.mouse.click(box["x"] + box["width"] * (frame + 0.5) / FRAMES, box["y"] + box["height"] / 2)
        self.wait_until("where", f"Frame {frame} ")

    def track(self) -> None:
        self.page.click("#video-track")
        self.wait_until("status", "Done")

    def box(self, where: str) -> dict[str, float]:
        return self.page.locator(where).first.bounding_box()

    def leave(self) -> None:
        assert self.problems == []
        self.context.close()
