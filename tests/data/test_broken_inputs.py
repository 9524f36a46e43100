"""What is wrong with data is found before training, and said with name, reason and cure; nothing crashes."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2kit.data.check import check_dataset
from sam2kit.data.convert import convert
from sam2kit.data.opening import open_dataset
from sam2kit.data.report import KINDS
from tests.data.factory import (
    SIZE_HW,
    block,
    picture,
    runs,
    save,
    write_coco,
    write_davis,
    write_json,
    write_labelme,
    write_labels,
    write_mask,
    write_picture,
    write_sav,
    write_yolo,
)

ONE, TWO = block(5, 5, 20, 30), block(30, 40, 50, 70)
TRIANGLE = "0 0.1 0.1 0.5 0.1 0.5 0.5\n"


def good_folders(root: Path, count: int = 3) -> Path:
    for i in range(count):
        write_picture(root / "images" / f"{i}.png", i)
        write_labels(root / "masks" / f"{i}.png", [ONE, TWO])
    return root


def breaking(build: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda root: build(good_folders(root))


def pixels(*masked: tuple[np.ndarray, object], ground: object = 0, suffix: str = ".png") -> Callable[[Path], object]:
    """The second mask gets these values or colours."""

    def build(root: Path) -> None:
        (root / "masks" / "1.png").unlink()
        values = np.full((*SIZE_HW, *np.shape(masked[0][1])[-1:]), ground, np.uint8)
        for mask, value in masked:
            values[mask] = value if np.ndim(value) < 2 else value[mask]
        save(Image.fromarray(values), root / "masks" / f"1{suffix}")

    return build


def mask(labels: np.ndarray, *numbers: int, palette: bool = False) -> Callable[[Path], object]:
    """The second mask, or those with the numbers, are this one."""
    write = (lambda path, found: write_labels(path, [found])) if palette else write_mask
    return lambda root: [write(root / "masks" / f"{n}.png", labels) for n in numbers or (1,)]


def cut_off(file: Path, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])


def text_in(file: Path, text: str = "hello") -> None:
    file.write_text(text)


def changed_coco(root: Path, **of_first: Any) -> None:
    """Two masks, of which the first has other values."""
    content = json.loads(write_coco(root, [runs(ONE), runs(TWO)]).read_text())
    content["annotations"][0] |= of_first
    write_json(root / "coco.json", content)


def in_train_and_val(root: Path) -> None:
    for split, names in (("train", ["0.jpg", "1.png"]), ("val", ["9.png"])):
        for name in names:
            write_picture(root / split / "images" / name, int(name[0]) % 9)
            write_mask(root / split / "masks" / f"{name[0]}.png", ONE)


def yolo_leads_nowhere(root: Path) -> None:
    text_in(write_yolo(root, TRIANGLE) / "data.yaml", "path: .\ntrain: images\nval: nowhere\nnames: [cat]\n")


def stray_labels(root: Path) -> None:
    text_in(write_yolo(root, TRIANGLE) / "labels" / "b.txt", TRIANGLE)


def voc_in_white(root: Path) -> None:
    write_picture(root / "images" / "a.jpg")
    write_labels(root / "SegmentationClass" / "a.png", {255: ONE})


def voc_without_picture(root: Path) -> None:
    write_labels(root / "SegmentationObject" / "a.png", [ONE])
    write_picture(root / "JPEGImages" / "b.jpg")


def bear_with(root: Path, name: str, mask: np.ndarray = ONE) -> None:
    """A clip, and one more file."""
    write_mask(write_davis(root, BEAR) / name, mask)


def labelme(root: Path, kind: str, points: list) -> None:
    write_labelme(root / "a.json", [{"label": "cat", "shape_type": kind, "points": points}])
    write_picture(root / "a.png")


DITHERED = [
    (block(10 * (i // 8), 10 * (i % 8), 10 * (i // 8) + 9, 10 * (i % 8) + 9), (200, 5 * i, 40)) for i in range(48)
]
NOISE = np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), np.uint8)
EMPTY = ONE & False
BEAR = {"bear": [{1: ONE}] * 4}
SA1B = {
    "image": {"file_name": "sa_1.jpg", "width": SIZE_HW[1], "height": SIZE_HW[0]},
    "annotations": [{"id": 1, "segmentation": runs(ONE)}],
}
RED, BLUE = (255, 0, 0), (0, 0, 255)
SHORT = {**runs(TWO), "counts": runs(TWO)["counts"][:-2]}
GOOD, SMALL, CUT = runs(ONE), runs(ONE[::2, ::2]), ONE[:50, :40]
# what is broken: (kind of problem, what its sentence must hold, masks of a COCO file)
OF_COCO: dict[str, tuple[str, str, list]] = {
    "short run lengths": ("broken_mask", r"annotation 2 of a\.png: its run lengths are broken \(run", [GOOD, SHORT]),
    "no counts": ("broken_mask", "its run lengths are broken .it lacks 'counts'", [{"size": [*SIZE_HW]}, GOOD]),
    "small run lengths": ("size", "is a mask of 40x30 for a picture of 80x60", [SMALL, GOOD]),
    "a polygon outside": ("outside", r"its picture \(x 60 to 120, y 10 to 25", [[[60, 10, 120, 10, 120, 25]], GOOD]),
    "a polygon in shares": ("outside", r"lie in 0\.\.1, wanted are pixels", [[[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]], GOOD]),
    "two points": ("broken_mask", "its polygon has 4 numbers", [[[10, 10, 30, 10]], GOOD]),
    "COCO boxes": ("box_only", r"annotation 1 of a\.png has a box but no segmentation", [[], GOOD]),
    "a mask twice": ("twice", r"a\.png: 1 of its masks repeat another one", [GOOD, runs(TWO), GOOD]),
}  # fmt: skip
# the same with the lines of a YOLO text
OF_YOLO: dict[str, tuple[str, str, str]] = {
    "YOLO boxes": ("box_only", r"labels/a\.txt, line 1 is a box \(4 numbers\), not an outline", "0 0.5 0.5 0.2 0.2\n"),
    "YOLO in pixels": ("outside", r"labels/a\.txt, line 1 has coordinates up to 50", "0 10 10 50 10 50 50\n"),
    "YOLO in words": ("broken_mask", "line 1 holds something else than numbers", TRIANGLE.replace("0 ", "cat ")),
    "half a corner": ("broken_mask", "line 1 has 7 numbers after the class", f"{TRIANGLE.strip()} 0.2\n"),
    "an unknown class": ("broken_mask", r"line 1 is of class 5, but data\.yaml names only 0 to 1", f"5{TRIANGLE[1:]}"),
}  # fmt: skip
# the same with something that breaks good folders, whose second picture is 1.png
OF_FOLDERS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "a cut-off picture": ("unreadable", r"images/1\.png is damaged", lambda r: cut_off(r / "images" / "1.png", 300)),
    "a text as picture": ("unreadable", r"images/1\.png is not a picture", lambda r: text_in(r / "images" / "1.png")),
    "a text as mask": ("unreadable", r"the mask .*1\.png cannot be read", lambda r: text_in(r / "masks" / "1.png")),
    "half the size": ("size", "40x30, but its picture .* is 80x60; resize", mask(ONE[::2, ::2], palette=True)),
    "turned": ("size", "60x80, but its picture .* turned by a quarter", mask(ONE.T, palette=True)),
    "cropped": ("size", "70x60, but .* export masks and pictures in one size", mask(ONE[:, :70], palette=True)),
    "a photo as mask": ("colours", r"1\.png has \d{3,} colours and looks like", pixels((ONE | True, NOISE))),
    "colours as JPEG": ("colours", "smoothed or JPEG edges", pixels((ONE, RED), (TWO, BLUE), suffix=".jpg")),
    "numbers as JPEG": ("colours", "looks like a lossy file", pixels((ONE, 120), (TWO, 240), suffix=".jpg")),
    "dithered colours": ("many_objects", r"1\.png: its colour mask was read as 48 objects", pixels(*DITHERED)),
    "a JPEG": ("jpeg_mask", r"1\.jpg: a lossy file with \d+ grey values", pixels((ONE, 255), suffix=".jpg")),
    "an empty mask": ("empty", r"masks/1\.png is empty", mask(EMPTY)),
    "a speck": ("tiny", r"images/1\.png: mask 1 has 4 pixels, hard to learn", mask(block(5, 5, 7, 7))),
    "everything": ("full", r"images/1\.png: mask 1 covers 100% of the picture", mask(~EMPTY)),
    "black and white swapped": ("all_full", "are black and white swapped", mask(~block(5, 5, 8, 8), 0, 1, 2)),
    "no black": ("no_background", r"1\.png: it has no black", pixels((ONE, RED), ground=(0, 0, 90))),
    "no mask": ("no_mask", r"images/1\.png has no mask", lambda r: (r / "masks" / "1.png").unlink()),
    "no picture": ("unpaired", r"masks/1\.png has no picture", lambda r: (r / "images" / "1.png").unlink()),
    "twice": ("duplicate", r"0\.png, images/1\.png show the same", lambda r: write_picture(r / "images" / "1.png", 0)),
}  # fmt: skip
# the same with something that builds all of it
CASES: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "in train and val": ("leakage", r"0\.jpg, val/images/9\.png show the same picture in train and", in_train_and_val),
    "mostly empty": ("mostly_empty", "3 masks are empty", lambda r: mask(EMPTY, 0, 1, 2)(good_folders(r, 4))),
    "one sample": ("few", "has one usable sample; add more", lambda r: good_folders(r, 1)),
    "nothing usable": ("nothing", "no sample has a picture and a mask", lambda r: mask(ONE.T, 0)(good_folders(r, 1))),
    "cut-off COCO": ("unreadable", r"coco\.json is damaged at line 1", lambda r: cut_off(write_coco(r, [GOOD]), -40)),
    "a stray annotation": ("unpaired", "1 annotations belong to no picture", lambda r: changed_coco(r, image_id=99)),
    "a crowd": ("crowd", "1 crowd regions are left out", lambda r: changed_coco(r, iscrowd=1)),
    "no COCO picture": ("missing", r"lists b\.jpg, which is not", lambda r: write_coco(r, [GOOD], file_name="b.jpg")),
    "another size": ("size", "160x120", lambda r: write_coco(r, [[[10, 10, 30, 10, 30, 25]]], width=160, height=120)),
    "a YOLO path": ("missing", r"data\.yaml says val: nowhere, which is not there", yolo_leads_nowhere),
    "stray labels": ("unpaired", r"labels/b\.txt has no picture of its name in", stray_labels),
    "no VOC picture": ("missing", r"a\.jpg is not there, though it has masks", voc_without_picture),
    "empty YOLO texts": ("nothing", r"but their labels outline no .*labels/a\.txt; add", lambda r: write_yolo(r, "\n")),
    "VOC in white": ("void", r"SegmentationClass/a\.png holds only 255, which is void in Pascal VOC", voc_in_white),
    "LabelMe points": ("box_only", r"a\.json, shape 1 is a point, which", lambda r: labelme(r, "point", [[1, 1]])),
    "a line": ("broken_mask", "needs 3 points or more, got 2", lambda r: labelme(r, "polygon", [[1, 1], [9, 9]])),
    "no LabelMe picture": ("missing", r"a\.json is about a\.png, which", lambda r: write_labelme(r / "a.json", [])),
    "no SA-1B picture": ("missing", r"sa_1\.json is about sa_1\.jpg", lambda r: write_json(r / "sa_1.json", SA1B)),
    "a short clip": ("short", "bear has 4 annotated frames; training takes 8", lambda r: write_davis(r, BEAR)),
    "no frames": ("missing", "Annotations/cow has no frames", lambda r: bear_with(r, "Annotations/cow/00000.png")),
    "no frame": ("unpaired", r"1 masks such as .*00012\.png", lambda r: bear_with(r, "Annotations/bear/00012.png")),
    "two sizes": ("size", r"00003\.jpg is 40x50, 00000\.jpg", lambda r: bear_with(r, "JPEGImages/bear/00003.jpg", CUT)),
    "no SA-V video": ("missing", r"no video: clip\.mp4", lambda r: shutil.rmtree(write_sav(r, [[GOOD]] * 3) / "clip")),
    "a short video": ("size", "5 frames, 4 apart, but 2 of them are not in", lambda r: write_sav(r, [[GOOD]] * 5)),
    "no SA-V masks": ("no_mask", r"clip_manual\.json has no masks on any frame", lambda r: write_sav(r, [None] * 3)),
    "odd ids": ("broken_mask", "lists 3 masklet_id, but", lambda r: write_sav(r, [[GOOD]] * 3, masklet_id=[1, 2, 3])),
    **{name: (kind, said, partial(write_coco, segmentations=masks)) for name, (kind, said, masks) in OF_COCO.items()},
    **{name: (kind, said, partial(write_yolo, text=text + TRIANGLE)) for name, (kind, said, text) in OF_YOLO.items()},
    **{name: (kind, said, breaking(build)) for name, (kind, said, build) in OF_FOLDERS.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_found_and_said_and_an_epoch_goes_on(name: str, tmp_path: Path) -> None:
    """Bad samples raise ValueError in one line and nothing else; what is read can be learnt from."""
    kind, message, build = CASES[name]
    build(tmp_path)
    report = check_dataset(tmp_path)
    sentences = {p.kind: p.sentences for p in report.problems}
    assert kind in sentences, report.text()
    assert any(re.search(message, sentence) for sentence in sentences[kind]), sentences[kind]
    assert report.has_errors == any(KINDS[found][0] == "error" for found in sentences)
    assert report.has_errors == ("ERROR" in report.text())
    assert "see below" not in report.text() or len(report.problems) > 1, "something must follow"
    errors = []
    for sample in open_dataset(tmp_path).samples:
        try:
            labelled = sample.read()
        except ValueError as error:
            errors.append(str(error))
        else:
            assert all(m.shape == labelled.frames.shape[:3] and m.any() for m in labelled.masks.values())
    assert not any("\n" in text for text in errors)


SHAPES = [
    {"label": "c", "shape_type": "polygon", "points": [[10, 10], [29, 10], [29, 24]]},
    {"label": "d", "shape_type": "rectangle", "points": [[69, 49], [40, 30]], "group_id": 1},
    {"label": "s", "shape_type": "circle", "points": [[60, 12], [60, 20]]},
]
RUNS_AND_RINGS = [runs(ONE), [[10, 10, 30, 10, 30, 25]], {"size": [*SIZE_HW], "counts": [5, 10, 4785]}]
DAMAGED: dict[str, Callable[[Path], object]] = {
    "coco": lambda r: write_coco(r, RUNS_AND_RINGS),
    "coco clip": lambda r: convert(
        open_dataset(write_davis(r.parent / "bear", {"a": [{1: ONE}, None]})), "coco", r / "out"
    ),
    "labelme": lambda r: (write_labelme(r / "a.json", SHAPES), write_picture(r / "a.png")),
    "sa1b": lambda r: (write_json(r / "sa_1.json", SA1B), write_picture(r / "sa_1.jpg")),
    "sav": lambda r: write_sav(r, [[runs(ONE), runs(TWO)], None, [runs(TWO), runs(ONE)]], masklet_id=[5, 9]),
}
VALUES = (None, -1, 0, "x", "", [], {}, 1e12, -5.5, True, [1], [[1]], {"a": 1}, float("nan"), 10**20, [-1, 10**9])


def places(content: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where something is in a JSON."""
    if path:
        yield path
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inside:
        yield from places(value, (*path, key))


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_json_never_crashes(name: str, tmp_path: Path) -> None:
    """Something else is put in one place, or it is left out; opening, checking and reading end in sentences."""
    chance, root = random.Random(0), tmp_path / "data"
    root.mkdir()
    DAMAGED[name](root)
    (file,) = root.rglob("*.json")
    good, refusals = file.read_text(), []
    for _ in range(40):
        content = inner = json.loads(good)
        *way, last = chance.choice(list(places(content)))
        for key in way:
            inner = inner[key]
        inner[last] = chance.choice(VALUES)
        if chance.random() < 0.25:
            del inner[last]
        file.write_text(json.dumps(content))
        try:
            assert json.dumps(check_dataset(open_dataset(root)).as_dict())
        except ValueError as error:
            refusals.append(str(error))
    assert not [text for text in refusals if "\n" in text]


