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
from sam2kit.media.drawing import grow_mask
from sam2kit.weights import load_model as load

ROOT = Path(__file__).parent.parent
COFFEE = str(ROOT / "assets" / "photos" / "coffee.jpg")


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--point", "290,60", "--point", "20,380,0"], 1),
        (["--point", "290,60", "--candidates"], 3),
        (["--box", "170,15,410,290", "--box", "325,190,410,330"], 2),
    ],
)
def test_image(options: list[str], count: int, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["image", COFFEE, *options, "--out", str(tmp_path), "--model", "nano", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {Path(f).name for f in result["files"]} == {p.name for p in tmp_path.iterdir()}
    assert len(result["masks"]) == len(list(tmp_path.glob("*_mask*.png"))) == count
    mask = np.array(Image.open(tmp_path / "coffee_mask1.png"))
    assert mask.shape == (400, 600) and (mask > 0).sum() == result["masks"][0]["area"]


def test_masks_are_cleaned_as_asked(tmp_path: Path) -> None:
    def mask(name: str, *options: str) -> np.ndarray:
        out = str(tmp_path / name)
        assert main(["image", COFFEE, "--point", "290,60", "--model", "nano", "--out", out, *options]) == 0
        return np.array(Image.open(tmp_path / name / "coffee_mask1.png"))

    plain, grown, soft = mask("a"), mask("b", "--grow", "5"), mask("c", "--feather", "6", "--fill-holes", "200")
    assert np.array_equal(grown > 0, grow_mask(plain > 0, 5))
    assert set(np.unique(plain)) == {0, 255} and len(np.unique(soft)) > 4
    assert (tmp_path / "a" / "coffee_table.csv").read_text().splitlines()[1].startswith("1,mask 1,1,")


def test_edges_are_refined_before_masks_grow(tmp_path: Path) -> None:
    """The photo has 600 pixels, of which the model sees 384."""

    def mask(name: str, *options: str) -> np.ndarray:
        out = str(tmp_path / name)
        assert main(["image", COFFEE, "--box", "170,15,410,290", "--model", "nano", "--out", out, *options]) == 0
        return np.array(Image.open(tmp_path / name / "coffee_mask1.png")) > 0

    plain, fine, grown = mask("a"), mask("b", "--refine"), mask("c", "--refine", "--grow", "5")
    assert 0 < np.mean(plain != fine) < 0.1
    assert np.array_equal(grown, grow_mask(fine, 5))


@pytest.mark.parametrize("line", [["auto", "--points-per-side", "3", "--min-iou", "0.3", "--min-stability", "0.5"],
                                  ["alike", "--box", "170,15,410,290", "--least", "0.2"]])  # fmt: skip
def test_everything_and_alike_are_refined_too(line: list[str], tmp_path: Path) -> None:
    found = {}
    for out in ("plain", "--refine"):
        more = [] if out == "plain" else [out]
        assert main([line[0], COFFEE, *line[1:], "--model", "nano", "--out", str(tmp_path / out), *more]) == 0
        content = json.loads((tmp_path / out / "coffee_coco.json").read_text())
        found[out] = [one["segmentation"]["counts"] for one in content["annotations"]]
    assert len(found["plain"]) == len(found["--refine"]) > 0
    assert found["plain"] != found["--refine"]


def test_what_looks_alike_in_other_photos_too(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    photos = [tmp_path / f"{name}.png" for name in "ab"]
    y, x = np.mgrid[:200, :300]
    for number, path in enumerate(photos):
        picture = np.full((200, 300, 3), (96, 112, 92), np.uint8)
        for centre in (60, 150, 240):
            picture[(x - centre) ** 2 + (y - 100 - 10 * number) ** 2 < 30**2] = (205, 50, 40)
        Image.fromarray(picture).save(path)
    out = tmp_path / "out"
    line = ["alike", *map(str, photos), "--box", "30,70,90,130", "--out", str(out), "--model", "nano", "--json"]
    assert main(line) == 0
    for text, path in zip(capsys.readouterr().out.splitlines(), photos, strict=True):
        assert len(json.loads(text)["masks"]) == len(list(out.glob(f"{path.stem}_mask*.png"))) >= 2
    assert main([*line[:-1], "--least", "7"]) == 2
    assert "least must be a number from 0 to 1" in capsys.readouterr().err


def test_auto(tmp_path: Path) -> None:
    limits = ["--points-per-side", "4", "--min-iou", "0.3", "--min-stability", "0.5"]
    assert main(["auto", COFFEE, "--out", str(tmp_path), "--model", "nano", *limits]) == 0
    content = json.loads((tmp_path / "coffee_coco.json").read_text())
    assert len(content["annotations"]) == len(list(tmp_path.glob("*_mask*.png"))) > 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"image {COFFEE}", "--point x,y or --box"),
        (f"image {COFFEE} --point 1", "'1' is not x,y"),
        (f"image {COFFEE} --point 1,2,5", "labels must be"),
        (f"image {COFFEE} --point 900,2", "outside the 600x400 picture"),
        (f"image {COFFEE} --box 9,9,1,1", "x0 <= x1"),
        (f"image {COFFEE} --point 1,2 --box 1,1,2,2 --box 1,1,2,2", "one box at most"),
        (f"image {COFFEE} --point 1,2 --feather -3", "feather must be a number from 0"),
        ("image nowhere.jpg --point 1,2", "no picture at nowhere.jpg"),
        (f"image {COFFEE} --point 1,2 --side 100", "multiple of 32"),
        (f"image {COFFEE} --point 1,2 --model huge", "unknown model 'huge'"),
        (f"image {COFFEE} --point 1,2 --model sam2.1-hiera-tiny", "cannot get facebook/sam2.1-hiera-tiny"),
        (f"image {COFFEE} --point 1,2 --device toaster", "unknown device"),
        (f"image {COFFEE} --point 1,2 --dtype int8", "'int8' is not one of 'auto', 'float32'"),
        (f"auto {COFFEE} --points-per-side 0", "points_per_side"),
        ("image a.jpg --points 5,3", "No such option: --points"),
        ("guess a.jpg", "No such command 'guess'"),
    ],
)
def test_mistakes(line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = line.split()
    words += [] if "--model" in words or words[0] == "guess" else ["--model", "nano"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_is_missing(capsys: pytest.CaptureFixture) -> None:
    for line, message in ((["image", "a.jpg"], "Missing option '--out'"), ([], "Missing command")):
        assert main(line) == 2
        said = capsys.readouterr().err
        assert message in said and "see sam2kit" in said and said.count("\n") == 1
    assert main(["image", "--help"]) == 0


@pytest.mark.slow
def test_no_traceback_from_the_shell(tmp_path: Path) -> None:
    line = ["image", "nowhere.jpg", "--point", "1,2", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "sam2kit", *line], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr


@pytest.mark.slow
def test_doctor_and_precision(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["doctor", "--model", "nano", "--dtype", "bfloat16", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert "bundled" in report["model"] and "ms per click" in report["speed"] and "missing" not in report["gradio"]
    assert report["precision"] == "bfloat16"
    asked = []
    monkeypatch.setattr("sam2kit.weights.load_model", lambda *given, side: asked.append((*given, side)) or load(*given))
    line = ["image", COFFEE, "--point", "290,60", "--out", str(tmp_path), "--model", "nano", "--device", "cpu"]
    assert main([*line, "--dtype", "float16"]) == 0
    assert asked == [("nano", "cpu", "float16", None)]
