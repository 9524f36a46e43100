"""Session files of pictures and of clips, damaged or made up; they come from strangers."""

from __future__ import annotations

import copy
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from sam2kit.predict.session import Session
from sam2kit.predict.session_file import FORMAT
from sam2kit.predict.video import VideoPredictor
from tests.toy_model import TOY, toy_model
from tests.trust import breaking
from tests.trust.bounds import Case, is_picture

SIZE_HW = (24, 36)
CLIP = np.zeros((4, *SIZE_HW, 3), np.uint8)
Parts = tuple[dict[str, Tensor], dict[str, str]]


def _bytes_of(session: Session) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return session.save(Path(folder) / "a.safetensors").read_bytes()


@cache
def picture_bytes() -> bytes:
    """A photo with an object of three candidates."""
    predictor = VideoPredictor(toy_model())
    session = predictor.open(np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), np.uint8))
    predictor.add_points(session, 0, "cup", [[9, 9]])
    return _bytes_of(session)


@cache
def video_bytes() -> bytes:
    """A clip with two objects, tracked for two frames, and two frames still to do."""
    predictor = VideoPredictor(toy_model())
    session = predictor.open(CLIP)
    predictor.add_points(session, 0, "cup", [[9, 9]])
    predictor.add_mask(session, 0, 7, np.eye(*SIZE_HW, dtype=bool))
    for _, _ in zip(predictor.propagate(session), range(2), strict=False):
        pass
    return _bytes_of(session)


