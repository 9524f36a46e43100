"""Run notebooks and store them with what they show; tests/test_notebooks.py finds out when that is out of date.

    python -m tests.store_notebooks            all of them
    python -m tests.store_notebooks 2 4        those whose names begin so
    python -m tests.store_notebooks address    none is run: only the repository's address of pyproject.toml is written

Photos are stored as JPEG, which many readers on the web load much sooner. A widget is stored as the static picture that
it degrades to: the live one needs a kernel.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).parent.parent
ADDRESS = re.search(r'Repository = "([^"]+)"', (ROOT / "pyproject.toml").read_text())[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

_PICTURES = ("image/png", "image/jpeg", "image/gif")
_LIVE_WIDGET = "application/vnd.jupyter.widget-view+json"
_JPEG_QUALITY = 85
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_PICTURE_SIDE, _MOST_PIXEL_DIFFERENCE = 48, 10.0  # pictures are compared at this size; mean difference, of 255
_MOST_SIZE_DIFFERENCE = 0.05
_ABSOLUTE, _RELATIVE = 0.05, 0.15  # what numbers may differ by: another processor trains a little differently


def main(names: list[str]) -> None:
    """Run and store the notebooks whose names begin with one of the given texts; all, if there are none."""
    for path in NOTEBOOKS:
        nbformat.write(with_address(nbformat.read(path, as_version=4), path.name), path)
        if not names or path.name.startswith(tuple(names)):
            notebook = run(path)
            nbformat.write(notebook, path)
            print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


def run(path: Path) -> NotebookNode:
    """The notebook as it is after running from top to bottom, ready to be stored.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # libraries' deprecations are nothing for a reader
    place = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, resources=place, store_widget_state=False).execute()
    for cell in code_cells(notebook):
        cell.metadata.pop("execution", None)  # times
        cell.outputs = [_stored(output) for output in cell.outputs]
    notebook.metadata.language_info = {"name": "python"}  # not this machine's version
    return notebook


def with_address(notebook: NotebookNode, name: str) -> NotebookNode:
    """The notebook with the repository's address in its install cell and, where Colab can open it, in its badge."""
    badge, install = notebook.cells[0], code_cells(notebook)[0]
    install.source = re.sub(r'^ADDRESS = "[^"]*"', f'ADDRESS = "{ADDRESS}"', install.source, flags=re.MULTILINE)
    place = ADDRESS.removeprefix("https://").replace("github.com", "github")
    link = f"https://colab.research.google.com/{place}/blob/main/notebooks/{name}"
    badge.source = re.sub(r"\]\(https://colab[^)]*ipynb\)", f"]({link})", badge.source)
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def differences(stored: NotebookNode, fresh: NotebookNode) -> list[str]:
    """Where stored outputs are not what the notebook gives today; a sentence each."""
    found = []
    for number, (old, new) in enumerate(zip(code_cells(stored), code_cells(fresh), strict=True), start=1):
        kinds = [[o.output_type, *sorted(o.get("data", {}))] for o in old.outputs]
        now = [[o.output_type, *sorted(o.get("data", {}))] for o in new.outputs]
        if kinds != now:
            found.append(f"code cell {number} is stored with {kinds}, and gives {now}")
            continue
        for before, after in zip(old.outputs, new.outputs, strict=True):
            what = _difference(before, after)
            if what:
                found.append(f"code cell {number}: {what}")
    return found


def _stored(output: NotebookNode) -> NotebookNode:
    data = output.get("data", {})
    data.pop(_LIVE_WIDGET, None)
    if "image/png" in data:
        jpeg = io.BytesIO()
        _picture(data).save(jpeg, "JPEG", quality=_JPEG_QUALITY)
        if len(jpeg.getvalue()) * 4 / 3 < len(data["image/png"]):  # not for a few lines on white
            del data["image/png"]
            data["image/jpeg"] = base64.b64encode(jpeg.getvalue()).decode()
    return output


def _difference(before: NotebookNode, after: NotebookNode) -> str | None:
    texts = [(before.get("text", ""), after.get("text", ""))]
    for kind in before.get("data", {}):
        if kind in _PICTURES:
            what = _picture_difference(_picture(before.data), _picture(after.data))
            if what:
                return what
        else:
            texts.append((str(before.data[kind]), str(after.data[kind])))
    for old, new in texts:
        if _NUMBER.sub("#", old) != _NUMBER.sub("#", new):
            return f"stored is {old[:200]!r}, today it is {new[:200]!r}"
        numbers = [np.array([float(n) for n in _NUMBER.findall(text)]) for text in (old, new)]
        if not np.allclose(*numbers, rtol=_RELATIVE, atol=_ABSOLUTE):
            return f"the numbers of {old[:200]!r} are today those of {new[:200]!r}"
    return None


def _picture_difference(before: Image.Image, after: Image.Image) -> str | None:
    sizes = np.array([before.size, after.size])
    if np.abs(sizes[0] / sizes[1] - 1).max() > _MOST_SIZE_DIFFERENCE:
        return f"a picture is stored at {before.size}, and is {after.size} today"
    small = [np.asarray(p.resize((_PICTURE_SIDE, _PICTURE_SIDE)), np.float32) for p in (before, after)]
    off = float(np.abs(small[0] - small[1]).mean())
    return f"a picture differs by {off:.1f} of 255" if off > _MOST_PIXEL_DIFFERENCE else None


def _picture(data: NotebookNode) -> Image.Image:
    (kind,) = [kind for kind in _PICTURES if kind in data]
    picture = Image.open(io.BytesIO(base64.b64decode(data[kind]))).convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(paper, picture).convert("RGB")


if __name__ == "__main__":
    main(sys.argv[1:])
