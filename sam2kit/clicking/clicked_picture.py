"""Work on one picture: objects, their prompts and masks, and the way back.

Everything that can be done to a picture, as plain calls without any user interface. All coordinates are pixels of the
original picture; the *view* is the copy that the browser shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch

from sam2kit.clicking.messages import Box, Point, PromptRequest, ShownObject
from sam2kit.clicking.named_objects import ObjectColours, check_room, checked_name, free_name
from sam2kit.clicking.object_list import PREDICTED_IOU, ListedObject, thumbnail_of
from sam2kit.clicking.views import view_of
from sam2kit.config import SAM2Config
from sam2kit.media.exports import NamedMask
from sam2kit.media.pictures import PictureSource, read_picture, shared_range
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import FoundMask
from sam2kit.predict.image import ImageEmbedding, ImagePredictor, Masks
from sam2kit.predict.masks import SURE_LOGIT, mask_to_logits
from sam2kit.predict.picture_session import MOST_OBJECTS, PictureSession, PromptedObject
from sam2kit.predict.prompts import Prompt

_MAX_UNDO = 40
_SERIAL = count(1)

Check = Callable[[tuple[int, ...], str], None]  # size and name of a picture; raises ValueError if it is not taken


@dataclass(frozen=True)
class Moment:
    """What undo goes back to."""

    objects: tuple[PromptedObject, ...] = (PromptedObject(0),)
    active: int = 0  # index into objects
    corner: tuple[float, float] | None = None  # first corner of a box that is being drawn


@dataclass
class ClickedPicture:
    """A picture, its embedding and the objects in it."""

    file_name: str = "picture"
    image: np.ndarray | None = None  # uint8 [H, W, 3], the original
    view: np.ndarray | None = None  # the same, as the browser shows it
    embedding: ImageEmbedding | None = None
    now: Moment = field(default_factory=Moment)
    past: list[Moment] = field(default_factory=list)
    _seen_by: SAM2 | None = None  # whose embedding it is
    note: str = ""  # what was left out of the contrast of a scientific picture
    opened: int = 0  # another number for each picture, of whichever visitor
    _drawn: dict[PromptedObject, np.ndarray] = field(default_factory=dict)
    _thumbnails: dict[PromptedObject, str] = field(default_factory=dict)
    _colours: ObjectColours = field(default_factory=ObjectColours)

    # the picture

    def open(self, predictor: ImagePredictor, source: PictureSource, check: Check | None = None) -> None:
        """Start on a new picture; encodes it once.

        Args:
            check: of the picture, before it is used.
        Raises:
            ValueError: if it cannot be read or used; what was open stays open, whatever goes wrong.
        """
        contrast = shared_range([source])
        image = read_picture(source, value_range=contrast)
        name = Path(source).name if isinstance(source, (str, Path)) else "picture"
        if check is not None:
            check(image.shape, name)
        embedding = predictor.encode(image).to("cpu")
        self.show(image, name)
        self.note = (contrast and contrast.note) or ""
        self.embedding, self._seen_by = embedding, predictor.model

    def show(self, image: np.ndarray, file_name: str) -> None:
        """Start on a new picture that is read already; it is encoded when it is asked about."""
        self.file_name, self.image, self.view, self.embedding = file_name, image, view_of(image), None
        self.now, self.past, self.opened = Moment(), [], next(_SERIAL)
        self._drawn, self._thumbnails, self._colours = {}, {}, ObjectColours()

    def encode(self, predictor: ImagePredictor) -> None:
        """Let a model see the picture; nothing happens if this one has."""
        if not self.is_seen_by(predictor):
            self.embedding, self._seen_by = predictor.encode(self.open_image).to("cpu"), predictor.model

    def is_seen_by(self, predictor: ImagePredictor) -> bool:
        """Whether what is kept of the picture is what this predictor's model saw."""
        return self.embedding is not None and self._seen_by is predictor.model

    def forget_embedding(self) -> None:
        """Let go of what the model saw, which takes much memory. Masks stay."""
        self.embedding = self._seen_by = None

    def adopt(self, session: PictureSession) -> None:
        """Go on with a saved session."""
        self.show(session.image, session.file_name)
        self.now = Moment(session.objects or (PromptedObject(0),), session.active if session.objects else 0)

    def session(self, config: SAM2Config | None = None) -> PictureSession:
        """All of it but undo, to be saved.

        Args:
            config: of the model that answers.
        """
        return PictureSession(self.open_image, self.file_name, self.now.objects, self.now.active, config)

    @property
    def scene(self) -> str:
        """Names the picture that is shown, for requests about it."""
        return str(self.opened)

    def close(self) -> None:
        """Let go of the picture."""
        self.image = self.view = self.embedding = self._seen_by = None
        self.now, self.past, self._drawn, self._thumbnails = Moment(), [], {}, {}

    @property
    def is_open(self) -> bool:
        """True when there is a picture."""
        return self.image is not None

    @property
    def open_image(self) -> np.ndarray:
        """The original, where a picture is open for certain."""
        assert self.image is not None, "needs an open picture"
        return self.image

    @property
    def open_view(self) -> np.ndarray:
        """The view, where a picture is open for certain."""
        assert self.view is not None, "needs an open picture"
        return self.view

    # objects

    @property
    def active(self) -> PromptedObject:
        """The object that clicks go to."""
        return self.now.objects[self.now.active]

    @property
    def with_masks(self) -> tuple[PromptedObject, ...]:
        """The objects that the model has answered."""
        return tuple(item for item in self.now.objects if item.answer is not None)

    def index_of(self, number: int) -> int:
        """The place of an object.

        Raises:
            ValueError: if there is no such object any more.
        """
        for i, item in enumerate(self.now.objects):
            if item.number == number:
                return i
        raise ValueError("there is no such object any more; choose one in the list")

    def new_object(self) -> None:
        """Start another object; an empty one is used first.

        Raises:
            ValueError: if there are too many.
        """
        for item in self.now.objects:
            if item.is_empty:
                self.select(item.number)
                return
        number = max(item.number for item in self.now.objects) + 1
        check_room(len(self.now.objects) + 1)
        name = free_name(number, {item.name for item in self.now.objects})
        objects = (*self.now.objects, PromptedObject(number, name))
        self.remember(Moment(objects, len(objects) - 1))

    def select(self, number: int) -> None:
        """Make an object the active one; not a step that undo counts."""
        self.now = replace(self.now, active=self.index_of(number), corner=None)

    def rename(self, number: int, name: str) -> None:
        """Give an object a name; nothing happens if it has it.

        Raises:
            ValueError: if it is empty, too long or taken.
        """
        index = self.index_of(number)
        item = self.now.objects[index]
        name = checked_name(name, {o.name for o in self.now.objects} - {item.name})
        if name != item.name:
            self._put(index, replace(item, name=name))

    def remove(self, number: int) -> None:
        """Forget an object; undo brings it back."""
        gone = self.index_of(number)
        objects = tuple(item for i, item in enumerate(self.now.objects) if i != gone) or (PromptedObject(0),)
        active = self.now.active - (gone < self.now.active)
        self.remember(Moment(objects, min(active, len(objects) - 1)))

    def choose(self, candidate: int) -> None:
        """Take another of the active object's candidates."""
        if not 0 <= candidate < len(self.active.predicted_iou):
            raise ValueError(f"there is no candidate {candidate + 1} to choose")
        if candidate != self.active.chosen:
            self._put(self.now.active, replace(self.active, chosen=candidate))

    def undo(self) -> None:
        """Take back the last step; nothing happens at the start."""
        if self.past:
            self._go(self.past.pop())

    def clear(self) -> None:
        """Remove all objects; undo brings them back."""
        self.remember(Moment())

    def add_found(self, found: Sequence[FoundMask], side: int) -> int:
        """Add the masks of "segment everything" as objects; returns how many.

        Args:
            side: edge of the model's low-res logits.
        Raises:
            ValueError: if there are too many.
        """
        kept = self.with_masks
        if len(kept) + len(found) > MOST_OBJECTS:
            raise ValueError(
                f"{len(found)} masks were found, and {MOST_OBJECTS} objects are the most of one picture; ask with "
                "fewer points per side, or raise the minimum predicted IoU"
            )
        first = max((item.number for item in kept), default=-1) + 1
        names = {item.name for item in kept}
        objects = list(kept)
        for number, one in enumerate(found, start=first):
            name = free_name(number, names)
            names.add(name)
            objects.append(PromptedObject(number, name, answer=_answer_of(one, side)))
        if found:
            self.remember(Moment(tuple(objects), len(kept)))
        return len(found)

    # prompts

    def set_prompts(
        self, predictor: ImagePredictor, number: int, points: tuple[Point, ...], box_xyxy: Box | None
    ) -> None:
        """Let these be all of an object's prompts, and ask the model; without any, the object is empty."""
        index = self.index_of(number)
        item = self.now.objects[index]
        if (points, box_xyxy) != (item.points, item.box_xyxy):
            self._put(index, self._answered(predictor, item, points, box_xyxy))

    def checked(self, request: PromptRequest) -> PromptRequest:
        """A request about this picture, with all of it inside.

        Raises:
            ValueError: if it is about another one.
        """
        if self.image is None:
            raise ValueError("open a photo first")
        return request.about(self.scene, self.image.shape)

    def would_be(
        self, predictor: ImagePredictor, number: int, points: tuple[Point, ...], box_xyxy: Box | None
    ) -> PromptedObject:
        """What `set_prompts` would make of an object."""
        return self._answered(predictor, self.now.objects[self.index_of(number)], points, box_xyxy)

    # what is seen

    def view_mask(self, item: PromptedObject) -> np.ndarray:
        """An object's mask at the size of the view; those that did not change are not computed again."""
        if item not in self._drawn:
            current = set(self.now.objects)
            self._drawn = {known: mask for known, mask in self._drawn.items() if known in current}
            self._drawn[item] = item.mask(self.open_view.shape[:2])
        return self._drawn[item]

    def colour(self, item: PromptedObject) -> int | None:
        """An object's colour, see ObjectColours.of; None as long as there is no mask to choose it for."""
        if item.answer is None:
            return None
        self._colours.give(item.number, self.open_view, self.view_mask(item))
        return self._colours.of(item.number)

    def shown(self, item: PromptedObject) -> ShownObject:
        """An object for the click surface."""
        mask = None if item.answer is None else self.view_mask(item)
        return ShownObject(item.number, item.name, mask, self.colour(item))

    def listed(self) -> list[ListedObject]:
        """The objects for the list beside the picture."""
        current = set(self.now.objects)
        kept = {item: picture for item, picture in self._thumbnails.items() if item in current}
        for item in self.now.objects:
            if item not in kept:
                kept[item] = (
                    "" if item.answer is None else thumbnail_of(self.open_view, self.view_mask(item), self.colour(item))
                )
        self._thumbnails = kept
        return [
            ListedObject(item.number, item.name, _note(item), kept[item], self.colour(item), PREDICTED_IOU)
            for item in self.now.objects
        ]

    def finished(self) -> list[NamedMask]:
        """The objects that have a mask, at the size of the original picture."""
        return self.session().finished()

    # inside

    def _answered(
        self, predictor: ImagePredictor, item: PromptedObject, points: tuple[Point, ...], box_xyxy: Box | None
    ) -> PromptedObject:
        """Ask with all prompts of an object; where there is only one click more, with its last mask, too."""
        asked = replace(item, points=points, box_xyxy=box_xyxy)
        if not points and box_xyxy is None:
            return replace(asked, answer=None, chosen=0)
        self.encode(predictor)
        assert self.embedding is not None, "encode leaves one"
        grown = len(points) > len(item.points) and points[: len(item.points)] == item.points
        goes_on = grown and box_xyxy == item.box_xyxy
        before = item.answer.candidate(item.chosen).low_res if goes_on and item.answer is not None else None
        prompt = Prompt([p[:2] for p in points] or None, [p[2] for p in points] or None, box_xyxy, before)
        answer = predictor.predict(self.embedding, prompt, multimask=prompt.is_ambiguous and before is None)
        return replace(asked, answer=answer.to("cpu"), chosen=int(answer.predicted_iou[0].argmax()))

    def _put(self, index: int, item: PromptedObject) -> None:
        objects = list(self.now.objects)
        objects[index] = item
        self.remember(Moment(tuple(objects), index))

    def remember(self, next_moment: Moment) -> None:
        """Go on to another moment; undo comes back to this one."""
        self.past = [*self.past[-(_MAX_UNDO - 1) :], self.now]
        self._go(next_moment)

    def _go(self, moment: Moment) -> None:
        self.now = moment
        self._colours.keep({item.number for item in self.with_masks})


def _note(item: PromptedObject) -> str:
    return f"predicted IoU {item.predicted_iou[item.chosen]:.2f}" if item.answer is not None else "click it"


def _answer_of(found: FoundMask, side: int) -> Masks:
    """A found mask as an answer that further clicks can refine."""
    mask = found.mask
    logits = mask_to_logits(mask, side)[None]
    return Masks(logits, torch.tensor([[found.predicted_iou]]), torch.full((1, 1), SURE_LOGIT), mask.shape)
