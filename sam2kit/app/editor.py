"""What a person does to a picture or a clip: one editor behind the tabs, the fine-tune tab and the notebook widget.

    editor = Editor(predictor.open("cup.jpg"), predictor)
    editor.scene(key)                   all that there is to see, as the canvas takes it
    editor.answer(request)              a click: the mask, the row of the list and the candidates that come of it
    editor.session                      all of it as data, to be tracked, saved, exported

A picture is a clip of one frame. No user interface in here: its owner calls it while nobody else does, and
shows `scene` after every step but a click, which `answer` answers. Objects go by their number, from 1; there is always
one. What is seen of an object (mask, thumbnail, colour) is made once per answer of the model.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np

from sam2kit.app.canvas import (
    VERSIONS,
    PromptRequest,
    Stroke,
    cropped,
    inside,
    jpeg_url,
    mask_png,
    number_in,
    object_message,
    view_of,
    view_size,
)
from sam2kit.media.drawing import PALETTE, contrasting_colour
from sam2kit.media.mask_files import NamedMask
from sam2kit.predict.frame_masks import FrameMasks, FrameResult
from sam2kit.predict.objects import ObjectId, TrackedObject
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.session import Session
from sam2kit.predict.video import VideoPredictor

_SERIAL = count(1)
_Drawn = dict[int, tuple[FrameResult, str]]  # number of an object -> the answer, and what was made of it
_THUMBNAIL, _CANDIDATE = 52, 120  # pixels of the longer side


@dataclass
class ObjectColours:
    """Which colour each object has: chosen to contrast with the object's first mask, and kept from then on."""

    places: dict[int, int] = field(default_factory=dict)  # object number -> place in PALETTE

    def keep(self, numbers: Collection[int]) -> None:
        """Forget the colours of all other objects."""
        self.places = {number: place for number, place in self.places.items() if number in numbers}

    def give(self, number: int, view: np.ndarray, mask: np.ndarray) -> None:
        """Choose the colour of an object whose mask [H, W] lies on a view [H, W, 3], unless it has one or is empty."""
        if number not in self.places and mask.any():
            self.places[number] = contrasting_colour(view[mask], number - 1, set(self.places.values()))

    def of(self, number: int) -> int:
        """What `colour_of` makes the object's colour of, another number for each object; its own before it has one."""
        return len(PALETTE) * number + self.places.get(number, (number - 1) % len(PALETTE))


def snapshot(session: Session, *, with_features: bool = False) -> Session:
    """What is known now, as a session of its own: what happens to one does not change the other."""
    objects = {i: item.without_memories() for i, item in session.objects.items()}
    features = OrderedDict(session.features) if with_features else OrderedDict()
    return replace(session, objects=objects, plan=deque(session.plan), features=features)


