"""Whatever somebody's export holds: opening, checking and reading end in sentences, never in a crash."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sam2kit.datasets.check import check_dataset
from sam2kit.datasets.convert import convert
from sam2kit.datasets.opening import open_dataset
from tests.datasets.factory import (
    SIZE_HW,
    block,
    runs,
    write_coco,
    write_davis,
    write_json,
    write_labelme,
    write_picture,
    write_sav,
)

ONE, TWO = block(5, 5, 20, 30), block(30, 40, 50, 70)
VALUES = (None, -1, 0, "x", "", [], {}, 1e12, -5.5, True, [1], [[1]], {"a": 1}, float("nan"), 10**20, [-1, 10**9])


def coco(root: Path) -> None:
    write_coco(root, [runs(ONE), [[10, 10, 30, 10, 30, 25]], {"size": [*SIZE_HW], "counts": [5, 10, 4785]}])


def coco_clip(root: Path) -> None:
    convert(open_dataset(write_davis(root / "source", {"bear": [{1: ONE}, None]})), "coco", root / "out")
    shutil.rmtree(root / "source")


def labelme(root: Path) -> None:
    shapes = [
        {"label": "c", "shape_type": "polygon", "points": [[10, 10], [29, 10], [29, 24]]},
        {"label": "d", "shape_type": "rectangle", "points": [[69, 49], [40, 30]], "group_id": 1},
        {"label": "s", "shape_type": "circle", "points": [[60, 12], [60, 20]]},
    ]
    write_labelme(root / "a.json", shapes)
    write_picture(root / "a.png")


def sa1b(root: Path) -> None:
    write_picture(root / "sa_1.jpg")
    image = {"file_name": "sa_1.jpg", "width": SIZE_HW[1], "height": SIZE_HW[0]}
    write_json(root / "sa_1.json", {"image": image, "annotations": [{"id": 1, "segmentation": runs(ONE)}]})


def sav(root: Path) -> None:
    write_sav(root, [[runs(ONE), runs(TWO)], None, [runs(TWO), runs(ONE)]], masklet_id=[5, 9])


def outlines(root: Path) -> None:
    write_picture(root / "a.png")
    objects = [{"photo": "a.png", "name": "x", "polygons": [[[1, 1], [20, 1], [20, 20]]], "holes": []}]
    write_json(root / "outlines.json", {"photos": {"a.png": {}}, "objects": objects})


def places(content: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where something is in a JSON."""
    if path:
        yield path
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inside:
        yield from places(value, (*path, key))


def spoil(file: Path, chance: random.Random) -> None:
    """Put something else in one place, or leave it out."""
    content = json.loads(file.read_text())
    *way, last = chance.choice(list(places(content)))
    inner = content
    for key in way:
        inner = inner[key]
    if chance.random() < 0.25:
        del inner[last]
    else:
        inner[last] = chance.choice(VALUES)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("build", [coco, coco_clip, labelme, sa1b, sav, outlines], ids=lambda build: build.__name__)
def test_nothing_crashes(build: Callable[[Path], None], tmp_path: Path) -> None:
    chance = random.Random(0)
    build(tmp_path)
    (file,) = tmp_path.rglob("*.json")
    good = file.read_text()
    refusals = []
    for _ in range(40):
        file.write_text(good)
        spoil(file, chance)
        try:
            dataset = open_dataset(tmp_path)
        except ValueError as error:
            refusals.append(str(error))
        else:
            assert json.dumps(check_dataset(dataset).as_dict())
    assert not [text for text in refusals if "\n" in text]
