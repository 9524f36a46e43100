"""Exports read back: the same masks, the same times, and nothing half-done on the disk."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Hashable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from sam2kit.data.mask_exports import export_coco, export_davis, export_sav, export_yolo, number_objects
from sam2kit.data.opening import open_dataset
from sam2kit.evaluation.scored_folders import score_folders
from sam2kit.media.clip import Clip
from sam2kit.media.clips import open_clip
from sam2kit.media.effects import EffectPainter
from sam2kit.media.mask_files import davis_palette, runs_to_mask
from sam2kit.media.video_exports import export_alpha, export_gif, export_video
from sam2kit.media.video_file import VideoFile
from tests.media.clip_factory import alpha_frames, number_of, write_clip

SIZE = (64, 96)
COUNT = 12
IDS = {10: 10, "cat": 1, "cat 10": 2}  # object -> number in files: whole numbers are kept
NOTHING = np.zeros(SIZE, bool)


def masks_of(index: int) -> dict[Hashable, np.ndarray]:
    """Three objects that move: one is late, one has a hole and two parts, one overlaps and is at times empty."""
    masks = {name: np.zeros(SIZE, bool) for name in ("cat 10", "cat", 10)}
    masks[10][10:30, 4 * index : 4 * index + 30] = True
    masks["cat 10"][20:50, 40:70] = index % 2 == 0
    if index < 3:
        del masks["cat"]
    else:
        masks["cat"][34:60, 4:30] = True
        masks["cat"][40:48, 10:20] = False
        masks["cat"][2:8, 70 + index : 80 + index] = True
    return masks


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    times = [Fraction(i * 40 + i * i, 1000) for i in range(COUNT)]
    return VideoFile(write_clip(tmp_path_factory.mktemp("clip") / "walk.mp4", times=times, audio="aac"))


def run(progress: object) -> None:
    """Exhausts an export; the numbers must rise to all frames."""
    numbers = list(progress)
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == COUNT


def test_video(clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    run(export_video(clip, masks_of, path, "outline", names={10: "dog"}))
    with VideoFile(path) as written, av.open(str(path)) as container:
        assert written.timestamps == clip.timestamps
        assert [s.codec_context.name for s in container.streams] == ["h264", "aac"]
        painted = EffectPainter("outline", names={10: "dog"}).paint(clip.frame(5), masks_of(5))
        assert np.abs(written.frame(5).astype(int) - painted).mean() < 12
    path, part = tmp_path / "part.mp4", range(3, 9, 2)
    painter = EffectPainter("spotlight", strength=0.5)
    assert list(export_video(clip, masks_of, path, painter, audio=False, frames=part)) == [1, 2, 3]
    with VideoFile(path) as written:
        assert not written.has_audio
        assert [number_of(frame) for frame in written.frames()] == [3, 5, 7]
    list(export_coco(clip, masks_of, tmp_path / "part.json", frames=part))
    images = json.loads((tmp_path / "part.json").read_text())["images"]
    assert [image["frame_index"] for image in images] == [3, 5, 7], "frames keep their numbers"


@pytest.mark.parametrize("effect", ["overlay", "cut_out"])
def test_side_by_side(effect: str, clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "both.mp4"
    run(export_video(clip, masks_of, path, effect, side_by_side=True))
    with VideoFile(path) as written:
        assert written.size_hw == (64, 192)
        assert written.timestamps == clip.timestamps and written.has_audio
        assert [number_of(frame[:, :96]) for frame in written.frames()] == list(range(COUNT))
        assert np.abs(written.frame(0)[:, :96].astype(int) - written.frame(0)[:, 96:]).mean() > 5


def test_gif(clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "small.gif"
    run(export_gif(clip, masks_of, path, "outline", fps=10, width=48))
    with VideoFile(path) as written:
        assert written.size_hw == (32, 48)
        assert len(written) == pytest.approx(clip.duration * 10, abs=1)
        assert written.duration == pytest.approx(clip.duration, abs=0.15)
    with pytest.raises(ValueError, match=r"name in \.gif"):
        list(export_gif(clip, masks_of, tmp_path / "a.mp4", "outline"))


@pytest.mark.parametrize("name", ["alpha.mov", "alpha.webm", "folder", "pack.zip"])
def test_alpha(name: str, clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / name
    run(export_alpha(clip, masks_of, path))
    union = np.any(list(masks_of(5).values()), axis=0)
    if path.suffix in ("", ".zip"):
        files = read_bundle(path)
        assert sorted(files) == [f"{i:05d}.png" for i in range(COUNT)]
        picture = np.array(Image.open(io.BytesIO(files["00005.png"])))
        assert np.array_equal(picture[..., 3] == 255, union)
        assert np.array_equal(picture[union][:, :3], clip.frame(5)[union])
        return
    frames = alpha_frames(path)
    assert len(frames) == COUNT
    assert ((frames[5][..., 3] > 128) == union).mean() > 0.98
    with VideoFile(path) as written:
        assert written.has_audio


def read_bundle(path: Path) -> dict[str, bytes]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["davis", "davis.zip"])
def test_davis(name: str, clip: Clip, tmp_path: Path) -> None:
    run(export_davis(clip, masks_of, tmp_path / name))
    files = read_bundle(tmp_path / name)
    table = json.loads(files.pop("objects.json"))
    assert [(row["object_id"], row["number"]) for row in table] == list(IDS.items())
    alone = {key: np.array(Image.open(io.BytesIO(files.pop(key)))) for key in sorted(files) if "objects/" in key}
    assert sorted(files) == [f"{i:05d}.png" for i in range(COUNT)]
    for index in range(COUNT):
        picture, masks = Image.open(io.BytesIO(files[f"{index:05d}.png"])), masks_of(index)
        assert picture.getpalette() == davis_palette().ravel().tolist()
        overlap = np.sum(list(masks.values()), axis=0).max() > 1
        wanted = np.zeros(SIZE, int)
        large_first = sorted(IDS.items(), key=lambda pair: (-masks.get(pair[0], NOTHING).sum(), -pair[1]))
        for object_id, number in large_first:
            mask = masks.get(object_id, NOTHING)
            wanted[mask] = number
            found = alone.pop(f"objects/{number}/{index:05d}.png", None)
            assert (found is not None) == (overlap and mask.any()), "else the palette picture holds all there is"
            assert found is None or np.array_equal(found == 255, mask), "nothing is lost where objects overlap"
        assert np.array_equal(np.array(picture), wanted), "the smaller one is on top"
    assert not alone
    assert davis_palette()[[1, 2, 3, 255]].tolist() == [[128, 0, 0], [0, 128, 0], [128, 128, 0], [224, 224, 192]]


def test_overlapping_masks_are_read_back_without_loss(clip: Clip, tmp_path: Path) -> None:
    masks = tmp_path / "DAVIS" / "Annotations" / "walk"
    run(export_davis(clip, masks_of, masks))
    frames = tmp_path / "DAVIS" / "JPEGImages" / "walk"
    frames.mkdir(parents=True)
    for index, frame in enumerate(clip.frames()):
        Image.fromarray(frame).save(frames / f"{index:05d}.jpg")

    (walk,) = open_dataset(tmp_path / "DAVIS").clips
    assert list(walk.object_ids) == sorted(IDS.values())
    read = walk.read(list(walk.truth_frames)).masks
    for index in range(COUNT):
        for object_id, number in IDS.items():
            wanted = masks_of(index).get(object_id, NOTHING)
            assert np.array_equal(read[number][index], wanted), f"object {object_id} on frame {index}"

    assert {row.object_id: row.scores["J"] for row in score_folders(masks, masks)} == {"1": 1.0, "2": 1.0, "10": 1.0}
    hidden = tmp_path / "hidden"  # as the palette pictures alone have it
    shutil.copytree(masks, hidden, ignore=shutil.ignore_patterns("objects"))
    scores = {row.object_id: row.scores["J"] for row in score_folders(hidden, masks)}
    assert min(scores.values()) < 1 == max(scores.values()), "the part of an object that another one covers counts"


def test_too_many_for_a_palette(tmp_path: Path) -> None:
    clip = open_clip(np.zeros((1, 16, 16, 3), np.uint8))
    many = {i: mask.reshape(16, 16) for i, mask in enumerate(np.eye(256, dtype=bool))}
    with pytest.raises(ValueError, match="at most 255 objects, got 256"):
        list(export_davis(clip, lambda _: many, tmp_path / "a"))
    assert list(tmp_path.iterdir()) == []


def test_coco(clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    run(export_coco(clip, masks_of, path, names={"cat": "Tom"}))
    coco = COCO(str(path))
    id_of = {number: object_id for object_id, number in IDS.items()}
    for annotation in coco.anns.values():
        mask = masks_of(annotation["image_id"] - 1)[id_of[annotation["track_id"]]]
        assert np.array_equal(coco.annToMask(annotation).astype(bool), mask)
        x, y, width, height = annotation["bbox"]
        assert annotation["area"] == mask[y : y + height, x : x + width].sum() == mask.sum()
    assert len(coco.imgs) == COUNT
    assert len(coco.anns) == sum(mask.any() for i in range(COUNT) for mask in masks_of(i).values())
    assert {"number": 1, "object_id": "cat", "name": "Tom"} in coco.dataset["objects"]


def test_sav(clip: Clip, tmp_path: Path) -> None:
    run(export_sav(clip, masks_of, tmp_path / "walk.json"))
    content = json.loads((tmp_path / "walk.json").read_text())
    assert content["video_id"] == "walk"
    assert (content["video_frame_count"], content["video_height"], content["video_width"]) == (COUNT, *SIZE)
    assert content["video_duration"] == pytest.approx(clip.duration)
    assert (content["masklet_num"], content["masklet_id"]) == (3, [10, 1, 2])
    assert content["masklet_first_appeared_frame"] == [0, 3, 0]
    assert content["masklet_frame_count"] == [12, 9, 6]
    for index, runs in enumerate(content["masklet"]):
        for object_id, run_lengths in zip(IDS, runs, strict=True):
            assert isinstance(run_lengths["counts"], str)
            assert np.array_equal(runs_to_mask(run_lengths), masks_of(index).get(object_id, NOTHING))


EXPORTS = {
    "a.mp4": lambda clip, masks, path: export_video(clip, masks, path, "overlay"),
    "c.gif": lambda clip, masks, path: export_gif(clip, masks, path, "overlay"),
    "d.webm": export_alpha,
    "e": export_alpha,
    "g.zip": export_davis,
    "h.json": export_coco,
    "i": export_yolo,
    "j.json": export_sav,
}


@pytest.mark.parametrize("name", EXPORTS)
def test_all_or_nothing(name: str, clip: Clip, tmp_path: Path) -> None:
    """Cancelled or failed, an export leaves nothing; else it is there with the last number."""
    path = tmp_path / name
    progress = EXPORTS[name](clip, masks_of, path)
    for _ in range(4):
        next(progress)
    progress.close()
    assert list(tmp_path.iterdir()) == []

    def wrong(index: int) -> dict[int, np.ndarray]:
        return {1: np.ones((4, 4) if index == 7 else SIZE, bool)}

    with pytest.raises(ValueError, match=r"object 1 in frame 7 is \[4, 4\]"):
        list(EXPORTS[name](clip, wrong, path))
    assert list(tmp_path.iterdir()) == []
    progress = EXPORTS[name](clip, lambda _: {}, path)  # no objects at all
    while next(progress) < COUNT:
        assert not path.exists()
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert number_objects(clip, lambda _: {}) == {}


def test_a_folder_in_use_is_left_alone(clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="not an empty folder"):
        list(export_davis(clip, masks_of, tmp_path))
    assert (tmp_path / "mine.txt").read_text() == "keep"
    (tmp_path / "new").mkdir()
    run(export_davis(clip, masks_of, tmp_path / "new"))
