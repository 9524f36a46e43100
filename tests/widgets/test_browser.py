"""The click widget in JupyterLab, in notebook 1 as a reader would run it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.figures import FIGURES
from tests.ui.chromium import SurfaceDriver, needs_chromium
from tests.ui.conftest import browser  # noqa: F401 (a fixture)
from tests.widgets.lab import NOTEBOOK, Lab, indices

pytestmark = needs_chromium
HEAD = (230, 84)


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:  # noqa: F811
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(60_000)
    yield page
    page.close()


def test_notebook_1_is_clicked_in_jupyterlab(page: Any, jupyter: str) -> None:
    lab = Lab(page, jupyter, f"notebooks/{NOTEBOOK.name}")
    install, first, photo, widget, masks = indices(
        "requirements.txt", "MODEL =", "astronaut = ", "ClickImage(", "widget.masks.items"
    )
    for cell in (install, first, photo, widget):
        lab.run(cell)
    surface = SurfaceDriver(page, lab.cell(widget))
    surface.wait_shown()
    before, ground = surface.colour_at(60, 480), surface.points()
    page.locator(f"{lab.cell(widget)} [data-deed=new]").click()
    page.wait_for_function(
        "s => document.querySelector(s).textContent === 'Object 3'", arg=f"{surface.root} .sk-active"
    )

    surface.click(60, 480)
    assert surface.colour_at(60, 480) != before, "the overlay is seen where the click was"
    assert surface.points() == 1 != ground
    surface.click(250, 470, button="right")
    assert page.locator(".lm-Menu").count() == 0, "JupyterLab's own menu stays away"
    surface.shift_click(480, 30)
    assert surface.points() == 3
    surface.click(480, 30)  # on a point
    assert surface.points() == 2
    surface.answered(lambda: surface.drag(30, 400, 200, 505))
    took = []
    for i in range(8):
        surface.click(40 + 12 * i, 490)
        took.append(float(surface.data("took")))
    FIGURES.append(
        f"click to overlay in JupyterLab, nano: median {statistics.median(took):.0f} ms of {len(took)} clicks"
    )

    cells = lab.count()
    page.mouse.move(*surface.at(20, 20))
    surface.refreshed(lambda: page.keyboard.press("u"))
    assert surface.points() == 2 + 7
    page.keyboard.press("a")  # in a notebook: a cell above
    page.keyboard.press("x")  # in a notebook: cut the cell
    assert lab.count() == cells, "keys pressed on the widget are not for the notebook"

    told = lab.output(masks)
    assert [line.split()[0] for line in told.splitlines()] == ["head", "patch", "Object"]


CLIP = """import sys; sys.path.insert(0, "..")
import sam2kit
from sam2kit.widgets import ClickVideo
widget = ClickVideo(sam2kit.VideoPredictor(sam2kit.load_model("nano")), "../assets/clips/cup_grows.mp4")
widget"""
ASKED = "print(sorted(widget.prompts), widget.frame, sum(len(widget.session.masks(f)) for f in range(72)))"


def test_a_clip_is_clicked_tracked_and_stopped(page: Any, jupyter: str, jupyter_folder: Path) -> None:
    cells = [nbformat.v4.new_code_cell(text) for text in (CLIP, ASKED)]
    about = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=about), jupyter_folder / "notebooks" / "clip.ipynb")
    lab = Lab(page, jupyter, "notebooks/clip.ipynb")
    lab.run(0)
    surface, widget = SurfaceDriver(page, lab.cell(0)), lab.cell(0)
    surface.wait_shown()
    surface.click(150, 215)
    surface.refreshed(lambda: page.locator(f"{widget} input[type=range]").fill("40"))
    assert page.locator(f"{widget} .sk-frame").inner_text() == "40 of 71"
    surface.click(200, 220)
    assert lab.output(1) == "[0, 40] 40 2"
    page.locator(f"{widget} [data-deed=track]").click()
    page.wait_for_function("s => document.querySelector(s).textContent > '1 of'", arg=f"{widget} .sk-frame")
    assert int(lab.output(1).split()[-1]) < 72, "other cells run while it tracks"
    page.locator(f"{widget} [data-deed=stop]").click()
    page.wait_for_selector(f"{widget} [data-deed=track]:not([hidden])")
    page.locator(f"{widget} [data-deed=track]").click()
    page.wait_for_selector(f"{widget} [data-deed=stop]:not([hidden])")
    page.wait_for_selector(f"{widget} [data-deed=track]:not([hidden])")
    assert lab.output(1).split()[-1] == "72"
    page.locator(surface.canvas).focus()
    surface.refreshed(lambda: page.keyboard.press("ArrowLeft"))
    assert page.locator(f"{widget} .sk-frame").inner_text() == "70 of 71"
