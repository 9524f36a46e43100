"""Tracking where the GPU is lent for seconds: in chunks, each of which begins where the last one ended.

    the caller's session ---- the part that a chunk needs ---> GPU: track frame after frame, until time is up
    the caller's session <--- what changed, frame by frame ---

The caller sees what a VideoPredictor stores: the same frames in the same order, the session consistent after each,
its tensors on the CPU. Features of frames stay on the GPU's side; encoding a frame again takes less than sending them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from itertools import islice
from typing import Any

from sam2kit.model.sam2 import SAM2
from sam2kit.predict.frame_masks import FrameMasks, VideoOptions
from sam2kit.predict.session import FramePrompt, ObjectTrack, Step, VideoSession
from sam2kit.predict.video import VideoPredictor
from sam2kit.ui.gpu_calls import MOST_SECONDS, GpuWork

_KEPT = ("prompts", "prompted", "tracked", "directions", "memories")  # what an ObjectTrack has, by frame
_SECONDS = 15  # for the process to begin, and for one frame
_MOST_FRAMES = 600  # of a chunk

Changes = dict[Hashable, list[tuple[dict[int, Any], list[int]]]]  # object -> for each of _KEPT, what came and what went


class ZeroVideoPredictor(VideoPredictor):
    """A VideoPredictor whose model is on the CPU here, and on a lent GPU for prompts and chunks. Arguments as there."""

    def __init__(
        self, model: SAM2, options: VideoOptions | None = None, *, lock: AbstractContextManager[object] | None = None
    ) -> None:
        super().__init__(model, options, lock=lock)
        self.gpu = GpuWork.of(model)

    def add_prompt(
        self, session: VideoSession, frame: int, object_id: Hashable, prompt: FramePrompt, *, replace: bool = False
    ) -> FrameMasks:
        """As in `VideoPredictor`; the session changes when the answer is there."""
        frame = session.checked_frame(frame)
        part = self._part(session, [Step(frame, False, ())])
        _adopt(session, self.gpu.call(_SECONDS, _add_prompt, part, frame, object_id, prompt, replace))
        return session.masks(frame)

    def track_frame(self, session: VideoSession, step: Step) -> FrameMasks:
        """As in `VideoPredictor`, in a trip of its own; `resume` takes many frames along."""
        session.run, changes = self.gpu.call(_SECONDS, _track_frame, self._part(session, [step]), step)
        _adopt(session, changes)
        return session.masks(step.frame)

    def resume(self, session: VideoSession) -> Iterator[FrameMasks]:
        """As in `VideoPredictor`, chunk by chunk."""
        while session.plan:
            yield from self._chunk(session)

    def _chunk(self, session: VideoSession) -> Iterator[FrameMasks]:
        """Until the GPU's time is up, or the session is changed from outside: then the next chunk begins with that."""
        steps = list(islice(session.plan, _MOST_FRAMES))
        objects = max(len(step.object_ids) for step in steps)
        seconds = min(MOST_SECONDS, round(_SECONDS + 5 + len(steps) * (0.1 + 0.02 * objects)))
        part = self._part(session, steps)
        with closing(self.gpu.run(seconds, _track, part, seconds - _SECONDS)) as done:
            for session.run, changes in done:
                _adopt(session, changes)
                step = session.plan.popleft()
                left = _look(session)
                yield session.masks(step.frame)
                if _look(session) != left:
                    return

    def _part(self, session: VideoSession, steps: Sequence[Step]) -> VideoSession:
        """What is needed for some steps, as a session of its own: answers of frames that they can recall."""
        reach = max(session.pointer_reach, self.model.config.memory.slots)
        numbers = [step.frame for step in steps]
        near = range(min(numbers) - reach, max(numbers) + reach + 1)
        tracks = {
            i: ObjectTrack(
                track.prompts,
                track.prompted,
                {f: r for f, r in track.tracked.items() if f in near},
                {f: d for f, d in track.directions.items() if f in near},
                track.memories,
            )
            for i, track in session.tracks.items()
        }
        return VideoSession(
            session.clip, session.options, tracks, deque(steps), session.run, pointer_frames=session.pointer_frames
        )


def _look(session: VideoSession) -> list[Any]:
    """What tells whether a session was changed between two frames; prompts compare by identity."""
    tracks = ((i, id(track), dict(track.prompts), len(track.tracked)) for i, track in session.tracks.items())
    return [session.plan, len(session.plan), *tracks]


def _adopt(session: VideoSession, changes: Changes) -> None:
    """Take over what became different on the GPU's side."""
    for object_id, parts in changes.items():
        track = session.tracks.setdefault(object_id, ObjectTrack())
        for name, (came, went) in zip(_KEPT, parts, strict=True):
            kept = getattr(track, name)
            for frame in went:
                kept.pop(frame, None)
            kept.update(came)


# on the GPU


def _add_prompt(
    model: SAM2, session: VideoSession, frame: int, object_id: Hashable, prompt: FramePrompt, replace: bool
) -> Iterator[Changes]:
    before = _copies(session)
    with session.clip:
        VideoPredictor(model).add_prompt(session, frame, object_id, prompt, replace=replace)
    yield _changes(before, session)


def _track_frame(model: SAM2, session: VideoSession, step: Step) -> Iterator[tuple[int, Changes]]:
    before = _copies(session)
    with session.clip:
        VideoPredictor(model).track_frame(session, step)
    yield session.run, _changes(before, session)


def _track(model: SAM2, session: VideoSession, seconds: float) -> Iterator[tuple[int, Changes]]:
    """Number of the propagation and what changed, after each frame; at least one frame."""
    end, before = time.monotonic() + seconds, _copies(session)
    with session.clip:
        for _ in VideoPredictor(model).resume(session):
            yield session.run, _changes(before, session)
            if time.monotonic() > end:
                return
            before = _copies(session)


def _copies(session: VideoSession) -> dict[Hashable, list[dict[int, Any]]]:
    return {i: [dict(getattr(track, name)) for name in _KEPT] for i, track in session.tracks.items()}


def _changes(before: dict[Hashable, list[dict[int, Any]]], session: VideoSession) -> Changes:
    """What is not the same object as before, and what is gone."""
    nothing: list[dict[int, Any]] = [{} for _ in _KEPT]
    missing = object()
    return {
        i: [
            ({f: v for f, v in now.items() if was.get(f, missing) is not v}, [f for f in was if f not in now])
            for was, now in zip(before.get(i, nothing), kept, strict=True)
        ]
        for i, kept in _copies(session).items()
    }