def test_what_training_would_refuse_is_not_ready(tmp_path: Path) -> None:
    """All that is held out is broken, or all that is learnt from; or there is nothing at all."""
    for name, number in (("train", 0), ("train", 1), ("val", 2)):
        write_picture(tmp_path / name / "images" / f"{number}.png", number)
        write_mask(tmp_path / name / "masks" / f"{number}.png", ONE)
    assert not check_dataset(tmp_path).has_errors
    write_mask(tmp_path / "val" / "masks" / "2.png", EMPTY)
    report = check_dataset(tmp_path)
    assert "of the samples to hold out none can be used (val/images/2.png); mend them" in report.text()
    assert report.has_errors
    write_mask(tmp_path / "val" / "masks" / "2.png", ONE)
    for number in (0, 1):
        write_mask(tmp_path / "train" / "masks" / f"{number}.png", ONE[:-1])
    assert "has one usable sample; add more, so that some can be held out" in check_dataset(tmp_path).text()
    (nothing,) = check_dataset(write_json(tmp_path / "a.json", {"images": [], "annotations": []})).problems
    assert "it holds no samples; add pictures with masks" in nothing.sentences[0]


@pytest.mark.parametrize("separate", [False, True])
def test_semantic_masks_are_told_of_separate_parts(separate: bool, tmp_path: Path) -> None:
    mask(ONE | TWO, 0, 1, 2)(good_folders(tmp_path))
    report = check_dataset(tmp_path, separate_parts=separate)
    assert not report.has_errors
    assert report.counts["masks"] == (6 if separate else 3)
    assert ("--separate-parts" in report.text()) is not separate
    said = "3 of 3 masks have several separate parts (mask 1 of images/0.png in 2, ...)"
    assert (said in report.text()) is not separate


