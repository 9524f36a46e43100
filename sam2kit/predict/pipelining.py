"""Tracking on a GPU that is never idle: the same as tracker.py, with work handed over early. Can be taken away.

Frames go to a CUDA GPU as bytes, which resizes them; the next ones are decoded in a thread and encoded together, beside
the work on the current one (FramesAhead); a frame's work is handed over before the answer of the one before has been
read (FastTracker); and the keys that memory attention makes of a memory are kept for all frames that recall it
(MemoryKeys). Masks stay the same but for rounding. On a CPU there is nothing to gain; the same code runs there if it is
asked for, so that tests reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, takewhile
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from sam2kit.media.clip import CACHE_BYTES
from sam2kit.model.memory_bank import SelectedMemories
from sam2kit.model.sam2 import SAM2, ImageFeatures
from sam2kit.predict.cuda_graphs import FrameFunctions, gpu_stream, on_track_stream
from sam2kit.predict.frame_masks import CompactLogits, FrameMasks, FrameResult
from sam2kit.predict.geometry import pinned_frame
from sam2kit.predict.objects import Step
from sam2kit.predict.options import SpeedOptions
from sam2kit.predict.session import Session
from sam2kit.predict.tracker import Frame, Group, KeptAnswer, Pass, Recalled, StoredParts, Tracker

_SHARE = 0.125  # of a GPU's memory that keys may take
_ELSEWHERE = 2**30  # bytes


@dataclass(frozen=True)
class PendingPass(Pass):
    """Some objects on a frame, given to the device together; nobody has read the answers."""

    reads: object  # what must stay while the device is at work, as another stream may use its place
    sent: KeptAnswer  # on its way to the CPU, but for the pointers, which stay
    end: torch.cuda.Event | None

    def results(self, run: int) -> list[FrameResult]:
        """The answers, when they have arrived."""
        here = self.answer.mask if self.answer.mask.is_cuda else None
        return self.sent.results(self.pointers, prompted=False, run=run, at_hand=here)

    def others(self) -> list[np.ndarray] | None:
        """As of Pass, when they have arrived."""
        return None if self.sent.others is None else list(self.sent.others.numpy())


class PendingFrame(NamedTuple):
    """A frame whose work has been given to the device."""

    step: Step
    passes: Sequence[Pass]


class FastTracker(Tracker):
    """A Tracker that keeps a GPU busy; arguments as there, and what is done for speed."""

    def __init__(self, model: SAM2, lock: AbstractContextManager[object] | None, speed: SpeedOptions) -> None:
        super().__init__(model, lock)
        self.speed = speed
        self.overlaps = model.device.type == "cuda"  # the next frame begins before this one's answer is read
        self._functions = FrameFunctions(model, speed)
        self._keys = MemoryKeys(model, speed.memory_keys)

    def resume(self, session: Session) -> Iterator[FrameMasks]:
        """Take the steps of a session's plan; where they overlap, each begins before the last one's answer is read."""
        with self.frames_ahead(session) as ahead:
            pending: PendingFrame | None = None
            while session.plan:
                step, passes = pending or self._begin(session, ahead)
                coming = self._begin_early(session, ahead, PendingFrame(step, passes)) if self.overlaps else None
                found = session.masks(step.frame, self.store(session, step, passes))
                session.plan.popleft()
                known = self._depends_on(session) if coming else []
                yield found
                if self.overlaps:
                    found.release()
                # whatever was done to the session meanwhile counts, so the next frame may have to begin again
                pending = coming if known and _are_same(known, self._depends_on(session)) else None

    def _begin(self, session: Session, ahead: FramesAhead, place: int = 0) -> PendingFrame:
        """Give a step of the plan to the device."""
        ahead.bring(place)
        return PendingFrame(session.plan[place], self.passes(session, session.plan[place]))

    def _begin_early(self, session: Session, ahead: FramesAhead, pending: PendingFrame) -> PendingFrame | None:
        """Give the device the step after the one that is pending; what fails here fails again in its turn."""
        if len(session.plan) < 2:
            return None
        try:
            with _as_if_stored(session, pending):
                return self._begin(session, ahead, 1)
        except Exception:
            return None

    def _depends_on(self, session: Session) -> list[object]:
        """All that the answer of the next step depends on, to be compared by identity; what is selected, by value."""
        if not session.plan:
            return []
        step = session.plan[0]
        known: list[object] = [session.options, session.pointer_frames, session.frames, step]
        for item, selected in chain(*self.groups(session, step)):
            known += [item, selected, *(item.result(f) for f, _ in (*selected.maps, *selected.pointers))]
        return known

    def store(self, session: Session, step: Step, passes: Sequence[Pass]) -> dict[int, FrameResult]:
        """As `Tracker.store`; waits for the last pass, as they are done in turn."""
        if passes and isinstance(passes[-1], PendingPass) and passes[-1].end is not None:
            passes[-1].end.synchronize()
        return super().store(session, step, passes)

    def _pass(self, session: Session, step: Step, group: Group) -> Pass:
        recalled = self._recalled(session, group)
        features = self.features(session, step.frame)
        parts = StoredParts.of(session.options, keys=self._keys.has_room)
        with self._network(keep_casts=not self.speed.cuda_graphs, join=False):
            memories = recalled.memories(self.model, session.pointer_reach)
            answer, made, keys = self._functions.track(features, memories, parts)
            apart = self._keys.keep(super()._one_by_one(made), keys)
            pointers = [pointer.clone() for pointer in answer.pointer]
            sent = answer.on_cpu(wait=False)
            end = torch.cuda.current_stream(made.device).record_event() if made.is_cuda else None
            members = [item for item, _ in group]
            return PendingPass(members, answer, apart, pointers, (recalled, features), sent, end)

    def _takes_less(self, together: int) -> bool:
        takes_less = super()._takes_less(together) or self._keys.wanted
        self._keys.give_up()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        return takes_less

    def _recalled(self, session: Session, group: Group) -> Recalled:
        recalled = super()._recalled(session, group)
        found = [self._keys.of(of_all) for of_all, _ in recalled.maps] if self._keys.wanted else []
        keys = [of_all for of_all in found if of_all is not None]
        return replace(recalled, keys=keys) if keys and len(keys) == len(recalled.maps) else recalled

    def _one_by_one(self, memories: Tensor) -> list[Tensor]:
        keys = self.model.keys_of(memories) if self._keys.has_room else None
        return self._keys.keep(super()._one_by_one(memories), keys)

    def _encoded(self, squares: Tensor) -> ImageFeatures:
        return self._functions.encode(squares)

    @contextmanager
    def _network(self, *, keep_casts: bool = True, join: bool = True) -> Iterator[None]:
        on_stream = on_track_stream(self.model.device, join=join)
        with self.lock, torch.inference_mode(), on_stream, self.model.precision(keep_casts=keep_casts):
            yield

    def frames_ahead(self, session: Session) -> FramesAhead:
        """Brings features of the planned frames into a session before they are needed, if that is asked for."""
        count = self.speed.encoded_together(self.model.device)
        return FramesAhead(session, count, encode=partial(self.encode, session.options), device=self.model.device)


@contextmanager
def _as_if_stored(session: Session, pending: PendingFrame) -> Iterator[None]:
    """What a pending frame leaves for the next one is in the session inside of this: memories and pointers."""
    frame, run = pending.step.frame, max(session.run, pending.step.since)
    kept: list[tuple[dict[int, Any], Any]] = []
    try:
        for done in pending.passes:
            for item, memory, pointer in zip(done.members, done.memories, done.pointers, strict=True):
                result = FrameResult(CompactLogits(), 0.0, 0.0, pointer, prompted=False, run=run)
                kept += [(item.tracked, item.tracked.get(frame)), (item.memories, item.memories.get(frame))]
                item.tracked[frame], item.memories[frame] = result, memory
        yield
    finally:
        for known, before in kept:
            if before is None:
                known.pop(frame, None)
            else:
                known[frame] = before


def _are_same(before: list[object], now: list[object]) -> bool:
    by_value = (SelectedMemories, Step, range)
    return len(before) == len(now) and all(
        a is b or (isinstance(a, by_value) and a == b) for a, b in zip(before, now, strict=True)
    )


class MemoryKeys:
    """The keys that memory attention makes of a memory; they go when it goes.

    They take far more memory than the memory itself, so only a part of a GPU is for them, and without them they are
    made again. None as `wanted` keeps some on a CUDA GPU only.
    """

    def __init__(self, model: SAM2, wanted: bool | None) -> None:
        self._model = model
        self._kept = WeakTensorKeyDictionary()  # memory [memory dim, h, w] -> keys [layers, h * w, dim]
        self._each = 0  # bytes of the keys of one
        self.wanted = model.device.type == "cuda" if wanted is None else wanted

    @property
    def has_room(self) -> bool:
        """Whether keys of one more memory may be kept."""
        device, most = self._model.device, float(_ELSEWHERE)
        if device.type == "cuda":
            most = _SHARE * torch.cuda.get_device_properties(device).total_memory
        return self.wanted and (1 + len(self._kept)) * self._each <= most

    def keep(self, memories: list[Tensor], keys: Tensor | None) -> list[Tensor]:
        """Keep the keys [B, layers, h * w, dim] of B memories, which come back as they are."""
        if keys is not None and self.wanted:
            self._each = keys[0].nbytes
            self._kept.update(zip(memories, (k.clone() for k in keys), strict=True))
        return memories

    def of(self, memories: Sequence[Tensor]) -> list[Tensor] | None:
        """The keys [layers, h * w, dim] of some memories; None if those of one are not here."""
        found = [keys for memory in memories if (keys := self._kept.get(memory)) is not None]
        return found if len(found) == len(memories) else None

    def give_up(self) -> None:
        """Keep none any more: the device is full."""
        self.wanted = False
        self._kept.clear()


class FramesAhead:
    """Brings features of the planned frames into a session, decoded and encoded before it comes to them.

    One thread decodes. What it has is encoded together, on a CUDA stream of its own, while the propagation works on the
    frames before; on a CPU, together but at once. A frame that cannot be read fails when its turn has come. Used in a
    with statement; a count of 0 frames does nothing.
    """

    def __init__(
        self, session: Session, count: int, *, encode: Callable[[Sequence[Frame]], ImageFeatures], device: torch.device
    ) -> None:
        self.session, self.count = session, count
        self._encode = encode
        self._frames: dict[int, Future[Frame]] = {}
        self._features: dict[int, tuple[ImageFeatures, torch.cuda.Event | None]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="frames ahead")
        self._stream = gpu_stream(device, "encode") if device.type == "cuda" else None
        height, width = session.clip.size_hw
        # what is decoded ahead must not push the current frame out of the clip's cache: others draw on it
        self._in_thread = max(1, min(2 * count, CACHE_BYTES // (2 * 3 * height * width)))

    def __enter__(self) -> FramesAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def bring(self, after: int = 0) -> None:
        """Put the features of a step of the plan into the session, and go on with those of later steps."""
        if not self.count:
            return
        steps = islice(self.session.plan, after, after + 4 * self.count)
        frame, *later = coming = list(dict.fromkeys(step.frame for step in steps))
        for known in (self._frames, self._features):
            for passed in set(known) - set(coming):
                del known[passed]
        self._read(coming)
        if frame not in self.session.features:
            if frame not in self._features:
                self._encode_together([frame, *self._decoded_of(later)])
            self.session.keep_features(frame, self._taken(frame))
        self._features.pop(frame, None)
        self._read(later)
        ready = self._decoded_of(later)
        enough = min(self.count, self._in_thread, len(self._waiting(later)))
        if self._stream is not None and len(self._features) < self.count and len(ready) >= enough > 0:
            self._encode_together(ready)

    def _read(self, coming: list[int]) -> None:
        for frame in self._waiting(coming)[: self._in_thread]:
            if frame not in self._frames:
                self._frames[frame] = self._thread.submit(self._decode, frame)

    def _decode(self, frame: int) -> Frame:
        decoded = self.session.clip.frame(frame)
        return decoded if self._stream is None else pinned_frame(decoded)

    def _decoded_of(self, frames: list[int]) -> list[int]:
        """Those from the first on that are decoded; one that cannot be ends the row, and fails when it is needed."""
        return list(takewhile(lambda f: f in self._frames and _is_good(self._frames[f]), self._waiting(frames)))

    def _waiting(self, frames: list[int]) -> list[int]:
        """Those without features."""
        return [f for f in frames if f not in self._features and f not in self.session.features]

    def _encode_together(self, frames: list[int]) -> None:
        """Encode the first of some frames, and as many of the others as go together."""
        batch = frames[: self.count]
        pixels = [self._frames.pop(f).result() for f in batch]
        done = None
        if self._stream is None:
            together = self._encode(pixels)
        else:
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))  # weights may be on their way
            with torch.cuda.stream(self._stream):
                together = self._encode(pixels)
                done = self._stream.record_event()
        self._features |= {frame: (together[i : i + 1], done) for i, frame in enumerate(batch)}

    def _taken(self, frame: int) -> ImageFeatures:
        features, done = self._features[frame]
        if done is not None:
            here = torch.cuda.current_stream(features.stride16.device)
            here.wait_event(done)
            for tensor in vars(features).values():
                for stream in (here, gpu_stream(here.device, "track")):
                    tensor.record_stream(stream)
        return features


def _is_good(decoding: Future[Frame]) -> bool:
    return decoding.done() and decoding.exception() is None
