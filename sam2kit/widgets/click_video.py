"""Click on things in a clip, in a notebook, on any frame; track them, correct, track again."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sam2kit.clicking.clicked_clip import ClickedClip
from sam2kit.clicking.clip_view import clip_scene, colours_of, list_of, masks_at, shown_object
from sam2kit.clicking.messages import PromptRequest, ShownObject
from sam2kit.clicking.renumbering import numbered_session, renamed_step
from sam2kit.media.clips import ClipSource
from sam2kit.media.drawing import draw_masks, draw_prompts
from sam2kit.predict.frame_masks import FrameMasks
from sam2kit.predict.session import FramePrompt, VideoSession
from sam2kit.predict.video import Direction, VideoPredictor
from sam2kit.widgets.click_widget import KEY, ClickWidget
from sam2kit.widgets.given_prompts import checked_prompts, number_in

_SHOWN_EVERY = 0.3  # seconds of tracking between two pictures: each of them has to travel to the browser


@dataclass
class _Work(ClickedClip):
    """What is clicked, and who answers."""

    answers: VideoPredictor | None = None
    tracking: Iterator[FrameMasks] | None = field(default=None, repr=False)  # while it runs

    @property
    def predictor(self) -> VideoPredictor:
        """Who answers."""
        assert self.answers is not None, "a widget has a predictor"
        return self.answers


class ClickVideo(ClickWidget):
    """A clip to click on: gestures as in ClickImage, a slider for the frames, and a button that tracks.

    Args:
        predictor: answers.
        source: whatever `VideoPredictor.open` takes, or a session to go on with; the widget works on a copy of it.
    Raises:
        ValueError, FileNotFoundError: if the clip cannot be opened.
    """

    def __init__(self, predictor: VideoPredictor, source: ClipSource | VideoSession) -> None:
        given = source if isinstance(source, VideoSession) else predictor.open(source)
        session, objects = numbered_session(_copied(given))
        first = min((f for track in session.tracks.values() for f in track.prompts), default=0)
        self._work = _Work(session=session, objects=objects, frame=first, answers=predictor)
        super().__init__("A clip; click on things")

    # what the next cell wants to know

    @property
    def frame(self) -> int:
        """The frame that is shown; set it to show another."""
        return self._work.frame

    @frame.setter
    def frame(self, frame: int) -> None:
        self._check_idle()
        self._work.go_to(self._work.open_session.checked_frame(frame))
        self.refresh()

    @property
    def prompts(self) -> dict[int, dict[str, FramePrompt]]:
        """Frame -> object -> what was asked there, in pixels of the clip."""
        found: dict[int, dict[str, FramePrompt]] = {}
        names = self._work.objects.by_id
        for number, track in self._work.open_session.tracks.items():
            for frame, prompt in track.prompts.items():
                found.setdefault(frame, {})[names[number]] = prompt
        return dict(sorted(found.items()))

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """Object -> bool [H, W] on the frame that is shown; `session.masks(frame)` has all others."""
        return {str(name): mask for name, mask in self.session.masks(self.frame)}

    @property
    def session(self) -> VideoSession:
        """All of it, with the objects' names as ids: a copy, to be tracked, saved, exported."""
        work = self._work
        names, copy = work.objects.by_id, _copied(work.open_session)
        copy.tracks = {names[number]: track for number, track in copy.tracks.items()}
        copy.plan = deque(renamed_step(step, names) for step in copy.plan)
        return copy

    # what a cell may do as well

    def prompt(
        self,
        name: str,
        points_xy: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box_xyxy: ArrayLike | None = None,
        *,
        frame: int | None = None,
    ) -> None:
        """Let these be all prompts of an object on a frame, as if they had been clicked; a new name begins an object.

        Args:
            points_xy: [N, 2] clicks (x, y) in pixels of the clip.
            labels: [N] 1 "this", 0 "not this"; all 1 when left out.
            box_xyxy: [4] (x0, y0, x1, y1).
            frame: None means the one that is shown.
        Raises:
            ValueError, IndexError: if they cannot be used.
        """
        self._check_idle()
        work = self._work
        points, box = checked_prompts(points_xy, labels, box_xyxy, work.open_session.clip.size_hw)
        if frame is not None:
            work.go_to(work.open_session.checked_frame(frame))
        numbers = {known: number for number, known in work.objects.names.items()}
        if name not in numbers:
            work.add_object()
            work.objects.rename(work.objects.active, name)
        work.set_prompts(numbers.get(name, work.objects.active), points, box)
        self.refresh()

    def track(self, direction: Direction = "both") -> None:
        """Follow all objects through the clip, as the button does.

        Raises:
            ValueError: if there is nothing to track.
        """
        tracking = self._begin(direction)
        try:
            for _ in tracking:
                pass
        finally:  # also when the cell is interrupted; what was tracked stays
            self._stop()
            self.refresh()

    def refresh(self) -> None:
        """Show what there is now."""
        self.scene = clip_scene(self._work, KEY, str(self.frame), editable=self._work.tracking is None)
        self._refresh_tools()

    def still(self) -> np.ndarray:
        """The frame with all masks, and the prompts of the active object: uint8 [H, W, 3]."""
        session, prompt = self._work.open_session, self._work.asked(self._work.objects.active)
        masks = masks_at(session, self.frame, session.clip.size_hw)
        drawn = draw_masks(
            session.clip.frame(self.frame), masks.values(), map(colours_of(self._work).__getitem__, masks)
        )
        points = [(x, y, int(label)) for (x, y), label in zip(prompt.points_xy, prompt.labels, strict=True)]
        return draw_prompts(drawn, points, prompt.box_xyxy)

    # inside

    def _refresh_tools(self) -> None:
        work = self._work
        self.listed = list_of(work)
        self.tools = {
            "undo": bool(work.past), "frame": work.frame, "frames": len(work.open_session),
            "tracking": work.tracking is not None,
        }  # fmt: skip

    def _ask(self, request: PromptRequest) -> ShownObject:
        self._check_idle()
        work = self._work
        request = request.about(str(self.frame), work.open_session.clip.size_hw)
        work.set_prompts(request.number, request.points, request.box_xyxy)
        return shown_object(work, request.number)

    def _preview(self, request: PromptRequest) -> ShownObject:
        raise ValueError("there are no previews in a clip: an answer depends on memory")

    def _do(self, deed: str, more: dict[str, Any]) -> dict[str, Any]:
        work = self._work

        def drop() -> None:
            work.select(number_in(more))
            work.remove_object()

        deeds: dict[str, Callable[[], object]] = {
            "new": work.add_object,
            "undo": work.undo,
            "clear": work.restart,
            "pick": lambda: work.select(number_in(more)),
            "drop": drop,
            "rename": lambda: work.objects.rename(number_in(more), str(more.get("name", ""))),
            "go": lambda: work.go_to(number_in(more, "frame")),
            "track": lambda: self._begin("both"),
            "step": self._step,
            "stop": self._stop,
        }
        if deed not in deeds:
            raise ValueError(f"there is no button {deed!r}")
        if deed not in ("track", "step", "stop", "pick"):
            self._check_idle()
        deeds[deed]()
        self.refresh()
        return {"goes_on": work.tracking is not None}

    def _check_idle(self) -> None:
        if self._work.tracking is not None:
            raise ValueError("tracking is running; Stop ends it")

    def _begin(self, direction: Direction) -> Iterator[FrameMasks]:
        if self._work.tracking is None:
            self._work.plan(None, direction)
            self._work.tracking = self._work.predictor.resume(self._work.open_session)
        return self._work.tracking

    def _step(self) -> None:
        """Track for a moment; the frame that was reached is shown."""
        until = time.monotonic() + _SHOWN_EVERY
        while self._work.tracking is not None and time.monotonic() < until:
            done = next(self._work.tracking, None)
            if done is None:
                self._stop()
            else:
                self._work.go_to(done.frame_index)

    def _stop(self) -> None:
        self._work.tracking = None
        self.refresh()


def _copied(session: VideoSession) -> VideoSession:
    """The same clip and answers; what happens to one does not change the other."""
    tracks = {i: track.without_memories() for i, track in session.tracks.items()}
    return replace(session, tracks=tracks, plan=deque(session.plan), features=OrderedDict())