def boxes_in_labelme(root: Path) -> None:
    write_picture(root / "a.png")
    polygon = [[40, 30], [70, 30], [70, 50], [40, 50]]
    shapes = [("rectangle", [[5, 5], [30, 20]]), ("polygon", polygon), ("polygon", polygon[::-1])]
    write_labelme(root / "a.json", [{"label": "cat", "shape_type": k, "points": p} for k, p in shapes])


BOX, TURNED = [5, 5, 30, 5, 30, 20, 5, 20], [40, 30, 40, 50, 70, 50, 70, 30, 40, 30]
BOXES: dict[str, tuple[int, Callable[[Path], object]]] = {
    "coco": (2, lambda r: write_coco(r, [[BOX], [TURNED]])),
    "labelme": (3, boxes_in_labelme),
    "yolo": (2, lambda r: write_yolo(r, "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n1 0.2 0.2 0.2 0.7 0.9 0.7 0.9 0.2\n")),
    "one that is none": (0, lambda r: write_coco(r, [[BOX], [[40, 30, 70, 30, 55, 50, 41, 45]], runs(ONE)])),
}


@pytest.mark.parametrize("name", BOXES)
def test_outlines_that_are_all_boxes_are_said(name: str, tmp_path: Path) -> None:
    count, build = BOXES[name]
    build(tmp_path)
    dataset = open_dataset(tmp_path)
    said = f"all {count} outlines are rectangles; were boxes exported instead of outlines?"
    assert not dataset.skipped
    assert (said in dataset.describe()) is bool(count)
    assert any(p.kind == "rectangles" and said in p.sentences[0] for p in check_dataset(dataset).problems) is bool(
        count
    )


