"""Datasets carried from one format to another, and back, with every pixel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from pycocotools.coco import COCO

from sam2kit.datasets.contact_sheet import contact_sheet
from sam2kit.datasets.convert import convert
from sam2kit.datasets.opening import open_dataset
from sam2kit.datasets.samples import Dataset
from sam2kit.media.pictures import read_picture
from tests.datasets.factory import (
    block,
    hard_masks,
    picture,
    runs,
    write_coco,
    write_davis,
    write_labels,
    write_picture,
    write_sav,
)

ONE, TWO = block(5, 5, 20, 30), block(30, 40, 50, 70)


@pytest.fixture
def pictures(tmp_path: Path) -> Dataset:
    """Hard masks in two splits, overlapping ones too; one photo lies sideways."""
    root = tmp_path / "source"
    for split in ("train", "val"):
        masks = [*hard_masks().values(), ONE, ONE | TWO] if split == "train" else [TWO]
        write_coco(root / split, [runs(mask) for mask in masks])
        write_picture(root / split / "a.png", len(split))
    write_picture(root / "val" / "a.png", 9, orientation=6)
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


def assert_same_pictures(found: Dataset, wanted: Dataset) -> None:
    assert [s.split for s in found.pictures] == [s.split for s in wanted.pictures]
    for sample, original in zip(found.pictures, wanted.pictures, strict=True):
        ours, theirs = sample.read(), original.read()
        assert np.array_equal(ours.image, theirs.image)
        assert ours.labels == theirs.labels
        assert len(ours.masks) == len(theirs.masks)
        assert all(np.array_equal(a, b) for a, b in zip(ours.masks, theirs.masks, strict=True))


def assert_same_clips(found: Dataset, wanted: Dataset) -> None:
    by_name = {clip.name.rsplit("/", 1)[-1]: clip for clip in found.clips}
    assert len(by_name) == len(wanted.clips)
    for original in wanted.clips:
        clip = by_name[original.name.rsplit("/", 1)[-1]]
        assert (clip.split, clip.frame_count) == (original.split, original.frame_count)
        assert list(clip.truth_frames) == list(original.truth_frames)
        assert list(clip.object_ids) == list(original.object_ids)
        ours, theirs = clip.read(clip.truth_frames), original.read(original.truth_frames)
        assert np.array_equal(ours.frames, theirs.frames)
        assert ours.masks.keys() == theirs.masks.keys()
        assert all(np.array_equal(ours.masks[i], theirs.masks[i]) for i in ours.masks)
        for index in range(clip.frame_count):
            assert np.array_equal(clip.frame(index), original.frame(index))


@pytest.mark.parametrize("way", [["coco"], ["yolo"], ["yolo", "coco"], ["coco", "yolo", "coco"]])
def test_pictures_come_back(way: list[str], pictures: Dataset, tmp_path: Path) -> None:
    dataset = pictures
    for step, format_ in enumerate(way):
        result = convert(dataset, format_, tmp_path / f"{step}")
        assert (result.pictures, result.masks, result.skipped) == (2, 9, [])
        dataset = open_dataset(tmp_path / f"{step}")
        assert not dataset.skipped
    assert_same_pictures(dataset, pictures)


@pytest.mark.parametrize("way", [["davis"], ["sav"], ["coco"], ["sav", "davis"], ["davis", "coco", "sav"]])
def test_clips_come_back(way: list[str], clips: Dataset, tmp_path: Path) -> None:
    dataset = clips
    for step, format_ in enumerate(way):
        assert convert(dataset, format_, tmp_path / f"{step}").clips == 2
        dataset = open_dataset(tmp_path / f"{step}")
        assert not [note for note in dataset.notes if note.kind != "void"]
    assert_same_clips(dataset, clips)


def test_pictures_as_clips_of_one_frame(pictures: Dataset, tmp_path: Path) -> None:
    for format_ in ("davis", "sav"):
        result = convert(pictures, format_, tmp_path / format_)
        assert any("keeps no classes: cat" in note for note in result.notes)
        found = open_dataset(tmp_path / format_)
        by_split = {clip.split: clip for clip in found.clips}
        for sample in pictures.pictures:
            ours, theirs = by_split[sample.split].read([0]), sample.read()
            assert np.array_equal(ours.frames[0], theirs.image)
            assert [m[0].tolist() for m in ours.masks.values()] == [m.tolist() for m in theirs.masks]


def test_overlapping_objects_get_their_own_files(tmp_path: Path) -> None:
    write_sav(tmp_path / "source", [[runs(ONE), runs(ONE | TWO)], [runs(ONE), runs(ONE & False)]], masklet_id=[0, 4])
    dataset = open_dataset(tmp_path / "source")
    result = convert(dataset, "davis", tmp_path / "davis")
    assert "1 clips have overlapping objects" in result.text()
    assert "one file per object" in result.text()
    assert (tmp_path / "davis" / "Annotations" / "clip" / "004" / "00000.png").is_file()
    assert_same_clips(open_dataset(tmp_path / "davis"), dataset)


def test_object_zero_is_no_background(tmp_path: Path) -> None:
    write_sav(tmp_path / "source", [[runs(ONE)]] * 2)
    result = convert(open_dataset(tmp_path / "source"), "davis", tmp_path / "davis")
    assert "objects count from 1 instead of 0" in result.text()
    (clip,) = open_dataset(tmp_path / "davis").clips
    assert list(clip.object_ids) == [1]


def test_a_polygon_tells_how_much_it_misses(pictures: Dataset, tmp_path: Path) -> None:
    result = convert(pictures, "yolo", tmp_path / "yolo")
    (note,) = result.notes
    assert "masks are not given back exactly by a YOLO polygon" in note
    exact = json.loads((tmp_path / "yolo" / "exact_masks.json").read_text())["masks"]
    file = tmp_path / "yolo" / "labels" / "train" / "a.txt"
    lines = file.read_text().splitlines()
    assert set(exact["labels/train/a.txt"]) < set(lines)
    kept = [name for name, line in zip(hard_masks(), lines, strict=False) if line not in exact["labels/train/a.txt"]]
    assert {"ring", "pixel", "line", "border"} <= set(kept), "a polygon alone can hold these"
    changed = "0 0.1 0.1 0.5 0.1 0.5 0.5"
    file.write_text(changed + "\n")  # somebody drew again: the kept masks no longer count
    (mask,) = open_dataset(tmp_path / "yolo").pictures[0].read().masks
    assert not any(np.array_equal(mask, hard) for hard in hard_masks().values())


def test_yolo_leaves_clips_behind(clips: Dataset, tmp_path: Path) -> None:
    result = convert(clips, "yolo", tmp_path / "yolo")
    assert "YOLO knows no clips" in result.text()
    assert result.pictures == 6
    assert len(open_dataset(tmp_path / "yolo")) == 6


def test_supervision_reads_our_yolo(tmp_path: Path) -> None:
    write_coco(tmp_path / "source", [runs(hard_masks()["ring"]), runs(TWO)])
    convert(open_dataset(tmp_path / "source"), "yolo", tmp_path / "yolo")
    yolo = sv.DetectionDataset.from_yolo(
        str(tmp_path / "yolo" / "images"), str(tmp_path / "yolo" / "labels"), str(tmp_path / "yolo" / "data.yaml"), True
    )
    ((_, _, found),) = yolo
    assert np.array_equal(found.mask, [hard_masks()["ring"], TWO])


def test_pycocotools_reads_our_coco(clips: Dataset, tmp_path: Path) -> None:
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
    path = contact_sheet(pictures, tmp_path / "sheets" / "a.png", columns=2)
    sheet = read_picture(path)
    assert sheet.shape == (180 + 20 + 12, 2 * 246 + 6, 3)
    assert not np.array_equal(sheet[6:186, 6:246], np.full((180, 240, 3), 250))
    assert contact_sheet(clips, tmp_path / "b.png").is_file()
    (tmp_path / "source" / "train" / "a.png").write_text("no picture")
    assert not np.array_equal(read_picture(contact_sheet(pictures, tmp_path / "c.png", columns=2)), sheet)
    with pytest.raises(ValueError, match="no sample that could be shown"):
        contact_sheet(Dataset(tmp_path, "nothing"), tmp_path / "d.png")
    assert picture(0).any()
