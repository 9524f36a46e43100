"""Prompts, frames and objects that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam2kit.compat.image_predictor import SAM2ImagePredictor
from sam2kit.compat.video_predictor import SAM2VideoPredictor
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions
from sam2kit.predict.image import ImageEmbedding, ImagePredictor
from sam2kit.predict.options import ImageOptions, VideoOptions
from sam2kit.predict.prompt_lists import prompts_of, read_prompts
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.session import Session
from sam2kit.predict.video import VideoPredictor
from tests.toy_model import toy_model
from tests.trust import breaking
from tests.trust.bounds import Case

SIZE_HW = (40, 60)
NAN, INF, HUGE = float("nan"), float("inf"), 1e300


@cache
def images() -> tuple[ImagePredictor, ImageEmbedding]:
    """A predictor, and a picture that it has seen."""
    predictor = ImagePredictor(toy_model())
    return predictor, predictor.encode(np.zeros((*SIZE_HW, 3), np.uint8))


@cache
def videos() -> VideoPredictor:
    """A predictor for clips."""
    return VideoPredictor(toy_model())


def of_picture(name: str, *arguments: Any, wanted: str = "error", **named: Any) -> Case:
    """What `Prompt` is given."""

    def feed(folder: Path) -> None:
        predictor, embedding = images()
        answer = predictor.predict(embedding, Prompt(*arguments, **named))
        assert answer.masks.shape[2:] == SIZE_HW
        assert bool(answer.predicted_iou.isfinite().all())

    return Case(f"prompt: {name}", feed, wanted)


def of_session(name: str, act: Callable[[VideoPredictor, Session], object], wanted: str = "error") -> Case:
    """What is done with a clip of five frames and an object called "cup". A refused act leaves it as it was."""

    def feed(folder: Path) -> None:
        predictor = videos()
        session = predictor.open(np.zeros((5, *SIZE_HW, 3), np.uint8))
        predictor.add_points(session, 1, "cup", [[20, 20]])
        before = state_of(session)
        try:
            act(predictor, session)
        except BaseException:
            assert state_of(session) == before, "a refused act changed the session"
            raise
        for frame in range(5):
            assert session.masks(frame).masks.shape[1:] == SIZE_HW

    return Case(f"session: {name}", feed, wanted)


def state_of(session: Session) -> tuple:
    """All that a person has said, and what was answered."""
    asked = [(i, f, p.points_xy.tolist()) for i, t in session.objects.items() for f, p in t.prompts.items()]
    known = [(i, sorted(t.prompted), sorted(t.tracked)) for i, t in session.objects.items()]
    return asked, known, list(session.plan), session.run


def _compat_image(name: str, *arguments: Any, wanted: str = "error", **named: Any) -> Case:
    """What the official image predictor's interface is given."""

    def feed(folder: Path) -> None:
        predictor = SAM2ImagePredictor(toy_model())
        predictor.set_image(np.zeros((*SIZE_HW, 3), np.uint8))
        masks, ious, _ = predictor.predict(*arguments, **named)
        assert masks.shape[-2:] == SIZE_HW
        assert np.isfinite(ious).all()

    return Case(f"official picture: {name}", feed, wanted)


def _compat_clip(name: str, act: Callable[[SAM2VideoPredictor, Session], object], wanted: str = "error") -> Case:
    """What is done through the official video predictor's interface."""

    def feed(folder: Path) -> None:
        predictor = SAM2VideoPredictor(toy_model())
        act(predictor, predictor.init_state(np.zeros((3, *SIZE_HW, 3), np.uint8)))

    return Case(f"official clip: {name}", feed, wanted)


def _taken(name: str) -> str:
    """The official video predictor takes any place, and the corners of a box in any order."""
    return "result" if name in ("outside", "above", "before", "turned round") else "error"


def _list(name: str, entries: Any, wanted: str = "error") -> Case:
    return Case(f"prompt list: {name}", lambda folder: prompts_of(entries, "list.json", folder), wanted)


def _list_file(name: str, content: bytes) -> Case:
    def feed(folder: Path) -> None:
        (folder / "list.json").write_bytes(content)
        read_prompts(folder / "list.json")

    return Case(f"prompt list file: {name}", feed)


def _mask_entry(name: str, content: bytes, wanted: str = "error") -> Case:
    def feed(folder: Path) -> None:
        (folder / "mask.png").write_bytes(content)
        prompts_of([{"mask": "mask.png"}], "list.json", folder)

    return Case(f"a mask file: {name}", feed, wanted)


def _options(kind: type, name: str, value: Any) -> Case:
    return Case(f"{kind.__name__}: {name} = {value!r:.40}", lambda _: kind(**{name: value}))


