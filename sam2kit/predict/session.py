"""Everything that belongs to one clip: the frames worked on, the objects, and for each its prompts, answers, memories.

Plain data without a reference to the model; video.py fills it, session_file.py keeps it. A picture is a clip of one
frame. Frames have the numbers of the whole clip everywhere; `session.frames` is the part of it, or every n-th frame,
that is worked on. `session.objects[object_id]` owns all that is known of an object, so removing one is one deletion,
and no object can disturb another.
"""

from __future__ import annotations

import operator
from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from sam2kit.config import SAM2Config
from sam2kit.media.clip import Clip
from sam2kit.media.clips import ClipSource
from sam2kit.model.memory_bank import POINTER_FRAMES
from sam2kit.model.sam2 import ImageFeatures
from sam2kit.predict.frame_masks import FrameMasks, FrameResult
from sam2kit.predict.objects import (
    BY_FRAME,
    MOST_OBJECTS,
    ObjectId,
    Step,
    TrackedObject,
    checked_id,
    checked_name,
    free_name,
)
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.session_file import read_session, write_session

_KEPT_FEATURES = 2  # frames whose image features stay: the current one, and the next, or one that a person goes back to
_MOST_UNDO = 60  # steps


@dataclass(frozen=True)
class UndoStep:
    """What undo goes back to: which objects there were, and what one of them had on one frame."""

    objects: dict[ObjectId, tuple[TrackedObject, str]]  # with its name
    active: ObjectId | None
    plan: deque[Step] | None  # where objects were removed
    frame: int | None
    object_id: ObjectId | None
    known: dict[str, Any]  # prompt and answers of that object on that frame


