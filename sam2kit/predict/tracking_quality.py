"""How a tracking went: on which frames each object is present, uncertain or lost, so that a person sees where to look.

    tracking_quality(session)["cup"]      uint8 [T]: UNTRACKED, PRESENT, UNCERTAIN or LOST on each frame

Uncertain is a low predicted IoU, an empty mask, or an area that suddenly grows or shrinks; a frame that a person
prompted always counts as present.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from sam2kit.predict.frame_masks import FrameResult
from sam2kit.predict.objects import TrackedObject
from sam2kit.predict.session import Session

AnyId = TypeVar("AnyId", bound=Hashable)
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
_LEAST_GAIN, _LEAST_SHARE = 2, 0.01  # frames, and share of the clip, below which a correction would hardly pay


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


def where_to_help(
    states: Mapping[AnyId, np.ndarray],
    prompted: Mapping[AnyId, Collection[int]],
    corrected: Mapping[AnyId, Collection[int]] | None = None,
    *,
    most: int = 3,
) -> list[tuple[AnyId, int, int]]:
    """The frames on which a correction would help most, the best first; none where it would hardly pay.

    A correction carries on from its frame, so each stretch of uncertain and lost frames gets one, where it begins as
    tracking goes. Lost frames count half: an object may really be gone.

    Args:
        states: of each object, uint8 [T] as `classify` gives them.
        prompted: of each object, the places of its prompts.
        corrected: of these, the prompts that are newer than the tracking: their stretches wait for the next one.
        most: at most so many.
    Returns:
        object id, place of the frame among those that are worked on, and how many frames of the stretch may be mended.
    """
    found: list[tuple[float, AnyId, int, int]] = []
    for object_id, known in states.items():
        bad = np.concatenate([[False], (known == UNCERTAIN) | (known == LOST), [False]])
        edges = np.flatnonzero(bad[1:] != bad[:-1]).tolist()
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            if not {begin - 1, end}.isdisjoint((corrected or {}).get(object_id, ())):
                continue
            unsure = (begin + np.flatnonzero(known[begin:end] == UNCERTAIN)).tolist()
            forwards = any(place < begin for place in prompted.get(object_id, (-1,)))
            place = unsure[0 if forwards else -1] if unsure else (begin + end - 1) // 2
            gain = (len(unsure) + end - begin) / 2
            if gain >= max(_LEAST_GAIN, _LEAST_SHARE * len(known)):
                found.append((gain, object_id, place, end - begin))
    found.sort(key=lambda one: -one[0])
    return [(object_id, place, count) for _, object_id, place, count in found[:most]]


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
