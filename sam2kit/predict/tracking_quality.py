"""How a tracking went: on which frames each object is present, uncertain or lost, so that a person sees where to look.

    tracking_quality(session)["cup"]      uint8 [T]: UNTRACKED, PRESENT, UNCERTAIN or LOST on each frame

Uncertain is a low predicted IoU, an empty mask, or an area that suddenly grows or shrinks; a frame that a person
prompted always counts as present.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sam2kit.predict.frame_masks import FrameResult
from sam2kit.predict.objects import TrackedObject
from sam2kit.predict.session import Session

UNTRACKED, PRESENT, UNCERTAIN, LOST = range(4)  # in the order in which the worse hides the better


class Reading(NamedTuple):
    """What is known of one object on one frame."""

    present: bool
    predicted_iou: float  # 0..1
    area: float  # share of the picture, 0..1
    prompted: bool


@dataclass(frozen=True)
class QualityLimits:
    """When a frame counts as uncertain."""

    min_iou: float = 0.6  # a lower predicted IoU is uncertain
    max_change: float = 1.8  # and an area that grows or shrinks by more than this factor from one frame to the next
    min_step: float = 0.002  # smaller changes of area are never sudden; share of the picture


USUAL = QualityLimits()


def tracking_quality(session: Session, limits: QualityLimits = USUAL) -> dict[Hashable, np.ndarray]:
    """The state of every object on each frame: object id -> uint8 [T] of UNTRACKED, PRESENT, UNCERTAIN, LOST."""
    readings = Readings()
    return {object_id: classify(readings.of(object_id, session), limits) for object_id in session.object_ids}


def classify(readings: Sequence[Reading | None], limits: QualityLimits = USUAL) -> np.ndarray:
    """uint8 [T] states of an object's frames; a reading is None where it has no answer yet."""
    pairs = zip([None, *readings], readings, strict=False)
    return np.array([_state(before, now, limits) for before, now in pairs], np.uint8)


def _state(before: Reading | None, now: Reading | None, limits: QualityLimits) -> int:
    if now is None:
        return UNTRACKED
    if now.prompted:  # a person looked at it
        return PRESENT
    if not now.present:
        return LOST
    uncertain = now.predicted_iou < limits.min_iou or now.area == 0 or _is_sudden(before, now, limits)
    return UNCERTAIN if uncertain else PRESENT


def _is_sudden(before: Reading | None, now: Reading, limits: QualityLimits) -> bool:
    if before is None or not before.present:
        return False
    small, large = sorted((before.area, now.area))
    return large - small > limits.min_step and large > limits.max_change * small


def next_trouble(states: Sequence[np.ndarray], frame: int) -> int | None:
    """Where the next uncertain or lost stretch begins after a frame, going round at the end; None if there is none."""
    if not states:
        return None
    bad = np.max(states, axis=0) >= UNCERTAIN
    begins = np.flatnonzero(bad & ~np.concatenate([[False], bad[:-1]]))
    if not len(begins):
        return None
    later = begins[begins > frame]
    return int(later[0] if len(later) else begins[0])


class Readings:
    """Readings of a session's objects; areas are worked out once per answer."""

    def __init__(self) -> None:
        self._areas: dict[tuple[Hashable, int], tuple[FrameResult, float]] = {}

    def of(self, object_id: Hashable, session: Session) -> list[Reading | None]:
        """One reading per frame that is worked on; None where the object has no answer."""
        item = session.object(object_id)
        return [self._read(object_id, item, frame) for frame in session.frames]

    def _read(self, object_id: Hashable, item: TrackedObject, frame: int) -> Reading | None:
        result = item.result(frame)
        if result is None:
            return None
        known = self._areas.get((object_id, frame))
        if known is None or known[0] is not result:
            known = (result, float((result.low_res() > 0).float().mean()))
            self._areas[object_id, frame] = known
        return Reading(result.present or result.prompted, result.predicted_iou, known[1], frame in item.prompts)
