"""The work of one tracked frame as one function of tensors: recall, answer, and what stays of it.

Nothing in here waits for a GPU or depends on what a tensor holds, so the whole can be compiled, or recorded as a CUDA
graph; see pace.py. Its memories are made from what is stored, so they come out the same when they are made again
later; the answer itself is given in full.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from sam2kit.model.memories import Memories
from sam2kit.model.sam2 import ABSENT_LOGIT, SAM2, FrameAnswer, ImageFeatures
from sam2kit.predict.logits import levels_of, logits_of
from sam2kit.predict.pace import Pace
from sam2kit.predict.recorded import Function, OnceShapesStay, Recorded

_COMPILED = 64  # numbers of objects and of prompted frames for which code may be made; dynamo gives up after 8
Compiled = TypeVar("Compiled", bound=Callable[..., Any])


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


class TrackRules(NamedTuple):
    """What is stored of a tracked frame."""

    exact: bool  # logits in full, so that the memory is made from them, not from rounded ones
    memory_dtype: torch.dtype
    keys: bool  # those of the memory are made, too


class TrackedFrame(NamedTuple):
    """B objects on a frame that nobody prompted."""

    answer: KeptAnswer
    memory: Tensor  # [B, memory dim, h, w] that the frame leaves, as it is stored
    keys: Tensor | None = None  # [B, layers, h * w, dim] of the memory, see `SAM2.keys_of`


class Passes:
    """The two passes of the network that each tracked frame takes, in the way that is asked for.

    Args:
        model: a SAM2 in eval mode.
        pace: what is done for speed.
    """

    def __init__(self, model: SAM2, pace: Pace) -> None:
        self._model = model
        self._together = pace.frames_ahead(model.device) or 1
        self._encode = _compiled(model.encode_image) if pace.compiled else model.encode_image
        self._pace = pace
        self._ways: dict[TrackRules, Function] = {}

    def encode(self, squares: Tensor) -> ImageFeatures:
        """As `SAM2.encode_image`; compiled code has one size of batch, that of frames which are encoded together."""
        return (self._encode if len(squares) == self._together else self._model.encode_image)(squares)

    def track(self, features: ImageFeatures, memories: Memories, rules: TrackRules) -> TrackedFrame:
        """As `track_frame`."""
        if rules not in self._ways:
            self._ways[rules] = _way(partial(_track_tensors, self._model, rules), self._pace)
        given = (*vars(features).values(), *vars(memories).values())
        found = self._ways[rules](*(t for t in given if t is not None))
        return TrackedFrame(KeptAnswer(*found[:4]), *found[4:])


def _way(work: Function, pace: Pace) -> Function:
    quick = _compiled(work) if pace.compiled else work
    quick = Recorded(quick) if pace.recorded else quick
    return work if quick is work else OnceShapesStay(work, quick)


def _compiled(work: Compiled) -> Compiled:
    # tables of positions are kept by functools.cache; compiled code makes its own, which is all the same
    warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
    limit: dict[str, Any] = {}
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        limit = {"recompile_limit": _COMPILED}
    else:
        torch._dynamo.config.cache_size_limit = max(torch._dynamo.config.cache_size_limit, _COMPILED)
    return cast("Compiled", torch.compile(work, dynamic=False, **limit))


def _track_tensors(model: SAM2, rules: TrackRules, *tensors: Tensor) -> Sequence[Tensor]:
    found = track_frame(model, ImageFeatures(*tensors[:3]), Memories(*tensors[3:]), rules)
    return [*found.answer, found.memory, *(() if found.keys is None else (found.keys,))]


def track_frame(model: SAM2, features: ImageFeatures, memories: Memories, rules: TrackRules) -> TrackedFrame:
    """Find B objects on a frame that nobody prompted.

    Args:
        features: of the frame.
        memories: of the objects.
        rules: what is to be stored.
    """
    answer = model.answer(model.recall(features.stride16, memories), features)
    kept = KeptAnswer.of(answer)
    present = answer.object_score > 0
    logits = kept.mask if rules.exact else logits_of(levels_of(kept.mask))
    logits = torch.where(present[:, None, None], logits, ABSENT_LOGIT)
    memory = model.remember(features.stride16, logits[:, None], present, binary=False).to(rules.memory_dtype)
    return TrackedFrame(kept, memory, model.keys_of(memory) if rules.keys else None)
