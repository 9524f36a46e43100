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


def test_merge(tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "new" / "leaves.safetensors"
    assert main(["merge", str(tuned), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert same(load_model(out, "cpu"), load_model(tuned, "cpu"))


def test_merge_in_half_precision(tuned: Path, tmp_path: Path) -> None:
    for name, half in (("whole", []), ("half", ["--half"])):
        assert main(["merge", str(tuned), "--out", str(tmp_path / f"{name}.safetensors"), *half]) == 0
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nano", "--out", "a.safetensors"], "nano is no fine-tuning"),
        (["nano", "--out", "a.pt"], "should end in .safetensors"),
        (["./nowhere", "--out", "a.safetensors"], "no weight file at nowhere"),
    ],
)
def test_merging_what_cannot_be(arguments: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["merge", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_export_official(tuned: Path, tmp_path: Path) -> None:
    assert main(["export", str(tuned), "--to", "official", "--out", str(tmp_path / "leaves.pt")]) == 0
    assert same(load_model(tmp_path / "leaves.pt", "cpu"), load_model(tuned, "cpu"))


def test_export_transformers(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["export", "nano", "--to", "transformers", "--out", str(tmp_path / "nano")]) == 0
    assert "MB" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "nano").iterdir()} == {
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
        "video_preprocessor_config.json",
    }


def test_unknown_formats(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["export", "nano", "--to", "onnx", "--out", "a"])
    assert "official" in capsys.readouterr().err


def test_push(tuned: Path, hub: LoopbackHub, capsys: pytest.CaptureFixture) -> None:
    assert main(["push", str(tuned), "me/leaves", "--private", "--half"]) == 0
    assert "/me/leaves/commit/" in capsys.readouterr().out
    assert "finetuned.json" in hub.repos["me/leaves"]
    assert main(["push", "nano", "me/nano"]) == 0
    assert list(hub.repos["me/nano"]) == ["model.safetensors"]
    hub.trouble = "read only"
    assert main(["push", str(tuned), "me/other"]) == 2
    assert "hf auth login" in capsys.readouterr().err