@dataclass(eq=False)
class Session:
    """A clip on which somebody works. Made by `VideoPredictor.open`; not for two threads at a time."""

    clip: Clip
    options: VideoOptions = field(default_factory=VideoOptions)
    objects: dict[ObjectId, TrackedObject] = field(default_factory=dict)  # in the order of the list
    plan: deque[Step] = field(default_factory=deque)  # what is left of a propagation
    run: int = 0  # number of the latest propagation from the prompts
    features: OrderedDict[int, ImageFeatures] = field(default_factory=OrderedDict)  # of the latest frames
    pointer_frames: int | None = None  # how far pointers reach back; None: as far as there are frames, at most 16
    frames: range = range(0)  # of the whole clip, those worked on; memory distances count in its steps
    active: ObjectId | None = None  # the object that clicks go to
    config: SAM2Config | None = None  # of the model that answers, where it is known
    file_name: str = ""  # of the clip
    past: deque[UndoStep] = field(default_factory=lambda: deque(maxlen=_MOST_UNDO), init=False, repr=False)

    def __post_init__(self) -> None:
        self.frames = self.frames or range(len(self.clip))

    def __len__(self) -> int:
        return len(self.clip)

    @property
    def is_picture(self) -> bool:
        """Whether the clip has one frame only."""
        return len(self.clip) == 1

    @property
    def object_ids(self) -> tuple[ObjectId, ...]:
        """In the order of the list."""
        return tuple(self.objects)

    @property
    def pointer_reach(self) -> int:
        """How many frames pointers reach back, the current one included."""
        return self.pointer_frames or min(len(self.frames), POINTER_FRAMES)

    def save(self, path: str | PathLike[str], *, with_path: bool = True) -> Path:
        """Write one file; of a picture it holds the picture, of a video only where its frames were.

        Args:
            with_path: note in the file where the clip is on this machine, so that `load` finds it.
        Raises:
            FileNotFoundError: if the folder does not exist.
        """
        return write_session(self, Path(path), with_path=with_path)

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        clip: ClipSource | None = None,
        *,
        config: SAM2Config | None = None,
        device: torch.device | str = "cpu",
    ) -> Session:
        """Read what `save` wrote; it is checked before it is believed.

        Args:
            clip: whatever `open_clip` takes; None takes the picture inside, or looks where the clip was.
            config: of the model that will go on with it; None takes any, as for a look at it.
            device: where memories and pointers go.
        Raises:
            FileNotFoundError, ValueError: if the file, the clip or the model does not fit; says which.
        """
        return read_session(cls, Path(path), clip, config=config, device=torch.device(device))

    # objects

    def add_object(self, object_id: Hashable | None = None, name: str | None = None) -> ObjectId:
        """Add an object to the list, and make it active; by default under the next number, and called by its id.

        Raises:
            ValueError: if there is such an object, if there are too many, or if the name cannot be used.
        """
        new = self.next_id() if object_id is None else checked_id(object_id)
        if new in self.objects:
            raise ValueError(f"there is an object {new!r} already")
        name = None if name is None else checked_name(name, self._names())
        self.check_room(1)
        self.remember()
        self.put_object(new, TrackedObject(), name)
        return new

    def put_object(self, object_id: ObjectId, item: TrackedObject, name: str | None = None) -> TrackedObject:
        """Take an object into the list under a number and a name of its own, and make it active."""
        item.number = self._next_number()
        usual = object_id if isinstance(object_id, str) else f"Object {object_id}"
        item.name = name or self.free_name(usual)
        self.objects[object_id], self.active = item, object_id
        return item

    def free_name(self, wanted: str) -> str:
        """A name for a new object: the wanted one, or if it is taken with a number behind it."""
        return free_name(wanted, self._names())

    def check_room(self, more: int) -> None:
        """Raises ValueError if there would be more objects than a session may have."""
        total = len(self.objects) + more
        if total > MOST_OBJECTS:
            raise ValueError(f"these would be {total} objects, and {MOST_OBJECTS} are the most; remove some first")

    def select(self, object_id: Hashable) -> None:
        """Make an object the one that clicks go to, or raise KeyError; not a step that undo counts."""
        self.object(object_id)
        self.active = checked_id(object_id)

    def rename(self, object_id: Hashable, name: str) -> None:
        """Give an object another name; a ValueError if it is empty, too long or taken."""
        item = self.object(object_id)
        name = checked_name(name, self._names() - {item.name})
        if name != item.name:
            self.remember()
            item.name = name

    def remove_object(self, object_id: Hashable) -> None:
        """Forget an object entirely, or raise KeyError; the one after it becomes active, if it was."""
        self.object(object_id)
        gone = checked_id(object_id)
        self.remember(removes=True)
        place = self.object_ids.index(gone)
        del self.objects[gone]
        if self.active == gone:
            self.active = next(iter((*self.object_ids[place:], *reversed(self.object_ids))), None)
        self.mend_plan()

    def reset(self) -> None:
        """Forget all objects; the clip stays."""
        self.remember(removes=True)
        self.objects, self.active = {}, None
        self.plan.clear()

    def object(self, object_id: Hashable) -> TrackedObject:
        """One object; a KeyError that says which ones there are if there is no such object."""
        known = checked_id(object_id)
        if known not in self.objects:
            all_known = ", ".join(map(repr, self.objects)) or "none yet"
            raise KeyError(f"there is no object {object_id!r}; objects of this session: {all_known}")
        return self.objects[known]

    def _names(self) -> set[str]:
        return {item.name for item in self.objects.values()}

    def next_id(self) -> int:
        """The id that a new object gets where none is asked for."""
        return next(n for n in count(self._next_number()) if n not in self.objects)

    def _next_number(self) -> int:
        return 1 + max((item.number for item in self.objects.values()), default=0)

    # frames

    def masks(self, frame: int, at_hand: Mapping[int, FrameResult] | None = None) -> FrameMasks:
        """What is known of a frame, without running the model.

        Args:
            at_hand: answers in full that were just found, by `id` of their object, in place of the stored ones.
        Raises:
            IndexError: if the clip has no such frame.
        """
        frame, fresh = self.checked_frame(frame), at_hand or {}
        known = [(i, item, fresh.get(id(item)) or item.result(frame)) for i, item in self.objects.items()]
        found = [(i, result, item.number, item.name) for i, item, result in known if result is not None]
        ids, results, numbered, names = zip(*found, strict=True) if found else ((), (), (), ())
        return FrameMasks(frame, ids, results, numbered, self.clip.size_hw, self.options, names)

    def clear(self, frame: int, object_id: Hashable) -> FrameMasks:
        """Take back the prompts of an object on a frame; a tracked answer that they had replaced returns.

        Raises:
            KeyError, IndexError: if there is no such object or frame.
        """
        item, frame = self.object(object_id), self.checked_frame(frame)
        self.remember(frame, checked_id(object_id))
        item.prompts.pop(frame, None)
        answer = item.prompted.pop(frame, None)
        if answer is not None and self.options.replaced_prompts_linger:
            item.directions.pop(frame, None)
            if frame in item.memories:  # only answers that were tracked from have a memory
                item.tracked[frame] = answer.stored(self.options)
        else:
            item.memories.pop(frame, None)
        self.mend_plan()
        return self.masks(frame)

    def choose(self, frame: int, object_id: Hashable, candidate: int) -> FrameMasks:
        """Take another of the candidates that the model gave for the last prompt of an object on a frame.

        Args:
            candidate: from 0; see `FrameResult.candidates`.
        Raises:
            KeyError, IndexError: if there is no such object or frame.
            ValueError: if there is no such candidate.
        """
        item, frame = self.object(object_id), self.checked_frame(frame)
        known = item.prompted.get(frame)
        if known is None or not 0 <= candidate < known.candidate_count:
            raise ValueError(f"there is no candidate {candidate + 1} to choose on frame {frame}")
        if candidate != known.chosen:
            self.remember(frame, checked_id(object_id))
            item.prompted[frame] = known.choose(candidate)
            item.memories.pop(frame, None)
        return self.masks(frame)

    def work_on(self, frames: range) -> list[int]:
        """Work on a part of the clip, or on every n-th frame; what is known of other frames stays, and is not recalled.

        Returns:
            the frames with prompts that are left out; they count again with a part that has them.
        Raises:
            ValueError: if these are no frames of the clip.
        """
        if not len(frames) or frames.step < 1 or frames[0] < 0 or frames[-1] >= len(self.clip):
            raise ValueError(f"{frames} are no frames of a clip of {len(self.clip)}; give range(start, stop, step)")
        self.frames = frames
        self.plan.clear()
        self.past.clear()
        for item in self.objects.values():
            item.memories.clear()
        return sorted({f for item in self.objects.values() for f in item.prompts} - set(frames))

    def checked_frame(self, frame: int) -> int:
        """A frame number as int; a ValueError if it is no whole number, an IndexError if the clip has no such frame."""
        try:
            number = operator.index(frame)
        except TypeError as error:
            raise ValueError(f"a frame is a whole number, got {frame!r}") from error
        if not 0 <= number < len(self.clip):
            raise IndexError(f"frame {number} is outside the clip; its frames are 0 to {len(self.clip) - 1}")
        return number

    def frame_in_use(self, frame: int) -> int:
        """As `checked_frame`; a ValueError, too, if it is none of the frames that are worked on."""
        number = self.checked_frame(frame)
        if number not in self.frames:
            every = f", every {self.frames.step}" if self.frames.step > 1 else ""
            raise ValueError(
                f"frame {number} is not among the frames in use, {self.frames[0]} to {self.frames[-1]}{every} "
                "(counted from 0 in the whole clip)"
            )
        return number

    def conditioning(self, item: TrackedObject) -> list[int]:
        """The conditioning frames of an object among those that are worked on."""
        return [f for f in item.prompted if f in self.frames]

    def mend_plan(self) -> None:
        """Leave out of the plan what can no longer be tracked: objects that are gone or have no prompt left."""
        trackable = {i for i, item in self.objects.items() if item.prompted}
        kept = ((s, tuple(i for i in s.object_ids if i in trackable)) for s in self.plan)
        self.plan = deque(replace(step, object_ids=ids) for step, ids in kept if ids)

    def keep_features(self, frame: int, features: ImageFeatures) -> None:
        """Remember the image features of a frame in place of the oldest ones."""
        self.features[frame] = features
        while len(self.features) > _KEPT_FEATURES:
            self.features.popitem(last=False)

    # undo

    def remember(self, frame: int | None = None, object_id: ObjectId | None = None, *, removes: bool = False) -> None:
        """Note what `undo` goes back to, before prompts and answers of an object on a frame, or the list, change."""
        item = None if object_id is None else self.objects.get(object_id)
        known = {} if item is None else {name: getattr(item, name).get(frame) for name in BY_FRAME}
        objects = {i: (item, item.name) for i, item in self.objects.items()}
        plan = deque(self.plan) if removes else None
        self.past.append(UndoStep(objects, self.active, plan, frame, object_id, known))

    def undo(self) -> int | None:
        """Take back the last change of objects, names or prompts; what was tracked since then stays.

        Returns:
            the frame whose prompts changed back; None where it was something else, or nothing.
        """
        if not self.past:
            return None
        step = self.past.pop()
        self.objects = {i: item for i, (item, _) in step.objects.items()}
        for item, name in step.objects.values():
            item.name = name
        self.active = step.active
        if step.plan is not None:
            self.plan = step.plan
        if step.frame is not None and step.object_id in self.objects:
            item = self.objects[step.object_id]
            for name, value in step.known.items():
                by_frame = getattr(item, name)
                by_frame.pop(step.frame, None)
                if value is not None:
                    by_frame[step.frame] = value
            item.memories.pop(step.frame, None)
        self.mend_plan()
        return step.frame
