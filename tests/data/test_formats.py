"""Every format is recognised and read with the right masks."""

from __future__ import annotations

import base64
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sam2kit.data.check import check_dataset
from sam2kit.data.label_images import read_label_image
from sam2kit.data.opening import open_dataset
from sam2kit.data.sample import LabelledFrames
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
from tests.media.clip_factory import write_clip

ONE, TWO = block(5, 5, 20, 30), block(30, 40, 50, 70)
MASKS = "Picture and mask folders"
CORNERS = [(10, 10), (29, 10), (29, 24), (10, 24)]
BOX = block(10, 10, 25, 30)


def only(path: Path, format_: str, **options: object) -> LabelledFrames:
    """The single picture of a dataset; goes through pickle on the way, as to another process."""
    dataset = open_dataset(path, **options)
    assert dataset.format == format_, dataset.describe()
    assert not dataset.skipped
    (sample,) = pickle.loads(pickle.dumps(dataset.pictures))
    return sample.read()


def assert_masks(found: LabelledFrames, *wanted: np.ndarray) -> None:
    assert len(found.picture_masks) == len(wanted)
    for mask, truth in zip(found.picture_masks, wanted, strict=True):
        assert mask.dtype == bool
        assert np.array_equal(mask, truth)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.png", "masks/a.png"),
        ("images/a.jpg", "labels/a.png"),
        ("imgs/a.jpeg", "gt/a.tif"),
        ("JPEGImages/a.jpg", "annotations/a_mask.png"),
        ("Images/img_7.png", "Masks/mask_7.png"),
        ("train/images/a.png", "train/masks/a.png"),
        ("train_images/a.png", "train_masks/a.png"),
        ("train/a.jpg", "train_masks/a_mask.png"),
        ("photos/a.jpg", "photos_masks/a.png"),
        ("cats/a.jpg", "cats_mask/a.png"),
        ("cats/a.jpg", "cats-gt/a.png"),
        ("Cat pictures/a.jpg", "cat masks/a.png"),
        ("images/a.jpg", "images_masks/a.png"),
        ("images/train/a.png", "masks/train/a.png"),
        ("images/cats/tom.png", "masks/cats/tom.png"),
        ("a.png", "a_mask.png"),
        ("a.png", "a-mask.png"),
        ("p1_image.jpg", "p1_mask.png"),
        ("1_sat.jpg", "1_mask.png"),
        ("p1.jpg", "p1mask.png"),
        ("sub/a.png", "sub/a.mask.png"),
        ("images/a.png", "masks/a/1.png"),
        ("images/a.png", "masks/a_0.png"),
    ],
)
def test_mask_folder_layouts(image: str, mask: str, tmp_path: Path) -> None:
    """Files of other kinds do not confuse."""
    write_json(tmp_path / "package.json", {"videos": {}})
    (tmp_path / "readme.txt").write_text("0 hello")
    write_picture(tmp_path / image)
    write_mask(tmp_path / mask, ONE)
    assert_masks(only(tmp_path, MASKS), ONE)
    assert open_dataset(tmp_path).pictures[0].split == ("train" if "train" in image else None)


def test_what_a_mask_file_may_hold(tmp_path: Path) -> None:
    """Black and white in all modes is one object; numbers, palettes and colours are several."""
    write_picture(tmp_path / "images" / "a.png")
    file = tmp_path / "masks" / "a.png"
    for mode in ("1", "L", "RGB", "RGBA", "P"):
        write_mask(file, ONE | TWO, mode)
        assert_masks(only(tmp_path, MASKS), ONE | TWO)
        assert_masks(only(tmp_path, MASKS, separate_parts=True), ONE, TWO)
    for palette in (True, False):
        write_labels(file, [ONE, TWO], palette=palette)
        assert_masks(only(tmp_path, MASKS), ONE, TWO)
    colours = np.zeros((*SIZE_HW, 3), np.uint8)
    colours[ONE], colours[TWO] = (0, 0, 200), (200, 0, 0)
    save(Image.fromarray(colours), file)
    assert_masks(only(tmp_path, MASKS), ONE, TWO)
    save(Image.fromarray((ONE * 300 + TWO * 60_000).astype(np.uint16)), file)
    assert read_label_image(file).numbers() == [300, 60_000]
    save(Image.fromarray(np.dstack([np.full((*SIZE_HW, 3), 255, np.uint8), ONE.astype(np.uint8) * 255])), file)
    assert_masks(only(tmp_path, MASKS), ONE)
    file.unlink()
    write_mask(file.parent / "a" / "2.png", ONE)
    write_mask(file.parent / "a" / "10.png", ONE | TWO)  # they may overlap
    assert_masks(only(tmp_path, MASKS), ONE, ONE | TWO)
    assert "2 masks" in open_dataset(tmp_path).describe()


