"""How a tracking went: on which frames each object is present, doubtful or lost, so that a person sees where to look.

    health(session)["cup"]      uint8 [T]: UNTRACKED, PRESENT, DOUBTFUL or LOST on each frame

Doubtful is a low predicted IoU, an empty mask, or an area that suddenly grows or shrinks; a frame that a person
prompted always counts as present.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sam2kit.predict.frame_masks import FrameResult
from sam2kit.predict.session import ObjectTrack, VideoSession

UNTRACKED, PRESENT, DOUBTFUL, LOST = range(4)  # in the order in which the worse hides the better


class Reading(NamedTuple):
    """What is known of one object on one frame."""

    present: bool
    predicted_iou: float  # 0..1
    area: float  # share of the picture, 0..1
    prompted: bool


@dataclass(frozen=True)
class HealthLimits:
    """When a frame counts as doubtful.

    Args:
        min_iou: a lower predicted IoU is doubtful.
        max_change: an area that grows or shrinks by more than this factor from one frame to the next is doubtful.
        min_step: smaller changes of area are never sudden; share of the picture.
    """

    min_iou: float = 0.6
    max_change: float = 1.8
    min_step: float = 0.002


USUAL = HealthLimits()


def health(session: VideoSession, limits: HealthLimits = USUAL) -> dict[Hashable, np.ndarray]:
    """The state of every object on each frame.

    Args:
        session: tracked as far as it may be.
        limits: when a frame counts as doubtful.
    Returns:
        object id -> uint8 [T] of UNTRACKED, PRESENT, DOUBTFUL, LOST.
    """
    readings = Readings()
    return {object_id: classify(readings.of(object_id, session), limits) for object_id in session.object_ids}


def classify(readings: Sequence[Reading | None], limits: HealthLimits = USUAL) -> np.ndarray:
    """The state of each frame.

    Args:
        readings: one per frame; None where the object has no answer yet.
    Returns:
        uint8 [T] of UNTRACKED, PRESENT, DOUBTFUL, LOST.
    """
    states = np.zeros(len(readings), np.uint8)
    for i, now in enumerate(readings):
        if now is None:
            continue
        before = readings[i - 1] if i else None
        if now.prompted:
            states[i] = PRESENT  # a person looked at it
        elif not now.present:
            states[i] = LOST
        elif now.predicted_iou < limits.min_iou or now.area == 0 or _is_sudden(before, now, limits):
            states[i] = DOUBTFUL
        else:
            states[i] = PRESENT
    return states


def _is_sudden(before: Reading | None, now: Reading, limits: HealthLimits) -> bool:
    if before is None or not before.present:
        return False
    small, large = sorted((before.area, now.area))
    return large - small > limits.min_step and large > limits.max_change * small


def next_trouble(states: Sequence[np.ndarray], frame: int) -> int | None:
    """Where the next doubtful or lost stretch begins after a frame, going round at the end; None if there is none."""
    if not states:
        return None
    bad = np.max(states, axis=0) >= DOUBTFUL
    begins = np.flatnonzero(bad & ~np.concatenate([[False], bad[:-1]]))
    if not len(begins):
        return None
    later = begins[begins > frame]
    return int(later[0] if len(later) else begins[0])


class Readings:
    """Readings of a session's objects; areas are worked out once per answer."""

    def __init__(self) -> None:
        self._areas: dict[tuple[Hashable, int], tuple[FrameResult, float]] = {}

    def of(self, object_id: Hashable, session: VideoSession) -> list[Reading | None]:
        """One reading per frame; None where the object has no answer."""
        track = session.tracks.get(object_id) or ObjectTrack()
        return [self._read(object_id, track, frame) for frame in range(len(session))]

    def _read(self, object_id: Hashable, track: ObjectTrack, frame: int) -> Reading | None:
        result = track.result(frame)
        if result is None:
            return None
        known = self._areas.get((object_id, frame))
        if known is None or known[0] is not result:
            known = (result, float((result.low_res() > 0).float().mean()))
            self._areas[object_id, frame] = known
        return Reading(result.present or result.prompted, result.predicted_iou, known[1], frame in track.prompts)
