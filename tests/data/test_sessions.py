"""Saved sessions are truth to learn from."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from sam2kit.data.check import check_dataset
from sam2kit.data.convert import convert
from sam2kit.data.mask_exports import export_coco
from sam2kit.data.opening import open_dataset
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.video import VideoPredictor
from tests.data.factory import block, picture
from tests.media.clip_factory import write_clip

DRAWN = block(10, 20, 40, 60, (64, 96))


@pytest.fixture
def saved(toy: SAM2, tmp_path: Path) -> Path:
    """A folder with a session of two objects over six frames, tracked to the fourth, and its clip."""
    predictor = VideoPredictor(toy)
    session = predictor.open(write_clip(tmp_path / "clip.mp4", 6))
    with session.clip:
        predictor.add_mask(session, 0, "cup", DRAWN)
        predictor.add_points(session, 0, "dog", [(70, 50)], [1])
        list(predictor.propagate(session, frames=3))
        predictor.save(session, tmp_path / "work.safetensors")
    return tmp_path


def test_answers_and_given_masks_are_truth(saved: Path) -> None:
    dataset = open_dataset(saved)
    assert dataset.format == "sam2kit sessions"
    (clip,) = pickle.loads(pickle.dumps(dataset.clips))
    assert (clip.frame_count, list(clip.truth_frames), list(clip.object_ids)) == (6, [0, 1, 2, 3], [1, 2])
    theirs = clip.read()
    assert theirs.frames.shape == (4, 64, 96, 3)
    assert np.array_equal(theirs.masks[1][0], DRAWN), "a mask that somebody gave is the truth itself"
    assert clip.frame(5).shape == (64, 96, 3)
    assert check_dataset(saved).counts["clips"] == 1
    for format_ in ("davis", "sav", "coco"):
        convert(dataset, format_, saved / "out" / format_)
        ours = open_dataset(saved / "out" / format_).clips[0].read()
        assert np.array_equal(ours.frames, theirs.frames)
        assert ours.masks.keys() == theirs.masks.keys()
        assert all(np.array_equal(ours.masks[i], theirs.masks[i]) for i in ours.masks)
    shutil.rmtree(saved / "out")
    (saved / "work.safetensors").rename(saved / "work.sam2kit")  # as the README and `sam2kit video` name them
    assert [clip.name for clip in open_dataset(saved).clips] == ["work.sam2kit"]
    assert len(open_dataset(saved / "work.sam2kit").clips) == 1


def test_the_clip_is_looked_for_beside_the_file(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(saved / "work.safetensors", elsewhere)
    shutil.move(saved / "clip.mp4", elsewhere)
    assert len(open_dataset(elsewhere).clips) == 1
    write_clip(elsewhere / "clip.mp4", 5)
    with pytest.raises(ValueError, match=r"work\.safetensors belongs to another clip"):
        open_dataset(elsewhere).clips[0].read([0])
    (elsewhere / "clip.mp4").unlink()
    report = check_dataset(elsewhere)
    assert report.has_errors
    assert "work.safetensors needs its clip" in report.text()
    assert "put the clip beside it" in report.text()


def test_an_export_beside_a_session_that_finds_no_clip(
    saved: Path, toy: SAM2, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As `sam2kit video --export coco` leaves them; the session says where the clip is, and the export does not."""
    out = tmp_path_factory.mktemp("out")
    session = VideoPredictor(toy).load(saved / "work.safetensors")
    with session.clip:
        list(export_coco(session.clip, session.masks, out / "clip_coco.json"))
    assert not open_dataset(out).clips
    shutil.move(saved / "work.safetensors", out / "session.sam2kit")
    assert [clip.name for clip in open_dataset(out).clips] == ["session.sam2kit"]


def test_a_session_that_does_not_say_finds_the_clip_of_its_name(
    saved: Path, toy: SAM2, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The app writes no path into walk.session.safetensors, which belongs beside walk.mp4."""
    folder = tmp_path_factory.mktemp("own")
    predictor = VideoPredictor(toy)
    session = predictor.load(saved / "work.safetensors")
    with session.clip:
        predictor.save(session, folder / "walk.session.safetensors", with_path=False)
    (text,) = open_dataset(folder).skipped
    assert "does not say which clip it is about; put the clip beside it, as walk.mp4" in text
    shutil.copy(saved / "clip.mp4", folder / "walk.mp4")
    (clip,) = open_dataset(folder).clips
    assert clip.read([0]).frames.shape == (1, 64, 96, 3)


def test_a_session_of_a_picture_holds_its_picture(toy: SAM2, tmp_path: Path) -> None:
    predictor, image, given = VideoPredictor(toy), picture(3), block(10, 5, 30, 40)
    session = predictor.open(image)
    predictor.add_mask(session, 0, "cup", given)
    session.save(tmp_path / "photo.sam2kit")
    (sample,) = pickle.loads(pickle.dumps(open_dataset(tmp_path).pictures))
    found = sample.read()
    assert np.array_equal(found.image, image)
    assert [np.array_equal(mask, given) for mask in found.picture_masks] == [True]