@pytest.mark.parametrize("is_json", [False, True])
def test_sideways_photos(is_json: bool, tmp_path: Path) -> None:
    """A mask may lie like the stored picture or like the upright one."""
    upright = np.rot90(ONE, -1)
    if is_json:
        write_coco(tmp_path, [runs(ONE)])
    write_picture(tmp_path / ("a.png" if is_json else "images/a.jpg"), orientation=6)
    for mask in [] if is_json else [upright, ONE]:
        write_mask(tmp_path / "masks" / "a.png", mask)
        assert only(tmp_path, MASKS).image.shape[:2] == SIZE_HW[::-1]
        assert_masks(only(tmp_path, MASKS), upright)
    assert_masks(only(tmp_path, "COCO JSON" if is_json else MASKS), upright)


def voc(root: Path) -> None:
    edge = block(28, 38, 30, 72)
    write_picture(root / "VOC2012" / "JPEGImages" / "a.jpg")
    write_labels(root / "VOC2012" / "SegmentationObject" / "a.png", {1: ONE, 2: TWO, 255: edge})
    write_labels(root / "VOC2012" / "SegmentationClass" / "a.png", {8: ONE, 15: TWO, 255: edge})
    (root / "VOC2012" / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt").write_text("a\n")


def voc_in_colours(root: Path) -> None:
    write_picture(root / "JPEGImages" / "a.jpg")
    save(Image.fromarray(np.uint8([128, 0, 0]) * ONE[..., None]), root / "SegmentationClass" / "a.png")
    (root / "labelmap.txt").write_text("# label:color\nbackground:0,0,0::\nleaf:128,0,0::\n")


def labelme(root: Path) -> None:
    shapes = [
        {"label": "cat", "shape_type": "oriented_rectangle", "points": CORNERS},
        {"label": "dog", "shape_type": "rectangle", "points": [[69, 49], [40, 30]], "group_id": 1},
        {"label": "dog", "shape_type": "rotation", "points": [[5, 40], [8, 40], [8, 44], [5, 44]], "group_id": 1},
        {"label": "sun", "shape_type": "circle", "points": [[60, 12], [60, 20]]},
    ]
    write_labelme(root / "labels" / "a.json", shapes, imagePath="a.jpg")
    write_picture(root / "images" / "a.jpg")


def encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def labelme_inside(painted: Image.Image) -> Callable[[Path], object]:
    """A picture and a painted mask, both in the JSON."""
    shape = {"label": "cat", "shape_type": "mask", "points": [[5, 5], [29, 19]], "mask": encoded(painted)}
    return lambda root: write_labelme(root / "a.json", [shape], imageData=encoded(Image.fromarray(picture(0))))


def sa1b(root: Path) -> None:
    write_picture(root / "train" / "sa_1.jpg")
    image = {"image_id": 1, "file_name": "sa_1.jpg", "width": SIZE_HW[1], "height": SIZE_HW[0]}
    annotations = [{"id": i, "segmentation": runs(mask), "area": 1} for i, mask in enumerate((ONE, TWO))]
    write_json(root / "train" / "sa_1.json", {"image": image, "annotations": annotations})


RINGS_AND_RUNS = [[[10, 10, 30, 10, 30, 25, 10, 25]], runs(ONE), {"size": [*SIZE_HW], "counts": [5, 10, 4785]}]
SHARES = " ".join(f"{x / SIZE_HW[1]:.6f} {y / SIZE_HW[0]:.6f}" for x, y in CORNERS)
SUN = Image.new("1", SIZE_HW[::-1])
ImageDraw.Draw(SUN).ellipse([52, 4, 68, 20], outline=1, fill=1)  # as LabelMe itself does
ALL_BLACK = Image.fromarray(ONE[5:20, 5:30].astype(np.uint8))
ALL_BLACK.putpalette([0, 0, 0] * 256)  # read by its numbers
FORMATS: dict[str, tuple[str, Callable[[Path], object], list[np.ndarray], list[str | None], str | None]] = {
    "coco": ("COCO JSON", lambda r: write_coco(r, RINGS_AND_RUNS), [BOX, ONE, block(5, 0, 15, 1)], ["cat"] * 3, None),
    "yolo": ("YOLO-seg", lambda r: write_yolo(r, f"1 {SHARES}"), [BOX], ["dog"], None),
    "yolo alone": ("YOLO-seg", lambda r: (write_yolo(r, f"1 {SHARES}") / "data.yaml").unlink(), [BOX], ["1"], None),
    "voc": ("Pascal VOC", voc, [ONE, TWO], ["cat", "person"], "val"),
    "voc in colours": ("Pascal VOC", voc_in_colours, [ONE], ["leaf"], None),
    "labelme": ("LabelMe JSON", labelme, [BOX, TWO | block(40, 5, 45, 9), np.array(SUN)], ["cat", "dog", "sun"], None),
    "painted": ("LabelMe JSON", labelme_inside(Image.fromarray(ONE[5:20, 5:30])), [ONE], ["cat"], None),
    "painted in black": ("LabelMe JSON", labelme_inside(ALL_BLACK), [ONE], ["cat"], None),
    "sa1b": ("SA-1B JSON", sa1b, [ONE, TWO], [None, None], "train"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_of_pictures(name: str, tmp_path: Path) -> None:
    format_, build, masks, labels, split = FORMATS[name]
    build(tmp_path)
    found = only(tmp_path, format_)
    assert_masks(found, *masks)
    assert found.picture_labels == labels
    assert open_dataset(tmp_path).pictures[0].split == split
    assert np.abs(found.image.astype(int) - picture(0)).mean() < 3


def test_coco_as_roboflow_and_as_coco_lay_it_out(tmp_path: Path) -> None:
    root = tmp_path / "roboflow"
    for seed, split in enumerate(("train", "valid")):
        write_coco(root / split, [runs(ONE)]).rename(root / split / "_annotations.coco.json")
        write_picture(root / split / "a.png", seed)
    assert [(s.name, s.split) for s in open_dataset(root).samples] == [("train/a.png", "train"), ("valid/a.png", "val")]
    root = tmp_path / "coco"
    file = write_coco(root, [runs(ONE)])
    for folder in ("annotations", "val2017"):
        (root / folder).mkdir()
    file.rename(root / "annotations" / "instances_val2017.json")
    (root / "a.png").rename(root / "val2017" / "a.png")
    write_json(root / "annotations" / "captions_val2017.json", {"images": [], "annotations": [{"image_id": 1}]})
    (sample,) = open_dataset(root).pictures
    assert sample.split == "val"
    assert_masks(sample.read(), ONE)


def test_yolo_paths_as_roboflow_writes_them(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_yolo(tmp_path / split, "0 0.1 0.1 0.5 0.1 0.5 0.5").joinpath("data.yaml").unlink()
    (tmp_path / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['cat']\n")
    dataset = open_dataset(tmp_path)
    named = [(sample.name, sample.split) for sample in dataset.pictures]
    assert named == [("train/images/a.png", "train"), ("valid/images/a.png", "val")]
    assert not dataset.skipped


def triangle(label: str) -> dict:
    return {"label": label, "shape_type": "polygon", "points": [[5, 5], [40, 8], [20, 40]]}


@pytest.mark.parametrize(("name", "stated"), [("a.png", "a.png"), ("a.png", "gone.png"), ("a.PNG", "a.png")])
def test_a_labelme_json_whose_own_picture_has_another_size(name: str, stated: str, tmp_path: Path) -> None:
    """Then the picture inside it is taken; a name in capitals is no other name."""
    inside = encoded(Image.fromarray(picture(1))) if name == "a.png" else None
    write_picture(tmp_path / name, 3, (30, 40) if inside else SIZE_HW)
    write_labelme(tmp_path / "a.json", [triangle("cat")], imagePath=stated, imageData=inside)
    dataset = open_dataset(tmp_path)
    assert np.array_equal(dataset.pictures[0].read().image, picture(1 if inside else 3))
    assert bool(dataset.notes) == (name == stated)


@pytest.mark.parametrize("taken", ["beside", "inside"])
@pytest.mark.parametrize(
    "stated", ["gone.png", "../elsewhere/gone.jpg", "C:\\gone.png", "b.png", "small.png", "no.png"]
)
def test_a_labelme_json_that_names_another_picture(stated: str, taken: str, tmp_path: Path) -> None:
    """The picture beside or inside it is taken; b.png has a JSON, small.png another size, no.png is a text."""
    write_picture(tmp_path / "b.png", 2)
    write_picture(tmp_path / "small.png", 3, (30, 40))
    (tmp_path / "no.png").write_text("no picture")
    write_labelme(tmp_path / "b.json", [triangle("cat")])
    inside = encoded(Image.fromarray(picture(1)))
    write_labelme(tmp_path / "a.json", [triangle("cat")], imagePath=stated, imageData=inside)
    if taken == "beside":
        write_picture(tmp_path / "a.PNG", 1)
    dataset = open_dataset(tmp_path)
    assert not dataset.skipped
    assert np.array_equal(dataset.pictures[0].read().image, picture(1))
    assert np.array_equal(dataset.pictures[1].read().image, picture(2))
    said = "is about a.PNG beside it" if taken == "beside" else "is about the picture inside it"
    assert (said in dataset.describe()) == (taken == "beside" or "gone" not in stated)


def test_davis_folders(tmp_path: Path) -> None:
    write_davis(tmp_path, {"bear": [{1: ONE, 2: TWO}, None, {2: ONE}], "cow": [{1: ONE}] * 2})
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("cow\n")
    dataset = open_dataset(tmp_path)
    assert dataset.format == "Frame and mask folders (DAVIS, MOSE)"
    bear, cow = pickle.loads(pickle.dumps(dataset.clips))
    assert (bear.frame_count, list(bear.truth_frames), list(bear.object_ids)) == (3, [0, 2], [1, 2])
    assert (bear.split, cow.split) == (None, "val")
    clip = bear.read([2, 0])
    assert clip.frames.shape == (2, *SIZE_HW, 3)
    assert np.array_equal(clip.masks[2], np.stack([ONE, TWO]))
    assert np.array_equal(clip.masks[1], np.stack([ONE & False, ONE]))
    assert bear.frame(1).shape == (*SIZE_HW, 3)


def test_davis_resolutions_mose_splits_and_slices_of_a_volume(tmp_path: Path) -> None:
    write_davis(tmp_path / "mose" / "train", {"480p/bear": [{1: ONE}] * 2})
    (clip,) = open_dataset(tmp_path / "mose").clips
    assert (clip.name, clip.split) == ("train/JPEGImages/480p/bear", "train")
    for index in range(3):
        write_picture(tmp_path / "volumes" / "images" / "p1" / f"{index}.png", index)
        write_mask(tmp_path / "volumes" / "masks" / "p1" / f"{index}.png", ONE)
    (clip,) = open_dataset(tmp_path / "volumes").clips
    assert clip.frame_count == 3


def test_one_file_per_object_and_frame(tmp_path: Path) -> None:
    """As SA-V's validation clips: 24 frames per second, masks for every fourth, numbers from 000."""
    for index in range(5):
        write_picture(tmp_path / "JPEGImages_24fps" / "c" / f"{index:05d}.jpg", index)
    for name, mask in {"000/00000": ONE, "000/00004": TWO, "001/00004": ONE | TWO}.items():
        write_mask(tmp_path / "Annotations_6fps" / "c" / f"{name}.png", mask)
    (clip,) = open_dataset(tmp_path).clips
    assert (list(clip.truth_frames), list(clip.object_ids)) == ([0, 4], [0, 1])
    found = clip.read([0, 4])
    assert np.array_equal(found.masks[0], np.stack([ONE, TWO]))
    assert np.array_equal(found.masks[1], np.stack([ONE & False, ONE | TWO]))


def test_sav_every_fourth_frame(tmp_path: Path) -> None:
    write_sav(tmp_path, [[runs(ONE), runs(TWO)], None, [runs(TWO), runs(ONE & False)]], masklet_id=[5, 9])
    dataset = open_dataset(tmp_path)
    assert dataset.format == "SA-V JSON"
    (clip,) = pickle.loads(pickle.dumps(dataset.clips))
    assert (clip.frame_count, list(clip.truth_frames), list(clip.object_ids)) == (9, [0, 8], [5, 9])
    found = clip.read([0, 8])
    assert np.array_equal(found.masks[5], np.stack([ONE, TWO]))
    assert np.array_equal(found.masks[9], np.stack([TWO, ONE & False]))


def test_sav_over_a_video_and_over_dumped_frames(tmp_path: Path) -> None:
    size_hw = (64, 96)
    mask = block(8, 8, 30, 40, size_hw)
    content = {"video_id": "v", "video_frame_count": 9, "masklet": [[runs(mask)]] * 3}
    write_json(tmp_path / "v_manual.json", content)
    write_json(tmp_path / "v_auto.json", {**content, "masklet": [[runs(mask & False)]] * 3})
    write_clip(tmp_path / "v.mp4", 9)
    (clip,) = open_dataset(tmp_path).clips
    assert list(clip.truth_frames) == [0, 4, 8]
    assert np.array_equal(clip.read([4]).masks[0][0], mask)
    (tmp_path / "v.mp4").unlink()
    for number in (0, 4, 8):  # every fourth, named by its number in the video
        write_picture(tmp_path / "v" / f"{number:05d}.jpg", number, size_hw)
    (clip,) = open_dataset(tmp_path).clips
    assert (clip.frame_count, list(clip.truth_frames)) == (3, [0, 1, 2])


def changed(file: Path, change: Callable[[dict], object]) -> Path:
    """A JSON with something changed."""
    content = json.loads(file.read_text())
    change(content)
    return write_json(file, content)


@pytest.mark.parametrize(
    ("crowds", "more"),
    [(1, {}), (3, {}), (2, {"attributes": {"occluded": False}}), (3, {"attributes": {"occluded": True}})],
)
def test_crowds_that_are_single_objects_are_kept(crowds: int, more: dict, tmp_path: Path) -> None:
    """CVAT marks each painted mask as a crowd, and outlines not; other programs mark all that are run lengths."""

    def mark(content: dict) -> None:
        for annotation in content["annotations"]:
            annotation.update({"iscrowd": int(annotation["id"] <= crowds), **more})

    changed(write_coco(tmp_path, [runs(block(5, 5 + 9 * i, 40, 11 + 9 * i)) for i in range(3)]), mark)
    dataset = open_dataset(tmp_path)
    masks = dataset.pictures[0].read().masks
    if crowds == 1:  # COCO's own
        assert len(masks) == 2
        assert "1 crowd regions are left out" in dataset.skipped[0]
        return
    assert (len(masks), dataset.skipped) == (3, [])
    assert f"{crowds} masks marked iscrowd are kept, because here the mark only says: no polygon" in dataset.describe()


@pytest.mark.parametrize(
    "label",
    ["__ignore__", "_background_", "ignore", "Background", "ignore region", "DontCare", "don't care", "none", "bg"],
)
def test_labels_that_name_no_object_are_left_out(label: str, tmp_path: Path) -> None:
    def rename(content: dict) -> None:
        content["categories"].append({"id": 4, "name": label})
        content["annotations"][1]["category_id"] = 4

    write_picture(tmp_path / "lm" / "a.png")
    write_labelme(tmp_path / "lm" / "a.json", [triangle("cat"), triangle(label), triangle(label)])
    line = " 0.1 0.1 0.5 0.1 0.5 0.5\n"
    write_yolo(tmp_path / "yolo", f"0{line}1{line}", f"[cat, {label}]")
    changed(write_coco(tmp_path / "coco", [runs(ONE), runs(TWO)]), rename)
    for name in ("lm", "yolo", "coco"):
        dataset = open_dataset(tmp_path / name)
        assert len(dataset.pictures[0].read().masks) == 1, name
        assert [p for p in check_dataset(dataset).problems if p.kind == "ignored"], name
    assert open_dataset(tmp_path / "lm").classes == ("cat",)
    assert f"left out: 2 of {label}; rename what is one" in open_dataset(tmp_path / "lm").skipped[0]