@dataclass(eq=False)
class Editor:
    """A session, the frame that is shown, and who answers."""

    session: Session
    predictor: VideoPredictor
    frame: int = 0
    colours: ObjectColours = field(default_factory=ObjectColours)
    serial: int = field(default_factory=lambda: next(_SERIAL))  # another one for each editor
    view_hw: tuple[int, int] = field(init=False)  # height and width of the view
    _views: dict[int, np.ndarray] = field(default_factory=dict, repr=False)  # of the frame that was looked at last
    _drawn: _Drawn = field(default_factory=dict, repr=False)  # masks as PNG
    _thumbnails: _Drawn = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.view_hw = view_size(self.session.clip.size_hw)
        self._keep_one()
        if self.session.active is None:
            self.session.active = next(iter(self.session.objects))

    # frames

    @property
    def scene_name(self) -> str:
        """Names the frame that is shown, for requests about it."""
        return f"{self.serial}.{self.frame}"

    def go_to(self, frame: float) -> None:
        """Show the nearest frame that is worked on."""
        frames = self.session.frames
        place = min(max(round((frame - frames.start) / frames.step), 0), len(frames) - 1)
        self.frame = frames[place]

    def step(self, by: int) -> None:
        """Show a frame so many steps on, or back."""
        self.go_to(self.frame + by * self.session.frames.step)

    def work_on(self, frames: range) -> list[int]:
        """Work on a part of the clip, or every n-th frame; as `Session.work_on`."""
        left_out = self.session.work_on(frames)
        self.go_to(self.frame)
        return left_out

    def encode(self) -> None:
        """Let the model see the frame that is shown, so that clicks and previews are quick."""
        self.predictor.encode(self.session, self.frame)

    def change_model(self, predictor: VideoPredictor) -> None:
        """Go on with another model: masks of a picture stay, a clip is asked again, as memories are of no use to it."""
        self.predictor = predictor
        if self.session.is_picture:
            self.session.features.clear()
        else:
            self.session.options = predictor.options
            predictor.answer_again(self.session)

    def change_options(self, options: VideoOptions) -> None:
        """Show all masks as other options have it."""
        self.session.options = options
        self._drawn.clear()
        self._thumbnails.clear()

    # objects

    @property
    def active(self) -> TrackedObject:
        """The object that clicks go to."""
        assert self.session.active is not None, "there is always one"
        return self.session.objects[self.session.active]

    @property
    def names(self) -> list[str]:
        """Of all objects, in the order of the list."""
        return [item.name for item in self.session.objects.values()]

    def id_of(self, number: int) -> ObjectId:
        """The object of a number; ValueError if there is none any more."""
        for object_id, item in self.session.objects.items():
            if item.number == number:
                return object_id
        raise ValueError("there is no such object any more; choose one in the list")

    def new_object(self) -> None:
        """Begin another object; an empty one is used first."""
        empty = next((i for i, item in self.session.objects.items() if item.is_empty), None)
        if empty is None:
            self.session.add_object()
        else:
            self.session.select(empty)

    def select(self, number: int) -> None:
        """Make an object the one that clicks go to."""
        self.session.select(self.id_of(number))

    def rename(self, number: int, name: str) -> None:
        """Give an object a name. Raises ValueError if it is empty, too long or taken."""
        self.session.rename(self.id_of(number), name)

    def remove(self, number: int) -> None:
        """Forget an object; undo brings it back."""
        self.session.remove_object(self.id_of(number))
        self._keep_one()

    def merge(self, number: int) -> None:
        """Let an object become part of the active one; undo brings it back."""
        assert self.session.active is not None, "there is always one"
        self.predictor.merge(self.session, self.session.active, self.id_of(number))

    def clear(self) -> None:
        """Forget all objects; undo brings them back."""
        self.session.reset()
        self._keep_one()

    def _keep_one(self) -> None:
        if not self.session.objects:
            self.session.put_object(self.session.next_id(), TrackedObject())

    # prompts

    def answer(self, request: PromptRequest) -> dict[str, Any]:
        """Let these be all prompts of an object on the frame that is shown; what the canvas shows then.

        Raises:
            ValueError: if it is about another frame or object, or cannot be answered.
        """
        asked = self._asked(request)
        if request.strokes:
            self._paint(asked[0], request.strokes)
        if request.points or request.box_xyxy or not request.strokes:
            self.predictor.set_prompts(self.session, self.frame, *asked)
        return _answer(request, self.shown(self.active), self.candidates())

    def _paint(self, object_id: ObjectId, strokes: Sequence[Stroke]) -> None:
        """Draw over what is seen of an object: a mask prompt takes the place of its other prompts on the frame.

        Strokes that were drawn before, and come again, change nothing: the last one over a pixel decides.
        """
        result = self.session.objects[object_id].result(self.frame)
        if result is None and not any(stroke.adds for stroke in strokes):
            raise ValueError("there is nothing to erase yet; click on something, or paint it")
        mask = np.zeros(self.session.clip.size_hw, bool) if result is None else self._masks_of([result]).ungrown[0]
        for stroke in strokes:
            mask = stroke.drawn(mask)
        self.predictor.add_mask(self.session, self.frame, object_id, mask)

    def preview(self, request: PromptRequest) -> dict[str, Any]:
        """The object's mask as it would be; nothing changes. ValueError as `answer`, or if the frame is not encoded."""
        asked = self._asked(request)
        if self.frame not in self.session.features:
            raise ValueError("the model has not seen this frame yet; click, or wait")
        found = self.predictor.preview(self.session, self.frame, *asked)
        return _answer(request, object_message(request.number, "", mask_png(self._at_view(found)[0])))

    def _asked(self, request: PromptRequest) -> tuple[ObjectId, np.ndarray, np.ndarray, np.ndarray | None]:
        if request.scene != self.scene_name:
            raise ValueError("another picture is shown by now; click on that one")
        return self.id_of(request.number), *inside(request, self.session.clip.size_hw)

    def choose(self, candidate: int) -> None:
        """Take another of the active object's candidates."""
        self.session.choose(self.frame, self.session.active, candidate)

    def clear_frame(self) -> None:
        """Take back the active object's prompts on the frame that is shown; undo brings them back."""
        if self.frame not in self.active.prompts:
            raise ValueError(f"{self.active.name} has no prompts on this frame")
        self.session.clear(self.frame, self.session.active)

    def undo(self) -> None:
        """Take back the last step, and show where it was."""
        frame = self.session.undo()
        if frame is not None:
            self.frame = frame
        self._keep_one()

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self.session.past)

    # what is seen

    def scene(self, key: str = "", painted: np.ndarray | None = None, *, editable: bool = True) -> dict[str, Any]:
        """All that there is to see of the frame that is shown.

        Args:
            key: the visitor's, for requests.
            painted: uint8 [H, W, 3] at the size of the view, to be shown in place of the frame, masks and prompts.
            editable: False while prompts are not taken.
        """
        points, box = self.prompts() if painted is None else ([], None)
        hidden = {} if painted is None else {"mask": ""}
        height, width = self.session.clip.size_hw
        return {
            "key": key,
            "scene": self.scene_name,
            "version": next(VERSIONS),
            "picture": jpeg_url(self.view() if painted is None else painted),
            "size": [width, height],  # in whose pixels points count
            "objects": [self.shown(item) | hidden for item in self.session.objects.values()],
            "active": self.active.number,
            "points": [[float(x), float(y), int(label)] for x, y, label in points],
            "box": None if box is None else box.tolist(),
            "candidates": self.candidates() if painted is None else None,
            "editable": editable,
        }

    def prompts(self) -> tuple[list[tuple[float, float, int]], np.ndarray | None]:
        """Clicks (x, y, label) and the box of the active object on the frame that is shown."""
        asked = self.active.prompts.get(self.frame)
        if asked is None:
            return [], None
        return [(x, y, label) for (x, y), label in zip(asked.points_xy, asked.labels, strict=True)], asked.box_xyxy

    def shown(self, item: TrackedObject) -> dict[str, Any]:
        """One object on the frame that is shown: mask, colour, and its row in the list."""
        result = item.result(self.frame)
        note, drawn = "" if item.prompts or item.tracked or result else "click it", ""
        if result is not None:
            seen = result.present or result.prompted or not self.session.options.blanks_absent
            answer = f"predicted IoU {result.predicted_iou:.2f}" if result.given is None else "a mask prompt"
            note = answer if seen else "not in the picture"
            drawn = self._once(self._drawn, item, result, lambda: mask_png(self.mask(item)))
        return object_message(item.number, item.name, drawn, self.colour(item), note, self._thumbnail(item))

    def candidates(self) -> dict[str, Any] | None:
        """The candidates of the active object on the frame that is shown; None if its answer has only one."""
        result = self.active.prompted.get(self.frame)
        if result is None or result.candidates is None:
            return None
        masks = self._at_view(self._masks_of([result.choose(i) for i in range(result.candidate_count)]))
        view, colour, around = self.view(), self.colour(self.active) or 0, np.logical_or.reduce(masks)
        rows = [
            {
                "picture": cropped(view, mask, colour, _CANDIDATE, around),
                "mask": mask_png(mask),
                "note": f"IoU {iou:.2f}",
                "tooltip": f"predicted IoU {iou:.2f}",
            }
            for mask, iou in zip(masks, result.candidates.predicted_iou.tolist(), strict=True)
        ]
        return {"chosen": result.chosen, "rows": rows}

    def view(self, frame: int | None = None) -> np.ndarray:
        """uint8 [H, W, 3], a frame as the browser shows it; None means the one that is shown."""
        if frame is not None and frame != self.frame:
            return view_of(self.session.clip.frame(frame))
        if self.frame not in self._views:
            self._views = {self.frame: view_of(self.session.clip.frame(self.frame))}
        return self._views[self.frame]

    def mask(self, item: TrackedObject, frame: int | None = None) -> np.ndarray:
        """bool [H, W] mask of an object at the size of the view; empty where it has none."""
        frame = self.frame if frame is None else frame
        result = item.result(frame)
        if result is None:
            return np.zeros(self.view_hw, bool)
        if self.session.options.exclusive:  # what others have counts
            found = self.session.masks(frame)
            return self._at_view(found)[found.numbers.index(item.number)]
        return self._at_view(self._masks_of([result]))[0]

    def masks(self, frame: int | None = None) -> dict[int, np.ndarray]:
        """Number -> `mask` of all objects that have one."""
        frame = self.frame if frame is None else frame
        items = [item for item in self.session.objects.values() if item.result(frame) is not None]
        return {item.number: self.mask(item, frame) for item in items}

    def colour(self, item: TrackedObject) -> int | None:
        """What `colour_of` makes the object's colour of; chosen where it was prompted first; None without a mask."""
        if item.is_empty or not (item.prompted or item.tracked):
            return None
        if item.number not in self.colours.places and item.prompted:
            frame = min(item.prompted)
            self.colours.give(item.number, self.view(frame), self.mask(item, frame))
        return self.colours.of(item.number)

    def colours_by_id(self) -> dict[ObjectId, int]:
        """The colours of all objects that have one, for those who draw them."""
        objects = self.session.objects
        self.colours.keep([item.number for item in objects.values() if not item.is_empty])
        return {i: colour for i, item in objects.items() if (colour := self.colour(item)) is not None}

    def finished(self) -> list[NamedMask]:
        """The masks on the frame that is shown, at the size of the original, packed; one by one, as they are large."""
        if self.session.options.exclusive:
            found = self.session.masks(self.frame)
            return list(map(NamedMask.of, found.names, found.masks, found.predicted_iou.tolist()))
        return [
            NamedMask.of(item.name, self._masks_of([result]).masks[0], result.predicted_iou)
            for item in self.session.objects.values()
            if (result := item.result(self.frame)) is not None
        ]

    def _masks_of(self, results: Sequence[FrameResult]) -> FrameMasks:
        numbers, size_hw = tuple(range(1, len(results) + 1)), self.session.clip.size_hw
        return FrameMasks(self.frame, numbers, tuple(results), numbers, size_hw, self.session.options)

    def _at_view(self, found: FrameMasks) -> np.ndarray:
        """bool [B, H, W]."""
        return found.masks_at(self.view_hw)

    def _thumbnail(self, item: TrackedObject) -> str:
        """From the first frame on which the object was prompted."""
        if not item.prompted:
            return ""
        frame = min(item.prompted)

        def make() -> str:
            return cropped(self.view(frame), self.mask(item, frame), self.colour(item) or 0, _THUMBNAIL)

        return self._once(self._thumbnails, item, item.prompted[frame], make)

    @staticmethod
    def _once(known: _Drawn, item: TrackedObject, result: FrameResult, make: Callable[[], str]) -> str:
        """What is made of an answer of the model, made again when another one is there."""
        if item.number not in known or known[item.number][0] is not result:
            known[item.number] = result, make()
        return known[item.number][1]


# what the canvas, its list and the candidates ask for beside prompts, with what these events bring
GESTURES: dict[str, Callable[[Editor, dict[str, Any]], object]] = {
    "choose": lambda editor, sent: editor.choose(number_in(sent, "candidate")),
    "pick": lambda editor, sent: editor.select(number_in(sent)),
    "rename": lambda editor, sent: editor.rename(number_in(sent), str(sent.get("name", ""))),
    "drop": lambda editor, sent: editor.remove(number_in(sent)),
    "merge": lambda editor, sent: editor.merge(number_in(sent)),
}


def _answer(request: PromptRequest, shown: dict[str, Any], candidates: dict[str, Any] | None = None) -> dict[str, Any]:
    """Make it while the visitor's work is locked, so that its version tells the order."""
    return {
        "version": next(VERSIONS),
        "scene": request.scene,
        "object": shown,
        "points": [list(point) for point in request.points],
        "box": None if request.box_xyxy is None else list(request.box_xyxy),
        "candidates": candidates,
    }
