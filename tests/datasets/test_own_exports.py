"""What sam2kit exports of a clip is data again, and frames count in the whole clip."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sam2kit.datasets.check import check_dataset
from sam2kit.datasets.opening import open_dataset
from sam2kit.media.clips import Clip, open_clip
from sam2kit.media.mask_exports import export_coco, export_davis, export_sav, export_yolo
from tests.media.clip_factory import write_clip

SIZE = (64, 96)
EXPORTS: dict[str, Callable[..., object]] = {"coco": export_coco, "sav": export_sav, "davis": export_davis}


def mask(frame: int, object_id: object) -> np.ndarray:
    """bool [H, W] of an object on a frame of the whole clip; not the same on any two frames."""
    found = np.zeros(SIZE, bool)
    y, x = (5, 4 + 3 * frame) if object_id == 7 else (40, 60 - 2 * frame)
    found[y : y + 18, x : x + 20] = True
    return found


def part_of(whole: Clip) -> tuple[Clip, Callable[[int], dict[object, np.ndarray]]]:
    """Frames 2, 4, 6 and 8, and the masks on them."""
    part = whole.cut(2, 10, 2)
    assert list(part.source_frames) == [2, 4, 6, 8]
    return part, lambda i: {n: mask(part.source_frames[i], n) for n in (7, "cup")}


@pytest.fixture
def whole(tmp_path: Path) -> Clip:
    return open_clip(write_clip(tmp_path / "walk.mp4", 12))


def test_a_cut_of_a_cut_counts_in_the_whole_clip(whole: Clip) -> None:
    assert list(whole.cut(2, 12, 3).cut(1, 4, 2).source_frames) == [5, 11]
    assert list(whole.source_frames) == list(range(12))


@pytest.mark.parametrize("kind", ["coco", "sav"])
def test_masks_of_a_part_are_read_beside_the_whole_clip(kind: str, whole: Clip, tmp_path: Path) -> None:
    part, masks_of = part_of(whole)
    list(EXPORTS[kind](part, masks_of, tmp_path / f"walk_{kind}.json"))
    dataset = open_dataset(tmp_path)
    assert not dataset.skipped
    (clip,) = dataset.clips
    assert list(clip.truth_frames) == [2, 4, 6, 8]
    assert sorted(clip.object_ids) == [1, 7], "the whole number is kept, the word gets the lowest that is free"
    read = clip.read([4, 8])
    for row, frame in enumerate((4, 8)):
        assert np.array_equal(read.masks[7][row], mask(frame, 7))
        assert np.array_equal(read.masks[1][row], mask(frame, "cup"))
        assert np.array_equal(read.frames[row], whole.frame(frame))


def test_coco_says_which_clip_is_missing(whole: Clip, tmp_path: Path) -> None:
    part, masks_of = part_of(whole)
    (tmp_path / "alone").mkdir()
    list(export_coco(part, masks_of, tmp_path / "alone" / "masks.json"))
    (tmp_path / "walk.mp4").rename(tmp_path / "other.mp4")
    (text,) = open_dataset(tmp_path / "alone").skipped
    assert "is about frames of walk.mp4, which is not beside it; put the clip there" in text


def test_yolo_holds_pictures_and_class_names(whole: Clip, tmp_path: Path) -> None:
    part, masks_of = part_of(whole)
    list(export_yolo(part, masks_of, tmp_path / "yolo"))
    dataset = open_dataset(tmp_path / "yolo")
    assert dataset.format == "YOLO-seg"
    assert not dataset.skipped
    assert dataset.classes == ("object", "cup")
    assert [p.name for p in dataset.pictures] == [f"images/0000{n}.jpg" for n in (2, 4, 6, 8)]
    read = dataset.pictures[1].read()
    assert read.labels == ["object", "cup"]
    assert [np.array_equal(m, mask(4, n)) for m, n in zip(read.masks, (7, "cup"), strict=True)] == [True, True]
    assert np.abs(read.image.astype(int) - whole.frame(4)).mean() < 6
    assert not check_dataset(dataset).spoiled


def test_file_names_and_frame_indices_count_in_the_whole_clip(whole: Clip, tmp_path: Path) -> None:
    part, masks_of = part_of(whole)
    list(export_davis(part, masks_of, tmp_path / "davis"))
    assert sorted(p.name for p in (tmp_path / "davis").glob("*.png")) == [f"0000{n}.png" for n in (2, 4, 6, 8)]
    list(export_coco(part, masks_of, tmp_path / "a.json"))
    images = json.loads((tmp_path / "a.json").read_text())["images"]
    assert [(i["frame_index"], i["file_name"]) for i in images] == [(n, f"0000{n}.jpg") for n in (2, 4, 6, 8)]
    assert [i["seconds"] for i in images] == [pytest.approx(float(whole.timestamps[n])) for n in (2, 4, 6, 8)]


def test_masks_beside_the_frames_of_the_clip(whole: Clip, tmp_path: Path) -> None:
    """DAVIS, with the numbers that the objects have."""
    part, masks_of = part_of(whole)
    list(export_davis(part, masks_of, tmp_path / "data" / "Annotations" / "walk"))
    folder = tmp_path / "data" / "JPEGImages" / "walk"
    list(export_yolo(whole, lambda _: {}, tmp_path / "frames"))
    folder.parent.mkdir(parents=True)
    shutil.move(tmp_path / "frames" / "images", folder)
    (clip,) = open_dataset(tmp_path / "data").clips
    assert (list(clip.object_ids), list(clip.truth_frames)) == ([1, 7], [2, 4, 6, 8])
    assert np.array_equal(clip.read([6]).masks[7][0], mask(6, 7))
