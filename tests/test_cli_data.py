"""`sam2kit data` on the command line: report, contact sheet, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sam2kit.cli import main
from tests.data.factory import block, write_labels, write_picture

ONE, TWO = block(5, 5, 20, 30), block(30, 40, 50, 70)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures with masks."""
    for i in range(3):
        write_picture(tmp_path / "data" / "images" / f"{i}.png", i)
        write_labels(tmp_path / "data" / "masks" / f"{i}.png", {1: ONE | TWO})
    return tmp_path / "data"


def test_check(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["data", "check", str(folder), "--sheet", str(folder.parent / "sheet.png")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Picture and mask folders: 3 pictures\n")
    assert "Ready for training." in out
    assert (folder.parent / "sheet.png").is_file()
    assert main(["data", "check", str(folder), "--separate-parts", "--format", "masks", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["masks"] == 6
    write_labels(folder / "masks" / "1.png", [ONE.T])
    assert main(["data", "check", str(folder)]) == 1
    assert "ERROR: masks in another size than their picture (1)" in capsys.readouterr().out


def test_convert(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for target in ("coco", "yolo", "davis", "sav"):
        out = tmp_path / target
        assert main(["data", "convert", str(folder), "--to", target, "--out", str(out)]) == 0
        assert f"as {target}" in capsys.readouterr().out
        assert main(["data", "check", str(out), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["counts"]["masks"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("check {}/nowhere", "there is nothing at"),
        ("check {} --sheet {}/sheet.xyz", "a contact sheet is a picture, such as sheet.png"),
        ("convert {} --to coco --out {}", "not an empty folder"),
    ],
)
def test_mistakes_end_with_one_line(arguments: str, message: str, folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["data", *(word.replace("{}", str(folder)) for word in arguments.split())]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
