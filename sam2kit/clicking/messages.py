"""What the click surface and the server tell each other; whatever comes from a browser is checked here, once.

    scene      server -> browser   a picture, all masks, the prompts of the active object: what there is to see
    request    browser -> server   all prompts of one object, with a number that grows: the newest request counts
    answer     server -> browser   the object's mask and prompts; its version says which scenes are newer

Masks travel as 1-bit PNGs of the size of the view and get their colour in the browser. Points and boxes are pixels of
the original picture. Requests do not come through Gradio's queue, which would tell visitors apart: each one
carries the visitor's own key, which nobody can guess.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import cv2
import numpy as np

from sam2kit.media.drawing import PALETTE

MAX_POINTS = 200  # of one object on one picture
_MAX_NUMBER = 100_000
_MAX_PLACE = 1e9  # pixels; NaN is not below it either
_JPEG_QUALITY = 90
_VERSIONS = count()

Point = tuple[float, float, int]  # x, y, label: 1 this, 0 not this
Box = tuple[float, float, float, float]  # x0, y0, x1, y1


@dataclass(frozen=True)
class PromptRequest:
    """All that a visitor asks of one object on the picture that is shown."""

    key: str  # whose work it is
    scene: str  # the picture that the visitor saw
    sequence: int  # grows with each request
    number: int  # of the object
    points: tuple[Point, ...]
    box_xyxy: Box | None

    @classmethod
    def read(cls, sent: Any) -> PromptRequest:
        """Check what a browser sent.

        Raises:
            ValueError: if it is anything else; nothing of it is used then.
        """
        if not isinstance(sent, dict):
            raise ValueError(f"a request is an object, got {type(sent).__name__}")
        key, scene, points, box = (sent.get(name) for name in ("key", "scene", "points", "box"))
        if not isinstance(key, str) or not isinstance(scene, str) or len(key) > 100 or len(scene) > 100:
            raise ValueError("a request names its visitor and its picture")
        if not isinstance(points, list) or len(points) > MAX_POINTS:
            raise ValueError(f"points are a list of at most {MAX_POINTS}")
        return cls(
            key,
            scene,
            _whole(sent.get("sequence"), "sequence", 2**53),
            _whole(sent.get("number"), "number", _MAX_NUMBER),
            tuple(_point(p) for p in points),
            None if box is None else _box(box),
        )

    def about(self, scene: str, size_hw: tuple[int, ...]) -> PromptRequest:
        """The same, if it is about the picture that is shown, and moved into it.

        Raises:
            ValueError: if another picture is shown by now, or a point lies outside.
        """
        if self.scene != scene:
            raise ValueError("another picture is shown by now; click on that one")
        return self.within(size_hw)

    def within(self, size_hw: tuple[int, ...]) -> PromptRequest:
        """The same, moved into a picture; a browser rounds differently at the border.

        Raises:
            ValueError: if it lies clearly outside.
        """
        height, width = size_hw[:2]
        corners = [] if self.box_xyxy is None else [self.box_xyxy[:2], self.box_xyxy[2:]]
        for x, y in [*(p[:2] for p in self.points), *corners]:
            if not (-2 <= x <= width + 1 and -2 <= y <= height + 1):
                raise ValueError(f"the point ({x:g}, {y:g}) lies outside the {width}x{height} picture")

        def inside(x: float, y: float) -> tuple[float, float]:
            return min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)

        points = tuple((*inside(x, y), label) for x, y, label in self.points)
        box = None if self.box_xyxy is None else (*inside(*self.box_xyxy[:2]), *inside(*self.box_xyxy[2:]))
        return PromptRequest(self.key, self.scene, self.sequence, self.number, points, box)


@dataclass(frozen=True)
class ShownObject:
    """One object as the surface shows it."""

    number: int
    name: str
    mask: np.ndarray | None = None  # bool [H, W] at the size of the view
    colour: int | None = None  # see ObjectColours.of; None only without a mask

    def to_browser(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "number": self.number,
            "name": self.name,
            "colour": colour_code(self.colour),
            "mask": mask_png(self.mask),
        }


def scene_message(
    key: str,
    scene: str,
    view: np.ndarray,
    size_hw: tuple[int, ...],
    objects: Sequence[ShownObject],
    active: int,
    points: Sequence[Point] = (),
    box_xyxy: Iterable[float] | None = None,
    *,
    editable: bool = True,
) -> dict[str, Any]:
    """Everything that the surface shows.

    Args:
        scene: changes with the picture; requests about another scene are refused.
        view: uint8 [H, W, 3], the picture as it is shown.
        size_hw: of the original picture, in whose pixels points count.
        active: number of the object that prompts go to.
        points, box_xyxy: its prompts.
        editable: False while prompts are not taken.
    """
    return {
        "key": key,
        "scene": scene,
        "version": next(_VERSIONS),  # without it, Gradio would not pass on a scene that equals the last one it knows of
        "picture": jpeg_url(view),
        "size": [int(size_hw[1]), int(size_hw[0])],
        "objects": [shown.to_browser() for shown in objects],
        "active": active,
        "points": [[float(x), float(y), int(label)] for x, y, label in points],
        "box": None if box_xyxy is None else [float(v) for v in box_xyxy],
        "editable": editable,
    }


def answer_message(request: PromptRequest, shown: ShownObject) -> dict[str, Any]:
    """The answer to a request; make it while the visitor's work is locked, so that its version tells the order."""
    return {
        "version": next(_VERSIONS),
        "scene": request.scene,
        "object": shown.to_browser(),
        "points": [list(p) for p in request.points],
        "box": None if request.box_xyxy is None else list(request.box_xyxy),
    }


def refusal(says: str) -> dict[str, Any]:
    """The answer to what cannot be done; the browser goes back to what it showed before."""
    return {"refused": True, "says": says}


def stale() -> dict[str, Any]:
    """The answer to a request that a newer one has overtaken, or that may be left out."""
    return {"stale": True}


def colour_code(colour: int | None) -> str:
    """An object's colour as "#RRGGBB"; "" as long as it has none."""
    return "" if colour is None else PALETTE[colour % len(PALETTE)]


def mask_png(mask: np.ndarray | None) -> str:
    """A mask as a 1-bit PNG in base64; "" for none."""
    if mask is None or not mask.any():
        return ""
    packed, png = cv2.imencode(".png", mask.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])
    assert packed, "OpenCV packs every mask"
    return base64.b64encode(png.tobytes()).decode()


def jpeg_url(picture: np.ndarray, quality: int = _JPEG_QUALITY) -> str:
    """uint8 [H, W, 3] RGB as a data URL, which no other visitor can open."""
    packed, jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert packed, "OpenCV packs every picture of bytes"
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"


def _whole(value: Any, name: str, below: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < below:
        raise ValueError(f"{name} must be a whole number from 0, got {value!r}")
    return value


def _numbers(values: Any, count: int, name: str) -> list[float]:
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"a {name} is {count} numbers, got {values!r}")
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < _MAX_PLACE for v in values):
        raise ValueError(f"a {name} is {count} finite numbers, got {values!r}")
    return [float(np.float32(v)) for v in values]  # as sessions keep them: a point that comes back is known again


def _point(values: Any) -> Point:
    x, y, label = _numbers(values, 3, "point")
    if label not in (0, 1):
        raise ValueError(f"a point's label is 1 (this) or 0 (not this), got {label:g}")
    return x, y, int(label)


def _box(values: Any) -> Box:
    x0, y0, x1, y1 = _numbers(values, 4, "box")
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
