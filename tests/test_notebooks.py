"""Every notebook runs from top to bottom with the bundled model, and shows what is stored in it."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.store_notebooks import NOTEBOOKS, ROOT, code_cells, differences, run

GITHUB = "github.com/sam2kit/sam2kit"
BADGE = "https://colab.research.google.com/{}/blob/main/notebooks/{}"

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


@each_notebook
def test_it_runs_and_shows_what_is_stored(path: Path) -> None:
    stored = nbformat.read(path, as_version=4)
    assert not differences(stored, run(path)), "store it anew: python -m tests.store_notebooks"


@each_notebook
def test_it_is_small_and_stored_with_its_pictures(path: Path) -> None:
    assert path.stat().st_size < 1_500_000
    cells = code_cells(nbformat.read(path, as_version=4))
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert sum("image/png" in o.get("data", {}) or "image/jpeg" in o.get("data", {}) for c in cells for o in c.outputs)


@each_notebook
def test_it_imports_and_never_defines(path: Path) -> None:
    for cell in code_cells(nbformat.read(path, as_version=4)):
        assert len(cell.source.splitlines()) <= 15, cell.source
        assert max(map(len, cell.source.splitlines())) <= 120, cell.source
        assert not re.search(r"^\s*(def|class) |lambda", cell.source, re.MULTILINE), cell.source


@each_notebook
def test_it_begins_with_colab_and_ends_with_what_comes_next(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert BADGE.format(GITHUB.replace(".com", ""), path.name) in cells[0].source
    install = nbformat.read(NOTEBOOKS[0], as_version=4).cells[1].source
    assert GITHUB in install
    assert cells[1].source == install, "the install cell is the same everywhere"
    assert cells[-1].cell_type == "markdown"
    assert cells[-1].source.startswith("## Where to go next")


def test_the_install_cell_works_where_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clone of this checkout for the repository on GitHub; all requirements are there already."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    settings = {f"url.{ROOT.as_uri()}.insteadOf": f"https://{GITHUB}", "safe.directory": "*"}
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
    for number, (key, value) in enumerate(settings.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    cells = [code_cells(nbformat.read(NOTEBOOKS[0], as_version=4))[0].source, "import sam2kit; print(sam2kit.__file__)"]
    cells += [cells[0], "import os; print(os.getcwd())"]  # a second time changes nothing
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    package, place = ("".join(o.text for o in notebook.cells[i].outputs).strip() for i in (1, 3))
    assert Path(package) == tmp_path / "sam2kit" / "sam2kit" / "__init__.py"
    assert Path(place) == tmp_path / "sam2kit" / "notebooks"


def test_stale_outputs_are_noticed() -> None:
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    same = nbformat.read(NOTEBOOKS[0], as_version=4)
    assert not differences(notebook, same)
    shown = [o for c in code_cells(same) for o in c.outputs]
    text = next(o for o in shown if "text/plain" in o.get("data", {}))
    text.data["text/plain"] = "another text"
    pictures = [o for o in shown if "image/jpeg" in o.get("data", {})]
    pictures[0].data["image/jpeg"], pictures[1].data["image/jpeg"] = (p.data["image/jpeg"] for p in pictures[1::-1])
    assert len(differences(notebook, same)) >= 2
