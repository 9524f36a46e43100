"""Data sets that want more than to be read: bombs, ways out of their folder, pipes, odd names."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam2kit.data.check import check_dataset
from sam2kit.data.convert import convert
from sam2kit.data.opening import open_dataset
from sam2kit.data.report import contact_sheet
from tests.data.factory import (
    SIZE_HW,
    block,
    runs,
    save,
    write_coco,
    write_davis,
    write_json,
    write_labelme,
    write_labels,
    write_picture,
    write_sav,
    write_yolo,
)
from tests.trust import breaking
from tests.trust.bounds import Case, assert_clear

ONE = block(5, 5, 20, 30)
LINE = "0 0.1 0.1 0.5 0.1 0.5 0.5\n"


def examine(root: Path) -> None:
    """Open, check, convert to every format that takes it, draw a sheet: what `sam2kit data` does."""
    assert check_dataset(root).text()
    dataset = open_dataset(root)
    for sample in dataset.pictures:
        try:
            labelled = sample.read()
        except ValueError as error:
            assert_clear(error)
            continue
        assert all(mask.shape == labelled.image.shape[:2] for mask in labelled.picture_masks)
    (root / "out").mkdir()
    for format in ("coco", "yolo", "davis"):
        try:
            convert(dataset, format, root / "out" / format)
        except ValueError as error:
            assert_clear(error)
    for file in (root / "out").rglob("*"):
        if file.is_file() and not file.is_symlink():
            assert b"secret" not in file.read_bytes()[:100], f"{file} holds what lay outside the data"
    contact_sheet(dataset, root / "sheet.png")


def of_data(name: str, build: Callable[[Path], object], wanted: str = "either") -> Case:
    """A folder of data."""

    def feed(folder: Path) -> None:
        (folder / "data").mkdir()
        build(folder / "data")
        examine(folder / "data")

    return Case(f"data: {name}", feed, wanted)


def _named(root: Path, *names: str) -> None:
    """Pictures with masks."""
    for i, name in enumerate(("a.png", *names)):
        write_labels(root / "masks" / name, [ONE])
        write_picture(root / "images" / name, i)


def _coco(segmentation: Any, **of_image: Any) -> Callable[[Path], Path]:
    return lambda root: write_coco(root, [segmentation], **of_image)


def _text(name: str, content: str | bytes) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        write_picture(root / "images" / "a.png")
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return build


def _out_of_its_folder(root: Path) -> None:
    private = write_picture(root.parent.parent / "beside" / "private.png")
    try:
        _coco(runs(ONE), file_name="../../beside/private.png")(root)
        assert not open_dataset(root).pictures, "a picture outside the data was taken"
    finally:
        private.unlink()


def _clip_names_a_way_out(root: Path) -> None:
    content = json.loads(_coco(runs(ONE), clip="../../../../EVIL", frame_index=0)(root).read_text())
    content["annotations"][0]["track_id"] = 1
    write_json(root / "coco.json", content)


def _secret_frames(root: Path) -> None:
    frame = write_davis(root, {"bear": [{1: ONE}] * 3}) / "JPEGImages" / "bear" / "00001.jpg"
    frame.unlink()
    frame.symlink_to(root.parent.parent / "beside" / "secret.txt")


def _two_names_that_become_one(root: Path) -> None:
    _named(root, "a/b.png", "a__b.png")
    convert(open_dataset(root), "davis", root.parent / "as_davis")
    assert len(list((root.parent / "as_davis" / "JPEGImages").iterdir())) == 3


def _someones_folder(root: Path) -> None:
    _named(root)
    theirs = root.parent / "out.part" / "thesis.txt"
    theirs.parent.mkdir()
    theirs.write_text("mine")
    convert(open_dataset(root), "coco", root.parent / "out")
    assert theirs.read_text() == "mine"


def _fifo(*names: str) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        _named(root)
        for name in names:
            (root / name).parent.mkdir(exist_ok=True, parents=True)
            breaking.pipe(root / name)

    return build


def _loop(root: Path) -> None:
    _named(root)
    (root / "images" / "again").symlink_to("..")
    (root / "masks" / "again").symlink_to(".")


def _many_ids(root: Path) -> None:
    write_picture(root / "images" / "a.png", size_hw=(200, 300))
    save(Image.fromarray(np.arange(60_000, dtype=np.uint16).reshape(200, 300)), root / "masks" / "a.png")


def _large_ids(root: Path) -> None:
    write_picture(root / "JPEGImages" / "a.jpg")
    for name, number in (("SegmentationClass", 2**31 - 1), ("SegmentationObject", 1)):
        save(Image.fromarray(ONE.astype(np.int32) * number), root / name / "a.tif")


def _bomb_mask(root: Path) -> None:
    _named(root)
    (root / "masks" / "a.png").write_bytes(breaking.png_of(13_000, 13_000))


def _labelme(points: Any, kind: str = "polygon", packed: bytes = b"", **more: Any) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        shape = {"label": "c", "shape_type": kind, "points": points, "mask": base64.b64encode(packed).decode()}
        write_labelme(root / "a.json", [shape], **more)
        write_picture(root / "a.png")

    return build


def _painted_far(x: float) -> Callable[[Path], None]:
    return _labelme([[x, x], [x + 9, x + 9]], "mask", packed=breaking.png_of(9, 9, bytes(27)))


def _yaml(text: str) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        canary = str(root.parent.parent / "beside" / "canary")
        (write_yolo(root, LINE) / "data.yaml").write_text(text.replace("CANARY", canary))

    return build


def _exact(text: str) -> Callable[[Path], object]:
    return lambda root: (write_yolo(root, LINE, "[cat]") / "exact_masks.json").write_text(text)


_LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)
_STAR = [[80 * (i % 2), 60 * (i % 7) / 7] for i in range(40_000)]
_STAR_IN_A_ROW = [value for point in _STAR for value in point]

CASES = [
    of_data("a picture outside", _out_of_its_folder),
    of_data("an absolute picture", _coco(runs(ONE), file_name="/etc/hostname")),
    of_data("a picture with a zero byte", _coco(runs(ONE), file_name="a\0.png")),
    of_data("a picture of 300 characters", _coco(runs(ONE), file_name="n" * 300)),
    of_data("a clip that names a way out", _clip_names_a_way_out),
    of_data("frames that link to a secret", _secret_frames),
    of_data("two names that become one", _two_names_that_become_one, "result"),
    of_data("somebody's folder beside the output", _someones_folder, "result"),
    of_data("pipes as JSON", _fifo("a.json", "b/c.json")),
    of_data("pipes as lists", _fifo("data.yaml", "labels/a.txt", "labelmap.txt")),
    of_data("pipes as pictures", _fifo("images/b.png", "masks/b.png")),
    of_data("pipes as sessions", _fifo("a.safetensors")),
    of_data("links that go in circles", _loop),
    of_data("60,000 objects", _many_ids),
    of_data("a class of two billion", _large_ids),
    of_data("a mask of 169 megapixels", _bomb_mask),
    of_data("a painted mask of 64 megapixels", _labelme([[1, 1], [9, 9]], "mask", packed=breaking.png_of(8000, 8000))),
    of_data("a painted mask far away", _painted_far(-1e6)),
    of_data("a painted mask at infinity", _painted_far(1e300)),
    of_data("an outline of 40,000 points", _labelme(_STAR)),
    of_data("an outline at infinity", _labelme([[1e300, 1], [1, 1], [1, 9]])),
    of_data("an outline of texts", _labelme([["a", "b"]])),
    of_data("a circle as large as a town", _labelme([[1, 1], [1e9, 1]], "circle")),
    of_data("a picture outside, in LabelMe", _labelme([[1, 1], [9, 1], [9, 9]], imagePath="../../beside/secret.txt")),
    of_data("a picture of 300 characters, in LabelMe", _labelme([[1, 1], [9, 1], [9, 9]], imagePath="n" * 300)),
    of_data("a polygon of 40,000 points", _coco([_STAR_IN_A_ROW])),
    of_data("a polygon with a loop of miles", _coco([[0, 0, 1e6, 0, 0, 1e6]])),
    of_data("run lengths of a town", _coco({"size": [10**6, 10**6], "counts": [10**12]})),
    of_data("run lengths that never end", _coco({"size": [*SIZE_HW], "counts": "o" * 200_000 + "0"})),
    of_data("run lengths below zero", _coco({"size": [*SIZE_HW], "counts": [-5, 4805]})),
    of_data("run lengths with holes", _coco({"size": [*SIZE_HW], "counts": [4800.5]})),
    of_data("run lengths of texts", _coco({"size": [*SIZE_HW], "counts": ["a"]})),
    of_data("run lengths at infinity", _coco({"size": [float("inf"), 60], "counts": [1]})),
    *(of_data(f"{name} with JSON that is too deep", _text(name, opening + breaking.nested() + "}")) for name, opening in {
        "coco.json": '{"images": [], "annotations": [', "a.json": '{"shapes": [',
        "v_manual.json": '{"masklet": ', "sa_1.json": '{"image": {}, "annotations": [',
    }.items()),
    *(of_data(f"JSON {text}", _text("a.json", text)) for text in (
        '[{"shapes": []}]', '[{"image": {}, "annotations": []}]', '{"shapes": [7]}', '{"images": [], "annotations": []}',
        '{"images": [7], "annotations": [7]}', '{"images": {"a": 1}, "annotations": [1]}', '{"masklet": [7]}', '{"masklet": [[]]}',
        '{"photos": {"a": 1}, "objects": [7]}', '{"shapes": [], "imageHeight": 1e999}', "{", "null", '{"masklet": [[{}]], "x": ' + "9" * 5000 + "}",
    )),
    of_data("JSON that is no text", _text("a.json", bytes(range(128, 256)))),
    *(of_data(f"data.yaml: {what}", _yaml(text)) for what, text in {
        "laughs": _LAUGHS + "train: images\nval: images\nnames: {0: *a8}\n",
        "a program": 'train: images\nval: images\nnames: !!python/object/apply:os.system ["touch CANARY"]\n',
        "a billion classes": "train: images\nval: images\nnames: {1000000000: a}\n",
        "half a class": "train: images\nval: images\nnames: {0.5: a}\n",
        "no names": "train: images\nval: images\nnames: 3\n",
        "deep": "train: images\nval: images\nnames: " + "[" * 5000 + "\n",
        "the whole disk": "path: /\ntrain: usr\nval: etc\nnames: [a]\n",
        "outside": "path: ../..\ntrain: beside\nval: beside\nnames: [a]\n",
        "a name of 300 characters": "train: " + "n" * 300 + "\nval: images\nnames: [a]\n",
        "not YAML": "train: [images\nval: {\nnames: ]",
    }.items()),
    of_data("a folder called x.yaml", lambda root: ((root / "x.yaml").mkdir(), _named(root))),
    *(of_data(f"SA-V {key} {value!r:.30}", lambda root, key=key, value=value: write_sav(root, **{"masklet": [[runs(ONE)]] * 2, key: value})) for key, value in (
        ("video_id", "/"), ("video_id", "../../beside"), ("video_id", 7), ("masklet_id", [float("inf")]), ("masklet_id", "x"),
        ("video_frame_count", float("inf")), ("video_frame_count", 10**12), ("video_frame_count", -1), ("masklet", [[None]]),
    )),
    *(of_data(f"exact masks {text}", _exact(text)) for text in ("[]", "{}", '{"masks": []}', '{"masks": {"labels/a.txt": 7}}', "{")),
    of_data("names of all kinds", lambda root: _named(root, "фото 写真.png", "-1.png", "_mask.png", "a.b.c.png", "²3.png", "CON.png", " .png"), "result"),
    of_data("pictures turned into folders", lambda root: ((root / "images" / "a.png").mkdir(parents=True), (root / "masks" / "a.png").mkdir(parents=True))),
    of_data("nothing", lambda root: None, "error"),
    Case("data: a name with a zero byte", lambda room: open_dataset(room / "a\0b")),
    Case("data: a name of 300 characters", lambda room: open_dataset(room / ("n" * 300))),
    Case("data: an unknown format", lambda room: open_dataset(room, format="tarot")),
    Case("data: a pipe", lambda room: open_dataset(breaking.pipe(room / "a.json"))),
    Case("data: a device without end", lambda room: open_dataset(breaking.link(room / "a.json", "/dev/zero"))),
]  # fmt: skip