def parts_of(content: bytes) -> Parts:
    """Tensors and metadata."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(content)
        file.flush()
        with safetensors.safe_open(file.name, framework="pt") as opened:
            return {k: opened.get_tensor(k) for k in opened.keys()}, dict(opened.metadata())  # noqa: SIM118


def look(path: Path) -> None:
    """Open a session, and look at everything in it."""
    picture = b'"picture": true' in path.read_bytes()[:100_000]
    session = Session.load(path, None if picture else CLIP)
    for frame in range(len(session)):
        is_picture(session.clip.frame(frame))
        masks = session.masks(frame)
        assert masks.masks.shape == (len(masks), *SIZE_HW)
        assert len(masks.names) == len(masks)
    assert all(0 <= step.frame < len(session) for step in session.plan)


def of_bytes(name: str, content: Any, wanted: str = "error") -> Case:
    """A file with any bytes."""

    def feed(folder: Path) -> None:
        (folder / "a.session.safetensors").write_bytes(content())
        look(folder / "a.session.safetensors")

    return Case(name, feed, wanted)


def changed(whole: Any, place: tuple[Any, ...], value: Any) -> Case:
    """A session whose header says something else at a place."""

    def content() -> bytes:
        tensors, metadata = parts_of(whole())
        about = json.loads(metadata["session"])
        at = about
        for key in place[:-1]:
            at = at[key]
        if value == GONE:
            del at[place[-1]]
        else:
            at[place[-1]] = copy.deepcopy(value)
        return safetensors.torch.save(tensors, {**metadata, "session": json.dumps(about)})

    kind = whole.__name__.removesuffix("_bytes")
    return of_bytes(f"{kind} session: {'.'.join(map(str, place))} is {value!r:.40}", content, "either")


def with_tensor(whole: Any, name: str, tensor: Tensor | None) -> Case:
    """A session with another tensor under a name."""

    def content() -> bytes:
        tensors, metadata = parts_of(whole())
        tensors.pop(name)
        return safetensors.torch.save(tensors if tensor is None else {**tensors, name: tensor.contiguous()}, metadata)

    stated = "gone" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
    return of_bytes(f"{whole.__name__.removesuffix('_bytes')} session: the tensor {name} is {stated}", content)


GONE = "the key is gone"
VALUES = (GONE, None, -1, "x", [], {}, 1e300, float("inf"), float("nan"), 10**30)
_places = [
    ("clip",), ("clip", "fingerprint"), ("clip", "size_hw"), ("clip", "picture"), ("clip", "in_use"), ("clip", "part"),
    ("options",), ("options", "memory_dtype"), ("run",), ("pointer_frames",), ("plan",), ("active",), ("objects",),
    ("objects", 0), ("objects", 0, "id"), ("objects", 0, "number"), ("objects", 0, "name"), ("objects", 0, "prompts"),
    ("objects", 0, "prompts", "0", "points"), ("objects", 0, "memories"), ("objects", 0, "chosen"), ("model",),
]  # fmt: skip


CASES = [
    *(
        of_bytes(f"{whole.__name__.removesuffix('_bytes')} session, {how}", lambda w=whole, n=n: breaking.damaged(w(), n), "either" if n else "error")
        for whole in (picture_bytes, video_bytes)
        for n, how in enumerate(breaking.DAMAGES)
    ),
    *(changed(whole, place, value) for whole in (picture_bytes, video_bytes) for place in _places for value in VALUES),
    changed(picture_bytes, ("objects", 0, "name"), "../../../tmp/x"),  # a name, and no path
    changed(picture_bytes, ("objects", 0, "chosen"), {"0": 3}),
    changed(picture_bytes, ("objects",), [{}] * 100_000),
    changed(video_bytes, ("plan",), [[0, False, ["cup"], 0]] * 100_000),
    changed(video_bytes, ("plan", 0, 2), [[1]]),
    changed(video_bytes, ("objects", 0, "prompts"), {"99": {"points": [], "labels": [], "box": None}}),
    changed(video_bytes, ("objects", 0, "prompts"), {"0": {"points": [[float("nan")] * 2], "labels": [1], "box": None}}),
    changed(video_bytes, ("options", "unknown"), 1),
    changed(video_bytes, ("options", "max_hole_area"), "many"),
    changed(video_bytes, ("model", "side"), 2**40),
    with_tensor(picture_bytes, "picture", None),
    with_tensor(picture_bytes, "picture", torch.zeros(9, dtype=torch.uint8)),
    with_tensor(picture_bytes, "picture", torch.frombuffer(bytearray(breaking.png_of(50_000, 50_000)), dtype=torch.uint8)),
    with_tensor(picture_bytes, "0/candidates/0/logits", torch.zeros(3, 1, 5000)),
    with_tensor(picture_bytes, "0/candidates/0/logits", torch.full((3, *[TOY.low_res_side] * 2), float("nan"))),
    with_tensor(picture_bytes, "0/candidates/0/logits", torch.zeros(3)),
    with_tensor(picture_bytes, "0/candidates/0/predicted_iou", torch.zeros(9)),
    with_tensor(picture_bytes, "0/candidates/0/pointers", torch.zeros(0)),
    with_tensor(video_bytes, "0/prompted/rows", None),
    with_tensor(video_bytes, "0/prompted/rows", torch.zeros(1, 3, dtype=torch.float64)),
    with_tensor(video_bytes, "0/prompted/rows", torch.full((1, 6), float("nan"), dtype=torch.float64)),
    with_tensor(video_bytes, "0/prompted/rows", torch.full((1, 6), 1e18, dtype=torch.float64)),
    with_tensor(video_bytes, "0/prompted/rows", torch.full((1, 6), -1.0, dtype=torch.float64)),
    with_tensor(video_bytes, "0/prompted/logits", torch.zeros(5, dtype=torch.uint8)),
    with_tensor(video_bytes, "0/prompted/pointers", torch.zeros(1, 3)),
    with_tensor(video_bytes, "0/prompted/pointers", torch.zeros(9, 32)),
    with_tensor(video_bytes, "0/prompted/pointers", torch.full((1, TOY.hidden_dim), float("nan"))),
    with_tensor(video_bytes, "0/prompted/pointers", torch.zeros(1, TOY.hidden_dim, dtype=torch.int64)),
    with_tensor(video_bytes, "0/memory/0", torch.full((TOY.memory.dim, *[TOY.embedding_side] * 2), float("inf"))),
    with_tensor(video_bytes, "0/memory/0", torch.zeros(TOY.memory.dim, *[TOY.embedding_side] * 2, dtype=torch.bool)),
    with_tensor(video_bytes, "0/directions", torch.zeros(3)),
    with_tensor(video_bytes, "0/directions", torch.full((1, 2), 99)),
    with_tensor(video_bytes, "1/mask/0", torch.zeros(1, dtype=torch.uint8)),
    of_bytes("session: a weight file", lambda: safetensors.torch.save({"a": torch.zeros(1)}, {"format": "pt"})),
    of_bytes("session: no metadata", lambda: safetensors.torch.save({"a": torch.zeros(1)})),
    of_bytes("session: of a later version", lambda: safetensors.torch.save({"a": torch.zeros(1)}, {"format": "sam2kit session 9"})),
    of_bytes("session: deep", lambda: safetensors.torch.save({"a": torch.zeros(1)}, {"format": FORMAT, "session": breaking.nested()})),
    of_bytes("session: a pickle", lambda: breaking.pickle_that_runs(Path("/dev/null"))),
    Case("session: a pipe", lambda folder: Session.load(breaking.pipe(folder / "a.safetensors"))),
]  # fmt: skip
