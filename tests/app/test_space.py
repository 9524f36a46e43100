"""app.py on machines with and without ZeroGPU, the card of the Space, and what is taken from visitors."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch
from huggingface_hub import RepoCard, SpaceCardData

import app
from sam2kit.app import layout
from sam2kit.app.limits import Limits
from sam2kit.app.models import load_for_app
from sam2kit.app.zero_gpu import is_zero_gpu
from sam2kit.config import PRESETS
from sam2kit.media.clips import open_clip
from tests.app import fake_spaces
from tests.loopback_hub import LoopbackHub
from tests.media.clip_factory import write_clip
from tests.test_package import ROOT

REQUIREMENTS = ROOT / "requirements.txt"
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
KEYS = {
    "title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "license",
    "short_description", "models", "preload_from_hub", "tags", "pinned",
}  # fmt: skip


def test_the_card_says_what_the_hub_wants() -> None:
    parsed = RepoCard.load(ROOT / "README.md", repo_type="space")
    card, gradio = parsed.data.to_dict(), re.search(r"gradio>=([0-9.]+),<([0-9]+)", REQUIREMENTS.read_text())
    assert parsed.text.strip().startswith("# sam2kit\n")
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
    lowest, wanted = ([int(n) for n in text.split(".")] for text in (gradio[1], card["sdk_version"]))
    assert lowest <= wanted < [int(gradio[2])]
    assert version("gradio").split(".")[0] == str(wanted[0])
    assert re.fullmatch(r"3\.1[0-3]\.[0-9]+", card["python_version"])


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
    assert names == {"/segment_image", "/segment_everything", "/detect", "/track_video"}


def test_as_a_space_with_zero_gpu(launched: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "you/sam2kit")
    fake = fake_spaces.install(monkeypatch)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)  # as `spaces` makes believe
    assert app.main([]) == 0
    assert fake.decorated, "ZeroGPU must know of the work before the app is launched"
    ((_, options),) = launched
    assert options["max_file_size"] == "200mb", "a Space takes less than a laptop"
    assert not fake.durations


def test_the_switches(launched: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    assert app.main(["--mcp"]) == 2
    assert 'pip install "gradio[mcp]"' in capsys.readouterr().err
    assert not launched
    monkeypatch.setattr(app, "find_spec", lambda name: name)
    assert app.main(["--mcp", "--max-upload-mb", "7", "--max-seconds", "30", "--visitors", "3"]) == 0
    ((_, options),) = launched
    assert options["mcp_server"] is True
    assert options["max_file_size"] == "7mb"
    assert app.main(["--max-seconds", "-1"]) == 2
    assert "must be above 0" in capsys.readouterr().err


def test_no_hub_means_nano_with_the_reason_and_the_cure(
    hub: LoopbackHub, launched: list, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.stop()
    model = load_for_app("sam2.1-hiera-tiny", "cpu")
    assert model.name == "nano"
    assert "instead of sam2.1-hiera-tiny" in model.notice
    assert "cannot be reached" in model.reason
    assert app.main(["--model", "sam2.1-hiera-tiny", "--device", "cpu"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("app.py:")]
    assert "instead of sam2.1-hiera-tiny" in line
    assert "cannot be reached" in line, "the reason"
    assert "--model path/to/sam2.1-hiera-tiny.pt" in line, "the cure"
    assert app.main(["--model", "nano", "--device", "cpu"]) == 0
    assert "instead of" not in capsys.readouterr().err, "nano was asked for"
    with pytest.raises(ValueError, match="unknown model"):
        load_for_app("huge")
    with pytest.raises(FileNotFoundError):
        load_for_app("./missing.pt")


def test_the_precision_that_was_asked_for(launched: list, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_for_app("nano", "cpu").model.compute_dtype == torch.float32
    loaded, build = [], layout.build_app
    monkeypatch.setattr(layout, "build_app", lambda model, *a, **k: loaded.append(model) or build(model, *a, **k))
    assert app.main(["--model", "nano", "--device", "cpu", "--dtype", "bfloat16"]) == 0
    assert loaded[0].model.compute_dtype == torch.bfloat16


# what is taken


def test_each_limit_says_what_came_what_is_taken_and_what_to_do(assets: Path) -> None:
    clip = assets / "clips" / "cup_grows.mp4"
    for limits, words in (
        (Limits(clip_seconds=1), "lasts 3 seconds or more; this app takes 1 at most. Cut it"),
        (Limits(clip_megapixels=0.1), "is 480x360; this app takes videos up to 0.1 megapixels"),
        (Limits(upload_mb=0.1), "more than 0.1 MB"),
    ):
        with pytest.raises(ValueError, match=words):
            limits.check_file(clip)
    with pytest.raises(ValueError, match="disc has 6 frames or more; this app takes 5 at most"):
        Limits(clip_frames=5).open_clip(clip, "disc")
    with pytest.raises(ValueError, match="12 megapixels; this app takes 10 at most"):
        Limits(picture_megapixels=10).check_picture((3000, 4000, 3), "a.jpg")
    with pytest.raises(ValueError, match="visitors must be above 0"):
        Limits(visitors=0)
    Limits().check_file(clip)
    Limits().check_picture((10, 10, 3), "small.png")


@pytest.mark.parametrize("name", ["long.h264", "long.mp4", "long.mkv"])
def test_a_long_video_is_given_up_while_it_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = write_clip(tmp_path / name, 250, size_hw=(16, 16))  # ten seconds
    seconds = []
    open_clip(path, check=lambda size_hw, frames, so_far: seconds.append(so_far)).close()
    assert np.allclose(seconds, np.arange(250) / 25, atol=0.01)
    decoded = []
    plain = Limits._check_clip
    monkeypatch.setattr(Limits, "_check_clip", lambda *told: (decoded.append(1), plain(*told)))
    with pytest.raises(ValueError, match="long lasts 2 seconds or more; this app takes 1 at most"):
        Limits(clip_seconds=1).open_clip(path, "long")
    assert len(decoded) < 45
