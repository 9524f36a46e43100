"""What the tests of trust share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.trust.attacked_app import AttackedApp

KINDS = ("corpus", "properties", "fuzz", "faults", "load", "security", "build")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these kinds are slow, but for those marked as quick."""
    for item in items:
        if any(map(item.get_closest_marker, KINDS)) and not item.get_closest_marker("quick"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedApp]:
    """One app for all: whatever came before, it must answer the next."""
    app = AttackedApp(tmp_path_factory.mktemp("app"))
    yield app
    app.close()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other are slower than one, with so small a model."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
