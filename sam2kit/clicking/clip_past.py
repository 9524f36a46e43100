"""What undo goes back to in a video: one object on one frame, or everything."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from sam2kit.clicking.named_objects import NamedObjects
from sam2kit.predict.frame_masks import FrameResult
from sam2kit.predict.session import FramePrompt, ObjectTrack, Step, VideoSession


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
        return cls(number, frame, *(kept.get(frame) for kept in (track.prompts, track.prompted, track.tracked)))

    def put_back(self, session: VideoSession) -> None:
        """As it was."""
        track = session.tracks.setdefault(self.number, ObjectTrack())
        for kept, value in (
            (track.prompts, self.prompt),
            (track.prompted, self.prompted),
            (track.tracked, self.tracked),
        ):
            kept.pop(self.frame, None)
            if value is not None:
                kept[self.frame] = value
        track.memories.pop(self.frame, None)


@dataclass(frozen=True)
class EverythingBefore:
    """All objects, before one of them or all were removed."""

    tracks: dict[int, ObjectTrack]
    shelf: dict[int, ObjectTrack]
    plan: deque[Step]
    objects: NamedObjects
