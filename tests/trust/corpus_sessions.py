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

from sam2kit.media.clips import open_clip
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.picture_session import PictureSession, PromptedObject
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.session_files import reopen_session
from sam2kit.predict.video import VideoPredictor
from tests.toy_model import TOY, toy_model
from tests.trust import breaking
from tests.trust.bounds import Case, is_picture

SIZE_HW = (24, 36)
CLIP = np.zeros((4, *SIZE_HW, 3), np.uint8)
Parts = tuple[dict[str, Tensor], dict[str, str]]


@cache
def picture_bytes() -> bytes:
    """A photo with an object."""
    predictor = ImagePredictor(toy_model())
    photo = np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), np.uint8)
    answer = predictor.predict(predictor.encode(photo), Prompt([[9, 9]]))
    item = PromptedObject(0, "cup", ((9.0, 9.0, 1),), None, answer)
    with tempfile.TemporaryDirectory() as folder:
        return PictureSession(photo, "a.jpg", (item,), config=TOY).save(Path(folder) / "a.safetensors").read_bytes()


@cache
def video_bytes() -> bytes:
    """A clip with two objects, tracked for two frames, and two frames still to do."""
    predictor = VideoPredictor(toy_model())
    session = predictor.open(CLIP)
    predictor.add_points(session, 0, "cup", [[9, 9]])
    predictor.add_mask(session, 0, 7, np.eye(*SIZE_HW, dtype=bool))
    for _, _ in zip(predictor.propagate(session), range(2), strict=False):
        pass
    with tempfile.TemporaryDirectory() as folder:
        return predictor.save(session, Path(folder) / "a.safetensors").read_bytes()


