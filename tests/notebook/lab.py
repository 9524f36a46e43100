"""JupyterLab with this repository's notebooks, and how tests drive it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

from tests.loopback_hub import free_port

ROOT = Path(__file__).parent.parent.parent
NOTEBOOK = ROOT / "notebooks" / "1_image_prompts.ipynb"
TOKEN = "tests"
_START = 120  # seconds that a busy machine may take


class Lab:
    """A notebook in JupyterLab.

    Args:
        page: Playwright's.
        address: of the server.
        notebook: its path below the server's folder.
    """

    def __init__(self, page: Any, address: str, notebook: str) -> None:
        self.page = page
        page.goto(f"{address}/lab/workspaces/{Path(notebook).stem}/tree/{notebook}?token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # before, a cell would ask which kernel to take

    def cell(self, number: int) -> str:
        """CSS selector of a cell, by its place among all cells from 0."""
        return f".jp-Notebook .jp-Cell[data-windowed-list-index='{number}']"

    def run(self, number: int) -> None:
        """Put the cursor into a cell and run it."""
        self.page.locator(f"{self.cell(number)} .cm-content").click()
        self.page.keyboard.press("Control+Enter")

    def output(self, number: int) -> str:
        """Run a cell and read what it prints."""
        where = f"{self.cell(number)} .jp-OutputArea-output"
        self.page.evaluate("where => document.querySelectorAll(where).forEach((e) => e.remove())", where)
        self.run(number)
        self.page.wait_for_selector(where)
        return self.page.locator(where).first.inner_text().strip()

    def count(self) -> int:
        """How many cells there are."""
        return self.page.locator(".jp-Notebook .jp-Cell").count()


def indices(*beginnings: str) -> list[int]:
    """The places of notebook 1's cells that contain these texts."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    return [next(i for i, c in enumerate(cells) if c.cell_type == "code" and text in c.source) for text in beginnings]


@contextmanager
def running_jupyter(folder: Path) -> Iterator[str]:
    """Address of a running JupyterLab.

    Args:
        folder: an empty one; gets a copy of notebooks/, the assets and the package.
    """
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    for name in ("assets", "sam2kit"):
        (folder / name).symlink_to(ROOT / name)
    port = free_port()
    own = folder.parent / f"{folder.name}-own"  # nothing of the developer's settings
    settings = {"JUPYTER_CONFIG_DIR": str(own / "config"), "JUPYTER_DATA_DIR": str(own / "data")}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--port-retries=0",
        f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    server = subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/api/status?token={TOKEN}", server)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(url: str, server: subprocess.Popen) -> None:
    until = time.monotonic() + _START
    while time.monotonic() < until:
        if server.poll() is not None:
            raise RuntimeError(f"JupyterLab ended with {server.returncode}")
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    raise TimeoutError("JupyterLab did not start")
