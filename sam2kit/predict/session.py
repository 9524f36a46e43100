"""Everything that belongs to one video: its clip, and for every object the prompts, answers and memories.

Plain data without a reference to the model; video.py fills it. `session.tracks[object_id]` owns all that is known
of an object, so removing one is one deletion, and no object can disturb another.

What a frame may hold for an object:

    prompts    what the person asked for on this frame
    prompted   the answer to it, in full; these are the conditioning frames
    tracked    the answer found by tracking, packed; stays beside `prompted`, which wins, and returns when prompts are
               cleared
    memories   the spatial memory that later frames recall; kept near the current frame, made again when needed
"""

from __future__ import annotations

import numbers
import operator
from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sam2kit.media.clips import Clip
from sam2kit.model.memory_bank import POINTER_FRAMES
from sam2kit.model.sam2 import ImageFeatures
from sam2kit.predict.frame_masks import FrameMasks, FrameResult, VideoOptions
from sam2kit.predict.prompts import check_count, points_and_labels

_KEPT_FEATURES = 2  # frames whose image features stay: the current one, and the next, or one that a person goes back to


def finite_numbers(values: ArrayLike, name: str) -> np.ndarray:
    """float32 of the same shape.

    Raises:
        ValueError: if something else than finite numbers is among them.
    """
    try:
        given = np.asarray(values)
        real = given.dtype.kind in "biuf" or all(isinstance(v, numbers.Real) for v in given.flat)  # no dates, no texts
        floats = given.astype(np.float32) if real else None
    except (TypeError, ValueError, OverflowError):
        floats = None
    if floats is None or not np.isfinite(floats).all():
        raise ValueError(f"{name} must be finite numbers in rows of one length, got {values!r:.80}")
    return floats


def checked_id(object_id: Hashable) -> Hashable:
    """An object id; whole numbers and texts of any kind as int and str.

    Raises:
        ValueError: if it is neither, and so could not be saved.
    """
    given: object = object_id  # a type checker takes the numbers of this ABC for unhashable
    if isinstance(given, numbers.Integral):
        return int(given)
    if isinstance(given, str):
        return str(given)
    raise ValueError(f"an object id is a text or a whole number, which can be saved; got {object_id!r:.80}")


@dataclass(frozen=True, eq=False)
class FramePrompt:
    """All that a person asked for on one frame, in pixels of the clip: clicks and a box, or a mask.

    Raises:
        ValueError: if shapes or labels cannot be used.
    """

    points_xy: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))  # float32 [N, 2]
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # int64 [N] 1 this, 0 not this
    box_xyxy: np.ndarray | None = None  # float32 [4]
    mask: np.ndarray | None = None  # bool [H, W]; excludes all others

    def __post_init__(self) -> None:
        points, labels = finite_numbers(self.points_xy, "clicks"), np.asarray(self.labels)
        if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1]:
            raise ValueError(
                f"clicks must be [N, 2] with one label each, got {list(points.shape)} and {list(labels.shape)}"
            )
        check_count(len(points))
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(f"labels must be 1 (this) or 0 (not this), got {labels.tolist()}")
        object.__setattr__(self, "points_xy", points)
        object.__setattr__(self, "labels", labels.astype(np.int64))
        if self.box_xyxy is not None:
            box = finite_numbers(self.box_xyxy, "a box")
            if box.shape != (4,):
                raise ValueError(f"a box must be four numbers (x0, y0, x1, y1), got shape {list(box.shape)}")
            object.__setattr__(self, "box_xyxy", box)
        if self.mask is not None:
            mask = np.asarray(self.mask)
            if mask.ndim != 2 or mask.dtype != bool:
                raise ValueError(f"a mask must be bool [H, W], got {mask.dtype} {list(mask.shape)}")
            object.__setattr__(self, "mask", mask)

    @property
    def points_and_labels(self) -> tuple[Tensor, Tensor] | None:
        """Points [1, N, 2] and labels [1, N], those of the box's corners first; None for a mask."""
        if self.mask is not None:
            return None
        box = None if self.box_xyxy is None else torch.from_numpy(self.box_xyxy)[None]
        return points_and_labels(torch.from_numpy(self.points_xy)[None], torch.from_numpy(self.labels)[None], box)

    @property
    def is_empty(self) -> bool:
        """Whether it asks for nothing."""
        return not len(self.points_xy) and self.box_xyxy is None and self.mask is None

    def plus(self, other: FramePrompt) -> FramePrompt:
        """Both together; the other's box or mask takes the place of an earlier one."""
        if other.mask is not None or self.mask is not None:
            return other
        return FramePrompt(
            np.concatenate([self.points_xy, other.points_xy]),
            np.concatenate([self.labels, other.labels]),
            self.box_xyxy if other.box_xyxy is None else other.box_xyxy,
        )


