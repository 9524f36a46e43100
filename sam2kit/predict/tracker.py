"""One frame of a session through the network: encode, choose memories, recall, answer, remember.

Below video.py, which decides which frames and objects. The work of a frame is given to the device (`begin`), and its
answers are read later (`finish`), so that a GPU has the next frame to do meanwhile. Memories that were forgotten are
made again from the packed answers, so a long video needs no more memory than a short one, and gives the same masks as
if all were kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam2kit.errors import is_out_of_memory
from sam2kit.model.memories import Memories
from sam2kit.model.memory_bank import Recollection, choose_memories
from sam2kit.model.sam2 import SAM2, ImageFeatures, PromptTensors
from sam2kit.predict.frame_masks import FrameResult
from sam2kit.predict.frames_ahead import Frame, FramesAhead
from sam2kit.predict.geometry import frame_to_square, frame_to_square_on, mask_to_square
from sam2kit.predict.kept_keys import KeptKeys
from sam2kit.predict.logits import ExactLogits
from sam2kit.predict.pace import Pace, on_track_stream
from sam2kit.predict.session import FramePrompt, ObjectTrack, Step, VideoSession
from sam2kit.predict.tracked_frame import KeptAnswer, Passes, TrackRules

_MOST_TOGETHER = 16  # objects in one pass of the network


class Tracker:
    """A SAM2 at work on frames of sessions; holds nothing of any video.

    Args:
        model: a SAM2 in eval mode.
        lock: held during each pass through the network.
        pace: what is done for speed.
    """

    def __init__(
        self, model: SAM2, lock: AbstractContextManager[object] | None = None, pace: Pace | None = None
    ) -> None:
        self.model = model
        self.lock = nullcontext() if lock is None else lock
        self.pace = pace or Pace()
        self._passes = Passes(model, self.pace)
        self._keys = KeptKeys(model, self.pace.keys)
        self._together = _MOST_TOGETHER  # fewer once the device had no room for so many

    def take_mask(self, session: VideoSession, frame: int, prompt: FramePrompt) -> FrameResult:
        """The answer to a mask: itself."""
        square = mask_to_square(torch.from_numpy(prompt.mask), self.model.config.side).to(self.model.device)
        features = self._features(session, frame)
        with self._network():
            answer = KeptAnswer.of(self.model.answer_mask(features, square[None, None]))
        return self._prompted(session, answer)

    def ask(self, session: VideoSession, frame: int, track: ObjectTrack, prompts: PromptTensors) -> FrameResult:
        """The answer to clicks and a box; on a frame that tracking has reached, with memory."""
        recalled = Recollection((), ())
        if frame in track.directions:
            others = [f for f in track.prompted if f != frame]
            recalled = self._choose(session, track, others, Step(frame, track.directions[frame], ()))
        known = self._recalled(session, [track], recalled) if recalled.maps else None
        features = self._features(session, frame)
        with self._network():
            raw = features.stride16
            image = (
                self.model.recall(raw, known.memories(self.model, session.pointer_reach))
                if known
                else self.model.without_memory(raw)
            )
            answer = KeptAnswer.of(self.model.answer(image, features, prompts))
        return self._prompted(session, answer)

    def _prompted(self, session: VideoSession, answer: KeptAnswer) -> FrameResult:
        sent = _sent(*answer)
        if answer.mask.is_cuda:
            torch.cuda.current_stream(answer.mask.device).synchronize()
        return _results(sent, [answer.pointer[0].clone()], [None], prompted=True, run=session.run)[0]

    def track(self, session: VideoSession, step: Step) -> dict[int, FrameResult]:
        """`begin` and `finish`."""
        return self.finish(session, self.begin(session, step))

    def begin(self, session: VideoSession, step: Step, after: Underway | None = None) -> Underway:
        """Give the work of a frame to the device: answers for every object that is not prompted on it, and memories.

        The session does not change, but for memories that were forgotten and features. Objects that recall the same
        frames go through the network together; fewer at once, and from then on, where the device has no room.

        Args:
            after: the frame before, of which the session knows nothing yet.
        """
        underway = Underway(step, after)
        for chosen, members in self._groups(session, step, after).items():
            waiting = deque(members)
            while waiting:
                some = [waiting.popleft() for _ in range(min(self._together, len(waiting)))]
                try:
                    underway.passes.append(self._pass(session, underway, chosen, some))
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error) or not self._takes_less(len(some)):
                        raise
                    waiting.extendleft(reversed(some))
        underway.after = None  # so that no chain grows
        return underway

    def _takes_less(self, together: int) -> bool:
        """Take less of a device that is full from now on; False if that is not possible."""
        if not self._keys.wanted and together == 1:
            return False
        self._together = max(1, together // 2)
        self._keys.give_up()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def finish(self, session: VideoSession, underway: Underway) -> dict[int, FrameResult]:
        """Wait for a frame that `begin` gave to the device, and put its answers and memories into the session.

        Returns:
            the answers in full, by `id` of the track; the tracks have them as they are stored.
        """
        step = underway.step
        session.run = max(session.run, step.since)
        found: dict[int, FrameResult] = {}
        for done in underway.arrived():
            for track, memory, result in zip(done.members, done.memories, done.results(session.run), strict=True):
                track.tracked[step.frame] = result.stored(session.options)
                track.directions[step.frame] = step.reverse
                track.memories[step.frame] = memory
                found[id(track)] = result
        if session.options.forget:
            for track in (session.tracks[i] for i in step.object_ids if i in session.tracks):
                track.forget(step.frame, self.model.config.memory.slots - 1)
        return found

    def depends_on(self, session: VideoSession, step: Step) -> list[object]:
        """All that the answer of a step depends on, to be compared by identity; what is chosen, by value."""
        known: list[object] = [session.options, session.pointer_frames, step]
        for chosen, members in self._groups(session, step).items():
            frames = [f for f, _ in (*chosen.maps, *chosen.pointers)]
            known += [chosen, *members, *(t.result(f) for t in members for f in frames)]
        return known

    def _groups(
        self, session: VideoSession, step: Step, after: Underway | None = None
    ) -> dict[Recollection, list[ObjectTrack]]:
        """The objects that are to be tracked on a frame, by what they recall."""
        known = (session.tracks[i] for i in step.object_ids if i in session.tracks)
        groups: dict[Recollection, list[ObjectTrack]] = {}
        for track in known:  # where nothing is prompted, nothing is left to recall
            if track.prompted and not _is_settled(session, track, step.frame):
                groups.setdefault(self._choose(session, track, list(track.prompted), step, after), []).append(track)
        return groups

    def _pass(
        self, session: VideoSession, underway: Underway, chosen: Recollection, members: list[ObjectTrack]
    ) -> Pass:
        recalled = self._recalled(session, members, chosen, underway.after)
        features = self._features(session, underway.step.frame)
        rules = TrackRules(session.options.exact_logits, session.options.memory_dtype, self._keys.has_room)
        with self._network(keep_casts=not self.pace.recorded, join=False):
            memories = recalled.memories(self.model, session.pointer_reach)
            answer, made, keys = self._passes.track(features, memories, rules)
            apart = self._keys.kept_apart(made, keys)
            pointers = [pointer.clone() for pointer in answer.pointer]
            return Pass(
                members, (recalled, features), answer, apart, pointers, _sent(*answer), _end_of(self.model.device)
            )

    def _choose(
        self,
        session: VideoSession,
        track: ObjectTrack,
        prompted: list[int],
        step: Step,
        after: Underway | None = None,
    ) -> Recollection:
        latest = after.step.frame if after is not None and after.pass_of(track) else None
        return choose_memories(
            step.frame,
            prompted,
            _AnswersSince(track.tracked, step.since, latest),
            slots=self.model.config.memory.slots,
            pointer_frames=session.pointer_reach,
            reverse=step.reverse,
        )

    def _recalled(
        self,
        session: VideoSession,
        tracks: Sequence[ObjectTrack],
        chosen: Recollection,
        after: Underway | None = None,
    ) -> Recalled:
        """What objects recall that recall the same frames."""
        for frame, _ in chosen.maps:
            self._remember(session, [t for t in tracks if after is None or after.memory(t, frame) is None], frame)

        def memory(track: ObjectTrack, frame: int) -> Tensor:
            new = None if after is None else after.memory(track, frame)
            return track.memories[frame] if new is None else new

        def pointer(track: ObjectTrack, frame: int) -> Tensor:
            new = None if after is None else after.pointer(track, frame)
            return _answer(track, frame).pointer if new is None else new

        maps = [([memory(t, f) for t in tracks], slot) for f, slot in chosen.maps]
        keys = [self._keys.of(of_all) for of_all, _ in maps] if self._keys.wanted else []
        kept = [of_all for of_all in keys if of_all is not None]
        return Recalled(
            maps,
            [([pointer(t, f) for t in tracks], distance) for f, distance in chosen.pointers],
            kept if len(kept) == len(maps) else None,
        )

    def _remember(self, session: VideoSession, tracks: Sequence[ObjectTrack], frame: int) -> None:
        """Make the memories of a frame for those objects that do not hold theirs."""
        for prompted in (True, False):
            missing = [t for t in tracks if frame not in t.memories and _answer(t, frame).prompted == prompted]
            if missing:
                answers = [_answer(t, frame) for t in missing]
                # the published predictor fills holes before it remembers a prompted frame, and after for a tracked one
                area = session.options.max_hole_area if prompted else 0.0
                logits = torch.stack([a.low_res(area) for a in answers]).to(self.model.device)
                present = torch.tensor([a.present for a in answers], device=self.model.device)
                features = self._features(session, frame)
                binary = prompted and session.options.binary_prompted_memory
                with self._network():
                    made = self.model.remember(features.stride16, logits, present, binary=binary)
                    made = made.to(session.options.memory_dtype)
                    keys = self.model.keys_of(made) if self._keys.has_room else None
                    apart = self._keys.kept_apart(made, keys)
                for track, memory in zip(missing, apart, strict=True):
                    track.memories[frame] = memory

    def ahead(self, session: VideoSession) -> AbstractContextManager[FramesAhead | None]:
        """Brings features of the planned frames into a session before they are needed, if that is the pace."""
        count = self.pace.frames_ahead(self.model.device)
        return FramesAhead(session, count, encode=self._encode, device=self.model.device) if count else nullcontext()

    def _features(self, session: VideoSession, frame: int) -> ImageFeatures:
        if frame not in session.features:
            session.keep_features(frame, self._encode([session.clip.frame(frame)]))
        session.features.move_to_end(frame)
        return session.features[frame]

    def _encode(self, frames: Sequence[Frame]) -> ImageFeatures:
        """The features of some frames."""
        device, side = self.model.device, self.model.config.side
        with torch.inference_mode():
            if device.type == "cuda":
                squares = torch.stack([frame_to_square_on(device, frame, side) for frame in frames])
            else:  # Apple's GPUs do not resize with antialias
                squares = torch.stack([frame_to_square(np.asarray(frame), side) for frame in frames]).to(device)
        with self.lock, torch.inference_mode(), self.model.precision():
            features = self._passes.encode(squares)
        # in the weights' dtype: whoever uses them may have autocast or not
        return features.to(self.model.weight_dtype)

    @contextmanager
    def _network(self, *, keep_casts: bool = True, join: bool = True) -> Iterator[None]:
        on_stream = on_track_stream(self.model.device, join=join)
        with self.lock, torch.inference_mode(), on_stream, self.model.precision(keep_casts=keep_casts):
            yield


@dataclass(frozen=True)
class Recalled:
    """What B objects recall, one by one; each list has a tensor for each object."""

    maps: list[tuple[list[Tensor], int]]  # [memory dim, h, w] each, and their slot
    pointers: list[tuple[list[Tensor], int]]  # [dim] each, and their distance in frames
    keys: list[list[Tensor]] | None  # [layers, h * w, dim] each, of the maps, if they are kept

    def memories(self, model: SAM2, pointer_frames: int) -> Memories:
        """Put together; in one dtype, as autocast cannot mix bfloat16 memories with float16."""
        return Memories.of(
            [(torch.stack([m.to(model.weight_dtype) for m in of_all]), slot) for of_all, slot in self.maps],
            [(torch.stack(of_all), distance) for of_all, distance in self.pointers],
            dim=model.config.hidden_dim,
            pointer_frames=pointer_frames,
            keys=None if self.keys is None else [torch.stack(of_all) for of_all in self.keys],
        )


@dataclass(frozen=True)
class Pass:
    """Some objects on a frame, given to the device together."""

    members: list[ObjectTrack]
    reads: object  # what must stay while the device is at work, as another stream may use its place
    answer: KeptAnswer  # on the device
    memories: list[Tensor]  # [memory dim, h, w] that the frame leaves of each, as it is stored
    pointers: list[Tensor]  # [dim] of each
    sent: KeptAnswer  # on its way to the CPU, but for the pointers, which stay
    end: torch.cuda.Event | None

    def results(self, run: int) -> list[FrameResult]:
        """The answers, when they have arrived."""
        here = self.answer.mask if self.answer.mask.is_cuda else [None] * len(self.members)
        return _results(self.sent, self.pointers, here, prompted=False, run=run)


class Underway:
    """A frame whose work has been given to the device, and whose answers nobody has read."""

    def __init__(self, step: Step, after: Underway | None = None) -> None:
        self.step = step
        self.after = after
        self.passes: list[Pass] = []

    def arrived(self) -> list[Pass]:
        """All that was given to the device; waits for the last, as they are done in turn."""
        if self.passes and self.passes[-1].end is not None:
            self.passes[-1].end.synchronize()
        return self.passes

    def pass_of(self, track: ObjectTrack) -> tuple[Pass, int] | None:
        """Where an object is in it."""
        places = ((p, i) for p in self.passes for i, member in enumerate(p.members) if member is track)
        return next(places, None)

    def memory(self, track: ObjectTrack, frame: int) -> Tensor | None:
        """[memory dim, h, w] that an object leaves on a frame, if it is this one."""
        place = self.pass_of(track) if frame == self.step.frame else None
        return None if place is None else place[0].memories[place[1]]

    def pointer(self, track: ObjectTrack, frame: int) -> Tensor | None:
        """[dim] object pointer that an object leaves on a frame, if it is this one."""
        place = self.pass_of(track) if frame == self.step.frame else None
        return None if place is None else place[0].pointers[place[1]]


def _results(
    sent: KeptAnswer, pointers: Iterable[Tensor], at_hand: Iterable[Tensor | None], *, prompted: bool, run: int
) -> list[FrameResult]:
    """The answers for B objects, one by one and in full, when they have arrived."""
    rows = zip(at_hand, sent.mask, sent.object_score.tolist(), sent.predicted_iou.tolist(), pointers, strict=True)
    return [
        FrameResult(ExactLogits(mask.clone(), here), score, iou, pointer, prompted, run)
        for here, mask, score, iou, pointer in rows
    ]


def _end_of(device: torch.device) -> torch.cuda.Event | None:
    """After all that the current stream has to do now; a CPU has done it."""
    return torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None


def _sent(mask: Tensor, object_score: Tensor, predicted_iou: Tensor, pointer: Tensor) -> KeptAnswer:
    """An answer on its way to the CPU, but for the pointers; from a GPU into pinned memory, nobody waits."""
    on_gpu = mask.is_cuda
    mask, object_score, predicted_iou = (
        t.detach().to("cpu", non_blocking=on_gpu) for t in (mask.float(), object_score, predicted_iou)
    )
    return KeptAnswer(mask, object_score, predicted_iou, pointer)


def _is_settled(session: VideoSession, track: ObjectTrack, frame: int) -> bool:
    """Whether a person's answer on this frame stands, so that it is not tracked again."""
    if session.options.corrections == "recent" and frame in track.tracked:
        # the first published predictor: prompted for one object, settled for all
        return frame in track.prompted or any(frame in other.prompts for other in session.tracks.values())
    return frame in track.prompted


def _answer(track: ObjectTrack, frame: int) -> FrameResult:
    result = track.result(frame)
    assert result is not None, f"frame {frame} is recalled, so it has an answer"
    return result


@dataclass(frozen=True)
class _AnswersSince:
    """The tracked frames of propagation number `since` and later, and corrected ones, as a container."""

    tracked: Mapping[Any, FrameResult]  # frame -> answer; a container may be asked for anything
    since: int
    latest: int | None = None  # a frame of this propagation that is still underway

    def __contains__(self, frame: object) -> bool:
        if frame is not None and frame == self.latest:
            return True
        result = self.tracked.get(frame)
        return result is not None and (result.run >= self.since or result.prompted)
