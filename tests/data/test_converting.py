"""Datasets carried from one format to another, and back, with every pixel; what is exported of a clip is data again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from pycocotools.coco import COCO

from sam2kit.data.check import check_dataset
from sam2kit.data.convert import convert
from sam2kit.data.mask_exports import export_coco, export_davis, export_sav, export_yolo
from sam2kit.data.opening import open_dataset
from sam2kit.data.report import contact_sheet
from sam2kit.data.sample import Dataset
from sam2kit.media.clip import Clip
from sam2kit.media.clips import open_clip
from sam2kit.media.pictures import read_picture
from tests.data.factory import block, hard_masks, runs, write_coco, write_davis, write_labels, write_picture, write_sav
from tests.media.clip_factory import write_clip

ONE, TWO = block(5, 5, 20, 30), block(30, 40, 50, 70)


@pytest.fixture
def pictures(tmp_path: Path) -> Dataset:
    """Hard masks in two splits, overlapping ones too; one photo lies sideways."""
    root = tmp_path / "source"
    for split in ("train", "val"):
        masks = [*hard_masks().values(), ONE, ONE | TWO] if split == "train" else [TWO]
        write_coco(root / split, [runs(mask) for mask in masks])
        write_picture(root / split / "a.png", len(split), orientation=1 if split == "train" else 6)
    return open_dataset(root)


@pytest.fixture
def clips(tmp_path: Path) -> Dataset:
    """Two clips; one has frames without truth, and one without objects."""
    masks = dict(enumerate(hard_masks().values(), start=1))
    bear = [masks, None, {2: ONE, 7: TWO}, {}, None]
    root = write_davis(tmp_path / "source", {"bear": bear, "cow": [{1: ONE}] * 3})
    (root / "ImageSets").mkdir()
    (root / "ImageSets" / "val.txt").write_text("cow\n")
    return open_dataset(root)


def assert_same(found: Dataset, wanted: Dataset, *, numbers: bool) -> None:
    """Whether frames, masks and labels came back; the numbers of objects only where they mean something."""
    by_split = {sample.split: sample for sample in found.samples}
    assert len(by_split) == len(found) == len(wanted)
    for original in wanted.samples:
        sample = by_split[original.split]
        assert sample.frame_count == original.frame_count
        assert list(sample.truth_frames) == list(original.truth_frames)
        ours, theirs = sample.read(), original.read()
        assert np.array_equal(ours.frames, theirs.frames)
        assert not numbers or list(sample.object_ids) == list(original.object_ids)
        assert not numbers or ours.masks.keys() == theirs.masks.keys()
        assert np.array_equal(list(ours.masks.values()), list(theirs.masks.values()))
        for index in range(original.frame_count):
            assert np.array_equal(sample.frame(index), original.frame(index))


@pytest.mark.parametrize("way", ["coco", "yolo", "yolo coco", "coco yolo coco", "davis", "sav"])
def test_pictures_come_back(way: str, pictures: Dataset, tmp_path: Path) -> None:
    """For DAVIS and SA-V, as clips of one frame."""
    dataset = pictures
    for step, format_ in enumerate(way.split()):
        result = convert(dataset, format_, tmp_path / f"{step}")
        assert (result.pictures, result.masks, result.skipped) == (2, 9, [])
        dataset = open_dataset(result.path)
        assert not dataset.skipped
    assert_same(dataset, pictures, numbers=False)
    if way in ("davis", "sav"):
        assert "keeps no classes: cat" in result.text()
    else:
        assert [s.read().labels for s in dataset.samples] == [s.read().labels for s in pictures.samples]


@pytest.mark.parametrize("way", ["davis", "sav", "coco", "sav davis", "davis coco sav"])
def test_clips_come_back(way: str, clips: Dataset, tmp_path: Path) -> None:
    dataset = clips
    for format_ in way.split():
        assert convert(dataset, format_, tmp_path / format_).clips == 2
        dataset = open_dataset(tmp_path / format_)
        assert not [note for note in dataset.notes if note.kind != "void"]
    assert_same(dataset, clips, numbers=True)


def test_what_davis_cannot_hold(tmp_path: Path) -> None:
    """Overlapping objects get their own files; object 0 is no background."""
    write_sav(tmp_path / "source", [[runs(ONE), runs(ONE | TWO)], [runs(ONE), runs(ONE & False)]], masklet_id=[0, 4])
    dataset = open_dataset(tmp_path / "source")
    text = convert(dataset, "davis", tmp_path / "davis").text()
    assert "1 clips have overlapping objects" in text
    assert "one file per object" in text
    assert (tmp_path / "davis" / "Annotations" / "clip" / "004" / "00000.png").is_file()
    assert_same(open_dataset(tmp_path / "davis"), dataset, numbers=True)
    write_sav(tmp_path / "zero", [[runs(ONE)]] * 2)
    result = convert(open_dataset(tmp_path / "zero"), "davis", tmp_path / "one")
    assert "objects count from 1 instead of 0" in result.text()
    assert list(open_dataset(tmp_path / "one").clips[0].object_ids) == [1]


def test_a_polygon_tells_how_much_it_misses(pictures: Dataset, tmp_path: Path) -> None:
    (note,) = convert(pictures, "yolo", tmp_path / "yolo").notes
    assert "masks are not given back exactly by a YOLO polygon" in note
    exact = json.loads((tmp_path / "yolo" / "exact_masks.json").read_text())["masks"]["labels/train/a.txt"]
    file = tmp_path / "yolo" / "labels" / "train" / "a.txt"
    lines = file.read_text().splitlines()
    assert set(exact) < set(lines)
    kept = [name for name, line in zip(hard_masks(), lines, strict=False) if line not in exact]
    assert {"ring", "pixel", "line", "border"} <= set(kept), "a polygon alone can hold these"
    file.write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")  # somebody drew again: the kept masks no longer count
    (mask,) = open_dataset(tmp_path / "yolo").pictures[0].read().picture_masks
    assert not any(np.array_equal(mask, hard) for hard in hard_masks().values())


def test_yolo_leaves_clips_behind(clips: Dataset, tmp_path: Path) -> None:
    result = convert(clips, "yolo", tmp_path / "yolo")
    assert "YOLO knows no clips" in result.text()
    assert (result.pictures, len(open_dataset(tmp_path / "yolo"))) == (6, 6)


def test_supervision_and_pycocotools_read_ours(clips: Dataset, tmp_path: Path) -> None:
    write_coco(tmp_path / "yolo source", [runs(hard_masks()["ring"]), runs(TWO)])
    convert(open_dataset(tmp_path / "yolo source"), "yolo", tmp_path / "yolo")
    places = [str(tmp_path / "yolo" / name) for name in ("images", "labels", "data.yaml")]
    ((_, _, found),) = sv.DetectionDataset.from_yolo(*places, force_masks=True)
    assert np.array_equal(found.mask, [hard_masks()["ring"], TWO])
    convert(clips, "coco", tmp_path / "coco")
    coco = COCO(tmp_path / "coco" / "annotations" / "instances.json")
    first = coco.loadAnns(coco.getAnnIds(imgIds=1))
    assert [a["track_id"] for a in first] == list(range(1, 7))
    assert np.array_equal(coco.annToMask(first[0]).astype(bool), hard_masks()["ring"])


def test_what_cannot_be_converted(pictures: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot convert to 'voc'; known formats: coco, yolo, davis, sav"):
        convert(pictures, "voc", tmp_path / "out")
    with pytest.raises(ValueError, match="not an empty folder"):
        convert(pictures, "coco", tmp_path)
    with pytest.raises(ValueError, match="no usable sample to convert"):
        convert(Dataset(tmp_path, "nothing"), "coco", tmp_path / "out")
    broken = write_picture(tmp_path / "broken" / "images" / "a.png").parent.parent
    write_labels(broken / "masks" / "a.png", [ONE.T])
    with pytest.raises(ValueError, match=r"no sample of .* can be read: .*a\.png is 60x80"):
        convert(open_dataset(broken), "coco", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write_picture(broken / "images" / "b.png", 1)
    write_labels(broken / "masks" / "b.png", [ONE])
    result = convert(open_dataset(broken), "coco", tmp_path / "out")
    assert (result.pictures, len(result.skipped)) == (1, 1)
    assert "1 samples were skipped" in result.text()


def test_contact_sheet(pictures: Dataset, clips: Dataset, tmp_path: Path) -> None:
    sheet = read_picture(contact_sheet(pictures, tmp_path / "sheets" / "a.png", columns=2))
    assert sheet.shape == (180 + 20 + 12, 2 * 246 + 6, 3)
    assert not np.array_equal(sheet[6:186, 6:246], np.full((180, 240, 3), 250))
    assert contact_sheet(clips, tmp_path / "b.png").is_file()
    (tmp_path / "source" / "train" / "a.png").write_text("no picture")
    assert not np.array_equal(read_picture(contact_sheet(pictures, tmp_path / "c.png", columns=2)), sheet)
    with pytest.raises(ValueError, match="no sample that could be shown"):
        contact_sheet(Dataset(tmp_path, "nothing"), tmp_path / "d.png")


def mask_of(frame: int, object_id: object) -> np.ndarray:
    """bool [H, W] of an object on a frame of the whole clip; not the same on any two frames."""
    y, x = (5, 4 + 3 * frame) if object_id == 7 else (40, 60 - 2 * frame)
    return block(y, x, y + 18, x + 20, (64, 96))


@pytest.fixture
def whole(tmp_path: Path) -> Clip:
    return open_clip(write_clip(tmp_path / "walk.mp4", 12))


@pytest.fixture
def part(whole: Clip) -> tuple[Clip, Callable]:
    """Frames 2, 4, 6 and 8, and the masks on them."""
    cut = whole.cut(2, 10, 2)
    assert list(cut.source_frames) == [2, 4, 6, 8]
    assert list(cut.cut(1, 4, 2).source_frames) == [4, 8], "a cut of a cut counts in the whole clip"
    return cut, lambda i: {n: mask_of(cut.source_frames[i], n) for n in (7, "cup")}


@pytest.mark.parametrize("export", [export_coco, export_sav])
def test_masks_of_a_part_are_read_beside_the_whole_clip(
    export: Callable, whole: Clip, part: tuple, tmp_path: Path
) -> None:
    list(export(*part, tmp_path / "walk_masks.json"))
    dataset = open_dataset(tmp_path)
    assert not dataset.skipped
    (clip,) = dataset.clips
    assert list(clip.truth_frames) == [2, 4, 6, 8]
    assert sorted(clip.object_ids) == [1, 7], "the whole number is kept, the word gets the lowest that is free"
    read = clip.read([4, 8])
    for row, frame in enumerate((4, 8)):
        assert np.array_equal(read.masks[7][row], mask_of(frame, 7))
        assert np.array_equal(read.masks[1][row], mask_of(frame, "cup"))
        assert np.array_equal(read.frames[row], whole.frame(frame))


def test_coco_says_which_clip_is_missing(whole: Clip, part: tuple, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    list(export_coco(*part, tmp_path / "alone" / "masks.json"))
    images = json.loads((tmp_path / "alone" / "masks.json").read_text())["images"]
    assert [(i["frame_index"], i["file_name"]) for i in images] == [(n, f"0000{n}.jpg") for n in (2, 4, 6, 8)]
    assert [i["seconds"] for i in images] == [pytest.approx(float(whole.timestamps[n])) for n in (2, 4, 6, 8)]
    (tmp_path / "walk.mp4").rename(tmp_path / "other.mp4")
    (text,) = open_dataset(tmp_path / "alone").skipped
    assert "is about frames of walk.mp4, which is not beside it; put the clip there" in text


def test_yolo_holds_pictures_and_class_names(whole: Clip, part: tuple, tmp_path: Path) -> None:
    list(export_yolo(*part, tmp_path / "yolo"))
    dataset = open_dataset(tmp_path / "yolo")
    assert (dataset.format, dataset.skipped, dataset.classes) == ("YOLO-seg", [], ("object", "cup"))
    assert [p.name for p in dataset.pictures] == [f"images/0000{n}.jpg" for n in (2, 4, 6, 8)]
    read = dataset.pictures[1].read()
    assert read.picture_labels == ["object", "cup"]
    assert [np.array_equal(m, mask_of(4, n)) for m, n in zip(read.picture_masks, (7, "cup"), strict=True)] == [
        True,
        True,
    ]
    assert np.abs(read.image.astype(int) - whole.frame(4)).mean() < 6
    assert not check_dataset(dataset).has_errors


def test_davis_masks_beside_the_frames_of_the_clip(whole: Clip, part: tuple, tmp_path: Path) -> None:
    list(export_davis(*part, tmp_path / "data" / "Annotations" / "walk"))
    list(export_yolo(whole, lambda _: {}, tmp_path / "frames"))
    (tmp_path / "data" / "JPEGImages").mkdir()
    shutil.move(tmp_path / "frames" / "images", tmp_path / "data" / "JPEGImages" / "walk")
    (clip,) = open_dataset(tmp_path / "data").clips
    assert (list(clip.object_ids), list(clip.truth_frames)) == ([1, 7], [2, 4, 6, 8])
    assert np.array_equal(clip.read([6]).masks[7][0], mask_of(6, 7))
