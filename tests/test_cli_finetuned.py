"""`sam2kit merge`, `export` and `push`: results, messages, exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2kit.cli import main
from sam2kit.weights import load_model
from tests.finetuned_maker import finetuned_nano
from tests.loopback_hub import LoopbackHub
from tests.test_weights import same


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuning of nano."""
    return finetuned_nano(tmp_path_factory.mktemp("runs") / "leaves")


def test_merge_and_export(tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole, half, official = (tmp_path / name for name in ("new/leaves.safetensors", "half.safetensors", "leaves.pt"))
    assert main(["merge", str(tuned), "--out", str(whole)]) == 0
    assert str(whole) in capsys.readouterr().out
    assert main(["merge", str(tuned), "--out", str(half), "--half"]) == 0
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    assert main(["export", str(tuned), "--to", "official", "--out", str(official)]) == 0
    model = load_model(tuned, "cpu")
    assert same(load_model(whole, "cpu"), model) and same(load_model(official, "cpu"), model)
    assert main(["export", "nano", "--to", "transformers", "--out", str(tmp_path / "nano")]) == 0
    assert "MB" in capsys.readouterr().out
    names = {"model.safetensors", "config.json", "preprocessor_config.json", "video_preprocessor_config.json"}
    assert {p.name for p in (tmp_path / "nano").iterdir()} == names


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("merge nano --out a.safetensors", "nano is no fine-tuning"),
        ("merge nano --out a.pt", "should end in .safetensors"),
        ("merge ./nowhere --out a.safetensors", "no weight file at nowhere"),
        ("export nano --to onnx --out a", "official"),
    ],
)
def test_what_cannot_be(line: str, message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(line.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_push(tuned: Path, hub: LoopbackHub, capsys: pytest.CaptureFixture) -> None:
    assert main(["push", str(tuned), "me/leaves", "--private", "--half"]) == 0
    assert "/me/leaves/commit/" in capsys.readouterr().out
    assert "finetuned.json" in hub.repos["me/leaves"]
    assert main(["push", "nano", "me/nano"]) == 0
    assert list(hub.repos["me/nano"]) == ["model.safetensors"]
    hub.trouble = "read only"
    assert main(["push", str(tuned), "me/other"]) == 2
    assert "hf auth login" in capsys.readouterr().err
