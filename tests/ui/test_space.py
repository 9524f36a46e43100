"""A dry run of the Space: its card, and app.py on machines with and without ZeroGPU."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from huggingface_hub import RepoCard, SpaceCardData

import app
from sam2kit.config import PRESETS
from sam2kit.ui.gpu_calls import is_zero_gpu
from tests.test_package import ROOT
from tests.ui import fake_spaces

COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
KEYS = {
    "title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "license",
    "short_description", "models", "preload_from_hub", "tags", "pinned",
}  # fmt: skip


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    return RepoCard.load(ROOT / "README.md", repo_type="space").data.to_dict()


def test_the_card_says_what_the_hub_wants(card: dict[str, Any]) -> None:
    assert set(card) == KEYS
    SpaceCardData(**card)
    assert card["sdk"] == "gradio"
    assert {card["colorFrom"], card["colorTo"]} <= COLOURS
    assert not card["emoji"].isascii() and len(card["emoji"]) <= 2
    assert len(card["short_description"]) <= 60
    assert card["license"] == "apache-2.0"
    assert (ROOT / card["app_file"]).is_file()
    assert all(isinstance(value, str) for value in (card["sdk_version"], card["python_version"])), "3.10 is not 3.1"
    assert card["models"] == ["facebook/sam2.1-hiera-tiny"] and "sam2.1-hiera-tiny" in PRESETS


def test_the_versions_of_the_card_fit(card: dict[str, Any]) -> None:
    lowest, next_major = re.search(r"gradio>=([0-9.]+),<([0-9]+)", (ROOT / "requirements.txt").read_text()).groups()
    wanted = [int(n) for n in card["sdk_version"].split(".")]
    assert [int(n) for n in lowest.split(".")] <= wanted < [int(next_major)]
    assert version("gradio").split(".")[0] == str(wanted[0])
    assert re.fullmatch(r"3\.1[0-3]\.[0-9]+", card["python_version"])


def test_the_readme_still_begins_with_its_title() -> None:
    text = RepoCard.load(ROOT / "README.md").text
    assert text.strip().startswith("# sam2kit\n")


def test_app_imports_without_a_gpu_and_without_spaces() -> None:
    code = "import os; os.environ['CUDA_VISIBLE_DEVICES'] = ''; import app, sys; print('spaces' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[gr.Blocks, dict[str, Any]]]:
    """What app.py has launched; nothing is served, and the Hub is not asked."""
    seen: list[tuple[gr.Blocks, dict[str, Any]]] = []
    monkeypatch.setattr(gr.Blocks, "launch", lambda page, **options: seen.append((page, options)))
    monkeypatch.setenv("SAM2KIT_MODEL", "nano")
    return seen


def test_on_other_machines(launched: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spaces", None)  # importing it fails, installed or not
    assert not is_zero_gpu()
    assert app.main([]) == 0
    ((page, options),) = launched
    assert (options["server_name"], options["server_port"], options["mcp_server"]) == (None, None, None)
    names = set(page.get_api_info()["named_endpoints"])
    assert names == {"/segment_image", "/segment_everything", "/track_video"}


def test_as_a_space_with_zero_gpu(launched: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "you/sam2kit")
    fake = fake_spaces.install(monkeypatch)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)  # as `spaces` makes believe
    assert app.main([]) == 0
    assert fake.decorated, "ZeroGPU must know of the work before the app is launched"
    ((_, options),) = launched
    assert options["max_file_size"] == "200mb"
    assert not fake.durations


def test_the_switches(launched: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    assert app.main(["--mcp"]) == 2
    assert 'pip install "gradio[mcp]"' in capsys.readouterr().err
    assert not launched
    monkeypatch.setattr(app, "find_spec", lambda name: name)
    assert app.main(["--mcp", "--plain", "--max-upload-mb", "7", "--max-seconds", "30", "--visitors", "3"]) == 0
    ((_, options),) = launched
    assert options["mcp_server"] is True
    assert options["max_file_size"] == "7mb"
    assert app.main(["--max-seconds", "-1"]) == 2
    assert "must be above 0" in capsys.readouterr().err


def test_it_listens_where_a_space_wants(tmp_path: Path) -> None:
    """Gradio reads the address from the environment when no option says another."""
    code = (
        "import gradio.http_server as server; print(server.LOCALHOST_NAME, server.INITIAL_PORT_VALUE)"
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": "7861", "PATH": ""},
    )  # fmt: skip
    assert done.stdout.split() == ["0.0.0.0", "7861"]
