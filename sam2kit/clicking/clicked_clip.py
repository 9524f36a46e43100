"""Work on one clip: objects with names, what was asked of each on which frame, and the way back.

Everything that can be done to a clip by clicking, as plain calls without any user interface; what is seen of it is in
clip_view.py. Points are pixels of the clip.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import numpy as np

from sam2kit.clicking.clip_past import EverythingBefore, FrameBefore
from sam2kit.clicking.messages import Box, Point
from sam2kit.clicking.named_objects import NamedObjects, ObjectColours
from sam2kit.predict.frame_masks import FrameResult
from sam2kit.predict.session import FramePrompt, ObjectTrack, VideoSession
from sam2kit.predict.video import Direction, VideoPredictor

_MAX_UNDO = 60


@dataclass(kw_only=True)
class ClickedClip(ABC):
    """A session, the names of its objects, and the frame that is looked at; object ids are the objects' numbers."""

    session: VideoSession | None = None
    objects: NamedObjects = field(default_factory=NamedObjects)
    colours: ObjectColours = field(default_factory=ObjectColours)  # see clip_view.py
    frame: int = 0
    corner: tuple[float, float] | None = None  # first corner of a box that is being drawn, where there are only clicks
    past: list[FrameBefore | EverythingBefore] = field(default_factory=list)
    thumbnails: dict[int, tuple[FrameResult, str]] = field(default_factory=dict)  # see clip_view.py
    _shelf: dict[Hashable, ObjectTrack] = field(default_factory=dict)  # what is known outside the session's frames

    @property
    @abstractmethod
    def predictor(self) -> VideoPredictor:
        """Who answers."""

    @property
    def open_session(self) -> VideoSession:
        """The session, where a clip is open for certain."""
        assert self.session is not None, "needs an open clip"
        return self.session

    @property
    def used(self) -> set[Hashable]:
        """The objects of which something is known, on whichever frame."""
        return {*self.open_session.tracks, *self._shelf}

    def go_to(self, frame: int) -> bool:
        """Show another frame; True if a box that was half drawn got lost."""
        self.frame = min(max(int(frame), 0), len(self.open_session) - 1)
        lost, self.corner = self.corner is not None, None
        return lost

    # objects

    def add_object(self) -> None:
        """Begin another object; one without prompts is used first."""
        self.objects.add(self.used)
        self.corner = None

    def select(self, number: int) -> None:
        """Make an object the one that prompts go to."""
        self.objects.select(number)
        self.corner = None

    def remove_object(self) -> None:
        """Forget the active object and all that was tracked of it; undo brings it back."""
        self._remember(self._everything())
        number = self.objects.active
        self.open_session.tracks.pop(number, None)
        self._shelf.pop(number, None)
        self.open_session.mend_plan()
        self.objects.remove_active()
        self.corner = None

    def restart(self) -> None:
        """Remove all objects and all that was tracked; undo brings them back."""
        self._remember(self._everything())
        self.open_session.reset()
        self._shelf, self.objects, self.corner = {}, NamedObjects(), None

    # prompts

    def prompt(self, wanted: FramePrompt, *, replace: bool = False) -> None:
        """Add a prompt for the active object on the frame that is shown; or let it take the place of those there."""
        before = self._before()
        self.predictor.add_prompt(self.open_session, self.frame, self.objects.active, wanted, replace=replace)
        self._remember(before)
        self.corner = None

    def asked(self, number: int) -> FramePrompt:
        """All prompts of an object on the frame that is shown; an empty one if there are none."""
        track = self.open_session.tracks.get(number)
        return (track.prompts.get(self.frame) if track else None) or FramePrompt()

    def set_prompts(self, number: int, points: tuple[Point, ...], box_xyxy: Box | None) -> None:
        """Let these be all prompts of an object on the frame that is shown; without any, they are taken back."""
        self.select(number)
        known = self.asked(number)
        before = tuple((float(x), float(y), int(n)) for (x, y), n in zip(known.points_xy, known.labels, strict=True))
        box_before = None if known.box_xyxy is None else tuple(map(float, known.box_xyxy))
        if not points and box_xyxy is None:
            self.clear_frame()
            return
        # one click more goes on from the mask that is there, as clicks always did
        grows = points[: len(before)] == before and len(points) > len(before) and box_before == box_xyxy
        wanted = points[len(before) :] if grows else points
        xy, labels = [p[:2] for p in wanted], [p[2] for p in wanted]
        box = None if grows or box_xyxy is None else np.array(box_xyxy, np.float32)
        prompt = FramePrompt(np.array(xy, np.float32).reshape(-1, 2), np.array(labels, np.int64), box)
        self.prompt(prompt, replace=not grows)

    def undo(self) -> None:
        """Take back the last prompt and show where it was; a half-drawn box goes first."""
        if self.corner is not None:
            self.corner = None
            return
        if not self.past:
            return
        before, session = self.past.pop(), self.open_session
        if isinstance(before, EverythingBefore):
            still_here = {number for number, track in session.tracks.items() if track is before.tracks.get(number)}
            renamed = {number: name for number, name in self.objects.names.items() if number in still_here}
            before.objects.names.update(renamed)
            session.tracks, session.plan = dict(before.tracks), before.plan
            self._shelf, self.objects = before.shelf, before.objects
        else:
            before.put_back(session)
            self._drop_if_empty(before.number)
            self.frame, self.objects.active = before.frame, before.number

    def clear_frame(self) -> None:
        """Take back the active object's prompts on the frame that is shown; undo brings them back."""
        track = self.open_session.tracks.get(self.objects.active)
        if track is None or self.frame not in track.prompts:
            raise ValueError(f"{self.objects.names[self.objects.active]} has no prompts on this frame")
        self._remember(self._before())
        self.corner = None
        self.open_session.clear(self.frame, self.objects.active)
        self._drop_if_empty(self.objects.active)

    # tracking

    def plan(self, start: int | None, direction: Direction) -> int:
        """Decide which frames will be tracked, and say how many; objects without a prompt stay as they are.

        Raises:
            ValueError: if there is nothing to track.
        """
        session = self.open_session
        prompted = {i: t for i, t in session.tracks.items() if t.prompted}
        planned = replace(session, tracks=prompted)
        session.plan = self.predictor.plan(planned, start, direction, None)
        return len(session.plan)

    @property
    def prompted_objects(self) -> int:
        """How many objects can be tracked."""
        return sum(bool(track.prompted) for track in self.open_session.tracks.values())

    # inside

    def _everything(self) -> EverythingBefore:
        session, objects = self.open_session, NamedObjects(dict(self.objects.names), self.objects.active)
        return EverythingBefore(dict(session.tracks), dict(self._shelf), deque(session.plan), objects)

    def _before(self) -> FrameBefore:
        return FrameBefore.of(self.open_session, self.objects.active, self.frame)

    def _remember(self, before: FrameBefore | EverythingBefore) -> None:
        self.past = [*self.past[-(_MAX_UNDO - 1) :], before]

    def _drop_if_empty(self, number: int) -> None:
        track = self.open_session.tracks[number]
        if not track.prompted and not track.tracked:
            del self.open_session.tracks[number]
        self.open_session.mend_plan()
