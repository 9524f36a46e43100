"""The command line: results, messages, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2kit.cli import main
from sam2kit.weights import load_model as load


@pytest.fixture
def coffee(assets: Path) -> str:
    return str(assets / "photos" / "coffee.jpg")


def test_image(coffee: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code = main(
        [
            "image",
            coffee,
            "--point",
            "290,60",
            "--point",
            "20,380,0",
            "--out",
            str(tmp_path),
            "--model",
            "nano",
            "--json",
        ]
    )
    assert code == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["masks"]) == 1
    assert {Path(f).name for f in result["files"]} == {p.name for p in tmp_path.iterdir()}
    mask = np.array(Image.open(tmp_path / "coffee_mask1.png"))
    assert mask.shape == (400, 600)
    assert (mask > 0).sum() == result["masks"][0]["area"]


def test_boxes_make_one_mask_each(coffee: str, tmp_path: Path) -> None:
    arguments = ["image", coffee, "--box", "170,15,410,290", "--box", "325,190,410,330", "--out", str(tmp_path)]
    assert main([*arguments, "--model", "nano"]) == 0
    assert len(list(tmp_path.glob("*_mask*.png"))) == 2


def test_candidates(coffee: str, tmp_path: Path) -> None:
    arguments = ["image", coffee, "--point", "290,60", "--candidates", "--out", str(tmp_path), "--model", "nano"]
    assert main(arguments) == 0
    assert len(list(tmp_path.glob("*_mask*.png"))) == 3


def test_auto(coffee: str, tmp_path: Path) -> None:
    limits = ["--points-per-side", "4", "--min-iou", "0.3", "--min-stability", "0.5"]
    assert main(["auto", coffee, "--out", str(tmp_path), "--model", "nano", *limits]) == 0
    content = json.loads((tmp_path / "coffee_coco.json").read_text())
    assert len(content["annotations"]) == len(list(tmp_path.glob("*_mask*.png"))) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["image", "{coffee}"], "--point x,y or --box"),
        (["image", "{coffee}", "--point", "1"], "'1' is not x,y"),
        (["image", "{coffee}", "--point", "1,2,5"], "labels must be"),
        (["image", "{coffee}", "--point", "1,2,0.7"], "labels must be"),
        (["image", "{coffee}", "--point", "1,2,inf"], "is not x,y"),
        (["auto", "{coffee}", "--model", "huge"], "unknown model 'huge'"),
        (["image", "{coffee}", "--point", "1,2", "--side", "100"], "multiple of 32"),
        (["image", "{coffee}", "--point", "900,2"], "outside the 600x400 picture"),
        (["image", "{coffee}", "--box", "9,9,1,1"], "x0 <= x1"),
        (["image", "{coffee}", "--point", "1,2", "--box", "1,1,2,2", "--box", "1,1,2,2"], "one box at most"),
        (["image", "nowhere.jpg", "--point", "1,2"], "no picture at nowhere.jpg"),
        (["image", "{coffee}", "--point", "1,2", "--model", "huge"], "unknown model 'huge'"),
        (
            ["image", "{coffee}", "--point", "1,2", "--model", "sam2.1-hiera-tiny"],
            "cannot get facebook/sam2.1-hiera-tiny",
        ),
        (["image", "{coffee}", "--point", "1,2", "--device", "toaster"], "unknown device"),
        (["auto", "{coffee}", "--points-per-side", "0"], "points_per_side"),
    ],
)
def test_mistakes(
    arguments: list[str], message: str, coffee: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    filled = [a.format(coffee=coffee) for a in arguments]
    if "--model" not in filled:
        filled += ["--model", "nano"]
    assert main([*filled, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_options_that_do_not_exist(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["image", "a.jpg", "--point", "-5,3", "--out", "x"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_traceback_from_the_shell(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sam2kit", "image", "nowhere.jpg", "--point", "1,2", "--out", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_doctor(capsys: pytest.CaptureFixture) -> None:
    assert main(["doctor", "--model", "nano", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert "bundled" in report["model"]
    assert "ms per click" in report["speed"]
    assert "missing" not in report["gradio"]


def test_precision_is_an_option(
    coffee: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["doctor", "--model", "nano", "--dtype", "bfloat16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == "bfloat16"
    asked = []
    monkeypatch.setattr("sam2kit.weights.load_model", lambda *given, side: asked.append((*given, side)) or load(*given))
    line = ["image", coffee, "--point", "290,60", "--out", str(tmp_path), "--model", "nano", "--device", "cpu"]
    assert main([*line, "--dtype", "float16"]) == main(line) == 0
    assert asked == [("nano", "cpu", "float16", None), ("nano", "cpu", "auto", None)]
    with pytest.raises(SystemExit):
        main([*line, "--dtype", "int8"])
    assert "invalid choice: 'int8'" in capsys.readouterr().err


def test_evaluate_on_photos(assets: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["evaluate", "--photos", str(assets / "photos"), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["objects"] >= 12
