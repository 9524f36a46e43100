"""What undo goes back to in a video: one object on one frame, or everything."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeVar

from sam2kit.clicking.named_objects import NamedObjects
from sam2kit.predict.frame_masks import FrameResult
from sam2kit.predict.session import FramePrompt, ObjectTrack, Step, VideoSession

_T = TypeVar("_T")


@dataclass(frozen=True)
class FrameBefore:
    """All that one object had on one frame."""

    number: int
    frame: int
    prompt: FramePrompt | None
    prompted: FrameResult | None
    tracked: FrameResult | None

    @classmethod
    def of(cls, session: VideoSession, number: int, frame: int) -> FrameBefore:
        """As it is now."""
        track = session.tracks.get(number) or ObjectTrack()
        return cls(number, frame, track.prompts.get(frame), track.prompted.get(frame), track.tracked.get(frame))

    def put_back(self, session: VideoSession) -> None:
        """As it was."""
        track = session.tracks.setdefault(self.number, ObjectTrack())
        _put_back(track.prompts, self.frame, self.prompt)
        _put_back(track.prompted, self.frame, self.prompted)
        _put_back(track.tracked, self.frame, self.tracked)
        track.memories.pop(self.frame, None)


@dataclass(frozen=True)
class EverythingBefore:
    """All objects, before one of them or all were removed."""

    tracks: dict[Hashable, ObjectTrack]
    shelf: dict[Hashable, ObjectTrack]
    plan: deque[Step]
    objects: NamedObjects


def _put_back(kept: dict[int, _T], frame: int, value: _T | None) -> None:
    kept.pop(frame, None)
    if value is not None:
        kept[frame] = value
