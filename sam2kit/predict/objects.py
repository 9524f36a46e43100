"""What is known of one object, frame by frame; ids and names of objects.

What a frame may hold for an object:

    prompts    what the person asked for on this frame
    prompted   the answer to it, in full; these are the conditioning frames
    tracked    the answer found by tracking, packed; stays beside `prompted`, which wins, and returns when prompts are
               cleared
    memories   the spatial memory that later frames recall; kept near the current frame, made again when needed
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from torch import Tensor

from sam2kit.predict.frame_masks import FrameResult
from sam2kit.predict.prompts import FramePrompt

ObjectId = int | str
BY_FRAME = ("prompts", "prompted", "tracked", "directions")  # of a TrackedObject, all but memories
MOST_OBJECTS = 1000  # of a session: each is shown, and a mask as large as the page's picture is kept for it
_LONGEST_NAME = 40  # characters


def checked_id(object_id: Hashable) -> ObjectId:
    """An object id; whole numbers and texts of any kind as int and str, a ValueError if it is neither."""
    given: object = object_id  # a type checker takes the numbers of this ABC for unhashable
    if isinstance(given, (numbers.Integral, str)):
        return str(given) if isinstance(given, str) else int(given)
    raise ValueError(f"an object id is a text or a whole number, which can be saved; got {object_id!r:.80}")


@dataclass
class TrackedObject:
    """One object through the clip; each dict goes by frame."""

    prompts: dict[int, FramePrompt] = field(default_factory=dict)
    prompted: dict[int, FrameResult] = field(default_factory=dict)
    tracked: dict[int, FrameResult] = field(default_factory=dict)
    directions: dict[int, bool] = field(default_factory=dict)  # frames reached by tracking: was it backwards?
    memories: dict[int, Tensor] = field(default_factory=dict)  # [memory dim, h, w] each
    # as published, corrections recall what was known when tracking ended, those of the same frame included
    settled: TrackedObject | None = field(default=None, kw_only=True)
    number: int = field(default=1, kw_only=True)  # from 1, unique; decides colour and PNG value
    name: str = field(default="", kw_only=True)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked of it, and nothing is known."""
        return not (self.prompts or self.prompted or self.tracked)

    def result(self, frame: int) -> FrameResult | None:
        """What is known of a frame; a prompted answer goes before a tracked one."""
        return self.prompted.get(frame) or self.tracked.get(frame)

    def latest(self, frame: int) -> FrameResult | None:
        """As `result`, but a correction that did not settle goes first, even where it will be lost."""
        tracked = self.tracked.get(frame)
        lost = self.settled is not None and tracked is not self.settled.tracked.get(frame)
        return tracked if lost and tracked is not None else self.result(frame)

    def settle(self) -> None:
        """Let corrections recall what is known now, until `settled` is None again."""
        if self.settled is None:
            self.settled = replace(self.without_memories(), memories=dict(self.memories))

    def without_memories(self) -> TrackedObject:
        """A copy that later tracking does not change; it makes its own memories when it needs them."""
        kept: dict[str, Any] = {name: dict(getattr(self, name)) for name in BY_FRAME}
        return replace(self, **kept, memories={})

    def forget(self, keeps: Callable[[int], bool]) -> None:
        """Drop memories of tracked frames, but for those to keep."""
        for frame in [f for f in self.memories if f not in self.prompted and not keeps(f)]:
            del self.memories[frame]


@dataclass(frozen=True)
class Step:
    """One frame of a propagation that is still to be done."""

    frame: int
    reverse: bool
    object_ids: tuple[ObjectId, ...]
    since: int = 0  # answers of earlier propagations are not recalled

    @property
    def sign(self) -> int:
        """Of frame numbers, in the direction of time."""
        return -1 if self.reverse else 1


def checked_name(name: str, taken: Collection[str]) -> str:
    """A name without superfluous blanks; a ValueError if it is empty, too long or taken."""
    name = " ".join(name.split())
    if not name or len(name) > _LONGEST_NAME:
        raise ValueError(f"a name needs 1 to {_LONGEST_NAME} characters, got {len(name)}")
    if name in taken:
        raise ValueError(f"there is a “{name}” already; choose another name")
    return name


def class_of(name: str) -> str | None:
    """The class that an object's name tells: "coin" of "coin (2)" and "coin 3"; None of a name like "Object 4"."""
    kind = re.sub(r"(?<=\w)\s*(\(\d+\)|[ _-]?\d+)$", "", name).strip()
    return None if kind.casefold() in ("", "object") or kind.isdecimal() else kind


def free_name(wanted: str, taken: Collection[str]) -> str:
    """The name, or if it is taken with a number behind it."""
    others = (f"{wanted} ({n})" for n in count(2))
    return wanted if wanted not in taken else next(name for name in others if name not in taken)