def parts_of(content: bytes) -> Parts:
    """Tensors and metadata."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(content)
        file.flush()
        with safetensors.safe_open(file.name, framework="pt") as opened:
            return {k: opened.get_tensor(k) for k in opened.keys()}, dict(opened.metadata())  # noqa: SIM118


def look(path: Path) -> None:
    """Open a session of either kind, and look at everything in it."""
    if b"picture session" in path.read_bytes()[:100_000]:
        session = PictureSession.load(path)
        is_picture(session.image)
        for mask in session.masks.values():
            assert mask.shape == session.image.shape[:2]
        session.finished()
        return
    with open_clip(CLIP) as clip:
        session = reopen_session(path, clip)
        for frame in range(len(session)):
            masks = session.masks(frame)
            assert masks.masks.shape == (len(masks), *SIZE_HW)
        assert all(0 <= step.frame < len(clip) for step in session.plan)


def of_bytes(name: str, content: Any, wanted: str = "error") -> Case:
    """A file with any bytes."""

    def feed(room: Path) -> None:
        (room / "a.session.safetensors").write_bytes(content())
        look(room / "a.session.safetensors")

    return Case(name, feed, wanted)


def changed(whole: Any, place: tuple[Any, ...], value: Any) -> Case:
    """A session whose header says something else at a place."""

    def content() -> bytes:
        tensors, metadata = parts_of(whole())
        about = json.loads(metadata["session"])
        at = about
        for key in place[:-1]:
            at = at[key]
        if value is GONE:
            del at[place[-1]]
        else:
            at[place[-1]] = copy.deepcopy(value)
        return safetensors.torch.save(tensors, {**metadata, "session": json.dumps(about)})

    kind = whole.__name__.removesuffix("_bytes")
    shown = "gone" if value is GONE else f"{value!r:.40}"
    return of_bytes(
        f"{kind} session: {'.'.join(map(str, place))} is {shown}", content, "either" if value in LIKELY else "error"
    )


def with_tensor(whole: Any, name: str, tensor: Tensor | None) -> Case:
    """A session with another tensor under a name."""

    def content() -> bytes:
        tensors, metadata = parts_of(whole())
        tensors.pop(name)
        return safetensors.torch.save(tensors if tensor is None else {**tensors, name: tensor.contiguous()}, metadata)

    told = "gone" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
    return of_bytes(f"{whole.__name__.removesuffix('_bytes')} session: the tensor {name} is {told}", content)


class _Gone:
    def __str__(self) -> str:
        return "gone"

    def __deepcopy__(self, memo: dict) -> _Gone:
        return self


GONE = _Gone()
LIKELY = ("x", "", True, 0, None)  # may be right where it stands
VALUES = (GONE, None, -1, "x", [], {}, 1e300, float("inf"), float("nan"), 10**30)
_picture_places = [
    ("size_hw",), ("active",), ("objects",), ("objects", 0), ("objects", 0, "number"), ("objects", 0, "points"),
    ("objects", 0, "points", 0), ("objects", 0, "box"), ("objects", 0, "chosen"), ("objects", 0, "options"),
    ("objects", 0, "options", "threshold"), ("model",),
]  # fmt: skip
_video_places = [
    ("clip",), ("clip", "fingerprint"), ("clip", "size_hw"), ("options",), ("options", "memory_dtype"), ("run",), ("pointer_frames",),
    ("plan",), ("plan", 0), ("tracks",), ("tracks", 0), ("tracks", 0, "id"), ("tracks", 0, "prompts"), ("tracks", 0, "memories"), ("model",),
]  # fmt: skip
_SOMETIMES_RIGHT = {  # an empty list of objects is a session, too
    (("objects",), str([])), (("options",), str(None)), (("objects", 0, "box"), str(None)), (("objects", 0, "options"), str(None)),
    (("objects", 0, "points"), str([])), (("model",), str(None)), (("plan",), str([])), (("tracks",), str([])),
    (("pointer_frames",), str(None)), (("tracks", 0, "memories"), str([])), (("tracks", 0, "id"), str(-1)), (("tracks", 0, "id"), str(10**30)),
    (("tracks", 0, "prompts"), str({})), (("run",), str(-1)), (("run",), str(1e300)), (("run",), str(10**30)), (("pointer_frames",), str(-1)),
    (("pointer_frames",), str(1e300)), (("pointer_frames",), str(10**30)), (("tracks", 0, "prompts"), str([])), (("options",), str({})),
    (("objects", 0, "options", "threshold"), str(-1)), (("objects", 0, "options", "threshold"), str(1e300)),
    (("objects", 0, "options", "threshold"), str(10**30)), (("objects", 0, "options"), str({})), (("tracks",), str({})),
    (("options", "memory_dtype"), "x"), (("clip", "fingerprint"), "x"), (("plan",), str({})), (("objects", 0, "box"), str([])),
    (("objects", 0), "gone"), (("objects", 0, "points", 0), "gone"), (("objects", 0, "points", 0), str([])), (("model",), str({})),
    (("objects", 0, "options", "threshold"), "gone"), (("plan", 0), "gone"), (("tracks", 0, "memories"), str({})),
}  # fmt: skip


def _either(case: Case, place: tuple, value: Any) -> Case:
    return Case(case.name, case.feed, "either") if (place, str(value)) in _SOMETIMES_RIGHT else case


CASES = [
    *(
        of_bytes(f"{whole.__name__.removesuffix('_bytes')} session, {how}", lambda w=whole, n=n: breaking.damaged(w(), n), "either" if n else "error")
        for whole in (picture_bytes, video_bytes)
        for n, how in enumerate(breaking.DAMAGES)
    ),
    *(
        _either(changed(whole, place, value), place, value)
        for whole, places in ((picture_bytes, _picture_places), (video_bytes, _video_places))
        for place in places
        for value in VALUES
    ),
    _either(changed(picture_bytes, ("objects", 0, "name"), "../../../tmp/x"), ("objects", 0), GONE),  # a name, and no path
    changed(picture_bytes, ("objects",), [{}] * 100_000),
    changed(video_bytes, ("plan",), [[0, False, ["cup"], 0]] * 100_000),
    changed(video_bytes, ("plan", 0, 2), [[1]]),
    changed(video_bytes, ("tracks", 0, "prompts"), {"99": {"points": [], "labels": [], "box": None}}),
    changed(video_bytes, ("tracks", 0, "prompts"), {"0": {"points": [[float("nan")] * 2], "labels": [1], "box": None}}),
    changed(video_bytes, ("options", "corrections"), "sometimes"),
    changed(video_bytes, ("options", "unknown"), 1),
    changed(video_bytes, ("options", "max_hole_area"), "many"),
    changed(video_bytes, ("model", "side"), 2**40),
    with_tensor(picture_bytes, "picture", None),
    with_tensor(picture_bytes, "picture", torch.zeros(9, dtype=torch.uint8)),
    with_tensor(picture_bytes, "picture", torch.frombuffer(bytearray(breaking.png_of(50_000, 50_000)), dtype=torch.uint8)),
    with_tensor(picture_bytes, "0/logits", torch.zeros(1, 3, 1, 5000)),
    with_tensor(picture_bytes, "0/logits", torch.zeros(2, 3, 16, 16)),
    with_tensor(picture_bytes, "0/logits", torch.full((1, 3, 16, 16), float("nan"))),
    with_tensor(picture_bytes, "0/logits", torch.zeros(3)),
    with_tensor(picture_bytes, "0/predicted_iou", torch.zeros(1, 9)),
    with_tensor(picture_bytes, "0/object_score", torch.zeros(0)),
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
    of_bytes("picture session: deep", lambda: safetensors.torch.save({"a": torch.zeros(1)}, {"format": "sam2kit picture session 1", "session": breaking.nested()})),
    of_bytes("video session: deep", lambda: safetensors.torch.save({"a": torch.zeros(1)}, {"format": "sam2kit session 1", "session": breaking.nested()})),
    of_bytes("session: a pickle", lambda: breaking.pickle_that_runs(Path("/dev/null"))),
    Case("session: a pipe", lambda room: PictureSession.load(breaking.pipe(room / "a.safetensors"))),
]  # fmt: skip
