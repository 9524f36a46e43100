"""Follow things through a video: prompt any frame, track both ways, correct, track again.

    predictor = VideoPredictor(load_model("sam2.1-hiera-tiny"))
    session = predictor.open("clip.mp4")
    predictor.add_points(session, 0, "dog", [[120, 80]])
    for frame in predictor.propagate(session):
        show(frame.frame_index, frame.mask("dog"))

The predictor knows nothing of any video; all state is in the session (session.py), which is always consistent
between two frames: stop a propagation where you like and `resume` it, or save the session and go on elsewhere. What
happens on one frame is in tracker.py.

Source: SAM 2, arXiv:2408.00714, section 4 and appendix "Architecture".
"""

from __future__ import annotations

import numbers
from collections import deque
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from sam2kit.media.clips import ClipSource, open_clip
from sam2kit.model.memory_bank import Recollection
from sam2kit.model.sam2 import SAM2, PromptTensors
from sam2kit.predict.frame_masks import FrameMasks, FrameResult, VideoOptions
from sam2kit.predict.masks import binary_mask
from sam2kit.predict.pace import Pace
from sam2kit.predict.prompts import Prompt, prompt_tensors
from sam2kit.predict.session import FramePrompt, ObjectTrack, Step, VideoSession, checked_id, finite_numbers
from sam2kit.predict.session_files import read_session, session_clip_path, write_session
from sam2kit.predict.tracker import Tracker, Underway

if TYPE_CHECKING:
    from sam2kit.predict.frames_ahead import FramesAhead
    from sam2kit.predict.stream import VideoStream

Direction = Literal["forward", "backward", "both"]
_FED_BACK_LIMIT = 32.0  # logits of an earlier answer are clamped to this when they become a prompt


