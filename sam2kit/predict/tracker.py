"""One frame of a session through the network: encode, choose memories, recall, answer, remember.

Below video.py, which decides which frames and objects. Memories that were forgotten are made again from the packed
answers, so a long video needs no more memory than a short one, and gives the same masks as if all were kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam2kit.model.memories import Memories
from sam2kit.model.memory_bank import Recollection, choose_memories
from sam2kit.model.sam2 import SAM2, ImageFeatures, PromptTensors
from sam2kit.predict.frame_masks import FrameResult, VideoOptions
from sam2kit.predict.frames_ahead import FramesAhead
from sam2kit.predict.geometry import frame_to_square, frame_to_square_on, mask_to_square
from sam2kit.predict.logits import ExactLogits
from sam2kit.predict.pace import Pace
from sam2kit.predict.session import FramePrompt, ObjectTrack, Step, VideoSession
from sam2kit.predict.tracked_frame import KeptAnswer, Passes

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

    def take_mask(self, session: VideoSession, frame: int, prompt: FramePrompt) -> FrameResult:
        """The answer to a mask: itself."""
        square = mask_to_square(torch.from_numpy(prompt.mask), self.model.config.side).to(self.model.device)
        features = self._features(session, frame)
        with self._network():
            answer = self.model.answer_mask(features, square[None, None])
        return _results(KeptAnswer.of(answer), prompted=True, run=session.run)[0]

    def ask(self, session: VideoSession, frame: int, track: ObjectTrack, prompts: PromptTensors) -> FrameResult:
        """The answer to clicks and a box; on a frame that tracking has reached, with memory."""
        recalled = Recollection((), ())
        if frame in track.directions:
            others = [f for f in track.prompted if f != frame]
            recalled = self._choose(session, track, others, Step(frame, track.directions[frame], ()))
        memories = self._memories(session, [track], recalled) if recalled.maps else None
        features = self._features(session, frame)
        with self._network():
            raw = features.stride16
            image = self.model.recall(raw, memories) if memories else self.model.without_memory(raw)
            answer = self.model.answer(image, features, prompts)
        return _results(KeptAnswer.of(answer), prompted=True, run=session.run)[0]

    def track(self, session: VideoSession, step: Step) -> dict[int, FrameResult]:
        """Answer for every object that is not prompted on this frame, and remember.

        Objects that recall the same frames go through the network together.

        Returns:
            the answers in full, by `id` of the track; the tracks have them as they are stored.
        """
        known = (session.tracks[i] for i in step.object_ids if i in session.tracks)
        tracks = [t for t in known if t.prompted]  # of the others nothing is left to recall
        groups: dict[Recollection, list[ObjectTrack]] = {}
        for track in tracks:
            if not _is_settled(session, track, step.frame):
                groups.setdefault(self._choose(session, track, list(track.prompted), step), []).append(track)
        found: dict[int, FrameResult] = {}
        for chosen, members in groups.items():
            for i in range(0, len(members), _MOST_TOGETHER):
                some = members[i : i + _MOST_TOGETHER]
                found |= zip(map(id, some), self._track_together(session, step, chosen, some), strict=True)
        if session.options.forget:
            for track in tracks:
                track.forget(step.frame, self.model.config.memory.slots - 1)
        return found

    def _track_together(
        self, session: VideoSession, step: Step, chosen: Recollection, members: Sequence[ObjectTrack]
    ) -> list[FrameResult]:
        memories = self._memories(session, members, chosen)
        if self.pace.keeps_shapes:
            prompted = len(members[0].prompted)
            latest = self.model.config.memory.slots - 1, session.pointer_reach - 1
            memories = memories.with_room(*(prompted + most for most in latest))
        features = self._features(session, step.frame)
        with self._network(keep_casts=not self.pace.recorded):
            answer, made = self._passes.track(features, memories, exact=session.options.exact_logits)
        results = _results(answer, prompted=False, run=session.run)
        for track, result in zip(members, results, strict=True):
            track.tracked[step.frame] = result.stored(session.options)
            track.directions[step.frame] = step.reverse
            track.memories.pop(step.frame, None)
        _keep(made, members, step.frame, session.options)
        return results

    def _choose(self, session: VideoSession, track: ObjectTrack, prompted: list[int], step: Step) -> Recollection:
        return choose_memories(
            step.frame,
            prompted,
            _AnswersSince(track.tracked, step.since),
            slots=self.model.config.memory.slots,
            pointer_frames=session.pointer_reach,
            reverse=step.reverse,
        )

    def _memories(self, session: VideoSession, tracks: Sequence[ObjectTrack], chosen: Recollection) -> Memories:
        """What objects recall that recall the same frames."""
        for frame, _ in chosen.maps:
            self._remember(session, tracks, frame)
        # in one dtype before they are stacked: autocast cannot mix bfloat16 memories with float16
        dtype = self.model.weight_dtype
        return Memories.of(
            [(torch.stack([t.memories[f].to(dtype) for t in tracks]), slot) for f, slot in chosen.maps],
            [(torch.stack([_answer(t, f).pointer for t in tracks]), d) for f, d in chosen.pointers],
            dim=self.model.config.hidden_dim,
            pointer_frames=session.pointer_reach,
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
                _keep(made, missing, frame, session.options)

    def ahead(self, session: VideoSession) -> AbstractContextManager[FramesAhead | None]:
        """Brings features of the planned frames into a session before they are needed, if that is the pace."""
        if not self.pace.ahead:
            return nullcontext()
        return FramesAhead(session, self.pace.ahead, encode=self._encode, device=self.model.device)

    def _features(self, session: VideoSession, frame: int) -> ImageFeatures:
        if frame not in session.features:
            session.keep_features(frame, self._encode([session.clip.frame(frame)]))
        session.features.move_to_end(frame)
        return session.features[frame]

    def _encode(self, frames: Sequence[np.ndarray]) -> ImageFeatures:
        """The features of some frames, uint8 [H, W, 3] each."""
        device, side = self.model.device, self.model.config.side
        if self.pace.resizes_on_device and device.type != "mps":  # Apple's GPUs do not resize with antialias
            squares = torch.stack([frame_to_square_on(device, frame, side) for frame in frames])
        else:
            squares = torch.stack([frame_to_square(frame, side) for frame in frames]).to(device)
        with self._network():
            features = self._passes.encode(squares)
        # in the weights' dtype: whoever uses them may have autocast or not
        return features.to(self.model.weight_dtype)

    @contextmanager
    def _network(self, *, keep_casts: bool = True) -> Iterator[None]:
        with self.lock, torch.inference_mode(), self.model.precision(keep_casts=keep_casts):
            yield


def _results(answer: KeptAnswer, *, prompted: bool, run: int) -> list[FrameResult]:
    """The answers for B objects, one by one and in full."""
    masks, scores, ious = _on_cpu(answer.mask, answer.object_score, answer.predicted_iou)
    rows = zip(masks, scores.tolist(), ious.tolist(), answer.pointer, strict=True)
    return [
        FrameResult(ExactLogits.of(m), score, iou, pointer.clone(), prompted, run) for m, score, iou, pointer in rows
    ]


def _on_cpu(*tensors: Tensor) -> list[Tensor]:
    """Copies that travel together, so that a GPU is waited for once."""
    on_gpu = tensors[0].is_cuda
    copies = [t.to("cpu", non_blocking=on_gpu) for t in tensors]
    if on_gpu:
        torch.cuda.current_stream(tensors[0].device).synchronize()
    return copies


def _keep(memories: Tensor, tracks: Sequence[ObjectTrack], frame: int, options: VideoOptions) -> None:
    for track, memory in zip(tracks, memories.to(options.memory_dtype), strict=True):
        track.memories[frame] = memory.clone()  # of its own, so that one object can be forgotten


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

    def __contains__(self, frame: object) -> bool:
        result = self.tracked.get(frame)
        return result is not None and (result.run >= self.since or result.prompted)
