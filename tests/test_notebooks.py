"""Every notebook runs from top to bottom with the bundled model, and shows what is stored in it."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.store_notebooks import ADDRESS, NOTEBOOKS, ROOT, code_cells, differences, run, with_address

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


@pytest.mark.slow
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
    notebook = nbformat.read(path, as_version=4)
    cells = notebook.cells
    before = [cell.source for cell in cells]
    assert "colab.research.google.com" in before[0] and ADDRESS in before[1]
    assert [c.source for c in with_address(notebook, path.name).cells] == before, (
        "python -m tests.store_notebooks address"
    )
    assert before[1] == nbformat.read(NOTEBOOKS[0], as_version=4).cells[1].source, "the same in all notebooks"
    assert cells[-1].cell_type == "markdown"
    assert cells[-1].source.startswith("## Where to go next")


@pytest.mark.slow
def test_the_install_cell_where_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clone of this checkout for the repository on GitHub; all requirements are there already."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    install = code_cells(nbformat.read(NOTEBOOKS[0], as_version=4))[0].source
    with pytest.raises(CellExecutionError, match="cannot be reached: set ADDRESS to where the repository is"):
        _run([install.replace(ADDRESS, (tmp_path / "nowhere").as_uri())], tmp_path)
    settings = {f"url.{ROOT.as_uri()}.insteadOf": ADDRESS, "safe.directory": "*"}
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
    for number, (key, value) in enumerate(settings.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    where = "import os, sam2kit; print(sam2kit.__file__, os.getcwd())"
    outputs = _run([install, where, install, where], tmp_path)  # a second time changes nothing
    place = tmp_path / "sam2kit"
    assert [outputs[1], outputs[3]] == [f"{place / 'sam2kit' / '__init__.py'} {place / 'notebooks'}"] * 2


def _run(cells: list[str], folder: Path) -> list[str]:
    """What each cell of a new notebook in this folder prints."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return ["".join(o.get("text", "") for o in cell.outputs).strip() for cell in notebook.cells]


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
