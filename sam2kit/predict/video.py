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

import dataclasses
import numbers
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from numpy.typing import ArrayLike

from sam2kit.media.clips import ClipSource, open_clip
from sam2kit.media.pictures import PictureSource
from sam2kit.model.sam2 import SAM2, PromptTensors
from sam2kit.predict.automatic import FoundMask
from sam2kit.predict.frame_masks import ExactLogits, FrameMasks, FrameResult
from sam2kit.predict.geometry import SURE_LOGIT, binary_mask, mask_to_logits
from sam2kit.predict.image import FED_BACK_LIMIT
from sam2kit.predict.objects import ObjectId, Step, TrackedObject, checked_id
from sam2kit.predict.options import SpeedOptions, VideoOptions
from sam2kit.predict.pipelining import FastTracker
from sam2kit.predict.prompts import FramePrompt, Prompt, prompt_tensors
from sam2kit.predict.session import Session
from sam2kit.predict.tracker import Tracker

if TYPE_CHECKING:
    from sam2kit.predict.stream import VideoStream

Direction = Literal["forward", "backward", "both"]
_EMPTY = "an empty prompt: give points, a box or a mask"


class VideoPredictor:
    """Masks for prompts in videos and pictures, and tracking.

    Args:
        model: a SAM2; it is set to eval mode. To track, it must have learned to use its memory.
        options: of the sessions of videos that this predictor opens.
        picture_options: of the sessions of pictures. What options leave open is as suits the model.
        lock: held during each pass through the network, where threads share a small GPU.
        speed: what is done for speed on a GPU.
    """

    def __init__(
        self,
        model: SAM2,
        options: VideoOptions | None = None,
        *,
        picture_options: VideoOptions | None = None,
        lock: AbstractContextManager[object] | None = None,
        speed: SpeedOptions | None = None,
    ) -> None:
        self.model = model.eval()
        self.options = (options or VideoOptions()).for_model(model.config)
        self.picture_options = (picture_options or VideoOptions.for_pictures()).for_model(model.config)
        fast = speed is not None or model.device.type == "cuda"
        self.tracker = FastTracker(self.model, lock, speed or SpeedOptions()) if fast else Tracker(self.model, lock)
        self.lock = self.tracker.lock

    # sessions

    def open(self, source: ClipSource | PictureSource, *, fps: float = 25.0) -> Session:
        """Begin to work on a video or a picture.

        Args:
            source: a video file, a GIF, a folder of pictures, a list of frames, a Clip, or one picture.
            fps: frames per second of sources that have no times of their own.
        """
        clip = open_clip(source, fps=fps)
        options = self.picture_options if len(clip) == 1 else self.options
        name = "" if clip.path is None else clip.path.name
        return Session(clip, options, config=self.model.config, file_name=name)

    def stream(self, *, length: int | None = None) -> VideoStream:
        """Begin to work on frames that come one at a time; `length` is their number, if it is known and below 16."""
        from sam2kit.predict.stream import VideoStream

        return VideoStream(self, length=length)

    def save(self, session: Session, path: str | PathLike[str], *, with_path: bool = True) -> Path:
        """Write a session to one file, to `load` it later; see `Session.save`. Whatever is running goes on."""
        session.config = session.config or self.model.config
        return session.save(path, with_path=with_path)

    def load(self, path: str | PathLike[str], source: ClipSource | None = None) -> Session:
        """Read a session that `save` wrote, to go on where it was; arguments and errors as for `Session.load`."""
        return Session.load(path, source, config=self.model.config, device=self.model.device)

    def encode(self, session: Session, frame: int) -> None:
        """Let the model see a frame, so that prompts on it are answered quickly."""
        self.tracker.features(session, session.checked_frame(frame))

    def answer_again(self, session: Session) -> None:
        """Go on with this model where another one has answered: all prompts are asked again, the rest is forgotten."""
        session.features.clear()
        session.plan.clear()
        session.config = self.model.config
        asked = [(i, item, dict(item.prompts)) for i, item in session.objects.items()]
        for _, item, _ in asked:
            for known in (item.prompts, item.prompted, item.tracked, item.directions, item.memories):
                known.clear()
        for object_id, _, prompts in asked:
            for frame in sorted(prompts):
                self._ask(session, frame, object_id, prompts[frame], goes_on=False)
        session.past.clear()

    # prompts

    def add_points(
        self,
        session: Session,
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
        return self.add_prompt(session, frame, object_id, FramePrompt(points_xy, labels), replace=replace)

    def add_box(
        self, session: Session, frame: int, object_id: Hashable, box_xyxy: ArrayLike, *, replace: bool = False
    ) -> FrameMasks:
        """Draw a box (x0, y0, x1, y1) around an object, in pixels of the clip; else as `add_points`."""
        return self.add_prompt(session, frame, object_id, FramePrompt(box_xyxy=box_xyxy), replace=replace)

    def add_mask(self, session: Session, frame: int, object_id: Hashable, mask: ArrayLike) -> FrameMasks:
        """Give the object's mask on a frame; it replaces other prompts there.

        Args:
            mask: [H, W] at the size of the clip: bool, or probabilities in 0..1, of which .5 and more is the object.
        Raises:
            ValueError: if it is something else, such as logits or several numbered objects.
        """
        return self.add_prompt(session, frame, object_id, FramePrompt(mask=binary_mask(mask)))

    def add_prompt(
        self, session: Session, frame: int, object_id: Hashable, prompt: FramePrompt, *, replace: bool = False
    ) -> FrameMasks:
        """Add clicks, a box or a mask; errors as of `add_points`, after which nothing has changed."""
        if prompt.is_empty:
            raise ValueError(_EMPTY)
        frame, object_id = session.frame_in_use(frame), checked_id(object_id)
        item = session.objects.get(object_id)
        known = None if item is None or replace else item.prompts.get(frame)
        whole = prompt if known is None else known.plus(prompt)
        return self._ask(session, frame, object_id, whole, goes_on=not replace)

    def set_prompts(
        self,
        session: Session,
        frame: int,
        object_id: Hashable,
        points_xy: ArrayLike = (),
        labels: ArrayLike | None = None,
        box_xyxy: ArrayLike | None = None,
    ) -> FrameMasks:
        """Let these be all prompts of an object on a frame; one click more goes on from the mask that is there.

        Without any, they are taken back. Arguments and errors as for `add_points` and `add_box`.
        """
        frame, object_id = session.frame_in_use(frame), checked_id(object_id)
        item = session.objects.get(object_id) or TrackedObject()
        prompt = FramePrompt(points_xy, labels, box_xyxy)
        if object_id in session.objects:
            session.active = object_id
        more = prompt.clicks_beyond(item.prompts.get(frame))
        if prompt.is_empty and (frame in item.prompts or frame in item.prompted):
            return session.clear(frame, object_id)
        if more == 0:
            return session.masks(frame)
        return self._ask(session, frame, object_id, prompt, goes_on=more is not None)

    def preview(
        self,
        session: Session,
        frame: int,
        object_id: Hashable,
        points_xy: ArrayLike = (),
        labels: ArrayLike | None = None,
        box_xyxy: ArrayLike | None = None,
    ) -> FrameMasks:
        """What `set_prompts` would find for the object; the session stays as it is. Arguments and errors as there."""
        frame, object_id = session.frame_in_use(frame), checked_id(object_id)
        prompt = FramePrompt(points_xy, labels, box_xyxy)
        known = session.objects.get(object_id) or TrackedObject(name=str(object_id))
        goes_on = prompt.clicks_beyond(known.prompts.get(frame)) is not None
        result = self._answered(session, frame, object_id, prompt, goes_on=goes_on)
        names = (known.name,)
        return FrameMasks(frame, (object_id,), (result,), (known.number,), session.clip.size_hw, session.options, names)

    def add_found(self, session: Session, frame: int, found: Sequence[FoundMask]) -> list[ObjectId]:
        """Add masks that were found as objects, named by their class, one step for undo; further clicks refine them."""
        frame = session.frame_in_use(frame)
        session.check_room(len(found))
        session.remember()
        session.config = self.model.config
        added: list[ObjectId] = []
        for one in found:
            item = TrackedObject()
            if session.is_picture:  # nobody will ask for its pointer
                logits = ExactLogits(mask_to_logits(one.mask, self.model.config.low_res_side)[0])
                pointer = torch.zeros(self.model.config.hidden_dim)
                item.prompted[frame] = FrameResult(logits, SURE_LOGIT, one.predicted_iou, pointer, prompted=True)
            else:
                item.prompts[frame] = FramePrompt(mask=one.mask)
                result = self.tracker.take_mask(session, frame, item.prompts[frame])
                item.prompted[frame] = dataclasses.replace(result, prompt=item.prompts[frame])
            added.append(session.next_id())
            session.put_object(added[-1], item, session.free_name(one.name) if one.name else None)
        return added

    def merge(self, session: Session, object_id: Hashable, other_id: Hashable) -> None:
        """Let another object become part of an object, on the frames where one of them was prompted; undo parts them.

        The masks of both together become the object's prompts there; what was tracked stays until it is tracked again.

        Raises:
            KeyError: if there is no such object.
            ValueError: if both are the same, or one has no mask.
        """
        item, other, kept = session.object(object_id), session.object(other_id), checked_id(object_id)
        if item is other or not item.prompted or not other.prompted:
            raise ValueError(f"{other.name} cannot be merged into {item.name}: both need a mask, and to be two objects")
        merged = item.without_memories()
        for frame in sorted({*item.prompted, *other.prompted}):
            found = session.masks(frame)
            both = [i in (kept, checked_id(other_id)) for i in found.object_ids]
            merged.prompts[frame] = FramePrompt(mask=found.ungrown[both].any(axis=0))
            merged.prompted[frame] = self._answered(session, frame, kept, merged.prompts[frame], goes_on=False)
        session.remove_object(other_id)
        session.objects[kept], session.active = merged, kept

    def _ask(
        self, session: Session, frame: int, object_id: ObjectId, prompt: FramePrompt, *, goes_on: bool
    ) -> FrameMasks:
        """Let these be all prompts of an object on a frame; if they cannot be answered, nothing has changed."""
        if object_id not in session.objects:
            session.check_room(1)
        result = self._answered(session, frame, object_id, prompt, goes_on=goes_on)
        session.remember(frame, object_id)
        item = session.objects.get(object_id) or session.put_object(object_id, TrackedObject())
        session.active, session.config = object_id, self.model.config
        if session.options.corrected_frames_condition or frame not in item.directions:
            item.prompted[frame] = result
        else:
            item.tracked[frame] = result.stored(session.options)
        item.memories.pop(frame, None)
        item.prompts[frame] = prompt
        return session.masks(frame, {id(item): result})

    def _answered(
        self, session: Session, frame: int, object_id: ObjectId, prompt: FramePrompt, *, goes_on: bool
    ) -> FrameResult:
        """The answer to all prompts on a frame, which may go on from the answer that is there; nothing changes."""
        if prompt.is_empty:
            raise ValueError(_EMPTY)
        if prompt.mask is not None:
            if prompt.mask.shape != tuple(session.clip.size_hw):
                raise ValueError(f"the mask must have the clip's size {session.clip.size_hw}, got {prompt.mask.shape}")
            result = self.tracker.take_mask(session, frame, prompt)
            return dataclasses.replace(result, prompt=prompt)
        item = session.objects.get(object_id) or TrackedObject()
        lingers = goes_on or session.options.replaced_prompts_linger
        before = item.latest(frame) if lingers else item.tracked.get(frame)
        result = self.tracker.ask(session, frame, item, self._tensors(session, prompt, before))
        return dataclasses.replace(result, prompt=prompt)

    def _tensors(self, session: Session, wanted: FramePrompt, before: FrameResult | None) -> PromptTensors:
        """Clicks and a box, with the earlier answer as a mask prompt."""
        fed_back = None
        if before is not None:
            cleaned = session.options if session.options.feeds_back_cleaned else None
            fed_back = before.low_res(cleaned).clamp(-FED_BACK_LIMIT, FED_BACK_LIMIT)
        size_hw, side, device = session.clip.size_hw, self.model.config.side, self.model.device
        if session.options.lenient_prompts:
            mask = None if fed_back is None else fed_back[None]
            return prompt_tensors(wanted.points_and_labels, mask, size_hw, side, device)
        points, labels = (wanted.points_xy, wanted.labels) if len(wanted.points_xy) else (None, None)
        return Prompt(points, labels, wanted.box_xyxy, fed_back).to_square(size_hw, side, device)

    # tracking

    def propagate(
        self, session: Session, start: int | None = None, direction: Direction = "both", frames: int | None = None
    ) -> Iterator[FrameMasks]:
        """Track all objects; a generator of frames in the order in which they are done.

        Args:
            start: first frame for all objects, tracked with all that is remembered. None starts every object from its
                first prompt, afresh: the masks then depend on the prompts alone, not on earlier propagations.
            direction: "forward", "backward", or first one and then the other.
            frames: how many of the frames in use to go beyond the start in each direction; None goes to the ends.
        Raises:
            ValueError: if there is nothing to track, or the model only knows pictures.
        """
        session.plan = self.plan(session, start, direction, frames)
        yield from self.resume(session)

    def plan(
        self, session: Session, start: int | None = None, direction: Direction = "both", frames: int | None = None
    ) -> deque[Step]:
        """The steps that `propagate` would take; the session stays as it is. Objects without a prompt stay out."""
        if direction not in ("forward", "backward", "both"):
            raise ValueError(f'direction must be "forward", "backward" or "both", got {direction!r}')
        if frames is not None and not _is_count(frames):
            raise ValueError(f"frames must be 0 or more, a whole number, got {frames}")
        if not self.model.memory_is_trained:
            raise ValueError("these weights only know pictures, their memory is untrained; use a video model to track")
        places, since = session.frames, session.run + 1 if start is None else 0
        conditioning = {i: session.conditioning(item) for i, item in session.objects.items()}
        firsts = {i: min(known) for i, known in conditioning.items() if known}
        if not firsts:
            raise ValueError("there is nothing to track yet: add points, a box or a mask first")
        start = None if start is None else session.frame_in_use(start)
        begins = {i: places.index(first if start is None else start) for i, first in firsts.items()}
        reach = len(places) if frames is None else frames

        def steps(order: range, *, reverse: bool) -> Iterator[Step]:
            """Each object goes its own way from its beginning; frames that none reaches are left out."""
            for t in order:
                ways = {i: b - t if reverse else t - b for i, b in begins.items()}
                first = 1 if reverse and direction == "both" else 0  # the beginning was done on the way forward
                taking_part = tuple(i for i, way in ways.items() if first <= way <= reach)
                if taking_part:
                    yield Step(places[t], reverse, taking_part, since)

        forward = range(len(places)) if direction != "backward" else range(0)
        backward = range(len(places) - 1, -1, -1) if direction != "forward" else range(0)
        return deque([*steps(forward, reverse=False), *steps(backward, reverse=True)])

    def resume(self, session: Session) -> Iterator[FrameMasks]:
        """Go on with a propagation that was stopped, here or in the process that saved the session.

        Objects that were prompted for the first time since then are not part of it.
        """
        if isinstance(self.tracker, FastTracker):
            yield from self.tracker.resume(session)
        while session.plan:
            found = self.track_frame(session, session.plan[0])
            session.plan.popleft()
            yield found

    def track_frame(self, session: Session, step: Step) -> FrameMasks:
        """One step of a propagation: answer for every object that is not prompted on this frame, and remember."""
        return session.masks(step.frame, self.tracker.track(session, step))


def _is_count(value: object) -> bool:
    return isinstance(value, numbers.Integral) and int(value) >= 0
