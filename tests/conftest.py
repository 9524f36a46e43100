"""Shared fixtures, and the figures that are printed after the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sam2kit.model.sam2 import SAM2
from sam2kit.weights import load_model
from tests import HUB_PORT
from tests.figures import FIGURES
from tests.golden_models import LARGEST_ERRORS, note_error
from tests.loopback_hub import LoopbackHub
from tests.toy_model import toy_model


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this package keeps on disk is neither read from nor left in the home folder of this machine's user."""
    monkeypatch.setenv("SAM2KIT_CACHE", str(tmp_path / "kept by sam2kit"))


@pytest.fixture
def toy() -> SAM2:
    """A complete model of a few thousand weights."""
    return toy_model()


@pytest.fixture(scope="session")
def nano() -> SAM2:
    """The bundled model."""
    return load_model("nano", "cpu")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A running loopback Hub, with an empty cache of its own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    server = LoopbackHub(HUB_PORT).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def assets() -> Path:
    """The repository's assets folder."""
    return Path(__file__).parent.parent / "assets"


@pytest.fixture
def photo() -> np.ndarray:
    """A picture of noise, 40 high and 60 wide."""
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes (`pytest -n`) hands over what it measured."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput |= {"figures": FIGURES, "largest errors": LARGEST_ERRORS}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:  # noqa: ANN001
    """The process that prints takes it."""
    measured = getattr(node, "workeroutput", {})
    FIGURES.extend(measured.get("figures", []))
    for name, error in measured.get("largest errors", {}).items():
        note_error(name, error)


def pytest_terminal_summary(terminalreporter) -> None:  # noqa: ANN001
    if FIGURES:
        terminalreporter.section("figures")
        for figure in FIGURES:
            terminalreporter.write_line(figure)
    if LARGEST_ERRORS:
        terminalreporter.section("largest errors against the golden vectors")
        for name, error in sorted(LARGEST_ERRORS.items()):
            terminalreporter.write_line(f"{name:58s} {error:.2e}")
