"""One visitor's work on one picture: objects, their prompts and masks, and the way back.

Everything the Image tab can do, as plain calls without any user interface. Coordinates that come in are pixels
of the *view*, the copy that the browser shows; they are kept in pixels of the original picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch

from sam2kit.media.drawing import draw_masks, draw_prompts
from sam2kit.media.exports import NamedMask
from sam2kit.media.pictures import PictureSource, read_picture
from sam2kit.predict.automatic import FoundMask
from sam2kit.predict.image import ImageEmbedding, ImagePredictor, Masks
from sam2kit.predict.prompts import Prompt
from sam2kit.ui.views import view_of

_MAX_UNDO = 40
_SURE_LOGIT = 10.0  # of a finished mask that is turned back into logits


@dataclass(frozen=True, eq=False)
class PromptedObject:
    """One object: what was asked and what the model answered. Never changed, only replaced."""

    number: int  # from 0; decides name and colour
    points: tuple[tuple[float, float, int], ...] = ()  # (x, y, label), pixels of the picture
    box_xyxy: tuple[float, float, float, float] | None = None
    answer: Masks | None = None  # one prompt, its candidates
    chosen: int = 0

    @property
    def name(self) -> str:
        """What the visitor reads."""
        return f"Object {self.number + 1}"

    @property
    def predicted_iou(self) -> list[float]:
        """One per candidate; empty before the first prompt."""
        return [] if self.answer is None else self.answer.predicted_iou[0].tolist()

    def mask(self, size_hw: tuple[int, int]) -> np.ndarray:
        """The chosen candidate at a size: bool [H, W]; empty before the first prompt."""
        if self.answer is None:
            return np.zeros(size_hw, bool)
        return (self.answer.candidate(self.chosen).logits_at(size_hw) > self.answer.options.threshold)[0, 0].numpy()


@dataclass(frozen=True)
class _Moment:
    """What undo goes back to."""

    objects: tuple[PromptedObject, ...] = (PromptedObject(0),)
    active: int = 0  # index into objects
    corner: tuple[float, float] | None = None  # first corner of a box that is being drawn


@dataclass
class PictureWork:
    """A picture, its embedding and the objects in it."""

    file_name: str = "picture"
    image: np.ndarray | None = None  # uint8 [H, W, 3], the original
    view: np.ndarray | None = None  # the same, as the browser shows it
    embedding: ImageEmbedding | None = None
    now: _Moment = field(default_factory=_Moment)
    past: list[_Moment] = field(default_factory=list)
    _drawn: dict[PromptedObject, np.ndarray] = field(default_factory=dict)
    _folder: TemporaryDirectory | None = None

    def open(self, predictor: ImagePredictor, source: PictureSource) -> None:
        """Start on a new picture; encodes it once.

        Raises:
            ValueError: if it cannot be read; what was open stays open.
        """
        image = read_picture(source)
        embedding = predictor.encode(image).to("cpu")
        self.file_name = Path(source).name if isinstance(source, (str, Path)) else "picture"
        self.image, self.view, self.embedding = image, view_of(image), embedding
        self.now, self.past = _Moment(), []

    @property
    def downloads(self) -> Path:
        """A folder for this visitor's files; it goes when the work goes."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="sam2kit-")
        return Path(self._folder.name)

    @property
    def is_open(self) -> bool:
        """True when there is a picture."""
        return self.image is not None

    @property
    def active(self) -> PromptedObject:
        """The object that clicks go to."""
        return self.now.objects[self.now.active]

    def click(self, predictor: ImagePredictor, view_xy: tuple[float, float], *, positive: bool) -> None:
        """Add a click to the active object and ask the model."""
        x, y = self._to_picture(view_xy)
        active = replace(self.active, points=(*self.active.points, (x, y, int(positive))))
        self._answer(predictor, active)

    def corner(self, predictor: ImagePredictor, view_xy: tuple[float, float]) -> None:
        """The first or the second corner of a box; the second asks the model."""
        x, y = self._to_picture(view_xy)
        first = self.now.corner
        if first is None:
            self._remember(replace(self.now, corner=(x, y)))
            return
        box = (min(first[0], x), min(first[1], y), max(first[0], x), max(first[1], y))
        self._answer(predictor, replace(self.active, box_xyxy=box, points=(), answer=None))

    def choose(self, candidate: int) -> None:
        """Take another of the active object's candidates."""
        if not 0 <= candidate < len(self.active.predicted_iou):
            raise ValueError(f"there is no candidate {candidate + 1} to choose")
        if candidate != self.active.chosen:
            self._put(replace(self.active, chosen=candidate))

    def new_object(self) -> None:
        """Start another object; an empty one is used first."""
        for i, item in enumerate(self.now.objects):
            if item.answer is None and not item.points:
                self.select(i)
                return
        number = max(item.number for item in self.now.objects) + 1
        objects = (*self.now.objects, PromptedObject(number))
        self._remember(_Moment(objects, len(objects) - 1))

    def select(self, index: int) -> None:
        """Make an object the active one; not a step that undo counts."""
        if not 0 <= index < len(self.now.objects):
            raise ValueError(f"there is no object {index + 1}")
        self.now = replace(self.now, active=index, corner=None)

    def undo(self) -> None:
        """Take back the last step; nothing happens at the start."""
        if self.past:
            self.now = self.past.pop()

    def clear(self) -> None:
        """Remove all objects; undo brings them back."""
        self._remember(_Moment())

    def add_found(self, found: Sequence[FoundMask], side: int) -> int:
        """Add the masks of "segment everything" as objects; returns how many.

        Args:
            side: edge of the model's low-res logits.
        """
        kept = tuple(item for item in self.now.objects if item.answer is not None)
        first = max((item.number for item in kept), default=-1) + 1
        added = tuple(_from_found(f, first + i, side) for i, f in enumerate(found))
        if added:
            self._remember(_Moment((*kept, *added), len(kept)))
        return len(added)

    def draw(self) -> np.ndarray:
        """The view with masks and prompts: uint8 [H, W, 3]."""
        assert self.view is not None, "draw needs an open picture"
        drawn = [item for item in self.now.objects if item.answer is not None]
        picture = draw_masks(self.view, map(self._view_mask, drawn), [item.number for item in drawn])
        scale = self._scale()
        points = [(x * scale, y * scale, label) for x, y, label in self.active.points]
        box = None if self.active.box_xyxy is None else [v * scale for v in self.active.box_xyxy]
        corner = None if self.now.corner is None else [v * scale for v in self.now.corner]
        return draw_prompts(picture, points, box, corner)

    def _view_mask(self, item: PromptedObject) -> np.ndarray:
        """An object's mask at the size of the view; those that did not change are not computed again."""
        assert self.view is not None, "a mask needs an open picture"
        if item not in self._drawn:
            current = set(self.now.objects)
            self._drawn = {known: mask for known, mask in self._drawn.items() if known in current}
            self._drawn[item] = item.mask(self.view.shape[:2])
        return self._drawn[item]

    def finished(self) -> list[NamedMask]:
        """The objects that have a mask, at the size of the original picture."""
        assert self.image is not None, "finished needs an open picture"
        size_hw = self.image.shape[:2]
        return [
            NamedMask.of(item.name, item.mask(size_hw), item.predicted_iou[item.chosen])
            for item in self.now.objects
            if item.answer is not None
        ]

    def _answer(self, predictor: ImagePredictor, asked: PromptedObject) -> None:
        """Ask with all prompts of an object, and with its last mask where there is one."""
        assert self.embedding is not None, "a prompt needs an open picture"
        points = [p[:2] for p in asked.points] or None
        labels = [p[2] for p in asked.points] or None
        before = None if asked.answer is None else asked.answer.candidate(asked.chosen).low_res
        prompt = Prompt(points, labels, asked.box_xyxy, before)
        answer = predictor.predict(self.embedding, prompt, multimask=prompt.is_ambiguous and before is None)
        chosen = int(answer.predicted_iou[0].argmax())
        self._put(replace(asked, answer=answer.to("cpu"), chosen=chosen))

    def _put(self, item: PromptedObject) -> None:
        objects = list(self.now.objects)
        objects[self.now.active] = item
        self._remember(_Moment(tuple(objects), self.now.active))

    def _remember(self, next_moment: _Moment) -> None:
        self.past = [*self.past[-(_MAX_UNDO - 1) :], self.now]
        self.now = next_moment

    def _scale(self) -> float:
        """View pixels per picture pixel."""
        assert self.image is not None and self.view is not None, "a scale needs an open picture"
        return self.view.shape[1] / self.image.shape[1]

    def _to_picture(self, view_xy: tuple[float, float]) -> tuple[float, float]:
        assert self.image is not None, "a click needs an open picture"
        height, width = self.image.shape[:2]
        # the middle of the clicked view pixel, in the picture
        x, y = ((v + 0.5) / self._scale() - 0.5 for v in view_xy)
        return min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)


def _from_found(found: FoundMask, number: int, side: int) -> PromptedObject:
    """A found mask as an object that further clicks can refine."""
    mask = found.mask
    share = cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    logits = torch.from_numpy((2 * share - 1) * _SURE_LOGIT)[None, None]
    answer = Masks(logits, torch.tensor([[found.predicted_iou]]), torch.full((1, 1), _SURE_LOGIT), mask.shape)
    return PromptedObject(number, answer=answer)
