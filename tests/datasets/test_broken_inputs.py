"""What is wrong with data is found before training, and said with name, reason and cure."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2kit.datasets.check import check_dataset
from sam2kit.datasets.opening import open_dataset
from sam2kit.datasets.report import KINDS
from tests.datasets.factory import (
    SIZE_HW,
    block,
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

ONE, TWO = block(5, 5, 20, 30), block(30, 40, 50, 70)
CASES: dict[str, tuple[Callable[[Path], object], str, str]] = {}


def case(kind: str, message: str) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    """A way to break a dataset, the kind of problem, and a pattern that its sentence must hold."""

    def register(build: Callable[[Path], object]) -> Callable[[Path], object]:
        CASES[build.__name__] = (build, kind, message)
        return build

    return register


def good_folders(root: Path, count: int = 3) -> Path:
    for i in range(count):
        write_picture(root / "images" / f"{i}.png", i)
        write_labels(root / "masks" / f"{i}.png", [ONE, TWO])
    return root


@case("unreadable", r"images/1\.png is damaged and cannot be read .*save it again from its source, or remove it")
def picture_is_cut_off(root: Path) -> None:
    file = good_folders(root) / "images" / "1.png"
    file.write_bytes(file.read_bytes()[:300])


@case("unreadable", r"images/1\.png is not a picture that can be read; try JPEG or PNG")
def picture_is_a_text(root: Path) -> None:
    (good_folders(root) / "images" / "1.png").write_text("hello")


@case("unreadable", r"the mask .*masks/1\.png cannot be read .*export it again as PNG")
def mask_is_a_text(root: Path) -> None:
    (good_folders(root) / "masks" / "1.png").write_text("hello")


@case("size", r"masks/1\.png is 40x30, but its picture 1\.png is 80x60; resize one of them .*nearest neighbour")
def mask_is_half_as_large(root: Path) -> None:
    write_labels(good_folders(root) / "masks" / "1.png", [ONE[::2, ::2]])


@case("size", r"masks/1\.png is 60x80, but its picture 1\.png is 80x60; one of them is turned by a quarter")
def mask_is_turned(root: Path) -> None:
    write_labels(good_folders(root) / "masks" / "1.png", [ONE.T])


@case("size", r"masks/1\.png is 70x60, but .*80x60; export masks and pictures in one size")
def mask_is_cropped(root: Path) -> None:
    write_labels(good_folders(root) / "masks" / "1.png", [ONE[:, :70]])


@case("colours", r"masks/1\.png has \d{3,} colours and looks like .*save masks as PNG with one flat colour")
def mask_is_a_photo(root: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), np.uint8)
    Image.fromarray(noise).save(good_folders(root) / "masks" / "1.png")


@case("colours", r"masks/1\.jpg has \d+ colours and looks like a mask with smoothed or JPEG edges; each colour would")
def colour_mask_is_a_jpeg(root: Path) -> None:
    colours = np.zeros((*SIZE_HW, 3), np.uint8)
    colours[ONE], colours[TWO] = (255, 0, 0), (0, 0, 255)
    (good_folders(root) / "masks" / "1.png").unlink()
    Image.fromarray(colours).save(root / "masks" / "1.jpg")


@case("colours", r"masks/1\.jpg has \d+ grey values and looks like a lossy file, whose numbers are smeared")
def numbered_mask_is_a_jpeg(root: Path) -> None:
    labels = ONE * np.uint8(120) + TWO * np.uint8(240)
    (good_folders(root) / "masks" / "1.png").unlink()
    Image.fromarray(labels).save(root / "masks" / "1.jpg")


@case(
    "many_objects", r"images/1\.png: its colour mask was read as 48 objects, one per colour; if that is too many, save"
)
def colours_are_dithered(root: Path) -> None:
    colours = np.zeros((*SIZE_HW, 3), np.uint8)
    for i in range(48):
        colours[10 * (i // 8) : 10 * (i // 8) + 9, 10 * (i % 8) : 10 * (i % 8) + 9] = 200, 5 * i, 40
    Image.fromarray(colours).save(good_folders(root) / "masks" / "1.png")


@case("jpeg_mask", r"masks/1\.jpg: a lossy file with \d+ grey values; it was cut at the middle\. To be exact, save")
def mask_is_a_jpeg(root: Path) -> None:
    (good_folders(root) / "masks" / "1.png").unlink()
    write_mask(root / "masks" / "1.jpg", ONE)


@case("empty", r"masks/1\.png is empty: no pixel belongs to an object")
def mask_is_empty(root: Path) -> None:
    write_mask(good_folders(root) / "masks" / "1.png", ONE & False)


@case("mostly_empty", r"3 masks are empty and 2 are not; were they exported with all labels\?")
def most_masks_are_empty(root: Path) -> None:
    good_folders(root, 4)
    for i in range(3):
        write_mask(root / "masks" / f"{i}.png", ONE & False)


@case("tiny", r"images/1\.png: mask 1 has 4 pixels, hard to learn; remove it if")
def mask_is_a_speck(root: Path) -> None:
    write_mask(good_folders(root) / "masks" / "1.png", block(5, 5, 7, 7))


@case("full", r"images/1\.png: mask 1 covers 100% of the picture; is background marked as object\?")
def mask_is_everything(root: Path) -> None:
    write_mask(good_folders(root) / "masks" / "1.png", ~(ONE & False))


@case("all_full", r"nearly all masks cover their whole picture; are black and white swapped\?")
def masks_are_swapped(root: Path) -> None:
    good_folders(root)
    for i in range(3):
        write_mask(root / "masks" / f"{i}.png", ~block(5, 5, 8, 8))


@case("no_background", r"masks/1\.png: it has no black, so that every pixel belongs to an object; make the background")
def background_is_not_black(root: Path) -> None:
    colours = np.full((*SIZE_HW, 3), (0, 0, 90), np.uint8)
    colours[ONE] = 200, 0, 0
    Image.fromarray(colours).save(good_folders(root) / "masks" / "1.png")


@case("no_mask", r"images/1\.png has no mask: .*masks/1\.png was looked for; add it, or remove the picture")
def mask_is_missing(root: Path) -> None:
    (good_folders(root) / "masks" / "1.png").unlink()


@case("unpaired", r"masks/1\.png has no picture: there is no 1 in .*images; name picture and mask alike")
def picture_is_missing(root: Path) -> None:
    (good_folders(root) / "images" / "1.png").unlink()


@case("duplicate", r"images/0\.png, images/1\.png show the same picture; keep one of them")
def picture_is_there_twice(root: Path) -> None:
    shutil.copy(good_folders(root) / "images" / "0.png", root / "images" / "1.png")


@case("leakage", r"train/images/0\.jpg, val/images/9\.png show the same picture in train and val; keep it in one")
def picture_is_in_train_and_val(root: Path) -> None:
    for split, names in (("train", ["0.jpg", "1.png"]), ("val", ["9.png"])):
        for name in names:
            write_picture(root / split / "images" / name, int(name[0]) % 9)
            write_mask(root / split / "masks" / f"{name[0]}.png", ONE)


@case("few", r"has one usable sample; add more, so that some can be held out")
def sample_is_alone(root: Path) -> None:
    good_folders(root, 1)


@case("nothing", r"no sample has a picture and a mask that can be used")
def nothing_is_usable(root: Path) -> None:
    write_labels(good_folders(root, 1) / "masks" / "0.png", [ONE.T])


@case("unreadable", r"coco\.json is damaged at line 1 .*export it again, it may have been cut off")
def coco_is_cut_off(root: Path) -> None:
    file = write_coco(root, [runs(ONE)])
    file.write_text(file.read_text()[:-40])


@case("missing", r"coco\.json lists b\.jpg, which is not there; put the pictures beside it or in images/")
def coco_picture_is_missing(root: Path) -> None:
    write_coco(root, [runs(ONE)], file_name="b.jpg")


@case(
    "broken_mask", r"coco\.json, annotation 2 of a\.png: its run lengths are broken \(run lengths add up to \d+, but a"
)
def coco_run_lengths_are_broken(root: Path) -> None:
    write_coco(root, [runs(ONE), {**runs(TWO), "counts": runs(TWO)["counts"][:-2]}])


@case(
    "broken_mask", r"annotation 1 of a\.png: its run lengths are broken \(it lacks 'counts'\); export this mask again"
)
def coco_run_lengths_lack_counts(root: Path) -> None:
    write_coco(root, [{"size": list(SIZE_HW)}, runs(ONE)])


@case("size", r"annotation 1 of a\.png is a mask of 40x30 for a picture of 80x60; export masks in the picture's size")
def coco_run_lengths_are_small(root: Path) -> None:
    write_coco(root, [runs(ONE[::2, ::2]), runs(ONE)])


@case("size", r"coco\.json \(for a\.png\) describes a picture of 160x120, but its picture a\.png is 80x60; resize")
def coco_states_another_size(root: Path) -> None:
    write_coco(root, [[[10, 10, 30, 10, 30, 25]]], width=160, height=120)


@case("outside", r"annotation 1 of a\.png goes outside its picture \(x 60 to 120, y 10 to 25 in a picture of 80x60\)")
def coco_polygon_leaves_the_picture(root: Path) -> None:
    write_coco(root, [[[60, 10, 120, 10, 120, 25]], runs(ONE)])


@case(
    "outside",
    r"annotation 1 of a\.png: all its coordinates lie in 0\.\.1, wanted are pixels; multiply .* 80 and 60",
)
def coco_polygon_is_in_shares(root: Path) -> None:
    write_coco(root, [[[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]], runs(ONE)])


@case("broken_mask", r"annotation 1 of a\.png: its polygon has 4 numbers; wanted are three or more points")
def coco_polygon_is_a_line(root: Path) -> None:
    write_coco(root, [[[10, 10, 30, 10]], runs(ONE)])


@case("box_only", r"annotation 1 of a\.png has a box but no segmentation; sam2kit learns masks: outline the object")
def coco_has_boxes(root: Path) -> None:
    write_coco(root, [[], runs(ONE)])


@case("unpaired", r"coco\.json: 1 annotations belong to no picture in its list \(the first says image_id 99\)")
def coco_annotation_is_astray(root: Path) -> None:
    file = write_coco(root, [runs(ONE), runs(TWO)])
    content = json.loads(file.read_text())
    content["annotations"][0]["image_id"] = 99
    write_json(file, content)


@case("crowd", r"coco\.json: 1 crowd regions are left out, because each outlines many objects at once")
def coco_has_crowds(root: Path) -> None:
    file = write_coco(root, [runs(ONE), runs(TWO)])
    content = json.loads(file.read_text())
    content["annotations"][0]["iscrowd"] = 1
    write_json(file, content)


@case("twice", r"a\.png: 1 of its masks repeat another one; remove the copies")
def coco_has_a_mask_twice(root: Path) -> None:
    write_coco(root, [runs(ONE), runs(TWO), runs(ONE)])


@case("box_only", r"labels/a\.txt, line 1 is a box \(4 numbers\), not an outline; .*export the segmentation set")
def yolo_has_boxes(root: Path) -> None:
    write_yolo(root, "0 0.5 0.5 0.2 0.2\n0 0.1 0.1 0.5 0.1 0.5 0.5\n")


@case("outside", r"labels/a\.txt, line 1 has coordinates up to 50; wanted are shares of width and height in 0\.\.1")
def yolo_is_in_pixels(root: Path) -> None:
    write_yolo(root, "0 10 10 50 10 50 50\n0 0.1 0.1 0.5 0.1 0.5 0.5\n")


@case("broken_mask", r"labels/a\.txt, line 2 holds something else than numbers; wanted is: class x y x y")
def yolo_has_words(root: Path) -> None:
    write_yolo(root, "0 0.1 0.1 0.5 0.1 0.5 0.5\ncat 0.1 0.1 0.5 0.1 0.5 0.5\n")


@case("broken_mask", r"labels/a\.txt, line 1 has 7 numbers after the class; wanted are three or more pairs")
def yolo_has_half_a_corner(root: Path) -> None:
    write_yolo(root, "0 0.1 0.1 0.5 0.1 0.5 0.5 0.2\n0 0.1 0.1 0.5 0.1 0.5 0.5\n")


@case("broken_mask", r"labels/a\.txt, line 1 is of class 5, but data\.yaml names only 0 to 1; add its name")
def yolo_class_has_no_name(root: Path) -> None:
    write_yolo(root, "5 0.1 0.1 0.5 0.1 0.5 0.5\n0 0.1 0.1 0.5 0.1 0.5 0.5\n")


@case("missing", r"data\.yaml says val: nowhere, which is not there \(looked at .*nowhere\); correct the path")
def yolo_path_leads_nowhere(root: Path) -> None:
    write_yolo(root, "0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    (root / "data.yaml").write_text("path: .\ntrain: images\nval: nowhere\nnames: [cat]\n")


@case("unpaired", r"labels/b\.txt has no picture of its name in images/")
def yolo_picture_is_missing(root: Path) -> None:
    write_yolo(root, "0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    (root / "labels" / "b.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")


@case("missing", r"JPEGImages/a\.jpg is not there, though it has masks; add it")
def voc_picture_is_missing(root: Path) -> None:
    write_labels(root / "SegmentationObject" / "a.png", [ONE])
    write_picture(root / "JPEGImages" / "b.jpg")


@case(
    "box_only", r"a\.json, shape 1 is a point, which has no area; outline the object as polygon, rectangle, circle or"
)
def labelme_has_points(root: Path) -> None:
    write_labelme(root / "a.json", [{"label": "cat", "shape_type": "point", "points": [[1, 1]]}])
    write_picture(root / "a.png")


@case("missing", r"a\.json is about a\.png, which is not beside it; put the picture there")
def labelme_picture_is_missing(root: Path) -> None:
    write_labelme(root / "a.json", [])


@case("broken_mask", r"a\.json, shape 1: a polygon needs 3 points or more, got 2; draw it again")
def labelme_polygon_is_a_line(root: Path) -> None:
    write_labelme(root / "a.json", [{"label": "cat", "shape_type": "polygon", "points": [[1, 1], [9, 9]]}])
    write_picture(root / "a.png")


@case("missing", r"sa_1\.json is about sa_1\.jpg, which is not beside it; put the picture there")
def sa1b_picture_is_missing(root: Path) -> None:
    write_json(root / "sa_1.json", {"image": {"file_name": "sa_1.jpg"}, "annotations": []})


@case("short", r"JPEGImages/bear has 2 annotated frames; training takes 8 at a time")
def clip_is_short(root: Path) -> None:
    write_davis(root, {"bear": [{1: ONE}, {1: TWO}]})


@case("missing", r"Annotations/cow has no frames: there is no .*JPEGImages/cow; put the frames there")
def clip_has_no_frames(root: Path) -> None:
    write_davis(root, {"bear": [{1: ONE}] * 8})
    write_labels(root / "Annotations" / "cow" / "00000.png", [ONE])


@case("unpaired", r"1 masks such as .*bear/00012\.png have no frame of that name in .*JPEGImages/bear; name them alike")
def clip_mask_has_no_frame(root: Path) -> None:
    write_davis(root, {"bear": [{1: ONE}] * 8})
    write_labels(root / "Annotations" / "bear" / "00012.png", [ONE])


@case("size", r"bear/00003\.jpg is 50x40, 00000\.jpg is 80x60; all frames of a clip need one size")
def clip_changes_its_size(root: Path) -> None:
    write_davis(root, {"bear": [{1: ONE}] * 4})
    write_picture(root / "JPEGImages" / "bear" / "00003.jpg", 3, (40, 50))


@case("missing", r"clip_manual\.json has no video: clip\.mp4 is not beside it; put it, or a folder of frames, there")
def sav_video_is_missing(root: Path) -> None:
    write_sav(root, [[runs(ONE)]] * 3)
    shutil.rmtree(root / "clip")


@case(
    "size", r"clip_manual\.json has masks for 5 frames, 4 apart, but 2 of them are not in .*use the video that was ann"
)
def sav_video_is_too_short(root: Path) -> None:
    write_sav(root, [[runs(ONE)]] * 5)


@case("no_mask", r"clip_manual\.json has no masks on any frame; annotate it, or remove it")
def sav_is_not_annotated(root: Path) -> None:
    write_sav(root, [None, None, None])


@case("broken_mask", r"clip_manual\.json lists 3 masklet_id, but its frames hold 1 masks; export it again")
def sav_ids_do_not_fit(root: Path) -> None:
    write_sav(root, [[runs(ONE)]] * 3, masklet_id=[1, 2, 3])


@pytest.mark.parametrize("name", CASES)
def test_it_is_found_and_said(name: str, tmp_path: Path) -> None:
    build, kind, message = CASES[name]
    build(tmp_path)
    report = check_dataset(tmp_path)
    sentences = {p.kind: p.sentences for p in report.problems}
    assert kind in sentences, report.text()
    assert any(re.search(message, sentence) for sentence in sentences[kind]), sentences[kind]
    assert report.spoiled == any(KINDS[found][0] == "spoils" for found in sentences)
    assert not report.spoiled or "SPOILS TRAINING" in report.text()


def test_there_are_many_kinds() -> None:
    assert len(CASES) >= 20
    assert {kind for _, kind, _ in CASES.values()} <= set(KINDS)


@pytest.mark.parametrize("name", CASES)
def test_an_epoch_goes_on(name: str, tmp_path: Path) -> None:
    """Bad samples raise ValueError and nothing else; what is read can be learnt from."""
    CASES[name][0](tmp_path)
    dataset = open_dataset(tmp_path)
    errors = []
    for sample in dataset.pictures:
        try:
            labelled = sample.read()
        except ValueError as error:
            errors.append(error)
        else:
            assert all(m.shape == labelled.image.shape[:2] and m.any() for m in labelled.masks)
    for clip in dataset.clips:
        try:
            clip.read(clip.truth_frames)
        except ValueError as error:
            errors.append(error)
    assert all("\n" not in str(error) for error in errors)


def test_what_training_would_refuse_is_not_ready(tmp_path: Path) -> None:
    """All that is held out is broken, or all that is learnt from."""
    for name, number in (("train", 0), ("train", 1), ("val", 2)):
        write_picture(tmp_path / name / "images" / f"{number}.png", number)
        write_mask(tmp_path / name / "masks" / f"{number}.png", ONE)
    assert not check_dataset(tmp_path).spoiled
    write_mask(tmp_path / "val" / "masks" / "2.png", ONE & False)
    report = check_dataset(tmp_path)
    assert "of the samples to hold out none can be used (val/images/2.png); mend them" in report.text()
    assert report.spoiled
    write_mask(tmp_path / "val" / "masks" / "2.png", ONE)
    for number in (0, 1):
        write_mask(tmp_path / "train" / "masks" / f"{number}.png", ONE[:-1])
    assert "has one usable sample; add more, so that some can be held out" in check_dataset(tmp_path).text()


def test_nothing_to_see_below_is_not_announced(tmp_path: Path) -> None:
    """ "See below" is followed by something, whatever is wrong."""
    for build, _, _ in CASES.values():
        folder = tmp_path / build.__name__
        folder.mkdir()
        build(folder)
        report = check_dataset(folder)
        assert "see below" not in report.text() or len(report.problems) > 1
    write_json(tmp_path / "empty" / "a.json", {"images": [], "annotations": [], "categories": []})
    (nothing,) = check_dataset(tmp_path / "empty").problems
    assert nothing.kind == "nothing"
    assert "see below" not in nothing.sentences[0]
    assert "it holds no samples; add pictures with masks" in nothing.sentences[0]


@pytest.mark.parametrize("separate", [False, True])
def test_semantic_masks_are_told_of_separate_parts(separate: bool, tmp_path: Path) -> None:
    for i in range(3):
        write_picture(tmp_path / "images" / f"{i}.png", i)
        write_mask(tmp_path / "masks" / f"{i}.png", ONE | TWO)
    report = check_dataset(tmp_path, separate_parts=separate)
    assert not report.spoiled
    assert report.counts["masks"] == (6 if separate else 3)
    assert ("--separate-parts" in report.text()) is not separate
    if not separate:
        assert "3 of 3 masks have several separate parts (mask 1 of images/0.png in 2, ...)" in report.text()
        assert report.text().endswith(
            "If each part of a mask is an object of its own, give --separate-parts there, too."
        )


def boxes_in_coco(root: Path) -> None:
    write_coco(root, [[[5, 5, 30, 5, 30, 20, 5, 20]], [[40, 30, 40, 50, 70, 50, 70, 30, 40, 30]]])


def boxes_in_labelme(root: Path) -> None:
    write_picture(root / "a.png")
    polygon = [[40, 30], [70, 30], [70, 50], [40, 50]]
    shapes = [("rectangle", [[5, 5], [30, 20]]), ("polygon", polygon), ("polygon", polygon[::-1])]
    write_labelme(root / "a.json", [{"label": "cat", "shape_type": k, "points": p} for k, p in shapes])


def boxes_in_yolo(root: Path) -> None:
    write_yolo(root, "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n1 0.2 0.2 0.2 0.7 0.9 0.7 0.9 0.2\n")


@pytest.mark.parametrize(("build", "count"), [(boxes_in_coco, 2), (boxes_in_labelme, 3), (boxes_in_yolo, 2)])
def test_outlines_that_are_all_boxes_are_said(build: Callable[[Path], None], count: int, tmp_path: Path) -> None:
    build(tmp_path)
    dataset = open_dataset(tmp_path)
    said = f"all {count} outlines are rectangles; were boxes exported instead of outlines?"
    assert not dataset.skipped
    assert said in dataset.describe()
    (problem,) = (p for p in check_dataset(dataset).problems if p.kind == "rectangles")
    assert said in problem.sentences[0]


def test_one_outline_that_is_no_box_is_enough(tmp_path: Path) -> None:
    write_coco(tmp_path, [[[5, 5, 30, 5, 30, 20, 5, 20]], [[40, 30, 70, 30, 55, 50, 41, 45]], runs(ONE)])
    assert "rectangles" not in open_dataset(tmp_path).describe()


def test_what_was_meant_is_suggested(tmp_path: Path) -> None:
    good_folders(tmp_path / "set")
    with pytest.raises(ValueError, match=r"Did you mean .*set\? It looks like pictures and masks"):
        open_dataset(tmp_path)
    with pytest.raises(ValueError, match=r"Did you mean .*set\? It looks like pictures and masks"):
        open_dataset(tmp_path / "set" / "masks")
    (tmp_path / "set" / "images").rename(tmp_path / "set" / "raw")
    (tmp_path / "set" / "masks").rename(tmp_path / "set" / "drawn")
    with pytest.raises(ValueError, match=r"drawn and raw hold pictures of the same names, such as 0; call one"):
        open_dataset(tmp_path / "set")


def test_good_data_is_praised(tmp_path: Path) -> None:
    report = check_dataset(good_folders(tmp_path))
    assert not report.problems
    assert report.text().endswith("Ready for training.")
    assert report.counts == {"pictures": 3, "clips": 0, "masks": 6, "unusable": 0}
    assert report.picture_sizes == (("80x60", 3),)
    assert json.loads(json.dumps(report.as_dict()))["spoiled"] is False


def test_pictures_that_look_alike_are_not_duplicates(tmp_path: Path) -> None:
    good_folders(tmp_path)
    for i in range(3):  # nearly even: only the pixels tell them apart
        grey = 128 + np.random.default_rng(i).integers(-20, 21, SIZE_HW).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / "images" / f"{i}.png")
    assert not check_dataset(tmp_path).problems


def test_nothing_that_is_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds nothing, and no format that is known\. Looked for: .*COCO.*DAVIS"):
        open_dataset(tmp_path)
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"holds a\.png, and no format"):
        open_dataset(tmp_path)
    with pytest.raises(ValueError, match="unknown format 'coc'; known formats: outlines, sav, coco"):
        open_dataset(tmp_path, format="coc")
    with pytest.raises(FileNotFoundError, match="nothing at"):
        open_dataset(tmp_path / "nowhere")