class VideoPredictor:
    """Masks for prompts in videos.

    Args:
        model: a SAM2 that has learned to use its memory; it is set to eval mode.
        options: of the sessions that this predictor opens.
        lock: held during each pass through the network, where threads share a small GPU.
        pace: what is done for speed on a GPU.
    Raises:
        ValueError: if the model only knows pictures.
    """

    def __init__(
        self,
        model: SAM2,
        options: VideoOptions | None = None,
        *,
        lock: AbstractContextManager[object] | None = None,
        pace: Pace | None = None,
    ) -> None:
        if not model.memory_is_trained:
            raise ValueError("these weights only know pictures, their memory is untrained; use a video model")
        self.model = model.eval()
        self.options = options or VideoOptions()
        self.tracker = Tracker(self.model, lock, pace)
        self.lock = self.tracker.lock
        self.overlaps = model.device.type == "cuda"  # the next frame begins before this one's answer is read

    # sessions

    def open(self, source: ClipSource, *, fps: float = 25.0) -> VideoSession:
        """Begin to work on a video.

        Args:
            source: whatever `open_clip` takes: a video file, a GIF, a folder of pictures, a list of frames, a Clip.
            fps: frames per second of sources that have no times of their own.
        """
        return VideoSession(open_clip(source, fps=fps), self.options)

    def stream(self, *, length: int | None = None) -> VideoStream:
        """Begin to work on frames that come one at a time: a camera, a generator.

        Args:
            length: how many frames will come, if that is known and below 16: then the masks are those of a file.
        """
        from sam2kit.predict.stream import VideoStream

        return VideoStream(self, length=length)

    def save(self, session: VideoSession, path: str | PathLike[str], *, with_path: bool = True) -> Path:
        """Write a session to one file, without the frames of its clip; whatever is running goes on afterwards.

        Args:
            with_path: note in the file where the clip is on this machine, so that `load` finds it.
        Raises:
            FileNotFoundError: if the folder does not exist.
        """
        return write_session(session, self.model.config, Path(path), with_path=with_path)

    def load(self, path: str | PathLike[str], source: ClipSource | None = None) -> VideoSession:
        """Read a session that `save` wrote, to go on where it was.

        Args:
            source: its clip, as for `open`; None looks where the clip was when the session was saved.
        Raises:
            FileNotFoundError, ValueError: if the file, the clip or the model does not fit; says which.
        """
        found = session_clip_path(Path(path)) if source is None else source
        if found is None:
            raise ValueError(f"{path} does not say where its clip is; give its frames as source")
        clip = open_clip(found)
        try:
            return read_session(Path(path), clip, self.model.config, self.model.device)
        except BaseException:
            if clip is not found:  # we opened it
                clip.close()
            raise

    # prompts

    def add_points(
        self,
        session: VideoSession,
        frame: int,
        object_id: Hashable,
        points_xy: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        replace: bool = False,
    ) -> FrameMasks:
        """Click on a frame; clicks add to those that the object already has there.

        Args:
            frame: any frame, tracked already or not.
            object_id: text or a whole number; a new one begins a new object.
            points_xy: [N, 2] or [2] clicks (x, y) in pixels of the clip.
            labels: [N] 1 "this", 0 "not this"; all 1 when left out.
            replace: forget the frame's earlier prompts of this object first.
        Returns:
            the masks of all objects on this frame.
        Raises:
            ValueError, IndexError: if a point or the frame lies outside the clip.
        """
        points = np.atleast_2d(finite_numbers(points_xy, "points_xy"))
        given = np.ones(len(points)) if labels is None else np.atleast_1d(np.asarray(labels))
        return self.add_prompt(session, frame, object_id, FramePrompt(points, given), replace=replace)

    def add_box(
        self, session: VideoSession, frame: int, object_id: Hashable, box_xyxy: ArrayLike, *, replace: bool = False
    ) -> FrameMasks:
        """Draw a box (x0, y0, x1, y1) around an object, in pixels of the clip; else as `add_points`."""
        return self.add_prompt(
            session,
            frame,
            object_id,
            FramePrompt(box_xyxy=np.ravel(finite_numbers(box_xyxy, "box_xyxy"))),
            replace=replace,
        )

    def add_mask(self, session: VideoSession, frame: int, object_id: Hashable, mask: ArrayLike) -> FrameMasks:
        """Give the object's mask on a frame; it replaces other prompts there.

        Args:
            mask: [H, W] at the size of the clip: bool, or probabilities in 0..1, of which .5 and more is the object.
        Raises:
            ValueError: if it is something else, such as logits or several numbered objects.
        """
        return self.add_prompt(session, frame, object_id, FramePrompt(mask=binary_mask(mask)))

    def add_prompt(
        self, session: VideoSession, frame: int, object_id: Hashable, prompt: FramePrompt, *, replace: bool = False
    ) -> FrameMasks:
        """Add clicks, a box or a mask; what `add_points`, `add_box` and `add_mask` share.

        Raises:
            ValueError, IndexError: if the prompt or the frame does not fit the clip; nothing has changed then.
        """
        frame = session.checked_frame(frame)
        object_id = checked_id(object_id)
        if prompt.is_empty:
            raise ValueError("an empty prompt: give points, a box or a mask")
        if prompt.mask is not None and prompt.mask.shape != tuple(session.clip.size_hw):
            raise ValueError(f"the mask must have the clip's size {session.clip.size_hw}, got {prompt.mask.shape}")
        track = session.tracks.get(object_id) or ObjectTrack()
        whole = prompt if replace or frame not in track.prompts else track.prompts[frame].plus(prompt)
        if whole.mask is not None:
            result = self.tracker.take_mask(session, frame, whole)
        else:
            lingers = not replace or session.options.replaced_prompts_linger
            before = track.result(frame) if lingers else track.tracked.get(frame)
            result = self.tracker.ask(session, frame, track, self._tensors(session, whole, before))
        stays = session.options.corrections == "stick" or frame not in track.directions
        if stays:
            track.prompted[frame] = result
        else:
            track.tracked[frame] = result.stored(session.options)
        track.memories.pop(frame, None)
        track.prompts[frame] = whole
        session.tracks[object_id] = track
        if session.options.corrections == "recent":
            _settle_all(session, frame)
        return session.masks(frame, {id(track): result})

    def _tensors(self, session: VideoSession, wanted: FramePrompt, before: FrameResult | None) -> PromptTensors:
        """Clicks and a box, with the earlier answer as a mask prompt."""
        fed_back = None
        if before is not None:
            fed_back = before.low_res(session.options.max_hole_area).clamp(-_FED_BACK_LIMIT, _FED_BACK_LIMIT)
        size_hw, side, device = session.clip.size_hw, self.model.config.side, self.model.device
        if session.options.lenient_prompts:
            mask = None if fed_back is None else fed_back[None]
            return prompt_tensors(wanted.points_and_labels, mask, size_hw, side, device)
        points, labels = (wanted.points_xy, wanted.labels) if len(wanted.points_xy) else (None, None)
        return Prompt(points, labels, wanted.box_xyxy, fed_back).to_square(size_hw, side, device)

    # tracking

    def propagate(
        self,
        session: VideoSession,
        start: int | None = None,
        direction: Direction = "both",
        frames: int | None = None,
    ) -> Iterator[FrameMasks]:
        """Track all objects; a generator of frames in the order in which they are done.

        Args:
            start: first frame for all objects, tracked with all that is remembered. None starts every object from its
                first prompt, afresh: the masks then depend on the prompts alone, not on earlier propagations.
            direction: "forward", "backward", or first one and then the other.
            frames: how many frames to go beyond the start in each direction; None goes to the ends of the clip.
        Raises:
            ValueError: if there is nothing to track, or an object has no prompt.
        """
        session.plan = self.plan(session, start, direction, frames)
        yield from self.resume(session)

    def plan(
        self,
        session: VideoSession,
        start: int | None = None,
        direction: Direction = "both",
        frames: int | None = None,
    ) -> deque[Step]:
        """The steps that `propagate` would take; the session stays as it is."""
        if direction not in ("forward", "backward", "both"):
            raise ValueError(f'direction must be "forward", "backward" or "both", got {direction!r}')
        if frames is not None and not _is_count(frames):
            raise ValueError(f"frames must be 0 or more, a whole number, got {frames}")
        if not session.tracks:
            raise ValueError("there is nothing to track yet: add points, a box or a mask first")
        promptless = [i for i, t in session.tracks.items() if not t.prompted]
        if promptless:
            raise ValueError(f"object {promptless[0]!r} has no prompt left; prompt it again or remove it")
        if start is None:
            begins = {i: min(t.prompted) for i, t in session.tracks.items()}
        else:
            begins = dict.fromkeys(session.tracks, session.checked_frame(start))
        since = session.run + 1 if start is None else 0
        reach = len(session) if frames is None else frames

        def steps(order: range, *, reverse: bool) -> Iterator[Step]:
            """Each object goes its own way from its beginning; frames that none reaches are left out."""
            for t in order:
                ways = {i: b - t if reverse else t - b for i, b in begins.items()}
                first = 1 if reverse and direction == "both" else 0  # the beginning was done on the way forward
                taking_part = tuple(i for i, way in ways.items() if first <= way <= reach)
                if taking_part:
                    yield Step(t, reverse, taking_part, since)

        forward = range(len(session)) if direction != "backward" else range(0)
        backward = range(len(session) - 1, -1, -1) if direction != "forward" else range(0)
        return deque([*steps(forward, reverse=False), *steps(backward, reverse=True)])

    def resume(self, session: VideoSession) -> Iterator[FrameMasks]:
        """Go on with a propagation that was stopped, here or in the process that saved the session.

        Objects that were prompted for the first time since then are not part of it.
        """
        with self.tracker.ahead(session) as ahead:
            if self.overlaps:
                yield from self._resume_early(session, ahead)
            while session.plan:
                if ahead is not None:
                    ahead.bring()
                found = self.track_frame(session, session.plan[0])
                session.plan.popleft()
                yield found

    def _resume_early(self, session: VideoSession, ahead: FramesAhead | None) -> Iterator[FrameMasks]:
        """The same, but each step begins before the answer of the one before is read."""
        underway: Underway | None = None
        while session.plan:
            underway = underway or self._begin(session, ahead)
            coming = self._begin_early(session, ahead, underway)
            found = session.masks(underway.step.frame, self.tracker.finish(session, underway))
            session.plan.popleft()
            known = self.tracker.depends_on(session, session.plan[0]) if coming and session.plan else []
            yield found
            found.release()
            # whatever was done to the session meanwhile counts, so the next frame may have to begin again
            now = self.tracker.depends_on(session, session.plan[0]) if coming and session.plan else []
            underway = coming if now and _are_same(known, now) else None

    def _begin(self, session: VideoSession, ahead: FramesAhead | None, after: Underway | None = None) -> Underway:
        """Give the next step to the device, or the one after the step that is underway."""
        place = 0 if after is None else 1
        if ahead is not None:
            ahead.bring(place)
        return self.tracker.begin(session, session.plan[place], after)

    def _begin_early(self, session: VideoSession, ahead: FramesAhead | None, underway: Underway) -> Underway | None:
        """Give the device the step after the one that is underway; what fails here fails again in its turn."""
        if len(session.plan) < 2:
            return None
        try:
            return self._begin(session, ahead, underway)
        except Exception:
            return None

    def track_frame(self, session: VideoSession, step: Step) -> FrameMasks:
        """One step of a propagation: answer for every object that is not prompted on this frame, and remember."""
        return session.masks(step.frame, self.tracker.track(session, step))


def _are_same(before: list[object], now: list[object]) -> bool:
    return len(before) == len(now) and all(
        a is b or (isinstance(a, (Recollection, Step)) and a == b) for a, b in zip(before, now, strict=True)
    )


def _is_count(value: object) -> bool:
    return isinstance(value, numbers.Integral) and int(value) >= 0


def _settle_all(session: VideoSession, frame: int) -> None:
    """The first published predictor: what one object is prompted on is remembered as prompted for all."""
    for track in session.tracks.values():
        tracked = track.tracked.get(frame)
        if tracked is not None and not tracked.prompted:
            track.tracked[frame] = replace(tracked, prompted=True)
            track.memories.pop(frame, None)
