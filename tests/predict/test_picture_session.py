"""Sessions of pictures: exact, complete or not at all, and believed only after a look."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sam2kit import PictureSession, VideoPredictor, files
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImageOptions, ImagePredictor
from sam2kit.predict.picture_session import PromptedObject
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.session_container import is_picture_session


@pytest.fixture(scope="module")
def session(nano: SAM2) -> PictureSession:
    """Three objects on a picture of noise with a bright square: clicked, boxed, and one without an answer."""
    image = np.random.default_rng(0).integers(0, 90, (60, 80, 3), np.uint8)
    image[20:45, 10:40] = (240, 200, 40)
    predictor = ImagePredictor(nano, ImageOptions(max_hole_area=8, max_speck_area=4))
    embedding = predictor.encode(image)
    clicked = predictor.predict(embedding, Prompt([[25.25, 30.5]]))
    boxed = predictor.predict(embedding, Prompt(box_xyxy=[8, 18, 42, 47]))
    objects = (
        PromptedObject(0, "Ätna 🗻 „x“", ((25.25, 30.5, 1),), None, clicked, 2),
        PromptedObject(4, "", (), (8.0, 18.0, 42.0, 47.0), boxed),
        PromptedObject(9),
    )
    return PictureSession(image, "holiday photo.heic", objects, 1, nano.config)


@pytest.fixture
def saved(session: PictureSession, tmp_path: Path) -> Path:
    return session.save(tmp_path / "work.session.safetensors")


def test_everything_comes_back_to_the_bit(session: PictureSession, saved: Path, nano: SAM2) -> None:
    again = PictureSession.load(saved)
    assert np.array_equal(again.image, session.image)
    assert (again.file_name, again.active, again.config) == (session.file_name, 1, nano.config)
    assert again.fits(nano.config)
    for ours, theirs in zip(again.objects, session.objects, strict=True):
        for name in ("number", "name", "points", "box_xyxy", "chosen", "predicted_iou"):
            assert getattr(ours, name) == getattr(theirs, name)
        if theirs.answer is None:
            assert ours.answer is None
            continue
        assert torch.equal(ours.answer.raw, theirs.answer.raw)
        assert torch.equal(ours.answer.object_score, theirs.answer.object_score)
        assert ours.answer.options == theirs.answer.options
    assert [o.name for o in again.objects] == ["Ätna 🗻 „x“", "Object 5", "Object 10"]
    assert list(again.masks) == ["Ätna 🗻 „x“", "Object 5"]
    for name, mask in session.masks.items():
        assert mask.any()
        assert np.array_equal(again.masks[name], mask)
    assert [m.area for m in again.finished()] == [m.area for m in session.finished()]


def test_a_crash_while_writing_leaves_what_was_there(
    session: PictureSession, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        session.save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        session.save(saved.parent / "nowhere" / "a.safetensors")


def changed(saved: Path, change: object, tensors: dict | None = None) -> Path:
    """The file with another header or other tensors."""
    with safe_open(str(saved), framework="pt") as file:
        content = json.loads(file.metadata()["session"])
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        stated = file.metadata()["format"]
    change(content)
    save_file({**kept, **(tensors or {})}, saved, {"format": stated, "session": json.dumps(content)})
    return saved


DAMAGES = {
    "no size": lambda c: c.pop("size_hw"),
    "another size": lambda c: c.update(size_hw=[60, 81]),
    "no objects": lambda c: c.update(objects=None),
    "an active one that is not there": lambda c: c.update(active=3),
    "an active one that is no number": lambda c: c.update(active="1"),
    "labels that mean nothing": lambda c: c["objects"][0].update(points=[[1, 2, 5]]),
    "points without labels": lambda c: c["objects"][0].update(points=[[1, 2]]),
    "clicks beside the picture": lambda c: c["objects"][0].update(points=[[81, 2, 1]]),
    "a threshold that is a word": lambda c: c["objects"][0]["options"].update(threshold="0"),
    "a number that no page takes": lambda c: c["objects"][0].update(number=2**30),
    "half a box": lambda c: c["objects"][1].update(box=[1, 2]),
    "a candidate that is not there": lambda c: c["objects"][0].update(chosen=3),
    "an answer that is not there": lambda c: c["objects"][2].update(options={}),
    "options of another version": lambda c: c["objects"][0].update(options={"glow": 1}),
    "one number twice": lambda c: c["objects"][1].update(number=0),
    "one name twice": lambda c: c["objects"][1].update(name="Ätna 🗻 „x“"),
    "another model's fields": lambda c: c["model"].update(wings=2),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_what_does_not_fit_together_is_refused_in_a_sentence(saved: Path, kind: str) -> None:
    with pytest.raises(ValueError, match=r"work\.session\.safetensors is damaged \("):
        PictureSession.load(changed(saved, DAMAGES[kind]))


@pytest.mark.parametrize(
    "tensors",
    [
        {"picture": torch.zeros(9, dtype=torch.uint8)},
        {"0/logits": torch.zeros(1, 3, 5000, 1)},
        {"0/logits": torch.zeros(3, 64, 64)},
        {"0/logits": torch.full((1, 3, 64, 64), float("nan"))},
        {"0/predicted_iou": torch.zeros(1, 2)},
        {"0/object_score": torch.zeros(2)},
    ],
)
def test_tensors_of_other_shapes_are_refused(saved: Path, tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="is damaged"):
        PictureSession.load(changed(saved, lambda content: None, tensors))


def test_other_files_are_told_apart(saved: Path, nano: SAM2, tmp_path: Path) -> None:
    predictor = VideoPredictor(nano)
    video = predictor.open([np.zeros((40, 60, 3), np.uint8)] * 2)
    predictor.add_points(video, 0, 1, [[5, 5]])
    of_video = predictor.save(video, tmp_path / "video.safetensors")
    assert is_picture_session(saved)
    assert not is_picture_session(of_video)
    with pytest.raises(ValueError, match="session of a video; open it together with its clip"):
        PictureSession.load(of_video)
    with pytest.raises(ValueError, match="session of a picture; open it as one"):
        predictor.load(saved, video.clip)
    (tmp_path / "text.safetensors").write_text("hello")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="is not a session file"):
        PictureSession.load(tmp_path / "text.safetensors")
    with pytest.raises(ValueError, match="is not a session of a picture"):
        PictureSession.load(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no session file"):
        PictureSession.load(tmp_path / "missing.safetensors")
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is not a session file"):
        PictureSession.load(saved)
