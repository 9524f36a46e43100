"""Which tracked frames are worth recalling: reliable ones, and anchors, on which the object was told from another.

Plain numbers that tracking leaves with each answer; `memory_bank.choose_memories` does the rest. By default nothing of
this is used: the latest frames are recalled, whatever became of the object on them.

Source: reliable frames as in SAM2Long, arXiv:2410.16268; anchors as in DAM4SAM, arXiv:2411.17576, with memories as they
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

_ANCHOR_IOU = 0.8  # predicted, that an anchor needs more than
_ANCHOR_AREA = (0.8, 1.2)  # of the median of the latest areas
AREAS, _AREAS_WITHIN = 10, 300  # how many go into the median, and from how many frames
_ANCHOR_EVERY = 5  # frames that lie between two of them at least
_RIVAL_SHARE = 0.7  # box IoU, of the mask with and without what another candidate adds


class TrackedNumbers(NamedTuple):
    """What anchors are told by, of one tracked frame."""

    frame: int
    area: int  # positive low-res pixels
    anchor: bool


def becomes_anchor(
    now: int, area: int, predicted_iou: float, before: Sequence[TrackedNumbers], mask: np.ndarray, others: np.ndarray
) -> bool:
    """Whether the object was surely found on a frame, though something like it could have been taken.

    Args:
        now: number of the frame.
        area: positive pixels of the mask.
        predicted_iou: of the mask, 0..1.
        before: the other tracked frames of this propagation, nearest first; anchors only since the last prompt.
        mask: bool [h, w], low-res.
        others: bool [M, h, w], the candidates; the mask itself may be among them.
    """
    if not area or predicted_iou <= _ANCHOR_IOU or not before:
        return False
    recent = [known.area for known in before if known.area and abs(now - known.frame) < _AREAS_WITHIN]
    areas = [area, *recent][:AREAS]
    if not _ANCHOR_AREA[0] <= area / float(np.median(areas)) <= _ANCHOR_AREA[1]:
        return False
    last = next((known.frame for known in before if known.anchor), None)
    if last is not None and abs(now - last) <= _ANCHOR_EVERY:
        return False
    return rival_share(mask, others) <= _RIVAL_SHARE


def rival_share(mask: np.ndarray, others: np.ndarray) -> float:
    """How much larger the mask's box would be with what other candidates add to it: the smallest box IoU, 0..1.

    Args:
        mask: bool [h, w], not empty.
        others: bool [M, h, w]; of each, the largest part outside of the mask counts.
    """
    shares = [1.0]
    for other in others & ~mask:
        count, _, stats, _ = cv2.connectedComponentsWithStats(other.astype(np.uint8), connectivity=8)
        if count > 1:
            part = stats[1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())]
            x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
            x1 = max(x + width, part[cv2.CC_STAT_LEFT] + part[cv2.CC_STAT_WIDTH])
            y1 = max(y + height, part[cv2.CC_STAT_TOP] + part[cv2.CC_STAT_HEIGHT])
            both = (x1 - min(x, part[cv2.CC_STAT_LEFT])) * (y1 - min(y, part[cv2.CC_STAT_TOP]))
            shares.append(width * height / float(both))
    return min(shares)
