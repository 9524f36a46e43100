"""A Jupyter server for the browser tests of the widgets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.widgets.lab import running_jupyter


@pytest.fixture(scope="session")
def jupyter_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What JupyterLab sees."""
    return tmp_path_factory.mktemp("jupyter")


@pytest.fixture(scope="session")
def jupyter(jupyter_folder: Path) -> Iterator[str]:
    """Address of a running JupyterLab."""
    with running_jupyter(jupyter_folder) as address:
        yield address
