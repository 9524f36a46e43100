"""Every format is recognised and read with the right masks."""

from __future__ import annotations

import base64
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2kit.datasets.check import check_dataset
from sam2kit.datasets.label_images import read_label_image
from sam2kit.datasets.opening import open_dataset
from sam2kit.datasets.samples import LabelledPicture
from tests.datasets.factory import (
    SIZE_HW,
    block,
    hard_masks,
    picture,
    runs,
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


def only(path: Path, format_: str, **options: object) -> LabelledPicture:
    """The single picture of a dataset; goes through pickle on the way, as to another process."""
    dataset = open_dataset(path, **options)
    assert dataset.format == format_, dataset.describe()
    assert not dataset.skipped
    (sample,) = pickle.loads(pickle.dumps(dataset.pictures))
    return sample.read()


def assert_masks(found: LabelledPicture, *wanted: np.ndarray) -> None:
    assert len(found.masks) == len(wanted)
    for mask, truth in zip(found.masks, wanted, strict=True):
        assert mask.dtype == bool
        assert np.array_equal(mask, truth)


MASKS = "Picture and mask folders"


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
        ("a.png", "a_mask.png"),
        ("a.png", "a-mask.png"),
        ("sub/a.png", "sub/a.mask.png"),
        ("images/a.png", "masks/a/1.png"),
        ("images/a.png", "masks/a_0.png"),
    ],
)
def test_mask_folder_layouts(image: str, mask: str, tmp_path: Path) -> None:
    write_picture(tmp_path / image)
    write_mask(tmp_path / mask, ONE)
    assert_masks(only(tmp_path, MASKS), ONE)
    assert open_dataset(tmp_path).pictures[0].split == ("train" if "train" in image else None)


