"""Which of its memories a frame recalls: pure Python on frame numbers, tested without a network.

Between memory_encoder.py, which makes memories, and memory_attention.py, which looks at them.

    prompted frames  ---(all of them)------------------+
    latest frames    ---(nearest has distance 1)-------+--> maps, each with a learned slot
    object pointers  ---(prompted + up to 15 latest)---+--> pointers, each with its distance in time

Surprises: prompted frames carry no distance; the last slot marks them, however old they are. A prompted frame in
the future (of the direction in which time runs) lends its map, but not its pointer.

Source: SAM 2, arXiv:2408.00714, section 4 "Memory bank" and the architecture appendix.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

POINTER_FRAMES = 16  # pointers look back this far, the current frame included


@dataclass(frozen=True)
class Recollection:
    """What one frame recalls of one object. Objects with equal recollections can share a pass of the network."""

    maps: tuple[tuple[int, int], ...]  # (frame, slot): spatial memories
    pointers: tuple[tuple[int, int], ...]  # (frame, distance in frames; negative where the frame is still to come)


def choose_memories(
    now: int,
    prompted: Iterable[int],
    tracked: Container[int],
    *,
    slots: int,
    pointer_frames: int,
    reverse: bool,
    future_pointers: bool = False,
) -> Recollection:
    """Choose what frame `now` recalls.

    Args:
        now: the current frame.
        prompted: conditioning frames of the object.
        tracked: other frames that left a memory; a frame in both counts as prompted.
        slots: of the model: one for conditioning frames, the others for distances 1, 2, ...
        pointer_frames: how far pointers look back; POINTER_FRAMES, or the length of a shorter clip.
        reverse: time runs backwards, so "before" means a larger frame number.
        future_pointers: also take pointers of conditioning frames that are still to come, at negative distances;
            the published training does.
    """
    prompted = tuple(prompted)
    conditioning = set(prompted)
    step = -1 if reverse else 1

    def before(distance: int) -> int | None:
        frame = now - step * distance
        return frame if frame in tracked and frame not in conditioning else None

    latest = [(before(d), d) for d in range(slots - 1, 0, -1)]
    maps = [(f, slots - 1) for f in prompted] + [(f, d - 1) for f, d in latest if f is not None]
    past = [(f, (now - f) * step) for f in prompted if future_pointers or (now - f) * step >= 0]
    recent = [(before(d), d) for d in range(1, pointer_frames)]
    return Recollection(tuple(maps), tuple(past + [(f, d) for f, d in recent if f is not None]))
