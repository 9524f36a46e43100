"""A running app and a browser, for the tests that visit the page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
import pytest

from tests.app.chromium import CHROMIUM, FLAGS
from tests.app.load_app import ROOT, started

__all__ = ["ROOT"]


@contextmanager
def running_app(*options: str) -> Iterator[str]:
    """The address of an app with the bundled model, started as a user would."""
    process, address, _ = started("app.py", "--model", "nano", "--device", "cpu", *options)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """A running app."""
    with running_app() as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for one module: Playwright's event loop would disturb others."""
    from playwright import sync_api

    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What visitors were told in passing."""
    said: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda text, **_: said.append(text))
    return said