def test_good_data_is_praised(tmp_path: Path) -> None:
    report = check_dataset(good_folders(tmp_path))
    assert not report.problems
    assert report.text().endswith("Ready for training.")
    assert report.counts == {"pictures": 3, "clips": 0, "masks": 6, "unusable": 0}
    assert report.picture_sizes == (("80x60", 3),)
    assert json.loads(json.dumps(report.as_dict()))["has_errors"] is False
    for i in range(3):  # nearly even pictures look alike: only the pixels tell them apart
        grey = 128 + np.random.default_rng(i).integers(-20, 21, SIZE_HW).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / "images" / f"{i}.png")
    assert not check_dataset(tmp_path).problems


def test_nothing_that_is_known(tmp_path: Path) -> None:
    """What may have been meant is suggested."""
    with pytest.raises(ValueError, match=r"holds nothing, and no format that is known\. Looked for: .*COCO.*DAVIS"):
        open_dataset(tmp_path)
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"holds a\.png, and no format"):
        open_dataset(tmp_path)
    with pytest.raises(ValueError, match="unknown format 'coc'; known formats: sav, coco"):
        open_dataset(tmp_path, format="coc")
    with pytest.raises(FileNotFoundError, match="nothing at"):
        open_dataset(tmp_path / "nowhere")
    good_folders(tmp_path / "set")
    for place in (tmp_path, tmp_path / "set" / "masks"):
        with pytest.raises(ValueError, match=r"Did you mean .*set\? It looks like pictures and masks"):
            open_dataset(place)
    (tmp_path / "set" / "images").rename(tmp_path / "set" / "raw")
    (tmp_path / "set" / "masks").rename(tmp_path / "set" / "drawn")
    with pytest.raises(ValueError, match=r"drawn and raw hold pictures of the same names, such as 0; call one"):
        open_dataset(tmp_path / "set")
