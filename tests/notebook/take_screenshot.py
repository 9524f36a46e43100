"""The picture of the click widget in the README, taken anew: notebook 1 in JupyterLab, clicked on.

    python -m tests.notebook.take_screenshot

Writes assets/widget.jpg.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image

from tests.app.chromium import CHROMIUM, FLAGS, SurfaceDriver
from tests.notebook.lab import NOTEBOOK, ROOT, Lab, indices, running_jupyter

QUALITY = 82


def main() -> None:
    """Run notebook 1 up to the widget, click on a third object, take the picture."""
    from playwright import sync_api

    folder = Path(tempfile.mkdtemp()) / "jupyter"
    folder.mkdir()
    with running_jupyter(folder) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1230})
        page.set_default_timeout(60_000)
        lab = Lab(page, address, f"notebooks/{NOTEBOOK.name}")
        cells = indices("requirements.txt", "MODEL =", "astronaut = ", "ClickWidget(", "widget.masks.items")
        for cell in cells[:4]:
            lab.run(cell)
        surface = SurfaceDriver(page, lab.cell(cells[3]))
        surface.wait_shown()
        page.get_by_text("No", exact=True).click()  # news of Jupyter
        page.locator(f"{lab.cell(cells[3])} .sk-do-new").click()
        page.wait_for_function(
            "s => document.querySelector(s).textContent === 'Object 3'", arg=f"{surface.root} .sk-active"
        )
        surface.click(396, 428)
        surface.click(417, 317, button="right")
        lab.output(cells[4])
        page.keyboard.press("Control+b")  # without the list of files
        page.evaluate("s => document.querySelector(s).scrollIntoView()", lab.cell(cells[3]))
        page.wait_for_timeout(800)
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        picture.save(ROOT / "assets" / "widget.jpg", quality=QUALITY)
        print(ROOT / "assets" / "widget.jpg", picture.size)
        browser.close()


if __name__ == "__main__":
    main()
