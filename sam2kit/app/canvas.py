"""The canvas in the browser: what it and the server tell each other, and the script that draws it. No Gradio in here.

    scene      server -> browser   a picture, all objects, the prompts of the active one: what there is to see
    request    browser -> server   strokes of a brush over the mask of one object, then all its prompts, with a number
                                   that grows: the newest request counts; it has the strokes of those before that are
                                   not answered yet
    answer     server -> browser   the object with its mask, its row in the list, its candidates; its version says
                                   which scenes are newer

Scenes and answers are made in editor.py. Masks travel as 1-bit PNGs of the size of the view and get their colour in the
browser. Points and boxes are pixels of the original picture. Requests do not come through Gradio's queue, which would
tell visitors apart: each one carries the visitor's own key, which nobody can guess. Here it is only made sure that they
have the form of a request; what the prompts are worth is checked once, where a `FramePrompt` is made of them.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam2kit.media.drawing import PALETTE, rgb

VIEW_SIDES = (960, 1280)  # the longer side of what the browser shows lies between these, in pixels
MAX_POINTS = 200  # of one object on one frame
_MAX_STROKES, _MAX_PLACES = 50, 10_000  # of one request
PREDICTED_IOU = "The model's own estimate of the mask's IoU with the true one (0 to 1)"  # a tooltip
_MAX_NUMBER = 100_000
_MAX_RADIUS = 1000  # pixels of a brush
_FINE = 4  # bits behind the point, of the pixels that OpenCV draws at
_MAX_TEXT = 200  # letters
_JPEG_QUALITY = 90
_MARGIN = 0.12  # of the object's box, around it
_COLOURS = np.array([rgb(code) for code in PALETTE])  # [N, 3]
VERSIONS = count()  # of scenes and answers; without it, Gradio would not pass on a scene that equals the last one

Place = tuple[float, float]  # x, y
Point = tuple[float, float, int]  # x, y, label: 1 this, 0 not this
Box = tuple[float, float, float, float]  # x0, y0, x1, y1


@dataclass(frozen=True)
class Stroke:
    """What a brush or an eraser was drawn over, in pixels of the original picture."""

    path: tuple[Place, ...]
    radius: float
    adds: bool  # False: an eraser

    @classmethod
    def read(cls, sent: Any) -> Stroke:
        """Make sure that what a browser sent has the form of a stroke. ValueError if it is anything else."""
        given: dict[str, Any] = sent if isinstance(sent, dict) else {}
        path, radius, adds = given.get("path"), given.get("radius"), given.get("adds")
        if not isinstance(path, list) or not 1 <= len(path) <= _MAX_PLACES or type(adds) is not bool:
            raise ValueError(f"a stroke has a path of 1 to {_MAX_PLACES} places, a radius, and adds or takes away")
        _check_numbers([("place of a stroke", place, 2) for place in path])
        if not np.abs(path).max() < _MAX_NUMBER:
            raise ValueError("a stroke lies in or near the picture")
        if not isinstance(radius, (int, float)) or not 0 < radius <= _MAX_RADIUS:
            raise ValueError(f"the radius of a brush is above 0 and up to {_MAX_RADIUS} pixels, got {radius!r:.80}")
        return cls(tuple(map(tuple, path)), float(radius), adds)

    def drawn(self, mask: np.ndarray) -> np.ndarray:
        """A copy of a bool [H, W] mask with the stroke in it, or without what the stroke covers."""
        scale = 1 << _FINE
        places = (np.array(self.path) * scale).round().astype(np.int32)
        covered = np.zeros(mask.shape, np.uint8)
        cv2.polylines(covered, [places], False, 1, max(round(2 * self.radius), 1), shift=_FINE)
        for x, y in places[[0, -1]].tolist():  # round ends, also of a short one
            cv2.circle(covered, (x, y), round(self.radius * scale), 1, -1, shift=_FINE)
        return mask | (covered > 0) if self.adds else mask & (covered == 0)


@dataclass(frozen=True)
class PromptRequest:
    """All that is asked of one object on the frame that is shown: strokes over its mask, then clicks and a box."""

    key: str  # whose work it is
    scene: str  # the frame that was seen
    sequence: int  # grows with each request
    number: int  # of the object
    points: tuple[Point, ...]
    box_xyxy: Box | None
    strokes: tuple[Stroke, ...] = ()

    @classmethod
    def read(cls, sent: Any) -> PromptRequest:
        """Make sure that what a browser sent has the form of a request.

        Raises:
            ValueError: if it is anything else; nothing of it is used then.
        """
        if not isinstance(sent, dict):
            raise ValueError(f"a request is an object, got {type(sent).__name__}")
        key, scene, points, box = (sent.get(name) for name in ("key", "scene", "points", "box"))
        if not isinstance(key, str) or not isinstance(scene, str) or len(key + scene) > _MAX_TEXT:
            raise ValueError("a request names its visitor and its picture")
        for name, below in (("sequence", 2**53), ("number", _MAX_NUMBER)):
            if type(sent.get(name)) is not int or not 0 <= sent[name] < below:
                raise ValueError(f"{name} must be a whole number from 0, got {sent.get(name)!r}")
        if not isinstance(points, list) or len(points) > MAX_POINTS:
            raise ValueError(f"points are a list of at most {MAX_POINTS}")
        _check_numbers([("point", point, 3) for point in points] + ([] if box is None else [("box", box, 4)]))
        box_xyxy = None if box is None else tuple(box)
        strokes = [] if sent.get("strokes") is None else sent["strokes"]
        if not isinstance(strokes, list) or len(strokes) > _MAX_STROKES:
            raise ValueError(f"strokes are a list of at most {_MAX_STROKES}")
        painted = tuple(map(Stroke.read, strokes))
        if sum(len(stroke.path) for stroke in painted) > _MAX_PLACES:
            raise ValueError(f"strokes have at most {_MAX_PLACES} places together; wait for an answer, and go on")
        return cls(key, scene, sent["sequence"], sent["number"], tuple(map(tuple, points)), box_xyxy, painted)


def _check_numbers(given: Sequence[tuple[str, Any, int]]) -> None:
    """Raises ValueError unless the values of each (what, values, count) are a list of so many numbers."""
    for what, values, size in given:
        if not isinstance(values, list) or [type(v) in (int, float) for v in values] != [True] * size:
            raise ValueError(f"a {what} is {size} numbers, got {values!r:.80}")


def number_in(sent: dict[str, Any], name: str = "number") -> int:
    """The object's number, or another one, that an event brings; -1, which nothing has, if it brings none."""
    number = sent.get(name)
    return number if isinstance(number, int) and not isinstance(number, bool) else -1


