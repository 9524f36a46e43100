"""Tracks and steps under other frame numbers and object ids: for parts of a clip, and for session files."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import TypeVar

from sam2kit.clicking.named_objects import NamedObjects
from sam2kit.predict.session import ObjectTrack, Step, VideoSession

_T = TypeVar("_T")


def renumbered(track: ObjectTrack, to: Mapping[int, int]) -> ObjectTrack:
    """A track with other frame numbers; frames without a new number and all memories are left out."""

    def kept(frames: Mapping[int, _T]) -> dict[int, _T]:
        return {to[f]: value for f, value in frames.items() if f in to}

    return ObjectTrack(kept(track.prompts), kept(track.prompted), kept(track.tracked), kept(track.directions))


def number_names(ids: Sequence[Hashable]) -> dict[Hashable, int]:
    """A number from 0 for each object id; "Object 3" gets 2 if that is free, so that it keeps its colour."""
    numbers: dict[Hashable, int] = {}
    wanted: set[int] = set()
    for object_id in ids:
        usual = re.fullmatch(r"(?:Object )?([1-9][0-9]{0,3})", str(object_id))
        if usual and int(usual[1]) - 1 not in wanted:
            numbers[object_id] = int(usual[1]) - 1
            wanted.add(int(usual[1]) - 1)
    free = (n for n in count() if n not in wanted)
    for object_id in ids:
        if object_id not in numbers:
            numbers[object_id] = next(free)
    return numbers


def renamed_step(step: Step, numbers: Mapping[Hashable, Hashable]) -> Step:
    """A step for other object ids; ids without a new one are left out."""
    return replace(step, object_ids=tuple(numbers[i] for i in step.object_ids if i in numbers))


def numbered_session(session: VideoSession) -> tuple[VideoSession, NamedObjects]:
    """The same session with numbers as object ids, and the names that the numbers have; tracks are shared."""
    numbers = number_names(list(session.tracks))
    names: dict[int, str] = {}
    for object_id, number in numbers.items():
        name = wanted = object_id if isinstance(object_id, str) else f"Object {object_id}"
        copies = count(2)
        while name in names.values():  # 3 and "Object 3" are two objects
            name = f"{wanted} ({next(copies)})"
        names[number] = name
    objects = NamedObjects(dict(sorted(names.items())), min(names)) if names else NamedObjects()
    tracks: dict[Hashable, ObjectTrack] = {numbers[i]: track for i, track in session.tracks.items()}
    return replace(session, tracks=tracks, plan=deque(renamed_step(s, numbers) for s in session.plan)), objects


def both_tracks(first: ObjectTrack, second: ObjectTrack) -> ObjectTrack:
    """What two tracks of different frames know together."""
    return ObjectTrack(
        {**first.prompts, **second.prompts},
        {**first.prompted, **second.prompted},
        {**first.tracked, **second.tracked},
        {**first.directions, **second.directions},
    )
