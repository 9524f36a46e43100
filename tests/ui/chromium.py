"""Which browser the tests use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

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


def place_of(page, picture: str) -> tuple[float, float, float]:  # noqa: ANN001
    """Left, top and width of what an <img> shows, in pixels of the page: Gradio letterboxes it, and never enlarges."""
    return page.evaluate(
        """(picture) => {
            const t = document.querySelector(picture), b = t.getBoundingClientRect();
            const r = Math.min(b.width / t.naturalWidth, b.height / t.naturalHeight, 1);
            return [b.left + (b.width - t.naturalWidth * r) / 2, b.top + (b.height - t.naturalHeight * r) / 2,
                    t.naturalWidth * r];
        }""",
        picture,
    )


def download(page, button: str, folder: Path) -> Path:  # noqa: ANN001
    """Press a button and save what it downloads, under the name that the page gives it."""
    with page.expect_download() as waiting:
        page.click(button)
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path
