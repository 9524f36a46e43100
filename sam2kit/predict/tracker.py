"""One frame of a session through the network: encode, choose memories, recall, answer, remember.

Below video.py, which decides which frames and objects. Memories that were forgotten are made again from the packed
answers, so a long video needs no more memory than a short one, and gives the same masks as if all were kept. On a GPU,
pipelining.py does the same and keeps the device busy; everything there can be taken away.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
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
from sam2kit.predict.geometry import frame_to_square, frame_to_square_on, picture_to_square_on
from sam2kit.predict.memory_selection import AREAS, TrackedNumbers, becomes_anchor
from sam2kit.predict.objects import Step, TrackedObject
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.prompts import FramePrompt
from sam2kit.predict.session import Session

Group = list[tuple[TrackedObject, SelectedMemories]]  # objects with what each recalls, of the same shape
Frame = np.ndarray | Tensor  # uint8 [H, W, 3]; for a GPU in pinned memory
_MOST_TOGETHER = 16  # objects in one pass of the network


class KeptAnswer(NamedTuple):
    """What stays of an answer for B objects."""

    mask: Tensor  # [B, h, w] float32 low-res mask logits
    object_score: Tensor  # [B] float32
    predicted_iou: Tensor  # [B] float32
    pointer: Tensor  # [B, dim] float32
    others: Tensor | None = None  # [B, M, h, w] bool, all candidates; where anchors are looked for

    @classmethod
    def of(cls, answer: FrameAnswer, *, others: bool = False) -> KeptAnswer:
        """Without the axis of candidates; with what each of them takes for the object, if that is asked for."""
        found = answer.candidates.mask_logits > 0 if others and answer.candidates is not None else None
        return cls(answer.mask_logits[:, 0], answer.object_score, answer.predicted_iou, answer.pointer, found)

    def on_cpu(self, *, wait: bool = True) -> KeptAnswer:
        """The same on the CPU, or from a GPU on its way into pinned memory there; but for the pointers, which stay."""

        def here(values: Tensor) -> Tensor:
            return values.detach().to("cpu", non_blocking=values.is_cuda and not wait)

        others = None if self.others is None else here(self.others)
        return KeptAnswer(
            here(self.mask.float()), here(self.object_score), here(self.predicted_iou), self.pointer, others
        )

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


class StoredParts(NamedTuple):
    """What is stored of a tracked frame."""

    exact: bool  # logits in full, so the memory is made from them, not from rounded ones
    memory_dtype: torch.dtype
    others: bool  # what the other candidates take for the object
    keys: bool = False  # those of the memory are made, too; see pipelining.py

    @classmethod
    def of(cls, options: VideoOptions, *, keys: bool = False) -> StoredParts:
        """As options say."""
        return cls(options.exact_logits, options.memory_dtype, options.memory_selection == "anchored", keys)


def track_frame(
    model: SAM2, features: ImageFeatures, memories: Memories, *, parts: StoredParts
) -> tuple[KeptAnswer, Tensor]:
    """Find B objects on a frame that nobody prompted: recall, answer, remember.

    Nothing in here waits for a GPU or depends on what a tensor holds, so the whole can be compiled, or recorded as a
    CUDA graph. Memories are made from what is stored, so they come out the same when they are made again later; the
    answer itself is given in full.

    Returns:
        the answer, and the memory [B, memory dim, h, w] that the frame leaves, as it is stored.
    """
    answer = model.answer(model.recall(features.stride16, memories), features)
    kept = KeptAnswer.of(answer, others=parts.others)
    present = answer.object_score > 0
    logits = kept.mask if parts.exact else logits_of(levels_of(kept.mask))
    logits = torch.where(present[:, None, None], logits, ABSENT_LOGIT)
    memory = model.remember(features.stride16, logits[:, None], present, binary=False)
    return kept, memory.to(parts.memory_dtype)


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

    def others(self) -> list[np.ndarray] | None:
        """bool [M, h, w] of each object: the candidates, where they are kept."""
        return None if self.answer.others is None else list(self.answer.others.cpu().numpy())


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
        square = prompt.mask_in_square(self.model.config.side).to(self.model.device)
        features = self.features(session, frame)
        with self._network():
            answer = self.model.answer_mask(features, square[None, None])
        return self._prompted(session, answer)

    def ask(self, session: Session, frame: int, item: TrackedObject, prompts: PromptTensors) -> FrameResult:
        """The answer to clicks and a box; on a frame that tracking has reached, with memory."""
        selected = SelectedMemories((), ())
        known = item.settled or item
        if frame in known.directions:
            prompted = [f for f in session.conditioning(known) if item.settled or f != frame]
            selected = self.select(session, known, Step(frame, known.directions[frame], ()), prompted)
        recalled = self._recalled(session, [(known, selected)]) if selected.maps else None
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

        Objects that recall alike go through the network together; fewer at once, and from then on, where the device has
        no room.
        """
        done: list[Pass] = []
        for group in self.groups(session, step):
            waiting = deque(group)
            while waiting:
                some = [waiting.popleft() for _ in range(min(self._together, len(waiting)))]
                try:
                    done.append(self._pass(session, step, some))
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
            results, others = done.results(session.run), done.others()
            for i, (item, memory) in enumerate(zip(done.members, done.memories, strict=True)):
                result = results[i] if others is None else self._judged(session, item, step, results[i], others[i])
                item.tracked[step.frame] = result.stored(session.options)
                item.directions[step.frame] = step.reverse
                item.memories[step.frame] = memory
                found[id(item)] = result
        if session.options.forget:
            for item in (session.objects[i] for i in step.object_ids if i in session.objects):
                item.forget(self._keeps(session, item, step))
        return found

    def groups(self, session: Session, step: Step) -> list[Group]:
        """The objects that are to be tracked on a frame, with what they recall; those together that recall alike."""
        groups: dict[Hashable, Group] = {}
        for item in (session.objects[i] for i in step.object_ids if i in session.objects):
            prompted = session.conditioning(item)
            if prompted and step.frame not in item.prompted:  # where nothing is prompted, nothing is left to recall
                selected = self.select(session, item, step, prompted)
                same = selected if session.options.memory_selection == "latest" else selected.shape
                groups.setdefault(same, []).append((item, selected))
        return list(groups.values())

    def _pass(self, session: Session, step: Step, group: Group) -> Pass:
        recalled = self._recalled(session, group)
        features = self.features(session, step.frame)
        with self._network():
            memories = recalled.memories(self.model, session.pointer_reach)
            answer, made = track_frame(self.model, features, memories, parts=StoredParts.of(session.options))
            members = [item for item, _ in group]
            return Pass(members, answer, self._one_by_one(made), [pointer.clone() for pointer in answer.pointer])

    def _takes_less(self, together: int) -> bool:
        """Take less of a device that is full from now on; False if that is not possible."""
        self._together = max(1, together // 2)
        return together > 1

    # memories

    def select(
        self, session: Session, item: TrackedObject, step: Step, prompted: Sequence[int], *, anchored: bool = True
    ) -> SelectedMemories:
        """What an object with such conditioning frames recalls; distances count in steps of the frames in use.

        Args:
            anchored: with anchors, where options ask for them.
        """
        frames, options = session.frames, session.options
        tracked = _AnswersSince(frames, item.tracked, step.since)
        chooses: dict[str, Any] = {}
        if options.memory_selection != "latest":
            chooses["reliable"] = lambda place: tracked[place].is_reliable(options.reliable_iou)
        if options.memory_selection == "anchored" and anchored:
            chooses["anchors"] = [place for place in tracked if tracked[place].anchor]
        selected = choose_memories(
            frames.index(step.frame),
            [frames.index(f) for f in prompted],
            tracked,
            slots=self.model.config.memory.slots,
            pointer_frames=session.pointer_reach,
            reverse=step.reverse,
            **chooses,
        )
        maps, pointers = (tuple((frames[i], n) for i, n in some) for some in (selected.maps, selected.pointers))
        return SelectedMemories(maps, pointers)

    def recallable(self, session: Session, item: TrackedObject, step: Step) -> tuple[set[int], set[int]]:
        """The frames of which later steps can still recall the memory, and those of which they need the answer."""
        prompted, anchors = session.conditioning(item), session.options.memory_selection == "anchored"
        ways = [self.select(session, item, step, prompted)]
        if anchors:
            ways.append(self.select(session, item, step, prompted, anchored=False))
        maps = {step.frame} | {f for way in ways for f, _ in way.maps}
        answers = maps | {f for way in ways for f, _ in way.pointers}
        if anchors:
            answers.update([known.frame for known in _numbers(item, step) if known.area][:AREAS])
        return maps, answers

    def _keeps(self, session: Session, item: TrackedObject, step: Step) -> Callable[[int], bool]:
        """Of which tracked frames memories are kept; the others are made again where they are needed."""
        if session.options.memory_selection == "latest":
            reach = (self.model.config.memory.slots - 1) * session.frames.step
            return lambda frame: abs(frame - step.frame) <= reach
        return self.recallable(session, item, step)[0].__contains__

    def _judged(
        self, session: Session, item: TrackedObject, step: Step, result: FrameResult, others: np.ndarray
    ) -> FrameResult:
        """The answer with its area, and whether it is an anchor."""
        mask = (result.unfilled() > 0).numpy()
        prompted = [abs(f - step.frame) for f in session.conditioning(item) if (step.frame - f) * step.sign > 0]
        before = [
            known._replace(
                frame=session.frames.index(known.frame),
                anchor=known.anchor and abs(known.frame - step.frame) < min(prompted, default=math.inf),
            )
            for known in _numbers(item, step)
            if known.frame in session.frames
        ]
        area, now = int(mask.sum()), session.frames.index(step.frame)
        return replace(result, area=area, anchor=becomes_anchor(now, area, result.predicted_iou, before, mask, others))

    def _recalled(self, session: Session, group: Group) -> Recalled:
        """What objects recall whose slots and distances are the same."""
        missing: dict[int, list[TrackedObject]] = {}
        for item, selected in group:
            for frame, _ in selected.maps:
                if frame not in item.memories:
                    missing.setdefault(frame, []).append(item)
        for frame, items in missing.items():
            self._remember(session, items, frame)
        slots, distances = group[0][1].shape
        maps = [([item.memories[s.maps[i][0]] for item, s in group], slot) for i, slot in enumerate(slots)]
        pointers = [
            ([_answer(item, s.pointers[i][0]).pointer for item, s in group], d) for i, d in enumerate(distances)
        ]
        return Recalled(maps, pointers)

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


def _numbers(item: TrackedObject, step: Step) -> list[TrackedNumbers]:
    """Of the frames that a propagation has tracked before a step, nearest first; not of those that it read or asked."""
    before = [
        TrackedNumbers(frame, result.area, result.anchor)
        for frame, result in item.tracked.items()
        if (step.frame - frame) * step.sign > 0 and result.run >= step.since and not result.prompted
    ]
    return sorted(before, key=lambda known: abs(step.frame - known.frame))


@dataclass(frozen=True)
class _AnswersSince(Mapping[int, FrameResult]):
    """By place, the answers to the frames of propagation number `since` and later, and to corrected ones."""

    frames: range  # that are worked on
    tracked: Mapping[int, FrameResult]
    since: int

    def __getitem__(self, place: int) -> FrameResult:
        result = self.tracked.get(self.frames[place]) if 0 <= place < len(self.frames) else None
        if result is None or (result.run < self.since and not result.prompted):
            raise KeyError(place)
        return result

    def __iter__(self) -> Iterator[int]:
        return (p for p in (self.frames.index(f) for f in self.tracked if f in self.frames) if p in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)