def inside(request: PromptRequest, size_hw: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Clicks [N, 2], labels [N] and box [4] of a request, moved into the picture: browsers round at the border.

    Raises:
        ValueError: if one lies clearly outside.
    """
    most = np.array([size_hw[1], size_hw[0]], float) - 1
    points = np.array(request.points, float).reshape(-1, 3)
    places = np.concatenate([points[:, :2], np.array(request.box_xyxy or (), float).reshape(-1, 2)])
    outside = (places < -2) | (places > most + 2)
    if outside.any():
        x, y = places[outside.any(axis=1)][0]
        raise ValueError(f"the point ({x:g}, {y:g}) lies outside the {size_hw[1]}x{size_hw[0]} picture")
    places = places.clip(0, most)
    corners = places[len(points) :]
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)]) if len(corners) else None
    return places[: len(points)], points[:, 2], box


# messages


def object_message(
    number: int, name: str, mask_png: str = "", colour: int | None = None, note: str = "", thumbnail: str = ""
) -> dict[str, Any]:
    """An object as the canvas and the list show it, or a row of another list; no colour as long as there is no mask."""
    return {
        "number": number,
        "name": name,
        "colour": "" if colour is None else PALETTE[colour % len(PALETTE)],
        "mask": mask_png,
        "note": note,
        "tooltip": PREDICTED_IOU if note.startswith("predicted") else "",
        "picture": thumbnail,
    }


def list_message(rows: Sequence[dict[str, Any]], active: int) -> dict[str, Any]:
    """The value of a list that stands alone, such as one of photos; rows as of `object_message`."""
    return {"version": next(VERSIONS), "active": active, "rows": list(rows)}


def refusal(message: str) -> dict[str, Any]:
    """The answer to what cannot be done; the browser goes back to what it showed before."""
    return {"refused": True, "says": message}


def stale() -> dict[str, Any]:
    """The answer to a request that a newer one has overtaken, or that may be left out."""
    return {"stale": True}


# pictures


def view_size(size_hw: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the view; small pictures grow, because the browser would not enlarge them."""
    longest = max(size_hw[:2])
    wanted = min(max(longest, VIEW_SIDES[0]), VIEW_SIDES[1])
    height, width = (max(1, round(n * wanted / longest)) for n in size_hw[:2])
    return height, width


def view_of(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] at the size of the view; the argument itself if it has that size."""
    height, width = view_size(image.shape)
    if image.shape[:2] == (height, width):
        return image
    shrinks = max(height, width) < max(image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def scaled(image: np.ndarray, longest: int) -> np.ndarray:
    """uint8 [h, w, 3] whose longer side has so many pixels; for small pictures beside the view."""
    scale = longest / max(image.shape[:2])
    size_wh = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)


def mask_png(mask: np.ndarray) -> str:
    """A bool [H, W] mask as a 1-bit PNG in base64; "" for an empty one."""
    if not mask.any():
        return ""
    packed, png = cv2.imencode(".png", mask.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])
    assert packed, "OpenCV packs every mask"
    return base64.b64encode(png.tobytes()).decode()


def jpeg_url(picture: np.ndarray, quality: int = _JPEG_QUALITY) -> str:
    """uint8 [H, W, 3] RGB as a data URL, which no other visitor can open."""
    packed, jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert packed, "OpenCV packs every picture of bytes"
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"


def cropped(view: np.ndarray, mask: np.ndarray, colour: int, side: int, around: np.ndarray | None = None) -> str:
    """URL of a small picture of an object, the ground faded into its colour; "" if there is nothing to see.

    Args:
        view, mask: uint8 [H, W, 3] and bool [H, W].
        side: of the picture, in pixels.
        around: bool [H, W], what the picture shows; None means the mask.
    """
    x, y, width, height = cv2.boundingRect((mask if around is None else around).astype(np.uint8))
    if not width:
        return ""
    reach = round(max(width, height) * (0.5 + _MARGIN)) + 1  # of a square, as far as it lies inside
    x0, y0 = x + width // 2 - reach, y + height // 2 - reach
    window = slice(max(y0, 0), y0 + 2 * reach), slice(max(x0, 0), x0 + 2 * reach)
    part = view[window]
    faded = (part * 0.35 + _COLOURS[colour % len(PALETTE)] * 0.65).astype(np.uint8)
    return jpeg_url(scaled(np.where(mask[window][..., None], part, faded), side), 80)


# scripts


def canvas_script() -> str:
    """Functions for the browser: `clickCanvas` and `standaloneList`; canvas.js says what they are given."""
    return (Path(__file__).parent / "canvas.js").read_text()


def canvas_css() -> str:
    """Their look; colours are CSS variables with Gradio's names."""
    return (Path(__file__).parent / "canvas.css").read_text()
