"""A running app and a browser, for the tests that visit the page."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ui.chromium import CHROMIUM, FLAGS

ROOT = Path(__file__).parent.parent.parent


@contextmanager
def running_app(*options: str) -> Iterator[str]:
    """The address of an app with the bundled model, started as a user would."""
    app = subprocess.Popen(
        [sys.executable, "-u", "app.py", "--model", "nano", "--device", "cpu", *options],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert app.stdout is not None
    lines = []
    for line in app.stdout:
        lines.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            break
    else:
        pytest.fail("the app did not start:\n" + "".join(lines))
    try:
        yield found.group()
    finally:
        app.terminate()
        app.wait(20)


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """A running app."""
    with running_app() as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Chromium, for one module: Playwright's event loop would disturb others."""
    from playwright import sync_api

    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()