def _everything(name: str, **options: Any) -> Case:
    def feed(folder: Path) -> None:
        AutomaticMasks(toy_model(), AutomaticOptions(**options)).generate(np.zeros((*SIZE_HW, 3), np.uint8))

    return Case(f"everything: {name}", feed)


_points = [
    ("NaN", [[NAN, 1]]), ("infinity", [[INF, 1]]), ("minus infinity", [[1, -INF]]), ("huge", [[HUGE, 1]]),
    ("a whole number of 400 digits", [[10**400, 1]]), ("outside", [[61, 1]]), ("above", [[1, -1]]), ("texts", [["a", "b"]]),
    ("numbers as text", [["x1", "1"]]), ("nothing", [[None, 1]]), ("three numbers", [[1, 2, 3]]), ("one number", [[1]]),
    ("ragged", [[1, 2], [3]]), ("empty", []), ("a number", 7), ("a dictionary", {"x": 1}), ("a text", "1,2"),
    ("complex", [[1j, 1]]), ("five axes", np.zeros((1, 1, 1, 1, 2))), ("no point in a row", np.zeros((2, 0, 2))),
    ("a set", {1, 2}), ("dates", np.array([["2020-01-01", "2020-01-02"]], "datetime64[D]")), ("objects", np.array([[object(), 1]])),
]  # fmt: skip
_labels = [
    ("2", [2]), ("minus 2", [-2]), ("a half", [0.5]), ("NaN", [NAN]), ("infinity", [INF]), ("text", ["yes"]), ("nothing", [None]),
    ("two for one", [1, 0]), ("none for one", []), ("nested", [[[1]]]), ("a number", 1), ("huge", [10**30]), ("complex", [1j]),
]  # fmt: skip
_boxes = [
    ("turned round", [30, 30, 10, 10]), ("NaN", [NAN, 0, 1, 1]), ("infinite", [0, 0, INF, INF]), ("outside", [100, 100, 110, 110]),
    ("before", [-20, -20, -10, -10]), ("three numbers", [1, 2, 3]), ("five numbers", [1, 2, 3, 4, 5]), ("texts", ["a"] * 4),
    ("empty", []), ("nothing in it", [None] * 4), ("huge", [-HUGE, 0, HUGE, 1]),
]  # fmt: skip
_masks = [
    ("NaN", np.full((1, 16, 16), NAN)), ("infinite", np.full((1, 16, 16), INF)), ("two channels", np.zeros((1, 2, 16, 16))),
    ("a row", np.zeros(16)), ("empty", np.zeros((1, 0, 16))), ("texts", np.full((1, 4, 4), "x")), ("a number", 3),
]  # fmt: skip

