"""One frame of a session through the network: encode, choose memories, recall, answer, remember.

Below video.py, which decides which frames and objects. Memories that were forgotten are made again from the packed
answers, so a long video needs no more memory than a short one, and gives the same masks as if all were kept. On a GPU,
pipelining.py does the same and keeps the device busy; everything there can be taken away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sam2kit.hardware import is_out_of_memory
from sam2kit.model.memory_bank import Memories, SelectedMemories, choose_memories
from sam2kit.model.sam2 import ABSENT_LOGIT, SAM2, FrameAnswer, ImageFeatures, PromptTensors
from sam2kit.predict.frame_masks import CandidateMasks, ExactLogits, FrameResult, levels_of, logits_of
from sam2kit.predict.geometry import frame_to_square, frame_to_square_on, mask_to_square, picture_to_square_on
from sam2kit.predict.objects import Step, TrackedObject
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.prompts import FramePrompt
from sam2kit.predict.session import Session

Frame = np.ndarray | Tensor  # uint8 [H, W, 3]; for a GPU in pinned memory
_MOST_TOGETHER = 16  # objects in one pass of the network


class KeptAnswer(NamedTuple):
    """What stays of an answer for B objects."""

    mask: Tensor  # [B, h, w] float32 low-res mask logits
    object_score: Tensor  # [B] float32
    predicted_iou: Tensor  # [B] float32
    pointer: Tensor  # [B, dim] float32

    @classmethod
    def of(cls, answer: FrameAnswer) -> KeptAnswer:
        """Without the axis of candidates."""
        return cls(answer.mask_logits[:, 0], answer.object_score, answer.predicted_iou, answer.pointer)

    def on_cpu(self, *, wait: bool = True) -> KeptAnswer:
        """The same on the CPU, or from a GPU on its way into pinned memory there; but for the pointers, which stay."""
        values = (self.mask.float(), self.object_score, self.predicted_iou)
        mask, score, iou = (t.detach().to("cpu", non_blocking=t.is_cuda and not wait) for t in values)
        return KeptAnswer(mask, score, iou, self.pointer)

    def results(
        self, pointers: Iterable[Tensor], *, prompted: bool, run: int, at_hand: Iterable[Tensor | None] | None = None
    ) -> list[FrameResult]:
        """An answer on the CPU, object by object and in full; their pointers [dim], and their masks on a GPU if any."""
        here = [None] * len(self.mask) if at_hand is None else at_hand
        rows = zip(self.mask, here, self.object_score.tolist(), self.predicted_iou.tolist(), pointers, strict=True)
        return [
            FrameResult(ExactLogits(mask.clone(), on_gpu), score, iou, pointer, prompted, run)
            for mask, on_gpu, score, iou, pointer in rows
        ]


def track_frame(
    model: SAM2, features: ImageFeatures, memories: Memories, *, exact: bool, memory_dtype: torch.dtype
) -> tuple[KeptAnswer, Tensor]:
    """Find B objects on a frame that nobody prompted: recall, answer, remember.

    Nothing in here waits for a GPU or depends on what a tensor holds, so the whole can be compiled, or recorded as a
    CUDA graph. Memories are made from what is stored, so they come out the same when they are made again later; the
    answer itself is given in full.

    Args:
        exact: logits are stored in full, so the memory is made from them, not from rounded ones.
        memory_dtype: of the stored memory.
    Returns:
        the answer, and the memory [B, memory dim, h, w] that the frame leaves, as it is stored.
    """
    answer = model.answer(model.recall(features.stride16, memories), features)
    kept = KeptAnswer.of(answer)
    present = answer.object_score > 0
    logits = kept.mask if exact else logits_of(levels_of(kept.mask))
    logits = torch.where(present[:, None, None], logits, ABSENT_LOGIT)
    memory = model.remember(features.stride16, logits[:, None], present, binary=False)
    return kept, memory.to(memory_dtype)


@dataclass(frozen=True)
class Pass:
    """Some objects on a frame that went through the network together."""

    members: list[TrackedObject]
    answer: KeptAnswer
    memories: list[Tensor]  # [memory dim, h, w] that the frame leaves of each, as it is stored
    pointers: list[Tensor]  # [dim] of each

    def results(self, run: int) -> list[FrameResult]:
        """The answers, object by object."""
        return self.answer.on_cpu().results(self.pointers, prompted=False, run=run)


@dataclass(frozen=True)
class Recalled:
    """What B objects recall, one by one; each list has a tensor for each object."""

    maps: list[tuple[list[Tensor], int]]  # [memory dim, h, w] each, and their slot
    pointers: list[tuple[list[Tensor], int]]  # [dim] each, and their distance in frames
    keys: list[list[Tensor]] | None = None  # [layers, h * w, dim] each, of the maps, if they are kept

    def memories(self, model: SAM2, pointer_frames: int) -> Memories:
        """Put together; in one dtype, as autocast cannot mix bfloat16 memories with float16."""
        return Memories.of(
            [(torch.stack([m.to(model.weight_dtype) for m in of_all]), slot) for of_all, slot in self.maps],
            [(torch.stack(of_all), distance) for of_all, distance in self.pointers],
            dim=model.config.hidden_dim,
            pointer_frames=pointer_frames,
            keys=None if self.keys is None else [torch.stack(of_all) for of_all in self.keys],
        )


class Tracker:
    """A SAM2 in eval mode at work on frames of sessions; holds a lock during each pass, and nothing of any video."""

    def __init__(self, model: SAM2, lock: AbstractContextManager[object] | None = None) -> None:
        self.model = model
        self.lock = nullcontext() if lock is None else lock
        self._together = _MOST_TOGETHER  # fewer once the device had no room for so many

    # prompted frames

    def take_mask(self, session: Session, frame: int, prompt: FramePrompt) -> FrameResult:
        """The answer to a mask: itself."""
        square = mask_to_square(torch.from_numpy(prompt.mask), self.model.config.side).to(self.model.device)
        features = self.features(session, frame)
        with self._network():
            answer = self.model.answer_mask(features, square[None, None])
        return self._prompted(session, answer)

    def ask(self, session: Session, frame: int, item: TrackedObject, prompts: PromptTensors) -> FrameResult:
        """The answer to clicks and a box; on a frame that tracking has reached, with memory."""
        selected = SelectedMemories((), ())
        if frame in item.directions:
            others = [f for f in session.conditioning(item) if f != frame]
            selected = self.select(session, item, Step(frame, item.directions[frame], ()), others)
        recalled = self._recalled(session, [item], selected) if selected.maps else None
        features, options = self.features(session, frame), session.options
        one_mask = options.refines_with_one_mask and prompts.mask_logits is not None
        choice: dict[str, Any] = {"multimask": False if one_mask else None, "blanks_absent": options.blanks_absent}
        with self._network():
            if recalled is None:
                image = self.model.without_memory(features.stride16)
            else:
                image = self.model.recall(features.stride16, recalled.memories(self.model, session.pointer_reach))
            answer = self.model.answer(image, features, prompts, **choice)
            candidates = self._candidates(answer, options)
        return replace(self._prompted(session, answer), **candidates)

    def _candidates(self, answer: FrameAnswer, options: VideoOptions) -> dict[str, Any]:
        """What a FrameResult keeps of an answer with several candidates."""
        found = answer.candidates
        if found is None or found.mask_logits.shape[1] == 1 or (options.blanks_absent and answer.object_score[0] <= 0):
            return {}
        chosen = int(found.predicted_iou[0].argmax())
        pointers = self.model.pointer(found.mask_tokens[0], (answer.object_score > 0).expand(len(found.mask_tokens[0])))
        pointers[chosen] = answer.pointer[0]
        logits = found.mask_logits[0].float().cpu()
        return {"candidates": CandidateMasks(logits, found.predicted_iou[0].float().cpu(), pointers), "chosen": chosen}

    @staticmethod
    def _prompted(session: Session, answer: FrameAnswer) -> FrameResult:
        kept = KeptAnswer.of(answer).on_cpu()
        return kept.results([answer.pointer[0].clone()], prompted=True, run=session.run)[0]

    # tracked frames

    def track(self, session: Session, step: Step) -> dict[int, FrameResult]:
        """Answer for every object that is not prompted on a frame, and remember.

        Returns:
            the answers in full, by `id` of the object; the objects have them as they are stored.
        """
        return self.store(session, step, self.passes(session, step))

    def passes(self, session: Session, step: Step) -> list[Pass]:
        """Run the network for a frame; the session does not change, but for features and forgotten memories.

        Objects that recall the same frames go through the network together; fewer at once, and from then on, where the
        device has no room.
        """
        done: list[Pass] = []
        for selected, members in self.groups(session, step).items():
            waiting = deque(members)
            while waiting:
                some = [waiting.popleft() for _ in range(min(self._together, len(waiting)))]
                try:
                    done.append(self._pass(session, step, selected, some))
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error) or not self._takes_less(len(some)):
                        raise
                    waiting.extendleft(reversed(some))
        return done

    def store(self, session: Session, step: Step, passes: Sequence[Pass]) -> dict[int, FrameResult]:
        """Put what `passes` found into the session; see `track`."""
        session.run = max(session.run, step.since)
        found: dict[int, FrameResult] = {}
        for done in passes:
            for item, memory, result in zip(done.members, done.memories, done.results(session.run), strict=True):
                item.tracked[step.frame] = result.stored(session.options)
                item.directions[step.frame] = step.reverse
                item.memories[step.frame] = memory
                found[id(item)] = result
        if session.options.forget:
            for item in (session.objects[i] for i in step.object_ids if i in session.objects):
                item.forget(step.frame, (self.model.config.memory.slots - 1) * session.frames.step)
        return found

    def groups(self, session: Session, step: Step) -> dict[SelectedMemories, list[TrackedObject]]:
        """The objects that are to be tracked on a frame, by what they recall."""
        groups: dict[SelectedMemories, list[TrackedObject]] = {}
        for item in (session.objects[i] for i in step.object_ids if i in session.objects):
            prompted = session.conditioning(item)
            if prompted and step.frame not in item.prompted:  # where nothing is prompted, nothing is left to recall
                groups.setdefault(self.select(session, item, step, prompted), []).append(item)
        return groups

    def _pass(self, session: Session, step: Step, selected: SelectedMemories, members: list[TrackedObject]) -> Pass:
        recalled = self._recalled(session, members, selected)
        features = self.features(session, step.frame)
        with self._network():
            memories = recalled.memories(self.model, session.pointer_reach)
            exact, dtype = session.options.exact_logits, session.options.memory_dtype
            answer, made = track_frame(self.model, features, memories, exact=exact, memory_dtype=dtype)
            return Pass(members, answer, self._one_by_one(made), [pointer.clone() for pointer in answer.pointer])

    def _takes_less(self, together: int) -> bool:
        """Take less of a device that is full from now on; False if that is not possible."""
        self._together = max(1, together // 2)
        return together > 1

    # memories

    def select(self, session: Session, item: TrackedObject, step: Step, prompted: Sequence[int]) -> SelectedMemories:
        """What an object with such conditioning frames recalls; distances count in steps of the frames in use."""
        frames = session.frames
        selected = choose_memories(
            frames.index(step.frame),
            [frames.index(f) for f in prompted],
            _AnswersSince(frames, item.tracked, step.since),
            slots=self.model.config.memory.slots,
            pointer_frames=session.pointer_reach,
            reverse=step.reverse,
        )
        maps, pointers = (tuple((frames[i], n) for i, n in some) for some in (selected.maps, selected.pointers))
        return SelectedMemories(maps, pointers)

    def _recalled(self, session: Session, items: Sequence[TrackedObject], selected: SelectedMemories) -> Recalled:
        """What objects recall that recall the same frames."""
        for frame, _ in selected.maps:
            self._remember(session, [item for item in items if frame not in item.memories], frame)
        maps = [([item.memories[f] for item in items], slot) for f, slot in selected.maps]
        return Recalled(maps, [([_answer(item, f).pointer for item in items], d) for f, d in selected.pointers])

    def _remember(self, session: Session, missing: Sequence[TrackedObject], frame: int) -> None:
        """Make the memories of a frame for those objects that do not hold theirs."""
        for prompted in (True, False):
            items = [item for item in missing if _answer(item, frame).prompted == prompted]
            if items:
                answers = [_answer(item, frame) for item in items]
                # the published predictor fills holes before it remembers a prompted frame, and after for a tracked one
                cleaned = session.options if prompted else None
                logits = torch.stack([a.low_res(cleaned) for a in answers]).to(self.model.device)
                present = torch.tensor([a.present for a in answers], device=self.model.device)
                features = self.features(session, frame)
                binary = prompted and session.options.binary_prompted_memory
                with self._network():
                    made = self.model.remember(features.stride16, logits, present, binary=binary)
                    apart = self._one_by_one(made.to(session.options.memory_dtype))
                for item, memory in zip(items, apart, strict=True):
                    item.memories[frame] = memory

    def _one_by_one(self, memories: Tensor) -> list[Tensor]:
        """Memories [B, ...], each in its own place so that one can be forgotten."""
        return [memory.clone() for memory in memories]

    # features

    def features(self, session: Session, frame: int) -> ImageFeatures:
        """Of one frame: those that the session keeps, or made and kept."""
        if frame not in session.features:
            made = self.encode(session.options, [session.clip.frame(frame)])
            session.keep_features(frame, made.to("cpu") if session.options.features_on_cpu else made)
        session.features.move_to_end(frame)
        return session.features[frame].to(self.model.device)

    def encode(self, options: VideoOptions, frames: Sequence[Frame]) -> ImageFeatures:
        """The features of some frames."""
        device, side = self.model.device, self.model.config.side
        with torch.inference_mode():
            if options.resizes_as_pictures:
                squares = [picture_to_square_on(device, torch.as_tensor(frame), side) for frame in frames]
            elif device.type == "cuda":
                squares = [frame_to_square_on(device, frame, side) for frame in frames]
            else:  # Apple's GPUs do not resize with antialias
                squares = [frame_to_square(np.asarray(frame), side).to(device) for frame in frames]
        with self.lock, torch.inference_mode(), self.model.precision():
            features = self._encoded(torch.stack(squares))
        # in the weights' dtype: callers may have autocast or not
        return features.to(self.model.weight_dtype)

    def _encoded(self, squares: Tensor) -> ImageFeatures:
        return self.model.encode_image(squares)

    @contextmanager
    def _network(self) -> Iterator[None]:
        """Around each pass through the network."""
        with self.lock, torch.inference_mode(), self.model.precision():
            yield


def _answer(item: TrackedObject, frame: int) -> FrameResult:
    result = item.result(frame)
    assert result is not None, f"frame {frame} is recalled, so it has an answer"
    return result


@dataclass(frozen=True)
class _AnswersSince:
    """Places of the tracked frames of propagation number `since` and later, and of corrected ones, as a container."""

    frames: range  # that are worked on
    tracked: Mapping[int, FrameResult]
    since: int

    def __contains__(self, place: object) -> bool:
        if not isinstance(place, int) or not 0 <= place < len(self.frames):
            return False
        result = self.tracked.get(self.frames[place])
        return result is not None and (result.run >= self.since or result.prompted)