@dataclass
class ObjectTrack:
    """One object through the video; each dict goes by frame."""

    prompts: dict[int, FramePrompt] = field(default_factory=dict)
    prompted: dict[int, FrameResult] = field(default_factory=dict)
    tracked: dict[int, FrameResult] = field(default_factory=dict)
    directions: dict[int, bool] = field(default_factory=dict)  # frames reached by tracking: was it backwards?
    memories: dict[int, Tensor] = field(default_factory=dict)  # [memory dim, h, w] each

    def result(self, frame: int) -> FrameResult | None:
        """What is known of a frame; a prompted answer goes before a tracked one."""
        return self.prompted.get(frame) or self.tracked.get(frame)

    def without_memories(self) -> ObjectTrack:
        """A copy that later tracking does not change; it makes its own memories when it needs them."""
        return ObjectTrack(dict(self.prompts), dict(self.prompted), dict(self.tracked), dict(self.directions))

    def forget(self, now: int, reach: int) -> None:
        """Drop memories of tracked frames that lie more than `reach` frames from `now`."""
        for frame in [f for f in self.memories if f not in self.prompted and abs(f - now) > reach]:
            del self.memories[frame]


@dataclass(frozen=True)
class Step:
    """One frame of a propagation that is still to be done."""

    frame: int
    reverse: bool
    object_ids: tuple[Hashable, ...]
    since: int = 0  # answers of earlier propagations are not recalled


@dataclass(eq=False)
class VideoSession:
    """A video on which somebody works. Made by `VideoPredictor.open`; not for two threads at a time."""

    clip: Clip
    options: VideoOptions = field(default_factory=VideoOptions)
    tracks: dict[Hashable, ObjectTrack] = field(default_factory=dict)
    plan: deque[Step] = field(default_factory=deque)  # what is left of a propagation
    run: int = 0  # number of the latest propagation from the prompts
    features: OrderedDict[int, ImageFeatures] = field(default_factory=OrderedDict)  # of the latest frames
    pointer_frames: int | None = None  # how far pointers look back; None: as far as the clip is long, at most 16

    def __len__(self) -> int:
        return len(self.clip)

    @property
    def object_ids(self) -> tuple[Hashable, ...]:
        """In the order of their first prompts."""
        return tuple(self.tracks)

    @property
    def pointer_reach(self) -> int:
        """How many frames pointers look back, the current one included."""
        return self.pointer_frames or min(len(self.clip), POINTER_FRAMES)

    def masks(self, frame: int, at_hand: Mapping[int, FrameResult] | None = None) -> FrameMasks:
        """What is known of a frame, without running the model.

        Args:
            at_hand: answers in full that were just found, by `id` of their track, in place of the stored ones.
        Raises:
            IndexError: if the clip has no such frame.
        """
        frame, fresh = self.checked_frame(frame), at_hand or {}
        numbered = enumerate(self.tracks.items(), start=1)
        known = [(i, r, n) for n, (i, t) in numbered if (r := fresh.get(id(t)) or t.result(frame)) is not None]
        ids, results, numbers = zip(*known, strict=True) if known else ((), (), ())
        return FrameMasks(frame, ids, results, numbers, self.clip.size_hw, self.options)

    def clear(self, frame: int, object_id: Hashable) -> FrameMasks:
        """Take back the prompts of an object on a frame; a tracked answer that they had replaced returns.

        Raises:
            KeyError, IndexError: if there is no such object or frame.
        """
        track, frame = self.track(object_id), self.checked_frame(frame)
        track.prompts.pop(frame, None)
        answer = track.prompted.pop(frame, None)
        if answer is not None and self.options.replaced_prompts_linger:
            track.directions.pop(frame, None)
            if frame in track.memories:  # only answers that were tracked from have a memory
                track.tracked[frame] = answer.stored(self.options)
        else:
            track.memories.pop(frame, None)
        self.mend_plan()
        return self.masks(frame)

    def remove_object(self, object_id: Hashable) -> None:
        """Forget an object entirely.

        Raises:
            KeyError: if there is no such object.
        """
        self.track(object_id)
        del self.tracks[object_id]
        self.mend_plan()

    def reset(self) -> None:
        """Forget all objects; the clip stays."""
        self.tracks.clear()
        self.plan.clear()

    def mend_plan(self) -> None:
        """Leave out of the plan what can no longer be tracked: objects that are gone or have no prompt left."""
        trackable = {i for i, t in self.tracks.items() if t.prompted}
        kept = ((s, tuple(i for i in s.object_ids if i in trackable)) for s in self.plan)
        self.plan = deque(replace(step, object_ids=ids) for step, ids in kept if ids)

    def track(self, object_id: Hashable) -> ObjectTrack:
        """The track of an object.

        Raises:
            KeyError: if there is no such object; says which ones there are.
        """
        if checked_id(object_id) not in self.tracks:
            known = ", ".join(map(repr, self.tracks)) or "none yet"
            raise KeyError(f"there is no object {object_id!r}; objects of this session: {known}")
        return self.tracks[object_id]

    def checked_frame(self, frame: int) -> int:
        """A frame number as int.

        Raises:
            ValueError: if it is no whole number.
            IndexError: if the clip has no such frame.
        """
        try:
            number = operator.index(frame)
        except TypeError as error:
            raise ValueError(f"a frame is a whole number, got {frame!r}") from error
        if not 0 <= number < len(self.clip):
            raise IndexError(f"frame {number} is outside the clip; its frames are 0 to {len(self.clip) - 1}")
        return number

    def keep_features(self, frame: int, features: ImageFeatures) -> None:
        """Remember the image features of a frame in place of the oldest ones."""
        self.features[frame] = features
        while len(self.features) > _KEPT_FEATURES:
            self.features.popitem(last=False)