CASES = [
    *(of_picture(f"points, {name}", value) for name, value in _points),
    *(of_picture(f"labels, {name}", [[5, 5]], value) for name, value in _labels),
    *(of_picture(f"box, {name}", box_xyxy=value) for name, value in _boxes),
    *(of_picture(f"mask, {name}", mask_logits=value) for name, value in _masks),
    of_picture("nothing at all"),
    of_picture("labels alone", None, [1]),
    of_picture("as many as one, and two", [[[5, 5]]], box_xyxy=[[0, 0, 9, 9], [0, 0, 9, 9]]),
    of_picture("on the last corner", [[60, 40]], wanted="result"),
    of_picture("a thousand clicks", np.full((1000, 2), 5.0), wanted="result"),
    of_picture("twenty thousand clicks", np.full((20_000, 2), 5.0)),
    of_picture("three hundred prompts", np.full((300, 1, 2), 5.0), wanted="result"),
    of_picture("a box of no size", box_xyxy=[5, 5, 5, 5], wanted="result"),
    of_picture("a box over the border", box_xyxy=[-10, -10, 70, 50], wanted="result"),
    of_picture("only fillers", [[5, 5]], [-1], wanted="result"),
    of_picture("logits of a thousand", mask_logits=np.full((1, 16, 16), 1000.0), wanted="result"),
    of_picture("whole numbers", np.array([[5, 5]], np.int8), np.array([True]), wanted="result"),
    of_picture("a tensor that needs gradients", torch.tensor([[5.0, 5.0]], requires_grad=True), wanted="result"),
    *(of_session(f"points, {name}", lambda p, s, v=value: p.add_points(s, 0, 1, v)) for name, value in _points if name != "empty"),
    *(of_session(f"labels, {name}", lambda p, s, v=value: p.add_points(s, 0, 1, [[5, 5]], v)) for name, value in _labels if name != "a number"),
    *(of_session(f"box, {name}", lambda p, s, v=value: p.add_box(s, 0, 1, v)) for name, value in _boxes),
    *(
        of_session(f"frame {frame!r}", lambda p, s, f=frame: p.add_points(s, f, 1, [[5, 5]]))
        for frame in (-1, 5, 10**30, 1.0, NAN, "0", None, [0], 0.5)
    ),
    of_session("frame True", lambda p, s: p.add_points(s, True, 1, [[5, 5]]), "result"),
    of_session("twenty thousand clicks", lambda p, s: p.add_points(s, 0, 1, np.full((20_000, 2), 5.0))),
    of_session("one click after a thousand", lambda p, s: p.add_points(s, 1, "cup", np.full((1_000, 2), 5.0)) and p.add_points(s, 1, "cup", [[5, 5]])),
    of_session("a list as object", lambda p, s: p.add_points(s, 0, [1], [[5, 5]])),
    of_session("an array as object", lambda p, s: p.add_points(s, 0, np.zeros(2), [[5, 5]])),
    of_session("a mask of another size", lambda p, s: p.add_mask(s, 0, 1, np.ones((3, 3), bool))),
    of_session("a mask with colours", lambda p, s: p.add_mask(s, 0, 1, np.ones((*SIZE_HW, 3), bool))),
    of_session("a mask of texts", lambda p, s: p.add_mask(s, 0, 1, "mask.png")),
    of_session("a mask that is nothing", lambda p, s: p.add_mask(s, 0, 1, None)),
    of_session("an empty mask", lambda p, s: p.add_mask(s, 0, 1, np.zeros(SIZE_HW, bool)), "result"),
    of_session("no points", lambda p, s: p.add_points(s, 0, 1, np.zeros((0, 2)))),
    of_session("an unknown object is removed", lambda p, s: s.remove_object("spoon")),
    of_session("an unhashable object is removed", lambda p, s: s.remove_object([1])),
    of_session("an unknown object is cleared", lambda p, s: s.clear(0, "spoon")),
    of_session("a frame outside is cleared", lambda p, s: s.clear(99, "cup")),
    of_session("the mask of an unknown object", lambda p, s: s.masks(1).mask("spoon")),
    of_session("tracking sideways", lambda p, s: list(p.propagate(s, direction="sideways"))),
    of_session("tracking minus two frames", lambda p, s: list(p.propagate(s, frames=-2))),
    of_session("tracking half a frame", lambda p, s: list(p.propagate(s, frames=0.5))),
    of_session("tracking NaN frames", lambda p, s: list(p.propagate(s, frames=NAN))),
    of_session("tracking from frame 9", lambda p, s: list(p.propagate(s, 9))),
    of_session("tracking from a text", lambda p, s: list(p.propagate(s, "start"))),
    of_session("tracking far", lambda p, s: list(p.propagate(s, frames=10**18)), "result"),
    of_session("saving nowhere", lambda p, s: p.save(s, "/no/such/folder/a.sam2kit")),
    of_session("names of all kinds", lambda p, s: [p.add_points(s, 0, i, [[5, 5]]) for i in ("", "../x", "a\0b", "名前", -1, 2**70)], "result"),
    *(of_session(f"the name {name!r}", lambda p, s, name=name: p.add_points(s, 0, name, [[5, 5]])) for name in ((1, 2), None, 1.5, b"cup")),
    Case("session: tracking nothing", lambda folder: list(videos().propagate(videos().open(np.zeros((2, *SIZE_HW, 3), np.uint8))))),
    Case("stream: a click before the first frame", lambda folder: videos().stream().add_points(1, [[5, 5]])),
    Case("stream: a frame of another size", lambda folder: _stream_shrinks()),
    Case("stream: no picture", lambda folder: videos().stream().push(None)),
    *(_compat_image(f"points, {name}", value, [1]) for name, value in _points if name not in ("outside", "above", "no point in a row")),
    *(_compat_image(f"labels, {name}", [[5, 5]], value) for name, value in _labels if name != "2"),
    *(_compat_image(f"box, {name}", box=value) for name, value in _boxes if name in ("NaN", "three numbers", "texts", "empty", "nothing in it")),
    *(_compat_image(f"mask, {name}", mask_input=value) for name, value in _masks),
    _compat_image("no clicks beside a box", np.zeros((0, 2)), np.zeros(0), box=[1, 2, 30, 20], wanted="result"),
    _compat_image("the corners of a box in rows", box=[[1, 2], [30, 20]], wanted="result"),
    _compat_image("one mask for two boxes", box=[[1, 2, 30, 20]] * 2, mask_input=np.zeros((1, 16, 16)), wanted="result"),
    _compat_image("three masks for two boxes", box=[[1, 2, 30, 20]] * 2, mask_input=np.zeros((3, 1, 16, 16))),
    _compat_image("nothing but labels", None, [1], wanted="result"),
    _compat_image("points without labels", [[5, 5]]),
    _compat_image("one click for two boxes", [[5, 5]], [1], box=[[0, 0, 9, 9], [0, 0, 9, 9]]),
    _compat_image("twenty thousand clicks", np.full((20_000, 2), 5.0), np.ones(20_000)),
    _compat_image("the corners of a box", [[5, 5], [9, 9]], [2, 3], wanted="result"),
    _compat_image("a click outside", [[500, -5]], [1], wanted="result"),
    _compat_image("a tensor", torch.tensor([[5.0, 5.0]]), torch.tensor([1]), wanted="result"),
    *(_compat_clip(f"points, {name}", lambda p, s, v=value: p.add_new_points(s, 0, 1, v, [1]), _taken(name)) for name, value in _points if name != "five axes"),
    *(_compat_clip(f"labels, {name}", lambda p, s, v=value: p.add_new_points(s, 0, 1, [[5, 5]], v)) for name, value in _labels if name not in ("a number", "nested")),
    *(_compat_clip(f"box, {name}", lambda p, s, v=value: p.add_new_points_or_box(s, 0, 1, box=v), _taken(name)) for name, value in _boxes),
    *(_compat_clip(f"mask, {name}", lambda p, s, v=value: p.add_new_mask(s, 0, 1, v)) for name, value in [*_masks, ("None", None), ("a file", "mask.png")]),
    _compat_clip("a mask in half precision", lambda p, s: p.add_new_mask(s, 0, 1, torch.ones(SIZE_HW, dtype=torch.bfloat16)), "result"),
    _compat_clip("the corners of a box in rows", lambda p, s: p.add_new_points_or_box(s, 0, 1, box=[[1, 2], [30, 20]]), "result"),
    _compat_clip("two boxes", lambda p, s: p.add_new_points_or_box(s, 0, 1, box=[[1, 2, 30, 20]] * 2)),
    _compat_clip("no clicks beside a box", lambda p, s: p.add_new_points_or_box(s, 0, 1, np.zeros((0, 2)), np.zeros(0), box=[1, 2, 30, 20]), "result"),
    _compat_clip("a mask of another size", lambda p, s: p.add_new_mask(s, 0, 1, np.ones((7, 9), bool)), "result"),
    _compat_clip("tracking nothing", lambda p, s: list(p.propagate_in_video(s))),
    _compat_clip("an unknown object is removed", lambda p, s: p.remove_object(s, "spoon", strict=True)),
    _list("a dictionary", {"frame": 0}),
    _list("numbers", [1, 2]),
    _list("nothing asked", [{"frame": 0}]),
    *(_list(f"frame {value!r}", [{"frame": value, "points": [[1, 1]]}]) for value in (NAN, INF, None, [], "x")),
    *(_list(f"points {value!r:.30}", [{"points": value}]) for value in (7, "x", {}, [[10**400, 1]], [["a", 1]], [[1, 1]] * 10**4, [[]])),
    *(_list(f"labels {value!r}", [{"points": [[1, 1]], "labels": value}]) for value in (7, "x", [2], [None], [[1]], [1, 1])),
    *(_list(f"box {value!r}", [{"box": value}]) for value in (7, "x", [1], [None] * 4, {"x": 1}, [10**400, 1, 2, 3])),
    *(_list(f"mask {value!r}", [{"mask": value}]) for value in (7, "none.png", "../beside/secret.txt", [], ".", "a\0b", "n" * 300)),
    _list("a mask and a box", [{"mask": "a.png", "box": [1, 2, 3, 4]}]),
    _list_file("deep", breaking.nested().encode()),
    _list_file("cut off", b'[{"frame": 0, "points": [[1, '),
    _list_file("no text", bytes(range(128, 256))),
    _list_file("empty", b""),
    _mask_entry("bomb", breaking.png_of(50_000, 50_000)),
    _mask_entry("words", b"hello"),
    _mask_entry("a program", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    _mask_entry("one pixel", breaking.png_of(1, 1, b"\0\0"), "result"),
    *(_everything(f"{name}={value}", **{name: value}) for name, value in {
        "points_per_side": 0, "points_per_batch": 0, "points_shrink": 0, "crop_layers": 9, "min_predicted_iou": NAN,
        "min_stability": NAN, "max_box_overlap": NAN, "point_grids": (),
    }.items()),
    _everything("a town of points", points_per_side=10**6),
    *(_options(kind, name, value) for kind, names in {
        ImageOptions: ("threshold", "max_hole_area", "max_speck_area"),
        VideoOptions: ("max_hole_area",),
        AutomaticOptions: ("points_per_side", "crop_layers", "min_stability", "threshold", "min_region_area"),
    }.items() for name in names for value in (NAN, INF, "7", [1], 10**400, 1j)),
    *(_options(kind, "threshold", None) for kind in (ImageOptions, AutomaticOptions)),
]  # fmt: skip


def _stream_shrinks() -> None:
    stream = videos().stream()
    stream.push(np.zeros((8, 8, 3), np.uint8))
    stream.push(np.zeros((4, 4, 3), np.uint8))
