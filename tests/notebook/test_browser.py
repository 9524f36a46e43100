"""The click widget in JupyterLab, in notebook 1 as a reader would run it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.app.chromium import SurfaceDriver, needs_chromium
from tests.app.conftest import browser  # noqa: F401 (a fixture)
from tests.figures import FIGURES
from tests.notebook.lab import NOTEBOOK, Lab, indices, running_jupyter

pytestmark = [needs_chromium, pytest.mark.slow]
HEAD = (230, 84)


@pytest.fixture(scope="module")
def jupyter_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What JupyterLab sees."""
    return tmp_path_factory.mktemp("jupyter")


@pytest.fixture(scope="module")
def jupyter(jupyter_folder: Path) -> Iterator[str]:
    """Address of a running JupyterLab."""
    with running_jupyter(jupyter_folder) as address:
        yield address


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:  # noqa: F811
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(60_000)
    yield page
    page.close()


def test_notebook_1_is_clicked_in_jupyterlab(page: Any, jupyter: str) -> None:
    lab = Lab(page, jupyter, f"notebooks/{NOTEBOOK.name}")
    install, first, photo, widget, masks = indices(
        "requirements.txt", "MODEL =", "astronaut = ", "ClickWidget(", "widget.masks.items"
    )
    for cell in (install, first, photo, widget):
        lab.run(cell)
    surface = SurfaceDriver(page, lab.cell(widget))
    surface.wait_shown()
    before, ground = surface.colour_at(60, 480), surface.points()
    page.locator(f"{lab.cell(widget)} .sk-do-new").click()
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
from sam2kit.notebook import ClickWidget
widget = ClickWidget(sam2kit.VideoPredictor(sam2kit.load_model("nano")), "../assets/clips/cup_grows.mp4")
widget"""
ASKED = """objects = widget.session.objects.values()
print([f for item in objects for f in item.prompts], widget.frame, sum(len(item.tracked) for item in objects))"""


def test_a_clip_is_clicked_tracked_and_stopped(page: Any, jupyter: str, jupyter_folder: Path) -> None:
    cells = [nbformat.v4.new_code_cell(text) for text in (CLIP, ASKED)]
    about = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=about), jupyter_folder / "notebooks" / "clip.ipynb")
    lab = Lab(page, jupyter, "notebooks/clip.ipynb")
    lab.run(0)
    surface, widget = SurfaceDriver(page, lab.cell(0)), lab.cell(0)
    track = f"{widget} .sk-do-track"

    def wait_for(text: str) -> None:
        page.wait_for_function("([s, text]) => document.querySelector(s).textContent.includes(text)", arg=[track, text])

    surface.wait_shown()
    surface.click(150, 215)
    surface.refreshed(lambda: page.locator(f"{widget} .noUi-handle").press("End"))
    surface.click(200, 220)
    assert lab.output(1) == "[0, 71] 71 0"
    page.locator(track).click()
    wait_for("Stop")
    done = int(lab.output(1).split()[-1])
    assert done < 70, "other cells run while it tracks"
    page.locator(track).click()
    wait_for("Track")
    page.locator(track).click()
    wait_for("Stop")
    wait_for("Track")
    assert lab.output(1).split()[-1] == "70", "all but those that were prompted"
    page.locator(surface.canvas).focus()
    surface.refreshed(lambda: page.keyboard.press("ArrowLeft"))
    assert lab.output(1).split()[-2] == "70", "tracking ended on the last frame"