def test_one_file_per_object(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.png")
    write_mask(tmp_path / "masks" / "a" / "2.png", ONE)
    write_mask(tmp_path / "masks" / "a" / "10.png", ONE | TWO)  # they may overlap
    assert_masks(only(tmp_path, MASKS), ONE, ONE | TWO)
    assert "2 masks" in open_dataset(tmp_path).describe()


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P"])
def test_black_and_white_is_one_object(mode: str, tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.png")
    write_mask(tmp_path / "masks" / "a.png", ONE | TWO, mode)
    assert_masks(only(tmp_path, MASKS), ONE | TWO)
    assert_masks(only(tmp_path, MASKS, separate_parts=True), ONE, TWO)


def test_numbers_palettes_and_colours(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.png")
    for palette in (True, False):
        write_labels(tmp_path / "masks" / "a.png", [ONE, TWO], palette=palette)
        assert_masks(only(tmp_path, MASKS), ONE, TWO)
    colours = np.zeros((*SIZE_HW, 3), np.uint8)
    colours[ONE], colours[TWO] = (0, 0, 200), (200, 0, 0)
    Image.fromarray(colours).save(tmp_path / "masks" / "a.png")
    assert_masks(only(tmp_path, MASKS), ONE, TWO)


def test_numbers_of_16_bits(tmp_path: Path) -> None:
    labels = np.zeros(SIZE_HW, np.uint16)
    labels[ONE], labels[TWO] = 300, 60_000
    Image.fromarray(labels).save(tmp_path / "a.png")
    assert read_label_image(tmp_path / "a.png").numbers() == [300, 60_000]


def test_void_between_small_numbers(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.png", {1: ONE, 255: TWO}, palette=False)
    labels = read_label_image(tmp_path / "a.png")
    assert labels.numbers() == [1]
    assert "read as void" in labels.notes[0].text
    write_labels(tmp_path / "b.png", {128: ONE, 255: TWO}, palette=False)
    assert read_label_image(tmp_path / "b.png").numbers() == [128, 255]


def test_soft_and_lossy_edges_are_cut_at_the_middle(tmp_path: Path) -> None:
    big = np.kron(ONE, np.ones((4, 4), bool))
    write_mask(tmp_path / "a.jpg", big)
    labels = read_label_image(tmp_path / "a.jpg")
    assert labels.numbers() == [1]
    assert ((labels.ids > 0) != big).mean() < 0.001
    assert labels.notes[0].kind == "jpeg_mask"
    alpha = np.dstack([np.full((*SIZE_HW, 3), 255, np.uint8), ONE.astype(np.uint8) * 255])
    Image.fromarray(alpha).save(tmp_path / "b.png")
    assert np.array_equal(read_label_image(tmp_path / "b.png").ids > 0, ONE)


def test_sideways_photos(tmp_path: Path) -> None:
    """A mask may lie like the stored picture or like the upright one."""
    write_picture(tmp_path / "images" / "a.jpg", orientation=6)
    upright = np.rot90(ONE, -1)
    for mask in (upright, ONE):
        write_mask(tmp_path / "masks" / "a.png", mask)
        found = only(tmp_path, MASKS)
        assert found.image.shape[:2] == SIZE_HW[::-1]
        assert_masks(found, upright)


def test_coco_polygons_and_run_lengths(tmp_path: Path) -> None:
    uncompressed = {"size": list(SIZE_HW), "counts": [5, 10, 60 * 80 - 15]}
    write_coco(tmp_path, [[[10, 10, 30, 10, 30, 25, 10, 25]], runs(ONE), uncompressed])
    found = only(tmp_path, "COCO JSON")
    assert_masks(found, block(10, 10, 25, 30), ONE, block(5, 0, 15, 1))
    assert found.labels == ["cat"] * 3
    assert open_dataset(tmp_path / "coco.json").describe() == "COCO JSON: 1 picture with 3 masks, 1 class"


def test_coco_as_roboflow_lays_it_out(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "valid")):
        write_coco(tmp_path / split, [runs(ONE)]).rename(tmp_path / split / "_annotations.coco.json")
        write_picture(tmp_path / split / "a.png", seed)
    dataset = open_dataset(tmp_path)
    assert [(s.name, s.split) for s in dataset.pictures] == [("train/a.png", "train"), ("valid/a.png", "val")]


def test_coco_as_coco_lays_it_out(tmp_path: Path) -> None:
    file = write_coco(tmp_path, [runs(ONE)])
    for folder in ("annotations", "val2017"):
        (tmp_path / folder).mkdir()
    file.rename(tmp_path / "annotations" / "instances_val2017.json")
    (tmp_path / "a.png").rename(tmp_path / "val2017" / "a.png")
    write_json(tmp_path / "annotations" / "captions_val2017.json", {"images": [], "annotations": [{"image_id": 1}]})
    (sample,) = open_dataset(tmp_path).pictures
    assert sample.split == "val"
    assert_masks(sample.read(), ONE)


def test_coco_sizes_of_the_stored_picture(tmp_path: Path) -> None:
    write_coco(tmp_path, [runs(ONE)])
    write_picture(tmp_path / "a.png", orientation=6)
    assert_masks(only(tmp_path, "COCO JSON"), np.rot90(ONE, -1))


def test_yolo(tmp_path: Path) -> None:
    height, width = SIZE_HW
    corners = [(10, 10), (29, 10), (29, 24), (10, 24)]
    write_yolo(tmp_path, "1 " + " ".join(f"{x / width:.6f} {y / height:.6f}" for x, y in corners))
    found = only(tmp_path, "YOLO-seg")
    assert_masks(found, block(10, 10, 25, 30))
    assert found.labels == ["dog"]
    (tmp_path / "data.yaml").unlink()
    assert_masks(only(tmp_path, "YOLO-seg"), block(10, 10, 25, 30))


def test_yolo_paths_as_roboflow_writes_them(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_yolo(tmp_path / split, "0 0.1 0.1 0.5 0.1 0.5 0.5").joinpath("data.yaml").unlink()
    (tmp_path / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['cat']\n")
    dataset = open_dataset(tmp_path)
    assert [(s.name, s.split) for s in dataset.pictures] == [
        ("train/images/a.png", "train"),
        ("valid/images/a.png", "val"),
    ]
    assert not dataset.skipped


def test_voc(tmp_path: Path) -> None:
    root = tmp_path / "VOC2012"
    write_picture(root / "JPEGImages" / "a.jpg")
    edge = block(28, 38, 30, 72)
    write_labels(root / "SegmentationObject" / "a.png", {1: ONE, 2: TWO, 255: edge})
    write_labels(root / "SegmentationClass" / "a.png", {8: ONE, 15: TWO, 255: edge})
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("a\n")
    found = only(tmp_path, "Pascal VOC")
    assert_masks(found, ONE, TWO)
    assert found.labels == ["cat", "person"]
    assert open_dataset(tmp_path).pictures[0].split == "val"


def test_voc_in_colours(tmp_path: Path) -> None:
    write_picture(tmp_path / "JPEGImages" / "a.jpg")
    colours = np.zeros((*SIZE_HW, 3), np.uint8)
    colours[ONE] = 128, 0, 0
    (tmp_path / "SegmentationClass").mkdir()
    Image.fromarray(colours).save(tmp_path / "SegmentationClass" / "a.png")
    (tmp_path / "labelmap.txt").write_text("# label:color\nbackground:0,0,0::\nleaf:128,0,0::\n")
    found = only(tmp_path, "Pascal VOC")
    assert_masks(found, ONE)
    assert found.labels == ["leaf"]


def test_labelme(tmp_path: Path) -> None:
    shapes = [
        {"label": "cat", "shape_type": "polygon", "points": [[10, 10], [29, 10], [29, 24], [10, 24]]},
        {"label": "dog", "shape_type": "rectangle", "points": [[69, 49], [40, 30]], "group_id": 1},
        {"label": "dog", "shape_type": "rectangle", "points": [[5, 40], [8, 44]], "group_id": 1},
        {"label": "sun", "shape_type": "circle", "points": [[60, 12], [60, 20]]},
    ]
    write_labelme(tmp_path / "a.json", shapes)
    write_picture(tmp_path / "a.png")
    found = only(tmp_path, "LabelMe JSON")
    assert_masks(found, block(10, 10, 25, 30), TWO | block(40, 5, 45, 9), found.masks[2])
    assert found.labels == ["cat", "dog", "sun"]
    assert found.masks[2].sum() == pytest.approx(np.pi * 8**2, rel=0.1)


def test_labelme_with_the_picture_and_a_painted_mask_inside(tmp_path: Path) -> None:
    def encoded(array: np.ndarray) -> str:
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "PNG")
        return base64.b64encode(buffer.getvalue()).decode()

    shape = {"label": "cat", "shape_type": "mask", "points": [[5, 5], [29, 19]], "mask": encoded(ONE[5:20, 5:30])}
    write_labelme(tmp_path / "a.json", [shape], imageData=encoded(picture(4)))
    found = only(tmp_path, "LabelMe JSON")
    assert np.array_equal(found.image, picture(4))
    assert_masks(found, ONE)


def test_a_painted_mask_with_a_palette_is_read_by_its_numbers(tmp_path: Path) -> None:
    painted, buffer = Image.fromarray(ONE[5:20, 5:30].astype(np.uint8)), io.BytesIO()
    painted.putpalette([0, 0, 0] * 256)  # every number is black
    painted.save(buffer, "PNG")
    shape = {"label": "cat", "shape_type": "mask", "points": [[5, 5], [29, 19]]}
    write_labelme(tmp_path / "a.json", [{**shape, "mask": base64.b64encode(buffer.getvalue()).decode()}])
    write_picture(tmp_path / "a.png")
    assert_masks(only(tmp_path, "LabelMe JSON"), ONE)


def test_sa1b(tmp_path: Path) -> None:
    write_picture(tmp_path / "train" / "sa_1.jpg")
    height, width = SIZE_HW
    image = {"image_id": 1, "file_name": "sa_1.jpg", "width": width, "height": height}
    annotations = [{"id": i, "segmentation": runs(mask), "area": 1} for i, mask in enumerate((ONE, TWO))]
    write_json(tmp_path / "train" / "sa_1.json", {"image": image, "annotations": annotations})
    assert_masks(only(tmp_path, "SA-1B JSON"), ONE, TWO)


def test_our_own_photos(assets: Path) -> None:
    dataset = open_dataset(assets / "photos")
    assert dataset.describe().startswith("Outlined photos: 6 pictures with 24 masks")
    coffee = next(s for s in dataset.pictures if s.name == "coffee.jpg").read()
    assert "cup" in coffee.labels
    assert all(mask.shape == coffee.image.shape[:2] for mask in coffee.masks)


FRAMES = "Frame and mask folders (DAVIS, MOSE)"


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_davis_folders(suffix: str, tmp_path: Path) -> None:
    write_davis(tmp_path, {"bear": [{1: ONE, 2: TWO}, None, {2: ONE}], "cow": [{1: ONE}] * 2}, suffix)
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("cow\n")
    dataset = open_dataset(tmp_path)
    assert dataset.format == FRAMES
    bear, cow = pickle.loads(pickle.dumps(dataset.clips))
    assert (bear.frame_count, list(bear.truth_frames), list(bear.object_ids)) == (3, [0, 2], [1, 2])
    assert (bear.split, cow.split) == (None, "val")
    clip = bear.read([2, 0])
    assert clip.frames.shape == (2, *SIZE_HW, 3)
    assert np.array_equal(clip.masks[2], np.stack([ONE, TWO]))
    assert np.array_equal(clip.masks[1], np.stack([ONE & False, ONE]))
    assert bear.frame(1).shape == (*SIZE_HW, 3)


def test_davis_resolutions_and_mose_splits(tmp_path: Path) -> None:
    write_davis(tmp_path / "train", {"480p/bear": [{1: ONE}]})
    (clip,) = open_dataset(tmp_path).clips
    assert (clip.name, clip.split) == ("train/JPEGImages/480p/bear", "train")


def test_one_file_per_object_and_frame(tmp_path: Path) -> None:
    """As SA-V's validation clips: 24 frames per second, masks for every fourth, numbers from 000."""
    for index in range(5):
        write_picture(tmp_path / "JPEGImages_24fps" / "c" / f"{index:05d}.jpg", index)
    masks = tmp_path / "Annotations_6fps" / "c"
    write_mask(masks / "000" / "00000.png", ONE)
    write_mask(masks / "000" / "00004.png", TWO)
    write_mask(masks / "001" / "00004.png", ONE | TWO)
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


def test_detection_is_not_confused_by_other_files(tmp_path: Path) -> None:
    write_json(tmp_path / "package.json", {"name": "x"})
    write_json(tmp_path / "meta.json", {"videos": {}})
    (tmp_path / "readme.txt").write_text("0 hello")
    write_picture(tmp_path / "images" / "a.png")
    write_labels(tmp_path / "masks" / "a.png", list(hard_masks().values()))
    assert_masks(only(tmp_path, MASKS), *hard_masks().values())


def test_folders_of_named_pictures_are_no_clips(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "cats" / "tom.png")
    write_mask(tmp_path / "masks" / "cats" / "tom.png", ONE)
    assert_masks(only(tmp_path, MASKS), ONE)
    for index in range(3):  # slices of a volume are
        write_picture(tmp_path / "volumes" / "images" / "p1" / f"{index}.png", index)
        write_mask(tmp_path / "volumes" / "masks" / "p1" / f"{index}.png", ONE)
    (clip,) = open_dataset(tmp_path / "volumes").clips
    assert clip.frame_count == 3


def crowded(root: Path, kept: int, of: int, **more: object) -> Path:
    """A COCO JSON of `of` masks, of which `kept` are marked as crowds."""
    masks = [block(5, 5 + 9 * i, 40, 11 + 9 * i) for i in range(of)]
    file = write_coco(root, [runs(mask) for mask in masks])
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        annotation |= {"iscrowd": int(annotation["id"] <= kept), **more}
    return write_json(file, content)


@pytest.mark.parametrize(
    ("kept", "more"), [(3, {}), (2, {"attributes": {"occluded": False}}), (3, {"attributes": {"occluded": True}})]
)
def test_crowds_that_are_single_objects_are_kept(kept: int, more: dict, tmp_path: Path) -> None:
    """CVAT marks each painted mask as a crowd, and outlines not; other programs mark all that are run lengths."""
    crowded(tmp_path, kept, 3, **more)
    dataset = open_dataset(tmp_path)
    assert not dataset.skipped
    assert len(dataset.pictures[0].read().masks) == 3
    assert f"{kept} masks marked iscrowd are kept, because here the mark only says: no polygon" in dataset.describe()
    assert "kept_crowd" in [p.kind for p in check_dataset(dataset).problems]


def test_crowds_of_coco_itself_stay_out(tmp_path: Path) -> None:
    crowded(tmp_path, 1, 3)
    dataset = open_dataset(tmp_path)
    assert len(dataset.pictures[0].read().masks) == 2
    assert "1 crowd regions are left out" in dataset.skipped[0]


TRIANGLE = [[5, 5], [40, 8], [20, 40]]


def shape(label: str) -> dict:
    return {"label": label, "shape_type": "polygon", "points": TRIANGLE}


@pytest.mark.parametrize("label", ["__ignore__", "_background_", "ignore", "Background"])
def test_labels_that_name_no_object_are_left_out(label: str, tmp_path: Path) -> None:
    write_picture(tmp_path / "lm" / "a.png")
    write_labelme(tmp_path / "lm" / "a.json", [shape("cat"), shape(label), shape(label)])
    yolo = write_yolo(tmp_path / "yolo", "0 0.1 0.1 0.5 0.1 0.5 0.5\n1 0.1 0.1 0.5 0.1 0.5 0.5\n")
    (yolo / "data.yaml").write_text(f"path: .\ntrain: images\nval: images\nnames: [cat, {label}]\n")
    coco = write_coco(tmp_path / "coco", [runs(ONE), runs(TWO)])
    content = json.loads(coco.read_text())
    content["categories"].append({"id": 4, "name": label})
    content["annotations"][1]["category_id"] = 4
    write_json(coco, content)
    for name in ("lm", "yolo", "coco"):
        dataset = open_dataset(tmp_path / name)
        assert len(dataset.pictures[0].read().masks) == 1, name
        assert [p for p in check_dataset(dataset).problems if p.kind == "ignored"], name
    assert open_dataset(tmp_path / "lm").classes == ("cat",)
    assert f"left out: 2 of {label}; rename what is one" in open_dataset(tmp_path / "lm").skipped[0]


def encoded(seed: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture(seed)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    "stated", ["gone.png", "../elsewhere/gone.jpg", "C:\\Data\\gone.png", "b.png", "small.png", "no.png"]
)
def test_a_labelme_json_that_names_another_picture(stated: str, tmp_path: Path) -> None:
    """The picture beside it is taken, and it is said; b.png has a JSON, small.png another size, no.png is a text."""
    write_picture(tmp_path / "a.PNG", 1)
    write_picture(tmp_path / "b.png", 2)
    write_picture(tmp_path / "small.png", 3, (30, 40))
    (tmp_path / "no.png").write_text("no picture")
    write_labelme(tmp_path / "b.json", [shape("cat")])
    write_labelme(tmp_path / "a.json", [shape("cat")], imagePath=stated)
    dataset = open_dataset(tmp_path)
    assert not dataset.skipped
    assert np.array_equal(dataset.pictures[0].read().image, picture(1))
    assert np.array_equal(dataset.pictures[1].read().image, picture(2))
    assert "1 JSON name a picture that is not theirs" in dataset.describe()
    assert "and is about a.PNG beside it" in dataset.describe()


@pytest.mark.parametrize("stated", ["gone.png", "small.png", "b.png"])
def test_then_the_picture_inside_a_labelme_json(stated: str, tmp_path: Path) -> None:
    write_picture(tmp_path / "b.png", 2)
    write_picture(tmp_path / "small.png", 3, (30, 40))
    write_labelme(tmp_path / "b.json", [shape("cat")])
    write_labelme(tmp_path / "a.json", [shape("cat")], imagePath=stated, imageData=encoded(5))
    dataset = open_dataset(tmp_path)
    assert np.array_equal(dataset.pictures[0].read().image, picture(5))
    assert ("is about the picture inside it" in dataset.describe()) == (stated != "gone.png")


def test_a_labelme_json_in_a_folder_beside_the_pictures(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.jpg", 1)
    write_labelme(tmp_path / "labels" / "a.json", [shape("cat")], imagePath="a.jpg")
    dataset = open_dataset(tmp_path)
    assert dataset.pictures[0].image == tmp_path / "images" / "a.jpg"
